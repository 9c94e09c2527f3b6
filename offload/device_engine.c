/* offload/device_engine.c: whether a device computes, which one, and what lies on it. See device_engine.h. */
#include "offload/device_engine.h"
#include "core/os.h"
#include "offload/bundled.h"

#include <stdlib.h>
#include <string.h>

#define MIB           ((uint64_t)1 << 20)
#define LEFT_BYTES    (256 * MIB) /* of the free memory, for others and the driver, where nobody said how much is ours */
#define LEFT_SHARE    16          /* or this part of it, if that is more */
#define SHRINKS_MAX   12          /* to a fifth */
#define HEAD_DIM_STEP 16          /* what the device's attention takes */

/* ---- which ---- */

/* Whether a packed file is without zeros that its model has: kernels read bundles as they lie. */
static bool leaves_zeros_out(const sl_engine *e)
{
    for (uint32_t i = 0; e->packed != NULL && i < e->model->layers; i++) {
        const sl_packed_layer *l = sli_bundled_layer_at(e->packed, i);
        if (l != NULL && (l->stored < l->ff || sl_packed_bundle_bytes(l) < sl_packed_silent_bytes(l)))
            return true;
    }
    return false;
}

/* What is there to compare with, reads everything wherever it is computed, and gives the same sets on the processor; NULL: nothing of that was asked for. */
static const char *comparison(const sl_engine *e)
{
    bool all = e->options.sparsity == SL_SPARSITY_FINE && e->options.predictor != SL_PREDICTOR_STORED;
    return all ? "a predictor that needs all activations (--predictor oracle or gate)" : NULL;
}

/* What was asked for that no device does yet; NULL: nothing. */
static const char *undone(const sl_engine *e)
{
    bool sparse = e->options.sparsity != SL_SPARSITY_OFF;
    if (sparse && e->packed == NULL)
        return "sparse decoding (--sparsity) of a file that is not packed (`sluice pack` makes it one)";
    for (uint32_t layer = 0; sparse && layer < e->model->layers; layer++)
        if (sli_bundled_layer_at(e->packed, layer) == NULL)
            return "sparse decoding (--sparsity) of a file of which a layer is not packed";
    if (leaves_zeros_out(e))
        return "a packed file that leaves zeros out (pack --zeros store)";
    if (e->model->arch->layer_norms)
        return "a model with layer norms"; /* its learned positions and its relu come with them */
    return e->model->head_dim % HEAD_DIM_STEP != 0 ? "heads that are no multiple of 16 wide" : NULL;
}

static uint64_t choose_vram(const sl_device *device)
{
    uint64_t available = device->attrs.free_bytes, left = available / LEFT_SHARE > LEFT_BYTES ? available / LEFT_SHARE : LEFT_BYTES;
    return available > 2 * left ? available - left : available / 2;
}

static sl_status open_device(sl_engine *e, sl_device **out, sl_error *err)
{
    char why[256] = "", budget[24], available[24];
    sl_error reason = {0};
    sl_status opened = sl_device_open(e->options.device, out, why, sizeof why, &reason);
    if (opened == SL_UNSUPPORTED)
        return sl_fail(err, opened, "--device %s: %.400s; --device none computes on the processor", e->options.device, reason.message);
    if (opened != SL_OK && err != NULL)
        *err = reason;
    SL_TRY(opened);
    if (*out == NULL) {
        sli_note(e, "no GPU is used: %s", why);
        return SL_OK;
    }
    if ((*out)->attrs.timing_only && !e->options.timing_only) {
        sl_device_close(*out);
        *out = NULL;
        return sl_fail(err, SL_INVALID,
                       "--device %s: with timing_only a device computes nothing; it is for benchmarks of the order of work alone",
                       e->options.device);
    }
    sl_format_size((*out)->attrs.free_bytes, available);
    if (e->options.vram_budget_bytes == 0) {
        e->options.vram_budget_bytes = choose_vram(*out);
        sl_format_size(e->options.vram_budget_bytes, budget);
        sli_note(e, "VRAM budget %s: of %s that are free on %s (--vram-budget sets it)", budget, available, (*out)->attrs.name);
    }
    if (e->options.vram_budget_bytes <= (*out)->attrs.free_bytes)
        return SL_OK;
    sl_format_size(e->options.vram_budget_bytes, budget);
    sl_status status = sl_fail(err, SL_NO_BUDGET, "--vram-budget %s: %s has %s free; at most that can be used", budget, (*out)->attrs.name,
                               available);
    sl_device_close(*out);
    *out = NULL;
    return status;
}

sl_status sli_device_choose(sl_engine *e, sl_error *err)
{
    const char *wanted = e->options.device, *what = comparison(e), *is = "is there to compare with, and left to the processor";
    if (wanted == NULL || strcmp(wanted, "none") == 0) {
        const char *flag = e->options.vram_budget_bytes != 0       ? "--vram-budget"
                           : e->options.gpu_layers_given           ? "-ngl"
                           : e->options.cpu_share_given            ? "--cpu-share"
                           : e->options.kv_host != SL_KV_HOST_AUTO ? "--kv-host (-nkvo)"
                                                                   : NULL;
        return flag == NULL ? SL_OK : sl_fail(err, SL_INVALID, "%s has no meaning without a device; --device cuda or auto names one", flag);
    }
    if (e->options.cpu_share_given && !(e->options.cpu_share >= 0 && e->options.cpu_share <= 1))
        return sl_fail(err, SL_INVALID, "--cpu-share %g: it is the processor's part of what the device does not hold, 0 to 1",
                       e->options.cpu_share);
    if (e->options.kv_host == SL_KV_HOST_LAYERS && e->options.kv_host_layers > e->model->layers)
        return sl_fail(err, SL_INVALID, "--kv-host %u: the model has %u layers; auto, all, none or at most so many",
                       e->options.kv_host_layers, e->model->layers);
    if (what == NULL) {
        what = undone(e);
        is = "is not done on a device yet";
    }
    if (what != NULL && strcmp(wanted, "auto") != 0)
        return sl_fail(err, SL_INVALID, "--device %s: %s %s; --device none does it", wanted, what, is);
    if (what != NULL) {
        sli_note(e, "no GPU is used: %s %s", what, is);
        return SL_OK;
    }
    sl_device *device = NULL;
    SL_TRY(open_device(e, &device, err));
    if (device == NULL)
        return SL_OK;
    e->device = calloc(1, sizeof *e->device);
    if (e->device == NULL) {
        sl_device_close(device);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a device");
    }
    e->device->device = device;
    e->device->reads_host = sli_device_reads_host(device);
    bool wanted_in_host = e->options.kv_host == SL_KV_HOST_ALL ||
                          (e->options.kv_host == SL_KV_HOST_LAYERS && e->options.kv_host_layers > 0);
    if (!e->device->reads_host && e->options.kv_host == SL_KV_HOST_AUTO)
        sli_note(e, "%s does not read host memory in place: all keys and values lie in its own", device->attrs.name);
    if (wanted_in_host && !e->device->reads_host)
        return sl_fail(err, SL_UNSUPPORTED, "%s cannot read host memory in place, where --kv-host puts keys and values; --kv-host none",
                       device->attrs.name);
    return SL_OK;
}

/* ---- memory ---- */

sl_status sli_device_lock(sli_device *d, void *pages, size_t bytes, const char *what, const char *less, sl_error *err)
{
    char size[24];
    if (bytes == 0)
        return SL_OK;
    sl_error reason = {0};
    sl_status status = d->device->ops->host_register(d->device, pages, bytes, &reason);
    if (status != SL_OK) {
        sl_format_size(bytes, size);
        return sl_fail(err, status, "%s: cannot page-lock %s of host memory for %s (%s takes less): %.200s", d->device->attrs.name, size,
                       what, less, reason.message);
    }
    d->locked[d->locked_count++] = pages;
    return SL_OK;
}

void sli_device_unlock(sli_device *d, void *pages)
{
    for (uint32_t i = 0; i < d->locked_count; i++)
        if (d->locked[i] == pages) {
            d->device->ops->host_unregister(d->device, pages);
            d->locked[i] = d->locked[--d->locked_count];
        }
}

static sl_status lock_host(sl_engine *e, sl_error *err)
{
    static const char less[] = "a smaller --ram-budget";
    size_t bytes;
    void *pages = sl_pager_staging(e->pager, &bytes);
    SL_TRY(sli_device_lock(e->device, pages, bytes, "reads", less, err));
    pages = sl_pager_homes(e->pager, &bytes);
    SL_TRY(sli_device_lock(e->device, pages, bytes, "weights", less, err));
    return sli_device_lock(e->device, e->scratch.arena, sl_pages_round(e->scratch.arena_bytes), "activations", less, err);
}

sl_status sli_device_upload(sl_engine *e, sl_device_ptr to, const void *from, uint64_t bytes, sl_error *err)
{
    const sl_device_ops *ops = e->device->device->ops;
    for (uint64_t done = 0; done < bytes;) {
        size_t n = bytes - done < e->scratch.arena_bytes ? bytes - done : e->scratch.arena_bytes;
        memcpy(e->scratch.arena, (const uint8_t *)from + done, n);
        SL_TRY(ops->copy_in(e->device->device, SL_STREAM_COMPUTE, to + done, e->scratch.arena, n, err));
        SL_TRY(ops->synchronize(e->device->device, SL_STREAM_COMPUTE, err));
        done += n;
    }
    return SL_OK;
}

static sl_status create_tables(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    uint32_t count = e->units.count;
    d->place = calloc(count, sizeof *d->place);
    d->loaded = calloc(count, sizeof *d->loaded);
    d->order = calloc(count, sizeof *d->order);
    d->ticket_of = calloc(count, sizeof *d->ticket_of);
    d->entry_of = calloc(count, sizeof *d->entry_of);
    d->by_cpu = calloc(count, sizeof *d->by_cpu);
    d->rank = calloc(count, sizeof *d->rank);
    d->bundle_tickets = calloc(count, sizeof *d->bundle_tickets);
    d->bundle_units = calloc(count, sizeof *d->bundle_units);
    d->far = calloc(count, sizeof *d->far);
    d->followed = calloc(e->model->layers, sizeof *d->followed);
    d->marks = calloc(e->model->ff, 1);
    d->reachable = calloc(e->model->layers, sizeof *d->reachable);
    d->host_share = calloc(e->model->layers, sizeof *d->host_share);
    d->held_neurons = calloc(e->model->layers, sizeof *d->held_neurons);
    d->kv_at = calloc(e->model->layers, sizeof *d->kv_at);
    d->kv_in_host = calloc(e->model->layers, sizeof *d->kv_in_host);
    bool there = d->place != NULL && d->loaded != NULL && d->order != NULL && d->ticket_of != NULL && d->entry_of != NULL &&
                 d->by_cpu != NULL && d->rank != NULL && d->bundle_tickets != NULL && d->bundle_units != NULL && d->far != NULL &&
                 d->followed != NULL && d->marks != NULL && d->reachable != NULL && d->host_share != NULL && d->held_neurons != NULL &&
                 d->kv_at != NULL && d->kv_in_host != NULL;
    return there ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for a table of %u units", count);
}

static sl_status place_units(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    uint32_t entries = e->model->layers * e->units.layer_ops + e->units.head_ops;
    for (uint32_t entry = 0; entry < entries; entry++) {
        const sli_matrix *m = &e->units.matrices[entry];
        for (uint32_t i = 0; i < m->unit_count; i++)
            d->entry_of[m->first_unit + i] = entry;
        for (uint32_t i = 0; i < m->unit_count; i++)
            if (e->units.in_vram[m->first_unit + i])
                SL_TRY(sl_vram_place(d->vram, sli_device_unit_bytes(m, i), &d->place[m->first_unit + i], err));
    }
    return SL_OK;
}

/* ---- its memory ---- */

static void give_memory_back(sli_device *d)
{
    sl_vram_destroy(d->vram);
    d->device->ops->free(d->device, d->block);
    d->vram = NULL;
    d->block = 0;
}

static sl_status take_memory(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    sl_vram_config config = {e->price.vram.resident_bytes, e->price.vram.ring_bytes, e->price.vram.tickets};
    SL_TRY(d->device->ops->alloc(d->device, e->price.vram.block_bytes, &d->block, err));
    return sl_vram_create(d->device, &config, &d->vram, err);
}

/* What is free now, if that is less, and an eighth less than before in any case: memory in pieces is not to be had as one. */
static uint64_t shrink(const sl_device *device, uint64_t budget)
{
    uint64_t available = budget;
    sl_error ignored;
    if (device->ops->free_bytes((sl_device *)(uintptr_t)device, &available, &ignored) != SL_OK || available > budget)
        available = budget;
    return available - available / 8;
}

sl_status sli_device_reserve(sl_engine *e, sl_error *err)
{
    char before[24], now[24];
    if (e->device == NULL)
        return SL_OK;
    for (int tries = 0;; tries++) {
        sl_error reason = {0};
        sl_status status = take_memory(e, &reason);
        if (status == SL_NO_DEVICE_MEMORY && tries < SHRINKS_MAX) {
            give_memory_back(e->device);
            sl_format_size(e->options.vram_budget_bytes, before);
            e->options.vram_budget_bytes = shrink(e->device->device, e->options.vram_budget_bytes);
            sl_format_size(e->options.vram_budget_bytes, now);
            sli_note(e, "%s does not have the %s of the VRAM budget any more: going on with %s", e->device->device->attrs.name, before,
                     now);
            SL_TRY(sli_engine_price_again(e, err));
            continue;
        }
        if (status != SL_OK && err != NULL)
            *err = reason;
        return status;
    }
}

sl_status sli_device_create(sl_engine *e, uint64_t vector_bytes, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_ops *ops = d->device->ops;
    uint32_t logits_rows = e->options.all_logits ? e->price.batch : 1 + e->price.draft_max;
    sli_device_wishes wishes = sli_device_wishes_of(e);
    sli_device_shape shape = {
        &wishes, &e->price.kv, e->price.batch, logits_rows, sli_device_largest_unit(e->model, &e->units), e->price.vram.kv_host_layers};
    SL_TRY(create_tables(e, err));
    SL_TRY(lock_host(e, err));
    sli_device_lay(e->model, &shape, d->block, &d->memory);
    SL_TRY(ops->event_create(d->device, &d->inputs, err));
    SL_TRY(ops->event_create(d->device, &d->source, err));
    SL_TRY(ops->event_create(d->device, &d->gathered, err));
    SL_TRY(ops->event_create(d->device, &d->settled, err));
    SL_TRY(sli_beside_plan(e, err));
    SL_TRY(place_units(e, err));
    SL_TRY(sli_device_kv_open(e, err));
    SL_TRY(sli_device_sparq_open(e, err));
    SL_TRY(sli_device_late_open(e, err));
    SL_TRY(sli_device_upload(e, d->memory.vectors, e->vectors, vector_bytes, err));
    if (e->early != NULL)
        SL_TRY(sli_device_exit_open(e, err));
    return e->packed != NULL ? sli_device_ffn_open(e, err) : SL_OK;
}

void sli_device_close(sl_engine *e)
{
    sli_device *d = e->device;
    if (d == NULL)
        return;
    const sl_device_ops *ops = d->device->ops;
    sl_vram_destroy(d->vram); /* waits for the streams: nothing reads host memory any more */
    for (; d->held_count > 0; d->held_count--, d->first_held++)
        sl_pager_release(e->pager, d->held[d->first_held % SLI_DEVICE_HELD].unit);
    for (uint32_t i = 0; i < d->locked_count; i++)
        ops->host_unregister(d->device, d->locked[i]);
    sli_device_kv_close(e);
    for (size_t i = 0; i < sizeof d->graphs / sizeof *d->graphs; i++)
        ops->graph_destroy(d->device, d->graphs[i].is);
    ops->event_destroy(d->device, d->inputs);
    ops->event_destroy(d->device, d->source);
    ops->event_destroy(d->device, d->gathered);
    ops->event_destroy(d->device, d->settled);
    ops->event_destroy(d->device, d->look_begins);
    ops->event_destroy(d->device, d->look_ends);
    ops->free(d->device, d->block);
    sl_device_close(d->device);
    free(d->place);
    free(d->loaded);
    free(d->order);
    free(d->ticket_of);
    free(d->entry_of);
    free(d->by_cpu);
    free(d->rank);
    free(d->bundle_tickets);
    free(d->bundle_units);
    free(d->far);
    free(d->followed);
    free(d->marks);
    free(d->reachable);
    free(d->host_share);
    free(d->held_neurons);
    free(d->kv_at);
    free(d->kv_in_host);
    free(d);
    e->device = NULL;
}

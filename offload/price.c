/* offload/price.c: what a model costs under a budget, decided before anything is opened or allocated.
 *
 * What cannot be avoided comes first: the process, the KV cache, one batch's activations, the staging ring, tables. What is left of the budget is
 * for weights that stay. Ring, units and batch shrink with the budget, because each byte of them is a byte that must be streamed for
 * every token; when all weights fit, they take their comfortable sizes. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/kv_spill.h"
#include "offload/matmul.h"
#include "pager/policy.h"

#include <stdlib.h>

#define MIB ((uint64_t)1 << 20)

/* Sizes at which the disk gives what it can; see bench/SPEED.md. */
#define UNIT_BYTES_MAX    (1u << 20)
#define UNIT_BYTES_MIN    (128u << 10)
#define STAGING_BYTES_MAX (32 * MIB)
#define BATCH_MAX         512u
#define BATCH_MIN         8u

/* Shares of a tight budget: more would cost more streamed weights than it saves waiting. */
#define SCRATCH_SHARE     48 /* one part in 48 */
#define STAGING_SHARE     64
#define VRAM_SHARE        16        /* of the device's memory, for rows of a batch beyond the least */
#define PAGES_SLACK_BYTES (2 * MIB) /* by which memory of whole pages is rounded up, at most */
#define TABLES_SHARE      512       /* the kernel's page tables: 8 bytes for each 4 KiB, charged to the cgroup */

typedef struct chooser {
    const sl_model *model;
    const sli_wishes *wishes;
    sli_kv_shape kv;                /* but for pass_rows and, with a device, for what lies in host memory */
    uint64_t kv_memory_bytes;       /* that what may spill of it takes there at most; 0: the least */
    sl_bundle_layer *bundle_layers; /* [layer] room for a configuration */
    uint32_t draft_max;             /* of the plan in hand */
    uint64_t neurons_short_bytes;   /* of host memory, for sparse rows on a device; else 0 */
    uint64_t vram_short_bytes;      /* what the last plan would take of the device's memory, where it does not fit; else 0 */
    uint64_t vram_short_kv_bytes;   /* of those, keys and values */
    uint64_t kv_short_bytes;        /* what a cache that spills takes in host memory at least, where that is more than was said; else 0 */
    uint64_t least_kv_host_bytes;   /* of the least RAM budget, keys and values of so many layers on a device */
    uint32_t least_kv_host_layers;
    bool caches_stay;    /* of the plan in hand: on the device, unless somebody said otherwise */
    sl_policy_run *runs; /* [layer] */
} chooser;

static uint64_t scratch_of(const chooser *c, const sli_units *units, uint32_t batch)
{
    sli_scratch_shape shape = {batch,
                               c->wishes->all_logits ? batch : 1 + c->draft_max,
                               c->wishes->threads,
                               units->largest_panel_bytes,
                               sli_bundled_price(c->model, c->wishes->packed) > 0,
                               c->wishes->attend_bytes,
                               c->wishes->device != NULL,
                               sli_bundled_plain_bytes(c->model, c->wishes->packed),
                               c->wishes->sparsity};
    return sli_scratch_price(c->model, &shape);
}

static uint64_t sparsity_of(const chooser *c, uint32_t batch)
{
    sli_sparsity_shape shape = {
        .mode = c->wishes->sparsity, .predictor = c->wishes->predictor, .batch = batch, .threads = c->wishes->threads};
    return sli_sparsity_price(c->model, &shape);
}

/* A cache of bundles with `share` of the neurons of each layer; 0 when sparse rows fetch none. */
static uint64_t cache_of(const chooser *c, uint32_t share)
{
    const sli_wishes *w = c->wishes;
    if (w->keep == NULL)
        return 0;
    sl_bundles_config config = sli_bundled_cache(c->model, w->packed, w->keep, share, w->bundle_alignment, w->cache_policy,
                                                 c->bundle_layers);
    sl_bundles_cost cost = sl_bundles_price(&config);
    return cost.slots_bytes + cost.staging_bytes + cost.tables_bytes;
}

static sl_pager_config pager_config(const sli_units *units, uint64_t staging)
{
    return (sl_pager_config){
        .units = units->units, .unit_count = units->count, .staging_bytes = staging, .plan_max = 2 * units->count + 16};
}

/* The cache for passes of so many rows: how much layers with a window keep depends on them. */
static sli_kv_shape cache_for(const chooser *c, uint32_t batch)
{
    sli_kv_shape kv = c->kv;
    kv.pass_rows = c->wishes->device != NULL ? 0 : batch;
    return kv;
}

/* What a device leaves to host memory. Where it may spill and does not fit in what was said, it is the least that there is. */
static uint64_t price_host_cache(const chooser *c, sli_price *p)
{
    p->kv.host_layers = p->vram.kv_host_layers;
    if (p->kv.alignment == 0 || p->kv.host_layers == 0)
        return p->vram.kv_host_bytes;
    (void)sli_kv_fit(c->model, &p->kv, c->kv_memory_bytes);
    return p->kv.spill ? sli_kv_price(c->model, &p->kv) : p->vram.kv_host_bytes;
}

static bool host_cache_fits(const chooser *c, const sli_price *p)
{
    return !p->kv.spill || c->wishes->device == NULL || c->kv_memory_bytes == 0 || p->kv_bytes <= c->kv_memory_bytes;
}

/* Everything but homes, for the given sizes. */
static void price_fixed(const chooser *c, const sli_units *units, uint32_t batch, uint64_t staging, sli_price *p)
{
    sl_pager_config config = pager_config(units, staging);
    sl_pager_cost cost = sl_pager_price(&config, c->wishes->io_alignment);
    p->batch = batch;
    p->draft_max = c->draft_max;
    p->process_bytes = c->wishes->process_bytes;
    p->kv = cache_for(c, batch);
    p->kv_bytes = c->wishes->device != NULL ? price_host_cache(c, p) : sli_kv_price(c->model, &p->kv);
    p->scratch_bytes = scratch_of(c, units, batch);
    p->sparsity_bytes = sparsity_of(c, batch);
    p->predictor_bytes = c->wishes->predictor_bytes;
    p->bundled_bytes = sli_bundled_price(c->model, c->wishes->packed);
    p->cache_bytes = cache_of(c, p->cache_share);
    p->staging_bytes = cost.staging_bytes;
    p->page_table_bytes = c->wishes->budget_bytes / TABLES_SHARE;
    p->table_bytes = cost.tables_bytes + units->count * (sizeof(sl_unit) + sizeof(sl_unit_id)) + p->page_table_bytes;
    p->table_bytes += c->wishes->device != NULL ? (uint64_t)units->count * SLI_DEVICE_UNIT_BYTES : 0;
    p->resident_bytes = cost.homes_bytes;
    p->total_bytes = p->process_bytes + p->kv_bytes + p->scratch_bytes + p->sparsity_bytes + p->predictor_bytes + p->bundled_bytes +
                     p->cache_bytes + p->staging_bytes + p->table_bytes + p->resident_bytes;
}

/* The least batch that is chosen: a check is one pass. */
static uint32_t least_batch(const chooser *c)
{
    return c->draft_max + 1 > BATCH_MIN ? c->draft_max + 1 : BATCH_MIN;
}

/* Whether activations of so many rows would take too much of the device's memory from weights. */
static bool crowds_device(const chooser *c, const sli_units *units, uint32_t batch)
{
    const sli_device_wishes *w = c->wishes->device;
    sli_device_memory unused;
    if (w == NULL)
        return false;
    sli_device_shape shape = {w, &c->kv, batch, 1 + c->draft_max, sli_device_largest_unit(c->model, units), 0};
    uint64_t bytes = sli_device_lay(c->model, &shape, 0, &unused);
    shape.batch = BATCH_MIN;
    return bytes - sli_device_lay(c->model, &shape, 0, &unused) > w->budget_bytes / VRAM_SHARE;
}

/* Largest batch of 512, 256, ... whose activations stay within `limit`; the minimum when none does. */
static uint32_t choose_batch(const chooser *c, const sli_units *units, uint64_t limit)
{
    if (c->wishes->batch != 0)
        return c->wishes->batch;
    uint32_t batch = BATCH_MAX;
    while (batch > BATCH_MIN && (batch / 2 >= c->wishes->kv.context || scratch_of(c, units, batch) > limit ||
                                 (limit != UINT64_MAX && crowds_device(c, units, batch))))
        batch /= 2;
    return batch > least_batch(c) ? batch : least_batch(c);
}

/* The largest cache of bundles that what is left of the budget holds. */
static void widen_cache(const chooser *c, const sli_units *units, uint32_t batch, uint64_t staging, sli_price *p)
{
    uint32_t fits = 0, too_large = SLI_CACHE_WHOLE + 1;
    while (too_large - fits > 1) {
        p->cache_share = (fits + too_large) / 2;
        price_fixed(c, units, batch, staging, p);
        *(p->total_bytes <= c->wishes->budget_bytes ? &fits : &too_large) = p->cache_share;
    }
    p->cache_share = fits;
    price_fixed(c, units, batch, staging, p);
}

/* Units of a pass that a device does not hold. */
static uint32_t units_to_place(const chooser *c, const sli_units *units, bool bundles, sl_unit_id *order)
{
    uint32_t count = sli_units_of_pass(c->model, c->wishes->packed, units, bundles, true, order), wanting = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!units->in_vram[order[i]])
            order[wanting++] = order[i];
    return wanting;
}

/* Everything that is no bundle, then as much of each layer's first places as fits. How many neurons a draft has; 0 when the former, or any
 * of the latter, do not fit. */
static uint64_t place_for_drafts(const chooser *c, sli_units *units, sl_unit_id *order, uint64_t room)
{
    const sl_packed *packed = c->wishes->packed;
    uint32_t count = units_to_place(c, units, false, order), runs = 0;
    uint64_t given = sl_policy_spread(units->units, order, count, room), neurons = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!units->units[order[i]].home)
            return 0;
    for (uint32_t layer = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, packed, units, layer);
        if (m != NULL)
            c->runs[runs++] = (sl_policy_run){.first = m->first_unit, .count = m->unit_count};
        else
            neurons += c->model->ff;
    }
    sl_policy_prefixes(units->units, c->runs, runs, room - given);
    for (uint32_t layer = 0, run = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, packed, units, layer);
        if (m == NULL)
            continue;
        uint64_t places = (uint64_t)c->runs[run++].kept * m->rows_per_unit;
        neurons += places < m->rows ? places : m->rows;
    }
    return neurons;
}

/* Homes in order for what no device holds. */
static uint64_t place_in_order(sli_units *units, sl_unit_id first, sl_unit_id end, uint64_t room)
{
    uint64_t given = 0;
    for (sl_unit_id u = first, next; u < end; u = next) {
        for (next = u; next < end && !units->in_vram[next]; next++)
            ;
        given += sl_policy_in_order(units->units, u, next, room - given);
        next += next == u;
    }
    return given;
}

/* On a device what stays there drafts, which its placement saw to: how many neurons that is; 0 where it does not hold all the rest. */
static uint64_t drafting_there(const chooser *c, const sli_units *units, sl_unit_id *order)
{
    uint64_t neurons = 0;
    if (units_to_place(c, units, false, order) > 0)
        return 0;
    for (uint32_t layer = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, c->wishes->packed, units, layer);
        neurons += m == NULL ? c->model->ff : 0;
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++)
            neurons += units->in_vram[m->first_unit + i] ? sli_unit_rows(m, i) : 0;
    }
    return neurons;
}

/* The head, which every token wants, then layers from the first one on: what is read is what may be left out. */
static void place_for_exits(sli_units *units, uint64_t room)
{
    uint64_t given = place_in_order(units, units->body_count, units->count, room);
    place_in_order(units, 0, units->body_count, room - given);
}

/* Where neurons that are late may be left out: what every row needs comes first, then the first places of each layer that a device does not hold. */
static void place_without_late(const chooser *c, sli_units *units, sl_unit_id *order, uint64_t room, sli_price *p)
{
    uint32_t runs = 0;
    uint64_t given = sl_policy_spread(units->units, order, units_to_place(c, units, false, order), room);
    for (uint32_t layer = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, c->wishes->packed, units, layer);
        uint32_t held = 0; /* hot ones lie first, and that is what the device holds */
        while (m != NULL && held < m->unit_count && units->in_vram[m->first_unit + held])
            held++;
        if (m != NULL)
            c->runs[runs++] = (sl_policy_run){.first = m->first_unit + held, .count = m->unit_count - held};
    }
    sl_policy_prefixes(units->units, c->runs, runs, room - given);
    for (uint32_t layer = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, c->wishes->packed, units, layer);
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++) {
            sl_unit *unit = &units->units[m->first_unit + i];
            unit->home = unit->home && !units->in_vram[m->first_unit + i];
            p->late_neurons += unit->home || units->in_vram[m->first_unit + i] ? 0 : sli_unit_rows(m, i);
        }
    }
}

/* Sparse rows on a device reach single neurons there or in the host's memory, and nowhere else: those go first. Where there is room for everything, bundles that the
 * device holds have homes, too, so that coarse sets can be followed. Returns what they take; 0 where they do not fit, and c->neurons_short_bytes says by how much. */
static uint64_t give_neurons(chooser *c, sli_units *units, uint64_t room, sli_price *p)
{
    uint64_t needed = 0, held = 0, outside = 0;
    for (uint32_t u = 0; u < units->count; u++)
        outside += units->in_vram[u] ? 0 : (units->units[u].bytes + 63) & ~(uint64_t)63;
    for (uint32_t layer = 0; layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, c->wishes->packed, units, layer);
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++)
            *(units->in_vram[m->first_unit + i] ? &held : &needed) += (units->units[m->first_unit + i].bytes + 63) & ~(uint64_t)63;
    }
    c->neurons_short_bytes = needed > room ? needed - room : 0;
    p->follows = c->wishes->sparsity == SL_SPARSITY_COARSE && held > 0 && needed > 0 && outside + held <= room;
    for (uint32_t layer = 0; c->neurons_short_bytes == 0 && layer < c->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(c->model, c->wishes->packed, units, layer);
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++)
            units->units[m->first_unit + i].home = p->follows || !units->in_vram[m->first_unit + i];
    }
    return c->neurons_short_bytes > 0 ? 0 : p->follows ? needed + held : needed;
}

static void give_homes(chooser *c, sli_units *units, sl_unit_id *order, uint64_t room, sli_price *p)
{
    for (uint32_t i = 0; i < units->count; i++)
        units->units[i].home = false;
    p->follows = false;
    p->late_neurons = 0;
    p->draft_neurons = !c->wishes->draft_resident  ? 0
                       : c->wishes->device != NULL ? drafting_there(c, units, order)
                                                   : place_for_drafts(c, units, order, room);
    if (p->draft_neurons > 0 && c->wishes->device == NULL)
        return;
    if (c->wishes->early_exit) {
        place_for_exits(units, room);
        return;
    }
    const sli_device_wishes *device = c->wishes->device;
    uint64_t neurons = device != NULL && c->wishes->sparsity != SL_SPARSITY_OFF ? give_neurons(c, units, room, p) : 0;
    if (device != NULL && device->late_drop && c->neurons_short_bytes > 0) {
        c->neurons_short_bytes = 0;
        place_without_late(c, units, order, room, p);
        return;
    }
    uint32_t count = units_to_place(c, units, c->wishes->keep == NULL, order), wanting = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!(neurons > 0 && units->units[order[i]].home))
            order[wanting++] = order[i];
    sl_policy_spread(units->units, order, wanting, room - neurons);
}

/* What of the device's memory the sizes take, and which units stay there. Caches move to host memory as far as they must or, of that much room in it, have to
 * so that least crosses. */
static sl_status price_device(chooser *c, sli_units *units, uint32_t batch, uint64_t host_room_bytes, sli_price *p, bool *fits,
                              sl_error *err)
{
    const sli_wishes *w = c->wishes;
    *fits = true;
    c->vram_short_bytes = 0;
    if (w->device == NULL)
        return SL_OK;
    sli_device_wishes device = *w->device;
    device.kv_host = c->caches_stay && device.kv_host == SL_KV_HOST_AUTO ? SL_KV_HOST_NONE : device.kv_host;
    device.kv_least_crossing = host_room_bytes > PAGES_SLACK_BYTES && c->kv.alignment == 0; /* what may spill moves only where it must */
    device.kv_host_room_bytes = device.kv_least_crossing ? host_room_bytes - PAGES_SLACK_BYTES : 0;
    if (c->kv_memory_bytes != 0 && c->kv_memory_bytes < device.kv_host_room_bytes)
        device.kv_host_room_bytes = c->kv_memory_bytes;
    SL_TRY(sli_device_price(c->model, &device, &c->kv, batch, w->all_logits ? batch : 1 + c->draft_max, units, &p->vram, fits, err));
    c->vram_short_bytes = *fits ? 0 : p->vram.total_bytes;
    c->vram_short_kv_bytes = p->vram.kv_bytes + p->vram.window_bytes;
    return SL_OK;
}

/* least_crossing: caches may move from the device to host memory that they need not. */
static sl_status settle_with(chooser *c, sli_units *units, uint32_t batch, uint64_t staging, bool least_crossing, sli_price *p, bool *fits,
                             sl_error *err)
{
    sl_unit_id *order = malloc(units->count * sizeof *order);
    *fits = false;
    if (order == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for an order of %u units", units->count);
    for (uint32_t i = 0; i < units->count; i++)
        units->units[i].home = false;
    c->neurons_short_bytes = 0;
    p->cache_share = 0;
    bool vram_fits = true;
    p->vram = (sli_vram_price){0};
    price_fixed(c, units, batch, staging, p); /* without caches, if they may lie on a device */
    bool host_fits = p->total_bytes <= c->wishes->budget_bytes;
    uint64_t host_room = least_crossing && host_fits ? c->wishes->budget_bytes - p->total_bytes : 0;
    sl_status priced = price_device(c, units, batch, host_room, p, &vram_fits, err);
    if (priced != SL_OK) {
        free(order);
        return priced;
    }
    price_fixed(c, units, batch, staging, p);
    *fits = p->total_bytes <= c->wishes->budget_bytes && vram_fits && host_cache_fits(c, p);
    c->kv_short_bytes = host_cache_fits(c, p) ? 0 : p->kv_bytes;
    uint64_t room = *fits ? c->wishes->budget_bytes - p->total_bytes : 0;
    while (*fits) {
        give_homes(c, units, order, room, p);
        price_fixed(c, units, batch, staging, p);
        if (p->total_bytes <= c->wishes->budget_bytes)
            break;
        /* The arena of the homes is rounded up to whole huge pages: give them a little less. */
        room = room > MIB ? room - MIB : 0;
    }
    *fits = *fits && c->neurons_short_bytes == 0;
    free(order);
    if (*fits && c->wishes->keep != NULL)
        widen_cache(c, units, batch, staging, p);
    return SL_OK;
}

/* Homes for as many units as fit, then, where sparse rows fetch bundles, a cache of those; *fits is false when even none do. The window by which a device reads
 * caches in host memory takes room from units, too: where those do not fit with it, no more of the caches moves than must. */
static sl_status settle(chooser *c, sli_units *units, uint32_t batch, uint64_t staging, sli_price *p, bool *fits, sl_error *err)
{
    SL_TRY(settle_with(c, units, batch, staging, true, p, fits, err));
    return *fits || c->wishes->device == NULL ? SL_OK : settle_with(c, units, batch, staging, false, p, fits, err);
}

static uint64_t clamp64(uint64_t x, uint64_t low, uint64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* The three plans, from comfortable to minimal. With a device the first one wants all weights there, and the caches. */
enum plan { PLAN_ALL_RESIDENT, PLAN_SHARED, PLAN_MINIMAL, PLAN_COUNT };

static sl_status try_plan(chooser *c, enum plan plan, sli_units *units, sli_price *p, bool *fits, sl_error *err)
{
    uint64_t budget = c->wishes->budget_bytes;
    uint64_t least = sl_pager_staging_min(units->units, units->count, c->wishes->io_alignment);
    uint32_t batch = c->wishes->batch != 0 ? c->wishes->batch : least_batch(c);
    uint64_t staging = least;
    c->caches_stay = plan == PLAN_ALL_RESIDENT;
    if (plan == PLAN_ALL_RESIDENT) {
        batch = choose_batch(c, units, UINT64_MAX);
        staging = clamp64(units->bytes, least, STAGING_BYTES_MAX);
    } else if (plan == PLAN_SHARED) {
        batch = choose_batch(c, units, budget / SCRATCH_SHARE);
        staging = clamp64(budget / STAGING_SHARE, least, STAGING_BYTES_MAX > least ? STAGING_BYTES_MAX : least);
    }
    SL_TRY(settle(c, units, batch, staging, p, fits, err));
    if (plan != PLAN_ALL_RESIDENT)
        return SL_OK;
    uint64_t streamed = 0;
    for (uint32_t i = 0; i < units->count; i++)
        streamed += units->in_vram[i] || (units->units[i].home && c->wishes->device == NULL) ? 0 : units->units[i].bytes;
    *fits = *fits && (c->wishes->keep == NULL ? streamed == 0 : p->cache_share == SLI_CACHE_WHOLE);
    return SL_OK;
}

static uint32_t unit_bytes_of(enum plan plan, uint64_t budget)
{
    if (plan == PLAN_MINIMAL)
        return UNIT_BYTES_MIN;
    if (plan == PLAN_ALL_RESIDENT)
        return UNIT_BYTES_MAX;
    uint32_t bytes = UNIT_BYTES_MAX;
    while (bytes > UNIT_BYTES_MIN && (uint64_t)bytes * 16 * STAGING_SHARE > budget)
        bytes /= 2;
    return bytes;
}

/* The budget that is named when one is refused: what the minimal plan needs, and room for the process to be larger in the next run than it is
 * in this one. The share for page tables follows from the budget itself. */
static sl_status price_minimum(chooser *c, uint64_t *min_bytes, sl_error *err)
{
    sli_wishes wishes = *c->wishes;
    chooser minimal = *c;
    sli_units units;
    sli_price p = {0};
    SL_TRY(sli_units_build(c->model, wishes.packed, UNIT_BYTES_MIN, &units, err));
    uint64_t staging = sl_pager_staging_min(units.units, units.count, wishes.io_alignment);
    minimal.wishes = &wishes;
    minimal.draft_max = 0;
    minimal.caches_stay = false;
    bool unused;
    sl_status status = price_device(&minimal, &units, wishes.batch != 0 ? wishes.batch : BATCH_MIN, 0, &p, &unused, err);
    wishes.budget_bytes = 0;
    price_fixed(&minimal, &units, wishes.batch != 0 ? wishes.batch : BATCH_MIN, staging, &p);
    c->least_kv_host_bytes = p.vram.kv_host_layers > 0 ? p.kv_bytes : 0;
    c->least_kv_host_layers = p.vram.kv_host_layers;
    uint64_t needed = p.total_bytes + SLI_PROCESS_DRIFT_BYTES;
    *min_bytes = (needed + needed / (TABLES_SHARE - 1) + MIB) / MIB * MIB;
    sli_units_free(&units);
    return status;
}

/* What a plan grants of the drafted rows that were wished for. */
static uint32_t drafts_of(enum plan plan, const sli_wishes *w)
{
    uint32_t most = w->draft_max < w->kv.context - 1 ? w->draft_max : w->kv.context - 1;
    if (plan == PLAN_MINIMAL || w->all_logits)
        return 0;
    return w->batch != 0 && w->batch - 1 < most ? w->batch - 1 : most;
}

static sl_status choose_plan(chooser *c, sli_price *price, sli_units *units, bool *fits, sl_error *err)
{
    const sli_wishes *wishes = c->wishes;
    for (enum plan plan = 0; plan < PLAN_COUNT; plan++) {
        c->draft_max = drafts_of(plan, wishes);
        uint32_t unit_bytes = unit_bytes_of(plan, wishes->budget_bytes);
        SL_TRY(sli_units_build(c->model, wishes->packed, unit_bytes, units, err));
        price->unit_bytes = unit_bytes;
        sl_status status = try_plan(c, plan, units, price, fits, err);
        if (status == SL_OK && *fits)
            return SL_OK;
        sli_units_free(units);
        SL_TRY(status);
    }
    return SL_OK;
}

static sl_status refuse_kv_memory(const chooser *c, uint64_t least_bytes, sl_error *err)
{
    char asked[24], needed[24];
    sl_format_size(c->kv_memory_bytes, asked);
    sl_format_size(least_bytes, needed);
    return sl_fail(err, SL_INVALID, "--kv-memory %s: keys and values of %u positions need at least %s in memory (-c takes less)", asked,
                   c->kv.context, needed);
}

static sl_status refuse(const chooser *c, const char *name, uint64_t min_bytes, sl_error *err)
{
    char asked[24], needed[24], kv[24];
    if (c->vram_short_bytes > 0) {
        uint64_t least = (c->vram_short_bytes + MIB - 1) / MIB * MIB;
        sl_format_size(c->wishes->device->budget_bytes, asked);
        sl_format_size(least, needed);
        sl_format_size(c->vram_short_kv_bytes, kv);
        sl_status status = sl_fail(
            err, SL_NO_BUDGET, "%s: a VRAM budget of %s is too small; %s works (%s of it is the KV cache of %u positions: -c takes less%s)",
            name, asked, needed, kv, c->wishes->kv.context,
            c->wishes->device->kv_host == SL_KV_HOST_AUTO ? "" : ", and so does --kv-host auto");
        if (err != NULL)
            err->vram_budget_min_bytes = least;
        return status;
    }
    if (c->kv_short_bytes > 0)
        return refuse_kv_memory(c, c->kv_short_bytes, err);
    sl_format_size(c->wishes->budget_bytes, asked);
    if (c->neurons_short_bytes > 0) {
        min_bytes = (c->wishes->budget_bytes + c->neurons_short_bytes + 4 * MIB) / MIB * MIB;
        min_bytes += min_bytes / TABLES_SHARE / MIB * MIB;
        sl_format_size(min_bytes, needed);
        sl_status status = sl_fail(
            err, SL_NO_BUDGET,
            "%s: a RAM budget of %s is too small for sparse decoding on a device, which finds every neuron there or in RAM; %s "
            "works, or a larger VRAM budget, or --late drop, which leaves out those that neither holds",
            name, asked, needed);
        if (err != NULL)
            err->ram_budget_min_bytes = min_bytes;
        return status;
    }
    sl_format_size(min_bytes, needed);
    if (c->least_kv_host_bytes > 0) {
        bool must = c->wishes->device->kv_host == SL_KV_HOST_AUTO;
        sl_format_size(c->least_kv_host_bytes, kv);
        sl_status status = sl_fail(
            err, SL_NO_BUDGET,
            "%s: a RAM budget of %s is too small; %s works (%s of it is the KV cache of %u layers%s: %s or -c takes less)", name, asked,
            needed, kv, c->least_kv_host_layers, must ? " that the VRAM budget does not hold" : "",
            must ? "a larger VRAM budget" : "--kv-host auto");
        if (err != NULL)
            err->ram_budget_min_bytes = min_bytes;
        return status;
    }
    sli_kv_shape least = cache_for(c, c->wishes->batch != 0 ? c->wishes->batch : BATCH_MIN);
    sl_format_size(sli_kv_price(c->model, &least), kv);
    sl_status status = c->wishes->device != NULL
                           ? sl_fail(err, SL_NO_BUDGET, "%s: a RAM budget of %s is too small; %s works", name, asked, needed)
                           : sl_fail(
                                 err, SL_NO_BUDGET,
                                 "%s: a RAM budget of %s is too small; %s works (%s of it is the KV cache of %u positions: -c takes less)",
                                 name, asked, needed, kv, c->wishes->kv.context);
    if (err != NULL)
        err->ram_budget_min_bytes = min_bytes;
    return status;
}

/* The cache as it was wished for; one that may spill within `memory_bytes`, 0: the least. With a device that waits for how many layers it leaves. */
static sl_status shape_cache(chooser *c, uint64_t memory_bytes, sl_error *err)
{
    c->kv = c->wishes->kv;
    c->kv = cache_for(c, c->wishes->batch != 0 ? c->wishes->batch : BATCH_MAX);
    c->kv_memory_bytes = memory_bytes;
    if (c->kv.alignment == 0 || c->wishes->device != NULL || sli_kv_fit(c->model, &c->kv, memory_bytes))
        return SL_OK;
    return refuse_kv_memory(c, sli_kv_price(c->model, &c->kv), err);
}

static bool reads_nothing(const sli_units *units)
{
    for (uint32_t i = 0; i < units->count; i++)
        if (!units->units[i].home && !units->in_vram[i])
            return false;
    return true;
}

/* What may spill leaves a device only where it must, since it might come from the disk for each token. Where host memory has room for all weights and for the caches
 * that would leave it if there were no file, there is no need of one, and what crosses is as little as without. */
static sl_status choose_plan_without_file(chooser *c, sli_price *price, sli_units *units, bool *fits, sl_error *err)
{
    uint32_t alignment = c->kv.alignment;
    if (c->wishes->device == NULL || alignment == 0)
        return SL_OK;
    c->kv.alignment = 0;
    sl_status status = choose_plan(c, price, units, fits, err);
    c->kv.alignment = alignment;
    if (status != SL_OK || !*fits)
        return status;
    *fits = reads_nothing(units) && (c->kv_memory_bytes == 0 || price->vram.kv_host_bytes <= c->kv_memory_bytes);
    if (!*fits)
        sli_units_free(units);
    return SL_OK;
}

/* Where all weights stay, and nobody said how much memory is for keys and values, those take what is left: weights are read in each pass, keys and
 * values only as far as the text has come. */
static sl_status widen_kv(chooser *c, sli_price *price, sli_units *units, bool *fits, sl_error *err)
{
    if (!price->kv.spill || c->wishes->kv_memory_bytes != 0 || c->wishes->keep != NULL || !reads_nothing(units))
        return SL_OK;
    SL_TRY(shape_cache(c, price->kv_bytes + (c->wishes->budget_bytes - price->total_bytes), err));
    sli_units_free(units);
    return choose_plan(c, price, units, fits, err);
}

sl_status sli_price_model(const sl_model *model, const char *name, const sli_wishes *wishes, sli_price *price, sli_units *units,
                          uint64_t *min_bytes, sl_error *err)
{
    chooser c = {.model = model, .wishes = wishes};
    *units = (sli_units){0};
    c.bundle_layers = malloc(model->layers * sizeof *c.bundle_layers);
    c.runs = malloc(model->layers * sizeof *c.runs);
    bool fits = false;
    sl_status status = SL_OK;
    if (c.bundle_layers == NULL || c.runs == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for a table of %u layers", model->layers);
    if (status == SL_OK)
        status = shape_cache(&c, wishes->kv_memory_bytes, err);
    if (status == SL_OK)
        status = price_minimum(&c, min_bytes, err);
    if (status == SL_OK)
        status = choose_plan_without_file(&c, price, units, &fits, err);
    if (status == SL_OK && !fits)
        status = choose_plan(&c, price, units, &fits, err);
    if (status == SL_OK && fits)
        status = widen_kv(&c, price, units, &fits, err);
    if (status == SL_OK && !fits)
        status = refuse(&c, name, *min_bytes, err);
    free(c.bundle_layers);
    free(c.runs);
    return status;
}

/* offload/engine.c: opens a model under its budget, and closes it.
 *
 * Order of opening: what the file says (GGUF, model, tokenizer) -> what the options come to (choices.h) -> the crew -> the price of everything ->
 * only then the memory (pager, scratch), the files for direct reading, and the few vectors that are always resident. */
#include "offload/engine.h"
#include "core/os.h"
#include "core/rope.h"
#include "offload/choices.h"
#include "offload/device_engine.h"
#include "offload/early_exit.h"
#include "offload/sirius.h"
#include "offload/sparq_attention.h"
#include "offload/sparq_pages.h"
#include "offload/tools/pack.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Small reads want many in flight (bench/SPEED.md, "Bundles"). */
#define BUNDLES_DEPTH 128

void sli_note(const sl_engine *engine, const char *format, ...)
{
    char line[512];
    va_list args;
    if (engine->options.note == NULL)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    engine->options.note(engine->options.note_ctx, line);
}

/* ---- what the file says ---- */

static sl_status read_file(sl_engine *e, sl_error *err)
{
    SL_TRY(sl_gguf_open(e->path, &e->file, err));
    e->gguf = e->file;
    if (sl_packed_is(e->file)) {
        SL_TRY(sl_packed_open(e->file, &e->packed, err));
        SL_TRY(sli_pack_check_columns(e->packed, err));
        e->gguf = sl_packed_original(e->packed);
    }
    if (!e->options.vocabulary_only)
        SL_TRY(sl_model_open(e->gguf, &e->model, err));
    SL_TRY(sl_tokenizer_open(e->gguf, &e->tokenizer, err));
    if (e->model != NULL && sl_tokenizer_size(e->tokenizer) > e->model->vocab)
        return sl_fail(err, SL_FORMAT, "%s: the vocabulary has %u tokens but the embedding only %u rows; it must have at least as many",
                       e->path, sl_tokenizer_size(e->tokenizer), e->model->vocab);
    return SL_OK;
}

/* ---- the price ---- */

static uint32_t entry_count(const sl_engine *e)
{
    return e->model->layers * e->units.layer_ops + e->units.head_ops;
}

static const sl_op *entry_op(const sl_engine *e, uint32_t entry, uint32_t *layer)
{
    uint32_t body = e->model->layers * e->units.layer_ops;
    *layer = entry < body ? entry / e->units.layer_ops : 0;
    return entry < body ? &e->model->arch->layer[entry % e->units.layer_ops] : &e->model->arch->head[entry - body];
}

/* Norm weights and biases, rotary factors: always resident. */
static uint64_t vector_bytes(const sl_gguf *gguf)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < sl_gguf_tensor_count(gguf); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(gguf, i);
        if (t->shape[1] == 1)
            bytes += (t->bytes + 63) & ~(uint64_t)63;
    }
    return bytes;
}

static uint64_t observing_bytes(const sl_engine *e)
{
    return (e->options.trace_bytes > 0 ? sl_trace_price(e->options.trace_bytes, sl_threads_count(e->threads)) : 0) +
           (e->options.record_bytes > 0 ? sl_record_price(e->options.record_bytes) : 0);
}

static sl_status open_observers(sl_engine *e, sl_error *err)
{
    if (e->options.trace_bytes > 0)
        SL_TRY(sl_trace_create(e->options.trace_bytes, sl_threads_count(e->threads), &e->trace, err));
    if (e->options.record_bytes > 0)
        SL_TRY(sl_record_create(e->options.record_bytes, &e->record, err));
    sl_threads_trace(e->threads, e->trace);
    return SL_OK;
}

static bool drafts_resident(const sl_engine *e)
{
    return e->options.draft_resident && sli_bundled_price(e->model, e->packed) > 0;
}

sli_device_wishes sli_device_wishes_of(const sl_engine *e)
{
    const struct sli_early_exit *early = e->early;
    return (sli_device_wishes){.device = e->device->device,
                               .budget_bytes = e->options.vram_budget_bytes,
                               .vector_bytes = vector_bytes(e->gguf),
                               .layers = e->options.gpu_layers_given ? e->options.gpu_layers : UINT32_MAX,
                               .packed = e->packed,
                               .sparsity = e->options.sparsity,
                               .density = e->options.density,
                               .predictor_bytes = sli_uses_stored(e) ? sli_predictor_price(e->file, e->model->layers) : 0,
                               .late_drop = e->options.late_drop,
                               .draft_resident = drafts_resident(e),
                               .kv_host = e->device->reads_host ? e->options.kv_host : SL_KV_HOST_NONE,
                               .kv_host_layers = e->options.kv_host_layers,
                               .cpu_share_given = e->options.cpu_share_given,
                               .cpu_share = e->options.cpu_share,
                               .sparq_k = e->options.sparq_k,
                               .sparq_r = e->options.sparq_r,
                               .exit_layers = early != NULL ? (uint32_t)early->exits.probes[0] + 1 : 0,
                               .exit_panels_bytes = early != NULL ? sli_device_exit_panels_bytes(e) : 0};
}

/* On a device late is what has no place, which is known beforehand. */
static void note_late(const sl_engine *e)
{
    double share = (double)e->price.late_neurons / ((double)e->model->layers * e->model->ff);
    if (e->price.late_neurons == 0)
        sli_note(e, "nothing can be late here: the device and RAM hold all neurons");
    else
        sli_note(e, "%.1f %% of the neurons are neither on the device nor in RAM, and left out%s (--late drop)", 100 * share,
                 e->options.draft_max > 0 ? " of drafts" : ": the text will depend on the budgets");
}

static sl_status price(sl_engine *e, sl_error *err)
{
    uint32_t vocab = e->model->vocab;
    if (e->process_bytes == 0)
        e->process_bytes = sl_rss_bytes() + SLI_PROCESS_MARGIN_BYTES;
    sli_wishes wishes = {.budget_bytes = sli_choose_budget(e),
                         .batch = e->options.batch,
                         .threads = sl_threads_count(e->threads),
                         .kv = sli_kv_shape_of(e),
                         .kv_memory_bytes = e->options.kv_memory_bytes,
                         .attend_bytes = sli_sparq_thread_bytes(e) + sli_pages_thread_bytes(e),
                         .io_alignment = SLI_IO_ALIGNMENT,
                         .all_logits = e->options.all_logits,
                         .draft_max = e->options.draft_max < e->context ? e->options.draft_max : e->context - 1,
                         .sparsity = e->options.sparsity,
                         .predictor = e->options.predictor,
                         .predictor_bytes = sli_uses_stored(e) ? sli_predictor_price(e->file, e->model->layers) : 0,
                         .packed = e->packed,
                         .draft_resident = drafts_resident(e),
                         .early_exit = e->early != NULL};
    sli_device_wishes device = {0};
    if (e->device != NULL) {
        device = sli_device_wishes_of(e);
        wishes.device = &device;
    }
    if (e->options.kv_spill != NULL)
        SL_TRY(sl_spill_alignment(e->options.kv_spill, e->options.buffered, &wishes.kv.alignment, err));
    if (e->options.late_drop && e->device == NULL)
        sli_note(e, !sli_fetches_sets(e)       ? "nothing can be late here: all neurons are read in any case"
                    : e->options.draft_max > 0 ? "late neurons are left out of drafts (--late drop)"
                                               : "late neurons are left out (--late drop): the text will depend on the disk's speed");
    if (sli_fetches_sets(e)) {
        wishes.keep = e->keep;
        wishes.cache_policy = SLI_CACHE_POLICY;
        SL_TRY(sl_files_alignment(e->path, e->options.buffered, &wishes.bundle_alignment, err));
        e->bundle_alignment = wishes.bundle_alignment;
    }
    wishes.process_bytes = e->process_bytes + e->options.reserve_bytes + vector_bytes(e->gguf) + sl_sampler_heap_bytes(vocab) +
                           e->context * (sizeof(sl_token) * 2 + e->options.reserve_position_bytes) + sizeof(sl_session) +
                           sli_sirius_bytes(wishes.draft_max) + observing_bytes(e) +
                           (e->options.session_file ? sli_session_file_price(e->model, &wishes.kv) : 0) + sli_early_exit_bytes(e);
    if (e->device != NULL && e->options.session_file)
        wishes.process_bytes += sli_device_pages_bytes(e->model, &wishes.kv);
    if (e->device != NULL && strcmp(e->device->device->attrs.backend, "emulated") == 0)
        wishes.process_bytes += e->options.vram_budget_bytes; /* its memory is ours */
    e->options.ram_budget_bytes = wishes.budget_bytes;
    SL_TRY(sli_price_model(e->model, e->path, &wishes, &e->price, &e->units, &e->price_min_bytes, err));
    if (e->options.late_drop && e->device != NULL)
        note_late(e);
    if (e->options.kv_spill != NULL && !e->price.kv.spill)
        sli_note(e, "--kv-spill is not used: the keys and values of %u positions stay in memory%s", e->context,
                 e->device != NULL && e->price.vram.kv_host_layers == 0 ? " of the device" : "");
    if (wishes.draft_resident && e->price.draft_neurons == 0)
        sli_note(e, "no drafts from what is in memory: %s does not hold attention and head beside everything else",
                 e->device != NULL ? "the VRAM budget (or -ngl)" : "the budget");
    if (e->options.batch == 0 && e->price.batch < 512 && e->price.batch < e->context)
        sli_note(e, "batch of %u rows: a larger one would take memory from resident weights (-b sets it)", e->price.batch);
    return SL_OK;
}

sl_status sli_engine_price_again(sl_engine *e, sl_error *err)
{
    sli_units_free(&e->units);
    e->price = (sli_price){0};
    return price(e, err);
}

sl_status sli_engine_reprice(sl_engine *e, uint64_t budget_bytes, double density, sl_error *err)
{
    e->options.note = NULL; /* what there is to say was said */
    e->options.ram_budget_bytes = budget_bytes;
    if (density > 0 && e->options.sparsity != SL_SPARSITY_OFF) {
        e->options.density = density;
        SL_TRY(sli_choose_sets(e, err));
    }
    return sli_engine_price_again(e, err);
}

/* A GPU that nobody named is done without where its memory is too small. */
static sl_status price_or_without(sl_engine *e, sl_error *err)
{
    sl_error reason = {0};
    sl_status status = price(e, &reason);
    if (status == SL_NO_BUDGET && e->device != NULL && strcmp(e->options.device, "auto") == 0) {
        sli_note(e, "no GPU is used: %s", reason.message);
        sli_device_close(e);
        return price(e, err);
    }
    if (status != SL_OK && err != NULL)
        *err = reason;
    return status;
}

/* ---- memory, files, vectors ---- */

static sl_status open_files(const sl_gguf *file, const sl_files_options *options, sl_tier **out, sl_error *err)
{
    uint32_t count = sl_gguf_part_count(file);
    const char **paths = malloc(count * sizeof *paths);
    if (paths == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the names of %u files", count);
    for (uint32_t i = 0; i < count; i++)
        paths[i] = sl_gguf_part_path(file, i);
    sl_status status = sl_tier_open_files(paths, count, options, out, err);
    free(paths);
    return status;
}

/* The file or files, as the flags say; reads go to `memory`. */
static sl_status open_tier(sl_engine *e, uint32_t depth, void *memory, size_t memory_bytes, sl_tier **out, sl_error *err)
{
    sl_files_options files = {.depth = e->options.io_depth != 0 ? e->options.io_depth : depth, .buffered = e->options.buffered};
    const char *engine = e->options.io_engine;
    if (engine != NULL && strcmp(engine, "auto") != 0) {
        files.engine = strcmp(engine, "uring") == 0 ? SL_IO_URING : SL_IO_PREAD;
        if (files.engine == SL_IO_PREAD && strcmp(engine, "pread") != 0)
            return sl_fail(err, SL_INVALID, "--io-engine %s: known are auto, uring and pread", engine);
    }
    files.register_memory = memory;
    files.register_bytes = memory_bytes;
    SL_TRY(open_files(e->file, &files, out, err));
    if (e->options.throttle_Bps != 0)
        SL_TRY(sl_tier_throttle(*out, (double)e->options.throttle_Bps, 0, out, err));
    sl_breakdown *b = e->options.breakdown;
    return b != NULL ? sl_tier_watch(*out, &b->read_ns, &b->request_bytes, out, err) : SL_OK;
}

static sl_status open_pager(sl_engine *e, sl_error *err)
{
    sl_pager_config config = {.units = e->units.units,
                              .unit_count = e->units.count,
                              .staging_bytes = e->price.staging_bytes,
                              .plan_max = 2 * e->units.count + 16};
    SL_TRY(sl_pager_create(&config, SLI_IO_ALIGNMENT, &e->pager, err));
    sl_pager_trace(e->pager, e->trace);
    if (e->record != NULL)
        sl_pager_record(e->pager, e->record);
    sl_tier *tier = NULL;
    size_t staging_bytes;
    void *staging = sl_pager_staging(e->pager, &staging_bytes);
    SL_TRY(open_tier(e, 0, staging, staging_bytes, &tier, err));
    SL_TRY(sl_pager_attach(e->pager, tier, err));
    if (tier->attrs.note[0] != '\0')
        sli_note(e, "%s", tier->attrs.note);
    e->pass_plan = malloc(e->units.count * sizeof *e->pass_plan);
    if (e->pass_plan == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a plan of %u units", e->units.count);
    return SL_OK;
}

/* Reads a range of any length in pieces that the pager's small reads take, several at once. */
static sl_status read_range(sl_engine *e, uint32_t file, uint64_t from, uint64_t bytes, uint8_t *to, sl_error *err)
{
    enum { PIECE = 64 << 10, AT_ONCE = 64 };
    uint64_t offsets[AT_ONCE], done = 0;
    while (bytes - done >= PIECE) {
        uint32_t count = 0;
        for (; count < AT_ONCE && bytes - done >= (count + 1) * (uint64_t)PIECE; count++)
            offsets[count] = from + done + count * (uint64_t)PIECE;
        SL_TRY(sl_pager_read_small(e->pager, file, offsets, count, PIECE, to + done, err));
        done += count * (uint64_t)PIECE;
    }
    offsets[0] = from + done;
    return done == bytes ? SL_OK : sl_pager_read_small(e->pager, file, offsets, 1, (uint32_t)(bytes - done), to + done, err);
}

static sl_status load_one(sl_engine *e, const sl_gguf_tensor *t, size_t *used, const float **at, sl_error *err)
{
    *at = NULL;
    if (t == NULL || t->shape[1] != 1)
        return SL_OK;
    uint8_t *to = (uint8_t *)e->vectors + *used;
    SL_TRY(read_range(e, t->file, sli_tensor_offset(e->packed, t), t->bytes, to, err));
    *at = (const float *)(const void *)to;
    *used += (t->bytes + 63) & ~(size_t)63;
    return SL_OK;
}

static sl_status load_rope(sl_engine *e, const float *factors, sl_error *err)
{
    const sl_model *m = e->model;
    uint32_t half = m->rope_dim / 2;
    if (half == 0)
        return SL_OK;
    e->rope_step = malloc((size_t)sl_model_rope_tables(m) * half * sizeof *e->rope_step);
    if (e->rope_step == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the rotary table");
    return sl_rope_steps(m, factors, e->path, e->rope_step, err);
}

static sl_status load_vectors(sl_engine *e, sl_error *err)
{
    uint32_t entries = entry_count(e);
    size_t used = 0;
    e->vector_at = calloc((size_t)entries * 2, sizeof *e->vector_at);
    e->vectors = aligned_alloc(64, vector_bytes(e->gguf) + 64);
    if (e->vector_at == NULL || e->vectors == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for norm weights");
    for (uint32_t entry = 0; entry < entries; entry++) {
        uint32_t layer;
        const sl_op *op = entry_op(e, entry, &layer);
        SL_TRY(load_one(e, sl_model_tensor(e->model, op->weight, layer), &used, &e->vector_at[entry * 2], err));
        SL_TRY(load_one(e, sl_model_tensor(e->model, op->bias, layer), &used, &e->vector_at[entry * 2 + 1], err));
    }
    const float *factors;
    const sl_gguf_tensor *rope = sl_rope_factors(e->model, e->context);
    if (rope != NULL && rope == sl_model_tensor(e->model, SL_ROLE_ROPE_LONG, 0))
        sli_note(e,
                 "a context of more than %u positions: the model turns with its factors for long texts, in short ones too (-c %u: those "
                 "for short texts)",
                 e->model->rope_original_context, e->model->rope_original_context);
    SL_TRY(load_one(e, rope, &used, &factors, err));
    return load_rope(e, factors, err);
}

/* A section of a packed file, checked as it comes. */
static sl_status read_tensor(void *ctx, const sl_gguf_tensor *tensor, void *to, sl_error *err)
{
    sl_engine *e = ctx;
    SL_TRY(read_range(e, tensor->file, tensor->offset, tensor->bytes, to, err));
    return sl_packed_check_tensor(e->packed, tensor, to, err);
}

static const sl_gguf_tensor *section_of(const sl_engine *e, uint32_t layer, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%u.ffn.%s", layer, what);
    return sl_gguf_find_tensor(e->file, name);
}

/* Neurons that are not stored must be such as give nothing. */
static sl_status check_silent(sl_engine *e, const sl_packed_layer *l, uint32_t layer, sl_error *err)
{
    uint8_t *plain = malloc(sl_packed_silent_bytes(l));
    float *row = malloc(l->d * sizeof *row);
    sl_status status = SL_OK;
    if (plain == NULL || row == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for a neuron of layer %u", layer);
    if (status == SL_OK)
        status = read_tensor(e, section_of(e, layer, "silent"), plain, err);
    if (status == SL_OK && !sli_bundle_is_silent(l, e->kernels, plain, row))
        status = sl_fail(err, SL_FORMAT, "%s: layer %u leaves neurons out that are not zero", e->path, layer);
    free(row);
    free(plain);
    return status;
}

/* What the down matrices' blocks share, checked as it comes. */
static sl_status load_meta(sl_engine *e, sl_error *err)
{
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        const sli_bundled_layer *b = sli_bundled_of(&e->bundled, layer);
        if (b != NULL && b->packed->meta_bytes > 0)
            SL_TRY(read_tensor(e, section_of(e, layer, "meta"), b->meta, err));
        if (b != NULL && b->packed->stored < b->packed->ff)
            SL_TRY(check_silent(e, b->packed, layer, err));
    }
    return SL_OK;
}

static sl_status load_predictor(sl_engine *e, sl_error *err)
{
    sli_predictor_shape shape = {.layers = e->model->layers, .d = e->model->d, .ff = e->model->ff};
    shape.act = e->model->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH;
    sli_predictor_reader reader = {read_tensor, e};
    SL_TRY(sli_predictor_open(e->file, &shape, &reader, e->kernels, &e->predictor, err));
    e->sparsity.stored = e->predictor;
    return SL_OK;
}

static sl_status open_bundles(sl_engine *e, sl_error *err)
{
    sl_bundle_layer *layers = malloc(e->model->layers * sizeof *layers);
    if (layers == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a table of %u layers", e->model->layers);
    sl_bundles_config config = sli_bundled_cache(e->model, e->packed, e->keep, e->price.cache_share, e->bundle_alignment, SLI_CACHE_POLICY,
                                                 layers);
    sl_status status = sl_bundles_create(&config, &e->bundles, err);
    free(layers);
    SL_TRY(status);
    sl_bundles_trace(e->bundles, e->trace);
    if (e->record != NULL)
        sl_bundles_record(e->bundles, e->record);
    sl_tier *tier = NULL;
    size_t staging_bytes;
    void *staging = sl_bundles_staging(e->bundles, &staging_bytes);
    SL_TRY(open_tier(e, BUNDLES_DEPTH, staging, staging_bytes, &tier, err));
    SL_TRY(sl_bundles_attach(e->bundles, tier, err));
    const char *said = sl_pager_tier(e->pager)->note, *more = sl_bundles_tier(e->bundles)->note;
    if (more[0] != '\0' && strcmp(said, more) != 0)
        sli_note(e, "reads of single neurons: %s", more);
    return SL_OK;
}

static sl_status open_weights(sl_engine *e, sl_error *err)
{
    SL_TRY(sli_choose_options(e, err));
    SL_TRY(sli_early_exit_choose(e, err));
    SL_TRY(sl_threads_create(e->options.threads, &e->threads, err));
    SL_TRY(sli_device_choose(e, err));
    SL_TRY(price_or_without(e, err));
    if (e->options.plan_only)
        return SL_OK;
    SL_TRY(sli_device_reserve(e, err));
    SL_TRY(open_observers(e, err));
    SL_TRY(open_pager(e, err));
    sli_scratch_shape shape = {e->price.batch,
                               e->options.all_logits ? e->price.batch : 1 + e->price.draft_max,
                               sl_threads_count(e->threads),
                               e->units.largest_panel_bytes,
                               e->price.bundled_bytes > 0,
                               sli_sparq_thread_bytes(e) + sli_pages_thread_bytes(e),
                               e->device != NULL,
                               sli_bundled_plain_bytes(e->model, e->packed),
                               e->options.sparsity};
    SL_TRY(sli_scratch_create(e->model, &shape, &e->scratch, err));
    sli_sparsity_shape sets = {e->options.sparsity, e->options.predictor, shape.batch, shape.threads};
    SL_TRY(sli_sparsity_create(e->model, &sets, e->keep, &e->sparsity, err));
    SL_TRY(sli_bundled_create(e->model, e->packed, &e->bundled, err));
    SL_TRY(load_meta(e, err));
    if (sli_uses_stored(e))
        SL_TRY(load_predictor(e, err));
    if (sli_fetches_sets(e))
        SL_TRY(open_bundles(e, err));
    SL_TRY(load_vectors(e, err));
    SL_TRY(sli_early_exit_open(e, err));
    return e->device != NULL ? sli_device_create(e, vector_bytes(e->gguf), err) : SL_OK;
}

sl_status sl_engine_open(const sl_engine_options *options, sl_engine **out, sl_error *err)
{
    *out = NULL;
    if (options->model_path == NULL)
        return sl_fail(err, SL_INVALID, "no model file was named; -m FILE names one");
    sl_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for an engine");
    e->options = *options;
    e->path = strdup(options->model_path);
    sl_status status = e->path == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for a path") : read_file(e, err);
    if (status == SL_OK && !options->vocabulary_only)
        status = open_weights(e, err);
    if (status != SL_OK) {
        sl_engine_close(e);
        return status;
    }
    *out = e;
    return SL_OK;
}

void sl_engine_close(sl_engine *e)
{
    if (e == NULL)
        return;
    sli_device_close(e);
    sli_early_exit_close(e);
    free(e->rope_step);
    free(e->vectors);
    free(e->vector_at);
    sl_bundles_destroy(e->bundles);
    sli_predictor_close(e->predictor);
    sli_bundled_free(&e->bundled);
    free(e->keep);
    sli_sparsity_free(&e->sparsity);
    sli_scratch_free(&e->scratch);
    free(e->pass_plan);
    sl_pager_destroy(e->pager);
    sli_units_free(&e->units);
    sl_threads_destroy(e->threads);
    sl_trace_destroy(e->trace);
    sl_record_destroy(e->record);
    sl_model_close(e->model);
    sl_tokenizer_close(e->tokenizer);
    sl_packed_close(e->packed);
    sl_gguf_close(e->file);
    free(e->path);
    free(e);
}

void sl_engine_interrupt(sl_engine *engine)
{
    atomic_store_explicit(&engine->interrupted, true, memory_order_relaxed);
}

/* offload/describe.c: what an engine says of itself. */
#include "core/os.h"
#include "offload/choices.h"
#include "offload/device_engine.h"
#include "offload/early_exit.h"
#include "offload/kv_spill.h"
#include "offload/sparq_attention.h"

/* Bundles that sparse rows fetch count by the cache's slots, everything else by its home. */
static uint64_t unkept_bytes(const sl_engine *e)
{
    uint64_t bytes = 0;
    for (uint32_t u = 0; u < e->units.count; u++)
        bytes += e->units.units[u].home || e->units.in_vram[u] ? 0 : e->units.units[u].bytes;
    for (uint32_t layer = 0; e->bundle_alignment > 0 && layer < e->model->layers; layer++) {
        const sl_packed_layer *packed = sli_bundled_layer_at(e->packed, layer);
        if (packed != NULL)
            bytes -= (uint64_t)packed->stored * e->price.cache_share / SLI_CACHE_WHOLE * packed->stride;
    }
    return bytes;
}

const char *sli_sparsity_name(size_t mode)
{
    static const char *const names[] = {[SL_SPARSITY_OFF] = "off", [SL_SPARSITY_COARSE] = "coarse", [SL_SPARSITY_FINE] = "fine"};
    return mode < sizeof names / sizeof *names ? names[mode] : NULL;
}

const char *sli_predictor_name(size_t predictor)
{
    static const char *const names[] = {[SL_PREDICTOR_STORED] = "stored", [SL_PREDICTOR_ORACLE] = "oracle", [SL_PREDICTOR_GATE] = "gate"};
    return predictor < sizeof names / sizeof *names ? names[predictor] : NULL;
}

const char *sli_early_exit_name(size_t kind)
{
    static const char *const names[] = {
        [SL_EARLY_EXIT_OFF] = "off", [SL_EARLY_EXIT_SVM] = "svm", [SL_EARLY_EXIT_CRF] = "crf", [SL_EARLY_EXIT_GAP] = "gap"};
    return kind < sizeof names / sizeof *names ? names[kind] : NULL;
}

static void describe_sparsity(const sl_engine *e, sl_engine_info *out)
{
    out->predictor_bytes = e->price.predictor_bytes;
    out->sparsity = sli_sparsity_name(e->options.sparsity);
    out->predictor = e->options.sparsity == SL_SPARSITY_COARSE ? "prompt" : sli_predictor_name(e->options.predictor);
    out->density = e->options.sparsity == SL_SPARSITY_OFF ? 1.0 : e->options.density;
}

static void describe_early_exit(const sl_engine *e, sl_engine_info *out)
{
    const struct sli_early_exit *x = e->early;
    out->early_exit = sli_early_exit_name(e->options.early_exit);
    if (x == NULL)
        return;
    out->exit_agreement = e->options.exit_agreement;
    out->exit_held_agreement = (double)x->point.agreement;
    out->exit_held_layers = (double)x->point.layers_mean;
    out->exit_probes = x->exits.probe_count;
    out->exit_first = (uint32_t)x->exits.probes[0] + 1;
    out->exit_shortlist = x->exits.shortlist_count;
    out->exit_streamed_bytes = sli_early_exit_streamed(e);
}

void sl_engine_describe(const sl_engine *e, sl_engine_info *out)
{
    *out = (sl_engine_info){.backend = "cpu", .device = "", .file_bytes = sl_gguf_file_bytes(e->file)};
    out->bos = sl_tokenizer_adds_bos(e->tokenizer) ? sl_tokenizer_bos(e->tokenizer) : -1;
    if (e->model == NULL)
        return;
    out->arch = e->model->arch->name;
    out->isa = sl_isa_name(e->kernels->isa);
    out->thread_binding = sl_threads_binding(e->threads);
    out->threads = sl_threads_count(e->threads);
    out->context = e->context;
    out->context_model = e->model->context;
    out->batch = e->price.batch;
    out->draft_max = e->price.draft_max;
    out->layers = e->model->layers;
    out->d = e->model->d;
    out->ff = e->model->ff;
    out->heads = e->model->heads;
    out->kv_heads = e->model->kv_heads;
    out->vocab = e->model->vocab;
    out->weight_bytes = e->units.bytes;
    out->ram_budget_bytes = e->options.ram_budget_bytes;
    out->process_bytes = e->price.process_bytes;
    out->kv_bytes = e->price.kv_bytes;
    out->kv_file_bytes = e->price.kv.spill ? sli_kv_file_bytes(e->model, &e->price.kv) : 0;
    out->kv_resident = e->price.kv.spill ? e->price.kv.resident_pages * SL_KV_PAGE : e->context;
    out->scratch_bytes = e->price.scratch_bytes;
    out->sparsity_bytes = e->price.sparsity_bytes;
    out->bundled_bytes = e->price.bundled_bytes;
    out->cache_bytes = e->price.cache_bytes;
    out->packed = e->packed != NULL;
    for (uint32_t layer = 0; layer < e->model->layers; layer++)
        out->ffn_bytes += sl_model_ffn_bytes(e->model, layer);
    out->staging_bytes = e->price.staging_bytes;
    out->table_bytes = e->price.table_bytes;
    out->resident_bytes = e->price.resident_bytes;
    out->ram_budget_min_bytes = e->price_min_bytes;
    describe_sparsity(e, out);
    describe_early_exit(e, out);
    if (e->device != NULL) {
        out->backend = e->device->device->attrs.backend;
        out->vram_budget_bytes = e->options.vram_budget_bytes;
        out->vram_bytes = e->price.vram.total_bytes;
        out->device = e->device->device->attrs.name;
        out->vram_kv_bytes = e->price.vram.kv_bytes;
        out->device_follows = e->price.follows;
        out->kv_host_layers = e->price.vram.kv_host_layers;
        for (uint32_t u = 0; u < e->units.count; u++) {
            out->vram_weight_bytes += e->units.in_vram[u] ? e->units.units[u].bytes : 0;
            out->late_bytes += sli_device_leaves_out(e, u) ? e->units.units[u].bytes : 0;
        }
        const sli_device_rates *rates = &e->device->rates;
        sli_beside_bytes(e, &out->crossing_bytes, &out->beside_bytes);
        out->cpu_share = e->device->beside_rows > 0 ? e->device->cpu_share[1] : 0;
        out->link_Bps = rates->link_Bps;
        out->processor_Bps = rates->processor_s_per_byte > 0 ? 1 / rates->processor_s_per_byte : 0;
    }
    out->sparq_k = e->options.sparq_k;
    out->sparq_r = e->options.sparq_r;
    out->sparq_local = e->options.sparq_local;
    out->sparq_reallocate = sli_sparq_reallocates(e);
    out->sparq_pages = e->options.sparq_k > 0 && e->options.sparq_select == SL_SPARQ_PAGES;
    out->draft_density = (double)e->price.draft_neurons / ((double)e->model->layers * e->model->ff);
    out->streamed_bytes = unkept_bytes(e);
}

sli_io sli_engine_io(const sl_engine *e)
{
    sl_pager_stats pager = sl_pager_statistics(e->pager);
    sli_io io = {.bytes_read = pager.bytes_read, .requests = pager.requests, .wait_ns = pager.wait_ns};
    if (e->bundles != NULL) {
        sl_bundles_stats bundles = sl_bundles_statistics(e->bundles);
        io.bytes_read += bundles.bytes_read;
        io.requests += bundles.requests;
        io.wait_ns += bundles.wait_ns;
    }
    sl_spill_stats kv = sli_engine_kv_io(e);
    io.bytes_read += kv.bytes_read;
    io.requests += kv.requests;
    io.wait_ns += kv.wait_ns;
    io.link_bytes = e->device != NULL && e->device->vram != NULL ? sl_vram_statistics(e->device->vram).pushed_bytes : 0;
    return io;
}

sl_spill_stats sli_engine_kv_io(const sl_engine *e)
{
    sl_spill_stats io = e->kv_io;
    if (e->session != NULL && e->session->kv.spilled != NULL) {
        sl_spill_stats now = sli_kv_spill_measure(&e->session->kv);
        io.bytes_read += now.bytes_read;
        io.bytes_written += now.bytes_written;
        io.requests += now.requests;
        io.wait_ns += now.wait_ns;
        io.kept_bytes += now.kept_bytes;
    }
    return io;
}

void sl_engine_measure(const sl_engine *e, sl_engine_stats *out)
{
    *out = (sl_engine_stats){.peak_rss_bytes = sl_peak_rss_bytes(), .peak_cgroup_bytes = sl_cgroup_peak_bytes()};
    if (e->pager == NULL)
        return;
    sl_pager_stats pager = sl_pager_statistics(e->pager);
    const sl_tier_attrs *tier = sl_pager_tier(e->pager);
    out->io_engine = tier->engine;
    out->direct = tier->direct;
    sli_io io = sli_engine_io(e);
    out->bytes_read = io.bytes_read;
    out->link_bytes = io.link_bytes;
    out->requests = io.requests;
    out->wait_s = (double)io.wait_ns * 1e-9;
    out->compute_s = (double)e->compute_ns * 1e-9;
    out->resident_weight_bytes = pager.resident_bytes;
    out->passes = e->passes;
    const sli_sparsity *sets = &e->sparsity;
    out->sparse_sets = atomic_load(&sets->sets);
    out->neurons_needed = atomic_load(&sets->members);
    if (e->bundles != NULL) {
        sl_bundles_stats bundles = sl_bundles_statistics(e->bundles);
        out->resident_weight_bytes += bundles.resident_bytes;
        out->neurons_resident = bundles.cached;
        out->neurons_read = bundles.read;
        out->neurons_late = bundles.late;
        out->neurons_dropped = atomic_load(&sets->dropped);
    }
    if (e->device != NULL) {
        out->neurons_dropped = sli_device_late(e);
        out->neurons_needed -= out->neurons_dropped;
        out->neurons_followed_bytes = e->device->followed_bytes;
    }
    sl_spill_stats kv = sli_engine_kv_io(e);
    out->kv_bytes_read = kv.bytes_read;
    out->kv_bytes_written = kv.bytes_written;
    out->kv_kept_bytes = kv.kept_bytes;
    out->kv_wait_s = (double)kv.wait_ns * 1e-9;
    out->sparq_bytes_moved = atomic_load(&e->sparq.bytes_moved) + (e->device != NULL ? sli_device_sparq_bytes(e) : 0);
    out->sparq_dense_bytes = atomic_load(&e->sparq.dense_bytes);
    if (e->early != NULL)
        out->early_exit = e->early->stats;
    out->neurons_compared = atomic_load(&sets->compared);
    out->neurons_compared_right = atomic_load(&sets->in_both);
}

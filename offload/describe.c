/* offload/describe.c: what an engine says of itself. */
#include "core/os.h"
#include "offload/engine.h"

void sl_engine_describe(const sl_engine *e, sl_engine_info *out)
{
    *out = (sl_engine_info){.backend = "cpu", .file_bytes = sl_gguf_file_bytes(e->gguf)};
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
    out->scratch_bytes = e->price.scratch_bytes;
    out->staging_bytes = e->price.staging_bytes;
    out->table_bytes = e->price.table_bytes;
    out->resident_bytes = e->price.resident_bytes;
    out->ram_budget_min_bytes = e->price_min_bytes;
    for (uint32_t u = 0; u < e->units.count; u++)
        if (!e->units.units[u].home)
            out->streamed_bytes += e->units.units[u].bytes;
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
    out->bytes_read = pager.bytes_read;
    out->requests = pager.requests;
    out->wait_s = (double)pager.wait_ns * 1e-9;
    out->compute_s = (double)e->compute_ns * 1e-9;
    out->resident_weight_bytes = pager.resident_bytes;
    out->passes = e->passes;
}

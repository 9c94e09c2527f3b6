/* offload/choices.c: see choices.h. A refusal names the flag, its value and what would be right. */
#include "offload/choices.h"
#include "core/os.h"
#include "offload/density.h"
#include "offload/sparq_attention.h"
#include "offload/sparq_pages.h"

#include <stdlib.h>

#define PAGES_LOCAL 16 /* last positions in any case, of pages: what is near finds its pages by itself (bench/SPEED.md, "Pages") */

static sl_status choose_kernels(sl_engine *e, sl_error *err)
{
    sl_isa isa = sl_cpu_best_isa();
    if (e->options.isa != NULL && !sl_isa_by_name(e->options.isa, &isa))
        return sl_fail(err, SL_INVALID, "--isa %s: no such instruction set; known are " SL_ISA_NAMES, e->options.isa);
    if (!sl_cpu_supports(isa) || sl_kernels_for(isa) == NULL)
        return sl_fail(err, SL_INVALID, "--isa %s: this processor or system cannot run it; the best here is %s", sl_isa_name(isa),
                       sl_isa_name(sl_cpu_best_isa()));
    e->kernels = sl_kernels_for(isa);
    return SL_OK;
}

static sl_status choose_context(sl_engine *e, sl_error *err)
{
    uint32_t wanted = e->options.context, most = e->model->context;
    if (wanted > most && wanted != SL_CONTEXT_MODEL)
        return sl_fail(err, SL_INVALID, "-c %u: %s was made for at most %u positions", wanted, e->path, most);
    e->context = wanted == SL_CONTEXT_MODEL ? most : wanted != 0 ? wanted : most < 4096 ? most : 4096;
    return SL_OK;
}

static uint32_t kv_type_of(sl_kv_type type)
{
    static const uint32_t types[] = {[SL_KV_F16] = SL_TYPE_F16,
                                     [SL_KV_F32] = SL_TYPE_F32,
                                     [SL_KV_Q8_0] = SL_TYPE_Q8_0,
                                     [SL_KV_BF16] = SL_TYPE_BF16,
                                     [SL_KV_Q4_0] = SL_TYPE_Q4_0};
    return types[type];
}

sli_kv_shape sli_kv_shape_of(const sl_engine *e)
{
    bool pages = e->options.sparq_k > 0 && e->options.sparq_select == SL_SPARQ_PAGES;
    return (sli_kv_shape){.context = e->context,
                          .k_type = kv_type_of(e->options.k_type),
                          .v_type = kv_type_of(e->options.v_type),
                          .key_rows = e->options.sparq_k > 0 && !pages,
                          .key_index = pages,
                          .chosen_pages = pages ? 1 + sli_pages_most(e) : 0, /* and how many there are */
                          .value_sums = sli_sparq_reallocates(e)};
}

static sl_status check_kv_type(const sl_engine *e, sl_kv_type type, sl_error *err)
{
    if ((type == SL_KV_Q8_0 || type == SL_KV_Q4_0) && e->model->head_dim % 32 != 0)
        return sl_fail(err, SL_INVALID, "a %s KV cache needs heads of a multiple of 32 components; %s has %u",
                       type == SL_KV_Q8_0 ? "q8_0" : "q4_0", e->path, e->model->head_dim);
    return SL_OK;
}

bool sli_uses_stored(const sl_engine *e)
{
    return e->options.sparsity == SL_SPARSITY_FINE && e->options.predictor == SL_PREDICTOR_STORED;
}

sl_status sli_choose_sets(sl_engine *e, sl_error *err)
{
    free(e->keep);
    e->keep = malloc(e->model->layers * sizeof *e->keep);
    if (e->keep == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %u layers", e->model->layers);
    float *curves = malloc((size_t)e->model->layers * (SLI_DENSITY_POINTS + 1) * sizeof *curves);
    if (curves == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %u layers", e->model->layers);
    bool measured = e->packed != NULL && !e->options.uniform_density && e->options.sparsity == SL_SPARSITY_FINE &&
                    sli_density_read(e->file, e->model->layers, curves);
    sl_status status = SL_OK;
    for (uint32_t layer = 0; layer < e->model->layers && !measured; layer++)
        e->keep[layer] = sli_sparsity_keep(e->model->ff, e->options.density);
    if (measured)
        status = sli_density_distribute(curves, e->model->layers, e->model->ff, e->options.density, e->keep, err);
    free(curves);
    return status;
}

static sl_status choose_sparsity(sl_engine *e, sl_error *err)
{
    if (e->options.sparsity == SL_SPARSITY_OFF)
        return SL_OK;
    if (!e->model->gated)
        return sl_fail(err, SL_UNSUPPORTED, "%s: feed-forwards of architecture %s have no gate; --sparsity knows only gated ones", e->path,
                       e->model->arch->name);
    if (e->options.density == 0)
        e->options.density = 0.5;
    if (!(e->options.density > 0 && e->options.density <= 1))
        return sl_fail(err, SL_INVALID, "a density of %g; the kept share of the neurons lies above 0 and is at most 1", e->options.density);
    if (sli_uses_stored(e) && sli_predictor_price(e->file, e->model->layers) == 0)
        return sl_fail(err, SL_INVALID,
                       "%s holds no predictor for --sparsity fine: %s (--predictor oracle and gate work without, for comparison)", e->path,
                       e->packed != NULL ? "`sluice calibrate` it with a text"
                                         : "`sluice pack` it, then `sluice calibrate` the packed file with a text");
    return sli_choose_sets(e, err);
}

static sl_status choose_pages(sl_engine *e, sl_error *err)
{
    sl_engine_options *o = &e->options;
    if (o->sparq_reallocate == SL_SPARQ_REALLOCATE_ON)
        return sl_fail(err, SL_INVALID,
                       "--sparq-reallocate on goes with single keys; whole pages (--sparq-select pages, the default with --kv-spill) let "
                       "nothing stand for what "
                       "is left out");
    if (o->sparq_k % SL_KV_PAGE != 0) {
        uint32_t rounded = (o->sparq_k / SL_KV_PAGE + 1) * SL_KV_PAGE;
        sli_note(e, "--sparq-k %u: %u, for whole pages of %d positions", o->sparq_k, rounded, SL_KV_PAGE);
        o->sparq_k = rounded;
    }
    return SL_OK;
}

static sl_status choose_sparq(sl_engine *e, sl_error *err)
{
    sl_engine_options *o = &e->options;
    if (o->sparq_k == 0 && o->sparq_r == 0)
        return SL_OK;
    if (o->sparq_k == 0 || o->sparq_r == 0)
        return sl_fail(err, SL_INVALID,
                       "SparQ wants both: the positions to attend to (--sparq-k) and the components to choose them by (--sparq-r)");
    if (o->sparq_k > e->context)
        return sl_fail(err, SL_INVALID, "--sparq-k %u: the context has %u positions (-c sets it)", o->sparq_k, e->context);
    if (o->sparq_r > e->model->head_dim)
        return sl_fail(err, SL_INVALID, "--sparq-r %u: the heads of %s have %u components", o->sparq_r, e->path, e->model->head_dim);
    if (o->sparq_local > o->sparq_k)
        return sl_fail(err, SL_INVALID, "--sparq-local %u: it is part of the %u positions of --sparq-k", o->sparq_local, o->sparq_k);
    if (o->sparq_select == SL_SPARQ_SELECT_AUTO) /* by the flag, not by what fits: no budget may change what is chosen */
        o->sparq_select = o->kv_spill != NULL ? SL_SPARQ_PAGES : SL_SPARQ_KEYS;
    bool pages = o->sparq_select == SL_SPARQ_PAGES;
    if (o->sparq_local == 0 && pages)
        o->sparq_local = o->sparq_k < PAGES_LOCAL ? o->sparq_k : PAGES_LOCAL;
    else if (o->sparq_local == 0)
        o->sparq_local = o->sparq_k < 4 ? 1 : o->sparq_k / 4;
    return pages ? choose_pages(e, err) : SL_OK;
}

static sl_status choose_spill(const sl_engine *e, sl_error *err)
{
    if (e->options.kv_spill == NULL && e->options.kv_memory_bytes != 0)
        return sl_fail(err, SL_INVALID, "--kv-memory has no meaning without --kv-spill, a folder for what does not fit");
    if (e->options.kv_spill != NULL && e->options.sparq_k > 0 && e->options.sparq_select == SL_SPARQ_KEYS)
        return sl_fail(err, SL_INVALID,
                       "--kv-spill with --sparq-k wants --sparq-select pages (or auto): single keys are chosen among those in memory");
    return SL_OK;
}

static sl_status check_drafts(const sl_engine *e, sl_error *err)
{
    if (e->options.draft_resident && e->options.sparsity != SL_SPARSITY_OFF)
        return sl_fail(err, SL_INVALID, "drafts from what is in memory do not go with sparsity: what stays is chosen for one of the two");
    return SL_OK;
}

bool sli_fetches_sets(const sl_engine *e)
{
    bool known = e->options.sparsity == SL_SPARSITY_COARSE ||
                 (e->options.sparsity == SL_SPARSITY_FINE && e->options.predictor == SL_PREDICTOR_STORED);
    return known && e->device == NULL && !e->options.all_logits && sli_bundled_price(e->model, e->packed) > 0;
}

sl_status sli_choose_options(sl_engine *e, sl_error *err)
{
    SL_TRY(choose_kernels(e, err));
    SL_TRY(choose_context(e, err));
    SL_TRY(check_kv_type(e, e->options.k_type, err));
    SL_TRY(check_kv_type(e, e->options.v_type, err));
    SL_TRY(choose_sparsity(e, err));
    SL_TRY(choose_sparq(e, err));
    SL_TRY(choose_spill(e, err));
    return check_drafts(e, err);
}

uint64_t sli_choose_budget(const sl_engine *e)
{
    sl_memory_info memory;
    char text[24], limit[24], now[24];
    sl_memory_info_get(&memory);
    uint64_t within = sl_memory_within(&memory);
    if (e->options.ram_budget_bytes == 0) {
        uint64_t budget = sl_default_budget(&memory);
        sl_format_size(budget, text);
        sli_note(e, "RAM budget %s: 0.8 of %s (--ram-budget sets it)", text,
                 within == memory.cgroup_limit_bytes ? "the cgroup's limit" : "the available memory");
        return budget;
    }
    if (e->options.ram_budget_bytes > within) {
        const char *which = within == memory.cgroup_limit_bytes ? "the cgroup's limit" : "the available memory";
        uint64_t lowered = sl_default_budget(&memory);
        sl_format_size(e->options.ram_budget_bytes, text);
        sl_format_size(within, limit);
        if (!e->options.lower_budget) {
            sli_note(e, "warning: the RAM budget of %s is above %s of %s", text, which, limit);
            return e->options.ram_budget_bytes;
        }
        sl_format_size(lowered, now);
        sli_note(e, "the RAM budget of %s is above %s of %s: lowered to %s (--lower-budget)", text, which, limit, now);
        return lowered;
    }
    return e->options.ram_budget_bytes;
}

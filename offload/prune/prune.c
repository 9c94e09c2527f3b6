/* offload/prune/prune.c: see prune.h. */
#include "offload/prune/prune.h"
#include "core/os.h"
#include "core/rope.h"
#include "offload/prune/work.h"
#include "pager/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HEAP_BYTES     (8u << 20) /* small things and what the heap keeps */
#define DRIFT_BYTES    ((uint64_t)768 << 10)
#define TEXT_PER_TOKEN 16u /* bytes of text that are tokenised for each token wanted: more than any text needs */

static const char *const method_names[] = {"magnitude", "wanda", "sparsegpt", "sparsellm"};

const char *sli_prune_method_name(sli_prune_method method)
{
    return method_names[method];
}

static const sl_kernels *best_kernels(void)
{
    for (int isa = SL_ISA_COUNT - 1; isa > SL_ISA_SCALAR; isa--)
        if (sl_kernels_for((sl_isa)isa) != NULL && sl_cpu_supports((sl_isa)isa))
            return sl_kernels_for((sl_isa)isa);
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* ---- what a method needs ---- */

static sli_neuron_choice neuron_choice(const sli_prune_work *w)
{
    static const sli_neuron_choice of[] = {SLI_NEURONS_MAGNITUDE, SLI_NEURONS_WANDA, SLI_NEURONS_COST, SLI_NEURONS_COST};
    return of[w->options->method];
}

/* ---- the price ---- */

/* Sizes of the two Hessians: the larger of both halves. */
static void hessian_sizes(const sli_prune_work *w, uint32_t n[2])
{
    const sl_model *m = w->model;
    n[0] = m->d;
    n[1] = m->ff > sli_prune_attended_width(m) ? m->ff : sli_prune_attended_width(m);
}

static size_t place(sli_prune_work *w, uint8_t *base)
{
    uint32_t n[2];
    size_t used = 0;
    hessian_sizes(w, n);
    size_t longest = n[1] > n[0] ? n[1] : n[0]; /* rows or columns of any matrix */
#define PLACE(to, type, count)                                                                                                             \
    do {                                                                                                                                   \
        (to) = base == NULL ? NULL : (type *)(void *)(base + used);                                                                        \
        used += ((size_t)(count) * sizeof(type) + 63) & ~(size_t)63;                                                                       \
    } while (0)
    double *slab;
    PLACE(slab, double, SLI_HESSIAN_SLAB *longest);
    for (int i = 0; i < 2; i++) {
        w->hessians[i] = (sli_hessian){.linear = w->linear, .n = n[i], .slab = slab};
        PLACE(w->hessians[i].at, double, sli_prune_observes(w) ? (size_t)n[i] * n[i] : 0);
        PLACE(w->hessians[i].diagonal, double, n[i]);
    }
    PLACE(w->gpt.panel, float, SLI_SPARSEGPT_BLOCK *longest);
    PLACE(w->gpt.errors, float, SLI_SPARSEGPT_BLOCK *longest);
    PLACE(w->gpt.scores, float, SLI_SPARSEGPT_BLOCK *longest);
    PLACE(w->scores, float, longest);
    PLACE(w->norms, float, longest);
#undef PLACE
    return used;
}

/* All but the spools. */
static uint64_t fixed_price(sli_prune_work *w, unsigned threads)
{
    const sl_model *m = w->model;
    uint64_t price = w->rss_bytes + HEAP_BYTES + SLI_LINEAR_BYTES + sli_layer_price(m) + sl_pages_round(place(w, NULL));
    price += 2 * sl_gguf_heap_bytes(w->file) + w->options->text_bytes;
    if (sli_prune_observes(w))
        price += sli_forward_price(m, threads);
    if (sli_prune_runs_sparsellm(w))
        price += sli_sparsellm_price(m->d, m->ff, m->gated, threads);
    if (w->options->rates == SLI_PRUNE_RATES_GLOBAL)
        price += sli_rates_price(m->layers * SLI_PRUNE_MATRICES);
    if (sli_prune_neurons_go(w))
        price += sli_neurons_price(m->d, m->ff, sli_prune_factors(w));
    return price;
}

static uint64_t spool_price(const sli_prune_work *w, uint32_t tokens)
{
    if (!sli_prune_observes(w))
        return 0;
    uint64_t bytes = sli_spool_bytes(tokens, w->model->d);
    return sli_prune_runs_sparsellm(w) ? bytes + sli_sparsellm_spool_bytes(w->model->d, w->model->ff, w->model->gated, tokens) : bytes;
}

static sl_status settle_budget(sli_prune_work *w, unsigned threads, sl_error *err)
{
    sl_memory_info info;
    sl_memory_info_get(&info);
    uint64_t budget = w->options->ram_budget_bytes != 0 ? w->options->ram_budget_bytes : sl_default_budget(&info);
    uint64_t fixed = fixed_price(w, threads), spools = spool_price(w, w->out->tokens);
    w->in_memory = fixed + spools <= budget;
    w->out->budget_bytes = budget;
    w->out->price_bytes = w->in_memory ? fixed + spools : fixed;
    w->out->spilled = sli_prune_observes(w) && !w->in_memory;
    if (fixed <= budget)
        return SL_OK;
    char needed[24], given[24];
    sl_format_size(fixed + DRIFT_BYTES, needed);
    sl_format_size(budget, given);
    sl_status status = sl_fail(err, SL_NO_BUDGET, "%s: pruning one layer of it by %s takes %s, the budget is %s", w->options->model_path,
                               sli_prune_method_name(w->options->method), needed, given);
    if (err != NULL)
        err->ram_budget_min_bytes = fixed + DRIFT_BYTES;
    return status;
}

/* ---- what is asked for ---- */

static sl_status check_pattern(const sli_prune_work *w, sl_error *err)
{
    const sl_model *m = w->model;
    uint32_t of = w->options->rule.of;
    if (w->options->rates == SLI_PRUNE_RATES_GLOBAL && (sli_prune_neurons_go(w) || of != 0))
        return sl_fail(err, SL_INVALID, "--rates global goes with --density; %s leaves every layer the same share",
                       of != 0 ? "a pattern" : "--neurons");
    uint32_t shortest = sli_prune_attended_width(m) < m->d ? sli_prune_attended_width(m) : m->d;
    if (!sli_prune_neurons_go(w) && of == 0 && sli_prune_drop_count(shortest, w->options->rule.density) == shortest)
        return sl_fail(err, SL_INVALID, "--density %g keeps none of the %u weights of a row", w->options->rule.density, shortest);
    if (sli_prune_neurons_go(w) || of == 0)
        return SL_OK;
    if (m->d % of != 0 || m->ff % of != 0 || sli_prune_attended_width(m) % of != 0)
        return sl_fail(err, SL_INVALID, "--pattern %s: rows of %u, %u and %u weights are no multiples of %u", w->options->pattern, m->d,
                       sli_prune_attended_width(m), m->ff, of);
    return SL_OK;
}

static sl_status check_layers(const sli_prune_work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    if (!o->some_layers)
        return SL_OK;
    if (o->first_layer > o->last_layer || o->last_layer >= w->model->layers)
        return sl_fail(err, SL_INVALID, "--layers %u-%u: %s has layers 0 to %u", o->first_layer, o->last_layer, o->model_path,
                       w->model->layers - 1);
    return SL_OK;
}

static sl_status check_files(const sli_prune_options *o, sl_error *err)
{
    struct stat in, out;
    if (stat(o->model_path, &in) == 0 && stat(o->out_path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return sl_fail(err, SL_INVALID, "%s: is the model to prune; name another file to write", o->out_path);
    return SL_OK;
}

static sl_status open_model(sli_prune_work *w, sl_error *err)
{
    const char *path = w->options->model_path;
    SL_TRY(check_files(w->options, err));
    SL_TRY(sl_gguf_open(path, &w->file, err));
    SL_TRY(sl_gguf_check_single(w->file, "prune", err));
    if (sl_packed_is(w->file))
        return sl_fail(err, SL_UNSUPPORTED, "%s: is a packed file; prune the one that `sluice unpack` gives, and pack the result", path);
    SL_TRY(sl_model_open(w->file, &w->model, err));
    SL_TRY(sli_layer_check(w->model, path, err));
    SL_TRY(check_pattern(w, err));
    SL_TRY(check_layers(w, err));
    w->output.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w->output.fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    return SL_OK;
}

static sl_status read_text(sli_prune_work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    uint32_t wanted = o->tokens != 0 ? o->tokens : SLI_PRUNE_TOKENS;
    size_t bytes = o->text_bytes < (size_t)wanted * TEXT_PER_TOKEN ? o->text_bytes : (size_t)wanted * TEXT_PER_TOKEN;
    sl_tokenizer *tokenizer;
    if (!sli_prune_observes(w))
        return SL_OK;
    if (wanted < SLI_PRUNE_TOKENS_MIN)
        return sl_fail(err, SL_INVALID, "--tokens %u: at least %u are needed, and some %u are right", wanted, SLI_PRUNE_TOKENS_MIN,
                       SLI_PRUNE_TOKENS);
    SL_TRY(sl_tokenizer_open(w->file, &tokenizer, err));
    sl_status status = sl_tokenizer_encode(tokenizer, o->text, bytes, (sl_encode_options){.add_bos = true}, &w->tokens, err);
    sl_tokenizer_close(tokenizer);
    SL_TRY(status);
    w->out->tokens = w->tokens.count < wanted ? (uint32_t)w->tokens.count : wanted;
    if (w->out->tokens < SLI_PRUNE_TOKENS_MIN)
        return sl_fail(err, SL_INVALID, "the calibration text has only %u tokens; at least %u are needed, and some %u are right",
                       w->out->tokens, SLI_PRUNE_TOKENS_MIN, SLI_PRUNE_TOKENS);
    return SL_OK;
}

/* All that the result depends on. */
static uint64_t fingerprint_of(const sli_prune_work *w)
{
    const sli_prune_options *o = w->options;
    struct stat in = {0};
    char line[256];
    fstat(w->output.fd, &in);
    snprintf(line, sizeof line, "%d %d %.17g %u:%u %.17g %d %d %u %d %u %u %u %lld %lld.%ld %u", o->method, o->rates, o->rule.density,
             o->rule.drop, o->rule.of, o->neurons, o->no_refit, o->change_type, o->type, o->some_layers, o->first_layer, o->last_layer,
             w->out->tokens, (long long)in.st_size, (long long)in.st_mtim.tv_sec, in.st_mtim.tv_nsec, sl_threads_count(w->threads));
    uint64_t text = XXH64(w->tokens.ids, w->out->tokens * sizeof *w->tokens.ids, 0);
    return XXH64(line, strlen(line), text);
}

/* ---- memory ---- */

static sl_status load_rope_factors(sli_prune_work *w, sl_error *err)
{
    const sl_gguf_tensor *t = sl_rope_factors(w->model, sli_forward_chunk(w->model));
    if (t == NULL)
        return SL_OK;
    w->rope_factors = malloc(t->bytes);
    if (w->rope_factors == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for rotary factors");
    return sli_prune_input_read(&w->output, t, 0, w->rope_factors, t->bytes, err);
}

static sl_status open_sparsellm(sli_prune_work *w, sl_error *err)
{
    const sl_model *m = w->model;
    sli_sparsellm *s = &w->sparsellm;
    *s = (sli_sparsellm){.gpt = w->gpt,
                         .kernels = w->kernels,
                         .act = m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH,
                         .gated = m->gated,
                         .d = m->d,
                         .ff = m->ff,
                         .rows = w->out->tokens,
                         .layer = &w->layer,
                         .x_hessian = &w->hessians[0],
                         .p_hessian = &w->hessians[1]};
    for (int i = 0; i < SLI_SPARSELLM_SPOOLS; i++) {
        uint32_t cols = sli_sparsellm_spool_cols(m->d, m->ff, m->gated, (sli_sparsellm_spool)i);
        if (cols > 0)
            SL_TRY(sli_spool_open(w->out->tokens, cols, w->in_memory, w->options->out_path, &s->spools[i], err));
    }
    return sli_sparsellm_create(s, err);
}

static sl_status open_methods(sli_prune_work *w, sl_error *err)
{
    const sl_model *m = w->model;
    w->arena_bytes = place(w, NULL);
    w->arena = sl_pages_alloc(w->arena_bytes);
    if (w->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for pruning a layer");
    place(w, w->arena);
    w->gpt.linear = w->linear;
    w->gpt.threads = w->threads;
    if (w->options->rates == SLI_PRUNE_RATES_GLOBAL)
        SL_TRY(sli_rates_create(m->layers * SLI_PRUNE_MATRICES, &w->rates, err));
    SL_TRY(sli_layer_create(m, w->kernels, &w->layer, err));
    if (sli_prune_observes(w)) {
        SL_TRY(load_rope_factors(w, err));
        SL_TRY(sli_forward_create(m, w->kernels, w->threads, w->linear, w->rope_factors, &w->forward, err));
        w->forward.layer = &w->layer;
        SL_TRY(sli_spool_open(w->out->tokens, m->d, w->in_memory, w->options->out_path, &w->residual, err));
    }
    if (sli_prune_runs_sparsellm(w))
        SL_TRY(open_sparsellm(w, err));
    if (sli_prune_neurons_go(w)) {
        w->neurons = (sli_neurons){.linear = w->linear,
                                   .layer = &w->layer,
                                   .hessian = &w->hessians[1],
                                   .choice = neuron_choice(w),
                                   .refit = !w->options->no_refit,
                                   .in_place = sli_prune_zeroes_neurons(w),
                                   .keep = w->keep_neurons};
        SL_TRY(sli_neurons_create(&w->neurons, m->d, m->ff, sli_prune_factors(w), err));
    }
    return SL_OK;
}

static void plan_output(sli_prune_work *w)
{
    const sli_prune_options *o = w->options;
    const sl_model *m = w->model;
    uint32_t blocks = (uint32_t)llround(o->neurons * m->ff / SLI_PRUNE_NEURON_BLOCK);
    w->output.path = o->out_path;
    w->output.model = m;
    w->output.in = w->file;
    w->output.kernels = w->kernels;
    w->keep_neurons = sli_prune_neurons_go(w) ? (blocks > 0 ? blocks : 1) * SLI_PRUNE_NEURON_BLOCK : m->ff;
    w->output.keep_ff = sli_prune_zeroes_neurons(w) ? m->ff : w->keep_neurons;
    w->output.only_feed_forward = sli_prune_neurons_go(w);
    w->output.first_layer = o->some_layers ? o->first_layer : 0;
    w->output.end_layer = o->some_layers ? o->last_layer + 1 : m->layers;
    w->output.type = o->change_type ? o->type : SLI_PRUNE_SAME_TYPE;
    w->out->layers = m->layers;
    w->out->neurons_before = m->ff;
    w->out->neurons_after = w->output.keep_ff;
}

static sl_status open_output(sli_prune_work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    sli_prune_record record = {.method = sli_prune_method_name(o->method),
                               .density = o->rule.density,
                               .pattern = sli_prune_neurons_go(w) ? NULL : o->pattern,
                               .global = o->rates == SLI_PRUNE_RATES_GLOBAL,
                               .neurons = o->neurons,
                               .refit = !o->no_refit,
                               .zeroed = sli_prune_zeroes_neurons(w),
                               .tokens = w->out->tokens,
                               .first_layer = w->output.first_layer,
                               .end_layer = w->output.end_layer};
    w->output.fingerprint = fingerprint_of(w);
    SL_TRY(sli_prune_output_open(&w->output, &record, err));
    w->out->resumed_layers = w->output.done_layers;
    char line[160];
    snprintf(line, sizeof line, "%s: going on behind its first %u layers, which an earlier run has pruned", o->out_path,
             w->output.done_layers);
    if (w->output.done_layers > 0)
        sli_prune_note(w, line);
    return SL_OK;
}

static sl_status prepare(sli_prune_work *w, sl_error *err)
{
    w->rss_bytes = sl_rss_bytes();
    SL_TRY(open_model(w, err));
    w->kernels = best_kernels();
    plan_output(w);
    if (w->keep_neurons >= w->model->ff && sli_prune_neurons_go(w))
        return sl_fail(err, SL_INVALID, "--neurons %g keeps all %u neurons; it must leave out at least %u", w->options->neurons,
                       w->model->ff, SLI_PRUNE_NEURON_BLOCK);
    SL_TRY(sli_prune_check_types(&w->output, !sli_prune_neurons_go(w) || sli_prune_zeroes_neurons(w), err));
    SL_TRY(read_text(w, err));
    SL_TRY(sl_threads_create(w->options->threads, &w->threads, err));
    SL_TRY(settle_budget(w, sl_threads_count(w->threads), err));
    SL_TRY(sli_linear_open(sl_threads_count(w->threads), &w->linear, err));
    SL_TRY(open_methods(w, err));
    return open_output(w, err);
}

static void release(sli_prune_work *w)
{
    w->out->kept = sli_prune_output_close(&w->output);
    w->out->weights = w->output.weights;
    w->out->zeros = w->output.zeros;
    sli_neurons_free(&w->neurons);
    sli_rates_free(&w->rates);
    for (int i = 0; i < SLI_SPARSELLM_SPOOLS; i++)
        sli_spool_close(&w->sparsellm.spools[i]);
    sli_sparsellm_free(&w->sparsellm);
    sli_spool_close(&w->residual);
    sli_forward_free(&w->forward);
    sli_layer_free(&w->layer);
    sl_pages_free(w->arena, w->arena_bytes);
    free(w->rope_factors);
    sl_tokens_free(&w->tokens);
    sli_linear_close(w->linear);
    sl_threads_destroy(w->threads);
    if (w->output.fd >= 0)
        close(w->output.fd);
    sl_model_close(w->model);
    sl_gguf_close(w->file);
}

sl_status sli_prune(const sli_prune_options *options, sli_prune_result *out, sl_error *err)
{
    *out = (sli_prune_result){0};
    sli_prune_work w = {.options = options, .out = out, .output = {.fd = -1}};
    uint64_t start = sl_now_ns();
    sl_status status = prepare(&w, err);
    if (status == SL_OK)
        status = sli_prune_layers(&w, err);
    release(&w);
    out->seconds = (double)(sl_now_ns() - start) * 1e-9;
    return status;
}

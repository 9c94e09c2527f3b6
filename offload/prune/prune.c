/* offload/prune/prune.c: see prune.h. */
#include "offload/prune/prune.h"
#include "core/os.h"
#include "core/tokenizer.h"
#include "offload/prune/forward.h"
#include "offload/prune/neurons.h"
#include "offload/prune/output.h"
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

typedef struct work {
    const sli_prune_options *options;
    sli_prune_result *out;
    uint64_t rss_bytes;
    sl_gguf *file;
    sl_model *model;
    const sl_kernels *kernels;
    sl_threads *threads;
    sli_linear *linear;
    sl_tokens tokens;
    float *rope_factors;
    sli_layer layer;
    sli_forward forward;
    sli_prune_output output;
    sli_spool residual; /* [tokens][d] */
    bool in_memory;     /* spools */
    uint8_t *arena;
    size_t arena_bytes;
    sli_hessian hessians[2]; /* of a half's first products, and of its last one's */
    sli_sparsegpt gpt;
    float *scores, *norms; /* of Wanda: [the longest row] */
    sli_sparsellm sparsellm;
    sli_neurons neurons;
    uint32_t seen_rows; /* by the spool of SparseLLM */
    uint32_t index;     /* of the layer in hand */
} work;

static const char *const method_names[] = {"magnitude", "wanda", "sparsegpt", "sparsellm"};

const char *sli_prune_method_name(sli_prune_method method)
{
    return method_names[method];
}

static void note(const work *w, const char *line)
{
    if (w->options->note != NULL)
        w->options->note(w->options->ctx, line);
}

static const sl_kernels *best_kernels(void)
{
    for (int isa = SL_ISA_COUNT - 1; isa > SL_ISA_SCALAR; isa--)
        if (sl_kernels_for((sl_isa)isa) != NULL && sl_cpu_supports((sl_isa)isa))
            return sl_kernels_for((sl_isa)isa);
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* ---- what a method needs ---- */

static bool prunes_neurons(const work *w)
{
    return w->options->neurons > 0;
}

/* Whether the text is looked at. */
static bool observes(const work *w)
{
    return w->options->method != SLI_PRUNE_MAGNITUDE || (prunes_neurons(w) && !w->options->no_refit);
}

static bool runs_sparsellm(const work *w)
{
    return w->options->method == SLI_PRUNE_SPARSELLM && !prunes_neurons(w);
}

/* Whether Hessians are factored, and not only their diagonals taken. */
static bool factors(const work *w)
{
    return w->options->method >= SLI_PRUNE_SPARSEGPT || (prunes_neurons(w) && !w->options->no_refit);
}

static sli_neuron_choice neuron_choice(const work *w)
{
    static const sli_neuron_choice of[] = {SLI_NEURONS_MAGNITUDE, SLI_NEURONS_WANDA, SLI_NEURONS_COST, SLI_NEURONS_COST};
    return of[w->options->method];
}

static uint32_t attended_width(const sl_model *m)
{
    return m->heads * m->head_dim;
}

/* ---- the price ---- */

/* Sizes of the two Hessians: the larger of both halves. */
static void hessian_sizes(const work *w, uint32_t n[2])
{
    const sl_model *m = w->model;
    n[0] = m->d;
    n[1] = m->ff > attended_width(m) ? m->ff : attended_width(m);
}

static size_t place(work *w, uint8_t *base)
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
        PLACE(w->hessians[i].at, double, observes(w) ? (size_t)n[i] * n[i] : 0);
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
static uint64_t fixed_price(work *w, unsigned threads)
{
    const sl_model *m = w->model;
    uint64_t price = w->rss_bytes + HEAP_BYTES + SLI_LINEAR_BYTES + sli_layer_price(m) + sl_pages_round(place(w, NULL));
    price += 2 * sl_gguf_heap_bytes(w->file) + w->options->text_bytes;
    if (observes(w))
        price += sli_forward_price(m, threads);
    if (runs_sparsellm(w))
        price += sli_sparsellm_price(m->d, m->ff, threads);
    if (prunes_neurons(w))
        price += sli_neurons_price(m->d, m->ff, factors(w));
    return price;
}

static uint64_t spool_price(const work *w, uint32_t tokens)
{
    if (!observes(w))
        return 0;
    uint64_t bytes = sli_spool_bytes(tokens, w->model->d);
    return runs_sparsellm(w) ? bytes + sli_sparsellm_spool_bytes(w->model->d, w->model->ff, tokens) : bytes;
}

static sl_status settle_budget(work *w, unsigned threads, sl_error *err)
{
    sl_memory_info info;
    sl_memory_info_get(&info);
    uint64_t budget = w->options->ram_budget_bytes != 0 ? w->options->ram_budget_bytes : sl_default_budget(&info);
    uint64_t fixed = fixed_price(w, threads), spools = spool_price(w, w->out->tokens);
    w->in_memory = fixed + spools <= budget;
    w->out->budget_bytes = budget;
    w->out->price_bytes = w->in_memory ? fixed + spools : fixed;
    w->out->spilled = observes(w) && !w->in_memory;
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

static sl_status check_pattern(const work *w, sl_error *err)
{
    const sl_model *m = w->model;
    uint32_t of = w->options->rule.of;
    if (prunes_neurons(w) || of == 0)
        return SL_OK;
    if (m->d % of != 0 || m->ff % of != 0 || attended_width(m) % of != 0)
        return sl_fail(err, SL_INVALID, "--pattern %s: rows of %u, %u and %u weights are no multiples of %u", w->options->pattern, m->d,
                       attended_width(m), m->ff, of);
    return SL_OK;
}

static sl_status check_layers(const work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    if (!o->some_layers)
        return SL_OK;
    if (o->first_layer > o->last_layer || o->last_layer >= w->model->layers)
        return sl_fail(err, SL_INVALID, "--layers %u-%u: %s has layers 0 to %u", o->first_layer, o->last_layer, o->model_path,
                       w->model->layers - 1);
    if (prunes_neurons(w))
        return sl_fail(err, SL_INVALID, "--layers with --neurons: all layers must have the same number of neurons");
    return SL_OK;
}

static sl_status check_files(const sli_prune_options *o, sl_error *err)
{
    struct stat in, out;
    if (stat(o->model_path, &in) == 0 && stat(o->out_path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return sl_fail(err, SL_INVALID, "%s: is the model to prune; name another file to write", o->out_path);
    return SL_OK;
}

static sl_status open_model(work *w, sl_error *err)
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

static sl_status read_text(work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    uint32_t wanted = o->tokens != 0 ? o->tokens : SLI_PRUNE_TOKENS;
    size_t bytes = o->text_bytes < (size_t)wanted * TEXT_PER_TOKEN ? o->text_bytes : (size_t)wanted * TEXT_PER_TOKEN;
    sl_tokenizer *tokenizer;
    if (!observes(w))
        return SL_OK;
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
static uint64_t fingerprint_of(const work *w)
{
    const sli_prune_options *o = w->options;
    struct stat in = {0};
    char line[256];
    fstat(w->output.fd, &in);
    snprintf(line, sizeof line, "%d %.17g %u:%u %.17g %d %d %u %d %u %u %u %lld %lld.%ld %u", o->method, o->rule.density, o->rule.drop,
             o->rule.of, o->neurons, o->no_refit, o->change_type, o->type, o->some_layers, o->first_layer, o->last_layer, w->out->tokens,
             (long long)in.st_size, (long long)in.st_mtim.tv_sec, in.st_mtim.tv_nsec, sl_threads_count(w->threads));
    uint64_t text = XXH64(w->tokens.ids, w->out->tokens * sizeof *w->tokens.ids, 0);
    return XXH64(line, strlen(line), text);
}

/* ---- memory ---- */

static sl_status load_rope_factors(work *w, sl_error *err)
{
    const sl_gguf_tensor *t = sl_model_tensor(w->model, SL_ROLE_ROPE_FREQS, 0);
    if (t == NULL)
        return SL_OK;
    w->rope_factors = malloc(t->bytes);
    if (w->rope_factors == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for rotary factors");
    return sli_prune_input_read(&w->output, t, 0, w->rope_factors, t->bytes, err);
}

static sl_status open_sparsellm(work *w, sl_error *err)
{
    const sl_model *m = w->model;
    sli_sparsellm *s = &w->sparsellm;
    const uint32_t cols[SLI_SPARSELLM_SPOOLS] = {m->d, m->d, m->ff, m->ff, m->ff};
    *s = (sli_sparsellm){.gpt = w->gpt,
                         .kernels = w->kernels,
                         .act = m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH,
                         .rule = w->options->rule,
                         .d = m->d,
                         .ff = m->ff,
                         .rows = w->out->tokens,
                         .layer = &w->layer,
                         .x_hessian = &w->hessians[0],
                         .p_hessian = &w->hessians[1]};
    for (int i = 0; i < SLI_SPARSELLM_SPOOLS; i++)
        SL_TRY(sli_spool_open(w->out->tokens, cols[i], w->in_memory, w->options->out_path, &s->spools[i], err));
    return sli_sparsellm_create(s, err);
}

static sl_status open_methods(work *w, sl_error *err)
{
    const sl_model *m = w->model;
    w->arena_bytes = place(w, NULL);
    w->arena = sl_pages_alloc(w->arena_bytes);
    if (w->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for pruning a layer");
    place(w, w->arena);
    w->gpt.linear = w->linear;
    w->gpt.threads = w->threads;
    SL_TRY(sli_layer_create(m, w->kernels, &w->layer, err));
    if (observes(w)) {
        SL_TRY(load_rope_factors(w, err));
        SL_TRY(sli_forward_create(m, w->kernels, w->threads, w->linear, w->rope_factors, &w->forward, err));
        w->forward.layer = &w->layer;
        SL_TRY(sli_spool_open(w->out->tokens, m->d, w->in_memory, w->options->out_path, &w->residual, err));
    }
    if (runs_sparsellm(w))
        SL_TRY(open_sparsellm(w, err));
    if (prunes_neurons(w)) {
        w->neurons = (sli_neurons){.linear = w->linear,
                                   .layer = &w->layer,
                                   .hessian = &w->hessians[1],
                                   .choice = neuron_choice(w),
                                   .refit = !w->options->no_refit,
                                   .keep = w->output.keep_ff};
        SL_TRY(sli_neurons_create(&w->neurons, m->d, m->ff, factors(w), err));
    }
    return SL_OK;
}

static void plan_output(work *w)
{
    const sli_prune_options *o = w->options;
    const sl_model *m = w->model;
    uint32_t blocks = (uint32_t)llround(o->neurons * m->ff / SLI_PRUNE_NEURON_BLOCK);
    w->output.path = o->out_path;
    w->output.model = m;
    w->output.in = w->file;
    w->output.kernels = w->kernels;
    w->output.keep_ff = prunes_neurons(w) ? (blocks > 0 ? blocks : 1) * SLI_PRUNE_NEURON_BLOCK : m->ff;
    w->output.first_layer = o->some_layers ? o->first_layer : 0;
    w->output.end_layer = o->some_layers ? o->last_layer + 1 : m->layers;
    w->output.type = o->change_type ? o->type : SLI_PRUNE_SAME_TYPE;
    w->out->layers = m->layers;
    w->out->neurons_before = m->ff;
    w->out->neurons_after = w->output.keep_ff;
}

static sl_status open_output(work *w, sl_error *err)
{
    const sli_prune_options *o = w->options;
    sli_prune_record record = {.method = sli_prune_method_name(o->method),
                               .density = o->rule.density,
                               .pattern = prunes_neurons(w) ? NULL : o->pattern,
                               .neurons = o->neurons,
                               .refit = !o->no_refit,
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
        note(w, line);
    return SL_OK;
}

static sl_status prepare(work *w, sl_error *err)
{
    w->rss_bytes = sl_rss_bytes();
    SL_TRY(open_model(w, err));
    w->kernels = best_kernels();
    plan_output(w);
    if (w->output.keep_ff >= w->model->ff && prunes_neurons(w))
        return sl_fail(err, SL_INVALID, "--neurons %g keeps all %u neurons; it must leave out at least %u", w->options->neurons,
                       w->model->ff, SLI_PRUNE_NEURON_BLOCK);
    SL_TRY(sli_prune_check_types(&w->output, !prunes_neurons(w), err));
    SL_TRY(read_text(w, err));
    SL_TRY(sl_threads_create(w->options->threads, &w->threads, err));
    SL_TRY(settle_budget(w, sl_threads_count(w->threads), err));
    SL_TRY(sli_linear_open(sl_threads_count(w->threads), &w->linear, err));
    SL_TRY(open_methods(w, err));
    return open_output(w, err);
}

/* ---- rows ---- */

static sl_status embed(work *w, sl_error *err)
{
    const sl_gguf_tensor *t = sl_model_tensor(w->model, SL_ROLE_TOKEN_EMBD, 0);
    size_t row_bytes = sl_row_bytes(t->type, w->model->d);
    float *row = w->forward.buffers[SL_BUF_RESIDUAL];
    for (uint32_t i = 0; i < w->out->tokens; i++) {
        SL_TRY(sli_prune_input_read(&w->output, t, (uint64_t)(uint32_t)w->tokens.ids[i] * row_bytes, w->output.piece, row_bytes, err));
        w->kernels->dequantize_row(t->type, w->output.piece, w->model->d, row);
        if (w->model->arch->embedding_scaled)
            w->kernels->scale(row, w->model->embedding_scale, w->model->d);
        SL_TRY(sli_spool_put(&w->residual, i, 1, row, err));
    }
    return SL_OK;
}

/* Tells how far the layer in hand is. */
static sl_status step(const work *w, double share_of_layer, sl_error *err)
{
    const sli_prune_output *o = &w->output;
    double all = o->end_layer > o->first_layer ? o->end_layer : 1;
    if (w->options->progress != NULL && !w->options->progress(w->options->ctx, (w->index + share_of_layer) / all))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

/* Runs operations [first, end) over all rows; `keep`: what they give is the residual from now on. [from, to): shares of the layer, for progress. */
static sl_status run_rows(work *w, uint32_t first, uint32_t end, bool keep, double from, double to, sl_error *err)
{
    sli_forward *f = &w->forward;
    for (uint32_t at = 0; at < w->out->tokens; at += f->chunk) {
        uint32_t n = w->out->tokens - at < f->chunk ? w->out->tokens - at : f->chunk;
        SL_TRY(sli_spool_get(&w->residual, at, n, f->buffers[SL_BUF_RESIDUAL], err));
        SL_TRY(sli_forward_run(f, first, end, n, err));
        if (keep)
            SL_TRY(sli_spool_put(&w->residual, at, n, f->buffers[SL_BUF_RESIDUAL], err));
        SL_TRY(step(w, from + (to - from) * (at + n) / w->out->tokens, err));
    }
    return SL_OK;
}

static bool ends_half(sl_tensor_role role)
{
    return role == SL_ROLE_ATTN_OUT || role == SL_ROLE_FFN_DOWN;
}

static sl_status see(void *ctx, sl_tensor_role role, const float *x, uint32_t rows, sl_error *err)
{
    work *w = ctx;
    if (role == SL_ROLE_FFN_GATE && runs_sparsellm(w)) {
        SL_TRY(sli_spool_put(&w->sparsellm.spools[SLI_SPARSELLM_X], w->seen_rows, rows, x, err));
        w->seen_rows += rows;
    }
    if (!prunes_neurons(w) || ends_half(role))
        sli_hessian_add(&w->hessians[ends_half(role)], rows, x);
    return SL_OK;
}

/* Gathers a half's inputs; of SparseLLM's feed-forward only up to its first products. */
static sl_status observe(work *w, uint32_t first, uint32_t end, double from, double to, sl_error *err)
{
    const sl_op *ops = w->model->arch->layer;
    bool feed_forward = false;
    uint32_t stop = end;
    for (uint32_t i = first; i < end; i++)
        feed_forward = feed_forward || ops[i].weight == SL_ROLE_FFN_GATE;
    for (uint32_t i = first; feed_forward && runs_sparsellm(w) && i < stop; i++)
        if (ops[i].kind == SL_OP_MATMUL)
            stop = i + 1;
    w->hessians[0].n = w->model->d;
    w->hessians[1].n = feed_forward ? w->model->ff : attended_width(w->model);
    sli_hessian_begin(&w->hessians[0]);
    sli_hessian_begin(&w->hessians[1]);
    w->seen_rows = 0;
    w->forward.see = see;
    w->forward.see_ctx = w;
    sl_status status = run_rows(w, first, stop, false, from, to, err);
    w->forward.see = NULL;
    return status;
}

/* ---- pruning a half ---- */

static void name_of(const work *w, const char *half, char name[96])
{
    snprintf(name, 96, "layer %u, %s", w->index, half);
}

static sl_status ready_hessian(work *w, sli_hessian *h, const char *what, sl_error *err)
{
    if (!factors(w))
        return sli_hessian_take_diagonal(h, what, err);
    SL_TRY(sli_hessian_factor(h, what, err));
    char line[200];
    snprintf(line, sizeof line, "%s: its Hessian is singular; %.3g was added to its diagonal, more than the usual %g of the mean", what,
             h->damping, SLI_HESSIAN_DAMPING);
    if (h->damped_more)
        note(w, line);
    return SL_OK;
}

static void prune_matrix(work *w, sl_tensor_role role)
{
    const sli_hessian *h = &w->hessians[ends_half(role)];
    uint32_t rows = sli_layer_rows(&w->layer, role), cols = sli_layer_cols(&w->layer, role);
    float *at = w->layer.at[role];
    if (w->options->method == SLI_PRUNE_MAGNITUDE) {
        sli_prune_magnitude(&w->options->rule, rows, cols, at);
    } else if (w->options->method == SLI_PRUNE_WANDA) {
        for (uint32_t i = 0; i < cols; i++)
            w->norms[i] = (float)sqrt(h->diagonal[i]);
        sli_prune_wanda(&w->options->rule, rows, cols, w->norms, w->scores, at);
    } else {
        sli_sparsegpt_prune(&w->gpt, h, &w->options->rule, rows, at);
    }
}

static bool on_iteration(void *ctx, const sli_sparsellm_report *report)
{
    work *w = ctx;
    if (w->options->iterated != NULL)
        w->options->iterated(w->options->ctx, w->index, report);
    return step(w, 0.4 + 0.5 * (report->iteration + 1) / SLI_SPARSELLM_ITERATIONS, NULL) == SL_OK;
}

static sl_status prune_attention(work *w, sl_error *err)
{
    char name[96];
    name_of(w, "attention", name);
    if (prunes_neurons(w))
        return SL_OK;
    for (int i = 0; observes(w) && i < 2; i++)
        SL_TRY(ready_hessian(w, &w->hessians[i], name, err));
    for (int i = 0; i < 4; i++) {
        prune_matrix(w, sli_prune_roles[i]);
        sli_prune_output_round(&w->output, &w->layer, sli_prune_roles[i]);
    }
    return SL_OK;
}

static sl_status prune_feed_forward(work *w, sl_error *err)
{
    char name[96];
    name_of(w, "feed-forward", name);
    for (int i = prunes_neurons(w) ? 1 : 0; observes(w) && i < (runs_sparsellm(w) ? 1 : 2); i++)
        SL_TRY(ready_hessian(w, &w->hessians[i], name, err));
    if (prunes_neurons(w)) {
        SL_TRY(sli_neurons_remove(&w->neurons, name, err));
    } else if (runs_sparsellm(w)) {
        w->sparsellm.go_on = on_iteration;
        w->sparsellm.ctx = w;
        SL_TRY(sli_sparsellm_run(&w->sparsellm, name, err));
    } else {
        for (int i = 4; i < SLI_PRUNE_MATRICES; i++)
            prune_matrix(w, sli_prune_roles[i]);
    }
    for (int i = 4; i < SLI_PRUNE_MATRICES; i++)
        sli_prune_output_round(&w->output, &w->layer, sli_prune_roles[i]);
    return SL_OK;
}

/* ---- layers ---- */

/* The operations of a layer's attention are [0, middle), those of its feed-forward [middle, end). */
static void halves_of(const sl_model *m, uint32_t *middle, uint32_t *end)
{
    const sl_op *ops = m->arch->layer;
    *middle = 0;
    for (*end = 0; ops[*end].kind != SL_OP_END; ++*end)
        if (ops[*end].kind == SL_OP_ADD && *middle == 0)
            *middle = *end + 1;
}

static sl_status prune_layer(work *w, sl_error *err)
{
    uint32_t middle, end;
    halves_of(w->model, &middle, &end);
    if (observes(w) && !prunes_neurons(w))
        SL_TRY(observe(w, 0, middle, 0, 0.1, err));
    SL_TRY(prune_attention(w, err));
    if (observes(w)) {
        SL_TRY(run_rows(w, 0, middle, true, 0.2, 0.3, err));
        SL_TRY(observe(w, middle, end, 0.3, 0.4, err));
    }
    SL_TRY(prune_feed_forward(w, err));
    if (observes(w))
        SL_TRY(run_rows(w, middle, end, true, 0.9, 1, err));
    return sli_prune_output_layer(&w->output, &w->layer, err);
}

/* A layer that an earlier run has pruned, or that is not to be pruned: the rows only pass through it. */
static sl_status pass_layer(work *w, bool from_output, sl_error *err)
{
    uint32_t middle, end;
    halves_of(w->model, &middle, &end);
    sli_tensor_source source = {from_output ? sli_prune_output_read : sli_prune_input_read, &w->output};
    if (observes(w) && w->index < w->output.end_layer) {
        SL_TRY(sli_layer_load(&w->layer, w->index, source, from_output ? sli_prune_output_tensor : sli_prune_input_tensor, err));
        SL_TRY(run_rows(w, 0, end, true, 0, 1, err));
    }
    return from_output ? SL_OK : sli_prune_output_layer(&w->output, NULL, err);
}

static sl_status prune_all(work *w, sl_error *err)
{
    sli_tensor_source source = {sli_prune_input_read, &w->output};
    uint32_t done = w->output.done_layers;
    if (observes(w))
        SL_TRY(embed(w, err));
    for (w->index = 0; w->index < w->model->layers; w->index++) {
        bool pruned = w->index >= w->output.first_layer && w->index < w->output.end_layer;
        if (w->index < done || !pruned) {
            SL_TRY(pass_layer(w, w->index < done, err));
            continue;
        }
        SL_TRY(sli_layer_load(&w->layer, w->index, source, sli_prune_input_tensor, err));
        SL_TRY(prune_layer(w, err));
        SL_TRY(step(w, 1, err));
    }
    return sli_prune_output_finish(&w->output, err);
}

static void release(work *w)
{
    w->out->kept = sli_prune_output_close(&w->output);
    w->out->weights = w->output.weights;
    w->out->zeros = w->output.zeros;
    sli_neurons_free(&w->neurons);
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
    work w = {.options = options, .out = out, .output = {.fd = -1}};
    uint64_t start = sl_now_ns();
    sl_status status = prepare(&w, err);
    if (status == SL_OK)
        status = prune_all(&w, err);
    release(&w);
    out->seconds = (double)(sl_now_ns() - start) * 1e-9;
    return status;
}

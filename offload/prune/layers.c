/* offload/prune/layers.c: layer after layer: rows run through it, its halves are pruned, and it is written. See prune.h. */
#include "offload/prune/work.h"

#include <math.h>
#include <stdio.h>

#define FIRST_OF_FFN 4   /* of sli_prune_roles; those before it are the attention's */
#define SURVEY_SHARE 0.3 /* of the time, about */

/* ---- rows ---- */

/* One row of a matrix of the input, as floats. */
static sl_status read_row(sli_prune_work *w, const sl_gguf_tensor *t, uint64_t row, float *out, sl_error *err)
{
    size_t row_bytes = sl_row_bytes(t->type, w->model->d);
    SL_TRY(sli_prune_input_read(&w->output, t, row * row_bytes, w->output.piece, row_bytes, err));
    w->kernels->dequantize_row(t->type, w->output.piece, w->model->d, out);
    return SL_OK;
}

static sl_status embed(sli_prune_work *w, sl_error *err)
{
    const sl_gguf_tensor *tokens = sl_model_tensor(w->model, SL_ROLE_TOKEN_EMBD, 0);
    const sl_gguf_tensor *positions = sl_model_tensor(w->model, SL_ROLE_POSITION_EMBD, 0);
    float *row = w->forward.buffers[SL_BUF_RESIDUAL], *position = w->forward.buffers[SL_BUF_NORMED];
    for (uint32_t i = 0; i < w->out->tokens; i++) {
        SL_TRY(read_row(w, tokens, (uint32_t)w->tokens.ids[i], row, err));
        if (w->model->arch->embedding_scaled)
            w->kernels->scale(row, w->model->embedding_scale, w->model->d);
        if (positions != NULL) {
            SL_TRY(read_row(w, positions, i % w->forward.chunk, position, err));
            w->kernels->add(row, position, w->model->d);
        }
        SL_TRY(sli_spool_put(&w->residual, i, 1, row, err));
    }
    return SL_OK;
}

/* Tells how far the layer in hand is. */
static sl_status step(const sli_prune_work *w, double share_of_layer, sl_error *err)
{
    const sli_prune_output *o = &w->output;
    double all = o->end_layer > o->first_layer ? o->end_layer : 1;
    double done = w->done_from + (w->done_to - w->done_from) * (w->index + share_of_layer) / all;
    if (w->options->progress != NULL && !w->options->progress(w->options->ctx, done))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

/* Runs operations [first, end) over all rows; `keep`: what they give is the residual from now on. [from, to): shares of the layer, for progress. */
static sl_status run_rows(sli_prune_work *w, uint32_t first, uint32_t end, bool keep, double from, double to, sl_error *err)
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

/* SparseLLM takes a feed-forward's inputs, and computes the rest itself. */
static bool gathers_for_sparsellm(const sli_prune_work *w)
{
    return sli_prune_runs_sparsellm(w) && !w->surveying;
}

static sl_status see(void *ctx, sl_tensor_role role, const float *x, uint32_t rows, sl_error *err)
{
    sli_prune_work *w = ctx;
    if (role == (w->model->gated ? SL_ROLE_FFN_GATE : SL_ROLE_FFN_UP) && gathers_for_sparsellm(w)) {
        SL_TRY(sli_spool_put(&w->sparsellm.spools[SLI_SPARSELLM_X], w->seen_rows, rows, x, err));
        w->seen_rows += rows;
    }
    if (!sli_prune_neurons_go(w) || ends_half(role))
        sli_hessian_add(&w->hessians[ends_half(role)], rows, x);
    return SL_OK;
}

/* Gathers a half's inputs; of SparseLLM's feed-forward only up to its first products. */
static sl_status observe(sli_prune_work *w, uint32_t first, uint32_t end, double from, double to, sl_error *err)
{
    const sl_op *ops = w->model->arch->layer;
    bool feed_forward = false;
    uint32_t stop = end;
    for (uint32_t i = first; i < end; i++)
        feed_forward = feed_forward || ops[i].weight == SL_ROLE_FFN_UP;
    for (uint32_t i = first; feed_forward && gathers_for_sparsellm(w) && i < stop; i++)
        if (ops[i].kind == SL_OP_MATMUL)
            stop = i + 1;
    w->hessians[0].n = w->model->d;
    w->hessians[1].n = feed_forward ? w->model->ff : sli_prune_attended_width(w->model);
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

static void name_of(const sli_prune_work *w, const char *half, char name[96])
{
    snprintf(name, 96, "layer %u, %s", w->index, half);
}

static sl_status ready_hessian(sli_prune_work *w, sli_hessian *h, const char *what, sl_error *err)
{
    if (!sli_prune_factors(w))
        return sli_hessian_take_diagonal(h, what, err);
    SL_TRY(sli_hessian_factor(h, what, err));
    char line[200];
    snprintf(line, sizeof line, "%s: its Hessian is singular; %.3g was added to its diagonal, more than the usual %g of the mean", what,
             h->damping, SLI_HESSIAN_DAMPING);
    if (h->damped_more)
        sli_prune_note(w, line);
    return SL_OK;
}

/* Where a matrix of the layer in hand stands among all. */
static uint32_t matrix_index(const sli_prune_work *w, int which)
{
    return w->index * SLI_PRUNE_MATRICES + (uint32_t)which;
}

/* What is asked for, or what one threshold over all layers left of this matrix. */
static sli_prune_rule rule_of(const sli_prune_work *w, int which)
{
    sli_prune_rule rule = w->options->rule;
    if (w->options->rates == SLI_PRUNE_RATES_GLOBAL)
        rule.density = w->rates.density[matrix_index(w, which)];
    return rule;
}

static void take_norms(sli_prune_work *w, const sli_hessian *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        w->norms[i] = (float)sqrt(h->diagonal[i]);
}

/* `which` of sli_prune_roles; nothing where the layer has no such matrix. */
static void prune_matrix(sli_prune_work *w, int which)
{
    sl_tensor_role role = sli_prune_roles[which];
    if (w->layer.at[role] == NULL)
        return;
    const sli_hessian *h = &w->hessians[ends_half(role)];
    uint32_t rows = sli_layer_rows(&w->layer, role), cols = sli_layer_cols(&w->layer, role);
    sli_prune_rule rule = rule_of(w, which);
    float *at = w->layer.at[role];
    if (w->options->method == SLI_PRUNE_MAGNITUDE) {
        sli_prune_magnitude(&rule, rows, cols, at);
    } else if (w->options->method == SLI_PRUNE_WANDA) {
        take_norms(w, h);
        sli_prune_wanda(&rule, rows, cols, w->norms, w->scores, at);
    } else {
        sli_sparsegpt_prune(&w->gpt, h, &rule, rows, at);
    }
}

/* The score by which a method would choose, of weights as they are before any has changed: |w|, |w| |x|, or w^2 / U_ii^2. */
static void score_matrix(sli_prune_work *w, int which)
{
    sl_tensor_role role = sli_prune_roles[which];
    if (w->layer.at[role] == NULL)
        return;
    const sli_hessian *h = &w->hessians[ends_half(role)];
    bool factored = sli_prune_factors(w);
    if (w->options->method == SLI_PRUNE_WANDA)
        take_norms(w, h);
    for (size_t i = 0; factored && i < h->n; i++)
        w->norms[i] = (float)(1 / h->at[i * h->n + i]);
    sli_rates_see(&w->rates, matrix_index(w, which), sli_layer_rows(&w->layer, role), sli_layer_cols(&w->layer, role), w->layer.at[role],
                  sli_prune_observes(w) ? w->norms : NULL, factored);
}

static bool on_iteration(void *ctx, const sli_sparsellm_report *report)
{
    sli_prune_work *w = ctx;
    if (w->options->iterated != NULL)
        w->options->iterated(w->options->ctx, w->index, report);
    return step(w, 0.4 + 0.5 * (report->iteration + 1) / SLI_SPARSELLM_ITERATIONS, NULL) == SL_OK;
}

static sl_status prune_attention(sli_prune_work *w, sl_error *err)
{
    char name[96];
    name_of(w, "attention", name);
    if (sli_prune_neurons_go(w))
        return SL_OK;
    for (int i = 0; sli_prune_observes(w) && i < 2; i++)
        SL_TRY(ready_hessian(w, &w->hessians[i], name, err));
    for (int i = 0; i < FIRST_OF_FFN; i++) {
        prune_matrix(w, i);
        sli_prune_output_round(&w->output, &w->layer, sli_prune_roles[i]);
    }
    return SL_OK;
}

static sl_status prune_feed_forward(sli_prune_work *w, sl_error *err)
{
    char name[96];
    name_of(w, "feed-forward", name);
    for (int i = sli_prune_neurons_go(w) ? 1 : 0; sli_prune_observes(w) && i < (sli_prune_runs_sparsellm(w) ? 1 : 2); i++)
        SL_TRY(ready_hessian(w, &w->hessians[i], name, err));
    if (sli_prune_neurons_go(w)) {
        SL_TRY(sli_neurons_remove(&w->neurons, name, err));
    } else if (sli_prune_runs_sparsellm(w)) {
        w->sparsellm.go_on = on_iteration;
        w->sparsellm.ctx = w;
        for (int i = FIRST_OF_FFN; i < SLI_PRUNE_MATRICES; i++)
            w->sparsellm.rules[i - FIRST_OF_FFN] = rule_of(w, i);
        SL_TRY(sli_sparsellm_run(&w->sparsellm, name, err));
    } else {
        for (int i = FIRST_OF_FFN; i < SLI_PRUNE_MATRICES; i++)
            prune_matrix(w, i);
    }
    for (int i = FIRST_OF_FFN; i < SLI_PRUNE_MATRICES; i++)
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

static sl_status prune_layer(sli_prune_work *w, sl_error *err)
{
    uint32_t middle, end;
    halves_of(w->model, &middle, &end);
    if (sli_prune_observes(w) && !sli_prune_neurons_go(w))
        SL_TRY(observe(w, 0, middle, 0, 0.1, err));
    SL_TRY(prune_attention(w, err));
    if (sli_prune_observes(w)) {
        SL_TRY(run_rows(w, 0, middle, true, 0.2, 0.3, err));
        SL_TRY(observe(w, middle, end, 0.3, 0.4, err));
    }
    SL_TRY(prune_feed_forward(w, err));
    if (sli_prune_observes(w))
        SL_TRY(run_rows(w, middle, end, true, 0.9, 1, err));
    return sli_prune_output_layer(&w->output, &w->layer, err);
}

/* A layer that an earlier run has pruned, or that is not to be pruned: the rows only pass through it. */
static sl_status pass_layer(sli_prune_work *w, bool from_output, sl_error *err)
{
    uint32_t middle, end;
    halves_of(w->model, &middle, &end);
    sli_tensor_source source = {from_output ? sli_prune_output_read : sli_prune_input_read, &w->output};
    if (sli_prune_observes(w) && w->index < w->output.end_layer) {
        SL_TRY(sli_layer_load(&w->layer, w->index, source, from_output ? sli_prune_output_tensor : sli_prune_input_tensor, err));
        SL_TRY(run_rows(w, 0, end, true, 0, 1, err));
    }
    return from_output ? SL_OK : sli_prune_output_layer(&w->output, NULL, err);
}

/* ---- one threshold over all layers ---- */

/* Counts the scores of a half's matrices, [first, end) of sli_prune_roles; its operations are [from, to). */
static sl_status survey_half(sli_prune_work *w, int first, int end, uint32_t from, uint32_t to, sl_error *err)
{
    double begun = first == 0 ? 0 : 0.5;
    char name[96];
    name_of(w, first == 0 ? "attention" : "feed-forward", name);
    if (sli_prune_observes(w))
        SL_TRY(observe(w, from, to, begun, begun + 0.2, err));
    for (int i = 0; sli_prune_observes(w) && i < 2; i++)
        SL_TRY(sli_prune_factors(w) ? sli_hessian_factor(&w->hessians[i], name, err)
                                    : sli_hessian_take_diagonal(&w->hessians[i], name, err));
    for (int i = first; i < end; i++)
        score_matrix(w, i);
    return sli_prune_observes(w) ? run_rows(w, from, to, true, begun + 0.3, begun + 0.5, err) : SL_OK;
}

/* The dense model's scores, and from them what is kept of each matrix. */
static sl_status survey(sli_prune_work *w, sl_error *err)
{
    sli_tensor_source source = {sli_prune_input_read, &w->output};
    uint32_t middle, end;
    char line[160];
    halves_of(w->model, &middle, &end);
    w->surveying = true;
    for (w->index = 0; w->index < w->output.end_layer; w->index++) {
        SL_TRY(sli_layer_load(&w->layer, w->index, source, sli_prune_input_tensor, err));
        if (w->index < w->output.first_layer) {
            SL_TRY(sli_prune_observes(w) ? run_rows(w, 0, end, true, 0, 1, err) : SL_OK);
            continue;
        }
        SL_TRY(survey_half(w, 0, FIRST_OF_FFN, 0, middle, err));
        SL_TRY(survey_half(w, FIRST_OF_FFN, SLI_PRUNE_MATRICES, middle, end, err));
        SL_TRY(step(w, 1, err));
    }
    w->surveying = false;
    sli_rates_settle(&w->rates, w->options->rule.density);
    snprintf(line, sizeof line, "one threshold for all layers: scores below %.4g go, of %llu weights", (double)w->rates.threshold,
             (unsigned long long)w->rates.weights);
    sli_prune_note(w, line);
    return SL_OK;
}

/* ---- all of them ---- */

static sl_status prune_one(sli_prune_work *w, sl_error *err)
{
    sli_tensor_source source = {sli_prune_input_read, &w->output};
    uint64_t weights = w->output.weights, zeros = w->output.zeros;
    SL_TRY(sli_layer_load(&w->layer, w->index, source, sli_prune_input_tensor, err));
    SL_TRY(prune_layer(w, err));
    if (w->options->pruned != NULL)
        w->options->pruned(w->options->ctx, w->index, w->output.weights - weights, w->output.zeros - zeros);
    return step(w, 1, err);
}

sl_status sli_prune_layers(sli_prune_work *w, sl_error *err)
{
    uint32_t done = w->output.done_layers;
    bool global = w->options->rates == SLI_PRUNE_RATES_GLOBAL;
    w->done_to = global ? SURVEY_SHARE : 1;
    if (sli_prune_observes(w))
        SL_TRY(embed(w, err));
    if (global) {
        SL_TRY(survey(w, err));
        w->done_from = SURVEY_SHARE;
        w->done_to = 1;
        if (sli_prune_observes(w))
            SL_TRY(embed(w, err));
    }
    for (w->index = 0; w->index < w->model->layers; w->index++) {
        bool pruned = w->index >= w->output.first_layer && w->index < w->output.end_layer;
        SL_TRY(w->index < done || !pruned ? pass_layer(w, w->index < done, err) : prune_one(w, err));
    }
    return sli_prune_output_finish(&w->output, err);
}

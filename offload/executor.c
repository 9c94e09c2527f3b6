/* offload/executor.c: runs the program of one pass.
 *
 *   embedding rows (embed.c) -> for each layer: the architecture's operations -> for rows with logits: the head's operations
 *
 * Operations on single rows are divided over the crew by rows; products by panels (matmul.c); attention by KV head and rows
 * (attention.c). A pass never changes the session's position: what it wrote into the cache counts only when the session commits it. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/early_exit.h"
#include "offload/ffn_sparse.h"
#include "offload/kv_spill.h"
#include "offload/probe.h"

#include <string.h>

typedef sli_pass pass;

typedef struct row_job {
    const pass *pass;
    const sl_op *op;
    uint32_t layer, rows;
    const float *weight, *bias;
    float *dst, *src;
} row_job;

static sl_model *model_of(const pass *p)
{
    return p->engine->model;
}
static float *buffer_of(const pass *p, sl_buffer b)
{
    return sli_pass_buffer(p, b);
}

/* ---- operations on rows ---- */

static void run_rope_row(const row_job *j, uint32_t row)
{
    const sl_model *m = model_of(j->pass);
    const sli_scratch *s = &j->pass->engine->scratch;
    uint32_t heads = j->op->dst == SL_BUF_Q ? m->heads : m->kv_heads;
    size_t at = ((size_t)sl_model_rope_table(m, j->layer) * j->pass->rows + row) * (m->rope_dim / 2);
    j->pass->engine->kernels->rope(m->arch->rope_halves ? SL_ROPE_HALVES : SL_ROPE_PAIRS, j->dst + (size_t)row * heads * m->head_dim, heads,
                                   m->head_dim, m->rope_dim, s->rope_cos + at, s->rope_sin + at);
}

static void run_head_norms(const row_job *j, float *heads, size_t width)
{
    const sl_model *m = model_of(j->pass);
    for (size_t at = 0; at < width; at += m->head_dim)
        j->pass->engine->kernels->rms_norm(heads + at, j->weight, m->head_dim, m->norm_eps, heads + at);
}

static void run_row(const row_job *j, uint32_t row)
{
    const sl_model *m = model_of(j->pass);
    const sl_kernels *k = j->pass->engine->kernels;
    size_t n = sl_model_width(m, j->op->dst), at = row * n;
    switch (j->op->kind) {
    case SL_OP_RMS_NORM: k->rms_norm(j->src + at, j->weight, (uint32_t)n, m->norm_eps, j->dst + at); break;
    case SL_OP_LAYER_NORM: k->layer_norm(j->src + at, j->weight, j->bias, (uint32_t)n, m->norm_eps, j->dst + at); break;
    case SL_OP_HEAD_NORM: run_head_norms(j, j->dst + at, n); break;
    case SL_OP_RELU: k->relu(j->dst + at, n); break;
    case SL_OP_GLU:
        k->glu(m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH, j->src + at, buffer_of(j->pass, SL_BUF_UP) + at,
               n, j->dst + at);
        break;
    case SL_OP_ADD: k->add(j->dst + at, j->src + at, n); break;
    case SL_OP_ROPE: run_rope_row(j, row); break;
    case SL_OP_END:
    case SL_OP_MATMUL:
    case SL_OP_ATTENTION: break;
    }
}

static void run_rows_share(void *arg, unsigned index, unsigned count)
{
    row_job *j = arg;
    uint32_t end = (uint32_t)((uint64_t)j->rows * (index + 1) / count);
    for (uint32_t row = (uint32_t)((uint64_t)j->rows * index / count); row < end; row++)
        run_row(j, row);
}

static void run_rows(row_job *j)
{
    if (j->rows == 1)
        run_row(j, 0);
    else
        sl_threads_run(j->pass->engine->threads, run_rows_share, j);
}

/* ---- the program ---- */

/* Runs `op` and any products after it that share its source; returns how many operations were run. */
static uint32_t gather_products(const pass *p, const sl_op *ops, uint32_t index, const sli_matrix *matrices, const float *const *vectors,
                                sli_product products[SLI_PRODUCTS_MAX])
{
    uint32_t n = 0;
    for (const sl_op *op = &ops[index]; n < SLI_PRODUCTS_MAX && op->kind == SL_OP_MATMUL && op->src == ops[index].src; op++, n++)
        products[n] = (sli_product){.matrix = &matrices[index + n], .bias = vectors[(index + n) * 2 + 1], .out = buffer_of(p, op->dst)};
    return n;
}

/* Before a layer's attention: what its feed-forward is likely to need, judged by the residual as it is now. */
static void guess_bundles(const pass *p, const sl_op *ops, const float *const *vectors, const sli_matrix *matrices, uint32_t layer)
{
    const sl_model *m = model_of(p);
    const float *norm = NULL;
    uint32_t at = 0;
    for (; !sli_ffn_begins(p->engine, &ops[at], layer); at++)
        if (ops[at].kind == SL_OP_RMS_NORM && ops[at].weight == SL_ROLE_FFN_NORM)
            norm = vectors[at * 2];
    if (norm == NULL)
        return;
    float *normed = buffer_of(p, SL_BUF_NORMED);
    p->engine->kernels->rms_norm(buffer_of(p, SL_BUF_RESIDUAL), norm, m->d, m->norm_eps, normed);
    sli_ffn ffn = {p->engine, &ops[at], &matrices[at], &vectors[at * 2], layer, 0, 1, true, false};
    sli_ffn_guess(&ffn, normed);
}

static sl_status run_program(const pass *p, const sl_op *ops, uint32_t layer, uint32_t first_entry, uint32_t rows, sl_error *err)
{
    const sli_matrix *matrices = p->engine->units.matrices + first_entry;
    const float *const *vectors = p->engine->vector_at + (size_t)first_entry * 2;
    sl_trace *trace = p->engine->trace;
    bool in_layer = ops == model_of(p)->arch->layer;
    unsigned outer = sl_trace_begin(trace, in_layer ? SL_TRACE_LAYER : SL_TRACE_HEAD, in_layer ? layer : SL_TRACE_NONE, rows);
    unsigned depth = sl_trace_depth(trace);
    if (p->sparse && rows == 1 && in_layer && sli_ffn_guesses(p->engine, layer))
        guess_bundles(p, ops, vectors, matrices, layer);
    for (uint32_t i = 0; ops[i].kind != SL_OP_END;) {
        sl_trace_next(trace, depth, sli_trace_name_of(&ops[i], in_layer), layer, rows);
        if (ops[i].weight == SL_ROLE_FFN_GATE && p->engine->observer.see != NULL)
            p->engine->observer.see(p->engine->observer.ctx, layer, buffer_of(p, ops[i].src), rows);
        if (sli_ffn_begins(p->engine, &ops[i], layer)) {
            sli_ffn ffn = {p->engine, &ops[i], &matrices[i], &vectors[i * 2], layer, 0, rows, p->sparse, p->resident_only};
            SL_TRY(p->tree != NULL ? sli_ffn_run_singly(&ffn, err) : sli_ffn_run(&ffn, err));
            i += SLI_FFN_OPS;
            continue;
        }
        if (ops[i].kind == SL_OP_MATMUL) {
            sli_product products[SLI_PRODUCTS_MAX];
            uint32_t n = gather_products(p, ops, i, matrices, vectors, products);
            SL_TRY(sli_multiply(p->engine, buffer_of(p, ops[i].src), rows, products, n, err));
            i += n;
            continue;
        }
        row_job job = {.pass = p, .op = &ops[i], .layer = layer, .rows = rows, .weight = vectors[i * 2], .bias = vectors[i * 2 + 1]};
        job.dst = buffer_of(p, ops[i].dst);
        job.src = buffer_of(p, ops[i].src);
        if (ops[i].kind == SL_OP_ATTENTION)
            SL_TRY(sli_pass_attend(p, layer, job.src, job.dst, rows, err));
        else
            run_rows(&job);
        i++;
    }
    sl_trace_end(trace, outer);
    return SL_OK;
}

/* ---- the plan ---- */

/* Whether a pass leaves bundles to sli_ffn_sparse, or, on a device, those out that are late. */
static bool without_bundles(const sl_engine *engine, bool sparse, bool singly)
{
    return sparse && ((singly && engine->bundles != NULL) || engine->price.late_neurons > 0);
}

sl_status sli_pass_plan(sl_engine *engine, sli_planned what, bool head, sl_unit_id from, sl_unit_id to, sl_unit_id covered, sl_error *err)
{
    uint32_t count = sli_units_of_pass(engine->model, engine->packed, &engine->units, what == SLI_PLANNED_ALL, head, engine->pass_plan);
    uint32_t absent = 0;
    for (uint32_t i = 0; i < count; i++) {
        sl_unit_id u = engine->pass_plan[i];
        if (u < from || u >= to)
            continue;
        bool here = sl_pager_resident(engine->pager, u) != NULL || (engine->device != NULL && engine->device->loaded[u]);
        bool stays = engine->units.units[u].home || engine->units.in_vram[u];
        if (!here && !(stays && u < covered))
            engine->pass_plan[absent++] = u;
    }
    return absent == 0 ? SL_OK : sl_pager_plan(engine->pager, engine->pass_plan, absent, err);
}

/* All units of a pass; `covered` ones get their homes filled by the pass before. */
static sl_status plan_pass(sl_engine *engine, sli_planned what, bool head, uint32_t covered, sl_error *err)
{
    return sli_pass_plan(engine, what, head, 0, engine->units.count, covered, err);
}

static sl_status plan(const pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sl_session *session = p->session;
    sl_engine *engine = p->engine;
    bool head = kind->logits_rows > 0;
    sli_planned what = without_bundles(engine, p->sparse, p->rows == 1 || p->tree != NULL) ? SLI_PLANNED_SPARSE : SLI_PLANNED_ALL;
    if (session->next_planned != SLI_PLANNED_NOTHING && (!head || session->next_planned != what)) {
        sl_pager_cancel(engine->pager);
        session->next_planned = SLI_PLANNED_NOTHING;
    }
    if (session->next_planned == SLI_PLANNED_NOTHING)
        SL_TRY(plan_pass(engine, what, head, 0, err));
    session->next_planned = SLI_PLANNED_NOTHING;
    if (kind->plan_next && engine->early != NULL && !kind->next_dense)
        return sli_exit_plan_next(session, err);
    if (kind->plan_next) {
        bool next_sparse = engine->sparsity.mode != SL_SPARSITY_OFF && !kind->next_dense;
        sli_planned next = without_bundles(engine, next_sparse, true) ? SLI_PLANNED_SPARSE : SLI_PLANNED_ALL;
        SL_TRY(plan_pass(engine, next, true, head ? engine->units.count : engine->units.body_count, err));
        session->next_planned = next;
    }
    return SL_OK;
}

/* All of the model that is no bundle has come into memory; on a device, all that stays there. */
static bool may_draft(const sl_engine *engine)
{
    uint32_t count = sli_units_of_pass(engine->model, engine->packed, &engine->units, engine->device != NULL, true, engine->pass_plan);
    for (uint32_t i = 0; i < count; i++) {
        sl_unit_id u = engine->pass_plan[i];
        if (engine->device != NULL ? engine->units.in_vram[u] && !engine->device->loaded[u] : sl_pager_resident(engine->pager, u) == NULL)
            return false;
    }
    return true;
}

/* A draft reads nothing. What is planned stays planned. */
static sl_status begin_draft(const pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sl_engine *engine = p->engine;
    if (engine->price.draft_neurons == 0)
        return sl_fail(err, SL_INVALID,
                       "no draft from what is in memory: the engine was opened without draft_resident, or its budget is too small");
    if (!may_draft(engine))
        return sl_fail(err, SL_INVALID, "no draft from what is in memory yet: the first dense pass with logits fills it");
    if (kind->plan_next && p->session->next_planned == SLI_PLANNED_NOTHING) {
        SL_TRY(plan_pass(engine, SLI_PLANNED_ALL, true, 0, err));
        p->session->next_planned = SLI_PLANNED_ALL;
    }
    return SL_OK;
}

/* Rows with logits are moved to the front of the residual, so that the head works on them alone. */
sl_status sli_pass_head(const pass *p, uint32_t logits_rows, sl_error *err)
{
    float *residual = buffer_of(p, SL_BUF_RESIDUAL);
    size_t d = model_of(p)->d;
    memmove(residual, residual + (p->rows - logits_rows) * d, logits_rows * d * sizeof(float));
    return run_program(p, model_of(p)->arch->head, 0, model_of(p)->layers * p->engine->units.layer_ops, logits_rows, err);
}

sl_status sli_pass_layer(const pass *p, uint32_t layer, sl_error *err)
{
    return run_program(p, model_of(p)->arch->layer, layer, layer * p->engine->units.layer_ops, p->rows, err);
}

static sl_status run(const pass *p, sli_probe *probe, uint32_t logits_rows, sl_error *err)
{
    sl_engine *engine = p->engine;
    for (uint32_t layer = 0; layer < engine->model->layers; layer++) {
        SL_TRY(sli_pass_layer(p, layer, err));
        if (engine->observer.see_residual != NULL)
            SL_TRY(engine->observer.see_residual(engine->observer.ctx, p, layer, err));
        sli_probe_part(engine, probe, layer);
    }
    return logits_rows > 0 ? sli_pass_head(p, logits_rows, err) : SL_OK;
}

static sl_status run_on_device(const pass *p, uint32_t logits_rows, sl_error *err)
{
    sli_device_rows rows = {p->rows, p->pos0, p->first, logits_rows, p->sparse || p->resident_only, p->sparq, p->tree};
    return sli_device_execute(p->session, &rows, err);
}

sl_status sli_execute(sl_session *session, const sl_token *tokens, uint32_t rows, sli_pass_kind kind, sl_error *err)
{
    sl_engine *engine = session->engine;
    if (engine->early != NULL && sli_exit_waiting(session) > 0 && kind.exit == SLI_EXIT_NOT)
        SL_TRY(sli_exit_catch_up(session, err));
    pass p = {.session = session,
              .engine = engine,
              .tokens = tokens,
              .rows = rows,
              .pos0 = session->position,
              .tree = kind.tree ? &session->tree : NULL,
              .first = kind.tree ? session->tree.count - rows : 0,
              .sparse = kind.sparse,
              .sparq = kind.sparq,
              .pages = engine->options.sparq_select == SL_SPARQ_PAGES,
              .resident_only = kind.resident_only};
    uint64_t start = sl_now_ns(), waited = sli_engine_io(engine).wait_ns;
    unsigned depth = sl_trace_begin(engine->trace,
                                    kind.resident_only ? SL_TRACE_DRAFT_PASS
                                    : kind.sparse      ? SL_TRACE_SPARSE_PASS
                                                       : SL_TRACE_DENSE_PASS,
                                    SL_TRACE_NONE, rows);
    sl_record_pass(engine->record, rows);
    sli_probe probe;
    sli_probe_begin(engine, &probe);

    sl_status status = kind.resident_only          ? begin_draft(&p, &kind, err)
                       : kind.exit != SLI_EXIT_NOT ? sli_exit_plan(&p, err)
                                                   : plan(&p, &kind, err);
    unsigned first = sl_trace_begin(engine->trace, SL_TRACE_EMBEDDING, SL_TRACE_NONE, rows);
    sli_kv_note_write(&session->kv, sli_pass_slot(&p, 0), rows);
    if (status == SL_OK)
        status = sli_kv_begin_pass(&session->kv, sli_pass_slot(&p, 0), rows,
                                   p.sparq && p.pages && p.pos0 / SL_KV_PAGE >= engine->options.sparq_k / SL_KV_PAGE, err);
    if (status == SL_OK)
        status = engine->device != NULL ? sli_device_begin(engine, err) : SL_OK;
    if (status == SL_OK)
        status = sli_pass_embed(&p, err);
    if (status == SL_OK)
        sli_pass_turn(&p);
    sl_trace_end(engine->trace, first);
    sli_probe_part(engine, &probe, engine->model->layers);
    if (status == SL_OK)
        status = kind.exit != SLI_EXIT_NOT ? sli_exit_run(&p, &kind, err)
                 : engine->device != NULL  ? run_on_device(&p, kind.logits_rows, err)
                                           : run(&p, &probe, kind.logits_rows, err);
    sli_probe_part(engine, &probe, engine->model->layers);
    sli_probe_end(engine, &probe, rows);

    if (status != SL_OK && !kind.resident_only) {
        sl_pager_cancel(engine->pager);
        session->next_planned = SLI_PLANNED_NOTHING;
    }
    engine->compute_ns += sl_now_ns() - start - (sli_engine_io(engine).wait_ns - waited);
    engine->passes += !kind.resident_only;
    sl_trace_end(engine->trace, depth);
    sli_trace_levels(engine);
    return status;
}

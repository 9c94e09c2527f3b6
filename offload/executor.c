/* offload/executor.c: runs the program of one pass.
 *
 *   embedding rows -> for each layer: the architecture's operations -> for rows with logits: the head's operations
 *
 * Operations on single rows are divided over the crew by rows; products by panels (matmul.c); attention by KV head and rows. A pass never
 * changes the session's position: what it wrote into the cache counts only when the session commits it. */
#include "core/mathx.h"
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/early_exit.h"
#include "offload/ffn_sparse.h"
#include "offload/kv_spill.h"
#include "offload/probe.h"
#include "offload/sparq_attention.h"
#include "offload/sparq_pages.h"

#include <string.h>

#define ATTENTION_ROWS 32 /* rows of one attention task: enough to reuse a widened page, few enough to balance a causal triangle */

typedef sli_pass pass;

typedef struct row_job {
    const pass *pass;
    const sl_op *op;
    uint32_t layer, rows;
    const float *weight, *bias;
    float *dst, *src;
    uint32_t first_head, heads; /* KV heads that attention is at */
    uint32_t row;               /* that it is at, where pages are fetched for it */
    atomic_uint next_task;
} row_job;

static sl_model *model_of(const pass *p)
{
    return p->engine->model;
}
static float *buffer_of(const pass *p, sl_buffer b)
{
    return sli_pass_buffer(p, b);
}
/* Where a row stands in its text, and where its keys and values lie. */
static uint32_t position_of(const pass *p, uint32_t row)
{
    return p->pos0 + (p->tree != NULL ? p->tree->depth[p->first + row] : row);
}
static uint32_t slot_of(const pass *p, uint32_t row)
{
    return p->pos0 + p->first + row;
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

/* ---- attention ---- */

static void store_kv(const row_job *j, uint32_t row)
{
    const pass *p = j->pass;
    const sl_model *m = model_of(p);
    const sli_kv *kv = &p->session->kv;
    uint32_t page = slot_of(p, row) / SL_KV_PAGE, slot = slot_of(p, row) % SL_KV_PAGE;
    for (uint32_t h = j->first_head; h < j->first_head + j->heads; h++) {
        size_t at = ((size_t)row * m->kv_heads + h) * m->head_dim;
        /* The arena is ours and writable; the page table shows it read-only because attention only reads. */
        uint8_t *k_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_KEYS)[page];
        uint8_t *v_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_VALUES)[page];
        uint8_t *row_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_KEY_ROWS)[page];
        p->engine->kernels->kv_store_k(kv->k_type, k_page, slot, buffer_of(p, SL_BUF_K) + at, m->head_dim);
        p->engine->kernels->kv_store_v(kv->v_type, v_page, slot, buffer_of(p, SL_BUF_V) + at, m->head_dim);
        if (row_page != NULL)
            p->engine->kernels->kv_store_v(kv->k_type, row_page, slot, buffer_of(p, SL_BUF_K) + at, m->head_dim);
    }
}

static void store_share(void *arg, unsigned index, unsigned count)
{
    row_job *j = arg;
    uint32_t end = (uint32_t)((uint64_t)j->rows * (index + 1) / count);
    for (uint32_t row = (uint32_t)((uint64_t)j->rows * index / count); row < end; row++)
        store_kv(j, row);
}

static sl_attention attention_of(const row_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread,
                                 sl_attention_tree *tree)
{
    const pass *p = j->pass;
    const sl_model *m = model_of(p);
    const sli_kv *kv = &p->session->kv;
    uint32_t group = m->heads / m->kv_heads;
    size_t stride = (size_t)m->heads * m->head_dim, at = first_row * stride + (size_t)head * group * m->head_dim;
    sl_attention job = {.head_dim = m->head_dim,
                        .group = group,
                        .rows = rows,
                        .pos0 = p->tree != NULL ? p->pos0 : p->pos0 + first_row,
                        .window = sl_model_window(m, j->layer),
                        .scale = m->attention_scale,
                        .k_type = kv->k_type,
                        .v_type = kv->v_type,
                        .k_pages = sli_kv_pages(kv, j->layer, head, SLI_KV_KEYS),
                        .v_pages = sli_kv_pages(kv, j->layer, head, SLI_KV_VALUES),
                        .q = j->src + at,
                        .q_stride = stride,
                        .out = j->dst + at,
                        .out_stride = stride,
                        .scratch = (float *)(void *)(p->engine->scratch.thread_memory + thread * p->engine->scratch.thread_bytes)};
    if (p->tree != NULL) {
        *tree = (sl_attention_tree){p->tree->depth + p->first + first_row, p->tree->path + p->first + first_row};
        job.tree = tree;
    }
    return job;
}

/* The pages that a row attends to: chosen before, and fetched, or now. */
static void attend_pages(const row_job *j, uint32_t head, const sl_attention *job)
{
    sl_session *s = j->pass->session;
    uint32_t *list = sli_pages_list(s->engine, job), count;
    if (sli_kv_fetches(&s->kv, j->layer)) {
        list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
        count = *list++;
    } else
        count = sli_pages_choose(s, j->layer, head, job, list);
    sli_pages_attend(s, job, list, count);
}

static void attend_rows(const row_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread)
{
    const pass *p = j->pass;
    sl_attention_tree tree;
    sl_attention job = attention_of(j, head, first_row, rows, thread, &tree);
    if (p->sparq && p->pages)
        attend_pages(j, head, &job);
    else if (p->sparq)
        sli_sparq_attend(p->session, j->layer, head, &job);
    else
        p->engine->kernels->attention(&job);
}

/* Rows that attend to a part of the cache choose one by one. */
static void attend(const row_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread)
{
    if (!j->pass->sparq)
        attend_rows(j, head, first_row, rows, thread);
    for (uint32_t row = 0; j->pass->sparq && row < rows; row++)
        attend_rows(j, head, first_row + row, 1, thread);
}

/* Later rows see more keys: tasks are taken as they come, the longest first. */
static void attend_share(void *arg, unsigned index, unsigned count)
{
    row_job *j = arg;
    uint32_t chunks = (j->rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    (void)count;
    for (;;) {
        uint32_t task = atomic_fetch_add_explicit(&j->next_task, 1, memory_order_relaxed);
        if (task >= j->heads * chunks)
            return;
        uint32_t chunk = chunks - 1 - task / j->heads, first = chunk * ATTENTION_ROWS;
        attend(j, j->first_head + task % j->heads, first, j->rows - first < ATTENTION_ROWS ? j->rows - first : ATTENTION_ROWS, index);
    }
}

/* The last position before which rows find all slots in order. */
static uint32_t last_plain_position(const pass *p)
{
    return p->pos0 + (p->tree != NULL ? 0 : p->rows - 1);
}

static void sum_values_share(void *arg, unsigned index, unsigned count)
{
    const row_job *j = arg;
    const pass *p = j->pass;
    for (uint32_t head = index; head < model_of(p)->kv_heads; head += count)
        sli_sparq_sum_values(p->session, j->layer, head, last_plain_position(p));
}

static void index_share(void *arg, unsigned index, unsigned count)
{
    const row_job *j = arg;
    const pass *p = j->pass;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count)
        sli_pages_index(p->session, j->layer, head, slot_of(p, p->rows));
}

static void choose_share(void *arg, unsigned index, unsigned count)
{
    const row_job *j = arg;
    sl_session *s = j->pass->session;
    sl_attention_tree tree;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count) {
        sl_attention job = attention_of(j, head, j->row, 1, index, &tree);
        uint32_t *list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
        list[0] = sli_pages_choose(s, j->layer, head, &job, list + 1);
    }
}

static void chosen_share(void *arg, unsigned index, unsigned count)
{
    const row_job *j = arg;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count)
        attend_rows(j, head, j->row, 1, index);
}

/* Row by row: which pages each head wants, what of them is in the file, attention. */
static sl_status attend_fetched(row_job *j, sl_error *err)
{
    sl_session *s = j->pass->session;
    for (j->row = 0; j->row < j->rows; j->row++) {
        sl_threads_run(j->pass->engine->threads, choose_share, j);
        for (uint32_t head = j->first_head; head < j->first_head + j->heads; head++) {
            const uint32_t *list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
            SL_TRY(sli_kv_fetch(&s->kv, j->layer, head, list + 1, list[0], err));
        }
        SL_TRY(sli_kv_fetched(&s->kv, j->layer, j->first_head, err));
        sl_threads_run(j->pass->engine->threads, chosen_share, j);
    }
    return SL_OK;
}

/* Of the heads whose keys and values are in memory now. */
static sl_status attend_group(row_job *j, sl_error *err)
{
    const pass *p = j->pass;
    if (j->rows == 1)
        store_kv(j, 0);
    else
        sl_threads_run(p->engine->threads, store_share, j);
    if (p->sparq && sli_sparq_wants_sums(p->session, j->layer, last_plain_position(p))) {
        sl_threads_run(p->engine->threads, sum_values_share, j);
        sli_sparq_summed(p->session, j->layer, last_plain_position(p));
    }
    if (p->session->kv.index != NULL && p->session->kv.indexed_pages[j->layer] < slot_of(p, p->rows) / SL_KV_PAGE)
        sl_threads_run(p->engine->threads, index_share, j);
    if (p->sparq && p->pages && sli_kv_fetches(&p->session->kv, j->layer))
        return attend_fetched(j, err);
    atomic_store(&j->next_task, 0);
    sl_threads_run(p->engine->threads, attend_share, j);
    return SL_OK;
}

static sl_status run_attention(row_job *j, sl_error *err)
{
    sli_kv *kv = &j->pass->session->kv;
    sli_kv_begin_write(kv, j->layer, slot_of(j->pass, 0));
    for (uint32_t group = 0; group < sli_kv_groups(kv); group++) {
        SL_TRY(sli_kv_begin_group(kv, j->layer, group, &j->first_head, &j->heads, err));
        SL_TRY(attend_group(j, err));
        SL_TRY(sli_kv_end_group(kv, j->layer, group, err));
    }
    sli_pages_indexed(kv, j->layer, slot_of(j->pass, j->pass->rows));
    return SL_OK;
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
            SL_TRY(run_attention(&job, err));
        else
            run_rows(&job);
        i++;
    }
    sl_trace_end(trace, outer);
    return SL_OK;
}

/* ---- before the first layer ---- */

static void fill_rope_table(const pass *p, uint32_t table)
{
    uint32_t half = model_of(p)->rope_dim / 2;
    const double *step = p->engine->rope_step + (size_t)table * half, magnitude = model_of(p)->rope_magnitude;
    for (uint32_t row = 0; row < p->rows; row++)
        for (uint32_t i = 0; i < half; i++) {
            size_t at = ((size_t)table * p->rows + row) * half + i;
            double sine, cosine;
            sl_sincos((double)position_of(p, row) * step[i], &sine, &cosine);
            p->engine->scratch.rope_cos[at] = (float)(cosine * magnitude);
            p->engine->scratch.rope_sin[at] = (float)(sine * magnitude);
        }
}

void sli_pass_turn(const pass *p)
{
    for (uint32_t table = 0; model_of(p)->rope_dim > 0 && table < sl_model_rope_tables(model_of(p)); table++)
        fill_rope_table(p, table);
}

/* A row of a resident embedding (it is the head's matrix too). */
static bool embed_resident(const pass *p, sl_token token, float *out)
{
    const sli_matrix *e = &p->engine->units.embedding;
    if (e->unit_count == 0)
        return false;
    uint32_t unit = (uint32_t)token / e->rows_per_unit, row = (uint32_t)token % e->rows_per_unit, panel = row / SL_PANEL_ROWS;
    const uint8_t *home = sl_pager_resident(p->engine->pager, e->first_unit + unit);
    if (home == NULL)
        return false;
    uint32_t unit_rows = e->rows - unit * e->rows_per_unit; /* or more: then every panel is whole */
    const uint8_t *at = home + (size_t)panel * SL_PANEL_ROWS * e->row_bytes;
    bool whole = (panel + 1) * SL_PANEL_ROWS <= unit_rows;
    if (whole)
        p->engine->kernels->dequantize_panel_row(e->type, at, row % SL_PANEL_ROWS, e->cols, out);
    else
        p->engine->kernels->dequantize_row(e->type, home + (size_t)row * e->row_bytes, e->cols, out);
    return true;
}

/* Reads some rows of a matrix, several at once, into memory set aside for it. */
static sl_status read_rows(const pass *p, const sli_matrix *m, const uint32_t *wanted, uint32_t count, sl_error *err)
{
    uint64_t offsets[SLI_EMBED_READS];
    for (uint32_t i = 0; i < count; i++)
        offsets[i] = m->offset + (uint64_t)wanted[i] * m->row_bytes;
    return sl_pager_read_small(p->engine->pager, m->file, offsets, count, m->row_bytes, p->engine->scratch.embed_rows, err);
}

static void take_read_row(const pass *p, const sli_matrix *m, uint32_t index, float *out)
{
    p->engine->kernels->dequantize_row(m->type, p->engine->scratch.embed_rows + (size_t)index * m->row_bytes, m->cols, out);
}

/* Rows of the embedding that are not resident. */
static sl_status embed_absent(const pass *p, const uint32_t *rows, uint32_t count, sl_error *err)
{
    const sli_matrix *e = &p->engine->units.embedding;
    uint32_t wanted[SLI_EMBED_READS];
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = (uint32_t)p->tokens[rows[i]];
    SL_TRY(read_rows(p, e, wanted, count, err));
    for (uint32_t i = 0; i < count; i++)
        take_read_row(p, e, i, buffer_of(p, SL_BUF_RESIDUAL) + (size_t)rows[i] * e->cols);
    return SL_OK;
}

/* Learned positions are added to what the tokens are. Their rows are read as they are needed, one for each row of a pass. */
static sl_status add_positions(const pass *p, sl_error *err)
{
    const sli_matrix *m = &p->engine->units.positions;
    float *position = buffer_of(p, SL_BUF_NORMED); /* not in use yet */
    for (uint32_t row = 0; m->rows > 0 && row < p->rows; row += SLI_EMBED_READS) {
        uint32_t wanted[SLI_EMBED_READS], count = p->rows - row < SLI_EMBED_READS ? p->rows - row : SLI_EMBED_READS;
        for (uint32_t i = 0; i < count; i++)
            wanted[i] = position_of(p, row + i);
        SL_TRY(read_rows(p, m, wanted, count, err));
        for (uint32_t i = 0; i < count; i++) {
            take_read_row(p, m, i, position);
            p->engine->kernels->add(buffer_of(p, SL_BUF_RESIDUAL) + (size_t)(row + i) * m->cols, position, m->cols);
        }
    }
    return SL_OK;
}

static sl_status embed(const pass *p, sl_error *err)
{
    uint32_t absent[SLI_EMBED_READS], n = 0;
    for (uint32_t row = 0; row < p->rows; row++) {
        if (!embed_resident(p, p->tokens[row], buffer_of(p, SL_BUF_RESIDUAL) + (size_t)row * model_of(p)->d))
            absent[n++] = row;
        if (n == SLI_EMBED_READS || (n > 0 && row + 1 == p->rows)) {
            SL_TRY(embed_absent(p, absent, n, err));
            n = 0;
        }
    }
    if (model_of(p)->arch->embedding_scaled)
        p->engine->kernels->scale(buffer_of(p, SL_BUF_RESIDUAL), model_of(p)->embedding_scale, (size_t)p->rows * model_of(p)->d);
    return add_positions(p, err);
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
    sli_kv_note_write(&session->kv, slot_of(&p, 0), rows);
    if (status == SL_OK)
        status = sli_kv_begin_pass(&session->kv, slot_of(&p, 0), rows,
                                   p.sparq && p.pages && p.pos0 / SL_KV_PAGE >= engine->options.sparq_k / SL_KV_PAGE, err);
    if (status == SL_OK)
        status = engine->device != NULL ? sli_device_begin(engine, err) : SL_OK;
    if (status == SL_OK)
        status = embed(&p, err);
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

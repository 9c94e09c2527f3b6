/* offload/prune/forward.c: see forward.h. */
#include "offload/prune/forward.h"
#include "core/layout.h"
#include "core/mathx.h"
#include "core/os.h"
#include "core/rope.h"

#include <stdatomic.h>
#include <string.h>

#define ATTENTION_ROWS 32          /* rows of one attention task */
#define KV_TYPE        SL_TYPE_F16 /* as sessions store them unless told otherwise */

enum { KEYS, VALUES, KINDS };

/* ---- memory ---- */

uint32_t sli_forward_chunk(const sl_model *m)
{
    return m->context < SLI_PRUNE_CHUNK ? m->context : SLI_PRUNE_CHUNK;
}

static size_t place(sli_forward *f, const sl_model *m, unsigned threads, uint8_t *base)
{
    sl_layout l = {.base = base};
    f->chunk = sli_forward_chunk(m);
    size_t rope = (size_t)sl_model_rope_tables(m) * f->chunk * (m->rope_dim / 2) * sizeof(float);
    for (int b = 0; b < SL_BUF_COUNT; b++)
        f->buffers[b] = b == SL_BUF_LOGITS ? NULL : sl_layout_place(&l, (size_t)f->chunk * sl_model_width(m, (sl_buffer)b) * sizeof(float));
    f->rope_cos = sl_layout_place(&l, rope);
    f->rope_sin = sl_layout_place(&l, rope);
    f->page_count = (f->chunk + SL_KV_PAGE - 1) / SL_KV_PAGE;
    f->page_bytes = sl_layout_round(sl_kv_page_bytes(KV_TYPE, m->head_dim));
    f->pages = sl_layout_place(&l, (size_t)m->kv_heads * KINDS * f->page_count * sizeof *f->pages);
    f->page_memory = sl_layout_place(&l, (size_t)m->kv_heads * KINDS * f->page_count * f->page_bytes);
    f->thread_bytes = sl_layout_round(sl_attention_scratch_bytes(m->head_dim, m->heads / m->kv_heads));
    f->thread_memory = sl_layout_place(&l, threads * f->thread_bytes);
    return l.used;
}

uint64_t sli_forward_price(const sl_model *model, unsigned threads)
{
    sli_forward unused;
    return sl_pages_round(place(&unused, model, threads, NULL));
}

static void fill_rope_table(sli_forward *f, uint32_t table, const double *steps)
{
    uint32_t half = f->model->rope_dim / 2;
    for (uint32_t row = 0; row < f->chunk; row++)
        for (uint32_t i = 0; i < half; i++) {
            size_t at = ((size_t)table * f->chunk + row) * half + i;
            double sine, cosine;
            sl_sincos((double)row * steps[(size_t)table * half + i], &sine, &cosine);
            f->rope_cos[at] = (float)(cosine * f->model->rope_magnitude);
            f->rope_sin[at] = (float)(sine * f->model->rope_magnitude);
        }
}

sl_status sli_forward_create(const sl_model *model, const sl_kernels *kernels, sl_threads *threads, const sli_linear *linear,
                             const float *rope_factors, sli_forward *out, sl_error *err)
{
    *out = (sli_forward){.model = model, .kernels = kernels, .threads = threads, .linear = linear};
    out->arena_bytes = place(out, model, sl_threads_count(threads), NULL);
    out->arena = sl_pages_alloc(out->arena_bytes);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a chunk's activations");
    place(out, model, sl_threads_count(threads), out->arena);
    for (size_t i = 0; i < (size_t)model->kv_heads * KINDS * out->page_count; i++)
        out->pages[i] = out->page_memory + i * out->page_bytes;
    double steps[2 * SL_HEAD_DIM_MAX / 2]; /* two tables at most */
    SL_TRY(sl_rope_steps(model, rope_factors, "the model", steps, err));
    for (uint32_t table = 0; table < sl_model_rope_tables(model); table++)
        fill_rope_table(out, table, steps);
    return SL_OK;
}

void sli_forward_free(sli_forward *f)
{
    sl_pages_free(f->arena, f->arena_bytes);
    f->arena = NULL;
}

/* ---- operations ---- */

typedef struct job {
    const sli_forward *f;
    const sl_op *op;
    uint32_t rows, width;
    atomic_uint next_task;
} job;

static const uint8_t *const *pages_of(const sli_forward *f, uint32_t head, int kind)
{
    return f->pages + ((size_t)head * KINDS + (unsigned)kind) * f->page_count;
}

/* Floats of a buffer's row by now: a layer may have lost neurons. */
static uint32_t width_of(const sli_forward *f, sl_buffer b)
{
    return b == SL_BUF_GATE || b == SL_BUF_UP ? f->layer->ff : sl_model_width(f->model, b);
}

static void norm_heads(const sli_forward *f, const float *weight, float *x, size_t width)
{
    for (size_t at = 0; at < width; at += f->model->head_dim)
        f->kernels->rms_norm(x + at, weight, f->model->head_dim, f->model->norm_eps, x + at);
}

static void turn_row(const job *j, float *x, uint32_t row)
{
    const sl_model *m = j->f->model;
    size_t at = ((size_t)sl_model_rope_table(m, j->f->layer->index) * j->f->chunk + row) * (m->rope_dim / 2);
    j->f->kernels->rope(m->arch->rope_halves ? SL_ROPE_HALVES : SL_ROPE_PAIRS, x, j->op->dst == SL_BUF_Q ? m->heads : m->kv_heads,
                        m->head_dim, m->rope_dim, j->f->rope_cos + at, j->f->rope_sin + at);
}

/* NULL: the layer has none. */
static const float *bias_of(const sli_forward *f, const sl_op *op)
{
    return sl_model_tensor(f->model, op->bias, f->layer->index) != NULL ? f->layer->at[op->bias] : NULL;
}

static void run_row(const job *j, uint32_t row)
{
    const sli_forward *f = j->f;
    const sl_model *m = f->model;
    const float *weight = j->op->weight != SL_ROLE_NONE ? f->layer->at[j->op->weight] : NULL;
    float *dst = f->buffers[j->op->dst] + (size_t)row * j->width;
    const float *src = f->buffers[j->op->src] + (size_t)row * j->width;
    switch (j->op->kind) {
    case SL_OP_RMS_NORM: f->kernels->rms_norm(src, weight, j->width, m->norm_eps, dst); break;
    case SL_OP_LAYER_NORM: f->kernels->layer_norm(src, weight, bias_of(f, j->op), j->width, m->norm_eps, dst); break;
    case SL_OP_HEAD_NORM: norm_heads(f, weight, dst, j->width); break;
    case SL_OP_RELU: f->kernels->relu(dst, j->width); break;
    case SL_OP_GLU:
        f->kernels->glu(m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH, src,
                        f->buffers[SL_BUF_UP] + (size_t)row * j->width, j->width, dst);
        break;
    case SL_OP_ADD: f->kernels->add(dst, src, j->width); break;
    case SL_OP_ROPE: turn_row(j, dst, row); break;
    case SL_OP_END:
    case SL_OP_MATMUL:
    case SL_OP_ATTENTION: break;
    }
}

static void run_share(void *arg, unsigned index, unsigned count)
{
    const job *j = arg;
    uint32_t end = (uint32_t)((uint64_t)j->rows * (index + 1) / count);
    for (uint32_t row = (uint32_t)((uint64_t)j->rows * index / count); row < end; row++)
        run_row(j, row);
}

static void store_share(void *arg, unsigned index, unsigned count)
{
    const job *j = arg;
    const sli_forward *f = j->f;
    const sl_model *m = f->model;
    for (uint32_t head = index; head < m->kv_heads; head += count)
        for (uint32_t row = 0; row < j->rows; row++) {
            size_t at = ((size_t)row * m->kv_heads + head) * m->head_dim;
            uint8_t *k = (uint8_t *)(uintptr_t)pages_of(f, head, KEYS)[row / SL_KV_PAGE]; /* the memory is ours */
            uint8_t *v = (uint8_t *)(uintptr_t)pages_of(f, head, VALUES)[row / SL_KV_PAGE];
            f->kernels->kv_store_k(KV_TYPE, k, row % SL_KV_PAGE, f->buffers[SL_BUF_K] + at, m->head_dim);
            f->kernels->kv_store_v(KV_TYPE, v, row % SL_KV_PAGE, f->buffers[SL_BUF_V] + at, m->head_dim);
        }
}

static void attend(const job *j, uint32_t head, uint32_t first, uint32_t rows, unsigned thread)
{
    const sli_forward *f = j->f;
    const sl_model *m = f->model;
    uint32_t group = m->heads / m->kv_heads;
    size_t stride = (size_t)m->heads * m->head_dim, at = first * stride + (size_t)head * group * m->head_dim;
    sl_attention work = {.head_dim = m->head_dim,
                         .group = group,
                         .rows = rows,
                         .pos0 = first,
                         .window = sl_model_window(m, f->layer->index),
                         .scale = m->attention_scale,
                         .k_type = KV_TYPE,
                         .v_type = KV_TYPE,
                         .k_pages = pages_of(f, head, KEYS),
                         .v_pages = pages_of(f, head, VALUES),
                         .q = f->buffers[j->op->src] + at,
                         .q_stride = stride,
                         .out = f->buffers[j->op->dst] + at,
                         .out_stride = stride,
                         .scratch = (float *)(void *)(f->thread_memory + thread * f->thread_bytes)};
    f->kernels->attention(&work);
}

static void attend_share(void *arg, unsigned index, unsigned count)
{
    job *j = arg;
    uint32_t heads = j->f->model->kv_heads, pieces = (j->rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    (void)count;
    for (;;) {
        uint32_t task = atomic_fetch_add_explicit(&j->next_task, 1, memory_order_relaxed);
        if (task >= heads * pieces)
            return;
        uint32_t first = (pieces - 1 - task / heads) * ATTENTION_ROWS;
        attend(j, task % heads, first, j->rows - first < ATTENTION_ROWS ? j->rows - first : ATTENTION_ROWS, index);
    }
}

static void run_product(const sli_forward *f, const sl_op *op, uint32_t rows)
{
    uint32_t m = sli_layer_rows(f->layer, op->weight), n = sli_layer_cols(f->layer, op->weight);
    const float *bias = bias_of(f, op);
    float *out = f->buffers[op->dst];
    sli_linear_multiply(f->linear, rows, m, n, 1.0f, (sli_factor){f->buffers[op->src], n, false},
                        (sli_factor){f->layer->at[op->weight], n, true}, 0.0f, out, m);
    for (uint32_t row = 0; bias != NULL && row < rows; row++)
        f->kernels->add(out + (size_t)row * m, bias, m);
}

sl_status sli_forward_run(sli_forward *f, uint32_t first, uint32_t end, uint32_t rows, sl_error *err)
{
    const sl_op *ops = f->model->arch->layer;
    for (uint32_t i = first; i < end; i++) {
        job j = {.f = f, .op = &ops[i], .rows = rows, .width = width_of(f, ops[i].dst)};
        bool shared = i > first && ops[i - 1].kind == SL_OP_MATMUL && ops[i - 1].src == ops[i].src;
        if (ops[i].kind == SL_OP_MATMUL && f->see != NULL && !shared)
            SL_TRY(f->see(f->see_ctx, ops[i].weight, f->buffers[ops[i].src], rows, err));
        if (ops[i].kind == SL_OP_MATMUL) {
            run_product(f, &ops[i], rows);
        } else if (ops[i].kind == SL_OP_ATTENTION) {
            sl_threads_run(f->threads, store_share, &j);
            sl_threads_run(f->threads, attend_share, &j);
        } else {
            sl_threads_run(f->threads, run_share, &j);
        }
    }
    return SL_OK;
}

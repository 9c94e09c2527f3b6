/* offload/scratch.c: the activations of a pass and each thread's working memory, one arena whose size is known beforehand.
 *
 * Query, key, value and attended heads live only in the first half of a layer, gate and up only in the second, so they share memory. */
#include "core/layout.h"
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/ffn_bundled.h"

#include <string.h>

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The two halves of a layer, over the same memory; leaves l->used behind the larger one. */
static void lay_halves(sl_layout *l, const sl_model *model, size_t rows, float *buffers[])
{
    static const sl_buffer halves[2][5] = {{SL_BUF_Q, SL_BUF_K, SL_BUF_V, SL_BUF_ATTENDED, SL_BUF_COUNT},
                                           {SL_BUF_GATE, SL_BUF_UP, SL_BUF_COUNT, SL_BUF_COUNT, SL_BUF_COUNT}};
    size_t start = l->used, end = start;
    for (int half = 0; half < 2; half++) {
        l->used = start;
        for (const sl_buffer *b = halves[half]; *b != SL_BUF_COUNT; b++)
            buffers[*b] = sl_layout_place(l, rows * sl_model_width(model, *b) * sizeof(float));
        end = max_size(end, l->used);
    }
    l->used = end;
}

/* Rows of the embedding, or of learned positions, that are read at once. */
static size_t read_rows_bytes(const sl_model *model)
{
    const sl_gguf_tensor *positions = sl_model_tensor(model, SL_ROLE_POSITION_EMBD, 0);
    size_t token = sl_row_bytes(sl_model_tensor(model, SL_ROLE_TOKEN_EMBD, 0)->type, model->d);
    return SLI_EMBED_READS * max_size(token, positions == NULL ? 0 : sl_row_bytes(positions->type, model->d));
}

/* The most that products of one source give for a row, in a layer or in the head. */
static size_t widest_group(const sl_model *model)
{
    size_t widest = 0;
    for (int program = 0; program < 2; program++) {
        const sl_op *ops = program == 0 ? model->arch->layer : model->arch->head;
        size_t width = 0;
        for (uint32_t i = 0; ops[i].kind != SL_OP_END; i++) {
            bool follows = i > 0 && ops[i - 1].kind == SL_OP_MATMUL && ops[i].kind == SL_OP_MATMUL && ops[i - 1].src == ops[i].src;
            width = ops[i].kind == SL_OP_MATMUL ? (follows ? width : 0) + sl_model_width(model, ops[i].dst) : 0;
            widest = max_size(widest, width);
        }
    }
    return widest;
}

/* Of what the processor computes beside a device: sources, quantised too, results, and each thread's memory. */
static void lay_out_beside(sl_layout *l, const sl_model *model, const sli_scratch_shape *shape, sli_scratch *s)
{
    size_t widest = max_size(max_size(model->d, model->ff), sl_model_width(model, SL_BUF_Q));
    size_t rows = shape->batch < SLI_BESIDE_ROWS ? shape->batch : SLI_BESIDE_ROWS;
    s->beside_rows = (uint32_t)rows;
    s->beside_src = sl_layout_place(l, rows * widest * sizeof(float));
    s->beside_out = sl_layout_place(l, rows * widest_group(model) * sizeof(float));
    s->acts.q = sl_layout_place(l, rows * widest);
    s->acts.d = sl_layout_place(l, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(float));
    s->acts.sum = sl_layout_place(l, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(int32_t));
    s->thread_bytes = max_size(SLI_PACK_PANELS * ((shape->largest_panel_bytes + 63) & ~(size_t)63), SLI_BESIDE_THREAD_BYTES);
    s->thread_bytes = (s->thread_bytes + 4095) & ~(size_t)4095;
    s->thread_memory = sl_layout_place(l, s->thread_bytes * shape->threads);
}

/* Coarse sets on a device: they go there, and what its neurons did comes back. */
static void lay_out_sets(sl_layout *l, const sl_model *model, const sli_scratch_shape *shape, sli_scratch *s)
{
    bool coarse = shape->device_sparsity == SL_SPARSITY_COARSE;
    s->device_seen = sl_layout_place(l, coarse ? (size_t)shape->batch * model->ff * sizeof *s->device_seen : 0);
    s->device_members = sl_layout_place(l, coarse ? (size_t)model->layers * model->ff * sizeof *s->device_members : 0);
    s->device_holders = sl_layout_place(l, coarse ? (size_t)model->layers * model->ff * sizeof *s->device_holders : 0);
    s->device_far = sl_layout_place(l, coarse ? (size_t)model->layers * model->ff * sizeof *s->device_far : 0);
}

/* What goes to the device and comes back; its own memory holds the rest. */
static void lay_out_for_device(sl_layout *l, const sl_model *model, const sli_scratch_shape *shape, sli_scratch *s)
{
    size_t rows = shape->batch, rope_bytes = sl_model_rope_tables(model) * rows * model->rope_dim / 2 * sizeof(float);
    s->buffers[SL_BUF_RESIDUAL] = sl_layout_place(l, rows * model->d * sizeof(float));
    s->buffers[SL_BUF_LOGITS] = sl_layout_place(l, (size_t)shape->logits_rows * model->vocab * sizeof(float));
    s->rope_cos = sl_layout_place(l, rope_bytes);
    s->rope_sin = sl_layout_place(l, rope_bytes);
    s->device_pass = sl_layout_place(l, sizeof *s->device_pass);
    s->embed_rows = sl_layout_place(l, read_rows_bytes(model));
    lay_out_beside(l, model, shape, s);
    lay_out_sets(l, model, shape, s);
}

static void lay_out(sl_layout *l, const sl_model *model, const sli_scratch_shape *shape, sli_scratch *s)
{
    size_t rows = shape->batch;
    if (shape->device) {
        lay_out_for_device(l, model, shape, s);
        return;
    }
    size_t widest = max_size(max_size(model->d, model->ff), sl_model_width(model, SL_BUF_Q));
    s->buffers[SL_BUF_RESIDUAL] = sl_layout_place(l, rows * model->d * sizeof(float));
    s->buffers[SL_BUF_NORMED] = sl_layout_place(l, rows * model->d * sizeof(float));
    lay_halves(l, model, rows, s->buffers);
    s->buffers[SL_BUF_LOGITS] = sl_layout_place(l, (size_t)shape->logits_rows * model->vocab * sizeof(float));
    s->acts.q = sl_layout_place(l, rows * widest);
    s->acts.d = sl_layout_place(l, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(float));
    s->acts.sum = sl_layout_place(l, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(int32_t));
    size_t rope_bytes = sl_model_rope_tables(model) * rows * model->rope_dim / 2 * sizeof(float);
    s->rope_cos = sl_layout_place(l, rope_bytes);
    s->rope_sin = sl_layout_place(l, rope_bytes);
    s->embed_rows = sl_layout_place(l, read_rows_bytes(model));
    s->thread_bytes = max_size(SLI_PACK_PANELS * ((shape->largest_panel_bytes + 63) & ~(size_t)63),
                               sl_attention_scratch_bytes(model->head_dim, model->heads / model->kv_heads) + shape->attend_bytes);
    if (shape->bundled)
        s->thread_bytes = max_size(s->thread_bytes, sli_bundled_thread_bytes(shape->batch, shape->largest_panel_bytes));
    s->plain_at = (s->thread_bytes + 63) & ~(size_t)63;
    s->thread_bytes = s->plain_at + shape->plain_bytes;
    s->thread_bytes = (s->thread_bytes + 4095) & ~(size_t)4095;
    s->thread_memory = sl_layout_place(l, s->thread_bytes * shape->threads);
}

static size_t size_of(const sl_model *model, const sli_scratch_shape *shape)
{
    sl_layout l = {0};
    sli_scratch unused = {0};
    lay_out(&l, model, shape, &unused);
    return l.used;
}

uint64_t sli_scratch_price(const sl_model *model, const sli_scratch_shape *shape)
{
    return sl_pages_round(size_of(model, shape));
}

sl_status sli_scratch_create(const sl_model *model, const sli_scratch_shape *shape, sli_scratch *out, sl_error *err)
{
    memset(out, 0, sizeof *out);
    out->arena_bytes = size_of(model, shape);
    out->arena = sl_pages_alloc(out->arena_bytes);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu bytes of activations", out->arena_bytes);
    sl_layout l = {.base = out->arena};
    lay_out(&l, model, shape, out);
    return SL_OK;
}

void sli_scratch_free(sli_scratch *scratch)
{
    if (scratch->arena != NULL)
        sl_pages_free(scratch->arena, scratch->arena_bytes);
    memset(scratch, 0, sizeof *scratch);
}

/* offload/device_pass.c: runs the programs of a pass on a device. See device_engine.h.
 *
 * The programs are those that executor.c runs (core/model.h), and the kernels' arithmetic is that of the processor's (kernels/device.h), so that logits are
 * the same bit for bit. Norms of heads, rotary turns and the store of keys and values are one kernel's here, run where attention stands. A launch costs as much as
 * a small kernel takes: so who makes a source of products quantises it, and a product adds to the residual what would be added to it next. */
#include "offload/device_engine.h"
#include "offload/ffn.h"

#include <string.h>

typedef struct device_pass {
    sl_engine *engine;
    sli_device *device;
    const sli_device_rows *rows;
    uint32_t row_count;           /* of the program that runs */
    uint32_t first_row;           /* of them, in the residual */
    sl_device_ptr q_norm, k_norm; /* of this layer; 0: none */
    uint32_t positions;           /* no row sees more */
    bool captured;                /* what is given goes into a graph */
    sl_device_ptr quantized;      /* the source that memory.q, d and sum have; 0: none that is known */
} device_pass;

/* ---- products ---- */

static sl_device_ptr buffer_of(const device_pass *p, sl_buffer b)
{
    uint64_t offset = (uint64_t)p->first_row * p->engine->model->d * sizeof(float);
    return p->device->memory.buffers[b] + (b == SL_BUF_RESIDUAL ? offset : 0);
}

sl_device_ptr sli_device_vector(const sl_engine *e, uint32_t entry, bool bias)
{
    const float *at = e->vector_at[entry * 2 + bias];
    return at == NULL ? 0 : e->device->memory.vectors + (uint64_t)((const uint8_t *)at - (const uint8_t *)e->vectors);
}

static sl_device_ptr vector_of(const device_pass *p, uint32_t entry, bool bias)
{
    return sli_device_vector(p->engine, entry, bias);
}

/* Products that were gathered, and the places in the ring that they read. */
typedef struct product_list {
    sl_device_product products[SL_DEVICE_PRODUCTS];
    sl_ticket tickets[SL_DEVICE_PRODUCTS];
    uint32_t count, ticket_count;
} product_list;

static sl_status multiply(const device_pass *p, product_list *list, const sl_device_acts *x, sl_error *err)
{
    sl_device *device = p->device->device;
    uint32_t count = list->count, tickets = list->ticket_count;
    list->count = list->ticket_count = 0;
    if (atomic_load_explicit(&p->engine->interrupted, memory_order_relaxed))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    if (count > 0)
        SL_TRY(device->kernels->matmul(device, list->products, count, x, err));
    for (uint32_t i = 0; i < tickets; i++)
        SL_TRY(sl_vram_done(p->device->vram, list->tickets[i], err));
    return SL_OK;
}

static sl_status add_unit(const device_pass *p, const sli_matrix *m, uint32_t i, sl_device_product product, product_list *list,
                          const sl_device_acts *x, sl_error *err)
{
    sli_fetched fetched;
    bool wait;
    SL_TRY(sli_device_look_ahead(p->engine, m->first_unit + i, &wait, err));
    if (wait || list->count == SL_DEVICE_PRODUCTS)
        SL_TRY(multiply(p, list, x, err));
    SL_TRY(sli_device_fetch(p->engine, m, i, &fetched, err));
    product.panels = fetched.panels;
    list->products[list->count++] = product;
    if (fetched.in_ring)
        list->tickets[list->ticket_count++] = fetched.ticket;
    /* What only passes by is multiplied before the next one comes. */
    return fetched.panels == p->device->memory.panels ? multiply(p, list, x, err) : SL_OK;
}

/* `out`: of the whole matrix; `add`: the same, where results are added to what is there, or 0. */
static sl_status add_matrix(const device_pass *p, sl_device_ptr out, sl_device_ptr add, uint32_t entry, product_list *list,
                            const sl_device_acts *x, sl_error *err)
{
    const sli_matrix *m = &p->engine->units.matrices[entry];
    sl_device_ptr bias = vector_of(p, entry, true);
    for (uint32_t i = 0; i < m->unit_count; i++) {
        uint32_t first = i * m->rows_per_unit;
        sl_device_product product = {.type = m->type,
                                     .rows = sli_unit_rows(m, i),
                                     .out = out + first * sizeof(float),
                                     .add = add == 0 ? 0 : add + first * sizeof(float),
                                     .bias = bias == 0 ? 0 : bias + first * sizeof(float),
                                     .out_stride = m->rows};
        if (!p->device->by_cpu[m->first_unit + i])
            SL_TRY(add_unit(p, m, i, product, list, x, err));
    }
    return SL_OK;
}

/* Whether `after` adds to the residual what `op` gives, which nobody else reads. */
static bool is_added(const sl_op *op, const sl_op *after)
{
    return after->kind == SL_OP_ADD && after->src == op->dst && after->dst == SL_BUF_RESIDUAL && op->dst == SL_BUF_NORMED;
}

/* The product at `index` and those behind it that share its source, and an addition behind a single one; *run says how many. */
static sl_status run_products(device_pass *p, const sl_op *ops, uint32_t index, uint32_t first_entry, uint32_t *run, sl_error *err)
{
    const sli_matrix *matrices = p->engine->units.matrices + first_entry;
    const sli_device_memory *memory = &p->device->memory;
    sl_device_acts x = {p->row_count, matrices[index].cols, buffer_of(p, ops[index].src), memory->q, memory->d, memory->sum};
    sli_beside beside = {.matrices = &matrices[index], .src = x.f32, .rows = p->row_count};
    product_list list = {.count = 0};
    bool quantized = false;
    for (uint32_t i = index; ops[i].kind == SL_OP_MATMUL && ops[i].src == ops[index].src && beside.count < SLI_PRODUCTS_MAX; i++) {
        quantized |= sl_format_of(matrices[i].type)->quantized;
        beside.bias[beside.count] = p->engine->vector_at[(first_entry + i) * 2 + 1];
        beside.dst[beside.count++] = buffer_of(p, ops[i].dst);
    }
    SL_TRY(sli_beside_begin(p->engine, &beside, err));
    bool added = beside.count == 1 && !beside.takes_part && is_added(&ops[index], &ops[index + 1]);
    *run = beside.count + added;
    if (quantized && p->quantized != x.f32)
        SL_TRY(p->device->device->kernels->quantize(p->device->device, &x, err));
    p->quantized = 0; /* what is given may be written to it */
    for (uint32_t i = index; i < index + beside.count; i++) {
        sl_device_ptr sum = added ? buffer_of(p, SL_BUF_RESIDUAL) : 0;
        SL_TRY(add_matrix(p, added ? sum : buffer_of(p, ops[i].dst), sum, first_entry + i, &list, &x, err));
    }
    SL_TRY(multiply(p, &list, &x, err));
    return sli_beside_finish(p->engine, &beside, err);
}

/* ---- attention ---- */

static uint32_t slots_of(const sli_device_rows *r)
{
    return r->pos0 + r->first + r->rows;
}

static sl_status attend(const device_pass *p, const sl_op *op, uint32_t layer, const sl_device_acts *acts, sl_error *err)
{
    const sl_model *m = p->engine->model;
    const sli_device_memory *memory = &p->device->memory;
    const sl_device_kernels *kernels = p->device->device->kernels;
    uint64_t turns = ((uint64_t)sl_model_rope_table(m, layer) * p->rows->rows + p->first_row) * (m->rope_dim / 2) * sizeof(float);
    sl_device_ptr pass = memory->pass + p->first_row * SL_DEVICE_PASS_BYTES; /* of a tree first_row is 0 */
    sl_device_heads heads = {.rows = p->row_count,
                             .heads = m->heads,
                             .kv_heads = m->kv_heads,
                             .head_dim = m->head_dim,
                             .rope_dim = m->rope_dim,
                             .rope = m->arch->rope_halves ? SL_ROPE_HALVES : SL_ROPE_PAIRS,
                             .eps = m->norm_eps,
                             .q = memory->buffers[SL_BUF_Q],
                             .k = memory->buffers[SL_BUF_K],
                             .v = memory->buffers[SL_BUF_V],
                             .q_norm = p->q_norm,
                             .k_norm = p->k_norm,
                             .rope_cos = memory->rope_cos + turns,
                             .rope_sin = memory->rope_sin + turns,
                             .pass = pass,
                             .kv = sli_device_kv_at(p->engine, layer),
                             .key_rows = sli_device_key_rows_of(p->engine, layer)};
    sl_device_attention attention = {.rows = p->row_count,
                                     .heads = m->heads,
                                     .kv_heads = m->kv_heads,
                                     .head_dim = m->head_dim,
                                     .window = sl_model_window(m, layer),
                                     .positions = p->positions,
                                     .scale = m->attention_scale,
                                     .q = buffer_of(p, op->src),
                                     .out = buffer_of(p, op->dst),
                                     .pass = pass,
                                     .scratch = memory->attention,
                                     .acts = acts};
    SL_TRY(sli_device_kv_store(p->engine, layer, &heads.kv, err));
    SL_TRY(kernels->heads(p->device->device, &heads, err));
    return sli_device_attend(p->engine, p->rows, layer, &attention, err);
}

/* ---- the program ---- */

/* Whether a matrix takes its source quantised. */
static bool takes_quantized(const device_pass *p, const sli_matrix *m, uint32_t layer)
{
    const sl_packed_layer *packed = m->bundles ? sli_bundled_layer_at(p->engine->packed, layer) : NULL;
    return sl_format_of(packed != NULL ? packed->gate_type : m->type)->quantized ||
           (packed != NULL && sl_format_of(packed->up_type)->quantized);
}

/* Where what ops[i] gives is to be quantised at once, for products behind it. False: nobody wants that. */
static bool find_acts(const device_pass *p, const sl_op *ops, uint32_t i, uint32_t first_entry, uint32_t layer, sl_device_acts *out)
{
    const sli_matrix *matrices = p->engine->units.matrices + first_entry;
    const sli_device_memory *memory = &p->device->memory;
    bool maker = ops[i].kind == SL_OP_RMS_NORM || ops[i].kind == SL_OP_GLU || ops[i].kind == SL_OP_ATTENTION, wanted = false;
    for (uint32_t n = i + 1; maker && ops[n].kind == SL_OP_MATMUL && ops[n].src == ops[i].dst; n++)
        wanted |= takes_quantized(p, &matrices[n], layer);
    *out = (sl_device_acts){p->row_count, sl_model_width(p->engine->model, ops[i].dst), buffer_of(p, ops[i].dst), memory->q, memory->d,
                            memory->sum};
    return wanted;
}

/* acts: find_acts, or NULL. */
static sl_status run_op(device_pass *p, const sl_op *op, uint32_t entry, uint32_t layer, const sl_device_acts *acts, sl_error *err)
{
    const sl_model *m = p->engine->model;
    sl_device *device = p->device->device;
    uint32_t width = sl_model_width(m, op->dst);
    sl_device_ptr weight = vector_of(p, entry, false), dst = buffer_of(p, op->dst), src = buffer_of(p, op->src);
    switch (op->kind) {
    case SL_OP_RMS_NORM: {
        sl_device_norm norm = {p->row_count, width, m->norm_eps, src, weight, dst, acts};
        return device->kernels->rms_norm(device, &norm, err);
    }
    case SL_OP_HEAD_NORM: *(op->dst == SL_BUF_Q ? &p->q_norm : &p->k_norm) = weight; return SL_OK;
    case SL_OP_GLU: {
        sl_glu act = m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH;
        sl_device_glu glu = {act, p->row_count, width, src, buffer_of(p, SL_BUF_UP), dst, acts};
        return device->kernels->glu(device, &glu, err);
    }
    case SL_OP_ADD: return device->kernels->add(device, dst, src, (uint64_t)p->row_count * width, err);
    case SL_OP_ATTENTION: return attend(p, op, layer, acts, err);
    case SL_OP_LAYER_NORM: /* of models that are refused when a device is chosen */
    case SL_OP_RELU: break;
    case SL_OP_ROPE: /* with attention */
    case SL_OP_MATMUL:
    case SL_OP_END: return SL_OK;
    }
    return SL_INTERNAL;
}

/* The feed-forward of a bundled layer, and an addition behind it; *run says how many operations that is. */
static sl_status run_bundled(device_pass *p, const sl_op *ops, const sli_matrix *bundles, uint32_t layer, uint32_t *run, sl_error *err)
{
    bool added = is_added(&ops[SLI_FFN_DOWN], &ops[SLI_FFN_OPS]);
    const sl_model *m = p->engine->model;
    if (atomic_load_explicit(&p->engine->interrupted, memory_order_relaxed))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    sli_device_ffn ffn = {.bundles = bundles,
                          .layer = layer,
                          .rows = p->row_count,
                          .sparse = p->rows->sparse,
                          .act = m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH,
                          .add = added,
                          .src = buffer_of(p, ops[SLI_FFN_GATE].src),
                          .dst = buffer_of(p, added ? SL_BUF_RESIDUAL : ops[SLI_FFN_DOWN].dst)};
    /* Rows that have a set each use the same memory one after the other. */
    ffn.quantized = p->quantized == ffn.src && (!ffn.sparse || ffn.rows == 1 || p->engine->sparsity.mode != SL_SPARSITY_FINE);
    p->quantized = 0;
    *run = SLI_FFN_OPS + added;
    return sli_device_ffn_run(p->engine, &ffn, err);
}

static sl_status run_program(device_pass *p, const sl_op *ops, uint32_t layer, uint32_t first_entry, sl_error *err)
{
    const sli_matrix *matrices = p->engine->units.matrices + first_entry;
    p->q_norm = p->k_norm = p->quantized = 0;
    for (uint32_t i = 0, run = 1; ops[i].kind != SL_OP_END; i += run) {
        sl_device_acts acts;
        run = 1;
        if (matrices[i].bundles)
            SL_TRY(run_bundled(p, &ops[i], &matrices[i], layer, &run, err));
        else if (ops[i].kind == SL_OP_MATMUL)
            SL_TRY(run_products(p, ops, i, first_entry, &run, err));
        else {
            bool quantizes = find_acts(p, ops, i, first_entry, layer, &acts);
            SL_TRY(run_op(p, &ops[i], first_entry + i, layer, quantizes ? &acts : NULL, err));
            p->quantized = quantizes ? acts.f32 : 0;
        }
    }
    return SL_OK;
}

static void write_inputs(const device_pass *p)
{
    sl_device_pass *pass = p->engine->scratch.device_pass;
    *pass = (sl_device_pass){.pos0 = p->rows->pos0, .first = p->rows->first, .tree = p->rows->tree != NULL};
    if (p->rows->tree != NULL) {
        memcpy(pass->depth, p->rows->tree->depth, sizeof pass->depth);
        memcpy(pass->path, p->rows->tree->path, sizeof pass->path);
    }
}

sl_status sli_device_send_tables(sl_engine *e, uint32_t rows, size_t pass_bytes, sl_error *err)
{
    const sl_model *m = e->model;
    const sli_scratch *s = &e->scratch;
    const sli_device_memory *memory = &e->device->memory;
    sl_device *device = e->device->device;
    size_t rope = (size_t)sl_model_rope_tables(m) * rows * (m->rope_dim / 2) * sizeof(float);
    SL_TRY(device->ops->copy_in(device, SL_STREAM_COMPUTE, memory->rope_cos, s->rope_cos, rope, err));
    SL_TRY(device->ops->copy_in(device, SL_STREAM_COMPUTE, memory->rope_sin, s->rope_sin, rope, err));
    SL_TRY(device->ops->copy_in(device, SL_STREAM_COMPUTE, memory->pass, s->device_pass, pass_bytes, err));
    e->device->inputs_wanted = true;
    return SL_OK;
}

static sl_status copy_inputs(const device_pass *p, sl_error *err)
{
    sl_device *device = p->device->device;
    size_t bytes = (size_t)p->rows->rows * p->engine->model->d * sizeof(float);
    SL_TRY(device->ops->copy_in(device, SL_STREAM_COMPUTE, p->device->memory.buffers[SL_BUF_RESIDUAL],
                                p->engine->scratch.buffers[SL_BUF_RESIDUAL], bytes, err));
    SL_TRY(sli_device_send_tables(p->engine, p->rows->rows, sizeof(sl_device_pass), err));
    return p->captured ? SL_OK : device->ops->event_record(device, p->device->inputs, SL_STREAM_COMPUTE, err);
}

static sl_status run_layer(device_pass *p, uint32_t layer, sl_error *err)
{
    const sl_engine *e = p->engine;
    return run_program(p, e->model->arch->layer, layer, layer * e->units.layer_ops, err);
}

static sl_status run_head(device_pass *p, sl_error *err)
{
    const sl_model *m = p->engine->model;
    sl_device *device = p->device->device;
    p->row_count = p->rows->logits_rows;
    p->first_row = p->rows->rows - p->rows->logits_rows;
    SL_TRY(run_program(p, m->arch->head, 0, m->layers * p->engine->units.layer_ops, err));
    return device->ops->copy_out(device, SL_STREAM_COMPUTE, p->engine->scratch.buffers[SL_BUF_LOGITS],
                                 p->device->memory.buffers[SL_BUF_LOGITS], (size_t)p->row_count * m->vocab * sizeof(float), err);
}

/* From the inputs to the logits; nothing waits for them here. */
static sl_status give_all(device_pass *p, sl_error *err)
{
    sl_engine *e = p->engine;
    sl_device *device = p->device->device;
    SL_TRY(copy_inputs(p, err));
    for (uint32_t layer = 0; layer < e->model->layers; layer++)
        SL_TRY(run_layer(p, layer, err));
    if (p->rows->logits_rows > 0)
        return run_head(p, err);
    /* Tables of bundles were copied, too. */
    return e->packed == NULL ? SL_OK : device->ops->event_record(device, p->device->inputs, SL_STREAM_COMPUTE, err);
}

/* ---- graphs ---- */

/* What a token takes where nothing has to come and nobody else computes is the same work each time, but for its inputs, which lie in memory: it is captured
 * once and then given with a single call. Attention is told how many positions there are at most, so a text that grows is captured anew now and then. */
#define GRAPH_POSITIONS 256

static bool may_be_captured(const device_pass *p)
{
    const sli_device *d = p->device;
    const sli_device_rows *r = p->rows;
    bool alone = (d->order_count == 0 || d->ahead) && d->by_cpu_count == 0 && r->rows == 1 && r->logits_rows == 1 && r->tree == NULL;
    if (!alone || !d->device->attrs.graphs || d->graphs_failed || d->spill.kv != NULL || sli_device_pages_wants_index(p->engine, r) ||
        sli_device_sparq_wants_sums(p->engine, r))
        return false;
    for (uint32_t layer = 0; r->sparse && layer < p->engine->model->layers; layer++)
        if (!d->reachable[layer])
            return false;
    return r->sparse || p->engine->sparsity.mode != SL_SPARSITY_COARSE; /* those show the host what they see */
}

/* Captures go on where a call fails (V5): they are ended in any case. */
static sl_status capture(device_pass *p, sl_graph **out, sl_error *err)
{
    sl_device *device = p->device->device;
    sl_graph *graph = NULL;
    sl_error ignored;
    p->device->graphs_failed = true; /* until this one is through: one that fails is not tried again */
    SL_TRY(device->ops->graph_begin(device, err));
    p->captured = true;
    sl_status status = give_all(p, err);
    sl_status ended = device->ops->graph_end(device, &graph, status == SL_OK ? err : &ignored);
    status = status != SL_OK ? status : ended;
    p->device->graphs_failed = status != SL_OK;
    if (status == SL_OK)
        *out = graph;
    else
        device->ops->graph_destroy(device, graph);
    return status;
}

static sl_status give_graph(device_pass *p, sl_error *err)
{
    sli_device *d = p->device;
    sl_device *device = d->device;
    sli_device_graph *g = &d->graphs[p->rows->sparse + 2 * p->rows->sparq];
    uint32_t context = p->engine->context, positions = (p->positions + GRAPH_POSITIONS - 1) / GRAPH_POSITIONS * GRAPH_POSITIONS;
    p->positions = positions < context ? positions : context;
    if (g->is == NULL || g->positions != p->positions) {
        device->ops->graph_destroy(device, g->is);
        *g = (sli_device_graph){.positions = p->positions};
        SL_TRY(capture(p, &g->is, err));
    }
    d->inputs_wanted = true;
    return device->ops->graph_launch(device, g->is, err);
}

/* Where the last pass ended with logits there is nothing to wait for. */
sl_status sli_device_begin(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    if (d->inputs_wanted)
        SL_TRY(d->device->ops->event_wait(d->device, d->inputs, err));
    d->inputs_wanted = false;
    return SL_OK;
}

/* ---- passes ---- */

static device_pass pass_of(sl_engine *e, const sli_device_rows *rows, uint32_t first_row)
{
    return (device_pass){.engine = e,
                         .device = e->device,
                         .rows = rows,
                         .row_count = rows->rows - first_row,
                         .first_row = first_row,
                         .positions = slots_of(rows)};
}

sl_status sli_device_run_layer(sl_engine *e, const sli_device_rows *rows, uint32_t first_row, uint32_t layer, sl_error *err)
{
    device_pass p = pass_of(e, rows, first_row);
    return run_layer(&p, layer, err);
}

sl_status sli_device_run_head(sl_engine *e, const sli_device_rows *rows, sl_error *err)
{
    device_pass p = pass_of(e, rows, 0);
    return run_head(&p, err);
}

typedef struct pass_job {
    sl_engine *engine;
    const sli_device_rows *rows;
} pass_job;

static sl_status give_pass(void *ctx, sl_error *err)
{
    const pass_job *j = ctx;
    sl_engine *e = j->engine;
    sli_device *d = e->device;
    const sli_device_rows *rows = j->rows;
    device_pass p = pass_of(e, rows, 0);
    sli_beside_choose(e, rows->rows);
    if (rows->sparse || d->unsettled)
        SL_TRY(sli_device_follow(e, err));
    SL_TRY(sli_device_list(e, rows->logits_rows > 0, rows->sparse, err));
    SL_TRY(sli_device_sparq_begin(e, rows, err));
    SL_TRY(sli_device_late_begin(e, rows, err));
    write_inputs(&p);
    SL_TRY(may_be_captured(&p) ? give_graph(&p, err) : give_all(&p, err));
    SL_TRY(sli_device_spill_end(e, err));
    if (rows->sparse)
        SL_TRY(sli_device_list_ahead(e, err));
    if (rows->logits_rows == 0)
        return SL_OK;
    /* The only wait of a token, where all weights are at hand. */
    sl_status status = d->device->ops->synchronize(d->device, SL_STREAM_COMPUTE, err);
    d->inputs_wanted = status != SL_OK;
    return status;
}

static sl_status run_pass(void *ctx, sl_error *err)
{
    const pass_job *j = ctx;
    sl_status status = give_pass(ctx, err);
    if (status != SL_OK) {
        sli_device_sparq_undo(j->engine, j->rows);
        sli_device_late_undo(j->engine, j->rows);
    }
    return status;
}

static sl_status try_once(sl_engine *e, sli_device_pass_fn pass, void *ctx, sl_error *err)
{
    sl_status status = pass(ctx, err);
    if (status != SL_OK) {
        sli_device_settle(e);
        sli_device_spill_forget(e);
    }
    return status;
}

sl_status sli_device_try(sl_engine *e, sli_device_pass_fn pass, void *ctx, bool may_run_again, sl_error *err)
{
    sl_error reason = {0};
    sl_status status = try_once(e, pass, ctx, &reason);
    if ((status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY) && may_run_again) {
        sli_note(e, "%.300s: the pass is run again, now that the device is idle", reason.message);
        status = try_once(e, pass, ctx, &reason);
    }
    if (status != SL_OK && err != NULL)
        *err = reason;
    if (status == SL_DEVICE_LOST)
        return sl_fail(err, SL_DEVICE_LOST, "%s was lost: %.300s", e->device->device->attrs.name, reason.message);
    return status;
}

/* Evidence of coarse sets is added up as a pass goes: that is not done twice. */
static bool may_run_again(const sl_engine *e, const sli_device_rows *rows)
{
    return rows->sparse || e->sparsity.mode != SL_SPARSITY_COARSE;
}

sl_status sli_device_execute(sl_session *session, const sli_device_rows *rows, sl_error *err)
{
    sl_engine *e = session->engine;
    SL_TRY(sli_device_try(e, run_pass, &(pass_job){e, rows}, may_run_again(e, rows), err));
    bool counts = rows->sparse && e->sparsity.mode != SL_SPARSITY_OFF;
    for (uint32_t layer = 0; counts && layer < e->model->layers; layer++)
        for (uint32_t row = 0; row < rows->rows; row++)
            sli_sparsity_count(&e->sparsity, e->keep[layer]);
    sli_device_sparq_end(e, rows);
    return SL_OK;
}

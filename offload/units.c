/* offload/units.c: cuts a model's matrices into the units that the pager moves, in the order in which a pass uses them. */
#include "offload/engine.h"

#include <stdlib.h>
#include <string.h>

static uint32_t op_count(const sl_op *ops)
{
    uint32_t n = 0;
    while (ops[n].kind != SL_OP_END)
        n++;
    return n;
}

uint64_t sli_tensor_offset(const sl_packed *packed, const sl_gguf_tensor *tensor)
{
    return packed == NULL ? tensor->offset : sl_packed_locate(packed, tensor);
}

static void cut_into_units(sli_matrix *m, uint32_t unit_bytes)
{
    uint32_t panels = unit_bytes / (SL_PANEL_ROWS * m->row_bytes);
    m->rows_per_unit = SL_PANEL_ROWS * (panels == 0 ? 1 : panels);
    m->unit_count = (m->rows + m->rows_per_unit - 1) / m->rows_per_unit;
}

/* `rows` rows of a tensor, from `first` on. */
static sli_matrix matrix_of(const sl_packed *packed, const sl_gguf_tensor *tensor, uint32_t first, uint32_t rows, uint32_t unit_bytes)
{
    sli_matrix m = {.type = tensor->type,
                    .cols = (uint32_t)tensor->shape[0],
                    .rows = rows,
                    .row_bytes = (uint32_t)sl_row_bytes(tensor->type, tensor->shape[0])};
    m.file = tensor->file;
    m.offset = sli_tensor_offset(packed, tensor) + (uint64_t)first * m.row_bytes;
    cut_into_units(&m, unit_bytes);
    return m;
}

/* A bundled layer's gate stands for all three of its matrices: rows are bundles, and those of silent neurons are not there. */
static sli_matrix bundles_of(const sl_packed_layer *layer, uint32_t unit_bytes)
{
    sli_matrix m = {
        .type = layer->gate_type, .cols = layer->d, .rows = layer->stored, .row_bytes = layer->stride, .offset = layer->bundles_offset};
    m.bundles = true;
    cut_into_units(&m, unit_bytes);
    return m;
}

/* First round (units NULL): counts. Second round: fills. */
static void add_units(sli_units *u, sli_matrix *m)
{
    m->first_unit = u->count;
    for (uint32_t i = 0; i < m->unit_count; i++) {
        uint32_t first_row = i * m->rows_per_unit;
        uint32_t rows = m->rows - first_row < m->rows_per_unit ? m->rows - first_row : m->rows_per_unit;
        sl_unit unit = {.file = m->file, .bytes = rows * m->row_bytes, .offset = m->offset + (uint64_t)first_row * m->row_bytes};
        if (u->units != NULL)
            u->units[u->count] = unit;
        u->count++;
        u->bytes += unit.bytes;
        if (unit.bytes > u->largest_bytes)
            u->largest_bytes = unit.bytes;
    }
}

static void add_op(const sl_model *model, const sl_packed *packed, const sl_op *op, uint32_t layer, uint32_t unit_bytes, sli_units *u,
                   sli_matrix *m)
{
    if (op->kind != SL_OP_MATMUL)
        return;
    const sl_gguf_tensor *tensor = sl_model_tensor(model, op->weight, layer);
    const sl_packed_layer *bundled = sli_bundled_layer_at(packed, layer);
    uint32_t all_rows, first = sl_model_slice(model, op, &all_rows);
    size_t panel = sl_panel_bytes(tensor->type, tensor->shape[0]);
    if (panel > u->largest_panel_bytes)
        u->largest_panel_bytes = panel;
    if (bundled != NULL && op->weight == SL_ROLE_FFN_GATE)
        *m = bundles_of(bundled, unit_bytes);
    else if (bundled != NULL && (op->weight == SL_ROLE_FFN_UP || op->weight == SL_ROLE_FFN_DOWN))
        *m = (sli_matrix){.type = tensor->type, .cols = (uint32_t)tensor->shape[0], .rows = (uint32_t)tensor->shape[1]};
    else
        *m = matrix_of(packed, tensor, first, sl_model_width(model, op->dst), unit_bytes);
    add_units(u, m);
}

static void walk(const sl_model *model, const sl_packed *packed, uint32_t unit_bytes, sli_units *u)
{
    u->count = 0;
    u->bytes = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (uint32_t op = 0; op < u->layer_ops; op++)
            add_op(model, packed, &model->arch->layer[op], layer, unit_bytes, u, &u->matrices[layer * u->layer_ops + op]);
    u->body_count = u->count;
    for (uint32_t op = 0; op < u->head_ops; op++)
        add_op(model, packed, &model->arch->head[op], 0, unit_bytes, u, &u->matrices[model->layers * u->layer_ops + op]);
}

const sli_matrix *sli_units_bundles(const sl_model *model, const sl_packed *packed, const sli_units *u, uint32_t layer)
{
    for (uint32_t op = 0; sli_bundled_layer_at(packed, layer) != NULL && op < u->layer_ops; op++)
        if (model->arch->layer[op].weight == SL_ROLE_FFN_GATE)
            return sli_units_layer(u, layer, op);
    return NULL;
}

uint32_t sli_units_of_pass(const sl_model *model, const sl_packed *packed, const sli_units *u, bool bundles, bool head, sl_unit_id *order)
{
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++) {
        const sli_matrix *left_out = bundles ? NULL : sli_units_bundles(model, packed, u, layer);
        for (uint32_t op = 0; op < u->layer_ops; op++) {
            const sli_matrix *m = sli_units_layer(u, layer, op);
            for (uint32_t i = 0; i < m->unit_count && m != left_out; i++)
                order[n++] = m->first_unit + i;
        }
    }
    for (uint32_t i = u->body_count; head && i < u->count; i++)
        order[n++] = i;
    return n;
}

static void find_positions(const sl_model *model, const sl_packed *packed, sli_units *u)
{
    const sl_gguf_tensor *tensor = sl_model_tensor(model, SL_ROLE_POSITION_EMBD, 0);
    if (tensor == NULL)
        return;
    u->positions = matrix_of(packed, tensor, 0, model->context, SL_PANEL_ROWS);
    u->positions.unit_count = 0;
}

/* A tied embedding is the head's matrix and may be resident; else its rows are read from the file as they are needed. */
static void find_embedding(const sl_model *model, const sl_packed *packed, sli_units *u)
{
    const sl_gguf_tensor *tensor = sl_model_tensor(model, SL_ROLE_TOKEN_EMBD, 0);
    u->embedding = matrix_of(packed, tensor, 0, model->vocab, SL_PANEL_ROWS);
    u->embedding.unit_count = 0;
    for (uint32_t op = 0; op < u->head_ops; op++) {
        const sli_matrix *head = sli_units_head(u, model, op);
        if (head->unit_count > 0 && head->file == u->embedding.file && head->offset == u->embedding.offset)
            u->embedding = *head;
    }
}

sl_status sli_units_build(const sl_model *model, const sl_packed *packed, uint32_t unit_bytes, sli_units *out, sl_error *err)
{
    *out = (sli_units){.layer_ops = op_count(model->arch->layer), .head_ops = op_count(model->arch->head)};
    out->matrices = calloc((size_t)model->layers * out->layer_ops + out->head_ops, sizeof *out->matrices);
    if (out->matrices == NULL)
        goto fail;
    walk(model, packed, unit_bytes, out);
    out->units = calloc(out->count, sizeof *out->units);
    out->in_vram = calloc(out->count, sizeof *out->in_vram);
    if (out->units == NULL || out->in_vram == NULL)
        goto fail;
    walk(model, packed, unit_bytes, out);
    find_embedding(model, packed, out);
    find_positions(model, packed, out);
    return SL_OK;
fail:
    sli_units_free(out);
    return sl_fail(err, SL_NO_MEMORY, "out of memory for the table of units");
}

void sli_units_free(sli_units *units)
{
    free(units->matrices);
    free(units->units);
    free(units->in_vram);
    *units = (sli_units){0};
}

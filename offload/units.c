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

/* `rows` rows of a tensor, from `first` on. */
static sli_matrix matrix_of(const sl_gguf_tensor *tensor, uint32_t first, uint32_t rows, uint32_t unit_bytes)
{
    sli_matrix m = {.type = tensor->type,
                    .cols = (uint32_t)tensor->shape[0],
                    .rows = rows,
                    .row_bytes = (uint32_t)sl_row_bytes(tensor->type, tensor->shape[0])};
    m.offset = tensor->offset + (uint64_t)first * m.row_bytes;
    uint32_t panel_bytes = SL_PANEL_ROWS * m.row_bytes;
    uint32_t panels = unit_bytes / panel_bytes;
    m.rows_per_unit = SL_PANEL_ROWS * (panels == 0 ? 1 : panels);
    m.unit_count = (m.rows + m.rows_per_unit - 1) / m.rows_per_unit;
    return m;
}

/* First round (units NULL): counts. Second round: fills. */
static void add_matrix(sli_units *u, const sl_model *model, const sl_op *op, uint32_t layer, sli_matrix *m, uint32_t unit_bytes)
{
    uint32_t all_rows, first = sl_model_slice(model, op, &all_rows);
    *m = matrix_of(sl_model_tensor(model, op->weight, layer), first, sl_model_width(model, op->dst), unit_bytes);
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
    size_t panel = sl_panel_bytes(m->type, m->cols);
    if (panel > u->largest_panel_bytes)
        u->largest_panel_bytes = panel;
}

static void walk(const sl_model *model, uint32_t unit_bytes, sli_units *u)
{
    u->count = 0;
    u->bytes = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (uint32_t op = 0; op < u->layer_ops; op++)
            if (model->arch->layer[op].kind == SL_OP_MATMUL)
                add_matrix(u, model, &model->arch->layer[op], layer, &u->matrices[layer * u->layer_ops + op], unit_bytes);
    u->body_count = u->count;
    for (uint32_t op = 0; op < u->head_ops; op++)
        if (model->arch->head[op].kind == SL_OP_MATMUL)
            add_matrix(u, model, &model->arch->head[op], 0, &u->matrices[model->layers * u->layer_ops + op], unit_bytes);
}

/* A tied embedding is the head's matrix and may be resident; else its rows are read from the file as they are needed. */
static void find_embedding(const sl_model *model, sli_units *u)
{
    const sl_gguf_tensor *tensor = sl_model_tensor(model, SL_ROLE_TOKEN_EMBD, 0);
    u->embedding = matrix_of(tensor, 0, model->vocab, SL_PANEL_ROWS);
    u->embedding.unit_count = 0;
    for (uint32_t op = 0; op < u->head_ops; op++) {
        const sli_matrix *head = sli_units_head(u, model, op);
        if (head->unit_count > 0 && head->offset == tensor->offset)
            u->embedding = *head;
    }
}

sl_status sli_units_build(const sl_model *model, uint32_t unit_bytes, sli_units *out, sl_error *err)
{
    *out = (sli_units){.layer_ops = op_count(model->arch->layer), .head_ops = op_count(model->arch->head)};
    out->matrices = calloc((size_t)model->layers * out->layer_ops + out->head_ops, sizeof *out->matrices);
    if (out->matrices == NULL)
        goto fail;
    walk(model, unit_bytes, out);
    out->units = calloc(out->count, sizeof *out->units);
    if (out->units == NULL)
        goto fail;
    walk(model, unit_bytes, out);
    find_embedding(model, out);
    return SL_OK;
fail:
    sli_units_free(out);
    return sl_fail(err, SL_NO_MEMORY, "out of memory for the table of units");
}

void sli_units_free(sli_units *units)
{
    free(units->matrices);
    free(units->units);
    *units = (sli_units){0};
}

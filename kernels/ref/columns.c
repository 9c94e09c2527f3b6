/* kernels/ref/columns.c: products and panels of a matrix that is there by columns (D8); the definition in executable form. */
#include "kernels/columns.h"
#include "kernels/ref/decode.h"
#include "kernels/segments.h"

#include <math.h>

static const sli_segment_kernels by_segment = {sli_pack_ref, sli_matmul_ref};

/* Formats of one plane and blocks of 32, for which D8 is written out; the others go segment by segment. */
static bool is_written_out(uint32_t type)
{
    return type == SL_TYPE_Q4_0 || type == SL_TYPE_Q4_1 || type == SL_TYPE_Q8_0;
}

/* The raw integer of row `r` in a column: a byte, or a nibble (kernels/columns.h). */
static uint8_t raw_of_row(uint32_t type, const uint8_t *column, size_t r)
{
    if (type == SL_TYPE_Q8_0)
        return column[r];
    uint8_t byte = column[r / SL_COLUMN_GROUP * 16 + r % 16];
    return r % SL_COLUMN_GROUP < 16 ? byte & 15 : byte >> 4;
}

static int32_t integer_of_row(uint32_t type, const uint8_t *column, size_t r)
{
    uint8_t raw = raw_of_row(type, column, r);
    return type == SL_TYPE_Q8_0 ? (int8_t)raw : type == SL_TYPE_Q4_0 ? raw - 8 : raw;
}

/* One row; members of a block, and blocks of a segment, are neighbours in the list because it ascends. */
static float quantized_row(const sl_columns *w, const sl_acts *x, size_t r)
{
    bool has_min = sli_layout_of(w->type).has_min;
    float total = 0.0f, acc = 0.0f;
    for (size_t i = 0; i < w->count;) {
        size_t b = w->member[i] / SL_ACT_BLOCK;
        int32_t isum = 0;
        for (; i < w->count && w->member[i] / SL_ACT_BLOCK == b; i++)
            isum += integer_of_row(w->type, w->column[i], r) * x->q[w->member[i]];
        acc = fmaf(sli_load_f16(sli_column_meta(w, b, 0, r)) * x->d[b], (float)isum, acc);
        if (has_min)
            acc = fmaf(sli_load_f16(sli_column_meta(w, b, 1, r)), x->d[b] * (float)x->sum[b], acc);
        if (i == w->count || w->member[i] / SLI_SEGMENT_ELEMENTS != b / SLI_SEGMENT_BLOCKS) {
            total += acc;
            acc = 0.0f;
        }
    }
    return total;
}

static float float_row(const sl_columns *w, const sl_acts *x, size_t r)
{
    size_t element_bytes = sl_row_bytes(w->type, 1);
    float total = 0.0f, acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t i = 0; i < w->count; i++) {
        size_t k = w->member[i];
        acc[k % 4] = fmaf(sli_load_float(w->type, w->column[i] + r * element_bytes), x->f32[k], acc[k % 4]);
        if (i + 1 == w->count || w->member[i + 1] / SLI_SEGMENT_ELEMENTS != k / SLI_SEGMENT_ELEMENTS) {
            total += (acc[0] + acc[1]) + (acc[2] + acc[3]);
            memset(acc, 0, sizeof acc);
        }
    }
    return total;
}

void sli_matmul_columns_ref(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    bool quantized = sli_layout_of(w->type).words != 0;
    if (quantized && !is_written_out(w->type)) {
        sli_matmul_columns_by_segment(&by_segment, w, x, row_begin, row_end, out);
        return;
    }
    for (size_t r = row_begin; r < row_end; r++)
        out[r] = quantized ? quantized_row(w, x, r) : float_row(w, x, r);
}

/* Byte `i` of row r's quants in block b, as the file has it. */
static uint8_t quant_byte(const sl_columns *w, size_t b, size_t i, size_t r)
{
    const uint8_t *const *column = w->column + b * SL_ACT_BLOCK;
    if (w->type == SL_TYPE_Q8_0)
        return raw_of_row(w->type, column[i], r);
    return (uint8_t)(raw_of_row(w->type, column[i], r) | raw_of_row(w->type, column[16 + i], r) << 4);
}

/* Row `first_row + lane` in the panel; the panel was zeroed. */
static void pack_quantized_row(const sl_columns *w, size_t first_row, size_t lane, uint8_t *panel)
{
    sli_layout layout = sli_layout_of(w->type);
    size_t blocks = w->cols / SL_ACT_BLOCK, r = first_row + lane;
    uint8_t *scales = panel + blocks * layout.words * 4 * SL_PANEL_ROWS, *minima = scales + blocks * 2 * SL_PANEL_ROWS;
    for (size_t b = 0; b < blocks; b++) {
        for (size_t i = 0; i < (size_t)layout.words * 4; i++)
            panel[((b * layout.words + i / 4) * SL_PANEL_ROWS + lane) * 4 + i % 4] = quant_byte(w, b, i, r);
        memcpy(scales + (b * SL_PANEL_ROWS + lane) * 2, sli_column_meta(w, b, 0, r), 2);
        if (layout.has_min)
            memcpy(minima + (b * SL_PANEL_ROWS + lane) * 2, sli_column_meta(w, b, 1, r), 2);
    }
}

void sli_pack_columns_ref(const sl_columns *w, uint32_t first_row, uint8_t *panel)
{
    if (sli_layout_of(w->type).words && !is_written_out(w->type)) {
        sli_pack_columns_by_segment(&by_segment, w, first_row, panel);
        return;
    }
    size_t lanes = w->rows - first_row < SL_PANEL_ROWS ? w->rows - first_row : SL_PANEL_ROWS;
    size_t element_bytes = sl_format_of(w->type)->block_bytes;
    memset(panel, 0, sl_panel_bytes(w->type, w->cols));
    for (size_t lane = 0; lane < lanes; lane++) {
        if (sli_layout_of(w->type).words) {
            pack_quantized_row(w, first_row, lane, panel);
            continue;
        }
        for (size_t k = 0; k < w->cols; k++)
            memcpy(panel + (k * SL_PANEL_ROWS + lane) * element_bytes, w->column[k] + (first_row + lane) * element_bytes, element_bytes);
    }
}

/* kernels/ref/columns.c: products and panels of a matrix that is there by columns (D8); the definition in executable form. */
#include "kernels/columns.h"
#include "kernels/ref/decode.h"
#include "kernels/segments.h"

#include <math.h>
#include <string.h>

#define BLOCK_BYTES_MAX 210 /* of Q6_K */

static const sli_segment_kernels by_segment = {.pack_blocks = sli_pack_blocks_ref, .matmul = sli_matmul_ref};

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
    if (x->rows > 1 || (quantized && !is_written_out(w->type))) {
        sli_matmul_columns_by_segment(&by_segment, w, x, row_begin, row_end, out);
        return;
    }
    for (size_t r = row_begin; r < row_end; r++)
        out[r] = quantized ? quantized_row(w, x, r) : float_row(w, x, r);
}

/* ---- panels ---- */

static void pack_floats(const sl_columns *w, const uint8_t *const *columns, size_t count, uint32_t first_row, uint8_t *panel)
{
    size_t lanes = w->rows - first_row < SL_PANEL_ROWS ? w->rows - first_row : SL_PANEL_ROWS;
    size_t element_bytes = sl_format_of(w->type)->block_bytes;
    memset(panel, 0, count * SL_PANEL_ROWS * element_bytes);
    for (size_t k = 0; k < count; k++)
        memcpy(panel + k * SL_PANEL_ROWS * element_bytes, columns[k] + first_row * element_bytes, lanes * element_bytes);
}

/* The block in the file's form, then packed like any other. */
static void pack_block(const sl_columns *w, const uint8_t *const *columns, size_t block, uint32_t first_row, uint8_t *panel)
{
    const uint8_t *at[SL_PANEL_ROWS] = {0};
    uint8_t rows[SL_COLUMN_GROUP][BLOCK_BYTES_MAX];
    uint32_t group = first_row / SL_COLUMN_GROUP * SL_COLUMN_GROUP;
    sl_columns_join_block(w->type, columns, w->meta, w->rows, w->cols, (uint32_t)block, group, rows[0], BLOCK_BYTES_MAX);
    for (uint32_t lane = 0; lane < SL_PANEL_ROWS && first_row + lane < w->rows; lane++)
        at[lane] = rows[first_row - group + lane];
    sli_pack_ref(w->type, at, sli_layout_of(w->type).elements, panel);
}

void sli_pack_blocks_ref(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                         uint8_t *panel)
{
    sli_layout layout = sli_layout_of(w->type);
    uint8_t one[SL_PANEL_ROWS * BLOCK_BYTES_MAX];
    size_t words = (size_t)layout.words * 4 * SL_PANEL_ROWS, halves = 2 * SL_PANEL_ROWS;
    if (layout.words == 0) {
        pack_floats(w, columns, blocks, first_row, panel);
        return;
    }
    for (size_t b = 0; b < blocks; b++) {
        pack_block(w, columns + b * layout.elements, first_block + b, first_row, one);
        memcpy(panel + b * words, one, words);
        for (size_t i = 0; i < layout.halves; i++)
            memcpy(panel + blocks * words + (i * blocks + b) * halves, one + words + i * halves, halves);
    }
}

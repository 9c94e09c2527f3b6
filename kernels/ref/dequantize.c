/* kernels/ref/dequantize.c: one row of a matrix as fp32, from its file bytes or from a panel.
 *
 * An element is scale * integer, rounded once; with a minimum it is fma(scale, integer, minimum). Rows are dequantised one at a time (an
 * embedding, a column's metadata), so all instruction sets share this file. */
#include "kernels/ref/decode.h"

#include <math.h>

static void scale_block(const int8_t q[SL_ACT_BLOCK], float scale, bool has_min, float min, float *out)
{
    for (size_t i = 0; i < SL_ACT_BLOCK; i++)
        out[i] = has_min ? fmaf(scale, (float)q[i], min) : scale * (float)q[i];
}

void sli_dequantize_row_ref(uint32_t type, const uint8_t *row, uint32_t cols, float *out)
{
    sli_layout layout = sli_layout_of(type);
    int8_t q[SL_ACT_BLOCK];
    if (!layout.words) {
        size_t element_bytes = sl_row_bytes(type, 1);
        for (uint32_t k = 0; k < cols; k++)
            out[k] = sli_load_float(type, row + k * element_bytes);
        return;
    }
    for (uint32_t k = 0; k < cols; k += SL_ACT_BLOCK, row += layout.block_bytes) {
        for (size_t w = 0; w < layout.words; w++)
            sli_decode_word(type, row + layout.quant_offset + w * 4, w, q);
        scale_block(q, sli_load_f16(row + layout.scale_offset), layout.has_min,
                    layout.has_min ? sli_load_f16(row + layout.min_offset) : 0.0f, out + k);
    }
}

void sli_dequantize_panel_row_ref(uint32_t type, const uint8_t *panel, uint32_t row, uint32_t cols, float *out)
{
    sli_layout layout = sli_layout_of(type);
    size_t blocks = cols / SL_ACT_BLOCK;
    int8_t q[SL_ACT_BLOCK];
    if (!layout.words) {
        size_t element_bytes = sl_row_bytes(type, 1);
        for (size_t k = 0; k < cols; k++)
            out[k] = sli_load_float(type, panel + (k * SL_PANEL_ROWS + row) * element_bytes);
        return;
    }
    for (size_t b = 0; b < blocks; b++) {
        for (size_t w = 0; w < layout.words; w++)
            sli_decode_word(type, sli_panel_word(panel, layout, b, w, row), w, q);
        float min = layout.has_min ? sli_load_f16(sli_panel_min(panel, layout, blocks, b, row)) : 0.0f;
        scale_block(q, sli_load_f16(sli_panel_scale(panel, layout, blocks, b, row)), layout.has_min, min, out + b * SL_ACT_BLOCK);
    }
}

/* kernels/ref/dequantize.c: one row of a matrix as fp32, from its file bytes or from a panel.
 *
 * An element is d * q, with a minimum fma(d, q, m); in a super-block (d * scale) * q, with minima that less m * low. All products of an
 * fp16 and a block's integers are exact in fp32, so at most one rounding happens, whatever the order. Rows are dequantised one at a time
 * (an embedding, a column's metadata), so all instruction sets share this file. */
#include "kernels/ref/decode.h"

#include <math.h>

static void dequantize_block(const sli_decoded *block, sli_layout layout, float *out)
{
    for (size_t k = 0; k < layout.elements; k++) {
        size_t sub = layout.sub ? k / layout.sub : 0;
        float q = (float)block->q[k];
        if (layout.sub && layout.has_min)
            out[k] = block->d * (float)block->scale[sub] * q - block->m * (float)block->low[sub];
        else if (layout.sub)
            out[k] = block->d * (float)block->scale[sub] * q;
        else if (layout.has_min)
            out[k] = fmaf(block->d, q, block->m);
        else
            out[k] = block->d * q;
    }
}

void sli_dequantize_row_ref(uint32_t type, const uint8_t *row, uint32_t cols, float *out)
{
    sli_layout layout = sli_layout_of(type);
    if (!layout.words) {
        size_t element_bytes = sl_row_bytes(type, 1);
        for (uint32_t k = 0; k < cols; k++)
            out[k] = sli_load_float(type, row + k * element_bytes);
        return;
    }
    for (uint32_t k = 0; k < cols; k += layout.elements, row += layout.block_bytes) {
        sli_decoded block;
        sli_decode_block(type, row, &block);
        dequantize_block(&block, layout, out + k);
    }
}

void sli_dequantize_panel_row_ref(uint32_t type, const uint8_t *panel, uint32_t row, uint32_t cols, float *out)
{
    sli_layout layout = sli_layout_of(type);
    if (!layout.words) {
        size_t element_bytes = sl_row_bytes(type, 1);
        for (size_t k = 0; k < cols; k++)
            out[k] = sli_load_float(type, panel + (k * SL_PANEL_ROWS + row) * element_bytes);
        return;
    }
    size_t blocks = cols / layout.elements;
    for (size_t b = 0; b < blocks; b++) {
        uint8_t bytes[SLI_BLOCK_BYTES_MAX];
        sli_decoded block;
        sli_gather_block(layout, panel, blocks, b, row, bytes);
        sli_decode_block(type, bytes, &block);
        dequantize_block(&block, layout, out + b * layout.elements);
    }
}

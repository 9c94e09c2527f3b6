/* kernels/ref/rows.c: one row of activations times rows that lie apart from each other, as in the file (D2, D3). */
#include "kernels/ref/decode.h"

#include <math.h>

static int32_t dot_block(uint32_t type, sli_layout layout, const uint8_t *block, const int8_t *x)
{
    int8_t q[SL_ACT_BLOCK];
    int32_t isum = 0;
    for (size_t w = 0; w < layout.words; w++)
        sli_decode_word(type, block + layout.quant_offset + 4 * w, w, q);
    for (size_t k = 0; k < SL_ACT_BLOCK; k++)
        isum += q[k] * x[k];
    return isum;
}

static float dot_quantized(uint32_t type, const uint8_t *row, const sl_acts *x)
{
    sli_layout layout = sli_layout_of(type);
    size_t blocks = x->cols / SL_ACT_BLOCK;
    float total = 0.0f, acc = 0.0f;
    for (size_t b = 0; b < blocks; b++, row += layout.block_bytes) {
        acc = fmaf(sli_load_f16(row + layout.scale_offset) * x->d[b], (float)dot_block(type, layout, row, x->q + b * SL_ACT_BLOCK), acc);
        if (layout.has_min)
            acc = fmaf(sli_load_f16(row + layout.min_offset), x->d[b] * (float)x->sum[b], acc);
        if ((b + 1) % SLI_SEGMENT_BLOCKS == 0 || b + 1 == blocks) {
            total += acc;
            acc = 0.0f;
        }
    }
    return total;
}

static float dot_float(uint32_t type, const uint8_t *row, const sl_acts *x)
{
    size_t element_bytes = sl_row_bytes(type, 1);
    float total = 0.0f, acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t k = 0; k < x->cols; k++) {
        acc[k % 4] = fmaf(sli_load_float(type, row + k * element_bytes), x->f32[k], acc[k % 4]);
        if ((k + 1) % SLI_SEGMENT_ELEMENTS == 0 || k + 1 == x->cols) {
            total += (acc[0] + acc[1]) + (acc[2] + acc[3]);
            memset(acc, 0, sizeof acc);
        }
    }
    return total;
}

void sli_dot_rows_ref(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out)
{
    bool quantized = sli_layout_of(type).words != 0;
    for (size_t i = 0; i < count; i++)
        out[i] = quantized ? dot_quantized(type, rows[i], x) : dot_float(type, rows[i], x);
}

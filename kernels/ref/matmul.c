/* kernels/ref/matmul.c: products with weights, as D2 and D3 define them.
 *
 * What every faster kernel must equal, so it is written to be read against kernels.h. A segment of one weight row is decoded once and
 * meets every activation row; each output is its own running total, to which the segments are added in order. */
#include "kernels/ref/decode.h"

#include <math.h>

/* One segment of a weight row, decoded. */
typedef struct segment {
    size_t count; /* blocks, or elements of a float format */
    int8_t q[SLI_SEGMENT_ELEMENTS];
    float scale[SLI_SEGMENT_BLOCKS];
    float min[SLI_SEGMENT_BLOCKS];
    float w[SLI_SEGMENT_ELEMENTS];
} segment;

static void decode_quantized(uint32_t type, const uint8_t *panel, size_t row, size_t blocks, size_t first, segment *s)
{
    sli_layout layout = sli_layout_of(type);
    s->count = blocks - first < SLI_SEGMENT_BLOCKS ? blocks - first : SLI_SEGMENT_BLOCKS;
    for (size_t i = 0; i < s->count; i++) {
        for (size_t w = 0; w < layout.words; w++)
            sli_decode_word(type, sli_panel_word(panel, layout, first + i, w, row), w, s->q + i * SL_ACT_BLOCK);
        s->scale[i] = sli_load_f16(sli_panel_scale(panel, layout, blocks, first + i, row));
        s->min[i] = layout.has_min ? sli_load_f16(sli_panel_min(panel, layout, blocks, first + i, row)) : 0.0f;
    }
}

/* D2 inside a segment; x, d and sum point at its first block. */
static float dot_quantized(const segment *s, bool has_min, const int8_t *x, const float *d, const int32_t *sum)
{
    float acc = 0.0f;
    for (size_t i = 0; i < s->count; i++) {
        int32_t isum = 0;
        for (size_t k = i * SL_ACT_BLOCK; k < (i + 1) * SL_ACT_BLOCK; k++)
            isum += s->q[k] * x[k];
        acc = fmaf(s->scale[i] * d[i], (float)isum, acc);
        if (has_min)
            acc = fmaf(s->min[i], d[i] * (float)sum[i], acc);
    }
    return acc;
}

/* D3 inside a segment. */
static float dot_float(const segment *s, const float *x)
{
    float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t k = 0; k < s->count; k++)
        acc[k % 4] = fmaf(s->w[k], x[k], acc[k % 4]);
    return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

static void quantized_row(uint32_t type, const uint8_t *panel, size_t row, const sl_acts *x, float *out, size_t out_stride)
{
    size_t blocks = x->cols / SL_ACT_BLOCK;
    bool has_min = sli_layout_of(type).has_min;
    segment s;
    for (size_t b = 0; b < blocks; b += SLI_SEGMENT_BLOCKS) {
        decode_quantized(type, panel, row, blocks, b, &s);
        for (size_t a = 0; a < x->rows; a++) {
            size_t at = a * blocks + b;
            out[a * out_stride] += dot_quantized(&s, has_min, x->q + at * SL_ACT_BLOCK, x->d + at, x->sum + at);
        }
    }
}

static void float_row(uint32_t type, const uint8_t *panel, size_t row, const sl_acts *x, float *out, size_t out_stride)
{
    size_t element_bytes = sl_row_bytes(type, 1);
    segment s;
    for (size_t k = 0; k < x->cols; k += SLI_SEGMENT_ELEMENTS) {
        s.count = x->cols - k < SLI_SEGMENT_ELEMENTS ? x->cols - k : SLI_SEGMENT_ELEMENTS;
        for (size_t i = 0; i < s.count; i++)
            s.w[i] = sli_load_float(type, panel + ((k + i) * SL_PANEL_ROWS + row) * element_bytes);
        for (size_t a = 0; a < x->rows; a++)
            out[a * out_stride] += dot_float(&s, x->f32 + a * x->cols + k);
    }
}

void sli_matmul_ref(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    size_t panel_bytes = sl_panel_bytes(type, x->cols);
    bool quantized = sli_layout_of(type).words != 0;
    for (size_t r = 0; r < out_rows; r++) {
        const uint8_t *panel = panels + r / SL_PANEL_ROWS * panel_bytes;
        for (size_t a = 0; a < x->rows; a++)
            out[a * out_stride + r] = 0.0f;
        if (quantized)
            quantized_row(type, panel, r % SL_PANEL_ROWS, x, out + r, out_stride);
        else
            float_row(type, panel, r % SL_PANEL_ROWS, x, out + r, out_stride);
    }
}

/* kernels/ref/matmul.c: products with weights, as D2 and D3 define them.
 *
 * What every faster kernel must equal, so it is written to be read against kernels.h. A segment of one weight row is decoded once and
 * meets every activation row; each output is its own running total, to which the segments are added in order. */
#include "kernels/ref/decode.h"

#include <math.h>

/* One segment of a weight row, decoded. */
typedef struct segment {
    sli_layout layout;
    size_t count; /* blocks of activations, or elements of a float format */
    union {
        sli_decoded blocks[SLI_SEGMENT_BLOCKS]; /* a super-block is the only one */
        float w[SLI_SEGMENT_ELEMENTS];
    };
} segment;

/* `first` counts blocks of activations. */
static void decode_quantized(uint32_t type, const uint8_t *panel, size_t row, size_t cols, size_t first, segment *s)
{
    size_t blocks = cols / s->layout.elements, left = cols / SL_ACT_BLOCK - first;
    s->count = left < SLI_SEGMENT_BLOCKS ? left : SLI_SEGMENT_BLOCKS;
    for (size_t i = 0; i * s->layout.elements < s->count * SL_ACT_BLOCK; i++) {
        uint8_t bytes[SLI_BLOCK_BYTES_MAX];
        sli_gather_block(s->layout, panel, blocks, first * SL_ACT_BLOCK / s->layout.elements + i, row, bytes);
        sli_decode_block(type, bytes, &s->blocks[i]);
    }
}

static int32_t dot_integers(const int8_t *q, const int8_t *x, size_t n)
{
    int32_t sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += q[k] * x[k];
    return sum;
}

/* D2 inside a segment of blocks of 32; x, d and sum point at its first block. */
static float dot_blocks(const segment *s, const int8_t *x, const float *d, const int32_t *sum)
{
    float acc = 0.0f;
    for (size_t i = 0; i < s->count; i++) {
        const sli_decoded *block = &s->blocks[i];
        int32_t isum = dot_integers(block->q, x + i * SL_ACT_BLOCK, SL_ACT_BLOCK);
        acc = fmaf(block->d * d[i], (float)isum, acc);
        if (s->layout.has_min)
            acc = fmaf(block->m, d[i] * (float)sum[i], acc);
    }
    return acc;
}

/* D2 for a super-block. */
static float dot_super_block(const segment *s, const int8_t *x, const float *d)
{
    const sli_decoded *block = &s->blocks[0];
    float acc = 0.0f, low = 0.0f;
    for (size_t b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        int32_t isum = 0;
        for (size_t k = b * SL_ACT_BLOCK; k < (b + 1) * SL_ACT_BLOCK; k += s->layout.sub) {
            size_t sub = k / s->layout.sub;
            int32_t sum = 0;
            for (size_t i = 0; i < s->layout.sub; i++)
                sum += x[k + i];
            isum += block->scale[sub] * dot_integers(block->q + k, x + k, s->layout.sub);
            low = fmaf((float)block->low[sub], d[b] * (float)sum, low);
        }
        acc = fmaf(d[b], (float)isum, acc);
    }
    return s->layout.has_min ? fmaf(-block->m, low, block->d * acc) : block->d * acc;
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
    segment s = {.layout = sli_layout_of(type)};
    for (size_t b = 0; b < blocks; b += SLI_SEGMENT_BLOCKS) {
        decode_quantized(type, panel, row, x->cols, b, &s);
        for (size_t a = 0; a < x->rows; a++) {
            size_t at = a * blocks + b;
            const int8_t *q = x->q + at * SL_ACT_BLOCK;
            out[a * out_stride] += s.layout.sub ? dot_super_block(&s, q, x->d + at) : dot_blocks(&s, q, x->d + at, x->sum + at);
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

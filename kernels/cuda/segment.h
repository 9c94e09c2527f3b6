/* kernels/cuda/segment.h: a segment of one row of weights times a few rows of activations, in one thread (D2, D3).
 *
 * Segments are what threads share a row by: each is a sum of its own that begins at +0, and the row's total adds them in order, whoever made them. */
#ifndef SL_KERNELS_CUDA_SEGMENT_H
#define SL_KERNELS_CUDA_SEGMENT_H

#include "kernels/cuda/formats.h"

/* Activations as a kernel's argument. */
struct sli_acts_view {
    const float *f32;
    const int8_t *q;
    const float *d;
    const int *sum;
    uint32_t rows, cols;
};

static inline sli_acts_view sli_view_of(const sl_device_acts *x)
{
    return {
        sli_at<const float>(x->f32), sli_at<const int8_t>(x->q), sli_at<const float>(x->d), sli_at<const int>(x->sum), x->rows, x->cols};
}

SLI_DEVICE uint32_t sli_segments_of(uint32_t cols)
{
    return (cols + SLI_SEGMENT_COLS - 1) / SLI_SEGMENT_COLS;
}

SLI_DEVICE float sli_float_of(uint32_t type, const uint8_t *at)
{
    if (type == SL_TYPE_F32)
        return *(const float *)at;
    uint16_t half = *(const uint16_t *)at;
    return type == SL_TYPE_F16 ? sli_f16_to_f32(half) : sli_bf16_to_f32(half);
}

/* ---- where weights come from ---- */

/* A row of a panel, from a segment on. Weights are read once: they pass by what the cache keeps, which are the activations. */
template <uint32_t TYPE> struct sli_panel_source {
    const uint32_t *words;
    const uint16_t *halves;
    uint32_t blocks; /* of a row */

    SLI_METHOD sli_panel_source(const uint8_t *panel, uint32_t cols, uint32_t segment, uint32_t row)
    {
        constexpr sli_form form = sli_form_of(TYPE);
        blocks = cols / form.elements;
        uint32_t first = segment * (SLI_SEGMENT_COLS / form.elements);
        words = (const uint32_t *)panel + (size_t)first * form.words * SL_PANEL_ROWS + row;
        halves = (const uint16_t *)(panel + (size_t)blocks * form.words * 4 * SL_PANEL_ROWS) + (size_t)first * SL_PANEL_ROWS + row;
    }
    SLI_METHOD uint32_t word(uint32_t block, uint32_t w) const
    {
        return __ldcs(words + (block * sli_form_of(TYPE).words + w) * SL_PANEL_ROWS);
    }
    SLI_METHOD uint16_t half(uint32_t block, uint32_t h) const { return __ldcs(halves + ((size_t)h * blocks + block) * SL_PANEL_ROWS); }
};

template <uint32_t TYPE> struct sli_panel_floats {
    const uint8_t *at;
    SLI_METHOD sli_panel_floats(const uint8_t *panel, uint32_t, uint32_t segment, uint32_t row)
    {
        at = panel + ((size_t)segment * SLI_SEGMENT_COLS * SL_PANEL_ROWS + row) * sli_form_of(TYPE).bytes;
    }
    SLI_METHOD float element(uint32_t k) const { return sli_float_of(TYPE, at + k * SL_PANEL_ROWS * sli_form_of(TYPE).bytes); }
};

/* A row as in the file, 2-byte aligned. */
template <uint32_t TYPE> struct sli_row_source {
    const uint8_t *at;
    SLI_METHOD sli_row_source(const uint8_t *row, uint32_t segment)
    {
        constexpr sli_form form = sli_form_of(TYPE);
        at = row + (size_t)segment * (SLI_SEGMENT_COLS / form.elements) * form.bytes;
    }
    SLI_METHOD uint32_t word(uint32_t block, uint32_t w) const
    {
        constexpr sli_form form = sli_form_of(TYPE);
        const uint16_t *halves = (const uint16_t *)(at + block * form.bytes + form.words_offset) + 2 * w;
        return halves[0] | (uint32_t)halves[1] << 16;
    }
    SLI_METHOD uint16_t half(uint32_t block, uint32_t h) const
    {
        constexpr sli_form form = sli_form_of(TYPE);
        return *(const uint16_t *)(at + block * form.bytes + (h == 0 ? form.half_offset[0] : form.half_offset[1]));
    }
    SLI_METHOD float element(uint32_t k) const /* of a float format; F32 in two halves */
    {
        constexpr sli_form form = sli_form_of(TYPE);
        const uint16_t *halves = (const uint16_t *)(at + k * form.bytes);
        if constexpr (TYPE == SL_TYPE_F32)
            return __uint_as_float(halves[0] | (uint32_t)halves[1] << 16);
        return TYPE == SL_TYPE_F16 ? sli_f16_to_f32(halves[0]) : sli_bf16_to_f32(halves[0]);
    }
};

/* ---- products ---- */

/* Line j against rows first_row.. of x, whose last row stands in for those that it does not have. */
template <uint32_t TYPE, int A, typename Source>
SLI_DEVICE void sli_dot_line(const Source &source, sli_lines<TYPE, 4> &lines, sli_terms &terms, const sli_acts_view &x, uint32_t first_row,
                             uint32_t segment, int j, sli_segment_sum s[A])
{
    constexpr sli_form form = sli_form_of(TYPE);
    uint32_t low[4], high[4], blocks = x.cols / SLI_LINE_COLS;
    lines.fetch(source, 0, j);
    if constexpr (form.elements == 32)
        sli_block_terms(source, (uint32_t)j, form.has_min, &terms);
    lines.terms(source, j, &terms);
#pragma unroll
    for (int k = 0; k < 4; k++)
        lines.pair(j, k, &low[k], &high[k]);
#pragma unroll
    for (int a = 0; a < A; a++) {
        uint32_t row = A == 1 ? first_row : min(first_row + (uint32_t)a, x.rows - 1);
        uint32_t block = row * blocks + segment * SLI_SEGMENT_LINES + (uint32_t)j;
        const int4 *q = (const int4 *)x.q + (size_t)block * 2;
        int4 q0 = __ldg(q), q1 = __ldg(q + 1);
        int sum = form.offset != 0 || form.has_min ? __ldg(x.sum + block) : 0;
        float d = __ldg(x.d + block), share[2];
        int l = __dp4a((int)low[0], q0.x, -(int)form.offset * sum), h = __dp4a((int)high[0], q1.x, 0);
        l = __dp4a((int)low[1], q0.y, l);
        h = __dp4a((int)high[1], q1.y, h);
        l = __dp4a((int)low[2], q0.z, l);
        h = __dp4a((int)high[2], q1.z, h);
        l = __dp4a((int)low[3], q0.w, l);
        h = __dp4a((int)high[3], q1.w, h);
        sli_shares<TYPE>(q0, d, sum, share);
        sli_add_line<TYPE>(&s[a], terms, l, h, d, share);
    }
}

/* Lines are unrolled: all eight for one row, whose loads are then in flight together; by two for several, whose work hides them. */
template <uint32_t TYPE, int A, typename Source>
SLI_DEVICE void sli_dot_segment(const Source &source, const sli_acts_view &x, uint32_t first_row, uint32_t segment, float out[A])
{
    constexpr sli_form form = sli_form_of(TYPE);
    [[maybe_unused]] constexpr int unroll = A == 1 ? 8 : 2;
    sli_lines<TYPE, 4> lines;
    sli_terms terms = {};
    sli_segment_sum s[A] = {};
    uint32_t left = x.cols / SLI_LINE_COLS - segment * SLI_SEGMENT_LINES;
    lines.open(source, 0);
    if constexpr (form.elements != 32)
        sli_block_terms(source, 0, form.has_min, &terms);
    if (left >= SLI_SEGMENT_LINES) {
#pragma unroll unroll
        for (int j = 0; j < SLI_SEGMENT_LINES; j++)
            sli_dot_line<TYPE, A>(source, lines, terms, x, first_row, segment, j, s);
    } else if constexpr (form.elements == 32) {
#pragma unroll 1
        for (int j = 0; j < (int)left; j++)
            sli_dot_line<TYPE, A>(source, lines, terms, x, first_row, segment, j, s);
    }
#pragma unroll
    for (int a = 0; a < A; a++)
        out[a] = sli_end_segment<TYPE>(s[a], terms);
}

/* D3. Rows of x may begin anywhere. */
template <uint32_t TYPE, int A, typename Source>
SLI_DEVICE void sli_dot_floats(const Source &source, const sli_acts_view &x, uint32_t first_row, uint32_t segment, float out[A])
{
    float acc[A][4] = {};
    uint32_t first = segment * SLI_SEGMENT_COLS, count = min(x.cols - first, (uint32_t)SLI_SEGMENT_COLS), k = 0;
#pragma unroll 4
    for (; k + 4 <= count; k += 4) {
        float w[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            w[j] = source.element(k + (uint32_t)j);
#pragma unroll
        for (int a = 0; a < A; a++) {
            const float *at = x.f32 + (size_t)min(first_row + (uint32_t)a, x.rows - 1) * x.cols + first + k;
#pragma unroll
            for (int j = 0; j < 4; j++)
                acc[a][j] = fmaf(w[j], __ldg(at + j), acc[a][j]);
        }
    }
#pragma unroll
    for (int j = 0; j < 3; j++) {
        if (k + (uint32_t)j >= count)
            break;
        float w = source.element(k + (uint32_t)j);
#pragma unroll
        for (int a = 0; a < A; a++) {
            const float *at = x.f32 + (size_t)min(first_row + (uint32_t)a, x.rows - 1) * x.cols + first + k;
            acc[a][j] = fmaf(w, __ldg(at + j), acc[a][j]);
        }
    }
#pragma unroll
    for (int a = 0; a < A; a++)
        out[a] = (acc[a][0] + acc[a][1]) + (acc[a][2] + acc[a][3]);
}

#endif

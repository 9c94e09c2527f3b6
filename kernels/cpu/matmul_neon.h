/* kernels/cpu/matmul_neon.h: products with NEON; a vector lane is a row, four registers are a panel. One source for both sets: matmul_neon.c and
 * matmul_dotprod.c include it after their dot_*.h. The super-blocks are matmul_super_neon.h's.
 *
 * A word of a panel is four weights of each of sixteen rows, so a register of them meets one word of activations, the same for all lanes, and
 * their sums of four products are what the instructions give. Weights of Q4_0 and Q5_0 are taken as unsigned; what that adds is taken back where
 * the sum starts (walk.h). The fp32 part is D2 as it is written. */
#ifndef SL_KERNELS_CPU_MATMUL_NEON_H
#define SL_KERNELS_CPU_MATMUL_NEON_H

#include "kernels/cpu/walk.h"

#define FLOAT_AHEAD 64 /* elements between the weight in use and the one that is prefetched */

INLINE sli_weight_parts parts_of_panel(const sli_weight_parts *parts, size_t offset)
{
    return (sli_weight_parts){parts->quants + offset, parts->scales + offset, parts->minima + offset};
}

/* A word of a quarter of a panel. */
INLINE uint8x16_t load_word(const uint8_t *words, size_t w, size_t quarter)
{
    return vld1q_u8(words + w * WORD + quarter * (WORD / QUARTERS));
}

INLINE void add_to_total(float *total, float32x4_t acc)
{
    vst1q_f32(total, vaddq_f32(vld1q_f32(total), acc));
}

/* ---- blocks of 32 ---- */

INLINE size_t words_of(uint32_t type)
{
    return sli_layout_of(type).words;
}

INLINE bool has_minimum(uint32_t type)
{
    return type == SL_TYPE_Q4_1 || type == SL_TYPE_Q5_1;
}

/* Words that may be added until the total is taken. */
INLINE int adds_of(uint32_t type)
{
    return type == SL_TYPE_Q8_0 || type == SL_TYPE_IQ4_NL ? ADDS_OF_BYTES : 8;
}

/* Bits 4w .. 4w + 3 of every lane as sixteens in its four bytes. */
INLINE uint8x16_t fifth_bits(uint8x16_t bits, int w)
{
    const uint8x16_t lane_starts = vreinterpretq_u8_u32((uint32x4_t){0x00000000, 0x04040404, 0x08080808, 0x0c0c0c0c});
    const uint8x16_t select = vreinterpretq_u8_u32(vdupq_n_u32(w % 2 ? 0x80402010 : 0x08040201));
    uint8x16_t spread = vqtbl1q_u8(bits, vaddq_u8(lane_starts, vdupq_n_u8((uint8_t)(w / 2))));
    return vandq_u8(vtstq_u8(spread, select), vdupq_n_u8(16));
}

/* Four weights of four rows: word `w` of a block's eight. */
INLINE int8x16_t unpack_word(uint32_t type, const uint8_t *words, int w, size_t quarter)
{
    const bool five = type == SL_TYPE_Q5_0 || type == SL_TYPE_Q5_1;
    if (type == SL_TYPE_Q8_0)
        return vreinterpretq_s8_u8(load_word(words, (size_t)w, quarter));
    uint8x16_t nibbles = nibbles_of(load_word(words, (size_t)(w % 4 + five), quarter), w >= 4);
    if (type == SL_TYPE_IQ4_NL)
        return vqtbl1q_s8(vld1q_s8(sli_iq4_values), nibbles);
    if (five)
        nibbles = vorrq_u8(nibbles, fifth_bits(load_word(words, 0, quarter), w));
    return vreinterpretq_s8_u8(nibbles);
}

/* The integer sums of a block, without what the unsigned weights add; q is the first row's block of activations. */
INLINE void dot_block(uint32_t type, int rows, const uint8_t *words, const int8_t (*q)[SL_ACT_BLOCK],
                      int32x4_t isum[ROWS_AT_ONCE][QUARTERS])
{
    const int adds = adds_of(type);
    dots sums[ROWS_AT_ONCE][QUARTERS];
#pragma GCC unroll 8
    for (int w = 0; w < 8; w++) {
        int8x16_t weights[QUARTERS];
#pragma GCC unroll 4
        for (size_t i = 0; i < QUARTERS; i++)
            weights[i] = unpack_word(type, words, w, i);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            int8x16_t x = vld1q_s8(q[r] + w / 4 * 16);
#pragma GCC unroll 4
            for (size_t i = 0; i < QUARTERS; i++) {
                sums[r][i] = dots_add_word(w % adds == 0 ? dots_zero() : sums[r][i], weights[i], x, w % 4);
                if (w % adds == adds - 1)
                    isum[r][i] = w < adds ? dots_total(sums[r][i]) : vaddq_s32(isum[r][i], dots_total(sums[r][i]));
            }
        }
    }
}

/* Adds block `b` of a panel to acc: D2's inner step. acc lies in memory, as the integer sums need the registers. */
INLINE void multiply_block(uint32_t type, int rows, const sli_act_tile *x, size_t row, const sli_weight_parts *parts, size_t b,
                           float (*acc)[SL_PANEL_ROWS])
{
    int32x4_t isum[ROWS_AT_ONCE][QUARTERS];
    dot_block(type, rows, parts->quants + b * words_of(type) * WORD, &x->q[b][row], isum);
#pragma GCC unroll 4
    for (size_t i = 0; i < QUARTERS; i++) {
        size_t at = (b * SL_PANEL_ROWS + i * LANES) * 2;
        float32x4_t scale = load_f16(parts->scales + at), min = load_f16(parts->minima + at);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            int32x4_t sum = isum[r][i];
            if (type == SL_TYPE_Q4_0 || type == SL_TYPE_Q5_0)
                sum = vaddq_s32(sum, vdupq_n_s32(x->start[row + (size_t)r][b]));
            float32x4_t d = vmulq_n_f32(scale, x->d[row + (size_t)r][b]);
            float32x4_t total = vfmaq_f32(vld1q_f32(acc[r] + i * LANES), d, vcvtq_f32_s32(sum));
            if (has_minimum(type))
                total = vfmaq_n_f32(total, min, x->dsum[row + (size_t)r][b]);
            vst1q_f32(acc[r] + i * LANES, total);
        }
    }
}

INLINE void prefetch_block(uint32_t type, const sli_weight_parts *ahead, size_t b)
{
    prefetch_lines(ahead->quants + b * words_of(type) * WORD, words_of(type));
    prefetch_lines(ahead->scales + b * (WORD / 2), 1);
    if (has_minimum(type))
        prefetch_lines(ahead->minima + b * (WORD / 2), 1);
}

/* Rows [row, row + rows) of one panel of the tile: one segment after the other. */
INLINE void multiply_rows(uint32_t type, int rows, const sli_quant_step *s, size_t panel, size_t row)
{
    sli_weight_parts now = parts_of_panel(&s->now, panel * s->panel_bytes), ahead = parts_of_panel(&s->ahead, panel * s->panel_bytes);
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        float acc[ROWS_AT_ONCE][SL_PANEL_ROWS] = {0};
        for (size_t b = begin; b < end; b++) {
            if (row == 0)
                prefetch_block(type, &ahead, b);
            multiply_block(type, rows, s->x, row, &now, b, acc);
        }
        for (int r = 0; r < rows; r++)
            for (size_t i = 0; i < SL_PANEL_ROWS; i += LANES)
                add_to_total(s->totals[panel][row + (size_t)r] + i, vld1q_f32(acc[r] + i));
    }
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    for (size_t panel = 0; panel < s->panels; panel++) {
        size_t row = 0;
        for (; row + ROWS_AT_ONCE <= s->rows; row += ROWS_AT_ONCE)
            multiply_rows(type, ROWS_AT_ONCE, s, panel, row);
        for (; row < s->rows; row++)
            multiply_rows(type, 1, s, panel, row);
    }
}

static void step_q4_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_0, s);
}
static void step_q4_1(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_1, s);
}
static void step_q5_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_0, s);
}
static void step_q5_1(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_1, s);
}
static void step_q8_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q8_0, s);
}
static void step_iq4_nl(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_IQ4_NL, s);
}

/* ---- floats ---- */

/* Four chains of two rows and half a panel at most, chain j taking the elements with k mod 4 = j (D3). */
typedef float32x4_t float_chains[2][4][2];

/* `count` elements from k on, four at most; x has four of each row, whatever the last ones are. */
INLINE void multiply_elements(uint32_t type, size_t rows, size_t count, const uint8_t *weights, size_t k, const float32x4_t x[2],
                              float_chains acc)
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2, element = size * SL_PANEL_ROWS;
#pragma GCC unroll 4
    for (size_t j = 0; j < count; j++) {
        prefetch_lines(weights + element * (k + j + FLOAT_AHEAD), 1);
#pragma GCC unroll 2
        for (size_t i = 0; i < 2; i++) {
            float32x4_t w = load_floats(type, weights + element * (k + j) + i * LANES * size);
#pragma GCC unroll 2
            for (size_t r = 0; r < rows; r++)
                acc[r][j][i] = fma_lane(acc[r][j][i], w, x[r], (int)j);
        }
    }
}

/* D3 for `rows` rows, two at most, and half a panel. */
INLINE void multiply_float_rows(uint32_t type, size_t rows, const sli_float_step *s, size_t row, size_t half)
{
    const uint8_t *weights = s->weights + half * (type == SL_TYPE_F32 ? 4 : 2) * (SL_PANEL_ROWS / 2);
    const float *from = s->x + row * s->x_stride;
    size_t whole = s->count & ~(size_t)3;
    float32x4_t x[2];
    float_chains acc;
#pragma GCC unroll 16
    for (size_t i = 0; i < rows * 8; i++)
        acc[i / 8][i / 2 % 4][i % 2] = vdupq_n_f32(0);
    for (size_t k = 0; k < whole; k += 4) {
#pragma GCC unroll 2
        for (size_t r = 0; r < rows; r++)
            x[r] = vld1q_f32(from + r * s->x_stride + k);
        multiply_elements(type, rows, 4, weights, k, x, acc);
    }
    if (whole < s->count) { /* up to three elements are left */
#pragma GCC unroll 2
        for (size_t r = 0; r < rows; r++) {
            float last[4] = {0};
            __builtin_memcpy(last, from + r * s->x_stride + whole, (s->count - whole) * sizeof *last);
            x[r] = vld1q_f32(last);
        }
        multiply_elements(type, rows, s->count - whole, weights, whole, x, acc);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < rows * 2; i++) {
        float32x4_t(*a)[2] = acc[i / 2];
        float32x4_t sum = vaddq_f32(vaddq_f32(a[0][i % 2], a[1][i % 2]), vaddq_f32(a[2][i % 2], a[3][i % 2]));
        add_to_total(s->totals[row + i / 2] + (2 * half + i % 2) * LANES, sum);
    }
}

INLINE void multiply_float_segment(uint32_t type, const sli_float_step *s)
{
    for (size_t half = 0; half < 2; half++) {
        size_t row = 0;
        for (; row + 2 <= s->rows; row += 2)
            multiply_float_rows(type, 2, s, row, half);
        if (row < s->rows)
            multiply_float_rows(type, 1, s, row, half);
    }
}

static void step_f32(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_F32, s);
}
static void step_f16(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_F16, s);
}
static void step_bf16(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_BF16, s);
}

#endif

/* kernels/cpu/matmul_super_neon.h: products with super-blocks (the K-quants and IQ4_XS) with NEON; a vector lane is a row. Part of what
 * matmul_neon.c and matmul_dotprod.c are made of, after matmul_neon.h.
 *
 * A super-block's scales are spread over a few words bit by bit. They are unpacked once for a panel, to integers of 32 bits, and then lie in the L1
 * cache for all rows of activations. Two quarters of a panel go together, because sums of a sub-block and of a block both take registers.
 *
 * Words of a super-block, in the file's order; a line is 32 elements, four to a word:
 *     Q2_K    4 scales and minima, 2 x 8 of four lines each
 *     Q3_K    8 third bits, 2 x 8 of four lines each, 3 scales
 *     Q4_K    3 scales and minima, 4 x 8 of two lines each
 *     Q5_K    3 scales and minima, 8 fifth bits, then as Q4_K
 *     Q6_K    2 x 16 nibbles, 2 x 8 upper bit pairs, 4 scales
 *     IQ4_XS  1 scales, 8 x 4 of a line each, its second half in the upper nibbles */
#ifndef SL_KERNELS_CPU_MATMUL_SUPER_NEON_H
#define SL_KERNELS_CPU_MATMUL_SUPER_NEON_H

#include "kernels/cpu/matmul_neon.h"

#define SUBS_MAX 16
#define PAIR     2 /* quarters of a panel that go together */

/* Scales and minima of a panel's super-block, by sub-block. */
typedef struct unpacked {
    int32_t scale[SUBS_MAX][SL_PANEL_ROWS];
    float low[SUBS_MAX][SL_PANEL_ROWS];
} unpacked;

/* ---- formats, as constants to the inlined functions ---- */

/* Sub-blocks in a block of 32. */
INLINE int subs_of(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q3_K || type == SL_TYPE_Q6_K ? 2 : 1;
}

INLINE bool has_minima(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q4_K || type == SL_TYPE_Q5_K;
}

/* ---- quants ---- */

/* `mask` bits of every byte after a shift to the right, by a negative count to the left. */
INLINE uint8x16_t shifted(uint8x16_t bytes, int right, int mask)
{
    return vandq_u8(vshlq_u8(bytes, vdupq_n_s8((int8_t)-right)), vdupq_n_u8((uint8_t)mask));
}

/* Word `w` of block `b` of the super-block's eight: four weights of four rows. */
INLINE int8x16_t unpack_super_word(uint32_t type, const uint8_t *words, int b, int w, size_t quarter)
{
    const size_t at = (size_t)w, n = (size_t)b;
    uint8x16_t bytes;
    switch (type) {
    case SL_TYPE_Q2_K: bytes = shifted(load_word(words, 4 + n / 4 * 8 + at, quarter), b % 4 * 2, 3); break;
    case SL_TYPE_Q3_K:
        bytes = shifted(load_word(words, 8 + n / 4 * 8 + at, quarter), b % 4 * 2, 3);
        bytes = vorrq_u8(bytes, shifted(load_word(words, at, quarter), b - 2, 4));
        return vsubq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(4));
    case SL_TYPE_Q4_K: bytes = shifted(load_word(words, 3 + n / 2 * 8 + at, quarter), b % 2 * 4, 15); break;
    case SL_TYPE_Q5_K:
        bytes = shifted(load_word(words, 11 + n / 2 * 8 + at, quarter), b % 2 * 4, 15);
        bytes = vorrq_u8(bytes, shifted(load_word(words, 3 + at, quarter), b - 4, 16));
        break;
    case SL_TYPE_Q6_K:
        bytes = shifted(load_word(words, n / 4 * 16 + n % 2 * 8 + at, quarter), b % 4 / 2 * 4, 15);
        bytes = vorrq_u8(bytes, shifted(load_word(words, 32 + n / 4 * 8 + at, quarter), b % 4 * 2 - 4, 48));
        return vsubq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(32));
    default: /* IQ4_XS: four words, the second half of the line above the first */
        bytes = nibbles_of(load_word(words, 1 + 4 * n + at % 4, quarter), w >= 4);
        return vqtbl1q_s8(vld1q_s8(sli_iq4_values), bytes);
    }
    return vreinterpretq_s8_u8(bytes);
}

/* ---- scales and minima ---- */

/* Byte `i` of every lane, without and with its sign. */
INLINE uint32x4_t byte_of(uint8x16_t bytes, int i)
{
    return vandq_u32(vshlq_u32(vreinterpretq_u32_u8(bytes), vdupq_n_s32(-8 * i)), vdupq_n_u32(255));
}

INLINE int32x4_t signed_byte_of(uint8x16_t bytes, int i)
{
    return vshrq_n_s32(vshlq_s32(vreinterpretq_s32_u8(bytes), vdupq_n_s32(24 - 8 * i)), 24);
}

/* Four sub-blocks' unsigned scales and minima, from `s` on, of the rows from `row` on. */
INLINE void keep_four(unpacked *u, size_t s, size_t row, uint8x16_t scales, uint8x16_t minima)
{
    for (int i = 0; i < 4; i++) {
        vst1q_s32(&u->scale[s + (size_t)i][row], vreinterpretq_s32_u32(byte_of(scales, i)));
        vst1q_f32(&u->low[s + (size_t)i][row], vcvtq_f32_u32(byte_of(minima, i)));
    }
}

INLINE void keep_four_signed(unpacked *u, size_t s, size_t row, uint8x16_t scales)
{
    for (int i = 0; i < 4; i++)
        vst1q_s32(&u->scale[s + (size_t)i][row], signed_byte_of(scales, i));
}

static void unpack_q2_k(const uint8_t *words, size_t quarter, unpacked *u)
{
    for (size_t w = 0; w < 4; w++) {
        uint8x16_t word = load_word(words, w, quarter);
        keep_four(u, 4 * w, quarter * LANES, shifted(word, 0, 15), shifted(word, 4, 15));
    }
}

static void unpack_q3_k(const uint8_t *words, size_t quarter, unpacked *u)
{
    uint8x16_t upper = load_word(words, 26, quarter);
    for (int w = 0; w < 4; w++) {
        uint8x16_t lower = load_word(words, 24 + (size_t)w % 2, quarter);
        uint8x16_t scales = vorrq_u8(shifted(lower, w / 2 * 4, 15), shifted(upper, 2 * w - 4, 48));
        keep_four_signed(u, 4 * (size_t)w, quarter * LANES, vsubq_u8(scales, vdupq_n_u8(32)));
    }
}

static void unpack_six_bits(const uint8_t *words, size_t quarter, unpacked *u)
{
    uint8x16_t scales = load_word(words, 0, quarter), minima = load_word(words, 1, quarter), last = load_word(words, 2, quarter);
    keep_four(u, 0, quarter * LANES, shifted(scales, 0, 63), shifted(minima, 0, 63));
    keep_four(u, 4, quarter * LANES, vorrq_u8(shifted(last, 0, 15), shifted(scales, 2, 48)),
              vorrq_u8(shifted(last, 4, 15), shifted(minima, 2, 48)));
}

static void unpack_q6_k(const uint8_t *words, size_t quarter, unpacked *u)
{
    for (size_t w = 0; w < 4; w++)
        keep_four_signed(u, 4 * w, quarter * LANES, load_word(words, 48 + w, quarter));
}

/* The lower four bits are the nibbles of a word, the upper two the bit pairs of the second 16-bit number. */
static void unpack_iq4_xs(const uint8_t *words, const uint8_t *halves, size_t quarter, unpacked *u)
{
    uint32x4_t lower = vreinterpretq_u32_u8(load_word(words, 0, quarter));
    uint32x4_t upper = vmovl_u16(vreinterpret_u16_u8(vld1_u8(halves + quarter * 2 * LANES)));
    for (int b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        uint32x4_t low = vandq_u32(vshlq_u32(lower, vdupq_n_s32(-4 * b)), vdupq_n_u32(15));
        uint32x4_t high = vandq_u32(vshlq_u32(upper, vdupq_n_s32(4 - 2 * b)), vdupq_n_u32(48));
        vst1q_s32(&u->scale[b][quarter * LANES], vsubq_s32(vreinterpretq_s32_u32(vorrq_u32(low, high)), vdupq_n_s32(32)));
    }
}

INLINE void unpack_scales(uint32_t type, const uint8_t *words, const uint8_t *minima, unpacked *u)
{
    for (size_t quarter = 0; quarter < QUARTERS; quarter++)
        switch (type) {
        case SL_TYPE_Q2_K: unpack_q2_k(words, quarter, u); break;
        case SL_TYPE_Q3_K: unpack_q3_k(words, quarter, u); break;
        case SL_TYPE_Q6_K: unpack_q6_k(words, quarter, u); break;
        case SL_TYPE_IQ4_XS: unpack_iq4_xs(words, minima, quarter, u); break;
        default: unpack_six_bits(words, quarter, u); break;
        }
}

/* ---- products ---- */

/* Block `b` of the super-block, for two quarters from `quarter` on: the scaled integer sums. q is the first row's block of activations. */
INLINE void dot_super_block(uint32_t type, int rows, const uint8_t *words, const unpacked *u, int b, size_t quarter,
                            const int8_t (*q)[SL_ACT_BLOCK], int32x4_t isum[ROWS_AT_ONCE][PAIR])
{
    const int subs = subs_of(type), adds = type == SL_TYPE_IQ4_XS ? ADDS_OF_BYTES : 8 / subs;
    dots sums[ROWS_AT_ONCE][PAIR];
#pragma GCC unroll 8
    for (int w = 0; w < 8; w++) {
#pragma GCC unroll 2
        for (size_t i = 0; i < PAIR; i++) {
            int8x16_t weights = unpack_super_word(type, words, b, w, quarter + i);
            int32x4_t scale = vld1q_s32(&u->scale[b * subs + w * subs / 8][(quarter + i) * LANES]);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                int8x16_t x = vld1q_s8(q[r] + w / 4 * 16);
                sums[r][i] = dots_add_word(w % adds == 0 ? dots_zero() : sums[r][i], weights, x, w % 4);
                if (w % adds == adds - 1)
                    isum[r][i] = w < adds ? vmulq_s32(dots_total(sums[r][i]), scale) : vmlaq_s32(isum[r][i], dots_total(sums[r][i]), scale);
            }
        }
    }
}

/* The minima's sum: low = fma(minimum, dx * sum, low) for each sub-block. */
INLINE float32x4_t sum_minima(uint32_t type, const unpacked *u, const sli_act_tile *x, size_t row, size_t first, size_t lane)
{
    float32x4_t low = vdupq_n_f32(0);
    for (size_t s = 0; s < (size_t)(SLI_SEGMENT_BLOCKS * subs_of(type)); s++) {
        float dsum = subs_of(type) == 1 ? x->dsum[row][first + s] : x->half_dsum[row][first + s / 2][s % 2];
        low = vfmaq_n_f32(low, vld1q_f32(&u->low[s][lane]), dsum);
    }
    return low;
}

/* A super-block of two quarters of a panel times `rows` rows of activations, added to their totals; `first` is its first block in the tile. */
INLINE void multiply_super_rows(uint32_t type, int rows, const sli_weight_parts *at, const unpacked *u, const sli_act_tile *x, size_t row,
                                size_t first, size_t quarter, float (*totals)[SL_PANEL_ROWS])
{
    float32x4_t acc[ROWS_AT_ONCE][PAIR];
    int32x4_t isum[ROWS_AT_ONCE][PAIR];
#pragma GCC unroll 8
    for (int i = 0; i < rows * PAIR; i++)
        acc[i / PAIR][i % PAIR] = vdupq_n_f32(0);
    for (int b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        dot_super_block(type, rows, at->quants, u, b, quarter, &x->q[first + (size_t)b][row], isum);
#pragma GCC unroll 8
        for (int i = 0; i < rows * PAIR; i++)
            acc[i / PAIR][i % PAIR] = vfmaq_n_f32(acc[i / PAIR][i % PAIR], vcvtq_f32_s32(isum[i / PAIR][i % PAIR]),
                                                  x->d[row + (size_t)(i / PAIR)][first + (size_t)b]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows * PAIR; i++) {
        size_t lane = (quarter + (size_t)(i % PAIR)) * LANES, r = row + (size_t)(i / PAIR);
        float32x4_t segment = vmulq_f32(load_f16(at->scales + 2 * lane), acc[i / PAIR][i % PAIR]);
        if (has_minima(type))
            segment = vfmsq_f32(segment, load_f16(at->minima + 2 * lane), sum_minima(type, u, x, r, first, lane));
        add_to_total(totals[r] + lane, segment);
    }
}

INLINE void multiply_super(uint32_t type, const sli_quant_step *s, size_t panel, size_t super)
{
    const size_t offset = panel * s->panel_bytes, first = super * SLI_SEGMENT_BLOCKS;
    const size_t quants = offset + super * words_of(type) * WORD, halves = offset + super * (WORD / 2);
    const sli_weight_parts at = {s->now.quants + quants, s->now.scales + halves, s->now.minima + halves};
    unpacked u;
    unpack_scales(type, at.quants, at.minima, &u);
    for (size_t line = 0; line < words_of(type); line++)
        prefetch_lines(s->ahead.quants + quants + line * WORD, 1);
    prefetch_lines(s->ahead.scales + halves, 1);
    prefetch_lines(s->ahead.minima + halves, 1);
    for (size_t quarter = 0; quarter < QUARTERS; quarter += PAIR) {
        size_t row = 0;
        for (; row + ROWS_AT_ONCE <= s->rows; row += ROWS_AT_ONCE)
            multiply_super_rows(type, ROWS_AT_ONCE, &at, &u, s->x, row, first, quarter, s->totals[panel]);
        for (; row < s->rows; row++)
            multiply_super_rows(type, 1, &at, &u, s->x, row, first, quarter, s->totals[panel]);
    }
}

INLINE void multiply_super_tile(uint32_t type, const sli_quant_step *s)
{
    for (size_t panel = 0; panel < s->panels; panel++)
        for (size_t super = 0; super < s->blocks / SLI_SEGMENT_BLOCKS; super++)
            multiply_super(type, s, panel, super);
}

static void step_q2_k(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_Q2_K, s);
}
static void step_q3_k(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_Q3_K, s);
}
static void step_q4_k(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_Q4_K, s);
}
static void step_q5_k(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_Q5_K, s);
}
static void step_q6_k(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_Q6_K, s);
}
static void step_iq4_xs(const sli_quant_step *s)
{
    multiply_super_tile(SL_TYPE_IQ4_XS, s);
}

#endif

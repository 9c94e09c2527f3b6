/* kernels/cpu/rows_neon.h: one row of activations times rows that lie scattered, as in the file; a vector lane is a row. One source for both
 * sets: rows_neon.c and rows_dotprod.c include it after their dot_*.h.
 *
 * Eight rows go through the blocks together, so that D2's chains are lanes and nothing has to be packed. The products of one row's block come as four
 * sums, which a tree of pairwise additions, shared by four rows, puts into one lane. Floats: D3's four lanes are a register, one a row; eight rows
 * are the eight chains that hide its latency. */
#ifndef SL_KERNELS_CPU_ROWS_NEON_H
#define SL_KERNELS_CPU_ROWS_NEON_H

#define SLI_PACK sli_pack_neon

#include "kernels/cpu/rows_by_eights.h"

#define FOURS (EIGHT / LANES)

/* A block of one row, whose integers lie at `quants`, as four sums. Q4_0's are taken 8 too large. */
INLINE int32x4_t dot_block(uint32_t type, const uint8_t *quants, int8x16_t first_x, int8x16_t second_x)
{
    uint8x16_t bytes = vld1q_u8(quants);
    if (type != SL_TYPE_Q8_0) {
        dots sum = dots_add(dots_zero(), vreinterpretq_s8_u8(nibbles_of(bytes, false)), first_x);
        return dots_total(dots_add(sum, vreinterpretq_s8_u8(nibbles_of(bytes, true)), second_x));
    }
    _Static_assert(ADDS_OF_BYTES >= 2, "a block of bytes is two additions");
    dots sum = dots_add(dots_zero(), vreinterpretq_s8_u8(bytes), first_x);
    return dots_total(dots_add(sum, vld1q_s8((const int8_t *)quants + 16), second_x));
}

/* The integer sums of four rows' block. */
INLINE int32x4_t dot_four(uint32_t type, eight_rows rows, size_t offset, const int8_t *x)
{
    int8x16_t first_x = vld1q_s8(x), second_x = vld1q_s8(x + 16);
    int32x4_t sum[LANES];
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i++)
        sum[i] = dot_block(type, rows[i] + offset, first_x, second_x);
    return vpaddq_s32(vpaddq_s32(sum[0], sum[1]), vpaddq_s32(sum[2], sum[3]));
}

/* An fp16 number of each of four rows. */
INLINE float32x4_t gather_f16(eight_rows rows, size_t offset)
{
    uint16_t half[LANES];
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i++)
        memcpy(&half[i], rows[i] + offset, sizeof half[i]);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half)));
}

INLINE float32x4_t multiply_block(uint32_t type, eight_rows rows, const sl_acts *x, size_t b, float32x4_t acc)
{
    size_t block = b * block_bytes_of(type);
    int32x4_t isum = dot_four(type, rows, block + (type == SL_TYPE_Q4_1 ? 4 : 2), x->q + b * SL_ACT_BLOCK);
    if (type == SL_TYPE_Q4_0)
        isum = vsubq_s32(isum, vdupq_n_s32(8 * x->sum[b]));
    acc = vfmaq_f32(acc, vmulq_n_f32(gather_f16(rows, block), x->d[b]), vcvtq_f32_s32(isum));
    if (type == SL_TYPE_Q4_1)
        acc = vfmaq_n_f32(acc, gather_f16(rows, block + 2), x->d[b] * (float)x->sum[b]);
    return acc;
}

INLINE void multiply_quantized(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    size_t blocks = x->cols / SL_ACT_BLOCK;
    float32x4_t total[FOURS] = {vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t begin = 0; begin < blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < blocks ? begin + SLI_SEGMENT_BLOCKS : blocks;
        float32x4_t acc[FOURS] = {vdupq_n_f32(0), vdupq_n_f32(0)};
        prefetch_rows(ahead, begin * block_bytes_of(type), end * block_bytes_of(type));
        for (size_t b = begin; b < end; b++)
#pragma GCC unroll 2
            for (size_t i = 0; i < FOURS; i++)
                acc[i] = multiply_block(type, rows + i * LANES, x, b, acc[i]);
        for (size_t i = 0; i < FOURS; i++)
            total[i] = vaddq_f32(total[i], acc[i]);
    }
    for (size_t i = 0; i < FOURS; i++)
        vst1q_f32(out + i * LANES, total[i]);
}

/* ---- floats ---- */

/* The last one to three elements, padded with zeros, which add nothing to a lane. */
INLINE float32x4_t load_rest(uint32_t type, const uint8_t *at, size_t count)
{
    uint8_t padded[16] = {0};
    memcpy(padded, at, count * (type == SL_TYPE_F32 ? 4 : 2));
    return load_floats(type, padded);
}

/* The segment that begins at element `begin`, added to the totals. */
INLINE void multiply_float_segment(uint32_t type, eight_rows rows, const sl_acts *x, size_t begin, size_t end, float out[EIGHT])
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
    size_t k = begin;
    float32x4_t acc[EIGHT];
#pragma GCC unroll 8
    for (int i = 0; i < EIGHT; i++)
        acc[i] = vdupq_n_f32(0);
    for (; k + 4 <= end; k += 4) {
        float32x4_t four = vld1q_f32(x->f32 + k);
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++)
            acc[i] = vfmaq_f32(acc[i], load_floats(type, rows[i] + size * k), four);
    }
    if (k < end) {
        float32x4_t rest = load_rest(SL_TYPE_F32, (const uint8_t *)(x->f32 + k), end - k);
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++)
            acc[i] = vfmaq_f32(acc[i], load_rest(type, rows[i] + size * k, end - k), rest);
    }
#pragma GCC unroll 2
    for (int i = 0; i < EIGHT; i += LANES) { /* pairwise sums of four rows are D3's */
        float32x4_t sum = vpaddq_f32(vpaddq_f32(acc[i], acc[i + 1]), vpaddq_f32(acc[i + 2], acc[i + 3]));
        vst1q_f32(out + i, vaddq_f32(vld1q_f32(out + i), sum));
    }
}

INLINE void multiply_floats(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
    memset(out, 0, EIGHT * sizeof *out);
    for (size_t begin = 0; begin < x->cols; begin += SLI_SEGMENT_ELEMENTS) {
        size_t end = begin + SLI_SEGMENT_ELEMENTS < x->cols ? begin + SLI_SEGMENT_ELEMENTS : x->cols;
        prefetch_rows(ahead, begin * size, end * size);
        multiply_float_segment(type, rows, x, begin, end, out);
    }
}

#endif

/* kernels/cpu/matmul_lanes_avx2.h: what the AVX2 products share: loads, broadcasts, prefetching and how a block of
 * activations meets eight rows of weights.
 *
 * AVX2 multiplies unsigned by signed bytes into 16-bit pair sums (VPMADDUBSW), which saturate. So words of weights are summed in 16 bits
 * as long as that is safe, a chunk of them, and then widened by VPMADDWD, whose second operand is free to be the sub-block's scale: the
 * scaling costs nothing. With activations within -127 .. 127 (D1) a pair sum is at most 254 times the largest weight:
 *
 *     largest weight           words in a chunk
 *     15                       8: 30480         a whole block of 32
 *     31                       4: 31496
 *     127, signed              1: 32258         |w| times x with w's sign
 *
 * Threads: pure functions. */
#ifndef SL_KERNELS_CPU_MATMUL_LANES_AVX2_H
#define SL_KERNELS_CPU_MATMUL_LANES_AVX2_H

#include "kernels/cpu/walk.h"

#include <immintrin.h>

#define INLINE   static inline __attribute__((always_inline))
#define MAX_ROWS 4  /* activation rows at once: their sums are registers */
#define HALF     8  /* rows of a panel in a register */
#define WORD     64 /* bytes of a word of all rows of a panel */

INLINE __m256 load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256i load_word(const uint8_t *words, size_t w)
{
    return _mm256_loadu_si256((const __m256i *)(words + w * WORD));
}

INLINE __m256i broadcast_word(const void *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

/* Pair sums of four weights and the four activations at `x`. */
INLINE __m256i multiply_word(__m256i weights, bool weights_are_signed, const int8_t *x)
{
    if (weights_are_signed)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(broadcast_word(x), weights));
    return _mm256_maddubs_epi16(weights, broadcast_word(x));
}

/* Keeps `v` as it is at this point: gcc would otherwise sum the products of a block as a tree, for which registers do not suffice. */
INLINE __m256i in_order(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

/* Adds acc to the totals of rows [row, row + rows), one half of the lanes. */
INLINE void add_to_totals(int rows, float (*totals)[SL_PANEL_ROWS], size_t row, size_t half, const __m256 *acc)
{
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *total = totals[row + r] + half * HALF;
        _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), acc[r]));
    }
}

INLINE sli_weight_parts parts_of_panel(const sli_weight_parts *parts, size_t offset)
{
    return (sli_weight_parts){parts->quants + offset, parts->scales + offset, parts->minima + offset};
}

/* Into the L2 cache: asked into the L1, its few outstanding misses would bound the rate of memory (bench/SPEED.md). */
INLINE void prefetch_lines(const uint8_t *at, size_t lines)
{
#pragma GCC unroll 16
    for (size_t i = 0; i < lines; i++)
        _mm_prefetch((const char *)at + 64 * i, _MM_HINT_T1);
}

#endif

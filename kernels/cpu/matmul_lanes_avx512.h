/* kernels/cpu/matmul_lanes_avx512.h: what the AVX-512 products share: loads, how words of weights meet activations, prefetching.
 *
 * A word of a panel is one register: four weights of sixteen rows, made unsigned bytes. It meets an activation's four bytes broadcast to all lanes in
 * VPDPBUSD, which sums four products per lane. What made the weights unsigned is taken back by where the sum starts. Two panels are taken
 * together, so that a broadcast serves both, and four rows of activations, which makes eight sums that do not wait for one another.
 *
 * Threads: pure functions. */
#ifndef SL_KERNELS_CPU_MATMUL_LANES_AVX512_H
#define SL_KERNELS_CPU_MATMUL_LANES_AVX512_H

#include "kernels/cpu/walk.h"

#include <immintrin.h>
#include <stdbool.h>

#define INLINE     static inline __attribute__((always_inline))
#define MAX_ROWS   4 /* activation rows at once */
#define MAX_PANELS 2
#define WORD       64 /* bytes of a word of all rows of a panel; also a line of the cache */
#define HALVES     32 /* bytes of a 16-bit number of all rows */

INLINE __m512 load_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512i load_word(const uint8_t *words, size_t w)
{
    return _mm512_loadu_si512(words + w * WORD);
}

INLINE __m512i broadcast_word(const int8_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

/* Keeps `v` as it is at this point: gcc would otherwise load and unpack words far ahead of their use, for which registers do not suffice. */
INLINE __m512i in_order(__m512i v)
{
    __asm__("" : "+v"(v));
    return v;
}

/* isum += one word of weights times word `i` of the rows' blocks q. */
INLINE void dot_word(int panels, int rows, const __m512i w[MAX_PANELS], const int8_t (*q)[SL_ACT_BLOCK], int i,
                     __m512i isum[MAX_ROWS][MAX_PANELS])
{
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m512i x = broadcast_word(q[r] + 4 * i);
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            isum[r][p] = in_order(_mm512_dpbusd_epi32(isum[r][p], w[p], x));
    }
}

/* The bits of `a` where mask has them, else those of `b`. */
INLINE __m512i select_bits(int mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xe4);
}

/* Values of IQ4's table plus 128, of words that hold an index in each byte. */
INLINE __m512i look_up_values(__m512i indices)
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)sli_iq4_values));
    return _mm512_shuffle_epi8(_mm512_xor_si512(values, _mm512_set1_epi8((char)0x80)), indices);
}

/* Whether a block has five bits a weight. */
INLINE bool is_five(uint32_t type)
{
    return type == SL_TYPE_Q5_0 || type == SL_TYPE_Q5_1;
}

/* Bits 4w .. 4w + 3 of every lane as sixteens in its four bytes, on top of `nibbles`: a shuffle puts the byte with them into all bytes of the lane. */
INLINE __m512i add_fifth_bits(__m512i nibbles, __m512i bits, int w)
{
    const int lane = 0x01010101 * (w / 2);
    const __m128i of_lanes = _mm_setr_epi32(lane, lane + 0x04040404, lane + 0x08080808, lane + 0x0c0c0c0c);
    const __m512i select = _mm512_set1_epi32((int)(w % 2 ? 0x80402010u : 0x08040201u));
    __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, _mm512_broadcast_i32x4(of_lanes)), select);
    return _mm512_mask_add_epi8(nibbles, set, nibbles, _mm512_set1_epi8(16));
}

/* Adds a segment's sums to the totals of rows [row, row + rows). */
INLINE void add_to_totals(int panels, int rows, const sli_quant_step *s, size_t row, __m512 acc[MAX_ROWS][MAX_PANELS])
{
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
            float *total = s->totals[p][row + (size_t)r];
            _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), acc[r][p]));
        }
}

/* ---- prefetching ---- */

/* The tile that comes next, asked for by blocks of activations. The requests are spread evenly over the visits that the tile in hand gets, one per
 * four rows of activations, because memory is asked best at a steady rate. */
typedef struct prefetch {
    sli_weight_parts tile;
    size_t block;         /* to ask for next */
    uint32_t every, wait; /* blocks multiplied per block asked for; until the next one */
} prefetch;

INLINE prefetch begin_prefetch(const sli_quant_step *s)
{
    return (prefetch){.tile = s->ahead, .every = s->rows / 4 + (s->rows >> 1 & 1) + (s->rows & 1), .wait = 1};
}

/* What is used once goes to the L2 cache: asked into the L1, its few outstanding misses would bound the rate of memory. */
INLINE void prefetch_line(const uint8_t *at, bool once)
{
    if (once)
        _mm_prefetch((const char *)at, _MM_HINT_T1);
    else
        _mm_prefetch((const char *)at, _MM_HINT_T0);
}

INLINE void prefetch_lines(const uint8_t *at, size_t lines, bool once)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < lines; i++)
        prefetch_line(at + i * WORD, once);
}

/* What block `b` of activations meets; of a super-block an eighth of the words. Those that eight does not divide go with the scales and the first block. */
INLINE void prefetch_parts(uint32_t type, int panels, const sli_weight_parts *tile, size_t b, size_t panel_bytes, bool once)
{
    const size_t words = sli_layout_of(type).words, share = sli_layout_of(type).sub ? SLI_SEGMENT_BLOCKS : 1;
    const size_t super = b / share, part = b % share, each = words / share, rest = words % share;
#pragma GCC unroll 2
    for (int p = 0; p < panels; p++) {
        const size_t panel = (size_t)p * panel_bytes;
        const uint8_t *quants = tile->quants + panel + super * words * WORD;
        prefetch_lines(quants + (rest + part * each) * WORD, each, once);
        if (part != 0)
            continue;
        prefetch_lines(quants, rest, once);
        prefetch_line(tile->scales + panel + super * HALVES, once);
        if (sli_layout_of(type).halves == 2)
            prefetch_line(tile->minima + panel + super * HALVES, once);
    }
}

/* Called once for each block that is multiplied. */
INLINE void prefetch_block(uint32_t type, int panels, prefetch *next, size_t panel_bytes)
{
    if (--next->wait)
        return;
    next->wait = next->every;
    size_t b = next->block++;
    if (next->every == 1)
        prefetch_parts(type, panels, &next->tile, b, panel_bytes, true);
    else
        prefetch_parts(type, panels, &next->tile, b, panel_bytes, false);
}

/* ---- steps ---- */

/* The step of a format whose blocks have 32 elements, in AVX-512 alone; NULL for the others. */
sli_quant_step_fn sli_step_avx512(uint32_t type);

#endif

/* kernels/cpu/rows_lanes_avx512.h: a segment of sixteen rows that lie scattered, laid out so that a vector lane is a row.
 *
 * Sixteen bytes of sixteen rows are four registers, and eight shuffles make of them four registers that hold one 32-bit word of every row: the segment
 * as it is, word by word, scales and all, in the L1 cache.
 *
 * Threads: pure functions. */
#ifndef SL_KERNELS_CPU_ROWS_LANES_AVX512_H
#define SL_KERNELS_CPU_ROWS_LANES_AVX512_H

#include "kernels/cpu/matmul_lanes_avx512.h"

#define LANES         SL_PANEL_ROWS
#define PIECE         16 /* bytes of a row that are loaded at a time: four words */
#define SEGMENT_WORDS 68 /* of the largest: Q8_0 */

typedef const uint8_t *const *lane_rows;

/* A segment of sixteen rows: its 32-bit words in the file's order. */
typedef struct segment {
    _Alignas(64) uint32_t word[SEGMENT_WORDS][LANES];
} segment;

/* A piece of which `bytes` are wanted; what follows the last block of a row is never touched. */
INLINE __m128i load_piece(const uint8_t *at, size_t bytes)
{
    if (bytes >= PIECE)
        return _mm_loadu_si128((const __m128i *)at);
    return _mm_maskz_loadu_epi8((__mmask16)((1u << bytes) - 1), at);
}

/* The pieces of rows i, i + 4, i + 8, i + 12. */
INLINE __m512i load_four(lane_rows rows, int i, size_t at, size_t bytes)
{
    __m512i v = _mm512_castsi128_si512(load_piece(rows[i] + at, bytes));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load_piece(rows[i + 4] + at, bytes));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load_piece(rows[i + 8] + at, bytes));
    return _mm512_mask_broadcast_i32x4(v, 0xf000, load_piece(rows[i + 12] + at, bytes));
}

/* Four words of all rows. */
INLINE void lay_out_piece(lane_rows rows, size_t at, size_t bytes, uint32_t (*to)[LANES])
{
    __m512i r0 = load_four(rows, 0, at, bytes), r1 = load_four(rows, 1, at, bytes);
    __m512i r2 = load_four(rows, 2, at, bytes), r3 = load_four(rows, 3, at, bytes);
    __m512i low01 = _mm512_unpacklo_epi32(r0, r1), low23 = _mm512_unpacklo_epi32(r2, r3);
    __m512i high01 = _mm512_unpackhi_epi32(r0, r1), high23 = _mm512_unpackhi_epi32(r2, r3);
    _mm512_store_si512(to[0], _mm512_unpacklo_epi64(low01, low23));
    _mm512_store_si512(to[1], _mm512_unpackhi_epi64(low01, low23));
    _mm512_store_si512(to[2], _mm512_unpacklo_epi64(high01, high23));
    _mm512_store_si512(to[3], _mm512_unpackhi_epi64(high01, high23));
}

/* Bytes [begin, end) of the rows. */
INLINE void lay_out(lane_rows rows, size_t begin, size_t end, segment *s)
{
    size_t words = 0;
    for (; begin + PIECE <= end; begin += PIECE, words += PIECE / 4)
        lay_out_piece(rows, begin, PIECE, s->word + words);
    if (begin < end)
        lay_out_piece(rows, begin, end - begin, s->word + words);
}

/* Lines of the rows' bytes [begin, end). */
INLINE void prefetch_rows(lane_rows rows, size_t begin, size_t end)
{
    for (size_t at = (begin + WORD - 1) / WORD * WORD; at < end; at += WORD)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            _mm_prefetch((const char *)rows[i] + at, _MM_HINT_T1);
}

#endif

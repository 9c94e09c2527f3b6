/* kernels/cpu/pack_avx2.c: panels by transposing 32-bit words.
 *
 * The step that everything is made of takes sixteen bytes from each of sixteen rows, which is a matrix of 16 x 4 words, and stores it as 4 x
 * 16. Row 4h + j goes into half (h mod 2) of register j, so that the transpositions within 128-bit halves that AVX2 offers put four
 * neighbouring rows side by side; no lane ever has to cross. Packing reads and writes memory once and is limited by that, so
 * AVX-512 uses this file too. */
#if defined(__x86_64__)
#include "kernels/cpu/pack_walk.h"

#include <immintrin.h>

static inline __m256i load_pair(const cursor *c, int low_row, size_t offset)
{
    __m128i low = _mm_loadu_si128((const __m128i *)read_at(c, low_row, offset));
    __m128i high = _mm_loadu_si128((const __m128i *)read_at(c, low_row + 4, offset));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* The words of 8 rows from `row` on: out[w] has word w of each. */
static inline void transpose_half(const cursor *c, int row, size_t offset, __m256i out[4])
{
    __m256i r0 = load_pair(c, row, offset), r1 = load_pair(c, row + 1, offset);
    __m256i r2 = load_pair(c, row + 2, offset), r3 = load_pair(c, row + 3, offset);
    __m256i low01 = _mm256_unpacklo_epi32(r0, r1), low23 = _mm256_unpacklo_epi32(r2, r3);
    __m256i high01 = _mm256_unpackhi_epi32(r0, r1), high23 = _mm256_unpackhi_epi32(r2, r3);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

static inline void transpose_words(const cursor *c, size_t offset, uint8_t *to)
{
    __m256i first[4], second[4];
    transpose_half(c, 0, offset, first);
    transpose_half(c, 8, offset, second);
    for (int w = 0; w < 4; w++) {
        _mm256_storeu_si256((__m256i *)(to + 64 * w), first[w]);
        _mm256_storeu_si256((__m256i *)(to + 64 * w + 32), second[w]);
    }
}

/* A word holds two elements: even ones low, odd ones high. */
static inline void transpose_halves(const cursor *c, size_t offset, uint8_t *to)
{
    const __m256i low_mask = _mm256_set1_epi32(0xffff);
    __m256i first[4], second[4];
    transpose_half(c, 0, offset, first);
    transpose_half(c, 8, offset, second);
    for (int w = 0; w < 4; w++) {
        __m256i even = _mm256_packus_epi32(_mm256_and_si256(first[w], low_mask), _mm256_and_si256(second[w], low_mask));
        __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(first[w], 16), _mm256_srli_epi32(second[w], 16));
        _mm256_storeu_si256((__m256i *)(to + 64 * w), _mm256_permute4x64_epi64(even, _MM_SHUFFLE(3, 1, 2, 0)));
        _mm256_storeu_si256((__m256i *)(to + 64 * w + 32), _mm256_permute4x64_epi64(odd, _MM_SHUFFLE(3, 1, 2, 0)));
    }
}

void sli_pack_avx2(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    pack_rows(type, rows, cols, panel);
}
#endif

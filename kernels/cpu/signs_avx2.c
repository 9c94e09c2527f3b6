/* kernels/cpu/signs_avx2.c: products with planes of signs (D9) by looking sums up; kernels/signs.h tells the idea.
 *
 * A group of four columns has a table of sixteen 16-bit sums, kept as sixteen low and sixteen high bytes, because a shuffle looks up bytes. Tables
 * of two neighbouring groups lie in the two halves of a register, as do the signs; so both are used as they are loaded, and the halves are added at the
 * end of a block. Sums stay within 16 bits: 7 * 32 * 127 with three planes. */
#if defined(__x86_64__)
#include "kernels/cpu/signs_walk.h"

#include <immintrin.h>

#define AHEAD  4096
#define LINE   64
#define INLINE static inline __attribute__((always_inline))

/* Both groups of a pair: their low bytes, then their high bytes. */
INLINE __m256i load_part(const sli_sign_table *table, uint32_t pair, uint32_t high)
{
    return _mm256_load_si256((const __m256i *)(table->bytes + 64 * pair + 32 * high));
}

/* Sums of four activations with the signs that the place's bits say. */
INLINE __m256i sums_of(const int8_t *x)
{
    const __m256i s0 = _mm256_setr_epi16(-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1);
    const __m256i s1 = _mm256_setr_epi16(-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1);
    const __m256i s2 = _mm256_setr_epi16(-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1);
    const __m256i s3 = _mm256_setr_epi16(-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1);
    __m256i low = _mm256_add_epi16(_mm256_sign_epi16(_mm256_set1_epi16(x[0]), s0), _mm256_sign_epi16(_mm256_set1_epi16(x[1]), s1));
    __m256i high = _mm256_add_epi16(_mm256_sign_epi16(_mm256_set1_epi16(x[2]), s2), _mm256_sign_epi16(_mm256_set1_epi16(x[3]), s3));
    return _mm256_add_epi16(low, high);
}

static void make_table(const int8_t *x, sli_sign_table *table)
{
    const __m256i byte = _mm256_set1_epi16(255);
    for (uint32_t pair = 0; pair < SLI_SIGN_BLOCK_GROUPS / 2; pair++) {
        __m256i a = sums_of(x + pair * 8), b = sums_of(x + pair * 8 + 4);
        /* packus takes halves of both in turn: a0 b0 a1 b1, put right by the permutation to a0 a1 b0 b1. */
        __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
        __m256i high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
        _mm256_store_si256((__m256i *)(table->bytes + 64 * pair), _mm256_permute4x64_epi64(low, 0xd8));
        _mm256_store_si256((__m256i *)(table->bytes + 64 * pair + 32), _mm256_permute4x64_epi64(high, 0xd8));
    }
}

/* sums: of rows 0-7, 8-15, 16-23, 24-31, even groups in the lower half, odd ones in the upper. */
INLINE void add_plane(const uint8_t *signs, const sli_sign_table *table, __m256i sums[4])
{
    const __m256i nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int pair = 0; pair < SLI_SIGN_BLOCK_GROUPS / 2; pair++) {
        __m256i word = _mm256_loadu_si256((const __m256i *)(signs + pair * 32));
        __m256i near = _mm256_and_si256(word, nibble), far = _mm256_and_si256(_mm256_srli_epi16(word, 4), nibble);
        __m256i low = load_part(table, pair, 0);
        __m256i high = load_part(table, pair, 1);
        __m256i near_low = _mm256_shuffle_epi8(low, near), near_high = _mm256_shuffle_epi8(high, near);
        __m256i far_low = _mm256_shuffle_epi8(low, far), far_high = _mm256_shuffle_epi8(high, far);
        sums[0] = _mm256_add_epi16(sums[0], _mm256_unpacklo_epi8(near_low, near_high));
        sums[1] = _mm256_add_epi16(sums[1], _mm256_unpackhi_epi8(near_low, near_high));
        sums[2] = _mm256_add_epi16(sums[2], _mm256_unpacklo_epi8(far_low, far_high));
        sums[3] = _mm256_add_epi16(sums[3], _mm256_unpackhi_epi8(far_low, far_high));
    }
}

INLINE void add_block(const uint8_t *signs, uint32_t planes, const sli_sign_table *table, float d, __m256 acc[4])
{
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint32_t at = 0; at < planes * SL_SIGN_PLANE_BYTES; at += LINE)
        _mm_prefetch((const char *)signs + AHEAD + at, _MM_HINT_T1);
    for (uint32_t p = planes; p-- > 0;) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            sums[i] = _mm256_add_epi16(sums[i], sums[i]);
        add_plane(signs + p * SL_SIGN_PLANE_BYTES, table, sums);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m128i both = _mm_add_epi16(_mm256_castsi256_si128(sums[i]), _mm256_extracti128_si256(sums[i], 1));
        acc[i] = _mm256_fmadd_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(both)), acc[i]);
    }
}

static void add_tile(const uint8_t *signs, const uint8_t *planes, uint32_t blocks, const sli_sign_table *tables, const float *d,
                     float totals[SL_SIGN_ROWS])
{
    __m256 acc[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        acc[i] = _mm256_loadu_ps(totals + 8 * i);
    for (uint32_t b = 0; b < blocks; b++) {
        if (planes[b] == 1)
            add_block(signs, 1, &tables[b], d[b], acc);
        else
            add_block(signs, planes[b], &tables[b], d[b], acc);
        signs += planes[b] * SL_SIGN_PLANE_BYTES;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        _mm256_storeu_ps(totals + 8 * i, acc[i]);
}

void sli_dot_signs_avx2(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    sli_walk_signs(w, x, row_begin, row_end, out, make_table, add_tile);
}
#endif

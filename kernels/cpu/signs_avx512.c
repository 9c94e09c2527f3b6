/* kernels/cpu/signs_avx512.c: products with planes of signs (D9) by looking sums up; kernels/signs.h tells the idea.
 *
 * VPERMW looks sixteen 16-bit sums up at once and takes no notice of an index's upper bits. So the bytes of a group are widened and used as they are for
 * the rows in their lower halves, and shifted once for those in their upper ones, where AVX2 (signs_avx2.c) needs two shuffles of bytes and an
 * interleaving for as many. A lane is a row: both groups of a pair add to the same sums. Registers of 256 bits, because a table has sixteen sums.
 * Signs are asked for in the L2 cache (see rows_avx512.c). */
#if defined(__x86_64__)
#include "kernels/cpu/signs_walk.h"

#include <immintrin.h>

#define INLINE      static inline __attribute__((always_inline))
#define GROUP_BYTES 16 /* of signs */
#define AHEAD       4096
#define LINE        64
#define HALVES      2 /* of a panel's rows: in the lower halves of bytes, in the upper ones */

/* Sums of four activations with the signs that the place's bits say. */
static void make_table(const int8_t *x, sli_sign_table *table)
{
    const __m256i one = _mm256_set1_epi16(1);
    for (uint32_t group = 0; group < SLI_SIGN_BLOCK_GROUPS; group++, x += 4) {
        __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int bit = 0; bit < 4; bit++) {
            const __mmask16 set[4] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};
            __m256i sign = _mm256_mask_blend_epi16(set[bit], _mm256_set1_epi16(-1), one);
            sum = _mm256_add_epi16(sum, _mm256_sign_epi16(_mm256_set1_epi16(x[bit]), sign));
        }
        _mm256_store_si256((__m256i *)(table->bytes + 32 * group), sum);
    }
}

INLINE void add_plane(const uint8_t *signs, const sli_sign_table *table, __m256i sums[HALVES])
{
#pragma GCC unroll 8
    for (int group = 0; group < SLI_SIGN_BLOCK_GROUPS; group++) {
        __m256i places = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(signs + GROUP_BYTES * group)));
        __m256i table_sums = _mm256_load_si256((const __m256i *)(table->bytes + 32 * group));
        sums[0] = _mm256_add_epi16(sums[0], _mm256_permutexvar_epi16(places, table_sums));
        sums[1] = _mm256_add_epi16(sums[1], _mm256_permutexvar_epi16(_mm256_srli_epi16(places, 4), table_sums));
    }
}

INLINE void add_block(const uint8_t *signs, uint32_t planes, const sli_sign_table *table, float d, __m512 acc[HALVES])
{
    __m256i sums[HALVES] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint32_t at = 0; at < planes * SL_SIGN_PLANE_BYTES; at += LINE)
        _mm_prefetch((const char *)signs + AHEAD + at, _MM_HINT_T1);
#pragma GCC unroll 3
    for (uint32_t p = planes; p-- > 0;) {
        sums[0] = _mm256_add_epi16(sums[0], sums[0]);
        sums[1] = _mm256_add_epi16(sums[1], sums[1]);
        add_plane(signs + p * SL_SIGN_PLANE_BYTES, table, sums);
    }
#pragma GCC unroll 2
    for (int half = 0; half < HALVES; half++)
        acc[half] = _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(sums[half])), acc[half]);
}

static void add_tile(const uint8_t *signs, const uint8_t *planes, uint32_t blocks, const sli_sign_table *tables, const float *d,
                     float totals[SL_SIGN_ROWS])
{
    __m512 acc[HALVES] = {_mm512_loadu_ps(totals), _mm512_loadu_ps(totals + 16)};
    for (uint32_t b = 0; b < blocks; b++) {
        if (planes[b] == 1)
            add_block(signs, 1, &tables[b], d[b], acc);
        else if (planes[b] == SL_SIGN_PLANES)
            add_block(signs, SL_SIGN_PLANES, &tables[b], d[b], acc);
        else
            add_block(signs, planes[b], &tables[b], d[b], acc);
        signs += planes[b] * SL_SIGN_PLANE_BYTES;
    }
    _mm512_storeu_ps(totals, acc[0]);
    _mm512_storeu_ps(totals + 16, acc[1]);
}

void sli_dot_signs_avx512(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    sli_walk_signs(w, x, row_begin, row_end, out, make_table, add_tile);
}
#endif

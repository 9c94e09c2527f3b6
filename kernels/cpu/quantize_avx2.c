/* kernels/cpu/quantize_avx2.c: D1 with four registers per block. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>

static float max_of_lanes(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static int32_t sum_of_lanes(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1))));
}

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 v[4], largest = _mm256_setzero_ps();
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v[i]));
    }
    float amax = max_of_lanes(largest);
    bool visible = amax >= SLI_AMAX_MIN;
    __m256 inv = _mm256_set1_ps(visible ? 127.0f / amax : 0.0f);

    __m256i n[4], total = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inv)); /* rounds half to even, the mode that nobody changes */
        total = _mm256_add_epi32(total, n[i]);
    }
    /* Packing works within 128-bit halves, so 4-byte groups come out as 0 2 4 6 1 3 5 7 of the original order. */
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)q, bytes);
    *d = visible ? amax / 127.0f : 0.0f;
    *sum = sum_of_lanes(total);
}

void sli_quantize_avx2(sl_acts *x, uint32_t row_begin, uint32_t row_end)
{
    size_t blocks_per_row = x->cols / SL_ACT_BLOCK;
    for (size_t b = row_begin * blocks_per_row; b < row_end * blocks_per_row; b++)
        quantize_block(x->f32 + b * SL_ACT_BLOCK, x->q + b * SL_ACT_BLOCK, x->d + b, x->sum + b);
}
#endif

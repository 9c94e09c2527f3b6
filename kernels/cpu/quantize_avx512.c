/* kernels/cpu/quantize_avx512.c: D1 with two registers per block. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    bool visible = amax >= SLI_AMAX_MIN;
    __m512 inv = _mm512_set1_ps(visible ? 127.0f / amax : 0.0f);

    __m512i low_q = _mm512_cvtps_epi32(_mm512_mul_ps(low, inv)); /* rounds half to even, the mode that nobody changes */
    __m512i high_q = _mm512_cvtps_epi32(_mm512_mul_ps(high, inv));
    _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(low_q));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(high_q));
    *d = visible ? amax / 127.0f : 0.0f;
    *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low_q, high_q));
}

void sli_quantize_avx512(sl_acts *x, uint32_t row_begin, uint32_t row_end)
{
    size_t blocks_per_row = x->cols / SL_ACT_BLOCK;
    for (size_t b = row_begin * blocks_per_row; b < row_end * blocks_per_row; b++)
        quantize_block(x->f32 + b * SL_ACT_BLOCK, x->q + b * SL_ACT_BLOCK, x->d + b, x->sum + b);
}
#endif

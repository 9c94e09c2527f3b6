/* kernels/cpu/vector_lanes_x86.h: the last steps of a reduction, the same on AVX2 and AVX-512. */
#ifndef SL_KERNELS_CPU_VECTOR_LANES_X86_H
#define SL_KERNELS_CPU_VECTOR_LANES_X86_H

#include <immintrin.h>
#include <stdint.h>

/* Eight lanes onto four, two and one. */
static inline float x86_fold_sum(__m256 eight)
{
    __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
    __m128 two = four + _mm_movehl_ps(four, four);
    return two[0] + two[1];
}

static inline float x86_fold_max(__m256 eight)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return two[0] > two[1] ? two[0] : two[1];
}

#endif

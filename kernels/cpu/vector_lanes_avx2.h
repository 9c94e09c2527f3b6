/* kernels/cpu/vector_lanes_avx2.h: what the vector kernels need from AVX2, FMA and F16C beyond arithmetic on GCC's vector types. */
#ifndef SL_KERNELS_CPU_VECTOR_LANES_AVX2_H
#define SL_KERNELS_CPU_VECTOR_LANES_AVX2_H

#include "kernels/cpu/vector_lanes_x86.h"

#define SLI_NAME(entry)  sli_##entry##_avx2
#define LANES            8            /* floats of a register */
#define SUM_VECS         (16 / LANES) /* registers that hold the 16 lanes of a sum (D4) */
#define BLOCK_TILE_ROWS  6            /* 6 x 2 accumulators of 16 registers */
#define BLOCK_TILE_VECS  2
#define STREAM_TILE_VECS 2

typedef float vf __attribute__((vector_size(32)));
typedef float vf_at __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(32)));

static inline vf vf_splat(float x)
{
    return _mm256_set1_ps(x);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
    return _mm256_fmaddsub_ps(a, b, c);
} /* even lanes a * b - c, odd a * b + c */
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf vf_select_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline vf vf_load_f16(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}
static inline void vf_store_f16(void *to, vf x)
{
    _mm_storeu_si128(to, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_load_i8(const void *from)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from)));
}
static inline vf vf_load_bf16(const void *from)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16));
}
static inline vf vf_load_nibbles(const void *from, int shift) /* 0: the low ones, 4: the high ones; less 8 */
{
    __m256i bytes = _mm256_srl_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from)), _mm_cvtsi32_si128(shift));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(15)), _mm256_set1_epi32(8)));
}
static inline vf vf_splat_f16(uint16_t half)
{
    return _mm256_cvtph_ps(_mm_set1_epi16((short)half));
}

static inline vf vf_even_twice(vf x)
{
    return _mm256_moveldup_ps(x);
} /* x0 x0 x2 x2 .. */
static inline vf vf_odd_twice(vf x)
{
    return _mm256_movehdup_ps(x);
} /* x1 x1 x3 x3 .. */
static inline vf vf_load_zipped(const float *a, const float *b) /* a0 b0 a1 b1 .. */
{
    __m128 low = _mm_loadu_ps(a), high = _mm_loadu_ps(b);
    return _mm256_set_m128(_mm_unpackhi_ps(low, high), _mm_unpacklo_ps(low, high));
}

/* The 16 lanes of a sum, folded as D4 says; and their maximum. */
static inline float fold_sum(const vf lanes[2])
{
    return x86_fold_sum(lanes[0] + lanes[1]);
}
static inline float fold_max(const vf lanes[2])
{
    return x86_fold_max(_mm256_max_ps(lanes[0], lanes[1]));
}

#endif

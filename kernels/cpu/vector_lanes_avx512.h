/* kernels/cpu/vector_lanes_avx512.h: what the vector kernels need from AVX-512 beyond arithmetic on GCC's vector types. */
#ifndef SL_KERNELS_CPU_VECTOR_LANES_AVX512_H
#define SL_KERNELS_CPU_VECTOR_LANES_AVX512_H

#include "kernels/cpu/vector_lanes_x86.h"

#define SLI_NAME(entry)  sli_##entry##_avx512
#define LANES            16           /* floats of a register */
#define SUM_VECS         (16 / LANES) /* registers that hold the 16 lanes of a sum (D4) */
#define BLOCK_TILE_ROWS  12           /* 12 x 2 accumulators of 32 registers */
#define BLOCK_TILE_VECS  2
#define STREAM_TILE_VECS 4 /* up to 4 x 4 accumulators, so that a row of 64 is read in one sweep */

typedef float vf __attribute__((vector_size(64)));
typedef float vf_at __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(64)));

static inline vf vf_splat(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
    return _mm512_fmaddsub_ps(a, b, c);
} /* even lanes a * b - c, odd a * b + c */
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vf_select_less(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

static inline vf vf_load_f16(const void *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}
static inline void vf_store_f16(void *to, vf x)
{
    _mm256_storeu_si256(to, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_load_i8(const void *from)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
}
static inline vf vf_load_bf16(const void *from)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)), 16));
}
static inline vf vf_load_nibbles(const void *from, int shift) /* 0: the low ones, 4: the high ones; less 8 */
{
    __m512i bytes = _mm512_srl_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(from)), _mm_cvtsi32_si128(shift));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(15)), _mm512_set1_epi32(8)));
}
static inline vf vf_splat_f16(uint16_t half)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)half));
}

static inline vf vf_even_twice(vf x)
{
    return _mm512_moveldup_ps(x);
} /* x0 x0 x2 x2 .. */
static inline vf vf_odd_twice(vf x)
{
    return _mm512_movehdup_ps(x);
} /* x1 x1 x3 x3 .. */
static inline vf vf_load_zipped(const float *a, const float *b) /* a0 b0 a1 b1 .. */
{
    const __m512i order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutex2var_ps(_mm512_castps256_ps512(_mm256_loadu_ps(a)), order, _mm512_castps256_ps512(_mm256_loadu_ps(b)));
}

/* The 16 lanes of a sum, folded as D4 says; and their maximum. */
static inline float fold_sum(const vf lanes[1])
{
    return x86_fold_sum(_mm512_castps512_ps256(lanes[0]) + _mm512_extractf32x8_ps(lanes[0], 1));
}
static inline float fold_max(const vf lanes[1])
{
    return x86_fold_max(_mm256_max_ps(_mm512_castps512_ps256(lanes[0]), _mm512_extractf32x8_ps(lanes[0], 1)));
}

#endif

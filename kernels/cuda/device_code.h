/* kernels/cuda/device_code.h: what kernels are written in: CUDA, or its emulation, and the few things that the two spell differently.
 *
 * Arithmetic is written with C's operators and fmaf: the plug-ins are compiled without contraction (-fmad=false, -ffp-contract=off), without flushing
 * of denormals and with IEEE division and square root, so that +, -, *, / and fmaf are one rounding each, on both. */
#ifndef SL_KERNELS_CUDA_DEVICE_CODE_H
#define SL_KERNELS_CUDA_DEVICE_CODE_H

#include "kernels/cuda/contract.h"

#define SLI_FULL_WARP 0xffffffffu

#ifdef SL_EMULATED

#include "kernels/cuda/emulate.h"
#define SLI_DEVICE                     static inline
#define SLI_DYNAMIC_SHARED(type, name) type *name = (type *)sli_now.shared

SLI_DEVICE float sli_f16_to_f32(uint16_t half)
{
    return sl_f16_to_f32(half);
}
SLI_DEVICE uint16_t sli_f32_to_f16(float x)
{
    return sl_f32_to_f16(x);
}
SLI_DEVICE void sli_prefetch(const void *) {}
#define sli_permute         sli_emulated_permute
#define sli_mma_s8(d, a, b) sli_emulated_mma_s8(__LINE__, d, a, b)

#else

#include <cuda_fp16.h>
#define SLI_DEVICE static __device__ __forceinline__
/* Dynamic shared memory, 16-byte aligned; a name of one block. */
#define SLI_DYNAMIC_SHARED(type, name)                                                                                                     \
    extern __shared__ uint4 sli_dynamic_shared[];                                                                                          \
    type *name = (type *)sli_dynamic_shared

SLI_DEVICE float sli_f16_to_f32(uint16_t half)
{
    return __half2float(__ushort_as_half(half));
}
SLI_DEVICE uint16_t sli_f32_to_f16(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

/* Asks for a line of memory to be brought to where all processors share it. */
SLI_DEVICE void sli_prefetch(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* As __byte_perm, which first clears what is above an index's three bits: here those bits are clear already. */
SLI_DEVICE uint32_t sli_permute(uint32_t a, uint32_t b, uint32_t selector)
{
    uint32_t out;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(selector));
    return out;
}

/* d += a * b of a warp: a is 16 x 32 bytes, b 32 x 8, d 16 x 8 sums. With g = lane / 4 and t = lane % 4 a lane holds of a: rows g, g + 8, g, g + 8 at
 * columns 4t (the first two words) and 16 + 4t (the others); of b: column g at rows 4t and 16 + 4t; of d: columns 2t and 2t + 1 of row g, then of g + 8. */
SLI_DEVICE void sli_mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else /* the same from four of an 8 x 16 by 16 x 8 */
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 2; k++)
            asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                : "+r"(d[2 * half]), "+r"(d[2 * half + 1])
                : "r"(a[2 * k + half]), "r"(b[k]));
#endif
}

#endif

/* ---- the same on both ---- */

#define SLI_EXP_FUNCTION SLI_DEVICE
#include "kernels/exp.h"

SLI_DEVICE float sli_bf16_to_f32(uint16_t half)
{
    return __uint_as_float((uint32_t)half << 16);
}
SLI_DEVICE uint16_t sli_f32_to_bf16(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* D1's and the caches' bound, below which a block is zeros. */
#define SLI_DEVICE_AMAX_MIN 0x1p-120f

#endif

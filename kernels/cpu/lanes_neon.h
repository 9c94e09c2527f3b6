/* kernels/cpu/lanes_neon.h: what the NEON products share: loads of words and of 16-bit numbers, and prefetching. A register has four lanes of
 * 32 bits; where a lane is a row, a quarter of a panel. */
#ifndef SL_KERNELS_CPU_LANES_NEON_H
#define SL_KERNELS_CPU_LANES_NEON_H

#include "kernels/internal.h"

#include <arm_neon.h>

#define INLINE   static inline __attribute__((always_inline))
#define LANES    4  /* rows of a panel in a register */
#define QUARTERS 4  /* registers that hold a number of each row of a panel */
#define WORD     64 /* bytes of a word of all rows of a panel */

INLINE float32x4_t load_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

INLINE float32x4_t load_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* Four elements of a float format. */
INLINE float32x4_t load_floats(uint32_t type, const uint8_t *p)
{
    if (type == SL_TYPE_F32)
        return vreinterpretq_f32_u8(vld1q_u8(p));
    return type == SL_TYPE_F16 ? load_f16(p) : load_bf16(p);
}

/* acc + w * x[lane]; the lane of the instruction is part of its code. */
INLINE float32x4_t fma_lane(float32x4_t acc, float32x4_t w, float32x4_t x, int lane)
{
    switch (lane) {
    case 0: return vfmaq_laneq_f32(acc, w, x, 0);
    case 1: return vfmaq_laneq_f32(acc, w, x, 1);
    case 2: return vfmaq_laneq_f32(acc, w, x, 2);
    default: return vfmaq_laneq_f32(acc, w, x, 3);
    }
}

/* The nibbles of bytes, the lower or the upper ones. */
INLINE uint8x16_t nibbles_of(uint8x16_t bytes, bool upper)
{
    return upper ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
}

/* Into the L2 cache, as on other processors: what is used once. */
INLINE void prefetch_lines(const uint8_t *at, size_t lines)
{
#pragma GCC unroll 16
    for (size_t i = 0; i < lines; i++)
        __builtin_prefetch(at + 64 * i, 0, 2);
}

#endif

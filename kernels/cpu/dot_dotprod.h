/* kernels/cpu/dot_dotprod.h: sums of products of bytes with the dot product instructions, which add four products to a lane of 32 bits at once. See
 * dot_neon.h. */
#ifndef SL_KERNELS_CPU_DOT_DOTPROD_H
#define SL_KERNELS_CPU_DOT_DOTPROD_H

#include "kernels/cpu/lanes_neon.h"

#define SLI_NAME(entry) sli_##entry##_dotprod
#define ROWS_AT_ONCE    4 /* of activations: their sums are registers, with a whole panel sixteen */
#define ADDS_OF_BYTES   8 /* a block's: nothing overflows */

typedef int32x4_t dots;

INLINE dots dots_zero(void)
{
    return vdupq_n_s32(0);
}

INLINE dots dots_add(dots s, int8x16_t w, int8x16_t x)
{
    return vdotq_s32(s, w, x);
}

INLINE dots dots_add_word(dots s, int8x16_t w, int8x16_t x, int word)
{
    switch (word) {
    case 0: return vdotq_laneq_s32(s, w, x, 0);
    case 1: return vdotq_laneq_s32(s, w, x, 1);
    case 2: return vdotq_laneq_s32(s, w, x, 2);
    default: return vdotq_laneq_s32(s, w, x, 3);
    }
}

INLINE int32x4_t dots_total(dots s)
{
    return s;
}

#endif

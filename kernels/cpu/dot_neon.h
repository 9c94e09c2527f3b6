/* kernels/cpu/dot_neon.h: sums of products of bytes with NEON alone; dot_dotprod.h is the same with the dot product instructions.
 *
 * A `dots` has four sums of 32 bits, each of the products of the four bytes of a lane. Products are added in sixteen bits, eight and eight, and paired
 * when the total is asked for. With activations within -127 .. 127 (D1) a sixteen-bit sum holds
 *
 *     largest |weight|    additions
 *     32                  8: 32512
 *     128                 2: 32512 */
#ifndef SL_KERNELS_CPU_DOT_NEON_H
#define SL_KERNELS_CPU_DOT_NEON_H

#include "kernels/cpu/lanes_neon.h"

#define SLI_NAME(entry) sli_##entry##_neon
#define ROWS_AT_ONCE    2 /* of activations: their sums are registers, with both halves of a panel sixteen */
#define ADDS_OF_BYTES   2 /* until the total must be taken, where weights are whole bytes */

typedef struct dots {
    int16x8_t low, high;
} dots;

INLINE dots dots_zero(void)
{
    return (dots){vdupq_n_s16(0), vdupq_n_s16(0)};
}

INLINE dots dots_add(dots s, int8x16_t w, int8x16_t x)
{
    return (dots){vmlal_s8(s.low, vget_low_s8(w), vget_low_s8(x)), vmlal_high_s8(s.high, w, x)};
}

/* The same with one word of x, which all lanes are multiplied by. */
INLINE dots dots_add_word(dots s, int8x16_t w, int8x16_t x, int word)
{
    int32x4_t words = vreinterpretq_s32_s8(x);
    switch (word) {
    case 0: return dots_add(s, w, vreinterpretq_s8_s32(vdupq_laneq_s32(words, 0)));
    case 1: return dots_add(s, w, vreinterpretq_s8_s32(vdupq_laneq_s32(words, 1)));
    case 2: return dots_add(s, w, vreinterpretq_s8_s32(vdupq_laneq_s32(words, 2)));
    default: return dots_add(s, w, vreinterpretq_s8_s32(vdupq_laneq_s32(words, 3)));
    }
}

INLINE int32x4_t dots_total(dots s)
{
    return vpaddq_s32(vpaddlq_s16(s.low), vpaddlq_s16(s.high));
}

#endif

/* kernels/ref/decode.h: stored weights as numbers, for the scalar reference.
 *
 * Every quantised block means d * q (+ m) for each element, a super-block d * scale * q (- m * low), with integers q, scale and low. What
 * differs is where their bits lie. A block is decoded from its file bytes; one that lies in a panel is gathered from it first. */
#ifndef SL_KERNELS_REF_DECODE_H
#define SL_KERNELS_REF_DECODE_H

#include "kernels/internal.h"

#include <string.h>

#define SLI_SUBS_MAX 16 /* sub-blocks of a super-block */

/* A block's numbers. The integers scale and low are a super-block's; m is the minimum of a block of 32 or the scale of the lows. */
typedef struct sli_decoded {
    float d, m;
    int8_t q[SLI_SEGMENT_ELEMENTS];
    int8_t scale[SLI_SUBS_MAX];
    uint8_t low[SLI_SUBS_MAX];
} sli_decoded;

#define SLI_BLOCK_BYTES_MAX 256

void sli_decode_block(uint32_t type, const uint8_t *block, sli_decoded *out);

/* The file bytes of block `b` of row `r` of a panel whose rows have `blocks` blocks. */
void sli_gather_block(sli_layout layout, const uint8_t *panel, size_t blocks, size_t b, size_t r, uint8_t *block);

static inline float sli_load_f16(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return sl_f16_to_f32(half);
}

/* Element of a float format at `bytes`. */
static inline float sli_load_float(uint32_t type, const uint8_t *bytes)
{
    float value;
    uint16_t half;
    if (type == SL_TYPE_F32) {
        memcpy(&value, bytes, sizeof value);
        return value;
    }
    memcpy(&half, bytes, sizeof half);
    return type == SL_TYPE_F16 ? sl_f16_to_f32(half) : sl_bf16_to_f32(half);
}

#endif

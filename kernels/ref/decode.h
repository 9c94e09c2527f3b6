/* kernels/ref/decode.h: a stored weight as a number, for the scalar reference.
 *
 * Quantised formats all mean integer * scale (+ minimum); what differs is the integer: nibble - 8, nibble, or a signed byte. */
#ifndef SL_KERNELS_REF_DECODE_H
#define SL_KERNELS_REF_DECODE_H

#include "kernels/internal.h"

#include <string.h>

static inline uint16_t sli_load_u16(const uint8_t *bytes)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static inline float sli_load_f16(const uint8_t *bytes)
{
    return sl_f16_to_f32(sli_load_u16(bytes));
}

/* Element of a float format at `bytes`. */
static inline float sli_load_float(uint32_t type, const uint8_t *bytes)
{
    float value;
    if (type == SL_TYPE_F16)
        return sl_f16_to_f32(sli_load_u16(bytes));
    if (type == SL_TYPE_BF16)
        return sl_bf16_to_f32(sli_load_u16(bytes));
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* Spreads quant word `w` of a block into the block's 32 integers. A nibble word holds elements 4w.. low and 16 + 4w.. high. */
static inline void sli_decode_word(uint32_t type, const uint8_t word[4], size_t w, int8_t q[SL_ACT_BLOCK])
{
    int offset = type == SL_TYPE_Q4_0 ? 8 : 0;
    for (size_t i = 0; i < 4; i++) {
        if (type == SL_TYPE_Q8_0) {
            q[4 * w + i] = (int8_t)word[i];
        } else {
            q[4 * w + i] = (int8_t)((word[i] & 15) - offset);
            q[16 + 4 * w + i] = (int8_t)((word[i] >> 4) - offset);
        }
    }
}

/* Where row `r` of block `b` lies in a quantised panel of `blocks` blocks. */
static inline const uint8_t *sli_panel_word(const uint8_t *panel, sli_layout layout, size_t b, size_t w, size_t r)
{
    return panel + ((b * layout.words + w) * SL_PANEL_ROWS + r) * 4;
}

static inline const uint8_t *sli_panel_scale(const uint8_t *panel, sli_layout layout, size_t blocks, size_t b, size_t r)
{
    return panel + (blocks * layout.words * 4 + b * 2) * SL_PANEL_ROWS + r * 2;
}

static inline const uint8_t *sli_panel_min(const uint8_t *panel, sli_layout layout, size_t blocks, size_t b, size_t r)
{
    return sli_panel_scale(panel, layout, blocks, blocks + b, r); /* the minima follow the scales, in the same order */
}

#endif

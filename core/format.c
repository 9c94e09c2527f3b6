/* core/format.c: the table of tensor formats, and the two 16-bit float types.
 *
 * The table is GGUF's numbering. A number that is missing here was never given out or has been withdrawn (4, 5, 31-33, 36-38): the
 * bytes behind such a tensor have no agreed meaning, so a file that uses one is refused. */
#include "core/format.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#define FLOAT_FORMAT(label, bytes)                                                                                                         \
    {                                                                                                                                      \
        label, 1, bytes, true, false                                                                                                       \
    }
#define BLOCK_FORMAT(label, elements, bytes)                                                                                               \
    {                                                                                                                                      \
        label, elements, bytes, true, true                                                                                                 \
    }
#define SHOWN_FORMAT(label, elements, bytes)                                                                                               \
    {                                                                                                                                      \
        label, elements, bytes, false, (elements) > 1                                                                                      \
    }

static const sl_format formats[SL_TYPE_LIMIT] = {
    [SL_TYPE_F32] = FLOAT_FORMAT("F32", 4),
    [SL_TYPE_F16] = FLOAT_FORMAT("F16", 2),
    [SL_TYPE_Q4_0] = BLOCK_FORMAT("Q4_0", 32, 18), /* f16 scale, 16 bytes of nibbles */
    [SL_TYPE_Q4_1] = BLOCK_FORMAT("Q4_1", 32, 20), /* f16 scale, f16 minimum, 16 bytes of nibbles */
    [SL_TYPE_Q5_0] = BLOCK_FORMAT("Q5_0", 32, 22), /* f16 scale, 4 bytes of fifth bits, 16 bytes of nibbles */
    [SL_TYPE_Q5_1] = BLOCK_FORMAT("Q5_1", 32, 24), /* f16 scale, f16 minimum, then as Q5_0 */
    [SL_TYPE_Q8_0] = BLOCK_FORMAT("Q8_0", 32, 34), /* f16 scale, 32 bytes */
    [9] = SHOWN_FORMAT("Q8_1", 32, 36),
    [SL_TYPE_Q2_K] = BLOCK_FORMAT("Q2_K", 256, 84),  /* 16 bytes of 4-bit scales and minima, 64 of 2-bit quants, two f16 */
    [SL_TYPE_Q3_K] = BLOCK_FORMAT("Q3_K", 256, 110), /* 32 bytes of third bits, 64 of 2-bit quants, 12 of 6-bit scales, f16 scale */
    [SL_TYPE_Q4_K] = BLOCK_FORMAT("Q4_K", 256, 144), /* two f16, 12 bytes of 6-bit scales and minima, 128 of nibbles */
    [SL_TYPE_Q5_K] = BLOCK_FORMAT("Q5_K", 256, 176), /* as Q4_K, with 32 bytes of fifth bits before the nibbles */
    [SL_TYPE_Q6_K] = BLOCK_FORMAT("Q6_K", 256, 210), /* 128 bytes of nibbles, 64 of upper bit pairs, 16 of scales, f16 scale */
    [15] = SHOWN_FORMAT("Q8_K", 256, 292),
    [16] = SHOWN_FORMAT("IQ2_XXS", 256, 66),
    [17] = SHOWN_FORMAT("IQ2_XS", 256, 74),
    [18] = SHOWN_FORMAT("IQ3_XXS", 256, 98),
    [19] = SHOWN_FORMAT("IQ1_S", 256, 50),
    [SL_TYPE_IQ4_NL] = BLOCK_FORMAT("IQ4_NL", 32, 18), /* f16 scale, 16 bytes of nibbles that index a table */
    [21] = SHOWN_FORMAT("IQ3_S", 256, 110),
    [22] = SHOWN_FORMAT("IQ2_S", 256, 82),
    [SL_TYPE_IQ4_XS] = BLOCK_FORMAT("IQ4_XS", 256, 136), /* f16 scale, 2 + 4 bytes of 6-bit scales, 128 of nibbles that index a table */
    [SL_TYPE_I8] = SHOWN_FORMAT("I8", 1, 1),
    [25] = SHOWN_FORMAT("I16", 1, 2),
    [SL_TYPE_I32] = SHOWN_FORMAT("I32", 1, 4),
    [SL_TYPE_I64] = SHOWN_FORMAT("I64", 1, 8),
    [28] = SHOWN_FORMAT("F64", 1, 8),
    [29] = SHOWN_FORMAT("IQ1_M", 256, 56),
    [SL_TYPE_BF16] = FLOAT_FORMAT("BF16", 2),
    [34] = SHOWN_FORMAT("TQ1_0", 256, 54),
    [35] = SHOWN_FORMAT("TQ2_0", 256, 66),
    [39] = SHOWN_FORMAT("MXFP4", 32, 17),
    [40] = SHOWN_FORMAT("NVFP4", 64, 36),
    [41] = SHOWN_FORMAT("Q1_0", 128, 18),
    [42] = SHOWN_FORMAT("Q2_0", 64, 18),
};

const sl_format *sl_format_of(uint32_t type)
{
    if (type >= SL_TYPE_LIMIT || !formats[type].name)
        return NULL;
    return &formats[type];
}

const sl_format *sl_format_by_name(const char *name, uint32_t *type)
{
    for (uint32_t i = 0; i < SL_TYPE_LIMIT; i++) {
        if (formats[i].name && strcasecmp(formats[i].name, name) == 0) {
            *type = i;
            return &formats[i];
        }
    }
    return NULL;
}

size_t sl_row_bytes(uint32_t type, uint64_t elements)
{
    const sl_format *format = sl_format_of(type);
    assert(format && elements % format->block_elements == 0);
    return (size_t)(elements / format->block_elements * format->block_bytes);
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

float sl_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u;
    uint32_t mantissa = half & 0x3ffu;

    if (exponent == 31) { /* infinity; a NaN becomes quiet, as the processor's own conversion makes it */
        uint32_t quiet = mantissa ? 0x400000u : 0;
        return float_of_bits(sign | 0x7f800000u | quiet | mantissa << 13);
    }
    if (exponent == 0) { /* zero and subnormals are mantissa * 2^-24, exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_of_bits(sign | bits_of_float(magnitude));
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t sl_f32_to_f16(float value)
{
    uint32_t bits = bits_of_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;

    if (magnitude > 0x7f800000u) /* NaN: keep the top of its payload, make it quiet */
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 halves are multiples of 2^-24. Adding 0.5 moves exactly that bit to the end of the sum's mantissa, so that the
         * addition itself rounds to nearest even. */
        float shifted = float_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of_float(shifted) - 0x3f000000u));
    }
    /* Rebias the exponent (127 - 15 = 112) and round away the 13 low bits; a carry out of the mantissa is the next exponent. */
    uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfffu + odd) >> 13));
}

float sl_bf16_to_f32(uint16_t half)
{
    return float_of_bits((uint32_t)half << 16);
}

uint16_t sl_f32_to_bf16(float value)
{
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

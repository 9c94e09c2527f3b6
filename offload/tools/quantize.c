/* offload/tools/quantize.c: rounding weights.
 *
 * Each rule maps a block of 32 onto a grid whose step is one fp16. The integers are found with the step as fp32 and only then is the step
 * rounded: that is how the formats' reference does it, and bytes are to be equal.
 *
 *   Q8_0  step = amax / 127, integers -127..127
 *   Q4_0  the value that is largest in magnitude becomes -8 exactly (the grid is -8..7, its far end used): step = that value / -8
 *   Q5_0  the same with -16..15
 *   Q4_1  the grid runs from the smallest to the largest value: step = (max - min) / 15 */
#include "offload/tools/quantize.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32, HALF_BLOCK = 16 };

bool sl_quantize_knows(uint32_t type)
{
    switch (type) {
    case SL_TYPE_F32:
    case SL_TYPE_F16:
    case SL_TYPE_BF16:
    case SL_TYPE_Q4_0:
    case SL_TYPE_Q4_1:
    case SL_TYPE_Q5_0:
    case SL_TYPE_Q8_0: return true;
    default: return false;
    }
}

static void put_half(uint8_t *out, float value)
{
    uint16_t half = sl_f32_to_f16(value);
    memcpy(out, &half, sizeof(half));
}

/* Truncates to 0..15; a NaN, too, lands there. */
static unsigned nibble(float value)
{
    if (!(value > 0.0f))
        return 0;
    return value >= 15.0f ? 15 : (unsigned)value;
}

static void quantize_q8_0(const float *x, uint8_t *out)
{
    float amax = 0.0f;
    for (int i = 0; i < BLOCK; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    float step = amax / 127.0f, inverse = step != 0.0f ? 1.0f / step : 0.0f;
    put_half(out, step);
    for (int i = 0; i < BLOCK; i++) {
        float q = roundf(x[i] * inverse);
        q = !(q > -127.0f) ? -127.0f : q > 127.0f ? 127.0f : q;
        out[2 + i] = (uint8_t)(int8_t)q;
    }
}

/* The value that is largest in magnitude, the first of them. */
static float extreme_of(const float *x)
{
    float amax = 0.0f, extreme = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            extreme = x[i];
        }
    }
    return extreme;
}

static void quantize_q4_0(const float *x, uint8_t *out)
{
    float step = extreme_of(x) / -8.0f, inverse = step != 0.0f ? 1.0f / step : 0.0f;
    put_half(out, step);
    for (int i = 0; i < HALF_BLOCK; i++)
        out[2 + i] = (uint8_t)(nibble(x[i] * inverse + 8.5f) | nibble(x[HALF_BLOCK + i] * inverse + 8.5f) << 4);
}

/* Truncates to 0..31; a NaN, too, lands there. */
static unsigned five_bits(float value)
{
    if (!(value > 0.0f))
        return 0;
    return value >= 31.0f ? 31 : (unsigned)value;
}

static void quantize_q5_0(const float *x, uint8_t *out)
{
    float step = extreme_of(x) / -16.0f, inverse = step != 0.0f ? 1.0f / step : 0.0f;
    uint32_t fifth = 0;
    put_half(out, step);
    for (unsigned i = 0; i < HALF_BLOCK; i++) {
        unsigned low = five_bits(x[i] * inverse + 16.5f), high = five_bits(x[HALF_BLOCK + i] * inverse + 16.5f);
        out[6 + i] = (uint8_t)((low & 15) | (high & 15) << 4);
        fifth |= (uint32_t)(low >> 4) << i | (uint32_t)(high >> 4) << (HALF_BLOCK + i);
    }
    memcpy(out + 2, &fifth, sizeof(fifth));
}

static void quantize_q4_1(const float *x, uint8_t *out)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < BLOCK; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    float step = (high - low) / 15.0f, inverse = step != 0.0f ? 1.0f / step : 0.0f;
    put_half(out, step);
    put_half(out + 2, low);
    for (int i = 0; i < HALF_BLOCK; i++)
        out[4 + i] = (uint8_t)(nibble((x[i] - low) * inverse + 0.5f) | nibble((x[HALF_BLOCK + i] - low) * inverse + 0.5f) << 4);
}

static void convert_halves(const float *row, uint64_t elements, uint8_t *out, uint16_t (*convert)(float))
{
    for (uint64_t i = 0; i < elements; i++) {
        uint16_t half = convert(row[i]);
        memcpy(out + i * sizeof(half), &half, sizeof(half));
    }
}

void sl_quantize_row(uint32_t type, const float *row, uint64_t elements, uint8_t *out)
{
    void (*block)(const float *, uint8_t *) = NULL;
    switch (type) {
    case SL_TYPE_F32: memcpy(out, row, elements * sizeof(*row)); return;
    case SL_TYPE_F16: convert_halves(row, elements, out, sl_f32_to_f16); return;
    case SL_TYPE_BF16: convert_halves(row, elements, out, sl_f32_to_bf16); return;
    case SL_TYPE_Q8_0: block = quantize_q8_0; break;
    case SL_TYPE_Q4_0: block = quantize_q4_0; break;
    case SL_TYPE_Q5_0: block = quantize_q5_0; break;
    case SL_TYPE_Q4_1: block = quantize_q4_1; break;
    default: return;
    }
    for (uint64_t i = 0; i < elements; i += BLOCK, out += sl_row_bytes(type, BLOCK))
        block(row + i, out);
}

/* offload/tools/synth_row.c: random rows.
 *
 * Quantised blocks are not rounded from floats but drawn as they lie: uniform integers, and a step that gives them the wanted deviation. */
#include "offload/tools/synth_row.h"
#include "offload/tools/quantize.h"

#include <math.h>
#include <string.h>

static void put_half(uint8_t *out, float value)
{
    uint16_t half = sl_f32_to_f16(value);
    memcpy(out, &half, sizeof(half));
}

/* The standard deviations of uniform integers: nibbles, and -127..127. */
#define NIBBLE_DEVIATION 4.6097722f
#define BYTE_DEVIATION   73.6116f

/* A block's step varies by a quarter around the wanted one. Its sign is random, which takes away the mean of -8..7. */
static float random_step(uint64_t random, float step)
{
    float magnitude = step * (0.75f + 0.5f * sli_unit(random));
    return random & 1 ? -magnitude : magnitude;
}

static void random_nibbles(uint64_t *state, uint8_t out[16])
{
    uint64_t words[2] = {sli_random_next(state), sli_random_next(state)};
    memcpy(out, words, sizeof(words));
}

/* -128 is in no file that was quantised from floats, and kernels may rely on that: it becomes 0. */
static void random_bytes(uint64_t *state, uint8_t out[32])
{
    for (int i = 0; i < 32; i += 8) {
        uint64_t word = sli_random_next(state);
        memcpy(out + i, &word, sizeof(word));
    }
    for (int i = 0; i < 32; i++)
        out[i] = out[i] == 0x80 ? 0 : out[i];
}

/* One block of Q4_0, Q4_1 or Q8_0; returns what follows it. */
static uint8_t *random_block(uint32_t type, float deviation, uint64_t *state, uint8_t *out)
{
    uint64_t random = sli_random_next(state);
    if (type == SL_TYPE_Q8_0) {
        put_half(out, random_step(random, deviation / BYTE_DEVIATION));
        random_bytes(state, out + 2);
        return out + 34;
    }
    float step = random_step(random, deviation / NIBBLE_DEVIATION);
    put_half(out, step);
    if (type == SL_TYPE_Q4_0) {
        random_nibbles(state, out + 2);
        return out + 18;
    }
    put_half(out + 2, step * -7.5f);
    random_nibbles(state, out + 4);
    return out + 20;
}

/* The formats whose blocks are random bits throughout but for their one or two fp16 numbers, d and m: with d = 1, what deviation that gives, and the m
 * that takes the mean away. */
static const struct drawn_format {
    uint32_t type;
    uint8_t d_offset, m_offset;
    float deviation, m;
} drawn[] = {
    {SL_TYPE_Q5_0, 0, 0, 9.2331f, 0},   {SL_TYPE_Q5_1, 0, 2, 9.2331f, -15.5f}, {SL_TYPE_Q2_K, 80, 82, 13.874f, 1.5f},
    {SL_TYPE_Q3_K, 108, 0, 43.34f, 0},  {SL_TYPE_Q4_K, 0, 2, 258.3f, 7.5f},    {SL_TYPE_Q5_K, 0, 2, 526.9f, 15.5f},
    {SL_TYPE_Q6_K, 208, 0, 1365.7f, 0}, {SL_TYPE_IQ4_NL, 0, 0, 67.44f, 0},     {SL_TYPE_IQ4_XS, 0, 0, 1246.2f, 0},
};

static const struct drawn_format *drawn_format_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof(drawn) / sizeof(drawn[0]); i++)
        if (drawn[i].type == type)
            return &drawn[i];
    return NULL;
}

static uint8_t *draw_block(const struct drawn_format *format, float deviation, uint64_t *state, uint8_t *out)
{
    size_t bytes = sl_format_of(format->type)->block_bytes;
    float d = random_step(sli_random_next(state), deviation / format->deviation);
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = sli_random_next(state);
        memcpy(out + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
    put_half(out + format->d_offset, d);
    if (format->m != 0)
        put_half(out + format->m_offset, d * format->m);
    return out + bytes;
}

void sli_synth_row(uint32_t type, uint64_t elements, uint64_t state, float *scratch, uint8_t *out)
{
    float deviation = 1.0f / sqrtf((float)elements);
    const struct drawn_format *format = drawn_format_of(type);
    if (sl_format_of(type)->quantized) {
        for (uint64_t i = 0; i < elements; i += sl_format_of(type)->block_elements)
            out = format ? draw_block(format, deviation, &state, out) : random_block(type, deviation, &state, out);
        return;
    }
    float range = deviation * 3.4641016f; /* a uniform interval of length sqrt(12) has deviation 1 */
    for (uint64_t i = 0; i < elements; i++)
        scratch[i] = (sli_unit(sli_random_next(&state)) - 0.5f) * range;
    sl_quantize_row(type, scratch, elements, out);
}

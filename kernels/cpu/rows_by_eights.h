/* kernels/cpu/rows_by_eights.h: one row of activations times rows that lie scattered, as in the file, eight at a time.
 *
 * Included by one file per instruction set, which then defines multiply_quantized() and multiply_floats() for eight rows. Formats that have no way
 * of their own here go segment by segment. While eight rows are multiplied the next eight are asked for, as nobody else could know where they lie. */
#ifndef SL_KERNELS_CPU_ROWS_BY_EIGHTS_H
#define SL_KERNELS_CPU_ROWS_BY_EIGHTS_H

#include "kernels/segments.h"

#include <string.h>

#define EIGHT 8

typedef const uint8_t *const *eight_rows;

INLINE size_t block_bytes_of(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 34 : type == SL_TYPE_Q4_1 ? 20 : 18;
}

INLINE void prefetch_rows(eight_rows rows, size_t begin, size_t end)
{
    for (size_t at = begin; at < end; at += 64)
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++)
            __builtin_prefetch(rows[i] + at, 0, 2);
}

/* Q4_0, Q4_1 or Q8_0 (D2); F32, F16 or BF16 (D3). */
INLINE void multiply_quantized(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT]);
INLINE void multiply_floats(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT]);

typedef void (*multiply_fn)(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT]);

static void q4_0(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_quantized(SL_TYPE_Q4_0, rows, ahead, x, out);
}
static void q4_1(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_quantized(SL_TYPE_Q4_1, rows, ahead, x, out);
}
static void q8_0(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_quantized(SL_TYPE_Q8_0, rows, ahead, x, out);
}
static void f32(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_floats(SL_TYPE_F32, rows, ahead, x, out);
}
static void f16(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_floats(SL_TYPE_F16, rows, ahead, x, out);
}
static void bf16(eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    multiply_floats(SL_TYPE_BF16, rows, ahead, x, out);
}

static multiply_fn multiply_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return q4_0;
    case SL_TYPE_Q4_1: return q4_1;
    case SL_TYPE_Q8_0: return q8_0;
    case SL_TYPE_F32: return f32;
    case SL_TYPE_F16: return f16;
    case SL_TYPE_BF16: return bf16;
    default: return NULL;
    }
}

void SLI_NAME(dot_rows)(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out)
{
    static const sli_segment_kernels by_segment = {.pack = SLI_PACK, .matmul = SLI_NAME(matmul)};
    multiply_fn multiply = multiply_of(type);
    if (multiply == NULL) {
        sli_dot_rows_by_segment(&by_segment, type, rows, count, x, out);
        return;
    }
    uint32_t i = 0;
    for (; i + EIGHT <= count; i += EIGHT)
        multiply(rows + i, i + 2 * EIGHT <= count ? rows + i + EIGHT : rows + i, x, out + i);
    if (i == count)
        return;
    /* The last ones are repeated to make eight. */
    const uint8_t *last[EIGHT];
    float last_out[EIGHT];
    for (uint32_t j = 0; j < EIGHT; j++)
        last[j] = rows[i + j < count ? i + j : count - 1];
    multiply(last, last, x, last_out);
    memcpy(out + i, last_out, (count - i) * sizeof *out);
}

#endif

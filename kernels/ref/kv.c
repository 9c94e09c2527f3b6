/* kernels/ref/kv.c: how keys and values lie in a page, and how they are rounded on the way in.
 *
 * A page holds 64 positions of one KV head. The scores of a query are 64 sums that run over components, so K is stored with the
 * positions side by side: a vector lane is a position. The output is a sum over positions for every component, so V is stored the
 * other way round: a lane is a component. Both sums then run in order without a single horizontal step. */
#include "kernels/ref/kv.h"
#include "kernels/internal.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define BLOCK 32 /* components that share a scale */

/* What a vector's components lie in, one after the other: floats, halves or bytes. A byte of q4_0 has two components of a block, c and c + 16:
 * so two positions never share a byte, and may be written by two threads. */
static uint32_t units_of(uint32_t type, uint32_t head_dim)
{
    return type == SL_TYPE_Q4_0 ? head_dim / 2 : head_dim;
}

static uint32_t unit_of(uint32_t type, uint32_t c)
{
    return type == SL_TYPE_Q4_0 ? c / BLOCK * (BLOCK / 2) + c % (BLOCK / 2) : c;
}

static size_t unit_bytes(uint32_t type)
{
    switch (type) {
    case SL_TYPE_F32: return 4;
    case SL_TYPE_F16:
    case SL_TYPE_BF16: return 2;
    default: return 1;
    }
}

static bool has_scales(uint32_t type)
{
    return type == SL_TYPE_Q8_0 || type == SL_TYPE_Q4_0;
}

static size_t scales_offset(uint32_t type, uint32_t head_dim)
{
    return (size_t)SL_KV_PAGE * units_of(type, head_dim);
}

/* A vector's way into a page: unit u goes to index unit0 + u * unit_step, block b's scale to scale0 + b * scale_step. */
typedef struct placement {
    size_t unit0, unit_step, scale0, scale_step;
} placement;

static placement key_at(uint32_t index)
{
    return (placement){index, SL_KV_PAGE, index, SL_KV_PAGE};
}

static placement value_at(uint32_t type, uint32_t index, uint32_t head_dim)
{
    return (placement){(size_t)index * units_of(type, head_dim), 1, (size_t)index * (head_dim / BLOCK), 1};
}

/* ---- stores ---- */

static void store_scale(uint8_t *scales, placement at, uint32_t block, float value)
{
    uint16_t scale = sl_f32_to_f16(value);
    memcpy(scales + 2 * (at.scale0 + block * at.scale_step), &scale, sizeof scale);
}

static void store_q8(uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    int8_t *quants = (int8_t *)page;
    for (uint32_t b = 0; b < head_dim / BLOCK; b++) {
        float amax = 0.0f;
        for (uint32_t c = b * BLOCK; c < (b + 1) * BLOCK; c++)
            amax = fmaxf(amax, fabsf(x[c]));
        bool zero = amax < SLI_AMAX_MIN;
        float inverse = zero ? 0.0f : 127.0f / amax;
        for (uint32_t c = b * BLOCK; c < (b + 1) * BLOCK; c++)
            quants[at.unit0 + c * at.unit_step] = (int8_t)lrintf(x[c] * inverse);
        store_scale(page + scales_offset(SL_TYPE_Q8_0, head_dim), at, b, zero ? 0.0f : amax / 127.0f);
    }
}

/* x in units of the scale, as a nibble: -8 .. 7 are 0 .. 15. Only what is as large as the extreme and of the other sign is cut. */
static uint8_t nibble_of(float x)
{
    long q = lrintf(x) + 8;
    return (uint8_t)(q < 0 ? 0 : q > 15 ? 15 : q);
}

static void store_q4(uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    for (uint32_t b = 0; b < head_dim / BLOCK; b++, x += BLOCK) {
        float extreme = 0.0f; /* the first of the largest ones: it becomes -8, whatever its sign */
        for (uint32_t c = 0; c < BLOCK; c++)
            extreme = fabsf(x[c]) > fabsf(extreme) ? x[c] : extreme;
        bool zero = fabsf(extreme) < SLI_AMAX_MIN;
        float inverse = zero ? 0.0f : -8.0f / extreme;
        for (uint32_t c = 0; c < BLOCK / 2; c++)
            page[at.unit0 + (b * (BLOCK / 2) + c) * at.unit_step] = (uint8_t)(nibble_of(x[c] * inverse) |
                                                                              nibble_of(x[c + BLOCK / 2] * inverse) << 4);
        store_scale(page + scales_offset(SL_TYPE_Q4_0, head_dim), at, b, zero ? 0.0f : extreme / -8.0f);
    }
}

static void store_floats(uint32_t type, uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    for (uint32_t c = 0; c < head_dim; c++) {
        size_t element = at.unit0 + c * at.unit_step;
        if (type == SL_TYPE_F32) {
            memcpy(page + 4 * element, &x[c], sizeof x[c]);
        } else {
            uint16_t half = type == SL_TYPE_F16 ? sl_f32_to_f16(x[c]) : sl_f32_to_bf16(x[c]);
            memcpy(page + 2 * element, &half, sizeof half);
        }
    }
}

static void store(uint32_t type, uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    switch (type) {
    case SL_TYPE_Q8_0: store_q8(page, at, x, head_dim); break;
    case SL_TYPE_Q4_0: store_q4(page, at, x, head_dim); break;
    default: store_floats(type, page, at, x, head_dim);
    }
}

void sli_kv_store_k_ref(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim)
{
    store(type, page, key_at(index), k, head_dim);
}

void sli_kv_store_v_ref(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim)
{
    store(type, page, value_at(type, index, head_dim), v, head_dim);
}

/* ---- loads ---- */

static float load(uint32_t type, const uint8_t *page, placement at, uint32_t c, uint32_t head_dim)
{
    uint16_t half = 0;
    float single;
    const uint8_t *unit = page + unit_bytes(type) * (at.unit0 + unit_of(type, c) * at.unit_step);
    if (has_scales(type))
        memcpy(&half, page + scales_offset(type, head_dim) + 2 * (at.scale0 + c / BLOCK * at.scale_step), sizeof half);
    else if (type != SL_TYPE_F32)
        memcpy(&half, unit, sizeof half);
    switch (type) {
    case SL_TYPE_F32: memcpy(&single, unit, sizeof single); return single;
    case SL_TYPE_F16: return sl_f16_to_f32(half);
    case SL_TYPE_BF16: return sl_bf16_to_f32(half);
    case SL_TYPE_Q4_0: return sl_f16_to_f32(half) * (float)((*unit >> (c % BLOCK < BLOCK / 2 ? 0 : 4) & 15) - 8);
    default: return sl_f16_to_f32(half) * (float)*(const int8_t *)unit;
    }
}

float sli_kv_key_ref(uint32_t type, const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim)
{
    return load(type, page, key_at(index), c, head_dim);
}

float sli_kv_value_ref(uint32_t type, const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim)
{
    return load(type, page, value_at(type, index, head_dim), c, head_dim);
}

void sl_kv_key_floats(uint32_t type, const uint8_t *k_page, uint32_t index, uint32_t head_dim, float *key)
{
    for (uint32_t c = 0; c < head_dim; c++)
        key[c] = load(type, k_page, key_at(index), c, head_dim);
}

/* ---- copies ---- */

/* Units of `bytes`, a constant where this is inlined, at these distances. */
static inline __attribute__((always_inline)) void copy_units(size_t bytes, const uint8_t *from, size_t from_step, uint8_t *to,
                                                             size_t to_step, uint32_t count)
{
    for (uint32_t u = 0; u < count; u++, from += bytes * from_step, to += bytes * to_step)
        memcpy(to, from, bytes);
}

/* One vector as it is stored, from one placement to another. */
static void copy(uint32_t type, const uint8_t *from, placement at, uint8_t *to, placement goal, uint32_t head_dim)
{
    size_t bytes = unit_bytes(type), scales = scales_offset(type, head_dim);
    uint32_t units = units_of(type, head_dim);
    const uint8_t *source = from + bytes * at.unit0;
    uint8_t *target = to + bytes * goal.unit0;
    if (at.unit_step == 1 && goal.unit_step == 1)
        memcpy(target, source, bytes * units);
    else if (bytes == 4)
        copy_units(4, source, at.unit_step, target, goal.unit_step, units);
    else if (bytes == 2)
        copy_units(2, source, at.unit_step, target, goal.unit_step, units);
    else
        copy_units(1, source, at.unit_step, target, goal.unit_step, units);
    for (uint32_t b = 0; has_scales(type) && b < head_dim / BLOCK; b++)
        memcpy(to + scales + 2 * (goal.scale0 + b * goal.scale_step), from + scales + 2 * (at.scale0 + b * at.scale_step), 2);
}

void sli_kv_copy_k_ref(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, key_at(from_index), to, key_at(to_index), head_dim);
}

void sli_kv_copy_v_ref(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, value_at(type, from_index, head_dim), to, value_at(type, to_index, head_dim), head_dim);
}

void sli_kv_turn_k_ref(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, value_at(type, from_index, head_dim), to, key_at(to_index), head_dim);
}

void sl_kv_key_row(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, key_at(from_index), to, value_at(type, to_index, head_dim), head_dim);
}

/* ---- sums ---- */

void sli_kv_sum_v_ref(uint32_t type, const uint8_t *page, uint32_t begin, uint32_t end, uint32_t head_dim, float *sum)
{
    for (uint32_t i = begin; i < end; i++)
        for (uint32_t c = 0; c < head_dim; c++)
            sum[c] += sli_kv_value_ref(type, page, i, c, head_dim);
}

/* kernels/ref/kv.c: how keys and values lie in a page, and how they are rounded on the way in.
 *
 * A page holds 64 positions of one KV head. The scores of a query are 64 sums that run over components, so K is stored with the
 * positions side by side: a vector lane is a position. The output is a sum over positions for every component, so V is stored the
 * other way round: a lane is a component. Both sums then run in order without a single horizontal step. */
#include "kernels/internal.h"

#include <math.h>
#include <string.h>

#define Q8_BLOCK 32 /* components that share a scale */

/* A vector's way into a page: element c goes to index element0 + c * element_step, block b's scale to scale0 + b * scale_step. */
typedef struct placement {
    size_t element0, element_step, scale0, scale_step;
} placement;

static void store_q8(uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    int8_t *quants = (int8_t *)page;
    uint8_t *scales = page + (size_t)SL_KV_PAGE * head_dim;
    for (uint32_t b = 0; b < head_dim / Q8_BLOCK; b++) {
        float amax = 0.0f;
        for (uint32_t c = b * Q8_BLOCK; c < (b + 1) * Q8_BLOCK; c++)
            amax = fmaxf(amax, fabsf(x[c]));
        bool zero = amax < SLI_AMAX_MIN;
        float inverse = zero ? 0.0f : 127.0f / amax;
        for (uint32_t c = b * Q8_BLOCK; c < (b + 1) * Q8_BLOCK; c++)
            quants[at.element0 + c * at.element_step] = (int8_t)lrintf(x[c] * inverse);
        uint16_t scale = zero ? 0 : sl_f32_to_f16(amax / 127.0f);
        memcpy(scales + 2 * (at.scale0 + b * at.scale_step), &scale, sizeof scale);
    }
}

static void store(uint32_t type, uint8_t *page, placement at, const float *x, uint32_t head_dim)
{
    if (type == SL_TYPE_Q8_0) {
        store_q8(page, at, x, head_dim);
        return;
    }
    for (uint32_t c = 0; c < head_dim; c++) {
        size_t element = at.element0 + c * at.element_step;
        if (type == SL_TYPE_F32) {
            memcpy(page + 4 * element, &x[c], sizeof x[c]);
        } else {
            uint16_t half = sl_f32_to_f16(x[c]);
            memcpy(page + 2 * element, &half, sizeof half);
        }
    }
}

static placement key_at(uint32_t index)
{
    return (placement){index, SL_KV_PAGE, index, SL_KV_PAGE};
}

static placement value_at(uint32_t index, uint32_t head_dim)
{
    return (placement){(size_t)index * head_dim, 1, (size_t)index * (head_dim / Q8_BLOCK), 1};
}

void sli_kv_store_k_ref(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim)
{
    store(type, page, key_at(index), k, head_dim);
}

void sli_kv_store_v_ref(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim)
{
    store(type, page, value_at(index, head_dim), v, head_dim);
}

/* ---- copies ---- */

/* One vector as it is stored, from one placement to another. */
static void copy(uint32_t type, const uint8_t *from, placement at, uint8_t *to, placement goal, uint32_t head_dim)
{
    size_t bytes = type == SL_TYPE_F32 ? 4 : type == SL_TYPE_F16 ? 2 : 1, scales = (size_t)SL_KV_PAGE * head_dim;
    for (uint32_t c = 0; c < head_dim; c++)
        memcpy(to + bytes * (goal.element0 + c * goal.element_step), from + bytes * (at.element0 + c * at.element_step), bytes);
    for (uint32_t b = 0; type == SL_TYPE_Q8_0 && b < head_dim / Q8_BLOCK; b++)
        memcpy(to + scales + 2 * (goal.scale0 + b * goal.scale_step), from + scales + 2 * (at.scale0 + b * at.scale_step), 2);
}

void sli_kv_copy_k_ref(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, key_at(from_index), to, key_at(to_index), head_dim);
}

void sli_kv_copy_v_ref(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim)
{
    copy(type, from, value_at(from_index, head_dim), to, value_at(to_index, head_dim), head_dim);
}

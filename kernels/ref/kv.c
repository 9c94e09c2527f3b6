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

void sli_kv_store_k_ref(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim)
{
    store(type, page, (placement){index, SL_KV_PAGE, index, SL_KV_PAGE}, k, head_dim);
}

void sli_kv_store_v_ref(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim)
{
    store(type, page, (placement){(size_t)index * head_dim, 1, (size_t)index * (head_dim / Q8_BLOCK), 1}, v, head_dim);
}

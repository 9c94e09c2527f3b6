/* kernels/cpu/vector_kv.h: kernels/ref/kv.c on registers. Rounding is done 16 or 32 components at a time; a key is then scattered over
 * its page, a value copied. bf16 and q4_0 are left to the reference: a position is stored once and read ever after. */
#ifndef SL_KERNELS_CPU_VECTOR_KV_H
#define SL_KERNELS_CPU_VECTOR_KV_H

#include "kernels/cpu/vector_exp.h"
#include "kernels/internal.h"

#include <math.h>

#define MAX_HEAD_DIM 512
#define ROUND_TO_INT 0x1.8p+23f /* adding it leaves a small number's nearest integer in the low bits of the sum */

static void round_f16(const float *x, uint32_t head_dim, uint16_t *halves)
{
    for (uint32_t c = 0; c < head_dim; c += LANES)
        vf_store_f16(halves + c, vf_load(x + c));
}

/* 32 components (D1); returns the scale as fp16. */
static uint16_t round_q8(const float *x, int8_t quants[SL_ACT_BLOCK])
{
    float magnitudes[SL_ACT_BLOCK], amax = 0.0f;
    for (uint32_t c = 0; c < SL_ACT_BLOCK; c += LANES)
        vf_store(magnitudes + c, vf_max(vf_load(x + c), -vf_load(x + c)));
    for (uint32_t c = 0; c < SL_ACT_BLOCK; c++)
        amax = magnitudes[c] > amax ? magnitudes[c] : amax;

    bool zero = amax < SLI_AMAX_MIN;
    float inverse = zero ? 0.0f : 127.0f / amax;
    for (uint32_t c = 0; c < SL_ACT_BLOCK; c += LANES) {
        vu bits = (vu)(vf_load(x + c) * vf_splat(inverse) + vf_splat(ROUND_TO_INT));
        for (uint32_t j = 0; j < LANES; j++)
            quants[c + j] = (int8_t)(uint8_t)bits[j];
    }
    uint16_t half[LANES];
    vf_store_f16(half, vf_splat(zero ? 0.0f : amax / 127.0f));
    return half[0];
}

void SLI_NAME(kv_store_k)(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim)
{
    if (type == SL_TYPE_F32) {
        for (uint32_t c = 0; c < head_dim; c++)
            memcpy(page + 4 * ((size_t)c * SL_KV_PAGE + index), &k[c], sizeof k[c]);
    } else if (type == SL_TYPE_F16) {
        uint16_t halves[MAX_HEAD_DIM];
        round_f16(k, head_dim, halves);
        for (uint32_t c = 0; c < head_dim; c++)
            memcpy(page + 2 * ((size_t)c * SL_KV_PAGE + index), &halves[c], sizeof halves[c]);
    } else if (type != SL_TYPE_Q8_0) {
        sli_kv_store_k_ref(type, page, index, k, head_dim);
    } else {
        uint8_t *scales = page + (size_t)SL_KV_PAGE * head_dim;
        for (uint32_t b = 0; b < head_dim / SL_ACT_BLOCK; b++) {
            int8_t quants[SL_ACT_BLOCK];
            uint16_t scale = round_q8(k + b * SL_ACT_BLOCK, quants);
            memcpy(scales + 2 * ((size_t)b * SL_KV_PAGE + index), &scale, sizeof scale);
            for (uint32_t c = 0; c < SL_ACT_BLOCK; c++)
                page[(size_t)(b * SL_ACT_BLOCK + c) * SL_KV_PAGE + index] = (uint8_t)quants[c];
        }
    }
}

void SLI_NAME(kv_store_v)(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim)
{
    size_t element = (size_t)index * head_dim;
    if (type == SL_TYPE_F32) {
        memcpy(page + 4 * element, v, head_dim * sizeof *v);
    } else if (type == SL_TYPE_F16) {
        round_f16(v, head_dim, (uint16_t *)(page + 2 * element));
    } else if (type != SL_TYPE_Q8_0) {
        sli_kv_store_v_ref(type, page, index, v, head_dim);
    } else {
        uint32_t blocks = head_dim / SL_ACT_BLOCK;
        uint8_t *scales = page + (size_t)SL_KV_PAGE * head_dim + 2 * (size_t)index * blocks;
        for (uint32_t b = 0; b < blocks; b++) {
            uint16_t scale = round_q8(v + b * SL_ACT_BLOCK, (int8_t *)page + element + b * SL_ACT_BLOCK);
            memcpy(scales + 2 * b, &scale, sizeof scale);
        }
    }
}

#endif

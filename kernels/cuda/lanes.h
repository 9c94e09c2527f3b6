/* kernels/cuda/lanes.h: the sums and the roundings of a vector that several kernels share: D4's fold and D1's blocks. */
#ifndef SL_KERNELS_CUDA_LANES_H
#define SL_KERNELS_CUDA_LANES_H

#include "kernels/cuda/device_code.h"

#define SLI_LANES 16 /* of a sum (D4) */

/* D4's fold of the sixteen lanes' sums; all threads of `mask` (whole groups of 16) get their group's. x + y is y + x, so that both of a pair may
 * add what the other has. */
SLI_DEVICE float sli_fold_lanes(uint32_t mask, float acc)
{
    acc += __shfl_xor_sync(mask, acc, 8, 16);
    acc += __shfl_xor_sync(mask, acc, 4, 16);
    acc += __shfl_xor_sync(mask, acc, 2, 16);
    acc += __shfl_xor_sync(mask, acc, 1, 16);
    return acc;
}

/* What D1 makes of a block's largest magnitude. */
struct sli_block_scale {
    float d, inverse;
};
SLI_DEVICE sli_block_scale sli_scale_of(float amax)
{
    bool visible = amax >= SLI_DEVICE_AMAX_MIN;
    return {visible ? amax / 127.0f : 0.0f, visible ? 127.0f / amax : 0.0f};
}

/* Quantised activations as a kernel has them; q is NULL where none are wanted. */
struct sli_quantised {
    int8_t *q;
    float *d;
    int32_t *sum;
};
static inline sli_quantised sli_quantised_of(const sl_device_acts *acts)
{
    if (acts == NULL)
        return {NULL, NULL, NULL};
    return {(int8_t *)(uintptr_t)acts->q, (float *)(uintptr_t)acts->d, (int32_t *)(uintptr_t)acts->sum};
}

/* Quantises elements 4 * index .. of a vector (D1): eight threads, whose indices follow each other, have a block. The whole warp calls this; those
 * beyond the end with zeros and `there` false. */
SLI_DEVICE void sli_quantise_fours(const sli_quantised &to, size_t index, bool there, float4 x)
{
    float amax = fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
    for (int other = 4; other > 0; other /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(SLI_FULL_WARP, amax, other));
    sli_block_scale scale = sli_scale_of(amax);
    int q0 = __float2int_rn(x.x * scale.inverse), q1 = __float2int_rn(x.y * scale.inverse);
    int q2 = __float2int_rn(x.z * scale.inverse), q3 = __float2int_rn(x.w * scale.inverse);
    int sum = q0 + q1 + q2 + q3;
    for (int other = 4; other > 0; other /= 2)
        sum += __shfl_xor_sync(SLI_FULL_WARP, sum, other);
    if (!there)
        return;
    ((uint32_t *)to.q)[index] = (uint32_t)(q0 & 255) | (uint32_t)(q1 & 255) << 8 | (uint32_t)(q2 & 255) << 16 | (uint32_t)q3 << 24;
    if (index % 8 == 0) {
        to.d[index / 8] = scale.d;
        to.sum[index / 8] = sum;
    }
}

/* The same with a block in a warp, an element in each lane. */
SLI_DEVICE void sli_quantise_ones(const sli_quantised &to, size_t block, uint32_t lane, float x)
{
    float amax = fabsf(x);
    for (int other = 16; other > 0; other /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(SLI_FULL_WARP, amax, other));
    sli_block_scale scale = sli_scale_of(amax);
    int q = __float2int_rn(x * scale.inverse), sum = q;
    for (int other = 16; other > 0; other /= 2)
        sum += __shfl_xor_sync(SLI_FULL_WARP, sum, other);
    to.q[block * SL_ACT_BLOCK + lane] = (int8_t)q;
    if (lane == 0) {
        to.d[block] = scale.d;
        to.sum[block] = sum;
    }
}

#endif

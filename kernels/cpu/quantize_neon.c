/* kernels/cpu/quantize_neon.c: D1 with eight registers per block. */
#if defined(__aarch64__)
#include "kernels/internal.h"

#include <arm_neon.h>

#define VECS (SL_ACT_BLOCK / 4)

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
    float32x4_t v[VECS], largest = vdupq_n_f32(0);
    for (int i = 0; i < VECS; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        largest = vmaxnmq_f32(largest, vabsq_f32(v[i]));
    }
    float amax = vmaxnmvq_f32(largest);
    bool visible = amax >= SLI_AMAX_MIN;
    float inv = visible ? 127.0f / amax : 0.0f;

    int16x8_t n[VECS / 2], total = vdupq_n_s16(0); /* at most 4 * 127 in a lane */
    for (int i = 0; i < VECS / 2; i++) {
        int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inv)); /* rounds half to even, whatever the mode */
        int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inv));
        n[i] = vcombine_s16(vmovn_s32(low), vmovn_s32(high));
        total = vaddq_s16(total, n[i]);
    }
    for (int i = 0; i < VECS / 2; i++)
        vst1_s8(q + 8 * i, vmovn_s16(n[i]));
    *d = visible ? amax / 127.0f : 0.0f;
    *sum = vaddlvq_s16(total);
}

void sli_quantize_neon(sl_acts *x, uint32_t row_begin, uint32_t row_end)
{
    size_t blocks_per_row = x->cols / SL_ACT_BLOCK;
    for (size_t b = row_begin * blocks_per_row; b < row_end * blocks_per_row; b++)
        quantize_block(x->f32 + b * SL_ACT_BLOCK, x->q + b * SL_ACT_BLOCK, x->d + b, x->sum + b);
}
#endif

/* kernels/ref/quantize.c: activations to int8, as D1 defines it. */
#include "kernels/internal.h"

#include <math.h>

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
    float amax = 0.0f;
    for (int i = 0; i < SL_ACT_BLOCK; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    bool visible = amax >= SLI_AMAX_MIN;
    float inv = visible ? 127.0f / amax : 0.0f;

    *d = visible ? amax / 127.0f : 0.0f;
    *sum = 0;
    for (int i = 0; i < SL_ACT_BLOCK; i++) {
        q[i] = (int8_t)rintf(x[i] * inv); /* the rounding mode is the default: half to even */
        *sum += q[i];
    }
}

void sli_quantize_ref(sl_acts *x, uint32_t row_begin, uint32_t row_end)
{
    size_t blocks_per_row = x->cols / SL_ACT_BLOCK;
    for (size_t b = row_begin * blocks_per_row; b < row_end * blocks_per_row; b++)
        quantize_block(x->f32 + b * SL_ACT_BLOCK, x->q + b * SL_ACT_BLOCK, x->d + b, x->sum + b);
}

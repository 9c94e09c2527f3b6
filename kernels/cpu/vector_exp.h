/* kernels/cpu/vector_exp.h: kernels/exp.h's exponential on a register of floats, operation for operation. */
#ifndef SL_KERNELS_CPU_VECTOR_EXP_H
#define SL_KERNELS_CPU_VECTOR_EXP_H

#include "kernels/exp.h"

static inline vf vf_load(const float *from)
{
    return *(const vf_at *)from;
}
static inline void vf_store(float *to, vf x)
{
    *(vf_at *)to = x;
}

/* For x < SLI_EXP_LIMIT, where nothing overflows. */
static inline vf vf_exp_small(vf x)
{
    vf shifted = vf_fma(x, vf_splat(SLI_EXP_LOG2E), vf_splat(SLI_EXP_ROUND));
    vf n = shifted - vf_splat(SLI_EXP_ROUND);
    vf r = vf_fma(n, vf_splat(-SLI_EXP_LN2_HIGH), x);
    r = vf_fma(n, vf_splat(-SLI_EXP_LN2_LOW), r);

    vf p = vf_splat(SLI_EXP_Q4);
    p = vf_fma(p, r, vf_splat(SLI_EXP_Q3));
    p = vf_fma(p, r, vf_splat(SLI_EXP_Q2));
    p = vf_fma(p, r, vf_splat(SLI_EXP_Q1));
    p = vf_fma(p, r, vf_splat(SLI_EXP_Q0));
    p = vf_fma(p, r, vf_splat(1.0f));
    p = vf_fma(p, r, vf_splat(1.0f));
    p = (vf)((vu)p + ((vu)shifted << 23));
    return vf_select_less(x, vf_splat(SLI_EXP_MIN), vf_splat(0.0f), p);
}

static inline vf vf_exp(vf x)
{
    return vf_select_less(x, vf_splat(SLI_EXP_LIMIT), vf_exp_small(x), x * vf_splat(INFINITY));
}

#endif

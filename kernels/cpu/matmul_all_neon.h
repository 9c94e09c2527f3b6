/* kernels/cpu/matmul_all_neon.h: the entry of a NEON set for products, by format. */
#ifndef SL_KERNELS_CPU_MATMUL_ALL_NEON_H
#define SL_KERNELS_CPU_MATMUL_ALL_NEON_H

#include "kernels/cpu/matmul_super_neon.h"

static sli_quant_step_fn quant_step_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return step_q4_0;
    case SL_TYPE_Q4_1: return step_q4_1;
    case SL_TYPE_Q5_0: return step_q5_0;
    case SL_TYPE_Q5_1: return step_q5_1;
    case SL_TYPE_Q8_0: return step_q8_0;
    case SL_TYPE_IQ4_NL: return step_iq4_nl;
    case SL_TYPE_Q2_K: return step_q2_k;
    case SL_TYPE_Q3_K: return step_q3_k;
    case SL_TYPE_Q4_K: return step_q4_k;
    case SL_TYPE_Q5_K: return step_q5_k;
    case SL_TYPE_Q6_K: return step_q6_k;
    default: return step_iq4_xs; /* the engine has refused other types when it opened the file */
    }
}

void SLI_NAME(matmul)(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_F32: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f32); break;
    case SL_TYPE_F16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f16); break;
    case SL_TYPE_BF16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_bf16); break;
    default: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, quant_step_of(type)); break;
    }
}

#endif

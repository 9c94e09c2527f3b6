/* kernels/cuda/activate.h: gated units, element by element (D6). */
#ifndef SL_KERNELS_CUDA_ACTIVATE_H
#define SL_KERNELS_CUDA_ACTIVATE_H

#include "kernels/cuda/device_code.h"

SLI_DEVICE float sli_activate(sl_glu act, float x)
{
    float inner = act == SL_GLU_SILU ? x : x * fmaf(x * x, SLI_GELU_CUBIC, SLI_GELU_LINEAR);
    return x / (1.0f + sli_exp(-inner));
}

#endif

/* kernels/cuda/contract.h: our C headers, as C++ sees them. */
#ifndef SL_KERNELS_CUDA_CONTRACT_H
#define SL_KERNELS_CUDA_CONTRACT_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include "core/device.h"
#include "core/format.h"
#include "kernels/device.h"
}

#endif

/* kernels/cpu/matmul_neon.c: products with NEON alone; one source for both sets. */
#if defined(__aarch64__)
#include "kernels/cpu/dot_neon.h"

#include "kernels/cpu/matmul_all_neon.h"
#endif

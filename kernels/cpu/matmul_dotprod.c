/* kernels/cpu/matmul_dotprod.c: products with NEON and its dot product instructions; one source for both sets. */
#if defined(__aarch64__)
#include "kernels/cpu/dot_dotprod.h"

#include "kernels/cpu/matmul_all_neon.h"
#endif

/* kernels/cpu/rows_neon.c: scattered rows with NEON alone; one source for both sets. */
#if defined(__aarch64__)
#include "kernels/cpu/dot_neon.h"

#include "kernels/cpu/rows_neon.h"
#endif

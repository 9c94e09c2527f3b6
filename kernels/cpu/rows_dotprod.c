/* kernels/cpu/rows_dotprod.c: scattered rows with NEON and its dot product instructions; one source for both sets. */
#if defined(__aarch64__)
#include "kernels/cpu/dot_dotprod.h"

#include "kernels/cpu/rows_neon.h"
#endif

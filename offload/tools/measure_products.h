/* offload/tools/measure_products.h: how fast this machine multiplies with weights of a format: once by as many rows as memory bounds, once by more.
 *
 * Threads: as the crew's. */
#ifndef SL_OFFLOAD_TOOLS_MEASURE_PRODUCTS_H
#define SL_OFFLOAD_TOOLS_MEASURE_PRODUCTS_H

#include "core/threads.h"
#include "kernels/kernels.h"
#include "offload/machine.h"

#define SLI_PRODUCTS_BYTES_MIN ((size_t)4 << 20)

/* Of each of the types, with weights that fill `bytes` (SLI_PRODUCTS_BYTES_MIN at least; beyond the caches they say what memory gives); some 50 ms a type.
 * SL_NO_MEMORY. */
SL_MUST_USE sl_status sli_measure_products(const sl_kernels *kernels, sl_threads *crew, const uint32_t *types, size_t count, size_t bytes,
                                           sli_machine_rate *out, sl_error *err);

#endif

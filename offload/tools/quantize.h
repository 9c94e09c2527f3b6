/* offload/tools/quantize.h: fp32 rows into a storage format.
 *
 * Weights are rounded by the rules that every GGUF program uses, so that a file quantised here has the same bytes as one quantised
 * elsewhere from the same floats. (Activations are another matter: see D1 in kernels/kernels.h.)  Threads: pure. */
#ifndef SL_OFFLOAD_TOOLS_QUANTIZE_H
#define SL_OFFLOAD_TOOLS_QUANTIZE_H

#include "core/format.h"

/* Whether sl_quantize_row knows the format: the float types, Q4_0, Q4_1, Q5_0 and Q8_0. The others are read, not made. */
bool sl_quantize_knows(uint32_t type);

/* `elements` floats, a multiple of the format's block, into sl_row_bytes(type, elements) bytes. A NaN becomes some finite quant; the
 * caller's row is expected to be finite. */
void sl_quantize_row(uint32_t type, const float *row, uint64_t elements, uint8_t *out);

#endif

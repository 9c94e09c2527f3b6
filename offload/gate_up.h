/* offload/gate_up.h: one row of activations times the gate and up rows of many bundles, wherever these lie.
 *
 * A bundle's gate row is followed by its up row. So both are asked for as one piece of memory, and many bundles together, because a product
 * over scattered rows fetches ahead only what it has been told of.
 *
 * Threads: pure; about 28 KiB of the stack. */
#ifndef SL_OFFLOAD_GATE_UP_H
#define SL_OFFLOAD_GATE_UP_H

#include "kernels/kernels.h"
#include "pager/packed.h"

#define SLI_GATE_UP_BUNDLES 512 /* that are multiplied together: the first rows of each call are waited for */

/* gate[i] and up[i] of the bundle that begins at bundles[i]: what dot_rows gives for its rows. x has one row, quantised if one of the types is. */
void sli_gate_up(const sl_kernels *kernels, const sl_packed_layer *layer, const sl_acts *x, const uint8_t *const *bundles, uint32_t count,
                 float *gate, float *up);

#endif

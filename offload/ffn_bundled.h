/* offload/ffn_bundled.h: products of a bundled layer, over all of its neurons: units of bundles as they stream by or stay.
 *
 * A unit holds consecutive places, so that gates and ups come out in storage order and are put where their neurons belong. Columns are
 * kept until all are there, because the down product sums in the neurons' own order. */
#ifndef SL_OFFLOAD_FFN_BUNDLED_H
#define SL_OFFLOAD_FFN_BUNDLED_H

#include "offload/ffn.h"

/* gate and up of all neurons for the rows of `ffn`, into their buffers; keeps the columns for the call below. */
SL_MUST_USE sl_status sli_bundled_gate_up(const sli_ffn *ffn, sl_error *err);
/* The down product of the activations in its source buffer, all neurons. */
void sli_bundled_down(const sli_ffn *ffn);

/* Bytes of a thread's memory that they use, for `rows` rows. Pure. */
size_t sli_bundled_thread_bytes(uint32_t rows, size_t largest_panel_bytes);

#endif

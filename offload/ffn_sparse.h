/* offload/ffn_sparse.h: one row's feed-forward over the bundles of its set alone: what is not in memory is fetched, the rest never read.
 *
 * Possible where the set is known without all activations (coarse, or a stored predictor) and the layer is bundled. The result is that
 * of ffn.c's masks, bit for bit (D8 of kernels.h). */
#ifndef SL_OFFLOAD_FFN_SPARSE_H
#define SL_OFFLOAD_FFN_SPARSE_H

#include "offload/ffn.h"

bool sli_ffn_streams_sets(const sl_engine *engine, uint32_t layer);
/* f->rows is 1. */
SL_MUST_USE sl_status sli_ffn_sparse(const sli_ffn *f, sl_error *err);

/* Whether a guess from before the attention is worth while: what is read depends on the row. */
bool sli_ffn_guesses(const sl_engine *engine, uint32_t layer);
/* Begins to read what the set is going to be if x is the layer's normed input: a guess, from before the attention. */
void sli_ffn_guess(const sli_ffn *f, const float *x);

#endif

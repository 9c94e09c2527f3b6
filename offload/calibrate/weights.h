/* offload/calibrate/weights.h: a model's feed-forward matrices as floats, some rows at a time, from a stock GGUF or a packed file.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_WEIGHTS_H
#define SL_OFFLOAD_CALIBRATE_WEIGHTS_H

#include "core/model.h"
#include "kernels/kernels.h"

typedef struct sli_weights sli_weights;

typedef enum sli_weights_part { SLI_WEIGHTS_GATE, SLI_WEIGHTS_UP } sli_weights_part;

SL_MUST_USE sl_status sli_weights_open(const char *path, const sl_kernels *kernels, sli_weights **out, sl_error *err);
void sli_weights_close(sli_weights *w); /* NULL is fine */
const sl_model *sli_weights_model(const sli_weights *w);
/* What it holds in memory, at most; for the budget. */
uint64_t sli_weights_bytes(const sli_weights *w);

/* Rows [first, first + count) of a layer's gate or up matrix, [count][d], in the neurons' original order. */
SL_MUST_USE sl_status sli_weights_rows(sli_weights *w, sli_weights_part part, uint32_t layer, uint32_t first, uint32_t count, float *out,
                                       sl_error *err);
/* The norms of the down matrix's columns, [ff]. */
SL_MUST_USE sl_status sli_weights_norms(sli_weights *w, uint32_t layer, float *norms, sl_error *err);

#endif

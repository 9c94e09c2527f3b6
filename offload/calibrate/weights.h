/* offload/calibrate/weights.h: one layer's feed-forward matrices in memory, given as floats some rows at a time, from a stock GGUF or a packed file.
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
/* What it holds in memory; for the budget. */
uint64_t sli_weights_bytes(const sli_weights *w);

/* Reads a layer. */
SL_MUST_USE sl_status sli_weights_load(sli_weights *w, uint32_t layer, sl_error *err);
/* Of the layer that was read: rows [first, first + count) of gate or up, [count][d], in the neurons' original order. */
void sli_weights_rows(const sli_weights *w, sli_weights_part part, uint32_t first, uint32_t count, float *out);
/* The norms of the down matrix's columns, [ff]. */
const float *sli_weights_norms(const sli_weights *w);

#endif

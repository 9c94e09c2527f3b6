/* offload/prune/rates.h: how much of each matrix is kept where one threshold decides over all of them.
 *
 * Scores of all weights are counted in bins, a sixteenth of an octave wide, a row of bins for each matrix. The threshold is where the asked share of all
 * weights lies below; in its bin scores count as spread evenly. What of a matrix lies above it is the matrix's density.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_PRUNE_RATES_H
#define SL_OFFLOAD_PRUNE_RATES_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLI_RATES_BINS 4096 /* of a positive float's bits: its exponent and four bits of the fraction */

typedef struct sli_rates {
    uint32_t matrices;
    uint32_t *bins;  /* [matrices][SLI_RATES_BINS] */
    double *density; /* [matrices] kept share, when it is settled */
    float threshold;
    uint64_t weights; /* that were seen */
} sli_rates;

uint64_t sli_rates_price(uint32_t matrices);
SL_MUST_USE sl_status sli_rates_create(uint32_t matrices, sli_rates *out, sl_error *err);
void sli_rates_free(sli_rates *rates); /* one of zeros is fine, too */

/* Of a matrix whose scores are |w| * by[column], or its square; by NULL: 1. */
void sli_rates_see(sli_rates *rates, uint32_t matrix, size_t rows, size_t cols, const float *w, const float *by, bool squared);
/* From all that was seen: keeps `density` of it. A matrix that was not seen keeps everything. */
void sli_rates_settle(sli_rates *rates, double density);

#endif

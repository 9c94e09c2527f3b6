/* offload/calibrate/choose.h: which kind of guess a model gets: all that are worth a try are fitted on a few layers and measured.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_CHOOSE_H
#define SL_OFFLOAD_CALIBRATE_CHOOSE_H

#include "offload/calibrate/calibrate.h"
#include "offload/calibrate/fit.h"

#define SLI_CHOOSE_LAYERS 3 /* on which it is measured, or fewer where there are fewer */

/* On how many layers of such matrices: SLI_CHOOSE_LAYERS, or one where each fit is long. Pure. */
uint32_t sli_choose_layers(uint32_t d, uint32_t ff);

/* The candidates for a model: the best uses of the budget, and, where a fit is short, others of fixed sizes for the table. Pure. */
typedef struct sli_candidate {
    const char *name;
    sli_chooser chooser;
    sli_fit_plan plan;
    double bits;
    bool fits;
} sli_candidate;

/* layer_budget: bytes of a layer's guess, at most; layer_bytes: of its feed-forward. Returns how many. */
uint32_t sli_choose_candidates(uint32_t d, uint32_t ff, uint64_t layer_budget, uint64_t layer_bytes, sli_candidate out[SLI_CALIBRATE_ROWS]);
/* Memory of the best and largest of them: blob and scratch. */
void sli_choose_sizes(const sli_candidate *candidates, uint32_t count, uint32_t d, uint32_t ff, size_t *blob_bytes, size_t *scratch_bytes);
/* The one that loses least among those that fit; UINT32_MAX when none does. */
uint32_t sli_choose_best(const sli_calibrate_row *rows, const sli_candidate *candidates, uint32_t count);

#endif

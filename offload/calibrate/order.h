/* offload/calibrate/order.h: in which order a layer's neurons are stored, so that those of a set lie together. Pure.
 *
 * Two things are wanted of an order. Its first places should be those that matter most: what stays in memory without being asked about is a prefix.
 * And what fires together should lie together. A neuron's history is one bit for each row: whether it was in the row's set; between two neighbours in
 * storage a run of wanted neurons begins or ends for each row in which their histories differ. So neurons are sorted by their heat, cut into tiers of
 * equal size, and within a tier follow a path on which the sum of those differences is small: on to the nearest one that is left, each time, from the
 * last neuron of the tier before.
 *
 * Threads: pure; `threads` share the search for the nearest. */
#ifndef SL_OFFLOAD_CALIBRATE_ORDER_H
#define SL_OFFLOAD_CALIBRATE_ORDER_H

#include "core/threads.h"

#define SLI_ORDER_TIERS 16u /* measured: bench/SPEED.md, "Sparsity, the whole program" */

typedef struct sli_order_facts {
    const float *heat;         /* [neurons] what matters more has more; finite */
    const uint64_t *histories; /* [neurons][words] */
    uint32_t neurons, words;
} sli_order_facts;

/* order[place] = neuron. scratch: [neurons]. With one tier all is one path; with one for each neuron the order is by heat alone. */
void sli_order_tiered(sl_threads *threads, const sli_order_facts *facts, uint32_t tiers, uint32_t *order, uint32_t *scratch);

typedef struct sli_reads {
    uint64_t runs;   /* reads after coalescing */
    uint64_t places; /* bundles they read, those in gaps included */
} sli_reads;

/* What reading a set costs: wanted[neuron] says what is in it; runs that are at most `gap` bundles apart are one read. */
sli_reads sli_order_reads(const uint32_t *order, const uint8_t *wanted, uint32_t neurons, uint32_t gap);

#endif

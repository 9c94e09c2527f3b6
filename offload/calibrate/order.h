/* offload/calibrate/order.h: in which order a layer's neurons are stored, so that those of a set lie together. Pure.
 *
 * A neuron's history is one bit for each row: whether it was in the row's set. Between two neighbours in storage a run of wanted neurons begins or ends
 * for each row in which their histories differ. So the order is a path through all neurons on which the sum of those differences is small: from the
 * neuron that fires most on to the nearest one that is left, each time. What fires always comes first, what fires together follows each other, and what never
 * fires comes last.
 *
 * Threads: pure; `threads` share the search for the nearest. */
#ifndef SL_OFFLOAD_CALIBRATE_ORDER_H
#define SL_OFFLOAD_CALIBRATE_ORDER_H

#include "core/threads.h"

/* histories: [neurons][words]. order[place] = neuron. scratch: [neurons] words of 32 bits. */
void sli_order_chain(sl_threads *threads, const uint64_t *histories, uint32_t neurons, uint32_t words, uint32_t *order, uint32_t *scratch);
/* The order by how often neurons fire, for comparison. */
void sli_order_hot_first(const uint64_t *histories, uint32_t neurons, uint32_t words, uint32_t *order, uint32_t *scratch);

typedef struct sli_reads {
    uint64_t runs;   /* reads after coalescing */
    uint64_t places; /* bundles they read, those in gaps included */
} sli_reads;

/* What reading a set costs: wanted[neuron] says what is in it; runs that are at most `gap` bundles apart are one read. */
sli_reads sli_order_reads(const uint32_t *order, const uint8_t *wanted, uint32_t neurons, uint32_t gap);

#endif

/* offload/residency.h: which neurons of a layer a device holds, where its sets of neurons follow the text. Pure.
 *
 * The places were given by how often neurons fire in general. A coarse set is a text's own: of a quarter of the neurons about half lie elsewhere, and each draft
 * would read them over the link. So a set that was chosen anew takes the slots of neurons that are in it no more. */
#ifndef SL_OFFLOAD_RESIDENCY_H
#define SL_OFFLOAD_RESIDENCY_H

#include "kernels/device.h"

/* holders[s] is the neuron in slot s, of `slots` <= ff. Members of `set` ([keep], ascending) that have no slot take those of neurons that are no members, the
 * first in `order` ([ff], the layer's neurons, hot ones first) first, as long as there are such; they are marked SL_DEVICE_FRESH, and no other holder is.
 * `marks`: [ff], for the function's use. */
typedef struct sli_followed {
    uint32_t fresh, held; /* members that have a slot since now; that have one */
} sli_followed;
sli_followed sli_residency_follow(const uint32_t *order, uint32_t ff, const uint32_t *set, uint32_t keep, uint32_t *holders, uint32_t slots,
                                  uint8_t *marks);

#endif

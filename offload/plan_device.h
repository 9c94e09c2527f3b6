/* offload/plan_device.h: how fast a model would decode with the machine's GPU: what its memory holds, what crosses its link, and what the processor
 * computes beside it, by the rule that a run places by (placement.h).
 *
 * Rates are those of the machine's description, and no GPU has confirmed a figure of this yet: the range says so.
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_PLAN_DEVICE_H
#define SL_OFFLOAD_PLAN_DEVICE_H

#include "offload/placement.h"
#include "offload/plan.h"

typedef struct sli_device_plan {
    bool fits;               /* what must lie on the GPU (activations, the ring, what attention sees of a layer) does */
    uint64_t budget_bytes;   /* of its memory */
    uint64_t fixed_bytes;    /* of that, for all but weights */
    uint32_t kv_host_layers; /* whose keys and values lie in host memory, by the rule that a run goes by (kv_place.h) */
    sl_placement placed;     /* of the weights; of bytes those that a token needs */
    double decode_tokens_per_s, decode_low, decode_high;
} sli_device_plan;

/* Plain decoding, of sets of neurons where the placement has them. `vram_budget_bytes` 0: all of its memory but a sixteenth, as run takes it. The
 * machine has a GPU. */
SL_MUST_USE sl_status sli_plan_on_device(const sli_division *placement, const sli_machine *machine, const sli_plan_work *work,
                                         uint64_t vram_budget_bytes, sli_device_plan *out, sl_error *err);

#endif

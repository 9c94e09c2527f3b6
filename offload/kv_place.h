/* offload/kv_place.h: which layers' keys and values lie in a device's memory, and which in the host's. Pure: a function of sizes.
 *
 * What lies in host memory crosses the link when its layer attends: of a cache what the text has come to, of a layer with a window no more than that; of the weights
 * that the device does not hold all that a token needs, but for what the processor computes where it lies. So the rule is to count what crosses for a token of a text
 * that has come to half of its context, and to take the number of layers with which the least does, but never fewer than must:
 *
 *     crosses = weights that do not stay x how often they are read x the part that is not the processor's
 *             + caches in host memory    x the share that is seen, and the position that is written
 *
 * The unit is a layer, whole. Who attends brings all heads of a layer at once, so that one launch does it and one stretch of the device's memory, the window,
 * serves all layers one after the other; with a part of each layer's heads there would be as many launches as layers whatever the part, and with a part of the
 * positions (the old ones) the part that is read most would not be told from the rest: attention reads all positions of what it sees.
 *
 * The window takes what a layer's cache takes. So one layer in host memory frees nothing, and n of them n - 1. */
#ifndef SL_OFFLOAD_KV_PLACE_H
#define SL_OFFLOAD_KV_PLACE_H

#include "core/model.h"
#include "offload/placement.h"

/* The processor's part of the weights that a device does not hold, where rates are not measured yet: with a link of 12 GB/s and host memory of 40, which both
 * share. Bundles are never its. */
#define SLI_KV_PLACE_PROCESSORS 0.7

typedef struct sli_kv_placing {
    uint32_t layers, windowed;        /* of the latter rows see `window` positions back */
    uint32_t context, window;         /* positions */
    uint64_t layer_bytes;             /* keys and values of a layer, at the end of the context */
    uint64_t room_bytes;              /* of the device's memory, for them and for weights */
    uint64_t host_room_bytes;         /* of the host's, for those that are moved to have less crossing */
    const sl_placement_unit *weights; /* [weight_count] that may stay on the device; what is read most often does */
    const float *crossing;            /* [weight_count] of what is read of those that do not stay, the part that crosses */
    uint32_t weight_count;
} sli_kv_placing;

/* Of the device's memory, with so many layers' in the host's. */
uint64_t sli_kv_place_bytes(uint32_t layers, uint32_t in_host, uint64_t layer_bytes);
/* The fewest layers in host memory with which the others' fit; all of them where none does. */
uint32_t sli_kv_place_fewest(const sli_kv_placing *p);
/* At least so many: with which least crosses for a token, of equals the fewest. */
SL_MUST_USE sl_status sli_kv_place_least_crossing(const sli_kv_placing *p, uint32_t fewest, uint32_t *in_host, sl_error *err);
/* Which ones: first layers with a window, of which little is read; of each kind evenly spread, so that between two of them the link has time for weights.
 * `out` has model->layers. */
void sli_kv_place_choose(const sl_model *model, uint32_t in_host, bool *out);

#endif

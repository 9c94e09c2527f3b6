/* pager/replay_private.h: what the files of the model share: the accesses, and what a policy makes of them.
 *
 * replay_model.c lists the accesses and plays them; replay_units.c decides what of a unit is a hit, replay_neurons.c which neurons are. */
#ifndef SL_PAGER_REPLAY_PRIVATE_H
#define SL_PAGER_REPLAY_PRIVATE_H

#include "pager/bundle_policy.h"
#include "pager/replay.h"

#define SLI_NEVER UINT32_MAX

typedef struct sli_access {
    uint8_t op;             /* sl_record_op: ACQUIRE (USE too), SMALL, PREFETCH, FETCH, OFFER, PASS */
    uint32_t number, count; /* a unit or a layer; of the list, or of the places offered */
    uint32_t next;          /* ACQUIRE: number of the access that uses the unit again */
    uint32_t bytes;         /* SMALL: all of them, widened */
    uint64_t compute_ns;
    size_t first; /* in the lists; OFFER: the first place */
} sli_access;

struct sl_replay {
    const sl_record_file *file;
    sli_access *access;
    size_t count, capacity;
    uint32_t *list, *next; /* places; for those fetched, the number of the fetch of the layer that wants the place again */
    size_t listed, list_capacity;
    uint32_t *fetches; /* [layer] how many there are */
    uint32_t *coming;  /* [layer][places_max] the first fetch that wants the place */
    uint32_t places_max, list_max;
};

/* A cache of units. */
typedef struct sli_unit_cache sli_unit_cache;
SL_MUST_USE sl_status sli_unit_cache_open(const sl_record_file *file, sl_replay_policy policy, uint64_t budget_bytes, sli_unit_cache **out,
                                          sl_error *err);
void sli_unit_cache_close(sli_unit_cache *cache);
/* The unit is used by this access, and then by access `next`: the bytes of it that have to be read. */
uint64_t sli_unit_cache_use(sli_unit_cache *cache, uint32_t unit, uint32_t access, uint32_t next);
/* What units may take of the budget: those that are no bundles where neurons are cached one by one. */
bool sli_unit_stays(const sl_record_file *file, uint32_t unit);

/* A cache of one layer's neurons. */
typedef struct sli_neuron_cache {
    sl_bundle_layer layer;
    sl_replay_policy policy;
    sli_ledger ledger;
    bool *cached;            /* by place */
    uint32_t *due, *coming;  /* Belady: when a cached place comes next; when any does */
    uint32_t *histogram;     /* [fetches + 1] */
    uint32_t fetches, fetch; /* of the layer; those that were */
    uint32_t *missing;
    sli_admission *admission;
} sli_neuron_cache;
SL_MUST_USE sl_status sli_neuron_cache_open(const sl_bundle_layer *layer, sl_replay_policy policy, sl_bundle_policy of_run,
                                            uint32_t fetches, const uint32_t *coming, uint32_t list_max, sli_neuron_cache *out,
                                            sl_error *err);
void sli_neuron_cache_close(sli_neuron_cache *cache);
/* The places that have to be read, in `missing`: how many. */
uint32_t sli_neuron_cache_use(sli_neuron_cache *cache, const uint32_t *places, const uint32_t *next, uint32_t count);
/* The same of a look. */
uint32_t sli_neuron_cache_absent(sli_neuron_cache *cache, const uint32_t *places, uint32_t count, uint32_t *absent);
/* Places that pass by in a dense pass. */
void sli_neuron_cache_offer(sli_neuron_cache *cache, uint32_t first, uint32_t count);

#endif

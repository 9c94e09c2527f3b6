/* pager/bundle_cache.h: one layer's slots, and where each of its bundles is: in a slot, in a stage, or in the file only.
 *
 * Invariants
 *  C1  where[p] names slot s if and only if slot s holds p.
 *  C2  A place is in one slot, or staged once, or absent; never two of them.
 *
 * Threads: one owner. */
#ifndef SL_PAGER_BUNDLE_CACHE_H
#define SL_PAGER_BUNDLE_CACHE_H

#include "pager/bundle_policy.h"

#define SLI_ABSENT_PLACE UINT32_MAX          /* in `where` */
#define SLI_IN_STAGE     ((uint32_t)1 << 31) /* in `where`, beside the number of the entry in the stage */

typedef struct sli_cache {
    sl_bundle_layer layer;
    sli_ledger ledger;
    uint32_t *where; /* by place: a slot, SLI_IN_STAGE | entry, or SLI_ABSENT_PLACE */
    uint8_t *slots;
} sli_cache;

/* All absent; the memory is the caller's. */
void sli_cache_init(sli_cache *cache, const sl_bundle_layer *layer, sl_bundle_policy policy, uint8_t *slots, uint32_t *where,
                    uint32_t *place_of, uint16_t *worth);
bool sli_cache_holds_all(const sli_cache *cache); /* each of the layer's bundles is in a slot */
bool sli_cache_in_slot(const sli_cache *cache, uint32_t place);
bool sli_cache_in_stage(const sli_cache *cache, uint32_t place);
uint8_t *sli_cache_slot(const sli_cache *cache, uint32_t slot);
/* Copies `data` into the slot; what was there is absent afterwards. The place may be staged: it is not, then. */
void sli_cache_put(sli_cache *cache, sli_admission admission, const uint8_t *data);

/* C1 or one of the ledger's, or NULL; `seen` has room for a byte a place. For tests. */
const char *sli_cache_broken(const sli_cache *cache, uint8_t *seen);

#endif

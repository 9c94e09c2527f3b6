/* pager/bundle_cache.c: see bundle_cache.h. */
#include "pager/bundle_cache.h"

#include <assert.h>
#include <string.h>

void sli_cache_init(sli_cache *cache, const sl_bundle_layer *layer, sl_bundle_policy policy, uint8_t *slots, uint32_t *where,
                    uint32_t *place_of, uint16_t *worth)
{
    *cache = (sli_cache){.layer = *layer, .where = where, .slots = slots};
    cache->ledger = (sli_ledger){
        .place_of = place_of, .worth = worth, .count = layer->count, .capacity = layer->capacity, .fade = SLI_FADE, .policy = policy};
    memset(where, 0xff, layer->count * sizeof *where);          /* SLI_ABSENT_PLACE */
    memset(place_of, 0xff, layer->capacity * sizeof *place_of); /* SLI_NO_PLACE */
    memset(worth, 0, layer->count * sizeof *worth);
}

bool sli_cache_holds_all(const sli_cache *cache)
{
    return cache->ledger.filled == cache->layer.count;
}

bool sli_cache_in_slot(const sli_cache *cache, uint32_t place)
{
    return cache->where[place] < SLI_IN_STAGE;
}

bool sli_cache_in_stage(const sli_cache *cache, uint32_t place)
{
    return cache->where[place] >= SLI_IN_STAGE && cache->where[place] != SLI_ABSENT_PLACE;
}

uint8_t *sli_cache_slot(const sli_cache *cache, uint32_t slot)
{
    assert(slot < cache->ledger.capacity);
    return cache->slots + (uint64_t)slot * sl_bundles_slot_bytes(&cache->layer);
}

void sli_cache_put(sli_cache *cache, sli_admission admission, const uint8_t *data)
{
    assert(!sli_cache_in_slot(cache, admission.place)); /* C2 */
    uint32_t before = sli_policy_settle(&cache->ledger, admission);
    if (before != SLI_NO_PLACE)
        cache->where[before] = SLI_ABSENT_PLACE;
    cache->where[admission.place] = admission.slot;
    memcpy(sli_cache_slot(cache, admission.slot), data, cache->layer.bytes);
}

const char *sli_cache_broken(const sli_cache *cache, uint8_t *seen)
{
    const char *broken = sli_policy_broken(&cache->ledger, seen);
    uint32_t in_slots = 0;
    for (uint32_t slot = 0; broken == NULL && slot < cache->ledger.capacity; slot++) {
        uint32_t place = cache->ledger.place_of[slot];
        if (place != SLI_NO_PLACE && cache->where[place] != slot)
            broken = "C1";
    }
    for (uint32_t place = 0; place < cache->layer.count; place++)
        in_slots += sli_cache_in_slot(cache, place);
    return broken == NULL && in_slots != cache->ledger.filled ? "C1" : broken;
}

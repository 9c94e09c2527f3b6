/* pager/replay_neurons.c: a cache of one layer's neurons: under a policy of ours by the pager's own functions, or as Belady, who knows the future. */
#include "pager/replay_private.h"

#include <stdlib.h>
#include <string.h>

sl_status sli_neuron_cache_open(const sl_bundle_layer *layer, sl_replay_policy policy, sl_bundle_policy of_run, uint32_t fetches,
                                const uint32_t *coming, uint32_t list_max, sli_neuron_cache *out, sl_error *err)
{
    static const sl_bundle_policy ours[] = {[SL_REPLAY_STATIC] = SL_BUNDLES_STATIC,
                                            [SL_REPLAY_LRU] = SL_BUNDLES_LRU,
                                            [SL_REPLAY_FREQUENT] = SL_BUNDLES_FREQUENT,
                                            [SL_REPLAY_BELADY] = SL_BUNDLES_LRU};
    size_t count = layer->count;
    *out = (sli_neuron_cache){.layer = *layer, .policy = policy, .fetches = fetches};
    out->ledger = (sli_ledger){.count = layer->count, .capacity = layer->capacity, .fade = SLI_FADE};
    out->ledger.policy = policy == SL_REPLAY_RUN ? of_run : ours[policy];
    out->ledger.place_of = malloc((layer->capacity + (size_t)1) * sizeof *out->ledger.place_of);
    out->ledger.worth = calloc(count + 1, sizeof *out->ledger.worth);
    out->cached = calloc(count + 1, sizeof *out->cached);
    out->due = malloc((count + 1) * sizeof *out->due);
    out->coming = malloc((count + 1) * sizeof *out->coming);
    out->histogram = calloc(fetches + (size_t)2, sizeof *out->histogram);
    out->missing = malloc((list_max + (size_t)1) * sizeof *out->missing);
    out->admission = malloc((list_max + (size_t)1) * sizeof *out->admission);
    if (out->ledger.place_of == NULL || out->ledger.worth == NULL || out->cached == NULL || out->due == NULL || out->coming == NULL ||
        out->histogram == NULL || out->missing == NULL || out->admission == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a cache of %zu neurons", count);
    memset(out->ledger.place_of, 0xff, (layer->capacity + (size_t)1) * sizeof *out->ledger.place_of);
    memset(out->due, 0xff, (count + 1) * sizeof *out->due);
    memcpy(out->coming, coming, count * sizeof *out->coming);
    return SL_OK;
}

void sli_neuron_cache_close(sli_neuron_cache *c)
{
    free(c->ledger.place_of);
    free(c->ledger.worth);
    free(c->cached);
    free(c->due);
    free(c->coming);
    free(c->histogram);
    free(c->missing);
    free(c->admission);
    *c = (sli_neuron_cache){0};
}

uint32_t sli_neuron_cache_absent(sli_neuron_cache *c, const uint32_t *places, uint32_t count, uint32_t *absent)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!c->cached[places[i]])
            absent[n++] = places[i];
    return n;
}

static void settle(sli_neuron_cache *c, sli_admission admission)
{
    uint32_t gone = sli_policy_settle(&c->ledger, admission);
    if (gone != SLI_NO_PLACE)
        c->cached[gone] = false;
    c->cached[admission.place] = true;
}

/* Keeps, of what is cached or was just used, the `capacity` that come next; those that come at the same time are alike. */
static void keep_next(sli_neuron_cache *c)
{
    uint32_t room = c->layer.capacity, last = 0;
    memset(c->histogram, 0, (c->fetches + (size_t)2) * sizeof *c->histogram);
    for (uint32_t p = 0; p < c->layer.count; p++)
        if (c->due[p] != SLI_NEVER)
            c->histogram[c->due[p]]++;
    for (; last < c->fetches && c->histogram[last] <= room; last++)
        room -= c->histogram[last];
    for (uint32_t p = 0; p < c->layer.count; p++) {
        if (c->due[p] != SLI_NEVER && c->due[p] >= last && !(c->due[p] == last && room > 0 && room--))
            c->due[p] = SLI_NEVER;
        c->cached[p] = c->due[p] != SLI_NEVER;
    }
}

uint32_t sli_neuron_cache_use(sli_neuron_cache *c, const uint32_t *places, const uint32_t *next, uint32_t count)
{
    uint32_t absent = sli_neuron_cache_absent(c, places, count, c->missing);
    c->fetch++;
    if (c->policy == SL_REPLAY_BELADY) {
        for (uint32_t i = 0; i < count; i++)
            c->due[places[i]] = c->coming[places[i]] = next[i];
        keep_next(c);
        return absent;
    }
    if (c->ledger.filled == c->layer.count)
        return absent;
    sli_policy_use(&c->ledger, places, count);
    uint32_t admitted = sli_policy_admit(&c->ledger, c->missing, absent, c->admission);
    for (uint32_t i = 0; i < admitted; i++)
        settle(c, c->admission[i]);
    return absent;
}

void sli_neuron_cache_offer(sli_neuron_cache *c, uint32_t first, uint32_t count)
{
    if (c->policy == SL_REPLAY_BELADY) {
        memcpy(c->due + first, c->coming + first, count * sizeof *c->due);
        keep_next(c);
        return;
    }
    for (uint32_t place = first; place < first + count; place++) {
        uint32_t slot = c->cached[place] ? SLI_NO_SLOT : sli_policy_offer(&c->ledger, place);
        if (slot != SLI_NO_SLOT)
            settle(c, (sli_admission){.place = place, .slot = slot});
    }
}

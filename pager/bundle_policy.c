/* pager/bundle_policy.c: see bundle_policy.h.
 *
 * What stays after a use is decided for all at once: of the places in slots and the candidates together, the `capacity` of largest worth. So
 * many have to go; the worth below which they go is found by counting high bytes, then low bytes, without sorting. */
#include "pager/bundle_policy.h"

#include <assert.h>
#include <string.h>

#define WORTH_MAX UINT16_MAX

static void use_lru(sli_ledger *l, const uint32_t *places, uint32_t count)
{
    if (l->uses == WORTH_MAX) { /* the older half of history becomes one age */
        for (uint32_t p = 0; p < l->count; p++)
            l->worth[p] = l->worth[p] > WORTH_MAX / 2 ? l->worth[p] - WORTH_MAX / 2 : 0;
        l->uses -= WORTH_MAX / 2;
    }
    l->uses++;
    for (uint32_t i = 0; i < count; i++)
        l->worth[places[i]] = l->uses;
}

/* Rounding up what fades brings a worth back to 0; adding less than fades at the bound keeps it from overflowing. */
static void use_frequent(sli_ledger *l, const uint32_t *places, uint32_t count)
{
    for (uint32_t p = 0; p < l->count; p++)
        l->worth[p] -= (uint16_t)((l->worth[p] + ((uint32_t)1 << l->fade) - 1) >> l->fade);
    for (uint32_t i = 0; i < count; i++)
        l->worth[places[i]] += WORTH_MAX >> l->fade;
}

void sli_policy_use(sli_ledger *ledger, const uint32_t *places, uint32_t count)
{
    if (ledger->policy == SL_BUNDLES_LRU)
        use_lru(ledger, places, count);
    else if (ledger->policy == SL_BUNDLES_FREQUENT)
        use_frequent(ledger, places, count);
}

/* Counts a byte of the worths, the high one or the low one of those that have the high byte `high`. */
static void count_bytes(const sli_ledger *l, const uint32_t *places, uint32_t count, int high, uint32_t histogram[256])
{
    for (uint32_t i = 0; i < count; i++) {
        uint16_t worth = l->worth[places[i]];
        if (high < 0)
            histogram[worth >> 8]++;
        else if (worth >> 8 == high)
            histogram[worth & 255]++;
    }
}

static uint32_t find_rank(const uint32_t histogram[256], uint32_t *rank)
{
    uint32_t byte = 0;
    for (; histogram[byte] <= *rank; byte++)
        *rank -= histogram[byte];
    return byte;
}

/* The worth with exactly *rank smaller ones in slots and candidates together, but for equal ones: *rank becomes how many of these come before. */
static uint16_t worth_at_rank(const sli_ledger *l, const uint32_t *candidates, uint32_t count, uint32_t *rank)
{
    uint32_t histogram[256] = {0};
    count_bytes(l, l->place_of, l->filled, -1, histogram);
    count_bytes(l, candidates, count, -1, histogram);
    uint32_t high = find_rank(histogram, rank);
    memset(histogram, 0, sizeof histogram);
    count_bytes(l, l->place_of, l->filled, (int)high, histogram);
    count_bytes(l, candidates, count, (int)high, histogram);
    return (uint16_t)(high << 8 | find_rank(histogram, rank));
}

/* The candidates that stay, written to `out` without their slots. Of those worth `bound`, `equal` may not stay: candidates go before what is
 * in slots, the last in storage order first. What is left of `equal` is for slots. */
static uint32_t choose_candidates(const sli_ledger *l, const uint32_t *candidates, uint32_t count, uint16_t bound, uint32_t *equal,
                                  sli_admission *out)
{
    uint32_t at_bound = 0, chosen = 0;
    for (uint32_t i = 0; i < count; i++)
        at_bound += l->worth[candidates[i]] == bound;
    uint32_t go = at_bound < *equal ? at_bound : *equal;
    *equal -= go;
    at_bound -= go; /* that many stay */
    for (uint32_t i = 0; i < count; i++) {
        uint16_t worth = l->worth[candidates[i]];
        if (worth > bound || (worth == bound && at_bound > 0)) {
            at_bound -= worth == bound;
            out[chosen++].place = candidates[i];
        }
    }
    return chosen;
}

static uint32_t admit_static(const sli_ledger *l, const uint32_t *candidates, uint32_t count, sli_admission *out)
{
    uint32_t chosen = 0;
    for (; chosen < count && candidates[chosen] < l->capacity; chosen++)
        out[chosen] = (sli_admission){.place = candidates[chosen], .slot = candidates[chosen]};
    return chosen;
}

uint32_t sli_policy_admit(const sli_ledger *ledger, const uint32_t *candidates, uint32_t count, sli_admission *out)
{
    const sli_ledger *l = ledger;
    if (l->policy == SL_BUNDLES_STATIC)
        return admit_static(l, candidates, count, out);
    uint32_t free_slots = l->capacity - l->filled, chosen = 0, given = 0;
    if (count <= free_slots) {
        for (uint32_t i = 0; i < count; i++)
            out[i] = (sli_admission){.place = candidates[i], .slot = l->filled + i};
        return count;
    }
    if (l->capacity == 0)
        return 0;
    uint32_t equal = count - free_slots; /* so many must go: a rank among all */
    uint16_t bound = worth_at_rank(l, candidates, count, &equal);
    chosen = choose_candidates(l, candidates, count, bound, &equal, out);
    for (uint32_t slot = 0; slot < l->filled && given < chosen; slot++) {
        uint16_t worth = l->worth[l->place_of[slot]];
        if (worth < bound || (worth == bound && equal > 0)) {
            equal -= worth == bound;
            out[given++].slot = slot;
        }
    }
    for (uint32_t slot = l->filled; given < chosen; slot++)
        out[given++].slot = slot;
    return chosen;
}

uint32_t sli_policy_offer(const sli_ledger *ledger, uint32_t place)
{
    if (ledger->policy == SL_BUNDLES_STATIC)
        return place < ledger->capacity ? place : SLI_NO_SLOT;
    return ledger->filled < ledger->capacity ? ledger->filled : SLI_NO_SLOT;
}

uint32_t sli_policy_settle(sli_ledger *ledger, sli_admission admission)
{
    uint32_t before = ledger->place_of[admission.slot];
    assert(admission.slot < ledger->capacity && admission.place < ledger->count);
    ledger->place_of[admission.slot] = admission.place;
    ledger->filled += before == SLI_NO_PLACE;
    return before;
}

const char *sli_policy_broken(const sli_ledger *ledger, uint8_t *seen)
{
    const sli_ledger *l = ledger;
    uint32_t held = 0;
    memset(seen, 0, l->count);
    for (uint32_t slot = 0; slot < l->capacity; slot++) {
        uint32_t place = l->place_of[slot];
        if (place == SLI_NO_PLACE)
            continue;
        if (place >= l->count || seen[place]++ > 0)
            return "L1";
        if (l->policy == SL_BUNDLES_STATIC ? place != slot : slot >= l->filled)
            return "L2";
        held++;
    }
    return held != l->filled ? "L2" : NULL;
}

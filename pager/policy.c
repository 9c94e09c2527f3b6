/* pager/policy.c: see policy.h.
 *
 * Spreading walks the cycle and gives a home whenever the homes so far fall behind their even share of the bytes so far, as a line is drawn on a
 * raster. What the rounding leaves of the budget goes to whatever still fits, in the same order. */
#include "pager/policy.h"

#define HOME_ALIGNMENT 64 /* as the pager packs them */

static uint64_t home_bytes(const sl_unit *unit)
{
    return ((uint64_t)unit->bytes + HOME_ALIGNMENT - 1) / HOME_ALIGNMENT * HOME_ALIGNMENT;
}

uint64_t sl_policy_spread(sl_unit *units, const sl_unit_id *order, uint32_t count, uint64_t budget_bytes)
{
    uint64_t total = 0, passed = 0, given = 0;
    for (uint32_t i = 0; i < count; i++) {
        units[order[i]].home = true; /* "counted" for now: an order may name a unit twice */
    }
    for (uint32_t i = 0; i < count; i++) {
        sl_unit *u = &units[order[i]];
        total += u->home ? home_bytes(u) : 0;
        u->home = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        sl_unit *u = &units[order[i]];
        uint64_t bytes = home_bytes(u);
        if (u->home)
            continue;
        passed += bytes;
        /* given + bytes / 2 <= passed * budget / total: a home when the line has passed the middle of its step */
        bool behind = (unsigned __int128)(2 * given + bytes) * total <= (unsigned __int128)passed * 2 * budget_bytes;
        if (behind && bytes <= budget_bytes - given) {
            u->home = true;
            given += bytes;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        sl_unit *u = &units[order[i]];
        if (!u->home && home_bytes(u) <= budget_bytes - given) {
            u->home = true;
            given += home_bytes(u);
        }
    }
    return given;
}

/* The share of its units that a run keeps with one more, against another's: below, at, above. */
static int compare_shares(const sl_policy_run *a, const sl_policy_run *b)
{
    uint64_t left = (uint64_t)(a->kept + 1) * b->count, right = (uint64_t)(b->kept + 1) * a->count;
    return left < right ? -1 : left > right;
}

/* Multiples of the golden ratio, less their whole part: however many of the lowest are taken, they are spread evenly over the indices. */
static uint32_t turn_of(uint32_t index)
{
    return index * 2654435769u;
}

/* The run whose turn it is to keep one more unit, or NULL when all keep all. */
static sl_policy_run *next_run(sl_policy_run *runs, uint32_t count)
{
    uint32_t best = count;
    for (uint32_t i = 0; i < count; i++) {
        if (runs[i].kept == runs[i].count)
            continue;
        int order = best == count ? -1 : compare_shares(&runs[i], &runs[best]);
        if (order < 0 || (order == 0 && turn_of(i) < turn_of(best)))
            best = i;
    }
    return best == count ? NULL : &runs[best];
}

uint64_t sl_policy_prefixes(sl_unit *units, sl_policy_run *runs, uint32_t count, uint64_t budget_bytes)
{
    uint64_t given = 0;
    for (uint32_t i = 0; i < count; i++) {
        runs[i].kept = 0;
        for (uint32_t u = 0; u < runs[i].count; u++)
            units[runs[i].first + u].home = false;
    }
    for (sl_policy_run *run; (run = next_run(runs, count)) != NULL;) {
        sl_unit *u = &units[run->first + run->kept];
        if (home_bytes(u) > budget_bytes - given)
            break;
        u->home = true;
        run->kept++;
        given += home_bytes(u);
    }
    return given;
}

uint64_t sl_policy_in_order(sl_unit *units, sl_unit_id first, sl_unit_id end, uint64_t budget_bytes)
{
    uint64_t given = 0;
    for (sl_unit_id u = first; u < end; u++) {
        units[u].home = home_bytes(&units[u]) <= budget_bytes - given;
        given += units[u].home ? home_bytes(&units[u]) : 0;
    }
    return given;
}

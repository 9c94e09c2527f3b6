/* pager/policy.c: see policy.h.
 *
 * Walks the cycle and gives a home whenever the homes so far fall behind their even share of the bytes so far, as a line is drawn on a
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

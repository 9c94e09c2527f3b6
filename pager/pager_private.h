/* pager/pager_private.h: what the files of the pager share: the plan, and the structure that holds all.
 *
 * The plan is a ring of unit numbers between head (acquired next) and tail. Reading ahead has dealt with the entries before `next`. An
 * entry may be claimed: it counts on its unit's staged copy, and unit.claims is the number of such entries. (They can lie behind `next` too,
 * where it was set back to deal with some entry again.)
 *
 * Invariants
 *  S1  head <= next <= tail <= head + capacity.
 *  S2  A unit's claims are the claimed entries of the plan that name it.
 */
#ifndef SL_PAGER_PAGER_PRIVATE_H
#define SL_PAGER_PAGER_PRIVATE_H

#include "pager/record.h"
#include "pager/ring.h"
#include "pager/unit.h"

#define SLI_CLAIMED     ((uint32_t)1 << 31) /* in an entry of the plan, beside the unit's number */
#define SLI_SMALL_BYTES ((size_t)256 << 10) /* of staging memory, set apart for small reads */
#define SLI_SMALL_TAG   ((uint64_t)1 << 63)
#define SLI_BURST_MAX   64 /* small reads in flight */

typedef struct sli_plan {
    uint32_t *entry;
    uint32_t capacity;
    uint64_t head, next, tail; /* grow for ever; entry[x % capacity] */
} sli_plan;

struct sl_pager {
    sli_units units;
    sli_ring ring;
    sli_plan plan;
    sl_tier *tier;
    uint8_t *homes, *staging; /* the ring's memory, and after it SLI_SMALL_BYTES */
    size_t homes_bytes, staging_bytes, tables_bytes;
    uint32_t alignment, request_max;
    uint32_t in_flight;  /* reads that the tier has */
    uint32_t small_left; /* of those, small ones */
    bool small_failed;
    uint64_t small_traced[SLI_BURST_MAX];
    sl_trace *trace; /* NULL: nobody looks; the same of the record */
    sl_record *record;
    sl_error failure; /* of the last read that failed */
    sl_pager_stats stats;
};

/* Reads what the plan wants next, as far as ring and tier have room; never waits. */
void sli_stream_ahead(sl_pager *pager);
/* Deals with finished reads; waits for one when `wait` and any are in flight. */
void sli_stream_collect(sl_pager *pager, bool wait);
/* Reads an absent unit before all others, or does one step towards that; ask again while it is ABSENT. The tier has room for a read. */
SL_MUST_USE sl_status sli_stream_fetch(sl_pager *pager, sl_unit_id id, sl_error *err);
/* The place of a staged unit. */
const uint8_t *sli_stream_data(const sl_pager *pager, sl_unit_id id);
/* Widens [offset, offset + bytes) to the alignment. */
void sli_widen(uint64_t offset, uint64_t bytes, uint32_t alignment, uint64_t *from, uint64_t *length);

#endif

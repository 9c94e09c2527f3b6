/* pager/ring.h: the staging ring: extents, one after the other, taken at the end and given back at the beginning.
 *
 * An extent is the landing place of one request. It never wraps: what does not fit before the end of the memory begins again at 0. The
 * last extent can be given back too, which undoes the furthest read-ahead. Nothing here looks at units.
 *
 * Invariants
 *  R1  Extents lie inside the memory and do not overlap.
 *  R2  In the order of the ring their addresses rise, but for at most one step down to address 0.
 *
 * Threads: one owner. */
#ifndef SL_PAGER_RING_H
#define SL_PAGER_RING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sli_extent {
    uint64_t at;          /* in the ring's memory */
    uint64_t file_offset; /* aligned; what lies at `at` */
    uint32_t bytes;       /* aligned */
    uint32_t file;
    uint32_t first_unit; /* head of a list through sli_unit.next, or SLI_NONE: nothing of use is here */
    bool reading;
    uint64_t traced; /* sl_trace_read */
} sli_extent;

typedef struct sli_ring {
    sli_extent *extent; /* table of `capacity`, used as a ring; an extent keeps its index while it lives */
    uint32_t capacity, first, count;
    uint64_t bytes; /* of the memory */
} sli_ring;

/* Where `bytes` could go now; false when there is no room (or no free entry). */
bool sli_ring_room(const sli_ring *ring, uint32_t bytes, uint64_t *at);
/* Appends `extent`, whose place is from sli_ring_room; its index. */
uint32_t sli_ring_push(sli_ring *ring, sli_extent extent);
sli_extent *sli_ring_first(sli_ring *ring); /* NULL when empty; the same below */
sli_extent *sli_ring_last(sli_ring *ring);
void sli_ring_pop_first(sli_ring *ring);
void sli_ring_pop_last(sli_ring *ring);

/* The first invariant that does not hold, or NULL; for tests. */
const char *sli_ring_broken(const sli_ring *ring);

#endif

/* pager/pager.h: gives the executor its weights: those that stay, from host memory; the rest, streamed ahead of their use.
 *
 * A unit is what moves as a whole (here: a slab of consecutive rows of one matrix). The executor plans the units that it is going to
 * acquire, in order; the pager reads the absent ones into a staging ring in that order, as far ahead as the ring allows, and never
 * stops between tokens. A unit with a home is kept: its first acquire hands out the staged bytes and the empty home; the executor fills
 * the home (re-laid as it likes, same size) and settles it; from then on it is resident and never read again.
 *
 *        plan                     read done                  settle (has a home)
 * ABSENT ----> LOADING(staging) ------------> STAGED(pins) -----------------------> RESIDENT(pins)
 *    ^            | error: FAILED, sticky        | last release, no more planned use (no home)
 *    +-----------------------------------------<-+
 *
 * A staged unit without further use is dropped when its room is needed, not before: what is planned again until then is not read again.
 *
 * Invariants
 *  P1  A unit occupies staging only while LOADING or STAGED; its home belongs to it for ever.
 *  P2  A pinned unit is STAGED or RESIDENT and its bytes do not move or change, but for the executor filling the home before settling.
 *  P3  One release per successful acquire.
 *  P4  Memory held is exactly what sl_pager_price said, from create to destroy; nothing is allocated in between.
 *  P5  Weights are clean: giving up a staged unit drops it.
 *
 * Threads: one owner thread calls everything. Pinned bytes may be read by any thread. */
#ifndef SL_PAGER_PAGER_H
#define SL_PAGER_PAGER_H

#include "core/trace.h"
#include "pager/tier.h"

typedef struct sl_pager sl_pager;
typedef uint32_t sl_unit_id;

typedef struct sl_unit {
    uint32_t file;
    uint32_t bytes;
    uint64_t offset; /* in the file, any alignment */
    bool home;       /* stays in host memory once loaded */
} sl_unit;

typedef struct sl_pager_config {
    const sl_unit *units; /* copied */
    uint32_t unit_count;
    uint64_t
        staging_bytes; /* of the ring; at least sl_pager_staging_min(). 0 when every unit has a home and load time may be slow: the minimum */
    uint32_t plan_max; /* planned and not yet acquired units, at most */
} sl_pager_config;

/* Bytes of host memory that a pager with this configuration holds: homes, staging, tables; rounded as they are allocated. Pure. */
typedef struct sl_pager_cost {
    uint64_t homes_bytes, staging_bytes, tables_bytes;
} sl_pager_cost;
sl_pager_cost sl_pager_price(const sl_pager_config *config, uint32_t alignment);
/* The smallest ring that works: room for three of the largest unit, widened to the alignment, so that one that is pinned anywhere leaves
 * room for another on one side of it. Pure. */
uint64_t sl_pager_staging_min(const sl_unit *units, uint32_t unit_count, uint32_t alignment);

/* The ring exists before the tier does, so that the tier can register it: create, then sl_pager_staging, open the tier, attach.
 * The pager owns the tier from attach on, also when attach fails. */
SL_MUST_USE sl_status sl_pager_create(const sl_pager_config *config, uint32_t alignment, sl_pager **out, sl_error *err);
void *sl_pager_staging(sl_pager *pager, size_t *bytes);
void *sl_pager_homes(sl_pager *pager, size_t *bytes); /* all of them, for who page-locks them; NULL and 0: there are none */
SL_MUST_USE sl_status sl_pager_attach(sl_pager *pager, sl_tier *tier, sl_error *err);
void sl_pager_trace(sl_pager *pager, sl_trace *trace); /* reads and waits go to it from now on; nothing is in flight */
void sl_pager_destroy(sl_pager *pager);                /* NULL is fine; waits for reads in flight */

/* Appends to the plan and starts reading. Units are acquired in planned order. SL_NO_MEMORY when plan_max would be exceeded. */
SL_MUST_USE sl_status sl_pager_plan(sl_pager *pager, const sl_unit_id *units, uint32_t count, sl_error *err);
/* Forgets what is planned and not acquired. Reads in flight finish into staging and serve a later plan that begins with the same units. */
void sl_pager_cancel(sl_pager *pager);

typedef struct sl_view {
    const uint8_t *staged; /* the file's bytes of the unit; NULL when RESIDENT */
    uint8_t *home;         /* RESIDENT: as the executor filled it; STAGED with a home: to be filled, then settle; else NULL */
} sl_view;

/* Pins the next planned unit, waiting for its read when need be. A unit that is not the next of the plan leaves the plan as it is and is
 * a demand read where absent: correct, slow, counted. SL_NO_MEMORY when pinned units leave no room in the ring. SL_IO is sticky for the
 * unit until sl_pager_retry. On SL_OK the caller owes one release. */
SL_MUST_USE sl_status sl_pager_acquire(sl_pager *pager, sl_unit_id unit, sl_view *view, sl_error *err);
void sl_pager_settle(sl_pager *pager, sl_unit_id unit); /* STAGED -> RESIDENT, pinned as before; view.staged is gone */
void sl_pager_release(sl_pager *pager, sl_unit_id unit);
/* Collects finished reads and starts further ones; never waits. Cheap: call it between slabs. */
void sl_pager_poll(sl_pager *pager);
void sl_pager_retry(sl_pager *pager); /* FAILED -> ABSENT, for all */

/* Whether acquire would give the unit at once. Collects finished reads first; never waits. */
bool sl_pager_ready(sl_pager *pager, sl_unit_id unit);
/* RESIDENT home of a unit or NULL: a look without a pin, valid until the pager is destroyed. */
const uint8_t *sl_pager_resident(const sl_pager *pager, sl_unit_id unit);

/* Reads small ranges (rows of the embedding) through the tier, several in flight, each of `bytes` into out + i * bytes; waits for
 * all. Longer ranges than 64 KiB are read in pieces of that. Works beside the plan. */
SL_MUST_USE sl_status sl_pager_read_small(sl_pager *pager, uint32_t file, const uint64_t *offsets, uint32_t count, uint32_t bytes,
                                          void *out, sl_error *err);

typedef struct sl_pager_stats { /* all since create; monotonic */
    uint64_t bytes_read;        /* from the tier, alignment included */
    uint64_t bytes_wanted;      /* of those, bytes of units and small ranges */
    uint64_t requests;
    uint64_t wait_ns; /* the owner waited for a read */
    uint64_t hits_resident, hits_staged, demand_reads;
    uint64_t resident_bytes; /* settled now */
} sl_pager_stats;
sl_pager_stats sl_pager_statistics(const sl_pager *pager);
const sl_tier_attrs *sl_pager_tier(const sl_pager *pager); /* NULL before attach */

#endif

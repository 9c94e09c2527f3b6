/* pager/unit.h: the unit table, with one function per transition.
 *
 * This file owns the units' states, pins and claims. It does no I/O and knows nothing of where in the ring a unit lies, but for the number
 * of the extent. A claim is an entry of the plan that counts on the copy which is staged or on its way.
 *
 *        begin_load          loaded           settle
 * ABSENT ----------> LOADING ------> STAGED ---------> RESIDENT
 *    ^                  | load_failed   |
 *    |     retry        v               |
 *    +-------------- FAILED             |
 *    +----------------------------------+ drop
 *
 * Invariants
 *  U1  A unit has an extent if and only if it is LOADING or STAGED.
 *  U2  pins > 0 only when STAGED or RESIDENT; a pinned unit is never dropped.
 *  U3  RESIDENT only with a home, and for ever.
 *  U4  claims > 0 only when LOADING, STAGED or RESIDENT.
 *  U5  resident_bytes is the sum of the bytes of RESIDENT units.
 *
 * Threads: one owner. */
#ifndef SL_PAGER_UNIT_H
#define SL_PAGER_UNIT_H

#include "pager/pager.h"

#define SLI_NONE UINT32_MAX

typedef enum sli_unit_state { SLI_ABSENT = 0, SLI_LOADING, SLI_STAGED, SLI_RESIDENT, SLI_FAILED } sli_unit_state;

typedef struct sli_unit {
    uint64_t offset;  /* in the file */
    uint64_t home_at; /* in the homes' arena, or SLI_NO_HOME */
    uint32_t bytes, file;
    uint32_t extent; /* SLI_NONE: none */
    uint32_t next;   /* further unit of the same extent, or SLI_NONE */
    uint32_t claims;
    uint16_t pins;
    uint8_t state;
} sli_unit;

#define SLI_NO_HOME UINT64_MAX

typedef struct sli_units {
    sli_unit *unit;
    uint32_t count;
    uint64_t resident_bytes;
} sli_units;

void sli_unit_begin_load(sli_units *units, sl_unit_id id, uint32_t extent);
void sli_unit_loaded(sli_units *units, sl_unit_id id);
void sli_unit_load_failed(sli_units *units, sl_unit_id id); /* its claims must be given up */
void sli_unit_settle(sli_units *units, sl_unit_id id);
void sli_unit_drop(sli_units *units, sl_unit_id id); /* likewise */
void sli_unit_retry(sli_units *units, sl_unit_id id);
void sli_unit_pin(sli_units *units, sl_unit_id id);
void sli_unit_unpin(sli_units *units, sl_unit_id id);

/* The first invariant that does not hold ("U2"), or NULL. O(count): for tests. */
const char *sli_units_broken(const sli_units *units);

#endif

/* pager/bundle_stage.h: where bundles land that are read: one layer's requests, and what lies where. It submits nothing (bundle_fetch.c does).
 *
 *        take             hold            let_go                      last read is in
 *  FREE -----> FILLING ---------> HELD ----------> DRAINING ------------------------> FREE
 *                 |                                    ^
 *                 +------------------------------------+ let_go
 *
 * Memory is taken from the front and given back all at once. An entry is a bundle that is here or on its way; bundles in gaps are entries too,
 * for a later call may want them. Requests lie in the order of their memory, those of one run one after the other.
 *
 * Invariants
 *  G1  An entry's bundle lies inside `used`, covered by its requests, or is there already; entries do not overlap and rise.
 *  G2  An entry is what its layer's `where` says of its place, and the other way round; only FILLING and HELD have entries.
 *  G3  in_flight is the number of requests READING; FREE has none, and nothing else.
 *  G4  Of a request DROPPED no entry is left.
 *
 * Threads: one owner. */
#ifndef SL_PAGER_BUNDLE_STAGE_H
#define SL_PAGER_BUNDLE_STAGE_H

#include "pager/bundle_cache.h"
#include "pager/bundle_runs.h"

typedef enum sli_request_state { SLI_QUEUED, SLI_READING, SLI_READ, SLI_READ_FAILED, SLI_DROPPED } sli_request_state;

typedef struct sli_request {
    uint64_t offset; /* in the file */
    uint32_t at, bytes;
    uint64_t traced; /* sl_trace_read */
    uint8_t state;
    bool needed; /* the fetch that is under way waits for it */
} sli_request;

typedef struct sli_entry {
    uint32_t place, at;
    uint32_t request; /* the first of those that cover it; SLI_NO_REQUEST: it is there */
    bool guessed;     /* asked for by prefetch */
    bool wanted;      /* by the fetch that is under way or held */
} sli_entry;

#define SLI_NO_REQUEST UINT32_MAX

typedef enum sli_stage_state { SLI_STAGE_FREE, SLI_STAGE_FILLING, SLI_STAGE_HELD, SLI_STAGE_DRAINING } sli_stage_state;

typedef struct sli_stage {
    uint8_t *memory;
    uint32_t bytes, used;
    sli_request *request;
    uint32_t request_count, request_max;
    uint32_t next; /* no request before it is QUEUED */
    sli_entry *entry;
    uint32_t entry_count, entry_max;
    uint32_t in_flight;
    sli_cache *cache; /* of the layer; NULL when FREE */
    sli_stage_state state;
} sli_stage;

typedef struct sli_reading { /* how to read */
    uint32_t alignment, gap_bytes, request_bytes;
} sli_reading;

void sli_stage_take(sli_stage *s, sli_cache *cache); /* FREE -> FILLING */
void sli_stage_hold(sli_stage *s);                   /* FILLING -> HELD */
/* FILLING, HELD -> DRAINING, or FREE at once. Nothing queued is left. How many guessed entries nobody wanted. */
uint32_t sli_stage_let_go(sli_stage *s);
void sli_stage_request_done(sli_stage *s, uint32_t request, bool failed); /* a request READING; DRAINING -> FREE with the last */

/* Is there certainly room for these places (ascending, absent)? */
bool sli_stage_fits(const sli_stage *s, const sli_reading *how, const uint32_t *places, uint32_t count);
/* Queues requests for them, as far as there is room: for the first so many, which is returned. */
uint32_t sli_stage_add(sli_stage *s, const sli_reading *how, const uint32_t *places, uint32_t count, bool guessed);

bool sli_stage_ready(const sli_stage *s, const sli_entry *e);  /* its bytes are there */
bool sli_stage_failed(const sli_stage *s, const sli_entry *e); /* they won't come */
/* Keeps the wanted entries and drops what is queued for others only; those kept are needed. How many guessed ones were not kept. */
uint32_t sli_stage_keep_wanted(sli_stage *s);
/* Forgets entries whose bundle went into a slot; they are in `where` no more. */
void sli_stage_forget_moved(sli_stage *s);
/* Moves what is there to the front, and forgets entries that are not. Nothing is in flight or handed out. */
void sli_stage_compact(sli_stage *s, uint32_t alignment);
const uint8_t *sli_stage_data(const sli_stage *s, const sli_entry *e);
/* The entry of a staged place of this stage's layer. */
sli_entry *sli_stage_entry(const sli_stage *s, uint32_t place);

const char *sli_stage_broken(const sli_stage *s); /* the first invariant that does not hold, or NULL; for tests */

#endif

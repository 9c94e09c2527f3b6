/* pager/bundles_private.h: what the files of the bundles share.
 *
 * Invariant
 *  F1  in_flight is the sum of the stages', and at most the tier's depth.
 *  F2  A layer has at most one stage that is FILLING or HELD, and at most one stage is HELD: `held`. */
#ifndef SL_PAGER_BUNDLES_PRIVATE_H
#define SL_PAGER_BUNDLES_PRIVATE_H

#include "pager/bundle_stage.h"
#include "pager/record.h"

#define SLI_STAGES 2

struct sl_bundles {
    sli_cache *cache; /* by layer */
    uint32_t layer_count, file, wanted_max;
    sli_reading how;
    sli_stage stage[SLI_STAGES];
    sli_stage *held;   /* NULL: no fetch is owed its done */
    sli_stage *urgent; /* its reads go first; NULL: none waits */
    uint32_t *used;    /* the places of the fetch that is held */
    uint32_t used_count;
    uint32_t *some;           /* scratch of wanted_max: places to be read, then candidates for the cache */
    sli_admission *admission; /* likewise */
    sl_tier *tier;
    uint32_t in_flight;
    sl_error failure; /* of the last read that failed */
    sl_trace *trace;  /* NULL: nobody looks; the same of the record */
    sl_record *record;
    sl_bundles_stats stats;
    uint8_t *slots, *staging;
    uint64_t slots_bytes, staging_bytes, tables_bytes;
};

/* Starts what is queued, as far as the tier takes it; in one system call. Never waits. */
void sli_bundles_submit(sl_bundles *b);
/* Deals with finished reads; waits for one when `wait` and any are in flight. */
void sli_bundles_collect(sl_bundles *b, bool wait);

/* The first invariant that does not hold, of any part, or NULL; `seen` has room for a byte a place of the largest layer. For tests. */
const char *sli_bundles_broken(const sl_bundles *b, uint8_t *seen);

#endif

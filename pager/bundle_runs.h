/* pager/bundle_runs.h: from places to stretches of the file. Pure.
 *
 * A run is a stretch that is read without a hole: the wanted bundles in it, widened to the alignment, and gaps that are cheaper to read than
 * a further request is. Where runs meet or overlap they are one, whatever the rules say, for that reads less.
 *
 * Threads: pure. */
#ifndef SL_PAGER_BUNDLE_RUNS_H
#define SL_PAGER_BUNDLE_RUNS_H

#include "pager/bundles.h"

typedef struct sli_run {
    uint64_t from, bytes; /* in the file; aligned */
    uint32_t places;      /* how many of the list it holds */
} sli_run;

/* The run that begins with the first of the places (ascending, at least one). Gaps of at most gap_bytes are read as long as *spare_bytes
 * lasts, which they are taken from. */
sli_run sli_run_next(const sl_bundle_layer *layer, const uint32_t *places, uint32_t count, uint32_t alignment, uint32_t gap_bytes,
                     uint64_t *spare_bytes);

/* What the places take in runs without gaps; the number of these in *runs (may be NULL). No plan takes less. */
uint64_t sli_runs_least(const sl_bundle_layer *layer, const uint32_t *places, uint32_t count, uint32_t alignment, uint32_t *runs);

/* The most that a bundle of the layer takes when it is read alone. */
uint32_t sli_run_alone_max(const sl_bundle_layer *layer, uint32_t alignment);

/* The places that lie whole in the run: *first to *end - 1. */
void sli_run_whole(const sl_bundle_layer *layer, const sli_run *run, uint32_t *first, uint32_t *end);

#endif

/* offload/bundle_trial.h: what sparse rows will read, tried out: the cache of bundles itself, over a device that has no bytes, with sets of neurons
 * that change from token to token as those of real text do.
 *
 * Which neurons a text needs is not known beforehand; how they change is: some are hot, most that fire fire again, and a guess ahead is nearly right.
 * Three figures say how much (bundle_trial.c, fitted to real runs); all else is the code that a run uses.
 *
 * Threads: pure; takes some MiB, and milliseconds. */
#ifndef SL_OFFLOAD_BUNDLE_TRIAL_H
#define SL_OFFLOAD_BUNDLE_TRIAL_H

#include "offload/division.h"

typedef struct sli_bundle_trial { /* means, of a layer and a token */
    double bytes_ahead;           /* begun before the attention */
    double bytes_late;            /* when the set was known */
    double requests;
    double cached_share; /* of the set, found in the cache */
} sli_bundle_trial;

/* SL_NO_MEMORY. `tokens` are tried, behind a dense pass over the prompt. */
SL_MUST_USE sl_status sli_bundle_try(const sli_bundle_division *placement, uint32_t tokens, sli_bundle_trial *out, sl_error *err);

#endif

/* offload/choices.h: what an engine's options come to for its model: checked against each other and against what the file holds, zeros replaced by
 * what they stand for, and what was changed said. Nothing is allocated but the sizes of sets, nothing opened. */
#ifndef SL_OFFLOAD_CHOICES_H
#define SL_OFFLOAD_CHOICES_H

#include "offload/engine.h"

/* Kernels, context, cache, sets, SparQ, drafts; the file was read. SL_INVALID: options that do not go together, or not with this model. */
SL_MUST_USE sl_status sli_choose_options(sl_engine *e, sl_error *err);
/* How many neurons the sets of each layer have: more where the calibration saw that they matter more, else the same everywhere. */
SL_MUST_USE sl_status sli_choose_sets(sl_engine *e, sl_error *err);
/* The budget asked for, or what memory there is comes to; said when it is chosen here or above what there is, and lowered then where the
 * options ask for that. */
uint64_t sli_choose_budget(const sl_engine *e);

/* What the values of an option are called, by flags and in descriptions; NULL behind the last. */
const char *sli_sparsity_name(size_t mode);       /* sl_sparsity */
const char *sli_predictor_name(size_t predictor); /* sl_predictor */
const char *sli_early_exit_name(size_t kind);     /* sl_early_exit */

/* Whether sets come from the predictor that the file holds. */
bool sli_uses_stored(const sl_engine *e);
/* Sparse rows read the bundles of their sets alone. Scores that need all activations read everything anyway, and an engine that gives every
 * row's logits evaluates many at once. */
bool sli_fetches_sets(const sl_engine *e);

#endif

/* core/rope.h: how far each rotary pair of a model turns from one position to the next.
 *
 * Pair i of n turns by base^(-2i/n), divided by the model's factor for it. Models that were stretched to longer texts divide once more:
 *
 *   linear    all pairs by the scale
 *   YaRN      pairs that turn fully less than beta_slow times in the original context by the scale, those that turn more than beta_fast times not at
 *             all, the ones between in proportion to their index; cosine and sine are larger by 1 + 0.1 ln(scale)
 *   longrope  by factors of their own, one list for contexts up to the original one, and one for longer ones
 *
 * Which list, the context says that a run was given, not how far a text has come: keys that were turned by one are worthless beside the other's.
 *
 * Threads: pure. */
#ifndef SL_CORE_ROPE_H
#define SL_CORE_ROPE_H

#include "core/model.h"

/* The tensor of factors for a context of so many positions; NULL: all are 1. */
const sl_gguf_tensor *sl_rope_factors(const sl_model *model, uint32_t context);

/* Fills steps[table][rope_dim / 2], radians a position, one table for each of sl_model_rope_tables. `factors` are the floats of the tensor above, or
 * NULL. A factor that is not positive is SL_FORMAT, and so is a step whose angles at the end of the context would have no sine; `file` is for the
 * message. */
SL_MUST_USE sl_status sl_rope_steps(const sl_model *model, const float *factors, const char *file, double *steps, sl_error *err);

#endif

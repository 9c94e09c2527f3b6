/* offload/calibrate/sensitivity.h: how much it changes what the model says when one layer does with a part of its neurons.
 *
 * Measured, not derived: each layer in turn keeps its exact SLI_SENSITIVITY_DENSITY, all others are dense, and the distribution of the next token is compared
 * with the dense model's. What a layer loses of its own activations says little by itself: the first layers' losses pass through all others.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_SENSITIVITY_H
#define SL_OFFLOAD_CALIBRATE_SENSITIVITY_H

#include "core/model.h"
#include "offload/sluice.h"
#include "offload/tools/tool.h"

#define SLI_SENSITIVITY_DENSITY 0.3

/* Mean Kullback-Leibler divergence from the dense model for each layer, in nats: kl[layers]. Opens an engine of its own; options: path, threads, budget
 * and notes are used. Watch: progress in layers. Too few tokens, or a context or budget too small: all zero, and a note says so. */
SL_MUST_USE sl_status sli_sensitivity(const sl_engine_options *options, const sl_token_id *tokens, size_t count, const sl_tool_watch *watch,
                                      const sl_model *model, float *kl, sl_error *err);

#endif

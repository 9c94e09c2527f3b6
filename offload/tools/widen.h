/* offload/tools/widen.h: a real-behaving model of any size from a small one.
 *
 * Every hidden feature, attention head and neuron of the small model is there `factor` times in the wide one, and all copies always hold
 * the same value. Where a feature is summed over, its weight is shared out over its copies by random shares that sum to 1. So the wide
 * model computes the small one's function, at factor^2 times the work and memory traffic, with matrices that look like any others.
 *
 * Good for measuring memory, I/O and speed at true size; not for claims about predictors or sparsity at that size: copies fire together.
 *
 * Type. Without a type the quants carry over: a block's shares scale only its step (and minimum), so no quant is rounded again. With a
 * type each matrix of the layers is first requantised to it, at the small model's size, and then widened the same way; the embedding and
 * the head become at least Q8_0 unless they had 4 bits already, as is usual. That this happened is told through the watch's note.
 *
 * Memory: some MiB, whatever the model's size.  Threads: one call, one thread.  Same input, options and seed, same bytes. */
#ifndef SL_OFFLOAD_TOOLS_WIDEN_H
#define SL_OFFLOAD_TOOLS_WIDEN_H

#include "offload/tools/tool.h"

#define SL_WIDEN_FACTOR_MAX 64u

typedef struct sl_widen_options {
    const char *in_path, *out_path; /* two different files */
    uint32_t factor;                /* 1..SL_WIDEN_FACTOR_MAX */
    bool change_type;               /* requantise to `type` first */
    uint32_t type;
    uint64_t seed;
    sl_tool_watch watch;
} sl_widen_options;

/* SL_INVALID (factor, paths, type), SL_FORMAT (the small file), SL_UNSUPPORTED (its architecture or a tensor), SL_IO, SL_NO_MEMORY,
 * SL_INTERRUPTED. On failure no file is left. */
SL_MUST_USE sl_status sl_widen(const sl_widen_options *options, sl_error *err);

#endif

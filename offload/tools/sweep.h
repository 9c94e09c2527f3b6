/* offload/tools/sweep.h: lists and ranges of values, as llama-bench's users write them, and the product of several. Pure.
 *
 *   list    item,item,…
 *   item    first-last           first, first + 1, …
 *           first-last+step      first, first + step, … up to last
 *           first-last*factor    first, first * factor, … up to last
 *           anything else        itself
 *
 * Numbers may have fractions and, as sizes, K, M, G or T behind them: 512M-4G*2, 0.3-0.9+0.2. */
#ifndef SL_OFFLOAD_TOOLS_SWEEP_H
#define SL_OFFLOAD_TOOLS_SWEEP_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_SWEEP_VALUES_MAX 1024 /* of one option */

typedef struct sl_sweep_values {
    char **text;
    size_t count;
} sl_sweep_values;

/* Appends the values of `list` to *out; what is already there stays, also on failure. `flag` is for the message; without `ranges` an item is
 * always itself. */
SL_MUST_USE sl_status sl_sweep_parse(const char *flag, const char *list, bool ranges, sl_sweep_values *out, sl_error *err);
void sl_sweep_free(sl_sweep_values *values);

/* Combinations of options that have so many values each; UINT64_MAX where it is more than that. */
uint64_t sl_sweep_count(const size_t *counts, size_t options);
/* The values of combination `index`: the last option changes fastest. */
void sl_sweep_at(const size_t *counts, size_t options, uint64_t index, size_t *chosen);

#endif

/* core/histogram.h: how a quantity is spread, in memory of a fixed size: sixteen buckets for each power of two.
 *
 * Values below 16 are kept as they are, larger ones within 3 % of themselves; count, sum and maximum are exact. A histogram of zeros is
 * an empty one. Threads: one at a time. */
#ifndef SL_CORE_HISTOGRAM_H
#define SL_CORE_HISTOGRAM_H

#include <stdint.h>

#define SL_HISTOGRAM_BUCKETS 976

typedef struct sl_histogram {
    uint64_t count, sum, max;
    uint64_t bucket[SL_HISTOGRAM_BUCKETS];
} sl_histogram;

void sl_histogram_add(sl_histogram *h, uint64_t value); /* O(1), allocates nothing */
/* The value that a share of all (0..1) do not exceed; 0 where there are none. */
uint64_t sl_histogram_percentile(const sl_histogram *h, double share);

#endif

/* offload/tools/task_stats.h: what counts of right answers say: intervals, and whether two ways of answering differ. Pure functions. */
#ifndef SL_OFFLOAD_TOOLS_TASK_STATS_H
#define SL_OFFLOAD_TOOLS_TASK_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_interval { /* the middle 95 % */
    double low, high;
} sl_interval;

/* Wilson's score interval of a share; 0 to 1 where there is nothing. */
sl_interval sl_wilson(uint64_t right, uint64_t count);

/* Two ways of answering the same items. */
typedef struct sl_paired {
    uint64_t count, lost, gained; /* right the first way alone; the second way alone */
    double difference;            /* share of the second less that of the first */
    sl_interval interval;         /* Bonett and Price's: Wald's with one more answer in each cell that differs */
    double p;                     /* McNemar's exact test: how likely so uneven a split is where both are equally good */
} sl_paired;
sl_paired sl_paired_of(const bool *first, const bool *second, size_t count);

/* What a correction gives back of what an approximation loses: (corrected - sparse) / (dense - sparse). */
typedef struct sl_recovered {
    bool known; /* something was lost */
    double share;
    sl_interval interval; /* of resampled items, the answers to an item together */
} sl_recovered;
#define SL_RESAMPLES 10000
sl_recovered sl_recovered_of(const bool *dense, const bool *sparse, const bool *corrected, size_t count);

#endif

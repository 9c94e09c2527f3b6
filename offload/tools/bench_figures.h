/* offload/tools/bench_figures.h: what is made of a benchmark's samples. Pure. */
#ifndef SL_OFFLOAD_TOOLS_BENCH_FIGURES_H
#define SL_OFFLOAD_TOOLS_BENCH_FIGURES_H

#include <stddef.h>
#include <stdint.h>

double sl_mean(const double *values, size_t count);   /* 0 of none */
double sl_stddev(const double *values, size_t count); /* of a sample, over count - 1; 0 of less than two */
double sl_median(double *values, size_t count);       /* which it sorts; 0 of none */

/* One test as far as it is known beforehand. */
typedef struct sl_bench_guess {
    uint64_t weight_bytes, budget_bytes; /* budget 0: all stays */
    uint64_t prompt_tokens, depth_tokens, decoded_tokens, batch, repetitions;
    double link_Bps, compute_Bps; /* reads, and weights that a decoding pass goes through */
} sl_bench_guess;
double sl_bench_estimate_s(const sl_bench_guess *guess);

#endif

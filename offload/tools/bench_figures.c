/* offload/tools/bench_figures.c: see bench_figures.h. */
#include "offload/tools/bench_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_GAIN 16 /* tokens of a prompt that cost about as much computing as one decoded alone (bench/SPEED.md) */

double sl_mean(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    return count > 0 ? sum / (double)count : 0;
}

double sl_stddev(const double *values, size_t count)
{
    double mean = sl_mean(values, count), squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    return count > 1 ? sqrt(squares / (double)(count - 1)) : 0;
}

static int by_value(const void *left, const void *right)
{
    double a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

double sl_median(double *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, by_value);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Of so many tokens in passes of so many, each as slow as the slower of reading and computing. */
static double passes_s(const sl_bench_guess *g, double streamed_bytes, uint64_t tokens, uint64_t batch)
{
    double passes = ceil((double)tokens / (double)batch), reading = passes * streamed_bytes / g->link_Bps;
    double computing = (double)tokens * (double)g->weight_bytes / g->compute_Bps / (batch > 1 ? PROMPT_GAIN : 1);
    return reading > computing ? reading : computing;
}

double sl_bench_estimate_s(const sl_bench_guess *g)
{
    double weights = (double)g->weight_bytes, budget = (double)g->budget_bytes;
    double streamed = g->budget_bytes == 0 || budget >= weights ? 0 : weights - budget;
    double once = passes_s(g, streamed, g->depth_tokens, g->batch) + passes_s(g, streamed, g->prompt_tokens, g->batch) +
                  passes_s(g, streamed, g->decoded_tokens, 1);
    double warm_up = weights / g->link_Bps + passes_s(g, streamed, g->prompt_tokens, g->batch);
    return warm_up + (double)g->repetitions * once;
}

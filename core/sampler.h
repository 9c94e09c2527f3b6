/* core/sampler.h: from logits to a token, exactly reproducible.
 *
 * The token is argmax over the kept tokens of (logit / T + Gumbel noise), the noise being a hash of (seed, position, token id); plain argmax
 * (lowest id at equal logits) at T = 0. So a token depends on logits, seed and position only: not on drafts, batches or history of calls.
 * Filters in llama.cpp's order: repetition penalty (over the last repeat_last_n tokens), top-k, top-p, min-p, then temperature.
 *
 * Memory: one scratch of vocab entries, allocated at create (priced by sl_sampler_heap_bytes). Threads: one owner. */
#ifndef SL_CORE_SAMPLER_H
#define SL_CORE_SAMPLER_H

#include "core/tokenizer.h"

typedef struct sl_sampling {
    uint64_t seed;
    float temperature;    /* 0: greedy */
    int32_t top_k;        /* 0: off */
    float top_p;          /* 1: off */
    float min_p;          /* 0: off */
    float repeat_penalty; /* 1: off */
    int32_t repeat_last_n;
} sl_sampling;

typedef struct sl_sampler sl_sampler;
SL_MUST_USE sl_status sl_sampling_check(const sl_sampling *s, sl_error *err); /* ranges; NaN is refused */
SL_MUST_USE sl_status sl_sampler_create(const sl_sampling *s, uint32_t vocab, sl_sampler **out, sl_error *err);
void sl_sampler_destroy(sl_sampler *sampler);
size_t sl_sampler_heap_bytes(uint32_t vocab);
/* The token for `position`; `history` is everything before it, for the penalty. logits are not changed. */
sl_token sl_sampler_pick(sl_sampler *sampler, const float *logits, const sl_token *history, size_t history_count, uint64_t position);
typedef struct sl_chance {
    sl_token id;
    double p;
} sl_chance;
/* The distribution that sl_sampler_pick draws from, by id, into out ([top_k]); for samplers with a top_k. Returns how many tokens it has. */
uint32_t sl_sampler_chances(sl_sampler *sampler, const float *logits, const sl_token *history, size_t history_count, sl_chance *out);

typedef struct sl_choice {
    sl_token id;
    double log_p;
} sl_choice;
/* The pick and the runners-up for `position`, at most `most`, the likeliest first, into out: the order in which sl_sampler_pick would take them, its
 * noise included. Their chances are those of a softmax of logits and noise at SL_CHOICE_TEMPERATURE: how sure the pick is. Returns how many. */
#define SL_CHOICE_TEMPERATURE 0.6 /* Sirius (arXiv 2409.03856) ranks drafts so */
uint32_t sl_sampler_choices(sl_sampler *sampler, const float *logits, const sl_token *history, size_t history_count, uint64_t position,
                            uint32_t most, sl_choice *out);

/* Uniform in (0,1), and Gumbel noise, of a (seed, position, token); sl_log's bits, same on every machine. */
double sl_uniform(uint64_t seed, uint64_t position, sl_token token);
double sl_gumbel(uint64_t seed, uint64_t position, sl_token token);
/* log softmax(logits)[token], in double in id order. */
double sl_log_probability(const float *logits, uint32_t vocab, sl_token token);

#endif

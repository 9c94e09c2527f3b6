/* offload/logprobs.h: how likely a row of logits makes the token that was picked, and which ones it makes likeliest. Before sampling: of all tokens,
 * without temperature, penalties and filters. */
#ifndef SL_OFFLOAD_LOGPROBS_H
#define SL_OFFLOAD_LOGPROBS_H

#include "core/sampler.h"
#include "offload/sluice.h"

/* The `count` likeliest tokens, likeliest first, at equal logits the lower id; then the rest of `top` is filled up with SL_TOKEN_NONE, where the
 * vocabulary is smaller. Returns the logarithm of the sum of all tokens' exponentials, which a token's log p is its logit less of. */
double sli_logprobs_top(const float *logits, uint32_t vocab, uint32_t count, sl_logprob *top);

/* log p of a logit, and what stands for that of none. */
double sli_logprob(float logit, double log_sum);

#endif

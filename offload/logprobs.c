/* offload/logprobs.c: the likeliest few in one walk over the logits, kept in order. */
#include "offload/logprobs.h"

#include <math.h>

/* What a probability of nothing is written as: JSON has no infinity. */
#define NOTHING (-9999.0)

static float usable(float logit)
{
    return logit == logit ? logit : -INFINITY; /* as the sampler: a NaN is the least of all */
}

double sli_logprob(float logit, double log_sum)
{
    double logprob = (double)usable(logit) - log_sum;
    return logprob > NOTHING ? logprob : NOTHING;
}

double sli_logprobs_top(const float *logits, uint32_t vocab, uint32_t count, sl_logprob *top)
{
    uint32_t kept = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        float logit = usable(logits[id]);
        if (kept == count && (count == 0 || !(logit > (float)top[kept - 1].logprob)))
            continue;
        uint32_t at = kept < count ? kept++ : kept - 1;
        for (; at > 0 && logit > (float)top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (sl_logprob){(sl_token_id)id, (double)logit};
    }
    for (uint32_t i = kept; i < count; i++)
        top[i] = (sl_logprob){SL_TOKEN_NONE, NOTHING};
    double log_sum = kept > 0 ? top[0].logprob - sl_log_probability(logits, vocab, top[0].token) : 0;
    for (uint32_t i = 0; i < kept; i++)
        top[i].logprob = sli_logprob((float)top[i].logprob, log_sum);
    return log_sum;
}

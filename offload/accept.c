/* offload/accept.c: see accept.h. */
#include "offload/accept.h"
#include "core/mathx.h"

#include <math.h>

/* A token this far below the likeliest (in units of the temperature) has less than 1e-17 of its weight: a whole vocabulary of them cannot be
 * seen in a double's sum, and most of a vocabulary is that far below. */
#define UNSEEN 40.0

sl_status sli_accept_check(const sl_drafting *how, sl_error *err)
{
    if (how->accept != SL_ACCEPT_EXACT && how->accept != SL_ACCEPT_THRESHOLD)
        return sl_fail(err, SL_INVALID, "accept policy %d; known are exact (0) and threshold (1)", (int)how->accept);
    if (how->accept == SL_ACCEPT_EXACT)
        return SL_OK;
    if (!(how->tau >= 0.0f && how->tau <= 1.0f))
        return sl_fail(err, SL_INVALID, "tau %g is not within 0..1", (double)how->tau);
    if (!(how->tau_temperature > 0.0f && how->tau_temperature < INFINITY))
        return sl_fail(err, SL_INVALID, "a temperature of %g for tau is not a number above 0", (double)how->tau_temperature);
    return SL_OK;
}

/* The first of the largest; false for NaN, which is no logit. */
static uint32_t likeliest(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    float value = -INFINITY;
    for (uint32_t i = 0; i < vocab; i++)
        if (logits[i] > value) {
            value = logits[i];
            best = i;
        }
    return best;
}

/* Whether softmax(logits / temperature)[token] >= tau. The sum stops as soon as it is too large for that. */
static bool reaches(const float *logits, uint32_t vocab, sl_token token, double largest, double tau, double temperature)
{
    double below = ((double)logits[token] - largest) / temperature, sum = 0;
    if (!(below > -INFINITY))
        return false;
    double most = sl_exp(below) / tau; /* infinite for tau 0: nothing is too large */
    for (uint32_t i = 0; i < vocab; i++) {
        double of_one = ((double)logits[i] - largest) / temperature;
        if (of_one > -UNSEEN)
            sum += sl_exp(of_one);
        if (sum > most)
            return false;
    }
    return true;
}

bool sli_accepts(const sl_drafting *how, const float *logits, uint32_t vocab, sl_token draft, sl_token pick)
{
    if (draft == pick)
        return true;
    if (how->accept == SL_ACCEPT_EXACT || draft < 0 || (uint32_t)draft >= vocab)
        return false;
    uint32_t best = likeliest(logits, vocab);
    return (uint32_t)draft == best || reaches(logits, vocab, draft, (double)logits[best], (double)how->tau, (double)how->tau_temperature);
}

/* offload/accept.c: see accept.h. */
#include "offload/accept.h"
#include "core/mathx.h"

#include <math.h>

/* A token this far below the likeliest (in units of the temperature) has less than 1e-17 of its weight: a whole vocabulary of them cannot be
 * seen in a double's sum, and most of a vocabulary is that far below. */
#define UNSEEN 40.0

sl_status sli_accept_check(const sl_drafting *how, int32_t top_k, sl_error *err)
{
    if ((unsigned)how->accept > SL_ACCEPT_SAMPLE)
        return sl_fail(err, SL_INVALID, "accept policy %d; known are exact (0), threshold (1) and sample (2)", (int)how->accept);
    if (how->accept == SL_ACCEPT_SAMPLE && (top_k < 1 || top_k > SL_SAMPLE_TOP_K_MAX))
        return sl_fail(err, SL_INVALID, "rejection sampling keeps the drafts' distributions: it wants a top-k from 1 to %d, not %d",
                       SL_SAMPLE_TOP_K_MAX, top_k);
    if (how->accept != SL_ACCEPT_THRESHOLD)
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

/* ---- rejection sampling ---- */

static double chance_of(sli_chances c, sl_token token)
{
    for (uint32_t i = 0; i < c.count; i++)
        if (c.of[i].id == token)
            return c.of[i].p;
    return 0;
}

/* What p has more of than q, of p's i-th token; *at walks along q, both being in order. */
static double excess(sli_chances p, sli_chances q, uint32_t i, uint32_t *at)
{
    while (*at < q.count && q.of[*at].id < p.of[i].id)
        ++*at;
    double of_q = *at < q.count && q.of[*at].id == p.of[i].id ? q.of[*at].p : 0;
    return p.of[i].p > of_q ? p.of[i].p - of_q : 0;
}

sl_token sli_accept_sample(sli_chances p, sli_chances q, sl_token draft, double accept, double redraw)
{
    if (accept * chance_of(q, draft) < chance_of(p, draft))
        return draft;
    double all = 0, reached = 0;
    uint32_t at = 0;
    sl_token last = p.of[0].id; /* rounding may leave nothing over where p and q are one */
    for (uint32_t i = 0; i < p.count; i++)
        all += excess(p, q, i, &at);
    at = 0;
    for (uint32_t i = 0; i < p.count; i++) {
        double more = excess(p, q, i, &at);
        reached += more;
        if (more > 0)
            last = p.of[i].id;
        if (reached > redraw * all)
            break;
    }
    return last;
}

/* kernels/ref/scores.c: what SparQ chooses positions by: scores of some components, and their softmax (D10). */
#include "kernels/exp.h"
#include "kernels/internal.h"
#include "kernels/ref/kv.h"

#include <string.h>

#define LANES 16 /* of a sum (D4) */

static float score(const sl_key_scores *job, const float *q, uint32_t position)
{
    const uint8_t *page = job->k_pages[position / SL_KV_PAGE];
    float acc = 0.0f;
    for (uint32_t n = 0; n < job->count; n++)
        acc = fmaf(q[n], sli_kv_key_ref(job->k_type, page, position % SL_KV_PAGE, job->component[n], job->head_dim), acc);
    return acc;
}

void sli_key_scores_ref(const sl_key_scores *job)
{
    for (uint32_t h = 0; h < job->group; h++)
        for (uint32_t i = job->page_begin * SL_KV_PAGE; i < job->page_end * SL_KV_PAGE; i++)
            job->out[h * job->out_stride + i] = score(job, job->q + (size_t)h * job->count, i);
}

void sli_softmax_ref(float *x, uint32_t begin, uint32_t end)
{
    float m = -INFINITY, lanes[LANES] = {0};
    for (uint32_t i = begin; i < end; i++)
        m = fmaxf(m, x[i]);
    for (uint32_t i = begin; i < end; i++) {
        x[i] = sli_exp(x[i] - m);
        lanes[i % LANES] += x[i];
    }
    for (uint32_t half = LANES / 2; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    float inverse = 1.0f / lanes[0];
    for (uint32_t i = begin; i < end; i++)
        x[i] *= inverse;
}

/* The bits of floats without their sign rise with their value. */
static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

uint32_t sli_pick_ref(const float *x, uint32_t count, float limit, uint32_t *index, float *value)
{
    uint32_t n = 0, least = magnitude(limit);
    for (uint32_t i = 0; i < count; i++) { /* without a branch: which ones are picked cannot be foretold */
        index[n] = i;
        value[n] = x[i];
        n += magnitude(x[i]) >= least;
    }
    return n;
}

/* kernels/ref/attention.c: attention over pages of stored keys and values, one query head at a time (D5).
 *
 * Softmax without a second pass: m is the largest score so far, l the sum of exp(s - m), o the sum of exp(s - m) * v. When a page brings
 * a larger m, l and o are multiplied by exp(m_old - m_new). Pages are visited in order and are the unit of that correction, so the
 * result depends on positions alone: not on batches, on who else is computed, or on where a page lies. So a tree's row is a chain whose last
 * positions lie here and there. */
#include "kernels/exp.h"
#include "kernels/internal.h"
#include "kernels/ref/kv.h"

#include <assert.h>

#define MAX_HEAD_DIM 512
#define LANES        16 /* of a page's sum (D4) */

typedef struct query_state {
    float m, l, o[MAX_HEAD_DIM];
} query_state;

static uint32_t position_of(const sl_attention *job, uint32_t row)
{
    return job->pos0 + (job->tree != NULL ? job->tree->depth[row] : row);
}

/* The slot, counted from position 0's, where a row finds a position. */
static uint32_t slot_of(const sl_attention *job, uint32_t row, uint32_t position)
{
    return job->tree != NULL && position >= job->pos0 ? job->pos0 + job->tree->path[row][position - job->pos0] : position;
}

/* One page of row `row`, of which the positions [begin, end) are visible. */
static void attend_page(const sl_attention *job, uint32_t row, const float *q, uint32_t page, uint32_t begin, uint32_t end,
                        query_state *state)
{
    float p[SL_KV_PAGE] = {0}, m = state->m;
    uint32_t slot[SL_KV_PAGE], dim = job->head_dim;
    for (uint32_t i = begin; i < end; i++) {
        slot[i] = slot_of(job, row, page * SL_KV_PAGE + i);
        const uint8_t *keys = job->k_pages[slot[i] / SL_KV_PAGE];
        for (uint32_t c = 0; c < dim; c++)
            p[i] = fmaf(q[c] * job->scale, sli_kv_key_ref(job->k_type, keys, slot[i] % SL_KV_PAGE, c, dim), p[i]);
        m = fmaxf(m, p[i]);
    }

    float lanes[LANES] = {0};
    for (uint32_t i = begin; i < end; i++) {
        p[i] = sli_exp(p[i] - m);
        lanes[i % LANES] += p[i];
    }
    for (uint32_t half = LANES / 2; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];

    float correction = sli_exp(state->m - m); /* 0 on the first page, where m was -inf */
    state->m = m;
    state->l = state->l * correction + lanes[0];
    for (uint32_t c = 0; c < dim; c++) {
        state->o[c] *= correction;
        for (uint32_t i = begin; i < end; i++) {
            const uint8_t *values = job->v_pages[slot[i] / SL_KV_PAGE];
            state->o[c] = fmaf(p[i], sli_kv_value_ref(job->v_type, values, slot[i] % SL_KV_PAGE, c, dim), state->o[c]);
        }
    }
}

static void attend(const sl_attention *job, uint32_t row, const float *q, float *out)
{
    query_state state = {.m = -INFINITY};
    uint32_t position = position_of(job, row);
    uint32_t begin = job->window != 0 && position >= job->window ? position - job->window + 1 : 0;
    uint32_t end = position + 1;

    for (uint32_t page = begin / SL_KV_PAGE; page * SL_KV_PAGE < end; page++) {
        uint32_t first = page * SL_KV_PAGE;
        uint32_t page_begin = begin > first ? begin - first : 0;
        uint32_t page_end = end - first < SL_KV_PAGE ? end - first : SL_KV_PAGE;
        attend_page(job, row, q, page, page_begin, page_end, &state);
    }
    float inverse = 1.0f / state.l;
    for (uint32_t c = 0; c < job->head_dim; c++)
        out[c] = state.o[c] * inverse + 0.0f;
}

void sli_attention_ref(const sl_attention *job)
{
    assert(job->head_dim <= MAX_HEAD_DIM && job->head_dim % 16 == 0);
    for (uint32_t r = 0; r < job->rows; r++)
        for (uint32_t h = 0; h < job->group; h++)
            attend(job, r, job->q + r * job->q_stride + (size_t)h * job->head_dim,
                   job->out + r * job->out_stride + (size_t)h * job->head_dim);
}

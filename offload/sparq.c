/* offload/sparq.c: see sparq.h. */
#include "offload/sparq.h"
#include "offload/select.h"

#include <math.h>

#define LANES 16 /* of a sum */

void sli_sparq_components(const float *q, uint32_t group, uint32_t head_dim, uint32_t count, float *sums, uint32_t *component)
{
    for (uint32_t c = 0; c < head_dim; c++)
        sums[c] = fabsf(q[c]);
    for (uint32_t h = 1; h < group; h++)
        for (uint32_t c = 0; c < head_dim; c++)
            sums[c] += fabsf(q[(uint64_t)h * head_dim + c]);
    sli_select_top(sums, head_dim, count, component);
}

float sli_sparq_factor(const float *q, uint32_t head_dim, const uint32_t *component, uint32_t count)
{
    float all = 0.0f, part = 0.0f;
    for (uint32_t c = 0; c < head_dim; c++)
        all += fabsf(q[c]);
    for (uint32_t n = 0; n < count; n++)
        part += fabsf(q[component[n]]);
    return part > 0 ? sqrtf(all / part) : 1.0f; /* without any, all scores are 0 */
}

void sli_sparq_scaled_query(const float *q, uint32_t group, uint32_t head_dim, uint32_t count, float scale, float *sums,
                            uint32_t *component, float *q_part)
{
    sli_sparq_components(q, group, head_dim, count, sums, component);
    for (uint32_t h = 0; h < group; h++, q += head_dim, q_part += count) {
        float factor = scale * sli_sparq_factor(q, head_dim, component, count);
        for (uint32_t n = 0; n < count; n++)
            q_part[n] = q[component[n]] * factor;
    }
}

uint32_t sli_sparq_blocks(const uint32_t *component, uint32_t count)
{
    uint32_t blocks = 0, last = UINT32_MAX;
    for (uint32_t n = 0; n < count; n++) {
        blocks += component[n] / SL_ACT_BLOCK != last;
        last = component[n] / SL_ACT_BLOCK;
    }
    return blocks;
}

uint64_t sli_sparq_scored_bytes(uint32_t type, uint32_t count, uint32_t blocks)
{
    switch (type) {
    case SL_TYPE_F32: return (uint64_t)count * 4;
    case SL_TYPE_F16:
    case SL_TYPE_BF16: return (uint64_t)count * 2;
    case SL_TYPE_Q8_0: return count + 2 * (uint64_t)blocks;
    default: return (count + 1) / 2 + 2 * (uint64_t)blocks;
    }
}

/* ---- the account ---- */

void sli_sparq_see(sli_sparq_row *row, uint32_t pos0, uint32_t depth, uint32_t window)
{
    uint32_t position = pos0 + depth;
    row->begin = window != 0 && position >= window ? position - window + 1 : 0;
    row->end = position + 1;
    row->summed = pos0 / SL_KV_PAGE;
}

static uint64_t vectors_bytes(const sli_sparq_row *row)
{
    return sl_row_bytes(row->k_type, row->head_dim) + sl_row_bytes(row->v_type, row->head_dim);
}

uint64_t sli_sparq_dense_bytes(const sli_sparq_row *row)
{
    return (row->end - row->begin) * vectors_bytes(row);
}

/* The values that only the mean needs: those behind the known sums and before the window that is attended to anyway. */
static uint64_t mean_bytes(const sli_sparq_row *row)
{
    uint32_t from = row->summed * SL_KV_PAGE, attended = row->end - row->local;
    uint64_t vector = sl_row_bytes(row->v_type, row->head_dim), bytes = row->head_dim * sizeof(float);
    if (from < row->begin)
        from = row->begin;
    else if (row->begin % SL_KV_PAGE != 0)
        bytes += (SL_KV_PAGE - row->begin % SL_KV_PAGE) * vector + row->head_dim * sizeof(float);
    return bytes + (attended > from ? attended - from : 0) * vector;
}

uint64_t sli_sparq_moved_bytes(const sli_sparq_row *row, uint32_t blocks)
{
    uint64_t scored = (row->end - row->begin) * sli_sparq_scored_bytes(row->k_type, row->r, blocks);
    return scored + row->k * vectors_bytes(row) + (row->reallocates ? mean_bytes(row) : 0);
}

sli_sparq_kept sli_sparq_keep_pages(uint32_t base, uint32_t k, uint32_t local)
{
    sli_sparq_kept kept = {.own = base / SL_KV_PAGE};
    if (kept.own < k / SL_KV_PAGE)
        return kept;
    kept.first_local = base + 1 > local ? (base + 1 - local) / SL_KV_PAGE : 0;
    uint32_t always = kept.own - kept.first_local + 1;
    kept.others = k / SL_KV_PAGE > always ? k / SL_KV_PAGE - always : 0;
    return kept;
}

void sli_sparq_page_weights(const float *shares, size_t stride, uint32_t group, uint32_t pages, float *weights)
{
    for (uint32_t page = 0; page < pages; page++, shares += SL_KV_PAGE) {
        float lanes[LANES] = {0};
        for (uint32_t i = 0; i < SL_KV_PAGE; i += LANES)
            for (uint32_t h = 0; h < group; h++)
                for (uint32_t j = 0; j < LANES; j++)
                    lanes[j] += shares[h * stride + i + j];
        for (uint32_t half = LANES / 2; half > 0; half /= 2)
            for (uint32_t j = 0; j < half; j++)
                lanes[j] += lanes[j + half];
        weights[page] = lanes[0];
    }
}

void sli_sparq_choose(const sl_kernels *kernels, const float *weights, float *work, uint32_t begin, uint32_t end, uint32_t keep,
                      uint32_t local, uint32_t *chosen)
{
    uint32_t others = keep - local, last = end - local;
    sli_select_few(kernels, weights + begin, last - begin, others, work, chosen);
    for (uint32_t n = 0; n < others; n++)
        chosen[n] += begin;
    for (uint32_t n = 0; n < local; n++)
        chosen[others + n] = last + n;
}

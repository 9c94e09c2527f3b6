/* offload/sparq.c: see sparq.h. */
#include "offload/sparq.h"
#include "offload/select.h"

#include <math.h>

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

void sli_sparq_choose(const float *weights, uint32_t begin, uint32_t end, uint32_t keep, uint32_t local, uint32_t *chosen)
{
    uint32_t others = keep - local, last = end - local;
    sli_select_top(weights + begin, last - begin, others, chosen);
    for (uint32_t n = 0; n < others; n++)
        chosen[n] += begin;
    for (uint32_t n = 0; n < local; n++)
        chosen[others + n] = last + n;
}

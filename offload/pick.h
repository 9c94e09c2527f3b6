/* offload/pick.h: how a generation picks a token from a row of logits: its sampler, and the tokens that it must not pick. The same pick serves
 * drafts and checks, so that at any temperature the two differ only where their logits do. */
#ifndef SL_OFFLOAD_PICK_H
#define SL_OFFLOAD_PICK_H

#include "core/sampler.h"
#include "offload/sluice.h"

#include <math.h>

#define SLI_FORBIDDEN_MAX 32

typedef struct sli_picker {
    sl_sampler *sampler;
    sl_token forbidden[SLI_FORBIDDEN_MAX]; /* end tokens, with --ignore-eos */
    uint32_t forbidden_count;
} sli_picker;

static inline void sli_forbid(const sli_picker *p, float *logits)
{
    for (uint32_t i = 0; i < p->forbidden_count; i++)
        logits[p->forbidden[i]] = -INFINITY;
}

/* The token for `position`; text[0 .. position) is all before it. The forbidden ones' logits are changed. */
static inline sl_token sli_pick(const sli_picker *p, float *logits, const sl_token *text, uint32_t position)
{
    sli_forbid(p, logits);
    return sl_sampler_pick(p->sampler, logits, text, position, position);
}

/* The pick for `position` and its runners-up, with how sure it is of them. */
static inline uint32_t sli_choose(const sli_picker *p, float *logits, const sl_token *text, uint32_t position, uint32_t most,
                                  sl_choice *out)
{
    sli_forbid(p, logits);
    return sl_sampler_choices(p->sampler, logits, text, position, position, most, out);
}

/* The distributions that drafted tokens came from, for those who ask for them. */
typedef struct sli_distribution {
    uint32_t count;
    sl_chance of[SL_SAMPLE_TOP_K_MAX];
} sli_distribution;

static inline void sli_distribute(const sli_picker *p, float *logits, const sl_token *text, uint32_t position, sli_distribution *out)
{
    sli_forbid(p, logits);
    out->count = sl_sampler_chances(p->sampler, logits, text, position, out->of);
}

#endif

/* offload/accept.h: whether a drafted token may stand where dense decoding has its say (Sirius, arXiv 2409.03856, sections 2 and 7).
 *
 *   exact      the draft is the token that dense decoding picks there, at any temperature: the text is dense decoding's
 *   threshold  the paper's rule: dense decoding, at a temperature of its own, gives the draft a probability of at least tau, or the draft is
 *              its likeliest token. The text may be one that dense decoding would not have written.
 *
 *   sample     rejection sampling (Leviathan et al., arXiv 2211.17192): a draft from q stays with probability min(1, p / q), else a token is drawn
 *              from what p has more of than q. The text is not dense decoding's for the seed, but distributed as dense decoding's.
 *
 * Pure. One row at a time, so that it serves chains and trees alike; whoever asks puts the dense pick where a draft is refused. */
#ifndef SL_OFFLOAD_ACCEPT_H
#define SL_OFFLOAD_ACCEPT_H

#include "core/sampler.h"
#include "offload/sluice.h"

/* tau within 0..1 and its temperature above 0, where they are used; a top_k where distributions are. */
SL_MUST_USE sl_status sli_accept_check(const sl_drafting *how, int32_t top_k, sl_error *err);

/* Exact and threshold. `logits` ([vocab]) are the dense row before the token, `pick` is what dense decoding picks from them. */
bool sli_accepts(const sl_drafting *how, const float *logits, uint32_t vocab, sl_token draft, sl_token pick);

/* Tokens by id with their probabilities, which sum to 1. */
typedef struct sli_chances {
    const sl_chance *of;
    uint32_t count;
} sli_chances;

/* `draft`, drawn from q, or a token instead of it. `accept` and `redraw`: uniform, independent of the draft and of each other. */
sl_token sli_accept_sample(sli_chances p, sli_chances q, sl_token draft, double accept, double redraw);

#endif

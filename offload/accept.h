/* offload/accept.h: whether a drafted token may stand where dense decoding has its say (Sirius, arXiv 2409.03856, sections 2 and 7).
 *
 *   exact      the draft is the token that dense decoding picks there, at any temperature: the text is dense decoding's
 *   threshold  the paper's rule: dense decoding, at a temperature of its own, gives the draft a probability of at least tau, or the draft is
 *              its likeliest token. The text may be one that dense decoding would not have written.
 *
 * Pure. One row at a time, so that it serves chains and trees alike; whoever asks puts the dense pick where a draft is refused. */
#ifndef SL_OFFLOAD_ACCEPT_H
#define SL_OFFLOAD_ACCEPT_H

#include "core/tokenizer.h"
#include "offload/sluice.h"

/* tau within 0..1 and its temperature above 0, where they are used. */
SL_MUST_USE sl_status sli_accept_check(const sl_drafting *how, sl_error *err);

/* `logits` ([vocab]) are the dense row before the token, `pick` is what dense decoding picks from them. */
bool sli_accepts(const sl_drafting *how, const float *logits, uint32_t vocab, sl_token draft, sl_token pick);

#endif

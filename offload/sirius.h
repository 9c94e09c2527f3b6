/* offload/sirius.h: decoding by drafts and dense checks (Sirius, arXiv 2409.03856).
 *
 *      text, all dense        t: picked, not evaluated            a drafter's tokens
 *      ...................... t                                   d1 d2 d3
 *                             |________________ check: one dense pass over t d1 d2 d3 _________________|
 *                               row of t: picks p1    row of d1: picks p2    row of d2: ...
 *      d1 accepted, d2 not:   t  d1  p2      p2 is the replacement; were all accepted, the last row's pick would come on top
 *
 * The weights are read once for all rows of a check, and it says what dense decoding says, so that with the exact policy the text is that of
 * plain decoding, token for token, however good the drafts were.
 *
 * Invariants
 *  S1  Between steps the session holds the text up to the last token but one, all of it evaluated densely; that last token is not evaluated.
 *  S2  A step gives at least one token, and never more than it is asked for.
 *  S3  A step that fails or is interrupted leaves the session as it was before it, and gives nothing. */
#ifndef SL_OFFLOAD_SIRIUS_H
#define SL_OFFLOAD_SIRIUS_H

#include "offload/accept.h"
#include "offload/drafter.h"

#define SLI_DRAFTERS_MAX 2

typedef struct sli_sirius {
    sl_session *session;
    const sl_drafting *how;
    uint64_t seed;
    const sli_picker *picker;
    sli_drafter drafters[SLI_DRAFTERS_MAX]; /* the one to be preferred first, where the number of tokens is fixed */
    uint32_t drafter_count;
    uint32_t most;                   /* drafted tokens of a check, at most */
    sl_token *draft;                 /* [most] */
    sl_token *given;                 /* [most + 1] by the last step */
    sli_distribution *distributions; /* [most] the draft's, and one more for a row of a check; with SL_ACCEPT_SAMPLE, else NULL */
    sli_draft_length length;
    struct sli_sirius_tree *tree; /* sirius_tree.h; NULL: drafts are chains */
    sl_draft_stats *stats;
} sli_sirius;

/* Bytes that it allocates, for the price. */
uint64_t sli_sirius_bytes(uint32_t draft_max);

/* As request->drafting says; the picker is made for the same request. `stats` is filled as it goes; its list by depth is allocated here, and the caller's. */
SL_MUST_USE sl_status sli_sirius_open(sl_session *session, const sl_request *request, const sli_picker *picker, sl_draft_stats *stats,
                                      sli_sirius *out, sl_error *err);
void sli_sirius_close(sli_sirius *s);

/* Evaluates `token`, the text's last, and gives the `count` tokens that follow it, at most `most`, in s->given. The session's position is then
 * that of the last of them. */
SL_MUST_USE sl_status sli_sirius_step(sli_sirius *s, sl_token token, uint32_t most, uint32_t *count, sl_error *err);

#endif

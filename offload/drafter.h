/* offload/drafter.h: who proposes tokens, behind one interface. A proposal costs nothing but time: a dense check decides.
 *
 *   lookup   what followed when the text went like this before (lookup.h)
 *   model    the model itself with sets of neurons (sparsity.h), those in memory (ffn_resident.h), or without its last layers where a token is settled
 *            (early_exit.h), token by token; picks as dense decoding picks, with the same noise
 *
 * A drafter first says what it could offer for the text as it is, which is free, and then proposes as many tokens as it is asked for. It may
 * evaluate tokens behind the session's position, and leaves the position where it was, also when it fails. */
#ifndef SL_OFFLOAD_DRAFTER_H
#define SL_OFFLOAD_DRAFTER_H

#include "offload/draft_length.h"
#include "offload/engine.h"
#include "offload/lookup.h"
#include "offload/pick.h"

/* The text: what is evaluated, history[0 .. position) of the session, and one token more, history[position], that is not. */
typedef struct sli_draft_text {
    sl_session *session;
    const sli_picker *picker;
    sli_distribution *distributions; /* [most] where the drafted tokens' are asked for; or NULL */
    double least_chance;             /* of all its tokens together: a less likely draft by the model ends, but not before its first token */
} sli_draft_text;

typedef struct sli_drafter sli_drafter;
struct sli_drafter {
    /* SLI_SOURCE_NONE: nothing. */
    sli_source (*offer)(sli_drafter *drafter, const sli_draft_text *text);
    /* After an offer for the same text. `most` >= 1 fit the context behind the text. An end token is the last of a draft. */
    sl_status (*propose)(sli_drafter *drafter, const sli_draft_text *text, uint32_t most, sl_token *out, uint32_t *count, sl_error *err);
    sli_match match;     /* lookup */
    unsigned eval_flags; /* model: how its rows are evaluated */
};

sli_drafter sli_drafter_lookup(void);
/* `flags`: of sl_session_eval, SL_EVAL_SPARSE, SL_EVAL_DRAFT, or SL_EVAL_EARLY with SLI_EVAL_SETTLED_ONLY. */
sli_drafter sli_drafter_model(unsigned flags);

#endif

/* offload/drafter.c: see drafter.h. */
#include "offload/drafter.h"
#include "core/mathx.h"

static bool ends(const sli_draft_text *text, sl_token token)
{
    return sl_tokenizer_ends_generation(text->session->engine->tokenizer, token);
}

/* ---- lookup ---- */

static sli_source offer_lookup(sli_drafter *d, const sli_draft_text *text)
{
    static const sli_source sources[SLI_LOOKUP_LONGEST + 1] = {SLI_SOURCE_NONE, SLI_SOURCE_LOOKUP_1, SLI_SOURCE_LOOKUP_2,
                                                               SLI_SOURCE_LOOKUP_3, SLI_SOURCE_LOOKUP_4};
    d->match = sli_lookup(text->session->history, text->session->position + 1);
    return sources[d->match.length];
}

static sl_status propose_lookup(sli_drafter *d, const sli_draft_text *text, uint32_t most, sl_token *out, uint32_t *count, sl_error *err)
{
    (void)err;
    uint32_t n = sli_lookup_continue(text->session->history, text->session->position + 1, d->match, most, out);
    *count = 0;
    while (*count < n && !(text->picker->forbidden_count > 0 && ends(text, out[*count])))
        if (ends(text, out[(*count)++]))
            break;
    for (uint32_t i = 0; text->distributions != NULL && i < *count; i++)
        text->distributions[i] = (sli_distribution){.count = 1, .of = {{out[i], 1}}}; /* the text alone decided */
    return SL_OK;
}

sli_drafter sli_drafter_lookup(void)
{
    return (sli_drafter){.offer = offer_lookup, .propose = propose_lookup};
}

/* ---- the model ---- */

static sli_source offer_model(sli_drafter *d, const sli_draft_text *text)
{
    (void)d;
    (void)text;
    return SLI_SOURCE_MODEL;
}

/* Whether the draft is likely enough with one token more, of these logits. The first token stands, sure or not: it is paid for. */
static bool likely(const sli_draft_text *text, float *logits, double *log_p)
{
    const sl_session *s = text->session;
    sl_choice first;
    if (text->least_chance == 0)
        return true;
    sli_choose(text->picker, logits, s->history, s->position, 1, &first);
    *log_p += first.log_p;
    return sl_exp(*log_p) >= text->least_chance;
}

static sl_status propose_model(sli_drafter *d, const sli_draft_text *text, uint32_t most, sl_token *out, uint32_t *count, sl_error *err)
{
    sl_session *s = text->session;
    uint32_t start = s->position;
    sl_token token = s->history[start];
    double log_p = 0;
    sl_status status = SL_OK;
    for (*count = 0; *count < most && status == SL_OK && (*count == 0 || !ends(text, token));) {
        /* The reads of the check behind the last draft begin during that draft. */
        unsigned more = SL_EVAL_MORE | (*count + 1 == most ? SLI_EVAL_DENSE_NEXT : 0u);
        status = sl_session_eval(s, &token, 1, SL_EVAL_LOGITS | more | d->eval_flags, NULL, err);
        if (status != SL_OK || ((d->eval_flags & SLI_EVAL_SETTLED_ONLY) != 0 && !s->settled))
            break; /* whoever is not settled is not asked: the check says it */
        float *logits = s->engine->scratch.buffers[SL_BUF_LOGITS];
        if (text->distributions != NULL)
            sli_distribute(text->picker, logits, s->history, s->position, &text->distributions[*count]);
        token = sli_pick(text->picker, logits, s->history, s->position);
        if (!likely(text, logits, &log_p) && *count > 0)
            break;
        out[(*count)++] = token;
    }
    s->position = start;
    return status;
}

sli_drafter sli_drafter_model(unsigned flags)
{
    return (sli_drafter){.offer = offer_model, .propose = propose_model, .eval_flags = flags};
}

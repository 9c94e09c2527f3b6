/* offload/sirius.c: see sirius.h. */
#include "offload/sirius_tree.h"

#include "core/os.h"

#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

uint64_t sli_sirius_bytes(uint32_t draft_max)
{
    return (2 * (uint64_t)draft_max + 1) * sizeof(sl_token) + ((uint64_t)draft_max + 1) * (sizeof(uint64_t) + sizeof(sli_distribution)) +
           (draft_max > 0 ? sli_sirius_tree_bytes() : 0);
}

/* How the model evaluates the rows that it drafts with; 0: it cannot. */
static unsigned model_flags(const sl_engine *e)
{
    uint64_t neurons = (uint64_t)e->model->layers * e->model->ff;
    unsigned attention = e->options.sparq_k > 0 ? SL_EVAL_SPARQ : 0;
    if (e->early != NULL)
        return SL_EVAL_EARLY | SLI_EVAL_SETTLED_ONLY;
    if (e->options.sparsity != SL_SPARSITY_OFF)
        return SL_EVAL_SPARSE | attention;
    if (e->price.draft_neurons == 0 || e->price.draft_neurons == neurons)
        return 0; /* all of them draft no faster than they check */
    return SL_EVAL_DRAFT | attention;
}

/* Who drafts. A lookup is free, so it comes first wherever it takes part. */
static sl_status choose_drafters(sli_sirius *s, sl_error *err)
{
    unsigned flags = model_flags(s->session->engine);
    sl_drafter who = s->how->drafter;
    if (who == SL_DRAFTER_AUTO)
        who = flags != 0 ? SL_DRAFTER_MIXED : SL_DRAFTER_LOOKUP;
    if ((who != SL_DRAFTER_LOOKUP || s->how->tree != 0) && flags == 0)
        return sl_fail(err, SL_INVALID,
                       "drafts by the model itself take sparsity, early exit, or a packed file of which attention, head and some neurons, "
                       "but not all, stay in memory");
    if (who == SL_DRAFTER_LOOKUP && s->how->tree != 0)
        return sl_fail(err, SL_INVALID, "a lookup is a chain: a tree takes the model itself as a drafter, or both (mixed)");
    if (who != SL_DRAFTER_MODEL)
        s->drafters[s->drafter_count++] = sli_drafter_lookup();
    if (who != SL_DRAFTER_LOOKUP)
        s->drafters[s->drafter_count++] = sli_drafter_model(flags);
    return SL_OK;
}

static sl_status check_wish(const sl_engine *e, const sl_drafting *how, int32_t top_k, sl_error *err)
{
    SL_TRY(sli_accept_check(how, top_k, err));
    if ((unsigned)how->drafter > SL_DRAFTER_MIXED)
        return sl_fail(err, SL_INVALID, "drafter %d; known are auto (0), lookup (1), model (2) and mixed (3)", (int)how->drafter);
    if (!(how->least_chance >= 0 && how->least_chance <= 1))
        return sl_fail(err, SL_INVALID, "a least chance of %g of a draft; it lies within 0..1", (double)how->least_chance);
    if (e->early != NULL && (how->tree != 0 || how->tokens < 0 || how->tokens > SL_EXIT_DRAFT_MAX))
        return sl_fail(err, SL_INVALID, "drafts by early exit are chains of a fixed number of tokens, at most %d", SL_EXIT_DRAFT_MAX);
    if (how->tree != 0)
        return sli_sirius_tree_check(e, how, err);
    if (how->tokens < SL_DRAFT_AUTO)
        return sl_fail(err, SL_INVALID, "drafts of %d tokens; -1 lets them be chosen, 0 is none", how->tokens);
    if (how->tokens > 0 && (uint32_t)how->tokens > e->price.draft_max)
        return sl_fail(err, SL_INVALID, "drafts of %d tokens; the engine was opened for at most %u", how->tokens, e->price.draft_max);
    return SL_OK;
}

sl_status sli_sirius_open(sl_session *session, const sl_request *request, const sli_picker *picker, sl_draft_stats *stats, sli_sirius *out,
                          sl_error *err)
{
    const sl_drafting *how = &request->drafting;
    *out = (sli_sirius){.session = session, .how = how, .seed = request->seed, .picker = picker, .stats = stats};
    SL_TRY(check_wish(session->engine, how, request->top_k, err));
    SL_TRY(choose_drafters(out, err));
    uint32_t fits = session->engine->price.draft_max;
    if (how->tokens == SL_DRAFT_AUTO)
        out->most = fits < SL_DRAFT_AUTO_MAX ? fits : SL_DRAFT_AUTO_MAX;
    else
        out->most = (uint32_t)how->tokens;
    sli_draft_length_begin(&out->length, out->most);
    out->draft = malloc((2 * (size_t)out->most + 1) * sizeof *out->draft);
    stats->accepted_by_depth = calloc(out->most + 1, sizeof *stats->accepted_by_depth);
    bool sampling = how->accept == SL_ACCEPT_SAMPLE;
    out->distributions = sampling ? malloc((out->most + 1) * sizeof *out->distributions) : NULL;
    out->tree = how->tree != 0 ? sli_sirius_tree_open() : NULL;
    if (out->draft == NULL || stats->accepted_by_depth == NULL || (sampling && out->distributions == NULL) ||
        (how->tree != 0 && out->tree == NULL))
        return sl_fail(err, SL_NO_MEMORY, "out of memory for drafts of %u tokens", out->most);
    stats->depths = out->most;
    out->given = out->draft + out->most;
    return SL_OK;
}

void sli_sirius_close(sli_sirius *s)
{
    free(s->draft);
    free(s->distributions);
    free(s->tree);
    s->tree = NULL;
    s->draft = NULL;
    s->distributions = NULL;
}

/* ---- drafting ---- */

typedef struct drafted {
    sli_source source;
    uint32_t count;
    double seconds;
} drafted;

/* A fixed number of tokens: by the first that has something to go by. A short match is not worth much where the model can draft, too. */
static uint32_t first_to_draft(const sli_sirius *s, const sli_source *offered)
{
    uint32_t i = 0;
    while (i + 1 < s->drafter_count && offered[i] != SLI_SOURCE_LOOKUP_4)
        i++;
    return i;
}

static sl_status draft(sli_sirius *s, uint32_t most, drafted *out, sl_error *err)
{
    sli_draft_text text = {s->session, s->picker, s->distributions, (double)s->how->least_chance};
    sli_source offered[SLI_DRAFTERS_MAX], some[SLI_DRAFTERS_MAX];
    uint32_t n = 0;
    *out = (drafted){SLI_SOURCE_NONE, 0, 0};
    for (uint32_t i = 0; i < s->drafter_count; i++) {
        offered[i] = s->drafters[i].offer(&s->drafters[i], &text);
        if (offered[i] != SLI_SOURCE_NONE)
            some[n++] = offered[i];
    }
    sli_draft_choice choice = {offered[first_to_draft(s, offered)], most};
    if (s->how->tokens == SL_DRAFT_AUTO)
        choice = sli_draft_length_choose(&s->length, some, n, most);
    if (choice.source == SLI_SOURCE_NONE || choice.tokens == 0)
        return SL_OK;
    uint32_t who = 0;
    while (offered[who] != choice.source)
        who++;
    uint64_t start = sl_now_ns();
    unsigned depth = sl_trace_begin(s->session->engine->trace, SL_TRACE_DRAFT, SL_TRACE_NONE, choice.tokens);
    sl_status status = s->drafters[who].propose(&s->drafters[who], &text, choice.tokens, s->draft, &out->count, err);
    sl_trace_end(s->session->engine->trace, depth);
    SL_TRY(status);
    out->seconds = (double)(sl_now_ns() - start) * 1e-9;
    out->source = out->count > 0 ? choice.source : SLI_SOURCE_NONE;
    return SL_OK;
}

/* ---- checking ---- */

/* One dense pass over the token and what was drafted behind it; the position moves behind all of them. */
static sl_status check(sli_sirius *s, sl_token token, const drafted *d, bool more, double *seconds, sl_error *err)
{
    const sl_engine *e = s->session->engine;
    sli_io before = sli_engine_io(e);
    uint64_t start = sl_now_ns();
    s->given[0] = token; /* the rows of the pass: given has room for one more than a draft */
    memcpy(s->given + 1, s->draft, d->count * sizeof *s->draft);
    /* What follows is likely to be what preceded: sparse rows of a draft, or another check. */
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS | (more ? SL_EVAL_MORE : 0u) | (d->count > 0 ? SLI_EVAL_FADE : 0u) |
                     (d->source == SLI_SOURCE_MODEL ? 0u : SLI_EVAL_DENSE_NEXT);
    unsigned depth = sl_trace_begin(e->trace, SL_TRACE_CHECK, SL_TRACE_NONE, d->count + 1);
    sl_status status = sl_session_eval(s->session, s->given, d->count + 1, flags, NULL, err);
    sl_trace_end(e->trace, depth);
    SL_TRY(status);
    *seconds = (double)(sl_now_ns() - start) * 1e-9;
    sli_io after = sli_engine_io(e);
    s->stats->bytes_read += after.bytes_read - before.bytes_read;
    s->stats->wait_s += (double)(after.wait_ns - before.wait_ns) * 1e-9;
    return SL_OK;
}

/* Uniforms that no token's noise has: of places where the vocabulary has none. */
#define ACCEPT_NOISE (-2)
#define REDRAW_NOISE (-3)

/* A draft, or a token instead of it, so that the text is distributed as dense decoding's. */
static sl_token sample(sli_sirius *s, float *logits, uint32_t row, uint32_t position)
{
    const sli_distribution *q = &s->distributions[row];
    sli_distribution *p = &s->distributions[s->most];
    sli_distribute(s->picker, logits, s->session->history, position, p);
    return sli_accept_sample((sli_chances){p->of, p->count}, (sli_chances){q->of, q->count}, s->draft[row],
                             sl_uniform(s->seed, position, ACCEPT_NOISE), sl_uniform(s->seed, position, REDRAW_NOISE));
}

/* The token for a row that has a draft behind it: the draft, if it may stay. */
static sl_token judge_draft(sli_sirius *s, float *logits, uint32_t row, uint32_t position)
{
    if (s->how->accept == SL_ACCEPT_SAMPLE)
        return sample(s, logits, row, position);
    sl_token pick = sli_pick(s->picker, logits, s->session->history, position);
    return sli_accepts(s->how, logits, s->session->engine->model->vocab, s->draft[row], pick) ? s->draft[row] : pick;
}

/* What dense decoding has to say of each row, up to the first draft that it does not take. Returns how many tokens that gives; what was
 * evaluated behind them is forgotten. */
static uint32_t judge(sli_sirius *s, uint32_t start, uint32_t count)
{
    sl_session *session = s->session;
    uint32_t vocab = session->engine->model->vocab;
    for (uint32_t row = 0;; row++) {
        float *logits = session->engine->scratch.buffers[SL_BUF_LOGITS] + (size_t)row * vocab;
        uint32_t position = start + 1 + row;
        s->given[row] = row < count ? judge_draft(s, logits, row, position) : sli_pick(s->picker, logits, session->history, position);
        if (row == count || s->given[row] != s->draft[row]) {
            session->position = position;
            return row + 1;
        }
    }
}

static void keep_account(sli_sirius *s, const drafted *d, uint32_t given, double check_s)
{
    sl_draft_stats *stats = s->stats;
    stats->checks++;
    stats->undrafted += d->count == 0;
    stats->drafted += d->count;
    stats->accepted += given - 1;
    if (d->source != SLI_SOURCE_MODEL)
        stats->drafted_by_lookup += d->count;
    for (uint32_t i = 0; i + 1 < given; i++)
        stats->accepted_by_depth[i]++;
    stats->draft_s += d->seconds;
    stats->check_s += check_s;
    if (s->how->tokens == SL_DRAFT_AUTO)
        sli_draft_length_learn(&s->length, &(sli_draft_outcome){d->source, d->count, given - 1, d->seconds, check_s});
}

sl_status sli_sirius_step(sli_sirius *s, sl_token token, uint32_t most, uint32_t *count, sl_error *err)
{
    sl_session *session = s->session;
    uint32_t start = session->position, room = session->engine->context - start; /* for the token, and the drafts behind it */
    uint32_t limit = most < room ? most : room;
    drafted d = {SLI_SOURCE_NONE, 0, 0};
    double check_s;
    *count = 0;
    if (s->tree != NULL)
        return sli_sirius_tree_step(s, token, most, count, err);
    session->history[start] = token; /* it is part of the text that drafters see */
    if (limit > 1 && s->most > 0)
        SL_TRY(draft(s, limit - 1 < s->most ? limit - 1 : s->most, &d, err));
    SL_TRY(check(s, token, &d, most > 1, &check_s, err));
    *count = judge(s, start, d.count);
    keep_account(s, &d, *count, check_s);
    return SL_OK;
}

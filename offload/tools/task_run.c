/* offload/tools/task_run.c: items on a session: likelihoods of given tokens, and greedy generation.
 *
 * What the session has evaluated densely and the next text begins with is not evaluated again: choices share their context, and items their examples. It
 * changes no bit. Coarse sets are the exception: they come from all dense rows since the session was empty, so there a context is used again only if it
 * is the same as a whole, and everything else begins anew. */
#include "core/os.h"
#include "core/sampler.h"
#include "offload/tools/task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A text as tokens; the first `context` of them are its context's. */
typedef struct row_tokens {
    sl_token_id *ids;
    size_t count, context;
} row_tokens;

/* ---- tokens ---- */

/* The text is tokenised as a whole, as lm-evaluation-harness does it. Tokens of the context alone that the whole begins with are the context: one that
 * grows together with the text is scored with it. */
static sl_status tokenize(sl_engine *engine, const sl_task_item *item, size_t index, row_tokens *out, sl_error *err)
{
    size_t context_bytes, alone_count;
    sl_token_id *alone = NULL;
    *out = (row_tokens){0};
    char *text = sl_task_text(item, index, &context_bytes);
    if (text == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for an item's text");
    /* Blanks that end a context belong to the first token of what follows. */
    while (context_bytes > 0 && strchr(" \t\r\n", text[context_bytes - 1]) != NULL)
        context_bytes--;
    sl_status status = sl_engine_tokenize(engine, text, strlen(text), true, true, &out->ids, &out->count, err);
    if (status == SL_OK)
        status = sl_engine_tokenize(engine, text, context_bytes, true, true, &alone, &alone_count, err);
    free(text);
    while (status == SL_OK && out->context < alone_count && out->context < out->count && out->ids[out->context] == alone[out->context])
        out->context++;
    free(alone);
    if (status == SL_OK && out->context == 0)
        status = sl_fail(err, SL_INVALID, "the context has no token of its own; at least one is needed before what is scored");
    if (status == SL_OK && out->context == out->count)
        status = sl_fail(err, SL_INVALID, "there is no token to score behind the context");
    if (status != SL_OK) {
        free(out->ids);
        *out = (row_tokens){0};
    }
    return status;
}

static sl_status tokenize_prompt(sl_engine *engine, const sl_task_item *item, row_tokens *out, sl_error *err)
{
    size_t context_bytes;
    *out = (row_tokens){0};
    char *text = sl_task_text(item, 0, &context_bytes);
    if (text == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for an item's text");
    sl_status status = sl_engine_tokenize(engine, text, context_bytes, true, true, &out->ids, &out->count, err);
    free(text);
    if (status == SL_OK && out->count == 0) {
        free(out->ids);
        out->ids = NULL;
        return sl_fail(err, SL_INVALID, "the context has no tokens; at least one is needed");
    }
    out->context = out->count;
    return status;
}

sl_status sl_task_context(sl_engine *engine, const sl_task_item *item, uint32_t *out, sl_error *err)
{
    size_t texts = item->form == SL_TASK_GENERATION ? 1 : item->text_count;
    *out = 0;
    for (size_t i = 0; i < texts; i++) {
        row_tokens row;
        if (item->form == SL_TASK_GENERATION)
            SL_TRY(tokenize_prompt(engine, item, &row, err));
        else
            SL_TRY(tokenize(engine, item, i, &row, err));
        size_t needed = row.count + (item->form == SL_TASK_GENERATION ? item->max_tokens : 0);
        free(row.ids);
        if (needed > UINT32_MAX)
            return sl_fail(err, SL_INVALID, "the text is too long");
        *out = needed > *out ? (uint32_t)needed : *out;
    }
    return SL_OK;
}

/* ---- the session ---- */

sl_status sl_task_open(sl_engine *engine, unsigned sparse, const sl_drafting *drafting, sl_task_runner *out, sl_error *err)
{
    *out = (sl_task_runner){.engine = engine, .sparse = sparse, .drafting = *drafting};
    sl_engine_describe(engine, &out->info);
    out->coarse = strcmp(out->info.sparsity, "coarse") == 0;
    out->seen = malloc(out->info.context * sizeof *out->seen);
    if (out->seen == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %u tokens", out->info.context);
    return sl_session_open(engine, &out->session, err);
}

void sl_task_close(sl_task_runner *r)
{
    sl_session_close(r->session);
    free(r->seen);
    r->session = NULL;
    r->seen = NULL;
}

/* Goes back to what the session may keep of `tokens`, at most `most` of them. */
static sl_status go_back(sl_task_runner *r, const sl_token_id *tokens, size_t most, sl_error *err)
{
    size_t kept = 0, limit = r->seen_count < most ? r->seen_count : most;
    while (kept < limit && r->seen[kept] == tokens[kept])
        kept++;
    if (r->coarse && (kept != most || kept != r->seen_count))
        kept = 0;
    kept = sl_session_reach(r->session, (uint32_t)kept);
    r->seen_count = kept;
    r->totals.reused_tokens += kept;
    return sl_session_truncate(r->session, (uint32_t)kept, err);
}

static void remember(sl_task_runner *r, const sl_token_id *tokens, size_t count)
{
    if (count > r->seen_count)
        memcpy(r->seen + r->seen_count, tokens + r->seen_count, (count - r->seen_count) * sizeof *tokens);
    r->seen_count = count;
}

static bool is_greedy(const float *logits, uint32_t vocab, sl_token_id token)
{
    for (uint32_t id = 0; id < vocab; id++)
        if (logits[id] > logits[token] || (logits[id] == logits[token] && id < (uint32_t)token))
            return false;
    return true;
}

/* Rows [context - 1, count - 1) predict what follows them. */
static sl_status score_rows(sl_task_runner *r, const row_tokens *row, unsigned sparse, double *log_p, bool *greedy, sl_error *err)
{
    uint32_t vocab = r->info.vocab;
    size_t most = (size_t)r->info.draft_max + 1;
    unsigned all = (sparse & SL_EVAL_EARLY) != 0 ? 0 : SL_EVAL_ALL_LOGITS;
    *log_p = 0;
    *greedy = true;
    for (size_t at = row->context - 1; at + 1 < row->count;) {
        size_t rows = row->count - 1 - at < most ? row->count - 1 - at : most;
        const float *logits;
        SL_TRY(sl_session_eval(r->session, row->ids + at, rows, SL_EVAL_LOGITS | all | sparse, &logits, err));
        for (size_t i = 0; i < rows; i++) {
            *log_p += sl_log_probability(logits + i * vocab, vocab, row->ids[at + i + 1]);
            *greedy = *greedy && is_greedy(logits + i * vocab, vocab, row->ids[at + i + 1]);
        }
        at += rows;
    }
    return SL_OK;
}

static sl_status score(sl_task_runner *r, const sl_task_item *item, size_t index, unsigned sparse, double *log_p, bool *greedy,
                       sl_error *err)
{
    row_tokens row;
    SL_TRY(tokenize(r->engine, item, index, &row, err));
    sl_status status = go_back(r, row.ids, row.context - 1, err);
    size_t kept = r->seen_count;
    if (status == SL_OK && row.context - 1 > kept)
        status = sl_session_eval(r->session, row.ids + kept, row.context - 1 - kept, SL_EVAL_MORE, NULL, err);
    if (status == SL_OK)
        remember(r, row.ids, row.context - 1);
    if (status == SL_OK)
        status = score_rows(r, &row, sparse, log_p, greedy, err);
    if (status == SL_OK && r->sparse == 0)
        remember(r, row.ids, row.count - 1);
    r->totals.tokens += row.count - 1 - kept;
    free(row.ids);
    return status;
}

/* Tokens leave early one by one, as they are decoded; longer texts that are given are scored in one pass through all layers, and so are all of an item
 * that has one, whose likelihoods are compared. */
static sl_status may_leave_early(sl_task_runner *r, const sl_task_item *item, bool *may, sl_error *err)
{
    *may = true;
    for (size_t i = 0; i < item->text_count && *may; i++) {
        row_tokens row;
        SL_TRY(tokenize(r->engine, item, i, &row, err));
        *may = row.count == row.context + 1;
        free(row.ids);
    }
    return SL_OK;
}

static sl_status run_likelihoods(sl_task_runner *r, const sl_task_item *item, sl_task_outcome *out, sl_error *err)
{
    bool greedy = false;
    unsigned sparse = r->sparse;
    uint64_t start = sl_now_ns();
    if ((sparse & SL_EVAL_EARLY) != 0) {
        bool may;
        SL_TRY(may_leave_early(r, item, &may, err));
        sparse &= may ? ~0u : ~(unsigned)SL_EVAL_EARLY;
    }
    for (size_t i = 0; i < item->text_count; i++)
        SL_TRY(score(r, item, i, sparse, &out->log_p[i], &greedy, err));
    r->totals.prompt_s += (double)(sl_now_ns() - start) * 1e-9;
    out->picked = sl_task_best(item, out->log_p, false);
    out->picked_norm = sl_task_best(item, out->log_p, true);
    out->right = item->form == SL_TASK_CHOICE ? out->picked == item->gold : greedy;
    out->right_norm = item->form == SL_TASK_CHOICE ? out->picked_norm == item->gold : greedy;
    return SL_OK;
}

static sl_status generate(sl_task_runner *r, const sl_task_item *item, const row_tokens *row, sl_task_outcome *out, sl_error *err)
{
    SL_TRY(go_back(r, row->ids, row->count - 1, err));
    size_t kept = r->seen_count;
    sl_request request = {.prompt = row->ids + kept,
                          .prompt_count = row->count - kept,
                          .max_tokens = item->max_tokens,
                          .stop = (const char *const *)item->stop,
                          .stop_count = item->stops,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .drafting = r->drafting,
                          .all_layers = (r->sparse & SL_EVAL_EARLY) == 0};
    sl_result result;
    sl_status status = sl_generate(r->session, &request, &result, err);
    if (status == SL_OK) {
        remember(r, row->ids, row->count);
        if (r->coarse)
            r->seen_count = 0; /* checks leave evidence of what they saw */
        r->totals.tokens += row->count - kept;
        r->totals.decoded_tokens += result.decode_tokens;
        r->totals.prompt_s += result.prompt_s;
        r->totals.decode_s += result.decode_s;
        status = sl_task_judge(item, result.text, result.text_length, &out->right, err);
    }
    if (status == SL_OK) {
        out->right_norm = out->right;
        out->text = result.text;
        out->text_length = result.text_length;
        result.text = NULL;
    }
    sl_result_free(&result);
    return status;
}

sl_status sl_task_run(sl_task_runner *r, const sl_task_item *item, sl_task_outcome *out, sl_error *err)
{
    sl_engine_stats before, after;
    sl_status status;
    *out = (sl_task_outcome){0};
    sl_engine_measure(r->engine, &before);
    if (item->form == SL_TASK_GENERATION) {
        row_tokens row;
        SL_TRY(tokenize_prompt(r->engine, item, &row, err));
        status = generate(r, item, &row, out, err);
        free(row.ids);
    } else {
        status = run_likelihoods(r, item, out, err);
    }
    sl_engine_measure(r->engine, &after);
    r->totals.bytes_read += after.bytes_read - before.bytes_read;
    r->totals.link_bytes += after.link_bytes - before.link_bytes;
    r->totals.items += status == SL_OK;
    if (status != SL_OK)
        r->seen_count = 0; /* the session goes on from its beginning */
    return status;
}

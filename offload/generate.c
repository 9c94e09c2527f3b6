/* offload/generate.c: from a prompt to text: sample, stop, stream.
 *
 * Text is handed out in whole UTF-8 characters, and held back while it could still become a stop string. Tokens come one by one from a pass over
 * one row, or several from a check of drafts (sirius.h); what ends the text may lie among them, and then those behind it never were. */
#include "core/os.h"
#include "offload/logprobs.h"
#include "offload/sirius.h"

#include <stdlib.h>
#include <string.h>

typedef struct writer { /* the text so far */
    const sl_request *request;
    char *text;
    size_t length, capacity;
    size_t shown; /* bytes handed to on_text */
    bool stopped, declined;
} writer;

typedef struct generation {
    sl_session *session;
    const sl_request *request;
    sl_result *result;
    sli_picker picker;
    sli_sirius sirius; /* with request->drafting */
    bool drafting;
    sl_logprob *next; /* with request->logprobs: of the place whose token was picked last */
    writer out;
    size_t capacity;
} generation;

const char *sl_stop_reason_name(sl_stop_reason reason)
{
    static const char *const names[] = {"eos", "stop", "length", "context", "caller", "interrupted"};
    return names[reason];
}

/* ---- text ---- */

/* Bytes of `text` that end on a whole character; an unfinished one at the end is left out. */
static size_t whole_characters(const char *text, size_t length)
{
    size_t back = 0;
    while (back < 4 && back < length && ((unsigned char)text[length - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == length || back == 4)
        return length;
    unsigned char lead = (unsigned char)text[length - 1 - back];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return back + 1 < wanted ? length - 1 - back : length;
}

/* Bytes that can't be the beginning of a stop string any more. */
static size_t safe_of_stops(const writer *w, size_t length)
{
    size_t safe = length;
    for (size_t s = 0; s < w->request->stop_count; s++) {
        const char *stop = w->request->stop[s];
        size_t n = strlen(stop);
        for (size_t keep = n - 1; keep > 0; keep--)
            if (keep <= length && memcmp(w->text + length - keep, stop, keep) == 0) {
                safe = length - keep < safe ? length - keep : safe;
                break;
            }
    }
    return safe;
}

static void show(writer *w, size_t end)
{
    if (end > w->shown && !w->declined && w->request->on_text != NULL &&
        !w->request->on_text(w->request->ctx, w->text + w->shown, end - w->shown))
        w->declined = true;
    if (end > w->shown)
        w->shown = end;
}

/* Cuts the text at the first stop string that the newest `added` bytes complete. */
static void find_stop(writer *w, size_t added)
{
    size_t first = SIZE_MAX;
    for (size_t s = 0; s < w->request->stop_count; s++) {
        size_t n = strlen(w->request->stop[s]);
        size_t from = w->length > added + n ? w->length - added - n : 0;
        char *at = memmem(w->text + from, w->length - from, w->request->stop[s], n);
        if (at != NULL && (size_t)(at - w->text) < first)
            first = (size_t)(at - w->text);
    }
    if (first == SIZE_MAX)
        return;
    w->length = first;
    w->stopped = true;
}

static sl_status write_piece(writer *w, sl_str piece, sl_error *err)
{
    if (w->length + piece.length + 1 > w->capacity) {
        size_t capacity = (w->length + piece.length + 1) * 2;
        char *grown = realloc(w->text, capacity);
        if (grown == NULL)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu bytes of text", capacity);
        w->text = grown;
        w->capacity = capacity;
    }
    if (piece.length > 0)
        memcpy(w->text + w->length, piece.data, piece.length);
    w->length += piece.length;
    find_stop(w, piece.length);
    show(w, w->stopped ? w->length : whole_characters(w->text, safe_of_stops(w, w->length)));
    return SL_OK;
}

/* ---- setting up ---- */

static sl_status check_request(const sl_engine *e, const sl_request *r, sl_error *err)
{
    if (e->options.all_logits)
        return sl_fail(err, SL_INVALID, "generation needs an engine without all_logits");
    for (size_t s = 0; s < r->stop_count; s++)
        if (r->stop[s][0] == '\0')
            return sl_fail(err, SL_INVALID, "a stop string is empty; it must have at least one character");
    if (r->prompt_count == 0)
        return sl_fail(err, SL_INVALID, "the prompt is empty; it must have at least one token");
    if (r->logprobs > SL_LOGPROBS_MAX)
        return sl_fail(err, SL_INVALID, "the %u likeliest tokens asked for; at most %d are told", r->logprobs, SL_LOGPROBS_MAX);
    if (r->logprobs > 0 && r->drafting.tokens != 0)
        return sl_fail(err, SL_INVALID, "log probabilities are told of tokens that are decoded one by one: not with drafts");
    return SL_OK;
}

static void forbid_enders(generation *g)
{
    const sl_engine *e = g->session->engine;
    sli_picker *p = &g->picker;
    for (uint32_t id = 0; g->request->ignore_eos && id < sl_tokenizer_size(e->tokenizer) && p->forbidden_count < SLI_FORBIDDEN_MAX; id++)
        if (sl_tokenizer_ends_generation(e->tokenizer, (sl_token)id))
            p->forbidden[p->forbidden_count++] = (sl_token)id;
}

static sl_status begin_logprobs(generation *g, sl_error *err)
{
    size_t each = g->request->logprobs + 1;
    if (g->request->logprobs == 0)
        return SL_OK;
    g->result->logprobs = malloc(g->capacity * each * sizeof *g->result->logprobs);
    g->next = malloc(each * sizeof *g->next);
    if (g->result->logprobs == NULL || g->next == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the log probabilities of %zu tokens", g->capacity);
    return SL_OK;
}

static sl_status begin(generation *g, sl_error *err)
{
    sl_session *s = g->session;
    const sl_request *r = g->request;
    sl_sampling sampling = {r->seed, r->temperature, r->top_k, r->top_p, r->min_p, r->repeat_penalty, r->repeat_last_n};
    SL_TRY(check_request(s->engine, r, err));
    SL_TRY(sl_sampling_check(&sampling, err));
    if (r->prompt_count >= s->engine->context - s->position)
        return sl_fail(
            err, SL_FULL,
            "the prompt has %zu tokens, and %u are before it: with one to generate they do not fit the context of %u (-c sets it)",
            r->prompt_count, s->position, s->engine->context);
    size_t room = s->engine->context - s->position - r->prompt_count + 1;
    g->capacity = r->max_tokens != 0 && r->max_tokens < room ? r->max_tokens : room;
    g->result->tokens = malloc(g->capacity * sizeof *g->result->tokens);
    g->out.capacity = g->capacity * 8 + 64;
    g->out.text = malloc(g->out.capacity);
    if (g->result->tokens == NULL || g->out.text == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu tokens", g->capacity);
    SL_TRY(begin_logprobs(g, err));
    forbid_enders(g);
    SL_TRY(sl_sampler_create(&sampling, s->engine->model->vocab, &g->picker.sampler, err));
    g->drafting = r->drafting.tokens != 0;
    return g->drafting ? sli_sirius_open(s, r, &g->picker, &g->result->drafts, &g->sirius, err) : SL_OK;
}

/* ---- the loop ---- */

/* Told before sampling, which forbids tokens in place. */
static sl_token pick(generation *g)
{
    sl_session *s = g->session;
    float *logits = s->engine->scratch.buffers[SL_BUF_LOGITS];
    double log_sum = 0;
    if (g->next != NULL)
        log_sum = sli_logprobs_top(logits, s->engine->model->vocab, g->request->logprobs, g->next + 1);
    unsigned depth = sl_trace_begin(s->engine->trace, SL_TRACE_SAMPLING, SL_TRACE_NONE, 1);
    sl_token token = sli_pick(&g->picker, logits, s->history, s->position);
    sl_trace_end(s->engine->trace, depth);
    if (g->next != NULL)
        g->next[0] = (sl_logprob){token, sli_logprob(logits[token], log_sum)};
    return token;
}

/* What ends the generation after the last token was written, if anything does. */
static bool ended(const generation *g, sl_stop_reason *reason)
{
    if (g->out.stopped)
        *reason = SL_STOP_STRING;
    else if (g->out.declined)
        *reason = SL_STOP_CALLER;
    else if (g->request->max_tokens != 0 && g->result->count == g->request->max_tokens)
        *reason = SL_STOP_LENGTH;
    else if (g->result->count == g->capacity)
        *reason = SL_STOP_CONTEXT;
    else
        return false;
    return true;
}

/* Takes one token into the result; *done when nothing follows it. */
static sl_status take(generation *g, sl_token token, bool *done, sl_error *err)
{
    const sl_tokenizer *t = g->session->engine->tokenizer;
    *done = !g->request->ignore_eos && sl_tokenizer_ends_generation(t, token);
    if (*done) {
        g->result->reason = SL_STOP_EOS;
        return SL_OK;
    }
    size_t each = g->request->logprobs + 1;
    if (g->next != NULL)
        memcpy(g->result->logprobs + g->result->count * each, g->next, each * sizeof *g->next);
    g->result->tokens[g->result->count++] = token;
    sl_trace_token(g->session->engine->trace, (uint32_t)token, g->result->count - 1);
    if (g->request->on_token != NULL)
        g->request->on_token(g->request->ctx, g->result->count);
    SL_TRY(write_piece(&g->out, sl_tokenizer_piece(t, token, false), err));
    *done = ended(g, &g->result->reason);
    return SL_OK;
}

/* The session is at the last of `tokens`. When the text ends earlier, or cannot be written, it goes back to that one: as if tokens came singly. */
static sl_status take_all(generation *g, const sl_token *tokens, uint32_t count, bool *done, sl_error *err)
{
    sl_session *s = g->session;
    sl_status status = SL_OK;
    uint32_t i = 0;
    *done = false;
    for (; i < count && !*done && status == SL_OK; i++)
        status = take(g, tokens[i], done, err);
    s->position -= count - i;
    return status;
}

/* The tokens that follow the result's last: one, or what a check gives. */
static sl_status follow(generation *g, const sl_token **tokens, uint32_t *count, sl_token *one, sl_error *err)
{
    sl_session *s = g->session;
    sl_token last = g->result->tokens[g->result->count - 1];
    size_t left = g->capacity - g->result->count;
    if (g->drafting) {
        *tokens = g->sirius.given;
        return sli_sirius_step(&g->sirius, last, left < UINT32_MAX ? (uint32_t)left : UINT32_MAX, count, err);
    }
    unsigned sparse = s->engine->options.sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0;
    sparse |= s->engine->options.sparq_k > 0 ? SL_EVAL_SPARQ : 0;
    sparse |= s->engine->early != NULL && !g->request->all_layers ? SL_EVAL_EARLY : 0;
    SL_TRY(sl_session_eval(s, &last, 1, SL_EVAL_LOGITS | sparse | (left > 1 ? SL_EVAL_MORE : 0), NULL, err));
    *one = pick(g);
    *tokens = one;
    *count = 1;
    return SL_OK;
}

static sl_status decode(generation *g, sl_error *err)
{
    sl_token one = pick(g);
    const sl_token *tokens = &one;
    uint32_t count = 1;
    for (bool done;;) {
        SL_TRY(take_all(g, tokens, count, &done, err));
        if (done)
            return SL_OK;
        SL_TRY(follow(g, &tokens, &count, &one, err));
    }
}

/* The prompt in batches, so that a long one shows its progress. */
static sl_status prefill(generation *g, sl_error *err)
{
    const sl_request *r = g->request;
    uint32_t batch = g->session->engine->price.batch, start = g->session->position;
    sl_status status = SL_OK;
    for (size_t done = 0; done < r->prompt_count && status == SL_OK;) {
        size_t n = r->prompt_count - done < batch ? r->prompt_count - done : batch;
        bool last = done + n == r->prompt_count;
        status = sl_session_eval(g->session, r->prompt + done, n, last ? SL_EVAL_LOGITS | (r->max_tokens != 1 ? SL_EVAL_MORE : 0) : 0, NULL,
                                 err);
        done += n;
        if (r->on_prompt != NULL && status == SL_OK)
            r->on_prompt(r->ctx, done, r->prompt_count);
    }
    if (status != SL_OK && start < g->session->position)
        SL_TRY(sl_session_truncate(g->session, sl_session_reach(g->session, start), err));
    return status;
}

static sl_status run(generation *g, sl_error *err)
{
    const sl_engine *engine = g->session->engine;
    sli_io before = sli_engine_io(engine);
    uint64_t start = sl_now_ns();
    unsigned depth = sl_trace_begin(engine->trace, SL_TRACE_PROMPT, SL_TRACE_NONE, (uint32_t)g->request->prompt_count);
    sl_status prompted = prefill(g, err);
    sl_trace_end(engine->trace, depth);
    SL_TRY(prompted);
    sli_io middle = sli_engine_io(engine);
    uint64_t between = sl_now_ns();
    sl_status status = decode(g, err);
    sli_io after = sli_engine_io(engine);
    g->result->prompt_s = (double)(between - start) * 1e-9;
    g->result->decode_s = (double)(sl_now_ns() - between) * 1e-9;
    g->result->prompt_bytes_read = middle.bytes_read - before.bytes_read;
    g->result->decode_bytes_read = after.bytes_read - middle.bytes_read;
    g->result->decode_link_bytes = after.link_bytes - middle.link_bytes;
    g->result->decode_wait_s = (double)(after.wait_ns - middle.wait_ns) * 1e-9;
    g->result->decode_tokens = g->result->count > 0 ? g->result->count - 1 : 0;
    sl_pager_cancel(g->session->engine->pager);
    g->session->next_planned = SLI_PLANNED_NOTHING;
    return status;
}

sl_status sl_generate(sl_session *session, const sl_request *request, sl_result *result, sl_error *err)
{
    generation g = {.session = session, .request = request, .result = result, .out = {.request = request}};
    memset(result, 0, sizeof *result);
    sl_status status = begin(&g, err);
    if (status == SL_OK)
        status = run(&g, err);
    if (status == SL_INTERRUPTED)
        result->reason = SL_STOP_INTERRUPTED;
    if (g.out.text != NULL) {
        show(&g.out, g.out.length);
        g.out.text[g.out.length] = '\0';
        result->text = g.out.text;
        result->text_length = g.out.length;
    }
    free(g.next);
    sli_sirius_close(&g.sirius);
    sl_sampler_destroy(g.picker.sampler);
    return status;
}

void sl_result_free(sl_result *result)
{
    free(result->tokens);
    free(result->logprobs);
    free(result->text);
    free(result->drafts.accepted_by_depth);
    memset(result, 0, sizeof *result);
}

/* offload/calibrate/exit_observe.c: see exit_observe.h. */
#include "offload/calibrate/exit_observe.h"
#include "core/os.h"
#include "offload/calibrate/observe.h"
#include "offload/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBES_WANTED 8u                /* about so many, where nobody says */
#define BATCH_ROWS    64u               /* logits of all of them are in memory */
#define TEXT_MOST     ((size_t)1 << 20) /* bytes that frequencies come from */
#define VOCAB_SHARE   2u                /* a shortlist of half the vocabulary is none */

/* ---- the wish ---- */

uint32_t sli_exit_probe_layers(const sli_exit_wish *wish, uint32_t layers, int32_t probes[SLI_EXIT_PROBES_MAX], const char **fault)
{
    uint32_t first = wish->first != 0 ? wish->first : layers / 2, count = 0;
    *fault = NULL;
    if (wish->first != 0 && wish->first >= layers)
        *fault = "the first layer that is probed lies before the last one";
    if (layers < 3 || *fault != NULL)
        return 0;
    uint32_t room = layers - 1 - first, every = wish->every;
    if (every == 0)
        every = (room + PROBES_WANTED / 2) / PROBES_WANTED > 1 ? (room + PROBES_WANTED / 2) / PROBES_WANTED : 1;
    for (uint32_t layer = first; layer < layers && count < SLI_EXIT_PROBES_MAX; layer += every)
        probes[count++] = (int32_t)layer - 1;
    return count;
}

uint32_t sli_exit_frequent(uint32_t *counts, uint32_t vocab, uint32_t most, int32_t *out)
{
    uint32_t low = 0, high = UINT32_MAX, n = 0; /* the lowest count that lets at most `most` in */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, above = 0;
        for (uint32_t id = 0; id < vocab; id++)
            above += counts[id] > middle;
        if (above <= most)
            high = middle;
        else
            low = middle + 1;
    }
    for (uint32_t id = 0; id < vocab; id++)
        if (counts[id] > low)
            out[n++] = (int32_t)id;
    return n;
}

static sl_status choose_shortlist(sl_engine *e, const sli_exit_wish *wish, const char *text, size_t bytes, sli_exit_found *out,
                                  sl_error *err)
{
    uint32_t vocab = e->model->vocab, most = wish->shortlist != 0 ? wish->shortlist : SLI_EXIT_SHORTLIST;
    if (wish->whole_vocabulary || most >= vocab / VOCAB_SHARE)
        return SL_OK;
    uint32_t *counts = calloc(vocab, sizeof *counts);
    sl_token_id *tokens = NULL;
    size_t count = 0;
    out->shortlist = malloc(most * sizeof *out->shortlist);
    sl_status status = counts == NULL || out->shortlist == NULL
                           ? sl_fail(err, SL_NO_MEMORY, "out of memory for a shortlist of %u tokens", most)
                           : SL_OK;
    if (status == SL_OK)
        status = sl_engine_tokenize(e, text, bytes < TEXT_MOST ? bytes : TEXT_MOST, false, false, &tokens, &count, err);
    for (size_t i = 0; i < count; i++)
        counts[tokens[i]]++;
    if (status == SL_OK)
        out->shortlist_count = sli_exit_frequent(counts, vocab, most, out->shortlist);
    if (out->shortlist_count < 2)
        out->shortlist_count = 0;
    free(tokens);
    free(counts);
    return status;
}

/* ---- seeing ---- */

typedef struct watcher {
    sl_engine *engine;
    sli_exit_found *found;
    uint32_t *firsts;         /* [batch][probes] of the whole vocabulary */
    float *listed;            /* [threads][shortlist] */
    uint32_t first_row, skip; /* of the pass: where its lessons go, and rows before them */
    uint32_t rows, probe;     /* of the pass, and the one in hand */
} watcher;

static uint32_t first_of(const float *logits, uint32_t count)
{
    uint32_t first = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[first])
            first = i;
    return first;
}

static void look_share(void *arg, unsigned index, unsigned count)
{
    const watcher *w = arg;
    const sli_exit_found *f = w->found;
    uint32_t vocab = w->engine->model->vocab, end = (uint32_t)((uint64_t)w->rows * (index + 1) / count);
    float *listed = w->listed + (size_t)index * f->shortlist_count;
    for (uint32_t row = (uint32_t)((uint64_t)w->rows * index / count); row < end; row++) {
        const float *logits = w->engine->scratch.buffers[SL_BUF_LOGITS] + (size_t)row * vocab;
        w->firsts[row * f->probe_count + w->probe] = first_of(logits, vocab);
        if (row < w->skip)
            continue;
        for (uint32_t i = 0; i < f->shortlist_count; i++)
            listed[i] = logits[f->shortlist[i]];
        bool whole = f->shortlist_count == 0;
        f->lessons.looks[(size_t)(w->first_row + row - w->skip) * f->probe_count + w->probe] = sli_exit_look_at(
            whole ? logits : listed, whole ? vocab : f->shortlist_count);
    }
}

static sl_status see(void *ctx, const struct sli_pass *pass, uint32_t layer, sl_error *err)
{
    watcher *w = ctx;
    const sli_exit_found *f = w->found;
    for (w->probe = 0; w->probe < f->probe_count && (uint32_t)f->probes[w->probe] != layer;)
        w->probe++;
    if (w->probe == f->probe_count)
        return SL_OK;
    w->rows = pass->rows;
    SL_TRY(sli_pass_head(pass, pass->rows, err));
    sl_threads_run(w->engine->threads, look_share, w);
    return SL_OK;
}

/* Against the last layer's, which are in hand. */
static void judge(watcher *w, const float *logits, uint32_t rows)
{
    const sli_exit_found *f = w->found;
    for (uint32_t row = w->skip; row < rows; row++) {
        uint32_t right = first_of(logits + (size_t)row * w->engine->model->vocab, w->engine->model->vocab);
        for (uint32_t p = 0; p < f->probe_count; p++)
            f->lessons.agrees[(size_t)(w->first_row + row - w->skip) * f->probe_count + p] = w->firsts[row * f->probe_count + p] == right;
    }
}

static sl_status read_chunk(sl_session *s, watcher *w, const sl_token_id *tokens, uint32_t count, sl_error *err)
{
    uint32_t batch = w->engine->price.batch;
    SL_TRY(sl_session_truncate(s, 0, err));
    for (uint32_t at = 0, n; at < count; at += n) {
        const float *logits;
        n = count - at < batch ? count - at : batch;
        w->skip = at >= SLI_OBSERVE_SKIP ? 0 : SLI_OBSERVE_SKIP - at < n ? SLI_OBSERVE_SKIP - at : n;
        SL_TRY(sl_session_eval(s, tokens + at, n, SL_EVAL_LOGITS, &logits, err));
        judge(w, logits, n);
        w->first_row += n - w->skip;
    }
    return SL_OK;
}

static sl_status read_text(watcher *w, const sl_token_id *tokens, uint32_t count, const sl_tool_watch *watch, sl_error *err)
{
    sl_session *session;
    SL_TRY(sl_session_open(w->engine, &session, err));
    uint32_t chunk = w->engine->context;
    /* What stays comes into memory first: probes use the head before its turn. */
    sl_status status = sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS, NULL, err);
    w->engine->observer = (sli_observer){.see_residual = see, .ctx = w};
    for (uint32_t at = 0; at < count && status == SL_OK; at += chunk) {
        uint32_t n = count - at < chunk ? count - at : chunk;
        status = read_chunk(session, w, tokens + at, n, err);
        if (status == SL_OK && watch->progress != NULL && !watch->progress(watch->ctx, at + n, count))
            status = sl_fail(err, SL_INTERRUPTED, "interrupted");
    }
    w->engine->observer = (sli_observer){0};
    sl_session_close(session);
    return status;
}

static sl_status observe(sl_engine *e, const sl_token_id *tokens, uint32_t count, const sl_tool_watch *watch, sli_exit_found *out,
                         sl_error *err)
{
    size_t rows = sli_observe_rows(count, e->context), cells = rows * out->probe_count;
    watcher w = {.engine = e, .found = out};
    out->lessons = (sli_exit_lessons){(uint32_t)rows, out->probe_count, calloc(cells + 1, sizeof *out->lessons.looks),
                                      calloc(cells + 1, 1)};
    w.firsts = malloc((size_t)e->price.batch * out->probe_count * sizeof *w.firsts);
    w.listed = malloc(((size_t)sl_threads_count(e->threads) * out->shortlist_count + 1) * sizeof *w.listed);
    sl_status status = SL_OK;
    if (out->lessons.looks == NULL || out->lessons.agrees == NULL || w.firsts == NULL || w.listed == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for %zu rows of exit lessons", rows);
    if (status == SL_OK)
        status = read_text(&w, tokens, count, watch, err);
    free(w.firsts);
    free(w.listed);
    return status;
}

/* ---- all of it ---- */

static void say(const sl_tool_watch *watch, const char *why)
{
    char line[SL_ERROR_MESSAGE_MAX + 32];
    snprintf(line, sizeof line, "no exit classifiers: %s", why);
    if (watch->note != NULL)
        watch->note(watch->ctx, line);
}

static sl_status learn(sl_engine *e, const sli_exit_wish *wish, const char *text, size_t text_bytes, const sl_token_id *tokens,
                       uint32_t count, const sl_tool_watch *watch, sli_exit_found *out, sl_error *err)
{
    const char *fault;
    out->layers = e->model->layers;
    out->probe_count = sli_exit_probe_layers(wish, e->model->layers, out->probes, &fault);
    if (fault != NULL)
        return sl_fail(err, SL_INVALID, "--exit-first %u: %s of %u", wish->first, fault, e->model->layers);
    if (out->probe_count == 0) {
        say(watch, "the model has too few layers");
        return SL_OK;
    }
    if (sli_observe_rows(count, e->context) < SLI_EXIT_ROWS_MIN) {
        say(watch, "the text is too short for them");
        return SL_OK;
    }
    SL_TRY(choose_shortlist(e, wish, text, text_bytes, out, err));
    SL_TRY(observe(e, tokens, count, watch, out, err));
    sli_exit_task task = {{e->model->layers, e->model->d, e->model->vocab}, out->probes, out->shortlist, out->shortlist_count};
    return sli_exit_fit(&out->lessons, &task, &out->blob, &out->blob_bytes, err);
}

sl_status sli_exit_learn(const sl_engine_options *given, const sli_exit_wish *wish, const char *text, size_t text_bytes,
                         const sl_token_id *tokens, uint32_t count, const sl_tool_watch *watch, sli_exit_found *out, sl_error *err)
{
    sl_engine_options options = *given;
    sl_engine *engine;
    sl_error why = {0};
    uint64_t start = sl_now_ns();
    *out = (sli_exit_found){0};
    if (wish->none)
        return SL_OK;
    options.all_logits = true;
    options.batch = options.context < BATCH_ROWS ? options.context : BATCH_ROWS;
    options.note = NULL; /* what there is to say was said when the text was read */
    sl_status status = sl_engine_open(&options, &engine, &why);
    if (status == SL_NO_BUDGET) {
        say(watch, why.message);
        return SL_OK;
    }
    if (status == SL_OK) {
        status = learn(engine, wish, text, text_bytes, tokens, count, watch, out, &why);
        sl_engine_close(engine);
    }
    out->seconds = (double)(sl_now_ns() - start) * 1e-9;
    if (status == SL_UNSUPPORTED) {
        say(watch, why.message);
        return SL_OK;
    }
    if (status != SL_OK) {
        sli_exit_found_free(out);
        if (err != NULL)
            *err = why;
    }
    return status;
}

void sli_exit_found_free(sli_exit_found *f)
{
    free(f->shortlist);
    free(f->lessons.looks);
    free(f->lessons.agrees);
    free(f->blob);
    *f = (sli_exit_found){0};
}

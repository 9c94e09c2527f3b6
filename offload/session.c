/* offload/session.c: a conversation's position in its KV cache. Tokens count only when every layer has seen them: a pass that fails leaves the position
 * where it was, and what it wrote beyond is overwritten later. */
#include "offload/device_engine.h"
#include "offload/early_exit.h"
#include "offload/kv_spill.h"

#include <stdlib.h>
#include <string.h>

static void free_session(sl_session *s)
{
    if (s->engine->device != NULL)
        sli_device_spill_close(s->engine);
    sli_kv_free(&s->kv);
    free(s->history);
    free(s);
}

sl_status sl_session_open(sl_engine *engine, sl_session **out, sl_error *err)
{
    *out = NULL;
    if (engine->model == NULL)
        return sl_fail(err, SL_INVALID, "the engine was opened for its vocabulary only");
    if (engine->pager == NULL)
        return sl_fail(err, SL_INVALID, "the engine was opened for its plan only");
    if (engine->session != NULL)
        return sl_fail(err, SL_INVALID, "the engine has a session already; its budget holds one KV cache");
    sl_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a session");
    s->engine = engine;
    s->history = malloc(engine->context * sizeof *s->history);
    sl_status status = s->history == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for %u positions", engine->context) : SL_OK;
    bool in_host = engine->device == NULL || engine->price.kv.spill; /* a device holds it itself, but for what spills */
    if (status == SL_OK && in_host)
        status = sli_kv_create(engine, &engine->price.kv, &s->kv, err);
    if (status == SL_OK && in_host && engine->device != NULL)
        status = sli_device_spill_open(engine, &s->kv, err);
    if (status != SL_OK) {
        free_session(s);
        return status;
    }
    engine->session = s;
    *out = s;
    return SL_OK;
}

void sl_session_close(sl_session *s)
{
    if (s == NULL)
        return;
    sl_pager_cancel(s->engine->pager);
    s->engine->kv_io = sli_engine_kv_io(s->engine);
    s->engine->session = NULL;
    free_session(s);
}

uint32_t sl_session_position(const sl_session *s)
{
    return s->position;
}

uint32_t sl_session_reach(const sl_session *s, uint32_t position)
{
    return sli_kv_first_seen(s->engine->model, position) >= sli_kv_window_first(&s->kv) ? position : 0;
}

sl_status sl_session_truncate(sl_session *s, uint32_t position, sl_error *err)
{
    if (position > s->position)
        return sl_fail(err, SL_INVALID, "cannot go back to position %u: the session is at %u", position, s->position);
    if (sl_session_reach(s, position) != position)
        return sl_fail(
            err, SL_INVALID,
            "cannot go back to position %u: layers with a window of %u positions have forgotten what is before it; the session can "
            "begin anew, at 0",
            position, s->engine->model->window);
    s->position = position;
    s->tree.count = 0;
    if (position == 0)
        sli_coarse_reset(&s->engine->sparsity);
    return SL_OK;
}

sl_status sli_session_check(const sl_session *s, const sl_token *tokens, size_t count, unsigned flags, sl_error *err)
{
    const sl_engine *e = s->engine;
    if (count == 0)
        return sl_fail(err, SL_INVALID, "no tokens to evaluate; at least one is needed");
    if (count > e->context - s->position)
        return sl_fail(err, SL_FULL, "the context is full: %zu tokens do not fit behind position %u of %u (-c sets it)", count, s->position,
                       e->context);
    if ((flags & SL_EVAL_LOGITS) != 0 && e->options.all_logits && count > e->price.batch)
        return sl_fail(err, SL_INVALID, "logits of %zu rows asked for; a batch has %u", count, e->price.batch);
    if ((flags & SL_EVAL_ALL_LOGITS) != 0 && !e->options.all_logits && count > e->price.draft_max + 1)
        return sl_fail(err, SL_INVALID, "logits of %zu rows asked for; the engine was opened for %u", count, e->price.draft_max + 1);
    if ((flags & SL_EVAL_SPARSE) != 0 && e->options.sparsity == SL_SPARSITY_OFF)
        return sl_fail(err, SL_INVALID, "sparse rows asked for; the engine was opened without sparsity");
    if ((flags & SL_EVAL_SPARQ) != 0 && e->options.sparq_k == 0)
        return sl_fail(err, SL_INVALID, "rows with SparQ attention asked for; the engine was opened without sparq_k");
    if ((flags & SL_EVAL_EARLY) != 0 && e->early == NULL)
        return sl_fail(err, SL_INVALID, "rows that may leave early asked for; the engine was opened without early_exit");
    if ((flags & SL_EVAL_EARLY) != 0 && (flags & (SL_EVAL_ALL_LOGITS | SL_EVAL_SPARSE | SL_EVAL_DRAFT | SL_EVAL_SPARQ | SL_EVAL_GROW)) != 0)
        return sl_fail(err, SL_INVALID, "rows that may leave early are all neurons and positions, and give logits of the last alone");
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= e->model->vocab)
            return sl_fail(err, SL_INVALID, "token %d is not in the vocabulary of %u", tokens[i], e->model->vocab);
    return SL_OK;
}

void sli_session_begin(sl_session *s, unsigned flags)
{
    if ((flags & SL_EVAL_SPARSE) == 0)
        sli_coarse_mark(&s->engine->sparsity);
    if ((flags & SLI_EVAL_FADE) != 0)
        sli_coarse_fade(&s->engine->sparsity);
}

sl_status sli_session_pass(sl_session *s, const sl_token *tokens, uint32_t rows, sli_pass_kind kind, sl_error *err)
{
    sl_engine *e = s->engine;
    if (s->dense > s->position) /* what follows is written over */
        s->dense = s->position;
    sl_status status = sli_execute(s, tokens, rows, kind, err);
    if (status == SL_OK)
        return SL_OK;
    if (!kind.sparse)
        sli_coarse_back(&e->sparsity);
    sl_pager_retry(e->pager); /* the cause may be gone when the caller tries again */
    if (status == SL_INTERRUPTED)
        atomic_store(&e->interrupted, false); /* the request is answered: the next call runs again */
    return status;
}

sl_status sl_session_eval(sl_session *s, const sl_token_id *tokens, size_t count, unsigned flags, const float **logits, sl_error *err)
{
    sl_engine *e = s->engine;
    bool draft = (flags & SL_EVAL_DRAFT) != 0, early = (flags & SL_EVAL_EARLY) != 0;
    uint32_t start = s->position, most = draft || early ? 1 : e->price.batch;
    SL_TRY(sli_session_check(s, tokens, count, flags, err));
    if ((flags & SL_EVAL_GROW) != 0)
        return sl_fail(err, SL_INVALID, "only a tree grows: sl_session_eval_tree");
    s->tree.count = 0;
    sli_session_begin(s, flags);
    bool all = e->options.all_logits || (flags & SL_EVAL_ALL_LOGITS) != 0;
    for (size_t done = 0; done < count;) {
        uint32_t rows = (uint32_t)(count - done < most ? count - done : most);
        bool last = done + rows == count, wanted = last && (flags & SL_EVAL_LOGITS) != 0;
        bool next_full = last ? (flags & SL_EVAL_MORE) != 0
                              : early || (!draft && count - done - rows <= most && (flags & SL_EVAL_LOGITS) != 0);
        sli_pass_kind kind = {.logits_rows = !wanted ? 0
                                             : all   ? rows
                                                     : 1,
                              .sparse = (flags & SL_EVAL_SPARSE) != 0,
                              .sparq = (flags & SL_EVAL_SPARQ) != 0,
                              .plan_next = next_full,
                              .next_dense = (flags & SLI_EVAL_DENSE_NEXT) != 0 || (e->early != NULL && !early && !last),
                              .exit = !early                                 ? SLI_EXIT_NOT
                                      : (flags & SLI_EVAL_SETTLED_ONLY) != 0 ? SLI_EXIT_ONLY
                                                                             : SLI_EXIT_MAY,
                              .resident_only = draft};
        sl_status status = sli_session_pass(s, tokens + done, rows, kind, err);
        if (status != SL_OK) {
            s->position = sl_session_reach(s, start);
            return status;
        }
        memcpy(s->history + s->position, tokens + done, rows * sizeof *tokens);
        if (s->dense == s->position && sli_pass_is_dense(&kind))
            s->dense += rows;
        s->position += rows;
        done += rows;
    }
    if (logits != NULL)
        *logits = e->scratch.buffers[SL_BUF_LOGITS];
    return SL_OK;
}

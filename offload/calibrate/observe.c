/* offload/calibrate/observe.c: see observe.h. */
#include "offload/calibrate/observe.h"
#include "core/os.h"
#include "offload/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_ROWS 64 /* rows that are converted at a time */

typedef struct spool {
    sli_observation *observation;
    uint32_t base;     /* rows of earlier chunks */
    uint32_t position; /* of the pass's first row, in its chunk */
    uint16_t *halves;  /* [PIECE_ROWS][d] */
    sl_status status;
    sl_error *err;
} spool;

static uint32_t chunk_of(uint32_t context)
{
    return context < SLI_OBSERVE_CHUNK ? context : SLI_OBSERVE_CHUNK;
}

static uint32_t rows_of_chunk(uint32_t tokens)
{
    return tokens > SLI_OBSERVE_SKIP ? tokens - SLI_OBSERVE_SKIP : 0;
}

uint32_t sli_observe_rows(uint32_t tokens, uint32_t context)
{
    uint32_t chunk = chunk_of(context);
    return tokens / chunk * rows_of_chunk(chunk) + rows_of_chunk(tokens % chunk);
}

/* ---- the file ---- */

static sl_status open_spool(const char *beside, int *out, sl_error *err)
{
    *out = sl_nameless_file_beside(beside, 0);
    return *out >= 0 ? SL_OK : sl_fail(err, SL_IO, "%s: cannot make a temporary file beside it: %s", beside, strerror(errno));
}

static off_t offset_of(const sli_observation *o, uint32_t layer, uint32_t row)
{
    return (off_t)(((uint64_t)layer * o->rows + row) * o->d * sizeof(uint16_t));
}

static sl_status put(const sli_observation *o, const void *data, size_t bytes, off_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(o->file, (const char *)data + done, bytes - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "the temporary file of calibrate cannot be written: %s", strerror(n < 0 ? errno : ENOSPC));
        done += (size_t)n;
    }
    return SL_OK;
}

static sl_status get(const sli_observation *o, void *data, size_t bytes, off_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(o->file, (char *)data + done, bytes - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "the temporary file of calibrate cannot be read: %s", n < 0 ? strerror(errno) : "it is too short");
        done += (size_t)n;
    }
    return SL_OK;
}

/* ---- seeing ---- */

static void see(void *ctx, uint32_t layer, const float *x, uint32_t rows)
{
    spool *s = ctx;
    const sli_observation *o = s->observation;
    uint32_t skip = s->position < SLI_OBSERVE_SKIP ? SLI_OBSERVE_SKIP - s->position : 0;
    uint32_t first_row = s->base + s->position + skip - SLI_OBSERVE_SKIP;
    for (uint32_t at = skip; at < rows && s->status == SL_OK; at += PIECE_ROWS) {
        uint32_t count = rows - at < PIECE_ROWS ? rows - at : PIECE_ROWS;
        for (size_t i = 0; i < (size_t)count * o->d; i++)
            s->halves[i] = sl_f32_to_f16(x[(size_t)at * o->d + i]);
        s->status = put(o, s->halves, (size_t)count * o->d * sizeof *s->halves, offset_of(o, layer, first_row + at - skip), s->err);
    }
}

static sl_status read_chunk(sl_session *session, spool *s, const sl_token_id *tokens, uint32_t count, uint32_t batch, sl_error *err)
{
    SL_TRY(sl_session_truncate(session, 0, err));
    for (uint32_t at = 0; at < count; at += batch) {
        s->position = at;
        SL_TRY(sl_session_eval(session, tokens + at, count - at < batch ? count - at : batch, 0, NULL, err));
        SL_TRY(s->status);
    }
    return SL_OK;
}

static sl_status read_text(sl_engine *engine, spool *s, const sl_token_id *tokens, uint32_t count, const sl_tool_watch *watch,
                           sl_error *err)
{
    sl_session *session;
    SL_TRY(sl_session_open(engine, &session, err));
    uint32_t chunk = chunk_of(engine->context);
    sl_status status = SL_OK;
    for (uint32_t at = 0; at < count && status == SL_OK; at += chunk) {
        uint32_t n = count - at < chunk ? count - at : chunk;
        status = read_chunk(session, s, tokens + at, n, engine->price.batch, err);
        s->base += rows_of_chunk(n);
        if (status == SL_OK && watch->progress != NULL && !watch->progress(watch->ctx, at + n, count))
            status = sl_fail(err, SL_INTERRUPTED, "interrupted");
    }
    sl_session_close(session);
    return status;
}

sl_status sli_observe(sl_engine *engine, const sl_token_id *tokens, uint32_t count, const char *beside, const sl_tool_watch *watch,
                      sli_observation *out, sl_error *err)
{
    *out = (sli_observation){.file = -1, .layers = engine->model->layers, .d = engine->model->d};
    out->rows = sli_observe_rows(count, engine->context);
    spool s = {.observation = out, .err = err, .halves = malloc((size_t)PIECE_ROWS * out->d * sizeof *s.halves)};
    if (s.halves == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for observing");
    sl_status status = open_spool(beside, &out->file, err);
    engine->observer = (sli_observer){.see = see, .ctx = &s};
    if (status == SL_OK)
        status = read_text(engine, &s, tokens, count, watch, err);
    engine->observer = (sli_observer){0};
    free(s.halves);
    if (status != SL_OK)
        sli_observation_close(out);
    return status;
}

sl_status sli_observation_read(const sli_observation *o, uint32_t layer, uint32_t first, uint32_t count, float *x, sl_error *err)
{
    /* The halves lie at the end of the floats' own memory, and are widened from the front. */
    uint16_t *halves = (uint16_t *)(void *)x + (size_t)count * o->d;
    SL_TRY(get(o, halves, (size_t)count * o->d * sizeof *halves, offset_of(o, layer, first), err));
    for (size_t i = 0; i < (size_t)count * o->d; i++) {
        uint16_t half;
        memcpy(&half, halves + i, sizeof half);
        float value = sl_f16_to_f32(half);
        memcpy(x + i, &value, sizeof value);
    }
    return SL_OK;
}

void sli_observation_close(sli_observation *o)
{
    if (o->file >= 0)
        close(o->file);
    o->file = -1;
}

/* tests/sparse_rows.h: logits of sparse rows behind a dense prompt, for tests that hold one way of computing them against another. */
#ifndef SL_TESTS_SPARSE_ROWS_H
#define SL_TESTS_SPARSE_ROWS_H

#include "offload/sluice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PROMPT 40
#define STEPS  6

static inline sl_token_id token_at(uint32_t position)
{
    return (sl_token_id)((position * 53 + 7) % 384);
}

static inline void check(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        fail_msg("%s", err->message);
}

/* [STEPS][vocab], the caller frees. `at_once` rows in a pass; 1: without options.all_logits, as generation does it. */
static inline float *sparse_logits(const sl_engine_options *given, uint32_t at_once, sl_engine_stats *stats)
{
    sl_engine_options options = *given;
    sl_engine *engine;
    sl_session *session;
    sl_engine_info info;
    sl_error err = {0};
    sl_token_id tokens[PROMPT + STEPS];
    options.all_logits = at_once > 1;
    for (uint32_t i = 0; i < PROMPT + STEPS; i++)
        tokens[i] = token_at(i);
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    sl_engine_describe(engine, &info);
    float *all = malloc((size_t)STEPS * info.vocab * sizeof *all);
    assert_non_null(all);
    check(sl_session_eval(session, tokens, PROMPT, SL_EVAL_MORE, NULL, &err), &err);
    for (uint32_t step = 0; step < STEPS; step += at_once) {
        const float *logits;
        unsigned sparse = options.sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0;
        check(sl_session_eval(session, tokens + PROMPT + step, at_once, SL_EVAL_LOGITS | SL_EVAL_MORE | sparse, &logits, &err), &err);
        memcpy(all + (size_t)step * info.vocab, logits, (size_t)at_once * info.vocab * sizeof *all);
    }
    if (stats != NULL)
        sl_engine_measure(engine, stats);
    sl_session_close(session);
    sl_engine_close(engine);
    return all;
}

#endif

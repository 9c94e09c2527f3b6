/* tests/engine_runs.h: engines on tiny models, and what comes out of them, for tests that compare it bit by bit. Needs cmocka's names. */
#ifndef SL_TESTS_ENGINE_RUNS_H
#define SL_TESTS_ENGINE_RUNS_H

#include "tests/tiny_model.h"

#define MIB    ((uint64_t)1 << 20)
#define TOKENS 70 /* more than a page of the cache */

static inline const sl_token_id *some_tokens(void)
{
    static sl_token_id tokens[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (sl_token_id)((i * 37 + 11) % 384);
    tokens[5] = tokens[4]; /* the same embedding row twice in a batch */
    tokens[6] = 386;       /* in the last, partly filled panel */
    return tokens;
}

/* ---- helpers ---- */

static inline char *write_tiny(const char *name, const tiny_model *model)
{
    sl_error err = {0};
    char *path = tiny_path(name);
    if (tiny_write(model, path, &err) != SL_OK)
        fail_msg("%s", err.message);
    return path;
}

static inline void forget(char *path)
{
    unlink(path);
    free(path);
}

static inline sl_engine_options base_options(const char *path)
{
    return (sl_engine_options){.model_path = path, .ram_budget_bytes = 1024 * MIB, .context = 128, .threads = 1, .isa = "scalar"};
}

static inline sl_engine *open_engine(const sl_engine_options *options)
{
    sl_engine *engine;
    sl_error err = {0};
    if (sl_engine_open(options, &engine, &err) != SL_OK)
        fail_msg("%s", err.message);
    return engine;
}

static inline sl_session *open_session(sl_engine *engine)
{
    sl_session *session;
    sl_error err = {0};
    if (sl_session_open(engine, &session, &err) != SL_OK)
        fail_msg("%s", err.message);
    return session;
}

static inline const float *eval(sl_session *session, const sl_token_id *tokens, size_t count)
{
    const float *logits = NULL;
    sl_error err = {0};
    if (sl_session_eval(session, tokens, count, SL_EVAL_LOGITS, &logits, &err) != SL_OK)
        fail_msg("%s", err.message);
    return logits;
}

static inline uint32_t vocabulary(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    return info.vocab;
}

#define STEPS 4 /* passes of one row behind the prompt */

/* The logits of the last prompt token and of STEPS single ones after it, [STEPS + 1][vocab], in a buffer that the caller frees. */
static inline float *run(const sl_engine_options *options, size_t *count)
{
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    uint32_t vocab = vocabulary(engine);
    float *all = malloc((STEPS + 1) * (size_t)vocab * sizeof *all);
    assert_non_null(all);
    for (uint32_t step = 0; step <= STEPS; step++) {
        const sl_token_id *from = some_tokens() + (step == 0 ? 0 : TOKENS - STEPS + step - 1);
        memcpy(all + step * (size_t)vocab, eval(session, from, step == 0 ? TOKENS - STEPS : 1), vocab * sizeof *all);
    }
    assert_int_equal(sl_session_position(session), TOKENS);
    sl_session_close(session);
    sl_engine_close(engine);
    *count = (STEPS + 1) * (size_t)vocab;
    return all;
}

static inline void check_finite(const float *values, size_t count)
{
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(values[i]));
        least = fminf(least, values[i]);
        most = fmaxf(most, values[i]);
    }
    assert_true(most - least > 1.0f); /* logits that are all alike would compare equal whatever was wrong */
}

/* Runs `other` and compares with `base`, bit by bit. */
static inline void check_same(const float *base, size_t count, const sl_engine_options *other, const char *what)
{
    size_t other_count;
    float *logits = run(other, &other_count);
    assert_int_equal(count, other_count);
    for (size_t i = 0; i < count; i++)
        if (memcmp(&base[i], &logits[i], sizeof *base) != 0)
            fail_msg("%s: logit %zu is %a, not %a", what, i, (double)logits[i], (double)base[i]);
    free(logits);
}

#endif

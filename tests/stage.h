/* tests/stage.h: an engine with its session, for tests that look at both; and the smallest budget that an engine names. Include cmocka before it. */
#ifndef SL_TESTS_STAGE_H
#define SL_TESTS_STAGE_H

#include "offload/sluice.h"

typedef struct stage {
    sl_engine *engine;
    sl_session *session;
} stage;

static inline void check(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        fail_msg("%s", err->message);
}

static inline stage open_stage(const sl_engine_options *options)
{
    stage s;
    sl_error err = {0};
    check(sl_engine_open(options, &s.engine, &err), &err);
    check(sl_session_open(s.engine, &s.session, &err), &err);
    return s;
}

static inline void close_stage(stage *s)
{
    sl_session_close(s->session);
    sl_engine_close(s->engine);
}

static inline uint64_t minimum_budget(sl_engine_options options)
{
    sl_engine *engine;
    sl_error err = {0};
    options.ram_budget_bytes = 1;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    return err.ram_budget_min_bytes;
}

#endif

/* tests/test_kv_window.c: that layers with a window give the same bits from a ring of pages as from all of them, whatever is done to the text. */
#include "offload/engine.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/stage.h"

#define MIB ((uint64_t)1 << 20)

enum { CONTEXT = 960, BATCH = SL_TREE_ROWS_MAX / 2, WINDOW = 100, VOCAB = 387 };

#if defined(__SANITIZE_ADDRESS__)
#define STEPS 60 /* kernels take many times as long */
#else
#define STEPS 200
#endif

static char *model_path;

static int write_model(void **unused)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model.layers = 4;
    model.context = CONTEXT;
    model.types[0] = SL_TYPE_Q8_0;
    model.arch = "gemma3";
    model.window = WINDOW;
    model.window_period = 2;
    model_path = tiny_path("window.gguf");
    return tiny_write(&model, model_path, &err) == SL_OK ? 0 : -1;
}

static int forget_model(void **unused)
{
    (void)unused;
    unlink(model_path);
    free(model_path);
    return 0;
}

static sl_engine_options options_of(uint32_t batch)
{
    return (sl_engine_options){
        .model_path = model_path, .ram_budget_bytes = 1024 * MIB, .context = CONTEXT, .batch = batch, .threads = 2, .draft_max = BATCH - 1};
}

typedef struct pair {
    stage whole, ring;
    uint32_t seed, begun_anew;
} pair;

static uint32_t draw(pair *p, uint32_t limit)
{
    p->seed = p->seed * 1664525u + 1013904223u;
    return (p->seed >> 8) % limit;
}

static void same(const float *expected, const float *got, uint32_t rows)
{
    if (memcmp(expected, got, (size_t)rows * VOCAB * sizeof *got) != 0)
        fail_msg("logits of %u rows differ", rows);
}

static void append(pair *p)
{
    sl_token_id tokens[CONTEXT];
    const float *expected, *got;
    sl_error err = {0};
    uint32_t room = CONTEXT - sl_session_position(p->whole.session), count = 1 + draw(p, draw(p, 3) == 0 ? 400 : 30);
    count = count < room ? count : room;
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (sl_token_id)draw(p, 384);
    if (count == 0)
        return;
    check(sl_session_eval(p->whole.session, tokens, count, SL_EVAL_LOGITS, &expected, &err), &err);
    check(sl_session_eval(p->ring.session, tokens, count, SL_EVAL_LOGITS, &got, &err), &err);
    same(expected, got, 1);
}

static void go_back(pair *p)
{
    sl_error err = {0};
    uint32_t position = sl_session_position(p->whole.session), far = draw(p, 4) == 0 ? position : position < 90 ? position : 90;
    uint32_t to = position - draw(p, far + 1), reach = sl_session_reach(p->ring.session, to);
    assert_int_equal(sl_session_reach(p->whole.session, to), to);
    if (reach != to) {
        assert_int_equal(reach, 0);
        assert_int_equal(sl_session_truncate(p->ring.session, to, &err), SL_INVALID);
        assert_non_null(strstr(err.message, "layers with a window of 100 positions have forgotten what is before it"));
        assert_int_equal(sl_session_position(p->ring.session), position);
        p->begun_anew++;
    }
    check(sl_session_truncate(p->whole.session, reach, &err), &err);
    check(sl_session_truncate(p->ring.session, reach, &err), &err);
}

/* A chain that branches once, in two calls; a part of one path is kept. */
static void branch(pair *p)
{
    sl_token_id tokens[BATCH];
    int32_t parents[BATCH];
    uint32_t path[BATCH], rows = draw(p, 2) == 0 ? BATCH : 2 + draw(p, BATCH - 2), kept = 1 + draw(p, rows / 2);
    const float *expected, *got;
    sl_error err = {0};
    if (sl_session_position(p->whole.session) + 2 * rows > CONTEXT)
        return;
    for (uint32_t i = 0; i < rows; i++) {
        parents[i] = i == rows / 2 ? 0 : (int32_t)i - 1;
        tokens[i] = (sl_token_id)draw(p, 384);
        path[i] = i == 0 ? 0 : i + rows / 2 - 1;
    }
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS;
    check(sl_session_eval_tree(p->whole.session, tokens, parents, rows, flags, &expected, &err), &err);
    check(sl_session_eval_tree(p->ring.session, tokens, parents, rows, flags, &got, &err), &err);
    same(expected, got, rows);
    for (uint32_t i = 0; i < rows; i++)
        parents[i] = i == 0 ? 0 : (int32_t)(rows + i) - 1; /* they look back as far as the first ones, from behind them */
    check(sl_session_eval_tree(p->whole.session, tokens, parents, rows, flags | SL_EVAL_GROW, &expected, &err), &err);
    check(sl_session_eval_tree(p->ring.session, tokens, parents, rows, flags | SL_EVAL_GROW, &got, &err), &err);
    same(expected, got, rows);
    check(sl_session_keep_path(p->whole.session, path, kept, &err), &err);
    check(sl_session_keep_path(p->ring.session, path, kept, &err), &err);
}

static void any_text_has_the_bits_that_it_has_with_all_pages(void **state)
{
    (void)state;
    sl_engine_options whole = options_of(CONTEXT), ring = options_of(BATCH);
    pair p = {.whole = open_stage(&whole), .ring = open_stage(&ring), .seed = 3};
    assert_int_equal(p.whole.session->kv.ring_pages, 0);
    assert_in_range(p.ring.session->kv.ring_pages, 1, CONTEXT / SL_KV_PAGE - 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t what = draw(&p, 8);
        if (what < 4)
            append(&p);
        else if (what < 6)
            go_back(&p);
        else
            branch(&p);
        if (sl_session_position(p.whole.session) > CONTEXT - 40) {
            assert_int_equal(sl_session_truncate(p.whole.session, 0, NULL), SL_OK);
            assert_int_equal(sl_session_truncate(p.ring.session, 0, NULL), SL_OK);
        }
    }
    assert_true(p.begun_anew > 0);
    close_stage(&p.whole);
    close_stage(&p.ring);
}

static void interrupt(void *engine, size_t done, size_t total)
{
    if (done < total && done >= 7 * BATCH)
        sl_engine_interrupt(engine);
}

static void a_prompt_that_is_interrupted_leaves_the_session_where_it_can_go_on(void **state)
{
    (void)state;
    sl_engine_options options = options_of(BATCH);
    stage s = open_stage(&options), fresh = open_stage(&options);
    sl_token_id tokens[700];
    const float *expected, *got;
    sl_error err = {0};
    sl_result result;
    for (uint32_t i = 0; i < 700; i++)
        tokens[i] = (sl_token_id)(i * 31 % 384);
    sl_request request = {.prompt = tokens + 150,
                          .prompt_count = 500,
                          .max_tokens = 1,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .on_prompt = interrupt,
                          .ctx = s.engine};
    check(sl_session_eval(s.session, tokens, 150, 0, NULL, &err), &err);
    sl_engine_interrupt(s.engine);
    assert_int_equal(sl_session_eval(s.session, tokens + 150, 500, 0, NULL, &err), SL_INTERRUPTED);
    assert_int_equal(sl_session_position(s.session), 150); /* not even its first batch was through */
    assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INTERRUPTED);
    sl_result_free(&result);
    assert_int_equal(sl_session_position(s.session), 0); /* what position 150 sees is written over */
    check(sl_session_eval(s.session, tokens, 650, SL_EVAL_LOGITS, &got, &err), &err);
    check(sl_session_eval(fresh.session, tokens, 650, SL_EVAL_LOGITS, &expected, &err), &err);
    same(expected, got, 1);
    close_stage(&s);
    close_stage(&fresh);
}

static void what_a_window_needs_is_what_is_paid_for(void **state)
{
    (void)state;
    sl_engine_options whole = options_of(CONTEXT), ring = options_of(BATCH);
    sl_engine_info a, b;
    stage one = open_stage(&whole), two = open_stage(&ring);
    sl_engine_describe(one.engine, &a);
    sl_engine_describe(two.engine, &b);
    /* two of four layers: (100 + 128 rows of a tree) / 64 + 2 of 15 pages */
    assert_int_equal(a.kv_bytes - b.kv_bytes > 0, 1);
    assert_int_equal(one.session->kv.arena_bytes - two.session->kv.arena_bytes,
                     2 * 2 * (15 - ((WINDOW + SL_TREE_ROWS) / SL_KV_PAGE + 2)) * 2 * sl_kv_page_bytes(SL_TYPE_F16, 32));
    close_stage(&one);
    close_stage(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text_has_the_bits_that_it_has_with_all_pages),
        cmocka_unit_test(a_prompt_that_is_interrupted_leaves_the_session_where_it_can_go_on),
        cmocka_unit_test(what_a_window_needs_is_what_is_paid_for),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}

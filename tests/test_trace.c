/* tests/test_trace.c: core/trace.h, and what an engine traces. */
#include "core/trace.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

static sl_trace *create(uint64_t bytes, unsigned threads)
{
    sl_trace *t;
    sl_error err = {0};
    if (sl_trace_create(bytes, threads, &t, &err) != SL_OK)
        fail_msg("%s", err.message);
    return t;
}

static void without_a_recorder_nothing_happens(void **state)
{
    (void)state;
    assert_int_equal(sl_trace_begin(NULL, SL_TRACE_LAYER, 0, 1), 0);
    sl_trace_end(NULL, 0);
    assert_int_equal(sl_trace_read(NULL, &(sl_trace_entry){.bytes = 1}), 0);
    sl_trace_read_done(NULL, 1, 0);
    sl_trace_token(NULL, 1, 2);
    assert_false(sl_trace_wants_levels(NULL));
}

static void memory_is_what_was_priced(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads < 6; threads++)
        for (uint64_t bytes = 1; bytes < 40 * MIB; bytes = bytes * 3 + 7) {
            sl_trace *t = create(bytes, threads);
            uint64_t entries = 0;
            for (unsigned i = 0; i < threads; i++)
                entries += t->lanes[i].capacity;
            assert_int_equal(t->bytes, sl_trace_price(bytes, threads));
            assert_true(entries * sizeof(sl_trace_entry) < t->bytes);
            sl_trace_destroy(t);
        }
}

static void spans_nest_and_are_written_as_they_end(void **state)
{
    (void)state;
    sl_trace *t = create(MIB, 1);
    unsigned outer = sl_trace_begin(t, SL_TRACE_DENSE_PASS, SL_TRACE_NONE, 3), inner = sl_trace_begin(t, SL_TRACE_LAYER, 7, 3);
    unsigned depth = sl_trace_depth(t);
    sl_trace_next(t, depth, SL_TRACE_NORM, 7, 3);
    sl_trace_next(t, depth, SL_TRACE_FFN, 7, 3);
    sl_trace_end(t, inner); /* the feed-forward too */
    sl_trace_end(t, outer);
    const sl_trace_lane *lane = &t->lanes[0];
    static const sl_trace_name expected[] = {SL_TRACE_NORM, SL_TRACE_FFN, SL_TRACE_LAYER, SL_TRACE_DENSE_PASS};
    assert_int_equal(lane->written, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(lane->entries[i].name, expected[i]);
    assert_true(lane->entries[0].end_ticks <= lane->entries[1].begin_ticks);
    for (int i = 0; i < 3; i++) {
        assert_true(lane->entries[i].begin_ticks >= lane->entries[3].begin_ticks);
        assert_true(lane->entries[i].end_ticks <= lane->entries[3].end_ticks);
    }
    sl_trace_destroy(t);
}

static void what_a_failure_left_open_is_closed_by_its_caller(void **state)
{
    (void)state;
    sl_trace *t = create(MIB, 1);
    unsigned outer = sl_trace_begin(t, SL_TRACE_DENSE_PASS, SL_TRACE_NONE, 1);
    for (int i = 0; i < 5; i++)
        (void)sl_trace_begin(t, SL_TRACE_LAYER, 1, 1);
    sl_trace_end(t, outer);
    assert_int_equal(t->owner->depth, 0);
    assert_int_equal(t->lanes[0].written, 6);
    sl_trace_destroy(t);
}

static void a_full_lane_keeps_the_last_and_counts_the_others(void **state)
{
    (void)state;
    sl_trace *t = create(1, 2);
    uint64_t capacity = t->lanes[0].capacity, read = sl_trace_read(t, &(sl_trace_entry){.name = SL_TRACE_UNITS, .bytes = 5});
    assert_int_equal(read, 1);
    for (uint64_t i = 0; i < capacity + 9; i++)
        sl_trace_token(t, (uint32_t)i, i);
    assert_int_equal(sl_trace_dropped(t), 10);
    sl_trace_read_done(t, read, 0); /* its place is another's */
    for (uint64_t i = 0; i < capacity; i++)
        assert_int_equal(t->lanes[0].entries[i].kind, SL_TRACE_TOKEN);
    sl_trace_destroy(t);
}

static void a_read_is_completed_in_its_place(void **state)
{
    (void)state;
    sl_trace *t = create(MIB, 1);
    uint64_t first = sl_trace_read(t, &(sl_trace_entry){.bytes = 5}), second = sl_trace_read(t, &(sl_trace_entry){.bytes = 6});
    sl_trace_read_done(t, second, 1);
    assert_int_equal(t->lanes[0].entries[0].end_ticks, 0);
    assert_true(t->lanes[0].entries[1].end_ticks >= t->lanes[0].entries[1].begin_ticks);
    sl_trace_read_done(t, first, 0);
    assert_int_equal(t->lanes[0].entries[0].bytes, 5);
    assert_true(t->lanes[0].entries[0].end_ticks != 0);
    sl_trace_destroy(t);
}

static void ticks_are_nanoseconds_when_they_are_read(void **state)
{
    (void)state;
    sl_ticks clock = sl_ticks_start();
    uint64_t ns[3], ticks[3];
    for (int i = 0; i < 3; i++) {
        ns[i] = sl_now_ns();
        ticks[i] = sl_ticks_now(&clock);
        usleep(2000);
    }
    uint64_t end_ns = sl_now_ns();
    sl_ticks_scale scale = sl_ticks_scale_now(&clock);
    for (int i = 0; i < 3; i++) {
        uint64_t next_ns = i < 2 ? ns[i + 1] : end_ns;
        assert_in_range(sl_ticks_ns(&scale, ticks[i]) + 1000, ns[i], next_ns); /* whatever the load: between the readings around it */
        assert_true(i == 0 || sl_ticks_ns(&scale, ticks[i]) > sl_ticks_ns(&scale, ticks[i - 1]));
    }
}

/* ---- an engine ---- */

typedef struct seen {
    uint64_t spans[2], reads, read_bytes, tokens, layers, unfinished;
    bool named;
} seen;

static bool see(void *ctx, const sl_trace_event *e)
{
    seen *s = ctx;
    s->spans[e->thread] += e->type == SL_EVENT_SPAN;
    s->layers += e->type == SL_EVENT_SPAN && strcmp(e->name, "layer") == 0;
    s->tokens += e->type == SL_EVENT_TOKEN;
    if (e->type != SL_EVENT_READ)
        return true;
    s->reads++;
    s->read_bytes += e->bytes;
    s->unfinished += e->end_ns == 0;
    s->named |= strstr(e->what, "blk.1.ffn_") != NULL;
    return true;
}

static void an_engine_shows_every_read_and_token(void **state)
{
    (void)state;
    tiny_model model = TINY_MODEL;
    char *path = tiny_path("trace.gguf");
    sl_error err = {0};
    sl_engine *engine;
    sl_session *session = NULL;
    sl_result result;
    sl_engine_stats stats;
    seen s = {0};
    assert_int_equal(tiny_write(&model, path, &err), SL_OK);
    sl_engine_options options = {.model_path = path, .ram_budget_bytes = 1024 * MIB, .context = 64, .threads = 2, .trace_bytes = MIB};
    if (sl_engine_open(&options, &engine, &err) != SL_OK || sl_session_open(engine, &session, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_token_id prompt[] = {1, 2, 3};
    sl_request request = {.prompt = prompt, .prompt_count = 3, .max_tokens = 4, .ignore_eos = true, .repeat_penalty = 1};
    assert_int_equal(sl_generate(session, &request, &result, &err), SL_OK);
    assert_int_equal(sl_engine_trace(engine, see, &s), 0);
    sl_engine_measure(engine, &stats);
    assert_int_equal(s.read_bytes, stats.bytes_read);
    assert_int_equal(s.reads, stats.requests);
    assert_int_equal(s.unfinished, 0);
    assert_int_equal(s.tokens, 4);
    assert_int_equal(s.layers, 2 * 4); /* a prompt and three tokens */
    assert_true(s.spans[0] > 0 && s.spans[1] > 0);
    assert_true(s.named);
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
    unlink(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_recorder_nothing_happens),
        cmocka_unit_test(memory_is_what_was_priced),
        cmocka_unit_test(spans_nest_and_are_written_as_they_end),
        cmocka_unit_test(what_a_failure_left_open_is_closed_by_its_caller),
        cmocka_unit_test(a_full_lane_keeps_the_last_and_counts_the_others),
        cmocka_unit_test(a_read_is_completed_in_its_place),
        cmocka_unit_test(ticks_are_nanoseconds_when_they_are_read),
        cmocka_unit_test(an_engine_shows_every_read_and_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

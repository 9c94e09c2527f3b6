/* tests/test_replay.c: pager/record.h and pager/replay.h: policies on accesses made by hand, and a tiny run that is replayed to the byte. */
#include "pager/replay.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <xxhash.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

/* ---- records made by hand: units of 4 KiB, a layer of neurons of 4 KiB ---- */

#define UNIT 4096u

typedef struct made {
    uint8_t bytes[65536];
    size_t length, head_end;
    uint64_t events;
    sl_record_head head;
} made;

static void put(made *m, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        m->bytes[m->length++] = (uint8_t)(number >> 8 * i);
}

static void put_number(made *m, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        put(m, (number & 0x7f) | 0x80, 1);
    put(m, number, 1);
}

static void begin(made *m, uint32_t units, uint32_t neurons)
{
    *m = (made){.head = {.version = 1,
                         .unit_count = units,
                         .layer_count = neurons > 0,
                         .passes = 1,
                         .alignment = UNIT,
                         .ring_bytes = 4 * UNIT,
                         .plan_max = 64,
                         .depth = 4,
                         .bundle_alignment = UNIT,
                         .wanted_max = neurons,
                         .stage_bytes = (uint64_t)neurons * UNIT,
                         .request_bytes = 256 << 10,
                         .policy = SL_BUNDLES_FREQUENT,
                         .bundle_depth = 4,
                         .weight_bytes = (uint64_t)units * UNIT}};
    m->length = 8 + sizeof m->head;
    for (uint32_t i = 0; i < units; i++) /* apart, so that no two share a request */
        put(m, (uint64_t)i * 3 * UNIT, 8), put(m, UNIT, 4), put(m, 0, 4);
    if (neurons > 0)
        put(m, (uint64_t)units * 3 * UNIT, 8), put(m, UNIT, 4), put(m, UNIT, 4), put(m, neurons, 4), put(m, 0, 4);
    m->head_end = m->length;
}

static void event(made *m, sl_record_op op)
{
    put(m, (uint64_t)op, 1);
    m->events++;
}

static void use(made *m, uint32_t unit)
{
    event(m, SL_RECORD_USE);
    put_number(m, unit);
    put_number(m, 1000);
}

static void fetch(made *m, const uint32_t *places, uint32_t count)
{
    event(m, SL_RECORD_FETCH);
    put_number(m, 0);
    put_number(m, 1000);
    put_number(m, count);
    for (uint32_t i = 0; i < count; i++)
        put_number(m, i == 0 ? places[0] : places[i] - places[i - 1] - 1);
    event(m, SL_RECORD_DONE);
    put_number(m, 0);
}

static sl_status parse(made *m, sl_record_file *out, sl_error *err)
{
    m->head.event_bytes = m->length - m->head_end;
    m->head.event_count = m->events;
    memcpy(m->bytes, "SLRECORD", 8);
    memcpy(m->bytes + 8, &m->head, sizeof m->head);
    put(m, XXH64(m->bytes, m->length, 0), 8);
    uint8_t *copy = malloc(m->length);
    assert_non_null(copy);
    memcpy(copy, m->bytes, m->length);
    return sl_record_parse("made", copy, m->length, out, err);
}

static sl_replay *ready(made *m, sl_record_file *file)
{
    sl_replay *replay = NULL;
    sl_error err = {0};
    if (parse(m, file, &err) != SL_OK || sl_replay_open(file, &replay, &err) != SL_OK)
        fail_msg("%s", err.message);
    return replay;
}

static sl_replay_result model(const sl_replay *replay, sl_replay_policy policy, uint64_t cache_bytes, double link)
{
    sl_replay_result result;
    sl_error err = {0};
    sl_replay_config config = {policy, cache_bytes, link};
    if (sl_replay_model(replay, &config, &result, &err) != SL_OK)
        fail_msg("%s", err.message);
    return result;
}

static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

/* ---- policies ---- */

static void in_a_cycle_the_last_used_are_never_used_again_in_time_and_a_fixed_part_is_best(void **state)
{
    (void)state;
    made m;
    sl_record_file file;
    begin(&m, 8, 0);
    for (int i = 0; i < 10 * 8; i++)
        use(&m, (uint32_t)i % 8);
    sl_replay *replay = ready(&m, &file);
    assert_int_equal(model(replay, SL_REPLAY_LRU, 4 * UNIT, 1e9).hit_bytes, 0);
    assert_int_equal(model(replay, SL_REPLAY_STATIC, 4 * UNIT, 1e9).hit_bytes, 9 * 4 * UNIT);
    assert_int_equal(model(replay, SL_REPLAY_BELADY, 4 * UNIT, 1e9).hit_bytes, 9 * 4 * UNIT);
    assert_int_equal(model(replay, SL_REPLAY_LRU, 8 * UNIT, 1e9).bytes_read, 8 * UNIT);
    assert_int_equal(model(replay, SL_REPLAY_STATIC, 0, 1e9).bytes_read, 80 * UNIT);
    sl_replay_close(replay);
    sl_record_close(&file);
}

static void what_was_used_last_or_most_is_there(void **state)
{
    (void)state;
    static const uint32_t order[] = {0, 0, 0, 1, 0};
    made m;
    sl_record_file file;
    begin(&m, 2, 0);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        use(&m, order[i]);
    sl_replay *replay = ready(&m, &file);
    assert_int_equal(model(replay, SL_REPLAY_LRU, UNIT, 1e9).hit_bytes, 2 * UNIT);
    assert_int_equal(model(replay, SL_REPLAY_FREQUENT, UNIT, 1e9).hit_bytes, 3 * UNIT); /* 0 was not given up for 1 */
    assert_int_equal(model(replay, SL_REPLAY_BELADY, UNIT, 1e9).hit_bytes, 3 * UNIT);
    sl_replay_close(replay);
    sl_record_close(&file);
}

static void who_knows_the_future_never_misses_more(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        made m;
        sl_record_file file;
        uint64_t random = seed * 7919;
        begin(&m, 12, 40);
        for (int token = 0; token < 30; token++) {
            uint32_t places[40], n = 0;
            for (int i = 0; i < 12; i++)
                use(&m, rnd(&random, 3) == 0 ? rnd(&random, 12) : rnd(&random, 4));
            for (uint32_t p = 0; p < 40; p++)
                if (rnd(&random, 40) < 30 - p / 2)
                    places[n++] = p;
            fetch(&m, places, n);
        }
        sl_replay *replay = ready(&m, &file);
        for (uint64_t cache = 0; cache < 60 * UNIT; cache += 7 * UNIT / 2) {
            uint64_t best = model(replay, SL_REPLAY_BELADY, cache, 1e9).hit_bytes;
            for (int policy = SL_REPLAY_STATIC; policy < SL_REPLAY_BELADY; policy++)
                assert_true(model(replay, (sl_replay_policy)policy, cache, 1e9).hit_bytes <= best);
        }
        sl_replay_close(replay);
        sl_record_close(&file);
    }
}

static void a_slower_link_takes_longer_and_reads_the_same(void **state)
{
    (void)state;
    made m;
    sl_record_file file;
    begin(&m, 8, 0);
    event(&m, SL_RECORD_PASS);
    put_number(&m, 1);
    for (int i = 0; i < 80; i++)
        use(&m, (uint32_t)i % 8);
    sl_replay *replay = ready(&m, &file);
    sl_replay_result fast = model(replay, SL_REPLAY_STATIC, 0, 1e15), slow = model(replay, SL_REPLAY_STATIC, 0, 80.0 * UNIT);
    assert_int_equal(fast.bytes_read, slow.bytes_read);
    assert_true(fast.seconds > 79e-6 && fast.seconds < 81e-6); /* 80 times a microsecond of computing */
    assert_true(slow.seconds > 0.99 && slow.seconds < 1.01);
    sl_replay_close(replay);
    sl_record_close(&file);
}

static void what_is_no_record_is_refused_in_words(void **state)
{
    (void)state;
    made m;
    sl_record_file file;
    sl_error err = {0};
    begin(&m, 2, 0);
    use(&m, 2); /* there is no such unit */
    assert_int_equal(parse(&m, &file, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "event at byte 0"));
    begin(&m, 2, 0);
    m.head.version = 2;
    assert_int_equal(parse(&m, &file, &err), SL_UNSUPPORTED);
    begin(&m, 2, 4);
    static const uint32_t beyond[] = {1, 4};
    fetch(&m, beyond, 2);
    assert_int_equal(parse(&m, &file, &err), SL_FORMAT);
    begin(&m, 2, 0);
    use(&m, 1); /* resident, it says; but nothing brought it there */
    assert_int_equal(parse(&m, &file, &err), SL_OK);
    sl_replayed again;
    assert_int_equal(sl_replay_run("made", &file, &again, &err), SL_FORMAT);
    sl_record_close(&file);
}

/* ---- a run ---- */

static void record_run(const char *model_path, const char *path, uint64_t record_bytes, bool *complete, sl_engine_stats *stats)
{
    sl_error err = {0};
    sl_engine *engine;
    sl_session *session = NULL;
    sl_result result;
    sl_engine_options options = {
        .model_path = model_path, .ram_budget_bytes = 1024 * MIB, .context = 128, .threads = 1, .record_bytes = record_bytes};
    if (sl_engine_open(&options, &engine, &err) != SL_OK || sl_session_open(engine, &session, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_token_id prompt[] = {1, 2, 3};
    sl_request request = {.prompt = prompt, .prompt_count = 3, .max_tokens = 6, .ignore_eos = true, .repeat_penalty = 1};
    assert_int_equal(sl_generate(session, &request, &result, &err), SL_OK);
    sl_engine_measure(engine, stats);
    if (sl_engine_write_record(engine, path, complete, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
}

static void a_run_replayed_reads_what_it_read(void **state)
{
    (void)state;
    tiny_model tiny = TINY_MODEL;
    char *model_path = tiny_path("replay.gguf"), *path = tiny_path("replay.rec");
    sl_error err = {0};
    sl_record_file file;
    sl_replayed again;
    sl_engine_stats stats;
    bool complete;
    assert_int_equal(tiny_write(&tiny, model_path, &err), SL_OK);
    record_run(model_path, path, MIB, &complete, &stats);
    assert_true(complete);
    if (sl_record_open(path, &file, &err) != SL_OK || sl_replay_run(path, &file, &again, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(again.bytes_read, stats.bytes_read);
    assert_int_equal(again.requests, stats.requests);
    file.head.bytes_read++; /* another sum is told */
    assert_int_equal(sl_replay_run(path, &file, &again, &err), SL_FORMAT);
    sl_record_close(&file);
    unlink(path);
    unlink(model_path);
    free(path);
    free(model_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_a_cycle_the_last_used_are_never_used_again_in_time_and_a_fixed_part_is_best),
        cmocka_unit_test(what_was_used_last_or_most_is_there),
        cmocka_unit_test(who_knows_the_future_never_misses_more),
        cmocka_unit_test(a_slower_link_takes_longer_and_reads_the_same),
        cmocka_unit_test(what_is_no_record_is_refused_in_words),
        cmocka_unit_test(a_run_replayed_reads_what_it_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

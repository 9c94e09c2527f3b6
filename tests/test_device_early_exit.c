/* tests/test_device_early_exit.c: that tokens leave the layers early on a device as they do on the processor, bit for bit, wherever weights lie; that nothing of what they
 * leave out crosses; and that a call that fails harms nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/exit_files.h"
#include "tests/watched_device.h"

enum { WALK = 20 }; /* tokens, and few: emulating a device takes its time */
/* Ten times as much under a sanitizer. */
#if defined(__SANITIZE_ADDRESS__)
enum { DRAFTINGS = 1, FIRST_STEP = 100, ENDS_APART = 12 };
#else
enum { DRAFTINGS = 2, FIRST_STEP = 1, ENDS_APART = 7 };
#endif

static char *stock_path;

static int write_model(void **unused)
{
    (void)unused;
    stock_path = exit_write_model(256);
    return 0;
}

static int forget_model(void **unused)
{
    (void)unused;
    forget(stock_path);
    return 0;
}

static sl_engine_options processor_options(const char *path)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = CONTEXT,
                               .threads = 1,
                               .batch = 16,
                               .early_exit = SL_EARLY_EXIT_GAP,
                               .draft_max = 8};
}

/* ---- where weights may lie ---- */

typedef enum where { ON_THE_DEVICE, SOME_ON_THE_DEVICE, IN_HOST_MEMORY, BESIDE, ON_THE_DISK, CACHES_IN_HOST_MEMORY, PLACES } where;
static const char *const where_names[PLACES] = {"on the device",        "some on the device", "in host memory",
                                                "half the processor's", "on the disk",        "caches in host memory"};

static uint64_t named_vram(sl_engine_options options)
{
    sl_engine *engine;
    sl_error err = {0};
    options.vram_budget_bytes = 1;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    return err.vram_budget_min_bytes;
}

static sl_engine_options device_options(const char *path, where at)
{
    sl_engine_options o = processor_options(path);
    o.device = !device_is_emulated() ? device_wanted() : at % 2 == 0 ? "emulated:memory=48M,lazy=1" : "emulated:memory=48M,lazy=1,seed=3";
    o.vram_budget_bytes = 32 * MIB;
    o.gpu_layers_given = at == IN_HOST_MEMORY || at == BESIDE; /* 0: none stays */
    o.cpu_share_given = at != ON_THE_DEVICE;
    o.cpu_share = at == BESIDE ? 0.5 : 0;
    if (at == SOME_ON_THE_DEVICE || at == ON_THE_DISK)
        o.vram_budget_bytes = named_vram(o) + (at == ON_THE_DISK ? 0 : MIB);
    if (at == ON_THE_DISK)
        o.ram_budget_bytes = minimum_budget(o) + MIB; /* asked late: the process grows */
    o.kv_host = at == CACHES_IN_HOST_MEMORY ? SL_KV_HOST_ALL : SL_KV_HOST_AUTO;
    return o;
}

/* ---- tokens ---- */

static void check_alike(const sl_engine_options *processor, const sl_engine_options *device, const char *what)
{
    sl_early_exit_stats want, got;
    bool want_left[LENGTH], got_left[LENGTH];
    float *a = walk_through(processor, WALK, SL_EVAL_EARLY, want_left, &want),
          *b = walk_through(device, WALK, SL_EVAL_EARLY, got_left, &got);
    for (uint32_t i = 0; i < WALK - PROMPT; i++)
        if (want_left[i] != got_left[i] || memcmp(a + i * VOCAB, b + i * VOCAB, VOCAB * sizeof *a) != 0)
            fail_msg("%s: token %u leaves elsewhere, or has other logits, than on the processor", what, i);
    assert_int_equal(want.tokens, got.tokens);
    assert_int_equal(want.exits, got.exits);
    assert_int_equal(want.layers, got.layers);
    assert_int_equal(want.probes, got.probes);
    assert_true(got.probe_s >= 0);
    free(a);
    free(b);
}

static void tokens_leave_where_they_leave_on_the_processor_with_its_logits(void **state)
{
    (void)state;
    const struct {
        float threshold;
        uint32_t listed;
        where first, last;
    } cases[] = {{SOMETIMES, LISTED, 0, PLACES - 1},
                 {SOMETIMES, 0, SOME_ON_THE_DEVICE, IN_HOST_MEMORY},
                 {ALWAYS, LISTED, BESIDE, BESIDE},
                 {SLI_EXIT_NEVER, LISTED, SOME_ON_THE_DEVICE, SOME_ON_THE_DEVICE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = pack_threshold(stock_path, cases[i].threshold, cases[i].listed);
        sl_engine_options processor = processor_options(path);
        for (where at = cases[i].first; at <= cases[i].last; at++) {
            sl_engine_options device = device_options(path, at);
            check_alike(&processor, &device, where_names[at]);
        }
        forget(path);
    }
}

static void each_classifier_decides_as_on_the_processor(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, 0.4f, LISTED);
    for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_CRF; kind++) {
        sl_engine_options processor = processor_options(path), device = device_options(path, SOME_ON_THE_DEVICE);
        processor.early_exit = device.early_exit = kind;
        check_alike(&processor, &device, kind == SL_EARLY_EXIT_SVM ? "svm" : "crf");
    }
    forget(path);
}

static void going_back_and_on_densely_finds_nothing_missing(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, SOMETIMES, LISTED);
    sl_engine_options processor = processor_options(stock_path), device = device_options(path, SOME_ON_THE_DEVICE);
    processor.early_exit = SL_EARLY_EXIT_OFF;
    bool left[LENGTH];
    float *dense = walk_through(&processor, WALK, 0, left, NULL);
    stage s = open_stage(&device);
    go_back_and_on_densely(s.session, dense, WALK, ENDS_APART);
    sl_engine_stats stats;
    sl_engine_measure(s.engine, &stats);
    assert_true(stats.early_exit.catch_ups > 1 && stats.early_exit.link_bytes_made_up > 0);
    close_stage(&s);
    forget(path);
    free(dense);
}

static void as_a_drafter_it_changes_no_token(void **state)
{
    (void)state;
    const float thresholds[] = {SOMETIMES, ALWAYS};
    const where places[] = {IN_HOST_MEMORY, BESIDE};
    sl_engine_options plain = processor_options(stock_path);
    uint64_t accepted = 0, drafted = 0;
    plain.early_exit = SL_EARLY_EXIT_OFF;
    for (int t = 0; t < DRAFTINGS; t++) {
        float temperature = t == 0 ? 0 : 0.9f;
        char *path = pack_threshold(stock_path, thresholds[t], t == 0 ? LISTED : 0);
        sl_engine_options processor = processor_options(path), device = device_options(path, places[t]);
        sl_result dense = generate(&plain, 0, SL_DRAFTER_AUTO, temperature, false);
        int32_t n = t == 0 ? 3 : SL_EXIT_DRAFT_MAX;
        sl_result want = generate(&processor, n, SL_DRAFTER_MODEL, temperature, false);
        sl_result got = generate(&device, n, SL_DRAFTER_MODEL, temperature, false);
        if (!same(&dense, &got))
            fail_msg("drafts of %d at threshold %d: another text", n, t);
        assert_int_equal(want.drafts.drafted, got.drafts.drafted);
        assert_int_equal(want.drafts.accepted, got.drafts.accepted);
        accepted += got.drafts.accepted;
        drafted += got.drafts.drafted;
        sl_result_free(&want);
        sl_result_free(&got);
        sl_result_free(&dense);
        forget(path);
    }
    assert_true(DRAFTINGS < 2 || (accepted > 2 && drafted > accepted)); /* of both kinds */
}

/* ---- what crosses ---- */

/* Of these units, those that no place on the device holds, as they go through the ring. */
static uint64_t crossing(const sl_engine *e, sl_unit_id from, sl_unit_id to)
{
    uint64_t bytes = 0;
    for (sl_unit_id u = from; u < to; u++)
        bytes += e->units.in_vram[u] ? 0 : sl_vram_round(e->units.units[u].bytes);
    return bytes;
}

/* Each token leaves behind the first probe, and seven of them are all that wait: not even a place ahead is anything pushed of what lies above. */
static void what_tokens_leave_out_does_not_cross_and_is_not_read(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, ALWAYS, LISTED);
    const where places[] = {SOME_ON_THE_DEVICE, IN_HOST_MEMORY, ON_THE_DISK};
    for (int i = 0; i < 3; i++) {
        sl_engine_options options = device_options(path, places[i]);
        stage s = open_stage(&options);
        sl_engine_stats before, after;
        sl_error err = {0};
        sl_token_id tokens[LENGTH];
        for (uint32_t t = 0; t < LENGTH; t++)
            tokens[t] = token_at(t);
        check(sl_session_eval(s.session, tokens, PROMPT, SL_EVAL_LOGITS, NULL, &err), &err); /* fills what stays */
        const sl_engine *e = s.engine;
        sl_unit_id probed = e->early->layer_begin[exit_probes[0] + 1];
        uint64_t wanted = crossing(e, 0, probed) + crossing(e, e->units.body_count, e->units.count);
        uint64_t left_out = crossing(e, probed, e->units.body_count), on_disk = 0;
        for (sl_unit_id u = probed; u < e->units.body_count; u++)
            on_disk += e->units.in_vram[u] || e->units.units[u].home ? 0 : e->units.units[u].bytes;
        assert_true(left_out > 0);
        sl_engine_measure(e, &before);
        uint64_t pushed = sl_vram_statistics(e->device->vram).pushed_bytes;
        for (uint32_t t = 0; t < SLI_EXIT_WAITING; t++)
            check(sl_session_eval(s.session, tokens + t, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | SL_EVAL_EARLY, NULL, &err), &err);
        sl_engine_measure(e, &after);
        assert_int_equal(sl_vram_statistics(e->device->vram).pushed_bytes - pushed, SLI_EXIT_WAITING * wanted);
        assert_int_equal(after.early_exit.bytes_left_out, SLI_EXIT_WAITING * on_disk);
        assert_true(after.early_exit.link_bytes_left_out > 0 && after.early_exit.link_bytes_left_out <= SLI_EXIT_WAITING * left_out);
        if (places[i] == ON_THE_DISK) {
            assert_true(on_disk > 0);
            /* One more token than there are passes may be read ahead, up to its first probe; files are read in whole blocks. */
            uint64_t dense = 0, most = 0;
            for (sl_unit_id u = 0; u < e->units.count; u++) {
                bool read = !e->units.in_vram[u] && !e->units.units[u].home;
                dense += read ? e->units.units[u].bytes : 0;
                most += read && (u < probed || u >= e->units.body_count) ? e->units.units[u].bytes + 2 * SLI_IO_ALIGNMENT : 0;
            }
            assert_true(after.bytes_read - before.bytes_read <= (SLI_EXIT_WAITING + 1) * most + SLI_EXIT_WAITING * SLI_IO_ALIGNMENT * 2);
            assert_true(after.bytes_read - before.bytes_read < SLI_EXIT_WAITING * dense * 3 / 4);
        }
        close_stage(&s);
    }
    forget(path);
}

/* Of the device's memory, too, the head and the first layers get it first; where none of them fits any more, a smaller unit of a later layer may. */
static void the_device_holds_what_every_token_wants(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, ALWAYS, LISTED);
    sl_engine_options options = device_options(path, SOME_ON_THE_DEVICE);
    stage s = open_stage(&options);
    const sli_units *units = &s.engine->units;
    uint32_t least_absent = UINT32_MAX, most_held = 0, held = 0;
    for (sl_unit_id u = 0; u < units->count; u++) {
        bool late = u >= s.engine->early->layer_begin[exit_probes[0] + 1] && u < units->body_count;
        uint32_t bytes = units->units[u].bytes;
        if (late && units->in_vram[u])
            most_held = bytes > most_held ? bytes : most_held;
        if (!late && !units->in_vram[u])
            least_absent = bytes < least_absent ? bytes : least_absent;
        held += units->in_vram[u];
        assert_false(units->in_vram[u] && units->units[u].home); /* nothing lies twice */
    }
    assert_true(held > 0 && held < units->count && most_held <= least_absent);
    close_stage(&s);
    forget(path);
}

/* ---- how often the host waits ---- */

static void a_probe_costs_one_wait_and_the_logits_another(void **state)
{
    (void)state;
    for (uint32_t listed = 0; listed <= LISTED; listed += LISTED) {
        char *path = pack_threshold(stock_path, SOMETIMES, listed);
        sl_engine_options options = device_options(path, IN_HOST_MEMORY);
        stage s = open_stage(&options);
        sl_engine_stats stats;
        sl_error err = {0};
        sl_token_id token = token_at(0);
        for (uint32_t i = 0; i < PROMPT; i++)
            check(sl_session_eval(s.session, &token, 1, SL_EVAL_LOGITS, NULL, &err), &err);
        watch(s.engine->device->device);
        for (uint32_t i = 0; i < 12; i++) {
            token = token_at(i);
            check(sl_session_eval(s.session, &token, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | SL_EVAL_EARLY, NULL, &err), &err);
        }
        unwatch(s.engine->device->device);
        sl_engine_measure(s.engine, &stats);
        uint64_t heads = listed > 0 ? stats.early_exit.tokens
                                    : stats.early_exit.tokens - stats.early_exit.exits; /* else the probe saw it */
        assert_true(stats.early_exit.exits > 0 && stats.early_exit.exits < 12);
        assert_int_equal(watched.waits, stats.early_exit.probes + heads);
        close_stage(&s);
        forget(path);
    }
}

/* ---- what goes wrong ---- */

static void any_call_may_fail_and_what_is_there_goes_on(void **state)
{
    static const char *const how[] = {"fail", "lost", "broken"};
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    char *path = pack_threshold(stock_path, SOMETIMES, LISTED);
    sl_engine_options processor = processor_options(path);
    bool left[LENGTH];
    float *want = walk_through(&processor, WALK, SL_EVAL_EARLY, left, NULL);
    sl_token_id tokens[LENGTH];
    for (uint32_t i = 0; i < LENGTH; i++)
        tokens[i] = token_at(i);
    for (int kind = 0; kind < 3; kind++)
        for (unsigned n = 150 + (unsigned)kind, step = FIRST_STEP; n < 2200; n += step, step += kind == 0 ? step / 2 + 3 : 2 * step + 5) {
            char name[64];
            sl_error err = {0};
            sl_engine *engine = NULL;
            sl_session *session = NULL;
            const float *logits = NULL;
            sl_engine_options options = device_options(path, n % 2 == 0 ? IN_HOST_MEMORY : BESIDE);
            snprintf(name, sizeof name, "emulated:memory=48M,%s=%u", how[kind], n);
            options.device = name;
            sl_status status = sl_engine_open(&options, &engine, &err);
            if (status == SL_OK)
                status = sl_session_open(engine, &session, &err);
            if (status == SL_OK)
                status = sl_session_eval(session, tokens, PROMPT, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, &err);
            for (uint32_t i = PROMPT, again = 0; session != NULL && i < PROMPT + 8 && again < 3;) {
                if (status == SL_OK)
                    status = sl_session_eval(session, tokens + i, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | SL_EVAL_EARLY, &logits, &err);
                if (status == SL_OK) {
                    assert_memory_equal(logits, want + (i++ - PROMPT) * VOCAB, VOCAB * sizeof *want);
                    continue;
                }
                assert_true(err.message[0] != '\0');
                assert_true(status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY || status == SL_DEVICE_LOST);
                if (status == SL_DEVICE_LOST)
                    break;
                /* What was short once may be there again: the session is where it was. */
                if (sl_session_position(session) == 0)
                    break;
                assert_int_equal(sl_session_position(session), i);
                status = SL_OK;
                again++;
            }
            if (status == SL_DEVICE_LOST && session != NULL)
                assert_int_equal(sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS, NULL, &err), SL_DEVICE_LOST);
            assert_true(kind != 0 || status != SL_DEVICE_LOST);
            sl_session_close(session);
            sl_engine_close(engine);
        }
    free(want);
    forget(path);
}

static void a_device_without_room_for_it_says_what_works(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, SOMETIMES, LISTED);
    sl_engine_options options = device_options(path, ON_THE_DEVICE), plain = options;
    uint64_t with = 0, without = 0;
    plain.early_exit = SL_EARLY_EXIT_OFF;
    with = named_vram(options);
    without = named_vram(plain);
    assert_true(with >= without);
    options.vram_budget_bytes = with;
    stage s = open_stage(&options);
    assert_true(s.engine->price.vram.total_bytes <= with);
    close_stage(&s);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_leave_where_they_leave_on_the_processor_with_its_logits),
        cmocka_unit_test(each_classifier_decides_as_on_the_processor),
        cmocka_unit_test(going_back_and_on_densely_finds_nothing_missing),
        cmocka_unit_test(as_a_drafter_it_changes_no_token),
        cmocka_unit_test(what_tokens_leave_out_does_not_cross_and_is_not_read),
        cmocka_unit_test(the_device_holds_what_every_token_wants),
        cmocka_unit_test(a_probe_costs_one_wait_and_the_logits_another),
        cmocka_unit_test(any_call_may_fail_and_what_is_there_goes_on),
        cmocka_unit_test(a_device_without_room_for_it_says_what_works),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}

/* tests/test_device_kv.c: keys and values of a device's layers in host memory, or in a file: the same bits wherever they lie, within both budgets, and on the device's
 * clock what crosses takes its time. test_kv_spill.c has long texts of the latter, and what fails there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/os.h"
#include "offload/device_engine.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/device_shapes.h"
#include "tests/spilled_runs.h"

static const char *with_options(const char *options)
{
    static char name[256];
    bool plain = !device_is_emulated();
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), plain ? "" : ":memory=64M,", plain ? "" : options);
    return name;
}

static sl_engine_options device_options(const char *path, const char *how)
{
    sl_engine_options options = base_options(path);
    options.device = with_options(how);
    options.vram_budget_bytes = 32 * MIB;
    return options;
}

static void note_to(void *ctx, const char *line)
{
    strncat(ctx, line, strlen(ctx) < 3000 ? 400 : 0);
}

static sl_engine_info describe(const sl_engine_options *options)
{
    sl_engine_info info;
    sl_engine *engine = open_engine(options);
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    return info;
}

static const tiny_model shapes[] = {SHAPE_LLAMA(4, 2048), SHAPE_GEMMA3(4, 2048, 8), SHAPE_QWEN3(3, 2048)};

/* ---- bits ---- */

static void any_number_of_layers_in_host_memory_gives_the_same_logits(void **state)
{
    static const char *const ways[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "lazy=1,seed=3", "graphs=0"};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t count;
        char *path = write_tiny("kv.gguf", &shapes[i]);
        sl_engine_options base = base_options(path);
        float *logits = run(&base, &count);
        check_finite(logits, count);
        for (uint32_t n = 0; n <= shapes[i].layers; n++) {
            sl_engine_options device = with_layers(device_options(path, ways[(i + n) % 5]), n);
            device.batch = 1 + 20 * n;
            check_same(logits, count, &device, "keys and values in host memory");
        }
        free(logits);
        forget(path);
    }
}

static void the_cache_may_have_any_format(void **state)
{
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_F32, SL_KV_Q8_0, SL_KV_BF16, SL_KV_Q4_0};
    char *path = write_tiny("kv.gguf", &shapes[0]);
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t count;
        sl_engine_options base = base_options(path), device = with_layers(device_options(path, "lazy=1"), 3);
        base.k_type = device.k_type = types[i];
        base.v_type = device.v_type = types[(i + 1) % 5];
        float *logits = run(&base, &count);
        check_same(logits, count, &device, "a cache");
        free(logits);
    }
    forget(path);
}

/* Going back, rows that branch, the path that is kept, and going on behind it. */
static float *run_tree(const sl_engine_options *options, size_t *count)
{
    static const int32_t parents[] = {-1, 0, 0, 1, 2, 2};
    static const uint32_t kept[] = {0, 2, 5};
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    const float *logits;
    sl_error err = {0};
    size_t vocab = vocabulary(engine);
    float *all = malloc(8 * vocab * sizeof *all);
    assert_non_null(all);
    eval(session, some_tokens(), TOKENS);
    assert_int_equal(sl_session_truncate(session, 61, &err), SL_OK); /* the tree's rows are on both sides of a page's end */
    if (sl_session_eval_tree(session, some_tokens(), parents, 6, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS, &logits, &err) != SL_OK)
        fail_msg("%s", err.message);
    memcpy(all, logits, 6 * vocab * sizeof *all);
    if (sl_session_keep_path(session, kept, 3, &err) != SL_OK)
        fail_msg("%s", err.message);
    memcpy(all + 6 * vocab, eval(session, some_tokens() + 9, 1), vocab * sizeof *all);
    assert_int_equal(sl_session_truncate(session, 0, &err), SL_OK);
    memcpy(all + 7 * vocab, eval(session, some_tokens() + 3, 40), vocab * sizeof *all);
    sl_session_close(session);
    sl_engine_close(engine);
    *count = 8 * vocab;
    return all;
}

static void going_back_and_branches_give_the_same_logits(void **state)
{
    size_t count, device_count;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char *path = write_tiny("kv.gguf", &shapes[i]);
        sl_engine_options base = base_options(path);
        base.draft_max = 8;
        float *expected = run_tree(&base, &count);
        for (uint32_t n = 1; n <= shapes[i].layers; n += 3) {
            sl_engine_options device = with_layers(device_options(path, n == 1 ? "lazy=1,seed=1" : "lazy=1,seed=2"), n);
            device.draft_max = 8;
            float *found = run_tree(&device, &device_count);
            assert_int_equal(count, device_count);
            assert_memory_equal(expected, found, count * sizeof *expected);
            free(found);
        }
        free(expected);
        forget(path);
    }
}

static void drafts_and_checks_give_the_same_tokens(void **state)
{
    sl_token_id expected[24] = {0};
    char *path = write_tiny("kv.gguf", &shapes[0]);
    (void)state;
    for (int drafted = 0; drafted < 2; drafted++) {
        sl_engine_options options = drafted ? with_layers(device_options(path, "lazy=1,seed=3"), 2) : base_options(path);
        options.draft_max = drafted ? 12 : 0;
        sl_engine *engine = open_engine(&options);
        sl_session *session = open_session(engine);
        sl_request request = {
            .prompt = some_tokens(), .prompt_count = 30, .max_tokens = 24, .ignore_eos = true, .top_p = 1, .repeat_penalty = 1};
        sl_result result = {0};
        sl_error err = {0};
        request.drafting = (sl_drafting){.tokens = drafted ? 4 : 0, .drafter = SL_DRAFTER_LOOKUP};
        if (sl_generate(session, &request, &result, &err) != SL_OK)
            fail_msg("%s", err.message);
        assert_int_equal(result.count, 24);
        if (!drafted)
            memcpy(expected, result.tokens, sizeof expected);
        assert_memory_equal(expected, result.tokens, sizeof expected);
        sl_result_free(&result);
        sl_session_close(session);
        sl_engine_close(engine);
    }
    forget(path);
}

/* ---- in a file ---- */

static void what_lies_in_a_file_gives_the_same_logits_too(void **state)
{
    static const char *const ways[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "graphs=0"};
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_Q8_0, SL_KV_BF16};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t count;
        char *path = write_tiny("kv.gguf", &shapes[i]), *folder = folder_of(path);
        sl_engine_options base = base_options(path);
        base.k_type = base.v_type = types[i];
        float *logits = run(&base, &count);
        for (uint32_t n = 3; n <= shapes[i].layers; n++) {
            sl_engine_options device = device_options(path, ways[(i + n) % 4]);
            device.k_type = device.v_type = types[i];
            device = with_file(device, n, folder);
            assert_true(describe(&device).kv_file_bytes > 0);
            check_same(logits, count, &device, "keys and values in a file");
        }
        free(logits);
        free(folder);
        forget(path);
    }
}

static void branches_of_what_lies_in_a_file_give_the_same_logits(void **state)
{
    size_t count, device_count;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char *path = write_tiny("kv.gguf", &shapes[i]), *folder = folder_of(path);
        sl_engine_options base = base_options(path), device = with_file(device_options(path, "lazy=1,seed=1"), 4 - (uint32_t)i, folder);
        base.draft_max = device.draft_max = 8;
        float *expected = run_tree(&base, &count), *found = run_tree(&device, &device_count);
        assert_int_equal(count, device_count);
        assert_memory_equal(expected, found, count * sizeof *expected);
        free(found);
        free(expected);
        free(folder);
        forget(path);
    }
}

static void a_device_s_call_that_fails_once_loses_nothing_of_what_lies_in_a_file(void **state)
{
    size_t count;
    char *path = write_tiny("kv.gguf", &shapes[0]), *folder = folder_of(path);
    sl_engine_options base = base_options(path), device = with_file(device_options(path, "lazy=1"), 4, folder);
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        skip();
    device.cpu_share_given = true; /* nothing is measured: the same calls each time */
    float *logits = run(&base, &count);
    for (unsigned n = 560; n < 1300; n += 37) { /* passes are run again */
        char how[64];
        snprintf(how, sizeof how, "lazy=1,seed=%u,fail=%u", n % 4, n);
        device.device = with_options(how);
        check_same(logits, count, &device, how);
    }
    free(logits);
    free(folder);
    forget(path);
}

static void a_session_that_a_device_s_call_did_not_open_opens_the_next_time(void **state)
{
    unsigned failures = 0;
    char *path = write_tiny("kv.gguf", &shapes[0]), *folder = folder_of(path);
    sl_engine_options device = with_file(device_options(path, "lazy=1"), 4, folder);
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        skip();
    device.cpu_share_given = true;         /* nothing is measured: the same calls each time */
    for (unsigned n = 510; n < 570; n++) { /* before it the events of the ring */
        char how[64];
        sl_engine *engine;
        sl_session *session;
        sl_error err = {0};
        snprintf(how, sizeof how, "lazy=1,fail=%u", n);
        device.device = with_options(how);
        if (sl_engine_open(&device, &engine, &err) != SL_OK)
            continue;
        sl_status status = sl_session_open(engine, &session, &err);
        if (status != SL_OK) {
            assert_true(status == SL_NO_MEMORY || status == SL_NO_DEVICE_MEMORY);
            session = open_session(engine);
            failures++;
        }
        sl_session_close(session);
        sl_engine_close(engine);
    }
    assert_true(failures >= 3); /* memory for places, memory that is locked, an event */
    free(folder);
    forget(path);
}

/* ---- memory ---- */

static uint64_t layer_bytes(uint32_t context) /* of shapes[0]: two heads of 32 halves, keys and values */
{
    return (uint64_t)context * 2 * 2 * 32 * 2;
}

static void both_memories_are_priced(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]);
    (void)state;
    sl_engine_options options = device_options(path, "lazy=1");
    options.context = 2048;
    options.batch = 8;
    uint64_t layer = layer_bytes(2048);
    sl_engine_options none = with_layers(options, 0);
    sl_engine_info before = describe(&none);
    assert_int_equal(before.vram_kv_bytes, 4 * layer);
    assert_int_equal(before.kv_bytes, 0);
    for (uint32_t n = 1; n <= 4; n++) {
        sl_engine_options some = with_layers(options, n);
        sl_engine_info info = describe(&some);
        assert_int_equal(info.kv_host_layers, n);
        assert_int_equal(info.kv_bytes, sl_pages_round(n * layer));
        assert_int_equal(info.vram_kv_bytes, (4 - n) * layer);
        assert_int_equal(before.vram_bytes - info.vram_bytes, (n - 1) * layer); /* one is the window */
    }
    forget(path);
}

static void a_cache_that_the_device_does_not_hold_is_no_reason_to_refuse(void **state)
{
    size_t count;
    char *path = write_tiny("kv.gguf", &shapes[0]);
    sl_engine_options base = base_options(path), device = device_options(path, "lazy=1,seed=1"), none;
    (void)state;
    base.context = device.context = 2048;
    device.batch = 8;
    none = with_layers(device, 0);
    uint64_t all_there = least_vram(none, MIB / 4), least = least_vram(device, MIB / 4);
    assert_true(all_there - least >= 2 * layer_bytes(2048)); /* of the four layers the window stays, and quarters of MiB are counted */
    float *logits = run(&base, &count);
    for (uint64_t vram = least; vram <= all_there + MIB / 4; vram += MIB / 4) {
        device.vram_budget_bytes = vram;
        sl_engine_info info = describe(&device);
        assert_true(vram >= all_there || info.kv_host_layers > 1);
        assert_true(info.vram_bytes <= vram);
        check_same(logits, count, &device, "a VRAM budget");
    }
    free(logits);
    forget(path);
}

static void a_cache_that_host_memory_does_not_hold_may_spill(void **state)
{
    size_t count;
    char *path = write_tiny("kv.gguf", &shapes[0]), *folder = folder_of(path);
    sl_engine_options whole = device_options(path, "lazy=1"), spilled, base = base_options(path);
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    base.k_type = base.v_type = whole.k_type = whole.v_type = SL_KV_F32; /* 2 MiB */
    spilled = with_file(whole, 4, folder);
    whole = spilled;
    whole.kv_spill = NULL;
    whole.kv_memory_bytes = 0;
    sl_engine_info all = describe(&whole), least = describe(&spilled);
    assert_int_equal(all.kv_bytes, 2 * MIB);
    assert_int_equal(least.vram_kv_bytes, 0);
    assert_true(least.kv_bytes >= MIB && 4 * least.kv_bytes < 6 * MIB); /* two windows, each for a layer */
    assert_int_equal(least.kv_file_bytes, 2 * MIB);
    assert_int_equal(least.vram_bytes, all.vram_bytes);
    spilled.kv_memory_bytes = 7 * MIB / 4;
    sl_engine_info some = describe(&spilled);
    assert_true(some.kv_bytes <= spilled.kv_memory_bytes && some.kv_bytes > least.kv_bytes && some.kv_resident > 0);
    float *logits = run(&base, &count);
    check_same(logits, count, &spilled, "some of it in memory");
    free(logits);
    spilled.kv_memory_bytes = 8 * MIB;
    assert_int_equal(describe(&spilled).kv_file_bytes, 0);
    spilled.kv_memory_bytes = MIB;
    assert_int_equal(sl_engine_open(&spilled, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--kv-memory 1.00 MiB: keys and values of 1024 positions need at least 1."));
    spilled.kv_memory_bytes = 0;
    spilled.ram_budget_bytes = 1;
    assert_int_equal(sl_engine_open(&spilled, &engine, &err), SL_NO_BUDGET);
    assert_non_null(strstr(err.message, "of it is the KV cache of 4 layers"));
    spilled.ram_budget_bytes = err.ram_budget_min_bytes + GROWTH;
    sl_engine_close(open_engine(&spilled));
    free(folder);
    forget(path);
}

static void without_a_layer_in_host_memory_nothing_spills_and_that_is_said(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]), *folder = folder_of(path), notes[4000] = "";
    sl_engine_options options = with_file(device_options(path, "lazy=1"), 4, folder);
    (void)state;
    options.kv_host = SL_KV_HOST_AUTO;
    options.note = note_to;
    options.note_ctx = notes;
    assert_int_equal(describe(&options).kv_file_bytes, 0);
    assert_non_null(strstr(notes, "--kv-spill is not used: the keys and values of 1024 positions stay in memory of the device"));
    free(folder);
    forget(path);
}

/* The file is for what memory does not hold: where it holds all, a flag that allows one changes nothing. */
static void a_file_that_nobody_needs_leaves_caches_where_least_crosses(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]), *folder = folder_of(path);
    sl_engine_options options = device_options(path, "lazy=1,seed=1");
    uint32_t moved = 0;
    (void)state;
    options.context = 512;
    options.cpu_share_given = true;
    options.batch = 8;
    uint64_t least = least_vram(options, MIB / 8), all_there = least_vram(with_layers(options, 0), MIB / 8);
    for (uint64_t vram = least; vram <= all_there + MIB; vram += MIB / 8) {
        options.vram_budget_bytes = vram;
        options.kv_spill = NULL;
        uint32_t in_host = describe(&options).kv_host_layers;
        options.kv_spill = folder;
        sl_engine_info info = describe(&options);
        assert_int_equal(info.kv_file_bytes, 0);
        assert_int_equal(info.kv_host_layers, in_host);
        moved += vram >= all_there && in_host > 0;
    }
    assert_true(moved > 0); /* that need not */
    free(folder);
    forget(path);
}

static void host_memory_that_is_too_small_is_refused_with_what_would_do(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]);
    sl_engine_options options = device_options(path, "lazy=1");
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    options.context = 2048;
    options.k_type = options.v_type = SL_KV_F32;
    options.kv_host = SL_KV_HOST_ALL; /* 4 MiB */
    options.ram_budget_bytes = describe(&options).ram_budget_min_bytes - 4 * MIB;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    assert_non_null(strstr(err.message, "4.00 MiB of it is the KV cache of 4 layers"));
    assert_non_null(strstr(err.message, "--kv-host auto"));
    options.ram_budget_bytes = err.ram_budget_min_bytes + GROWTH;
    sl_engine_close(open_engine(&options));
    forget(path);
}

static void memory_that_cannot_be_locked_is_said_with_what_takes_less(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]);
    sl_engine_options options = device_options(path, "pinned=5M");
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    if (device_must_be_emulated("a limit of what is page-locked"))
        skip();
    options.context = 2048;
    options.batch = 8;
    options.ram_budget_bytes = 96 * MIB; /* and so little staging */
    options.k_type = options.v_type = SL_KV_F32;
    options.kv_host = SL_KV_HOST_ALL;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_MEMORY);
    assert_non_null(strstr(err.message, "cannot page-lock 4.00 MiB of host memory for keys and values (--kv-host none, or a smaller -c"));
    options.kv_host = SL_KV_HOST_NONE;
    sl_engine_close(open_engine(&options));
    forget(path);
}

static void a_device_that_does_not_read_host_memory_keeps_them_or_says_so(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]), notes[4000] = "";
    sl_engine_options options = device_options(path, "zero_copy=0");
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    if (device_must_be_emulated("memory that is not to be read"))
        skip();
    options.kv_host = SL_KV_HOST_ALL;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--kv-host none"));
    options.kv_host = SL_KV_HOST_AUTO;
    options.note = note_to;
    options.note_ctx = notes;
    assert_int_equal(describe(&options).kv_host_layers, 0);
    assert_non_null(strstr(notes, "does not read host memory in place"));
    forget(path);
}

static void layers_that_the_model_does_not_have_are_refused(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]);
    sl_engine_options options = with_layers(device_options(path, ""), 5);
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--kv-host 5: the model has 4 layers"));
    options = with_layers(base_options(path), 2);
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--kv-host (-nkvo) has no meaning without a device"));
    forget(path);
}

/* ---- time ---- */

/* Of a single token behind `position` others, on the device's clock. */
static double token_seconds(const sl_engine_options *options, uint32_t position)
{
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    sl_device *d = engine->device->device;
    sl_event *from, *to;
    double seconds = 0;
    for (uint32_t done = 0; done < position; done += 64)
        eval(session, some_tokens(), 64);
    device_ok(d->ops->event_create(d, &from, E));
    device_ok(d->ops->event_create(d, &to, E));
    device_ok(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
    eval(session, some_tokens(), 1);
    device_ok(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    device_ok(d->ops->event_wait(d, to, E));
    device_ok(d->ops->event_elapsed(d, from, to, &seconds, E));
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    sl_session_close(session);
    sl_engine_close(engine);
    return seconds;
}

/* At 10 MB/s nothing else counts. Pages are read whole. The new row goes the other way, which is reckoned as if it were the same: values as they are stored, of a key each
 * component by itself, which takes 32 bytes. */
static void what_attention_reads_in_host_memory_takes_the_link_s_time(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[0]);
    sl_engine_options options = device_options(path, "link=10000000,graphs=0,timing_only=1");
    (void)state;
    if (device_must_be_emulated("a link of any speed"))
        skip();
    options.context = 1024;
    options.batch = 64;
    options.timing_only = true;
    sl_engine_options none = with_layers(options, 0);
    for (uint32_t position = 64; position <= 512; position *= 2) {
        double without = token_seconds(&none, position);
        for (uint32_t n = 1; n <= 4; n += 3) {
            sl_engine_options some = with_layers(options, n);
            double crossed = n * ((double)layer_bytes(position + SL_KV_PAGE) + 2 * 32 * (32 + 2)) / 10e6;
            double more = token_seconds(&some, position) - without;
            assert_true(more > 0.98 * crossed && more < 1.02 * crossed + 1e-4);
        }
    }
    forget(path);
}

static void of_a_layer_with_a_window_no_more_crosses_than_it_sees(void **state)
{
    char *path = write_tiny("kv.gguf", &shapes[1]);
    sl_engine_options options = device_options(path, "link=10000000,graphs=0,timing_only=1");
    (void)state;
    if (device_must_be_emulated("a link of any speed"))
        skip();
    options.context = 1024;
    options.batch = 64;
    options.timing_only = true;
    sl_engine_options none = with_layers(options, 0), windowed = with_layers(options, 2), all = with_layers(options, 4);
    double without = token_seconds(&none, 512), with_window = token_seconds(&windowed, 512) - without;
    assert_true(with_window > 0 && with_window < 0.3 * (token_seconds(&all, 512) - without));
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_layers_in_host_memory_gives_the_same_logits),
        cmocka_unit_test(the_cache_may_have_any_format),
        cmocka_unit_test(going_back_and_branches_give_the_same_logits),
        cmocka_unit_test(drafts_and_checks_give_the_same_tokens),
        cmocka_unit_test(what_lies_in_a_file_gives_the_same_logits_too),
        cmocka_unit_test(branches_of_what_lies_in_a_file_give_the_same_logits),
        cmocka_unit_test(a_device_s_call_that_fails_once_loses_nothing_of_what_lies_in_a_file),
        cmocka_unit_test(a_session_that_a_device_s_call_did_not_open_opens_the_next_time),
        cmocka_unit_test(both_memories_are_priced),
        cmocka_unit_test(a_cache_that_the_device_does_not_hold_is_no_reason_to_refuse),
        cmocka_unit_test(a_cache_that_host_memory_does_not_hold_may_spill),
        cmocka_unit_test(without_a_layer_in_host_memory_nothing_spills_and_that_is_said),
        cmocka_unit_test(a_file_that_nobody_needs_leaves_caches_where_least_crosses),
        cmocka_unit_test(host_memory_that_is_too_small_is_refused_with_what_would_do),
        cmocka_unit_test(memory_that_cannot_be_locked_is_said_with_what_takes_less),
        cmocka_unit_test(a_device_that_does_not_read_host_memory_keeps_them_or_says_so),
        cmocka_unit_test(layers_that_the_model_does_not_have_are_refused),
        cmocka_unit_test(what_attention_reads_in_host_memory_takes_the_link_s_time),
        cmocka_unit_test(of_a_layer_with_a_window_no_more_crosses_than_it_sees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_device_engine.c: that a model computed on a device gives what the processor gives, bit for bit, wherever its weights lie; and that what goes wrong
 * with a device is said, and harms nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/device_shapes.h"
#include "tests/engine_runs.h"

static const char *const device_memory = "memory=64M,lazy=1";

static const char *with_options(const char *options)
{
    static char name[256];
    bool plain = !device_is_emulated() || options[0] == '\0';
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), plain ? "" : ":", plain ? "" : options);
    return name;
}

static sl_engine_options device_options(const char *path)
{
    sl_engine_options options = base_options(path);
    options.device = with_options(device_memory);
    options.vram_budget_bytes = 32 * MIB;
    return options;
}

static const tiny_model shapes[] = {SHAPE_LLAMA(2, 256), SHAPE_GEMMA3(3, 256, 8), SHAPE_QWEN2(2, 256), SHAPE_QWEN3(2, 256),
                                    SHAPE_PHI3(2, 256)};

static void any_architecture_gives_the_same_logits_on_a_device(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t count;
        char *path = write_tiny("device.gguf", &shapes[i]);
        sl_engine_options base = base_options(path), device = device_options(path);
        float *logits = run(&base, &count);
        check_finite(logits, count);
        check_same(logits, count, &device, shapes[i].arch != NULL ? shapes[i].arch : "llama");
        free(logits);
        forget(path);
    }
}

static void formats_may_differ_from_matrix_to_matrix(void **state)
{
    static const uint32_t types[][4] = {{SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_F16, SL_TYPE_Q5_1},
                                        {SL_TYPE_Q4_K, SL_TYPE_Q6_K, SL_TYPE_Q3_K, SL_TYPE_Q4_K},
                                        {SL_TYPE_BF16, SL_TYPE_Q4_1, SL_TYPE_IQ4_NL, SL_TYPE_F32}};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t count;
        tiny_model model = {
            .layers = 2, .d = 256, .ff = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .vocab = 387, .context = 256, .seed = 6};
        memcpy(model.types, types[i], sizeof model.types);
        char *path = write_tiny("device.gguf", &model);
        sl_engine_options base = base_options(path), device = device_options(path);
        float *logits = run(&base, &count);
        check_same(logits, count, &device, "formats");
        device.gpu_layers_given = true; /* 0: all weights stream */
        check_same(logits, count, &device, "formats, streamed");
        free(logits);
        forget(path);
    }
}

/* Large enough that units are many, small enough for a test: 5 MiB of weights. */
static tiny_model larger_model(void)
{
    return (tiny_model){.layers = 3,
                        .d = 256,
                        .ff = 512,
                        .heads = 4,
                        .kv_heads = 2,
                        .head_dim = 64,
                        .vocab = 1030,
                        .context = 256,
                        .tied = true,
                        .seed = 7};
}

static void any_vram_budget_gives_the_same_logits(void **state)
{
    size_t count;
    tiny_model model = larger_model();
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options base = base_options(path), device = device_options(path);
    (void)state;
    device.batch = 16;
    float *logits = run(&base, &count);
    uint64_t least = least_vram(device, MIB);
    for (uint64_t budget = least; budget < least + 8 * MIB; budget += MIB + MIB / 3) {
        device.vram_budget_bytes = budget;
        check_same(logits, count, &device, "a VRAM budget");
    }
    free(logits);
    forget(path);
}

static void weights_come_from_the_disk_where_no_memory_holds_them(void **state)
{
    size_t count;
    tiny_model model = larger_model();
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options base = base_options(path), device = device_options(path);
    sl_engine_info info;
    (void)state;
    device.batch = 8;
    device.vram_budget_bytes = least_vram(device, MIB);
    float *logits = run(&base, &count);
    sl_engine *engine = open_engine(&device);
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    device.ram_budget_bytes = info.ram_budget_min_bytes + GROWTH;
    check_same(logits, count, &device, "the least of both memories");
    free(logits);
    forget(path);
}

static void any_number_of_rows_in_a_pass_gives_the_same_logits(void **state)
{
    static const uint32_t batches[] = {1, 3, 17, 64};
    size_t count;
    char *path = write_tiny("device.gguf", &shapes[0]);
    sl_engine_options base = base_options(path), device = device_options(path);
    (void)state;
    float *logits = run(&base, &count);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        device.batch = batches[i];
        check_same(logits, count, &device, "a batch");
    }
    free(logits);
    forget(path);
}

static void the_cache_may_have_any_format(void **state)
{
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_F32, SL_KV_Q8_0, SL_KV_BF16, SL_KV_Q4_0};
    char *path = write_tiny("device.gguf", &shapes[0]);
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t count;
        sl_engine_options base = base_options(path), device = device_options(path);
        base.k_type = device.k_type = types[i];
        base.v_type = device.v_type = types[(i + 1) % 5];
        float *logits = run(&base, &count);
        check_same(logits, count, &device, "a cache");
        free(logits);
    }
    forget(path);
}

/* Going back, and rows that branch. */
static float *run_tree(const sl_engine_options *options, size_t *count)
{
    static const int32_t parents[] = {-1, 0, 0, 1, 2, 2};
    static const uint32_t kept[] = {0, 2, 5};
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    const float *logits;
    sl_error err = {0};
    size_t vocab = vocabulary(engine);
    float *all = malloc(7 * vocab * sizeof *all);
    assert_non_null(all);
    eval(session, some_tokens(), TOKENS);
    assert_int_equal(sl_session_truncate(session, 61, &err), SL_OK);
    if (sl_session_eval_tree(session, some_tokens(), parents, 6, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS, &logits, &err) != SL_OK)
        fail_msg("%s", err.message);
    memcpy(all, logits, 6 * vocab * sizeof *all);
    if (sl_session_keep_path(session, kept, 3, &err) != SL_OK)
        fail_msg("%s", err.message);
    memcpy(all + 6 * vocab, eval(session, some_tokens() + 9, 1), vocab * sizeof *all);
    sl_session_close(session);
    sl_engine_close(engine);
    *count = 7 * vocab;
    return all;
}

static void going_back_and_branches_give_the_same_logits(void **state)
{
    size_t count, device_count;
    char *path = write_tiny("device.gguf", &shapes[0]);
    sl_engine_options base = base_options(path), device = device_options(path);
    (void)state;
    base.draft_max = device.draft_max = 8;
    float *expected = run_tree(&base, &count), *found = run_tree(&device, &device_count);
    assert_int_equal(count, device_count);
    assert_memory_equal(expected, found, count * sizeof *expected);
    free(expected);
    free(found);
    forget(path);
}

/* All weights in host memory, and this part of them the processor's. */
static sl_engine_options beside_options(const char *path, double share)
{
    sl_engine_options options = device_options(path);
    options.gpu_layers_given = true;
    options.cpu_share_given = true;
    options.cpu_share = share;
    options.batch = 8; /* so that a prompt's passes are divided, too */
    return options;
}

static void the_processor_may_compute_any_share(void **state)
{
    static const double shares[] = {0, 0.2, 0.5, 0.75, 1};
    static const char *const ways[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "lazy=1,seed=3,zero_copy=0", ""};
    (void)state;
    for (size_t model = 0; model < 3; model++) { /* one with biases among them */
        size_t count;
        tiny_model larger = larger_model();
        char *path = write_tiny("device.gguf", model == 0 ? &larger : &shapes[model]);
        sl_engine_options base = base_options(path);
        float *logits = run(&base, &count);
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
            char memory[64];
            sl_engine_options device = beside_options(path, shares[i]);
            snprintf(memory, sizeof memory, "memory=64M,%s", ways[(i + model) % 5]);
            device.device = with_options(memory);
            check_same(logits, count, &device, "a share of the processor's");
        }
        free(logits);
        forget(path);
    }
}

static void what_the_processor_computes_does_not_cross(void **state)
{
    tiny_model model = larger_model();
    char *path = write_tiny("device.gguf", &model);
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        sl_engine_options options = beside_options(path, whole);
        sl_engine *engine = open_engine(&options);
        sl_session *session = open_session(engine);
        sl_engine_info info;
        eval(session, some_tokens(), 1); /* fills the homes */
        uint64_t before = sl_vram_statistics(engine->device->vram).pushed_bytes;
        eval(session, some_tokens(), 1);
        uint64_t pushed = sl_vram_statistics(engine->device->vram).pushed_bytes - before;
        sl_engine_describe(engine, &info);
        assert_int_equal(info.crossing_bytes + info.beside_bytes, info.weight_bytes);
        assert_true(whole ? pushed == 0 && info.crossing_bytes == 0 : pushed >= info.weight_bytes && info.beside_bytes == 0);
        sl_session_close(session);
        sl_engine_close(engine);
    }
    forget(path);
}

static void branches_are_divided_like_single_rows(void **state)
{
    size_t count, device_count;
    char *path = write_tiny("device.gguf", &shapes[0]);
    sl_engine_options base = base_options(path), device = beside_options(path, 0.5);
    (void)state;
    base.draft_max = device.draft_max = 8;
    float *expected = run_tree(&base, &count), *found = run_tree(&device, &device_count);
    assert_int_equal(count, device_count);
    assert_memory_equal(expected, found, count * sizeof *expected);
    free(expected);
    free(found);
    forget(path);
}

static void rates_decide_where_nobody_does_and_the_logits_are_the_same(void **state)
{
    static const char *const links[] = {"link=1M", "link=100G"};
    size_t count;
    tiny_model model = larger_model();
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options base = base_options(path);
    sl_engine_info info;
    (void)state;
    float *logits = run(&base, &count);
    for (int fast = 0; fast < (device_is_emulated() ? 2 : 1); fast++) {
        char memory[64];
        sl_engine_options device = beside_options(path, 0);
        snprintf(memory, sizeof memory, "memory=64M,memory_bandwidth=100G,%s", links[fast]);
        device.device = with_options(memory);
        device.cpu_share_given = false;
        sl_engine *engine = open_engine(&device);
        sl_engine_describe(engine, &info);
        sl_engine_close(engine);
        assert_true(info.link_Bps > 0 && info.processor_Bps > 0);
        if (device_is_emulated()) /* of a megabyte a second nearly nothing crosses, whatever the processor reaches */
            assert_true(fast ? info.link_Bps > 50e9 : info.cpu_share > 0.5);
        check_same(logits, count, &device, "measured rates");
    }
    free(logits);
    forget(path);
}

static void note_to(void *ctx, const char *line)
{
    strncat(ctx, line, strlen(ctx) < 3000 ? 400 : 0);
}

static void the_n_th_call_may_fail(void **state)
{
    static const char *const how[] = {"fail", "lost", "broken"};
    tiny_model model = larger_model();
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    char *path = write_tiny("device.gguf", &model);
    for (int kind = 0; kind < 3; kind++)
        for (unsigned n = 1, step = 1; n < 4000; n += step, step += step / 2 + 1) {
            char options[64];
            sl_error err = {0};
            sl_engine *engine = NULL;
            sl_session *session = NULL;
            snprintf(options, sizeof options, "memory=64M,%s=%u", how[kind], n);
            sl_engine_options device = device_options(path);
            device.device = with_options(options);
            device.batch = 16;
            device.gpu_layers_given = true;
            device.gpu_layers = 1;
            device.cpu_share_given = n % 2 == 0; /* the processor takes part in the passes of few rows */
            device.cpu_share = 0.5;
            sl_status status = sl_engine_open(&device, &engine, &err);
            if (status == SL_OK)
                status = sl_session_open(engine, &session, &err);
            if (status == SL_OK)
                status = sl_session_eval(session, some_tokens(), 20, SL_EVAL_LOGITS, NULL, &err);
            uint32_t reached = status == SL_OK ? 20 : 0;
            if (status == SL_OK)
                status = sl_session_eval(session, some_tokens(), 1, SL_EVAL_LOGITS, NULL, &err);
            if (status != SL_OK) {
                assert_true(err.message[0] != '\0');
                assert_true(status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY || status == SL_DEVICE_LOST);
            }
            if (status != SL_OK && session != NULL) {
                assert_int_equal(sl_session_position(session), reached);
                status = sl_session_eval(session, some_tokens(), 20, SL_EVAL_LOGITS, NULL, &err);
                assert_int_equal(status, kind == 0 ? SL_OK : SL_DEVICE_LOST); /* what was short once may be there again */
            }
            sl_session_close(session);
            sl_engine_close(engine);
        }
    forget(path);
}

/* Others use the device, too: what was free when it was opened may not be when memory is taken, or when a pass runs. */
static void memory_that_is_missing_once_makes_a_smaller_engine_or_another_try(void **state)
{
    size_t count;
    unsigned shrunk = 0, again = 0, ended = 0;
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    char *path = write_tiny("device.gguf", &shapes[0]);
    sl_engine_options base = base_options(path);
    float *logits = run(&base, &count);
    for (unsigned n = 1; n < 700; n += n < 12 ? 1 : n / 3) {
        char options[64], notes[4000] = "";
        sl_engine *engine;
        sl_engine_info info;
        sl_error err = {0};
        snprintf(options, sizeof options, "memory=64M,fail=%u", n);
        sl_engine_options device = device_options(path);
        device.device = with_options(options);
        device.note = note_to;
        device.note_ctx = notes;
        sl_status status = sl_engine_open(&device, &engine, &err);
        if (status != SL_OK) { /* page-locked memory, say: there is no doing with less of that */
            assert_true(status == SL_NO_MEMORY || status == SL_NO_DEVICE_MEMORY);
            ended++;
            continue;
        }
        sl_engine_describe(engine, &info);
        sl_engine_close(engine);
        check_same(logits, count, &device, notes);
        bool smaller = strstr(notes, "going on with") != NULL;
        assert_true(smaller == (info.vram_budget_bytes < 32 * MIB));
        shrunk += smaller;
        again += strstr(notes, "is run again") != NULL;
    }
    assert_true(shrunk > 0 && again > 0 && ended < 20);
    free(logits);
    forget(path);
}

static void what_a_device_does_not_do_yet_is_refused_or_said(void **state)
{
    char *path = write_tiny("device.gguf", &shapes[0]), notes[4000] = "";
    sl_engine_options options = device_options(path);
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    (void)state;
    options.sparsity = SL_SPARSITY_COARSE;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "sparse decoding (--sparsity) of a file that is not packed"));
    options.device = "auto";
    options.note = note_to;
    options.note_ctx = notes;
    engine = open_engine(&options);
    sl_engine_describe(engine, &info);
    assert_string_equal(info.backend, "cpu");
    assert_non_null(strstr(notes, "no GPU is used: sparse decoding"));
    sl_engine_close(engine);
    options.device = NULL;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--vram-budget has no meaning"));
    forget(path);
}

/* Such a device would give text of what its memory happens to hold. */
static void a_device_that_keeps_time_alone_is_for_benchmarks(void **state)
{
    char *path = write_tiny("device.gguf", &shapes[0]);
    sl_engine_options options = device_options(path);
    sl_engine *engine;
    sl_error err = {0};
    (void)state;
    if (device_must_be_emulated("an option of the emulated device"))
        skip();
    options.device = with_options("memory=64M,timing_only=1");
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "timing_only"));
    options.timing_only = true;
    engine = open_engine(&options);
    sl_engine_close(engine);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_architecture_gives_the_same_logits_on_a_device),
        cmocka_unit_test(formats_may_differ_from_matrix_to_matrix),
        cmocka_unit_test(any_vram_budget_gives_the_same_logits),
        cmocka_unit_test(weights_come_from_the_disk_where_no_memory_holds_them),
        cmocka_unit_test(any_number_of_rows_in_a_pass_gives_the_same_logits),
        cmocka_unit_test(the_cache_may_have_any_format),
        cmocka_unit_test(going_back_and_branches_give_the_same_logits),
        cmocka_unit_test(the_processor_may_compute_any_share),
        cmocka_unit_test(what_the_processor_computes_does_not_cross),
        cmocka_unit_test(branches_are_divided_like_single_rows),
        cmocka_unit_test(rates_decide_where_nobody_does_and_the_logits_are_the_same),
        cmocka_unit_test(the_n_th_call_may_fail),
        cmocka_unit_test(memory_that_is_missing_once_makes_a_smaller_engine_or_another_try),
        cmocka_unit_test(what_a_device_does_not_do_yet_is_refused_or_said),
        cmocka_unit_test(a_device_that_keeps_time_alone_is_for_benchmarks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

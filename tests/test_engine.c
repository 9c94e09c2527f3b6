/* tests/test_engine.c: that what comes out of an engine depends on the model, the tokens and the cache's types, and on nothing else.
 *
 * Logits are compared bit by bit. One configuration is the base; each test changes what must not matter. */
#include "core/cpu.h"
#include "kernels/kernels.h"
#include "tests/tiny_model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "tests/engine_runs.h" /* needs cmocka's names */

/* The smallest budget that these options work with. */
static uint64_t minimum_budget(sl_engine_options options)
{
    sl_engine *engine = open_engine(&options);
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    return info.ram_budget_min_bytes;
}

static const uint32_t every_type[] = {SL_TYPE_F32,  SL_TYPE_F16,  SL_TYPE_BF16, SL_TYPE_Q4_0,   SL_TYPE_Q4_1,
                                      SL_TYPE_Q5_0, SL_TYPE_Q5_1, SL_TYPE_Q8_0, SL_TYPE_IQ4_NL, SL_TYPE_Q2_K,
                                      SL_TYPE_Q3_K, SL_TYPE_Q4_K, SL_TYPE_Q5_K, SL_TYPE_Q6_K,   SL_TYPE_IQ4_XS};
#define TYPES (sizeof every_type / sizeof *every_type)

static tiny_model of_type(uint32_t type)
{
    tiny_model model = TINY_MODEL;
    for (int i = 0; i < 4; i++)
        model.types[i] = type;
    if (sl_format_of(type)->block_elements == 256) {
        model.d = 256;
        model.ff = 512;
        model.heads = 8;
        model.kv_heads = 4;
    }
    return model;
}

static tiny_model mixed(bool tied)
{
    tiny_model model = TINY_MODEL;
    memcpy(model.types, (uint32_t[]){SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_F16}, sizeof model.types);
    model.tied = tied;
    model.biases = true;
    return model;
}

/* ---- what must not matter ---- */

/* A larger model than the others: its matrices are many units, so that budgets between the extremes differ. */
static void any_budget_gives_the_same_logits(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        tiny_model model = mixed(tied != 0);
        if (tied) /* super-blocks among the others, as files have them */
            memcpy(model.types, (uint32_t[]){SL_TYPE_Q6_K, SL_TYPE_Q4_K, SL_TYPE_Q5_0, SL_TYPE_Q8_0}, sizeof model.types);
        model.d = 512;
        model.ff = 1536;
        model.heads = 16;
        model.kv_heads = 4;
        model.vocab = 2003;
        char *path = write_tiny("budget.gguf", &model);
        sl_engine_options options = base_options(path);
        options.isa = NULL;
        options.batch = 16;
        size_t count;
        float *base = run(&options, &count);
        check_finite(base, count);
        uint64_t least = minimum_budget(options) + GROWTH;
        uint64_t streamed_before = UINT64_MAX;
        for (uint64_t more = 0; more <= 12 * MIB; more += 3 * MIB) {
            options.ram_budget_bytes = least + more;
            sl_engine *engine = open_engine(&options);
            sl_engine_info info;
            sl_engine_describe(engine, &info);
            sl_engine_close(engine);
            if (more == 0 && GROWTH <= MIB)
                assert_true(info.streamed_bytes > info.weight_bytes / 2);
            assert_true(info.streamed_bytes <= streamed_before);
            streamed_before = info.streamed_bytes;
            check_same(base, count, &options, "budget");
        }
        free(base);
        forget(path);
    }
}

static void any_thread_count_gives_the_same_logits(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("threads.gguf", &model);
    sl_engine_options options = base_options(path);
    size_t count;
    float *base = run(&options, &count);
    for (options.threads = 2; options.threads <= 3; options.threads++)
        check_same(base, count, &options, "threads");
    free(base);
    forget(path);
}

/* Windows that begin inside of a batch and before it, two rotary tables, learned positions, and weights that are slices of a tensor. */
static void each_architecture_gives_the_same_logits_in_any_way_of_running(void **state)
{
    (void)state;
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "phi3", "opt"};
    static const uint32_t batches[] = {1, 3, 32};
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
        tiny_model model = TINY_MODEL;
        bool windows = a == 0 || a == 3 || a == 4;
        model.arch = archs[a];
        model.types[0] = SL_TYPE_Q8_0;
        model.window = windows ? 6 : 0;
        model.window_period = a == 3 ? 2 : 0;
        char *path = write_tiny("arch.gguf", &model);
        sl_engine_options options = base_options(path);
        size_t count;
        float *base = run(&options, &count);
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            options.batch = batches[i];
            check_same(base, count, &options, archs[a]);
        }
        options.ram_budget_bytes = minimum_budget(options) + GROWTH;
        options.threads = 2;
        check_same(base, count, &options, archs[a]);
        for (sl_isa isa = SL_ISA_SCALAR; isa < SL_ISA_COUNT; isa++) {
            options.isa = sl_isa_name(isa);
            if (sl_cpu_supports(isa) && sl_kernels_for(isa) != NULL)
                check_same(base, count, &options, options.isa);
        }
        free(base);
        forget(path);
    }
}

/* What it has no arithmetic for yet is refused, not run otherwise. */
static void a_model_without_a_gate_has_no_sets_of_neurons_and_no_device(void **state)
{
    (void)state;
    tiny_model model = TINY_MODEL;
    model.arch = "opt";
    char *path = write_tiny("gateless.gguf", &model);
    sl_engine_options options = base_options(path);
    sl_engine *engine = NULL;
    sl_error err = {0};
    options.sparsity = SL_SPARSITY_COARSE;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "feed-forwards of architecture opt have no gate"));
    options.sparsity = SL_SPARSITY_OFF;
    options.device = "cuda";
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "layer norms"));
    options.device = "auto";
    engine = open_engine(&options);
    sl_engine_close(engine);
    forget(path);
}

static void any_batch_size_gives_the_same_logits(void **state)
{
    (void)state;
    static const uint32_t batches[] = {1, 3, 32, 64, 512};
    tiny_model model = mixed(false);
    char *path = write_tiny("batch.gguf", &model);
    sl_engine_options options = base_options(path);
    size_t count;
    float *base = run(&options, &count);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        options.batch = batches[i];
        check_same(base, count, &options, "batch");
    }
    free(base);
    forget(path);
}

static void any_way_of_reading_gives_the_same_logits(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("reading.gguf", &model);
    sl_engine_options options = base_options(path);
    size_t count;
    float *base = run(&options, &count);
    options.ram_budget_bytes = minimum_budget(options) + GROWTH;
    options.io_engine = "pread";
    check_same(base, count, &options, "pread");
    options.io_depth = 1;
    check_same(base, count, &options, "pread, one at a time");
    options.buffered = true;
    check_same(base, count, &options, "pread, buffered");
    options.throttle_Bps = 64 * MIB;
    check_same(base, count, &options, "throttled");
    options.io_engine = "auto";
    options.io_depth = 2;
    check_same(base, count, &options, "auto, two at a time");
    free(base);
    forget(path);
}

static void io_uring_gives_the_same_logits(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("uring.gguf", &model);
    sl_engine_options options = base_options(path);
    sl_error err = {0};
    options.io_engine = "uring";
    sl_engine *engine;
    sl_status status = sl_engine_open(&options, &engine, &err);
    sl_engine_close(engine);
    if (status == SL_UNSUPPORTED) {
        forget(path);
        print_message("io_uring is refused here: %s\n", err.message);
        skip();
    }
    options.io_engine = "pread";
    size_t count;
    float *base = run(&options, &count);
    options.io_engine = "uring";
    check_same(base, count, &options, "uring");
    options.ram_budget_bytes = minimum_budget(options) + GROWTH;
    options.io_depth = 1;
    check_same(base, count, &options, "uring, streamed, one at a time");
    free(base);
    forget(path);
}

/* Every format, at every instruction set that runs here, with rows that fill no panel. */
static void any_instruction_set_gives_the_same_logits(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        tiny_model model = of_type(every_type[t]);
        char *path = write_tiny("isa.gguf", &model);
        sl_engine_options options = base_options(path);
        size_t count;
        float *base = run(&options, &count);
        check_finite(base, count);
        for (sl_isa isa = SL_ISA_AVX2; isa < SL_ISA_COUNT; isa++) {
            if (!sl_cpu_supports(isa))
                continue;
            options.isa = sl_isa_name(isa);
            check_same(base, count, &options, sl_format_of(every_type[t])->name);
        }
        free(base);
        forget(path);
    }
}

/* Neither the width nor the length of a float matrix is a multiple of anything. */
static void odd_widths_run_and_give_the_same_logits_everywhere(void **state)
{
    (void)state;
    for (size_t t = 0; t < 3; t++) {
        tiny_model model = of_type(every_type[t]);
        model.d = 101;
        model.ff = 77;
        model.heads = 3;
        model.kv_heads = 1;
        model.head_dim = 48;
        model.tied = t % 2 == 0;
        char *path = write_tiny("odd.gguf", &model);
        sl_engine_options options = base_options(path);
        size_t count;
        float *base = run(&options, &count);
        check_finite(base, count);
        options.isa = NULL;
        options.threads = 2;
        options.batch = 7;
        check_same(base, count, &options, "the best instruction set");
        options.ram_budget_bytes = minimum_budget(options) + GROWTH;
        check_same(base, count, &options, "streamed");
        free(base);
        forget(path);
    }
}

static void each_cache_type_gives_its_own_logits_at_any_batch_and_instruction_set(void **state)
{
    (void)state;
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_F32, SL_KV_Q8_0, SL_KV_BF16, SL_KV_Q4_0};
    enum { TYPES_OF_CACHE = sizeof types / sizeof *types };
    tiny_model model = of_type(SL_TYPE_F32);
    char *path = write_tiny("cache.gguf", &model);
    float *seen[TYPES_OF_CACHE];
    size_t count;
    for (int i = 0; i < TYPES_OF_CACHE; i++) {
        sl_engine_options options = base_options(path);
        options.k_type = types[i];
        options.v_type = types[TYPES_OF_CACHE - 1 - i];
        seen[i] = run(&options, &count);
        check_finite(seen[i], count);
        options.isa = NULL;
        options.batch = 5;
        check_same(seen[i], count, &options, "cache type");
        for (int before = 0; before < i; before++)
            assert_memory_not_equal(seen[before], seen[i], count * sizeof **seen);
    }
    for (int i = 0; i < TYPES_OF_CACHE; i++)
        free(seen[i]);
    forget(path);
}

static void a_tied_head_equals_the_same_matrix_written_twice(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        tiny_model model = of_type(every_type[t]);
        char *tied = write_tiny("tied.gguf", &model);
        model.tied = false;
        model.head_copies_embedding = true;
        char *twice = write_tiny("twice.gguf", &model);
        sl_engine_options options = base_options(tied);
        size_t count;
        float *base = run(&options, &count);
        options.model_path = twice;
        check_same(base, count, &options, "written twice");
        options.ram_budget_bytes = minimum_budget(options) + GROWTH;
        check_same(base, count, &options, "written twice, streamed");
        options.model_path = tied;
        check_same(base, count, &options, "tied, streamed");
        free(base);
        forget(tied);
        forget(twice);
    }
}

/* ---- evaluating ---- */

static void one_batch_equals_token_by_token(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("rows.gguf", &model);
    sl_engine_options options = base_options(path);
    options.isa = NULL;
    options.batch = TOKENS;
    options.all_logits = true;
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    uint32_t vocab = vocabulary(engine);
    float *together = malloc(TOKENS * (size_t)vocab * sizeof *together);
    assert_non_null(together);
    memcpy(together, eval(session, some_tokens(), TOKENS), TOKENS * (size_t)vocab * sizeof *together);
    check_finite(together, TOKENS * (size_t)vocab);
    assert_int_equal(sl_session_truncate(session, 0, NULL), SL_OK);
    for (size_t i = 0; i < TOKENS; i++)
        if (memcmp(eval(session, some_tokens() + i, 1), together + i * vocab, vocab * sizeof *together) != 0)
            fail_msg("row %zu differs", i);
    free(together);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

static void going_back_and_on_equals_never_having_gone(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("back.gguf", &model);
    sl_engine_options options = base_options(path);
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    uint32_t vocab = vocabulary(engine);
    float *straight = malloc(vocab * sizeof *straight);
    assert_non_null(straight);
    memcpy(straight, eval(session, some_tokens(), TOKENS), vocab * sizeof *straight);

    static const uint32_t stations[] = {TOKENS - 1, 65, 64, 63, 1, 0};
    for (size_t i = 0; i < sizeof stations / sizeof *stations; i++) {
        assert_int_equal(sl_session_truncate(session, stations[i], NULL), SL_OK);
        eval(session, some_tokens() + 3, 20); /* something else, which is forgotten again */
        assert_int_equal(sl_session_truncate(session, stations[i], NULL), SL_OK);
        assert_memory_equal(eval(session, some_tokens() + stations[i], TOKENS - stations[i]), straight, vocab * sizeof *straight);
    }
    sl_error err = {0};
    assert_int_equal(sl_session_truncate(session, TOKENS + 1, &err), SL_INVALID);
    assert_int_equal(sl_session_position(session), TOKENS);
    free(straight);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

static void hints_about_what_follows_change_nothing(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    char *path = write_tiny("hints.gguf", &model);
    sl_engine_options options = base_options(path);
    size_t count;
    options.batch = 16;
    options.ram_budget_bytes = minimum_budget(options) + GROWTH;
    float *base = run(&options, &count);
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    uint32_t vocab = vocabulary(engine);
    const sl_token_id *tokens = some_tokens();
    const float *logits;
    sl_error err = {0};
    /* "More follows", and then comes: a pass without logits, nothing at all, a step back, and at last what was said. */
    assert_int_equal(sl_session_eval(session, tokens, 20, SL_EVAL_LOGITS | SL_EVAL_MORE, &logits, &err), SL_OK);
    assert_int_equal(sl_session_eval(session, tokens + 20, 20, 0, NULL, &err), SL_OK);
    assert_int_equal(sl_session_eval(session, tokens + 40, 20, SL_EVAL_MORE, NULL, &err), SL_OK);
    assert_int_equal(sl_session_truncate(session, 50, &err), SL_OK);
    assert_int_equal(sl_session_eval(session, tokens + 50, TOKENS - STEPS - 50, SL_EVAL_LOGITS | SL_EVAL_MORE, &logits, &err), SL_OK);
    assert_memory_equal(logits, base, vocab * sizeof *base);
    for (uint32_t step = 1; step <= STEPS; step++) {
        assert_int_equal(sl_session_eval(session, tokens + TOKENS - STEPS + step - 1, 1, SL_EVAL_LOGITS | SL_EVAL_MORE, &logits, &err),
                         SL_OK);
        assert_memory_equal(logits, base + step * (size_t)vocab, vocab * sizeof *base);
    }
    free(base);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

/* ---- refusals ---- */

static void what_does_not_fit_the_context_is_refused_and_leaves_the_session_as_it_was(void **state)
{
    (void)state;
    tiny_model model = of_type(SL_TYPE_F32);
    char *path = write_tiny("full.gguf", &model);
    sl_engine_options options = base_options(path);
    options.context = TOKENS;
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    sl_error err = {0};
    eval(session, some_tokens(), TOKENS - 1);
    assert_int_equal(sl_session_eval(session, some_tokens(), 2, 0, NULL, &err), SL_FULL);
    assert_non_null(strstr(err.message, "-c sets it"));
    assert_int_equal(sl_session_position(session), TOKENS - 1);
    eval(session, some_tokens() + TOKENS - 1, 1);
    assert_int_equal(sl_session_eval(session, some_tokens(), 1, 0, NULL, &err), SL_FULL);
    assert_int_equal(sl_session_eval(session, some_tokens(), SIZE_MAX, 0, NULL, &err), SL_FULL);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

static void tokens_that_are_none_are_refused_and_leave_the_session_as_it_was(void **state)
{
    (void)state;
    tiny_model model = of_type(SL_TYPE_F32);
    char *path = write_tiny("tokens.gguf", &model);
    sl_engine_options options = base_options(path);
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    static const sl_token_id bad[] = {-1, 387, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sl_error err = {0};
        assert_int_equal(sl_session_eval(session, (sl_token_id[]){3, bad[i]}, 2, 0, NULL, &err), SL_INVALID);
        assert_non_null(strstr(err.message, "387"));
    }
    sl_error err = {0};
    assert_int_equal(sl_session_eval(session, NULL, 0, 0, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_position(session), 0);
    eval(session, (sl_token_id[]){386}, 1);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

static void an_engine_has_one_session_at_a_time(void **state)
{
    (void)state;
    tiny_model model = of_type(SL_TYPE_F32);
    char *path = write_tiny("second.gguf", &model);
    sl_engine_options options = base_options(path);
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine), *second = session;
    sl_error err = {0};
    assert_int_equal(sl_session_open(engine, &second, &err), SL_INVALID);
    assert_null(second);
    assert_non_null(strstr(err.message, "one KV cache"));
    sl_session_close(session);
    session = open_session(engine);
    assert_int_equal(sl_session_position(session), 0);
    sl_session_close(session);
    sl_session_close(NULL);
    sl_engine_close(engine);
    sl_engine_close(NULL);
    forget(path);
}

static void options_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    tiny_model model = of_type(SL_TYPE_F32);
    model.head_dim = 16;
    char *path = write_tiny("options.gguf", &model);
    const sl_engine_options base = base_options(path);
    sl_engine_options wrong[8];
    const char *foreign = sl_isa_name(sl_cpu_supports(SL_ISA_NEON) ? SL_ISA_AVX2 : SL_ISA_NEON);
    const char *const named[8] = {"such instruction set", foreign,           "at most 256",   "multiple of 32",
                                  "multiple of 32",       "uring and pread", "no model file", "cannot open"};
    for (int i = 0; i < 8; i++)
        wrong[i] = base;
    wrong[0].isa = "mmx";
    wrong[1].isa = foreign;
    wrong[2].context = 257;
    wrong[3].k_type = SL_KV_Q8_0;
    wrong[4].v_type = SL_KV_Q8_0;
    wrong[5].io_engine = "floppy";
    wrong[6].model_path = NULL;
    wrong[7].model_path = "/nowhere/model.gguf";
    for (int i = 0; i < 8; i++) {
        sl_engine *engine = (sl_engine *)(void *)&model;
        sl_error err = {0};
        sl_status status = sl_engine_open(&wrong[i], &engine, &err);
        assert_int_equal(status, i == 7 ? SL_IO : SL_INVALID);
        assert_null(engine);
        if (strstr(err.message, named[i]) == NULL)
            fail_msg("%s does not say: %s", err.message, named[i]);
    }
    forget(path);
}

static void a_budget_below_the_minimum_is_refused_and_the_minimum_named(void **state)
{
    (void)state;
    tiny_model model = of_type(SL_TYPE_F32);
    char *path = write_tiny("least.gguf", &model);
    sl_engine_options options = base_options(path);
    options.ram_budget_bytes = MIB;
    sl_engine *engine;
    sl_error err = {0};
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    assert_true(err.ram_budget_min_bytes > MIB);
    options.ram_budget_bytes = err.ram_budget_min_bytes + GROWTH;
    engine = open_engine(&options);
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    assert_true(info.process_bytes + info.kv_bytes + info.scratch_bytes + info.staging_bytes + info.table_bytes + info.resident_bytes <=
                options.ram_budget_bytes);
    assert_int_equal(info.ram_budget_bytes, options.ram_budget_bytes);
    sl_engine_close(engine);
    forget(path);
}

/* ---- interruption ---- */

static void *interrupt_soon(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    sl_engine_interrupt(arg);
    return NULL;
}

static void a_context_may_be_all_that_the_model_has(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    model.context = 4160;
    char *path = write_tiny("context.gguf", &model);
    static const uint32_t asked[] = {0, 64, SL_CONTEXT_MODEL}, given[] = {4096, 64, 4160};
    for (int i = 0; i < 3; i++) {
        sl_engine_options options = base_options(path);
        sl_engine_info info;
        options.context = asked[i];
        sl_engine *engine = open_engine(&options);
        sl_engine_describe(engine, &info);
        assert_int_equal(info.context, given[i]);
        sl_engine_close(engine);
    }
    forget(path);
}

static void an_interrupt_ends_the_call_and_leaves_the_session_usable(void **state)
{
    (void)state;
    tiny_model model = mixed(true);
    model.layers = 24;
    model.context = 4096;
    char *path = write_tiny("interrupt.gguf", &model);
    sl_engine_options options = base_options(path);
    options.context = 4096;
    options.batch = 512;
    options.isa = NULL;
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    uint32_t vocab = vocabulary(engine);
    float *before = malloc(vocab * sizeof *before);
    sl_token_id *many = malloc(4000 * sizeof *many);
    assert_true(before != NULL && many != NULL);
    for (int i = 0; i < 4000; i++)
        many[i] = i % 384;
    memcpy(before, eval(session, some_tokens(), 10), vocab * sizeof *before);

    pthread_t thread;
    sl_error err = {0};
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, engine), 0);
    assert_int_equal(sl_session_eval(session, many, 4000, SL_EVAL_LOGITS, NULL, &err), SL_INTERRUPTED);
    pthread_join(thread, NULL);
    assert_int_equal(sl_session_position(session), 10);

    /* The next call is a new one: it is not interrupted, and what the broken one left behind does not show. */
    assert_int_equal(sl_session_truncate(session, 0, NULL), SL_OK);
    assert_memory_equal(eval(session, some_tokens(), 10), before, vocab * sizeof *before);
    free(many);
    free(before);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

static void engines_side_by_side_do_not_disturb_each_other(void **state)
{
    (void)state;
    tiny_model models[2] = {mixed(true), mixed(true)};
    models[1].seed = 2;
    char *paths[2] = {write_tiny("one.gguf", &models[0]), write_tiny("two.gguf", &models[1])};
    sl_engine *engines[2];
    sl_session *sessions[2];
    float *alone[2];
    size_t count;
    for (int i = 0; i < 2; i++) {
        sl_engine_options options = base_options(paths[i]);
        alone[i] = run(&options, &count);
        engines[i] = open_engine(&options);
        sessions[i] = open_session(engines[i]);
    }
    assert_memory_not_equal(alone[0], alone[1], count * sizeof **alone);
    uint32_t vocab = vocabulary(engines[0]);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (int i = 0; i < 2; i++) {
            const float *logits = eval(sessions[i], some_tokens() + t, 1);
            if (t + 1 >= TOKENS - STEPS)
                assert_memory_equal(logits, alone[i] + (t + 1 - (TOKENS - STEPS)) * (size_t)vocab, vocab * sizeof **alone);
        }
    for (int i = 0; i < 2; i++) {
        sl_session_close(sessions[i]);
        sl_engine_close(engines[i]);
        free(alone[i]);
        forget(paths[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_budget_gives_the_same_logits),
        cmocka_unit_test(any_thread_count_gives_the_same_logits),
        cmocka_unit_test(any_batch_size_gives_the_same_logits),
        cmocka_unit_test(each_architecture_gives_the_same_logits_in_any_way_of_running),
        cmocka_unit_test(a_model_without_a_gate_has_no_sets_of_neurons_and_no_device),
        cmocka_unit_test(any_way_of_reading_gives_the_same_logits),
        cmocka_unit_test(io_uring_gives_the_same_logits),
        cmocka_unit_test(any_instruction_set_gives_the_same_logits),
        cmocka_unit_test(odd_widths_run_and_give_the_same_logits_everywhere),
        cmocka_unit_test(each_cache_type_gives_its_own_logits_at_any_batch_and_instruction_set),
        cmocka_unit_test(a_tied_head_equals_the_same_matrix_written_twice),
        cmocka_unit_test(one_batch_equals_token_by_token),
        cmocka_unit_test(going_back_and_on_equals_never_having_gone),
        cmocka_unit_test(hints_about_what_follows_change_nothing),
        cmocka_unit_test(what_does_not_fit_the_context_is_refused_and_leaves_the_session_as_it_was),
        cmocka_unit_test(a_context_may_be_all_that_the_model_has),
        cmocka_unit_test(tokens_that_are_none_are_refused_and_leave_the_session_as_it_was),
        cmocka_unit_test(an_engine_has_one_session_at_a_time),
        cmocka_unit_test(options_out_of_range_are_refused_by_name),
        cmocka_unit_test(a_budget_below_the_minimum_is_refused_and_the_minimum_named),
        cmocka_unit_test(an_interrupt_ends_the_call_and_leaves_the_session_usable),
        cmocka_unit_test(engines_side_by_side_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

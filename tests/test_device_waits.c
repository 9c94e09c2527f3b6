/* tests/test_device_waits.c: how often the host waits for a device, and how much it has to say to it, for a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/packed_pair.h"
#include "tests/watched_device.h"

/* ---- runs ---- */

#define SINGLE 6 /* tokens, one by one, behind a prompt */

static sl_engine_options options_of(const char *path, const char *how)
{
    static char name[128];
    bool plain = !device_is_emulated();
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), plain ? "" : ":memory=64M,", plain ? "" : how);
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = 128,
                               .threads = 1,
                               .batch = 32,
                               .isa = "scalar",
                               .device = name,
                               .vram_budget_bytes = 48 * MIB};
}

static void eval(sl_session *session, const sl_token_id *tokens, size_t count, unsigned flags)
{
    sl_error err = {0};
    check(sl_session_eval(session, tokens, count, SL_EVAL_LOGITS | SL_EVAL_MORE | flags, NULL, &err), &err);
}

/* What SINGLE tokens took, after two that nobody counts. */
static struct watched count(const sl_engine_options *options)
{
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[24];
    unsigned sparse = options->sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0;
    for (uint32_t i = 0; i < 24; i++)
        tokens[i] = token_at(i);
    check(sl_engine_open(options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    eval(session, tokens, 12, 0);
    eval(session, tokens, 1, sparse);
    eval(session, tokens, 1, sparse);
    watch(engine->device->device);
    for (uint32_t i = 0; i < SINGLE; i++)
        eval(session, tokens + i, 1, sparse);
    unwatch(engine->device->device);
    sl_session_close(session);
    sl_engine_close(engine);
    return watched;
}

static pair written(void)
{
    tiny_model model = TINY_MODEL;
    for (int i = 0; i < 4; i++)
        model.types[i] = SL_TYPE_Q8_0;
    return write_pair(&model);
}

static void a_token_of_weights_that_stay_is_one_graph_and_one_wait(void **state)
{
    pair p = written();
    const char *const files[] = {p.stock, p.packed};
    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        sl_engine_options options = options_of(files[packed], "lazy=1");
        struct watched w = count(&options);
        assert_int_equal(w.waits, SINGLE);
        assert_int_equal(w.graphs, SINGLE);
        assert_int_equal(w.captures, 0); /* the one before serves */
        assert_int_equal(w.copies_in, 0);
    }
    forget_pair(p);
}

static void so_is_a_draft_over_a_set_of_neurons(void **state)
{
    pair p = written();
    (void)state;
    sl_engine_options options = options_of(p.packed, "lazy=1,seed=1");
    options.sparsity = SL_SPARSITY_COARSE;
    options.density = 0.4;
    struct watched w = count(&options);
    assert_int_equal(w.waits, SINGLE);
    assert_int_equal(w.graphs, SINGLE);
    forget_pair(p);
}

static void weights_that_cross_cost_no_wait(void **state)
{
    pair p = written();
    const char *const files[] = {p.stock, p.packed};
    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        sl_engine_options options = options_of(files[packed], "lazy=1,seed=2");
        options.gpu_layers_given = options.cpu_share_given = true; /* none stays, and the processor computes none */
        struct watched w = count(&options);
        assert_int_equal(w.waits, SINGLE);
        assert_true(w.copies_in > SINGLE * 4 && w.graphs == 0);
    }
    forget_pair(p);
}

/* Its sources come from the device: once for each group of products, of which a layer has four, and the head one. */
static void the_processor_waits_for_what_it_multiplies(void **state)
{
    pair p = written();
    (void)state;
    sl_engine_options options = options_of(p.stock, "lazy=1,seed=3");
    options.gpu_layers_given = options.cpu_share_given = true;
    options.cpu_share = 1;
    struct watched w = count(&options);
    tiny_model model = TINY_MODEL;
    assert_int_equal(w.waits, SINGLE * (4 * model.layers + 1 + 1));
    forget_pair(p);
}

/* ---- graphs ---- */

static void a_text_may_outgrow_its_graph(void **state)
{
    enum { PROMPT_LONG = 253, AROUND = 6 };
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)state;
    model.context = 512;
    char *path = tiny_path("long.gguf");
    check(tiny_write(&model, path, &err), &err);
    float *logits[2] = {0};
    for (int on_device = 0; on_device < 2; on_device++) {
        sl_engine_options options = options_of(path, "lazy=1,seed=3");
        sl_engine *engine;
        sl_session *session;
        sl_engine_info info;
        sl_token_id tokens[PROMPT_LONG];
        options.context = 300;
        if (!on_device) {
            options.device = NULL;
            options.vram_budget_bytes = 0;
        }
        for (uint32_t i = 0; i < PROMPT_LONG; i++)
            tokens[i] = token_at(i);
        check(sl_engine_open(&options, &engine, &err), &err);
        check(sl_session_open(engine, &session, &err), &err);
        sl_engine_describe(engine, &info);
        logits[on_device] = malloc((size_t)AROUND * info.vocab * sizeof(float));
        assert_non_null(logits[on_device]);
        eval(session, tokens, PROMPT_LONG, 0);
        for (uint32_t i = 0; i < AROUND; i++) {
            const float *row;
            check(sl_session_eval(session, tokens + i, 1, SL_EVAL_LOGITS, &row, &err), &err);
            memcpy(logits[on_device] + (size_t)i * info.vocab, row, info.vocab * sizeof(float));
        }
        if (on_device)
            assert_memory_equal(logits[0], logits[1], (size_t)AROUND * info.vocab * sizeof(float));
        sl_session_close(session);
        sl_engine_close(engine);
    }
    free(logits[0]);
    free(logits[1]);
    unlink(path);
    free(path);
}

static void a_device_without_graphs_is_given_each_call(void **state)
{
    pair p = written();
    (void)state;
    if (device_must_be_emulated("a device without graphs"))
        return;
    sl_engine_options options = options_of(p.stock, "graphs=0");
    struct watched w = count(&options);
    assert_true(w.waits == SINGLE && w.graphs == 0 && w.captures == 0);
    forget_pair(p);
}

/* What is multiplied was quantised by who made it, and who gives to the residual adds to it: of a layer's kernels none does that alone, but for what the members
 * of a set give. */
static void a_layer_has_no_kernel_that_another_can_do_the_work_of(void **state)
{
    pair p = written();
    (void)state;
    sl_engine_options options = options_of(p.stock, "graphs=0");
    struct watched w = count(&options);
    if (device_is_emulated()) /* a device with graphs is given each call once */
        assert_int_equal(w.quantizes + w.adds + w.zeros, 0);
    options = options_of(p.packed, "graphs=0");
    options.sparsity = SL_SPARSITY_COARSE;
    options.density = 0.4;
    w = count(&options);
    if (device_is_emulated()) {
        assert_int_equal(w.adds, 0);
        assert_true(w.quantizes > 0 && w.quantizes % SINGLE == 0 && w.quantizes == w.zeros);
    }
    forget_pair(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_of_weights_that_stay_is_one_graph_and_one_wait),
        cmocka_unit_test(so_is_a_draft_over_a_set_of_neurons),
        cmocka_unit_test(weights_that_cross_cost_no_wait),
        cmocka_unit_test(the_processor_waits_for_what_it_multiplies),
        cmocka_unit_test(a_text_may_outgrow_its_graph),
        cmocka_unit_test(a_device_without_graphs_is_given_each_call),
        cmocka_unit_test(a_layer_has_no_kernel_that_another_can_do_the_work_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

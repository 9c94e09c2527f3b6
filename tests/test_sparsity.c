/* tests/test_sparsity.c: sets of neurons: what they are, and that they depend on tokens and options alone. */
#include "core/cpu.h"
#include "offload/engine.h"
#include "tests/sparse_rows.h"
#include "tests/tiny_model.h"

#define MIB ((uint64_t)1 << 20)

static char *model_path;

static int write_model(void **unused)
{
    const tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model_path = tiny_path("sparsity.gguf");
    return tiny_write(&model, model_path, &err) == SL_OK ? 0 : -1;
}

static int forget_model(void **unused)
{
    (void)unused;
    unlink(model_path);
    free(model_path);
    return 0;
}

static sl_engine_options options_of(sl_sparsity mode, sl_predictor predictor, double density)
{
    return (sl_engine_options){.model_path = model_path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = 128,
                               .threads = 1,
                               .isa = "scalar",
                               .sparsity = mode,
                               .predictor = predictor,
                               .density = density};
}

static bool same_logits(const float *a, const float *b)
{
    return memcmp(a, b, STEPS * 387 * sizeof *a) == 0;
}

static void check_same(const float *base, const sl_engine_options *options, uint32_t at_once, const char *what)
{
    float *other = sparse_logits(options, at_once, NULL);
    if (!same_logits(base, other))
        fail_msg("%s changes the logits", what);
    free(other);
}

static const struct {
    sl_sparsity mode;
    sl_predictor predictor;
} modes[] = {{SL_SPARSITY_COARSE, SL_PREDICTOR_STORED}, {SL_SPARSITY_FINE, SL_PREDICTOR_ORACLE}, {SL_SPARSITY_FINE, SL_PREDICTOR_GATE}};
#define MODES (sizeof modes / sizeof *modes)

static void all_neurons_give_the_dense_result(void **unused)
{
    sl_engine_options dense = options_of(SL_SPARSITY_OFF, SL_PREDICTOR_STORED, 0);
    float *base = sparse_logits(&dense, STEPS, NULL);
    (void)unused;
    for (size_t i = 0; i < MODES; i++) {
        sl_engine_options options = options_of(modes[i].mode, modes[i].predictor, 1.0);
        check_same(base, &options, STEPS, "a density of 1");
        options.density = 0.25;
        float *sparse = sparse_logits(&options, STEPS, NULL);
        assert_false(same_logits(base, sparse)); /* it does something, too */
        free(sparse);
    }
    free(base);
}

static void sets_depend_on_tokens_and_options_alone(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < MODES; i++) {
        sl_engine_options options = options_of(modes[i].mode, modes[i].predictor, 0.4);
        float *base = sparse_logits(&options, 1, NULL);
        check_same(base, &options, STEPS, "rows at once");
        check_same(base, &options, 3, "three rows at once");
        options.threads = 3;
        check_same(base, &options, 2, "three threads");
        options.batch = 7;
        check_same(base, &options, 1, "a prompt in batches of 7");
        options.isa = NULL;
        check_same(base, &options, 2, "the best instruction set");
        free(base);
    }
}

/* From the definition, over activations that a scalar sum keeps. */
static void coarse_sets_are_those_of_the_paper(void **unused)
{
    sl_model model = {.layers = 1, .ff = 5};
    const sli_sparsity_shape shape = {SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 4, 2};
    const uint32_t keep = sli_sparsity_keep(5, 0.4);
    /* Rows of unequal length: each counts by its direction alone. The third is all zero and must not poison the sums. */
    const float h[4][5] = {{3, 0, -4, 0, 0}, {0, 30, 0, 0, 40}, {0, 0, 0, 0, 0}, {0, 0, 0, 5, -12}};
    const float expected[5] = {0.36f, 0.36f, 0.64f, 25.0f / 169, 0.64f + 144.0f / 169};
    sli_sparsity s;
    sl_error err = {0};
    (void)unused;
    check(sli_sparsity_create(&model, &shape, &keep, &s, &err), &err);
    assert_int_equal(s.keep[0], 2);
    sli_coarse_norms(&s, h[0], 0, 4);
    sli_coarse_see(&s, 0, h[0], 4, 0, 3);
    sli_coarse_see(&s, 0, h[0], 4, 3, 5);
    for (int j = 0; j < 5; j++)
        assert_true(fabsf(s.evidence[j] - expected[j]) < 1e-6f);
    const uint32_t *set = sli_coarse_set(&s, 0);
    assert_int_equal(set[0], 2);
    assert_int_equal(set[1], 4);
    sli_sparsity_free(&s);
}

static void what_was_chosen_is_counted(void **unused)
{
    sl_engine_options options = options_of(SL_SPARSITY_FINE, SL_PREDICTOR_ORACLE, 0.25);
    sl_engine_stats stats;
    (void)unused;
    free(sparse_logits(&options, 2, &stats));
    assert_int_equal(stats.sparse_sets, 2 * STEPS); /* two layers */
    assert_int_equal(stats.neurons_needed, 2 * STEPS * 24);
    assert_int_equal(stats.neurons_compared, stats.neurons_needed);
    assert_int_equal(stats.neurons_compared_right, stats.neurons_needed); /* the oracle is never wrong */
    options.predictor = SL_PREDICTOR_GATE;
    free(sparse_logits(&options, 2, &stats));
    assert_true(stats.neurons_compared_right < stats.neurons_compared);
}

/* What a check of drafts shows counts more than what was before it. */
static void at_a_check_earlier_evidence_fades(void **unused)
{
    sl_model model = {.layers = 1, .ff = 3};
    const sli_sparsity_shape shape = {SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 1, 1};
    const uint32_t keep = 1;
    const float early[3] = {1, 0, 0}, late[3] = {0, 0, 1};
    sli_sparsity s;
    sl_error err = {0};
    (void)unused;
    check(sli_sparsity_create(&model, &shape, &keep, &s, &err), &err);
    sli_coarse_norms(&s, early, 0, 1);
    sli_coarse_see(&s, 0, early, 1, 0, 3);
    assert_int_equal(*sli_coarse_set(&s, 0), 0);
    sli_coarse_fade(&s);
    assert_true(s.evidence[0] == 0.9f);
    sli_coarse_norms(&s, late, 0, 1);
    sli_coarse_see(&s, 0, late, 1, 0, 3);
    assert_int_equal(*sli_coarse_set(&s, 0), 2);
    sli_sparsity_free(&s);
    s = (sli_sparsity){.mode = SL_SPARSITY_OFF};
    sli_coarse_fade(&s); /* nothing to fade */
}

/* A chunk of perplexity starts from nothing: what an earlier one showed has no part in its sets. */
static void going_back_to_the_start_forgets_what_was_seen(void **unused)
{
    sl_engine_options options = options_of(SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 0.3);
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    const float *logits;
    float first[387];
    (void)unused;
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    for (int round = 0; round < 2; round++) {
        const sl_token_id prompt[] = {5, 6, 7}, next = 9, other[] = {200, 300, 301, 302};
        check(sl_session_truncate(session, 0, &err), &err);
        check(sl_session_eval(session, prompt, 3, 0, NULL, &err), &err);
        check(sl_session_eval(session, &next, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, &logits, &err), &err);
        if (round == 0)
            memcpy(first, logits, sizeof first);
        else
            assert_memory_equal(first, logits, sizeof first);
        check(sl_session_eval(session, other, 4, 0, NULL, &err), &err);
    }
    sl_session_close(session);
    sl_engine_close(engine);
}

/* Interrupts the engine in the middle of a pass. */
static void interrupt_at_second_layer(void *ctx, uint32_t layer, const float *x, uint32_t rows)
{
    (void)x;
    (void)rows;
    if (layer == 1)
        sl_engine_interrupt(ctx);
}

/* What was seen by a pass that did not end must not be counted twice when it is tried again. */
static void a_prompt_that_is_tried_again_chooses_the_same_neurons(void **unused)
{
    sl_engine_options options = options_of(SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 0.3);
    const sl_token_id before[] = {40, 41, 42}, prompt[] = {5, 6, 7, 200, 300, 301, 302, 9}, next = 11;
    float evidence[2][2 * 96];
    (void)unused;
    for (int broken = 0; broken < 2; broken++) {
        sl_engine *engine;
        sl_session *session;
        sl_error err = {0};
        options.batch = 3;
        check(sl_engine_open(&options, &engine, &err), &err);
        check(sl_session_open(engine, &session, &err), &err);
        check(sl_session_eval(session, before, 3, 0, NULL, &err), &err);
        if (broken) {
            engine->observer = (sli_observer){.see = interrupt_at_second_layer, .ctx = engine};
            assert_int_equal(sl_session_eval(session, prompt, 8, 0, NULL, &err), SL_INTERRUPTED);
            engine->observer = (sli_observer){0};
        }
        check(sl_session_eval(session, prompt, 8, 0, NULL, &err), &err);
        check(sl_session_eval(session, &next, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, &err), &err);
        memcpy(evidence[broken], engine->sparsity.evidence, sizeof evidence[broken]);
        sl_session_close(session);
        sl_engine_close(engine);
    }
    assert_memory_equal(evidence[0], evidence[1], sizeof evidence[0]);
}

static void impossible_wishes_are_refused(void **unused)
{
    sl_engine *engine;
    sl_error err = {0};
    sl_engine_options options = options_of(SL_SPARSITY_FINE, SL_PREDICTOR_STORED, 0.5);
    (void)unused;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "sluice calibrate"));
    options = options_of(SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 1.5);
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "1.5"));
    options.density = NAN;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);

    sl_session *session;
    const sl_token_id token = 3;
    options = options_of(SL_SPARSITY_OFF, SL_PREDICTOR_STORED, 0);
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_SPARSE, NULL, &err), SL_INVALID);
    sl_session_close(session);
    sl_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_neurons_give_the_dense_result),
        cmocka_unit_test(sets_depend_on_tokens_and_options_alone),
        cmocka_unit_test(coarse_sets_are_those_of_the_paper),
        cmocka_unit_test(what_was_chosen_is_counted),
        cmocka_unit_test(at_a_check_earlier_evidence_fades),
        cmocka_unit_test(going_back_to_the_start_forgets_what_was_seen),
        cmocka_unit_test(a_prompt_that_is_tried_again_chooses_the_same_neurons),
        cmocka_unit_test(impossible_wishes_are_refused),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}

/* tests/test_oracle.c: what we compute is the model, as an independent implementation understands it.
 *
 * The goldens in tests/golden come from scripts/oracle.py, which shares no code with us: double precision, no quantised activations,
 * attention as one matrix product. So logits are compared within tolerances, which differ by what the format's definition rounds. All
 * other tests of ours compare bits with ourselves; only this one can tell that all of us are wrong together.
 *
 *     test_oracle --write FOLDER
 *
 * writes the odd models that are made here, as FOLDER/NAME.gguf, so that the oracle can be asked about them again. */
#include "core/format.h"
#include "offload/tools/synth.h"
#include "tests/tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define POSITIONS_MAX 128
#define TOP           5

typedef struct golden {
    sl_token_id token[POSITIONS_MAX];
    double next_nll[POSITIONS_MAX]; /* of the token that follows */
    int top_id[POSITIONS_MAX][TOP];
    double top_logit[POSITIONS_MAX][TOP];
    size_t count;
} golden;

/* How far apart the two may be. */
typedef struct tolerance {
    double logit;    /* at most, between any of the oracle's five largest logits and ours */
    double mean_nll; /* at most, between the means over all positions */
    double top1;     /* at least this share of positions has the same largest logit */
} tolerance;

static golden read_golden(const char *name)
{
    char path[256], line[512];
    golden g = {0};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail_msg("%s: not here; tests run in the repository's root", path);
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#')
            continue;
        assert_true(g.count < POSITIONS_MAX);
        size_t p = g.count++;
        int used = 0;
        const char *at = line;
        assert_int_equal(sscanf(at, "%d %lf%n", &g.token[p], &g.next_nll[p], &used), 2);
        for (int i = 0; i < TOP; i++) {
            at += used;
            assert_int_equal(sscanf(at, "%d %lf%n", &g.top_id[p][i], &g.top_logit[p][i], &used), 2);
        }
    }
    (void)fclose(file);
    assert_true(g.count > 1);
    return g;
}

static double nll(const float *logits, uint32_t vocab, sl_token_id token)
{
    double peak = logits[0], total = 0;
    for (uint32_t i = 1; i < vocab; i++)
        peak = fmax(peak, logits[i]);
    for (uint32_t i = 0; i < vocab; i++)
        total += exp(logits[i] - peak);
    return log(total) + peak - logits[token];
}

static uint32_t largest(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static void compare(const golden *g, const float *logits, uint32_t vocab, tolerance allowed)
{
    double farthest = 0, nll_theirs = 0, nll_ours = 0;
    size_t same = 0;
    for (size_t p = 0; p < g->count; p++) {
        const float *row = logits + p * vocab;
        for (int i = 0; i < TOP; i++) {
            assert_in_range(g->top_id[p][i], 0, vocab - 1);
            farthest = fmax(farthest, fabs(row[g->top_id[p][i]] - g->top_logit[p][i]));
        }
        same += largest(row, vocab) == (uint32_t)g->top_id[p][0];
        if (p + 1 < g->count) {
            nll_theirs += g->next_nll[p];
            nll_ours += nll(row, vocab, g->token[p + 1]);
        }
    }
    double share = (double)same / (double)g->count, mean_apart = fabs(nll_ours - nll_theirs) / (double)(g->count - 1);
    print_message("# logits within %.2g, mean nll within %.2g, %.3f of the largest agree\n", farthest, mean_apart, share);
    if (!(farthest <= allowed.logit && mean_apart <= allowed.mean_nll && share >= allowed.top1))
        fail_msg("allowed are %.2g, %.2g and %.3f", allowed.logit, allowed.mean_nll, allowed.top1);
}

/* KV in f32: its rounding is not what is tested here. */
static sl_engine_options options_of(const char *path)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = (uint64_t)1 << 30,
                               .context = 256,
                               .batch = POSITIONS_MAX,
                               .all_logits = true,
                               .k_type = SL_KV_F32,
                               .v_type = SL_KV_F32};
}

/* Runs the golden's tokens, the first `dense` of them in a batch of their own where the others attend with SparQ, and compares all positions. */
static void check_options(const sl_engine_options *options, const golden *g, size_t dense, tolerance allowed)
{
    sl_error err = {0};
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    sl_engine_info info;
    if (sl_engine_open(options, &engine, &err) != SL_OK || sl_session_open(engine, &session, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_engine_describe(engine, &info);
    float *all = malloc(g->count * info.vocab * sizeof *all);
    assert_non_null(all);
    for (size_t at = 0, rows; at < g->count; at += rows) {
        const float *logits = NULL;
        unsigned flags = SL_EVAL_LOGITS | (options->sparq_k > 0 && at >= dense ? SL_EVAL_SPARQ : 0u);
        rows = options->sparq_k > 0 && at < dense ? dense - at : g->count - at;
        if (sl_session_eval(session, g->token + at, rows, flags, &logits, &err) != SL_OK)
            fail_msg("%s", err.message);
        memcpy(all + at * info.vocab, logits, rows * info.vocab * sizeof *all);
    }
    compare(g, all, info.vocab, allowed);
    free(all);
    sl_session_close(session);
    sl_engine_close(engine);
}

static void check_model(const char *path, const golden *g, tolerance allowed)
{
    sl_engine_options options = options_of(path);
    check_options(&options, g, 0, allowed);
}

static void check_random(const char *shape, uint32_t type, tolerance allowed)
{
    char name[64];
    char *path = tiny_path("oracle.gguf");
    sl_error err = {0};
    snprintf(name, sizeof name, "%s_%s.txt", shape, sl_format_of(type)->name);
    golden g = read_golden(name);
    sl_synth_options options = {.shape = shape, .path = path, .type = type, .seed = 1};
    if (sl_synth(&options, &err) != SL_OK)
        fail_msg("%s", err.message);
    check_model(path, &g, allowed);
    unlink(path);
    free(path);
}

/* Float weights round nothing but fp32's own sums: 6e-6 was measured, of which the goldens' five decimals are most. */
static const tolerance float_weights = {.logit = 2e-5, .mean_nll = 2e-6, .top1 = 1};
/* Products with quantised weights round activations to int8, at most a 254th of the largest of a block: 0.09, 0.004 and 0.94 were measured. */
static const tolerance quantised_weights = {.logit = 0.2, .mean_nll = 0.01, .top1 = 0.9};

static void a_tied_model_of_f32_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny", SL_TYPE_F32, float_weights);
}

static void f32_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_F32, float_weights);
}

static void f16_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_F16, float_weights);
}

static void bf16_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_BF16, float_weights);
}

static void q4_0_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_Q4_0, quantised_weights);
}

static void q4_1_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_Q4_1, quantised_weights);
}

static void q8_0_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-untied", SL_TYPE_Q8_0, quantised_weights);
}

static void q5_0_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q5_0, quantised_weights);
}

static void q5_1_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q5_1, quantised_weights);
}

static void iq4_nl_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_IQ4_NL, quantised_weights);
}

static void q2_k_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q2_K, quantised_weights);
}

static void q3_k_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q3_K, quantised_weights);
}

static void q4_k_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q4_K, quantised_weights);
}

static void q5_k_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q5_K, quantised_weights);
}

static void q6_k_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_Q6_K, quantised_weights);
}

static void iq4_xs_weights_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-256", SL_TYPE_IQ4_XS, quantised_weights);
}

static void opt_of_f32_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-opt", SL_TYPE_F32, float_weights);
}

static void opt_of_q8_0_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_random("tiny-opt", SL_TYPE_Q8_0, quantised_weights);
}

/* Each has what the others and the random ones have not: how many query heads share a key head, rotary factors, linear scaling, biases,
 * heads that are wider than their share, widths that are a multiple of nothing. */
static const struct odd_model {
    const char *name;
    tiny_model model;
} odd_models[] = {
    {"group1_tied",
     {.layers = 2, .d = 64, .ff = 96, .heads = 4, .kv_heads = 4, .head_dim = 16, .vocab = 387, .context = 256, .tied = true, .seed = 11}},
    {"group2_factors",
     {.layers = 3,
      .d = 96,
      .ff = 160,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .rope_factors = true,
      .seed = 12}},
    {"group4_linear_biases",
     {.layers = 2,
      .d = 101,
      .ff = 77,
      .heads = 8,
      .kv_heads = 2,
      .head_dim = 48,
      .vocab = 401,
      .context = 256,
      .biases = true,
      .rope_linear = 2.5f,
      .seed = 13}},
    {"window",
     {.layers = 2, .d = 64, .ff = 96, .heads = 4, .kv_heads = 2, .head_dim = 32, .vocab = 390, .context = 256, .window = 5, .seed = 14}},
    {"qwen2",
     {.arch = "qwen2",
      .layers = 2,
      .d = 64,
      .ff = 96,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 16,
      .vocab = 390,
      .context = 256,
      .biases = true,
      .seed = 15}},
    {"qwen3",
     {.arch = "qwen3",
      .layers = 2,
      .d = 64,
      .ff = 96,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .tied = true,
      .seed = 16}},
    {"gemma3",
     {.arch = "gemma3",
      .layers = 7,
      .d = 80,
      .ff = 96,
      .heads = 4,
      .kv_heads = 1,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .tied = true,
      .rope_linear = 8,
      .window = 6,
      .seed = 17}},
    {"gemma3_period",
     {.arch = "gemma3",
      .layers = 4,
      .d = 64,
      .ff = 96,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 16,
      .vocab = 390,
      .context = 256,
      .tied = true,
      .window = 4,
      .window_period = 2,
      .seed = 18}},
    {"phi3",
     {.arch = "phi3",
      .layers = 2,
      .d = 100,
      .ff = 77,
      .heads = 6,
      .kv_heads = 3,
      .head_dim = 16,
      .vocab = 390,
      .context = 256,
      .window = 7,
      .seed = 19}},
    {"qwen3_yarn",
     {.arch = "qwen3",
      .layers = 2,
      .d = 64,
      .ff = 96,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .rope_yarn = 4,
      .rope_original = 64,
      .seed = 20}},
    {"qwen2_yarn_magnitude",
     {.arch = "qwen2",
      .layers = 2,
      .d = 64,
      .ff = 96,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 48,
      .vocab = 390,
      .context = 256,
      .biases = true,
      .rope_yarn = 2.5f,
      .rope_original = 1000,
      .rope_magnitude = 0.8f,
      .seed = 21}},
    /* The context, 256, is longer than the original one, and is not. */
    {"phi3_long",
     {.arch = "phi3",
      .layers = 2,
      .d = 96,
      .ff = 80,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .rope_original = 255,
      .rope_longrope = true,
      .rope_magnitude = 1.19f,
      .seed = 22}},
    {"phi3_short",
     {.arch = "phi3",
      .layers = 2,
      .d = 96,
      .ff = 80,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 390,
      .context = 256,
      .rope_original = 256,
      .rope_longrope = true,
      .rope_magnitude = 1.19f,
      .seed = 22}},
};
enum { ODD_MODELS = sizeof odd_models / sizeof *odd_models };

static void check_odd(int index)
{
    char name[64];
    char *path = tiny_path("odd.gguf");
    sl_error err = {0};
    snprintf(name, sizeof name, "%s.txt", odd_models[index].name);
    golden g = read_golden(name);
    if (tiny_write(&odd_models[index].model, path, &err) != SL_OK)
        fail_msg("%s", err.message);
    check_model(path, &g, float_weights);
    unlink(path);
    free(path);
}

#define SPARQ_DENSE 20 /* the first tokens of the goldens, whose attention is dense */

/* The same model where tokens attend to a part of the cache. Near ties could be chosen otherwise than in double precision; there are none. */
static void check_sparq(const char *model, uint32_t k, uint32_t r, uint32_t local, bool reallocate)
{
    char name[64];
    char *path = tiny_path("sparq.gguf");
    sl_error err = {0};
    int index = 0;
    while (strcmp(odd_models[index].name, model) != 0)
        index++;
    snprintf(name, sizeof name, "sparq_%s_%s.txt", model, reallocate ? "on" : "off");
    golden g = read_golden(name);
    if (tiny_write(&odd_models[index].model, path, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_engine_options options = options_of(path);
    options.sparq_k = k;
    options.sparq_r = r;
    options.sparq_local = local;
    options.sparq_reallocate = reallocate ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_OFF;
    check_options(&options, &g, SPARQ_DENSE, float_weights);
    unlink(path);
    free(path);
}

static void sparq_attention_is_what_the_oracle_makes_of_the_paper(void **state)
{
    (void)state;
    check_sparq("group2_factors", 12, 8, 4, false);
    check_sparq("group2_factors", 12, 8, 4, true);
    check_sparq("group1_tied", 9, 4, 2, true);
    check_sparq("gemma3", 4, 16, 2, true); /* inside its window of 6, and over all positions in the last layer */
}

static void a_key_head_for_each_query_head_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(0);
}

static void rotary_factors_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(1);
}

static void linear_scaling_biases_and_odd_widths_compute_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(2);
}

static void a_window_hides_what_the_oracle_hides(void **state)
{
    (void)state;
    check_odd(3);
}

static void qwen2_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(4);
}

static void qwen3_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(5);
}

/* Five layers with a window, one without, and a sixth: both rotary bases, of which only one is scaled. */
static void gemma3_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(6);
}

static void gemma3_with_a_period_of_its_own_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(7);
}

static void phi3_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(8);
}

static void yarn_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(9);
    check_odd(10);
}

static void longrope_computes_what_the_oracle_does(void **state)
{
    (void)state;
    check_odd(11);
    check_odd(12);
}

static int write_odd_models(const char *folder)
{
    for (int i = 0; i < ODD_MODELS; i++) {
        char path[4096];
        sl_error err = {0};
        snprintf(path, sizeof path, "%s/%s.gguf", folder, odd_models[i].name);
        if (tiny_write(&odd_models[i].model, path, &err) != SL_OK) {
            (void)fprintf(stderr, "%s\n", err.message);
            return 1;
        }
    }
    return 0;
}

static void smollm2_computes_what_the_oracle_does(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_TEST_MODEL");
    if (path == NULL) {
        print_message("SLUICE_TEST_MODEL is not set: it names SmolLM2's GGUF file\n");
        skip();
    }
    golden g = read_golden("smollm2_logits.txt");
    /* Thirty layers add up: 0.67, 0.01 and 0.94 were measured. */
    check_model(path, &g, (tolerance){.logit = 1, .mean_nll = 0.02, .top1 = 0.9});
}

/* Q4_K, Q5_0, Q6_K and Q8_0 in one file, and a vocabulary of 262144. Logits go up to 28; 1.4, 0.009 and 0.95 were measured. */
static void gemma3_270m_computes_what_the_oracle_does(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_TEST_MODEL_GEMMA");
    if (path == NULL) {
        print_message("SLUICE_TEST_MODEL_GEMMA is not set: it names Gemma 3's GGUF file\n");
        skip();
    }
    golden g = read_golden("gemma3_logits.txt");
    check_model(path, &g, (tolerance){.logit = 2.5, .mean_nll = 0.02, .top1 = 0.9});
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tied_model_of_f32_computes_what_the_oracle_does),
        cmocka_unit_test(f32_weights_compute_what_the_oracle_does),
        cmocka_unit_test(f16_weights_compute_what_the_oracle_does),
        cmocka_unit_test(bf16_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q4_0_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q4_1_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q8_0_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q5_0_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q5_1_weights_compute_what_the_oracle_does),
        cmocka_unit_test(iq4_nl_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q2_k_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q3_k_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q4_k_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q5_k_weights_compute_what_the_oracle_does),
        cmocka_unit_test(q6_k_weights_compute_what_the_oracle_does),
        cmocka_unit_test(iq4_xs_weights_compute_what_the_oracle_does),
        cmocka_unit_test(opt_of_f32_computes_what_the_oracle_does),
        cmocka_unit_test(opt_of_q8_0_computes_what_the_oracle_does),
        cmocka_unit_test(smollm2_computes_what_the_oracle_does),
        cmocka_unit_test(gemma3_270m_computes_what_the_oracle_does),
        cmocka_unit_test(a_key_head_for_each_query_head_computes_what_the_oracle_does),
        cmocka_unit_test(rotary_factors_compute_what_the_oracle_does),
        cmocka_unit_test(linear_scaling_biases_and_odd_widths_compute_what_the_oracle_does),
        cmocka_unit_test(a_window_hides_what_the_oracle_hides),
        cmocka_unit_test(qwen2_computes_what_the_oracle_does),
        cmocka_unit_test(qwen3_computes_what_the_oracle_does),
        cmocka_unit_test(gemma3_computes_what_the_oracle_does),
        cmocka_unit_test(gemma3_with_a_period_of_its_own_computes_what_the_oracle_does),
        cmocka_unit_test(phi3_computes_what_the_oracle_does),
        cmocka_unit_test(yarn_computes_what_the_oracle_does),
        cmocka_unit_test(longrope_computes_what_the_oracle_does),
        cmocka_unit_test(sparq_attention_is_what_the_oracle_makes_of_the_paper),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_odd_models(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_model_archs.c: what the architecture table reads beyond a plain llama: rotary scaling, windows, norms of heads, OPT. */
#include "core/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model_description.h"

/* ---- rotary scaling ---- */

/* llama.cpp's rule: a factor counts as linear scaling unless the type says none; scale_linear is the factor's old name. */
static void rotary_scaling_is_none_or_linear(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float factor, old_name; /* 0: not there */
        double scale;
    } cases[] = {
        {NULL, 0, 0, 1},     {"none", 0, 0, 1},   {"none", 4, 0, 1}, {"none", 0, 4, 1}, {"linear", 0, 0, 1}, {"linear", 4, 0, 4},
        {"linear", 4, 8, 4}, {"linear", 0, 8, 8}, {NULL, 0, 8, 8},   {NULL, 4, 0, 4},   {NULL, 4, 8, 4},     {"linear", 0.5f, 0, 0.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        if (cases[i].type != NULL)
            add_text(&f, "llama.rope.scaling.type", cases[i].type);
        if (cases[i].factor > 0)
            add_real(&f, "llama.rope.scaling.factor", cases[i].factor);
        if (cases[i].old_name > 0)
            add_real(&f, "llama.rope.scale_linear", cases[i].old_name);
        add_number(&f, "llama.rope.scaling.finetuned", 1); /* says how the model was made: no part of the arithmetic */
        opened o = open_model(&f);
        if (o.model->rope_scale != cases[i].scale)
            fail_msg("case %zu: a scale of %g, not %g", i, o.model->rope_scale, cases[i].scale);
        close_model(o);
    }
}

static void other_rotary_scaling_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_text(&f, "llama.rope.scaling.type", "martian");
    check_refused(&f, SL_UNSUPPORTED, "llama.rope.scaling.type is \"martian\"; known are none, linear, yarn");
    find_key(&f, "llama.rope.scaling.type")->kind = SL_GGUF_U32;
    check_refused(&f, SL_FORMAT, "llama.rope.scaling.type");
    static const float wrong[] = {0.0f, -1.0f, 1e20f, (float)NAN, (float)INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        right_file(&f);
        add_text(&f, "llama.rope.scaling.type", "linear");
        add_real(&f, "llama.rope.scaling.factor", wrong[i]);
        check_refused(&f, SL_FORMAT, "it must be a positive number");
    }
}

static void yarn_reads_its_bounds_and_its_magnitude(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_number(&f, "llama.rope.scaling.original_context_length", 77);
    add_text(&f, "llama.rope.scaling.type", "yarn");
    opened o = open_model(&f);
    assert_true(o.model->rope_scaling == SL_ROPE_SCALING_YARN && o.model->rope_original_context == 77);
    assert_true(o.model->yarn_beta_fast == 32 && o.model->yarn_beta_slow == 1 && o.model->rope_magnitude == 1);
    close_model(o);
    add_real(&f, "llama.rope.scaling.factor", 4);
    add_real(&f, "llama.rope.scaling.yarn_beta_fast", 20);
    add_real(&f, "llama.rope.scaling.yarn_beta_slow", 2);
    add_real(&f, "llama.rope.scaling.attn_factor", 0.5f);
    o = open_model(&f);
    assert_true(o.model->yarn_beta_fast == 20 && o.model->yarn_beta_slow == 2);
    assert_true(fabs(o.model->rope_magnitude - 0.5 * (1 + 0.1 * log(4))) < 1e-12);
    close_model(o);
    add_real(&f, "llama.rope.freq_base", 1);
    check_refused(&f, SL_FORMAT, "llama.rope.freq_base is 1; YaRN needs more than 1");
    right_file(&f);
    add_real(&f, "llama.rope.scaling.yarn_log_multiplier", 0.1f);
    check_refused(&f, SL_UNSUPPORTED, "key llama.rope.scaling.yarn_log_multiplier is not known");
}

/* A pair that turns often in the original context keeps its frequency, one that turns less than once is interpolated. */
static void yarn_leaves_quick_pairs_alone(void **state)
{
    (void)state;
    description f;
    double plain[HEAD_DIM / 2], stretched[HEAD_DIM / 2];
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, NULL, "x.gguf", plain, NULL), SL_OK);
    close_model(o);
    add_text(&f, "llama.rope.scaling.type", "yarn");
    add_real(&f, "llama.rope.scaling.factor", 8);
    add_number(&f, "llama.rope.scaling.original_context_length", 1000);
    o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, NULL, "x.gguf", stretched, NULL), SL_OK);
    assert_true(stretched[0] == plain[0] && stretched[1] == plain[1]); /* 159 turns and 50 */
    assert_true(stretched[3] < plain[3] && stretched[3] > plain[3] / 8);
    assert_true(fabs(stretched[7] * 8 / plain[7] - 1) < 1e-12); /* a twentieth of a turn */
    close_model(o);
}

static void a_rotary_factor_that_is_not_positive_is_refused(void **state)
{
    (void)state;
    description f;
    double steps[HEAD_DIM / 2];
    float factors[HEAD_DIM / 2] = {1, 1, 1, 0};
    sl_error err = {0};
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, factors, "x.gguf", steps, &err), SL_FORMAT);
    assert_string_equal(err.message, "x.gguf: rotary factor 3 is 0; it must be positive");
    factors[3] = 1e-9f;
    assert_int_equal(sl_rope_steps(o.model, factors, "x.gguf", steps, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "x.gguf: rotary pair 3 turns by 3.1"));
    close_model(o);
}

/* ---- windows ---- */

static void make_phi3(description *f)
{
    static const char *const fused[] = {"attn_k", "attn_v", "ffn_gate"};
    char name[NAME_MAX];
    rename_arch(f, "phi3");
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        snprintf(name, sizeof name, "blk.%u.attn_q.weight", layer);
        tensor *qkv = find_tensor(f, name);
        snprintf(name, sizeof name, "blk.%u.attn_qkv.weight", layer);
        memcpy(qkv->name, name, sizeof name);
        qkv->shape[1] = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
        snprintf(name, sizeof name, "blk.%u.ffn_up.weight", layer);
        find_tensor(f, name)->shape[1] = 2 * FF;
        for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, fused[i]);
            find_tensor(f, name)->name[0] = '\0';
        }
    }
}

static void longrope_takes_its_factors_by_the_context(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    make_phi3(&f);
    opened o = open_model(&f);
    assert_null(sl_rope_factors(o.model, 1000000));
    close_model(o);
    add_number(&f, "phi3.rope.scaling.original_context_length", 100);
    add_text(&f, "phi3.rope.scaling.type", "longrope");
    check_refused(&f, SL_FORMAT, "tensor rope_factors_long.weight is missing; longrope needs two lists of factors");
    add_tensor(&f, "rope_factors_long.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    check_refused(&f, SL_FORMAT, "tensor rope_factors_short.weight is missing; longrope needs two lists of factors");
    add_tensor(&f, "rope_factors_short.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    o = open_model(&f);
    assert_ptr_equal(sl_rope_factors(o.model, 100), sl_model_tensor(o.model, SL_ROLE_ROPE_SHORT, 0));
    assert_ptr_equal(sl_rope_factors(o.model, 101), sl_model_tensor(o.model, SL_ROLE_ROPE_LONG, 0));
    close_model(o);
    add_real(&f, "phi3.rope.scaling.factor", 4);
    check_refused(&f, SL_UNSUPPORTED, "longrope (without a factor)");
}

static void as_gemma3(description *f)
{
    static const char *const vectors[] = {"attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"};
    right_file(f);
    rename_arch(f, "gemma3");
    for (unsigned layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
            char name[NAME_MAX];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, vectors[i]);
            add_tensor(f, name, SL_TYPE_F32, i < 2 ? HEAD_DIM : D, 0);
        }
}

static void a_window_of_llama_is_every_layers(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_model_window(o.model, 0), 0);
    close_model(o);
    add_number(&f, "llama.attention.sliding_window", 99);
    o = open_model(&f);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        assert_int_equal(sl_model_window(o.model, layer), 99);
    assert_int_equal(sl_model_rope_tables(o.model), 1);
    close_model(o);
}

static void gemma3_has_its_windows_by_period_or_as_the_file_says(void **state)
{
    (void)state;
    description f;
    as_gemma3(&f);
    opened o = open_model(&f); /* no window: one rotary base for all */
    assert_int_equal(sl_model_window(o.model, 0), 0);
    assert_int_equal(sl_model_rope_tables(o.model), 1);
    assert_true(o.model->embedding_scale == 8.0f && o.model->attention_scale == 0.25f);
    close_model(o);

    add_number(&f, "gemma3.attention.sliding_window", 7);
    o = open_model(&f); /* the sixth layer would be the first without */
    assert_true(sl_model_window(o.model, 0) == 7 && sl_model_window(o.model, 1) == 7);
    assert_true(sl_model_rope_tables(o.model) == 2 && o.model->window_rope_base == 10000.0);
    assert_int_equal(sl_model_rope_table(o.model, 1), 1);
    close_model(o);

    add_number(&f, "gemma3.attention.sliding_window_pattern", 2);
    add_real(&f, "gemma3.rope.freq_base_swa", 500.0f);
    o = open_model(&f);
    assert_true(sl_model_window(o.model, 0) == 7 && sl_model_window(o.model, 1) == 0);
    assert_true(sl_model_rope_table(o.model, 0) == 1 && sl_model_rope_table(o.model, 1) == 0);
    assert_true(o.model->window_rope_base == 500.0);
    close_model(o);

    static const uint8_t layers[] = {0, 1, 1};
    key *pattern = find_key(&f, "gemma3.attention.sliding_window_pattern");
    pattern->kind = SL_GGUF_ARRAY;
    pattern->flags = layers;
    pattern->number = LAYERS;
    o = open_model(&f);
    assert_true(sl_model_window(o.model, 0) == 0 && sl_model_window(o.model, 1) == 7);
    close_model(o);
    pattern->number = LAYERS + 1;
    check_refused(&f, SL_FORMAT, "gemma3.attention.sliding_window_pattern must be a period, or true or false for each of the 2 layers");
}

static void keys_of_gemma_that_change_the_arithmetic_otherwise_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"gemma3.final_logit_softcapping", "gemma3.attn_logit_softcapping"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        as_gemma3(&f);
        add_real(&f, names[i], 30.0f);
        check_refused(&f, SL_UNSUPPORTED, names[i]);
    }
}

static void norms_of_heads_have_a_heads_size(void **state)
{
    (void)state;
    description f;
    as_gemma3(&f);
    find_tensor(&f, "blk.1.attn_k_norm.weight")->shape[0] = KV_HEADS * HEAD_DIM;
    check_refused(&f, SL_FORMAT, "tensor blk.1.attn_k_norm.weight is 32 x 1; the model's keys ask for 16 x 1");
    as_gemma3(&f);
    find_tensor(&f, "blk.0.post_ffw_norm.weight")->name[0] = '\0';
    check_refused(&f, SL_FORMAT, "tensor blk.0.post_ffw_norm.weight is missing; architecture gemma3 needs it");
}

/* ---- OPT ---- */

static void as_opt(description *f)
{
    *f = (description){0};
    add_text(f, "general.architecture", "opt");
    add_number(f, "opt.context_length", 512);
    add_number(f, "opt.embedding_length", D);
    add_number(f, "opt.block_count", LAYERS);
    add_number(f, "opt.feed_forward_length", FF);
    add_number(f, "opt.attention.head_count", HEADS);
    add_real(f, "opt.attention.layer_norm_epsilon", 1e-5f);
    add_tensor(f, "token_embd.weight", SL_TYPE_Q8_0, D, VOCAB);
    add_tensor(f, "position_embd.weight", SL_TYPE_F16, D, 512);
    add_tensor(f, "output_norm.weight", SL_TYPE_F32, D, 0);
    add_tensor(f, "output_norm.bias", SL_TYPE_F32, D, 0);
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        static const char *const names[] = {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_up", "ffn_down"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            bool norm = strstr(names[i], "norm") != NULL, up = strcmp(names[i], "ffn_up") == 0;
            char name[NAME_MAX];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, names[i]);
            add_tensor(f, name, norm ? SL_TYPE_F32 : SL_TYPE_Q4_0, strcmp(names[i], "ffn_down") == 0 ? FF : D, norm ? 0 : up ? FF : D);
            snprintf(name, sizeof name, "blk.%u.%s.bias", layer, names[i]);
            add_tensor(f, name, SL_TYPE_F32, up ? FF : D, 0);
        }
    }
}

static void opt_has_learned_positions_biases_and_no_gate(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    opened o = open_model(&f);
    assert_false(o.model->gated);
    assert_true(o.model->tied);
    assert_int_equal(o.model->rope_dim, 0);
    assert_int_equal(o.model->kv_heads, HEADS);
    assert_int_equal(sl_model_width(o.model, SL_BUF_GATE), 0);
    assert_int_equal(sl_model_width(o.model, SL_BUF_UP), FF);
    assert_int_equal(sl_model_tensor(o.model, SL_ROLE_POSITION_EMBD, 0)->shape[1], 512);
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_FFN_UP_BIAS, 1));
    close_model(o);
    find_tensor(&f, "blk.1.ffn_down.bias")->shape[0] = FF;
    check_refused(&f, SL_FORMAT, "tensor blk.1.ffn_down.bias is ");
}

static void opt_with_norms_behind_its_blocks_is_refused_by_what_it_is(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    find_tensor(&f, "output_norm.weight")->name[0] = '\0';
    find_tensor(&f, "output_norm.bias")->name[0] = '\0';
    check_refused(&f, SL_UNSUPPORTED,
                  "has no output_norm.weight; so this opt model has norms that follow each block instead of coming before it");
}

static void positions_of_opt_are_as_many_as_its_context_has(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    find_tensor(&f, "position_embd.weight")->shape[1] = 514;
    check_refused(&f, SL_FORMAT,
                  "position_embd.weight has 514 rows for 512 positions; the first two, which are never used, must be left out");
    find_tensor(&f, "position_embd.weight")->shape[1] = 513;
    check_refused(&f, SL_FORMAT, "tensor position_embd.weight is ");
    find_tensor(&f, "position_embd.weight")->name[0] = '\0';
    check_refused(&f, SL_FORMAT, "tensor position_embd.weight is missing; architecture opt needs it");
    as_opt(&f);
    add_real(&f, "opt.rope.freq_base", 10000.0f);
    check_refused(&f, SL_UNSUPPORTED, "key opt.rope.freq_base is not known");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotary_scaling_is_none_or_linear),
        cmocka_unit_test(other_rotary_scaling_is_refused),
        cmocka_unit_test(yarn_reads_its_bounds_and_its_magnitude),
        cmocka_unit_test(yarn_leaves_quick_pairs_alone),
        cmocka_unit_test(a_rotary_factor_that_is_not_positive_is_refused),
        cmocka_unit_test(longrope_takes_its_factors_by_the_context),
        cmocka_unit_test(a_window_of_llama_is_every_layers),
        cmocka_unit_test(gemma3_has_its_windows_by_period_or_as_the_file_says),
        cmocka_unit_test(keys_of_gemma_that_change_the_arithmetic_otherwise_are_refused),
        cmocka_unit_test(norms_of_heads_have_a_heads_size),
        cmocka_unit_test(opt_has_learned_positions_biases_and_no_gate),
        cmocka_unit_test(opt_with_norms_behind_its_blocks_is_refused_by_what_it_is),
        cmocka_unit_test(positions_of_opt_are_as_many_as_its_context_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_model.c: which files the architecture table takes, and that a file it does not explain is refused by name.
 *
 * Each test takes a header that is right and changes one thing (model_description.h). What is particular to some architectures is in
 * test_model_archs.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model_description.h"

/* ---- what is taken ---- */

static void a_complete_file_is_taken_and_described(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    const sl_model *m = o.model;
    assert_string_equal(m->arch->name, "llama");
    assert_int_equal(m->layers, LAYERS);
    assert_int_equal(m->d, D);
    assert_int_equal(m->ff, FF);
    assert_int_equal(m->heads, HEADS);
    assert_int_equal(m->kv_heads, KV_HEADS);
    assert_int_equal(m->head_dim, HEAD_DIM);
    assert_int_equal(m->rope_dim, HEAD_DIM);
    assert_int_equal(m->vocab, VOCAB);
    assert_int_equal(m->context, 512);
    assert_true(m->rope_base == 10000.0 && m->rope_scale == 1.0 && m->norm_eps == 1e-5f);
    assert_int_equal(sl_model_width(m, SL_BUF_Q), HEADS * HEAD_DIM);
    assert_int_equal(sl_model_width(m, SL_BUF_V), KV_HEADS * HEAD_DIM);
    assert_int_equal(sl_model_width(m, SL_BUF_UP), FF);
    assert_int_equal(sl_model_width(m, SL_BUF_LOGITS), VOCAB);
    assert_ptr_equal(sl_model_tensor(m, SL_ROLE_FFN_DOWN, 1), sl_gguf_find_tensor(o.gguf, "blk.1.ffn_down.weight"));
    assert_ptr_equal(sl_model_tensor(m, SL_ROLE_ATTN_NORM, 0), sl_gguf_find_tensor(o.gguf, "blk.0.attn_norm.weight"));
    assert_null(sl_model_tensor(m, SL_ROLE_ATTN_Q_BIAS, 0));
    assert_null(sl_model_tensor(m, SL_ROLE_NONE, 0));
    close_model(o);
    sl_model_close(NULL);
}

static void without_an_output_matrix_the_embedding_is_the_head(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    assert_true(o.model->tied);
    assert_ptr_equal(sl_model_tensor(o.model, SL_ROLE_OUTPUT, 0), sl_gguf_find_tensor(o.gguf, "token_embd.weight"));
    close_model(o);

    add_tensor(&f, "output.weight", SL_TYPE_F16, D, VOCAB);
    o = open_model(&f);
    assert_false(o.model->tied);
    assert_ptr_equal(sl_model_tensor(o.model, SL_ROLE_OUTPUT, 0), sl_gguf_find_tensor(o.gguf, "output.weight"));
    close_model(o);
}

static void biases_and_rotary_factors_may_be_there(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_tensor(&f, "blk.1.attn_k.bias", SL_TYPE_F32, KV_HEADS * HEAD_DIM, 0);
    add_tensor(&f, "rope_freqs.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    opened o = open_model(&f);
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_ATTN_K_BIAS, 1));
    assert_null(sl_model_tensor(o.model, SL_ROLE_ATTN_K_BIAS, 0));
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_ROPE_FREQS, 0));
    close_model(o);
    find_tensor(&f, "rope_freqs.weight")->shape[0] = HEAD_DIM;
    check_refused(&f, SL_FORMAT, "tensor rope_freqs.weight is 16 x 1; the model's keys ask for 8 x 1");
    right_file(&f);
    add_tensor(&f, "blk.1.attn_q.bias", SL_TYPE_F32, HEADS * HEAD_DIM - 1, 0);
    check_refused(&f, SL_FORMAT, "tensor blk.1.attn_q.bias is 63 x 1; the model's keys ask for 64 x 1");
}

static void keys_without_effect_are_passed_over(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_number(&f, "llama.vocab_size", 1);
    add_number(&f, "general.file_type", 2);
    add_number(&f, "llamas.in.the.meadow", 3); /* another prefix */
    add_number(&f, "llama", 4);
    close_model(open_model(&f));
}

static void without_a_count_of_key_heads_each_query_head_has_its_own(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "llama.attention.head_count_kv")->kind = UINT32_MAX;
    check_refused(&f, SL_FORMAT, "tensor blk.0.attn_k.weight is 64 x 32; the model's keys ask for 64 x 64");
    find_key(&f, "llama.attention.head_count")->number = KV_HEADS; /* two heads of 32 */
    find_tensor(&f, "blk.0.attn_k.weight")->shape[1] = D;
    find_tensor(&f, "blk.0.attn_v.weight")->shape[1] = D;
    find_tensor(&f, "blk.1.attn_k.weight")->shape[1] = D;
    find_tensor(&f, "blk.1.attn_v.weight")->shape[1] = D;
    opened o = open_model(&f);
    assert_int_equal(o.model->kv_heads, KV_HEADS);
    assert_int_equal(o.model->head_dim, 32);
    close_model(o);
}

/* ---- what is refused ---- */

static void an_architecture_that_is_not_in_the_table_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "general.architecture")->text = "mamba";
    check_refused(&f, SL_UNSUPPORTED, "architecture \"mamba\" is not known; known: llama, qwen2, qwen3, gemma3, phi3, opt");
    find_key(&f, "general.architecture")->text = "llam";
    check_refused(&f, SL_UNSUPPORTED, "\"llam\"");
    find_key(&f, "general.architecture")->text = "";
    check_refused(&f, SL_UNSUPPORTED, "\"\"");
    find_key(&f, "general.architecture")->kind = UINT32_MAX;
    check_refused(&f, SL_FORMAT, "general.architecture");
    find_key(&f, "general.architecture")->kind = SL_GGUF_U32;
    check_refused(&f, SL_FORMAT, "general.architecture");
}

static void a_key_of_the_architecture_that_nobody_knows_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.rope.freq_base_swa", "llama.expert_count", "llama.", "llama.block_count.more",
                                        "llama.logit_scale"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        char said[128];
        right_file(&f);
        add_number(&f, names[i], 1);
        snprintf(said, sizeof said, "key %s is not known", names[i]);
        check_refused(&f, SL_UNSUPPORTED, said);
    }
}

static void each_key_that_is_needed_is_missed_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.context_length",       "llama.embedding_length",
                                        "llama.block_count",          "llama.feed_forward_length",
                                        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        right_file(&f);
        find_key(&f, names[i])->kind = UINT32_MAX;
        check_refused(&f, SL_FORMAT, names[i]);
        right_file(&f);
        find_key(&f, names[i])->kind = SL_GGUF_STRING;
        find_key(&f, names[i])->text = "many";
        check_refused(&f, SL_FORMAT, names[i]);
    }
}

static void numbers_out_of_range_are_refused_with_their_range(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t value;
        const char *said;
    } cases[] = {
        {"llama.block_count", 0, "llama.block_count is 0; it must be 1 to 1024"},
        {"llama.block_count", 1025, "1 to 1024"},
        {"llama.block_count", UINT32_MAX, "1 to 1024"},
        {"llama.embedding_length", 0, "32 to 131072"},
        {"llama.embedding_length", 31, "32 to 131072"},
        {"llama.embedding_length", UINT32_MAX, "32 to 131072"},
        {"llama.feed_forward_length", 0, "32 to 524288"},
        {"llama.feed_forward_length", UINT32_MAX, "32 to 524288"},
        {"llama.attention.head_count", 0, "1 to 4096"},
        {"llama.attention.head_count", UINT32_MAX, "1 to 4096"},
        {"llama.attention.head_count_kv", 0, "1 to 4096"},
        {"llama.attention.head_count_kv", UINT32_MAX, "1 to 4096"},
        {"llama.context_length", 0, "1 to 16777216"},
        {"llama.context_length", UINT32_MAX, "1 to 16777216"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        find_key(&f, cases[i].name)->number = cases[i].value;
        check_refused(&f, SL_FORMAT, cases[i].said);
    }
}

static void heads_that_do_not_divide_are_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "llama.attention.head_count_kv")->number = 3;
    check_refused(&f, SL_FORMAT, "4 query heads cannot share 3 key heads");
    find_key(&f, "llama.attention.head_count_kv")->number = 8;
    check_refused(&f, SL_FORMAT, "4 query heads cannot share 8 key heads");
    right_file(&f);
    find_key(&f, "llama.attention.head_count")->number = 128; /* more heads than components */
    check_refused(&f, SL_UNSUPPORTED, "heads of 0 key");
}

static void head_sizes_that_the_kernels_do_not_know_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t key, value;
        sl_status status;
        const char *said;
    } cases[] = {
        {24, 24, SL_UNSUPPORTED, "heads of 24 key and 24 value components"},
        {16, 32, SL_UNSUPPORTED, "heads of 16 key and 32 value components"},
        {8, 8, SL_FORMAT, "llama.attention.key_length is 8; it must be 16 to 512"},
        {528, 528, SL_FORMAT, "16 to 512"},
        {32, 32, SL_FORMAT, "tensor blk.0.attn_q.weight is 64 x 64; the model's keys ask for 64 x 128"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        add_number(&f, "llama.attention.key_length", cases[i].key);
        add_number(&f, "llama.attention.value_length", cases[i].value);
        check_refused(&f, cases[i].status, cases[i].said);
    }
    static const uint32_t rope[] = {15, 18, 513, 0, 1};
    for (size_t i = 0; i < sizeof rope / sizeof *rope; i++) {
        description f;
        right_file(&f);
        add_number(&f, "llama.rope.dimension_count", rope[i]);
        check_refused(&f, SL_FORMAT, "rope.dimension_count");
    }
    description f;
    right_file(&f);
    add_number(&f, "llama.rope.dimension_count", 8); /* half of a head turns */
    opened o = open_model(&f);
    assert_int_equal(o.model->rope_dim, 8);
    close_model(o);
}

static void a_real_that_is_no_positive_number_is_refused(void **state)
{
    (void)state;
    static const float wrong[] = {0.0f, -1e-5f, (float)NAN, (float)INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        description f;
        right_file(&f);
        find_key(&f, "llama.attention.layer_norm_rms_epsilon")->real = wrong[i];
        check_refused(&f, SL_FORMAT, "llama.attention.layer_norm_rms_epsilon is");
        right_file(&f);
        add_real(&f, "llama.rope.freq_base", wrong[i]);
        check_refused(&f, SL_FORMAT, "llama.rope.freq_base is");
    }
}

static void each_tensor_that_is_needed_is_missed_by_name(void **state)
{
    (void)state;
    description right;
    right_file(&right);
    for (size_t i = 0; i < right.tensor_count; i++) {
        description f = right;
        char said[128];
        snprintf(said, sizeof said, "tensor %s is missing", f.tensors[i].name);
        f.tensors[i].name[0] = '\0';
        check_refused(&f, SL_FORMAT, said);
    }
}

static void a_vocabulary_without_weights_is_told_from_a_damaged_model(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    f.tensor_count = 0;
    check_refused(&f, SL_FORMAT, "there are no weights in it; if it is a vocabulary alone, tokenize takes it");
}

static void a_tensor_that_nobody_uses_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {
        "blk.2.attn_norm.weight",  "blk.0.attn_q_norm.weight", "blk.0.ffn_gate.bias", "blk.01.attn_norm.weight", "output.bias",
        "rope_factors_long.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        char said[128];
        right_file(&f);
        add_tensor(&f, names[i], SL_TYPE_F32, D, 0);
        snprintf(said, sizeof said, "tensor %s is not part of architecture llama", names[i]);
        check_refused(&f, SL_UNSUPPORTED, said);
    }
}

static void each_tensor_of_another_shape_is_refused_by_name(void **state)
{
    (void)state;
    description right;
    right_file(&right);
    add_tensor(&right, "output.weight", SL_TYPE_Q8_0, D, VOCAB);
    for (size_t i = 0; i < right.tensor_count; i++)
        for (int dim = 0; dim < 4; dim++) {
            description f = right;
            tensor *t = &f.tensors[i];
            char said[128];
            if (strcmp(t->name, "token_embd.weight") == 0 && dim == 1)
                continue; /* its rows are what the vocabulary is */
            t->shape[dim] += dim == 0 ? 32 : 1;
            t->dims = t->dims > (uint32_t)dim ? t->dims : (uint32_t)dim + 1;
            snprintf(said, sizeof said, "tensor %s is ", t->name);
            check_refused(&f, SL_FORMAT, said);
        }
}

static void a_vocabulary_of_one_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_tensor(&f, "token_embd.weight")->shape[1] = 1;
    check_refused(&f, SL_FORMAT, "token_embd.weight");
}

static void vectors_must_be_f32(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_tensor(&f, "blk.1.ffn_norm.weight")->type = SL_TYPE_F16;
    check_refused(&f, SL_UNSUPPORTED, "tensor blk.1.ffn_norm.weight has type F16; a vector must be F32");
    right_file(&f);
    find_tensor(&f, "output_norm.weight")->type = SL_TYPE_Q8_0;
    check_refused(&f, SL_UNSUPPORTED, "tensor output_norm.weight has type Q8_0");
    right_file(&f);
    add_tensor(&f, "rope_freqs.weight", SL_TYPE_BF16, HEAD_DIM / 2, 0);
    check_refused(&f, SL_UNSUPPORTED, "tensor rope_freqs.weight has type BF16");
}

static void a_format_without_kernels_is_refused_by_name(void **state)
{
    (void)state;
    uint32_t q8_1;
    assert_non_null(sl_format_by_name("Q8_1", &q8_1));
    description f;
    right_file(&f);
    find_tensor(&f, "blk.0.ffn_up.weight")->type = q8_1;
    check_refused(&f, SL_UNSUPPORTED, "tensor blk.0.ffn_up.weight has type Q8_1, which is not supported; F32");
    right_file(&f);
    find_tensor(&f, "token_embd.weight")->type = q8_1;
    check_refused(&f, SL_UNSUPPORTED, "tensor token_embd.weight has type Q8_1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_file_is_taken_and_described),
        cmocka_unit_test(without_an_output_matrix_the_embedding_is_the_head),
        cmocka_unit_test(biases_and_rotary_factors_may_be_there),
        cmocka_unit_test(keys_without_effect_are_passed_over),
        cmocka_unit_test(without_a_count_of_key_heads_each_query_head_has_its_own),
        cmocka_unit_test(an_architecture_that_is_not_in_the_table_is_refused),
        cmocka_unit_test(a_key_of_the_architecture_that_nobody_knows_is_refused),
        cmocka_unit_test(each_key_that_is_needed_is_missed_by_name),
        cmocka_unit_test(numbers_out_of_range_are_refused_with_their_range),
        cmocka_unit_test(heads_that_do_not_divide_are_refused),
        cmocka_unit_test(head_sizes_that_the_kernels_do_not_know_are_refused),
        cmocka_unit_test(a_real_that_is_no_positive_number_is_refused),
        cmocka_unit_test(each_tensor_that_is_needed_is_missed_by_name),
        cmocka_unit_test(a_vocabulary_without_weights_is_told_from_a_damaged_model),
        cmocka_unit_test(a_tensor_that_nobody_uses_is_refused_by_name),
        cmocka_unit_test(each_tensor_of_another_shape_is_refused_by_name),
        cmocka_unit_test(a_vocabulary_of_one_is_refused),
        cmocka_unit_test(vectors_must_be_f32),
        cmocka_unit_test(a_format_without_kernels_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

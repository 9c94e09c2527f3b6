/* tests/test_special_tokens.c: tokens that are cut out of a text before anything else, and those that end or begin one. */
#include "core/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/vocabulary_material.h"

static void special_tokens_are_cut_out_longest_first(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    uint32_t small = add_token(r, "<b>", 3), large = add_token(r, "a<b>", 3), user = add_token(r, "USER", 4),
             unknown = add_token(r, "<unk>", 2);
    assert_true(small == 256 && large == 257 && user == 258 && unknown == 259);
    opened o = open_recipe(r);
    expect_text(o.t, "a<b><b>x<b>", true, "257 256 120 256");
    expect_text(o.t, "<a<b>b>", true, "60 257 98 62"); /* what remains around it does not join */
    expect_text(o.t, "<unk>USER", true, "259 258");
    expect_text(o.t, "<b>USER<unk>", false, "60 98 62 258 60 117 110 107 62"); /* user-defined ones always */
    close_opened(o);
}

static void pieces_of_control_tokens_show_only_when_asked(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_token(r, "<c>", 3);
    add_token(r, "\xc4\xa0u", 4); /* a user-defined text stands as it is, even where it looks like stand-ins */
    add_token(r, "<unk>", 2);
    add_token(r, "<gone>", 5);
    add_token(r, "<0x0A>", 6);
    add_token(r, "\xc4\xa0w", 1);
    opened o = open_recipe(r);
    const struct {
        sl_token id;
        bool special;
        const char *piece;
    } cases[] = {{256, true, "<c>"}, {256, false, ""}, {257, false, "\xc4\xa0u"}, {258, true, "<unk>"},
                 {258, false, ""},   {259, true, ""},  {260, false, "\n"},        {261, false, " w"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sl_str piece = sl_tokenizer_piece(o.t, cases[i].id, cases[i].special);
        assert_true(sl_str_equal(piece, cases[i].piece));
    }
    assert_null(sl_tokenizer_piece(o.t, -1, true).data);
    assert_null(sl_tokenizer_piece(o.t, 262, true).data);
    assert_true(sl_tokenizer_is_control(o.t, 256) && !sl_tokenizer_is_control(o.t, 257) && !sl_tokenizer_is_control(o.t, 262));
    assert_int_equal(sl_tokenizer_find(o.t, "<c>"), 256);
    assert_int_equal(sl_tokenizer_find(o.t, "<d>"), SL_TOKEN_NONE);
    assert_int_equal(sl_tokenizer_size(o.t), 262);
    close_opened(o);
}

static void generations_end_at_eos_and_at_well_known_markers(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_token(r, "<|im_end|>", 1); /* of the wrong type: a marker is a control token all the same */
    add_token(r, "<|eot_id|>", 3);
    add_token(r, "<fim_prefix>", 3);
    r->eos = 'z';
    opened o = open_recipe(r);
    assert_true(sl_tokenizer_ends_generation(o.t, 256) && sl_tokenizer_ends_generation(o.t, 257) && sl_tokenizer_ends_generation(o.t, 'z'));
    assert_false(sl_tokenizer_ends_generation(o.t, 258) || sl_tokenizer_ends_generation(o.t, 'y') || sl_tokenizer_ends_generation(o.t, -1));
    assert_true(sl_tokenizer_is_control(o.t, 256));
    expect_text(o.t, "<|im_end|>", true, "256");
    assert_int_equal(sl_tokenizer_eos(o.t), 'z');
    assert_int_equal(sl_tokenizer_bos(o.t), SL_TOKEN_NONE);
    close_opened(o);
}

static void bos_and_eos_go_where_the_file_asks_and_the_caller_agrees(void **state)
{
    (void)state;
    for (int asks = 0; asks < 4; asks++) {
        recipe *r = new_recipe();
        r->bos = 'B';
        r->eos = 'E';
        r->add_bos = asks & 1;
        r->add_eos = asks >> 1;
        opened o = open_recipe(r);
        const char *expected[4] = {"120", "66 120", "120 69", "66 120 69"};
        for (int agrees = 0; agrees < 2; agrees++) {
            char got[64];
            sl_tokens list = encode(o.t, "x", 1, agrees, false);
            spell(&list, got, sizeof got);
            sl_tokens_free(&list);
            assert_string_equal(got, expected[agrees ? asks : 0]);
        }
        close_opened(o);
    }
    recipe *r = new_recipe(); /* the llama family adds BOS where the file says nothing */
    r->pre = "llama-bpe";
    r->bos = 'B';
    opened o = open_recipe(r);
    sl_tokens list = encode(o.t, "x", 1, true, false);
    assert_int_equal(list.count, 2);
    sl_tokens_free(&list);
    close_opened(o);
}

static void special_ids_beyond_the_vocabulary_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->bos = 256;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.bos_token_id is 256, but the vocabulary has only 256 tokens");
    r = new_recipe();
    r->eos = UINT32_MAX;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.eos_token_id is 4294967295");
    r = new_recipe();
    r->add_bos = 1;
    expect_refused(r, SL_FORMAT, "there is no tokenizer.ggml.bos_token_id");
    r = new_recipe();
    r->add_eos = 1;
    expect_refused(r, SL_FORMAT, "there is no tokenizer.ggml.eos_token_id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_tokens_are_cut_out_longest_first),
        cmocka_unit_test(pieces_of_control_tokens_show_only_when_asked),
        cmocka_unit_test(generations_end_at_eos_and_at_well_known_markers),
        cmocka_unit_test(bos_and_eos_go_where_the_file_asks_and_the_caller_agrees),
        cmocka_unit_test(special_ids_beyond_the_vocabulary_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

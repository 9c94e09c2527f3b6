/* tests/test_tokenizer.c: text to tokens and back, byte-level; merging by score is in test_spm.c, special tokens in test_special_tokens.c.
 *
 * What makes the ids those that the real models were trained with is compared with goldens, which need SLUICE_TEST_MODEL (SmolLM2's GGUF) and
 * SLUICE_TEST_MODEL_GEMMA. */
#include "core/tokenizer.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/vocabulary_material.h"

/* ---- bytes and pieces ---- */

static void bytes_and_their_stand_ins_map_both_ways(void **state)
{
    (void)state;
    bool seen[0x200] = {0};
    for (int byte = 0; byte < 256; byte++) {
        char text[2];
        size_t length = sli_byte_to_text((uint8_t)byte, text);
        uint32_t code = 0;
        assert_int_equal(sli_utf8_next(text, length, &code), length);
        assert_true(code > 0x20 && code < 0x144 && !seen[code]);
        seen[code] = true;
        assert_int_equal(sli_code_to_byte(code), byte);
    }
    assert_int_equal(sli_code_to_byte(0x120), ' ');
    assert_int_equal(sli_code_to_byte(0x10a), '\n');
    assert_int_equal(sli_code_to_byte(0x144), -1);
    assert_int_equal(sli_code_to_byte(' '), -1);
    char out[8];
    assert_int_equal(sli_text_to_bytes("\xc4\xa0"
                                       "a \xe4\xbd\xa0",
                                       7, out),
                     6); /* what is no stand-in stays: a space, and U+4F60 */
    assert_memory_equal(out, " a \xe4\xbd\xa0", 6);
}

static void only_well_formed_utf8_is_decoded(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t length, expected;
        uint32_t code;
    } cases[] = {
        {"a", 1, 1, 'a'},
        {"\xc3\xa9", 2, 2, 0xe9},
        {"\xe4\xbd\xa0", 3, 3, 0x4f60},
        {"\xf4\x8f\xbf\xbf", 4, 4, 0x10ffff},
        {"\x80", 1, 0, 0},
        {"\xc0\x80", 2, 0, 0},
        {"\xc1\xbf", 2, 0, 0},
        {"\xe0\x9f\xbf", 3, 0, 0},
        {"\xed\xa0\x80", 3, 0, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0, 0},
        {"\xf4\x90\x80\x80", 4, 0, 0},
        {"\xf5\x80\x80\x80", 4, 0, 0},
        {"\xe4\xbd", 2, 0, 0},
        {"\xc3", 1, 0, 0},
        {"\xc3(", 2, 0, 0},
        {"\xff", 1, 0, 0},
        {"", 0, 0, 0},
        {"\xed\x9f\xbf", 3, 3, 0xd7ff},
        {"\xee\x80\x80", 3, 3, 0xe000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t code = 0;
        assert_int_equal(sli_utf8_next(cases[i].text, cases[i].length, &code), cases[i].expected);
        assert_int_equal(code, cases[i].expected > 0 ? cases[i].code : 0);
    }
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a b");
    add_token(r, "<x>", 3);
    opened o = open_recipe(r);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    expect_round_trip(o.t, all, sizeof all, true);
    uint64_t seed = 1;
    for (int round = 0; round < 300; round++) {
        char text[200];
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[i] = "ab <x>\n\xc3\xa9\xe4\xbd\xa0\xff\x80 1"[(seed >> 33) % 16];
        }
        expect_round_trip(o.t, text, (size_t)(seed >> 40) % sizeof text, round % 2);
    }
    close_opened(o);
}

static void invalid_utf8_becomes_a_token_a_byte(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "\xc3\xa4 \xc2\xbd"); /* the bytes E4 BD, which begin a Chinese character */
    opened o = open_recipe(r);
    expect_text(o.t, "\xe4\xbd\xa0", false, "256 160"); /* whole: merged */
    expect_text(o.t, "\xe4\xbd", false, "228 189");     /* cut short: not */
    expect_text(o.t,
                "a\xff"
                "b",
                false, "97 255 98");
    close_opened(o);
}

static void a_byte_without_a_token_is_left_out(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    strcpy(r->tokens['q'].text, "qq"); /* now 'q' has none */
    add_merge(r, "a b");
    opened o = open_recipe(r);
    expect_text(o.t, "aqb", false, "97 98"); /* and its neighbours do not join across it */
    expect_text(o.t, "qab", false, "256");
    close_opened(o);
}

static void nothing_gives_nothing(void **state)
{
    (void)state;
    opened o = open_recipe(new_recipe());
    expect(o.t, "", 0, true, "");
    expect(o.t, NULL, 0, true, "");
    close_opened(o);
}

/* ---- merging ---- */

static void the_lowest_rank_goes_first_then_the_leftmost(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    uint32_t bc = add_merge(r, "b c"), ab = add_merge(r, "a b"), aa = add_merge(r, "a a");
    assert_true(bc == 256 && ab == 257 && aa == 258);
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "97 256");
    expect_text(o.t, "ab", false, "257");
    expect_text(o.t, "aaa", false, "258 97");
    close_opened(o);
}

static void a_merge_listed_twice_counts_once(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a b");
    add_merge(r, "b c");
    strcpy(r->merges[r->merge_count++], "a b");
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "256 99");
    close_opened(o);
}

/* The definition: while any adjacent pair is a merge, join the one of lowest rank, the leftmost of equals. Merge i gives token 256 + i. */
static size_t merge_by_definition(sl_token *ids, size_t count, sl_token pairs[][2], size_t merges)
{
    for (;;) {
        size_t best = merges, at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (size_t m = 0; m < best; m++) {
                if (pairs[m][0] == ids[i] && pairs[m][1] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
            }
        }
        if (best == merges)
            return count;
        ids[at] = (sl_token)(BYTES + best);
        memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof *ids);
        count--;
    }
}

static void merging_agrees_with_its_definition(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 20; round++) {
        recipe *r = new_recipe();
        sl_token pairs[40][2];
        size_t merges = 0;
        for (int attempt = 0; attempt < 60 && merges < 40; attempt++) {
            uint32_t pool[43] = {'a', 'b', 'c'}, pool_size = 3;
            for (size_t m = 0; m < merges; m++)
                pool[pool_size++] = (uint32_t)(BYTES + m);
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t left = pool[(seed >> 33) % pool_size], right = pool[(seed >> 43) % pool_size];
            char text[2 * TEXT_MAX], joined[2 * TEXT_MAX];
            snprintf(text, sizeof text, "%s %s", r->tokens[left].text, r->tokens[right].text);
            snprintf(joined, sizeof joined, "%s%s", r->tokens[left].text, r->tokens[right].text);
            bool fresh = strlen(text) < TEXT_MAX;
            for (uint32_t i = BYTES; i < r->token_count; i++)
                fresh = fresh && strcmp(r->tokens[i].text, joined) != 0;
            if (!fresh)
                continue;
            add_merge(r, text);
            pairs[merges][0] = (sl_token)left;
            pairs[merges++][1] = (sl_token)right;
        }
        opened o = open_recipe(r);
        for (int text = 0; text < 50; text++) {
            char letters[120];
            sl_token ids[120];
            for (size_t i = 0; i < sizeof letters; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                letters[i] = "aaabbc"[(seed >> 33) % 6];
                ids[i] = letters[i];
            }
            size_t count = merge_by_definition(ids, sizeof letters, pairs, merges);
            sl_tokens got = encode(o.t, letters, sizeof letters, false, false);
            assert_int_equal(got.count, count);
            assert_memory_equal(got.ids, ids, count * sizeof *ids);
            sl_tokens_free(&got);
        }
        close_opened(o);
    }
}

static void a_million_equal_letters_are_no_trouble(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a a");
    add_merge(r, "aa aa");
    add_merge(r, "aaaa aaaa");
    opened o = open_recipe(r);
    size_t length = 1000003; /* quadratic merging would take minutes */
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'a', length);
    sl_tokens list = encode(o.t, text, length, false, false);
    assert_int_equal(list.count, 125000 + 2);
    assert_int_equal(list.ids[124999], 258);
    assert_int_equal(list.ids[125000], 256);
    assert_int_equal(list.ids[125001], 'a');
    sl_tokens_free(&list);
    memset(text, ' ', length);
    expect_round_trip(o.t, text, length, false);
    free(text);
    close_opened(o);
}

static void pieces_part_words_digits_and_spaces(void **state)
{
    (void)state;
    const struct {
        const char *pre, *ids;
    } cases[] = {
        /* tokens: 256 "12", 257 " a", 258 "!!", 259 "!!\n" */
        {"smollm", "257 49 50 51 258 10"}, {"gpt-2", "257 256 51 258 10"},   {"llama-bpe", "257 256 51 259"},
        {"qwen2", "257 49 50 51 259"},     {"default", "257 256 51 258 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        recipe *r = new_recipe();
        r->pre = cases[i].pre;
        add_merge(r, "1 2");
        add_merge(r, "\xc4\xa0 a");
        add_merge(r, "! !");
        add_merge(r, "!! \xc4\x8a");
        opened o = open_recipe(r);
        expect_text(o.t, " a123!!\n", false, cases[i].ids);
        close_opened(o);
    }
}

static void a_piece_that_is_a_token_is_taken_whole_where_the_family_says_so(void **state)
{
    (void)state;
    for (int llama = 0; llama < 2; llama++) {
        recipe *r = new_recipe();
        r->pre = llama ? "llama-bpe" : "gpt-2";
        add_token(r, "xyz", 1); /* no merges lead there */
        add_token(r, "\xc4\xa0\xc4\xa0", 1);
        opened o = open_recipe(r);
        expect_text(o.t, "xyz", false, llama ? "256" : "120 121 122");
        expect_text(o.t, "  ", false, llama ? "257" : "32 32");
        expect_text(o.t, "xyzx", false, "120 121 122 120");
        close_opened(o);
    }
}

/* ---- what is refused ---- */

static void damaged_vocabularies_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->no_tokens = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is missing");
    r = new_recipe();
    r->tokens_are_numbers = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is not an array of strings");
    r = new_recipe();
    r->token_count = r->types = 0;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is empty");
    r = new_recipe();
    add_token(r, "x", 1);
    expect_refused(r, SL_FORMAT, "tokens 120 and 256 have the same text 'x'");
    r = new_recipe();
    r->types = 255;
    expect_refused(r, SL_FORMAT, "has 255 entries, but there are 256 tokens");
    r = new_recipe();
    r->tokens[9].kind = 7;
    expect_refused(r, SL_FORMAT, "token 9 has type 7");
    r = new_recipe();
    r->tokens[9].kind = 6;
    expect_refused(r, SL_FORMAT, "token 9 is of type byte");
}

static void damaged_merges_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->no_merges = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.merges is missing");
    const struct {
        const char *merge, *words;
    } cases[] = {{"ab", "merge 0 is 'ab'"}, {"", "merge 0 is ''"},  {"a ", "merge 0 is 'a '"}, {" a", "merge 0 is ' a'"},
                 {"zz a", "left half"},     {"a zz", "right half"}, {"a b", "gives a token"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        r = new_recipe();
        strcpy(r->merges[r->merge_count++], cases[i].merge);
        expect_refused(r, SL_FORMAT, cases[i].words);
    }
}

static void unknown_models_and_pre_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->model = "bert";
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.model is 'bert'");
    r = new_recipe();
    r->model = NULL;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.model");
    r = new_recipe();
    r->pre = "martian";
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.pre is 'martian'");
    r = new_recipe();
    r->pre = NULL;
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.pre is missing");
}

/* ---- the real vocabulary ---- */

static bool open_file(const char *variable, const char *model, opened *o)
{
    const char *path = getenv(variable);
    if (!path) {
        print_message("%s is not set: it names %s's GGUF file\n", variable, model);
        return false;
    }
    sl_error err = {0};
    if (sl_gguf_open(path, &o->gguf, &err) != SL_OK || sl_tokenizer_open(o->gguf, &o->t, &err) != SL_OK)
        fail_msg("%s", err.message);
    return true;
}

static bool open_model(opened *o)
{
    return open_file("SLUICE_TEST_MODEL", "SmolLM2", o);
}

static const struct golden {
    bool parse_special;
    const char *text;
    size_t length;
    const char *ids;
} goldens[] =
    {
#include "tests/golden/tokenizer_smollm.txt"
},
  gemma_goldens[] = {
#include "tests/golden/tokenizer_gemma.txt"
};

static void smollm_gives_the_ids_of_llama_cpp(void **state)
{
    (void)state;
    opened o;
    if (!open_model(&o))
        skip();
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++)
        expect(o.t, goldens[i].text, goldens[i].length, goldens[i].parse_special, goldens[i].ids);
    assert_int_equal(sl_tokenizer_bos(o.t), 1);
    assert_int_equal(sl_tokenizer_eos(o.t), 2);
    assert_true(sl_tokenizer_ends_generation(o.t, 0) && sl_tokenizer_ends_generation(o.t, 2) && !sl_tokenizer_ends_generation(o.t, 1));
    close_opened(o);
}

static void gemma_gives_the_ids_of_llama_cpp(void **state)
{
    (void)state;
    opened o;
    if (!open_file("SLUICE_TEST_MODEL_GEMMA", "Gemma 3", &o))
        skip();
    for (size_t i = 0; i < sizeof gemma_goldens / sizeof *gemma_goldens; i++) {
        const struct golden *g = &gemma_goldens[i];
        expect(o.t, g->text, g->length, g->parse_special, g->ids);
        if (memmem(g->text, g->length, SPACE, strlen(SPACE)) == NULL) /* which comes back as a space */
            expect_round_trip(o.t, g->text, g->length, g->parse_special);
    }
    assert_true(sl_tokenizer_bos(o.t) == 2 && sl_tokenizer_eos(o.t) == 1 && sl_tokenizer_adds_bos(o.t));
    assert_true(sl_tokenizer_ends_generation(o.t, 1) && sl_tokenizer_ends_generation(o.t, 106)); /* <end_of_turn> */
    close_opened(o);
}

static void smollm_takes_no_more_memory_than_it_says(void **state)
{
    (void)state;
    opened o;
    if (!open_model(&o))
        skip();
    size_t said = sl_tokenizer_heap_bytes(o.t);
    sl_tokenizer_close(o.t);
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(sl_tokenizer_open(o.gguf, &o.t, NULL), SL_OK);
    struct mallinfo2 after = mallinfo2();
    size_t taken = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd; /* 0 where a sanitizer replaces malloc */
    assert_true(taken <= said + 16384); /* the allocator's own rounding: 4 KiB for each of the large tables */
    assert_true(said < 4u << 20);
    close_opened(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_their_stand_ins_map_both_ways),
        cmocka_unit_test(only_well_formed_utf8_is_decoded),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(invalid_utf8_becomes_a_token_a_byte),
        cmocka_unit_test(a_byte_without_a_token_is_left_out),
        cmocka_unit_test(nothing_gives_nothing),
        cmocka_unit_test(the_lowest_rank_goes_first_then_the_leftmost),
        cmocka_unit_test(a_merge_listed_twice_counts_once),
        cmocka_unit_test(merging_agrees_with_its_definition),
        cmocka_unit_test(a_million_equal_letters_are_no_trouble),
        cmocka_unit_test(pieces_part_words_digits_and_spaces),
        cmocka_unit_test(a_piece_that_is_a_token_is_taken_whole_where_the_family_says_so),
        cmocka_unit_test(damaged_vocabularies_are_refused),
        cmocka_unit_test(damaged_merges_are_refused),
        cmocka_unit_test(unknown_models_and_pre_tokenizers_are_refused_by_name),
        cmocka_unit_test(smollm_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(gemma_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(smollm_takes_no_more_memory_than_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

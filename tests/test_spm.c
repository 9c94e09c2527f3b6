/* tests/test_spm.c: vocabularies that merge by score, and their rules for spaces.
 *
 * The texts' ids in a real one are compared in test_tokenizer.c. */
#include "core/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/vocabulary_material.h"

static void the_highest_score_goes_first_then_the_leftmost(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "a", -9);
    add_scored(r, "b", -9);
    add_scored(r, "c", -9);
    add_scored(r, "ab", -3); /* 262 */
    add_scored(r, "bc", -2);
    add_scored(r, "aa", -3);
    add_scored(r, "aab", -1); /* 265 */
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "259 263");
    expect_text(o.t, "ab", false, "262");
    expect_text(o.t, "aaa", false, "264 259");
    expect_text(o.t, "aab", false, "265"); /* by way of aa, the leftmost of two equals */
    expect_text(o.t, "aaab", false, "264 262");
    close_opened(o);
}

static void what_is_no_token_becomes_its_bytes(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "\xc3\xa9", -1); /* 259 */
    opened o = open_recipe(r);
    expect_text(o.t, "\xc3\xa9", false, "259");
    expect_text(o.t, "\xc3\xa8", false, "195 168");
    expect_text(o.t, "x\n", false, "120 10");
    expect_text(o.t, " ", false, "226 150 129"); /* the space's own spelling, which comes back as a space only where it is a token */
    expect_text(o.t,
                "\xff\xe2"
                "a",
                false, "255 226 97");
    expect(o.t, "a\0b", 3, false, "97 0 98");
    close_opened(o);
}

static void a_space_goes_before_a_text_and_after_each_special_token(void **state)
{
    (void)state;
    for (int asks = 0; asks < 2; asks++) {
        recipe *r = new_scored();
        r->add_space = asks ? -1 : 0; /* the default is yes */
        add_scored(r, SPACE, -5);
        add_scored(r, "a", -5);
        add_scored(r, SPACE "a", -1);
        opened o = open_recipe(r);
        expect_text(o.t, "a<s>a a", true, asks ? "261 257 261 261" : "260 257 260 261");
        expect_text(o.t, SPACE "a", false, asks ? "259 261" : "261"); /* the spelling itself is as good as a space */
        expect_text(o.t, "", false, "");
        sl_tokens list = encode(o.t, "a", 1, true, false);
        assert_int_equal(list.ids[0], 257); /* BOS, unless the file says no */
        sl_tokens_free(&list);
        assert_true(sl_str_equal(sl_tokenizer_piece(o.t, 261, false), " a"));
        assert_true(sl_str_equal(sl_tokenizer_piece(o.t, 10, false), "\n"));
        close_opened(o);
    }
}

/* The definition, by looking at all neighbours again and again; vocabularies in which tokens do have spaces inside. */
static size_t merge_by_scores(const recipe *r, char parts[][TEXT_MAX], size_t count)
{
    for (;;) {
        size_t at = count;
        float best = -INFINITY;
        for (size_t i = 0; i + 1 < count; i++) {
            size_t length = strlen(parts[i]);
            for (uint32_t id = 0; id < r->token_count; id++)
                if (strncmp(r->tokens[id].text, parts[i], length) == 0 && strcmp(r->tokens[id].text + length, parts[i + 1]) == 0 &&
                    (at == count || r->tokens[id].score > best)) {
                    best = r->tokens[id].score;
                    at = i;
                }
        }
        if (at == count)
            return count;
        memcpy(parts[at] + strlen(parts[at]), parts[at + 1], strlen(parts[at + 1]) + 1);
        memmove(parts[at + 1], parts[at + 2], (count - at - 2) * TEXT_MAX);
        count--;
    }
}

static void merging_by_score_agrees_with_its_definition(void **state)
{
    (void)state;
    static char parts[64][TEXT_MAX];
    static const char *const letters[] = {"a", "b", SPACE, "\xc3\xa9"};
    uint64_t seed = 3;
    for (int round = 0; round < 20; round++) {
        recipe *r = new_scored();
        r->add_space = 0;
        for (int i = 0; i < 4; i++)
            add_scored(r, letters[i], -20);
        for (int i = 0; i < 40; i++) {
            char text[2 * TEXT_MAX];
            bool fresh = true;
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            const char *left = r->tokens[259 + (seed >> 33) % (r->token_count - 259)].text;
            snprintf(text, sizeof text, "%s%s", left, letters[(seed >> 53) % (round % 2 ? 2 : 4)]);
            for (uint32_t id = 0; id < r->token_count; id++)
                fresh = fresh && strcmp(r->tokens[id].text, text) != 0;
            if (fresh && strlen(text) < 20)
                add_scored(r, text, -(float)((seed >> 45) % 8));
        }
        recipe copy = *r;
        opened o = open_recipe(r);
        for (int text = 0; text < 30; text++) {
            char spelled[64 * 4] = "", got[4096], expected[4096];
            sl_tokens ids = {0};
            size_t count = 40;
            for (size_t i = 0; i < count; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                strcpy(parts[i], letters[(seed >> 33) % 4]);
                strcat(spelled, strcmp(parts[i], SPACE) == 0 ? " " : parts[i]);
            }
            count = merge_by_scores(&copy, parts, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(sl_tokens_push(&ids, sl_tokenizer_find(o.t, parts[i]), NULL), SL_OK);
            spell(&ids, expected, sizeof expected);
            sl_tokens_free(&ids);
            ids = encode(o.t, spelled, strlen(spelled), false, false);
            spell(&ids, got, sizeof got);
            sl_tokens_free(&ids);
            assert_string_equal(got, expected);
        }
        close_opened(o);
    }
}

static void a_million_equal_characters_are_no_trouble_for_scores(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "aa", -1); /* 259 */
    add_scored(r, "aaaa", -2);
    opened o = open_recipe(r);
    size_t length = 1000003;
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'a', length);
    sl_tokens list = encode(o.t, text, length, false, false);
    assert_int_equal(list.count, 250000 + 2);
    assert_true(list.ids[249999] == 260 && list.ids[250000] == 259 && list.ids[250001] == 'a');
    sl_tokens_free(&list);
    free(text);
    close_opened(o);
}

static void phi_3_drops_the_space_after_a_special_token(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->name = "Microsoft Phi-3 mini";
    add_token(r, "<|user|>", 3); /* 259 */
    r->add_space = 0;
    r->scores = r->token_count;
    opened o = open_recipe(r);
    expect_text(o.t, "<|user|> \n\tx<s> x", true, "259 120 257 226 150 129 120");
    expect_text(o.t, "<|user|> ", true, "259");
    close_opened(o);
}

static void damaged_scores_are_refused(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->scores = -1;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.scores is missing");
    r = new_scored();
    r->scores = 258;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.scores has 258 entries, but there are 259 tokens");
    r = new_scored();
    r->tokens[7].score = NAN;
    expect_refused(r, SL_FORMAT, "the score of token 7 is no number");
    r = new_scored();
    strcpy(r->tokens[0x41].text, "bee");
    r->tokens[0x41].kind = 1;
    expect_refused(r, SL_UNSUPPORTED, "no token <0x41>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_score_goes_first_then_the_leftmost),
        cmocka_unit_test(what_is_no_token_becomes_its_bytes),
        cmocka_unit_test(a_space_goes_before_a_text_and_after_each_special_token),
        cmocka_unit_test(merging_by_score_agrees_with_its_definition),
        cmocka_unit_test(a_million_equal_characters_are_no_trouble_for_scores),
        cmocka_unit_test(phi_3_drops_the_space_after_a_special_token),
        cmocka_unit_test(damaged_scores_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

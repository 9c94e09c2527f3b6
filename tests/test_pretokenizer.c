/* tests/test_pretokenizer.c: where each pre-tokenizer cuts. That these are the places where llama.cpp cuts, too, bench/tokenizers.py finds out. */
#include "core/pretokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct joined {
    char text[512];
    size_t length;
} joined;

static sl_status join(void *arg, const char *piece, size_t length, sl_error *err)
{
    joined *j = arg;
    (void)err;
    assert_true(length > 0 && j->length + length + 2 < sizeof j->text);
    if (j->length > 0)
        j->text[j->length++] = '|';
    memcpy(j->text + j->length, piece, length);
    j->length += length;
    j->text[j->length] = '\0';
    return SL_OK;
}

static sl_status count_bytes(void *arg, const char *piece, size_t length, sl_error *err)
{
    (void)piece;
    (void)err;
    *(size_t *)arg += length;
    return SL_OK;
}

static sli_pretokenizer *open_named(const char *name)
{
    sli_pretokenizer *p;
    sl_error err = {0};
    if (sli_pretokenizer_open((sl_str){name, strlen(name)}, "x.gguf", &p, &err) != SL_OK)
        fail_msg("%s", err.message);
    return p;
}

/* The pieces, with | between them. */
static void expect_pieces(const char *name, const char *text, const char *pieces)
{
    sli_pretokenizer *p = open_named(name);
    joined j = {.length = 0};
    assert_int_equal(sli_pretokenizer_split(p, text, strlen(text), join, &j, NULL), SL_OK);
    if (strcmp(j.text, pieces) != 0)
        fail_msg("%s cuts '%s' into %s, not %s", name, text, j.text, pieces);
    sli_pretokenizer_close(p);
}

static void words_take_the_space_before_them(void **state)
{
    (void)state;
    const char *text = "It's  a tale, said: IT'S 2024!!\n\n x";
    expect_pieces("gpt-2", text, "It|'s| | a| tale|,| said|:| IT|'|S| 2024|!!|\n\n| x");
    expect_pieces("smollm", text, "It|'s| | a| tale|,| said|:| IT|'|S| |2|0|2|4|!!|\n\n| x");
    expect_pieces("falcon", text, "It|'|s| | a| tale|,| said|:| IT|'|S| |202|4|!!|\n\n| x");
    expect_pieces("default", text, "It|'|s| | a| tale|,| said|:| IT|'|S| |202|4|!!|\n\n| x");
    expect_pieces("poro-chat", text, "It's| | a| tale|,| said:| IT'S| 2024|!!\n\n| x");
    expect_pieces("viking", text, "It's| | a| tale|,| said:| IT'S| |2|0|2|4|!!\n\n| x");
}

static void later_vocabularies_take_signs_and_line_ends_along(void **state)
{
    (void)state;
    const char *text = "(It'S  a/b 12345!!\n\n x";
    expect_pieces("llama-bpe", text, "(It|'S| | a|/b| |123|45|!!\n\n| x");
    expect_pieces("dbrx", text, "(It|'S| | a|/b| |123|45|!!\n\n| x");
    expect_pieces("glm4", text, "(It|'S| | a|/b| |123|45|!!\n\n| x");
    expect_pieces("qwen2", text, "(It|'S| | a|/b| |1|2|3|4|5|!!\n\n| x");
    expect_pieces("seed-coder", text, "(It|'S| | a|/b| |1|2|3|4|5|!!|\n\n| x");
    expect_pieces("minicpm5", text, "(It|'S| | a|/b| |123|45|!!\n\n| x");
}

static void capitals_begin_a_word_where_the_vocabulary_says_so(void **state)
{
    (void)state;
    const char *text = "XMLHttp aB It's 1234 /\n";
    expect_pieces("tekken", text, "XMLHttp| a|B| It|'s| |1|2|3|4| /\n");
    expect_pieces("gpt-4o", text, "XMLHttp| a|B| It's| |123|4| /\n");
    expect_pieces("tekken", "a\xc3\x84\xc3\xa4z", "a\xc3\x84\xc3\xa4z"); /* only ASCII's capitals count, as llama.cpp has it */
}

static void marks_belong_to_letters_where_the_vocabulary_says_so(void **state)
{
    (void)state;
    const char *text =
        "e\xcc\x81t\xc3\xa9 \xe0\xa4\xa8\xe0\xa5\x80"; /* e and an accent; two letters of Devanagari's, the second one a mark */
    expect_pieces("qwen2", text, "e|\xcc\x81t\xc3\xa9| \xe0\xa4\xa8|\xe0\xa5\x80");
    expect_pieces("qwen35", text, "e\xcc\x81t\xc3\xa9| \xe0\xa4\xa8\xe0\xa5\x80");
    expect_pieces("deepseek-v3", text, "e\xcc\x81t\xc3\xa9| \xe0\xa4\xa8\xe0\xa5\x80");
}

static void deepseeks_part_scripts_and_line_ends(void **state)
{
    (void)state;
    const char *text = "Hi, you\n12345 \xe4\xbd\xa0\xe5\xa5\xbd"
                       "abc  "; /* two Chinese characters */
    expect_pieces("deepseek-llm", text, "Hi|,| you|\n|12345| |\xe4\xbd\xa0\xe5\xa5\xbd|abc|  ");
    expect_pieces("deepseek-coder", text, "Hi|,| you|\n|1|2|3|4|5| |\xe4\xbd\xa0\xe5\xa5\xbd|abc|  ");
    expect_pieces("deepseek-v3", text, "Hi|,| you|\n|123|45| |\xe4\xbd\xa0\xe5\xa5\xbd|abc|  ");
    expect_pieces("deepseek-v3", "a _b+ c", "a| _|b|+| c"); /* a sign goes with the letters behind it, but not across a space */
    expect_pieces("deepseek-v3", "a_b", "a|_b");
}

static void long_space_is_cut_by_powers_of_two(void **state)
{
    (void)state;
    expect_pieces("llama-bpe", "a          b", "a|         | b");
    expect_pieces("jais-2", "a          b", "a|        | | b");
    expect_pieces("jais-2", "a             ", "a|        |    | ");
}

static void a_piece_that_ends_in_a_long_run_is_cut_in_linear_time(void **state)
{
    (void)state;
    enum { LENGTH = 300000 };
    static char text[LENGTH + 1];
    static const char *const names[] = {"deepseek-llm", "deepseek-v3", "jais-2", "tekken", "gpt-4o", "qwen35", "seed-coder"};
    static const char fill[] = " \nAa1!";
    for (size_t f = 0; fill[f]; f++) {
        memset(text, fill[f], LENGTH);
        text[LENGTH - 1] = 'x';
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            size_t count = 0;
            sli_pretokenizer *p = open_named(names[i]);
            assert_int_equal(sli_pretokenizer_split(p, text, LENGTH, count_bytes, &count, NULL), SL_OK);
            assert_int_equal(count, LENGTH);
            sli_pretokenizer_close(p);
        }
    }
}

static void an_unknown_name_is_refused_with_those_that_are_known(void **state)
{
    (void)state;
    sli_pretokenizer *p = (sli_pretokenizer *)1;
    sl_error err = {0};
    assert_int_equal(sli_pretokenizer_open((sl_str){"martian", 7}, "x.gguf", &p, &err), SL_UNSUPPORTED);
    assert_null(p);
    assert_non_null(strstr(err.message, "x.gguf: tokenizer.ggml.pre is 'martian'"));
    assert_non_null(strstr(err.message, "smollm, gpt-2, llama-bpe"));
    assert_non_null(strstr(err.message, "minicpm5, default")); /* to the last of them */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_take_the_space_before_them),
        cmocka_unit_test(later_vocabularies_take_signs_and_line_ends_along),
        cmocka_unit_test(capitals_begin_a_word_where_the_vocabulary_says_so),
        cmocka_unit_test(marks_belong_to_letters_where_the_vocabulary_says_so),
        cmocka_unit_test(deepseeks_part_scripts_and_line_ends),
        cmocka_unit_test(long_space_is_cut_by_powers_of_two),
        cmocka_unit_test(a_piece_that_ends_in_a_long_run_is_cut_in_linear_time),
        cmocka_unit_test(an_unknown_name_is_refused_with_those_that_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_words.c: the words that flags take: all that are offered are taken and explained, and no others. */
#include "core/cpu.h"
#include "core/format.h"
#include "offload/cli/flags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Whether the text has this word, and not only as a part of another. */
static bool names_word(const char *text, const char *word)
{
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        char before = at > text ? at[-1] : ' ', behind = at[strlen(word)];
        if (strchr(letters, before) == NULL && (behind == '\0' || strchr(letters, behind) == NULL))
            return true;
    }
    return false;
}

static void a_flag_of_few_words_takes_each_and_no_other(void **state)
{
    (void)state;
    int flags = 0;
    for (size_t i = 0; i < cli_flag_count; i++) {
        const cli_flag *f = &cli_flags[i];
        sl_error err = {0};
        cli_args args;
        if (f->kind != WORD)
            continue;
        assert_non_null(f->words);
        flags++;
        for (size_t w = 0; f->words(w) != NULL; w++) {
            assert_int_equal(cli_store(f, f->names[0], f->words(w), &args, &err), SL_OK);
            assert_ptr_equal(*(const char **)(void *)((char *)&args + f->at), f->words(w));
        }
        assert_int_equal(cli_store(f, f->names[0], "frobnicate", &args, &err), SL_INVALID);
        for (size_t w = 0; f->words(w) != NULL; w++)
            if (!names_word(err.message, f->words(w)) || !names_word(err.message, f->names[0]))
                fail_msg("%s does not name %s", err.message, f->words(w));
        assert_int_equal(cli_store(f, f->names[0], "", &args, &err), SL_INVALID);
    }
    assert_true(flags > 20);
}

/* But for the presets of machines, which --machine list shows with what they are. */
static void the_help_of_a_flag_names_all_its_words(void **state)
{
    (void)state;
    char help[CLI_HELP_MAX];
    for (size_t i = 0; i < cli_flag_count; i++) {
        const cli_flag *f = &cli_flags[i];
        cli_flag_help(f, help);
        assert_true(strlen(help) + 1 < sizeof help);
        assert_null(strstr(help, "{}"));
        for (size_t w = 0; f->words != NULL && f->words != cli_machine_word && f->words(w) != NULL; w++)
            if (!names_word(help, f->words(w)))
                fail_msg("%s: %s does not name %s", f->names[0], help, f->words(w));
    }
}

static void only_paths_and_machines_are_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_flag_count; i++)
        if (cli_flags[i].files != NULL)
            assert_true(cli_flags[i].kind == PATH || cli_flags[i].words == cli_machine_word);
}

static void a_word_stands_at_the_place_of_its_value(void **state)
{
    (void)state;
    int place;
    sl_error err = {0};
    assert_int_equal(cli_one_of("--accept", "sample", cli_accept_word, &place, &err), SL_OK);
    assert_int_equal(place, SL_ACCEPT_SAMPLE);
    assert_int_equal(cli_one_of("--sparsity", "fine", cli_sparsity_word, &place, &err), SL_OK);
    assert_int_equal(place, SL_SPARSITY_FINE);
    assert_int_equal(cli_one_of("-ctk", "q4_0", cli_kv_type_word, &place, &err), SL_OK);
    assert_int_equal(place, SL_KV_Q4_0);
    assert_int_equal(cli_one_of("--accept", NULL, cli_accept_word, &place, &err), SL_OK);
    assert_int_equal(place, 0);
}

static void words_are_joined_as_people_write_them(void **state)
{
    (void)state;
    char text[40], small[8];
    assert_true(cli_join_words(cli_sparsity_word, " or ", text, sizeof text));
    assert_string_equal(text, "off, coarse or fine");
    assert_true(cli_join_words(cli_late_word, " and ", text, sizeof text));
    assert_string_equal(text, "wait and drop");
    assert_true(cli_join_words(cli_tree_word, " and ", text, sizeof text));
    assert_string_equal(text, "best");
    assert_false(cli_join_words(cli_sparsity_word, " or ", small, sizeof small));
}

/* The library's messages have lists of their own, in the order that people read best. */
static void the_librarys_messages_name_what_its_tables_have(void **state)
{
    (void)state;
    char text[400];
    assert_true(cli_join_words(cli_isa_word, " and ", text, sizeof text));
    assert_string_equal(text, SL_ISA_NAMES);
    assert_true(cli_join_words(cli_type_word, " and ", text, sizeof text));
    assert_int_equal(strlen(text), strlen(SL_SUPPORTED_FORMATS));
    for (size_t i = 0; cli_type_word(i) != NULL; i++)
        assert_true(names_word(SL_SUPPORTED_FORMATS, cli_type_word(i)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flag_of_few_words_takes_each_and_no_other), cmocka_unit_test(the_help_of_a_flag_names_all_its_words),
        cmocka_unit_test(only_paths_and_machines_are_files),           cmocka_unit_test(a_word_stands_at_the_place_of_its_value),
        cmocka_unit_test(words_are_joined_as_people_write_them),       cmocka_unit_test(the_librarys_messages_name_what_its_tables_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_lookup.c: what followed the last time the text went like this. */
#include "offload/lookup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TEXT(...) ((const sl_token[]){__VA_ARGS__}), (uint32_t)(sizeof((const sl_token[]){__VA_ARGS__}) / sizeof(sl_token))

static void check_match(const sl_token *text, uint32_t count, uint32_t length, uint32_t next)
{
    sli_match m = sli_lookup(text, count);
    assert_int_equal(m.length, length);
    assert_true(length == 0 || m.next == next);
}

static void a_text_of_its_own_kind_has_no_match(void **state)
{
    (void)state;
    sl_token none[4];
    check_match(TEXT(1), 0, 0);
    check_match(TEXT(1, 2, 3, 4, 5), 0, 0);
    check_match(TEXT(5, 5, 5, 1), 0, 0); /* it is the end that must have come before */
    assert_int_equal(sli_lookup_continue(TEXT(1, 2), (sli_match){0}, 4, none), 0);
}

static void the_longest_suffix_counts_and_of_equals_the_latest(void **state)
{
    (void)state;
    check_match(TEXT(7, 8, 7, 9, 7), 1, 3);
    check_match(TEXT(1, 7, 8, 2, 7, 9, 1, 7), 2, 2);
    check_match(TEXT(1, 2, 3, 4, 50, 2, 3, 4, 60, 1, 2, 3, 4), 4, 4);
    check_match(TEXT(1, 2, 60, 1, 2, 61, 1, 2), 2, 5);
}

/* The definition, without any of the search's haste. */
static sli_match plainly(const sl_token *text, uint32_t count)
{
    for (uint32_t length = SLI_LOOKUP_LONGEST; length > 0; length--)
        for (uint32_t next = count - 1; next >= length && next < count; next--) {
            uint32_t same = 0;
            while (same < length && text[next - length + same] == text[count - length + same])
                same++;
            if (same == length)
                return (sli_match){length, next};
        }
    return (sli_match){0};
}

static void random_texts_are_searched_as_defined(void **state)
{
    (void)state;
    uint32_t seed = 3, seen[SLI_LOOKUP_LONGEST + 1] = {0};
    for (int i = 0; i < 4000; i++) {
        sl_token text[60];
        uint32_t count = 1 + (uint32_t)i % 60, symbols = 2 + (uint32_t)i % 29;
        for (uint32_t t = 0; t < count; t++) {
            seed = seed * 1664525u + 1013904223u;
            text[t] = (sl_token)((seed >> 16) % symbols);
        }
        sli_match wanted = plainly(text, count);
        check_match(text, count, wanted.length, wanted.next);
        seen[wanted.length]++;
    }
    for (uint32_t length = 0; length <= SLI_LOOKUP_LONGEST; length++)
        assert_true(seen[length] > 50);
}

static void what_followed_is_drafted_and_a_loop_goes_on_as_long_as_asked(void **state)
{
    (void)state;
    sl_token out[9];
    const sl_token text[] = {1, 2, 3, 4, 5, 1, 2};
    sli_match m = sli_lookup(text, 7);
    assert_int_equal(sli_lookup_continue(text, 7, m, 3, out), 3);
    assert_memory_equal(out, ((const sl_token[]){3, 4, 5}), sizeof(sl_token) * 3);
    assert_int_equal(sli_lookup_continue(text, 7, m, 9, out), 9);
    assert_memory_equal(out, ((const sl_token[]){3, 4, 5, 1, 2, 3, 4, 5, 1}), sizeof out);
    const sl_token same[] = {6, 6};
    assert_int_equal(sli_lookup_continue(same, 2, sli_lookup(same, 2), 4, out), 4);
    assert_memory_equal(out, ((const sl_token[]){6, 6, 6, 6}), sizeof(sl_token) * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_of_its_own_kind_has_no_match),
        cmocka_unit_test(the_longest_suffix_counts_and_of_equals_the_latest),
        cmocka_unit_test(random_texts_are_searched_as_defined),
        cmocka_unit_test(what_followed_is_drafted_and_a_loop_goes_on_as_long_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

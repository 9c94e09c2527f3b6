/* tests/test_select.c: the k largest scores, against a plain sort. */
#include "offload/select.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 777

static uint64_t state = 1;

static uint32_t next_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static const float *sorted_by;

/* Larger first; among equals the lower index. A NaN is larger than everything. */
static int compare(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = isnan(sorted_by[i]) ? INFINITY : fabsf(sorted_by[i]), y = isnan(sorted_by[j]) ? INFINITY : fabsf(sorted_by[j]);
    if (x != y)
        return x > y ? -1 : 1;
    return i < j ? -1 : 1;
}

static int ascending(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return i < j ? -1 : i > j;
}

static void check_all_sizes(const float *scores, uint32_t count)
{
    uint32_t order[COUNT], expected[COUNT], members[COUNT];
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    sorted_by = scores;
    qsort(order, count, sizeof *order, compare);
    for (uint32_t keep = 0; keep <= count; keep += keep < 5 || keep + 5 > count ? 1 : 37) {
        memcpy(expected, order, keep * sizeof *order);
        qsort(expected, keep, sizeof *expected, ascending);
        sli_select_top(scores, count, keep, members);
        assert_memory_equal(members, expected, keep * sizeof *members);
    }
}

static void the_largest_are_chosen_whatever_their_sign_or_size(void **unused)
{
    float scores[COUNT];
    (void)unused;
    for (int i = 0; i < COUNT; i++)
        scores[i] = ldexpf((float)next_random() * 0x1p-31f - 0.5f, (int)(next_random() % 200) - 140); /* denormals among them */
    check_all_sizes(scores, COUNT);
}

static void among_equals_the_lower_index_comes_first(void **unused)
{
    float scores[COUNT];
    (void)unused;
    for (int i = 0; i < COUNT; i++)
        scores[i] = (float)(next_random() % 3);
    check_all_sizes(scores, COUNT);
    memset(scores, 0, sizeof scores);
    check_all_sizes(scores, COUNT);
}

static void scores_that_are_no_numbers_do_no_harm(void **unused)
{
    float scores[5] = {1.0f, NAN, -INFINITY, 2.0f, -0.0f};
    uint32_t members[5];
    (void)unused;
    sli_select_top(scores, 5, 3, members);
    assert_int_equal(members[0], 1);
    assert_int_equal(members[1], 2);
    assert_int_equal(members[2], 3);
}

/* Few of many, with a sample that says enough, one that says too much, and without. */
static void few_of_many_are_the_same_ones_for_every_instruction_set(void **unused)
{
    enum { MOST = 5000 };
    static float scores[MOST], work[2 * (MOST + SL_PICK_SLACK)];
    static uint32_t members[MOST], expected[MOST];
    (void)unused;
    for (int round = 0; round < 60; round++) {
        uint32_t count = round % 4 == 0 ? 1 + next_random() % 1100 : MOST - next_random() % 3000, keep = next_random() % (count / 3 + 1);
        for (uint32_t i = 0; i < count; i++) {
            bool sampled = i % 16 == 0;
            float random = (float)next_random() * 0x1p-31f;
            scores[i] = round % 3 == 0 ? expf(30 * random) : round % 3 == 1 ? (float)(next_random() % 5) : sampled ? 10 * random : random;
        }
        if (round % 7 == 0)
            scores[next_random() % count] = NAN;
        sli_select_top(scores, count, keep, expected);
        for (sl_isa isa = SL_ISA_SCALAR; isa < SL_ISA_COUNT; isa++) {
            if (!sl_cpu_supports(isa) || sl_kernels_for(isa) == NULL)
                continue;
            sli_select_few(sl_kernels_for(isa), scores, count, keep, work, members);
            assert_memory_equal(members, expected, keep * sizeof *members);
        }
    }
}

static void what_two_sets_share_is_counted(void **unused)
{
    const uint32_t a[] = {0, 3, 4, 9}, b[] = {3, 5, 9, 10, 11};
    (void)unused;
    assert_int_equal(sli_select_common(a, 4, b, 5), 2);
    assert_int_equal(sli_select_common(a, 4, a, 4), 4);
    assert_int_equal(sli_select_common(a, 0, b, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_are_chosen_whatever_their_sign_or_size),
        cmocka_unit_test(among_equals_the_lower_index_comes_first),
        cmocka_unit_test(scores_that_are_no_numbers_do_no_harm),
        cmocka_unit_test(few_of_many_are_the_same_ones_for_every_instruction_set),
        cmocka_unit_test(what_two_sets_share_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

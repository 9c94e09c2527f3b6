/* tests/test_policy.c: pager/policy.h. */
#include "pager/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 300

static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

static uint64_t packed(const sl_unit *u)
{
    return (u->bytes + 63) / 64 * 64;
}

static uint64_t make(sl_unit *units, sl_unit_id *order, uint64_t seed, uint32_t largest)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        units[i] = (sl_unit){.bytes = 1 + rnd(&seed, largest), .home = rnd(&seed, 2) == 0};
        order[i] = (i * 7) % COUNT;
        total += packed(&units[i]);
    }
    return total;
}

static void nothing_gets_a_home_without_a_budget_and_everything_with_enough(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_unit_id order[COUNT];
    uint64_t total = make(units, order, 5, 1000000);
    assert_int_equal(sl_policy_spread(units, order, COUNT, 0), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_false(units[i].home);
    assert_int_equal(sl_policy_spread(units, order, COUNT, total), total);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(units[i].home);
    assert_int_equal(sl_policy_spread(units, order, COUNT, UINT64_MAX), total);
    assert_true(sl_policy_spread(units, order, COUNT, total - 1) < total);
    assert_int_equal(sl_policy_spread(units, order, 0, total), 0);
}

static void homes_stay_within_the_budget_and_leave_no_room_for_another(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_unit_id order[COUNT];
    for (uint64_t seed = 1; seed < 200; seed++) {
        uint64_t total = make(units, order, seed, seed % 2 ? 1000000 : 5000), random = seed * 977 + 1;
        uint64_t budget = total * rnd(&random, 1000) / 1000, used = 0;
        uint64_t given = sl_policy_spread(units, order, COUNT, budget);
        for (uint32_t i = 0; i < COUNT; i++)
            used += units[i].home ? packed(&units[i]) : 0;
        assert_int_equal(used, given);
        assert_true(given <= budget);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_true(units[i].home || packed(&units[i]) > budget - given);
    }
}

static void homes_are_spread_evenly_over_the_cycle(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_unit_id order[COUNT];
    const uint32_t largest = 10000;
    for (uint64_t seed = 1; seed < 100; seed++) {
        uint64_t total = make(units, order, seed, largest), random = seed * 31 + 7, passed = 0, homes = 0;
        uint64_t budget = total * (1 + rnd(&random, 99)) / 100;
        sl_policy_spread(units, order, COUNT, budget);
        for (uint32_t i = 0; i < COUNT; i++) {
            const sl_unit *u = &units[order[i]];
            passed += packed(u);
            homes += u->home ? packed(u) : 0;
            double even = (double)passed * (double)budget / (double)total;
            assert_true((double)homes > even - 2.0 * largest && (double)homes < even + 3.0 * largest);
        }
    }
}

static void a_large_unit_is_passed_over_for_smaller_ones(void **state)
{
    (void)state;
    sl_unit units[4] = {{.bytes = 6400}, {.bytes = 640}, {.bytes = 6400}, {.bytes = 640}};
    sl_unit_id order[4] = {0, 1, 2, 3};
    assert_int_equal(sl_policy_spread(units, order, 4, 1300), 1280);
    assert_false(units[0].home || units[2].home);
    assert_true(units[1].home && units[3].home);
}

static void a_unit_that_the_order_names_twice_is_paid_once(void **state)
{
    (void)state;
    sl_unit units[2] = {{.bytes = 640}, {.bytes = 640}};
    sl_unit_id order[4] = {0, 1, 0, 1};
    assert_int_equal(sl_policy_spread(units, order, 4, 10000), 1280);
    assert_int_equal(sl_policy_spread(units, order, 4, 700), 640);
}

#define RUNS 30

/* Runs that follow each other, as layers do. `alike`: all have ten units of the same size. */
static uint64_t make_runs(sl_unit *units, sl_policy_run *runs, uint64_t seed, bool alike)
{
    uint32_t at = 0;
    uint64_t total = 0;
    for (uint32_t r = 0; r < RUNS; r++) {
        runs[r] = (sl_policy_run){.first = at, .count = alike ? 10 : 1 + rnd(&seed, 10), .kept = 99};
        uint32_t bytes = alike ? 6400 : 1 + rnd(&seed, 9000);
        for (uint32_t i = 0; i < runs[r].count; i++, at++) {
            units[at] = (sl_unit){.bytes = bytes, .home = rnd(&seed, 2) == 0};
            total += packed(&units[at]);
        }
    }
    return total;
}

static void each_run_keeps_the_same_share_from_its_first_unit_on(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_policy_run runs[RUNS];
    for (uint64_t seed = 1; seed < 200; seed++) {
        uint64_t total = make_runs(units, runs, seed, false), random = seed * 977 + 1, used = 0;
        uint64_t budget = total * rnd(&random, 1100) / 1000, given = sl_policy_prefixes(units, runs, RUNS, budget);
        for (uint32_t r = 0; r < RUNS; r++)
            for (uint32_t i = 0; i < runs[r].count; i++) {
                assert_int_equal(units[runs[r].first + i].home, i < runs[r].kept);
                used += i < runs[r].kept ? packed(&units[runs[r].first + i]) : 0;
            }
        assert_int_equal(used, given);
        assert_true(given <= budget && (budget < total || given == total));
        for (uint32_t a = 0; a < RUNS; a++) /* no run could give its last unit to one that would still keep less */
            for (uint32_t b = 0; b < RUNS; b++)
                assert_true(runs[b].kept == runs[b].count ||
                            (uint64_t)runs[a].kept * runs[b].count <= (uint64_t)(runs[b].kept + 1) * runs[a].count);
    }
}

static void what_is_left_goes_to_runs_all_over_the_cycle(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_policy_run runs[RUNS];
    make_runs(units, runs, 1, true);
    for (uint32_t left = 1; left < RUNS; left++) {
        assert_int_equal(sl_policy_prefixes(units, runs, RUNS, (3 * RUNS + left) * 6400 + 6399), (3 * RUNS + left) * 6400);
        uint32_t more = 0, since = 0, longest = 0;
        for (uint32_t r = 0; r < 2 * RUNS; r++) { /* twice round */
            assert_true(runs[r % RUNS].kept == 3 || runs[r % RUNS].kept == 4);
            more += r < RUNS && runs[r].kept == 4;
            since = runs[r % RUNS].kept == 4 ? 0 : since + 1;
            longest = since > longest ? since : longest;
        }
        assert_int_equal(more, left);
        assert_true(longest < 2 * RUNS / left);
    }
}

static void runs_without_room_keep_nothing(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_policy_run runs[RUNS];
    make_runs(units, runs, 1, true);
    assert_int_equal(sl_policy_prefixes(units, runs, RUNS, 6399), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_false(units[i].home);
    assert_int_equal(sl_policy_prefixes(units, runs, 0, UINT64_MAX), 0);
}

/* What is left for others is less than any of those that have none. */
static void in_order_the_first_units_that_fit_get_homes(void **state)
{
    (void)state;
    sl_unit units[COUNT];
    sl_unit_id order[COUNT];
    for (uint64_t seed = 1; seed < 50; seed++) {
        uint64_t total = make(units, order, seed, 1000000), budget = total / 2, given = 0, before = 0;
        bool head = units[0].home;
        assert_true(sl_policy_in_order(units, 1, COUNT, budget) <= budget);
        assert_int_equal(units[0].home, head); /* not asked for */
        for (uint32_t i = 1; i < COUNT; i++) {
            assert_int_equal(units[i].home, packed(&units[i]) <= budget - given);
            given += units[i].home ? packed(&units[i]) : 0;
            before += i < COUNT / 3 && units[i].home;
        }
        assert_int_equal(before, COUNT / 3 - 1);
    }
    assert_int_equal(sl_policy_in_order(units, 0, COUNT, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gets_a_home_without_a_budget_and_everything_with_enough),
        cmocka_unit_test(homes_stay_within_the_budget_and_leave_no_room_for_another),
        cmocka_unit_test(homes_are_spread_evenly_over_the_cycle),
        cmocka_unit_test(a_large_unit_is_passed_over_for_smaller_ones),
        cmocka_unit_test(a_unit_that_the_order_names_twice_is_paid_once),
        cmocka_unit_test(each_run_keeps_the_same_share_from_its_first_unit_on),
        cmocka_unit_test(what_is_left_goes_to_runs_all_over_the_cycle),
        cmocka_unit_test(runs_without_room_keep_nothing),
        cmocka_unit_test(in_order_the_first_units_that_fit_get_homes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

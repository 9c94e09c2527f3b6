/* tests/test_bench_sweep.c: what benchmarks are made of: lists and ranges, products of them, and figures of samples. */
#include "core/histogram.h"
#include "offload/tools/bench_figures.h"
#include "offload/tools/sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The values of a list, joined by blanks; the message where it is none. */
static const char *values_of(const char *list, bool ranges)
{
    static char joined[4096];
    sl_sweep_values values = {0};
    sl_error err = {0};
    joined[0] = '\0';
    if (sl_sweep_parse("-x", list, ranges, &values, &err) != SL_OK) {
        snprintf(joined, sizeof joined, "%s", err.message);
    } else {
        for (size_t i = 0; i < values.count; i++)
            snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i > 0 ? " " : "", values.text[i]);
    }
    sl_sweep_free(&values);
    return joined;
}

static void a_list_has_its_items_in_order(void **state)
{
    (void)state;
    assert_string_equal(values_of("1", true), "1");
    assert_string_equal(values_of("4,1,2", true), "4 1 2");
    assert_string_equal(values_of("auto,8,off", true), "auto 8 off");
}

static void ranges_are_those_of_llama_bench(void **state)
{
    (void)state;
    assert_string_equal(values_of("1-4", true), "1 2 3 4");
    assert_string_equal(values_of("10-35+10", true), "10 20 30");
    assert_string_equal(values_of("1-100*4", true), "1 4 16 64");
    assert_string_equal(values_of("0,8-32*2,5-5", true), "0 8 16 32 5");
}

static void ranges_may_be_of_sizes_and_of_fractions(void **state)
{
    (void)state;
    assert_string_equal(values_of("1G-3G+1G", true), "1073741824 2147483648 3221225472");
    assert_string_equal(values_of("512M-2G*2", true), "536870912 1073741824 2147483648");
    assert_string_equal(values_of("0.3-0.9+0.2", true), "0.3 0.5 0.7 0.9");
}

static void what_is_no_range_is_itself(void **state)
{
    (void)state;
    assert_string_equal(values_of("7b-q4.gguf,2G", true), "7b-q4.gguf 2G");
    assert_string_equal(values_of("neon-dotprod,q8_0", true), "neon-dotprod q8_0");
    assert_string_equal(values_of("1-3", false), "1-3");
    assert_string_equal(values_of("1-3+", true), "1-3+");
    assert_string_equal(values_of("1-inf", true), "1-inf");
}

static void a_range_that_never_ends_is_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(values_of("1-9+0", true), "-x 1-9+0: the range never ends"));
    assert_non_null(strstr(values_of("1-9*1", true), "never ends"));
    assert_non_null(strstr(values_of("0-9*2", true), "never ends"));
    assert_non_null(strstr(values_of("9-1", true), "ends before it begins"));
    assert_non_null(strstr(values_of("1-2000", true), "more than 1024 values"));
    assert_non_null(strstr(values_of("1,,2", true), "none of them empty"));
    assert_non_null(strstr(values_of("", true), "none of them empty"));
}

static void a_second_list_of_an_option_is_added_to_the_first(void **state)
{
    (void)state;
    sl_sweep_values values = {0};
    sl_error err;
    assert_int_equal(sl_sweep_parse("-x", "1,2", true, &values, &err), SL_OK);
    assert_int_equal(sl_sweep_parse("-x", "8-9", true, &values, &err), SL_OK);
    assert_int_equal(values.count, 4);
    assert_string_equal(values.text[3], "9");
    sl_sweep_free(&values);
    assert_int_equal(values.count, 0);
}

static void a_product_has_every_combination_once_the_last_option_fastest(void **state)
{
    (void)state;
    const size_t counts[] = {2, 1, 3};
    size_t chosen[3];
    assert_int_equal(sl_sweep_count(counts, 3), 6);
    assert_int_equal(sl_sweep_count(counts, 0), 1);
    for (uint64_t i = 0; i < 6; i++) {
        sl_sweep_at(counts, 3, i, chosen);
        assert_int_equal(chosen[0] * 3 + chosen[2], i);
        assert_int_equal(chosen[1], 0);
    }
}

static void a_product_beyond_all_bounds_is_counted_as_such(void **state)
{
    (void)state;
    const size_t counts[] = {1024, 1024, 1024, 1024, 1024, 1024, 1024};
    assert_true(sl_sweep_count(counts, 7) == UINT64_MAX);
}

static void means_and_spreads_are_those_of_samples(void **state)
{
    (void)state;
    double values[] = {4, 2, 8, 6};
    assert_true(sl_mean(values, 4) == 5);
    assert_true(sl_stddev(values, 4) > 2.5819 && sl_stddev(values, 4) < 2.5820);
    assert_true(sl_median(values, 4) == 5 && sl_median(values, 3) == 4);
    assert_true(sl_stddev(values, 1) == 0 && sl_mean(values, 0) == 0 && sl_median(values, 0) == 0);
}

static void a_histogram_knows_percentiles_within_three_per_cent(void **state)
{
    (void)state;
    static sl_histogram h;
    assert_int_equal(sl_histogram_percentile(&h, 0.5), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        sl_histogram_add(&h, i * 1000);
    const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double wanted = shares[i] * 1e8, got = (double)sl_histogram_percentile(&h, shares[i]);
        assert_true(got > wanted * 0.97 && got < wanted * 1.03);
    }
    assert_int_equal(h.count, 100000);
    assert_int_equal(h.max, 100000000);
    assert_true(h.sum == 5000050000000);
    assert_true(sl_histogram_percentile(&h, 1) <= h.max);
}

static void a_histogram_takes_every_value(void **state)
{
    (void)state;
    const uint64_t values[] = {0, 1, 15, 16, 17, 31, 32, 1u << 20, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        static sl_histogram h;
        memset(&h, 0, sizeof h);
        sl_histogram_add(&h, values[i]);
        uint64_t got = sl_histogram_percentile(&h, 0.5), off = got > values[i] ? got - values[i] : values[i] - got;
        assert_true(off <= values[i] / 32);
    }
}

static void a_guess_follows_the_slower_of_disk_and_processor(void **state)
{
    (void)state;
    sl_bench_guess g = {.weight_bytes = 4000000000,
                        .budget_bytes = 2000000000,
                        .decoded_tokens = 10,
                        .batch = 512,
                        .repetitions = 1,
                        .link_Bps = 1e9,
                        .compute_Bps = 10e9};
    double streaming = sl_bench_estimate_s(&g);
    assert_true(streaming > 23 && streaming < 25); /* 4 s to warm up, 10 passes of 2 s */
    g.budget_bytes = 0;
    assert_true(sl_bench_estimate_s(&g) < 9);
    g.prompt_tokens = 1024;
    assert_true(sl_bench_estimate_s(&g) > 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_has_its_items_in_order),
        cmocka_unit_test(ranges_are_those_of_llama_bench),
        cmocka_unit_test(ranges_may_be_of_sizes_and_of_fractions),
        cmocka_unit_test(what_is_no_range_is_itself),
        cmocka_unit_test(a_range_that_never_ends_is_refused),
        cmocka_unit_test(a_second_list_of_an_option_is_added_to_the_first),
        cmocka_unit_test(a_product_has_every_combination_once_the_last_option_fastest),
        cmocka_unit_test(a_product_beyond_all_bounds_is_counted_as_such),
        cmocka_unit_test(means_and_spreads_are_those_of_samples),
        cmocka_unit_test(a_histogram_knows_percentiles_within_three_per_cent),
        cmocka_unit_test(a_histogram_takes_every_value),
        cmocka_unit_test(a_guess_follows_the_slower_of_disk_and_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

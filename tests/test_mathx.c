/* tests/test_mathx.c: how far the elementary functions are from the truth, and that their bits are the same everywhere.
 *
 * The truth is libm in long double, which has at least 11 bits more. The exact bits were taken once from this code; if a compiler, a flag
 * or a processor changes one of them, tokens could differ between machines, which is what these functions are there to prevent. */
#include "core/mathx.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define DRAWS     60000
#define ULPS_OKAY 2.0

/* Uniform in [0, 1), the same numbers in each run. */
static double uniform(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) * 0x1p-53;
}

static double between(uint64_t *seed, double low, double high)
{
    return low + (high - low) * uniform(seed);
}

/* The error of `got` in units of the last place of the true value. */
static double ulps(double got, long double truth)
{
    double nearest = (double)truth;
    if (!isfinite(got) || !isfinite(nearest))
        return got == nearest || (isnan(got) && isnan(nearest)) ? 0.0 : INFINITY;
    double magnitude = fabs(nearest);
    return (double)(fabsl((long double)got - truth) / (long double)(nextafter(magnitude, INFINITY) - magnitude));
}

static void check(const char *what, double x, double y, double got, long double truth)
{
    if (!(ulps(got, truth) <= ULPS_OKAY))
        fail_msg("%s(%a, %a) is %a, %.2f ulp from %La", what, x, y, got, ulps(got, truth), truth);
}

static void exp_is_within_2_ulp(void **state)
{
    (void)state;
    uint64_t seed = 1;
    const double reach[] = {1e-9, 1.0, 50.0, 750.0};
    for (int i = 0; i < DRAWS; i++) {
        double x = between(&seed, -reach[i % 4], reach[i % 4]);
        check("exp", x, 0, sl_exp(x), expl(x));
    }
}

static void log_is_within_2_ulp(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < DRAWS; i++) {
        double x = i % 3 == 0 ? exp(between(&seed, -745, 709)) : i % 3 == 1 ? between(&seed, 0.4, 2.5) : 1.0 + between(&seed, -1e-6, 1e-6);
        check("log", x, 0, sl_log(x), logl(x));
    }
}

static void pow_is_within_2_ulp(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < DRAWS; i++) {
        double base = i % 2 ? exp(between(&seed, -100, 100)) : between(&seed, 0.5, 1.5);
        double exponent = i % 2 ? between(&seed, -4, 4) : between(&seed, -1000, 1000);
        check("pow", base, exponent, sl_pow(base, exponent), powl(base, exponent));
    }
}

static void tanh_is_within_2_ulp(void **state)
{
    (void)state;
    uint64_t seed = 4;
    const double reach[] = {1e-7, 0.2, 1.5, 25.0};
    for (int i = 0; i < DRAWS; i++) {
        double x = between(&seed, -reach[i % 4], reach[i % 4]);
        check("tanh", x, 0, sl_tanh(x), tanhl(x));
    }
}

static void sine_and_cosine_are_within_2_ulp(void **state)
{
    (void)state;
    uint64_t seed = 5;
    const double reach[] = {1.0, 10.0, 1e5, 0x1p30};
    for (int i = 0; i < DRAWS; i++) {
        double x = between(&seed, -reach[i % 4], reach[i % 4]), s, c;
        sl_sincos(x, &s, &c);
        check("sin", x, 0, s, sinl(x));
        check("cos", x, 0, c, cosl(x));
    }
}

/* Near a multiple of pi/2 one of the two is tiny, and all its digits come from the low parts of the reduction. */
static void sine_and_cosine_hold_next_to_their_zeros(void **state)
{
    (void)state;
    uint64_t seed = 6;
    for (int i = 0; i < DRAWS; i++) {
        double k = floor(between(&seed, 1, i % 2 ? 1000 : 683565275)); /* 2^30 / (pi/2) */
        double x = k * 0x1.921fb54442d18p+0, s, c;
        sl_sincos(x, &s, &c);
        check("sin", x, 0, s, sinl(x));
        check("cos", x, 0, c, cosl(x));
    }
}

static void the_ends_of_the_ranges_are_right(void **state)
{
    (void)state;
    double s, c;
    assert_true(sl_exp(0.0) == 1.0 && sl_exp(-INFINITY) == 0.0 && sl_exp(INFINITY) == INFINITY && isnan(sl_exp(NAN)));
    assert_true(sl_exp(709.9) == INFINITY && sl_exp(-746.0) == 0.0 && sl_exp(-745.1) == 0x1p-1074);
    assert_true(sl_log(1.0) == 0.0 && sl_log(0.0) == -INFINITY && sl_log(INFINITY) == INFINITY);
    assert_true(isnan(sl_log(-1.0)) && isnan(sl_log(NAN)));
    check("log", 0x1p-1074, 0, sl_log(0x1p-1074), logl(0x1p-1074L));
    assert_true(sl_pow(3.0, 0.0) == 1.0 && sl_pow(1.0, INFINITY) == 1.0 && sl_pow(2.0, -1.0) == 0.5 && sl_pow(2.0, 1e9) == INFINITY);
    assert_true(sl_pow(0.0, 2.0) == 0.0 && sl_pow(0.0, -2.0) == INFINITY && isnan(sl_pow(-1.0, 2.0)) && isnan(sl_pow(2.0, NAN)));
    assert_true(sl_pow(0.5, INFINITY) == 0.0 && sl_pow(0.5, -INFINITY) == INFINITY && sl_pow(INFINITY, -1.0) == 0.0);
    assert_true(sl_tanh(0.0) == 0.0 && signbit(sl_tanh(-0.0)) && sl_tanh(30.0) == 1.0 && sl_tanh(-INFINITY) == -1.0 && isnan(sl_tanh(NAN)));
    sl_sincos(0.0, &s, &c);
    assert_true(s == 0.0 && c == 1.0);
    sl_sincos(0x1p30, &s, &c);
    assert_true(isnan(s) && isnan(c));
    sl_sincos(NAN, &s, &c);
    assert_true(isnan(s) && isnan(c));
}

static void results_have_these_bits(void **state)
{
    (void)state;
    double s, c;
    assert_true(sl_exp(1.0) == 0x1.5bf0a8b145769p+1);
    assert_true(sl_exp(-0.75) == 0x1.e3b40ebefcd7ep-2);
    assert_true(sl_exp(-700.25) == 0x1.af5fe9a485c8ep-1011);
    assert_true(sl_log(10.0) == 0x1.26bb1bbb55516p+1);
    assert_true(sl_log(0.3) == -0x1.34378fcbda721p+0);
    assert_true(sl_log(1.0000001) == 0x1.ad7f2847b6492p-24);
    assert_true(sl_pow(10000.0, -0.34375) == 0x1.59742aa36710dp-5);
    assert_true(sl_pow(100000.0, -0.96875) == 0x1.e0d6d7acaba7bp-17);
    assert_true(sl_pow(500000.0, -0.5) == 0x1.72ba43fff3717p-10);
    assert_true(sl_tanh(0.3) == 0x1.2a4dda7d914fap-2);
    assert_true(sl_tanh(2.5) == 0x1.f9258260a71c2p-1);
    sl_sincos(0.7, &s, &c);
    assert_true(s == 0x1.49d6e694619b8p-1 && c == 0x1.87996529f9d93p-1);
    sl_sincos(8191.0, &s, &c);
    assert_true(s == -0x1.86a8d36dca1dbp-1 && c == -0x1.4af3b1102ac8bp-1);
    sl_sincos(1e6, &s, &c);
    assert_true(s == -0x1.6664b2568d867p-2 && c == 0x1.df9df9906d32cp-1);
}

/* A digest of many results: a single bit anywhere changes it. */
static void many_results_have_this_digest(void **state)
{
    (void)state;
    uint64_t seed = 7, digest = 0;
    for (int i = 0; i < 20000; i++) {
        double x = between(&seed, -20, 20), s, c;
        sl_sincos(x * 1000, &s, &c);
        double results[6] = {sl_exp(x), sl_log(x + 20.5), sl_pow(x + 20.5, x), sl_tanh(x / 8), s, c};
        for (int j = 0; j < 6; j++) {
            union {
                double value;
                uint64_t bits;
            } u = {results[j]};
            digest = (digest ^ u.bits) * 0x9e3779b97f4a7c15u;
            digest ^= digest >> 31;
        }
    }
    if (digest != 0x7fbc778a593d9dafu)
        fail_msg("the digest is 0x%llx", (unsigned long long)digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_2_ulp),
        cmocka_unit_test(log_is_within_2_ulp),
        cmocka_unit_test(pow_is_within_2_ulp),
        cmocka_unit_test(tanh_is_within_2_ulp),
        cmocka_unit_test(sine_and_cosine_are_within_2_ulp),
        cmocka_unit_test(sine_and_cosine_hold_next_to_their_zeros),
        cmocka_unit_test(the_ends_of_the_ranges_are_right),
        cmocka_unit_test(results_have_these_bits),
        cmocka_unit_test(many_results_have_this_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_sampler.c: that sampling follows the softmax, filters keep exactly what they say, and a token depends on its inputs only. */
#include "core/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB 8

/* Probabilities 0.46, 0.17, ... : no two equal, not in order of id. */
static const float logits8[VOCAB] = {0.5f, 2.0f, -1.0f, 1.0f, 0.0f, -3.0f, 0.75f, -0.5f};
static const sl_token rank8[VOCAB] = {1, 3, 6, 0, 4, 7, 2, 5};

static sl_sampling plain(float temperature)
{
    return (sl_sampling){.seed = 7, .temperature = temperature, .top_p = 1.0f, .repeat_penalty = 1.0f};
}

static sl_sampler *create(sl_sampling how, uint32_t vocab)
{
    sl_sampler *sampler;
    sl_error err = {0};
    if (sl_sampler_create(&how, vocab, &sampler, &err) != SL_OK)
        fail_msg("%s", err.message);
    return sampler;
}

static sl_token pick_once(sl_sampling how, const float *logits, uint32_t vocab, uint64_t position)
{
    sl_sampler *sampler = create(how, vocab);
    sl_token token = sl_sampler_pick(sampler, logits, NULL, 0, position);
    sl_sampler_destroy(sampler);
    return token;
}

/* How often each token of logits8 is picked at positions 0 .. draws-1. */
static void count_picks(sl_sampling how, int draws, int counts[VOCAB])
{
    sl_sampler *sampler = create(how, VOCAB);
    memset(counts, 0, VOCAB * sizeof *counts);
    for (int i = 0; i < draws; i++)
        counts[sl_sampler_pick(sampler, logits8, NULL, 0, (uint64_t)i)]++;
    sl_sampler_destroy(sampler);
}

/* Chi-squared of counts against softmax(logits8 / temperature) over the `kept` tokens of highest rank; others must not occur. */
static double chi_squared(const int counts[VOCAB], int draws, int kept, double temperature)
{
    double total = 0, chi = 0;
    for (int i = 0; i < kept; i++)
        total += exp((double)logits8[rank8[i]] / temperature);
    for (int i = 0; i < VOCAB; i++) {
        double expected = i < kept ? draws * exp((double)logits8[rank8[i]] / temperature) / total : 0;
        double difference = counts[rank8[i]] - expected;
        if (i >= kept)
            assert_int_equal(counts[rank8[i]], 0);
        else
            chi += difference * difference / expected;
    }
    return chi;
}

static void samples_follow_the_softmax(void **state)
{
    (void)state;
    const float temperatures[] = {0.5f, 1.0f, 1.7f};
    for (int i = 0; i < 3; i++) {
        int counts[VOCAB];
        count_picks(plain(temperatures[i]), 100000, counts);
        /* 7 degrees of freedom: above 29.9 with probability 1e-4; the seed is fixed, so this does not flicker. */
        double chi = chi_squared(counts, 100000, VOCAB, temperatures[i]);
        if (chi > 29.9)
            fail_msg("chi-squared %g at temperature %g", chi, (double)temperatures[i]);
    }
}

static void every_seed_draws_another_sample(void **state)
{
    (void)state;
    int same = 0;
    for (uint64_t position = 0; position < 1000; position++) {
        sl_sampling a = plain(1.0f), b = plain(1.0f);
        b.seed = a.seed + 1;
        same += pick_once(a, logits8, VOCAB, position) == pick_once(b, logits8, VOCAB, position);
    }
    /* Two independent draws agree with probability sum(p^2) = 0.28. */
    assert_in_range(same, 220, 340);
}

static void top_k_keeps_exactly_the_k_largest(void **state)
{
    (void)state;
    for (int k = 1; k <= VOCAB; k++) {
        sl_sampling how = plain(1.0f);
        how.top_k = k;
        int counts[VOCAB];
        count_picks(how, 20000, counts);
        assert_true(chi_squared(counts, 20000, k, 1.0) < 29.9);
    }
}

static void top_k_keeps_the_lower_ids_of_equal_logits(void **state)
{
    (void)state;
    const float equal[6] = {1, 1, 1, 1, 1, 1};
    sl_sampling how = plain(1.0f);
    how.top_k = 3;
    sl_sampler *sampler = create(how, 6);
    int seen[6] = {0};
    for (uint64_t i = 0; i < 1000; i++)
        seen[sl_sampler_pick(sampler, equal, NULL, 0, i)]++;
    sl_sampler_destroy(sampler);
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_int_equal(seen[3] + seen[4] + seen[5], 0);
}

/* The smallest number of tokens whose probabilities add up to p, by libm. */
static int tokens_for(double p, int among)
{
    double total = 0, reached = 0;
    for (int i = 0; i < among; i++)
        total += exp((double)logits8[rank8[i]]);
    for (int i = 0; i < among; i++) {
        reached += exp((double)logits8[rank8[i]]);
        if (reached >= p * total)
            return i + 1;
    }
    return among;
}

static void top_p_keeps_the_fewest_tokens_that_reach_it(void **state)
{
    (void)state;
    const float ps[] = {0.0f, 0.3f, 0.5f, 0.7f, 0.9f, 0.99f};
    for (int i = 0; i < 6; i++) {
        sl_sampling how = plain(1.0f);
        how.top_p = ps[i];
        int counts[VOCAB];
        count_picks(how, 20000, counts);
        assert_true(chi_squared(counts, 20000, tokens_for(ps[i], VOCAB), 1.0) < 29.9);
    }
}

static void top_p_counts_what_top_k_has_left(void **state)
{
    (void)state;
    sl_sampling how = plain(1.0f);
    how.top_k = 4;
    how.top_p = 0.85f;
    int counts[VOCAB], kept = tokens_for(0.85f, 4);
    assert_int_equal(kept, 3); /* of all eight it would be 4 */
    assert_int_equal(tokens_for(0.85f, VOCAB), 4);
    count_picks(how, 20000, counts);
    assert_true(chi_squared(counts, 20000, kept, 1.0) < 29.9);
}

static void min_p_keeps_what_is_within_a_factor_of_the_largest(void **state)
{
    (void)state;
    const float ps[] = {0.9f, 0.3f, 0.25f, 0.1f, 0.01f};
    const int kept[] = {1, 2, 3, 5, 7}; /* exp(logit - 2): 1, 0.37, 0.29, 0.22, 0.14, 0.08, 0.05, 0.007 */
    for (int i = 0; i < 5; i++) {
        sl_sampling how = plain(1.0f);
        how.min_p = ps[i];
        int counts[VOCAB];
        count_picks(how, 20000, counts);
        assert_true(chi_squared(counts, 20000, kept[i], 1.0) < 29.9);
    }
}

static void filters_come_before_the_temperature(void **state)
{
    (void)state;
    sl_sampling how = plain(4.0f); /* at this temperature min-p 0.3 alone would keep 7 */
    how.min_p = 0.3f;
    int counts[VOCAB];
    count_picks(how, 20000, counts);
    assert_true(chi_squared(counts, 20000, 2, 4.0) < 29.9);
}

static void greedy_takes_the_lowest_id_of_equal_logits(void **state)
{
    (void)state;
    const float logits[5] = {0, 3, 1, 3, 3};
    assert_int_equal(pick_once(plain(0.0f), logits, 5, 0), 1);
    sl_sampling penalised = plain(0.0f); /* the other path */
    penalised.repeat_penalty = 1.5f;
    assert_int_equal(pick_once(penalised, logits, 5, 0), 1);
}

static void a_token_does_not_depend_on_the_calls_before_it(void **state)
{
    (void)state;
    sl_sampling how = plain(0.9f);
    how.top_k = 6;
    how.top_p = 0.95f;
    sl_token forward[64], backward[64];
    sl_sampler *sampler = create(how, VOCAB);
    for (int i = 0; i < 64; i++)
        forward[i] = sl_sampler_pick(sampler, logits8, NULL, 0, (uint64_t)i);
    for (int i = 63; i >= 0; i--)
        backward[i] = sl_sampler_pick(sampler, logits8, NULL, 0, (uint64_t)i);
    sl_sampler_destroy(sampler);
    assert_memory_equal(forward, backward, sizeof forward);
}

/* The definition, written out: filters aside, the token is the argmax of logit / T + noise. */
static void the_token_is_the_argmax_of_logit_and_noise(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float logits[N];
    for (int i = 0; i < N; i++)
        logits[i] = (float)(sl_gumbel(99, 0, i) * 2.0);
    sl_sampler *sampler = create(plain(0.8f), N);
    for (uint64_t position = 0; position < 200; position++) {
        int best = 0;
        for (int i = 1; i < N; i++) {
            if ((double)logits[i] / (double)0.8f + sl_gumbel(7, position, i) >
                (double)logits[best] / (double)0.8f + sl_gumbel(7, position, best))
                best = i;
        }
        assert_int_equal(sl_sampler_pick(sampler, logits, NULL, 0, position), best);
    }
    sl_sampler_destroy(sampler);
}

static sl_token pick_after(float penalty, int32_t last_n, const float *logits, const sl_token *history, size_t count)
{
    sl_sampling how = plain(0.0f);
    how.repeat_penalty = penalty;
    how.repeat_last_n = last_n;
    sl_sampler *sampler = create(how, 4);
    sl_token token = sl_sampler_pick(sampler, logits, history, count, 0);
    sl_sampler_destroy(sampler);
    return token;
}

static void the_penalty_divides_positive_and_multiplies_negative_logits_once(void **state)
{
    (void)state;
    const float positive[4] = {4.0f, 1.9f, 2.1f, 0.0f}, negative[4] = {-1.0f, -1.9f, -2.1f, -9.0f};
    const sl_token zero[3] = {0, 0, 0}, often[4] = {0, 2, 0, 0};
    assert_int_equal(pick_after(2.0f, 64, positive, zero, 1), 2);  /* 4 / 2 < 2.1 */
    assert_int_equal(pick_after(2.0f, 64, positive, often, 4), 0); /* 4 / 2 > 1.9 > 2.1 / 2; 4 / 8 would lose */
    assert_int_equal(pick_after(2.0f, 64, negative, zero, 1), 1);  /* -1 * 2 < -1.9 */
    assert_int_equal(pick_after(1.0f, 64, positive, zero, 1), 0);
}

static void the_penalty_looks_back_no_further_than_told(void **state)
{
    (void)state;
    const float logits[4] = {4.0f, 3.0f, 0.0f, 0.0f};
    const sl_token history[3] = {0, 3, 3};
    assert_int_equal(pick_after(2.0f, 2, logits, history, 3), 0);
    assert_int_equal(pick_after(2.0f, 3, logits, history, 3), 1);
    assert_int_equal(pick_after(2.0f, -1, logits, history, 3), 1);
    assert_int_equal(pick_after(2.0f, 0, logits, history, 3), 0);
}

static void ids_outside_the_vocabulary_are_no_harm_in_a_history(void **state)
{
    (void)state;
    const float logits[4] = {4.0f, 3.0f, 0.0f, 0.0f};
    const sl_token history[3] = {-1, 4, INT32_MAX};
    assert_int_equal(pick_after(2.0f, -1, logits, history, 3), 0);
}

static void nan_never_wins_and_nothing_but_nan_gives_token_0(void **state)
{
    (void)state;
    const float some[4] = {NAN, 1.0f, NAN, 0.5f}, all[4] = {NAN, NAN, NAN, NAN};
    const float minus[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, plus[4] = {0, INFINITY, 1, INFINITY};
    for (int i = 0; i < 16; i++) {
        sl_sampling how = plain(i & 1 ? 1.0f : 0.0f);
        how.top_k = i & 2 ? 3 : 0;
        how.top_p = i & 4 ? 0.5f : 1.0f;
        how.min_p = i & 8 ? 0.1f : 0.0f;
        sl_token token = pick_once(how, some, 4, 0);
        assert_true(token == 1 || token == 3);
        assert_int_equal(pick_once(how, all, 4, 0), 0);
        assert_int_equal(pick_once(how, minus, 4, 0), 0);
        assert_int_equal(pick_once(how, plus, 4, 0), 1);
    }
}

static void options_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    sl_sampling bad[9];
    const char *names[9] = {"temperature", "temperature", "top-k", "top-p", "top-p", "min-p", "repeat penalty", "repeat-last-n", "min-p"};
    for (int i = 0; i < 9; i++)
        bad[i] = plain(1.0f);
    bad[0].temperature = -0.1f;
    bad[1].temperature = NAN;
    bad[2].top_k = -1;
    bad[3].top_p = 1.01f;
    bad[4].top_p = NAN;
    bad[5].min_p = -0.5f;
    bad[6].repeat_penalty = 0.0f;
    bad[7].repeat_last_n = -2;
    bad[8].min_p = NAN;
    for (int i = 0; i < 9; i++) {
        sl_error err = {0};
        assert_int_equal(sl_sampling_check(&bad[i], &err), SL_INVALID);
        assert_non_null(strstr(err.message, names[i]));
    }
    sl_sampling good = plain(0.0f);
    assert_int_equal(sl_sampling_check(&good, NULL), SL_OK);
}

/* Checks that hold on any machine and with any compiler. */
static void the_noise_has_these_bits(void **state)
{
    (void)state;
    assert_true(sl_gumbel(0, 0, 0) == -0x1.5c8c496496466p-1);
    assert_true(sl_gumbel(1, 2, 3) == 0x1.b65e48b17013dp-2);
    assert_true(sl_gumbel(42, 1000000, 49151) == 0x1.626f6a109f6d2p+0);
}

static void the_noise_has_the_mean_and_variance_of_gumbel(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        double g = sl_gumbel(3, (uint64_t)i / 100, i % 100);
        sum += g;
        squares += g * g;
    }
    double mean = sum / n, variance = squares / n - mean * mean;
    assert_true(fabs(mean - 0.5772156649) < 0.012); /* four standard errors */
    assert_true(fabs(variance - 1.6449340668) < 0.031);
}

static void log_probabilities_add_up_and_match_libm(void **state)
{
    (void)state;
    double total = 0, sum = 0;
    for (int i = 0; i < VOCAB; i++)
        total += exp((double)logits8[i]);
    for (int i = 0; i < VOCAB; i++) {
        double p = sl_log_probability(logits8, VOCAB, i);
        assert_true(fabs(p - ((double)logits8[i] - log(total))) < 1e-14);
        sum += exp(p);
    }
    assert_true(fabs(sum - 1.0) < 1e-14);
    assert_true(sl_log_probability(logits8, VOCAB, VOCAB) == -INFINITY);
    assert_true(sl_log_probability(logits8, VOCAB, -1) == -INFINITY);
}

/* Whatever the filters: the distribution that is told is the one that is drawn from. */
static void the_chances_are_those_of_the_picks(void **state)
{
    (void)state;
    static const sl_sampling ways[] = {{7, 1.0f, 8, 1.0f, 0, 1.0f, 0},    {7, 0.7f, 5, 1.0f, 0, 1.0f, 0}, {7, 1.3f, 6, 0.8f, 0, 1.0f, 0},
                                       {7, 1.0f, 7, 1.0f, 0.2f, 1.0f, 0}, {7, 1.0f, 1, 1.0f, 0, 1.0f, 0}, {7, 0.0f, 4, 1.0f, 0, 1.0f, 0}};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        enum { DRAWS = 50000 };
        int counts[VOCAB], seen = 0;
        sl_chance chances[VOCAB];
        double chi = 0, total = 0;
        sl_sampler *sampler = create(ways[w], VOCAB);
        uint32_t count = sl_sampler_chances(sampler, logits8, NULL, 0, chances);
        sl_sampler_destroy(sampler);
        count_picks(ways[w], DRAWS, counts);
        assert_in_range(count, 1, ways[w].top_k);
        for (uint32_t i = 0; i < count; i++) {
            double wanted = chances[i].p * DRAWS, apart = counts[chances[i].id] - wanted;
            assert_true(i == 0 || chances[i].id > chances[i - 1].id);
            chi += apart * apart / wanted;
            total += chances[i].p;
            seen += counts[chances[i].id];
        }
        assert_int_equal(seen, DRAWS);
        assert_true(fabs(total - 1) < 1e-12);
        if (chi > 29.9)
            fail_msg("chi-squared %g, way %zu", chi, w);
    }
}

/* Where one token is all but certain, rounding must not make it more than that: a path would be likelier than its beginning. */
static void no_choice_is_likelier_than_certain(void **state)
{
    (void)state;
    static const float sure[VOCAB] = {37.3f, 1.7f, -2.9f, 0.3f};
    sl_sampler *sampler = create((sl_sampling){7, 0.8f, 0, 1.0f, 0, 1.0f, 0}, VOCAB);
    for (uint64_t position = 0; position < 1000; position++) {
        sl_choice choices[2];
        assert_int_equal(sl_sampler_choices(sampler, sure, NULL, 0, position, 2, choices), 2);
        assert_true(choices[0].log_p <= 0);
    }
    sl_sampler_destroy(sampler);
}

/* The second choice is what is picked where the first is not to be had, and so on. */
static void the_choices_are_the_picks_one_after_the_other(void **state)
{
    (void)state;
    static const sl_sampling ways[] = {{7, 0.0f, 0, 1.0f, 0, 1.0f, 0}, {7, 0.8f, 0, 1.0f, 0, 1.0f, 0}, {7, 0.3f, 0, 1.0f, 0, 1.4f, 4},
                                       {7, 0.0f, 0, 1.0f, 0, 1.4f, 4}, {7, 0.9f, 3, 0.9f, 0, 1.0f, 0}, {7, 1.2f, 0, 0.7f, 0.1f, 1.0f, 0}};
    static const sl_token history[] = {3, 1, 4, 1};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        sl_sampler *sampler = create(ways[w], VOCAB);
        bool filtered = ways[w].top_k > 0 || ways[w].top_p < 1.0f;
        for (uint64_t position = 0; position < 300; position++) {
            sl_choice choices[VOCAB], few[3];
            float left[VOCAB];
            double sum = 0;
            uint32_t count = sl_sampler_choices(sampler, logits8, history, 4, position, VOCAB, choices);
            assert_in_range(count, 1, filtered && ways[w].top_k > 0 ? ways[w].top_k : VOCAB);
            memcpy(left, logits8, sizeof left);
            for (uint32_t i = 0; i < count; i++) {
                assert_true(i == 0 || choices[i].log_p <= choices[i - 1].log_p);
                if (i == 0 || !filtered)
                    assert_int_equal(choices[i].id, sl_sampler_pick(sampler, left, history, 4, position));
                left[choices[i].id] = -INFINITY;
                sum += exp(choices[i].log_p);
            }
            assert_true(filtered || count == VOCAB);
            assert_true(fabs(sum - 1) < 1e-5);
            uint32_t fewer = sl_sampler_choices(sampler, logits8, history, 4, position, 3, few);
            assert_int_equal(fewer, count < 3 ? count : 3);
            for (uint32_t i = 0; i < fewer; i++)
                assert_int_equal(few[i].id, choices[i].id);
        }
        sl_sampler_destroy(sampler);
    }
}

static void uniforms_are_those_of_the_noise(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        double u = sl_uniform(3, i, -2);
        assert_true(u > 0 && u < 1);
        assert_true(fabs(-log(-log(u)) - sl_gumbel(3, i, -2)) < 1e-9);
        sum += u;
    }
    assert_true(fabs(sum / 10000 - 0.5) < 0.01);
}

static void an_empty_vocabulary_is_refused(void **state)
{
    (void)state;
    sl_sampling how = plain(1.0f);
    sl_sampler *sampler;
    assert_int_equal(sl_sampler_create(&how, 0, &sampler, NULL), SL_INVALID);
    assert_null(sampler);
    assert_true(sl_sampler_heap_bytes(49152) >= 49152 * 8 && sl_sampler_heap_bytes(49152) < 49152 * 8 + 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_follow_the_softmax),
        cmocka_unit_test(every_seed_draws_another_sample),
        cmocka_unit_test(top_k_keeps_exactly_the_k_largest),
        cmocka_unit_test(top_k_keeps_the_lower_ids_of_equal_logits),
        cmocka_unit_test(top_p_keeps_the_fewest_tokens_that_reach_it),
        cmocka_unit_test(top_p_counts_what_top_k_has_left),
        cmocka_unit_test(min_p_keeps_what_is_within_a_factor_of_the_largest),
        cmocka_unit_test(filters_come_before_the_temperature),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_equal_logits),
        cmocka_unit_test(a_token_does_not_depend_on_the_calls_before_it),
        cmocka_unit_test(the_token_is_the_argmax_of_logit_and_noise),
        cmocka_unit_test(the_penalty_divides_positive_and_multiplies_negative_logits_once),
        cmocka_unit_test(the_penalty_looks_back_no_further_than_told),
        cmocka_unit_test(ids_outside_the_vocabulary_are_no_harm_in_a_history),
        cmocka_unit_test(nan_never_wins_and_nothing_but_nan_gives_token_0),
        cmocka_unit_test(options_out_of_range_are_refused_by_name),
        cmocka_unit_test(the_noise_has_these_bits),
        cmocka_unit_test(the_noise_has_the_mean_and_variance_of_gumbel),
        cmocka_unit_test(log_probabilities_add_up_and_match_libm),
        cmocka_unit_test(the_chances_are_those_of_the_picks),
        cmocka_unit_test(no_choice_is_likelier_than_certain),
        cmocka_unit_test(the_choices_are_the_picks_one_after_the_other),
        cmocka_unit_test(uniforms_are_those_of_the_noise),
        cmocka_unit_test(an_empty_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

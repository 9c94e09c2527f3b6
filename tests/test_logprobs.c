/* tests/test_logprobs.c: the likeliest tokens of a row of logits, and how likely they are; held against a sort and a softmax. */
#include "offload/logprobs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB 300

static float noise(uint32_t i)
{
    i = (i ^ 61) ^ (i >> 16);
    i *= 9;
    i = (i ^ (i >> 4)) * 0x27d4eb2d;
    return (float)((i ^ (i >> 15)) % 4000) / 100.0f - 20.0f; /* coarse, so that some are equal */
}

/* Rank by counting: nothing that the code under test does. */
static sl_token at_rank(const float *logits, uint32_t rank)
{
    for (uint32_t id = 0; id < VOCAB; id++) {
        uint32_t before = 0;
        for (uint32_t other = 0; other < VOCAB; other++)
            before += logits[other] > logits[id] || (logits[other] == logits[id] && other < id);
        if (before == rank)
            return (sl_token)id;
    }
    return SL_TOKEN_NONE;
}

static void the_likeliest_come_in_order_with_their_log_probabilities(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (uint32_t round = 0; round < 50; round++) {
        sl_logprob top[SL_LOGPROBS_MAX];
        for (uint32_t i = 0; i < VOCAB; i++)
            logits[i] = noise(round * VOCAB + i);
        double log_sum = sli_logprobs_top(logits, VOCAB, SL_LOGPROBS_MAX, top), most = 0;
        for (uint32_t n = 0; n < SL_LOGPROBS_MAX; n++) {
            assert_int_equal(top[n].token, at_rank(logits, n));
            assert_true(fabs(top[n].logprob - sl_log_probability(logits, VOCAB, top[n].token)) < 1e-9);
            most += exp(top[n].logprob);
        }
        assert_true(most <= 1 + 1e-9);
        assert_true(fabs(sli_logprob(logits[7], log_sum) - sl_log_probability(logits, VOCAB, 7)) < 1e-9);
    }
}

static void what_cannot_be_has_a_number_too(void **state)
{
    (void)state;
    const float logits[3] = {-INFINITY, NAN, 2};
    sl_logprob top[5];
    double log_sum = sli_logprobs_top(logits, 3, 5, top);
    assert_int_equal(top[0].token, 2);
    assert_true(fabs(top[0].logprob) < 1e-12);
    assert_true(top[1].logprob == -9999 && top[2].logprob == -9999);
    assert_int_equal(top[3].token, SL_TOKEN_NONE); /* there are no more */
    assert_int_equal(top[4].token, SL_TOKEN_NONE);
    assert_true(sli_logprob(NAN, log_sum) == -9999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_likeliest_come_in_order_with_their_log_probabilities),
        cmocka_unit_test(what_cannot_be_has_a_number_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

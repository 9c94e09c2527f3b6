/* tests/test_accept.c: which drafts are kept. */
#include "offload/accept.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 23 };

static const sl_drafting exact = {.accept = SL_ACCEPT_EXACT};

static sl_drafting threshold(float tau, float temperature)
{
    return (sl_drafting){.accept = SL_ACCEPT_THRESHOLD, .tau = tau, .tau_temperature = temperature};
}

static float next_logit(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-24f * 12.0f - 6.0f;
}

static void exact_keeps_the_pick_and_nothing_else(void **state)
{
    (void)state;
    float logits[VOCAB] = {0};
    logits[7] = 30; /* however likely another is */
    for (sl_token pick = 0; pick < VOCAB; pick++)
        for (sl_token draft = -1; draft <= VOCAB; draft++)
            assert_int_equal(sli_accepts(&exact, logits, VOCAB, draft, pick), draft == pick);
}

/* From the definition, for every token of many rows. */
static void threshold_keeps_what_is_likely_enough_at_its_temperature(void **state)
{
    (void)state;
    static const float taus[] = {0.0f, 0.001f, 0.05f, 0.1f, 0.3f, 0.9f, 1.0f}, temperatures[] = {0.1f, 0.6f, 1.0f, 5.0f};
    uint32_t seed = 1, kept = 0, refused = 0;
    for (int row = 0; row < 20; row++) {
        float logits[VOCAB];
        uint32_t best = 0;
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = next_logit(&seed);
            best = logits[i] > logits[best] ? (uint32_t)i : best;
        }
        for (size_t t = 0; t < 7; t++)
            for (size_t h = 0; h < 4; h++) {
                sl_drafting how = threshold(taus[t], temperatures[h]);
                double sum = 0;
                for (int i = 0; i < VOCAB; i++)
                    sum += exp(((double)logits[i] - (double)logits[best]) / (double)temperatures[h]);
                for (sl_token i = 0; i < VOCAB; i++) {
                    double p = exp(((double)logits[i] - (double)logits[best]) / (double)temperatures[h]) / sum;
                    if (fabs(p - (double)taus[t]) < 1e-9) /* where rounding decides */
                        continue;
                    bool wanted = p > (double)taus[t] || (uint32_t)i == best;
                    assert_int_equal(sli_accepts(&how, logits, VOCAB, i, -1), wanted);
                    *(wanted ? &kept : &refused) += 1;
                }
            }
    }
    assert_true(kept > 1000 && refused > 1000);
}

static void threshold_never_refuses_the_likeliest_or_the_pick(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        logits[i] = i == 4 ? 0.1f : 0.0f; /* about one in 23 each */
    sl_drafting how = threshold(0.9f, 0.6f);
    for (sl_token draft = 0; draft < VOCAB; draft++)
        for (sl_token pick = 0; pick < VOCAB; pick++)
            assert_int_equal(sli_accepts(&how, logits, VOCAB, draft, pick), draft == 4 || draft == pick);
}

static void forbidden_and_broken_logits_are_never_kept(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(i % 3);
    logits[1] = -INFINITY;
    logits[3] = NAN;
    sl_drafting how = threshold(0, 0.6f);
    assert_false(sli_accepts(&how, logits, VOCAB, 1, 2));
    assert_false(sli_accepts(&how, logits, VOCAB, 3, 2));
    assert_false(sli_accepts(&how, logits, VOCAB, -1, 2));
    assert_false(sli_accepts(&how, logits, VOCAB, VOCAB, 2));
    assert_true(sli_accepts(&how, logits, VOCAB, 0, 2)); /* a tau of 0 keeps all else */
    how.tau = 0.13f;                                     /* six of seven twos share nearly all: one of them has 0.12 at most */
    assert_false(sli_accepts(&how, logits, VOCAB, 5, -1));
    how.tau = 0.09f;
    assert_true(sli_accepts(&how, logits, VOCAB, 5, -1)); /* the NaN does not poison the sum */
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    const sl_drafting wrong[] = {threshold(-0.1f, 0.6f), threshold(1.1f, 0.6f),     threshold(NAN, 0.6f), threshold(0.1f, 0),
                                 threshold(0.1f, -1.0f), threshold(0.1f, INFINITY), threshold(0.1f, NAN), {.accept = (sl_accept)7}};
    const sl_drafting sampling = {.accept = SL_ACCEPT_SAMPLE};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_error err = {0};
        assert_int_equal(sli_accept_check(&wrong[i], 40, &err), SL_INVALID);
        assert_true(err.message[0] != '\0');
    }
    assert_int_equal(sli_accept_check(&sampling, 0, NULL), SL_INVALID); /* its distributions have a size */
    assert_int_equal(sli_accept_check(&sampling, SL_SAMPLE_TOP_K_MAX + 1, NULL), SL_INVALID);
    assert_int_equal(sli_accept_check(&sampling, 1, NULL), SL_OK);
    sl_drafting right = threshold(1, 0.6f);
    assert_int_equal(sli_accept_check(&right, 0, NULL), SL_OK);
    assert_int_equal(sli_accept_check(&exact, 0, NULL), SL_OK);
}

/* ---- rejection sampling ---- */

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 12) + 0.5) * 0x1p-52;
}

static sl_token drawn(const sl_chance *of, uint32_t count, double at)
{
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (at < of[i].p)
            return of[i].id;
        at -= of[i].p;
    }
    return of[count - 1].id;
}

/* Some of ten tokens, with any chances. */
static uint32_t make_chances(uint64_t *state, sl_chance *of)
{
    uint32_t count = 0;
    double total = 0;
    for (sl_token id = 0; id < 10; id++)
        if (uniform(state) < 0.6 || (id == 9 && count == 0)) {
            double u = uniform(state);
            of[count++] = (sl_chance){id * 3, u * u};
            total += u * u;
        }
    for (uint32_t i = 0; i < count; i++)
        of[i].p /= total;
    return count;
}

/* Whatever q the drafts come from, what comes out is distributed as p: chi-squared over tokens, at one in ten thousand. */
static void what_sampling_keeps_and_redraws_is_distributed_as_dense_decoding(void **state)
{
    enum { DRAWS = 40000, WORLDS = 30 };
    uint64_t seed = 7;
    (void)state;
    for (int world = 0; world < WORLDS; world++) {
        sl_chance p[10], q[10];
        uint32_t p_count = make_chances(&seed, p), q_count = make_chances(&seed, q), got[30] = {0}, kept = 0;
        if (world == 0) { /* a draft that is certain, as a lookup's */
            q[0] = (sl_chance){p[0].id, 1};
            q_count = 1;
        }
        if (world == 1) { /* the same distribution: everything is kept */
            memcpy(q, p, sizeof q);
            q_count = p_count;
        }
        for (int i = 0; i < DRAWS; i++) {
            sl_token draft = drawn(q, q_count, uniform(&seed));
            double accept = uniform(&seed), redraw = uniform(&seed);
            sl_token token = sli_accept_sample((sli_chances){p, p_count}, (sli_chances){q, q_count}, draft, accept, redraw);
            got[token]++;
            kept += token == draft;
        }
        double chi = 0;
        uint32_t seen = 0;
        for (uint32_t i = 0; i < p_count; i++) {
            double wanted = p[i].p * DRAWS, apart = got[p[i].id] - wanted;
            chi += wanted > 0 ? apart * apart / wanted : 0;
            seen += got[p[i].id];
        }
        assert_int_equal(seen, DRAWS); /* and nothing that p does not have */
        assert_true(chi < 34);         /* ten tokens: nine degrees of freedom at most */
        assert_true(world != 1 || kept == DRAWS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_keeps_the_pick_and_nothing_else),
        cmocka_unit_test(threshold_keeps_what_is_likely_enough_at_its_temperature),
        cmocka_unit_test(threshold_never_refuses_the_likeliest_or_the_pick),
        cmocka_unit_test(forbidden_and_broken_logits_are_never_kept),
        cmocka_unit_test(what_sampling_keeps_and_redraws_is_distributed_as_dense_decoding),
        cmocka_unit_test(values_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_exit.c: what decides early exits, on looks whose answer is known: no model. */
#include "core/mathx.h"
#include "offload/calibrate/exit_fit.h"
#include "offload/tools/tool.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 12, D = 64, VOCAB = 387, PROBES = 4, ROWS = 2000 };

static const int32_t probes[PROBES] = {5, 7, 9, 10};
static const int32_t shortlist[] = {3, 9, 200};

/* ---- looks ---- */

static void a_look_names_the_first_token_its_chance_and_its_lead(void **state)
{
    (void)state;
    const float logits[] = {-1, 2, 0.5f, 2, -50};
    double sum = 2 + exp(-3) + exp(-1.5) + exp(-52);
    sli_exit_look look = sli_exit_look_at(logits, 5);
    assert_int_equal(look.top, 1); /* the first of equal ones, as a sampler has it */
    assert_float_equal((double)look.chance, 1 / sum, 1e-6);
    assert_float_equal((double)look.gap, 0, 1e-6);
    look = sli_exit_look_at((const float[]){0, (float)log(3)}, 2);
    assert_int_equal(look.top, 1);
    assert_float_equal((double)look.chance, 0.75, 1e-6);
    assert_float_equal((double)look.gap, 0.5, 1e-6);
}

static void features_count_for_how_long_the_first_token_stays(void **state)
{
    (void)state;
    sli_exit_walk walk = {0};
    float features[SLI_EXIT_FEATURES];
    const uint32_t tops[] = {0, 0, 0, 7, 7};
    const float same[] = {0, 0.25f, 0.5f, 0, 0.25f};
    for (int i = 0; i < 5; i++) {
        sli_exit_walk_on(&walk, &(sli_exit_look){tops[i], 1, 1}, features);
        assert_true(features[3] == same[i]);
        assert_true(features[2] > 0.9f && features[2] <= 1);
    }
}

/* ---- planted lessons ---- */

static float uniform(uint64_t *random)
{
    return (float)(sli_random_next(random) >> 40) * 0x1p-24f;
}

/* A token has a probe from which on it is settled, or none; looks there have large chances, before it small ones; some lie. */
static sli_exit_lessons plant(uint32_t rows, double lies)
{
    sli_exit_lessons l = {rows, PROBES, calloc((size_t)rows * PROBES, sizeof *l.looks), calloc((size_t)rows * PROBES, 1)};
    uint64_t random = 5;
    assert_non_null(l.looks);
    assert_non_null(l.agrees);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t settles = (uint32_t)(uniform(&random) * (PROBES + 3));
        for (uint32_t p = 0; p < PROBES; p++) {
            bool agrees = p >= settles, sure = (double)uniform(&random) < lies ? !agrees : agrees;
            float chance = sure ? 0.7f + 0.3f * uniform(&random) : 0.75f * uniform(&random);
            l.agrees[(size_t)row * PROBES + p] = agrees;
            l.looks[(size_t)row * PROBES + p] = (sli_exit_look){agrees ? 1 : 2 + p, chance, chance * 0.9f};
        }
    }
    return l;
}

static void forget(sli_exit_lessons *l)
{
    free(l->looks);
    free(l->agrees);
}

static const sli_exit_task task = {{LAYERS, D, VOCAB}, probes, shortlist, 3};

static sli_exits fit(const sli_exit_lessons *l, void **blob, size_t *bytes)
{
    sli_exits exits;
    sl_error err = {0};
    sl_status status = sli_exit_fit(l, &task, blob, bytes, &err);
    if (status == SL_UNSUPPORTED) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    if (status != SL_OK)
        fail_msg("%s", err.message);
    const char *fault = sli_exits_view(*blob, *bytes, &task.shape, &exits);
    if (fault != NULL)
        fail_msg("the exit classifiers %s", fault);
    return exits;
}

/* Agreement on other rows than those that were seen, and layers taken. */
static double follow(const sli_exits *x, sl_early_exit kind, double threshold, const sli_exit_lessons *l, double *layers)
{
    double agreed = 0;
    *layers = 0;
    for (uint32_t row = 0; row < l->rows; row++) {
        sli_exit_walk walk = {0};
        uint32_t p = 0;
        while (p < l->probes && !(sli_exit_score(x, kind, &l->looks[(size_t)row * l->probes + p], &walk) >= threshold))
            p++;
        agreed += p == l->probes || l->agrees[(size_t)row * l->probes + p] != 0;
        *layers += p == l->probes ? LAYERS : probes[p] + 1;
    }
    *layers /= l->rows;
    return agreed / l->rows;
}

static void every_classifier_keeps_the_agreement_that_was_asked_and_leaves_layers_out(void **state)
{
    (void)state;
    sli_exit_lessons seen = plant(ROWS, 0.02), other = plant(2 * ROWS, 0.02);
    void *blob;
    size_t bytes;
    sli_exits x = fit(&seen, &blob, &bytes);
    for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_GAP; kind++)
        for (uint32_t i = 0; i < x.point_count; i++) {
            const sli_exit_point *p = &x.points[kind - 1][i];
            double layers, reached = follow(&x, kind, (double)p->threshold, &other, &layers);
            assert_true(p->agreement >= x.asked[i]);
            if (reached < (double)x.asked[i] - 0.01)
                fail_msg("kind %d: %.4f asked, %.4f reached", (int)kind, (double)x.asked[i], reached);
            if (x.asked[i] <= (kind == SL_EARLY_EXIT_GAP ? 0.95f : 0.985f) && !(layers < LAYERS - 0.5))
                fail_msg("kind %d at %.3f: %.2f layers of %d", (int)kind, (double)x.asked[i], layers, LAYERS);
        }
    free(blob);
    forget(&seen);
    forget(&other);
}

static void a_higher_agreement_takes_no_fewer_layers(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(ROWS, 0.05);
    void *blob;
    size_t bytes;
    sli_exits x = fit(&l, &blob, &bytes);
    for (int kind = 0; kind < SLI_EXIT_KINDS; kind++)
        for (uint32_t i = 1; i < x.point_count; i++)
            assert_true(x.points[kind][i].layers_mean >= x.points[kind][i - 1].layers_mean);
    assert_ptr_equal(sli_exit_point_of(&x, SL_EARLY_EXIT_GAP, 0.96), &x.points[2][8]); /* of 0.97, the next one above */
    assert_null(sli_exit_point_of(&x, SL_EARLY_EXIT_GAP, 0.9999));
    free(blob);
    forget(&l);
}

/* Where looks say nothing, nobody leaves, rather than leave wrongly. */
static void without_a_way_to_tell_no_token_leaves(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(ROWS, 0.5);
    uint64_t random = 9;
    void *blob;
    size_t bytes;
    for (size_t i = 0; i < (size_t)ROWS * PROBES; i++) {
        l.agrees[i] = uniform(&random) < 0.3f;
        l.looks[i].top = 1;
    }
    sli_exits x = fit(&l, &blob, &bytes);
    for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_GAP; kind++)
        assert_true(sli_exit_point_of(&x, kind, 0.99)->layers_mean > LAYERS - 0.3);
    free(blob);
    forget(&l);
}

static void labels_that_are_all_the_same_are_no_trouble(void **state)
{
    (void)state;
    for (int label = 0; label < 2; label++) {
        sli_exit_lessons l = plant(ROWS, 0);
        void *blob;
        size_t bytes;
        memset(l.agrees, label, (size_t)ROWS * PROBES);
        sli_exits x = fit(&l, &blob, &bytes);
        for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_GAP; kind++) {
            const sli_exit_point *p = sli_exit_point_of(&x, kind, 0.99);
            assert_float_equal((double)p->layers_mean, label == 1 ? probes[0] + 1 : LAYERS, 0.1);
        }
        free(blob);
        forget(&l);
    }
}

static void few_rows_are_refused(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(SLI_EXIT_ROWS_MIN - 1, 0);
    void *blob;
    size_t bytes;
    sl_error err = {0};
    assert_int_equal(sli_exit_fit(&l, &task, &blob, &bytes, &err), SL_INVALID);
    assert_null(blob);
    assert_non_null(strstr(err.message, "at least 256"));
    forget(&l);
}

/* ---- the chain, against all labellings one by one ---- */

static double weight_of_labelling(const sli_exits *x, const float features[][SLI_EXIT_FEATURES], uint32_t probe_count, uint32_t labels)
{
    double sum = 0;
    for (uint32_t p = 0; p < probe_count; p++) {
        const float *w = x->emission + p * SLI_EXIT_WEIGHTS;
        uint32_t label = labels >> p & 1;
        for (int f = 0; f < SLI_EXIT_FEATURES && label == 1; f++)
            sum += (double)w[f] * (double)features[p][f];
        sum += label == 1 ? (double)w[SLI_EXIT_FEATURES] : 0;
        sum += p > 0 ? (double)x->transition[(labels >> (p - 1) & 1) * 2 + label] : 0;
    }
    return exp(sum);
}

static void the_chains_score_is_the_chance_over_all_labellings(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(ROWS, 0.1);
    void *blob;
    size_t bytes;
    sli_exits x = fit(&l, &blob, &bytes);
    for (uint32_t row = 0; row < 50; row++) {
        sli_exit_walk walk = {0}, again = {0};
        float features[PROBES][SLI_EXIT_FEATURES];
        for (uint32_t p = 0; p < PROBES; p++) {
            double all = 0, settled = 0;
            sli_exit_walk_on(&again, &l.looks[row * PROBES + p], features[p]);
            for (uint32_t labels = 0; labels < 2u << p; labels++) {
                double w = weight_of_labelling(&x, features, p + 1, labels);
                all += w;
                settled += (labels >> p & 1) != 0 ? w : 0;
            }
            assert_float_equal(sli_exit_score(&x, SL_EARLY_EXIT_CRF, &l.looks[row * PROBES + p], &walk), settled / all, 1e-9);
        }
    }
    free(blob);
    forget(&l);
}

static double log_likelihood(const sli_exits *x, const sli_exit_lessons *l)
{
    double sum = 0;
    uint32_t fitted = l->rows * 6 / 10;
    for (uint32_t row = 0; row < fitted; row++) {
        sli_exit_walk walk = {0};
        float features[PROBES][SLI_EXIT_FEATURES];
        uint32_t labels = 0;
        double all = 0;
        for (uint32_t p = 0; p < PROBES; p++) {
            sli_exit_walk_on(&walk, &l->looks[row * PROBES + p], features[p]);
            labels |= (uint32_t)(l->agrees[row * PROBES + p] != 0) << p;
        }
        for (uint32_t other = 0; other < 1u << PROBES; other++)
            all += weight_of_labelling(x, features, PROBES, other);
        sum += log(weight_of_labelling(x, features, PROBES, labels) / all);
    }
    return sum / fitted;
}

/* Whichever weight is moved, the text's labels become less likely. */
static void the_chain_is_fitted_to_the_top(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(ROWS, 0.1);
    void *blob;
    size_t bytes;
    sli_exits x = fit(&l, &blob, &bytes);
    double best = log_likelihood(&x, &l);
    float *first = (float *)(uintptr_t)x.emission;
    for (uint32_t i = 0; i < PROBES * SLI_EXIT_WEIGHTS + 4; i++)
        for (int way = -1; way <= 1; way += 2) {
            first[i] += (float)way * 0.3f;
            assert_true(log_likelihood(&x, &l) < best + 0.3 * 1e-3 * 10); /* the penalty's part */
            first[i] -= (float)way * 0.3f;
        }
    free(blob);
    forget(&l);
}

/* ---- bad files ---- */

static void refused(const void *blob, size_t bytes, const char *why)
{
    sli_exits x;
    void *aligned = malloc(bytes + 1);
    assert_non_null(aligned);
    memcpy(aligned, blob, bytes);
    const char *fault = sli_exits_view(aligned, bytes, &task.shape, &x);
    if (fault == NULL || strstr(fault, why) == NULL)
        fail_msg("\"%s\" where \"%s\" was to be said", fault != NULL ? fault : "taken", why);
    free(aligned);
}

static void what_is_stored_badly_is_refused_with_a_reason(void **state)
{
    (void)state;
    sli_exit_lessons l = plant(ROWS, 0.02);
    void *blob;
    size_t bytes;
    (void)fit(&l, &blob, &bytes);
    uint32_t *words = blob;
    sli_exit_layout at = sli_exit_layout_of(words);
    refused(blob, 12, "shorter than their header");
    refused(blob, bytes - 4, "do not fit together");
    const struct {
        size_t offset;
        uint32_t value;
        const char *why;
    } cases[] = {{0, 2, "another version"},
                 {SLI_EXIT_D * 4, 65, "other sizes"},
                 {SLI_EXIT_PROBES * 4, 0, "cannot be"},
                 {SLI_EXIT_SHORTLIST * 4, VOCAB + 1, "cannot be"},
                 {SLI_EXIT_VECTORS * 4, UINT32_MAX, "cannot be"},
                 {at.offset[SLI_EXIT_PART_PROBES], 7, "does not have"},
                 {at.offset[SLI_EXIT_PART_PROBES] + 12, LAYERS - 1, "does not have"},
                 {at.offset[SLI_EXIT_PART_SHORTLIST] + 8, VOCAB, "does not have"},
                 {at.offset[SLI_EXIT_PART_SHORTLIST], 9, "does not have"},
                 {at.offset[SLI_EXIT_PART_VECTOR_ENDS] + 4 * (PROBES - 1), 1u << 30, "not there"},
                 {at.offset[SLI_EXIT_PART_SIGMOID], 0x7fc00000, "no number"},
                 {at.offset[SLI_EXIT_PART_EMISSION], 0x7f800000, "no number"},
                 {at.offset[SLI_EXIT_PART_ASKED], 0x40000000, "cannot be"},
                 {at.offset[SLI_EXIT_PART_POINTS] + 8, 0, "cannot be"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t before;
        memcpy(&before, (uint8_t *)blob + cases[i].offset, 4);
        memcpy((uint8_t *)blob + cases[i].offset, &cases[i].value, 4);
        refused(blob, bytes, cases[i].why);
        memcpy((uint8_t *)blob + cases[i].offset, &before, 4);
    }
    free(blob);
    forget(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_names_the_first_token_its_chance_and_its_lead),
        cmocka_unit_test(features_count_for_how_long_the_first_token_stays),
        cmocka_unit_test(every_classifier_keeps_the_agreement_that_was_asked_and_leaves_layers_out),
        cmocka_unit_test(a_higher_agreement_takes_no_fewer_layers),
        cmocka_unit_test(without_a_way_to_tell_no_token_leaves),
        cmocka_unit_test(labels_that_are_all_the_same_are_no_trouble),
        cmocka_unit_test(few_rows_are_refused),
        cmocka_unit_test(the_chains_score_is_the_chance_over_all_labellings),
        cmocka_unit_test(the_chain_is_fitted_to_the_top),
        cmocka_unit_test(what_is_stored_badly_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_rates.c: what one threshold over all layers keeps of each matrix. */
#include "offload/prune/rates.h"
#include "offload/tools/synth_row.h"
#include "tests/kernels_material.h"

/* One matrix has scores ten times those of the other: what goes is the smaller one's. */
static void one_threshold_keeps_more_where_scores_are_larger_and_the_asked_share_of_all(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    static float w[2][COUNT];
    sli_rates rates;
    sl_error err = {0};
    uint64_t random = 8;
    for (int i = 0; i < COUNT; i++) {
        w[0][i] = (float)(sli_random_next(&random) >> 40) * 0x1p-23f - 1.0f;
        w[1][i] = 10 * ((float)(sli_random_next(&random) >> 40) * 0x1p-23f - 1.0f);
    }
    for (double density = 0.05; density < 0.97; density += 0.05) {
        assert_int_equal(sli_rates_create(3, &rates, &err), SL_OK); /* the last is never seen */
        sli_rates_see(&rates, 0, 40, COUNT / 40, w[0], NULL, false);
        sli_rates_see(&rates, 1, 40, COUNT / 40, w[1], NULL, false);
        sli_rates_settle(&rates, density);
        assert_true(fabs((rates.density[0] + rates.density[1]) / 2 - density) < 1e-3);
        assert_true(rates.density[2] == 1);
        for (int m = 0; m < 2; m++) {
            size_t above = 0;
            for (int i = 0; i < COUNT; i++)
                above += fabsf(w[m][i]) >= rates.threshold;
            assert_true(fabs((double)above / COUNT - rates.density[m]) < 0.03);
        }
        assert_true(rates.density[0] < rates.density[1]);
        sli_rates_free(&rates);
    }
}

static void scores_are_weighed_by_column_and_squared_where_a_method_does_so(void **state)
{
    (void)state;
    const float w[2][2] = {{1, -1}, {2, 2}}, by[2] = {1, 8};
    sli_rates rates;
    sl_error err = {0};
    for (int squared = 0; squared < 2; squared++) {
        assert_int_equal(sli_rates_create(1, &rates, &err), SL_OK);
        sli_rates_see(&rates, 0, 2, 2, w[0], by, squared == 1);
        for (uint32_t i = 0; i < 2 * SLI_RATES_BINS; i++) { /* 1, 8, 2 and 16, or their squares, have bins of their own */
            float edge = ldexpf(1.0f + (float)(i % 16) / 16, (int)(i / 16) - 127);
            bool there = squared ? edge == 1 || edge == 64 || edge == 4 || edge == 256 : edge == 1 || edge == 8 || edge == 2 || edge == 16;
            if (i < SLI_RATES_BINS && i >= 16)
                assert_int_equal(rates.bins[i], there);
        }
        sli_rates_free(&rates);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_threshold_keeps_more_where_scores_are_larger_and_the_asked_share_of_all),
        cmocka_unit_test(scores_are_weighed_by_column_and_squared_where_a_method_does_so),
    };
    return cmocka_run_group_tests_name("rates", tests, NULL, NULL);
}

/* tests/test_quantize.c: rounding weights, against blocks worked out by hand and against the bound that each grid promises. */
#include "kernels/kernels.h"
#include "offload/tools/quantize.h"
#include "offload/tools/tool.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void q8_0_puts_the_largest_value_at_127(void **state)
{
    (void)state;
    float x[32] = {254.0f, -254.0f, 1.0f, 0.9f, 3.0f, -3.0f};
    uint8_t out[34];
    sl_quantize_row(SL_TYPE_Q8_0, x, 32, out);
    static const int8_t expected[] = {127, -127, 1, 0, 2, -2, 0}; /* step 2; 0.5 and 1.5 round away from zero */
    assert_int_equal(out[0] | out[1] << 8, 0x4000);
    assert_memory_equal(out + 2, expected, sizeof(expected));
}

/* The extreme value is -8 steps whatever its sign, so the step has the opposite one. */
static void q4_0_puts_the_extreme_value_at_minus_8(void **state)
{
    (void)state;
    float x[32] = {8.0f, -7.0f, 1.0f, 0.4f};
    uint8_t out[18];
    x[16] = -8.0f; /* as large, but later */
    x[17] = 3.0f;
    sl_quantize_row(SL_TYPE_Q4_0, x, 32, out);
    assert_int_equal(out[0] | out[1] << 8, 0xbc00); /* -1 */
    assert_int_equal(out[2], 0x0 | 0xf << 4);       /* 8 -> -8; -8 would be +8: the grid's end, 7 */
    assert_int_equal(out[3], 0xf | (8 - 3) << 4);   /* -7 -> 7 */
    assert_int_equal(out[4], 7 | 8 << 4);           /* 1 -> -1; 0 -> 0 */
    assert_int_equal(out[5], 8 | 8 << 4);
}

static void q4_1_runs_from_the_smallest_to_the_largest(void **state)
{
    (void)state;
    float x[32];
    uint8_t out[20];
    for (int i = 0; i < 32; i++)
        x[i] = -4.0f + (float)(i % 16);
    sl_quantize_row(SL_TYPE_Q4_1, x, 32, out);
    assert_int_equal(out[0] | out[1] << 8, 0x3c00);
    assert_int_equal(out[2] | out[3] << 8, 0xc400);
    for (int i = 0; i < 16; i++)
        assert_int_equal(out[4 + i], i | i << 4);
}

static void a_block_of_zeros_stays_zero(void **state)
{
    (void)state;
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0};
    float x[32] = {0}, back[32];
    uint8_t out[128];
    for (size_t i = 0; i < 6; i++) {
        sl_quantize_row(types[i], x, 32, out);
        sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(types[i], out, 32, back);
        for (int k = 0; k < 32; k++)
            assert_true(back[k] == 0.0f);
    }
}

/* Half a step, and what rounding the step to fp16 moves the outermost integer; Q4_0's far end is cut, which costs up to one step. */
static void no_value_moves_further_than_its_grid_allows(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        float bound; /* in units of the block's amax */
    } grids[] = {{SL_TYPE_F32, 0.0f},
                 {SL_TYPE_F16, 0x1p-11f},
                 {SL_TYPE_BF16, 0x1p-8f},
                 {SL_TYPE_Q8_0, 0.5f / 127 + 0x1p-10f},
                 {SL_TYPE_Q4_0, 1.0f / 8 + 0x1p-10f},
                 {SL_TYPE_Q4_1, 1.0f / 15 + 0x1p-9f}};
    uint64_t random = 7;
    for (int block = 0; block < 2000; block++) {
        float x[32], back[32], amax = 0.0f;
        uint8_t out[128];
        for (int k = 0; k < 32; k++) {
            x[k] = ((float)(sli_random_next(&random) >> 40) * 0x1p-23f - 1.0f) * (block % 2 ? 0.02f : 50.0f);
            amax = fmaxf(amax, fabsf(x[k]));
        }
        for (size_t i = 0; i < sizeof(grids) / sizeof(grids[0]); i++) {
            sl_quantize_row(grids[i].type, x, 32, out);
            sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(grids[i].type, out, 32, back);
            for (int k = 0; k < 32; k++)
                assert_true(fabsf(back[k] - x[k]) <= amax * grids[i].bound);
        }
    }
}

/* No crash and no undefined conversion; what comes out is of no interest. */
/* Pruning relies on it: a weight that is zero is stored as an exact zero, whatever its neighbours are. */
static void zeros_stay_zeros_among_other_values(void **state)
{
    (void)state;
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q4_0, SL_TYPE_Q5_0, SL_TYPE_Q8_0};
    uint64_t random = 1;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int tries = 0; tries < 200; tries++) {
            float x[32], back[32];
            uint8_t stored[128];
            for (int i = 0; i < 32; i++)
                x[i] = sli_random_next(&random) % 2 ? 0.0f : (float)(sli_random_next(&random) >> 40) * 0x1p-22f - 1.9f;
            sl_quantize_row(types[t], x, 32, stored);
            sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(types[t], stored, 32, back);
            for (int i = 0; i < 32; i++)
                assert_true(x[i] != 0 || back[i] == 0);
        }
}

static void q5_0_puts_the_extreme_value_at_minus_16(void **state)
{
    (void)state;
    float x[32] = {0}, back[32];
    uint8_t stored[22];
    x[3] = 4.0f;
    x[20] = -2.0f;
    sl_quantize_row(SL_TYPE_Q5_0, x, 32, stored);
    sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(SL_TYPE_Q5_0, stored, 32, back);
    for (int i = 0; i < 32; i++)
        assert_true(back[i] == x[i]);
}

static void values_that_are_not_finite_do_no_harm(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-44f};
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0};
    uint8_t out[128];
    for (size_t i = 0; i < 5; i++) {
        for (size_t t = 0; t < 6; t++) {
            float x[32] = {1.0f, odd[i], -1.0f, odd[(i + 1) % 5]};
            sl_quantize_row(types[t], x, 32, out);
        }
    }
}

static void only_formats_with_kernels_are_known(void **state)
{
    (void)state;
    assert_true(sl_quantize_knows(SL_TYPE_Q4_1));
    assert_true(sl_quantize_knows(SL_TYPE_BF16));
    assert_false(sl_quantize_knows(14)); /* Q6_K */
    assert_false(sl_quantize_knows(4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_0_puts_the_largest_value_at_127),          cmocka_unit_test(q4_0_puts_the_extreme_value_at_minus_8),
        cmocka_unit_test(q4_1_runs_from_the_smallest_to_the_largest),  cmocka_unit_test(a_block_of_zeros_stays_zero),
        cmocka_unit_test(no_value_moves_further_than_its_grid_allows), cmocka_unit_test(values_that_are_not_finite_do_no_harm),
        cmocka_unit_test(only_formats_with_kernels_are_known),         cmocka_unit_test(zeros_stay_zeros_among_other_values),
        cmocka_unit_test(q5_0_puts_the_extreme_value_at_minus_16),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}

/* tests/test_format.c: the format table, and the 16-bit floats against values worked out by hand. */
#include "core/format.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void every_supported_format_has_its_name_and_block(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        const char *name;
        unsigned elements, bytes;
    } expected[] = {{0, "F32", 1, 4},       {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},    {3, "Q4_1", 32, 20},
                    {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},    {10, "Q2_K", 256, 84},
                    {11, "Q3_K", 256, 110}, {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210},
                    {20, "IQ4_NL", 32, 18}, {23, "IQ4_XS", 256, 136}, {30, "BF16", 1, 2}};
    size_t supported = 0;
    for (uint32_t type = 0; type < SL_TYPE_LIMIT; type++)
        supported += sl_format_of(type) && sl_format_of(type)->supported;
    assert_int_equal(supported, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const sl_format *f = sl_format_of(expected[i].type);
        assert_non_null(f);
        assert_string_equal(f->name, expected[i].name);
        assert_int_equal(f->block_elements, expected[i].elements);
        assert_int_equal(f->block_bytes, expected[i].bytes);
        assert_true(f->supported);
        assert_int_equal(f->quantized, expected[i].elements > 1);
    }
}

static void numbers_that_gguf_withdrew_or_never_gave_have_no_format(void **state)
{
    (void)state;
    static const uint32_t none[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 63, 64, 65, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_null(sl_format_of(none[i]));
}

static void every_format_is_found_by_its_name_in_any_case(void **state)
{
    (void)state;
    uint32_t type = 99;
    for (uint32_t i = 0; i < SL_TYPE_LIMIT; i++) {
        if (!sl_format_of(i))
            continue;
        assert_ptr_equal(sl_format_by_name(sl_format_of(i)->name, &type), sl_format_of(i));
        assert_int_equal(type, i);
    }
    assert_non_null(sl_format_by_name("q4_0", &type));
    assert_int_equal(type, SL_TYPE_Q4_0);
    assert_null(sl_format_by_name("Q4", &type));
    assert_null(sl_format_by_name("", &type));
}

static void a_row_is_its_blocks_bytes(void **state)
{
    (void)state;
    assert_int_equal(sl_row_bytes(SL_TYPE_F32, 3), 12);
    assert_int_equal(sl_row_bytes(SL_TYPE_Q4_0, 4096), 4096 / 32 * 18);
    assert_int_equal(sl_row_bytes(SL_TYPE_Q8_0, (uint64_t)1 << 36), ((uint64_t)1 << 36) / 32 * 34);
}

static void every_half_survives_the_way_through_fp32(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = sl_f16_to_f32((uint16_t)h);
        uint16_t quiet = isnan(f) ? 0x200 : 0; /* a signalling NaN comes back quiet */
        assert_int_equal(sl_f32_to_f16(f), h | quiet);
        float b = sl_bf16_to_f32((uint16_t)h);
        uint16_t bquiet = isnan(b) ? 0x40 : 0;
        assert_int_equal(sl_f32_to_bf16(b), h | bquiet);
    }
}

static void halves_have_their_ieee_values(void **state)
{
    (void)state;
    assert_true(sl_f16_to_f32(0x3c00) == 1.0f);
    assert_true(sl_f16_to_f32(0xc500) == -5.0f);
    assert_true(sl_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(sl_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(sl_f16_to_f32(0x03ff) == 1023 * 0x1p-24f);
    assert_true(isinf(sl_f16_to_f32(0x7c00)));
    assert_true(isnan(sl_f16_to_f32(0x7c01)));
    assert_int_equal(bits_of_float(sl_f16_to_f32(0x8000)), 0x80000000u);
    assert_true(sl_bf16_to_f32(0x3f80) == 1.0f);
}

/* Half-way between two neighbours goes to the even one, a bit above or below goes to the nearer: over all finite halves. */
static void conversion_to_half_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = sl_f16_to_f32((uint16_t)h), high = sl_f16_to_f32((uint16_t)(h + 1));
        float middle = low + (high - low) / 2; /* exact: fp32 has 13 more bits */
        assert_int_equal(sl_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(sl_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(sl_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(sl_f32_to_f16(-middle), 0x8000u | (h + (h & 1)));
    }
    assert_int_equal(sl_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(sl_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(sl_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(sl_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(sl_f32_to_f16(nextafterf(0x1p-25f, 1)), 1);
    assert_true(isnan(sl_f16_to_f32(sl_f32_to_f16(NAN))));
}

static void conversion_to_bfloat_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        assert_int_equal(sl_f32_to_bf16(float_of_bits(h << 16 | 0x8000)), h + (h & 1));
        assert_int_equal(sl_f32_to_bf16(float_of_bits(h << 16 | 0x7fff)), h);
        assert_int_equal(sl_f32_to_bf16(float_of_bits(h << 16 | 0x8001)), h + 1);
    }
    assert_int_equal(sl_f32_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(sl_bf16_to_f32(sl_f32_to_bf16(float_of_bits(0x7f800001)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_supported_format_has_its_name_and_block),
        cmocka_unit_test(numbers_that_gguf_withdrew_or_never_gave_have_no_format),
        cmocka_unit_test(every_format_is_found_by_its_name_in_any_case),
        cmocka_unit_test(a_row_is_its_blocks_bytes),
        cmocka_unit_test(every_half_survives_the_way_through_fp32),
        cmocka_unit_test(halves_have_their_ieee_values),
        cmocka_unit_test(conversion_to_half_rounds_to_nearest_even),
        cmocka_unit_test(conversion_to_bfloat_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}

/* tests/test_compact.c: strips without their zeros (kernels/compact.h) come back byte for byte, and every instruction set gives what the reference gives. */
#include "kernels/compact.h"
#include "tests/kernels_material.h"

#include <string.h>

/* `percent` of the elements are zero. Memory ends where the strip does, so that a sanitizer sees a step aside. */
static uint8_t *make_strip(uint32_t elements, uint32_t percent, uint64_t seed)
{
    uint8_t *plain = malloc(2 * elements);
    assert_non_null(plain);
    for (size_t i = 0; i < elements; i++) {
        uint64_t bits = next_random(&seed);
        plain[2 * i] = bits % 100 < percent ? 0 : (uint8_t)(bits >> 40);
        plain[2 * i + 1] = bits % 100 < percent ? 0 : (uint8_t)(bits >> 48);
    }
    return plain;
}

static bool has(int isa)
{
    return sl_kernels_for((sl_isa)isa) != NULL && sl_cpu_supports((sl_isa)isa);
}

/* Through compact and back, by every instruction set. */
static void check_strip(uint32_t elements, uint32_t percent, uint32_t spare)
{
    uint8_t *plain = make_strip(elements, percent, percent * 31 + elements), *back = malloc(2 * elements);
    uint32_t kept_max = sl_compact_kept(elements, plain) + spare;
    uint8_t *compact = malloc(sl_compact_bytes(elements, kept_max));
    assert_true(back != NULL && compact != NULL);
    sl_compact(elements, plain, kept_max, compact);
    for (int isa = 0; isa < SL_ISA_COUNT; isa++) {
        if (!has(isa))
            continue;
        memset(back, 0x55, 2 * elements);
        sl_kernels_for((sl_isa)isa)->expand(elements, compact, kept_max, back);
        assert_memory_equal(back, plain, 2 * elements);
    }
    free(compact);
    free(back);
    free(plain);
}

static void strips_come_back_byte_for_byte(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 16, 24, 64, 576, 4608}, percents[] = {0, 1, 50, 75, 99, 100};
    for (size_t l = 0; l < 6; l++)
        for (size_t p = 0; p < 6; p++)
            for (uint32_t spare = 0; spare < 6; spare++)
                check_strip(lengths[l], percents[p], spare);
}

/* Two of four weights and four bits beside them: 36 bits of 64. */
static void two_of_four_take_what_two_positions_would(void **state)
{
    (void)state;
    assert_int_equal(sl_compact_bytes(576, 288), 576 / 4 * 36 / 8);
}

/* Minus zero is another number than zero, where bytes are to come back. */
static void minus_zero_is_kept(void **state)
{
    (void)state;
    static const uint8_t plain[16] = {0, 0, 0, 0x80, 0, 0, 0, 0x3c};
    assert_int_equal(sl_compact_kept(8, plain), 2);
}

static void lengths_types_and_sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    uint32_t kept_max;
    assert_true(sl_compact_works(SL_TYPE_F16, 64));
    assert_true(sl_compact_works(SL_TYPE_BF16, 8));
    assert_false(sl_compact_works(SL_TYPE_F16, 36));
    assert_false(sl_compact_works(SL_TYPE_F16, 0));
    assert_false(sl_compact_works(SL_TYPE_F32, 64));
    assert_false(sl_compact_works(SL_TYPE_Q8_0, 64));
    assert_false(sl_compact_kept_max(64, 7, &kept_max));
    assert_false(sl_compact_kept_max(64, 9, &kept_max));
    assert_false(sl_compact_kept_max(64, 8 + 2 * 65, &kept_max));
    assert_true(sl_compact_kept_max(64, 10, &kept_max));
    assert_int_equal(kept_max, 1);
}

/* A damaged file may say anything: nothing is read but the strip, and all sets agree about what comes of it. */
static void bits_that_promise_too_much_are_harmless(void **state)
{
    (void)state;
    for (uint32_t kept_max = 0; kept_max < 96; kept_max++) {
        uint64_t seed = kept_max + 1;
        size_t bytes = sl_compact_bytes(256, kept_max);
        uint8_t *compact = malloc(bytes), want[512], got[512];
        assert_non_null(compact);
        for (size_t i = 0; i < bytes; i++)
            compact[i] = (uint8_t)(next_random(&seed) >> 40);
        sl_kernels_for(SL_ISA_SCALAR)->expand(256, compact, kept_max, want);
        for (int isa = 1; isa < SL_ISA_COUNT; isa++) {
            if (!has(isa))
                continue;
            sl_kernels_for((sl_isa)isa)->expand(256, compact, kept_max, got);
            assert_memory_equal(got, want, sizeof want);
        }
        free(compact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_come_back_byte_for_byte),
        cmocka_unit_test(two_of_four_take_what_two_positions_would),
        cmocka_unit_test(minus_zero_is_kept),
        cmocka_unit_test(lengths_types_and_sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(bits_that_promise_too_much_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

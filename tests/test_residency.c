/* tests/test_residency.c: which neurons a device holds, where they follow a set. No model, no device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/residency.h"

#include <string.h>

#define FF    8
#define FRESH SL_DEVICE_FRESH

static const uint32_t hot_first[FF] = {5, 1, 7, 0, 2, 6, 3, 4};

static void members_take_the_slots_of_those_that_are_none(void **state)
{
    uint32_t holders[3] = {5, 1, 7};
    const uint32_t set[3] = {1, 3, 4};
    uint8_t marks[FF];
    (void)state;
    sli_followed now = sli_residency_follow(hot_first, FF, set, 3, holders, 3, marks);
    assert_int_equal(now.fresh, 2);
    assert_int_equal(now.held, 3);
    assert_true(holders[0] == (3 | FRESH)); /* hotter than 4 */
    assert_true(holders[1] == 1);
    assert_true(holders[2] == (4 | FRESH));
}

static void a_set_that_stays_moves_nothing_and_is_fresh_no_more(void **state)
{
    uint32_t holders[3] = {3 | FRESH, 1, 4 | FRESH};
    const uint32_t want[3] = {3, 1, 4}, set[2] = {1, 4};
    uint8_t marks[FF];
    (void)state;
    sli_followed now = sli_residency_follow(hot_first, FF, set, 2, holders, 3, marks);
    assert_int_equal(now.fresh, 0);
    assert_int_equal(now.held, 2);
    assert_memory_equal(holders, want, sizeof want); /* 3 is no member, and its slot is wanted by nobody */
}

static void of_a_set_that_is_larger_than_the_slots_the_hot_ones_are_held(void **state)
{
    uint32_t holders[2] = {4, 6};
    const uint32_t set[5] = {0, 1, 2, 4, 7};
    uint8_t marks[FF];
    (void)state;
    sli_followed now = sli_residency_follow(hot_first, FF, set, 5, holders, 2, marks);
    assert_int_equal(now.fresh, 1);
    assert_int_equal(now.held, 2);
    assert_true(holders[0] == 4); /* who is there stays there */
    assert_true(holders[1] == (1 | FRESH));
}

/* No neuron has two slots, whatever sets come one after the other; what is not in the set and was not pushed out is still there. */
static void slots_hold_different_neurons_always(void **state)
{
    uint32_t holders[4] = {0, 1, 2, 3};
    uint8_t marks[FF];
    (void)state;
    for (uint32_t i = 0, mask = 1; i < 300; i++, mask = (mask * 5 + 3) % 256) {
        uint32_t set[FF], keep = 0, seen = 0, members = 0;
        for (uint32_t n = 0; n < FF; n++)
            if ((mask >> n & 1) != 0)
                set[keep++] = n;
        sli_followed now = sli_residency_follow(hot_first, FF, set, keep, holders, 4, marks);
        for (uint32_t s = 0; s < 4; s++) {
            uint32_t neuron = holders[s] & ~FRESH;
            assert_true(neuron < FF && (seen >> neuron & 1) == 0);
            seen |= 1u << neuron;
            members += mask >> neuron & 1;
        }
        assert_int_equal(now.held, members);
        assert_int_equal(members, keep < 4 ? keep : 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_take_the_slots_of_those_that_are_none),
        cmocka_unit_test(a_set_that_stays_moves_nothing_and_is_fresh_no_more),
        cmocka_unit_test(of_a_set_that_is_larger_than_the_slots_the_hot_ones_are_held),
        cmocka_unit_test(slots_hold_different_neurons_always),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

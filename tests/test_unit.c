/* tests/test_unit.c: the unit table's transitions (pager/unit.h) and the staging ring (pager/ring.h). */
#include "pager/ring.h"
#include "pager/unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

static void a_unit_with_a_home_goes_from_absent_to_resident(void **state)
{
    (void)state;
    sli_unit unit = {.bytes = 10, .home_at = 0, .extent = SLI_NONE, .next = SLI_NONE};
    sli_units units = {.unit = &unit, .count = 1};
    sli_unit_begin_load(&units, 0, 3);
    assert_int_equal(unit.state, SLI_LOADING);
    assert_int_equal(unit.extent, 3);
    assert_null(sli_units_broken(&units));
    sli_unit_loaded(&units, 0);
    assert_int_equal(unit.state, SLI_STAGED);
    sli_unit_pin(&units, 0);
    sli_unit_settle(&units, 0);
    assert_int_equal(unit.state, SLI_RESIDENT);
    assert_int_equal(unit.extent, SLI_NONE);
    assert_int_equal(unit.pins, 1);
    assert_int_equal(units.resident_bytes, 10);
    sli_unit_unpin(&units, 0);
    assert_int_equal(unit.state, SLI_RESIDENT);
    assert_null(sli_units_broken(&units));
}

static void a_unit_without_a_home_is_dropped(void **state)
{
    (void)state;
    sli_unit unit = {.bytes = 10, .home_at = SLI_NO_HOME, .extent = SLI_NONE};
    sli_units units = {.unit = &unit, .count = 1};
    sli_unit_begin_load(&units, 0, 0);
    sli_unit_loaded(&units, 0);
    sli_unit_drop(&units, 0);
    assert_int_equal(unit.state, SLI_ABSENT);
    assert_int_equal(unit.extent, SLI_NONE);
    assert_null(sli_units_broken(&units));
}

static void a_failed_unit_is_absent_again_after_retry(void **state)
{
    (void)state;
    sli_unit unit = {.bytes = 10, .home_at = SLI_NO_HOME, .extent = SLI_NONE};
    sli_units units = {.unit = &unit, .count = 1};
    sli_unit_begin_load(&units, 0, 0);
    sli_unit_load_failed(&units, 0);
    assert_int_equal(unit.state, SLI_FAILED);
    assert_int_equal(unit.extent, SLI_NONE);
    assert_null(sli_units_broken(&units));
    sli_unit_retry(&units, 0);
    assert_int_equal(unit.state, SLI_ABSENT);
}

static void each_broken_invariant_is_named(void **state)
{
    (void)state;
    static const struct {
        sli_unit unit;
        uint64_t resident;
        const char *name;
    } cases[] = {
        {{.state = SLI_ABSENT, .extent = 1, .bytes = 4, .home_at = SLI_NO_HOME}, 0, "U1"},
        {{.state = SLI_STAGED, .extent = SLI_NONE, .bytes = 4, .home_at = SLI_NO_HOME}, 0, "U1"},
        {{.state = SLI_LOADING, .extent = 1, .pins = 1, .bytes = 4, .home_at = SLI_NO_HOME}, 0, "U2"},
        {{.state = SLI_RESIDENT, .extent = SLI_NONE, .bytes = 4, .home_at = SLI_NO_HOME}, 4, "U3"},
        {{.state = SLI_FAILED, .extent = SLI_NONE, .claims = 1, .bytes = 4, .home_at = SLI_NO_HOME}, 0, "U4"},
        {{.state = SLI_RESIDENT, .extent = SLI_NONE, .bytes = 4, .home_at = 0}, 3, "U5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sli_unit unit = cases[i].unit;
        sli_units units = {.unit = &unit, .count = 1, .resident_bytes = cases[i].resident};
        assert_string_equal(sli_units_broken(&units), cases[i].name);
    }
}

/* The model of the ring: who owns each cell, and the order of the owners. */
static void a_random_ring_never_gives_one_place_twice(void **state)
{
    (void)state;
    enum { CELLS = 50, ENTRIES = 9, STEPS = 200000 };
    sli_extent table[ENTRIES];
    sli_ring ring = {.extent = table, .capacity = ENTRIES, .bytes = CELLS};
    int owner[CELLS] = {0}, next_owner = 1, queue[ENTRIES], count = 0;
    uint64_t seed = 4711, at;
    unsigned refused = 0, given = 0;
    for (int step = 0; step < STEPS; step++) {
        uint32_t what = rnd(&seed, 10), bytes = 1 + rnd(&seed, 20);
        if (what < 6) {
            if (!sli_ring_room(&ring, bytes, &at)) {
                refused++;
                continue;
            }
            given++;
            for (uint32_t i = 0; i < bytes; i++) {
                assert_true(at + i < CELLS);
                assert_int_equal(owner[at + i], 0);
                owner[at + i] = next_owner;
            }
            uint32_t index = sli_ring_push(&ring, (sli_extent){.at = at, .bytes = bytes, .file = (uint32_t)next_owner});
            assert_int_equal(ring.extent[index].file, next_owner);
            queue[count++] = next_owner++;
        } else if (count > 0) {
            bool first = what < 9;
            int gone = first ? queue[0] : queue[count - 1];
            assert_int_equal((first ? sli_ring_first(&ring) : sli_ring_last(&ring))->file, gone);
            (first ? sli_ring_pop_first : sli_ring_pop_last)(&ring);
            memmove(queue, queue + first, (size_t)--count * sizeof *queue);
            for (int i = 0; i < CELLS; i++)
                owner[i] = owner[i] == gone ? 0 : owner[i];
        } else {
            assert_null(sli_ring_first(&ring));
            assert_null(sli_ring_last(&ring));
        }
        const char *broken = sli_ring_broken(&ring);
        if (broken != NULL)
            fail_msg("%s after step %d", broken, step);
    }
    assert_true(given > STEPS / 20 && refused > STEPS / 20);
}

static void one_extent_anywhere_leaves_room_when_the_ring_is_three_times_as_large(void **state)
{
    (void)state;
    for (uint32_t at = 0; at <= 20; at++) {
        sli_extent table[4] = {{.at = at, .bytes = 10}};
        sli_ring ring = {.extent = table, .capacity = 4, .count = 1, .bytes = 30};
        uint64_t place;
        assert_true(sli_ring_room(&ring, 10, &place));
    }
    sli_extent table[4] = {{.at = 9, .bytes = 10}};
    sli_ring ring = {.extent = table, .capacity = 4, .count = 1, .bytes = 28};
    uint64_t place;
    assert_false(sli_ring_room(&ring, 10, &place)); /* 9 on either side */
    assert_true(sli_ring_room(&ring, 9, &place));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_with_a_home_goes_from_absent_to_resident),
        cmocka_unit_test(a_unit_without_a_home_is_dropped),
        cmocka_unit_test(a_failed_unit_is_absent_again_after_retry),
        cmocka_unit_test(each_broken_invariant_is_named),
        cmocka_unit_test(a_random_ring_never_gives_one_place_twice),
        cmocka_unit_test(one_extent_anywhere_leaves_room_when_the_ring_is_three_times_as_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_bundles.c: pager/bundles.h promise by promise: what is read, guessed, held, counted and refused. test_bundle_policies.c has
 * what is kept, and all of it at once. */
/* link: -Wl,--wrap=sl_pages_alloc,--wrap=malloc,--wrap=calloc,--wrap=realloc */
#include "core/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bundle_rig.h"

/* ---- allocations are counted ---- */

static uint64_t pages_bytes, heap_calls;

void *__wrap_sl_pages_alloc(size_t bytes);
void *__real_sl_pages_alloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);

void *__wrap_sl_pages_alloc(size_t bytes)
{
    pages_bytes += sl_pages_round(bytes);
    return __real_sl_pages_alloc(bytes);
}

void *__wrap_malloc(size_t bytes)
{
    heap_calls++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    heap_calls++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    heap_calls++;
    return __real_realloc(memory, bytes);
}

/* ---- single promises ---- */

static void neighbours_are_read_together_in_requests_of_limited_size(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[40];
    for (uint32_t i = 0; i < 40; i++)
        places[i] = i;
    open_rig(&r, 8);
    visit(&r, 0, places, 40); /* 20480 bytes in requests of 8192 */
    assert_int_equal(r.tier->reads, 3);
    assert_int_equal(r.tier->largest, 8192);
    assert_int_equal(r.tier->bursts, 1); /* one system call */
    visit(&r, 0, (uint32_t[]){3, 5, 6}, 3);
    assert_int_equal(r.tier->reads, 5);
    sl_bundles_destroy(r.b);
}

static void a_gap_is_read_when_that_is_allowed_and_there_is_room(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.config.gap_bytes = 1024;
    open_rig(&r, 8);
    visit(&r, 0, (uint32_t[]){3, 6, 10}, 3); /* gaps of 1024 and 1536 */
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 2);
    assert_int_equal(s.bytes_read, 4 * 512 + 512);
    assert_int_equal(s.bytes_wanted, 3 * 512);
    sl_bundles_destroy(r.b);

    r = plain_rig();
    r.config.gap_bytes = 1024;
    r.config.wanted_max = 3;
    r.config.staging_bytes = 3 * 512 + 512; /* room for one bundle beside those wanted */
    open_rig(&r, 8);
    visit(&r, 0, (uint32_t[]){3, 5, 7}, 3);
    assert_int_equal(sl_bundles_statistics(r.b).requests, 2);
    sl_bundles_destroy(r.b);
}

static void a_run_takes_no_gap_beyond_the_rules_and_the_least_is_the_least(void **state)
{
    (void)state;
    uint64_t random = 12345;
    for (int trial = 0; trial < 2000; trial++) {
        uint32_t places[PLACES_MAX], alignment = rnd(&random, 2) ? 512 : 4096, gap = rnd(&random, 8000), runs = 0, least_runs;
        sl_bundle_layer l = {.offset = 64 * (uint64_t)rnd(&random, 1000), .stride = 64 * (1 + rnd(&random, 100)), .count = PLACES_MAX};
        uint32_t count = 1 + random_set(&random, PLACES_MAX - 1, PLACES_MAX - 1, rnd(&random, 1000), places);
        places[count - 1] = PLACES_MAX - 1;
        uint64_t spare = rnd(&random, 100000), before = spare, bytes = 0, end = 0;
        for (uint32_t done = 0; done < count; runs++) {
            sli_run run = sli_run_next(&l, places + done, count - done, alignment, gap, &spare);
            uint32_t first, stop;
            sli_run_whole(&l, &run, &first, &stop);
            assert_true(run.from % alignment == 0 && run.bytes % alignment == 0 && run.from >= end);
            assert_true(first <= places[done] && places[done + run.places - 1] < stop && stop <= l.count);
            assert_true(l.offset + (uint64_t)first * l.stride >= run.from);
            assert_true(l.offset + (uint64_t)stop * l.stride <= run.from + run.bytes);
            end = run.from + run.bytes;
            bytes += run.bytes;
            done += run.places;
        }
        assert_int_equal(bytes, sli_runs_least(&l, places, count, alignment, &least_runs) + (before - spare));
        assert_true(runs <= least_runs);
        assert_true(sli_runs_least(&l, places, count, alignment, NULL) <= (uint64_t)count * sli_run_alone_max(&l, alignment));
        assert_true(sli_runs_least(&l, places, count, alignment, NULL) <= sl_bundles_staging_min(&l, 1, count, alignment));
    }
}

static void a_right_guess_leaves_nothing_to_read(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 2, 9, 30};
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, places, 4);
    assert_int_equal(r.tier->held_back, 0); /* T5: they have started */
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b); /* time passes */
    assert_int_equal(r.tier->reads, 3);
    visit(&r, 0, places, 4);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.prefetched, 4);
    assert_int_equal(s.late, 0);
    assert_int_equal(s.wasted, 0);
    sl_bundles_destroy(r.b);
}

static void a_guess_that_is_still_on_its_way_is_late(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 2, 9, 30};
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, places, 4);
    visit(&r, 0, places, 4);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.late, 4);
    assert_true(s.wait_ns > 0);
    sl_bundles_destroy(r.b);
}

static void what_is_ready_is_told_without_waiting(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint32_t places[] = {1, 2, 9, 30};
    const uint8_t *addresses[4];
    uint32_t ready[4];
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){2, 9}, 2);
    assert_int_equal(sl_bundles_ready(r.b, 0, places, 4, ready), 0); /* on their way */
    uint32_t count = 0;
    for (int polls = 0; polls < 100000 && count < 2; polls++) /* each look lets a microsecond pass */
        count = sl_bundles_ready(r.b, 0, places, 4, ready);
    assert_int_equal(count, 2);
    assert_true(ready[0] == 2 && ready[1] == 9);
    assert_int_equal(sl_bundles_fetch(r.b, 0, ready, count, addresses, NULL), SL_OK);
    check_all(&r, 0, ready, count, addresses);
    sl_bundles_done(r.b, 0);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.late, 0);
    assert_true(s.requests <= 2);
    sl_bundles_destroy(r.b);
}

static void a_guess_that_is_right_in_part_is_completed(void **state)
{
    (void)state;
    rig r = plain_rig();
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){1, 9, 30}, 3);
    visit(&r, 0, (uint32_t[]){1, 9, 40}, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 4);
    assert_int_equal(s.prefetched, 2);
    assert_int_equal(s.read, 3);
    assert_int_equal(s.wasted, 1);
    assert_int_equal(s.bytes_wanted, 3 * 512);
    assert_int_equal(s.bytes_read, 4 * 512);
    sl_bundles_destroy(r.b);
}

static void what_lay_in_a_gap_of_the_guess_is_not_read_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.config.gap_bytes = 2048;
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){10, 14}, 2);
    visit(&r, 0, (uint32_t[]){10, 12, 13}, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 1);
    assert_int_equal(s.prefetched, 1); /* it asked for one of the three */
    assert_int_equal(s.wasted, 1);
    sl_bundles_destroy(r.b);
}

static void what_of_a_wrong_guess_has_not_started_is_never_read(void **state)
{
    (void)state;
    rig r = plain_rig();
    open_rig(&r, 1);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){1, 3, 5, 7, 9}, 5);
    visit(&r, 0, (uint32_t[]){40}, 1);
    assert_int_equal(r.tier->reads, 2); /* the first of the guess, and the one that was needed */
    assert_int_equal(sl_bundles_statistics(r.b).wasted, 5);
    sl_bundles_destroy(r.b);
}

static void the_next_layer_is_read_while_one_is_held(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    uint32_t now[] = {1, 20, 40}, then[] = {2, 21, 41};
    sl_error err;
    open_rig(&r, 8);
    assert_int_equal(sl_bundles_fetch(r.b, 0, now, 3, addresses, &err), SL_OK);
    sl_bundles_prefetch(r.b, 1, then, 3);
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b);
    check_invariants(&r);
    check_all(&r, 0, now, 3, addresses);
    sl_bundles_done(r.b, 0);
    visit(&r, 1, then, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 6);
    assert_int_equal(s.late, 0);
    sl_bundles_destroy(r.b);
}

/* The least stage, full of a guess that is wrong in all or in part: the fetch finds room all the same. */
static void a_guess_that_fills_the_stage_gives_way(void **state)
{
    (void)state;
    for (uint32_t alignment = 512; alignment <= 4096; alignment *= 8)
        for (uint32_t right = 0; right <= 20; right += 5) {
            rig r = plain_rig();
            uint32_t guess[20], places[20];
            for (uint32_t i = 0; i < 20; i++) {
                guess[i] = 3 * i;
                places[i] = 3 * i + (i >= right);
            }
            r.config.alignment = alignment;
            r.config.wanted_max = 20;
            r.config.staging_bytes = 0;
            open_rig(&r, 4);
            sl_bundles_prefetch(r.b, 0, guess, 20);
            visit(&r, 0, places, 20);
            sl_bundles_prefetch(r.b, 1, guess, 20);
            for (int i = 0; i < 100; i++)
                sl_bundles_poll(r.b);
            visit(&r, 1, places, 20);
            sl_bundles_destroy(r.b);
        }
}

static void a_failed_guess_is_read_again_by_the_fetch(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 9, 30};
    open_rig(&r, 8);
    r.tier->fail_at = 2;
    sl_bundles_prefetch(r.b, 0, places, 3);
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b);
    visit(&r, 0, places, 3);
    assert_int_equal(r.tier->reads, 4); /* only the one that failed */
    assert_int_equal(sl_bundles_statistics(r.b).failed, 1);
    sl_bundles_destroy(r.b);
}

static void a_failed_fetch_owes_nothing_and_reads_only_the_rest_when_tried_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    uint32_t places[] = {1, 9, 30};
    sl_error err = {0};
    open_rig(&r, 8);
    r.tier->fail_at = 2;
    assert_int_equal(sl_bundles_fetch(r.b, 0, places, 3, addresses, &err), SL_IO);
    assert_non_null(strstr(err.message, "model.sluice"));
    check_invariants(&r);
    visit(&r, 1, places, 3); /* nothing is owed: another layer may come between */
    visit(&r, 0, places, 3);
    assert_int_equal(r.tier->reads, 3 + 3 + 1);
    sl_bundles_destroy(r.b);
}

static void a_file_that_ends_inside_the_bundles_is_an_error_every_time(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[1];
    sl_error err = {0};
    r.layer[0].offset = (FILE_SIZE + 4095) / 4096 * 4096;
    open_rig(&r, 8);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){5}, 1, addresses, &err), SL_IO);
        assert_non_null(strstr(err.message, "past the end"));
        check_invariants(&r);
    }
    sl_bundles_destroy(r.b);
}

static void what_is_cached_is_not_read_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.layer[0].capacity = r.layer[0].count;
    uint32_t places[] = {1, 9, 30};
    open_rig(&r, 8);
    visit(&r, 0, places, 3);
    visit(&r, 0, places, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.cached, 3);
    assert_int_equal(s.admitted, 3);
    sl_bundles_destroy(r.b);
}

static void what_is_held_is_its_price_and_nothing_is_allocated_later(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int trial = 0; trial < 60; trial++) {
        rig r;
        uint32_t places[PLACES_MAX];
        random_rig(&r, &random, trial % 2 == 0 ? 512 : 8192);
        r.config.layers = r.layer;
        sl_bundles_cost cost = sl_bundles_price(&r.config);
        pages_bytes = 0;
        open_rig(&r, 8);
        assert_int_equal(pages_bytes, cost.slots_bytes + cost.staging_bytes + cost.tables_bytes);
        uint64_t calls = heap_calls;
        for (uint32_t i = 0; i < 3 * r.config.layer_count; i++) {
            uint32_t layer = i % r.config.layer_count;
            const uint8_t *addresses[PLACES_MAX];
            sl_error err;
            uint32_t count = random_set(&random, r.layer[layer].count, r.config.wanted_max, 400, places);
            sl_bundles_prefetch(r.b, layer, places, count / 2);
            assert_int_equal(sl_bundles_fetch(r.b, layer, places, count, addresses, &err), SL_OK);
            sl_bundles_done(r.b, layer);
        }
        assert_int_equal(heap_calls, calls);
        assert_int_equal(pages_bytes, cost.slots_bytes + cost.staging_bytes + cost.tables_bytes);
        sl_bundles_destroy(r.b);
    }
}

static void a_slot_holds_a_bundle_without_its_padding_in_an_odd_number_of_lines(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 9000; bytes++) {
        sl_bundle_layer l = {.stride = 16384, .bytes = bytes, .count = 100, .capacity = 100};
        uint32_t slot = sl_bundles_slot_bytes(&l);
        assert_true(slot >= bytes && slot < bytes + 128 && slot / 64 % 2 == 1 && slot % 64 == 0);
    }
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    sl_error err;
    r.config.wanted_max = 2;
    open_rig(&r, 8);
    assert_int_equal(sl_bundles_fetch(r.b, 2, (uint32_t[]){1}, 1, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){64}, 1, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){2, 2}, 2, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){1, 2, 3}, 3, addresses, &err), SL_INVALID);
    sl_bundles_prefetch(r.b, 9, (uint32_t[]){1}, 1);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){3, 1}, 2);
    assert_int_equal(sl_bundles_fetch(r.b, 0, NULL, 0, NULL, &err), SL_OK);
    assert_int_equal(sl_bundles_fetch(r.b, 1, NULL, 0, NULL, &err), SL_INVALID); /* a done is owed */
    sl_bundles_done(r.b, 0);
    assert_int_equal(r.tier->reads, 0);
    assert_int_equal(sl_bundles_attach(r.b, &open_strict(512, 1)->base, &err), SL_INVALID);
    sl_bundles_destroy(r.b);
}

static void a_configuration_that_cannot_work_is_refused(void **state)
{
    (void)state;
    sl_error err;
    sl_bundles *b;
    for (int what = 0; what < 10; what++) {
        rig r = plain_rig();
        r.config.layers = r.layer;
        r.config.alignment = what == 0 ? 768 : what == 1 ? 0 : 512;
        r.config.wanted_max = what == 2 ? 0 : 64;
        r.config.staging_bytes = what == 3 ? 64 * 512 - 512 : 0;
        r.layer[1].capacity = what == 4 ? 65 : 0;
        r.layer[1].stride = what == 5 ? 500 : 512;
        r.layer[1].offset = what == 6 ? 1000 : 65536;
        r.layer[1].bytes = what == 7 ? 0 : what == 8 ? 513 : 512;
        assert_int_equal(sl_bundles_create(&r.config, &b, &err), what == 9 ? SL_OK : SL_INVALID);
        if (what < 9)
            continue;
        assert_int_equal(sl_bundles_fetch(b, 0, (uint32_t[]){1}, 1, NULL, &err), SL_INVALID);  /* no tier */
        assert_int_equal(sl_bundles_attach(b, &open_strict(4096, 1)->base, &err), SL_INVALID); /* coarser than expected */
        assert_null(sl_bundles_tier(b));
        sl_bundles_destroy(b);
    }
    sl_bundles_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_read_together_in_requests_of_limited_size),
        cmocka_unit_test(a_gap_is_read_when_that_is_allowed_and_there_is_room),
        cmocka_unit_test(a_run_takes_no_gap_beyond_the_rules_and_the_least_is_the_least),
        cmocka_unit_test(a_right_guess_leaves_nothing_to_read),
        cmocka_unit_test(a_guess_that_is_still_on_its_way_is_late),
        cmocka_unit_test(what_is_ready_is_told_without_waiting),
        cmocka_unit_test(a_guess_that_is_right_in_part_is_completed),
        cmocka_unit_test(what_lay_in_a_gap_of_the_guess_is_not_read_again),
        cmocka_unit_test(what_of_a_wrong_guess_has_not_started_is_never_read),
        cmocka_unit_test(the_next_layer_is_read_while_one_is_held),
        cmocka_unit_test(a_guess_that_fills_the_stage_gives_way),
        cmocka_unit_test(a_failed_guess_is_read_again_by_the_fetch),
        cmocka_unit_test(a_failed_fetch_owes_nothing_and_reads_only_the_rest_when_tried_again),
        cmocka_unit_test(a_file_that_ends_inside_the_bundles_is_an_error_every_time),
        cmocka_unit_test(what_is_cached_is_not_read_again),
        cmocka_unit_test(what_is_held_is_its_price_and_nothing_is_allocated_later),
        cmocka_unit_test(a_slot_holds_a_bundle_without_its_padding_in_an_odd_number_of_lines),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_configuration_that_cannot_work_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_kv_place.c: which layers' keys and values lie in host memory, and how many. Models and memories are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "offload/kv_place.h"

#define MIB    ((uint64_t)1 << 20)
#define LAYERS 32
#define UNITS  (2 * LAYERS)

/* A 7B: per layer 64 MiB of keys and values, and 112 MiB of weights in two units. */
static sl_placement_unit weights[UNITS];
static float crossing[UNITS];

static sli_kv_placing seven_billion(uint64_t room_bytes)
{
    for (uint32_t i = 0; i < UNITS; i++) {
        weights[i] = (sl_placement_unit){.layer = i / 2, .bytes = 56 * MIB, .reads = 1};
        crossing[i] = 1;
    }
    return (sli_kv_placing){.layers = LAYERS,
                            .context = 4096,
                            .layer_bytes = 64 * MIB,
                            .room_bytes = room_bytes,
                            .host_room_bytes = 4096 * MIB,
                            .weights = weights,
                            .crossing = crossing,
                            .weight_count = UNITS};
}

static uint32_t least_crossing(const sli_kv_placing *p)
{
    sl_error err = {0};
    uint32_t in_host = UINT32_MAX;
    assert_int_equal(sli_kv_place_least_crossing(p, sli_kv_place_fewest(p), &in_host, &err), SL_OK);
    return in_host;
}

static void the_fewest_are_moved_with_which_the_others_fit(void **state)
{
    (void)state;
    for (uint64_t room = 0; room < 34; room++) { /* layers' worth */
        sli_kv_placing p = seven_billion(room * 64 * MIB);
        uint32_t n = sli_kv_place_fewest(&p);
        bool fits = sli_kv_place_bytes(LAYERS, n, p.layer_bytes) <= p.room_bytes;
        assert_true(fits || n == LAYERS);
        for (uint32_t fewer = 0; fewer < n; fewer++)
            assert_true(sli_kv_place_bytes(LAYERS, fewer, p.layer_bytes) > p.room_bytes);
        if (room >= LAYERS)
            assert_int_equal(n, 0);
        else if (room >= 1)
            assert_int_equal(n, LAYERS - room + 1); /* and the window, which all of them share */
    }
}

static void what_fits_stays_on_the_device(void **state)
{
    sli_kv_placing p = seven_billion(LAYERS * (64 + 112) * MIB);
    (void)state;
    assert_int_equal(least_crossing(&p), 0);
    p.room_bytes -= MIB; /* a layer more would cost more than that */
    assert_int_equal(least_crossing(&p), 0);
    p.room_bytes -= 199 * MIB; /* three layers, and the window's worth */
    assert_int_equal(least_crossing(&p), 4);
}

/* Of a cache half is read for a token, of weights all: so these come first, until all of them stay. */
static void caches_make_room_for_weights_that_would_cross_whole(void **state)
{
    sli_kv_placing p = seven_billion(4096 * MIB);
    (void)state;
    /* 3584 MiB of weights, 512 MiB for caches: 7 layers' and the window. */
    assert_int_equal(least_crossing(&p), LAYERS - 7);
    p.room_bytes = 2048 * MIB;
    assert_int_equal(least_crossing(&p), LAYERS);
}

static void they_make_none_for_weights_that_the_processor_computes(void **state)
{
    sli_kv_placing p = seven_billion(4096 * MIB);
    (void)state;
    for (uint32_t i = 0; i < UNITS; i++)
        crossing[i] = 0.3f;
    assert_int_equal(least_crossing(&p), 0);
    p.room_bytes = 1024 * MIB; /* what must, must */
    assert_int_equal(least_crossing(&p), LAYERS - 16 + 1);
}

static void nor_for_weights_that_are_seldom_read(void **state)
{
    sli_kv_placing p = seven_billion(4096 * MIB);
    (void)state;
    for (uint32_t i = 0; i < UNITS; i++)
        weights[i].reads = i % 2 == 0 ? 1 : 0.2; /* those that are always read: 1792 MiB, all of which stay beside the caches */
    assert_int_equal(least_crossing(&p), 0);
    p.room_bytes = 3072 * MIB; /* 768 MiB of those do not: 12 layers, and the window */
    uint32_t n = least_crossing(&p);
    assert_int_equal(n, 13);
}

static void a_window_is_cheap_to_read(void **state)
{
    sli_kv_placing p = seven_billion(4096 * MIB);
    (void)state;
    p.windowed = LAYERS - 5;
    p.window = 512; /* an eighth of the context */
    for (uint32_t i = 0; i < UNITS; i++)
        crossing[i] = 0.3f;
    assert_int_equal(least_crossing(&p), LAYERS - 7); /* those that make room for all weights have one */
    p.windowed = 10;
    assert_int_equal(least_crossing(&p), 10);
}

static void host_memory_bounds_what_need_not_move(void **state)
{
    sli_kv_placing p = seven_billion(2048 * MIB);
    (void)state;
    p.host_room_bytes = 640 * MIB;
    assert_int_equal(least_crossing(&p), 10);
    p.host_room_bytes = 0;
    assert_int_equal(least_crossing(&p), 0);
    p.room_bytes = 1024 * MIB; /* what must move, moves: who prices host memory refuses it */
    assert_int_equal(least_crossing(&p), LAYERS - 16 + 1);
}

/* ---- which ---- */

static sl_model layers_of(bool *windows, uint32_t period)
{
    for (uint32_t i = 0; i < LAYERS; i++)
        windows[i] = period > 0 && i % period != period - 1;
    return (sl_model){.layers = LAYERS, .window = 512, .has_window = windows};
}

static void layers_are_spread_evenly(void **state)
{
    bool windows[LAYERS], out[LAYERS];
    sl_model model = layers_of(windows, 0);
    (void)state;
    for (uint32_t n = 0; n <= LAYERS; n++) {
        uint32_t count = 0, since = 0;
        sli_kv_place_choose(&model, n, out);
        for (uint32_t i = 0; i < LAYERS; i++) {
            count += out[i];
            since = out[i] ? 0 : since + 1;
            assert_true(n == 0 || since <= (LAYERS + n - 1) / n);
        }
        assert_int_equal(count, n);
    }
}

static void those_with_a_window_go_first(void **state)
{
    bool windows[LAYERS], out[LAYERS];
    sl_model model = layers_of(windows, 4);
    (void)state;
    for (uint32_t n = 0; n <= LAYERS; n++) {
        uint32_t with = 0, without = 0;
        sli_kv_place_choose(&model, n, out);
        for (uint32_t i = 0; i < LAYERS; i++)
            *(windows[i] ? &with : &without) += out[i];
        assert_int_equal(with, n < 24 ? n : 24);
        assert_int_equal(without, n < 24 ? 0 : n - 24);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fewest_are_moved_with_which_the_others_fit),
        cmocka_unit_test(what_fits_stays_on_the_device),
        cmocka_unit_test(caches_make_room_for_weights_that_would_cross_whole),
        cmocka_unit_test(they_make_none_for_weights_that_the_processor_computes),
        cmocka_unit_test(nor_for_weights_that_are_seldom_read),
        cmocka_unit_test(a_window_is_cheap_to_read),
        cmocka_unit_test(host_memory_bounds_what_need_not_move),
        cmocka_unit_test(layers_are_spread_evenly),
        cmocka_unit_test(those_with_a_window_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

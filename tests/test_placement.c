/* tests/test_placement.c: where weights go, on machines from a laptop of 4 GB to an H200. Machines and models are made up. */
#include "offload/placement.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GIB    ((uint64_t)1 << 30)
#define LAYERS 40
#define GROUPS 8 /* of a layer's neurons, from hot to cold */
#define UNITS  (LAYERS * (GROUPS + 1))

/* A 13B in Q4_0: per layer 59 MB of attention, which every token needs, and 119 MB of neurons in groups that fire ever more rarely, or, dense, always. */
static void thirteen_billion(sl_placement_unit units[UNITS], bool sparse)
{
    for (uint32_t l = 0, n = 0; l < LAYERS; l++) {
        units[n++] = (sl_placement_unit){.layer = l, .bytes = 58982400, .reads = 1};
        for (uint32_t g = 0; g < GROUPS; g++)
            units[n++] = (sl_placement_unit){.layer = l, .bytes = 14929920, .reads = sparse ? 0.9 / (1 + g) : 1};
    }
}

static sl_placement_machine laptop_4(void) /* GTX 1650 on PCIe 3 x4 */
{
    return (sl_placement_machine){.vram_bytes = 3 * GIB,
                                  .ram_bytes = 12 * GIB,
                                  .device_Bps = 120e9,
                                  .link_Bps = 3.2e9,
                                  .cpu_Bps = 25e9,
                                  .host_Bps = 32e9,
                                  .disk_Bps = 2e9,
                                  .hop_s = 30e-6};
}

static sl_placement_machine desktop_8(void) /* RTX 3060 Ti on PCIe 4 x16 */
{
    return (sl_placement_machine){.vram_bytes = 4 * GIB,
                                  .ram_bytes = 24 * GIB,
                                  .device_Bps = 350e9,
                                  .link_Bps = 24e9,
                                  .cpu_Bps = 30e9,
                                  .host_Bps = 45e9,
                                  .disk_Bps = 5e9,
                                  .hop_s = 20e-6};
}

static sl_placement_machine h200(void)
{
    return (sl_placement_machine){.vram_bytes = 130 * GIB,
                                  .ram_bytes = 100 * GIB,
                                  .device_Bps = 3.6e12,
                                  .link_Bps = 50e9,
                                  .cpu_Bps = 100e9,
                                  .host_Bps = 200e9,
                                  .disk_Bps = 5e9,
                                  .hop_s = 15e-6};
}

static sl_placement plan(sl_placement_machine m, bool sparse, sl_place place[UNITS], sl_placement_layer layers[LAYERS])
{
    sl_placement_unit units[UNITS];
    sl_placement p;
    sl_error err = {0};
    thirteen_billion(units, sparse);
    if (sl_placement_plan(&m, units, UNITS, LAYERS, place, layers, &p, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_true(p.vram_bytes <= m.vram_bytes && p.ram_bytes <= m.ram_bytes);
    return p;
}

static sl_placement planned(sl_placement_machine m, bool sparse)
{
    sl_place place[UNITS];
    sl_placement_layer layers[LAYERS];
    return plan(m, sparse, place, layers);
}

static bool near(double a, double b, double part)
{
    return fabs(a - b) <= part * fabs(b);
}

static void what_fits_the_device_lies_there(void **state)
{
    (void)state;
    sl_placement p = planned(h200(), false);
    assert_true(p.streamed_bytes == 0 && p.cpu_bytes == 0 && p.disk_bytes == 0);
    assert_true(near(p.seconds, 7.136e9 / 3.6e12, 0.01));
    assert_int_equal(p.limit, SL_PLACED_COMPUTE);
}

static void a_slow_link_leaves_most_of_the_rest_to_the_processor(void **state)
{
    (void)state;
    sl_placement p = planned(laptop_4(), false);
    assert_true(p.streamed_share > 0.02 && p.streamed_share < 0.2);
    assert_true(p.cpu_bytes > 5 * p.streamed_bytes);
    assert_true(p.seconds < 0.2); /* of 1.2 s that the link alone would take */
}

static void a_fast_link_takes_half_and_both_end_together(void **state)
{
    (void)state;
    sl_placement_machine m = desktop_8();
    m.hop_s = 0;
    m.host_Bps = 1e12;
    sl_placement p = planned(m, false);
    assert_true(p.streamed_share > 0.35 && p.streamed_share < 0.55);
    assert_true(near(p.streamed_bytes / m.link_Bps, p.seconds, 0.001));
    assert_true(near(p.cpu_bytes / m.cpu_Bps, p.seconds, 0.001));
}

static void rarely_read_weights_are_not_the_ones_that_the_device_holds(void **state)
{
    (void)state;
    sl_place place[UNITS];
    sl_placement_layer layers[LAYERS];
    sl_placement_unit units[UNITS];
    thirteen_billion(units, true);
    sl_placement sparse = plan(desktop_8(), true, place, layers), dense = planned(desktop_8(), false);
    assert_true(sparse.seconds < dense.seconds / 2);
    double coldest_held = 1, hottest_left = 0;
    for (uint32_t i = 0; i < UNITS; i++) {
        if (place[i] == SL_PLACE_VRAM)
            coldest_held = fmin(coldest_held, units[i].reads);
        else
            hottest_left = fmax(hottest_left, units[i].reads);
    }
    assert_true(coldest_held >= hottest_left);
}

static void no_other_share_and_no_single_way_is_faster(void **state)
{
    (void)state;
    sl_placement_machine machines[] = {laptop_4(), desktop_8(), h200()};
    for (size_t i = 0; i < 3; i++)
        for (int sparse = 0; sparse < 2; sparse++) {
            sl_place place[UNITS];
            sl_placement_layer layers[LAYERS];
            sl_placement_unit units[UNITS];
            sl_placement best = plan(machines[i], sparse, place, layers), other;
            thirteen_billion(units, sparse);
            for (double share = 0; share <= 1; share += 1.0 / 256)
                assert_true(best.seconds <=
                            sl_placement_seconds(&machines[i], units, UNITS, LAYERS, place, share, layers, &other) * 1.0000001);
            sl_placement_machine alone = machines[i]; /* what can do less is not faster */
            alone.link_Bps = 0;
            assert_true(best.seconds <= planned(alone, sparse).seconds * 1.0000001);
            alone = machines[i];
            alone.cpu_Bps = 0;
            assert_true(best.seconds <= planned(alone, sparse).seconds * 1.0000001);
        }
}

static void places_that_are_given_are_divided_as_those_that_are_chosen(void **state)
{
    (void)state;
    sl_place place[UNITS];
    sl_placement_layer layers[LAYERS];
    sl_placement_unit units[UNITS];
    sl_placement_machine m = desktop_8();
    sl_placement chosen = plan(m, false, place, layers), divided;
    thirteen_billion(units, false);
    sl_placement_divide(&m, units, UNITS, LAYERS, place, layers, &divided);
    assert_true(near(divided.seconds, chosen.seconds, 1e-9));
    assert_true(near(divided.streamed_share, chosen.streamed_share, 1e-9));
    for (uint32_t i = 0; i < UNITS; i++) /* what comes from the disk goes on over the link, however slow that is */
        place[i] = SL_PLACE_DISK;
    m.link_Bps = 1e6;
    sl_placement_divide(&m, units, UNITS, LAYERS, place, layers, &divided);
    assert_true(divided.cpu_bytes == 0 && near(divided.streamed_bytes, divided.disk_bytes, 1e-9));
}

static void more_of_anything_is_never_slower(void **state)
{
    (void)state;
    for (uint64_t quarter = 0; quarter < 40; quarter++) {
        sl_placement_machine m = desktop_8(), more;
        m.vram_bytes = quarter * GIB / 4;
        m.ram_bytes = 3 * GIB;
        double seconds = planned(m, quarter % 2).seconds * 1.001; /* units are whole: what fits may be a little less */
        more = m, more.link_Bps *= 2;
        assert_true(planned(more, quarter % 2).seconds <= seconds);
        more = m, more.cpu_Bps *= 2;
        assert_true(planned(more, quarter % 2).seconds <= seconds);
        more = m, more.disk_Bps *= 2;
        assert_true(planned(more, quarter % 2).seconds <= seconds);
        more = m, more.ram_bytes += GIB;
        assert_true(planned(more, quarter % 2).seconds <= seconds);
        more = m, more.vram_bytes += GIB / 2; /* what the device can hold is its, also where the processor could have helped */
        assert_true(planned(more, quarter % 2).seconds <= seconds * (1 + m.cpu_Bps / m.device_Bps));
    }
}

static void hops_that_cost_much_make_layers_whole(void **state)
{
    (void)state;
    sl_placement_machine m = laptop_4();
    m.link_Bps = 0;
    m.hop_s = 2e-3;
    sl_placement p = planned(m, false);
    assert_true(p.whole_layers);
    m.hop_s = 0;
    assert_false(planned(m, false).whole_layers && planned(m, false).seconds < p.seconds * 0.5);
}

static void a_disk_that_has_to_be_read_is_the_limit(void **state)
{
    (void)state;
    sl_placement_machine m = laptop_4();
    m.ram_bytes = GIB;
    sl_placement p = planned(m, false);
    assert_int_equal(p.limit, SL_PLACED_DISK);
    assert_true(near(p.seconds, p.disk_bytes / m.disk_Bps, 1e-9));
    assert_string_equal(sl_placement_limit_name(p.limit), "disk");
}

static void what_can_go_nowhere_is_refused_with_what_would_do(void **state)
{
    (void)state;
    sl_place place[UNITS];
    sl_placement_layer layers[LAYERS];
    sl_placement_unit units[UNITS];
    sl_placement p;
    sl_error err = {0};
    sl_placement_machine m = laptop_4();
    thirteen_billion(units, false);
    m.ram_bytes = GIB;
    m.disk_Bps = 0;
    assert_int_equal(sl_placement_plan(&m, units, UNITS, LAYERS, place, layers, &p, &err), SL_NO_BUDGET);
    m.ram_bytes = err.ram_budget_min_bytes;
    assert_int_equal(sl_placement_plan(&m, units, UNITS, LAYERS, place, layers, &p, &err), SL_OK);
    m.cpu_Bps = m.link_Bps = 0;
    assert_int_equal(sl_placement_plan(&m, units, UNITS, LAYERS, place, layers, &p, &err), SL_NO_BUDGET);
}

static void without_a_device_the_processor_computes_all(void **state)
{
    (void)state;
    sl_placement_machine m = desktop_8();
    m.device_Bps = m.link_Bps = 0;
    sl_placement p = planned(m, false);
    assert_true(p.vram_bytes == 0 && p.streamed_bytes == 0 && p.device_bytes == 0);
    assert_true(near(p.seconds, p.cpu_bytes / m.cpu_Bps, 1e-9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_the_device_lies_there),
        cmocka_unit_test(a_slow_link_leaves_most_of_the_rest_to_the_processor),
        cmocka_unit_test(a_fast_link_takes_half_and_both_end_together),
        cmocka_unit_test(rarely_read_weights_are_not_the_ones_that_the_device_holds),
        cmocka_unit_test(no_other_share_and_no_single_way_is_faster),
        cmocka_unit_test(places_that_are_given_are_divided_as_those_that_are_chosen),
        cmocka_unit_test(more_of_anything_is_never_slower),
        cmocka_unit_test(hops_that_cost_much_make_layers_whole),
        cmocka_unit_test(a_disk_that_has_to_be_read_is_the_limit),
        cmocka_unit_test(what_can_go_nowhere_is_refused_with_what_would_do),
        cmocka_unit_test(without_a_device_the_processor_computes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

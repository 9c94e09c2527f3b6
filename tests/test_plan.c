/* tests/test_plan.c: what plan predicts. Machines are made up, and so are most placements; where bytes are counted, a tiny model is priced, and run. */
#include "offload/cli/machine_file.h"
#include "offload/plan_device.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- made-up machines and placements ---- */

/* Two cores, 20 GB/s of memory, a disk of 2 GB/s. */
static sli_machine usual_machine(void)
{
    sli_machine m = {.measured = true, .memory_bytes = 16 * GIB, .cores = 2, .isa = SL_ISA_AVX2, .bandwidths = 2, .reads = 4};
    m.bandwidth[0] = (sli_machine_bandwidth){1, 12e9};
    m.bandwidth[1] = (sli_machine_bandwidth){2, 20e9};
    m.read[0] = (sli_machine_read){"uring", 4096, 1, 4e7};
    m.read[1] = (sli_machine_read){"uring", 1 << 20, 1, 1e9};
    m.read[2] = (sli_machine_read){"uring", 4096, 32, 4e8};
    m.read[3] = (sli_machine_read){"uring", 1 << 20, 32, 2e9};
    return m;
}

/* A model of 4 GB of which `resident` bytes stay, evenly. */
static sli_division usual_placement(double resident)
{
    sli_division p = {.layers = 30, .d = 4096, .ff = 12288, .vocab = 32000, .context = 1024, .batch = 256, .threads = 2, .head_dim = 128};
    const double shares[SLI_PART_COUNT] = {[SLI_PART_ATTENTION] = 0.25, [SLI_PART_FFN] = 0.7, [SLI_PART_HEAD] = 0.05};
    for (int i = 0; i < SLI_PART_COUNT; i++)
        p.part[i] = (sli_part_division){.bytes = (uint64_t)(4e9 * shares[i]),
                                        .resident_bytes = (uint64_t)(resident * shares[i]),
                                        .operations = 4e9 * shares[i] / 18 * 64,
                                        .type = SL_TYPE_Q4_0};
    p.request_bytes = MIB;
    p.kv_position_bytes = 100000;
    p.price.staging_bytes = 32 * MIB;
    p.draft_max = 16;
    return p;
}

static sli_plan predict(const sli_division *placement, const sli_machine *machine, sli_plan_work work)
{
    sli_plan plan;
    sli_plan_predict(placement, NULL, machine, &work, &plan);
    assert_true(plan.decode_tokens_per_s > 0 && plan.decode_low < plan.decode_tokens_per_s && plan.decode_tokens_per_s < plan.decode_high);
    assert_true(plan.prompt_tokens_per_s > 0);
    return plan;
}

/* ---- predictions ---- */

static void more_memory_is_never_slower(void **state)
{
    (void)state;
    sli_machine machine = usual_machine();
    double before = 0;
    for (double resident = 0; resident <= 4e9; resident += 0.25e9) {
        sli_division p = usual_placement(resident);
        double now = predict(&p, &machine, (sli_plan_work){0}).decode_tokens_per_s;
        assert_true(now >= before);
        before = now;
    }
}

static void a_faster_disk_or_memory_is_never_slower(void **state)
{
    (void)state;
    sli_division p = usual_placement(2e9);
    double disk_before = 0, memory_before = 0;
    for (double factor = 0.1; factor < 50; factor *= 1.5) {
        sli_machine disk = usual_machine(), memory = usual_machine();
        for (size_t i = 0; i < disk.reads; i++)
            disk.read[i].Bps *= factor;
        for (size_t i = 0; i < memory.bandwidths; i++)
            memory.bandwidth[i].Bps *= factor;
        double with_disk = predict(&p, &disk, (sli_plan_work){0}).decode_tokens_per_s;
        double with_memory = predict(&p, &memory, (sli_plan_work){0}).decode_tokens_per_s;
        assert_true(with_disk >= disk_before && with_memory >= memory_before);
        disk_before = with_disk;
        memory_before = with_memory;
    }
}

static void what_is_streamed_over_a_slow_disk_takes_its_bytes_by_the_bandwidth(void **state)
{
    (void)state;
    sli_division p = usual_placement(2e9);
    sli_machine machine = usual_machine();
    sli_plan plan = predict(&p, &machine, (sli_plan_work){.link_Bps = 1e8});
    assert_int_equal(plan.limit, SLI_LIMITED_BY_DISK);
    assert_float_equal(plan.link_s, 20, 0.01);
    assert_in_range((uint64_t)(plan.token_s * 1000), 20000, 20100); /* computing is hidden behind it, but for a little */
    assert_float_equal(plan.read_bytes, 2e9, 1e3);
}

static void the_limit_is_named(void **state)
{
    (void)state;
    sli_division all = usual_placement(4e9), half = usual_placement(2e9);
    sli_machine machine = usual_machine(), slow = usual_machine();
    assert_int_equal(predict(&half, &machine, (sli_plan_work){0}).limit, SLI_LIMITED_BY_DISK);
    assert_int_equal(predict(&all, &machine, (sli_plan_work){0}).limit, SLI_LIMITED_BY_MEMORY);
    slow.rates = 1; /* a check of nine rows on cores that hardly compute */
    slow.rate[0] = (sli_machine_rate){SL_TYPE_Q4_0, SLI_MACHINE_UNCACHED_BYTES, 19e9, 1e10};
    sli_plan_work drafts = {.drafter = SLI_PLAN_LOOKUP, .drafted = 8, .advance = 2};
    assert_int_equal(predict(&all, &slow, drafts).limit, SLI_LIMITED_BY_COMPUTE);
    assert_string_equal(sli_plan_limit_name(SLI_LIMITED_BY_COMPUTE), "compute");
}

static void a_throttle_bounds_the_disk_and_stands_for_one_that_is_not_known(void **state)
{
    (void)state;
    sli_division p = usual_placement(2e9);
    sli_machine machine = usual_machine(), without = usual_machine();
    without.reads = 0;
    double throttled = predict(&p, &machine, (sli_plan_work){.link_Bps = 5e8}).link_s;
    assert_float_equal(throttled, 4, 0.01);
    assert_float_equal(predict(&p, &without, (sli_plan_work){.link_Bps = 5e8}).link_s, throttled, 1e-9);
    assert_float_equal(predict(&p, &machine, (sli_plan_work){.link_Bps = 5e10}).link_s, 1, 0.01); /* the disk is slower than the throttle */
}

/* Products measured with 64 MiB, which a cache holds, and with 256 MiB, which none does. */
static void a_model_that_fits_a_cache_is_predicted_at_the_caches_speed(void **state)
{
    (void)state;
    sli_machine machine = usual_machine();
    sli_division large = usual_placement(4e9), small = usual_placement(4e9), between = usual_placement(4e9);
    for (int i = 0; i < SLI_PART_COUNT; i++) {
        small.part[i].bytes = small.part[i].resident_bytes = small.part[i].bytes / 80;
        between.part[i].bytes = between.part[i].resident_bytes = between.part[i].bytes * 128 / 4000;
    }
    machine.rates = 2;
    machine.rate[0] = (sli_machine_rate){SL_TYPE_Q4_0, 64 * MIB, 60e9, 4e11};
    machine.rate[1] = (sli_machine_rate){SL_TYPE_Q4_0, 256 * MIB, 20e9, 3e11};
    assert_float_equal(sli_machine_rate_of(&machine, SL_TYPE_Q4_0, 2, sli_plan_touched_bytes(&large)).weights_Bps, 20e9, 1);
    assert_float_equal(sli_machine_rate_of(&machine, SL_TYPE_Q4_0, 2, sli_plan_touched_bytes(&small)).weights_Bps, 60e9, 1);
    double middle = sli_machine_rate_of(&machine, SL_TYPE_Q4_0, 2, sli_plan_touched_bytes(&between)).weights_Bps;
    assert_true(middle > 20e9 && middle < 60e9);
    sli_machine uncached = machine;
    uncached.rate[0] = machine.rate[1];
    assert_true(predict(&small, &machine, (sli_plan_work){0}).memory_s < predict(&small, &uncached, (sli_plan_work){0}).memory_s);
    assert_float_equal(predict(&large, &machine, (sli_plan_work){0}).memory_s, predict(&large, &uncached, (sli_plan_work){0}).memory_s,
                       1e-9);
}

/* Seconds a token = [N drafts + the check] / mean advance. */
static void drafts_and_their_check_are_shared_by_the_tokens_that_they_give(void **state)
{
    (void)state;
    sli_division p = usual_placement(2e9);
    p.packed = true;
    p.draft_share = 0.3; /* drafts read nothing */
    sli_machine machine = usual_machine();
    sli_plan plan = predict(&p, &machine, (sli_plan_work){.drafter = SLI_PLAN_MODEL, .drafted = 4, .advance = 2.5});
    assert_false(plan.advance_assumed);
    assert_float_equal(plan.token_s, (4 * plan.draft_s + plan.check_s) / 2.5, 1e-9);
    assert_float_equal(plan.read_bytes, 2e9 / 2.5, 1e3);
    sli_plan assumed = predict(&p, &machine, (sli_plan_work){.drafter = SLI_PLAN_MODEL, .drafted = 4});
    assert_true(assumed.advance_assumed && assumed.advance > 1 && assumed.advance < 5);
    assert_true(assumed.decode_high / assumed.decode_low > plan.decode_high / plan.decode_low); /* what is assumed widens the range */
    sli_plan looked_up = predict(&p, &machine, (sli_plan_work){.drafter = SLI_PLAN_LOOKUP, .drafted = 4, .advance = 1.5});
    assert_float_equal(looked_up.token_s, looked_up.check_s / 1.5, 1e-9);
}

/* The Sirius paper's offload setting (section 5): Llama-3-70B in F16 over 25 GB/s, periods of 16, sparse passes with half of the feed-forwards, 0.643 of
 * dense decoding's time with everything streamed on every pass. The acceptance that this takes is imposed. */
static void a_70b_drafts_for_the_papers_share_of_dense_bytes_and_for_far_less_with_its_set_in_memory(void **state)
{
    (void)state;
    const double attention = 80 * 2.0 * (2.0 * 8192 * 8192 + 2.0 * 8192 * 1024), ffn = 80 * 2.0 * 3 * 8192 * 28672, advance = 15.28;
    sli_division p = {.layers = 80, .d = 8192, .ff = 28672, .vocab = 128256, .context = 1024, .batch = 256, .threads = 2, .head_dim = 128};
    p.part[SLI_PART_ATTENTION] = (sli_part_division){.bytes = (uint64_t)attention, .operations = attention, .type = SL_TYPE_F16};
    p.part[SLI_PART_FFN] = (sli_part_division){.bytes = (uint64_t)ffn, .operations = ffn, .type = SL_TYPE_F16};
    p.draft_max = 16;
    p.packed = true;
    sli_machine machine = usual_machine();
    double dense = predict(&p, &machine, (sli_plan_work){.link_Bps = 25e9}).read_bytes;
    assert_float_equal(dense, 136.9e9, 0.05e9);

    /* Nothing stays: each draft streams attention and its half, each check everything. */
    sli_bundle_trial streamed = {.bytes_late = ffn / 80 / 2, .requests = 100};
    sli_plan_work sirius = {.drafter = SLI_PLAN_MODEL, .drafted = 15, .advance = advance, .link_Bps = 25e9};
    sli_plan plan;
    p.bundles = (sli_bundle_division){.layers = 80, .count = 28672, .kept_share = 0.5};
    sli_plan_predict(&p, &streamed, &machine, &sirius, &plan);
    assert_float_equal(plan.read_bytes / dense, 0.643, 0.002);

    /* What drafts need stays, which is 80.5 GB: a check streams the other half of the feed-forwards, once for all its tokens. */
    p.bundles = (sli_bundle_division){0};
    p.draft_share = 0.5;
    p.part[SLI_PART_ATTENTION].resident_bytes = p.part[SLI_PART_ATTENTION].bytes;
    p.part[SLI_PART_FFN].resident_bytes = p.part[SLI_PART_FFN].bytes / 2;
    sli_plan_predict(&p, NULL, &machine, &sirius, &plan);
    assert_float_equal(plan.read_bytes / dense, 0.0270, 0.0002);
    assert_float_equal(plan.read_bytes, ffn / 2 / advance, 1e6); /* dense decoding in that memory reads this for each token: 0.065 of it */
}

static void layers_that_tokens_leave_out_are_not_read_and_probes_cost_time(void **state)
{
    (void)state;
    sli_machine machine = usual_machine();
    sli_division p = usual_placement(2e9);
    sli_plan all = predict(&p, &machine, (sli_plan_work){.link_Bps = 1e9});
    p.exits = (sli_exit_division){.layers_mean = 24, .probes = 4, .probe_bytes = 10 * MIB, .streamed_bytes = GIB};
    sli_plan early = predict(&p, &machine, (sli_plan_work){.link_Bps = 1e9, .leave = true});
    assert_float_equal(early.left_out_bytes, 0.2 * 0.95 * 4e9, 1e3); /* a fifth of the layers: the last ones, of which none stays */
    assert_float_equal(all.read_bytes - early.read_bytes, early.left_out_bytes, 1e3);
    assert_true(early.token_s < all.token_s);
    p.exits.probe_bytes *= 10;
    assert_true(predict(&p, &machine, (sli_plan_work){.link_Bps = 1e9, .leave = true}).memory_s > early.memory_s);
    p.exits.layers_mean = 1; /* no more is left out than is read */
    assert_float_equal(predict(&p, &machine, (sli_plan_work){.link_Bps = 1e9, .leave = true}).left_out_bytes, 0.95 * 2e9, 1e3);
    p.exits.layers_mean = 24;
    assert_float_equal(predict(&p, &machine, (sli_plan_work){.link_Bps = 1e9}).read_bytes, all.read_bytes, 1); /* unless they do leave */
}

static void typical_figures_give_a_wider_range_than_measured_ones(void **state)
{
    (void)state;
    sli_division p = usual_placement(4e9);
    sli_machine measured = usual_machine(), typical = usual_machine();
    typical.measured = false;
    assert_true(predict(&p, &typical, (sli_plan_work){0}).decode_low < predict(&p, &measured, (sli_plan_work){0}).decode_low);
}

/* ---- machines ---- */

static void rates_between_two_figures_lie_on_the_line_between(void **state)
{
    (void)state;
    sli_machine m = usual_machine();
    m.bandwidth[1].threads = 5;
    assert_float_equal(sli_machine_memory_rate(&m, 1), 12e9, 1);
    assert_float_equal(sli_machine_memory_rate(&m, 3), 16e9, 1);
    assert_float_equal(sli_machine_memory_rate(&m, 64), 20e9, 1);
    assert_float_equal(sli_machine_read_rate(&m, NULL, 1 << 20, 32), 2e9, 1);
    assert_float_equal(sli_machine_read_rate(&m, NULL, 64 << 10, 32), 1.2e9, 1); /* halfway, by its logarithm */
    assert_float_equal(sli_machine_read_rate(&m, NULL, 1024, 32), 1e8, 1);       /* as many requests as of the smallest */
    assert_float_equal(sli_machine_read_rate(&m, NULL, 1 << 20, 128), 2e9, 1);
    assert_float_equal(sli_machine_read_rate(&m, "pread", 1 << 20, 32), 0, 0);
}

static void presets_have_all_figures_and_names_of_their_own(void **state)
{
    (void)state;
    sli_machine m, other;
    size_t count = 0;
    for (; sli_machine_preset(count, &m); count++) {
        assert_string_equal(m.name, sli_machine_preset_name(count));
        assert_true(m.cores >= 1 && m.memory_bytes >= GIB && !m.measured && m.source[0] != '\0');
        assert_true(sli_machine_memory_rate(&m, m.cores) >= sli_machine_memory_rate(&m, 1) && sli_machine_memory_rate(&m, 1) > 1e9);
        assert_true(sli_machine_read_rate(&m, NULL, 1 << 20, 32) >= sli_machine_read_rate(&m, NULL, 4096, 32));
        assert_true(sli_machine_read_rate(&m, NULL, 4096, 1) > 1e6);
        for (size_t i = 0; i < count && sli_machine_preset(i, &other); i++)
            assert_string_not_equal(m.name, other.name);
    }
    assert_true(count >= 6);
    assert_null(sli_machine_preset_name(count));
}

static sl_status parse(const char *text, sli_machine *out, sl_error *err)
{
    *err = (sl_error){0};
    return cli_machine_parse(text, strlen(text), "file.json", out, err);
}

static void a_machine_survives_being_written_and_read(void **state)
{
    (void)state;
    sli_machine m, again;
    sl_error err = {0};
    for (size_t i = 0; sli_machine_preset(i, &m); i++) {
        m.rates = 1;
        m.rate[0] = (sli_machine_rate){SL_TYPE_Q6_K, 64 * MIB, 3e10, 4e11};
        json_t *value = cli_machine_json(&m);
        char *text = json_dumps(value, 0);
        assert_int_equal(parse(text, &again, &err), SL_OK);
        assert_memory_equal(&m, &again, sizeof m);
        free(text);
        json_decref(value);
    }
}

/* Each mistake is told by the file, the key and what would be right. */
static void a_machine_file_that_is_wrong_is_told_what_would_be_right(void **state)
{
    (void)state;
    static const char good[] = "{\"memory_bytes\": \"16G\", \"cores\": 4, \"isa\": \"avx2\", \"memory_bandwidth\": [{\"threads\": 1, "
                               "\"bytes_per_s\": 2e10}], \"reads\": [{\"engine\": \"uring\", \"request_bytes\": \"1M\", \"depth\": 32, "
                               "\"bytes_per_s\": 3e9}]}";
    static const struct {
        const char *cut, *instead, *says;
    } mistakes[] = {
        {"\"cores\": 4, ", "", "cores is missing; it is how many physical cores"},
        {"\"cores\": 4", "\"cores\": 0", "cores is 0; it must be how many physical cores there are, from 1"},
        {"\"cores\": 4", "\"cores\": 2.5", "a whole number"},
        {"\"cores\": 4", "\"core\": 4", "core: no such key; known are name"},
        {"\"16G\"", "16", "memory_bytes is 16; it must be the memory in bytes"},
        {"\"16G\"", "\"lots\"", "memory_bytes is \"lots\""},
        {"avx2", "avx1", "isa is avx1; known are scalar, avx2"},
        {"2e10", "20", "memory_bandwidth[0].bytes_per_s is 20; it must be bytes per second, from 100000"},
        {"2e10", "-1", "memory_bandwidth[0].bytes_per_s is -1"},
        {"uring", "aio", "reads[0].engine is aio; it must be uring or pread"},
        {"\"depth\": 32, ", "", "reads[0].depth is missing"},
        {"[{\"threads\": 1, \"bytes_per_s\": 2e10}]", "[]", "memory_bandwidth must be a list of 1 to"},
        {"[{\"threads\": 1, \"bytes_per_s\": 2e10}]", "[7]", "memory_bandwidth[0] must be an object"},
        {"\"cores\": 4", "\"cores\": 4, \"gpu\": {\"name\": \"X\"}", "gpu.memory_bytes is missing"},
        {"\"cores\": 4", "\"cores\": 4, \"cores\": 5", "line 1: not JSON"},
        {"3e9}]}", "3e9}], \"products\": [{\"type\": \"Q4_0\", \"weights_bytes\": 12}]}",
         "products[0].weights_bytes is 12; it must be how many"},
        {"3e9}]}", "3e9}]", "not JSON"},
    };
    sli_machine m;
    sl_error err;
    assert_int_equal(parse(good, &m, &err), SL_OK);
    assert_true(m.memory_bytes == 16 * GIB && m.read[0].bytes == MIB && m.cores == 4 && m.isa == SL_ISA_AVX2);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char text[1024];
        const char *at = strstr(good, mistakes[i].cut);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, mistakes[i].instead, at + strlen(mistakes[i].cut));
        assert_int_equal(parse(text, &m, &err), SL_INVALID);
        if (strncmp(err.message, "file.json: ", 11) != 0 || strstr(err.message, mistakes[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", err.message, mistakes[i].says);
    }
}

/* ---- with a GPU ---- */

/* 8 GiB at 256 GB/s, and a link of 12 GB/s. */
static sli_machine with_gpu(void)
{
    sli_machine m = usual_machine();
    m.gpu = (sli_machine_gpu){.name = "made up", .memory_bytes = 8 * GIB, .memory_Bps = 256e9, .link_Bps = 12e9};
    return m;
}

static sli_device_plan on_device(const sli_division *placement, uint64_t vram_bytes)
{
    sli_machine machine = with_gpu();
    sli_device_plan plan;
    sl_error err = {0};
    assert_int_equal(sli_plan_on_device(placement, &machine, &(sli_plan_work){0}, vram_bytes, &plan, &err), SL_OK);
    return plan;
}

static void a_model_that_fits_the_gpu_crosses_no_link_and_runs_at_its_memorys_speed(void **state)
{
    (void)state;
    sli_division p = usual_placement(0);
    p.budget_bytes = 2 * GIB;
    sli_device_plan plan = on_device(&p, 0);
    assert_true(plan.fits && plan.placed.limit == SL_PLACED_COMPUTE);
    assert_float_equal(plan.placed.streamed_bytes + plan.placed.cpu_bytes + plan.placed.disk_bytes, 0, 1);
    assert_float_equal(plan.placed.device_bytes, 4e9, 1e6);
    assert_true(plan.decode_tokens_per_s < 256e9 / 4e9 && plan.decode_tokens_per_s > 256e9 / 4e9 / 2);
    assert_true(plan.decode_low < plan.decode_tokens_per_s && plan.decode_tokens_per_s < plan.decode_high);
}

/* But for the last step: what the GPU can hold it holds, also where the processor could have computed a little beside it. */
static void more_of_a_gpus_memory_is_never_much_slower(void **state)
{
    (void)state;
    sli_division p = usual_placement(0);
    p.budget_bytes = 6 * GIB;
    double before = 0;
    for (uint64_t vram = GIB / 2; vram <= 8 * GIB; vram += GIB / 4) {
        sli_device_plan plan = on_device(&p, vram);
        assert_true(plan.placed.vram_bytes + plan.fixed_bytes <= vram);
        assert_true(plan.decode_tokens_per_s >= 0.9 * before);
        before = plan.decode_tokens_per_s;
    }
}

static void what_neither_memory_holds_is_read_from_the_disk(void **state)
{
    (void)state;
    sli_division p = usual_placement(0);
    p.budget_bytes = GIB;
    sli_device_plan plan = on_device(&p, GIB);
    assert_true(plan.placed.disk_bytes > 1.5e9 && plan.placed.limit == SL_PLACED_DISK);
    assert_true(plan.decode_tokens_per_s < 2e9 / plan.placed.disk_bytes * 1.01);
}

static void keys_and_values_that_a_gpu_cannot_hold_lie_in_host_memory_and_cross(void **state)
{
    (void)state;
    sli_division p = usual_placement(0); /* 1024 positions of 100 kB */
    p.context = 8192;
    p.budget_bytes = 8 * GIB;
    sli_device_plan small = on_device(&p, 768 * MIB), large = on_device(&p, 2 * GIB);
    assert_true(small.fits && small.kv_host_layers > 1 && small.fixed_bytes <= 768 * MIB);
    assert_int_equal(large.kv_host_layers, 0);
    assert_true(small.decode_tokens_per_s < large.decode_tokens_per_s);
    p.budget_bytes = 32 * MIB; /* nor does host memory */
    assert_false(on_device(&p, 768 * MIB).fits);
}

static void a_gpu_that_cannot_hold_what_a_layer_sees_is_not_planned_with(void **state)
{
    (void)state;
    sli_division p = usual_placement(0);
    p.context = 1 << 20;
    sli_device_plan plan = on_device(&p, 64 * MIB);
    assert_false(plan.fits);
    assert_true(plan.fixed_bytes > 64 * MIB);
}

/* ---- the cache of bundles, tried out ---- */

static sli_bundle_division bundles(double kept, double cached)
{
    return (sli_bundle_division){.layers = 2,
                                 .count = 2048,
                                 .stride = 4096,
                                 .alignment = 512,
                                 .gap_bytes = 8192,
                                 .kept_max = (uint32_t)(kept * 2048),
                                 .policy = SL_BUNDLES_FREQUENT,
                                 .kept_share = kept,
                                 .cached_share = cached};
}

static sli_bundle_trial try_bundles(double kept, double cached)
{
    sli_bundle_division placement = bundles(kept, cached);
    sli_bundle_trial trial;
    sl_error err = {0};
    if (sli_bundle_try(&placement, 16, &trial, &err) != SL_OK)
        fail_msg("%s", err.message);
    return trial;
}

static void a_larger_cache_finds_more_and_reads_less(void **state)
{
    (void)state;
    double found = -1, read = 1e12;
    for (double cached = 0; cached <= 1; cached += 0.25) {
        sli_bundle_trial t = try_bundles(0.3, cached);
        assert_true(t.cached_share > found && t.cached_share >= 0.9 * cached);
        assert_true(t.bytes_ahead + t.bytes_late < read);
        found = t.cached_share;
        read = t.bytes_ahead + t.bytes_late;
    }
    assert_true(read == 0 && found == 1);
}

static void without_a_cache_all_of_a_set_is_read(void **state)
{
    (void)state;
    sli_bundle_trial t = try_bundles(0.3, 0);
    double set = (double)(uint32_t)(0.3 * 2048) * 4096;
    assert_true(t.bytes_ahead + t.bytes_late >= set && t.bytes_ahead + t.bytes_late < 3 * set);
    assert_true(t.bytes_ahead > t.bytes_late); /* the guess is mostly right */
    sli_bundle_trial again = try_bundles(0.3, 0);
    assert_memory_equal(&t, &again, sizeof t);
}

/* ---- against the engine itself ---- */

static char *model_path(void)
{
    static const tiny_model model = {.layers = 6,
                                     .d = 256,
                                     .ff = 768,
                                     .heads = 4,
                                     .kv_heads = 2,
                                     .head_dim = 64,
                                     .vocab = 2000,
                                     .context = 256,
                                     .types = {SL_TYPE_Q8_0, SL_TYPE_Q8_0, SL_TYPE_Q8_0, SL_TYPE_Q8_0},
                                     .tied = true,
                                     .seed = 3};
    char *path = tiny_path("plan.gguf");
    sl_error err = {0};
    if (tiny_write(&model, path, &err) != SL_OK)
        fail_msg("%s", err.message);
    return path;
}

static sl_engine *open_engine(const sl_engine_options *options)
{
    sl_engine *engine;
    sl_error err = {0};
    if (sl_engine_open(options, &engine, &err) != SL_OK)
        fail_msg("%s", err.message);
    return engine;
}

static uint64_t sum(const sli_division *p, bool resident)
{
    uint64_t bytes = 0;
    for (int i = SLI_PART_ATTENTION; i < SLI_PART_COUNT; i++)
        bytes += resident ? p->part[i].resident_bytes : p->part[i].bytes;
    return bytes;
}

static void check_same_as_run(const sl_engine *planned, const sl_engine *run)
{
    sl_engine_info a, b;
    sli_division p;
    sl_engine_describe(planned, &a);
    sl_engine_describe(run, &b);
    sli_division_of(planned, &p);
    assert_int_equal(a.weight_bytes, b.weight_bytes);
    assert_int_equal(sum(&p, false), b.weight_bytes);
    assert_int_equal(sum(&p, false) - sum(&p, true), a.streamed_bytes);
    assert_int_equal(a.kv_bytes, b.kv_bytes);
    assert_int_equal(a.scratch_bytes, b.scratch_bytes);
    assert_int_equal(a.staging_bytes, b.staging_bytes);
    /* Between two openings the process grows, and its homes shrink by as much, in whole huge pages. */
    int64_t drift = (int64_t)(a.process_bytes + a.resident_bytes) - (int64_t)(b.process_bytes + b.resident_bytes);
    assert_true(drift <= (int64_t)(2 * MIB) && drift >= -(int64_t)(2 * MIB));
    assert_true(p.peak_bytes <= a.ram_budget_bytes);
}

/* Bytes that each of a few tokens reads. */
static double read_a_token(sl_engine *engine)
{
    enum { TOKENS = 8 };
    sl_session *session;
    sl_engine_stats before, after;
    sl_error err = {0};
    const sl_token_id prompt[] = {5, 6, 7, 8};
    assert_int_equal(sl_session_open(engine, &session, &err), SL_OK);
    assert_int_equal(sl_session_eval(session, prompt, 4, SL_EVAL_LOGITS, NULL, &err), SL_OK);
    sl_engine_measure(engine, &before);
    for (int i = 0; i < TOKENS; i++)
        assert_int_equal(sl_session_eval(session, prompt, 1, SL_EVAL_LOGITS, NULL, &err), SL_OK);
    sl_engine_measure(engine, &after);
    sl_session_close(session);
    return (double)(after.bytes_read - before.bytes_read) / TOKENS;
}

static void what_is_planned_is_what_a_run_does_to_the_byte(void **state)
{
    (void)state;
    char *path = model_path();
    sl_engine_options options = {.model_path = path, .context = 64, .threads = 1, .batch = 8, .plan_only = true, .ram_budget_bytes = GIB};
    sl_engine *planned = open_engine(&options);
    sl_engine_info info;
    sl_engine_describe(planned, &info);
    options.plan_only = false;
    for (uint64_t more = 0; more < 6 * MIB; more += 2 * MIB) {
        sl_error err = {0};
        options.ram_budget_bytes = info.ram_budget_min_bytes + 2 * MIB + more;
        assert_int_equal(sli_engine_reprice(planned, options.ram_budget_bytes, 0, &err), SL_OK);
        sl_engine *run = open_engine(&options);
        check_same_as_run(planned, run);
        sli_division p;
        sli_machine machine = usual_machine();
        sli_division_of(run, &p);
        sli_plan plan = predict(&p, &machine, (sli_plan_work){.link_Bps = 1e8});
        double read = read_a_token(run);
        /* reads are widened to whole blocks, a few KiB for each */
        assert_true(read >= 0.99 * plan.read_bytes - 4096 && read <= 1.15 * plan.read_bytes + 8192);
        sl_engine_close(run);
    }
    sl_engine_close(planned);
    remove(path);
    free(path);
}

static void a_planned_engine_opens_no_session_and_refuses_what_is_too_small(void **state)
{
    (void)state;
    char *path = model_path();
    sl_engine_options options = {.model_path = path, .context = 64, .plan_only = true, .ram_budget_bytes = GIB};
    sl_engine *engine = open_engine(&options);
    sl_session *session;
    sl_error err = {0};
    assert_int_equal(sl_session_open(engine, &session, &err), SL_INVALID);
    assert_int_equal(sli_engine_reprice(engine, MIB, 0, &err), SL_NO_BUDGET);
    assert_true(err.ram_budget_min_bytes > MIB);
    uint64_t least = err.ram_budget_min_bytes;
    assert_int_equal(sli_engine_reprice(engine, least, 0, &err), SL_OK);
    sl_engine_close(engine);
    remove(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_memory_is_never_slower),
        cmocka_unit_test(a_faster_disk_or_memory_is_never_slower),
        cmocka_unit_test(what_is_streamed_over_a_slow_disk_takes_its_bytes_by_the_bandwidth),
        cmocka_unit_test(the_limit_is_named),
        cmocka_unit_test(a_throttle_bounds_the_disk_and_stands_for_one_that_is_not_known),
        cmocka_unit_test(a_model_that_fits_a_cache_is_predicted_at_the_caches_speed),
        cmocka_unit_test(a_model_that_fits_the_gpu_crosses_no_link_and_runs_at_its_memorys_speed),
        cmocka_unit_test(more_of_a_gpus_memory_is_never_much_slower),
        cmocka_unit_test(what_neither_memory_holds_is_read_from_the_disk),
        cmocka_unit_test(keys_and_values_that_a_gpu_cannot_hold_lie_in_host_memory_and_cross),
        cmocka_unit_test(a_gpu_that_cannot_hold_what_a_layer_sees_is_not_planned_with),
        cmocka_unit_test(drafts_and_their_check_are_shared_by_the_tokens_that_they_give),
        cmocka_unit_test(a_70b_drafts_for_the_papers_share_of_dense_bytes_and_for_far_less_with_its_set_in_memory),
        cmocka_unit_test(layers_that_tokens_leave_out_are_not_read_and_probes_cost_time),
        cmocka_unit_test(typical_figures_give_a_wider_range_than_measured_ones),
        cmocka_unit_test(rates_between_two_figures_lie_on_the_line_between),
        cmocka_unit_test(presets_have_all_figures_and_names_of_their_own),
        cmocka_unit_test(a_machine_survives_being_written_and_read),
        cmocka_unit_test(a_machine_file_that_is_wrong_is_told_what_would_be_right),
        cmocka_unit_test(a_larger_cache_finds_more_and_reads_less),
        cmocka_unit_test(without_a_cache_all_of_a_set_is_read),
        cmocka_unit_test(what_is_planned_is_what_a_run_does_to_the_byte),
        cmocka_unit_test(a_planned_engine_opens_no_session_and_refuses_what_is_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

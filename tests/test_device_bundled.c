/* tests/test_device_bundled.c: that a packed file on a device gives the processor's logits, bit for bit: dense, and over sets of neurons, wherever bundles lie;
 * that sparse rows move no more than their sets; that with --late drop they leave out what nobody holds; and that drafts on the device, checked there, leave the
 * text as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "tests/blas.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/device_shapes.h"
#include "tests/packed_pair.h"
#include "tests/silenced.h"

#define VOCAB 387

static sl_engine_options options_of(const char *path, sl_sparsity mode, double density)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = 128,
                               .threads = 2,
                               .batch = 16,
                               .isa = "scalar",
                               .sparsity = mode,
                               .density = density};
}

/* The same on the device, of which the emulated one is like this. */
static sl_engine_options on_device(sl_engine_options options, const char *how)
{
    static char name[128];
    bool plain = !device_is_emulated() || how[0] == '\0';
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), plain ? "" : ":memory=64M,", plain ? "" : how);
    options.device = name;
    options.vram_budget_bytes = 48 * MIB;
    return options;
}

static void check_same(const float *base, const sl_engine_options *options, uint32_t at_once, const char *what)
{
    float *other = sparse_logits(options, at_once, NULL);
    for (size_t i = 0; i < (size_t)STEPS * VOCAB; i++)
        if (memcmp(&base[i], &other[i], sizeof *base) != 0)
            fail_msg("%s: logit %zu is %a, not %a", what, i, (double)other[i], (double)base[i]);
    free(other);
}

#if defined(__SANITIZE_ADDRESS__)
#define EVERY 3 /* of the seeds: such a build is there for memory, and some six times slower */
#else
#define EVERY 1
#endif

static void check_all_ways(const float *base, const sl_engine_options *given, bool in_place)
{
    static const char *const seeds[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "lazy=1,seed=3"};
    for (int i = 0; i < 4; i += EVERY) {
        sl_engine_options device = on_device(*given, seeds[i]);
        device.gpu_layers_given = i % 2 == 1; /* no weight stays there */
        check_same(base, &device, i == 3 ? STEPS : 1, "a device");
        device.batch = 7;
        device.cpu_share_given = true;
        device.cpu_share = 0.5;
        check_same(base, &device, 1, "a prompt in batches of 7, the processor beside");
    }
    sl_engine_options tight = on_device(*given, "lazy=1,seed=3");
    tight.batch = 8;
    tight.vram_budget_bytes = least_vram(tight, MIB / 4);
    check_same(base, &tight, 1, "the least VRAM budget");
    tight.vram_budget_bytes += MIB / 4;
    check_same(base, &tight, 1, "a little more");
    if (!in_place) {
        sl_engine_options far = on_device(*given, "lazy=1,zero_copy=0");
        check_same(base, &far, 1, "a device that does not read host memory in place");
    }
}

static tiny_model model_of(uint32_t gate, uint32_t up, uint32_t down)
{
    tiny_model model = TINY_MODEL;
    const uint32_t types[] = {SL_TYPE_Q8_0, gate, up, down};
    model.layers = 3;
    model.ff = 160;
    memcpy(model.types, types, sizeof types);
    return model;
}

static void a_packed_file_gives_the_same_logits_on_a_device(void **state)
{
    static const uint32_t types[][3] = {
        {SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0}, {SL_TYPE_Q8_0, SL_TYPE_Q4_1, SL_TYPE_F16}, {SL_TYPE_F32, SL_TYPE_BF16, SL_TYPE_Q8_0}};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        tiny_model model = model_of(types[i][0], types[i][1], types[i][2]);
        pair p = write_pair(&model);
        sl_engine_options stock = options_of(p.stock, SL_SPARSITY_OFF, 0), packed = options_of(p.packed, SL_SPARSITY_OFF, 0);
        float *base = sparse_logits(&stock, 1, NULL);
        check_all_ways(base, &packed, false);
        free(base);
        forget_pair(p);
    }
}

static void coarse_sets_are_the_processors(void **state)
{
    static const double densities[] = {0.3, 1};
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        sl_engine_options options = options_of(p.packed, SL_SPARSITY_COARSE, densities[i]);
        float *base = sparse_logits(&options, 1, NULL);
        check_all_ways(base, &options, true);
        free(base);
    }
    forget_pair(p);
}

static void fine_sets_are_predicted_on_the_device(void **state)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_F16};
    (void)state;
    if (no_blas())
        skip();
    for (size_t i = 0; i < 2; i++) {
        tiny_model model = model_of(types[i], types[i], types[i]);
        pair p = write_pair(&model);
        sl_engine_options options = options_of(p.packed, SL_SPARSITY_FINE, 0.4);
        calibrate(p.packed);
        float *base = sparse_logits(&options, 1, NULL);
        check_all_ways(base, &options, true);
        free(base);
        forget_pair(p);
    }
}

/* ---- drafts ---- */

typedef struct text {
    sl_token_id tokens[48];
    size_t count;
    sl_draft_stats drafts;
} text;

static text generate(const sl_engine_options *options, sl_drafting drafting)
{
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    sl_result result = {0};
    sl_token_id prompt[24];
    text out = {.count = 0};
    for (uint32_t i = 0; i < 24; i++)
        prompt[i] = token_at(i % 9);
    check(sl_engine_open(options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    sl_request request = {.prompt = prompt,
                          .prompt_count = 24,
                          .max_tokens = 40,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .ignore_eos = true,
                          .seed = 5,
                          .drafting = drafting};
    check(sl_generate(session, &request, &result, &err), &err);
    assert_int_equal(result.count, 40);
    memcpy(out.tokens, result.tokens, result.count * sizeof *out.tokens);
    out.count = result.count;
    out.drafts = result.drafts;
    out.drafts.accepted_by_depth = NULL;
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
    return out;
}

static void drafts_on_the_device_leave_the_text_as_it_is(void **state)
{
    static const sl_drafting ways[] = {
        {.tokens = 4, .drafter = SL_DRAFTER_MODEL}, {.tokens = SL_DRAFT_AUTO}, {.tokens = 4, .drafter = SL_DRAFTER_MODEL, .tree = 2}};
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine_options dense = options_of(p.stock, SL_SPARSITY_OFF, 0), coarse = options_of(p.packed, SL_SPARSITY_COARSE, 0.5);
    text want = generate(&dense, (sl_drafting){0});
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int stays = 0; stays < 2; stays++) {
            sl_engine_options device = on_device(coarse, i % 2 ? "lazy=1,seed=3" : "lazy=1,seed=1");
            device.draft_max = 16;
            device.batch = 32;
            device.gpu_layers_given = !stays;
            text got = generate(&device, ways[i]);
            assert_memory_equal(got.tokens, want.tokens, sizeof want.tokens);
            if (ways[i].tokens > 0)
                assert_true(got.drafts.drafted > 0 && got.drafts.accepted > 0);
        }
    forget_pair(p);
}

/* ---- what moves ---- */

#define FAR_PROMPT 9

/* A coarse 0.3 of bundles that are in host memory, all of them; the rest is the processor's, so that nothing else is in the ring. A prompt has been read. */
static void open_far(const pair *p, unsigned flags, sl_engine **engine, sl_session **session, sl_token_id tokens[FAR_PROMPT])
{
    sl_engine_options options = on_device(options_of(p->packed, SL_SPARSITY_COARSE, 0.3), "lazy=1");
    sl_error err = {0};
    for (uint32_t i = 0; i < FAR_PROMPT; i++)
        tokens[i] = token_at(i);
    options.gpu_layers_given = options.cpu_share_given = true;
    options.cpu_share = 1;
    check(sl_engine_open(&options, engine, &err), &err);
    check(sl_session_open(*engine, session, &err), &err);
    check(sl_session_eval(*session, tokens, FAR_PROMPT, flags, NULL, &err), &err);
}

static void sparse_rows_push_nothing_through_the_ring(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[FAR_PROMPT];
    (void)state;
    open_far(&p, SL_EVAL_LOGITS | SL_EVAL_MORE, &engine, &session, tokens);
    uint64_t before = sl_vram_statistics(engine->device->vram).pushed_bytes;
    check(sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE | SL_EVAL_MORE, NULL, &err), &err);
    assert_int_equal(sl_vram_statistics(engine->device->vram).pushed_bytes, before);
    check(sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS, NULL, &err), &err); /* dense: all bundles cross */
    assert_true(sl_vram_statistics(engine->device->vram).pushed_bytes > before);
    sl_session_close(session);
    sl_engine_close(engine);
    forget_pair(p);
}

static struct {
    const sl_device_kernels *real;
    sl_device_kernels kernels;
    uint32_t calls, rows;
} reads;

static sl_status watched_gate_up(sl_device *dev, const sl_device_bundles *b, sl_glu act, sl_device_ptr neurons, uint32_t count,
                                 const sl_device_acts *x, sl_device_ptr h, sl_error *err)
{
    reads.calls++;
    reads.rows += x->rows;
    return reads.real->bundle_gate_up(dev, b, act, neurons, count, x, h, err);
}

/* A tree's rows have one coarse set: its bundles are read for all of them together. */
static void rows_over_one_set_read_it_once(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[FAR_PROMPT];
    (void)state;
    open_far(&p, SL_EVAL_LOGITS, &engine, &session, tokens);
    sl_device *device = engine->device->device;
    memset(&reads, 0, sizeof reads);
    reads.real = device->kernels;
    reads.kernels = *device->kernels;
    reads.kernels.bundle_gate_up = watched_gate_up;
    device->kernels = &reads.kernels;
    check(sl_session_eval(session, tokens, 4, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, &err), &err);
    assert_int_equal(reads.calls, model.layers);
    assert_int_equal(reads.rows, 4 * model.layers);
    device->kernels = reads.real;
    sl_session_close(session);
    sl_engine_close(engine);
    forget_pair(p);
}

/* ---- neurons that are late ---- */

/* Some megabytes of bundles, so that a budget can hold a part of them. */
static tiny_model wide_model(void)
{
    tiny_model model = model_of(SL_TYPE_F32, SL_TYPE_F32, SL_TYPE_Q4_0);
    model.d = 256;
    model.ff = 512;
    return model;
}

/* The first budget above the least that holds some of the neurons that the device does not hold, and not all. */
static sl_engine *open_with_late(sl_engine_options *options)
{
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    options->late_drop = true;
    check(sl_engine_open(options, &engine, &err), &err);
    sl_engine_describe(engine, &info);
    assert_int_equal(engine->price.late_neurons, 0);
    sl_engine_close(engine);
    for (options->ram_budget_bytes = info.ram_budget_min_bytes;; options->ram_budget_bytes += MIB / 4) {
        check(sl_engine_open(options, &engine, &err), &err);
        assert_true(engine->price.late_neurons > 0);
        for (uint32_t u = 0; u < engine->units.count; u++)
            if (engine->units.units[u].home && engine->units.matrices[engine->device->entry_of[u]].bundles)
                return engine;
        sl_engine_close(engine);
    }
}

static bool is_late(const sl_engine *engine, uint32_t layer, uint32_t place)
{
    const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, &engine->units, layer);
    return sli_device_is_late(engine, m->first_unit + place / m->rows_per_unit);
}

/* How many members of sets of rows_from_nothing were left out. */
static uint64_t dropped_of(const sl_engine *engine)
{
    sl_engine_stats stats;
    sl_engine_measure(engine, &stats);
    assert_int_equal(stats.neurons_needed + stats.neurons_dropped, (uint64_t)STEPS * (engine->keep[0] + engine->keep[1] + engine->keep[2]));
    return stats.neurons_dropped;
}

/* Without evidence a coarse set is the first neurons. */
static uint64_t late_of_coarse_sets(const sl_engine *engine)
{
    uint64_t late = 0;
    for (uint32_t layer = 0; layer < engine->model->layers; layer++)
        for (uint32_t place = 0; place < engine->model->ff; place++)
            late += sl_packed_layer_at(engine->packed, layer)->order[place] < engine->keep[layer] && is_late(engine, layer, place);
    return late;
}

static void check_late(const pair *p, sl_sparsity mode, double density, bool stays)
{
    sl_engine_options options = on_device(options_of(p->packed, mode, density), stays ? "lazy=1,seed=1" : "lazy=1,seed=3");
    options.gpu_layers_given = !stays;
    options.vram_budget_bytes = least_vram(options, MIB / 4) + (stays ? MIB : MIB / 4);
    sl_engine *engine = open_with_late(&options);
    char *silenced = write_silenced(engine, sli_device_is_late);
    float *got = rows_from_nothing(engine, SL_EVAL_SPARSE, NULL);
    uint64_t dropped = dropped_of(engine);
    assert_true(dropped > 0);
    if (mode == SL_SPARSITY_COARSE)
        assert_int_equal(dropped, STEPS * late_of_coarse_sets(engine));
    sl_engine_close(engine);

    sl_engine_options processor = options_of(silenced, mode, density);
    sl_error err = {0};
    check(sl_engine_open(&processor, &engine, &err), &err);
    float *want = rows_from_nothing(engine, SL_EVAL_SPARSE, NULL);
    assert_int_equal(dropped_of(engine), 0);
    for (size_t i = 0; i < (size_t)STEPS * VOCAB; i++)
        if (memcmp(&want[i], &got[i], sizeof *want) != 0)
            fail_msg("row %zu, logit %zu is %a, not %a", i / VOCAB, i % VOCAB, (double)got[i], (double)want[i]);
    sl_engine_close(engine);
    unlink(silenced);
    free(silenced);
    free(want);
    free(got);
}

static void a_late_neuron_gives_nothing_and_is_counted(void **state)
{
    tiny_model model = wide_model();
    pair p = write_pair(&model);
    (void)state;
    check_late(&p, SL_SPARSITY_COARSE, 0.4, true);
    check_late(&p, SL_SPARSITY_COARSE, 1, false);
    if (no_blas()) {
        print_message("predicted sets are not looked at\n");
    } else {
        calibrate_with(p.packed, 1500); /* how well does not matter */
        check_late(&p, SL_SPARSITY_FINE, 0.4, true);
    }
    forget_pair(p);
}

/* Checks are dense: what drafts leave out costs no more than drafts. */
static void drafts_without_late_neurons_leave_the_text_as_it_is(void **state)
{
    tiny_model model = wide_model();
    pair p = write_pair(&model);
    sl_engine_options options = options_of(p.packed, SL_SPARSITY_OFF, 0);
    text want = generate(&options, (sl_drafting){0});
    (void)state;
    options = on_device(options_of(p.packed, SL_SPARSITY_COARSE, 0.5), "lazy=1,seed=2");
    options.draft_max = 4;
    options.vram_budget_bytes = least_vram(options, MIB / 4) + MIB;
    sl_engine_close(open_with_late(&options));
    text got = generate(&options, (sl_drafting){.tokens = 4, .drafter = SL_DRAFTER_MODEL});
    assert_memory_equal(got.tokens, want.tokens, sizeof want.tokens);
    assert_true(got.drafts.drafted > 0);
    forget_pair(p);
}

/* The least VRAM budget that holds some of the neurons, beside everything else and the rows of a check. */
static uint64_t vram_for_drafts(sl_engine_options options)
{
    for (options.vram_budget_bytes = least_vram(options, MIB / 4);; options.vram_budget_bytes += MIB / 4) {
        sl_engine *engine;
        sl_engine_info info;
        sl_error err = {0};
        check(sl_engine_open(&options, &engine, &err), &err);
        sl_engine_describe(engine, &info);
        sl_engine_close(engine);
        assert_true(info.draft_density < 1);
        if (info.draft_density > 0 && info.draft_max == options.draft_max)
            return options.vram_budget_bytes;
    }
}

static void drafts_by_what_the_device_holds_leave_the_text_as_it_is(void **state)
{
    tiny_model model = wide_model();
    pair p = write_pair(&model);
    sl_engine_options options = options_of(p.packed, SL_SPARSITY_OFF, 0);
    text want = generate(&options, (sl_drafting){0});
    (void)state;
    options = on_device(options, "lazy=1,seed=3");
    options.draft_max = 7;
    options.draft_resident = true;
    options.vram_budget_bytes = vram_for_drafts(options);
    text got = generate(&options, (sl_drafting){.tokens = 3, .drafter = SL_DRAFTER_MODEL, .tree = 2});
    assert_memory_equal(got.tokens, want.tokens, sizeof want.tokens);
    assert_true(got.drafts.drafted > 0 && got.drafts.accepted > 0);
    forget_pair(p);
}

/* ---- what goes wrong ---- */

static void neurons_that_nobody_holds_are_refused_with_a_budget_that_works(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q8_0, SL_TYPE_Q8_0, SL_TYPE_Q8_0);
    (void)state;
    model.d = 128;
    model.ff = 8192; /* 9 MiB of bundles */
    pair p = write_pair(&model);
    sl_engine_options options = on_device(options_of(p.packed, SL_SPARSITY_COARSE, 0.3), "guard=1");
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    options.gpu_layers_given = true;
    options.threads = 1;
    check(sl_engine_open(&options, &engine, &err), &err);
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    options.ram_budget_bytes = info.ram_budget_min_bytes + MIB;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    assert_non_null(strstr(err.message, "every neuron"));
    options.ram_budget_bytes = err.ram_budget_min_bytes + 4 * MIB;
    check(sl_engine_open(&options, &engine, &err), &err);
    sl_engine_close(engine);
    forget_pair(p);
}

static void a_device_that_does_not_read_host_memory_says_so(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    (void)state;
    if (device_must_be_emulated("zero copy that is missing"))
        return;
    pair p = write_pair(&model);
    sl_engine_options options = on_device(options_of(p.packed, SL_SPARSITY_COARSE, 0.3), "zero_copy=0");
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    sl_token_id token = 1;
    options.gpu_layers_given = true;
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_session_open(engine, &session, &err), &err);
    check(sl_session_eval(session, &token, 1, SL_EVAL_LOGITS, NULL, &err), &err);
    assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "in place"));
    sl_session_close(session);
    sl_engine_close(engine);
    forget_pair(p);
}

/* One run of all kinds of passes; the calls of the device that fail are the caller's. */
static sl_status run_kinds(const sl_engine_options *options, float **logits, sl_error *err)
{
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    const float *last = NULL;
    sl_token_id tokens[12];
    for (uint32_t i = 0; i < 12; i++)
        tokens[i] = token_at(i);
    sl_status status = sl_engine_open(options, &engine, err);
    if (status == SL_OK)
        status = sl_session_open(engine, &session, err);
    if (status == SL_OK)
        status = sl_session_eval(session, tokens, 12, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, err);
    for (int again = 0; session != NULL && again < 2; again++) { /* a pass that failed may be made again */
        sl_error error = {0};
        sl_status now = SL_OK;
        if (sl_session_position(session) == 0)
            now = sl_session_eval(session, tokens, 12, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, &error);
        if (now == SL_OK && sl_session_position(session) == 12)
            now = sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE | SL_EVAL_MORE, NULL, &error);
        if (now == SL_OK && sl_session_position(session) == 13)
            now = sl_session_eval(session, tokens + 1, 3, SL_EVAL_LOGITS, &last, &error);
        if (now == SL_OK && last != NULL)
            break;
        if (status == SL_OK) {
            status = now;
            *err = error;
        }
    }
    *logits = NULL;
    if (last != NULL) {
        *logits = malloc(VOCAB * sizeof **logits);
        assert_non_null(*logits);
        memcpy(*logits, last, VOCAB * sizeof **logits);
    }
    sl_session_close(session);
    sl_engine_close(engine);
    return status;
}

static void the_n_th_call_may_fail(void **state)
{
    static const char *const how[] = {"fail", "lost", "broken"};
    tiny_model model = model_of(SL_TYPE_Q4_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    float *want, *got;
    sl_error err = {0};
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    pair p = write_pair(&model);
    sl_engine_options options = options_of(p.packed, SL_SPARSITY_COARSE, 0.3);
    check(run_kinds(&options, &want, &err), &err);
    for (int kind = 0; kind < 3; kind++)
        for (unsigned n = 1, step = 1; n < 3000; n += step, step += step / 2 + 1) {
            char name[64];
            snprintf(name, sizeof name, "lazy=%d,%s=%u", n % 2, how[kind], n);
            sl_engine_options device = on_device(options, name);
            device.gpu_layers_given = n % 3 == 0;
            device.cpu_share_given = true;
            device.cpu_share = 0.5;
            err = (sl_error){0};
            sl_status status = run_kinds(&device, &got, &err);
            if (status != SL_OK) {
                assert_true(err.message[0] != '\0');
                assert_true(status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY || status == SL_DEVICE_LOST);
            }
            if (got != NULL) /* what was short once was there again, and left no trace */
                assert_memory_equal(got, want, VOCAB * sizeof *want);
            assert_true(status != SL_OK || got != NULL);
            free(got);
        }
    free(want);
    forget_pair(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_file_gives_the_same_logits_on_a_device),
        cmocka_unit_test(coarse_sets_are_the_processors),
        cmocka_unit_test(fine_sets_are_predicted_on_the_device),
        cmocka_unit_test(drafts_on_the_device_leave_the_text_as_it_is),
        cmocka_unit_test(sparse_rows_push_nothing_through_the_ring),
        cmocka_unit_test(rows_over_one_set_read_it_once),
        cmocka_unit_test(a_late_neuron_gives_nothing_and_is_counted),
        cmocka_unit_test(drafts_without_late_neurons_leave_the_text_as_it_is),
        cmocka_unit_test(drafts_by_what_the_device_holds_leave_the_text_as_it_is),
        cmocka_unit_test(neurons_that_nobody_holds_are_refused_with_a_budget_that_works),
        cmocka_unit_test(a_device_that_does_not_read_host_memory_says_so),
        cmocka_unit_test(the_n_th_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

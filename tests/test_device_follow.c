/* tests/test_device_follow.c: that what a device holds follows coarse sets: sparse rows find their neurons there, a check's weights cross while drafts are made, and
 * every logit is the processor's, whichever order the streams take and whatever fails. And that, without sparsity, what it holds drafts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "offload/matmul.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/packed_pair.h"
#include "tests/silenced.h"

#if defined(__SANITIZE_ADDRESS__)
#define EVERY     2           /* of the orders: such a build is there for memory, and some six times slower */
#define RAM_BYTES (120 * MIB) /* and its process is larger */
#else
#define EVERY     1
#define RAM_BYTES (64 * MIB)
#endif
#define VOCAB   387
#define DENSITY 0.2

/* Prompts of few and of many rows; sparse rows, one and several over a set; and checks. Enough that sets change. */
static const struct pass {
    uint32_t rows;
    bool sparse;
} passes[] = {{9, false}, {1, true}, {4, true}, {5, false}, {3, true}, {3, false}, {24, false}, {2, true}, {6, false}, {1, true}};
#define PASSES (sizeof passes / sizeof *passes)

static tiny_model model_of(uint32_t type)
{
    tiny_model model = TINY_MODEL;
    const uint32_t types[] = {SL_TYPE_Q8_0, type, type, type};
    model.d = 128;
    model.ff = 2048;
    memcpy(model.types, types, sizeof types);
    return model;
}

/* `device`: NULL, or what the emulated one is like. A small RAM budget gives small units, of which a layer has several. */
static sl_engine_options options_for(const char *packed, const char *device, uint64_t vram_bytes)
{
    static char name[128];
    sl_engine_options options = {.model_path = packed,
                                 .ram_budget_bytes = RAM_BYTES,
                                 .context = 128,
                                 .threads = 1,
                                 .batch = 32,
                                 .isa = "scalar",
                                 .sparsity = SL_SPARSITY_COARSE,
                                 .density = DENSITY,
                                 .uniform_density = true};
    if (device == NULL)
        return options;
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), device_is_emulated() ? ":memory=64M," : "", device_is_emulated() ? device : "");
    options.device = name;
    options.vram_budget_bytes = vram_bytes;
    options.cpu_share_given = true; /* the processor has no part */
    return options;
}

static float *room_for(size_t bytes)
{
    float *room = malloc(bytes);
    assert_non_null(room);
    return room;
}

static sl_engine *open_engine(const sl_engine_options *options)
{
    sl_engine *engine;
    sl_error err = {0};
    check(sl_engine_open(options, &engine, &err), &err);
    return engine;
}

/* The least VRAM budget with which about `stays` of the bundles are held, and not all. */
static uint64_t vram_for(const char *packed, double stays)
{
    for (uint64_t bytes = 2 * MIB; bytes < 32 * MIB; bytes += MIB / 8) {
        sl_engine_options options = options_for(packed, "", bytes);
        sl_engine *engine;
        sl_error err = {0};
        uint64_t held = 0, all = 0;
        if (sl_engine_open(&options, &engine, &err) != SL_OK)
            continue;
        for (uint32_t layer = 0; layer < engine->model->layers; layer++) {
            const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, &engine->units, layer);
            for (uint32_t u = 0; u < m->unit_count; u++) {
                all += sli_unit_rows(m, u);
                held += engine->units.in_vram[m->first_unit + u] ? sli_unit_rows(m, u) : 0;
            }
        }
        sl_engine_close(engine);
        if ((double)held >= stays * (double)all)
            return bytes;
    }
    fail_msg("no VRAM budget holds %g of the bundles", stays);
    return 0;
}

/* The last row's logits of each pass, [PASSES][VOCAB]. pushed[i]: bytes that went to the ring in pass i, where that is asked for. */
static float *run_passes(sl_engine *engine, uint64_t pushed[PASSES])
{
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[32];
    float *all = room_for(PASSES * VOCAB * sizeof *all);
    check(sl_session_open(engine, &session, &err), &err);
    check(sl_session_truncate(session, 0, &err), &err); /* sets are the engine's, and begin anew */
    for (size_t i = 0; i < PASSES; i++) {
        const float *logits;
        uint64_t before = pushed != NULL ? sl_vram_statistics(engine->device->vram).pushed_bytes : 0;
        for (uint32_t t = 0; t < passes[i].rows; t++)
            tokens[t] = token_at((uint32_t)i * 11 + t);
        unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE | (passes[i].sparse ? SL_EVAL_SPARSE : 0u);
        check(sl_session_eval(session, tokens, passes[i].rows, flags, &logits, &err), &err);
        memcpy(all + i * VOCAB, logits, VOCAB * sizeof *all);
        if (pushed != NULL)
            pushed[i] = sl_vram_statistics(engine->device->vram).pushed_bytes - before;
    }
    sl_session_close(session);
    return all;
}

static float *processors_logits(const char *packed)
{
    sl_engine_options options = options_for(packed, NULL, 0);
    sl_engine *engine = open_engine(&options);
    float *all = run_passes(engine, NULL);
    sl_engine_close(engine);
    return all;
}

static void check_same(const float *want, const float *got, const char *what)
{
    for (size_t i = 0; i < PASSES * VOCAB; i++)
        if (memcmp(&want[i], &got[i], sizeof *want) != 0)
            fail_msg("%s: pass %zu, logit %zu is %a, not %a", what, i / VOCAB, i % VOCAB, (double)got[i], (double)want[i]);
}

static void logits_are_the_processors_in_any_order_of_the_streams(void **state)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_Q8_0};
    static const char *const orders[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "lazy=1,seed=3", "lazy=1,seed=7"};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        tiny_model model = model_of(types[t]);
        pair p = write_pair(&model);
        float *want = processors_logits(p.packed);
        for (size_t i = t; i < sizeof orders / sizeof *orders; i += 2 * EVERY) {
            /* What is held has room for the set, or for half of it. */
            sl_engine_options options = options_for(p.packed, orders[i], vram_for(p.packed, i % 3 == 0 ? 0.1 : 0.4));
            sl_engine *engine = open_engine(&options);
            assert_true(engine->price.follows);
            float *got = run_passes(engine, NULL);
            assert_true(engine->device->followed_bytes > 0);
            check_same(want, got, orders[i]);
            free(got);
            sl_engine_close(engine);
        }
        free(want);
        forget_pair(p);
    }
}

/* A quarter of the neurons are held from the beginning, the file's order is by chance, and the set is a fifth. */
static void a_set_is_found_where_the_device_computes(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine_options options = options_for(p.packed, "", vram_for(p.packed, 0.35));
    sl_engine *engine = open_engine(&options);
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[4] = {7, 60, 113, 166};
    (void)state;
    check(sl_session_open(engine, &session, &err), &err);
    check(sl_session_eval(session, tokens, 4, SL_EVAL_LOGITS, NULL, &err), &err);
    check(sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, &err), &err);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        assert_true(engine->device->followed[layer]);
        assert_true(engine->device->host_share[layer] == 0);
    }
    uint64_t moved = engine->device->followed_bytes;
    assert_true(moved > 0);
    check(sl_session_eval(session, tokens, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, &err), &err);
    assert_true(engine->device->followed_bytes == moved); /* the set is the same */
    sl_session_close(session);
    sl_engine_close(engine);
    forget_pair(p);
}

static void a_checks_weights_begin_to_cross_behind_the_drafts(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine_options options = options_for(p.packed, "", vram_for(p.packed, 0.35));
    sl_engine *engine = open_engine(&options);
    uint64_t pushed[PASSES], slots = 0, all = 0;
    free(run_passes(engine, pushed));
    (void)state;
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, &engine->units, layer);
        for (uint32_t u = 0; u < m->unit_count; u++) {
            all += (uint64_t)sli_unit_rows(m, u) * m->row_bytes;
            slots += (uint64_t)(sli_unit_rows(m, u) - engine->device->far[m->first_unit + u]) * m->row_bytes;
        }
    }
    assert_true(slots > 0);
    assert_true(pushed[1] > 0);                                                       /* the first sparse row */
    assert_true(pushed[2] == 0);                                                      /* the second: it was all there */
    assert_true(pushed[1] + pushed[3] >= all - slots && pushed[1] + pushed[3] < all); /* together a check's, of what has no slot */
    assert_true(pushed[6] >= all - slots && pushed[6] < all);                         /* a pass behind a dense one */
    sl_engine_close(engine);
    forget_pair(p);
}

/* A session that begins anew has no sets, and what began to cross for a check is for nobody. */
static void what_crossed_for_a_check_that_does_not_come_is_forgotten(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine_options options = options_for(p.packed, "lazy=1,seed=3", vram_for(p.packed, 0.35));
    float *want = processors_logits(p.packed);
    sl_engine *engine = open_engine(&options);
    (void)state;
    for (int i = 0; i < 2; i++) { /* the last pass of the first is sparse */
        float *got = run_passes(engine, NULL);
        check_same(want, got, i == 0 ? "a session" : "another session");
        free(got);
    }
    assert_true(engine->device->ahead);
    sl_engine_close(engine);
    free(want);
    forget_pair(p);
}

static void without_room_for_homes_nothing_follows_and_the_text_is_the_same(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q8_0);
    (void)state;
    model.ff = 8192;
    pair p = write_pair(&model);
    sl_engine_options options = options_for(p.packed, "lazy=1", vram_for(p.packed, 0.6));
    float *want = processors_logits(p.packed);
    sl_engine *engine = NULL;
    sl_error err = {0};
    for (options.ram_budget_bytes = 8 * MIB; engine == NULL; options.ram_budget_bytes += MIB / 4) {
        assert_true(options.ram_budget_bytes < RAM_BYTES);
        sl_status status = sl_engine_open(&options, &engine, &err);
        assert_true(status == SL_OK || status == SL_NO_BUDGET);
    }
    assert_false(engine->price.follows);
    float *got = run_passes(engine, NULL);
    check_same(want, got, "a small RAM budget");
    assert_int_equal(engine->device->followed_bytes, 0);
    sl_engine_close(engine);
    free(want);
    free(got);
    forget_pair(p);
}

/* Passes one after the other, each of which may fail once and is made again. */
static sl_status run_again(sl_engine *engine, float *all, sl_error *err)
{
    sl_session *session;
    sl_token_id tokens[32];
    SL_TRY(sl_session_open(engine, &session, err));
    sl_status status = SL_OK;
    for (size_t i = 0; i < PASSES && status == SL_OK; i++) {
        const float *logits = NULL;
        unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE | (passes[i].sparse ? SL_EVAL_SPARSE : 0u);
        for (uint32_t t = 0; t < passes[i].rows; t++)
            tokens[t] = token_at((uint32_t)i * 11 + t);
        status = sl_session_eval(session, tokens, passes[i].rows, flags, &logits, err);
        if (status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY)
            status = sl_session_eval(session, tokens, passes[i].rows, flags, &logits, err);
        if (status == SL_OK)
            memcpy(all + i * VOCAB, logits, VOCAB * sizeof *all);
    }
    sl_session_close(session);
    return status;
}

static void a_call_that_fails_leaves_slots_that_are_filled_anew(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0);
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    model.ff = 1024;
    pair p = write_pair(&model);
    float *want = processors_logits(p.packed), *got = room_for(PASSES * VOCAB * sizeof *got);
    uint64_t vram_bytes = vram_for(p.packed, 0.35);
    unsigned through = 0;
    for (unsigned n = 60; n < 1500; n += 71) {
        char how[48];
        snprintf(how, sizeof how, "lazy=%u,seed=%u,fail=%u", n % 2, n % 4, n);
        sl_engine_options options = options_for(p.packed, how, vram_bytes);
        sl_engine *engine;
        sl_error err = {0};
        if (sl_engine_open(&options, &engine, &err) != SL_OK)
            continue;
        sl_status status = run_again(engine, got, &err);
        if (status == SL_OK)
            check_same(want, got, how);
        else
            assert_true(err.message[0] != '\0');
        through += status == SL_OK;
        sl_engine_close(engine);
    }
    assert_true(through > 5);
    free(want);
    free(got);
    forget_pair(p);
}

/* ---- what it holds drafts ---- */

/* An engine whose drafts have some of the neurons, and not all. */
static sl_engine *open_drafting(const char *packed, const char *device)
{
    sl_engine_options options = options_for(packed, device, 2 * MIB);
    options.sparsity = SL_SPARSITY_OFF;
    options.draft_resident = true;
    for (; options.vram_budget_bytes < 32 * MIB; options.vram_budget_bytes += MIB / 8) {
        sl_engine *engine;
        sl_engine_info info;
        sl_error err = {0};
        if (sl_engine_open(&options, &engine, &err) != SL_OK)
            continue;
        sl_engine_describe(engine, &info);
        if (info.draft_density > 0.3 && info.draft_density < 1)
            return engine;
        sl_engine_close(engine);
    }
    fail_msg("no VRAM budget holds some of the neurons");
    return NULL;
}

static bool is_elsewhere(const sl_engine *engine, sl_unit_id unit)
{
    return !engine->units.in_vram[unit];
}

static void a_draft_is_the_dense_row_without_the_neurons_that_the_device_does_not_hold(void **state)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_F16};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        tiny_model model = model_of(types[t]);
        pair p = write_pair(&model);
        uint64_t pushed[STEPS];
        sl_engine *engine = open_drafting(p.packed, t == 0 ? "lazy=1,seed=1" : "lazy=1,seed=2");
        float *got = rows_from_nothing(engine, SL_EVAL_DRAFT, pushed);
        char *silenced = write_silenced(engine, is_elsewhere);
        for (uint32_t i = 1; i < STEPS; i++) /* behind the first the next check's weights fill the ring */
            assert_int_equal(pushed[i], 0);
        sl_engine_close(engine);
        sl_engine_options plain = options_for(silenced, NULL, 0);
        plain.sparsity = SL_SPARSITY_OFF;
        engine = open_engine(&plain);
        float *want = rows_from_nothing(engine, 0, NULL);
        for (size_t i = 0; i < (size_t)STEPS * VOCAB; i++)
            if (memcmp(&want[i], &got[i], sizeof *want) != 0)
                fail_msg("draft %zu, logit %zu is %a, not %a", i / VOCAB, i % VOCAB, (double)got[i], (double)want[i]);
        sl_engine_close(engine);
        unlink(silenced);
        free(silenced);
        free(want);
        free(got);
        forget_pair(p);
    }
}

static void nothing_drafts_where_the_device_does_not_hold_attention_and_head(void **state)
{
    tiny_model model = model_of(SL_TYPE_Q4_0);
    pair p = write_pair(&model);
    sl_engine_options options = options_for(p.packed, "", 32 * MIB);
    sl_engine_info info;
    sl_session *session;
    sl_error err = {0};
    sl_token_id token = 1;
    (void)state;
    options.sparsity = SL_SPARSITY_OFF;
    options.draft_resident = options.gpu_layers_given = true;
    options.gpu_layers = 1;
    sl_engine *engine = open_engine(&options);
    sl_engine_describe(engine, &info);
    assert_true(info.draft_density == 0);
    check(sl_session_open(engine, &session, &err), &err);
    check(sl_session_eval(session, &token, 1, SL_EVAL_LOGITS, NULL, &err), &err);
    assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "too small"));
    sl_session_close(session);
    sl_engine_close(engine);

    engine = open_drafting(p.packed, ""); /* and not before it has come there */
    check(sl_session_open(engine, &session, &err), &err);
    assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "first dense pass"));
    sl_session_close(session);
    sl_engine_close(engine);
    forget_pair(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_processors_in_any_order_of_the_streams),
        cmocka_unit_test(a_set_is_found_where_the_device_computes),
        cmocka_unit_test(a_checks_weights_begin_to_cross_behind_the_drafts),
        cmocka_unit_test(what_crossed_for_a_check_that_does_not_come_is_forgotten),
        cmocka_unit_test(without_room_for_homes_nothing_follows_and_the_text_is_the_same),
        cmocka_unit_test(a_call_that_fails_leaves_slots_that_are_filled_anew),
        cmocka_unit_test(a_draft_is_the_dense_row_without_the_neurons_that_the_device_does_not_hold),
        cmocka_unit_test(nothing_drafts_where_the_device_does_not_hold_attention_and_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

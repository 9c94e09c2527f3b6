/* tests/test_resident.c: drafts from what is in memory: what they compute, that they read nothing, and that nothing else notices them.
 *
 * What a draft must give is computed from another file: the model with the gate rows of all neurons that are not in memory set to zero, so that their
 * activations are. */
#include "offload/engine.h"
#include "offload/tools/pack.h"
#include "tests/packed_material.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB    ((uint64_t)1 << 20)
#define PROMPT 9
#define DRAFTS 5
#define VOCAB  387

static void check(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        fail_msg("%s", err->message);
}

static sl_token_id token_at(uint32_t position)
{
    return (sl_token_id)((position * 53 + 7) % 384);
}

/* ---- models ---- */

/* Some megabytes of feed-forwards, so that a budget can hold a part of them. */
static tiny_model wide_model(uint32_t type)
{
    tiny_model model = TINY_MODEL;
    model.layers = 3;
    model.d = 128;
    model.ff = 3072;
    for (int i = 0; i < 4; i++)
        model.types[i] = type;
    return model;
}

typedef struct files {
    char *stock, *packed, *masked;
} files;

static files write_files(const tiny_model *model)
{
    files f = {tiny_path("stock.gguf"), tiny_path("packed.gguf"), tiny_path("masked.gguf")};
    sl_error err = {0};
    check(tiny_write(model, f.stock, &err), &err);
    sli_pack_options options = {.in_path = f.stock, .out_path = f.packed, .order = SLI_PACK_RANDOM_ORDER, .seed = 3};
    check(sli_pack(&options, NULL, &err), &err);
    return f;
}

static void forget(files f)
{
    char *paths[] = {f.stock, f.packed, f.masked};
    for (size_t i = 0; i < 3; i++) {
        unlink(paths[i]);
        free(paths[i]);
    }
}

static void silence_absent(blob *b, const sl_engine *engine, uint32_t layer, const sl_gguf_tensor *gate)
{
    const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, &engine->units, layer);
    const sl_packed_layer *l = sl_packed_layer_at(engine->packed, layer);
    size_t row_bytes = sl_row_bytes(gate->type, gate->shape[0]);
    for (uint32_t place = 0; place < l->ff; place++)
        if (sl_pager_resident(engine->pager, m->first_unit + place / m->rows_per_unit) == NULL)
            memset(b->data + gate->offset + l->order[place] * row_bytes, 0, row_bytes);
}

/* The stock file without the neurons that the engine does not have in memory now. */
static void write_masked(const files *f, const sl_engine *engine)
{
    blob b = blob_read(f->stock);
    sl_gguf *g;
    sl_error err = {0};
    check(sl_gguf_open(f->stock, &g, &err), &err);
    for (uint32_t layer = 0; layer < engine->model->layers; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_gate.weight", layer);
        silence_absent(&b, engine, layer, sl_gguf_find_tensor(g, name));
    }
    sl_gguf_close(g);
    blob_write(f->masked, &b);
    free(b.data);
}

/* ---- engines ---- */

static sl_engine_options options_of(const char *path)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = 128,
                               .threads = 1,
                               .batch = 8,
                               .isa = "scalar",
                               .draft_resident = true};
}

static sl_engine *open_engine(const sl_engine_options *options)
{
    sl_engine *engine;
    sl_error err = {0};
    check(sl_engine_open(options, &engine, &err), &err);
    return engine;
}

static double density_of(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    return info.draft_density;
}

static sl_session *open_session(sl_engine *engine)
{
    sl_session *session;
    sl_error err = {0};
    check(sl_session_open(engine, &session, &err), &err);
    return session;
}

static void close_both(sl_engine *engine, sl_session *session)
{
    sl_session_close(session);
    sl_engine_close(engine);
}

/* An engine that keeps some of its neurons and not all: the first such budget above the least. What a process has grown to is part of every
 * budget, so it has to be looked for. */
static sl_engine *open_partial(sl_engine_options options, double least)
{
    sl_engine *engine = open_engine(&options);
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    for (uint64_t more = GROWTH; more < 64 * MIB; more += MIB) {
        options.ram_budget_bytes = info.ram_budget_min_bytes + more;
        engine = open_engine(&options);
        if (density_of(engine) > least && density_of(engine) < 1)
            return engine;
        sl_engine_close(engine);
    }
    fail_msg("no budget keeps a part of the neurons above %g", least);
    return NULL;
}

static void eval(sl_session *session, uint32_t position, size_t count, unsigned flags, float *out)
{
    sl_token_id tokens[PROMPT + DRAFTS];
    const float *logits;
    sl_error err = {0};
    for (size_t i = 0; i < count; i++)
        tokens[i] = token_at(position + (uint32_t)i);
    check(sl_session_eval(session, tokens, count, flags, &logits, &err), &err);
    if (out != NULL)
        memcpy(out, logits, VOCAB * sizeof *out);
}

static void truncate_to(sl_session *session, uint32_t position)
{
    sl_error err = {0};
    check(sl_session_truncate(session, position, &err), &err);
}

static void assert_same(const float *got, const float *wanted, const char *what)
{
    for (uint32_t i = 0; i < VOCAB; i++)
        if (memcmp(&got[i], &wanted[i], sizeof *got) != 0)
            fail_msg("%s: logit %u is %a, not %a", what, i, (double)got[i], (double)wanted[i]);
}

/* ---- what they compute ---- */

/* Drafts from an empty session on are what the masked model gives when it is run dense. */
static void check_drafts(sl_engine *engine, const files *f, const char *what)
{
    static float drafted[DRAFTS][VOCAB], wanted[VOCAB];
    sl_session *session = open_session(engine);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS, NULL); /* the homes are filled */
    truncate_to(session, 0);
    for (uint32_t i = 0; i < DRAFTS; i++)
        eval(session, i, 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS, drafted[i]);
    truncate_to(session, 0);
    eval(session, 0, DRAFTS, SL_EVAL_DRAFT | SL_EVAL_LOGITS, wanted);
    assert_same(wanted, drafted[DRAFTS - 1], "several rows in one call");
    write_masked(f, engine);
    close_both(engine, session);

    sl_engine_options options = options_of(f->masked);
    options.draft_resident = false;
    engine = open_engine(&options);
    session = open_session(engine);
    for (uint32_t i = 0; i < DRAFTS; i++) {
        eval(session, i, 1, SL_EVAL_LOGITS, wanted);
        assert_same(drafted[i], wanted, what);
    }
    close_both(engine, session);
}

static void check_model(const tiny_model *model)
{
    files f = write_files(model);
    sl_engine_options options = options_of(f.packed);
    check_drafts(open_engine(&options), &f, "all in memory");
    check_drafts(open_partial(options, 0), &f, "a few neurons");
    options.threads = 3;
    options.isa = NULL;
    options.io_engine = model->tied ? NULL : "pread";
    check_drafts(open_partial(options, 0.4), &f, "three threads, many neurons");
    forget(f);
}

static void a_draft_is_the_dense_row_without_the_neurons_that_are_not_in_memory(void **unused)
{
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0};
    (void)unused;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        tiny_model model = wide_model(types[t]);
        check_model(&model);
    }
}

static void types_may_differ_and_the_head_may_have_a_matrix_of_its_own(void **unused)
{
    tiny_model model = wide_model(SL_TYPE_Q4_0);
    (void)unused;
    model.types[1] = SL_TYPE_Q8_0;
    model.types[2] = SL_TYPE_F16;
    model.tied = false;
    check_model(&model);
}

/* ---- what they leave alone ---- */

static uint64_t bytes_wanted(const sl_engine *engine)
{
    return sl_pager_statistics(engine->pager).bytes_wanted;
}

static uint64_t bytes_without_home(const sl_engine *engine)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < engine->units.count; i++)
        bytes += engine->units.units[i].home ? 0 : engine->units.units[i].bytes;
    return bytes;
}

typedef struct reading {
    uint64_t streamed, read; /* bytes of a pass; of two */
} reading;

/* Logits of a dense pass behind the prompt, with or without drafts in between, and what was read for both passes. */
static reading dense_after(const sl_engine_options *options, unsigned more, uint32_t drafts, float *logits)
{
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    assert_true(density_of(engine) > 0 && density_of(engine) < 1);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS, NULL);
    truncate_to(session, 0);
    uint64_t before = bytes_wanted(engine);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS | more, NULL);
    sli_planned planned = session->next_planned;
    assert_int_equal(planned, more != 0 ? SLI_PLANNED_ALL : SLI_PLANNED_NOTHING);
    for (uint32_t i = 0; i < drafts; i++) {
        uint64_t read = bytes_wanted(engine);
        eval(session, PROMPT + i, 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS, NULL);
        assert_int_equal(session->next_planned, planned);
        assert_true(more != 0 || bytes_wanted(engine) == read);
    }
    truncate_to(session, PROMPT);
    eval(session, PROMPT, 1, SL_EVAL_LOGITS, logits);
    reading r = {bytes_without_home(engine), bytes_wanted(engine) - before};
    assert_int_equal(sl_pager_statistics(engine->pager).demand_reads, 0);
    close_both(engine, session);
    return r;
}

static void a_draft_reads_nothing_and_the_next_dense_pass_does_not_notice_it(void **unused)
{
    static float plain[VOCAB], drafted[VOCAB];
    tiny_model model = wide_model(SL_TYPE_Q8_0);
    (void)unused;
    model.layers = 12; /* what streams must not fit in the staging ring, also where the process gives back a few megabytes */
    files f = write_files(&model);
    for (int three = 0; three < 2; three++)
        for (unsigned more = 0; more <= SL_EVAL_MORE; more += SL_EVAL_MORE) {
            sl_engine_options options = options_of(f.packed);
            options.threads = three ? 3 : 1;
            sl_engine *engine = open_partial(options, 0.2);
            options.ram_budget_bytes = engine->options.ram_budget_bytes;
            sl_engine_close(engine);
            reading without = dense_after(&options, more, 0, plain), with = dense_after(&options, more, DRAFTS, drafted);
            assert_same(drafted, plain, "dense behind drafts");
            assert_true(without.read > 0);
            if (with.streamed == without.streamed) /* else the process has grown in between */
                assert_int_equal(with.read, without.read);
        }
    forget(f);
}

/* With SL_EVAL_MORE a draft starts the reads of the dense pass that follows, if nobody did. */
static void the_last_draft_may_start_the_reads_of_the_check(void **unused)
{
    static float logits[VOCAB], wanted[VOCAB];
    tiny_model model = wide_model(SL_TYPE_F16);
    files f = write_files(&model);
    (void)unused;
    sl_engine *engine = open_partial(options_of(f.packed), 0);
    sl_session *session = open_session(engine);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS, wanted);
    eval(session, PROMPT, 1, SL_EVAL_DRAFT | SL_EVAL_MORE, NULL);
    assert_int_equal(session->next_planned, SLI_PLANNED_ALL);
    truncate_to(session, PROMPT - 1);
    eval(session, PROMPT - 1, 1, SL_EVAL_LOGITS, logits);
    assert_same(logits, wanted, "the prompt's last token once more");
    close_both(engine, session);
    forget(f);
}

/* ---- what stays ---- */

static void all_but_bundles_stay_and_an_equal_prefix_of_each_layer(void **unused)
{
    tiny_model model = wide_model(SL_TYPE_Q8_0);
    files f = write_files(&model);
    (void)unused;
    sl_engine *engine = open_partial(options_of(f.packed), 0.1);
    const sli_units *u = &engine->units;
    uint32_t count = sli_units_of_pass(engine->model, engine->packed, u, false, true, engine->pass_plan), least = UINT32_MAX, most = 0;
    uint64_t neurons = 0;
    for (uint32_t i = 0; i < count; i++)
        assert_true(u->units[engine->pass_plan[i]].home);
    for (uint32_t layer = 0; layer < model.layers; layer++) {
        const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, u, layer);
        uint32_t kept = 0;
        while (kept < m->unit_count && u->units[m->first_unit + kept].home)
            kept++;
        for (uint32_t i = kept; i < m->unit_count; i++)
            assert_false(u->units[m->first_unit + i].home);
        least = kept < least ? kept : least;
        most = kept > most ? kept : most;
        neurons += kept * m->rows_per_unit < m->rows ? kept * m->rows_per_unit : m->rows;
    }
    assert_true(most > 0 && most - least <= 1);
    assert_true(density_of(engine) == (double)neurons / (3.0 * 3072));
    assert_true(engine->price.total_bytes <= engine->options.ram_budget_bytes);
    sl_engine_close(engine);
    forget(f);
}

/* ---- generation ---- */

static sl_result generate(sl_engine *engine, sl_drafting drafting)
{
    sl_token_id tokens[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++)
        tokens[i] = token_at(i);
    sl_request request = {.prompt = tokens,
                          .prompt_count = PROMPT,
                          .max_tokens = 24,
                          .ignore_eos = true,
                          .seed = 9,
                          .temperature = 0.6f,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .drafting = drafting};
    sl_session *session = open_session(engine);
    sl_result result;
    sl_error err = {0};
    check(sl_generate(session, &request, &result, &err), &err);
    close_both(engine, session);
    return result;
}

static void text_drafted_from_memory_is_plain_text(void **unused)
{
    tiny_model model = wide_model(SL_TYPE_Q8_0);
    files f = write_files(&model);
    (void)unused;
    sl_engine_options options = options_of(f.stock);
    options.isa = NULL;
    options.batch = 16;
    sl_result plain = generate(open_engine(&options), (sl_drafting){0});
    options.model_path = f.packed;
    options.draft_max = 5;
    for (int32_t tokens = SL_DRAFT_AUTO; tokens <= 5; tokens += 2) {
        sl_drafting drafting = {.tokens = tokens, .drafter = tokens < 0 ? SL_DRAFTER_AUTO : SL_DRAFTER_MODEL};
        sl_result drafted = generate(open_partial(options, 0.3), drafting);
        assert_int_equal(drafted.count, plain.count);
        assert_memory_equal(drafted.tokens, plain.tokens, plain.count * sizeof *plain.tokens);
        assert_true(tokens < 0 || (drafted.drafts.drafted > 0 && drafted.drafts.drafted_by_lookup == 0));
        sl_result_free(&drafted);
    }
    sl_result_free(&plain);
    forget(f);
}

/* ---- refusals ---- */

static void expect_closed(const sl_engine_options *options, const char *words)
{
    sl_engine *engine;
    sl_error err = {0};
    assert_int_equal(sl_engine_open(options, &engine, &err), SL_INVALID);
    if (strstr(err.message, words) == NULL)
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void expect_no_draft(sl_session *session, const char *words)
{
    sl_token_id token = 1;
    sl_error err = {0};
    uint32_t position = sl_session_position(session);
    assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS, NULL, &err), SL_INVALID);
    if (strstr(err.message, words) == NULL)
        fail_msg("'%s' does not say '%s'", err.message, words);
    assert_int_equal(sl_session_position(session), position);
}

static void keep_last_note(void *ctx, const char *line)
{
    char *kept = ctx;
    if (strstr(line, "drafts") != NULL)
        snprintf(kept, 256, "%s", line);
}

static void drafts_that_cannot_be_are_refused_with_the_reason(void **unused)
{
    tiny_model model = wide_model(SL_TYPE_Q4_0);
    files f = write_files(&model);
    (void)unused;
    sl_engine_options options = options_of(f.stock);
    sl_engine *stock = open_engine(&options);
    assert_true(density_of(stock) == 0); /* nothing tells its neurons apart */
    sl_engine_close(stock);
    options.model_path = f.packed;
    options.sparsity = SL_SPARSITY_COARSE;
    expect_closed(&options, "sparsity");
    options.sparsity = SL_SPARSITY_OFF;
    sl_engine *engine = open_engine(&options);
    sl_session *session = open_session(engine);
    expect_no_draft(session, "first dense pass");
    eval(session, 0, PROMPT, 0, NULL); /* without logits the head stays away */
    expect_no_draft(session, "first dense pass");
    eval(session, PROMPT, 1, SL_EVAL_LOGITS, NULL);
    eval(session, PROMPT + 1, 1, SL_EVAL_DRAFT, NULL);
    close_both(engine, session);
    options.draft_resident = false;
    engine = open_engine(&options);
    session = open_session(engine);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS, NULL);
    expect_no_draft(session, "without draft_resident");
    close_both(engine, session);
    forget(f);
}

/* Attention and head alone are larger than what the least budget has to give. */
static void a_budget_without_room_for_drafts_is_used_as_without_them_and_it_is_said(void **unused)
{
    char note[256] = "";
    tiny_model model = wide_model(SL_TYPE_F32);
    (void)unused;
    model.heads = 32;
    model.head_dim = 64;
    model.d = 512;
    model.ff = 128;
    model.layers = 4;
    files f = write_files(&model);
    sl_engine_options options = options_of(f.packed);
    sl_engine_info info;
    sl_engine *engine = open_engine(&options);
    sl_engine_describe(engine, &info);
    assert_true(info.draft_density == 1);
    sl_engine_close(engine);
    options.ram_budget_bytes = info.ram_budget_min_bytes + 2 * GROWTH;
    options.note = keep_last_note;
    options.note_ctx = note;
    engine = open_engine(&options);
    assert_true(density_of(engine) == 0);
    assert_non_null(strstr(note, "no drafts"));
    sl_session *session = open_session(engine);
    eval(session, 0, PROMPT, SL_EVAL_LOGITS, NULL);
    expect_no_draft(session, "too small");
    close_both(engine, session);
    forget(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_draft_is_the_dense_row_without_the_neurons_that_are_not_in_memory),
        cmocka_unit_test(types_may_differ_and_the_head_may_have_a_matrix_of_its_own),
        cmocka_unit_test(a_draft_reads_nothing_and_the_next_dense_pass_does_not_notice_it),
        cmocka_unit_test(the_last_draft_may_start_the_reads_of_the_check),
        cmocka_unit_test(all_but_bundles_stay_and_an_equal_prefix_of_each_layer),
        cmocka_unit_test(text_drafted_from_memory_is_plain_text),
        cmocka_unit_test(drafts_that_cannot_be_are_refused_with_the_reason),
        cmocka_unit_test(a_budget_without_room_for_drafts_is_used_as_without_them_and_it_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/drafting_runs.h: a tiny model and the same packed, texts of it that drafts and checks make, and what is to hold of them. Needs cmocka's names.
 *
 * Models of random weights: their sets of neurons draft some tokens right and some wrong. Plain decoding on a dense engine is the measure. */
#ifndef SL_TESTS_DRAFTING_RUNS_H
#define SL_TESTS_DRAFTING_RUNS_H

#include "offload/engine.h"
#include "offload/tools/pack.h"
#include "tests/stage.h"
#include "tests/tiny_model.h"

#define MIB ((uint64_t)1 << 20)

enum { VOCAB = 387, CONTEXT = 96, LONGEST = 8 };

static char *stock_path, *packed_path;

static inline int write_models(void **unused)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model.types[0] = SL_TYPE_Q8_0;
    model.types[1] = SL_TYPE_Q4_0;
    stock_path = tiny_path("sirius.gguf");
    packed_path = tiny_path("sirius.packed.gguf");
    if (tiny_write(&model, stock_path, &err) != SL_OK)
        return -1;
    sli_pack_options options = {.in_path = stock_path, .out_path = packed_path, .order = SLI_PACK_RANDOM_ORDER, .seed = 3};
    return sli_pack(&options, NULL, &err) == SL_OK ? 0 : -1;
}

static inline int forget_models(void **unused)
{
    (void)unused;
    unlink(stock_path);
    unlink(packed_path);
    free(stock_path);
    free(packed_path);
    return 0;
}

/* ---- generating ---- */

static inline sl_engine_options dense_options(void)
{
    return (sl_engine_options){.model_path = stock_path, .ram_budget_bytes = 1024 * MIB, .context = CONTEXT, .threads = 1};
}

static inline sl_engine_options drafting_options(sl_sparsity mode)
{
    sl_engine_options options = dense_options();
    options.draft_max = LONGEST;
    options.sparsity = mode;
    options.predictor = SL_PREDICTOR_ORACLE;
    options.density = mode == SL_SPARSITY_OFF ? 0 : 0.7;
    return options;
}

/* Repeats itself, so that there is something to look up. */
static const sl_token_id prompt[] = {5, 99, 200, 7, 5, 99, 200, 8, 31, 5, 99};
#define PROMPT (sizeof prompt / sizeof *prompt)

static inline sl_request request_of(uint32_t most)
{
    return (sl_request){
        .prompt = prompt, .prompt_count = PROMPT, .max_tokens = most, .ignore_eos = true, .seed = 4, .top_p = 1, .repeat_penalty = 1};
}

/* From an empty session. */
static inline sl_result generate(const stage *s, const sl_request *request)
{
    sl_result result;
    sl_error err = {0};
    check(sl_session_truncate(s->session, 0, &err), &err);
    check(sl_generate(s->session, request, &result, &err), &err);
    return result;
}

static inline sl_result generate_plain(const sl_request *request)
{
    sl_engine_options options = dense_options();
    stage s = open_stage(&options);
    sl_result result = generate(&s, request);
    close_stage(&s);
    return result;
}

static inline void check_same(const sl_result *wanted, const sl_result *got, const char *what, int32_t tokens)
{
    for (size_t i = 0; i < wanted->count && i < got->count; i++)
        if (wanted->tokens[i] != got->tokens[i])
            fail_msg("%s, drafts of %d: token %zu is %d, not %d", what, tokens, i, got->tokens[i], wanted->tokens[i]);
    if (wanted->count != got->count || wanted->reason != got->reason || strcmp(wanted->text, got->text) != 0)
        fail_msg("%s, drafts of %d: %zu tokens, not %zu, ended by %s, not %s", what, tokens, got->count, wanted->count,
                 sl_stop_reason_name(got->reason), sl_stop_reason_name(wanted->reason));
}

/* The figures of one generation fit each other. */
static inline void check_figures(const sl_result *r, int32_t tokens)
{
    const sl_draft_stats *d = &r->drafts;
    uint64_t by_depth = 0;
    for (uint32_t i = 0; i < d->depths; i++) {
        by_depth += d->accepted_by_depth[i];
        assert_true(i == 0 || d->accepted_by_depth[i] <= d->accepted_by_depth[i - 1]);
    }
    assert_int_equal(by_depth, d->accepted);
    assert_true(d->accepted <= d->drafted && d->drafted_by_lookup <= d->drafted && d->undrafted <= d->checks);
    assert_true(d->checks + d->accepted >= r->decode_tokens); /* what came behind the end counts, too */
    assert_true(tokens < 0 || d->drafted <= d->checks * (uint64_t)tokens);
    assert_true(d->draft_s >= 0 && d->check_s > 0 && d->wait_s >= 0 && d->wait_s <= d->check_s);
}

typedef struct tally {
    uint64_t accepted, refused, by_lookup;
} tally;

/* Compares texts that drafts made with the plain one, and adds up what became of the drafts. */
typedef void drafts_check(const stage *s, const sl_request *request, const sl_result *plain, const char *what, tally *seen);

static inline void check_filters(const sl_engine_options *options, drafts_check *holds)
{
    static const struct {
        float temperature, top_p, min_p, penalty;
        int32_t top_k;
    } ways[] = {{0, 1, 0, 1, 0}, {0, 1, 0, 1.3f, 0}, {0.8f, 1, 0, 1, 0}, {0.8f, 0.9f, 0, 1, 40}, {0.3f, 0.95f, 0.05f, 1.2f, 0}};
    stage s = open_stage(options);
    tally seen = {0};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        sl_request request = request_of(28);
        request.temperature = ways[w].temperature;
        request.top_p = ways[w].top_p;
        request.min_p = ways[w].min_p;
        request.repeat_penalty = ways[w].penalty;
        request.repeat_last_n = 16;
        request.top_k = ways[w].top_k;
        sl_result plain = generate_plain(&request);
        holds(&s, &request, &plain, "filters", &seen);
        sl_result_free(&plain);
    }
    assert_true(seen.accepted > 100 && seen.refused > 100 && seen.by_lookup > 20);
    close_stage(&s);
}

/* An interrupt at each layer of each pass in turn; then the text goes on from what was given. */
typedef struct tripwire {
    sl_engine *engine;
    int left;
} tripwire;

static inline void trip(void *ctx, uint32_t layer, const float *x, uint32_t rows)
{
    tripwire *t = ctx;
    (void)layer;
    (void)x;
    (void)rows;
    if (--t->left == 0)
        sl_engine_interrupt(t->engine);
}

/* An interrupt at each layer in turn, drafting or checking, of a generation with `how`. */
static inline void interrupt_anywhere(const sl_engine_options *options, const sl_drafting *how)
{
    enum { ALL = 14 };
    stage s = open_stage(options);
    sl_request request = request_of(ALL);
    request.temperature = 0.4f;
    sl_result plain = generate_plain(&request);
    bool over = false;
    int broken = 0;
    for (int at = 1; !over; at++) {
        tripwire wire = {s.engine, at};
        sl_result first, rest = {0};
        sl_error err = {0};
        s.engine->observer = (sli_observer){.see = trip, .ctx = &wire};
        request = request_of(ALL);
        request.temperature = 0.4f;
        request.drafting = *how;
        check(sl_session_truncate(s.session, 0, &err), &err);
        sl_status status = sl_generate(s.session, &request, &first, &err);
        s.engine->observer = (sli_observer){0};
        over = status == SL_OK;
        assert_true(over || status == SL_INTERRUPTED);
        assert_memory_equal(first.tokens, plain.tokens, first.count * sizeof *plain.tokens);
        assert_int_equal(sl_session_position(s.session), first.count > 0 ? PROMPT + first.count - 1 : 0);
        if (!over && first.count > 0) {
            broken++;
            request.prompt = &first.tokens[first.count - 1];
            request.prompt_count = 1;
            request.max_tokens = (uint32_t)(ALL - first.count);
            check(sl_generate(s.session, &request, &rest, &err), &err);
            assert_int_equal(rest.count, ALL - first.count);
            assert_memory_equal(rest.tokens, plain.tokens + first.count, rest.count * sizeof *plain.tokens);
        }
        sl_result_free(&first);
        sl_result_free(&rest);
    }
    assert_true(broken > 20);
    sl_result_free(&plain);
    close_stage(&s);
}

#endif

/* tests/test_sirius.c: that drafts and checks give the text of plain decoding, whoever drafts and however badly, and leave the session as plain
 * decoding would. */
#include "offload/sirius.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/drafting_runs.h"

/* `request` with every number of tokens and every drafter that the engine has. */
static void check_all_drafts(const stage *s, const sl_request *request, const sl_result *plain, const char *what, tally *seen)
{
    sl_engine_info info;
    sl_engine_describe(s->engine, &info);
    int last = strcmp(info.sparsity, "off") == 0 ? SL_DRAFTER_LOOKUP : SL_DRAFTER_MIXED;
    assert_int_equal(info.draft_max, LONGEST);
    for (int drafter = SL_DRAFTER_AUTO; drafter <= last; drafter++)
        for (int32_t tokens = SL_DRAFT_AUTO; tokens <= LONGEST; tokens++) {
            sl_request drafted = *request;
            if (tokens == 0)
                continue; /* plain decoding, with an engine's sets where it has them */
            drafted.drafting = (sl_drafting){.tokens = tokens, .drafter = (sl_drafter)drafter};
            sl_result result = generate(s, &drafted);
            check_same(plain, &result, what, tokens);
            check_figures(&result, tokens);
            assert_int_equal(sl_session_position(s->session), PROMPT + result.count - (result.reason != SL_STOP_EOS));
            seen->accepted += result.drafts.accepted;
            seen->refused += result.drafts.drafted - result.drafts.accepted;
            seen->by_lookup += result.drafts.drafted_by_lookup;
            sl_result_free(&result);
        }
}

/* ---- tests ---- */

static void drafted_text_is_plain_text_at_any_temperature_and_with_any_filter(void **unused)
{
    (void)unused;
    for (int mode = SL_SPARSITY_OFF; mode <= SL_SPARSITY_FINE; mode++) {
        sl_engine_options options = drafting_options((sl_sparsity)mode);
        check_filters(&options, check_all_drafts);
    }
}

static void budgets_threads_and_packed_files_do_not_show(void **unused)
{
    sl_request request = request_of(24);
    (void)unused;
    request.temperature = 0.5f;
    sl_result plain = generate_plain(&request);
    for (int way = 0; way < 8; way++) {
        static const sl_sparsity modes[] = {SL_SPARSITY_OFF, SL_SPARSITY_COARSE};
        sl_engine_options options = drafting_options(modes[way % 2]);
        options.model_path = way / 2 % 2 ? packed_path : stock_path;
        options.threads = 1 + (uint32_t)way % 3;
        if (way >= 4) {
            options.io_engine = "pread";
            options.ram_budget_bytes = minimum_budget(options) + 2 * GROWTH;
        }
        stage s = open_stage(&options);
        tally seen = {0};
        check_all_drafts(&s, &request, &plain, "budgets", &seen);
        assert_true(seen.accepted > 10 && seen.refused > 10);
        close_stage(&s);
    }
    sl_result_free(&plain);
}

static void the_length_asked_for_and_a_full_context_end_drafts_too(void **unused)
{
    sl_engine_options options = drafting_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    tally seen = {0};
    (void)unused;
    for (uint32_t most = 1; most <= 11; most++) {
        sl_request request = request_of(most);
        sl_result plain = generate_plain(&request);
        if (most > 1)
            check_all_drafts(&s, &request, &plain, "lengths", &seen);
        sl_result_free(&plain);
    }
    sl_request request = request_of(0);
    sl_result plain = generate_plain(&request);
    assert_int_equal(plain.reason, SL_STOP_CONTEXT);
    assert_int_equal(plain.count, CONTEXT - PROMPT + 1);
    check_all_drafts(&s, &request, &plain, "a full context", &seen);
    assert_int_equal(sl_session_position(s.session), CONTEXT);
    sl_result_free(&plain);
    close_stage(&s);
}

static void a_stop_string_ends_the_text_in_the_middle_of_a_check(void **unused)
{
    sl_engine_options options = drafting_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    tally seen = {0};
    sl_request request = request_of(28);
    (void)unused;
    sl_result all = generate_plain(&request);
    for (size_t from = 1; from + 3 < all.text_length; from += 5) {
        char stop[4] = {0};
        const char *stops[] = {stop};
        memcpy(stop, all.text + from, 3);
        if (strlen(stop) < 3)
            continue;
        request.stop = stops;
        request.stop_count = 1;
        sl_result plain = generate_plain(&request);
        check_all_drafts(&s, &request, &plain, "stop strings", &seen);
        sl_result_free(&plain);
    }
    sl_result_free(&all);
    close_stage(&s);
}

static void an_interrupt_anywhere_leaves_checked_text_that_goes_on(void **unused)
{
    sl_engine_options options = drafting_options(SL_SPARSITY_COARSE);
    (void)unused;
    interrupt_anywhere(&options, &(sl_drafting){.tokens = 3, .drafter = SL_DRAFTER_MIXED});
}

/* ---- scripts ---- */

/* Drafts what is right up to a depth that the script says, and then something else. */
typedef struct script {
    const sl_token *truth;
    uint32_t start, right, most;
} script;

static sli_source offer_script(sli_drafter *d, const sli_draft_text *text)
{
    (void)d;
    (void)text;
    return SLI_SOURCE_LOOKUP_4;
}

static script *playing; /* the loop has a copy of its drafter, which has no place for a context */

static sl_status propose_script(sli_drafter *d, const sli_draft_text *text, uint32_t most, sl_token *out, uint32_t *count, sl_error *err)
{
    const script *s = playing;
    uint32_t after = text->session->position + 1 - s->start;
    (void)d;
    (void)err;
    *count = s->most < most ? s->most : most;
    for (uint32_t i = 0; i < *count; i++)
        out[i] = i < s->right ? s->truth[after + i] : (s->truth[after + i] + 1 + (sl_token)i) % 384;
    return SL_OK;
}

/* Random scripts. After each step the session is compared with what a simple account of it says; at the end its keys and values are those of
 * plain decoding, bit by bit. */
static void any_script_of_right_and_wrong_drafts_leaves_the_cache_of_plain_decoding(void **unused)
{
    enum { ALL = CONTEXT - PROMPT };
    sl_request request = request_of(0);
    sl_engine_options dense = dense_options(), options = drafting_options(SL_SPARSITY_OFF);
    stage plain = open_stage(&dense), s = open_stage(&options);
    sl_result truth = generate(&plain, &request);
    sl_sampler *sampler;
    const sl_sampling greedy = {.top_p = 1, .repeat_penalty = 1};
    sl_error err = {0};
    uint32_t seed = 1;
    (void)unused;
    check(sl_sampler_create(&greedy, VOCAB, &sampler, &err), &err);
    sli_picker picker = {.sampler = sampler};
    for (sl_token id = 0; id < VOCAB; id++)
        if (sl_engine_ends_generation(s.engine, id))
            picker.forbidden[picker.forbidden_count++] = id;
    for (int round = 0; round < 30; round++) {
        const sl_request wish = {.drafting = {.tokens = LONGEST, .drafter = SL_DRAFTER_LOOKUP}};
        sl_draft_stats stats = {0};
        sli_sirius loop;
        script played = {.truth = truth.tokens, .start = PROMPT};
        playing = &played;
        check(sl_session_truncate(s.session, 0, &err), &err);
        check(sl_session_eval(s.session, prompt, PROMPT, SL_EVAL_MORE, NULL, &err), &err);
        check(sli_sirius_open(s.session, &wish, &picker, &stats, &loop, &err), &err);
        loop.drafters[0] = (sli_drafter){.offer = offer_script, .propose = propose_script};
        uint32_t at = 0; /* truth.tokens[at] is the text's last, not evaluated */
        while (at + 1 < ALL) {
            seed = seed * 1664525u + 1013904223u;
            played.most = (seed >> 8) % (LONGEST + 1);
            played.right = (seed >> 16) % (LONGEST + 1);
            uint32_t most = ALL - 1 - at, count, room = most - 1;
            check(sli_sirius_step(&loop, truth.tokens[at], most, &count, &err), &err);
            uint32_t drafted = played.most < room ? played.most : room;
            uint32_t accepted = played.right < drafted ? played.right : drafted;
            assert_int_equal(count, accepted + 1);
            assert_memory_equal(loop.given, truth.tokens + at + 1, count * sizeof *loop.given);
            at += count;
            assert_int_equal(sl_session_position(s.session), PROMPT + at);
        }
        assert_int_equal(at, ALL - 1);
        assert_int_equal(stats.checks + stats.accepted, ALL - 1);
        const sli_kv *a = &plain.session->kv, *b = &s.session->kv;
        assert_int_equal(a->arena_bytes, b->arena_bytes);
        check(sl_session_eval(s.session, &truth.tokens[at], 1, 0, NULL, &err), &err); /* the last position holds a refused draft, perhaps */
        assert_memory_equal(a->arena, b->arena, a->arena_bytes);
        sli_sirius_close(&loop);
        free(stats.accepted_by_depth);
    }
    sl_sampler_destroy(sampler);
    sl_result_free(&truth);
    close_stage(&s);
    close_stage(&plain);
}

/* ---- the lossy policy ---- */

static void a_tau_of_1_is_greedy_and_a_tau_of_0_takes_every_draft(void **unused)
{
    sl_engine_options options = drafting_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    sl_request request = request_of(40);
    (void)unused;
    sl_result plain = generate_plain(&request);
    request.drafting = (sl_drafting){
        .tokens = 4, .drafter = SL_DRAFTER_MODEL, .accept = SL_ACCEPT_THRESHOLD, .tau = 1, .tau_temperature = 0.6f};
    sl_result strict = generate(&s, &request);
    check_same(&plain, &strict, "tau 1", 4);
    request.drafting.tau = 0;
    sl_result lax = generate(&s, &request);
    assert_true(lax.drafts.accepted == lax.drafts.drafted && lax.drafts.checks == 8);
    assert_memory_not_equal(lax.tokens, plain.tokens, plain.count * sizeof *plain.tokens);
    sl_result_free(&plain);
    sl_result_free(&strict);
    sl_result_free(&lax);
    close_stage(&s);
}

#if defined(__SANITIZE_ADDRESS__)
enum { SEEDS = 600 }; /* it is slow */
#else
enum { SEEDS = 3000 };
#endif

/* Tokens of many seeds, plain and drafted, at each place of the text: two samples of one distribution, by chi-squared at one in ten thousand. */
static void rejection_sampling_gives_the_distribution_of_plain_decoding(void **unused)
{
    enum { PLACES = 4, FEW = 30 };
    static const struct {
        float top_p, min_p;
        int32_t top_k;
    } ways[] = {{1, 0, 12}, {0.8f, 0, 40}, {1, 0.2f, 20}};
    sl_engine_options dense = dense_options(), options = drafting_options(SL_SPARSITY_COARSE);
    stage plain = open_stage(&dense), s = open_stage(&options);
    (void)unused;
    for (size_t w = 0; w < 3; w++) {
        static uint32_t count[2][PLACES][VOCAB];
        uint64_t accepted = 0, refused = 0, differing = 0;
        memset(count, 0, sizeof count);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            sl_request request = request_of(PLACES);
            request.temperature = 0.7f;
            request.top_p = ways[w].top_p;
            request.min_p = ways[w].min_p;
            request.top_k = ways[w].top_k;
            request.seed = seed;
            sl_result a = generate(&plain, &request);
            request.drafting = (sl_drafting){.tokens = 3, .accept = SL_ACCEPT_SAMPLE};
            request.seed = seed + SEEDS; /* of its own, so that the samples are independent */
            sl_result b = generate(&s, &request);
            for (int i = 0; i < PLACES; i++) {
                count[0][i][a.tokens[i]]++;
                count[1][i][b.tokens[i]]++;
            }
            differing += memcmp(a.tokens, b.tokens, PLACES * sizeof *a.tokens) != 0;
            accepted += b.drafts.accepted;
            refused += b.drafts.drafted - b.drafts.accepted;
            sl_result_free(&a);
            sl_result_free(&b);
        }
        assert_true(accepted > SEEDS / 4 && refused > SEEDS / 4 && differing > SEEDS / 4);
        for (int i = 0; i < PLACES; i++) {
            double chi = 0, rest[2] = {0, 0};
            int cells = 0;
            for (int id = 0; id <= VOCAB; id++) {
                double a = id < VOCAB ? count[0][i][id] : rest[0], b = id < VOCAB ? count[1][i][id] : rest[1];
                if (id < VOCAB && a + b < FEW) { /* the rare ones together */
                    rest[0] += a;
                    rest[1] += b;
                    continue;
                }
                chi += a + b > 0 ? (a - b) * (a - b) / (a + b) : 0;
                cells++;
            }
            /* Wilson and Hilferty's bound for cells - 1 degrees of freedom at 3.7 standard deviations */
            double df = cells > 1 ? cells - 1 : 1, root = 1 - 2 / (9 * df) + 3.7 * sqrt(2 / (9 * df));
            if (chi > df * root * root * root)
                fail_msg("way %zu, place %d: chi-squared %.1f with %d cells", w, i, chi, cells);
        }
    }
    close_stage(&s);
    close_stage(&plain);
}

static void wishes_that_cannot_be_met_are_refused(void **unused)
{
    static const struct {
        sl_drafting wish;
        const char *said;
    } wrong[] = {{{.tokens = LONGEST + 1}, "at most 8"},
                 {{.tokens = -2}, "-2"},
                 {{.tokens = 2, .drafter = SL_DRAFTER_MODEL}, "sparsity"},
                 {{.tokens = 2, .drafter = (sl_drafter)9}, "drafter 9"},
                 {{.tokens = 2, .accept = (sl_accept)5}, "policy 5"},
                 {{.tokens = 2, .accept = SL_ACCEPT_SAMPLE}, "top-k"},
                 {{.tokens = 2, .accept = SL_ACCEPT_THRESHOLD, .tau = 2, .tau_temperature = 1}, "tau"}};
    sl_engine_options options = drafting_options(SL_SPARSITY_OFF);
    stage s = open_stage(&options);
    const float *logits;
    sl_error err = {0};
    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_request request = request_of(3);
        sl_result result;
        request.drafting = wrong[i].wish;
        assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INVALID);
        if (strstr(err.message, wrong[i].said) == NULL)
            fail_msg("%s does not say: %s", err.message, wrong[i].said);
        assert_int_equal(sl_session_position(s.session) + result.count, 0);
        sl_result_free(&result);
    }
    assert_int_equal(sl_session_eval(s.session, prompt, LONGEST + 2, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS, &logits, &err), SL_INVALID);
    assert_int_equal(sl_session_eval(s.session, prompt, LONGEST + 1, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS, &logits, &err), SL_OK);
    close_stage(&s);
}

/* A check is one pass, within the context; where the budget has no room for its logits there are no drafts, and the same text. */
static void the_engine_grants_the_drafts_that_fit(void **unused)
{
    sl_engine_options options = drafting_options(SL_SPARSITY_OFF);
    sl_request request = request_of(12);
    sl_engine_info info;
    (void)unused;
    sl_result plain = generate_plain(&request);
    static const struct {
        uint32_t wished, batch, context, granted;
    } cases[] = {{8, 0, 0, 8}, {8, 5, 0, 4}, {8, 1, 0, 0}, {200, 0, 24, 23}, {200, 0, 0, CONTEXT - 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options.draft_max = cases[i].wished;
        options.batch = cases[i].batch;
        options.context = cases[i].context != 0 ? cases[i].context : CONTEXT;
        stage s = open_stage(&options);
        sl_engine_describe(s.engine, &info);
        assert_int_equal(info.draft_max, cases[i].granted);
        assert_true(info.batch > info.draft_max);
        request.drafting.tokens = SL_DRAFT_AUTO;
        sl_result result = generate(&s, &request);
        check_same(&plain, &result, "what is granted", SL_DRAFT_AUTO);
        sl_result_free(&result);
        close_stage(&s);
    }
    sl_result_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafted_text_is_plain_text_at_any_temperature_and_with_any_filter),
        cmocka_unit_test(budgets_threads_and_packed_files_do_not_show),
        cmocka_unit_test(the_length_asked_for_and_a_full_context_end_drafts_too),
        cmocka_unit_test(a_stop_string_ends_the_text_in_the_middle_of_a_check),
        cmocka_unit_test(an_interrupt_anywhere_leaves_checked_text_that_goes_on),
        cmocka_unit_test(any_script_of_right_and_wrong_drafts_leaves_the_cache_of_plain_decoding),
        cmocka_unit_test(a_tau_of_1_is_greedy_and_a_tau_of_0_takes_every_draft),
        cmocka_unit_test(rejection_sampling_gives_the_distribution_of_plain_decoding),
        cmocka_unit_test(wishes_that_cannot_be_met_are_refused),
        cmocka_unit_test(the_engine_grants_the_drafts_that_fit),
    };
    return cmocka_run_group_tests(tests, write_models, forget_models);
}

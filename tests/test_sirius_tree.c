/* tests/test_sirius_tree.c: that drafts which branch, and their checks, give the text of plain decoding, and leave the session as that would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/drafting_runs.h"

enum { TREE_ROWS = 24 };

static sl_engine_options tree_options(sl_sparsity mode)
{
    sl_engine_options options = drafting_options(mode);
    options.draft_max = TREE_ROWS - 1;
    return options;
}

/* `request` with trees of every kind, by the model alone and with lookups. */
static void check_all_trees(const stage *s, const sl_request *request, const sl_result *plain, const char *what, tally *seen)
{
    static const sl_drafting trees[] = {{.tokens = 6, .tree = 2},
                                        {.tokens = 7, .tree = 3},
                                        {.tokens = 1, .tree = 16},
                                        {.tokens = 8, .tree = SL_TREE_BEST, .tree_rows = 24},
                                        {.tokens = 3, .tree = SL_TREE_BEST, .tree_rows = 7},
                                        {.tokens = 6, .tree = SL_TREE_BEST, .tree_rows = 16, .least_chance = 0.05f}};
    for (size_t t = 0; t < sizeof trees / sizeof *trees; t++)
        for (int drafter = SL_DRAFTER_MODEL; drafter <= SL_DRAFTER_MIXED; drafter++) {
            sl_request drafted = *request;
            drafted.drafting = trees[t];
            drafted.drafting.drafter = (sl_drafter)drafter;
            sl_result result = generate(s, &drafted);
            check_same(plain, &result, what, (int32_t)t);
            check_figures(&result, TREE_ROWS);
            assert_int_equal(sl_session_position(s->session), PROMPT + result.count - (result.reason != SL_STOP_EOS));
            seen->accepted += result.drafts.accepted;
            seen->refused += result.drafts.drafted - result.drafts.accepted;
            seen->by_lookup += result.drafts.drafted_by_lookup;
            sl_result_free(&result);
        }
}

static void text_of_trees_is_plain_text_at_any_temperature_and_with_any_filter(void **unused)
{
    (void)unused;
    for (int mode = SL_SPARSITY_COARSE; mode <= SL_SPARSITY_FINE; mode++) {
        sl_engine_options options = tree_options((sl_sparsity)mode);
        check_filters(&options, check_all_trees);
    }
}

static void budgets_and_packed_files_do_not_show_in_text_of_trees(void **unused)
{
    sl_request request = request_of(24);
    (void)unused;
    request.temperature = 0.8f;
    sl_result plain = generate_plain(&request);
    for (int way = 0; way < 4; way++) {
        sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
        options.model_path = way % 2 ? packed_path : stock_path;
        options.threads = 1 + (uint32_t)way % 3;
        if (way >= 2) {
            options.io_engine = "pread";
            options.ram_budget_bytes = minimum_budget(options) + 3 * GROWTH;
        }
        stage s = open_stage(&options);
        tally seen = {0};
        check_all_trees(&s, &request, &plain, "budgets", &seen);
        assert_true(seen.accepted > 10 && seen.refused > 10);
        close_stage(&s);
    }
    sl_result_free(&plain);
}

static void the_length_asked_for_and_a_full_context_end_trees_too(void **unused)
{
    sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    tally seen = {0};
    (void)unused;
    for (uint32_t most = 2; most <= 11; most += 3) {
        sl_request request = request_of(most);
        sl_result plain = generate_plain(&request);
        check_all_trees(&s, &request, &plain, "lengths", &seen);
        sl_result_free(&plain);
    }
    sl_request request = request_of(0);
    sl_result plain = generate_plain(&request);
    check_all_trees(&s, &request, &plain, "a full context", &seen);
    assert_int_equal(sl_session_position(s.session), CONTEXT);
    sl_result_free(&plain);
    close_stage(&s);
}

/* While levels are drafted, and while trees are checked. */
static void an_interrupt_anywhere_in_a_tree_leaves_checked_text_that_goes_on(void **unused)
{
    sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
    (void)unused;
    interrupt_anywhere(&options, &(sl_drafting){.tokens = 3, .drafter = SL_DRAFTER_MIXED, .tree = SL_TREE_BEST, .tree_rows = 9});
}

static void a_tau_of_0_keeps_a_path_of_every_depth_of_a_tree(void **unused)
{
    sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    sl_request request = request_of(40);
    (void)unused;
    sl_result plain = generate_plain(&request);
    request.drafting = (sl_drafting){
        .tokens = 4, .tree = 3, .drafter = SL_DRAFTER_MODEL, .accept = SL_ACCEPT_THRESHOLD, .tau = 1, .tau_temperature = 0.6f};
    sl_result strict = generate(&s, &request);
    check_same(&plain, &strict, "tau 1", 4);
    request.drafting.tau = 0;
    sl_result lax = generate(&s, &request);
    assert_int_equal(lax.drafts.checks, 8); /* 40 tokens: one from the prompt, 7 checks that give 5, and the rest */
    assert_int_equal(lax.drafts.accepted, 7 * 4 + 3);
    assert_memory_not_equal(lax.tokens, plain.tokens, plain.count * sizeof *plain.tokens);
    sl_result_free(&plain);
    sl_result_free(&strict);
    sl_result_free(&lax);
    close_stage(&s);
}

static void unsure_drafts_end_early_and_change_no_text(void **unused)
{
    sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    sl_request request = request_of(40);
    (void)unused;
    sl_result plain = generate_plain(&request);
    uint64_t drafted[2][2];
    for (int tree = 0; tree < 2; tree++)
        for (int unsure = 0; unsure < 2; unsure++) {
            request.drafting = (sl_drafting){
                .tokens = 6, .tree = tree ? 3 : 0, .drafter = SL_DRAFTER_MODEL, .least_chance = unsure ? 0.3f : 0};
            sl_result result = generate(&s, &request);
            check_same(&plain, &result, "unsure drafts", tree);
            drafted[tree][unsure] = result.drafts.drafted / result.drafts.checks;
            sl_result_free(&result);
        }
    assert_true(drafted[0][1] < drafted[0][0] && drafted[1][1] < drafted[1][0]);
    sl_result_free(&plain);
    close_stage(&s);
}

static void trees_that_cannot_be_are_refused(void **unused)
{
    static const struct {
        sl_drafting wish;
        const char *said;
    } wrong[] = {{{.tokens = 6, .tree = 4}, "at most 24"},
                 {{.tokens = 6, .tree = 1}, "width 1"},
                 {{.tokens = 6, .tree = 17}, "width 17"},
                 {{.tokens = SL_DRAFT_AUTO, .tree = 2}, "depth -1"},
                 {{.tokens = 6, .tree = SL_TREE_BEST, .tree_rows = 25}, "at most 24"},
                 {{.tokens = 6, .tree = SL_TREE_BEST, .tree_rows = 1}, "1 rows"},
                 {{.tokens = 6, .tree = 2, .accept = SL_ACCEPT_SAMPLE}, "chains, not trees"},
                 {{.tokens = 6, .tree = 2, .drafter = SL_DRAFTER_LOOKUP}, "a lookup is a chain"},
                 {{.tokens = 6, .tree = 2, .least_chance = 1.5f}, "least chance"}};
    sl_engine_options options = tree_options(SL_SPARSITY_COARSE);
    stage s = open_stage(&options);
    sl_error err = {0};
    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_request request = request_of(3);
        sl_result result;
        request.top_k = 20;
        request.drafting = wrong[i].wish;
        assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INVALID);
        if (strstr(err.message, wrong[i].said) == NULL)
            fail_msg("%s does not say: %s", err.message, wrong[i].said);
        sl_result_free(&result);
    }
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_trees_is_plain_text_at_any_temperature_and_with_any_filter),
        cmocka_unit_test(budgets_and_packed_files_do_not_show_in_text_of_trees),
        cmocka_unit_test(the_length_asked_for_and_a_full_context_end_trees_too),
        cmocka_unit_test(an_interrupt_anywhere_in_a_tree_leaves_checked_text_that_goes_on),
        cmocka_unit_test(a_tau_of_0_keeps_a_path_of_every_depth_of_a_tree),
        cmocka_unit_test(unsure_drafts_end_early_and_change_no_text),
        cmocka_unit_test(trees_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, write_models, forget_models);
}

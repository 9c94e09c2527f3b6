/* tests/test_early_exit.c: tokens that leave the layers early, on a tiny model whose thresholds a test chooses. Dense decoding is the measure: whoever
 * does not leave has its bits, whatever left before. */
#include "offload/early_exit.h"
#include "offload/sirius.h"
#include "offload/tools/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/exit_files.h" /* needs cmocka's names */

static char *stock_path;

static int write_model(void **unused)
{
    (void)unused;
    stock_path = exit_write_model(1536); /* large enough that the least budget does not hold it */
    return 0;
}

static int forget_model(void **unused)
{
    (void)unused;
    unlink(stock_path);
    free(stock_path);
    return 0;
}

static sl_engine_options options_of(const char *path, sl_early_exit kind)
{
    return (sl_engine_options){
        .model_path = path, .ram_budget_bytes = 1024 * MIB, .context = CONTEXT, .threads = 1, .early_exit = kind, .draft_max = 8};
}

static float *walk_densely(void)
{
    bool left[LENGTH];
    sl_engine_options options = options_of(stock_path, SL_EARLY_EXIT_OFF);
    return walk_through(&options, LENGTH, 0, left, NULL);
}

static void check_those_that_stayed(const float *dense, const float *early, const bool *left, const char *what)
{
    for (uint32_t i = 0; i < LENGTH - PROMPT; i++)
        if (!left[i] && memcmp(dense + i * VOCAB, early + i * VOCAB, VOCAB * sizeof *dense) != 0)
            fail_msg("%s: token %u went through all layers and has other logits than densely", what, i);
}

static void tokens_that_go_on_are_what_dense_decoding_makes_of_them(void **state)
{
    (void)state;
    float *dense = walk_densely();
    const float thresholds[] = {SLI_EXIT_NEVER, SOMETIMES, ALWAYS};
    for (int t = 0; t < 3; t++)
        for (uint32_t listed = 0; listed <= LISTED; listed += LISTED) {
            char *path = pack_threshold(stock_path, thresholds[t], listed);
            sl_engine_options options = options_of(path, SL_EARLY_EXIT_GAP);
            for (int b = 0; b < 2; b++) {
                bool left[LENGTH];
                uint32_t count = 0;
                options.ram_budget_bytes = b == 0 ? 1024 * MIB : minimum_budget(options) + MIB; /* asked late: the process grows */
                float *early = walk_through(&options, LENGTH, SL_EVAL_EARLY, left, NULL);
                for (uint32_t i = 0; i < LENGTH - PROMPT; i++)
                    count += left[i];
                check_those_that_stayed(dense, early, left, listed > 0 ? "shortlist" : "whole vocabulary");
                if (t == 0)
                    assert_int_equal(count, 0);
                else if (t == 1)
                    assert_in_range(count, 5, LENGTH - PROMPT - 10);
                else /* every eighth goes through, and takes along those that wait */
                    assert_int_equal(count, LENGTH - PROMPT - (LENGTH - PROMPT) / (SLI_EXIT_WAITING + 1));
                free(early);
            }
            forget(path);
        }
    free(dense);
}

/* ---- what comes without probes ---- */

static void going_back_and_on_densely_finds_nothing_missing(void **state)
{
    (void)state;
    float *dense = walk_densely();
    char *path = pack_threshold(stock_path, SOMETIMES, LISTED);
    sl_engine_options options = options_of(path, SL_EARLY_EXIT_GAP);
    stage s = open_stage(&options);
    go_back_and_on_densely(s.session, dense, LENGTH, 9);
    sl_engine_stats stats;
    sl_engine_measure(s.engine, &stats);
    assert_true(stats.early_exit.catch_ups > 5);
    close_stage(&s);
    forget(path);
    free(dense);
}

static void what_tokens_leave_out_is_not_read(void **state)
{
    (void)state;
    uint64_t bytes[2];
    char *path = pack_threshold(stock_path, ALWAYS, LISTED);
    for (int early = 0; early < 2; early++) {
        sl_engine_options options = options_of(path, SL_EARLY_EXIT_GAP);
        options.ram_budget_bytes = minimum_budget(options);
        stage s = open_stage(&options);
        sl_engine_stats before, after;
        sl_error err = {0};
        sl_token_id tokens[LENGTH];
        for (uint32_t i = 0; i < LENGTH; i++)
            tokens[i] = token_at(i);
        check(sl_session_eval(s.session, tokens, PROMPT, 0, NULL, &err), &err);
        sl_engine_measure(s.engine, &before);
        for (uint32_t i = PROMPT; i < LENGTH - 1; i++)
            check(sl_session_eval(s.session, tokens + i, 1, SL_EVAL_LOGITS | (early ? SL_EVAL_EARLY : 0), NULL, &err), &err);
        sl_engine_measure(s.engine, &after);
        bytes[early] = after.bytes_read - before.bytes_read;
        if (early == 1)
            assert_true(after.early_exit.bytes_left_out > 0 && after.early_exit.bytes_made_up == 0);
        /* As files are read in whole blocks, what was read less is about what is said. */
        if (early == 1)
            assert_true(bytes[0] - bytes[1] > after.early_exit.bytes_left_out / 2);
        close_stage(&s);
    }
    assert_true(bytes[1] < bytes[0] * 3 / 4);
    forget(path);
}

/* ---- generating ---- */

static void as_a_drafter_early_exit_changes_no_token(void **state)
{
    (void)state;
    const float thresholds[] = {ALWAYS, SOMETIMES, SLI_EXIT_NEVER};
    sl_engine_options plain = options_of(stock_path, SL_EARLY_EXIT_OFF);
    uint64_t accepted = 0, drafted = 0;
    for (int hot = 0; hot < 2; hot++) {
        float temperature = hot == 1 ? 0.9f : 0;
        sl_result dense = generate(&plain, 0, SL_DRAFTER_AUTO, temperature, false);
        for (int t = 0; t < 3; t++) {
            char *path = pack_threshold(stock_path, thresholds[t], t == 1 ? 0 : LISTED);
            sl_engine_options options = options_of(path, SL_EARLY_EXIT_GAP);
            for (int tight = 0; tight <= (t == 1); tight++) {
                options.ram_budget_bytes = tight == 1 ? minimum_budget(options) + 2 * MIB : 1024 * MIB;
                for (int32_t n = 1; n <= SL_EXIT_DRAFT_MAX; n += tight == 1 ? 6 : 2) {
                    sl_result got = generate(&options, n, n == 3 ? SL_DRAFTER_MIXED : SL_DRAFTER_MODEL, temperature, false);
                    if (!same(&dense, &got))
                        fail_msg("drafts of %d at threshold %d: another text", n, t);
                    accepted += got.drafts.accepted;
                    drafted += got.drafts.drafted;
                    sl_result_free(&got);
                }
            }
            forget(path);
        }
        sl_result_free(&dense);
    }
    assert_true(accepted > 10 && drafted > accepted); /* of both kinds */
}

static void text_does_not_depend_on_budget_and_all_layers_are_dense(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, SOMETIMES, LISTED);
    sl_engine_options plain = options_of(stock_path, SL_EARLY_EXIT_OFF), options = options_of(path, SL_EARLY_EXIT_GAP);
    sl_result dense = generate(&plain, 0, SL_DRAFTER_AUTO, 0, false), early = generate(&options, 0, SL_DRAFTER_AUTO, 0, false);
    sl_result all = generate(&options, 0, SL_DRAFTER_AUTO, 0, true);
    assert_true(same(&dense, &all));
    assert_false(same(&dense, &early));
    options.ram_budget_bytes = minimum_budget(options);
    options.threads = 2;
    sl_result tight = generate(&options, 0, SL_DRAFTER_AUTO, 0, false);
    assert_true(same(&early, &tight));
    sl_result_free(&dense);
    sl_result_free(&early);
    sl_result_free(&all);
    sl_result_free(&tight);
    forget(path);
}

/* ---- tasks ---- */

/* Likelihoods of the choices, and how many rows could leave. */
static uint64_t answer(const char *path, sl_early_exit kind, char *const texts[2], double log_p[2])
{
    sl_engine_options options = options_of(path, kind);
    sl_engine *engine;
    sl_task_runner runner;
    sl_error err = {0};
    sl_task_outcome outcome;
    sl_engine_stats stats;
    sl_drafting none = {0};
    sl_task_item item = {.form = SL_TASK_CHOICE,
                         .kind = (char[]){"letters"},
                         .context = (char[]){"one two three"},
                         .delimiter = (char[]){""},
                         .texts = {texts[0], texts[1]},
                         .text_count = 2};
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_task_open(engine, kind != SL_EARLY_EXIT_OFF ? SL_EVAL_EARLY : 0, &none, &runner, &err), &err);
    check(sl_task_run(&runner, &item, &outcome, &err), &err);
    memcpy(log_p, outcome.log_p, 2 * sizeof *log_p);
    sl_engine_measure(engine, &stats);
    sl_task_close(&runner);
    sl_engine_close(engine);
    return stats.early_exit.tokens;
}

static void answers_of_one_token_may_leave_early_and_longer_ones_are_scored_densely(void **state)
{
    (void)state;
    char *const single[2] = {(char[]){"!"}, (char[]){"?"}}, *const longer[2] = {(char[]){"!"}, (char[]){"!?!?"}};
    double dense[2], early[2];
    char *path = pack_threshold(stock_path, SLI_EXIT_NEVER, LISTED);
    assert_int_equal(answer(stock_path, SL_EARLY_EXIT_OFF, single, dense), 0);
    assert_int_equal(answer(path, SL_EARLY_EXIT_GAP, single, early), 2);
    assert_memory_equal(early, dense, sizeof dense);
    forget(path);
    path = pack_threshold(stock_path, ALWAYS, LISTED);
    assert_int_equal(answer(path, SL_EARLY_EXIT_GAP, single, early), 2);
    assert_true(early[0] != dense[0] && early[1] != dense[1]);
    (void)answer(stock_path, SL_EARLY_EXIT_OFF, longer, dense);
    assert_int_equal(answer(path, SL_EARLY_EXIT_GAP, longer, early), 0);
    assert_memory_equal(early, dense, sizeof dense);
    forget(path);
}

/* ---- refusals ---- */

static void refused(const sl_engine_options *options, sl_status status, const char *words)
{
    sl_engine *engine;
    sl_error err = {0};
    sl_status got = sl_engine_open(options, &engine, &err);
    if (got != status || strstr(err.message, words) == NULL)
        fail_msg("status %d, \"%s\" where \"%s\" was to be said", (int)got, err.message, words);
}

static void what_does_not_go_with_it_is_refused(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, ALWAYS, LISTED), *without = NULL;
    sl_engine_options o = options_of(path, SL_EARLY_EXIT_SVM);
    o.sparsity = SL_SPARSITY_COARSE;
    refused(&o, SL_INVALID, "does not go with --sparsity");
    o = options_of(path, SL_EARLY_EXIT_SVM);
    o.sparq_k = o.sparq_r = 8;
    refused(&o, SL_INVALID, "does not go with --sparq-k");
    o = options_of(path, SL_EARLY_EXIT_SVM);
    o.kv_spill = "/tmp";
    refused(&o, SL_INVALID, "does not go with --kv-spill");
    o = options_of(path, SL_EARLY_EXIT_SVM);
    o.draft_resident = true;
    refused(&o, SL_INVALID, "does not go with --drafter");
    o = options_of(path, SL_EARLY_EXIT_SVM);
    o.batch = 4;
    refused(&o, SL_INVALID, "wants room for 8 rows");
    o = options_of(path, SL_EARLY_EXIT_SVM);
    o.exit_agreement = 1;
    refused(&o, SL_INVALID, "lies above 0 and below 1");
    o.exit_agreement = 0.999;
    refused(&o, SL_INVALID, "has thresholds for 0.99 at most");
    o = options_of(stock_path, SL_EARLY_EXIT_SVM);
    refused(&o, SL_INVALID, "`sluice calibrate` it with a text, which gives a packed file");
    forget(path);
    without = pack_with(stock_path, NULL, 0);
    o = options_of(without, SL_EARLY_EXIT_SVM);
    refused(&o, SL_INVALID, "holds no exit classifiers");
    forget(without);
}

static void a_damaged_section_is_refused(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *blob = make_blob(ALWAYS, LISTED, &bytes);
    char *path = pack_with(stock_path, blob, bytes - 4);
    sl_engine_options o = options_of(path, SL_EARLY_EXIT_SVM);
    refused(&o, SL_FORMAT, "the exit classifiers have sizes that do not fit together");
    forget(path);
    path = pack_with(stock_path, blob, bytes);
    o.model_path = path;
    sl_gguf *file;
    assert_int_equal(sl_gguf_open(path, &file, NULL), SL_OK);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)sl_gguf_find_tensor(file, SLI_EXIT_TENSOR)->offset + 100, SEEK_SET), 0);
    assert_int_equal(fputc(0x55, f), 0x55);
    fclose(f);
    sl_gguf_close(file);
    refused(&o, SL_FORMAT, "its checksum is not the one that was written");
    forget(path);
    free(blob);
}

static void drafts_that_it_cannot_make_are_refused(void **state)
{
    (void)state;
    char *path = pack_threshold(stock_path, ALWAYS, LISTED);
    sl_engine_options options = options_of(path, SL_EARLY_EXIT_GAP);
    options.draft_max = 24;
    stage s = open_stage(&options);
    const sl_drafting cases[] = {{.tokens = SL_DRAFT_AUTO}, {.tokens = 8}, {.tokens = 3, .tree = 2}};
    for (int i = 0; i < 3; i++) {
        sl_error err = {0};
        sl_result result;
        sl_request request = {.prompt = prompt, .prompt_count = 3, .max_tokens = 4, .top_p = 1, .repeat_penalty = 1, .drafting = cases[i]};
        assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INVALID);
        assert_non_null(strstr(err.message, "chains of a fixed number of tokens, at most 7"));
        sl_result_free(&result);
    }
    close_stage(&s);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_that_go_on_are_what_dense_decoding_makes_of_them),
        cmocka_unit_test(going_back_and_on_densely_finds_nothing_missing),
        cmocka_unit_test(what_tokens_leave_out_is_not_read),
        cmocka_unit_test(as_a_drafter_early_exit_changes_no_token),
        cmocka_unit_test(text_does_not_depend_on_budget_and_all_layers_are_dense),
        cmocka_unit_test(answers_of_one_token_may_leave_early_and_longer_ones_are_scored_densely),
        cmocka_unit_test(what_does_not_go_with_it_is_refused),
        cmocka_unit_test(a_damaged_section_is_refused),
        cmocka_unit_test(drafts_that_it_cannot_make_are_refused),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}

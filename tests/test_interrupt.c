/* tests/test_interrupt.c: Ctrl-C, as the program hears it: also before there is anything to stop. */
#include "offload/cli/cli.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct stage {
    char *path;
    sl_engine *engine;
    sl_session *session;
} stage;

static int open_stage(void **state)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    stage *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -1;
    s->path = tiny_path("interrupt.gguf");
    sl_engine_options options = {.model_path = s->path, .ram_budget_bytes = (uint64_t)1 << 30, .context = 64, .threads = 1};
    if (tiny_write(&model, s->path, &err) != SL_OK || sl_engine_open(&options, &s->engine, &err) != SL_OK ||
        sl_session_open(s->engine, &s->session, &err) != SL_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    *state = s;
    return 0;
}

static int close_stage(void **state)
{
    stage *s = *state;
    cli_forget_interrupt();
    cli_catch_interrupt(NULL);
    sl_session_close(s->session);
    sl_engine_close(s->engine);
    unlink(s->path);
    free(s->path);
    free(s);
    return 0;
}

static sl_status generate(stage *s)
{
    const sl_token_id prompt[] = {1, 2, 3};
    sl_error err = {0};
    sl_result result = {0};
    sl_request request = {.prompt = prompt, .prompt_count = 3, .max_tokens = 4, .ignore_eos = true, .repeat_penalty = 1, .top_p = 1};
    sl_status status = sl_generate(s->session, &request, &result, &err);
    sl_result_free(&result);
    return status;
}

static void a_press_before_there_is_an_engine_stops_its_first_work(void **state)
{
    stage *s = *state;
    cli_catch_interrupt(NULL);
    assert_int_equal(raise(SIGINT), 0);
    assert_true(cli_interrupted());
    cli_catch_interrupt(s->engine);
    assert_int_equal(generate(s), SL_INTERRUPTED);
}

static void one_that_was_answered_stops_nothing_more(void **state)
{
    stage *s = *state;
    cli_catch_interrupt(NULL);
    assert_int_equal(raise(SIGINT), 0);
    cli_forget_interrupt();
    cli_catch_interrupt(s->engine);
    assert_int_equal(generate(s), SL_OK);
}

static void a_press_while_it_works_stops_it_once(void **state)
{
    stage *s = *state;
    cli_catch_interrupt(s->engine);
    assert_int_equal(raise(SIGINT), 0);
    assert_int_equal(generate(s), SL_INTERRUPTED);
    assert_int_equal(generate(s), SL_OK);
    assert_false(cli_terminated());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_press_before_there_is_an_engine_stops_its_first_work, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(one_that_was_answered_stops_nothing_more, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(a_press_while_it_works_stops_it_once, open_stage, close_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

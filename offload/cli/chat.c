/* offload/cli/chat.c: `sluice chat`: a conversation. On a terminal with a prompt, editing and history; from a pipe a message a line. */
#include "core/os.h"
#include "offload/cli/chat_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening ---- */

static sl_status check_usage(const cli_args *a, sl_error *err)
{
    if (a->predict == 0)
        return sl_fail(err, SL_INVALID, "-n 0: it must be at least 1, or -1 for no limit");
    return SL_OK;
}

/* A template that is not known is refused before the first message is typed. */
static sl_status try_template(const cli_chat *c, sl_error *err)
{
    const sl_message nothing = {SL_ROLE_USER, ""};
    char *text;
    SL_TRY(sl_engine_chat_render(c->run.engine, c->args.chat_template, &nothing, 1, &text, err));
    free(text);
    return SL_OK;
}

static sl_status open_all(cli_chat *c, sl_error *err)
{
    sl_engine_options options;
    cli_run_state *s = &c->run;
    SL_TRY(cli_engine_options(s->args, s->warnings, &options, err));
    SL_TRY(check_usage(s->args, err));
    SL_TRY(cli_drafting_options(s->args, &options, &s->drafting, err));
    SL_TRY(cli_choose_seed(s, err));
    options.session_file = s->args->session != NULL;
    SL_TRY(sl_engine_open(&options, &s->engine, err));
    SL_TRY(cli_settle_drafting(s, err));
    cli_settle_exit(s);
    SL_TRY(try_template(c, err));
    SL_TRY(sl_session_open(s->engine, &s->session, err));
    if (s->args->verbose)
        cli_print_division(s->engine);
    SL_TRY(cli_chat_open_session(c, err));
    return c->args.system != NULL && c->message_count == 0 ? cli_chat_add(c, SL_ROLE_SYSTEM, c->args.system, err) : SL_OK;
}

/* ---- a turn ---- */

static void print_statistic(const cli_chat *c)
{
    const sl_result *r = &c->run.result;
    sl_engine_info info;
    sl_engine_stats stats;
    char peak[24], budget[24];
    sl_engine_describe(c->run.engine, &info);
    sl_engine_measure(c->run.engine, &stats);
    sl_format_size(stats.peak_rss_bytes, peak);
    sl_format_size(info.ram_budget_bytes, budget);
    fprintf(
        stderr,
        "%s[%zu tokens, %.2f tokens/s; prompt %llu new of %llu tokens, %.2f s; memory peak %s of %s; context %u of %u; ended by %s]%s\n",
        cli_color() ? "\033[2m" : "", r->count, r->decode_s > 0 ? (double)r->decode_tokens / r->decode_s : 0,
        (unsigned long long)c->prompt_tokens_new, (unsigned long long)c->prompt_tokens, r->prompt_s, peak, budget,
        sl_session_position(c->run.session), info.context, sl_stop_reason_name(r->reason), cli_color() ? "\033[0m" : "");
}

static void tell_full(const cli_chat *c)
{
    sl_engine_info info;
    sl_engine_describe(c->run.engine, &info);
    fprintf(stderr, "sluice: the context of %u tokens is full; /reset begins a new conversation, -c sets a larger one\n", info.context);
}

static bool end_line(cli_chat *c)
{
    if (c->run.write_error == 0 && (putchar('\n') == EOF || fflush(stdout) != 0))
        c->run.write_error = errno != 0 ? errno : EIO;
    return c->run.write_error == 0;
}

/* False when the program is to end: nobody reads the answers any more. */
static bool take_turn(cli_chat *c, const char *text)
{
    sl_error err = {0};
    cli_catch_interrupt(c->run.engine);
    cli_status_begin(c->run.engine);
    sl_status status = cli_chat_turn(c, text, &err);
    cli_status_end();
    cli_catch_interrupt(NULL);
    cli_progress_end();
    bool answered = c->run.result.count > 0 || status == SL_OK;
    if (answered && !end_line(c)) {
        cli_say_write_error(c->run.write_error, "");
        return false;
    }
    if (answered)
        print_statistic(c);
    if (status == SL_FULL || (status == SL_OK && c->run.result.reason == SL_STOP_CONTEXT))
        tell_full(c);
    else if (status != SL_OK && status != SL_INTERRUPTED)
        (void)cli_fail(&c->args, &err);
    c->failed |= status != SL_OK && status != SL_INTERRUPTED;
    return true;
}

/* ---- the loop ---- */

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

/* False at the end of the conversation. */
static bool take_message(cli_chat *c, const char *text)
{
    bool ends;
    if (is_blank(text))
        return true;
    if (cli_chat_command(c, text, &ends))
        return !ends;
    return take_turn(c, text[0] == '/' ? text + 1 : text); /* the second slash of // */
}

static int converse(cli_chat *c)
{
    sl_error err = {0};
    cli_input input = CLI_INPUT_MESSAGE;
    bool goes_on = true;
    while (goes_on && input == CLI_INPUT_MESSAGE) {
        char *text;
        input = cli_chat_read(c, &text, &err);
        if (input == CLI_INPUT_MESSAGE)
            goes_on = take_message(c, text);
        free(text);
        if (cli_interrupted() && (c->editor == NULL || cli_terminated()))
            return CLI_INTERRUPTED;
        cli_forget_interrupt(); /* it stopped the answer */
    }
    if (input == CLI_INPUT_FAILED)
        return cli_fail(&c->args, &err);
    if (input == CLI_INPUT_INTERRUPTED)
        return CLI_INTERRUPTED;
    /* Who types has seen what failed, and gone on; a script has not. */
    return c->run.write_error != 0 || (c->failed && c->editor == NULL) ? CLI_FAILED : CLI_DONE;
}

/* What the conversation leaves: the session's file, also where it was interrupted, and figures of what not every chat has. */
static int end_conversation(cli_chat *c, int result)
{
    sl_error err = {0};
    if (c->run.kept.file != NULL && c->unsaved && cli_chat_save_session(c, &err) != SL_OK)
        result = cli_fail(&c->args, &err);
    cli_print_sparq(c->run.engine);
    cli_print_early_exit(c->run.engine);
    cli_print_session(&c->run);
    return result;
}

int cli_chat_main(const cli_args *args)
{
    cli_chat c = {.args = *args};
    sl_error err = {0};
    int result;
    c.run = (cli_run_state){.args = &c.args, .warnings = json_array()};
    cli_catch_interrupt(NULL);
    if (open_all(&c, &err) != SL_OK) {
        result = cli_fail(args, &err);
    } else if (cli_interrupted()) { /* while the model was opened */
        result = CLI_INTERRUPTED;
    } else {
        c.editor = cli_line_editor_open();
        if (c.editor != NULL)
            fputs("/help lists the commands\n", stderr);
        result = cli_write_observed(args, c.run.engine, end_conversation(&c, converse(&c)));
    }
    cli_chat_input_close(&c);
    cli_chat_forget(&c);
    sl_result_free(&c.run.result);
    sl_session_file_close(c.run.kept.file);
    sl_session_close(c.run.session);
    sl_engine_close(c.run.engine);
    json_decref(c.run.warnings);
    return result;
}

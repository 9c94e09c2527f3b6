/* offload/cli/chat_command.c: what is said to the program and not to the model: lines that begin with a slash. */
#include "core/os.h"
#include "offload/cli/chat_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct chat_command {
    const char *name, *operands, *help;
    sl_status (*run)(cli_chat *c, char *operands, sl_error *err);
} chat_command;

static sl_status print_help(cli_chat *c, char *operands, sl_error *err);

static sl_status reset(cli_chat *c, char *operands, sl_error *err)
{
    (void)operands;
    SL_TRY(cli_chat_reset(c, err));
    fputs("a new conversation\n", stderr);
    return SL_OK;
}

/* ---- /save and /load ---- */

/* Without a name: the session's file, as at the end. */
static sl_status save(cli_chat *c, char *operands, sl_error *err)
{
    bool session = operands[0] == '\0';
    if (session && c->run.kept.file == NULL)
        return sl_fail(err, SL_INVALID, "/save needs a FILE, or a chat with --session");
    SL_TRY(session ? cli_chat_save_session(c, err) : cli_chat_save(c, operands, err));
    fprintf(stderr, "%zu messages saved in %s\n", c->message_count, session ? c->args.session : operands);
    return SL_OK;
}

static sl_status load(cli_chat *c, char *operands, sl_error *err)
{
    if (operands[0] == '\0')
        return sl_fail(err, SL_INVALID, "/load needs a FILE that /save wrote");
    SL_TRY(cli_chat_load(c, operands, err));
    c->unsaved = true;
    fprintf(stderr, "%zu messages from %s\n", c->message_count, operands);
    return SL_OK;
}

/* ---- /stats ---- */

static sl_status print_stats(cli_chat *c, char *operands, sl_error *err)
{
    sl_engine_info info;
    sl_engine_stats stats;
    char peak[24], budget[24], resident[24], weights[24], read[24];
    (void)operands;
    (void)err;
    sl_engine_describe(c->run.engine, &info);
    sl_engine_measure(c->run.engine, &stats);
    sl_format_size(stats.peak_rss_bytes, peak);
    sl_format_size(info.ram_budget_bytes, budget);
    sl_format_size(stats.resident_weight_bytes, resident);
    sl_format_size(info.weight_bytes, weights);
    sl_format_size(stats.bytes_read, read);
    fprintf(stderr, "context  %u of %u tokens, %zu messages\n", sl_session_position(c->run.session), info.context, c->message_count);
    fprintf(stderr, "answers  %u, %u tokens, %.2f tokens/s with their prompts\n", c->turns, c->answered_tokens,
            c->answered_s > 0 ? c->answered_tokens / c->answered_s : 0);
    fprintf(stderr, "memory   peak %s of the %s budget; %s of %s of weights stay\n", peak, budget, resident, weights);
    fprintf(stderr, "disk     %s read in %llu passes over the weights\n", read, (unsigned long long)stats.passes);
    cli_print_sparq(c->run.engine);
    cli_print_kv(c->run.engine);
    cli_print_early_exit(c->run.engine);
    cli_print_session(&c->run);
    return SL_OK;
}

/* ---- /set ---- */

static void print_settings(const cli_chat *c)
{
    const cli_args *a = &c->args;
    fprintf(stderr, "predict %lld, temp %g, top-k %lld, top-p %g, min-p %g, repeat-penalty %g, repeat-last-n %lld, seed %llu\n",
            (long long)a->predict, a->temperature, (long long)a->top_k, a->top_p, a->min_p, a->repeat_penalty, (long long)a->repeat_last_n,
            (unsigned long long)c->run.seed);
}

static sl_status set(cli_chat *c, char *operands, sl_error *err)
{
    char *value = operands + strcspn(operands, " \t=");
    if (operands[0] != '\0') {
        if (*value != '\0')
            *value++ = '\0';
        value += strspn(value, " \t=");
        SL_TRY(cli_set(&c->args, operands, value, err));
        if (c->args.seed_given)
            c->run.seed = c->args.seed;
    }
    print_settings(c);
    return SL_OK;
}

/* ---- which ---- */

static sl_status end(cli_chat *c, char *operands, sl_error *err)
{
    (void)c;
    (void)operands;
    (void)err;
    return SL_OK;
}

static const chat_command commands[] = {
    {"/help", "", "this list", print_help},
    {"/reset", "", "a new conversation; the system message stays", reset},
    {"/save", "FILE", "write the conversation as JSON: a list of messages, each with role and content; alone: the file of --session", save},
    {"/load", "FILE", "go on with a conversation that /save wrote, instead of this one", load},
    {"/stats", "", "what was evaluated, memory and disk so far", print_stats},
    {"/set", "KEY VALUE", "predict, temp, top-k, top-p, min-p, repeat-penalty, repeat-last-n or seed, as the flags; alone: show them", set},
    {"/exit", "", "end; so do Ctrl-D, and Ctrl-C twice", end},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static sl_status print_help(cli_chat *c, char *operands, sl_error *err)
{
    (void)c;
    (void)operands;
    (void)err;
    for (size_t i = 0; i < COMMANDS; i++) {
        char usage[32];
        snprintf(usage, sizeof usage, "%s %s", commands[i].name, commands[i].operands);
        fprintf(stderr, "  %-16s %s\n", usage, commands[i].help);
    }
    fputs("A line that ends in a backslash goes on in the next; so does all between \"\"\" and \"\"\". // begins a message with a slash.\n"
          "Ctrl-C stops an answer.\n",
          stderr);
    return SL_OK;
}

static const chat_command *find(const char *text, size_t length)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strlen(commands[i].name) == length && strncmp(commands[i].name, text, length) == 0)
            return &commands[i];
    return length == 5 && strncmp(text, "/quit", 5) == 0 ? &commands[COMMANDS - 1] : NULL;
}

/* What follows the name, without white space around. */
static char *operands_of(const char *text)
{
    char *copy = strdup(text + strspn(text, " \t"));
    for (size_t n = copy != NULL ? strlen(copy) : 0; n > 0 && strchr(" \t\n", copy[n - 1]); n--)
        copy[n - 1] = '\0';
    return copy;
}

bool cli_chat_command(cli_chat *c, const char *text, bool *ends)
{
    sl_error err = {0};
    *ends = false;
    if (text[0] != '/' || text[1] == '/')
        return false;
    size_t length = strcspn(text, " \t\n");
    const chat_command *command = find(text, length);
    char *operands = operands_of(text + length);
    sl_status status = operands != NULL ? SL_OK : sl_fail(&err, SL_NO_MEMORY, "out of memory for a command");
    if (status == SL_OK && command == NULL)
        status = sl_fail(&err, SL_INVALID, "%.*s: no such command; /help lists them, and // begins a message with a slash",
                         length < 40 ? (int)length : 40, text);
    if (status == SL_OK)
        status = command->run(c, operands, &err);
    *ends = status == SL_OK && command->run == end;
    free(operands);
    if (status != SL_OK)
        (void)cli_fail(&c->args, &err);
    c->failed |= status != SL_OK;
    return true;
}

/* offload/cli/options.c: arguments of the command line into cli_args, by the table of flags. */
#include "core/os.h"
#include "offload/cli/flags.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sl_status parse_number(const cli_flag *f, const char *name, const char *text, double *out, sl_error *err)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    bool counted = f->kind != REAL, whole = !counted || *out == floor(*out);
    if (end == text || *end != '\0' || errno != 0 || !(*out >= f->min && *out <= f->max) || !whole)
        return sl_fail(err, SL_INVALID, "%s %s: it must be a %snumber from %.12g to %.12g", name, text, counted ? "whole " : "", f->min,
                       f->max);
    return SL_OK;
}

static sl_status parse_seed(const char *name, const char *text, cli_args *out, sl_error *err)
{
    char *end;
    errno = 0;
    out->seed = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) /* strtoull would take blanks and signs */
        return sl_fail(err, SL_INVALID, "%s %s: it must be a whole number from 0 to 18446744073709551615; without it run and chat draw one",
                       name, text);
    out->seed_given = true;
    return SL_OK;
}

sl_status cli_store(const cli_flag *f, const char *name, const char *text, cli_args *out, sl_error *err)
{
    char *at = (char *)out + f->at;
    double number = 0;
    int place;
    switch (f->kind) {
    case FLAG: *(bool *)at = true; return SL_OK;
    case WORD: SL_TRY(cli_one_of(name, text, f->words, &place, err)); __attribute__((fallthrough));
    case TEXT:
    case WORD_LIST:
    case PATH:
    case FOLDER: *(const char **)(void *)at = text; return SL_OK;
    case SEED: return parse_seed(name, text, out, err);
    case SIZE_OR_AUTO:
        *(uint64_t *)(void *)at = 0;
        if (strcmp(text, "auto") == 0)
            return SL_OK;
        __attribute__((fallthrough));
    case SIZE:
        if (!sl_parse_size(text, (uint64_t *)(void *)at) || *(uint64_t *)(void *)at == 0)
            return sl_fail(err, SL_INVALID, "%s %s: it must be a size above zero such as 512M, 2G or 1.5G", name, text);
        return SL_OK;
    case COUNT:
    case POSITIONS:
    case REAL:
        SL_TRY(parse_number(f, name, text, &number, err));
        if (f->kind == REAL)
            *(double *)(void *)at = number;
        else
            *(int64_t *)(void *)at = f->kind == POSITIONS && number == 0 ? (int64_t)SL_CONTEXT_MODEL : (int64_t)number;
        return SL_OK;
    case STOPS:
        if (text[0] == '\0' || out->stops == CLI_STOPS_MAX)
            return sl_fail(err, SL_INVALID, "%s: a stop text must not be empty, and there may be %d of them", name, CLI_STOPS_MAX);
        out->stop[out->stops++] = text;
        return SL_OK;
    }
    return SL_INTERNAL;
}

static void set_defaults(cli_args *out)
{
    *out = (cli_args){.predict = -1,
                      .temperature = 0.8,
                      .top_k = 40,
                      .top_p = 0.95,
                      .min_p = 0.05,
                      .repeat_penalty = 1,
                      .repeat_last_n = 64,
                      .seed = 1,
                      .density = -1,
                      .cpu_share = -1,
                      .neurons = -1,
                      .tau = -1,
                      .tau_temperature = -1,
                      .least_chance = -1,
                      .gpu_layers = -1,
                      .exit_every = -1,
                      .exit_shortlist = -1};
}

static sl_status add_list(const cli_flag *f, const char *name, const char *text, cli_args *out, sl_error *err)
{
    if (out->lists == CLI_LISTS_MAX)
        return sl_fail(err, SL_INVALID, "%s: more than %d lists", name, CLI_LISTS_MAX);
    out->list[out->lists++] = (cli_list){f, text};
    return SL_OK;
}

static sl_status refuse_flag(const char *name, const cli_command *c, sl_error *err)
{
    char hint[CLI_HINT_BYTES];
    cli_hint_flag(name, c, hint);
    return hint[0] == '\0' ? sl_fail(err, SL_INVALID, "%s: no such flag; sluice %s --help lists them", name, c->name)
                           : sl_fail(err, SL_INVALID, "%s: no such flag; %s (sluice %s --help lists all)", name, hint, c->name);
}

sl_status cli_check_command(const char *name, sl_error *err)
{
    char hint[CLI_HINT_BYTES];
    if (cli_find_command(name) != NULL)
        return SL_OK;
    cli_hint_command(name, hint);
    return hint[0] == '\0' ? sl_fail(err, SL_INVALID, "%.60s: no such command; sluice --help lists them", name)
                           : sl_fail(err, SL_INVALID, "%.60s: no such command; %s (sluice --help lists all)", name, hint);
}

/* A name that was forgotten: the next flag stands in its place, or a variable of the shell that is not set. */
static sl_status check_path(const cli_flag *f, const char *name, const char *text, bool is_flag, sl_error *err)
{
    if (text[0] == '\0')
        return sl_fail(err, SL_INVALID, "%s needs a value: %s, not an empty one", name, f->value);
    return is_flag ? sl_fail(err, SL_INVALID, "%s needs a value: %s, and %s is a flag", name, f->value, text) : SL_OK;
}

/* One argument: a flag, with its value as the next argument or behind "=" for long ones; or an operand. */
static sl_status parse_one(const cli_command *c, int argc, char **argv, int *index, cli_args *out, sl_error *err)
{
    const char *arg = argv[*index];
    if (arg[0] != '-' || arg[1] == '\0') {
        if (out->operands == c->operands_max)
            return sl_fail(err, SL_INVALID, "%s: one argument too many; usage: sluice %s", arg, c->usage);
        out->operand[out->operands++] = arg;
        return SL_OK;
    }
    char name[40];
    const char *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    if (length >= sizeof name)
        return sl_fail(err, SL_INVALID, "%.60s: no such flag; sluice %s --help lists them", arg, c->name);
    memcpy(name, arg, length);
    name[length] = '\0';
    const cli_flag *f = cli_find_flag(name, c->bit);
    if (f == NULL)
        return refuse_flag(name, c, err);
    if (f->kind == FLAG && equals != NULL)
        return sl_fail(err, SL_INVALID, "%s takes no value", name);
    if (f->kind == FLAG)
        return cli_store(f, name, NULL, out, err);
    if (equals == NULL && *index + 1 >= argc)
        return sl_fail(err, SL_INVALID, "%s needs a value: %s", name, f->value);
    const char *text = equals != NULL ? equals + 1 : argv[++*index];
    if (f->kind == PATH || f->kind == FOLDER)
        SL_TRY(check_path(f, name, text, equals == NULL && cli_find_flag(text, c->bit) != NULL, err));
    bool listed = c->bit == BENCH && (f->commands & LISTED) != 0;
    return listed ? add_list(f, name, text, out, err) : cli_store(f, name, text, out, err);
}

sl_status cli_parse(int argc, char **argv, cli_args *out, sl_error *err)
{
    bool json = false;
    set_defaults(out);
    if (argc < 2)
        return sl_fail(err, SL_INVALID, "no command; sluice --help lists them");
    /* Heeded also behind a mistake: whoever reads JSON can read the failure, too. */
    for (int i = 2; i < argc; i++)
        json |= strcmp(argv[i], "--json") == 0;
    const cli_command *c = cli_find_command(argv[1]);
    out->json = c == NULL && json;
    if (c == NULL)
        return cli_check_command(argv[1], err);
    out->command = c->name;
    sl_status status = SL_OK;
    for (int i = 2; i < argc && status == SL_OK; i++)
        status = parse_one(c, argc, argv, &i, out, err);
    out->json |= status != SL_OK && json && cli_find_flag("--json", c->bit) != NULL;
    return status;
}

sl_status cli_set(cli_args *args, const char *key, const char *value, sl_error *err)
{
    char name[40];
    snprintf(name, sizeof name, "--%.30s", key);
    const cli_flag *f = cli_find_flag(name, SETTABLE);
    if (f == NULL)
        return sl_fail(err, SL_INVALID, "%.30s cannot be set; /help says what can", key);
    cli_args changed = *args;
    SL_TRY(cli_store(f, key, value, &changed, err));
    if (changed.predict == 0)
        return sl_fail(err, SL_INVALID, "predict 0: it must be at least 1, or -1 for no limit");
    *args = changed;
    return SL_OK;
}

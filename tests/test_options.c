/* tests/test_options.c: the program's flags: what each sets, what it refuses, and that help, man page and completion know it.
 *
 * The table below says once more what the program's own table says, so that a flag cannot change or vanish unseen. */
#include "offload/cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN           "run"
#define GENERATE      "run chat"
#define ENGINE        "run chat perplexity"
#define MAKE          "synth widen"
#define JSON          "run perplexity tokenize info synth widen pack unpack"
#define ANY           "run chat perplexity tokenize info synth widen pack unpack"
#define ARGUMENTS_MAX 40

typedef enum kind { FLAG, TEXT, WORD, SIZE, COUNT, POSITIONS, REAL, SEED, STOP } kind;

enum { NAMES = 3 };

static const struct flag {
    const char *names[NAMES]; /* all but the first may be NULL */
    kind kind;
    const char *commands;
    size_t at; /* in cli_args */
    double least, most;
} flags[] = {
    {{"-m", "--model"}, TEXT, "run chat perplexity tokenize widen", offsetof(cli_args, model), 0, 0},
    {{"-p", "--prompt"}, TEXT, "run tokenize", offsetof(cli_args, prompt), 0, 0},
    {{"-f", "--file"}, TEXT, "run tokenize perplexity", offsetof(cli_args, file), 0, 0},
    {{"-sys", "--system-prompt"}, TEXT, GENERATE, offsetof(cli_args, system), 0, 0},
    {{"--chat", NULL}, FLAG, RUN, offsetof(cli_args, chat), 0, 0},
    {{"--chat-template", NULL}, WORD, GENERATE, offsetof(cli_args, chat_template), 0, 0},
    {{"-n", "--predict", "--n-predict"}, COUNT, GENERATE, offsetof(cli_args, predict), -1, 2147483647},
    {{"--ram-budget", NULL}, SIZE, ENGINE, offsetof(cli_args, ram_budget_bytes), 0, 0},
    {{"-c", "--ctx-size"}, POSITIONS, ENGINE, offsetof(cli_args, context), 0, 2147483647},
    {{"-b", "--batch-size"}, COUNT, ENGINE, offsetof(cli_args, batch), 1, 65536},
    {{"-t", "--threads"}, COUNT, ENGINE, offsetof(cli_args, threads), 1, 1024},
    {{"-ctk", "--cache-type-k"}, WORD, ENGINE, offsetof(cli_args, cache_type_k), 0, 0},
    {{"-ctv", "--cache-type-v"}, WORD, ENGINE, offsetof(cli_args, cache_type_v), 0, 0},
    {{"--temp", "--temperature"}, REAL, GENERATE, offsetof(cli_args, temperature), 0, 1000},
    {{"--top-k", NULL}, COUNT, GENERATE, offsetof(cli_args, top_k), 0, 2147483647},
    {{"--top-p", NULL}, REAL, GENERATE, offsetof(cli_args, top_p), 0, 1},
    {{"--min-p", NULL}, REAL, GENERATE, offsetof(cli_args, min_p), 0, 1},
    {{"--repeat-penalty", NULL}, REAL, GENERATE, offsetof(cli_args, repeat_penalty), 0.01, 100},
    {{"--repeat-last-n", NULL}, COUNT, GENERATE, offsetof(cli_args, repeat_last_n), 0, 2147483647},
    {{"-s", "--seed"}, SEED, "run chat synth widen pack", offsetof(cli_args, seed), 0, 0},
    {{"--stop", "-r"}, STOP, GENERATE, offsetof(cli_args, stop), 0, 0},
    {{"--ignore-eos", NULL}, FLAG, GENERATE, offsetof(cli_args, ignore_eos), 0, 0},
    {{"--logprobs", NULL}, COUNT, RUN, offsetof(cli_args, logprobs), 1, 20},
    {{"--chunks", NULL}, COUNT, "perplexity", offsetof(cli_args, chunks), 1, 2147483647},
    {{"--score-last", NULL}, COUNT, "perplexity", offsetof(cli_args, score_last), 1, 2147483647},
    {{"--no-bos", NULL}, FLAG, "tokenize", offsetof(cli_args, no_bos), 0, 0},
    {{"--no-parse-special", NULL}, FLAG, "tokenize run", offsetof(cli_args, no_parse_special), 0, 0},
    {{"--decode", NULL}, FLAG, "tokenize", offsetof(cli_args, decode), 0, 0},
    {{"--ids", NULL}, FLAG, "tokenize", offsetof(cli_args, ids), 0, 0},
    {{"--shape", NULL}, WORD, "synth", offsetof(cli_args, shape), 0, 0},
    {{"--type", NULL}, TEXT, MAKE, offsetof(cli_args, type), 0, 0},
    {{"--factor", NULL}, COUNT, "widen", offsetof(cli_args, factor), 2, 64},
    {{"-o", "--output"}, TEXT, MAKE, offsetof(cli_args, output), 0, 0},
    {{"--order", NULL}, WORD, "pack", offsetof(cli_args, order), 0, 0},
    {{"--verify", NULL}, FLAG, "pack", offsetof(cli_args, verify), 0, 0},
    {{"--force", NULL}, FLAG, MAKE " pack unpack " ENGINE, offsetof(cli_args, force), 0, 0},
    {{"--trace", NULL}, TEXT, ENGINE, offsetof(cli_args, trace), 0, 0},
    {{"--record", NULL}, TEXT, ENGINE, offsetof(cli_args, record), 0, 0},
    {{"--trace-buffer", NULL}, SIZE, ENGINE, offsetof(cli_args, trace_buffer_bytes), 0, 0},
    {{"--isa", NULL}, WORD, ENGINE, offsetof(cli_args, isa), 0, 0},
    {{"--io-engine", NULL}, WORD, ENGINE, offsetof(cli_args, io_engine), 0, 0},
    {{"--io-depth", NULL}, COUNT, ENGINE, offsetof(cli_args, io_depth), 1, 1024},
    {{"--throttle", NULL}, SIZE, ENGINE, offsetof(cli_args, throttle_Bps), 0, 0},
    {{"--buffered", NULL}, FLAG, ENGINE, offsetof(cli_args, buffered), 0, 0},
    {{"--draft", NULL}, TEXT, GENERATE, offsetof(cli_args, draft), 0, 0},
    {{"--drafter", NULL}, WORD, GENERATE, offsetof(cli_args, drafter), 0, 0},
    {{"--accept", NULL}, WORD, GENERATE, offsetof(cli_args, accept), 0, 0},
    {{"--tau", NULL}, REAL, GENERATE, offsetof(cli_args, tau), 0, 1},
    {{"--tau-temperature", NULL}, REAL, GENERATE, offsetof(cli_args, tau_temperature), 0.01, 100},
    {{"--json", NULL}, FLAG, JSON, offsetof(cli_args, json), 0, 0},
    {{"-v", "--verbose"}, FLAG, ENGINE, offsetof(cli_args, verbose), 0, 0},
    {{"-h", "--help"}, FLAG, ANY, offsetof(cli_args, help), 0, 0},
};
enum { FLAGS = sizeof flags / sizeof *flags };

static const char *const commands[] = {"run", "chat", "perplexity", "tokenize", "info", "synth", "widen", "pack", "unpack"};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* ---- helpers ---- */

static sl_status parse(cli_args *args, sl_error *err, const char *const *words)
{
    char *argv[ARGUMENTS_MAX + 1] = {(char *)(uintptr_t) "sluice"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        assert_true(argc < ARGUMENTS_MAX);
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    memset(args, 0xA5, sizeof *args);
    *err = (sl_error){0};
    return cli_parse(argc, argv, args, err);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void check_taken(cli_args *args, const char *const *words)
{
    sl_error err;
    if (parse(args, &err, words) != SL_OK)
        fail_msg("%s %s: %s", words[0], words[1] != NULL ? words[1] : "", err.message);
}

static void check_refused(const char *const *words, const char *said)
{
    cli_args args;
    sl_error err;
    sl_status status = parse(&args, &err, words);
    if (status != SL_INVALID || strstr(err.message, said) == NULL || strchr(err.message, '\n') != NULL)
        fail_msg("%s %s %s: status %d (%s), not \"%s\"", words[0], words[1], words[2] != NULL ? words[2] : "", status, err.message, said);
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        char before = at == text ? ' ' : at[-1], after = at[n];
        if (strchr(" \n\"", before) != NULL && strchr(" ,\n\"", after) != NULL) /* '\0' is found, too */
            return true;
    }
    return false;
}

static bool of_command(const struct flag *f, const char *command)
{
    return has_word(f->commands, command);
}

/* A command that takes the flag. */
static const char *command_of(const struct flag *f)
{
    for (int c = 0; c < COMMANDS; c++)
        if (of_command(f, commands[c]))
            return commands[c];
    fail_msg("%s is of no command", f->names[0]);
    return NULL;
}

/* "-m, --model", or with `assigned`, for those that take a value, "-m,--model=". */
static void join_names(const struct flag *f, const char *between, bool assigned, char out[80])
{
    size_t used = 0;
    for (int n = 0; n < NAMES && f->names[n] != NULL; n++)
        used += (size_t)snprintf(out + used, 80 - used, "%s%s%s", n > 0 ? between : "", f->names[n],
                                 assigned && f->kind != FLAG && f->names[n][1] == '-' ? "=" : "");
}

static const void *field(const cli_args *args, const struct flag *f)
{
    return (const char *)args + f->at;
}

/* One of the words that the flag takes. */
static const char *word_of(const struct flag *f)
{
    static const char *const words[][2] = {{"--chat-template", "zephyr"}, {"-ctk", "q8_0"},       {"-ctv", "bf16"},
                                           {"--shape", "llama-7b"},       {"--order", "random"},  {"--isa", "avx2"},
                                           {"--io-engine", "pread"},      {"--drafter", "mixed"}, {"--accept", "sample"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i][0], f->names[0]) == 0)
            return words[i][1];
    fail_msg("no word of %s", f->names[0]);
    return NULL;
}

/* A value that the flag takes, and which is not its default. */
static const char *value_of(const struct flag *f)
{
    if (f->kind == WORD)
        return word_of(f);
    return f->kind == SIZE                            ? "3M"
           : f->kind == COUNT || f->kind == POSITIONS ? "7"
           : f->kind == REAL                          ? "0.25"
           : f->kind == SEED                          ? "77"
                                                      : "some=text";
}

static void check_field(const cli_args *args, const struct flag *f)
{
    const void *at = field(args, f);
    bool right = true;
    switch (f->kind) {
    case FLAG: right = *(const bool *)at; break;
    case WORD: right = strcmp(*(const char *const *)at, word_of(f)) == 0; break;
    case TEXT:
    case STOP: right = strcmp(*(const char *const *)at, "some=text") == 0; break;
    case SIZE: right = *(const uint64_t *)at == 3u << 20; break;
    case COUNT:
    case POSITIONS: right = *(const int64_t *)at == 7; break;
    case REAL: right = *(const double *)at == 0.25; break;
    case SEED: right = *(const uint64_t *)at == 77 && args->seed_given; break;
    }
    if (!right)
        fail_msg("%s did not set its value", f->names[0]);
}

/* ---- tests ---- */

static void without_flags_the_defaults_are_those_of_the_help(void **state)
{
    (void)state;
    cli_args a;
    check_taken(&a, WORDS("run"));
    assert_string_equal(a.command, "run");
    assert_int_equal(a.predict, -1);
    assert_int_equal(a.top_k, 40);
    assert_int_equal(a.repeat_last_n, 64);
    assert_true(a.temperature == 0.8 && a.top_p == 0.95 && a.min_p == 0.05 && a.repeat_penalty == 1);
    assert_true(a.seed == 1 && !a.seed_given);
    assert_true(a.ram_budget_bytes == 0 && a.throttle_Bps == 0 && a.context == 0 && a.batch == 0 && a.threads == 0 && a.io_depth == 0);
    assert_true(a.model == NULL && a.prompt == NULL && a.isa == NULL && a.io_engine == NULL && a.cache_type_k == NULL);
    assert_true(!a.json && !a.chat && !a.ignore_eos && !a.buffered && !a.help && !a.verbose && !a.force);
    assert_int_equal(a.stops + (size_t)a.operands, 0);
}

static void every_flag_sets_its_value_under_each_name_and_command(void **state)
{
    (void)state;
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        for (int c = 0; c < COMMANDS; c++)
            for (int n = 0; n < NAMES && f->names[n] != NULL; n++) {
                cli_args args;
                if (!of_command(f, commands[c])) {
                    check_refused(WORDS(commands[c], f->names[n], "1"), "no such flag");
                    continue;
                }
                if (f->kind == FLAG)
                    check_taken(&args, WORDS(commands[c], f->names[n]));
                else
                    check_taken(&args, WORDS(commands[c], f->names[n], value_of(f)));
                assert_string_equal(args.command, commands[c]);
                check_field(&args, f);
            }
}

static void long_flags_take_their_value_behind_an_equals_sign_too(void **state)
{
    (void)state;
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        for (int n = 0; n < NAMES && f->names[n] != NULL; n++) {
            cli_args args;
            char word[80];
            const char *name = f->names[n], *command = command_of(f);
            snprintf(word, sizeof word, "%s=%s", name, value_of(f));
            if (name[1] != '-') {
                check_refused(WORDS(command, word), "no such flag");
            } else if (f->kind == FLAG) {
                check_refused(WORDS(command, word), "takes no value");
            } else {
                check_taken(&args, WORDS(command, word));
                check_field(&args, f);
            }
        }
    cli_args args;
    check_taken(&args, WORDS("run", "--prompt=")); /* an empty text is one */
    assert_string_equal(args.prompt, "");
}

static void a_missing_value_is_named(void **state)
{
    (void)state;
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        for (int n = 0; n < NAMES && f->names[n] != NULL && f->kind != FLAG; n++) {
            char said[80];
            snprintf(said, sizeof said, "%s needs a value: ", f->names[n]);
            check_refused(WORDS(command_of(f), f->names[n]), said);
        }
}

static void what_looks_like_a_flag_may_be_a_value(void **state)
{
    (void)state;
    cli_args args;
    check_taken(&args, WORDS("run", "-p", "-n", "-n", "-1", "-f", "-", "--stop", "--json"));
    assert_string_equal(args.prompt, "-n");
    assert_int_equal(args.predict, -1);
    assert_string_equal(args.file, "-");
    assert_string_equal(args.stop[0], "--json");
    assert_false(args.json);
}

static void of_a_flag_given_twice_the_last_counts(void **state)
{
    (void)state;
    cli_args args;
    check_taken(&args, WORDS("run", "-n", "5", "--predict", "6", "--ram-budget", "1G", "--ram-budget=2G"));
    assert_int_equal(args.predict, 6);
    assert_true(args.ram_budget_bytes == 2ull << 30);
}

static void numbers_must_lie_in_their_range(void **state)
{
    (void)state;
    for (const struct flag *f = flags; f < flags + FLAGS; f++) {
        cli_args args;
        char text[40];
        const double inside[] = {f->least, f->most};
        const double step = f->kind == REAL ? 0.001 : 1;
        const double outside[] = {f->least - step, f->most + step};
        if (f->kind != COUNT && f->kind != POSITIONS && f->kind != REAL)
            continue;
        for (int i = 0; i < 2; i++) {
            snprintf(text, sizeof text, "%.12g", inside[i]);
            check_taken(&args, WORDS(command_of(f), f->names[0], text));
            double got = f->kind == REAL ? *(const double *)field(&args, f) : (double)*(const int64_t *)field(&args, f);
            assert_true(got == (f->kind == POSITIONS && inside[i] == 0 ? (double)SL_CONTEXT_MODEL : inside[i]));
            snprintf(text, sizeof text, "%.12g", outside[i]);
            check_refused(WORDS(command_of(f), f->names[0], text), "it must be a ");
        }
    }
    check_refused(WORDS("run", "--threads", "2000"), "--threads 2000: it must be a whole number from 1 to 1024");
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", " ", "x", "1x", "1 ", "1,5", "nan", "inf", "-inf", "1e999", "--", "1e", "0x"};
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong && (f->kind == COUNT || f->kind == REAL); i++)
            check_refused(WORDS(command_of(f), f->names[0], wrong[i]), f->names[0]);
    check_refused(WORDS("run", "-n", "1.5"), "whole number");
    check_refused(WORDS("run", "-c", "0.5"), "whole number");
}

static void sizes_have_their_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = {{"1", 1}, {"512M", 512ull << 20}, {"4G", 4ull << 30}, {"1.5G", 3ull << 29}, {"2GiB", 2ull << 30}, {"3k", 3072}};
    static const char *const wrong[] = {"",    "0",    "0G", "-1G", "G", "1Q", "1GG", "99999999999999999999", "99999999999T",
                                        "nan", "1 Gi", "1G "};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        cli_args args;
        check_taken(&args, WORDS("run", "--ram-budget", right[i].text, "--throttle", right[i].text));
        assert_true(args.ram_budget_bytes == right[i].bytes && args.throttle_Bps == right[i].bytes);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(WORDS("run", "--ram-budget", wrong[i]), "it must be a size above zero");
}

static void seeds_are_whole_numbers_of_64_bits(void **state)
{
    (void)state;
    cli_args args;
    check_taken(&args, WORDS("run", "-s", "18446744073709551615"));
    assert_true(args.seed == UINT64_MAX && args.seed_given);
    check_taken(&args, WORDS("run", "-s", "0"));
    assert_true(args.seed == 0 && args.seed_given);
    static const char *const wrong[] = {"", "-1", " -1", " 1", "+1", "1.0", "18446744073709551616", "0x10", "one", "1 "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(WORDS("run", "-s", wrong[i]), "it must be a whole number from 0 to 18446744073709551615");
}

static void sixteen_stop_texts_and_no_empty_one(void **state)
{
    (void)state;
    const char *words[2 + 2 * (CLI_STOPS_MAX + 1)] = {"run"};
    for (int i = 0; i < CLI_STOPS_MAX; i++) {
        words[1 + 2 * i] = i % 2 ? "--stop" : "-r";
        words[2 + 2 * i] = "\n";
    }
    cli_args args;
    check_taken(&args, words);
    assert_int_equal(args.stops, CLI_STOPS_MAX);
    words[1 + 2 * CLI_STOPS_MAX] = "-r";
    words[2 + 2 * CLI_STOPS_MAX] = "one more";
    check_refused(words, "there may be 16");
    check_refused(WORDS("run", "--stop", ""), "must not be empty");
}

static void info_takes_one_operand_and_pack_and_unpack_two(void **state)
{
    (void)state;
    cli_args args;
    for (int c = 0; c < COMMANDS; c++) {
        bool info = strcmp(commands[c], "info") == 0, pack = strstr(commands[c], "pack") != NULL;
        if (info || pack)
            check_taken(&args, WORDS(commands[c], "file.gguf"));
        if (pack)
            check_taken(&args, WORDS(commands[c], "a", "b"));
        check_refused(pack   ? WORDS(commands[c], "a", "b", "c")
                      : info ? WORDS(commands[c], "a", "b")
                             : WORDS(commands[c], "a"),
                      "one argument too many; usage: sluice ");
    }
    check_taken(&args, WORDS("info", "--json", "-"));
    assert_int_equal(args.operands, 1);
    assert_string_equal(args.operand[0], "-");
}

static void unknown_words_are_refused_by_name(void **state)
{
    (void)state;
    check_refused(WORDS("run", "--no-such-flag"), "--no-such-flag: no such flag; sluice run --help lists them");
    check_refused(WORDS("run", "--promp", "x"), "--promp: no such flag");
    check_refused(WORDS("run", "--"), "no such flag");
    check_refused(WORDS("run", "-mfile"), "no such flag");
    check_refused(WORDS("run", "--a-flag-that-is-longer-than-any-flag-that-there-is-or-ever-will-be=1"), "no such flag");
    check_refused(WORDS("sing", "x"), "sing: no such command; sluice --help lists them");
    check_refused(WORDS("", "x"), "no such command");
    cli_args args;
    sl_error err = {0};
    assert_int_equal(cli_parse(1, (char *[]){(char *)(uintptr_t) "sluice", NULL}, &args, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "no command"));
}

/* Who asked for JSON gets the failure as JSON, wherever the mistake is. */
static void json_is_heeded_before_and_behind_a_mistake(void **state)
{
    (void)state;
    cli_args args;
    sl_error err;
    assert_int_equal(parse(&args, &err, WORDS("run", "--json", "--wrong")), SL_INVALID);
    assert_true(args.json);
    assert_int_equal(parse(&args, &err, WORDS("run", "--wrong", "x", "--json")), SL_INVALID);
    assert_true(args.json);
    assert_int_equal(parse(&args, &err, WORDS("run", "--wrong", "x")), SL_INVALID);
    assert_false(args.json);
}

static void a_budget_of_auto_is_one_that_is_chosen(void **state)
{
    (void)state;
    cli_args args;
    check_taken(&args, WORDS("run", "--ram-budget", "2G", "--ram-budget", "auto"));
    assert_int_equal(args.ram_budget_bytes, 0);
    check_taken(&args, WORDS("plan", "--ram-budget", "min,2G", "--machine", "list"));
    assert_string_equal(args.ram_budgets, "min,2G");
    check_refused(WORDS("run", "--ram-budget", "min"), "size above zero");
}

static void commands_are_known_by_their_names(void **state)
{
    (void)state;
    for (int c = 0; c < COMMANDS; c++)
        assert_true(cli_is_command(commands[c]));
    assert_false(cli_is_command("ru"));
    assert_false(cli_is_command(""));
}

/* ---- texts ---- */

/* What `print` writes on stdout, in a buffer that the caller frees. */
static char *printed(void (*print)(const char *), const char *argument)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    (void)fflush(stdout);
    int real = dup(STDOUT_FILENO);
    assert_true(real >= 0 && dup2(fileno(file), STDOUT_FILENO) >= 0);
    print(argument);
    (void)fflush(stdout);
    assert_true(dup2(real, STDOUT_FILENO) >= 0);
    close(real);
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    rewind(file);
    size_t length = fread(text, 1, (1 << 16) - 1, file);
    assert_in_range(length, 100, (1 << 16) - 2);
    (void)fclose(file);
    return text;
}

static void print_help(const char *command)
{
    cli_print_help(command, stdout);
}

static void print_man(const char *unused)
{
    (void)unused;
    cli_print_man();
}

static void each_commands_help_names_its_flags_and_no_others(void **state)
{
    (void)state;
    for (int c = 0; c < COMMANDS; c++) {
        char *text = printed(print_help, commands[c]);
        assert_true(has_word(text, commands[c]));
        assert_non_null(strstr(text, "examples:"));
        /* Only where a line begins with a flag; another's help may speak of it. */
        for (const struct flag *f = flags; f < flags + FLAGS; f++) {
            char names[80], line[90];
            join_names(f, ", ", false, names);
            snprintf(line, sizeof line, "\n  %s", names);
            const char *at = strstr(text, line);
            bool named = at != NULL && at[strlen(line)] == ' ';
            if (named != of_command(f, commands[c]))
                fail_msg("sluice %s --help: %s is %s", commands[c], f->names[0], named ? "named" : "missing");
        }
        free(text);
    }
}

static void the_programs_help_names_its_commands(void **state)
{
    (void)state;
    char *text = printed(print_help, NULL), *other = printed(print_help, "no-such-command");
    for (int c = 0; c < COMMANDS; c++)
        assert_true(has_word(text, commands[c]));
    assert_non_null(strstr(text, "exit status"));
    assert_string_equal(text, other);
    free(text);
    free(other);
}

static void the_man_page_names_all_commands_and_flags(void **state)
{
    (void)state;
    char *text = printed(print_man, NULL);
    assert_memory_equal(text, ".TH SLUICE 1", 12);
    for (const struct flag *f = flags; f < flags + FLAGS; f++) {
        char roff[80];
        size_t n = 0;
        for (const char *at = f->names[0]; *at != '\0'; at++) {
            if (*at == '-')
                roff[n++] = '\\';
            roff[n++] = *at;
        }
        roff[n] = '\0';
        if (strstr(text, roff) == NULL)
            fail_msg("the man page has no %s", roff);
    }
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL)
        assert_true(line[0] != '\''); /* would be a request */
    free(text);
}

/* What stands between `begin` and `last` as a text of its own; *end is to be put back. */
static char *part_of(char *text, const char *begin, const char *last, char **end)
{
    char *from = strstr(text, begin);
    if (from == NULL)
        fail_msg("no line begins with: %s", begin);
    *end = strstr(from, last);
    if (*end == NULL)
        fail_msg("no end of: %s", begin);
    **end = '\0';
    return from;
}

static bool zsh_offers(const char *line, const struct flag *f)
{
    char names[80], wanted[90];
    join_names(f, ",", true, names);
    snprintf(wanted, sizeof wanted, f->names[1] != NULL ? "{%s}'[" : "'%s[", names);
    return strstr(line, wanted) != NULL;
}

static void completion_offers_each_commands_flags(void **state)
{
    (void)state;
    char *bash = printed(cli_print_completion, "bash"), *zsh = printed(cli_print_completion, "zsh");
    for (int c = 0; c < COMMANDS; c++) {
        char begin[40], *bash_end, *zsh_end;
        snprintf(begin, sizeof begin, "  *:%s) flags=\"", commands[c]);
        const char *in_bash = part_of(bash, begin, "\n", &bash_end);
        snprintf(begin, sizeof begin, "\n%s) _arguments", commands[c]);
        const char *in_zsh = part_of(zsh, begin, " ;;\n", &zsh_end);
        for (const struct flag *f = flags; f < flags + FLAGS; f++) {
            for (int n = 0; n < NAMES && f->names[n] != NULL; n++)
                if (has_word(in_bash, f->names[n]) != of_command(f, commands[c]))
                    fail_msg("completion of %s: %s", commands[c], f->names[n]);
            if (zsh_offers(in_zsh, f) != of_command(f, commands[c]))
                fail_msg("completion of %s in zsh: %s", commands[c], f->names[0]);
        }
        *bash_end = '\n';
        *zsh_end = ' ';
    }
    free(bash);
    free(zsh);
}

static void a_conversation_sets_only_what_it_may(void **state)
{
    (void)state;
    cli_args args;
    sl_error err;
    check_taken(&args, WORDS("chat", "-m", "a.gguf"));
    assert_int_equal(cli_set(&args, "temp", "0.25", &err), SL_OK);
    assert_true(args.temperature == 0.25);
    assert_int_equal(cli_set(&args, "seed", "77", &err), SL_OK);
    assert_true(args.seed == 77 && args.seed_given);
    static const char *const refused[][2] = {{"temp", "warm"}, {"temp", ""}, {"model", "b.gguf"}, {"predict", "0"}, {"", ""}, {"json", ""}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cli_args before = args;
        assert_int_equal(cli_set(&args, refused[i][0], refused[i][1], &err), SL_INVALID);
        assert_memory_equal(&before, &args, sizeof args); /* and nothing was changed */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_flags_the_defaults_are_those_of_the_help),
        cmocka_unit_test(every_flag_sets_its_value_under_each_name_and_command),
        cmocka_unit_test(long_flags_take_their_value_behind_an_equals_sign_too),
        cmocka_unit_test(a_missing_value_is_named),
        cmocka_unit_test(what_looks_like_a_flag_may_be_a_value),
        cmocka_unit_test(of_a_flag_given_twice_the_last_counts),
        cmocka_unit_test(numbers_must_lie_in_their_range),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(sizes_have_their_units),
        cmocka_unit_test(seeds_are_whole_numbers_of_64_bits),
        cmocka_unit_test(sixteen_stop_texts_and_no_empty_one),
        cmocka_unit_test(info_takes_one_operand_and_pack_and_unpack_two),
        cmocka_unit_test(unknown_words_are_refused_by_name),
        cmocka_unit_test(json_is_heeded_before_and_behind_a_mistake),
        cmocka_unit_test(a_budget_of_auto_is_one_that_is_chosen),
        cmocka_unit_test(commands_are_known_by_their_names),
        cmocka_unit_test(each_commands_help_names_its_flags_and_no_others),
        cmocka_unit_test(the_programs_help_names_its_commands),
        cmocka_unit_test(the_man_page_names_all_commands_and_flags),
        cmocka_unit_test(completion_offers_each_commands_flags),
        cmocka_unit_test(a_conversation_sets_only_what_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

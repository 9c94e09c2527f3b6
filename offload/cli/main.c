/* offload/cli/main.c: which command, and what its end means to the shell. */
#include "offload/cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef SLUICE_BUILD_OPTIONS
#define SLUICE_BUILD_OPTIONS "unknown"
#endif

/* A file that we open must not come to lie where a closed standard stream was: what is said to people would go into it. The null device stands
 * there instead, opened so that reading the input, or writing a result, fails. */
static void hold_closed_streams(void)
{
    static const int modes[] = {[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", modes[fd]); /* the lowest free number: this one */
}

static int print_version(void)
{
    printf("sluice %s\ninstruction sets built:", SLUICE_VERSION);
    cli_print_isas(false);
    printf("\ninstruction sets usable here:");
    cli_print_isas(true);
    printf("\nbuilt with: %s, options %s\n", __VERSION__, SLUICE_BUILD_OPTIONS);
    return CLI_DONE;
}

static int print_completion(const char *shell)
{
    if (strcmp(shell, "bash") == 0 || strcmp(shell, "zsh") == 0) {
        cli_print_completion(shell);
        return CLI_DONE;
    }
    fprintf(stderr, "sluice: --completion %.60s: known are bash and zsh\n", shell);
    return CLI_USAGE;
}

static int help_on(const char *command)
{
    sl_error err = {0};
    if (command != NULL && cli_check_command(command, &err) != SL_OK)
        return cli_fail(&(cli_args){0}, &err);
    cli_print_help(command, stdout);
    return CLI_DONE;
}

static int dispatch(const cli_args *args)
{
    static const struct {
        const char *name;
        int (*run)(const cli_args *);
    } table[] = {{"run", cli_run},       {"chat", cli_chat_main},      {"perplexity", cli_perplexity}, {"tokenize", cli_tokenize},
                 {"info", cli_info},     {"synth", cli_synth},         {"widen", cli_widen},           {"pack", cli_pack},
                 {"unpack", cli_unpack}, {"calibrate", cli_calibrate}, {"doctor", cli_doctor},         {"eval", cli_eval_main},
                 {"report", cli_report}, {"replay", cli_replay},       {"bench", cli_bench_main},      {"plan", cli_plan},
                 {"prune", cli_prune}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, args->command) == 0)
            return table[i].run(args);
    return CLI_USAGE;
}

/* Words that are no command: help, version, and the texts that packaging asks for. */
static bool answer_word(int argc, char **argv, int *status)
{
    const char *word = argc > 1 ? argv[1] : "";
    *status = CLI_DONE;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        *status = help_on(argc > 2 ? argv[2] : NULL);
    else if (strcmp(word, "--version") == 0)
        *status = print_version();
    else if (strcmp(word, "--man") == 0)
        cli_print_man();
    else if (strcmp(word, "--completion") == 0)
        *status = print_completion(argc > 2 ? argv[2] : "bash");
    else
        return false;
    if (*status == CLI_DONE)
        *status = cli_finish_text();
    return true;
}

int main(int argc, char **argv)
{
    cli_args args;
    sl_error err = {0};
    int status;
    hold_closed_streams();
    signal(SIGPIPE, SIG_IGN); /* a closed stdout is an error of ours to report, not a death */
    signal(SIGXFSZ, SIG_IGN); /* nor is a limit on the size of files */
    if (answer_word(argc, argv, &status))
        return status;
    if (cli_parse(argc, argv, &args, &err) != SL_OK)
        return cli_fail(&args, &err);
    if (args.help) {
        cli_print_help(args.command, stdout);
        return cli_finish_text();
    }
    return dispatch(&args);
}

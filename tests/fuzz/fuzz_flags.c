/* tests/fuzz/fuzz_flags.c: any words as the program's arguments. Words are separated by NUL, as the system passes them. */
#include "offload/cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define WORDS_MAX 64

static void expect(bool holds)
{
    if (!holds)
        __builtin_trap();
}

/* What the commands rely on when they cast. */
static void check_ranges(const cli_args *a)
{
    const int64_t counts[] = {a->batch,  a->threads,    a->io_depth, a->top_k,   a->repeat_last_n,
                              a->chunks, a->score_last, a->factor,   a->logprobs};
    const double reals[] = {a->temperature, a->top_p, a->min_p, a->repeat_penalty};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        expect(counts[i] >= 0 && counts[i] <= INT32_MAX);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        expect(isfinite(reals[i]) && reals[i] >= 0);
    expect(a->context == SL_CONTEXT_MODEL || (a->context >= 0 && a->context <= INT32_MAX));
    expect(a->predict >= -1 && a->predict <= INT32_MAX);
    expect(a->stops <= CLI_STOPS_MAX && a->operands >= 0 && a->operands <= CLI_OPERANDS_MAX);
    for (size_t i = 0; i < a->stops; i++)
        expect(a->stop[i][0] != '\0');
    for (int i = 0; i < a->operands; i++)
        expect(a->operand[i] != NULL);
    expect(cli_is_command(a->command));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    char name[] = "sluice", *argv[WORDS_MAX + 1] = {name};
    char *words = malloc(length + 1);
    if (words == NULL)
        return 0;
    if (length > 0)
        memcpy(words, data, length);
    words[length] = '\0';
    int argc = 1;
    for (size_t at = 0; at < length && argc < WORDS_MAX; at += strlen(words + at) + 1)
        argv[argc++] = words + at;

    cli_args args;
    sl_error err = {0};
    sl_status status = cli_parse(argc, argv, &args, &err);
    expect(status == SL_OK ? err.message[0] == '\0' : status == SL_INVALID && err.message[0] != '\0');
    if (status == SL_OK)
        check_ranges(&args);
    expect(strchr(err.message, '\n') == NULL);
    if (status == SL_OK && argc > 3) { /* what is said after /set in a conversation */
        status = cli_set(&args, argv[argc - 2], argv[argc - 1], &err);
        expect(status == SL_OK || (status == SL_INVALID && err.message[0] != '\0'));
        check_ranges(&args);
    }
    free(words);
    return 0;
}

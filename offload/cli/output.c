/* offload/cli/output.c: how results, failures and progress are printed. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

bool cli_color(void)
{
    const char *no_color = getenv("NO_COLOR");
    return cli_terminal() && (no_color == NULL || no_color[0] == '\0');
}

static int exit_status_of(sl_status status)
{
    switch (status) {
    case SL_OK: return CLI_DONE;
    case SL_NO_BUDGET: return CLI_NO_FIT;
    case SL_INTERRUPTED: return CLI_INTERRUPTED;
    case SL_INVALID: return CLI_USAGE;
    default: return CLI_FAILED;
    }
}

int cli_fail(const cli_args *args, const sl_error *err)
{
    cli_progress_end();
    fprintf(stderr, "sluice: %s%s%s\n", cli_color() ? "\033[31m" : "", err->message, cli_color() ? "\033[0m" : "");
    if (args->json) {
        json_t *error = json_pack("{s:s, s:o}", "code", sl_status_name(err->status), "message",
                                  cli_json_text(err->message, strlen(err->message)));
        if (err->ram_budget_min_bytes != 0)
            json_object_set_new(error, "ram_budget_min_bytes", json_integer((json_int_t)err->ram_budget_min_bytes));
        if (cli_print_json(json_pack("{s:o}", "error", error)) != CLI_DONE)
            return CLI_FAILED;
    }
    return exit_status_of(err->status);
}

int cli_print_json(json_t *value)
{
    int failed = value == NULL || json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0;
    failed |= putchar('\n') == EOF || fflush(stdout) != 0;
    json_decref(value);
    if (failed)
        fprintf(stderr, "sluice: standard output did not take the result: %s\n", strerror(errno));
    return failed ? CLI_FAILED : CLI_DONE;
}

/* Bytes of the valid UTF-8 sequence at `s`, or 0. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || beyond ? 0 : n;
}

json_t *cli_json_text(const char *text, size_t length)
{
    char *clean = malloc(length * 3 + 1);
    size_t used = 0;
    if (clean == NULL)
        return json_null();
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length((const unsigned char *)text + i, length - i);
        memcpy(clean + used, n > 0 ? text + i : "\xEF\xBF\xBD", n > 0 ? n : 3);
        used += n > 0 ? n : 3;
        i += n > 0 ? n : 1;
    }
    json_t *value = json_stringn(clean, used);
    free(clean);
    return value;
}

sl_status cli_read_file(const char *path, char **out, size_t *length, sl_error *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t capacity = 1 << 16;
    *out = NULL;
    *length = 0;
    if (file == NULL)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    for (;;) {
        char *grown = realloc(*out, capacity + 1);
        if (grown == NULL)
            break;
        *out = grown;
        *length += fread(*out + *length, 1, capacity - *length, file);
        if (*length < capacity)
            break;
        capacity *= 2;
    }
    sl_status status = ferror(file) != 0 ? sl_fail(err, SL_IO, "%s: cannot be read: %s", path, strerror(errno))
                       : *length == capacity || *out == NULL
                           ? sl_fail(err, SL_NO_MEMORY, "%s: out of memory after %zu bytes", path, *length)
                           : SL_OK;
    if (file != stdin)
        (void)fclose(file); /* it was only read */
    if (status != SL_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    (*out)[*length] = '\0';
    return SL_OK;
}

bool cli_progress(void *what, uint64_t done, uint64_t total)
{
    if (cli_terminal() && total > 0) {
        fprintf(stderr, "\r\033[K%s %3.0f %%", (const char *)what, 100.0 * (double)done / (double)total);
        fflush(stderr);
    }
    return !cli_interrupted();
}

void cli_progress_end(void)
{
    if (cli_terminal())
        fputs("\r\033[K", stderr);
}

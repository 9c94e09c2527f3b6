/* offload/cli/output.c: how results, failures and progress are printed. */
#include "core/cpu.h"
#include "core/file_write.h"
#include "core/os.h"
#include "kernels/kernels.h"
#include "offload/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

bool cli_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) == 1 && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
}

size_t cli_columns(int fd)
{
    struct winsize size;
    return isatty(fd) == 1 && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
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
        if (err->vram_budget_min_bytes != 0)
            json_object_set_new(error, "vram_budget_min_bytes", json_integer((json_int_t)err->vram_budget_min_bytes));
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

int cli_finish_text(void)
{
    bool failed = ferror(stdout) != 0;
    failed |= fflush(stdout) != 0;
    if (failed && errno != EPIPE)
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

/* Up to `capacity` bytes of what there is; 0 at the end. poll, unlike read, ends when Ctrl-C is pressed while a terminal or a pipe is
 * silent; it looks up once a second, for a press that came just before it. */
static ssize_t read_some(int fd, char *to, size_t capacity)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    ssize_t got;
    do {
        if (cli_interrupted())
            return -1;
        if (poll(&ready, 1, 1000) > 0 && ((got = read(fd, to, capacity)) >= 0 || errno != EINTR))
            return got;
    } while (true);
}

static sl_status read_all(int fd, const char *path, char **out, size_t *length, sl_error *err)
{
    size_t capacity = 0;
    for (ssize_t got = 1; got != 0; *length += (size_t)got) {
        if (*length == capacity) {
            capacity = capacity == 0 ? 1 << 16 : 2 * capacity;
            char *grown = realloc(*out, capacity + 1);
            if (grown == NULL)
                return sl_fail(err, SL_NO_MEMORY, "%s: out of memory after %zu bytes", path, *length);
            *out = grown;
        }
        got = read_some(fd, *out + *length, capacity - *length);
        if (got < 0)
            return cli_interrupted() ? sl_fail(err, SL_INTERRUPTED, "interrupted")
                                     : sl_fail(err, SL_IO, "%s: cannot be read: %s", path, strerror(errno));
    }
    (*out)[*length] = '\0';
    return SL_OK;
}

sl_status cli_read_file(const char *path, char **out, size_t *length, sl_error *err)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    *out = NULL;
    *length = 0;
    if (fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    sl_status status = read_all(fd, path, out, length, err);
    if (fd != STDIN_FILENO)
        (void)close(fd); /* it was only read */
    if (status != SL_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

sl_status cli_check_text(const char *path, sl_error *err)
{
    struct stat st;
    if (path == NULL || strcmp(path, "-") == 0)
        return SL_OK;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    return S_ISDIR(st.st_mode) ? sl_fail(err, SL_IO, "%s: is a directory, want a text", path) : SL_OK;
}

sl_status cli_check_output_spares_text(const char *output, const char *text, sl_error *err)
{
    struct stat from, to;
    if (text == NULL || stat(text, &from) != 0 || stat(output, &to) != 0 || from.st_dev != to.st_dev || from.st_ino != to.st_ino)
        return SL_OK;
    return sl_fail(err, SL_INVALID, "%s: is the text to read; name another file to write", output);
}

sl_status cli_write_file(const char *path, const char *text, size_t length, sl_error *err)
{
    sl_file_writer *writer;
    SL_TRY(sl_file_writer_create(path, &writer, err));
    sl_status status = sl_file_writer_begin(writer, length, false, err);
    if (status == SL_OK)
        status = sl_file_writer_put(writer, text, length, err);
    if (status == SL_OK)
        return sl_file_writer_finish(writer, err);
    sl_file_writer_discard(writer);
    return status;
}

bool cli_has_isa(int isa, bool here)
{
    return sl_kernels_for((sl_isa)isa) != NULL && (!here || sl_cpu_supports((sl_isa)isa));
}

void cli_print_isas(bool here)
{
    for (int isa = 0; isa < SL_ISA_COUNT; isa++)
        if (cli_has_isa(isa, here))
            printf(" %s", sl_isa_name((sl_isa)isa));
}

/* offload/cli/chat_input.c: the next message: a line; more, where a line ends in a backslash; or all between two """.
 *
 * On a terminal lines come from the editor. From a pipe or a file they are read as they are, without a prompt, one message a line. */
#include "offload/cli/chat_state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT      "> "
#define PROMPT_MORE "... "
#define FENCE       "\"\"\""
#define READ_BYTES  ((size_t)1 << 16)

/* ---- lines ---- */

static cli_input read_more(cli_chat *c, sl_error *err)
{
    if (c->pending_capacity - c->pending_length < READ_BYTES) {
        size_t capacity = 2 * c->pending_capacity + READ_BYTES;
        char *grown = realloc(c->pending, capacity);
        if (grown == NULL) {
            (void)sl_fail(err, SL_NO_MEMORY, "out of memory for a line of %zu bytes", c->pending_length);
            return CLI_INPUT_FAILED;
        }
        c->pending = grown;
        c->pending_capacity = capacity;
    }
    struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        if (cli_interrupted())
            return CLI_INPUT_INTERRUPTED;
        if (poll(&ready, 1, 1000) <= 0)
            continue;
        ssize_t got = read(STDIN_FILENO, c->pending + c->pending_length, READ_BYTES);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0) {
            (void)sl_fail(err, SL_IO, "standard input cannot be read: %s", strerror(errno));
            return CLI_INPUT_FAILED;
        }
        c->input_ended = got == 0;
        c->pending_length += (size_t)got;
        return CLI_INPUT_MESSAGE;
    }
}

/* A line of standard input; the last one need not have an end. */
static cli_input read_plain(cli_chat *c, char **out, sl_error *err)
{
    for (size_t searched = 0;;) {
        char *end = c->pending_length > searched ? memchr(c->pending + searched, '\n', c->pending_length - searched) : NULL;
        bool last = end == NULL && c->input_ended;
        if (last && c->pending_length == 0)
            return CLI_INPUT_END;
        if (end != NULL || last) {
            size_t length = last ? c->pending_length : (size_t)(end - c->pending), used = last ? length : length + 1;
            size_t kept = length > 0 && c->pending[length - 1] == '\r' ? length - 1 : length;
            *out = strndup(c->pending, kept);
            memmove(c->pending, c->pending + used, c->pending_length - used);
            c->pending_length -= used;
            return CLI_INPUT_MESSAGE;
        }
        searched = c->pending_length;
        cli_input input = read_more(c, err);
        if (input != CLI_INPUT_MESSAGE)
            return input;
    }
}

/* From the editor. Ctrl-C clears what is on the line, and on an empty one asks for another to end the program. */
static cli_input read_edited(cli_chat *c, const char *prompt, bool first, char **out)
{
    bool warned = false, interrupted, was_empty;
    while ((*out = cli_line_editor_read(c->editor, prompt, &interrupted, &was_empty)) == NULL) {
        if (!interrupted)
            return CLI_INPUT_END;
        bool end = cli_terminated() || (warned && was_empty);
        cli_forget_interrupt();
        if (end || !first)
            return CLI_INPUT_INTERRUPTED;
        warned = was_empty;
        if (warned)
            fputs("Ctrl-C once more, or Ctrl-D, ends the conversation\n", stderr);
    }
    return CLI_INPUT_MESSAGE;
}

static cli_input read_line(cli_chat *c, bool first, char **out, sl_error *err)
{
    *out = NULL;
    cli_input input = c->editor == NULL ? read_plain(c, out, err) : read_edited(c, first ? PROMPT : PROMPT_MORE, first, out);
    if (input == CLI_INPUT_MESSAGE && *out == NULL) {
        (void)sl_fail(err, SL_NO_MEMORY, "out of memory for a line");
        return CLI_INPUT_FAILED;
    }
    return input;
}

/* ---- messages ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

/* `line` behind `text` and `between`; all but `between` are malloc'd, and taken over. */
static char *join(char *text, const char *between, char *line)
{
    size_t length = strlen(text) + strlen(between) + strlen(line) + 1;
    char *joined = realloc(text, length);
    if (joined == NULL)
        free(text);
    else
        strcat(strcat(joined, between), line);
    free(line);
    return joined;
}

/* Whether more lines belong to the message; takes the marks that say so off it. */
static bool goes_on(char *text, bool fenced)
{
    size_t length = strlen(text);
    if (fenced) {
        if (!ends_with(text, FENCE))
            return true;
        text[length - strlen(FENCE)] = '\0';
        return false;
    }
    if (length == 0 || text[length - 1] != '\\')
        return false;
    text[length - 1] = '\0';
    return true;
}

/* Lines up to the end of the message; `text` is its first. An input that ends within it ends it. */
static cli_input read_rest(cli_chat *c, char *text, bool fenced, char **out, sl_error *err)
{
    cli_input input = CLI_INPUT_MESSAGE;
    while (text != NULL && goes_on(text, fenced)) {
        char *line;
        input = read_line(c, false, &line, err);
        if (input != CLI_INPUT_MESSAGE)
            break;
        text = join(text, text[0] == '\0' && fenced ? "" : "\n", line);
    }
    if (text == NULL) {
        (void)sl_fail(err, SL_NO_MEMORY, "out of memory for a message");
        return CLI_INPUT_FAILED;
    }
    if (input == CLI_INPUT_INTERRUPTED || input == CLI_INPUT_FAILED) {
        free(text);
        return input;
    }
    *out = text;
    return CLI_INPUT_MESSAGE;
}

cli_input cli_chat_read(cli_chat *c, char **out, sl_error *err)
{
    char *text;
    *out = NULL;
    for (;;) {
        cli_input input = read_line(c, true, &text, err);
        if (input != CLI_INPUT_MESSAGE)
            return input;
        bool fenced = strncmp(text, FENCE, strlen(FENCE)) == 0;
        if (fenced)
            memmove(text, text + strlen(FENCE), strlen(text + strlen(FENCE)) + 1);
        input = read_rest(c, text, fenced, out, err);
        if (input == CLI_INPUT_INTERRUPTED && c->editor != NULL && !cli_terminated()) /* Ctrl-C within a message takes it back */
            continue;
        if (input == CLI_INPUT_MESSAGE)
            cli_line_editor_remember(c->editor, *out);
        return input;
    }
}

void cli_chat_input_close(cli_chat *c)
{
    cli_line_editor_close(c->editor);
    free(c->pending);
}

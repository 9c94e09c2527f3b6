/* offload/cli/line_editor.c: a line from a terminal, with editing and a history that is kept, by libedit.
 *
 * libedit's own signal handlers would end the program on Ctrl-C. So we read its characters: poll returns when a signal came, whoever handles it,
 * and then we know whether it was Ctrl-C, a new size of the window or the return from Ctrl-Z. Without a home, or with one that cannot be
 * written, the history lasts as long as the program. */
#include "offload/cli/chat_state.h"

#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_ENTRIES 1000

struct cli_line_editor {
    EditLine *el;
    History *history;
    const char *prompt;
    char path[PATH_MAX]; /* of the history; empty: not kept */
    mbstate_t partial;   /* a character of which not all bytes have come */
    bool interrupted, was_empty;
};

static volatile sig_atomic_t resized, resumed; /* as in interrupt.c: a signal handler has no argument of ours */

static void on_signal(int signal_number)
{
    if (signal_number == SIGWINCH)
        resized = 1;
    else
        resumed = 1;
}

static void catch_terminal_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
}

/* ---- characters ---- */

static void follow_terminal(cli_line_editor *e)
{
    if (resized) {
        resized = 0;
        el_resize(e->el);
        el_set(e->el, EL_REFRESH);
    }
    if (resumed) { /* the shell has set the terminal as it likes it */
        resumed = 0;
        el_set(e->el, EL_PREP_TERM, 1);
        el_set(e->el, EL_REFRESH);
    }
}

/* 1: a byte; 0: the end; -1: Ctrl-C, or a failure. */
static int next_byte(cli_line_editor *e, char *out)
{
    struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        follow_terminal(e);
        if (cli_interrupted())
            return -1;
        int polled = poll(&ready, 1, 1000); /* looks up once a second, for a signal that came just before it */
        if (polled > 0) {
            ssize_t got = read(STDIN_FILENO, out, 1);
            if (got >= 0 || (errno != EINTR && errno != EAGAIN))
                return (int)got;
        } else if (polled < 0 && errno != EINTR) {
            return -1;
        }
    }
}

static int next_character(EditLine *el, wchar_t *out)
{
    cli_line_editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    for (;;) {
        char byte;
        int got = next_byte(e, &byte);
        if (got <= 0) {
            const LineInfo *line = el_line(el);
            e->interrupted = got < 0 && cli_interrupted();
            e->was_empty = line->lastchar == line->buffer;
            return got;
        }
        size_t used = mbrtowc(out, &byte, 1, &e->partial);
        if (used <= 1)
            return 1;
        if (used == (size_t)-1) { /* no character: it is left out */
            memset(&e->partial, 0, sizeof e->partial);
            *out = L'?';
            return 1;
        }
    }
}

static char *prompt_of(EditLine *el)
{
    cli_line_editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    return (char *)(uintptr_t)e->prompt; /* it is only read */
}

/* ---- history ---- */

static bool make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!there)
            return false;
    }
    return true;
}

/* $XDG_STATE_HOME/sluice/history, or ~/.local/state/sluice/history. */
static void find_history(cli_line_editor *e)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int length = 0;
    if (state != NULL && state[0] == '/')
        length = snprintf(e->path, sizeof e->path, "%s/sluice/history", state);
    else if (home != NULL && home[0] == '/')
        length = snprintf(e->path, sizeof e->path, "%s/.local/state/sluice/history", home);
    if (length <= 0 || (size_t)length + 16 > sizeof e->path)
        e->path[0] = '\0';
}

static void load_history(cli_line_editor *e)
{
    HistEvent event;
    find_history(e);
    history(e->history, &event, H_SETSIZE, HISTORY_ENTRIES);
    history(e->history, &event, H_SETUNIQUE, 1);
    if (e->path[0] != '\0')
        history(e->history, &event, H_LOAD, e->path);
}

/* Written beside and renamed, so that it is never half of one. */
static void save_history(cli_line_editor *e)
{
    HistEvent event;
    char beside[PATH_MAX + 16];
    snprintf(beside, sizeof beside, "%s.%d", e->path, (int)getpid());
    if (e->path[0] == '\0' || !make_folders(e->path))
        return;
    if (history(e->history, &event, H_SAVE, beside) < 0 || rename(beside, e->path) != 0)
        (void)unlink(beside); /* not kept: no reason to disturb a conversation */
}

void cli_line_editor_remember(cli_line_editor *e, const char *entry)
{
    HistEvent event;
    if (e == NULL || entry[0] == '\0')
        return;
    history(e->history, &event, H_ENTER, entry);
    save_history(e);
}

/* ---- opening and reading ---- */

/* Lines are UTF-8 whatever the locale says, if there is a way. */
static void choose_characters(void)
{
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
}

cli_line_editor *cli_line_editor_open(void)
{
    if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1)
        return NULL;
    cli_line_editor *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    choose_characters();
    e->el = el_init("sluice", stdin, stderr, stderr); /* the prompt is no result: standard output may be a file */
    e->history = history_init();
    if (e->el == NULL || e->history == NULL) {
        cli_line_editor_close(e);
        return NULL;
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT, prompt_of);
    el_set(e->el, EL_GETCFN, next_character);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_HIST, history, e->history);
    el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(e->el, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
    el_source(e->el, NULL); /* ~/.editrc */
    load_history(e);
    catch_terminal_signals();
    return e;
}

char *cli_line_editor_read(cli_line_editor *e, const char *prompt, bool *interrupted, bool *was_empty)
{
    int length = 0;
    e->prompt = prompt;
    e->interrupted = false;
    memset(&e->partial, 0, sizeof e->partial);
    const char *line = el_gets(e->el, &length);
    *interrupted = e->interrupted;
    *was_empty = e->was_empty;
    if (line == NULL || length <= 0 || e->interrupted) {
        fputs("\n", stderr);
        return NULL;
    }
    return strndup(line, strcspn(line, "\r\n"));
}

void cli_line_editor_close(cli_line_editor *e)
{
    if (e == NULL)
        return;
    if (e->el != NULL)
        el_end(e->el);
    if (e->history != NULL)
        history_end(e->history);
    free(e);
}

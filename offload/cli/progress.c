/* offload/cli/progress.c: how far a long command is, at what rate, and how long it will take: one line on a terminal, five times a second at most.
 *
 * The rate is that since the line began, so that the time left does not jump with each piece. It is told once half a second has shown it. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_NS   ((uint64_t)200000000)
#define SETTLED_NS ((uint64_t)500000000)

/* A terminal has one line of progress: this is what it shows. */
static struct {
    const char *what; /* NULL: nothing */
    uint64_t begin_ns, begin_done, shown_ns, done;
} line;

void cli_format_duration(double seconds, char out[24])
{
    uint64_t whole = seconds > 0 && seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 0;
    if (whole >= 3600)
        snprintf(out, 24, "%llu:%02llu:%02llu", (unsigned long long)whole / 3600, (unsigned long long)whole / 60 % 60,
                 (unsigned long long)whole % 60);
    else
        snprintf(out, 24, "%llu:%02llu", (unsigned long long)whole / 60, (unsigned long long)whole % 60);
}

static void add_rate(char *to, size_t room, double rate, bool bytes, uint64_t left)
{
    char text[24], time[24];
    cli_format_duration((double)left / rate, time);
    if (bytes)
        sl_format_size((uint64_t)rate, text);
    else
        snprintf(text, sizeof text, rate < 10 ? "%.2f" : "%.0f", rate);
    snprintf(to, room, ", %s/s, %s left", text, time);
}

static void show(const char *what, uint64_t done, uint64_t total, bool bytes)
{
    uint64_t now = sl_now_ns();
    if (line.what == NULL || strcmp(line.what, what) != 0 || done < line.done) {
        line.what = what;
        line.begin_ns = now;
        line.begin_done = done;
        line.shown_ns = 0;
    }
    line.done = done;
    if (now - line.shown_ns < SHOWN_NS && done < total)
        return;
    line.shown_ns = now;
    char text[160];
    int used = snprintf(text, sizeof text, "%.60s %3.0f %%", what, 100.0 * (double)done / (double)total);
    if (now - line.begin_ns > SETTLED_NS && done > line.begin_done)
        add_rate(text + used, sizeof text - (size_t)used, (double)(done - line.begin_done) * 1e9 / (double)(now - line.begin_ns), bytes,
                 total - done);
    size_t columns = cli_columns(STDERR_FILENO);
    int most = columns > 1 && columns < sizeof text ? (int)columns - 1 : (int)sizeof text; /* a line that wraps could not be taken back */
    fprintf(stderr, "\r\033[K%.*s", most, text);
    fflush(stderr);
}

bool cli_progress(void *what, uint64_t done, uint64_t total)
{
    if (cli_terminal() && total > 0)
        show(what, done, total, false);
    return !cli_interrupted();
}

bool cli_progress_bytes(void *what, uint64_t done_bytes, uint64_t total_bytes)
{
    if (cli_terminal() && total_bytes > 0)
        show(what, done_bytes, total_bytes, true);
    return !cli_interrupted();
}

void cli_progress_end(void)
{
    if (line.what != NULL)
        fputs("\r\033[K", stderr);
    line.what = NULL;
}

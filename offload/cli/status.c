/* offload/cli/status.c: a line that shows how a generation goes, on a terminal: tokens/s, hits, read bandwidth, memory.
 *
 * Where text and line share the terminal, the line has its last row to itself: text scrolls in the rows above (DECSTBM). The size of the window is
 * looked at before each drawing; Ctrl-Z and the Ctrl-C that ends the program where it stands give the row back, and so does the end. A terminal
 * that cannot do that (TERM=dumb) shows nothing. Where text goes elsewhere the line stays where the cursor is. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SHOWN_NS    ((uint64_t)200000000)
#define ROWS_MIN    4
#define COLUMNS_MIN 20

/* There is one terminal, and signal handlers have no argument of ours. */
static volatile sig_atomic_t row_taken;
static char give_back[64]; /* what to write for it; whole before row_taken is set */
static struct {
    const sl_engine *engine; /* NULL: nothing is shown */
    sl_engine_info info;
    sl_engine_stats start, last;
    uint64_t start_ns, last_ns;
    size_t start_count;
    unsigned rows;
    bool own_row;
} view;

static void write_all(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t done = write(STDERR_FILENO, text, length);
        if (done <= 0)
            return; /* a terminal that is gone needs no line */
        text += done;
        length -= (size_t)done;
    }
}

void cli_status_give_back(void)
{
    if (row_taken == 0)
        return;
    row_taken = 0;
    write_all(give_back, strlen(give_back));
}

/* Ctrl-Z: the shell gets the terminal as it was; the next token takes the row again. */
static void on_stop(int signal_number)
{
    struct sigaction was, plain = {.sa_handler = SIG_DFL};
    cli_status_give_back();
    sigaction(signal_number, &plain, &was);
    (void)raise(signal_number); /* stops here (SA_NODEFER) */
    sigaction(signal_number, &was, NULL);
}

static void catch_stop(bool on)
{
    struct sigaction action = {.sa_handler = on ? on_stop : SIG_DFL, .sa_flags = SA_RESTART | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTSTP, &action, NULL);
}

void cli_status_begin(const sl_engine *engine)
{
    if (!cli_terminal())
        return;
    view.engine = engine;
    view.start_ns = 0;
    view.own_row = isatty(STDOUT_FILENO) == 1;
    sl_engine_describe(engine, &view.info);
    catch_stop(true);
}

void cli_status_end(void)
{
    if (view.engine == NULL)
        return;
    view.engine = NULL;
    cli_status_give_back();
    if (!view.own_row)
        write_all("\r\033[K", 4);
    catch_stop(false);
}

/* The last row becomes the line's; the cursor stays where it is, or moves up with the text. */
static void take_row(unsigned rows)
{
    char text[64];
    if (row_taken != 0 && rows == view.rows)
        return;
    cli_status_give_back();
    view.rows = rows;
    snprintf(give_back, sizeof give_back, "\0337\033[r\033[%u;1H\033[2K\0338", rows);
    write_all(text, (size_t)snprintf(text, sizeof text, "\033D\033[A\0337\033[1;%ur\0338", rows - 1));
    row_taken = 1;
}

static void draw(const char *line)
{
    struct winsize size = {0};
    char text[320];
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < ROWS_MIN || size.ws_col < COLUMNS_MIN) {
        cli_status_give_back();
        return;
    }
    int room = size.ws_col - 1;
    const char *dim = cli_color() ? "\033[2m" : "", *plain = cli_color() ? "\033[0m" : "";
    if (!view.own_row) {
        write_all(text, (size_t)snprintf(text, sizeof text, "\r\033[K%s%.*s%s", dim, room < 200 ? room : 200, line, plain));
        return;
    }
    take_row(size.ws_row);
    write_all(text, (size_t)snprintf(text, sizeof text, "\0337\033[%u;1H\033[2K%s%.*s%s\0338", view.rows, dim, room < 200 ? room : 200,
                                     line, plain));
}

void cli_status_token(size_t count)
{
    uint64_t now = view.engine != NULL ? sl_now_ns() : 0;
    if (view.engine == NULL || (view.start_ns != 0 && now - view.last_ns < SHOWN_NS))
        return;
    sl_engine_stats stats;
    sl_engine_measure(view.engine, &stats);
    if (view.start_ns == 0) {
        view.start = view.last = stats;
        view.start_ns = view.last_ns = now;
        view.start_count = count;
        return;
    }
    char line[200], speed[24], memory[24], budget[24];
    double seconds = (double)(now - view.last_ns) * 1e-9;
    uint64_t needed = (stats.passes - view.start.passes) * view.info.weight_bytes, read = stats.bytes_read - view.start.bytes_read;
    sl_format_size((uint64_t)((double)(stats.bytes_read - view.last.bytes_read) / seconds), speed);
    sl_format_size(sl_rss_bytes(), memory);
    sl_format_size(view.info.ram_budget_bytes, budget);
    snprintf(line, sizeof line, "%zu tokens  %.2f t/s  %.0f %% hits  read %s/s  memory %s of %s", count,
             (double)(count - view.start_count) * 1e9 / (double)(now - view.start_ns),
             needed > read ? 100.0 * (double)(needed - read) / (double)needed : 0.0, speed, memory, budget);
    view.last = stats;
    view.last_ns = now;
    draw(line);
}

/* offload/cli/bench_child.c: work in a process of its own, and what else the machine did meanwhile. See bench.h. */
#include "core/os.h"
#include "offload/cli/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define TOLD_S           0.5 /* the system counts processor time in hundredths of a second */

bool cli_system_line(const char *path, const char *prefix, char out[256])
{
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f != NULL && !found && fgets(out, 256, f) != NULL)
        found = strncmp(out, prefix, strlen(prefix)) == 0;
    if (f != NULL)
        (void)fclose(f); /* it was only read */
    return found;
}

/* Seconds that processors were busy since boot, without those for interrupts, which the reads of a test cause. */
static double busy_s(void)
{
    char line[256], *at = line + 4;
    uint64_t ticks = 0;
    if (!cli_system_line("/proc/stat", "cpu ", line))
        return 0;
    for (int field = 0; field < 8; field++) { /* user, nice, system, idle, iowait, irq, softirq, steal */
        uint64_t value = strtoull(at, &at, 10);
        ticks += field < 3 || field == 7 ? value : 0;
    }
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static bool join_cgroup(const char *cgroup)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool joined = fd >= 0 && write(fd, "0", 1) == 1;
    if (fd >= 0)
        close(fd);
    return joined;
}

json_t *cli_others_share(const cli_child *child)
{
    return child->others_share < 0 ? json_null() : json_real(child->others_share);
}

/* All that the child writes; Ctrl-C reaches it also when only we were told. */
static char *read_answer(int fd, pid_t child, size_t *length)
{
    char *text = NULL;
    size_t capacity = 0;
    bool told = false;
    *length = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (cli_interrupted() && !told)
            told = kill(child, SIGINT) == 0;
        if (poll(&ready, 1, 200) <= 0)
            continue;
        if (capacity - *length < 4096) {
            capacity = capacity == 0 ? 1 << 16 : 2 * capacity;
            char *grown = capacity <= ANSWER_BYTES_MAX ? realloc(text, capacity) : NULL;
            if (grown == NULL)
                break;
            text = grown;
        }
        ssize_t got = read(fd, text + *length, capacity - *length);
        if (got <= 0 && (got == 0 || errno != EINTR))
            break;
        *length += got > 0 ? (size_t)got : 0;
    }
    return text;
}

sl_status cli_in_child(int (*work)(void *ctx, int fd), void *ctx, const char *cgroup, cli_child *out, sl_error *err)
{
    int ends[2];
    struct rusage use = {0};
    size_t length;
    *out = (cli_child){0};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return sl_fail(err, SL_IO, "no pipe to a process of its own: %s", strerror(errno));
    fflush(NULL);
    double busy = busy_s(), begin = (double)sl_now_ns() * 1e-9;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        if (cgroup != NULL && !join_cgroup(cgroup))
            _exit(CLI_FAILED);
        _exit(work(ctx, ends[1]));
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return sl_fail(err, SL_NO_MEMORY, "no process of its own can be started: %s", strerror(errno));
    }
    char *text = read_answer(ends[0], child, &length);
    close(ends[0]);
    while (wait4(child, &out->status, 0, &use) < 0 && errno == EINTR)
        ;
    double spent = (double)sl_now_ns() * 1e-9 - begin, own = seconds_of(use.ru_utime) + seconds_of(use.ru_stime);
    double others = (busy_s() - busy - own) / (spent * (double)sysconf(_SC_NPROCESSORS_ONLN));
    out->others_share = spent < TOLD_S ? -1 : others < 0 ? 0 : others < 1 ? others : 1;
    out->peak_rss_bytes = (uint64_t)use.ru_maxrss * 1024;
    out->answer = text != NULL ? json_loadb(text, length, 0, NULL) : NULL;
    free(text);
    return SL_OK;
}

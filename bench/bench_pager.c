/* bench/bench_pager.c: what a dense cyclic plan through the whole pager reads per second, with an owner who computes meanwhile. To be held against the
 * tier alone (sluice bench --io FILE) in the same minute.
 *
 *   bench_pager FILE [SECONDS]
 *
 * Prints one line per case: the bandwidth, and the processor time spent as a share of one core (user + system, all threads). */
#include "core/os.h"
#include "pager/pager.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MIB           ((uint64_t)1 << 20)
#define ALIGNMENT     4096
#define STAGING_BYTES (64 * MIB)

typedef struct measure {
    uint64_t begin_ns, begin_cpu_ns;
} measure;

static uint64_t cpu_ns(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000u;
}

static measure start(void)
{
    return (measure){.begin_ns = sl_now_ns(), .begin_cpu_ns = cpu_ns()};
}

static void report(const char *name, measure m, uint64_t bytes, uint64_t requests)
{
    double seconds = (double)(sl_now_ns() - m.begin_ns) * 1e-9;
    double cpu = (double)(cpu_ns() - m.begin_cpu_ns) * 1e-9;
    printf("%-52s %8.1f MiB/s  %7.0f requests/s  %5.1f %% of a core\n", name, (double)bytes / MIB / seconds, (double)requests / seconds,
           100 * cpu / seconds);
    fflush(stdout);
}

static int complain(const sl_error *err)
{
    fprintf(stderr, "%s\n", err->message);
    return 1;
}

/* The owner computes, and does not look after its reads meanwhile. */
static void compute_for(uint64_t ns)
{
    uint64_t until = sl_now_ns() + ns;
    while (ns > 0 && sl_now_ns() < until)
        ;
}

typedef struct pass_case {
    sl_io_engine engine;
    uint32_t unit_bytes, depth;
    uint64_t compute_ns; /* after every eighth unit */
} pass_case;

/* Reads every byte of the cycle as a dense pass does, two passes planned ahead. */
static int run_passes(sl_pager *pager, const sl_unit_id *order, uint32_t count, double seconds, uint64_t compute_ns, const char *name)
{
    sl_error err = {0};
    sl_view view;
    sl_pager_stats before = sl_pager_statistics(pager);
    measure m = start();
    sl_status status = sl_pager_plan(pager, order, count, &err);
    while (status == SL_OK && (double)(sl_now_ns() - m.begin_ns) * 1e-9 < seconds) {
        status = sl_pager_plan(pager, order, count, &err);
        for (uint32_t i = 0; i < count && status == SL_OK; i++) {
            status = sl_pager_acquire(pager, order[i], &view, &err);
            if (status == SL_OK)
                sl_pager_release(pager, order[i]);
            if (i % 8 == 7)
                compute_for(compute_ns);
        }
    }
    sl_pager_stats after = sl_pager_statistics(pager);
    if (status != SL_OK)
        return complain(&err);
    report(name, m, after.bytes_read - before.bytes_read, after.requests - before.requests);
    return 0;
}

static int run_pager(const char *path, uint64_t file_bytes, double seconds, pass_case c)
{
    uint32_t count = (uint32_t)((file_bytes - 100) / c.unit_bytes);
    sl_unit *units = calloc(count, sizeof *units);
    sl_unit_id *order = calloc(count, sizeof *order);
    sl_pager *pager = NULL;
    sl_tier *tier = NULL;
    sl_error err = {0};
    int failed = units == NULL || order == NULL;
    for (uint32_t i = 0; !failed && i < count; i++) {
        units[i] = (sl_unit){.bytes = c.unit_bytes, .offset = 100 + (uint64_t)i * c.unit_bytes};
        order[i] = i;
    }
    sl_pager_config config = {.units = units, .unit_count = count, .staging_bytes = STAGING_BYTES, .plan_max = 2 * count};
    if (!failed && sl_pager_create(&config, ALIGNMENT, &pager, &err) != SL_OK)
        failed = complain(&err);
    sl_files_options options = {.engine = c.engine, .depth = c.depth};
    if (!failed)
        options.register_memory = sl_pager_staging(pager, &options.register_bytes);
    if (!failed && (sl_tier_open_files(&path, 1, &options, &tier, &err) != SL_OK || sl_pager_attach(pager, tier, &err) != SL_OK))
        failed = complain(&err);
    if (!failed) {
        char name[80];
        snprintf(name, sizeof name, "pager, %s, units %u KiB, depth %u, busy %.1f ms", tier->attrs.engine, c.unit_bytes / 1024,
                 tier->attrs.depth, (double)c.compute_ns * 1e-6);
        failed = run_passes(pager, order, count, seconds, c.compute_ns, name);
    }
    sl_pager_destroy(pager);
    free(order);
    free(units);
    return failed;
}

int main(int argc, char **argv)
{
    struct stat info;
    if (argc < 2 || stat(argv[1], &info) != 0 || info.st_size < (off_t)(64 * MIB)) {
        fprintf(stderr, "usage: bench_pager FILE [SECONDS]; FILE has at least 64 MiB\n");
        return 2;
    }
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    uint64_t bytes = (uint64_t)info.st_size;
    int failed = 0;
    static const pass_case passes[] = {
        {SL_IO_URING, 1 << 20, 0, 0},       {SL_IO_URING, 69 << 10, 0, 0}, {SL_IO_URING, 324 << 10, 0, 0},
        {SL_IO_URING, 1 << 20, 0, 2000000}, {SL_IO_URING, 1 << 20, 8, 0},  {SL_IO_PREAD, 1 << 20, 16, 0},
    };
    for (size_t i = 0; i < sizeof passes / sizeof *passes && !failed; i++)
        failed = run_pager(argv[1], bytes, seconds, passes[i]);
    return failed;
}

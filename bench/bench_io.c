/* bench/bench_io.c: what the pager's file tiers read per second, by request size, depth, order and engine; and a dense cyclic plan through
 * the whole pager. To be held against fio on the same file in the same minute.
 *
 *   bench_io FILE [SECONDS]                      all cases
 *   bench_io FILE SECONDS REQUEST_BYTES DEPTH    only the io_uring tier alone, in order, registered
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
#define DEPTH_MAX     64

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

typedef struct io_case {
    sl_io_engine engine;
    uint32_t bytes, depth;
    bool random, registered;
} io_case;

/* Keeps `depth` reads in flight over the tier alone. */
static int run_tier(const char *path, uint64_t file_bytes, double seconds, io_case c)
{
    sl_error err = {0};
    sl_tier *tier = NULL;
    size_t area = (size_t)c.bytes * c.depth;
    char *memory = sl_pages_alloc(area);
    if (memory == NULL) {
        fprintf(stderr, "no memory for %zu bytes of buffers\n", area);
        return 1;
    }
    memset(memory, 1, area);
    sl_files_options options = {.engine = c.engine, .depth = c.depth};
    if (c.registered) {
        options.register_memory = memory;
        options.register_bytes = area;
    }
    int failed = sl_tier_open_files(&path, 1, &options, &tier, &err) != SL_OK ? complain(&err) : 0;
    uint64_t blocks = file_bytes / c.bytes, random = 88172645463325252u, bytes = 0, requests = 0;
    sl_read_done done[DEPTH_MAX];
    size_t free_count = 0;
    for (; free_count < c.depth; free_count++) /* at first all slots are free; later those of the reads that are done */
        done[free_count].tag = free_count;
    measure m = start();
    while (!failed && (double)(sl_now_ns() - m.begin_ns) * 1e-9 < seconds) {
        for (size_t i = 0; i < free_count && !failed; i++, requests++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            sl_read read = {.offset = (c.random ? random : requests) % blocks * c.bytes,
                            .bytes = c.bytes,
                            .memory = memory + done[i].tag * c.bytes,
                            .tag = done[i].tag};
            failed = tier->ops->submit(tier, &read, &err) != SL_OK ? complain(&err) : 0;
        }
        free_count = tier->ops->reap(tier, true, done, DEPTH_MAX, &err);
        bytes += free_count * c.bytes;
    }
    if (!failed) {
        char name[80];
        snprintf(name, sizeof name, "%s%s %s %u KiB depth %u", tier->attrs.engine, c.registered ? " registered" : "",
                 c.random ? "random" : "sequential", c.bytes / 1024, c.depth);
        report(name, m, bytes, requests);
    }
    sl_tier_destroy(tier);
    sl_pages_free(memory, area);
    return failed;
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
        fprintf(stderr, "usage: bench_io FILE [SECONDS [REQUEST_BYTES DEPTH]]; FILE has at least 64 MiB\n");
        return 2;
    }
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    uint64_t bytes = (uint64_t)info.st_size;
    if (argc > 4) {
        unsigned long request = strtoul(argv[3], NULL, 10), depth = strtoul(argv[4], NULL, 10);
        if (request == 0 || request % ALIGNMENT != 0 || request > STAGING_BYTES || depth == 0 || depth > DEPTH_MAX) {
            fprintf(stderr, "bench_io: requests are multiples of %d bytes, 1 to %d of them in flight\n", ALIGNMENT, DEPTH_MAX);
            return 2;
        }
        return run_tier(argv[1], bytes, seconds, (io_case){SL_IO_URING, (uint32_t)request, (uint32_t)depth, false, true});
    }
    static const io_case cases[] = {
        {SL_IO_URING, 1 << 20, 16, false, true}, {SL_IO_URING, 1 << 20, 16, false, false},  {SL_IO_URING, 1 << 20, 4, false, true},
        {SL_IO_URING, 1 << 20, 32, false, true}, {SL_IO_URING, 256 << 10, 32, false, true}, {SL_IO_URING, 128 << 10, 32, true, true},
        {SL_IO_URING, 4096, 64, true, true},     {SL_IO_PREAD, 1 << 20, 16, false, false},  {SL_IO_PREAD, 256 << 10, 32, false, false},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases && !failed; i++)
        failed = run_tier(argv[1], bytes, seconds, cases[i]);
    static const pass_case passes[] = {
        {SL_IO_URING, 1 << 20, 0, 0},       {SL_IO_URING, 69 << 10, 0, 0}, {SL_IO_URING, 324 << 10, 0, 0},
        {SL_IO_URING, 1 << 20, 0, 2000000}, {SL_IO_URING, 1 << 20, 8, 0},  {SL_IO_PREAD, 1 << 20, 16, 0},
    };
    for (size_t i = 0; i < sizeof passes / sizeof *passes && !failed; i++)
        failed = run_pager(argv[1], bytes, seconds, passes[i]);
    return failed;
}

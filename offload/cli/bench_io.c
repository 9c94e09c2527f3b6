/* offload/cli/bench_io.c: `sluice bench --io`: a file's reads alone, by request size, depth, engine and order. See bench.h. */
#include "core/os.h"
#include "offload/cli/bench.h"
#include "offload/tools/read_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_MAX     ((uint64_t)16 << 20)
#define ALIGNED         4096
#define REGISTERED_MIN  ((size_t)64 << 10) /* the tier registers no less, and would say so */
#define TEMPORARY_BYTES ((uint64_t)512 << 20)
#define STEP_BYTES      ((size_t)8 << 20)

static const char *const default_sizes[] = {"4K", "16K", "64K", "256K", "1M"};
static const char *const default_depths[] = {"1", "32"};
static const char *const default_engines[] = {"uring", "pread"};

typedef struct place {
    char path[64];
    const char *name;
    int fd; /* of a temporary file; else -1 */
    uint64_t bytes;
} place;

typedef struct io_case {
    uint32_t bytes, depth;
    sl_io_engine engine;
    bool sequential;
} io_case;

static const char *value_at(const sl_sweep_values *given, const char *const *otherwise, size_t index)
{
    return given != NULL ? given->text[index] : otherwise[index];
}

/* ---- the file ---- */

/* Without a name, so that nothing is left of it; of bytes that no disk compresses. */
static sl_status make_temporary(place *p, sl_error *err)
{
    char *step = malloc(STEP_BYTES);
    uint64_t seed = sl_now_ns() | 1;
    p->fd = open(p->name, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    sl_status status = step != NULL && p->fd >= 0 ? SL_OK
                                                  : sl_fail(err, SL_IO, "%s: no temporary file can be made: %s", p->name, strerror(errno));
    for (; status == SL_OK && p->bytes < TEMPORARY_BYTES; p->bytes += STEP_BYTES) {
        for (size_t i = 0; i < STEP_BYTES / sizeof seed; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            memcpy(step + i * sizeof seed, &seed, sizeof seed);
        }
        if (write(p->fd, step, STEP_BYTES) != (ssize_t)STEP_BYTES || fdatasync(p->fd) != 0)
            status = sl_fail(err, SL_IO, "%s: a temporary file cannot be written: %s", p->name, strerror(errno));
        if (status == SL_OK && !cli_progress("writing a file to read", p->bytes, TEMPORARY_BYTES))
            status = sl_fail(err, SL_INTERRUPTED, "interrupted");
    }
    free(step);
    snprintf(p->path, sizeof p->path, "/proc/self/fd/%d", p->fd);
    return status;
}

static sl_status find_file(place *p, sl_error *err)
{
    struct stat info;
    if (stat(p->name, &info) != 0)
        return sl_fail(err, SL_IO, "--io %s: %s", p->name, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return make_temporary(p, err);
    if (!S_ISREG(info.st_mode))
        return sl_fail(err, SL_INVALID, "--io %s: it must be a file or a folder", p->name);
    p->bytes = (uint64_t)info.st_size;
    return SL_OK;
}

/* ---- a case ---- */

static sl_status measure(const cli_bench *b, const place *p, const io_case *c, sl_read_figures *figures, json_t *warnings, sl_error *err)
{
    const char *path = p->fd >= 0 ? p->path : p->name;
    size_t area = (size_t)c->bytes * c->depth;
    uint64_t random = 1;
    sl_tier *tier = NULL;
    char *memory = sl_pages_alloc(area);
    if (memory == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for %u reads of %u bytes", c->depth, c->bytes);
    memset(memory, 1, area);
    sl_files_options options = {.engine = c->engine,
                                .depth = c->depth,
                                .buffered = b->args->buffered,
                                .register_memory = memory,
                                .register_bytes = area >= REGISTERED_MIN ? area : 0};
    sl_read_case wanted = {.bytes = c->bytes,
                           .depth = c->depth,
                           .sequential = c->sequential,
                           .file_bytes = p->bytes,
                           .limit_ns = (uint64_t)(b->args->io_seconds * 1e9)};
    sl_status status = sl_tier_open_files(&path, 1, &options, &tier, err);
    if (status == SL_OK && tier->attrs.note[0] != '\0')
        cli_note(warnings, tier->attrs.note);
    if (status == SL_OK)
        status = sl_read_bench(tier, &wanted, memory, &random, figures, err);
    sl_tier_destroy(tier);
    sl_pages_free(memory, area);
    return status;
}

static sl_status case_at(const cli_bench *b, size_t index, io_case *out, sl_error *err)
{
    const sl_sweep_values *size = cli_bench_values(b, "--io-size"), *depth = cli_bench_values(b, "--io-depth"),
                          *engine = cli_bench_values(b, "--io-engine"), *order = cli_bench_values(b, "--io-order");
    size_t counts[4] = {engine != NULL ? engine->count : 2, order != NULL ? order->count : 2, depth != NULL ? depth->count : 2,
                        size != NULL ? size->count : 5},
           chosen[4];
    uint64_t bytes;
    int which;
    if (index >= sl_sweep_count(counts, 4))
        return SL_FULL;
    sl_sweep_at(counts, 4, index, chosen);
    const char *text = value_at(size, default_sizes, chosen[3]);
    if (!sl_parse_size(text, &bytes) || bytes == 0 || bytes % ALIGNED != 0 || bytes > REQUEST_MAX)
        return sl_fail(err, SL_INVALID, "--io-size %s: a request is a multiple of 4K up to 16M", text);
    long in_flight = strtol(value_at(depth, default_depths, chosen[2]), NULL, 10);
    if (in_flight > SL_READ_DEPTH_MAX)
        return sl_fail(err, SL_INVALID, "--io-depth %ld: with --io it is at most %d", in_flight, SL_READ_DEPTH_MAX);
    SL_TRY(cli_one_of("--io-order", order != NULL ? order->text[chosen[1]] : cli_io_order_word(chosen[1]), cli_io_order_word, &which, err));
    *out = (io_case){.bytes = (uint32_t)bytes, .depth = (uint32_t)in_flight, .sequential = which == 0};
    SL_TRY(cli_one_of("--io-engine", value_at(engine, default_engines, chosen[0]), cli_io_engine_word, &which, err));
    out->engine = (sl_io_engine)which;
    return SL_OK;
}

/* ---- rows ---- */

static json_t *json_row(const cli_bench *b, const io_case *c, const sl_read_figures *f, json_t *warnings)
{
    const sl_histogram *h = &f->latency_ns;
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:b, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:O}", "path", b->args->io, "engine",
        cli_io_engine_word(c->engine), "order", cli_io_order_word(c->sequential ? 0 : 1), "request_bytes", (json_int_t)c->bytes, "depth",
        (json_int_t)c->depth, "direct", (int)!b->args->buffered, "requests", (json_int_t)f->requests, "seconds", f->seconds, "bytes_per_s",
        f->bandwidth_Bps, "requests_per_s", f->requests_per_s, "latency_mean_ns", h->count > 0 ? (double)h->sum / (double)h->count : 0.0,
        "latency_p50_ns", (json_int_t)sl_histogram_percentile(h, 0.5), "latency_p90_ns", (json_int_t)sl_histogram_percentile(h, 0.9),
        "latency_p99_ns", (json_int_t)sl_histogram_percentile(h, 0.99), "latency_max_ns", (json_int_t)h->max, "warnings", warnings);
}

static void print_row(const json_t *row, const char *format, bool first)
{
    static const char *const numbers[] = {"request_bytes",  "depth",          "bytes_per_s",    "requests_per_s",
                                          "latency_p50_ns", "latency_p90_ns", "latency_p99_ns", "latency_max_ns"};
    const char *engine = json_string_value(json_object_get(row, "engine")), *order = json_string_value(json_object_get(row, "order"));
    double v[8];
    for (size_t i = 0; i < 8; i++)
        v[i] = json_number_value(json_object_get(row, numbers[i]));
    if (strcmp(format, "md") == 0) {
        if (first)
            puts("| engine | order      |   request | depth |        MiB/s |       IOPS |    p50 ms |    p90 ms |    p99 ms |    max ms |\n"
                 "| ------ | ---------- | --------: | ----: | -----------: | ---------: | --------: | --------: | --------: | --------: |");
        printf("| %-6s | %-10s | %5.0f KiB | %5.0f | %12.1f | %10.0f | %9.3f | %9.3f | %9.3f | %9.3f |\n", engine, order, v[0] / 1024, v[1],
               v[2] / (1 << 20), v[3], v[4] * 1e-6, v[5] * 1e-6, v[6] * 1e-6, v[7] * 1e-6);
    } else if (strcmp(format, "csv") == 0) {
        if (first)
            puts("engine,order,request_bytes,depth,bytes_per_s,requests_per_s,latency_p50_ns,latency_p90_ns,latency_p99_ns,latency_max_ns");
        printf("%s,%s,%.0f,%.0f,%.0f,%.1f,%.0f,%.0f,%.0f,%.0f\n", engine, order, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
    } else {
        fputs(strcmp(format, "json") == 0 ? (first ? "[\n" : ",\n") : "", stdout);
        json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputs(strcmp(format, "json") == 0 ? "" : "\n", stdout);
    }
    fflush(stdout);
}

/* All cases are looked at before the first is run. */
static sl_status count_cases(const cli_bench *b, size_t *count, sl_error *err)
{
    io_case c;
    sl_status status = SL_OK;
    for (*count = 0; status == SL_OK; (*count)++)
        status = case_at(b, *count, &c, err);
    (*count)--;
    return status == SL_FULL ? SL_OK : status;
}

static sl_status run_cases(cli_bench *b, const char *format, sl_error *err)
{
    place p = {.name = b->args->io, .fd = -1};
    size_t count = 0, done = 0;
    sl_read_figures *figures = calloc(1, sizeof *figures);
    sl_status status = figures != NULL ? count_cases(b, &count, err) : sl_fail(err, SL_NO_MEMORY, "no memory for the figures");
    if (status == SL_OK && (double)count * b->args->io_seconds > 60)
        fprintf(stderr, "%zu cases of %.3g s: %.0f s\n", count, b->args->io_seconds, (double)count * b->args->io_seconds);
    if (status == SL_OK)
        status = find_file(&p, err);
    for (size_t i = 0; status == SL_OK && i < count; i++) {
        io_case c;
        json_t *warnings = json_array();
        status = case_at(b, i, &c, err);
        if (status == SL_OK && c.bytes > p.bytes)
            status = sl_fail(err, SL_INVALID, "%s: too short for a request of %u bytes", p.name, c.bytes);
        if (status == SL_OK && !cli_progress("reading", i, count))
            status = sl_fail(err, SL_INTERRUPTED, "interrupted");
        if (status == SL_OK)
            status = measure(b, &p, &c, figures, warnings, err);
        cli_progress_end();
        if (status == SL_OK) {
            json_t *row = json_row(b, &c, figures, warnings);
            print_row(row, format, done++ == 0);
            json_decref(row);
        }
        json_decref(warnings);
    }
    if (strcmp(format, "json") == 0 && done > 0)
        puts("\n]");
    if (p.fd >= 0)
        close(p.fd);
    free(figures);
    return status;
}

int cli_bench_io(cli_bench *b)
{
    sl_error err = {0};
    const char *format = b->args->json ? "json" : b->args->format != NULL ? b->args->format : "md";
    if (strcmp(format, "sql") == 0 || b->args->output != NULL) {
        (void)sl_fail(&err, SL_INVALID, "--io prints md, csv, json or jsonl to standard output: no %s",
                      b->args->output != NULL ? "--output" : "-o sql");
        return cli_fail(b->args, &err);
    }
    return run_cases(b, format, &err) == SL_OK ? CLI_DONE : cli_fail(b->args, &err);
}

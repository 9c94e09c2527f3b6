/* bench/bench_matmul.c: how fast products, packing and quantising run, against what the memory gives in the same run.
 *
 *     bench_matmul [--isa I] [--type T] [--rows N,N,...] [--cols C] [--out-rows R] [--threads N] [--bytes SIZE] [--passes N]
 *
 * A pool of equal matrices as large as --bytes is visited from end to end in every pass, so that nothing survives in a cache unless the pool
 * is smaller than one; each thread takes its share of every matrix's panels, as the engine does. A line gives the fastest and
 * the median pass, the bandwidth at which weights went by, its ratio to plain reading by as many threads, and integer operations (a
 * product and a sum count two). */
#include "core/cpu.h"
#include "core/os.h"
#include "kernels/kernels.h"
#include "offload/tools/synth_row.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX    64
#define ROW_COUNTS_MAX 32
#define PASSES_MAX     100
#define READ_AHEAD     8192 /* bytes; the distance at which plain reading is fastest, so that products are not flattered */

typedef struct options {
    sl_isa isa;
    uint32_t type, cols, out_rows, threads, passes;
    uint32_t rows[ROW_COUNTS_MAX];
    size_t row_counts;
    uint64_t bytes;
} options;

typedef struct bench bench;
typedef void (*work_fn)(bench *b, uint32_t thread);

struct bench {
    options opt;
    const sl_kernels *kernels;
    uint8_t *pool;
    size_t pool_bytes, matrix_bytes, panel_bytes, matrices;
    uint8_t *rows_of_panel; /* sixteen file rows */
    sl_acts x;
    float *out;
    work_fn work; /* NULL: threads end */
    pthread_barrier_t begin, end;
    uint64_t checksum[THREADS_MAX]; /* keeps the reads from being removed */
};

typedef struct worker {
    bench *b;
    uint32_t index;
    pthread_t thread;
} worker;

typedef uint64_t wide __attribute__((vector_size(64), aligned(32)));

static uint32_t panels_of_matrix(const bench *b)
{
    return (b->opt.out_rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
}

/* ---- what threads do in a pass ---- */

static void work_read(bench *b, uint32_t thread)
{
    size_t share = b->pool_bytes / b->opt.threads / 256 * 256;
    const uint8_t *at = b->pool + thread * share;
    wide sum[4] = {0};
    for (size_t i = 0; i < share; i += 256)
        for (int j = 0; j < 4; j++) {
            __builtin_prefetch(at + i + 64 * j + READ_AHEAD);
            sum[j] += *(const wide *)(at + i + 64 * j);
        }
    wide all = sum[0] + sum[1] + sum[2] + sum[3];
    for (int i = 0; i < 8; i++)
        b->checksum[thread] += all[i];
}

/* The thread's panels [*first, *first + count) of every matrix. */
static uint32_t share_of_panels(const bench *b, uint32_t thread, uint32_t *first)
{
    uint64_t panels = panels_of_matrix(b);
    *first = (uint32_t)(panels * thread / b->opt.threads);
    return (uint32_t)(panels * (thread + 1) / b->opt.threads) - *first;
}

static void work_matmul(bench *b, uint32_t thread)
{
    uint32_t first, count = share_of_panels(b, thread, &first);
    size_t stride = panels_of_matrix(b) * (size_t)SL_PANEL_ROWS;
    for (size_t m = 0; m < b->matrices && count; m++)
        b->kernels->matmul(b->opt.type, b->pool + m * b->matrix_bytes + first * b->panel_bytes, count * SL_PANEL_ROWS, &b->x,
                           b->out + (size_t)first * SL_PANEL_ROWS, stride);
}

/* Packs in the manner of a stream: source rows from the pool's first half, panels into its second half. */
static void work_pack(bench *b, uint32_t thread)
{
    size_t half = b->pool_bytes / 2 / b->panel_bytes, row_bytes = b->panel_bytes / SL_PANEL_ROWS;
    size_t first = half * thread / b->opt.threads, last = half * (thread + 1) / b->opt.threads;
    for (size_t p = first; p < last; p++) {
        const uint8_t *rows[SL_PANEL_ROWS];
        for (size_t r = 0; r < SL_PANEL_ROWS; r++)
            rows[r] = b->pool + p * b->panel_bytes + r * row_bytes;
        b->kernels->pack(b->opt.type, rows, b->opt.cols, b->pool + (half + p) * b->panel_bytes);
    }
}

static void work_quantize(bench *b, uint32_t thread)
{
    b->kernels->quantize(&b->x, b->x.rows * thread / b->opt.threads, b->x.rows * (thread + 1) / b->opt.threads);
}

/* ---- timing ---- */

static void *worker_main(void *arg)
{
    worker *w = arg;
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        uint32_t nth = w->index % (uint32_t)CPU_COUNT(&allowed);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed) && nth-- == 0) {
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                pthread_setaffinity_np(pthread_self(), sizeof one, &one);
                break;
            }
    }
    for (;;) {
        pthread_barrier_wait(&w->b->begin);
        if (!w->b->work)
            return NULL;
        w->b->work(w->b, w->index);
        pthread_barrier_wait(&w->b->end);
    }
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs `work` on all threads, once to warm up and then --passes times; fastest and median seconds. */
static void time_passes(bench *b, work_fn work, double *fastest, double *median)
{
    double seconds[PASSES_MAX];
    b->work = work;
    for (uint32_t i = 0; i <= b->opt.passes; i++) {
        uint64_t start = sl_now_ns();
        pthread_barrier_wait(&b->begin);
        pthread_barrier_wait(&b->end);
        if (i > 0)
            seconds[i - 1] = (double)(sl_now_ns() - start) * 1e-9;
    }
    qsort(seconds, b->opt.passes, sizeof *seconds, compare_times);
    *fastest = seconds[0];
    *median = seconds[b->opt.passes / 2];
}

/* ---- set-up ---- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static bool fill_rows(bench *b)
{
    float *scratch = malloc(b->opt.cols * sizeof *scratch);
    for (size_t r = 0; scratch && r < SL_PANEL_ROWS; r++)
        sli_synth_row(b->opt.type, b->opt.cols, sli_random_row(1, 0, r), scratch, b->rows_of_panel + r * (b->panel_bytes / SL_PANEL_ROWS));
    free(scratch);
    return scratch != NULL;
}

/* All panels hold the same sixteen rows; the memory they lie in is what counts. */
static void fill_pool(bench *b)
{
    const uint8_t *rows[SL_PANEL_ROWS];
    for (size_t r = 0; r < SL_PANEL_ROWS; r++)
        rows[r] = b->rows_of_panel + r * (b->panel_bytes / SL_PANEL_ROWS);
    b->kernels->pack(b->opt.type, rows, b->opt.cols, b->pool);
    for (size_t p = 1; p < b->pool_bytes / b->panel_bytes; p++)
        memcpy(b->pool + p * b->panel_bytes, b->pool, b->panel_bytes);
}

static bool set_up(bench *b)
{
    uint32_t rows_max = 1;
    for (size_t i = 0; i < b->opt.row_counts; i++)
        rows_max = b->opt.rows[i] > rows_max ? b->opt.rows[i] : rows_max;
    b->panel_bytes = sl_panel_bytes(b->opt.type, b->opt.cols);
    b->matrix_bytes = panels_of_matrix(b) * b->panel_bytes;
    b->matrices = b->opt.bytes / b->matrix_bytes ? b->opt.bytes / b->matrix_bytes : 1;
    b->pool_bytes = b->matrices * b->matrix_bytes;

    size_t elements = (size_t)rows_max * b->opt.cols;
    float *f32 = sl_pages_alloc(elements * sizeof(float));
    b->x.q = sl_pages_alloc(elements);
    b->x.d = sl_pages_alloc(elements / SL_ACT_BLOCK * sizeof(float));
    b->x.sum = sl_pages_alloc(elements / SL_ACT_BLOCK * sizeof(int32_t));
    b->out = sl_pages_alloc((size_t)rows_max * panels_of_matrix(b) * SL_PANEL_ROWS * sizeof(float));
    b->rows_of_panel = malloc(b->panel_bytes);
    b->pool = sl_pages_alloc(b->pool_bytes);
    if (!f32 || !b->x.q || !b->x.d || !b->x.sum || !b->out || !b->rows_of_panel || !b->pool)
        return false;

    uint64_t state = 2;
    for (size_t i = 0; i < elements; i++)
        f32[i] = (float)next_random(&state) * 0x1p-30f - 1.0f;
    b->x.f32 = f32;
    b->x.cols = b->opt.cols;
    b->x.rows = rows_max;
    b->kernels->quantize(&b->x, 0, rows_max);
    if (!fill_rows(b))
        return false;
    fill_pool(b);
    return true;
}

/* ---- the report ---- */

static void report(bench *b)
{
    double best, median, read_best, read_median;
    double gigabytes = (double)b->pool_bytes * 1e-9;
    uint32_t rows_max = b->x.rows;

    time_passes(b, work_read, &read_best, &read_median);
    printf("%s %s, %zu matrices of %u x %u, %.2f GB, %u threads, %u passes\n", sl_isa_name(b->opt.isa), sl_format_of(b->opt.type)->name,
           b->matrices, b->opt.out_rows, b->opt.cols, gigabytes, b->opt.threads, b->opt.passes);
    printf("%-10s %10s %10s %8s %8s %8s\n", "", "min ms", "median ms", "GB/s", "of read", "GOPS");
    printf("%-10s %10.2f %10.2f %8.2f %8s %8s\n", "read", read_best * 1e3, read_median * 1e3, gigabytes / read_best, "1.00", "-");
    for (size_t i = 0; i < b->opt.row_counts; i++) {
        b->x.rows = b->opt.rows[i];
        time_passes(b, work_matmul, &best, &median);
        double ops = 2.0 * b->x.rows * b->opt.cols * b->opt.out_rows * (double)b->matrices;
        printf("rows %-5u %10.2f %10.2f %8.2f %8.2f %8.0f\n", b->x.rows, best * 1e3, median * 1e3, gigabytes / best, read_best / best,
               ops / best * 1e-9);
    }
    b->x.rows = rows_max;
    if (sl_format_of(b->opt.type)->quantized) {
        time_passes(b, work_quantize, &best, &median);
        printf("%-10s %10.3f %10.3f %8.2f %8s %8s   (%u rows of fp32)\n", "quantize", best * 1e3, median * 1e3,
               (double)rows_max * b->opt.cols * 4e-9 / best, "-", "-", rows_max);
    }
    time_passes(b, work_pack, &best, &median); /* last: it overwrites half of the pool */
    printf("%-10s %10.2f %10.2f %8.2f %8s %8s   (bytes packed: each is read once and written once)\n", "pack", best * 1e3, median * 1e3,
           gigabytes / 2 / best, "-", "-");
}

static bool parse_rows(const char *text, options *o)
{
    o->row_counts = 0;
    while (*text && o->row_counts < ROW_COUNTS_MAX) {
        char *end;
        unsigned long n = strtoul(text, &end, 10);
        if (end == text || n == 0 || n > 65536)
            return false;
        o->rows[o->row_counts++] = (uint32_t)n;
        text = *end == ',' ? end + 1 : end;
    }
    return *text == 0;
}

static bool parse_option(const char *name, const char *value, options *o)
{
    if (strcmp(name, "--isa") == 0)
        return sl_isa_by_name(value, &o->isa) && sl_cpu_supports(o->isa) && sl_kernels_for(o->isa);
    if (strcmp(name, "--type") == 0)
        return sl_format_by_name(value, &o->type) && sl_format_of(o->type)->supported;
    if (strcmp(name, "--rows") == 0)
        return parse_rows(value, o);
    if (strcmp(name, "--bytes") == 0)
        return sl_parse_size(value, &o->bytes);
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "--cols") == 0)
        return (o->cols = number) > 0 && number % SL_ACT_BLOCK == 0;
    if (strcmp(name, "--out-rows") == 0)
        return (o->out_rows = number) > 0;
    if (strcmp(name, "--threads") == 0)
        return (o->threads = number) > 0 && number <= THREADS_MAX;
    if (strcmp(name, "--passes") == 0)
        return (o->passes = number) > 0 && number <= PASSES_MAX;
    return false;
}

int main(int argc, char **argv)
{
    bench b = {.opt = {.isa = sl_cpu_best_isa(),
                       .type = SL_TYPE_Q4_0,
                       .cols = 4608,
                       .out_rows = 4608,
                       .threads = 2,
                       .passes = 5,
                       .rows = {1, 2, 4, 8, 16, 64},
                       .row_counts = 6,
                       .bytes = (uint64_t)2 << 30}};
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !parse_option(argv[i], argv[i + 1], &b.opt)) {
            fprintf(stderr, "bench_matmul: %s %s: no such option, or not a value for it\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            return 2;
        }
    if (b.opt.cols % sl_format_of(b.opt.type)->block_elements != 0) {
        fprintf(stderr, "bench_matmul: --cols %u: %s has blocks of %u\n", b.opt.cols, sl_format_of(b.opt.type)->name,
                sl_format_of(b.opt.type)->block_elements);
        return 2;
    }
    b.kernels = sl_kernels_for(b.opt.isa);
    if (!set_up(&b)) {
        fprintf(stderr, "bench_matmul: no memory for %zu bytes of weights; give a smaller --bytes\n", b.pool_bytes);
        return 1;
    }

    worker workers[THREADS_MAX];
    pthread_barrier_init(&b.begin, NULL, b.opt.threads + 1);
    pthread_barrier_init(&b.end, NULL, b.opt.threads + 1);
    for (uint32_t i = 0; i < b.opt.threads; i++) {
        workers[i] = (worker){.b = &b, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            fprintf(stderr, "bench_matmul: cannot start thread %u\n", i);
            return 1; /* the process ends with the threads that wait */
        }
    }
    report(&b);
    b.work = NULL;
    pthread_barrier_wait(&b.begin);
    for (uint32_t i = 0; i < b.opt.threads; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}

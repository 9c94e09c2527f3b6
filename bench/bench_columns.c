/* bench/bench_columns.c: how fast a set of neurons is multiplied, from rows and columns that lie scattered in memory.
 *
 *     bench_columns [--isa I] [--type T] [--rows D] [--cols FF] [--threads N] [--bytes SIZE] [--passes N]
 *
 * Layers of FF bundles (gate row, up row, down column; as far apart as in the cache of bundles) fill at least --bytes, so that nothing survives in a cache
 * unless they fit into one; neurons lie in random order. In a pass every layer is used once. GB/s counts the bytes of the rows or columns
 * that are touched; "with meta" the down product's scales as well, which are read whole where a block has members. Threads share the rows of a
 * down product and the members of the others. Then, on one thread: many activation rows through panels made of columns, against panels
 * that are there; and cutting and joining. */
#include "core/cpu.h"
#include "core/os.h"
#include "kernels/columns.h"
#include "kernels/kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64
#define PASSES_MAX  100
#define BATCH_ROWS  64

typedef struct options {
    sl_isa isa;
    uint32_t type, rows, cols, threads, passes; /* rows is d, cols is ff */
    uint64_t bytes;
} options;

typedef struct bench bench;
typedef void (*work_fn)(bench *b, uint32_t thread);

struct bench {
    options opt;
    const sl_kernels *kernels;
    size_t row_bytes, column_bytes, stride, meta_bytes, layers;
    uint8_t *pool, *meta;
    uint32_t *order;          /* [cols] place of a neuron in its layer */
    uint32_t count, *member;  /* of the set in use */
    const uint8_t **pointers; /* [layer][count] their columns, or [layer][2 * count] their gate and up rows */
    uint8_t *panels;          /* one matrix */
    sl_acts in, hidden;       /* of d and of ff */
    float *out;
    work_fn work; /* NULL: threads end */
    pthread_barrier_t begin, end;
};

typedef struct worker {
    bench *b;
    uint32_t index;
    pthread_t thread;
} worker;

static uint32_t next_random(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* ---- what threads do in a pass ---- */

static uint32_t share(uint32_t n, uint32_t unit, uint32_t thread, const bench *b)
{
    uint64_t units = (n + unit - 1) / unit, end = units * thread / b->opt.threads * unit;
    return end < n ? (uint32_t)end : n;
}

static sl_columns layer_of(const bench *b, size_t layer)
{
    return (sl_columns){.type = b->opt.type,
                        .rows = b->opt.rows,
                        .cols = b->opt.cols,
                        .meta = b->meta + layer * b->meta_bytes,
                        .count = b->count,
                        .member = b->member,
                        .column = b->pointers + layer * b->count};
}

static void work_columns(bench *b, uint32_t thread)
{
    for (size_t layer = 0; layer < b->layers; layer++) {
        sl_columns w = layer_of(b, layer);
        sl_acts one = b->hidden;
        one.rows = 1;
        b->kernels->matmul_columns(&w, &one, share(b->opt.rows, 64, thread, b), share(b->opt.rows, 64, thread + 1, b), b->out);
    }
}

static void work_rows(bench *b, uint32_t thread)
{
    uint32_t first = share(2 * b->count, 8, thread, b), end = share(2 * b->count, 8, thread + 1, b);
    for (size_t layer = 0; layer < b->layers; layer++)
        b->kernels->dot_rows(b->opt.type, b->pointers + layer * 2 * b->count + first, end - first, &b->in, b->out + first);
}

/* The same rows by way of a panel: what dot_rows has to beat. */
static void work_rows_packed(bench *b, uint32_t thread)
{
    uint32_t first = share(2 * b->count, 16, thread, b), end = share(2 * b->count, 16, thread + 1, b);
    uint8_t *panel = b->panels + thread * sl_panel_bytes(b->opt.type, b->opt.rows);
    for (size_t layer = 0; layer < b->layers; layer++)
        for (uint32_t i = first; i < end; i += SL_PANEL_ROWS) {
            const uint8_t *rows[SL_PANEL_ROWS] = {0};
            uint32_t n = end - i < SL_PANEL_ROWS ? end - i : SL_PANEL_ROWS;
            memcpy(rows, b->pointers + layer * 2 * b->count + i, n * sizeof *rows);
            b->kernels->pack(b->opt.type, rows, b->opt.rows, panel);
            b->kernels->matmul(b->opt.type, panel, n, &b->in, b->out + i, n);
        }
}

/* ---- timing ---- */

static void *worker_main(void *arg)
{
    worker *w = arg;
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

/* Bytes of weights: random, the high bytes of all fp16 and float fields tamed. */
static void fill_weights(const bench *b, uint8_t *to, size_t bytes, bool column)
{
    const sl_format *format = sl_format_of(b->opt.type);
    for (size_t i = 0; i < bytes; i++) {
        size_t at = i % format->block_bytes;
        bool high = format->quantized ? !column && (at == 1 || (at == 3 && b->opt.type == SL_TYPE_Q4_1)) : at + 1 == format->block_bytes;
        to[i] = high ? 0x2c : (uint8_t)next_random();
    }
}

static bool fill_acts(const bench *b, sl_acts *x, uint32_t rows, uint32_t cols)
{
    size_t elements = (size_t)rows * cols;
    float *f32 = sl_pages_alloc(elements * sizeof(float));
    *x = (sl_acts){.rows = rows, .cols = cols, .f32 = f32, .q = sl_pages_alloc(elements)};
    x->d = sl_pages_alloc(elements / SL_ACT_BLOCK * sizeof(float));
    x->sum = sl_pages_alloc(elements / SL_ACT_BLOCK * sizeof(int32_t));
    if (!f32 || !x->q || !x->d || !x->sum)
        return false;
    for (size_t i = 0; i < elements; i++)
        f32[i] = (float)next_random() * 0x1p-30f - 1.0f;
    b->kernels->quantize(x, 0, rows);
    return true;
}

/* One bundle is random, all are copies of it: the memory they lie in is what counts. */
static void fill_pool(bench *b)
{
    fill_weights(b, b->pool, 2 * b->row_bytes, false);
    fill_weights(b, b->pool + 2 * b->row_bytes, b->column_bytes, true);
    for (size_t i = 1; i < b->layers * b->opt.cols; i++)
        memcpy(b->pool + i * b->stride, b->pool, b->stride);
    for (size_t i = 0; i < b->layers * b->meta_bytes; i++)
        b->meta[i] = 0x2c;
    for (uint32_t n = 0; n < b->opt.cols; n++)
        b->order[n] = n;
    for (uint32_t n = b->opt.cols; n > 1; n--) {
        uint32_t other = next_random() % n, swap = b->order[n - 1];
        b->order[n - 1] = b->order[other];
        b->order[other] = swap;
    }
}

static bool set_up(bench *b)
{
    b->row_bytes = sl_row_bytes(b->opt.type, b->opt.rows);
    b->column_bytes = sl_column_bytes(b->opt.type, b->opt.rows);
    b->stride = ((2 * b->row_bytes + b->column_bytes + 63) / 64 | 1) * 64; /* as in a slot: pager/bundles.h */
    b->meta_bytes = sl_column_meta_bytes(b->opt.type, b->opt.rows, b->opt.cols);
    b->layers = b->opt.bytes / (b->stride * b->opt.cols) + 1;
    size_t matrix_bytes = (b->opt.rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS * sl_panel_bytes(b->opt.type, b->opt.cols);
    b->pool = sl_pages_alloc(b->layers * b->opt.cols * b->stride);
    b->meta = sl_pages_alloc(b->layers * b->meta_bytes + 1);
    b->order = malloc(b->opt.cols * sizeof *b->order);
    b->member = malloc(b->opt.cols * sizeof *b->member);
    b->pointers = malloc(b->layers * 2 * b->opt.cols * sizeof *b->pointers);
    b->panels = sl_pages_alloc(matrix_bytes);
    b->out = sl_pages_alloc((size_t)BATCH_ROWS * (b->opt.rows + 2 * b->opt.cols) * sizeof(float));
    if (!b->pool || !b->meta || !b->order || !b->member || !b->pointers || !b->panels || !b->out)
        return false;
    fill_pool(b);
    return fill_acts(b, &b->in, 1, b->opt.rows) && fill_acts(b, &b->hidden, BATCH_ROWS, b->opt.cols);
}

static const uint8_t *bundle_of(const bench *b, size_t layer, uint32_t neuron)
{
    return b->pool + (layer * b->opt.cols + b->order[neuron]) * b->stride;
}

/* Takes a random set; exactly density * cols members. */
static void choose(bench *b, double density)
{
    uint32_t wanted = (uint32_t)(density * b->opt.cols + 0.5);
    b->count = 0;
    for (uint32_t n = 0; n < b->opt.cols; n++)
        if (next_random() % (b->opt.cols - n) < wanted - b->count)
            b->member[b->count++] = n;
}

static void point_at_columns(bench *b)
{
    for (size_t layer = 0; layer < b->layers; layer++)
        for (uint32_t i = 0; i < b->count; i++)
            b->pointers[layer * b->count + i] = bundle_of(b, layer, b->member[i]) + 2 * b->row_bytes;
}

static void point_at_rows(bench *b)
{
    for (size_t layer = 0; layer < b->layers; layer++)
        for (uint32_t i = 0; i < 2 * b->count; i++)
            b->pointers[(layer * 2) * b->count + i] = bundle_of(b, layer, b->member[i / 2]) + i % 2 * b->row_bytes;
}

/* ---- the report ---- */

static size_t meta_bytes_touched(const bench *b)
{
    size_t blocks = 0, words = sl_column_meta_words(b->opt.type);
    for (uint32_t i = 0; i < b->count; i++)
        blocks += i == 0 || b->member[i] / SL_ACT_BLOCK != b->member[i - 1] / SL_ACT_BLOCK;
    return blocks * words * 2 * b->opt.rows;
}

static void report_line(const char *name, double density, double best, double median, double bytes, double all_bytes)
{
    printf("%-22s %7.2f %9.2f %9.2f %8.2f", name, density, best * 1e3, median * 1e3, bytes / best * 1e-9);
    if (all_bytes > 0)
        printf(" %9.2f", all_bytes / best * 1e-9);
    printf("\n");
}

static void report_sets(bench *b)
{
    static const double densities[] = {0.1, 0.3, 0.5, 1.0};
    double best, median;
    printf("%-22s %7s %9s %9s %8s %9s\n", "", "density", "min ms", "median ms", "GB/s", "with meta");
    for (size_t d = 0; d < 4; d++) {
        choose(b, densities[d]);
        double bytes = (double)b->layers * b->count * (double)b->column_bytes;
        point_at_columns(b);
        time_passes(b, work_columns, &best, &median);
        report_line("matmul_columns", densities[d], best, median, bytes, bytes + (double)(b->layers * meta_bytes_touched(b)));
    }
    for (size_t d = 0; d < 4; d++) {
        choose(b, densities[d]);
        double bytes = (double)b->layers * 2 * b->count * (double)b->row_bytes;
        point_at_rows(b);
        time_passes(b, work_rows, &best, &median);
        report_line("dot_rows", densities[d], best, median, bytes, 0);
        time_passes(b, work_rows_packed, &best, &median);
        report_line("pack + matmul of rows", densities[d], best, median, bytes, 0);
    }
}

static double seconds_since(uint64_t start)
{
    return (double)(sl_now_ns() - start) * 1e-9;
}

/* A layer's down matrix as panels. */
static void fill_panels(const bench *b, const sl_columns *w)
{
    size_t row_bytes = sl_row_bytes(b->opt.type, b->opt.cols), panel_bytes = sl_panel_bytes(b->opt.type, b->opt.cols);
    uint8_t *joined = malloc(SL_COLUMN_GROUP * row_bytes);
    for (uint32_t first = 0; joined && first < b->opt.rows; first += SL_PANEL_ROWS) {
        const uint8_t *rows[SL_PANEL_ROWS] = {0};
        uint32_t group = first / SL_COLUMN_GROUP * SL_COLUMN_GROUP, left = b->opt.rows - group;
        sl_columns_join(b->opt.type, w->column, w->meta, b->opt.rows, b->opt.cols, group, left < SL_COLUMN_GROUP ? left : SL_COLUMN_GROUP,
                        joined);
        for (uint32_t r = 0; r < SL_PANEL_ROWS && first + r < b->opt.rows; r++)
            rows[r] = joined + (first - group + r) * row_bytes;
        b->kernels->pack(b->opt.type, rows, b->opt.cols, b->panels + first / SL_PANEL_ROWS * panel_bytes);
    }
    free(joined);
}

/* One layer's down product for many rows: from columns, and from panels that are there. */
static void report_batch(bench *b, uint32_t rows)
{
    double from_columns = 1e9, from_panels = 1e9;
    sl_acts hidden = b->hidden;
    choose(b, 1.0);
    point_at_columns(b);
    sl_columns w = layer_of(b, 0);
    fill_panels(b, &w);
    hidden.rows = rows;
    for (uint32_t pass = 0; pass <= b->opt.passes; pass++) {
        w = layer_of(b, pass % b->layers);
        uint64_t start = sl_now_ns();
        b->kernels->matmul_columns(&w, &hidden, 0, b->opt.rows, b->out);
        double columns_s = seconds_since(start);
        start = sl_now_ns();
        b->kernels->matmul(b->opt.type, b->panels, b->opt.rows, &hidden, b->out, b->opt.rows);
        double panels_s = seconds_since(start);
        from_columns = columns_s < from_columns ? columns_s : from_columns;
        from_panels = panels_s < from_panels ? panels_s : from_panels;
    }
    printf("%u rows of activations, one thread: %.2f ms from columns (%.2f GB/s of them), %.2f ms from panels\n", rows, from_columns * 1e3,
           (double)b->opt.cols * (double)b->column_bytes / from_columns * 1e-9, from_panels * 1e3);
}

static void report_cutting(bench *b)
{
    size_t bytes = b->opt.rows * sl_row_bytes(b->opt.type, b->opt.cols);
    uint8_t *matrix = sl_pages_alloc(bytes), **columns = malloc(b->opt.cols * sizeof *columns);
    if (!matrix || !columns)
        return;
    for (size_t i = 0; i < bytes; i++)
        matrix[i] = (uint8_t)i;
    for (uint32_t n = 0; n < b->opt.cols; n++)
        columns[n] = b->pool + b->order[n] * b->stride + 2 * b->row_bytes;
    double split = 1e9, join = 1e9;
    for (uint32_t pass = 0; pass <= b->opt.passes; pass++) {
        uint64_t start = sl_now_ns();
        sl_columns_split(b->opt.type, matrix, b->opt.rows, b->opt.cols, 0, b->opt.rows, columns, b->meta);
        split = seconds_since(start) < split ? seconds_since(start) : split;
        start = sl_now_ns();
        sl_columns_join(b->opt.type, (const uint8_t *const *)columns, b->meta, b->opt.rows, b->opt.cols, 0, b->opt.rows, matrix);
        join = seconds_since(start) < join ? seconds_since(start) : join;
    }
    printf("cutting %.1f MiB: %.1f ms, joining %.1f ms\n", (double)bytes / 0x1p20, split * 1e3, join * 1e3);
    free(columns);
}

static bool parse_option(const char *name, const char *value, options *o)
{
    if (strcmp(name, "--isa") == 0)
        return sl_isa_by_name(value, &o->isa) && sl_cpu_supports(o->isa) && sl_kernels_for(o->isa);
    if (strcmp(name, "--type") == 0)
        return sl_format_by_name(value, &o->type) && sl_format_of(o->type)->supported;
    if (strcmp(name, "--bytes") == 0)
        return sl_parse_size(value, &o->bytes);
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "--rows") == 0)
        return (o->rows = number) > 0 && number % SL_ACT_BLOCK == 0;
    if (strcmp(name, "--cols") == 0)
        return (o->cols = number) > 0 && number % SL_ACT_BLOCK == 0;
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
                       .rows = 4608,
                       .cols = 12288,
                       .threads = 1,
                       .passes = 5,
                       .bytes = (uint64_t)512 << 20}};
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !parse_option(argv[i], argv[i + 1], &b.opt)) {
            fprintf(stderr, "bench_columns: %s %s: no such option, or not a value for it\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            return 2;
        }
    b.kernels = sl_kernels_for(b.opt.isa);
    if (!set_up(&b)) {
        fprintf(stderr, "bench_columns: no memory for %zu bundles; give a smaller --bytes\n", b.layers * b.opt.cols);
        return 1;
    }

    worker workers[THREADS_MAX];
    pthread_barrier_init(&b.begin, NULL, b.opt.threads + 1);
    pthread_barrier_init(&b.end, NULL, b.opt.threads + 1);
    for (uint32_t i = 0; i < b.opt.threads; i++) {
        workers[i] = (worker){.b = &b, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            fprintf(stderr, "bench_columns: cannot start thread %u\n", i);
            return 1; /* the process ends with the threads that wait */
        }
    }
    printf("%s %s, d %u, ff %u, %zu layers of %.1f MiB, %u threads, %u passes\n", sl_isa_name(b.opt.isa), sl_format_of(b.opt.type)->name,
           b.opt.rows, b.opt.cols, b.layers, (double)b.stride * b.opt.cols / 0x1p20, b.opt.threads, b.opt.passes);
    report_sets(&b);
    report_batch(&b, 8);
    report_batch(&b, BATCH_ROWS);
    report_cutting(&b);
    b.work = NULL;
    pthread_barrier_wait(&b.begin);
    for (uint32_t i = 0; i < b.opt.threads; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}

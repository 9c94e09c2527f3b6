/* bench/bench_device_kernels.c: how fast a device's kernels are: products at every number of rows that a run has, attention, and a layer's neurons.
 *
 *     bench_device_kernels [--quick] [--passes N]
 *
 * The device is named by SLUICE_TEST_DEVICE (cuda; emulated, whose times are reckoned from bytes and say nothing of kernels). Shapes are a 7B's: hidden
 * 4608, feed-forward 12288. Weights are several matrices of random bytes that are visited in turn, more than a cache holds. A line gives the best pass by
 * the device's own clock: bytes of weights a second, and operations (a product and a sum count two). --quick: small shapes, to see that all of it runs. */
#define PROGRAM "bench_device_kernels"
#include "bench/must.h"

#include "core/os.h"
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX   512u
#define SEED_BYTES ((size_t)1 << 20)

typedef struct shape {
    uint32_t hidden, ff, heads, kv_heads, head_dim, positions;
    uint64_t pool_bytes; /* of weights */
} shape;
static const shape full = {4608, 12288, 36, 36, 128, 4096, (uint64_t)512 << 20};
static const shape small = {256, 512, 4, 2, 64, 128, (uint64_t)1 << 20};

typedef struct bench {
    sl_device *d;
    shape s;
    sl_event *from, *to;
    uint32_t passes, turns_min, turns_max;
    sl_device_ptr pool, out, bundles_at, scratch, members;
    sl_device_acts x; /* ROWS_MAX rows of ff columns; fewer are taken of it */
} bench;

/* What is measured, and what it works on. */
typedef struct work {
    void (*run)(bench *b, const struct work *w, uint32_t turn);
    uint32_t type, rows, out_rows, cols;
    uint64_t bytes;
    double operations;
} work;

/* ---- what runs ---- */

static sl_device_acts rows_of(const bench *b, uint32_t rows, uint32_t cols)
{
    sl_device_acts x = b->x;
    x.rows = rows;
    x.cols = cols;
    return x;
}

/* One matrix of the pool, another one each turn. */
static void run_matmul(bench *b, const work *w, uint32_t turn)
{
    uint64_t matrices = b->s.pool_bytes / w->bytes > 0 ? b->s.pool_bytes / w->bytes : 1;
    sl_device_product p = {.type = w->type, .rows = w->out_rows, .out = b->out, .out_stride = w->out_rows};
    sl_device_acts x = rows_of(b, w->rows, w->cols);
    p.panels = b->pool + turn % matrices * w->bytes / 256 * 256;
    MUST(b->d->kernels->matmul(b->d, &p, 1, &x, E));
}

static sl_device_bundles bundles_of(const bench *b, const work *w)
{
    uint32_t row_bytes = (uint32_t)sl_row_bytes(w->type, b->s.hidden);
    return (sl_device_bundles){.gate_type = w->type,
                               .up_type = w->type,
                               .down_type = w->type,
                               .d = b->s.hidden,
                               .ff = b->s.ff,
                               .gate_bytes = row_bytes,
                               .up_bytes = row_bytes,
                               .column_bytes = b->s.hidden / 2,
                               .at = b->bundles_at,
                               .meta = b->pool};
}

static void run_gate_up(bench *b, const work *w, uint32_t turn)
{
    sl_device_bundles layer = bundles_of(b, w);
    sl_device_acts x = rows_of(b, 1, b->s.hidden);
    (void)turn;
    MUST(b->d->kernels->bundle_gate_up(b->d, &layer, SL_GLU_SILU, b->members, w->rows, &x, b->out, E));
}

static void run_down(bench *b, const work *w, uint32_t turn)
{
    sl_device_bundles layer = bundles_of(b, w);
    sl_device_acts x = rows_of(b, 1, b->s.ff);
    (void)turn;
    MUST(b->d->kernels->bundle_down(b->d, &layer, b->members, w->rows, &x, b->out, false, E));
}

static void run_attention(bench *b, const work *w, uint32_t turn)
{
    const shape *s = &b->s;
    uint64_t page = sl_kv_page_bytes(w->type, s->head_dim), pages = s->positions / SL_KV_PAGE;
    sl_device_attention job = {.rows = w->rows,
                               .heads = s->heads,
                               .kv_heads = s->kv_heads,
                               .head_dim = s->head_dim,
                               .positions = s->positions,
                               .scale = 0.1f,
                               .q = b->x.f32,
                               .out = b->out,
                               .pass = b->members, /* zero but for pos0, see make_pass */
                               .scratch = b->scratch,
                               .kv = {.base = b->pool,
                                      .k_type = w->type,
                                      .v_type = w->type,
                                      .head_stride = 2 * pages * page,
                                      .v_offset = pages * page,
                                      .k_page_bytes = page,
                                      .v_page_bytes = page}};
    (void)turn;
    MUST(b->d->kernels->attention(b->d, &job, E));
}

/* ---- measuring ---- */

static double seconds_of(bench *b, const work *w, uint32_t turns)
{
    double seconds;
    MUST(b->d->ops->event_record(b->d, b->from, SL_STREAM_COMPUTE, E));
    for (uint32_t i = 0; i < turns; i++)
        w->run(b, w, i);
    MUST(b->d->ops->event_record(b->d, b->to, SL_STREAM_COMPUTE, E));
    MUST(b->d->ops->event_wait(b->d, b->to, E));
    MUST(b->d->ops->event_elapsed(b->d, b->from, b->to, &seconds, E));
    return seconds / turns;
}

/* As many turns as pass over the whole pool, eight at least: launches overlap, as in a run. */
static void measure(bench *b, const char *name, const work *w)
{
    uint64_t round = b->s.pool_bytes / w->bytes;
    uint32_t turns = round < b->turns_min ? b->turns_min : round > b->turns_max ? b->turns_max : (uint32_t)round;
    char rate[24];
    double best = seconds_of(b, w, turns);
    for (uint32_t pass = 0; pass < b->passes; pass++) {
        double seconds = seconds_of(b, w, turns);
        best = seconds < best ? seconds : best;
    }
    sl_format_size((uint64_t)((double)w->bytes / best), rate);
    printf("%-44s %9.1f us %12s/s %8.2f TOPS\n", name, best * 1e6, rate, w->operations / best * 1e-12);
    fflush(stdout);
}

static void measure_products(bench *b, uint32_t type)
{
    static const uint32_t rows[] = {1, 4, 8, 16, 32, 64, 128, ROWS_MAX};
    const uint32_t shapes[3][2] = {{b->s.hidden, b->s.hidden}, {b->s.ff, b->s.hidden}, {b->s.hidden, b->s.ff}};
    for (size_t i = 0; i < 3; i++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            work w = {.run = run_matmul, .type = type, .rows = rows[r], .out_rows = shapes[i][0], .cols = shapes[i][1]};
            char name[80];
            w.bytes = shapes[i][0] * (uint64_t)sl_row_bytes(type, shapes[i][1]);
            w.operations = 2.0 * shapes[i][0] * shapes[i][1] * rows[r];
            snprintf(name, sizeof name, "matmul %s %u x %u, %u rows", sl_format_of(type)->name, w.out_rows, w.cols, w.rows);
            measure(b, name, &w);
        }
}

/* The list of every third neuron, each in its place of the pool. */
static void measure_bundles(bench *b)
{
    work w = {.type = SL_TYPE_Q4_0, .rows = b->s.ff / 3};
    uint64_t row = sl_row_bytes(w.type, b->s.hidden), stride = (2 * row + b->s.hidden / 2 + 511) / 512 * 512;
    uint64_t places = b->s.pool_bytes / stride;
    size_t bytes = b->s.ff * (sizeof(sl_device_ptr) + sizeof(uint32_t));
    void *host = NULL;
    MUST(b->d->ops->host_alloc(b->d, bytes, &host, E));
    sl_device_ptr *at = host;
    uint32_t *members = (uint32_t *)(void *)(at + b->s.ff);
    for (uint32_t i = 0; i < b->s.ff; i++) {
        at[i] = b->pool + i * (uint64_t)7919 % places * stride;
        members[i] = 3 * i;
    }
    MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, b->bundles_at, at, b->s.ff * sizeof *at, E));
    MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, b->members, members, w.rows * sizeof *members, E));
    MUST(b->d->ops->synchronize(b->d, SL_STREAM_COMPUTE, E));
    b->d->ops->host_free(b->d, host);
    w.run = run_gate_up;
    w.bytes = w.rows * 2 * row;
    w.operations = 4.0 * w.rows * b->s.hidden;
    measure(b, "gate and up of every third bundle, Q4_0", &w);
    w.run = run_down;
    w.bytes = (uint64_t)w.rows * b->s.hidden / 2;
    w.operations = 2.0 * w.rows * b->s.hidden;
    measure(b, "down over every third bundle, Q4_0", &w);
}

static void make_pass(bench *b, uint32_t pos0)
{
    void *host = NULL;
    MUST(b->d->ops->host_alloc(b->d, sizeof(sl_device_pass), &host, E));
    memset(host, 0, sizeof(sl_device_pass));
    ((sl_device_pass *)host)->pos0 = pos0;
    MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, b->members, host, sizeof(sl_device_pass), E));
    MUST(b->d->ops->synchronize(b->d, SL_STREAM_COMPUTE, E));
    b->d->ops->host_free(b->d, host);
}

static void measure_attention(bench *b, uint32_t type)
{
    static const uint32_t rows[] = {1, 8, 64};
    const shape *s = &b->s;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        work w = {.run = run_attention, .type = type, .rows = rows[r]};
        char name[80];
        uint64_t scratch = b->d->kernels->attention_scratch(w.rows, s->heads, s->head_dim, s->positions);
        make_pass(b, s->positions - w.rows);
        MUST(b->d->ops->alloc(b->d, scratch, &b->scratch, E));
        w.bytes = 2 * (uint64_t)s->kv_heads * s->positions / SL_KV_PAGE * sl_kv_page_bytes(type, s->head_dim);
        w.operations = 4.0 * s->heads * s->head_dim * s->positions * w.rows;
        snprintf(name, sizeof name, "attention %s, %u heads of %u, at %u, %u rows", sl_format_of(type)->name, s->heads, s->head_dim,
                 s->positions, w.rows);
        measure(b, name, &w);
        b->d->ops->free(b->d, b->scratch);
    }
}

/* ---- the bed ---- */

/* Random bytes without an fp16 or a float that is no number, again and again. */
static void fill_random(bench *b, sl_device_ptr to, uint64_t bytes)
{
    void *host = NULL;
    uint64_t state = 1;
    MUST(b->d->ops->host_alloc(b->d, SEED_BYTES, &host, E));
    for (size_t i = 0; i < SEED_BYTES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)host)[i] = (uint8_t)(state >> 33 & 0x3f);
    }
    for (uint64_t at = 0; at < bytes; at += SEED_BYTES)
        MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, to + at, host, bytes - at < SEED_BYTES ? bytes - at : SEED_BYTES, E));
    MUST(b->d->ops->synchronize(b->d, SL_STREAM_COMPUTE, E));
    b->d->ops->host_free(b->d, host);
}

static void make_bed(bench *b)
{
    uint64_t n = (uint64_t)ROWS_MAX * b->s.ff;
    b->x = (sl_device_acts){.rows = ROWS_MAX, .cols = b->s.ff};
    MUST(b->d->ops->alloc(b->d, b->s.pool_bytes + ((uint64_t)1 << 20), &b->pool, E));
    MUST(b->d->ops->alloc(b->d, n * 4, &b->out, E));
    MUST(b->d->ops->alloc(b->d, n * 4, &b->x.f32, E));
    MUST(b->d->ops->alloc(b->d, n, &b->x.q, E));
    MUST(b->d->ops->alloc(b->d, n / 8, &b->x.d, E));
    MUST(b->d->ops->alloc(b->d, n / 8, &b->x.sum, E));
    MUST(b->d->ops->alloc(b->d, b->s.ff * sizeof(sl_device_ptr), &b->bundles_at, E));
    MUST(b->d->ops->alloc(b->d, b->s.ff * sizeof(uint32_t) + sizeof(sl_device_pass), &b->members, E));
    MUST(b->d->ops->event_create(b->d, &b->from, E));
    MUST(b->d->ops->event_create(b->d, &b->to, E));
    fill_random(b, b->pool, b->s.pool_bytes);
    fill_random(b, b->x.f32, n * 4);
    MUST(b->d->kernels->quantize(b->d, &b->x, E));
}

static void unmake_bed(bench *b)
{
    const sl_device_ptr all[] = {b->pool, b->out, b->x.f32, b->x.q, b->x.d, b->x.sum, b->bundles_at, b->members};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->d->ops->free(b->d, all[i]);
    b->d->ops->event_destroy(b->d, b->from);
    b->d->ops->event_destroy(b->d, b->to);
    sl_device_close(b->d);
}

static bench parse(int argc, char **argv)
{
    bench b = {.s = full, .passes = 5, .turns_min = 8, .turns_max = 64};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            b.s = small;
            b.passes = 0;
            b.turns_min = b.turns_max = 1;
        } else if (strcmp(argv[i], "--passes") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0) {
            b.passes = (uint32_t)atoi(argv[++i]);
        } else {
            fprintf(stderr, "bench_device_kernels: %s is no option; bench_device_kernels [--quick] [--passes N]\n", argv[i]);
            exit(2);
        }
    }
    return b;
}

int main(int argc, char **argv)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_Q4_K, SL_TYPE_Q6_K, SL_TYPE_Q8_0, SL_TYPE_F16};
    const char *wanted = getenv("SLUICE_TEST_DEVICE");
    char why[256];
    bench b = parse(argc, argv);
    MUST(sl_device_open(wanted != NULL && wanted[0] != '\0' ? wanted : "cuda", &b.d, why, sizeof why, E));
    printf("%s, %u multiprocessors, %s\n", b.d->attrs.name, b.d->attrs.processors, b.d->attrs.backend);
    make_bed(&b);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        measure_products(&b, types[i]);
    measure_bundles(&b);
    measure_attention(&b, SL_TYPE_F16);
    measure_attention(&b, SL_TYPE_Q8_0);
    unmake_bed(&b);
    return 0;
}

/* bench/bench_device.c: what a GPU gives a model: its link, products of resident weights, and weights that stream while it computes.
 *
 *     bench_device [--bytes SIZE] [--passes N] [--rows N]
 *
 * The device is named by SLUICE_TEST_DEVICE (cuda). Shapes are a 13B's in Q4_0: streamed are matrices of 5120 x 5120 and 5120 x 13824, in their order in a
 * layer, from --bytes of page-locked memory (512M) that are passed again and again; on each the product with --rows rows (1) is computed as it arrives.
 * Times are the device's own. A line gives the best and the median pass. */
#define PROGRAM "bench_device"
#include "bench/must.h"

#include "core/format.h"
#include "core/os.h"
#include "kernels/device.h"
#include "pager/vram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIDDEN     5120u
#define FF         13824u
#define PASSES_MAX 100
#define RING_UNITS 4
#define COPY_BYTES ((uint64_t)256 << 20)
#define MATRICES   7
#define UNITS_MAX  4096

typedef struct unit {
    uint64_t at; /* in the page-locked memory, or in the resident part */
    uint32_t out_rows, cols;
    uint32_t bytes;
} unit;

typedef struct bench {
    sl_device *d;
    sl_event *from, *to;
    uint8_t *host;
    sl_device_ptr out;
    sl_device_acts x[2]; /* of HIDDEN, of FF columns */
    unit units[UNITS_MAX];
    uint32_t unit_count, rows, passes;
    uint64_t bytes; /* of all units */
    sl_device_ptr resident;
    sl_vram *v;
} bench;

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* `work` once for warmth, then as often as asked; the best rate, which is returned, and the median are printed. */
static double measure(bench *b, const char *name, uint64_t bytes, void (*work)(bench *b), double of, const char *of_what)
{
    double seconds[PASSES_MAX + 1];
    char best[24], median[24];
    for (uint32_t i = 0; i <= b->passes; i++) {
        MUST(b->d->ops->event_record(b->d, b->from, SL_STREAM_COMPUTE, E));
        MUST(b->d->ops->stream_wait(b->d, SL_STREAM_COPY, b->from, E));
        work(b);
        MUST(b->d->ops->event_record(b->d, b->to, SL_STREAM_COMPUTE, E));
        MUST(b->d->ops->event_wait(b->d, b->to, E));
        MUST(b->d->ops->event_elapsed(b->d, b->from, b->to, &seconds[i], E));
    }
    qsort(seconds + 1, b->passes, sizeof *seconds, compare);
    double rate = (double)bytes / seconds[1];
    sl_format_size((uint64_t)rate, best);
    sl_format_size((uint64_t)((double)bytes / seconds[1 + b->passes / 2]), median);
    printf("%-34s %12s/s best %12s/s median", name, best, median);
    if (of > 0)
        printf("   %5.1f %% of %s", 100 * rate / of, of_what);
    puts("");
    return rate;
}

/* ---- work ---- */

static void link_in(bench *b)
{
    uint64_t bytes = b->bytes < COPY_BYTES ? b->bytes : COPY_BYTES;
    MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, b->resident, b->host, bytes, E));
}

static void link_out(bench *b)
{
    uint64_t bytes = b->bytes < COPY_BYTES ? b->bytes : COPY_BYTES;
    MUST(b->d->ops->copy_out(b->d, SL_STREAM_COMPUTE, b->host, b->resident, bytes, E));
}

static void copy_within(bench *b)
{
    uint64_t half = b->bytes / 2 / 256 * 256;
    MUST(b->d->ops->copy_within(b->d, SL_STREAM_COMPUTE, b->resident + half, b->resident, half, E));
}

static void multiply(bench *b, const unit *u, sl_device_ptr panels)
{
    sl_device_product product = {.type = SL_TYPE_Q4_0, .rows = u->out_rows, .panels = panels, .out = b->out, .out_stride = u->out_rows};
    MUST(b->d->kernels->matmul(b->d, &product, 1, &b->x[u->cols == FF], E));
}

static void resident(bench *b)
{
    for (uint32_t i = 0; i < b->unit_count; i++)
        multiply(b, &b->units[i], b->resident + b->units[i].at);
}

static void streamed(bench *b)
{
    sl_ticket tickets[UNITS_MAX];
    uint32_t pushed = 0;
    for (uint32_t used = 0; used < b->unit_count; used++) {
        sl_status status = SL_OK;
        sl_error err = {0};
        while (pushed < b->unit_count && status == SL_OK) {
            status = sl_vram_push(b->v, b->host + b->units[pushed].at, b->units[pushed].bytes, &tickets[pushed], &err);
            pushed += status == SL_OK;
        }
        if (status != SL_PENDING)
            must_have(status, "push", &err);
        sl_device_ptr at = 0;
        MUST(sl_vram_use(b->v, tickets[used], &at, E));
        multiply(b, &b->units[used], at);
        MUST(sl_vram_done(b->v, tickets[used], E));
    }
}

/* ---- setting up ---- */

static void lay_out(bench *b, uint64_t bytes)
{
    static const uint32_t shapes[MATRICES][2] = {{HIDDEN, HIDDEN}, {HIDDEN, HIDDEN}, {HIDDEN, HIDDEN}, {HIDDEN, HIDDEN},
                                                 {FF, HIDDEN},     {FF, HIDDEN},     {HIDDEN, FF}}; /* q k v o gate up down */
    for (uint32_t i = 0; i < UNITS_MAX; i++) {
        const uint32_t *shape = shapes[i % MATRICES];
        uint32_t size = shape[0] / SL_PANEL_ROWS * (uint32_t)sl_panel_bytes(SL_TYPE_Q4_0, shape[1]);
        if (i >= MATRICES && b->bytes + size > bytes)
            break;
        b->units[b->unit_count++] = (unit){.at = b->bytes, .out_rows = shape[0], .cols = shape[1], .bytes = size};
        b->bytes += size;
    }
}

static sl_device_ptr allocate(bench *b, uint64_t bytes)
{
    sl_device_ptr p = 0;
    MUST(b->d->ops->alloc(b->d, bytes, &p, E));
    MUST(b->d->ops->zero(b->d, SL_STREAM_COMPUTE, p, bytes, E));
    return p;
}

static void set_up(bench *b)
{
    void *host = NULL;
    MUST(b->d->ops->event_create(b->d, &b->from, E));
    MUST(b->d->ops->event_create(b->d, &b->to, E));
    MUST(b->d->ops->host_alloc(b->d, b->bytes, &host, E));
    b->host = host;
    for (uint64_t i = 0; i < b->bytes; i++) /* no value of the weights is special: what is computed is not looked at */
        b->host[i] = (uint8_t)(i * 2654435761u >> 13 & 0x3b);
    b->resident = allocate(b, b->bytes);
    b->out = allocate(b, (uint64_t)b->rows * FF * sizeof(float));
    for (int i = 0; i < 2; i++) {
        uint32_t cols = i == 0 ? HIDDEN : FF;
        uint64_t count = (uint64_t)b->rows * cols;
        b->x[i] = (sl_device_acts){.rows = b->rows,
                                   .cols = cols,
                                   .f32 = allocate(b, count * sizeof(float)),
                                   .q = allocate(b, count),
                                   .d = allocate(b, count / 32 * sizeof(float)),
                                   .sum = allocate(b, count / 32 * sizeof(int32_t))};
        MUST(b->d->kernels->quantize(b->d, &b->x[i], E));
    }
    sl_vram_config config = {.ring_bytes = RING_UNITS * sl_vram_round(b->units[4].bytes)};
    MUST(sl_vram_create(b->d, &config, &b->v, E));
    MUST(b->d->ops->copy_in(b->d, SL_STREAM_COMPUTE, b->resident, b->host, b->bytes, E));
    MUST(b->d->ops->synchronize(b->d, SL_STREAM_COMPUTE, E));
}

static void tear_down(bench *b)
{
    sl_vram_destroy(b->v);
    for (int i = 0; i < 2; i++) {
        b->d->ops->free(b->d, b->x[i].f32);
        b->d->ops->free(b->d, b->x[i].q);
        b->d->ops->free(b->d, b->x[i].d);
        b->d->ops->free(b->d, b->x[i].sum);
    }
    b->d->ops->free(b->d, b->out);
    b->d->ops->free(b->d, b->resident);
    b->d->ops->host_free(b->d, b->host);
    b->d->ops->event_destroy(b->d, b->from);
    b->d->ops->event_destroy(b->d, b->to);
    sl_device_close(b->d);
}

static void run(bench *b)
{
    uint64_t copied = b->bytes < COPY_BYTES ? b->bytes : COPY_BYTES;
    double in = measure(b, "link, to the device", copied, link_in, 0, NULL);
    measure(b, "link, from the device", copied, link_out, 0, NULL);
    double memory = measure(b, "memory, read and written", b->bytes / 2 / 256 * 256 * 2, copy_within, 0, NULL);
    measure(b, "products of resident weights", b->bytes, resident, memory, "memory");
    measure(b, "products of streamed weights", b->bytes, streamed, in, "the link");
}

int main(int argc, char **argv)
{
    static bench b = {.rows = 1, .passes = 5};
    const char *wanted = getenv("SLUICE_TEST_DEVICE");
    uint64_t bytes = (uint64_t)512 << 20;
    char why[SL_ERROR_MESSAGE_MAX];
    for (int i = 1; i < argc; i += 2) {
        bool known = i + 1 < argc;
        if (known && strcmp(argv[i], "--bytes") == 0)
            known = sl_parse_size(argv[i + 1], &bytes);
        else if (known && strcmp(argv[i], "--passes") == 0)
            b.passes = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (known && strcmp(argv[i], "--rows") == 0)
            b.rows = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else
            known = false;
        if (!known || b.passes == 0 || b.passes > PASSES_MAX || b.rows == 0 || b.rows > 64) {
            fprintf(stderr, "usage: bench_device [--bytes SIZE] [--passes 1..%d] [--rows 1..64]\n", PASSES_MAX);
            return 2;
        }
    }
    MUST(sl_device_open(wanted != NULL && wanted[0] != '\0' ? wanted : "cuda", &b.d, why, sizeof why, E));
    if (b.d == NULL) {
        fprintf(stderr, "bench_device: no device: %s\n", why);
        return 1;
    }
    char size[24];
    lay_out(&b, bytes);
    sl_format_size(b.bytes, size);
    printf("%s (%s), %u matrices, %s, %u row%s\n", b.d->attrs.name, b.d->attrs.backend, b.unit_count, size, b.rows, b.rows == 1 ? "" : "s");
    set_up(&b);
    run(&b);
    tear_down(&b);
    return 0;
}

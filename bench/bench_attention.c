/* bench/bench_attention.c: attention and the vector operations, one thread, each instruction set that runs here.
 *
 *     bench_attention [repeats [isa [part]]]
 *
 * With an instruction set's name, only that one; with a part ("decode", "prompt", "vectors", "sparq"), only that.
 * Every line is the median of `repeats` runs (default 9) with the smallest and the largest beside it. Decoding reads a KV cache larger
 * than the processor's own; its figure is bytes of K and V per second, as stored. A prompt's is the time of one layer's 9 heads (3 KV
 * heads, the shape of SmolLM2-135M) over 512 rows, and the multiply-adds that the causal mask leaves, counted twice, per second. */
#include "core/os.h"
#include "kernels/kernels.h"
#include "offload/sparq_attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS_MAX = 99 };

typedef struct figures {
    double seconds[REPEATS_MAX];
    int count;
} figures;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line: what, time, and `amount` (in `unit` per 1e-9 s) divided by it. */
static void report(sl_isa isa, const char *what, figures *f, double amount, const char *unit)
{
    qsort(f->seconds, (size_t)f->count, sizeof *f->seconds, by_value);
    double low = f->seconds[0], median = f->seconds[f->count / 2], high = f->seconds[f->count - 1];
    printf("%-7s %-44s %10.1f us (%.1f .. %.1f)  %7.1f %s\n", sl_isa_name(isa), what, median * 1e6, low * 1e6, high * 1e6,
           amount / median * 1e-9, unit);
}

/* Memory for a whole run; the process ends with it. */
static void *memory(size_t bytes)
{
    void *p = sl_pages_alloc(bytes);
    if (p == NULL) {
        fprintf(stderr, "bench_attention: cannot allocate %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

static void fill(float *x, size_t n)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

/* `heads` KV heads with `pages` pages each, all holding numbers. */
typedef struct cache {
    uint32_t heads, pages;
    const uint8_t **k, **v; /* [head * pages + page] */
    size_t page_bytes;
} cache;

static cache make_cache(uint32_t type, uint32_t head_dim, uint32_t heads, uint32_t pages)
{
    cache c = {heads, pages, memory(heads * pages * sizeof *c.k), memory(heads * pages * sizeof *c.v), sl_kv_page_bytes(type, head_dim)};
    const sl_kernels *kernels = sl_kernels_for(sl_cpu_best_isa());
    uint8_t *data = memory(2 * (size_t)heads * pages * c.page_bytes);
    float x[512 + 64];
    fill(x, 512 + 64);
    for (size_t i = 0; i < (size_t)heads * pages; i++) {
        uint8_t *k = data + 2 * i * c.page_bytes, *v = k + c.page_bytes;
        for (uint32_t j = 0; j < SL_KV_PAGE; j++) {
            kernels->kv_store_k(type, k, j, x + j, head_dim);
            kernels->kv_store_v(type, v, j, x + j, head_dim);
        }
        c.k[i] = k;
        c.v[i] = v;
    }
    return c;
}

static void bench_decode(const sl_kernels *kernels, uint32_t type, uint32_t head_dim, uint32_t group, size_t cache_bytes, int repeats)
{
    enum { PAGES = 16 };
    cache c = make_cache(type, head_dim, (uint32_t)(cache_bytes / (2 * PAGES * sl_kv_page_bytes(type, head_dim))), PAGES);
    size_t floats = (size_t)group * head_dim;
    float *q = memory(floats * sizeof *q), *out = memory(floats * sizeof *out);
    float *scratch = memory(sl_attention_scratch_bytes(head_dim, group));
    figures f = {.count = repeats};
    char what[96];
    fill(q, floats);
    for (int i = -1; i < repeats; i++) {
        uint64_t start = sl_now_ns();
        for (uint32_t h = 0; h < c.heads; h++) {
            sl_attention job = {.head_dim = head_dim,
                                .group = group,
                                .rows = 1,
                                .pos0 = PAGES * SL_KV_PAGE - 1,
                                .scale = 1.0f / sqrtf((float)head_dim),
                                .k_type = type,
                                .v_type = type,
                                .k_pages = c.k + h * PAGES,
                                .v_pages = c.v + h * PAGES,
                                .q = q,
                                .q_stride = floats,
                                .out = out,
                                .out_stride = floats,
                                .scratch = scratch};
            kernels->attention(&job);
        }
        if (i >= 0)
            f.seconds[i] = (double)(sl_now_ns() - start) * 1e-9;
    }
    snprintf(what, sizeof what, "decode %s head_dim %u group %u, %zu MiB", sl_format_of(type)->name, head_dim, group, cache_bytes >> 20);
    report(kernels->isa, what, &f, 2.0 * (double)c.page_bytes * c.heads * PAGES, "GB/s");
}

static void bench_prefill(const sl_kernels *kernels, uint32_t type, uint32_t head_dim, uint32_t rows, uint32_t chunk, int repeats)
{
    enum { KV_HEADS = 3, GROUP = 3 };
    uint32_t pages = (rows + SL_KV_PAGE - 1) / SL_KV_PAGE;
    cache c = make_cache(type, head_dim, KV_HEADS, pages);
    size_t stride = (size_t)KV_HEADS * GROUP * head_dim;
    float *q = memory(rows * stride * sizeof *q), *out = memory(rows * stride * sizeof *out);
    float *scratch = memory(sl_attention_scratch_bytes(head_dim, GROUP));
    figures f = {.count = repeats};
    char what[96];
    fill(q, rows * stride);
    for (int i = -1; i < repeats; i++) {
        uint64_t start = sl_now_ns();
        for (uint32_t h = 0; h < KV_HEADS; h++)
            for (uint32_t row = 0; row < rows; row += chunk) {
                size_t at = row * stride + (size_t)h * GROUP * head_dim;
                sl_attention job = {.head_dim = head_dim,
                                    .group = GROUP,
                                    .rows = rows - row < chunk ? rows - row : chunk,
                                    .pos0 = row,
                                    .scale = 1.0f / sqrtf((float)head_dim),
                                    .k_type = type,
                                    .v_type = type,
                                    .k_pages = c.k + h * pages,
                                    .v_pages = c.v + h * pages,
                                    .q = q + at,
                                    .q_stride = stride,
                                    .out = out + at,
                                    .out_stride = stride,
                                    .scratch = scratch};
                kernels->attention(&job);
            }
        if (i >= 0)
            f.seconds[i] = (double)(sl_now_ns() - start) * 1e-9;
    }
    snprintf(what, sizeof what, "prompt %s head_dim %u, %u rows by %u", sl_format_of(type)->name, head_dim, rows, chunk);
    double visible = 0.5 * rows * (rows + 1.0);
    report(kernels->isa, what, &f, visible * KV_HEADS * GROUP * head_dim * 2 * 2, "GFLOP/s");
}

/* The operations of a layer's 64 rows between its products. */
static void bench_vectors(const sl_kernels *kernels, int repeats)
{
    enum { ROWS = 64, DIM = 576, FF = 1536, HEADS = 9, HEAD_DIM = 64 };
    float *x = memory(ROWS * FF * sizeof *x), *y = memory(ROWS * FF * sizeof *y), *z = memory(ROWS * FF * sizeof *z);
    uint8_t *page = memory(sl_kv_page_bytes(SL_TYPE_F32, HEAD_DIM));
    figures norm = {.count = repeats}, add = norm, silu = norm, gelu = norm, pairs = norm, halves = norm, store_k = norm, store_v = norm;
    fill(x, ROWS * FF);
    fill(y, ROWS * FF);
#define TIME(figures, call)                                                                                                                \
    for (int i = -1; i < repeats; i++) {                                                                                                   \
        uint64_t start = sl_now_ns();                                                                                                      \
        for (uint32_t row = 0; row < ROWS; row++)                                                                                          \
            call;                                                                                                                          \
        if (i >= 0)                                                                                                                        \
            (figures).seconds[i] = (double)(sl_now_ns() - start) * 1e-9;                                                                   \
    }
    TIME(norm, kernels->rms_norm(x + row * DIM, y, DIM, 1e-5f, z + row * DIM))
    TIME(add, kernels->add(z + row * DIM, x + row * DIM, DIM))
    TIME(silu, kernels->glu(SL_GLU_SILU, x + row * FF, y + row * FF, FF, z + row * FF))
    TIME(gelu, kernels->glu(SL_GLU_GELU_TANH, x + row * FF, y + row * FF, FF, z + row * FF))
    TIME(pairs, kernels->rope(SL_ROPE_PAIRS, z + row * DIM, HEADS, HEAD_DIM, HEAD_DIM, x, y))
    TIME(halves, kernels->rope(SL_ROPE_HALVES, z + row * DIM, HEADS, HEAD_DIM, HEAD_DIM, x, y))
    TIME(store_k, kernels->kv_store_k(SL_TYPE_F16, page, row, x + row * DIM, HEAD_DIM))
    TIME(store_v, kernels->kv_store_v(SL_TYPE_F16, page, row, x + row * DIM, HEAD_DIM))
#undef TIME
    report(kernels->isa, "rms_norm 64 x 576", &norm, 3.0 * 4 * ROWS * DIM, "GB/s");
    report(kernels->isa, "add 64 x 576", &add, 3.0 * 4 * ROWS * DIM, "GB/s");
    report(kernels->isa, "glu silu 64 x 1536", &silu, 3.0 * 4 * ROWS * FF, "GB/s");
    report(kernels->isa, "glu gelu_tanh 64 x 1536", &gelu, 3.0 * 4 * ROWS * FF, "GB/s");
    report(kernels->isa, "rope pairs 64 x 9 x 64", &pairs, 2.0 * 4 * ROWS * DIM, "GB/s");
    report(kernels->isa, "rope halves 64 x 9 x 64", &halves, 2.0 * 4 * ROWS * DIM, "GB/s");
    report(kernels->isa, "kv_store_k F16 64 x 64", &store_k, 6.0 * ROWS * HEAD_DIM, "GB/s");
    report(kernels->isa, "kv_store_v F16 64 x 64", &store_v, 6.0 * ROWS * HEAD_DIM, "GB/s");
}

/* One token's attention in all layers of a model of this shape, dense and to a part of the cache, whose pages all hold the same. */
typedef struct sparq_case {
    const char *model;
    uint32_t layers, heads, kv_heads, head_dim, positions, k, r;
    bool reallocate;
} sparq_case;

static void fill_cache(const sl_kernels *kernels, const sl_model *m, sli_kv *kv)
{
    float x[512 + 64];
    fill(x, 512 + 64);
    for (uint32_t layer = 0; layer < m->layers; layer++)
        for (uint32_t head = 0; head < m->kv_heads; head++)
            for (uint32_t i = 0; i < kv->page_count * SL_KV_PAGE; i++)
                for (int kind = 0; kind < SLI_KV_KINDS; kind++) {
                    uint8_t *page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, layer, head, (sli_kv_kind)kind)[i / SL_KV_PAGE];
                    (kind == SLI_KV_KEYS ? kernels->kv_store_k : kernels->kv_store_v)(kv->k_type, page, i % SL_KV_PAGE, x + i * 7 % 64,
                                                                                      m->head_dim);
                }
}

static void attend_layers(sl_session *session, const sl_attention *row, bool sparse)
{
    const sl_model *m = session->engine->model;
    for (uint32_t layer = 0; layer < m->layers; layer++)
        for (uint32_t head = 0; head < m->kv_heads; head++) {
            sl_attention job = *row;
            job.k_pages = sli_kv_pages(&session->kv, layer, head, SLI_KV_KEYS);
            job.v_pages = sli_kv_pages(&session->kv, layer, head, SLI_KV_VALUES);
            if (sparse && session->kv.value_sums != NULL && sli_sparq_wants_sums(session, layer, row->pos0))
                sli_sparq_sum_values(session, layer, head, row->pos0); /* the first time; later ones find them */
            if (sparse && session->kv.value_sums != NULL && head + 1 == m->kv_heads)
                sli_sparq_summed(session, layer, row->pos0);
            if (sparse)
                sli_sparq_attend(session, layer, head, &job);
            else
                session->engine->kernels->attention(&job);
        }
}

static void bench_sparq(const sl_kernels *kernels, sparq_case c, int repeats)
{
    sl_model model = {.layers = c.layers, .heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim};
    sl_engine engine = {.kernels = kernels, .model = &model, .context = c.positions};
    sl_session session = {.engine = &engine};
    sl_error err = {0};
    engine.options.sparq_k = c.k;
    engine.options.sparq_r = c.r;
    engine.options.sparq_local = c.k / 4;
    engine.options.sparq_reallocate = c.reallocate ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_OFF;
    sli_kv_shape shape = sli_kv_shape_of(&engine);
    if (sli_kv_create(&engine, &shape, &session.kv, &err) != SL_OK)
        exit(1);
    fill_cache(kernels, &model, &session.kv);
    size_t floats = (size_t)(c.heads / c.kv_heads) * c.head_dim;
    float *q = memory(floats * sizeof *q), *out = memory(floats * sizeof *out);
    fill(q, floats);
    sl_attention row = {.head_dim = c.head_dim,
                        .group = c.heads / c.kv_heads,
                        .rows = 1,
                        .pos0 = c.positions - 1,
                        .scale = 1.0f / sqrtf((float)c.head_dim),
                        .k_type = SL_TYPE_F16,
                        .v_type = SL_TYPE_F16,
                        .q = q,
                        .q_stride = floats,
                        .out = out,
                        .out_stride = floats};
    row.scratch = memory(sl_attention_scratch_bytes(c.head_dim, row.group) + sli_sparq_thread_bytes(&engine));
    figures dense = {.count = repeats}, sparse = dense;
    for (int i = -1; i < repeats; i++)
        for (int which = 0; which < 2; which++) {
            uint64_t start = sl_now_ns();
            attend_layers(&session, &row, which);
            if (i >= 0)
                (which ? &sparse : &dense)->seconds[i] = (double)(sl_now_ns() - start) * 1e-9;
        }
    char what[96];
    double all = (double)atomic_load(&engine.sparq.dense_bytes) / (repeats + 1);
    double part = (double)atomic_load(&engine.sparq.bytes_moved) / (repeats + 1);
    snprintf(what, sizeof what, "%s, %u positions, dense", c.model, c.positions);
    report(kernels->isa, what, &dense, all, "GB/s");
    snprintf(what, sizeof what, "  sparq k %u r %u, reallocation %s", c.k, c.r, c.reallocate ? "on" : "off");
    report(kernels->isa, what, &sparse, part, "GB/s");
    printf("        %.3f of the bytes, %.2f times as fast\n", part / all, dense.seconds[repeats / 2] / sparse.seconds[repeats / 2]);
    sli_kv_free(&session.kv);
}

static void bench_sparq_all(const sl_kernels *kernels, int repeats)
{
    static const sparq_case cases[] = {
        {"SmolLM2-135M", 30, 9, 3, 64, 4096, 128, 8, false},          {"SmolLM2-135M", 30, 9, 3, 64, 4096, 128, 8, true},
        {"SmolLM2-135M", 30, 9, 3, 64, 4096, 256, 16, false},         {"SmolLM2-135M", 30, 9, 3, 64, 8192, 128, 8, false},
        {"SmolLM2-135M", 30, 9, 3, 64, 8192, 128, 8, true},           {"Llama-3-8B, 4 layers", 4, 32, 8, 128, 4096, 128, 16, false},
        {"Llama-3-8B, 4 layers", 4, 32, 8, 128, 8192, 128, 16, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        bench_sparq(kernels, cases[i], repeats);
}

static void bench(const sl_kernels *kernels, const char *part, int repeats)
{
    const uint32_t types[] = {SL_TYPE_F16, SL_TYPE_Q8_0, SL_TYPE_F32, SL_TYPE_BF16, SL_TYPE_Q4_0};
    const int type_count = sizeof types / sizeof *types;
    if (part == NULL || strcmp(part, "decode") == 0) {
        for (int t = 0; t < type_count; t++) {
            bench_decode(kernels, types[t], 64, 3, 96 << 20, repeats);
            bench_decode(kernels, types[t], 64, 3, 1 << 20, repeats);
        }
        bench_decode(kernels, SL_TYPE_F16, 128, 1, 96 << 20, repeats);
        bench_decode(kernels, SL_TYPE_F16, 128, 8, 96 << 20, repeats);
    }
    if (part == NULL || strcmp(part, "prompt") == 0) {
        for (int t = 0; t < type_count; t++)
            bench_prefill(kernels, types[t], 64, 512, 64, repeats);
        bench_prefill(kernels, SL_TYPE_F16, 64, 512, 8, repeats);
        bench_prefill(kernels, SL_TYPE_F16, 128, 512, 64, repeats);
    }
    if (part == NULL || strcmp(part, "vectors") == 0)
        bench_vectors(kernels, repeats);
    if (part == NULL || strcmp(part, "sparq") == 0)
        bench_sparq_all(kernels, repeats);
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? atoi(argv[1]) : 9;
    if (repeats < 1 || repeats > REPEATS_MAX) {
        fprintf(stderr, "usage: bench_attention [repeats, 1 to %d [isa [part]]]\n", REPEATS_MAX);
        return 2;
    }
    for (int isa = SL_ISA_SCALAR + 1; isa < SL_ISA_COUNT; isa++) {
        const sl_kernels *kernels = sl_kernels_for((sl_isa)isa);
        bool asked = argc <= 2 || strcmp(argv[2], sl_isa_name((sl_isa)isa)) == 0;
        if (asked && kernels != NULL && sl_cpu_supports((sl_isa)isa))
            bench(kernels, argc > 3 ? argv[3] : NULL, repeats);
    }
    return 0;
}

/* bench/bench_device_sparq.c: what attention to a part of the cache would save of a token's time on a GPU, on an emulated device that keeps time and computes nothing
 * (timing_only, kernels/cuda/emulated.h): bytes over rates and what launches cost, as the engine gives them; what kernels reach is not in it.
 *
 *     bench_device_sparq [--shape NAME] [--type T] [--k N] [--r N] [--pages N] [--pages-r N] [--memory RATE] [--link RATE] [--folder DIR] [POSITIONS ...]
 *
 * Single keys, --k of them by --r components, and whole pages, of --pages positions by --pages-r. All weights stay on the device; keys and values do, too, and lie in host
 * memory in a second line for each length. The model is a hollow file of a shape of `sluice synth`, made in --folder (TMPDIR, /tmp), to be used again. */
#define PROGRAM "bench_device_sparq"
#include "bench/flags.h"
#include "bench/hollow.h"
#include "bench/must.h"

#include "offload/device_engine.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCH      512
#define TOKENS     8
#define POSITIONS  4 /* that are timed where none are named */
#define MIB        ((uint64_t)1 << 20)
#define MEMORY_GIB 256

typedef struct bench {
    const char *shape, *folder, *memory, *link;
    char path[512], device[256];
    uint32_t type, k, r, pages, pages_r;
} bench;

typedef struct way { /* of attending */
    const char *name;
    bool sparq, pages;
    sl_sparq_reallocate reallocate;
} way;

static sl_engine_options options_of(const bench *b, const way *w, uint32_t positions, sl_kv_host kv_host)
{
    return (sl_engine_options){.model_path = b->path,
                               .context = positions + TOKENS,
                               .batch = BATCH,
                               .device = b->device,
                               .ram_budget_bytes = (uint64_t)MEMORY_GIB * 1024 * MIB, /* of which the emulated memory is never touched */
                               .timing_only = true,
                               .vram_budget_bytes = (uint64_t)MEMORY_GIB * 1024 * MIB / 2,
                               .cpu_share_given = true,
                               .kv_host = kv_host,
                               .sparq_k = !w->sparq  ? 0
                                          : w->pages ? b->pages
                                                     : b->k,
                               .sparq_r = !w->sparq  ? 0
                                          : w->pages ? b->pages_r
                                                     : b->r,
                               .sparq_select = w->pages ? SL_SPARQ_PAGES : SL_SPARQ_KEYS,
                               .sparq_reallocate = w->reallocate};
}

/* Seconds of a token behind so many positions; *part: bytes of keys and values that it reads, of dense attention's. */
static double token_s(const bench *b, const way *w, uint32_t positions, sl_kv_host kv_host, double *part)
{
    static sl_token_id tokens[BATCH];
    sl_engine_options options = options_of(b, w, positions, kv_host);
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE | (w->sparq ? SL_EVAL_SPARQ : 0u);
    sl_engine *e;
    sl_session *session;
    sl_event *from, *to;
    sl_engine_stats stats;
    double seconds;
    MUST(sl_engine_open(&options, &e, E));
    sl_device *d = e->device->device;
    MUST(sl_session_open(e, &session, E));
    MUST(d->ops->event_create(d, &from, E));
    MUST(d->ops->event_create(d, &to, E));
    for (uint32_t at = 0; at < positions; at += BATCH)
        MUST(sl_session_eval(session, tokens, positions - at < BATCH ? positions - at : BATCH, 0, NULL, E));
    for (int i = 0; i < 2 + TOKENS; i++) { /* the first completes sums or the index, the second captures the graph */
        if (i == 2)
            MUST(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
        MUST(sl_session_eval(session, tokens, 1, flags, NULL, E));
        MUST(sl_session_truncate(session, positions, E));
    }
    MUST(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, to, E));
    MUST(d->ops->event_elapsed(d, from, to, &seconds, E));
    sl_engine_measure(e, &stats);
    *part = w->sparq ? (double)stats.sparq_bytes_moved / (double)stats.sparq_dense_bytes : 1;
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    sl_session_close(session);
    sl_engine_close(e);
    return seconds / TOKENS;
}

static void time_at(const bench *b, uint32_t positions, sl_kv_host kv_host)
{
    static const way dense = {.name = "dense"};
    static const way ways[] = {{.name = "keys", .sparq = true, .reallocate = SL_SPARQ_REALLOCATE_OFF},
                               {.name = "with the mean", .sparq = true, .reallocate = SL_SPARQ_REALLOCATE_ON},
                               {.name = "pages", .sparq = true, .pages = true}};
    double part, dense_s = token_s(b, &dense, positions, kv_host, &part);
    printf("%7u positions, %s: dense %8.3f ms", positions, kv_host == SL_KV_HOST_ALL ? "in host memory" : "on the device", 1e3 * dense_s);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double s = token_s(b, &ways[i], positions, kv_host, &part);
        printf("   %s %8.3f ms, %.3f of the bytes, %.2f x", ways[i].name, 1e3 * s, part, dense_s / s);
    }
    puts("");
    fflush(stdout);
}

static void time_both(const bench *b, uint32_t positions)
{
    time_at(b, positions, SL_KV_HOST_NONE);
    time_at(b, positions, SL_KV_HOST_ALL);
}

int main(int argc, char **argv)
{
    static const uint32_t usual[POSITIONS] = {1024, 4096, 16384, 65536};
    static bench b = {
        .shape = "smollm2-135m", .memory = "360G", .link = "12G", .type = SL_TYPE_Q4_1, .k = 128, .r = 8, .pages = 1024, .pages_r = 16};
    const flag flags[] = {{"--shape", FLAG_WORD, &b.shape}, {"--type", FLAG_TYPE, &b.type},     {"--k", FLAG_COUNT, &b.k},
                          {"--r", FLAG_COUNT, &b.r},        {"--pages", FLAG_COUNT, &b.pages},  {"--pages-r", FLAG_COUNT, &b.pages_r},
                          {"--link", FLAG_RATE, &b.link},   {"--memory", FLAG_RATE, &b.memory}, {"--folder", FLAG_WORD, &b.folder}};
    b.folder = flags_folder();
    int i = flags_take(flags, sizeof flags / sizeof *flags, argc, argv);
    if (i < argc && argv[i][0] == '-') {
        fputs("usage: " PROGRAM " [--shape NAME] [--type T] [--k N] [--r N] [--pages N] [--pages-r N] [--memory RATE] [--link RATE]\n"
              "       [--folder DIR] [POSITIONS ...]\n",
              stderr);
        return 2;
    }
    hollow_make(b.folder, b.shape, b.type, b.path, sizeof b.path);
    snprintf(b.device, sizeof b.device, "emulated:timing_only=1,memory=%dG,memory_bandwidth=%s,link=%s", MEMORY_GIB, b.memory, b.link);
    printf("%s, %s, all weights on the device, f16 keys and values; single keys %u by %u, pages %u by %u; device's memory %s/s, link %s/s: "
           "all times are simulated\n",
           b.shape, sl_format_of(b.type)->name, b.k, b.r, b.pages, b.pages_r, b.memory, b.link);
    for (int n = 0; n < POSITIONS && i == argc; n++)
        time_both(&b, usual[n]);
    for (; i < argc; i++)
        time_both(&b, (uint32_t)strtoul(argv[i], NULL, 10));
    return 0;
}

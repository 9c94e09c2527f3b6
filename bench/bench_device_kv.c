/* bench/bench_device_kv.c: what a token costs by where keys and values lie, on an emulated device that keeps time and computes nothing (timing_only,
 * kernels/cuda/emulated.h).
 *
 *     bench_device_kv [--shape NAME] [--type T] [--vram SIZE] [--link RATE] [--memory RATE] [--context N] [--kv-memory SIZE] [--tokens N]
 *                     [--folder DIR]
 *
 * The engine is the one that runs models: prices, placement, copies and launches are what they are; the model is a hollow file of the shape, dense, all weights that
 * do not stay cross (--cpu-share 0).
 *
 * In the last two caches that leave the device lie in a file of --folder but for --kv-memory (kv_spill). No clock covers that file: what is read of it for a token
 * stands in a line of its own, as bytes, and in another the rate of a disk that takes as long for them as the rest of the token does: they are read a layer ahead, so that one
 * that is faster keeps nobody waiting but for the first layer, and with a slower one tokens come at its rate.
 *
 * The model's file is made in --folder (TMPDIR, /tmp) and stays there, to be used again. */
#define PROGRAM "bench_device_kv"
#include "bench/flags.h"
#include "bench/hollow.h"
#include "bench/must.h"

#include "offload/device_engine.h"

#include <stdio.h>
#include <stdlib.h>

#define CONTEXT_MIN 64
#define BATCH       512
#define STEPS       5 /* positions: none, then a sixteenth, a quarter, a half, nearly all of the context */

typedef struct bench {
    const char *shape, *folder, *link, *memory;
    char file[512], device[256];
    uint32_t type, context, tokens;
    uint64_t vram_bytes, kv_memory_bytes;
} bench;

typedef struct cost { /* of a token */
    double seconds, file_bytes;
} cost;

/* Behind the session's text. What is spilled must have been written, so positions are reached. */
static void reach(sl_session *s, uint32_t position)
{
    static const sl_token_id tokens[BATCH];
    while (s->position < position) {
        uint32_t missing = position - s->position;
        MUST(sl_session_eval(s, tokens, missing < s->engine->price.batch ? missing : s->engine->price.batch, 0, NULL, E));
    }
}

/* Behind `position` others, on the device's clock. */
static cost token_cost(const bench *b, sl_session *s, uint32_t position)
{
    sl_device *d = s->engine->device->device;
    sl_event *from, *to;
    sl_token_id token = 0;
    sl_engine_stats before = {0}, after;
    double seconds = 0;
    MUST(d->ops->event_create(d, &from, E));
    MUST(d->ops->event_create(d, &to, E));
    reach(s, position);
    for (uint32_t i = 0; i < 2 + b->tokens; i++) {
        if (i == 2) { /* what stays has come, and so has the graph */
            MUST(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
            sl_engine_measure(s->engine, &before);
        }
        MUST(sl_session_eval(s, &token, 1, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, E));
        MUST(sl_session_truncate(s, position, E));
    }
    MUST(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, to, E));
    MUST(d->ops->event_elapsed(d, from, to, &seconds, E));
    sl_engine_measure(s->engine, &after);
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    return (cost){seconds / b->tokens, (double)(after.kv_bytes_read - before.kv_bytes_read) / b->tokens};
}

/* What no clock covers. */
static void file_lines(const cost *costs)
{
    printf("%-10s %-22s", "", "  MiB of a file");
    for (int i = 0; i < STEPS; i++)
        printf(" %8.1f", costs[i].file_bytes / (1 << 20));
    printf("\n%-10s %-22s", "", "  GiB/s that hides it");
    for (int i = 0; i < STEPS; i++)
        printf(" %8.2f", costs[i].file_bytes / costs[i].seconds / (1 << 30));
    puts("");
}

static void line(const bench *b, const char *name, sl_kv_host kv_host, bool spills)
{
    sl_engine_options options = {.model_path = b->file,
                                 .context = b->context,
                                 .batch = b->context < BATCH ? b->context : BATCH,
                                 .device = b->device,
                                 .timing_only = true,
                                 .vram_budget_bytes = b->vram_bytes,
                                 .cpu_share_given = true,
                                 .kv_host = kv_host,
                                 .kv_spill = spills ? b->folder : NULL,
                                 .kv_memory_bytes = spills ? b->kv_memory_bytes : 0};
    sl_engine *engine;
    sl_session *session;
    sl_engine_info info;
    sl_error err = {0};
    sl_status status = sl_engine_open(&options, &engine, &err);
    if (status == SL_NO_BUDGET) {
        printf("%-10s %s\n", name, err.message);
        return;
    }
    must_have(status, "sl_engine_open", &err);
    MUST(sl_session_open(engine, &session, E));
    sl_engine_describe(engine, &info);
    printf("%-10s %3u of %3u  %6.2f GiB ", name, info.kv_host_layers, info.layers, (double)info.crossing_bytes / (1 << 30));
    const uint32_t positions[STEPS] = {0, b->context / 16, b->context / 4, b->context / 2, b->context - 1};
    cost costs[STEPS];
    for (int i = 0; i < STEPS; i++) {
        costs[i] = token_cost(b, session, positions[i]);
        printf(" %8.2f", 1e3 * costs[i].seconds);
    }
    puts("");
    if (spills)
        file_lines(costs);
    fflush(stdout);
    sl_session_close(session);
    sl_engine_close(engine);
}

int main(int argc, char **argv)
{
    bench b = {.shape = "llama-7b",
               .folder = flags_folder(),
               .link = "12G",
               .memory = "256G",
               .type = SL_TYPE_Q4_0,
               .context = 4096,
               .tokens = 4,
               .vram_bytes = (uint64_t)3 << 30,
               .kv_memory_bytes = (uint64_t)512 << 20};
    const flag flags[] = {{"--shape", FLAG_WORD, &b.shape},     {"--type", FLAG_TYPE, &b.type},
                          {"--vram", FLAG_SIZE, &b.vram_bytes}, {"--link", FLAG_RATE, &b.link},
                          {"--memory", FLAG_RATE, &b.memory},   {"--context", FLAG_COUNT, &b.context},
                          {"--tokens", FLAG_COUNT, &b.tokens},  {"--kv-memory", FLAG_SIZE, &b.kv_memory_bytes},
                          {"--folder", FLAG_WORD, &b.folder}};
    int last = flags_take(flags, sizeof flags / sizeof *flags, argc, argv);
    if (last < argc || b.context < CONTEXT_MIN) {
        fprintf(stderr, PROGRAM ": %s: see the head of bench/" PROGRAM ".c\n", last < argc ? argv[last] : "--context");
        return 2;
    }
    char vram[24];
    snprintf(b.device, sizeof b.device, "emulated:timing_only=1,memory=%llu,link=%s,memory_bandwidth=%s", (unsigned long long)b.vram_bytes,
             b.link, b.memory);
    hollow_make(b.folder, b.shape, b.type, b.file, sizeof b.file);
    sl_format_size(b.vram_bytes, vram);
    printf("%s %s, %s of VRAM, link %s/s, memory %s/s (simulated): ms a token at position\n", b.shape, sl_format_of(b.type)->name, vram,
           b.link, b.memory);
    printf("%-10s %-10s %-11s ", "--kv-host", "layers", "weights");
    for (int i = 0; i < STEPS; i++)
        printf(" %8u", i == 0 ? 0 : i == STEPS - 1 ? b.context - 1 : b.context >> (i == 1 ? 4 : i == 2 ? 2 : 1));
    puts("");
    line(&b, "none", SL_KV_HOST_NONE, false);
    line(&b, "auto", SL_KV_HOST_AUTO, false);
    line(&b, "all", SL_KV_HOST_ALL, false);
    line(&b, "auto, file", SL_KV_HOST_AUTO, true);
    line(&b, "all, file", SL_KV_HOST_ALL, true);
    return 0;
}

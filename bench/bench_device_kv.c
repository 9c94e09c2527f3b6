/* bench/bench_device_kv.c: what a token costs by where keys and values lie, on an emulated device that keeps time and computes nothing (timing_only,
 * kernels/cuda/emulated.h).
 *
 *     bench_device_kv [--shape NAME] [--type T] [--vram SIZE] [--link RATE] [--memory RATE] [--context N] [--tokens N] [--folder DIR]
 *
 * The engine is the one that runs models: prices, placement, copies and launches are what they are; the model is a hollow file of the shape, dense, all weights that
 * do not stay cross (--cpu-share 0). A text's position is set, not reached: a pass takes the same time whatever is in its memory.
 *
 * The file is made in --folder (TMPDIR, /tmp) and stays there, to be used again. */
#define PROGRAM "bench_device_kv"
#include "bench/flags.h"
#include "bench/must.h"

#include "offload/device_engine.h"
#include "offload/tools/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTEXT_MIN 64
#define STEPS       5 /* positions: none, then a sixteenth, a quarter, a half, nearly all of the context */

typedef struct bench {
    const char *shape, *folder, *link, *memory;
    char file[512], device[256];
    uint32_t type, context, tokens;
    uint64_t vram_bytes;
} bench;

static void make_file(bench *b)
{
    snprintf(b->file, sizeof b->file, "%s/hollow-%s-%s.gguf", b->folder, b->shape, sl_format_of(b->type)->name);
    sl_synth_options synth = {.shape = b->shape, .path = b->file, .type = b->type, .hollow = true};
    if (access(b->file, R_OK) != 0)
        MUST(sl_synth(&synth, E));
}

/* Of a token behind `position` others, on the device's clock. */
static double token_s(const bench *b, sl_session *s, uint32_t position)
{
    sl_device *d = s->engine->device->device;
    sl_event *from, *to;
    sl_token_id token = 0;
    double seconds = 0;
    MUST(d->ops->event_create(d, &from, E));
    MUST(d->ops->event_create(d, &to, E));
    for (uint32_t i = 0; i < 2 + b->tokens; i++) {
        s->position = position;
        if (i == 2) /* what stays has come, and so has the graph */
            MUST(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
        MUST(sl_session_eval(s, &token, 1, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, E));
    }
    MUST(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, to, E));
    MUST(d->ops->event_elapsed(d, from, to, &seconds, E));
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    return seconds / b->tokens;
}

static void line(const bench *b, const char *name, sl_kv_host kv_host)
{
    sl_engine_options options = {.model_path = b->file,
                                 .context = b->context,
                                 .batch = 32,
                                 .device = b->device,
                                 .timing_only = true,
                                 .vram_budget_bytes = b->vram_bytes,
                                 .cpu_share_given = true,
                                 .kv_host = kv_host};
    sl_engine *engine;
    sl_session *session;
    sl_engine_info info;
    sl_error err = {0};
    sl_status status = sl_engine_open(&options, &engine, &err);
    if (status == SL_NO_BUDGET) {
        printf("%-8s %s\n", name, err.message);
        return;
    }
    must_have(status, "sl_engine_open", &err);
    MUST(sl_session_open(engine, &session, E));
    sl_engine_describe(engine, &info);
    printf("%-8s %3u of %3u  %6.2f GiB ", name, info.kv_host_layers, info.layers, (double)info.crossing_bytes / (1 << 30));
    const uint32_t positions[STEPS] = {0, b->context / 16, b->context / 4, b->context / 2, b->context - 1};
    for (int i = 0; i < STEPS; i++)
        printf(" %8.2f", 1e3 * token_s(b, session, positions[i]));
    puts("");
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
               .vram_bytes = (uint64_t)3 << 30};
    const flag flags[] = {{"--shape", FLAG_WORD, &b.shape},    {"--type", FLAG_TYPE, &b.type},     {"--vram", FLAG_SIZE, &b.vram_bytes},
                          {"--link", FLAG_RATE, &b.link},      {"--memory", FLAG_RATE, &b.memory}, {"--context", FLAG_COUNT, &b.context},
                          {"--tokens", FLAG_COUNT, &b.tokens}, {"--folder", FLAG_WORD, &b.folder}};
    int last = flags_take(flags, sizeof flags / sizeof *flags, argc, argv);
    if (last < argc || b.context < CONTEXT_MIN) {
        fprintf(stderr, PROGRAM ": %s: see the head of bench/" PROGRAM ".c\n", last < argc ? argv[last] : "--context");
        return 2;
    }
    char vram[24];
    snprintf(b.device, sizeof b.device, "emulated:timing_only=1,memory=%llu,link=%s,memory_bandwidth=%s", (unsigned long long)b.vram_bytes,
             b.link, b.memory);
    make_file(&b);
    sl_format_size(b.vram_bytes, vram);
    printf("%s %s, %s of VRAM, link %s/s, memory %s/s (simulated): ms a token at position\n", b.shape, sl_format_of(b.type)->name, vram,
           b.link, b.memory);
    printf("%-8s %-10s %-11s ", "--kv-host", "layers", "weights");
    for (int i = 0; i < STEPS; i++)
        printf(" %8u", i == 0 ? 0 : i == STEPS - 1 ? b.context - 1 : b.context >> (i == 1 ? 4 : i == 2 ? 2 : 1));
    puts("");
    line(&b, "none", SL_KV_HOST_NONE);
    line(&b, "auto", SL_KV_HOST_AUTO);
    line(&b, "all", SL_KV_HOST_ALL);
    return 0;
}

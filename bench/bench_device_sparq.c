/* bench/bench_device_sparq.c: what attention to a part of the cache would save of a token's time on a GPU, on an emulated device that keeps time and computes nothing
 * (timing_only, kernels/cuda/emulated.h): bytes over rates and what launches cost, as the engine gives them; what kernels reach is not in it.
 *
 *     bench_device_sparq [--shape NAME] [--type T] [--k N] [--r N] [--memory RATE] [--folder DIR] [POSITIONS ...]
 *
 * All weights stay on the device. The model is a hollow file of a shape of `sluice synth`, made in --folder (TMPDIR, /tmp), to be used again. */
#define PROGRAM "bench_device_sparq"
#include "bench/flags.h"
#include "bench/must.h"

#include "offload/device_engine.h"
#include "offload/tools/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH       512
#define TOKENS      8
#define POSITIONS   4 /* that are timed where none are named */
#define CONTEXT_MAX (1 << 20)
#define MIB         ((uint64_t)1 << 20)
#define MEMORY_GIB  256

typedef struct bench {
    const char *shape, *folder, *memory;
    char path[512], device[256];
    uint32_t type, k, r;
} bench;

/* Seconds of a token behind so many positions; *part: bytes of keys and values that it reads, of dense attention's. */
static double token_s(const bench *b, uint32_t positions, sl_sparq_reallocate reallocate, bool sparq, double *part)
{
    static sl_token_id tokens[BATCH];
    sl_engine_options options = {.model_path = b->path,
                                 .context = positions + TOKENS,
                                 .batch = BATCH,
                                 .device = b->device,
                                 .ram_budget_bytes = (uint64_t)MEMORY_GIB * 1024 * MIB, /* of which the emulated memory is never touched */
                                 .timing_only = true,
                                 .vram_budget_bytes = (uint64_t)MEMORY_GIB * 1024 * MIB / 2,
                                 .cpu_share_given = true,
                                 .sparq_k = sparq ? b->k : 0,
                                 .sparq_r = sparq ? b->r : 0,
                                 .sparq_reallocate = reallocate};
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE | (sparq ? SL_EVAL_SPARQ : 0u);
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
    for (int i = 0; i < 2 + TOKENS; i++) { /* the first completes sums, the second captures the graph */
        if (i == 2)
            MUST(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
        MUST(sl_session_eval(session, tokens, 1, flags, NULL, E));
        MUST(sl_session_truncate(session, positions, E));
    }
    MUST(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, to, E));
    MUST(d->ops->event_elapsed(d, from, to, &seconds, E));
    sl_engine_measure(e, &stats);
    *part = sparq ? (double)stats.sparq_bytes_moved / (double)stats.sparq_dense_bytes : 1;
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    sl_session_close(session);
    sl_engine_close(e);
    return seconds / TOKENS;
}

static void time_at(const bench *b, uint32_t positions)
{
    double part, dense = token_s(b, positions, SL_SPARQ_REALLOCATE_OFF, false, &part);
    printf("%7u positions: dense %8.3f ms", positions, 1e3 * dense);
    for (int means = 0; means < 2; means++) {
        double s = token_s(b, positions, means ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_OFF, true, &part);
        printf("   %s %8.3f ms, %.3f of the bytes, %.2f x", means ? "with the mean" : "sparq", 1e3 * s, part, dense / s);
    }
    puts("");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const uint32_t usual[POSITIONS] = {1024, 4096, 16384, 65536};
    sl_synth_shape shape = {0};
    static bench b = {.shape = "smollm2-135m", .memory = "360G", .type = SL_TYPE_Q4_1, .k = 128, .r = 8};
    const flag flags[] = {{"--shape", FLAG_WORD, &b.shape}, {"--type", FLAG_TYPE, &b.type},     {"--k", FLAG_COUNT, &b.k},
                          {"--r", FLAG_COUNT, &b.r},        {"--memory", FLAG_RATE, &b.memory}, {"--folder", FLAG_WORD, &b.folder}};
    b.folder = flags_folder();
    int i = flags_take(flags, sizeof flags / sizeof *flags, argc, argv);
    if (i < argc && argv[i][0] == '-') {
        fputs("usage: " PROGRAM " [--shape NAME] [--type T] [--k N] [--r N] [--memory RATE] [--folder DIR] [POSITIONS ...]\n", stderr);
        return 2;
    }
    for (size_t n = 0; sl_synth_shape_at(n) != NULL; n++)
        if (strcmp(sl_synth_shape_at(n)->name, b.shape) == 0)
            shape = *sl_synth_shape_at(n);
    if (shape.name == NULL) {
        fprintf(stderr, PROGRAM ": no shape %s; `sluice synth --help` names them\n", b.shape);
        return 2;
    }
    shape.context = CONTEXT_MAX;
    snprintf(b.path, sizeof b.path, "%s/hollow-long-%s-%s.gguf", b.folder, b.shape, sl_format_of(b.type)->name);
    sl_synth_options synth = {.given = &shape, .path = b.path, .type = b.type, .hollow = true};
    if (access(b.path, R_OK) != 0)
        MUST(sl_synth(&synth, E));
    snprintf(b.device, sizeof b.device, "emulated:timing_only=1,memory=%dG,memory_bandwidth=%s", MEMORY_GIB, b.memory);
    printf("%s, %s, all on the device, f16 keys and values, k %u, r %u; device's memory %s/s: all times are simulated\n", b.shape,
           sl_format_of(b.type)->name, b.k, b.r, b.memory);
    for (int n = 0; n < POSITIONS && i == argc; n++)
        time_at(&b, usual[n]);
    for (; i < argc; i++)
        time_at(&b, (uint32_t)strtoul(argv[i], NULL, 10));
    return 0;
}

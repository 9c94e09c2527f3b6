/* bench/bench_device_engine.c: what a token costs a model that is larger than the GPU's memory: streamed, sparse, drafted and checked.
 *
 *     bench_device_engine [--model FILE] [--calibrated FILE] [--factor N] [--vram SIZE] [--tokens N]
 *
 * The device is named by SLUICE_TEST_DEVICE (cuda), the model by --model or SLUICE_TEST_MODEL; it is widened by --factor (6 on a GPU, 1 on the emulated device)
 * into a temporary folder, and packed. --vram (half of the weights) is what the lines with weights on the device may hold. --calibrated: the same model
 * packed and calibrated, for sets that are predicted.
 *
 * Times are the device's own, from before the first of --tokens (16) tokens to behind the last; the host's are beside them. On the emulated device the former
 * are simulated, from bytes and rates, and the latter mean nothing. */
#define PROGRAM "bench_device_engine"
#include "bench/must.h"

#include "core/format.h"
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/tools/pack.h"
#include "offload/tools/widen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_MAX 256
#define PROMPT     "The old lighthouse keeper had not spoken to anyone since the storm took the boats, and"
#define MIB        ((uint64_t)1 << 20)

typedef struct bench {
    const char *device, *model, *calibrated;
    char stock[512], packed[512];
    uint32_t factor, tokens;
    uint64_t vram_bytes, weight_bytes;
    double link_Bps;
    bool emulated;
} bench;

typedef struct run {
    const char *name, *path;
    bool nothing_stays, all_stays, beside;
    sl_sparsity sparsity;
    double density;
    int32_t drafted; /* 0: plain decoding */
} run;

typedef struct result {
    double device_s, wall_s; /* of a token */
    double advance;
    uint64_t crossing_bytes;
} result;

static sl_engine *open_engine(const bench *b, const run *r)
{
    sl_engine_options options = {.model_path = r->path,
                                 .context = 512,
                                 .batch = 32,
                                 .device = b->device,
                                 .vram_budget_bytes = r->all_stays ? 2 * b->weight_bytes + 256 * MIB : b->vram_bytes,
                                 .gpu_layers_given = r->nothing_stays,
                                 .cpu_share_given = !r->beside,
                                 .sparsity = r->sparsity,
                                 .density = r->density,
                                 .draft_max = r->drafted > 0 ? (uint32_t)r->drafted : 0};
    sl_engine *engine;
    if (r->nothing_stays && r->sparsity == SL_SPARSITY_OFF)
        options.vram_budget_bytes = b->vram_bytes;
    MUST(sl_engine_open(&options, &engine, E));
    return engine;
}

/* Plain decoding, or drafts and checks. */
static double decode(const bench *b, const run *r, sl_session *session, const sl_token_id *prompt, size_t count)
{
    sl_result out = {0};
    sl_request request = {.prompt = prompt,
                          .prompt_count = count,
                          .max_tokens = b->tokens,
                          .ignore_eos = true,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .drafting = {.tokens = r->drafted, .drafter = SL_DRAFTER_MODEL}};
    MUST(sl_generate(session, &request, &out, E));
    double advance = out.drafts.checks > 0 ? (double)out.count / (double)out.drafts.checks : 1;
    sl_result_free(&out);
    return advance;
}

static result measure(const bench *b, const run *r)
{
    sl_engine *engine = open_engine(b, r);
    sl_device *d = engine->device->device;
    sl_session *session;
    sl_event *from, *to;
    sl_engine_info info;
    sl_token_id *prompt;
    size_t count;
    result out = {0};
    MUST(sl_session_open(engine, &session, E));
    MUST(sl_engine_tokenize(engine, PROMPT, strlen(PROMPT), true, true, &prompt, &count, E));
    MUST(d->ops->event_create(d, &from, E));
    MUST(d->ops->event_create(d, &to, E));
    /* What stays comes with the first pass; the second sparse row finds all tables there. */
    unsigned sparse = r->sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0u;
    MUST(sl_session_eval(session, prompt, count - 1, SL_EVAL_LOGITS, NULL, E));
    for (int i = 0; i < 2; i++) {
        MUST(sl_session_eval(session, prompt, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | sparse, NULL, E));
        MUST(sl_session_truncate(session, (uint32_t)count - 1, E));
    }
    uint64_t start = sl_now_ns();
    MUST(d->ops->event_record(d, from, SL_STREAM_COMPUTE, E));
    out.advance = decode(b, r, session, prompt + count - 1, 1);
    MUST(d->ops->event_record(d, to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, to, E));
    MUST(d->ops->event_elapsed(d, from, to, &out.device_s, E));
    out.device_s /= b->tokens;
    out.wall_s = (double)(sl_now_ns() - start) * 1e-9 / b->tokens;
    sl_engine_describe(engine, &info);
    out.crossing_bytes = info.crossing_bytes;
    d->ops->event_destroy(d, from);
    d->ops->event_destroy(d, to);
    free(prompt);
    sl_session_close(session);
    sl_engine_close(engine);
    return out;
}

static void print(const bench *b, const run *r, const result *x)
{
    printf("%-44s %9.2f ms of the device", r->name, 1e3 * x->device_s);
    if (!b->emulated)
        printf(", %9.2f ms in all", 1e3 * x->wall_s);
    if (x->advance > 1)
        printf(", %.2f tokens a check", x->advance);
}

/* A line, and what it is of another. */
static result line(const bench *b, const run *r, const result *than)
{
    result x = measure(b, r);
    print(b, r, &x);
    if (than != NULL)
        printf("   %5.2f x as fast as streamed", than->device_s / x.device_s);
    puts("");
    return x;
}

static void all_runs(bench *b)
{
    char size[24];
    const run stays = {.name = "dense, all stays", .path = b->stock, .all_stays = true},
              streamed = {.name = "dense, nothing stays", .path = b->stock, .nothing_stays = true},
              part = {.name = "dense, as much stays as fits", .path = b->stock},
              beside = {.name = "the same, the processor beside", .path = b->stock, .beside = true},
              bundles = {.name = "packed, as much stays as fits", .path = b->packed},
              coarse = {.name = "a coarse 0.3 of it", .path = b->packed, .sparsity = SL_SPARSITY_COARSE, .density = 0.3},
              fine = {.name = "a fine 0.3 of it", .path = b->calibrated, .sparsity = SL_SPARSITY_FINE, .density = 0.3},
              exact = {.name = "drafts of 6 by a coarse 0.5, checked",
                       .path = b->packed,
                       .sparsity = SL_SPARSITY_COARSE,
                       .density = 0.5,
                       .drafted = 6};
    result resident = line(b, &stays, NULL), crossing = measure(b, &streamed);
    double copy_s = (double)crossing.crossing_bytes / b->link_Bps, longest = copy_s > resident.device_s ? copy_s : resident.device_s;
    print(b, &streamed, &crossing);
    sl_format_size((uint64_t)((double)crossing.crossing_bytes / crossing.device_s), size);
    printf("   %s/s: %.1f %% of the link; %.3f of the longer of copy and compute\n", size, 100 * copy_s / crossing.device_s,
           crossing.device_s / longest);
    result dense = line(b, &part, NULL);
    if (!b->emulated) /* whose clock the processor's work is not on */
        line(b, &beside, &dense);
    line(b, &bundles, &dense);
    line(b, &coarse, &dense);
    if (b->calibrated != NULL)
        line(b, &fine, &dense);
    else
        puts("a fine 0.3 of it: not run: no calibrated file (--calibrated)");
    line(b, &exact, &dense);
}

/* ---- setting up ---- */

static void make_models(bench *b)
{
    const char *folder = getenv("TMPDIR");
    snprintf(b->stock, sizeof b->stock, "%s/bench-device-%d.gguf", folder != NULL ? folder : "/tmp", (int)getpid());
    snprintf(b->packed, sizeof b->packed, "%s/bench-device-%d.packed.gguf", folder != NULL ? folder : "/tmp", (int)getpid());
    sl_widen_options widen = {.in_path = b->model, .out_path = b->stock, .factor = b->factor};
    MUST(sl_widen(&widen, E));
    sli_pack_options pack = {.in_path = b->stock, .out_path = b->packed, .order = SLI_PACK_FILE_ORDER};
    MUST(sli_pack(&pack, NULL, E));
}

/* Sizes of the weights, and what the link gives. */
static void look(bench *b)
{
    sl_engine_info info;
    run r = {.name = "look", .path = b->stock, .nothing_stays = true, .beside = true};
    uint64_t asked = b->vram_bytes;
    b->vram_bytes = 0; /* what is free */
    sl_engine *engine = open_engine(b, &r);
    sl_engine_describe(engine, &info);
    b->link_Bps = info.link_Bps;
    b->weight_bytes = info.weight_bytes;
    b->vram_bytes = asked != 0 ? asked : info.weight_bytes / 2 + info.vram_kv_bytes + info.weight_bytes / 16;
    char weights[24], link[24], vram[24];
    sl_format_size(info.weight_bytes, weights);
    sl_format_size((uint64_t)info.link_Bps, link);
    sl_format_size(b->vram_bytes, vram);
    printf("%s (%s), link %s/s; weights %s, VRAM budget %s, a token's mean of %u%s\n", info.device, info.backend, link, weights, vram,
           b->tokens, b->emulated ? "; times are simulated" : "");
    sl_engine_close(engine);
}

int main(int argc, char **argv)
{
    static bench b = {.tokens = 16};
    const char *device = getenv("SLUICE_TEST_DEVICE");
    bool known = true;
    b.device = device != NULL && device[0] != '\0' ? device : "cuda";
    b.emulated = strncmp(b.device, "emulated", strlen("emulated")) == 0;
    b.model = getenv("SLUICE_TEST_MODEL");
    b.factor = b.emulated ? 1 : 6;
    for (int i = 1; i < argc && known; i += 2) {
        known = i + 1 < argc;
        if (known && strcmp(argv[i], "--model") == 0)
            b.model = argv[i + 1];
        else if (known && strcmp(argv[i], "--calibrated") == 0)
            b.calibrated = argv[i + 1];
        else if (known && strcmp(argv[i], "--factor") == 0)
            b.factor = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (known && strcmp(argv[i], "--tokens") == 0)
            b.tokens = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (known && strcmp(argv[i], "--vram") == 0)
            known = sl_parse_size(argv[i + 1], &b.vram_bytes);
        else
            known = false;
    }
    if (!known || b.factor == 0 || b.factor > SL_WIDEN_FACTOR_MAX || b.tokens == 0 || b.tokens > TOKENS_MAX) {
        fprintf(stderr, "usage: bench_device_engine [--model FILE] [--calibrated FILE] [--factor 1..%u] [--vram SIZE] [--tokens 1..%d]\n",
                SL_WIDEN_FACTOR_MAX, TOKENS_MAX);
        return 2;
    }
    if (b.model == NULL) {
        puts("not run: no model (--model, SLUICE_TEST_MODEL)");
        return 0;
    }
    make_models(&b);
    look(&b);
    all_runs(&b);
    unlink(b.stock);
    unlink(b.packed);
    return 0;
}

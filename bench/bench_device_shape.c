/* bench/bench_device_shape.c: what a token would cost a model of any shape whose weights are larger than the GPU's memory, on an emulated device that keeps
 * time and computes nothing (timing_only, kernels/cuda/emulated.h).
 *
 *     bench_device_shape --like CALIBRATED [--shape NAME] [--factor N] [--type T] [--vram SIZE] [--link RATE] [--memory RATE] [--folder DIR] [--tokens N]
 *                        [--density D] [--draft DENSITY:PASSES:ROWS:CHECKED:ADVANCE,...] [--than MS]
 *
 * A DENSITY of 0 stands for drafts by the neurons that stay on the device (draft_resident): how many those are the VRAM budget says, and the line does.
 *
 * The engine is the one that runs models: prices, placement, ring, order of copies and launches are what they are. Simulated is
 *   - time: bytes over rates, as in all figures of the emulated device;
 *   - the model: a hollow file of the shape (--shape of `sluice synth`, each width --factor times), packed, with predictors of one sign a weight (all zero);
 *   - fine sets: how much of one lies in host memory. CALIBRATED, a small packed and calibrated model, decodes on an emulated device that does compute; at which
 *     places of a layer's order its sets lie is recorded, and imposed upon the large model's layers at the same depth;
 *   - coarse sets: those that the device holds follow them, so only their sizes count. What of a set is new behind a check, and crosses, is what was of the small
 *     model's;
 *   - drafts: PASSES of ROWS sparse rows each, then a check of CHECKED rows, of which ADVANCE stay: that was measured elsewhere (bench/sirius.py).
 *
 * --than: what a dense token took, where that is known; only drafts are timed then.
 * The two files are made in --folder (TMPDIR, /tmp) and stay there, to be used again. */
#define PROGRAM "bench_device_shape"
#include "bench/flags.h"
#include "bench/hollow.h"
#include "bench/must.h"

#include "offload/device_engine.h"
#include "offload/guess.h"
#include "offload/matmul.h"
#include "offload/tools/pack.h"
#include "offload/tools/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BINS       64 /* of a layer's places */
#define LAYERS_MAX 128
#define DRAFTS_MAX 16
#define FACTOR_MAX 64
#define PROMPT     32  /* rows, dense */
#define RECORDED   16  /* tokens */
#define CHECKS     5   /* behind which a coarse set is looked at again */
#define CHECKED    3   /* tokens of one */
#define CONTEXT    512 /* positions */
#define MIB        ((uint64_t)1 << 20)
#define TEXT                                                                                                                               \
    "The old lighthouse keeper had not spoken to anyone since the storm took the boats, and when the girl came up the path with bread he " \
    "did not know what to say to her."

typedef struct habit { /* of sets: which share of a layer's lies at which of its places, hot ones first */
    uint32_t layers;
    double share[LAYERS_MAX][BINS];
    double renewed; /* of a coarse one, behind a check */
} habit;

typedef struct drafting {
    double density, advance;
    uint32_t passes, rows, checked;
} drafting;

typedef struct bench {
    const char *like, *shape, *folder, *link, *memory;
    char stock[512], packed[512], device[256];
    sl_synth_shape wide;
    uint32_t factor, type, tokens, draft_count;
    uint64_t vram_bytes;
    double density, than_s;
    drafting drafts[DRAFTS_MAX];
} bench;

/* ---- the files ---- */

static void choose_shape(bench *b)
{
    b->wide = hollow_shape(b->shape);
    if (b->wide.layers > LAYERS_MAX) {
        fprintf(stderr, PROGRAM ": --shape %s has %u layers; at most %d work here\n", b->shape, b->wide.layers, LAYERS_MAX);
        exit(2);
    }
    b->wide.d *= b->factor;
    b->wide.ff *= b->factor;
    b->wide.heads *= b->factor;
    b->wide.kv_heads *= b->factor;
}

/* A predictor that copies the row, with one sign for each weight. */
static void *hollow_predictor(const sl_synth_shape *s, size_t *bytes)
{
    uint32_t words[SLI_GUESS_WORDS] = {[SLI_GUESS_VERSION] = SLI_GUESS_VERSION_NUMBER,
                                       [SLI_GUESS_D] = s->d,
                                       [SLI_GUESS_FF] = s->ff,
                                       [SLI_GUESS_INPUTS] = s->d,
                                       [SLI_GUESS_PROJECTION] = SLI_GUESS_COPY,
                                       [SLI_GUESS_PLANES_SUM] = s->d / SL_SIGN_COLS};
    sli_guess_layout layout = sli_guess_layout_of(words);
    uint8_t *blob = calloc(1, layout.total_bytes);
    if (blob == NULL) {
        fputs(PROGRAM ": no memory for a predictor\n", stderr);
        exit(1);
    }
    memcpy(blob, words, sizeof words);
    memset(blob + layout.offset[SLI_GUESS_PART_PLANES], 1, s->d / SL_SIGN_COLS);
    *bytes = layout.total_bytes;
    return blob;
}

static void pack_hollow(const bench *b)
{
    static char names[LAYERS_MAX][64];
    static sli_pack_tensor tensors[LAYERS_MAX];
    size_t bytes;
    void *blob = hollow_predictor(&b->wide, &bytes);
    for (uint32_t i = 0; i < b->wide.layers; i++) {
        snprintf(names[i], sizeof names[i], SLI_PREDICTOR_TENSOR, i);
        tensors[i] = (sli_pack_tensor){.name = names[i], .type = SL_TYPE_I8, .dims = 1, .shape = {bytes, 1, 1, 1}, .data = blob};
    }
    sli_pack_options pack = {.in_path = b->stock,
                             .out_path = b->packed,
                             .order = SLI_PACK_FILE_ORDER,
                             .zeros = SLI_PACK_STORE_ZEROS,
                             .tensors = tensors,
                             .tensor_count = b->wide.layers};
    MUST(sli_pack(&pack, NULL, E));
    free(blob);
}

static void make_files(bench *b)
{
    snprintf(b->stock, sizeof b->stock, "%s/hollow-%s-%u-%s.gguf", b->folder, b->shape, b->factor, sl_format_of(b->type)->name);
    snprintf(b->packed, sizeof b->packed, "%s/hollow-%s-%u-%s.packed.gguf", b->folder, b->shape, b->factor, sl_format_of(b->type)->name);
    sl_synth_options synth = {.given = &b->wide, .path = b->stock, .type = b->type, .hollow = true};
    if (access(b->stock, R_OK) != 0)
        MUST(sl_synth(&synth, E));
    if (access(b->packed, R_OK) != 0)
        pack_hollow(b);
}

/* ---- the habit of sets ---- */

static struct watch { /* of the kernel that chooses a set */
    const sl_device_kernels *real;
    sl_engine *engine;
    uint32_t calls;
    habit *habit;
} watch;

static void count_set(const sl_engine *e, uint32_t layer, const uint32_t *members, uint32_t count, habit *out)
{
    const sli_bundled_layer *l = sli_bundled_of(&e->bundled, layer);
    for (uint32_t i = 0; l != NULL && i < count; i++)
        out->share[layer][(uint64_t)l->place_of[members[i]] * BINS / e->model->ff] += 1;
}

static sl_status watched_top(sl_device *dev, sl_device_ptr scores, uint32_t count, uint32_t keep, sl_device_ptr members,
                             sl_device_ptr clear, sl_device_ptr scratch, sl_error *err)
{
    SL_TRY(watch.real->top(dev, scores, count, keep, members, clear, scratch, err));
    SL_TRY(dev->ops->synchronize(dev, SL_STREAM_COMPUTE, err));
    /* The emulated device's address is the process's own, and is not guarded here. */
    count_set(watch.engine, watch.calls++ % watch.engine->model->layers, (const uint32_t *)(uintptr_t)members, keep, watch.habit);
    return SL_OK;
}

static void make_shares(habit *h, uint32_t layers)
{
    h->layers = layers;
    for (uint32_t layer = 0; layer < layers; layer++) {
        double sum = 0;
        for (int i = 0; i < BINS; i++)
            sum += h->share[layer][i];
        for (int i = 0; i < BINS; i++)
            h->share[layer][i] /= sum > 0 ? sum : 1;
    }
}

/* The members of a layer's set that were not in the set before. */
static uint32_t count_new(const uint32_t *set, const uint32_t *before, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0, j = 0; i < count; i++) {
        while (j < count && before[j] < set[i])
            j++;
        found += j < count && before[j] == set[i];
    }
    return count - found;
}

/* Checks of the text's last tokens, each with what it leaves of the sets. */
static double renewal(sl_engine *e, sl_session *session, const sl_token_id *tokens)
{
    size_t bytes = (size_t)e->model->layers * e->model->ff * sizeof(uint32_t);
    uint32_t *before = malloc(bytes);
    uint64_t renewed = 0, members = 0;
    for (uint32_t check = 0; before != NULL && check < CHECKS; check++) {
        sli_coarse_set(&e->sparsity, 0);
        memcpy(before, e->sparsity.chosen, bytes);
        sli_coarse_fade(&e->sparsity);
        MUST(sl_session_eval(session, tokens + (size_t)check * CHECKED, CHECKED, SL_EVAL_LOGITS, NULL, E));
        for (uint32_t layer = 0; layer < e->model->layers; layer++) {
            renewed += count_new(sli_coarse_set(&e->sparsity, layer), before + (size_t)layer * e->model->ff, e->keep[layer]);
            members += e->keep[layer];
        }
    }
    free(before);
    return (double)renewed / (double)members;
}

/* At a density: fine sets of RECORDED tokens, or the coarse one behind the text. */
static void record_habit(const bench *b, sl_sparsity sparsity, double density, habit *out)
{
    sl_engine_options options = {.model_path = b->like,
                                 .context = CONTEXT,
                                 .batch = PROMPT,
                                 .device = "emulated:graphs=0,memory=4G",
                                 .vram_budget_bytes = 1024 * MIB,
                                 .cpu_share_given = true,
                                 .sparsity = sparsity,
                                 .density = density};
    sl_engine *e;
    sl_session *session;
    sl_token_id *tokens;
    size_t count;
    *out = (habit){0};
    MUST(sl_engine_open(&options, &e, E));
    MUST(sl_session_open(e, &session, E));
    MUST(sl_engine_tokenize(e, TEXT, strlen(TEXT), true, true, &tokens, &count, E));
    size_t prompt = sparsity == SL_SPARSITY_FINE ? count - RECORDED : count - (size_t)CHECKS * CHECKED;
    MUST(sl_session_eval(session, tokens, prompt, SL_EVAL_LOGITS, NULL, E));
    if (sparsity == SL_SPARSITY_FINE) {
        sl_device_kernels kernels = *e->device->device->kernels;
        watch = (struct watch){.real = e->device->device->kernels, .engine = e, .habit = out};
        kernels.top = watched_top;
        e->device->device->kernels = &kernels;
        for (size_t i = prompt; i < count; i++)
            MUST(sl_session_eval(session, tokens + i, 1, SL_EVAL_LOGITS | SL_EVAL_SPARSE, NULL, E));
        e->device->device->kernels = watch.real;
    } else {
        out->renewed = renewal(e, session, tokens + prompt);
        for (uint32_t layer = 0; layer < e->model->layers; layer++)
            count_set(e, layer, sli_coarse_set(&e->sparsity, layer), e->keep[layer], out);
    }
    make_shares(out, e->model->layers);
    free(tokens);
    sl_session_close(session);
    sl_engine_close(e);
}

/* Of a set, what lies at places [from, to), parts of all. */
static double share_between(const habit *h, uint32_t layer, double from, double to)
{
    double sum = 0;
    for (int i = 0; i < BINS; i++) {
        double low = from > (double)i / BINS ? from : (double)i / BINS, high = to < (i + 1.0) / BINS ? to : (i + 1.0) / BINS;
        sum += high > low ? h->share[layer][i] * (high - low) * BINS : 0;
    }
    return sum;
}

/* To be captured anew: what kernels take is in them. */
static void forget_graphs(sl_engine *e)
{
    for (size_t i = 0; i < sizeof e->device->graphs / sizeof *e->device->graphs; i++)
        e->device->graphs[i].positions = 0;
}

/* What of each layer's sets lies in host memory, where units stay as they were placed; returns the mean. */
static double impose(sl_engine *e, const habit *h)
{
    double mean = 0;
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(e->model, e->packed, &e->units, layer);
        double share = 0;
        for (uint32_t u = 0; u < m->unit_count; u++)
            if (!e->device->loaded[m->first_unit + u])
                share += share_between(h, (uint32_t)((uint64_t)layer * h->layers / e->model->layers),
                                       (double)u * m->rows_per_unit / m->rows,
                                       (double)(u * m->rows_per_unit + sli_unit_rows(m, u)) / m->rows);
        e->device->host_share[layer] = share;
        mean += share / e->model->layers;
    }
    forget_graphs(e);
    return mean;
}

/* ---- passes ---- */

typedef struct subject {
    sl_engine *engine;
    sl_session *session;
    sl_event *from, *to;
} subject;

/* density 0: what stays drafts. */
static subject open_subject(const bench *b, const char *path, bool nothing_stays, sl_sparsity sparsity, double density)
{
    sl_engine_options options = {.model_path = path,
                                 .context = CONTEXT,
                                 .batch = PROMPT,
                                 .draft_max = PROMPT - 1,
                                 .device = b->device,
                                 .timing_only = true,
                                 .vram_budget_bytes = b->vram_bytes,
                                 .gpu_layers_given = nothing_stays,
                                 .cpu_share_given = true,
                                 .sparsity = sparsity,
                                 .density = density,
                                 .draft_resident = density == 0,
                                 .uniform_density = density > 0};
    subject s;
    sl_token_id tokens[PROMPT] = {0};
    MUST(sl_engine_open(&options, &s.engine, E));
    MUST(sl_session_open(s.engine, &s.session, E));
    MUST(s.engine->device->device->ops->event_create(s.engine->device->device, &s.from, E));
    MUST(s.engine->device->device->ops->event_create(s.engine->device->device, &s.to, E));
    MUST(sl_session_eval(s.session, tokens, PROMPT, SL_EVAL_LOGITS, NULL, E)); /* what stays comes with the first pass */
    return s;
}

static void close_subject(const subject *s)
{
    s->engine->device->device->ops->event_destroy(s->engine->device->device, s->from);
    s->engine->device->device->ops->event_destroy(s->engine->device->device, s->to);
    sl_session_close(s->session);
    sl_engine_close(s->engine);
}

/* Seconds of a pass of `rows`, on the device's clock, once all tables and graphs are there. */
static double pass_s(const bench *b, const subject *s, uint32_t rows, bool sparse)
{
    sl_device *d = s->engine->device->device;
    sl_token_id tokens[PROMPT] = {0};
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE | (sparse ? SL_EVAL_SPARSE : 0u) | (rows > 1 ? SL_EVAL_ALL_LOGITS : 0u);
    double seconds = 0;
    for (uint32_t i = 0; i < 2 + b->tokens; i++) {
        if (i == 2)
            MUST(d->ops->event_record(d, s->from, SL_STREAM_COMPUTE, E));
        MUST(sl_session_eval(s->session, tokens, rows, flags, NULL, E));
        MUST(sl_session_truncate(s->session, PROMPT, E));
    }
    MUST(d->ops->event_record(d, s->to, SL_STREAM_COMPUTE, E));
    MUST(d->ops->event_wait(d, s->to, E));
    MUST(d->ops->event_elapsed(d, s->from, s->to, &seconds, E));
    return seconds / b->tokens;
}

static void say(const char *name, const subject *s, double seconds, double than_s)
{
    char weights[24];
    sl_engine_info info;
    sl_engine_describe(s->engine, &info);
    sl_format_size(info.vram_weight_bytes, weights);
    printf("%-44s %8.2f ms   %10s of the weights stay", name, 1e3 * seconds, weights);
    if (than_s > 0)
        printf("   %5.2f x as fast as streamed", than_s / seconds);
    puts("");
    fflush(stdout);
}

/* ---- lines ---- */

/* Returns seconds of a token where as much stays as fits. */
static double dense(const bench *b)
{
    sl_engine_info info;
    subject s = open_subject(b, b->stock, true, SL_SPARSITY_OFF, 1);
    double seconds = pass_s(b, &s, 1, false);
    sl_engine_describe(s.engine, &info);
    say("dense, nothing stays", &s, seconds, 0);
    printf("%-44s %8.1f %% of the link\n", "", 1e2 * (double)info.crossing_bytes / info.link_Bps / seconds);
    close_subject(&s);
    s = open_subject(b, b->stock, false, SL_SPARSITY_OFF, 1);
    seconds = pass_s(b, &s, 1, false);
    sl_engine_describe(s.engine, &info);
    say("dense, as much stays as fits: streamed", &s, seconds, seconds);
    printf("%-44s %8.1f %% of the link\n", "", 1e2 * (double)info.crossing_bytes / info.link_Bps / seconds);
    close_subject(&s);
    return seconds;
}

static void fine(const bench *b, double than_s)
{
    char name[64];
    static habit h;
    record_habit(b, SL_SPARSITY_FINE, b->density, &h);
    subject s = open_subject(b, b->packed, false, SL_SPARSITY_FINE, b->density);
    say("packed, dense", &s, pass_s(b, &s, 1, false), than_s);
    double mean = 0, seconds = pass_s(b, &s, 1, true);
    for (uint32_t layer = 0; layer < s.engine->model->layers; layer++)
        mean += s.engine->device->host_share[layer] / s.engine->model->layers;
    snprintf(name, sizeof name, "fine %.2f, %.3f of it over the link (by chance)", b->density, mean);
    say(name, &s, seconds, than_s);
    mean = impose(s.engine, &h);
    snprintf(name, sizeof name, "fine %.2f, %.3f of it over the link (recorded)", b->density, mean);
    say(name, &s, pass_s(b, &s, 1, true), than_s);
    close_subject(&s);
}

/* What dense rows of a model that computes nothing show of its neurons would give other sets: the first ones are kept. */
static void hold_sets(sl_engine *e)
{
    e->sparsity.chosen_valid = e->device->members_sent = true;
}

/* Seconds of the drafts and of the check, one after the other as they come, so that the check's weights cross meanwhile. */
static void cycle_s(const bench *b, const subject *s, const drafting *d, double *draft_s, double *check_s)
{
    sl_device *device = s->engine->device->device;
    sl_token_id tokens[PROMPT] = {0};
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_MORE, drafts = d->density > 0 ? SL_EVAL_SPARSE : SL_EVAL_DRAFT;
    int32_t parents[PROMPT] = {-1}; /* as many branches as rows */
    *draft_s = *check_s = 0;
    for (uint32_t i = 0; i < 2 + b->tokens; i++) { /* slots are filled and graphs captured in the first two */
        double seconds[2];
        if (i > 0 && d->density > 0)
            hold_sets(s->engine);
        MUST(device->ops->event_record(device, s->from, SL_STREAM_COMPUTE, E));
        for (uint32_t n = 0; n < d->passes; n++)
            MUST(sl_session_eval_tree(s->session, tokens, parents, d->rows, flags | drafts, NULL, E));
        for (int part = 0; part < 2; part++) {
            if (part == 1)
                MUST(sl_session_eval(s->session, tokens, d->checked, flags | SL_EVAL_ALL_LOGITS, NULL, E));
            MUST(device->ops->event_record(device, s->to, SL_STREAM_COMPUTE, E));
            MUST(device->ops->event_wait(device, s->to, E));
            MUST(device->ops->event_elapsed(device, s->from, s->to, &seconds[part], E));
        }
        MUST(sl_session_truncate(s->session, PROMPT, E));
        *draft_s += i > 1 ? seconds[0] / b->tokens : 0;
        *check_s += i > 1 ? (seconds[1] - seconds[0]) / b->tokens : 0;
    }
}

static uint64_t set_bytes(const sl_engine *e)
{
    uint64_t bytes = 0;
    for (uint32_t layer = 0; layer < e->model->layers; layer++)
        bytes += (uint64_t)e->keep[layer] * sli_bundled_layer_at(e->packed, layer)->stride;
    return bytes;
}

/* Seconds until what is new of a set behind a check has crossed: with `share` of the set, of which `renewed` gets the part. */
static double renewal_s(const bench *b, const subject *s, double share, double *renewed)
{
    static habit h;
    uint64_t link_Bps;
    record_habit(b, SL_SPARSITY_COARSE, share, &h);
    if (!s->engine->price.follows || !sl_parse_size(b->link, &link_Bps)) {
        fputs(PROGRAM ": the RAM budget is too small for sets to be followed\n", stderr);
        exit(1);
    }
    *renewed = h.renewed;
    return h.renewed * (double)set_bytes(s->engine) / (double)link_Bps;
}

static void drafted(const bench *b, const drafting *d, double than_s)
{
    char name[96];
    double draft_s, check_s, renewed_s = 0, renewed, mean = 0;
    bool held = d->density == 0;
    sl_engine_info info;
    subject s = open_subject(b, b->packed, false, held ? SL_SPARSITY_OFF : SL_SPARSITY_COARSE, d->density);
    sl_engine_describe(s.engine, &info);
    cycle_s(b, &s, d, &draft_s, &check_s);
    for (uint32_t layer = 0; layer < s.engine->model->layers; layer++)
        mean += s.engine->device->host_share[layer] / s.engine->model->layers;
    if (held)
        snprintf(name, sizeof name, "what stays, %.3f of the neurons", info.draft_density);
    else
        snprintf(name, sizeof name, "coarse %.2f, %.3f of it over the link", d->density, mean);
    say(name, &s, draft_s / d->passes, than_s);
    snprintf(name, sizeof name, "   a check of %u rows", d->checked);
    say(name, &s, check_s, than_s);
    if (!held) {
        renewed_s = renewal_s(b, &s, d->density, &renewed);
        snprintf(name, sizeof name, "   what is new in a set, %.3f of it", renewed);
        say(name, &s, renewed_s, 0);
    }
    snprintf(name, sizeof name, "   %u drafts of %u rows, %.2f tokens (recorded)", d->passes, d->rows, d->advance);
    say(name, &s, (draft_s + check_s + renewed_s) / d->advance, than_s);
    close_subject(&s);
}

/* ---- arguments ---- */

/* DENSITY:PASSES:ROWS:CHECKED:ADVANCE, with commas between several. */
static bool parse_drafts(const char *text, bench *b)
{
    for (int used = 0; b->draft_count < DRAFTS_MAX; text += used + 1) {
        drafting *d = &b->drafts[b->draft_count++];
        if (sscanf(text, "%lf:%u:%u:%u:%lf%n", &d->density, &d->passes, &d->rows, &d->checked, &d->advance, &used) != 5 ||
            !(d->density >= 0 && d->density <= 1) || d->rows < 1 || d->rows > PROMPT || d->checked < 1 || d->checked > PROMPT ||
            d->advance < 1)
            return false;
        if (text[used] != ',')
            return text[used] == '\0';
    }
    return false;
}

int main(int argc, char **argv)
{
    static bench b = {.shape = "llama-13b",
                      .link = "6500M",
                      .memory = "360G",
                      .factor = 1,
                      .type = SL_TYPE_Q4_0,
                      .tokens = 3,
                      .density = 0.3,
                      .vram_bytes = 4096 * MIB};
    const char *drafts = NULL;
    double than_ms = 0;
    const flag flags[] = {{"--like", FLAG_WORD, &b.like},        {"--shape", FLAG_WORD, &b.shape},     {"--factor", FLAG_COUNT, &b.factor},
                          {"--type", FLAG_TYPE, &b.type},        {"--vram", FLAG_SIZE, &b.vram_bytes}, {"--link", FLAG_RATE, &b.link},
                          {"--memory", FLAG_RATE, &b.memory},    {"--folder", FLAG_WORD, &b.folder},   {"--tokens", FLAG_COUNT, &b.tokens},
                          {"--density", FLAG_SHARE, &b.density}, {"--draft", FLAG_WORD, &drafts},      {"--than", FLAG_NUMBER, &than_ms}};
    b.folder = flags_folder();
    int last = flags_take(flags, sizeof flags / sizeof *flags, argc, argv);
    if (last < argc || b.like == NULL || b.factor > FACTOR_MAX || (drafts != NULL && !parse_drafts(drafts, &b))) {
        fprintf(stderr,
                "usage: " PROGRAM " --like CALIBRATED [--shape NAME] [--factor N] [--type T] [--vram SIZE] [--link RATE] [--memory RATE]\n"
                "       [--folder DIR] [--tokens N] [--density D] [--draft DENSITY:PASSES:ROWS:CHECKED:ADVANCE,...] [--than MS]\n");
        return 2;
    }
    b.than_s = 1e-3 * than_ms;
    choose_shape(&b);
    make_files(&b);
    snprintf(b.device, sizeof b.device, "emulated:timing_only=1,memory=64G,link=%s,memory_bandwidth=%s", b.link, b.memory);
    printf("%s, widths times %u, %s; link %s/s, device's memory %s/s, VRAM budget %.1f MiB: all times are simulated\n", b.shape, b.factor,
           sl_format_of(b.type)->name, b.link, b.memory, (double)b.vram_bytes / (double)MIB);
    if (b.than_s == 0) {
        b.than_s = dense(&b);
        fine(&b, b.than_s);
    }
    for (uint32_t i = 0; i < b.draft_count; i++)
        drafted(&b, &b.drafts[i], b.than_s);
    return 0;
}

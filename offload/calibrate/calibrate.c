/* offload/calibrate/calibrate.c: see calibrate.h. */
#include "offload/calibrate/calibrate.h"
#include "core/os.h"
#include "kernels/columns.h"
#include "offload/calibrate/choose.h"
#include "offload/calibrate/order.h"
#include "offload/calibrate/sensitivity.h"
#include "offload/engine.h"
#include "offload/select.h"
#include "pager/packed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PREDICTOR_SHARE 0.15 /* of the feed-forwards' bytes, by default */
#define ORDER_DENSITY   0.3
#define GAP_BYTES       SL_BUNDLES_GAP_BYTES
#define HEAP_BYTES      (8u << 20) /* what reading leaves behind in the heap, at most */
#define TEXT_PER_TOKEN  16u        /* bytes of text that are tokenised for each token wanted: more than any text needs */

/* Everything in hand, in the order in which it is made. */
typedef struct work {
    const sli_calibrate_options *options;
    sli_calibration *out;
    sl_engine *engine;
    uint64_t budget_bytes, rss_bytes; /* rss: of the process before it opened anything */
    sli_observation observation;
    float *sensitivity; /* [layers] divergence when one layer is sparse; zero where it could not be measured */
    sli_weights *weights;
    sl_threads *threads;
    sli_linear *linear;
    sli_lesson lesson;
    sli_candidate candidates[SLI_CALIBRATE_ROWS];
    uint32_t candidate_count;
    uint8_t *blob;     /* of a fit in progress */
    size_t blob_bytes; /* its room */
    void *scratch;
    size_t scratch_bytes;
    float *scores;       /* [3][ff] */
    uint32_t *members;   /* [2][ff] */
    uint64_t *histories; /* [ff][words] */
    uint8_t *wanted;     /* [ff] */
    uint64_t steps, steps_total;
} work;

static sl_status step(work *w, sli_calibrate_stage stage, sl_error *err)
{
    w->steps++;
    if (w->options->progress != NULL && !w->options->progress(w->options->ctx, stage, w->steps, w->steps_total))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

static const sl_kernels *best_kernels(void)
{
    for (int isa = SL_ISA_COUNT - 1; isa > SL_ISA_SCALAR; isa--)
        if (sl_kernels_for((sl_isa)isa) != NULL && sl_cpu_supports((sl_isa)isa))
            return sl_kernels_for((sl_isa)isa);
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* ---- the price, before anything is read ---- */

static sl_status list_candidates(work *w, const sl_model *m, sl_error *err)
{
    for (uint32_t i = 0; i < m->layers; i++)
        w->out->ffn_bytes += sl_model_ffn_bytes(m, i);
    assert(m->layers > 0);
    uint64_t budget = w->options->predictor_bytes;
    if (budget == 0)
        budget = (uint64_t)(PREDICTOR_SHARE * (double)w->out->ffn_bytes);
    if (m->d % SL_SIGN_COLS != 0)
        return sl_fail(err, SL_UNSUPPORTED, "%s: d = %u is no multiple of %u; no predictor is made for such a model",
                       w->options->model_path, m->d, SL_SIGN_COLS);
    w->candidate_count = sli_choose_candidates(m->d, m->ff, budget / m->layers, w->out->ffn_bytes / m->layers, w->candidates);
    sli_choose_sizes(w->candidates, w->candidate_count, m->d, m->ff, &w->blob_bytes, &w->scratch_bytes);
    for (uint32_t i = 0; i < w->candidate_count; i++)
        if (w->candidates[i].fits)
            return SL_OK;
    sli_fit_plan least = {0};
    size_t bytes = 0;
    while (!sli_fit_plan_of(SLI_FIT_LOW_RANK, m->d, m->ff, bytes, &least))
        bytes += 4096;
    char size[24];
    sl_format_size(bytes * m->layers, size);
    return sl_fail(err, SL_INVALID, "--predictor-bytes is too little for any predictor of this model; the smallest takes %s", size);
}

static uint32_t history_words(const sli_lesson_shape *shape)
{
    return (shape->fit_rows + 63) / 64;
}

static uint64_t price_of(const work *w, const sli_lesson_shape *shape, uint32_t layers)
{
    uint64_t small = (uint64_t)shape->ff * (3 * 4 + 2 * 4 + 1 + 8 * (uint64_t)history_words(shape));
    uint64_t results = (uint64_t)layers * (w->blob_bytes + (uint64_t)shape->ff * 4 + 64);
    return sli_lesson_price(shape) + sl_pages_round(w->blob_bytes) + sl_pages_round(w->scratch_bytes) + SLI_LINEAR_BYTES + small + results +
           sli_weights_bytes(w->weights) + w->rss_bytes;
}

static sl_status check_budget(const work *w, uint32_t tokens, uint32_t context, sl_error *err)
{
    const sl_model *m = sli_weights_model(w->weights);
    sli_lesson_shape shape = sli_lesson_shape_of(m, sli_observe_rows(tokens, context));
    uint64_t price = price_of(w, &shape, m->layers);
    if (price <= w->budget_bytes)
        return SL_OK;
    char needed[24], given[24];
    uint64_t named = price + SLI_PROCESS_DRIFT_BYTES;
    sl_format_size(named, needed);
    sl_format_size(w->budget_bytes, given);
    sl_status status = sl_fail(err, SL_NO_BUDGET, "calibrate needs %s for its fits, the budget is %s", needed, given);
    if (err != NULL)
        err->ram_budget_min_bytes = named;
    return status;
}

/* ---- reading the text ---- */

static bool on_read(void *ctx, uint64_t done, uint64_t total)
{
    const work *w = ctx;
    return w->options->progress == NULL || w->options->progress(w->options->ctx, SLI_CALIBRATE_READING, done, total);
}

static bool on_measured(void *ctx, uint64_t done, uint64_t total)
{
    const work *w = ctx;
    return w->options->progress == NULL || w->options->progress(w->options->ctx, SLI_CALIBRATE_MEASURING, done, total);
}

static sl_status measure_sensitivity(work *w, const sl_engine_options *options, const sl_token_id *tokens, size_t count, sl_error *err)
{
    sl_tool_watch watch = {.progress = on_measured, .ctx = w};
    w->sensitivity = calloc(sli_weights_model(w->weights)->layers, sizeof *w->sensitivity);
    if (w->sensitivity == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the sensitivity of layers");
    return sli_sensitivity(options, tokens, count, &watch, sli_weights_model(w->weights), w->sensitivity, err);
}

static bool on_probed(void *ctx, uint64_t done, uint64_t total)
{
    const work *w = ctx;
    return w->options->progress == NULL || w->options->progress(w->options->ctx, SLI_CALIBRATE_PROBING, done, total);
}

static void on_note(void *ctx, const char *line)
{
    const work *w = ctx;
    if (w->options->note != NULL)
        w->options->note(w->options->ctx, line);
}

static sl_status learn_exits(work *w, const sl_engine_options *options, const sl_token_id *tokens, size_t count, sl_error *err)
{
    sl_tool_watch watch = {on_probed, on_note, w};
    return sli_exit_learn(options, &w->options->exits, w->options->text, w->options->text_bytes, tokens, (uint32_t)count, &watch,
                          &w->out->exits, err);
}

static sl_status read_text(work *w, sl_error *err)
{
    const sli_calibrate_options *o = w->options;
    sl_engine_options options = {
        .model_path = o->model_path, .ram_budget_bytes = o->ram_budget_bytes, .threads = o->threads, .note = o->note, .note_ctx = o->ctx};
    uint32_t wanted = o->tokens != 0 ? o->tokens : SLI_CALIBRATE_TOKENS;
    size_t bytes = o->text_bytes < (size_t)wanted * TEXT_PER_TOKEN ? o->text_bytes : (size_t)wanted * TEXT_PER_TOKEN;
    sl_token_id *tokens = NULL;
    size_t count;
    if (o->text_bytes == 0)
        return sl_fail(err, SL_INVALID, "the calibration text is empty; a few pages of what the model will read are right");
    w->rss_bytes = sl_rss_bytes() + HEAP_BYTES;
    SL_TRY(sli_weights_open(o->model_path, best_kernels(), &w->weights, err));
    SL_TRY(list_candidates(w, sli_weights_model(w->weights), err));
    uint32_t longest = sli_weights_model(w->weights)->context;
    options.context = longest < SLI_OBSERVE_CHUNK ? longest : SLI_OBSERVE_CHUNK;
    SL_TRY(sl_engine_open(&options, &w->engine, err));
    sl_engine_info info;
    sl_engine_describe(w->engine, &info);
    w->budget_bytes = info.ram_budget_bytes;
    SL_TRY(sl_engine_tokenize(w->engine, o->text, bytes, true, false, &tokens, &count, err));
    count = count < wanted ? count : wanted;
    w->out->tokens = (uint32_t)count;
    sl_tool_watch watch = {.progress = on_read, .ctx = w};
    sl_status status = SL_OK;
    if (count < SLI_CALIBRATE_TOKENS_MIN)
        status = sl_fail(err, SL_INVALID, "the calibration text has only %zu tokens; at least %u are needed, and some %u are right", count,
                         SLI_CALIBRATE_TOKENS_MIN, SLI_CALIBRATE_TOKENS);
    else
        status = check_budget(w, (uint32_t)count, options.context, err);
    if (status == SL_OK)
        status = sli_observe(w->engine, tokens, (uint32_t)count, o->out_path, &watch, &w->observation, err);
    sl_engine_close(w->engine); /* its memory is what comes next takes */
    w->engine = NULL;
    if (status == SL_OK)
        status = measure_sensitivity(w, &options, tokens, count, err);
    if (status == SL_OK)
        status = learn_exits(w, &options, tokens, count, err);
    free(tokens);
    return status;
}

/* ---- preparing ---- */

static sl_status create_results(sli_calibration *out, sl_error *err)
{
    out->blobs = calloc(out->layers, sizeof *out->blobs);
    out->blob_bytes = calloc(out->layers, sizeof *out->blob_bytes);
    out->orders = calloc(out->layers, sizeof *out->orders);
    out->curves = calloc((size_t)out->layers * (SLI_DENSITY_POINTS + 1), sizeof *out->curves);
    bool all = out->blobs != NULL && out->blob_bytes != NULL && out->orders != NULL && out->curves != NULL;
    for (uint32_t i = 0; all && i < out->layers; i++)
        all = (out->orders[i] = malloc(out->ff * sizeof **out->orders)) != NULL;
    return all ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for what calibrate finds");
}

static sl_status create_scratch(work *w, const sli_lesson_shape *shape, sl_error *err)
{
    w->blob = sl_pages_alloc(w->blob_bytes);
    w->scratch = w->scratch_bytes == 0 ? NULL : sl_pages_alloc(w->scratch_bytes);
    w->scores = malloc(3 * (size_t)shape->ff * sizeof *w->scores);
    w->members = malloc(2 * (size_t)shape->ff * sizeof *w->members);
    w->histories = malloc((size_t)shape->ff * history_words(shape) * sizeof *w->histories);
    w->wanted = malloc(shape->ff);
    if (w->blob == NULL || (w->scratch == NULL && w->scratch_bytes > 0) || w->scores == NULL || w->members == NULL ||
        w->histories == NULL || w->wanted == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for fits");
    return SL_OK;
}

static sl_status prepare(work *w, sl_error *err)
{
    const sl_kernels *kernels = best_kernels();
    const sl_model *m = sli_weights_model(w->weights);
    sli_lesson_shape shape = sli_lesson_shape_of(m, w->observation.rows);
    w->out->layers = m->layers;
    w->out->ff = m->ff;
    w->out->rows = w->observation.rows;
    SL_TRY(sl_threads_create(w->options->threads, &w->threads, err));
    SL_TRY(sli_linear_open(sl_threads_count(w->threads), &w->linear, err));
    SL_TRY(sli_lesson_create(&shape, &w->lesson, err));
    w->lesson.kernels = kernels;
    w->lesson.threads = w->threads;
    w->lesson.linear = w->linear;
    w->lesson.weights = w->weights;
    w->lesson.act = m->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH;
    SL_TRY(create_scratch(w, &shape, err));
    return create_results(w->out, err);
}

/* ---- choosing ---- */

static void add_quality(sli_quality *sum, const sli_quality *q, double weight)
{
    for (int d = 0; d < SLI_QUALITY_DENSITIES; d++) {
        sum->lost[d] += weight * q->lost[d];
        sum->recall[d] += weight * q->recall[d];
    }
}

static sl_status measure_candidate(work *w, uint32_t index, double weight, sl_error *err)
{
    const sli_candidate *c = &w->candidates[index];
    sli_guess guess;
    size_t bytes = 0;
    sli_quality quality;
    if (c->chooser == SLI_CHOOSE_GUESS || c->chooser == SLI_CHOOSE_BOTH) {
        SL_TRY(sli_fit(&w->lesson, &c->plan, w->scratch, w->blob, &bytes, err));
        (void)sli_guess_view(w->blob, bytes, w->lesson.d, w->lesson.ff, &guess);
    }
    sli_quality_of(&w->lesson, c->chooser, &guess, w->scores, w->members, &quality);
    add_quality(&w->out->table[index].quality, &quality, weight);
    return step(w, SLI_CALIBRATE_CHOOSING, err);
}

static sl_status choose(work *w, sl_error *err)
{
    sli_calibration *out = w->out;
    uint32_t most = sli_choose_layers(w->lesson.d, w->lesson.ff), layers = out->layers < most ? out->layers : most;
    w->steps = 0;
    w->steps_total = (uint64_t)layers * w->candidate_count;
    for (uint32_t i = 0; i < w->candidate_count; i++) {
        const sli_candidate *c = &w->candidates[i];
        out->table[i] = (sli_calibrate_row){.name = c->name, .bits = c->bits, .bytes = c->plan.bytes * out->layers, .fits = c->fits};
        out->table[i].share = (double)out->table[i].bytes / (double)out->ffn_bytes;
    }
    for (uint32_t n = 0; n < layers; n++) {
        SL_TRY(sli_lesson_begin(&w->lesson, &w->observation, (2 * n + 1) * out->layers / (2 * layers), err));
        for (uint32_t i = 0; i < w->candidate_count; i++)
            SL_TRY(measure_candidate(w, i, 1.0 / layers, err));
    }
    out->table_rows = w->candidate_count;
    out->chosen = sli_choose_best(out->table, w->candidates, w->candidate_count);
    return SL_OK;
}

/* ---- fitting all layers ---- */

static void write_histories(work *w, uint32_t words)
{
    const sli_lesson *l = &w->lesson;
    uint32_t keep = (uint32_t)(ORDER_DENSITY * l->ff);
    keep = keep > 0 ? keep : 1;
    memset(w->histories, 0, (size_t)l->ff * words * sizeof *w->histories);
    for (uint32_t row = 0; row < l->fit_rows; row++) {
        sli_select_top(l->scores + (size_t)row * l->ff, l->ff, keep, w->members);
        for (uint32_t i = 0; i < keep; i++)
            w->histories[(size_t)w->members[i] * words + row / 64] |= (uint64_t)1 << row % 64;
    }
    w->out->wanted = keep;
}

/* A permutation that depends on nothing else. */
static void shuffle(uint32_t *order, uint32_t count)
{
    uint64_t random = 1;
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; i-- > 1;) {
        uint32_t j = (uint32_t)(sli_random_next(&random) % (i + 1)), other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}

static uint32_t gap_bundles(const work *w)
{
    const sl_model *m = sli_weights_model(w->weights);
    uint32_t layer = w->lesson.layer;
    const sl_gguf_tensor *gate = sl_model_tensor(m, SL_ROLE_FFN_GATE, layer), *up = sl_model_tensor(m, SL_ROLE_FFN_UP, layer);
    size_t bytes = sl_row_bytes(gate->type, m->d) + sl_row_bytes(up->type, m->d) +
                   sl_column_bytes(sl_model_tensor(m, SL_ROLE_FFN_DOWN, layer)->type, m->d);
    return (uint32_t)(GAP_BYTES / ((bytes + SL_PACK_STRIDE - 1) / SL_PACK_STRIDE * SL_PACK_STRIDE));
}

/* Counts the reads that held-out rows need in an order, and what of their sets comes first in it. */
static void count_reads(work *w, sli_calibrate_order which, const uint32_t *order)
{
    const sli_lesson *l = &w->lesson;
    uint64_t runs = 0, places = 0, first = 0;
    for (uint32_t row = l->fit_rows; row < l->fit_rows + l->held_rows; row++) {
        sli_select_top(l->scores + (size_t)row * l->ff, l->ff, w->out->wanted, w->members);
        memset(w->wanted, 0, l->ff);
        for (uint32_t i = 0; i < w->out->wanted; i++)
            w->wanted[w->members[i]] = 1;
        sli_reads reads = sli_order_reads(order, w->wanted, l->ff, gap_bundles(w));
        runs += reads.runs;
        places += reads.places;
        for (uint32_t place = 0; place < l->ff / 5; place++)
            first += w->wanted[order[place]];
    }
    w->out->runs[which] += (double)runs / l->held_rows / w->out->layers;
    w->out->places[which] += (double)places / l->held_rows / w->out->layers;
    w->out->first_fifth[which] += (double)first / l->held_rows / w->out->wanted / w->out->layers;
}

/* A neuron's heat is its mean score. How many sets it is in would hit a little more; this keeps more of the energy (bench/SPEED.md). */
static void take_heat(const sli_lesson *l, float *heat)
{
    memset(heat, 0, l->ff * sizeof *heat);
    for (uint32_t row = 0; row < l->fit_rows; row++)
        l->kernels->add(heat, l->scores + (size_t)row * l->ff, l->ff);
}

static void find_order(work *w, uint32_t *order)
{
    sli_lesson *l = &w->lesson;
    uint32_t *other = w->members + l->ff, *scratch = (uint32_t *)(void *)w->scores;
    sli_order_facts facts = {w->scores + l->ff, w->histories, l->ff, (l->fit_rows + 63) / 64};
    take_heat(l, w->scores + l->ff);
    write_histories(w, facts.words);
    sli_order_tiered(w->threads, &facts, l->ff, other, scratch);
    count_reads(w, SLI_ORDER_HOT, other);
    for (uint32_t i = 0; i < l->ff; i++)
        other[i] = i;
    count_reads(w, SLI_ORDER_FILE, other);
    shuffle(other, l->ff);
    count_reads(w, SLI_ORDER_RANDOM, other);
    sli_order_tiered(w->threads, &facts, SLI_ORDER_TIERS, order, scratch);
    count_reads(w, SLI_ORDER_TIERED, order);
}

static sl_status fit_layer(work *w, uint32_t layer, sl_error *err)
{
    sli_calibration *out = w->out;
    sli_guess guess;
    sli_quality quality;
    size_t bytes;
    SL_TRY(sli_lesson_begin(&w->lesson, &w->observation, layer, err));
    SL_TRY(sli_fit(&w->lesson, &w->candidates[out->chosen].plan, w->scratch, w->blob, &bytes, err));
    (void)sli_guess_view(w->blob, bytes, w->lesson.d, w->lesson.ff, &guess);
    sli_quality_of(&w->lesson, SLI_CHOOSE_GUESS, &guess, w->scores, w->members, &quality);
    add_quality(&out->quality, &quality, 1.0 / out->layers);
    sli_quality_curve(&w->lesson, &guess, w->sensitivity[layer], SLI_SENSITIVITY_DENSITY, w->scores, w->members,
                      out->curves + (size_t)layer * (SLI_DENSITY_POINTS + 1));
    find_order(w, out->orders[layer]);
    out->blobs[layer] = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (out->blobs[layer] == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for predictors");
    memcpy(out->blobs[layer], w->blob, bytes);
    out->blob_bytes[layer] = bytes;
    out->predictor_bytes += bytes;
    return step(w, SLI_CALIBRATE_FITTING, err);
}

static sl_status fit_all(work *w, sl_error *err)
{
    w->steps = 0;
    w->steps_total = w->out->layers;
    for (uint32_t i = 0; i < w->out->layers; i++)
        SL_TRY(fit_layer(w, i, err));
    return SL_OK;
}

static void release(work *w)
{
    sl_engine_close(w->engine);
    sli_observation_close(&w->observation);
    sli_lesson_free(&w->lesson);
    sli_linear_close(w->linear);
    sl_threads_destroy(w->threads);
    sli_weights_close(w->weights);
    sl_pages_free(w->blob, w->blob_bytes);
    sl_pages_free(w->scratch, w->scratch_bytes);
    free(w->sensitivity);
    free(w->scores);
    free(w->members);
    free(w->histories);
    free(w->wanted);
}

sl_status sli_calibrate(const sli_calibrate_options *options, sli_calibration *out, sl_error *err)
{
    *out = (sli_calibration){0};
    work w = {.options = options, .out = out, .observation = {.file = -1}};
    uint64_t start = sl_now_ns();
    sl_status status = read_text(&w, err);
    out->read_s = (double)(sl_now_ns() - start) * 1e-9;
    if (status == SL_OK)
        status = prepare(&w, err);
    if (status == SL_OK)
        status = choose(&w, err);
    if (status == SL_OK)
        status = fit_all(&w, err);
    out->fit_s = (double)(sl_now_ns() - start) * 1e-9 - out->read_s;
    release(&w);
    if (status != SL_OK)
        sli_calibration_free(out);
    return status;
}

void sli_calibration_free(sli_calibration *c)
{
    for (uint32_t i = 0; i < c->layers; i++) {
        if (c->blobs != NULL)
            free(c->blobs[i]);
        if (c->orders != NULL)
            free(c->orders[i]);
    }
    free(c->blobs);
    free(c->blob_bytes);
    free(c->orders);
    free(c->curves);
    sli_exit_found_free(&c->exits);
    *c = (sli_calibration){0};
}

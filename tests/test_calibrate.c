/* tests/test_calibrate.c: what a calibration computes, on data whose answer is known, and the whole of it on a tiny model.
 *
 * Inputs of a layer are planted through the same file that observing writes. Numbers from OpenBLAS are compared with tolerances; what is decided by
 * integers (orders, densities) exactly. */
#include "offload/calibrate/calibrate.h"
#include "offload/calibrate/choose.h"
#include "offload/calibrate/fit.h"
#include "offload/calibrate/order.h"
#include "offload/calibrate/store.h"
#include "offload/predictor.h"
#include "tests/kernels_material.h"
#include "tests/tiny_model.h"

#include "tests/blas.h" /* needs cmocka's names */

#include <dlfcn.h>
#include <errno.h>

/* ---- density ---- */

static uint64_t sum_of(const uint32_t *keep, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += keep[i];
    return sum;
}

static void density_is_divided_exactly_and_by_need(void **state)
{
    (void)state;
    float curves[3 * (SLI_DENSITY_POINTS + 1)];
    uint32_t keep[3], even[3];
    for (uint32_t p = 0; p <= SLI_DENSITY_POINTS; p++) {
        float left = 1 - (float)p / SLI_DENSITY_POINTS;
        curves[p] = left * left;
        curves[SLI_DENSITY_POINTS + 1 + p] = 4 * left * left; /* matters four times as much */
        curves[2 * (SLI_DENSITY_POINTS + 1) + p] = 0;         /* not at all */
    }
    for (int percent = 1; percent <= 100; percent++) {
        double density = percent / 100.0;
        assert_int_equal(sli_density_distribute(curves, 3, 101, density, keep, NULL), SL_OK);
        assert_int_equal(sli_density_distribute(NULL, 3, 101, density, even, NULL), SL_OK);
        uint64_t want = (uint64_t)(density * 303 * (1 + 1e-12));
        want = want < 3 ? 3 : want;
        assert_int_equal(sum_of(keep, 3), want);
        assert_int_equal(sum_of(even, 3), want);
        for (int i = 0; i < 3; i++)
            assert_true(keep[i] >= 1 && keep[i] <= 101 && even[i] >= 1 && even[i] <= 101);
        if (percent > 30 && percent < 65)
            assert_true(keep[1] > keep[0] && keep[0] > keep[2]);
    }
}

/* ---- order ---- */

#define NEURONS  96
#define CLUSTERS 6

static void check_permutation(const uint32_t *order)
{
    bool seen[NEURONS] = {0};
    for (uint32_t i = 0; i < NEURONS; i++) {
        assert_true(order[i] < NEURONS && !seen[order[i]]);
        seen[order[i]] = true;
    }
}

/* Neurons i, i + 6, i + 12 ... fire together, in rows of their own; neuron 7 always fires and neuron 90 never does. */
static void neurons_that_fire_together_are_stored_together(void **state)
{
    (void)state;
    uint64_t histories[NEURONS] = {0}, random = 1;
    float heat[NEURONS];
    sli_order_facts facts = {heat, histories, NEURONS, 1};
    uint32_t order[NEURONS], scratch[NEURONS], breaks = 0;
    uint64_t patterns[CLUSTERS];
    sl_threads *threads;
    assert_int_equal(sl_threads_create(1, &threads, NULL), SL_OK);
    for (int c = 0; c < CLUSTERS; c++)
        patterns[c] = next_random(&random) & next_random(&random);
    for (uint32_t i = 0; i < NEURONS; i++)
        histories[i] = i == 7 ? UINT64_MAX : i == 90 ? 0 : patterns[i % CLUSTERS] ^ (uint64_t)1 << next_random(&random) % 64;
    for (uint32_t i = 0; i < NEURONS; i++)
        heat[i] = (float)__builtin_popcountll(histories[i]);
    sli_order_tiered(threads, &facts, 1, order, scratch);
    check_permutation(order);
    assert_int_equal(order[0], 7);
    for (uint32_t i = 2; i < NEURONS; i++)
        breaks += order[i] % CLUSTERS != order[i - 1] % CLUSTERS;
    assert_true(breaks <= CLUSTERS + 1);
    sli_order_tiered(threads, &facts, NEURONS, order, scratch);
    check_permutation(order);
    assert_int_equal(order[0], 7);
    assert_int_equal(order[NEURONS - 1], 90);
    sl_threads_destroy(threads);
}

/* Three clusters, and the first half of the neurons is hotter than any of the second half. */
static void what_is_hottest_is_stored_first_and_within_a_tier_together(void **state)
{
    (void)state;
    const uint64_t often[3] = {0x00000000ffffffff, 0x0000ffffffff0000, 0xffffffff00000000};
    uint64_t histories[NEURONS];
    float heat[NEURONS];
    sli_order_facts facts = {heat, histories, NEURONS, 1};
    uint32_t order[NEURONS], scratch[NEURONS];
    sl_threads *threads;
    assert_int_equal(sl_threads_create(1, &threads, NULL), SL_OK);
    for (uint32_t i = 0; i < NEURONS; i++)
        histories[i] = (i < NEURONS / 2 ? often[i % 3] : often[i % 3] & 0x5555555555555555) & ~((uint64_t)1 << i % 5 * 3);
    for (uint32_t i = 0; i < NEURONS; i++)
        heat[i] = (i < NEURONS / 2 ? 10.0f : 1.0f) + (float)(i * 7 % 5);
    sli_order_tiered(threads, &facts, 2, order, scratch);
    check_permutation(order);
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t breaks = 0;
        for (uint32_t i = half * NEURONS / 2; i < (half + 1) * NEURONS / 2; i++) {
            assert_true(order[i] / (NEURONS / 2) == half);
            breaks += i % (NEURONS / 2) != 0 && order[i] % 3 != order[i - 1] % 3;
        }
        assert_int_equal(breaks, 2);
    }
    sl_threads_destroy(threads);
}

static void reads_are_counted_with_and_without_gaps(void **state)
{
    (void)state;
    const uint32_t order[8] = {7, 6, 5, 4, 3, 2, 1, 0};
    const uint8_t wanted[8] = {1, 1, 0, 1, 0, 0, 0, 1}; /* places 0, 4, 6, 7 */
    sli_reads none = sli_order_reads(order, wanted, 8, 0), one = sli_order_reads(order, wanted, 8, 1),
              three = sli_order_reads(order, wanted, 8, 3);
    assert_int_equal(none.runs, 3);
    assert_int_equal(none.places, 4);
    assert_int_equal(one.runs, 2);
    assert_int_equal(one.places, 5);
    assert_int_equal(three.runs, 1);
    assert_int_equal(three.places, 8);
}

/* ---- fits ---- */

typedef struct class_room {
    char *path;
    tiny_model model;
    sli_weights *weights;
    sl_threads *threads;
    sli_linear *linear;
    sli_lesson lesson;
    sli_observation observation;
    uint8_t *blob;
    void *scratch;
} class_room;

/* rows x d inputs: `rank` random directions, or all zero with rank 0. */
static void plant_inputs(class_room *c, uint32_t rows, uint32_t rank)
{
    uint32_t d = c->model.d;
    uint64_t random = 9;
    float *directions = allocate((size_t)(rank + 1) * d * sizeof(float));
    uint16_t *halves = allocate((size_t)rows * d * sizeof *halves);
    FILE *file = tmpfile();
    assert_non_null(file);
    fill(directions, (size_t)rank * d, 4);
    for (uint32_t r = 0; r < rows; r++) {
        float x[256] = {0};
        for (uint32_t k = 0; k < rank; k++) {
            float by = random_float(&random);
            for (uint32_t i = 0; i < d; i++)
                x[i] += by * directions[(size_t)k * d + i];
        }
        for (uint32_t i = 0; i < d; i++)
            halves[(size_t)r * d + i] = sl_f32_to_f16(x[i]);
    }
    assert_int_equal(fwrite(halves, sizeof *halves, (size_t)rows * d, file), (size_t)rows * d);
    assert_int_equal(fflush(file), 0);
    c->observation = (sli_observation){.file = dup(fileno(file)), .layers = 1, .d = d, .rows = rows};
    fclose(file);
    free(directions);
    free(halves);
}

static void open_class(class_room *c, uint32_t rows, uint32_t rank)
{
    sl_error err = {0};
    *c = (class_room){.path = tiny_path("calibrate.gguf"), .model = (tiny_model)TINY_MODEL};
    assert_int_equal(tiny_write(&c->model, c->path, &err), SL_OK);
    plant_inputs(c, rows, rank);
    if (sli_weights_open(c->path, reference(), &c->weights, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(sl_threads_create(1, &c->threads, &err), SL_OK);
    assert_int_equal(sli_linear_open(1, &c->linear, &err), SL_OK);
    sli_lesson_shape shape = sli_lesson_shape_of(sli_weights_model(c->weights), rows);
    assert_int_equal(sli_lesson_create(&shape, &c->lesson, &err), SL_OK);
    c->lesson.kernels = reference();
    c->lesson.threads = c->threads;
    c->lesson.linear = c->linear;
    c->lesson.weights = c->weights;
    assert_int_equal(sli_lesson_begin(&c->lesson, &c->observation, 0, &err), SL_OK);
    c->blob = allocate(1 << 17);
    c->scratch = allocate(1 << 20);
}

static void close_class(class_room *c)
{
    free(c->blob);
    free(c->scratch);
    sli_lesson_free(&c->lesson);
    sli_linear_close(c->linear);
    sl_threads_destroy(c->threads);
    sli_weights_close(c->weights);
    sli_observation_close(&c->observation);
    unlink(c->path);
    free(c->path);
}

/* Fits and measures; the plan is the best use of `bytes`. */
static sli_quality quality_of(class_room *c, sli_fit_kind kind, size_t bytes)
{
    sli_fit_plan plan;
    sli_guess guess;
    sli_quality quality;
    sl_error err = {0};
    float scores[3 * 128];
    uint32_t members[2 * 128];
    assert_true(sli_fit_plan_of(kind, c->model.d, c->model.ff, bytes, &plan));
    assert_true(plan.bytes <= bytes);
    assert_true(sli_fit_scratch_bytes(&plan, c->model.d, c->model.ff) <= 1 << 20);
    size_t got;
    if (sli_fit(&c->lesson, &plan, c->scratch, c->blob, &got, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_true(got <= plan.bytes);
    assert_null(sli_guess_view(c->blob, got, c->model.d, c->model.ff, &guess));
    sli_quality_of(&c->lesson, SLI_CHOOSE_GUESS, &guess, scores, members, &quality);
    return quality;
}

static sli_quality exact_quality(class_room *c)
{
    sli_quality quality;
    float scores[3 * 128];
    uint32_t members[2 * 128];
    sli_quality_of(&c->lesson, SLI_CHOOSE_EXACT, NULL, scores, members, &quality);
    return quality;
}

static void inputs_of_low_rank_are_found_by_a_low_rank_guess(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    class_room c;
    open_class(&c, 640, 8);
    sli_quality exact = exact_quality(&c), guess = quality_of(&c, SLI_FIT_LOW_RANK, 5600); /* one block of directions */
    assert_true(exact.recall[0] == 1.0 && exact.recall[1] == 1.0);
    assert_true(guess.lost[0] < exact.lost[0] + 0.02);
    assert_true(guess.recall[0] > 0.85);
    close_class(&c);
}

static void more_bits_of_a_copy_lose_less(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    class_room c;
    open_class(&c, 640, 64);
    sli_quality exact = exact_quality(&c);
    double before = 1;
    for (uint32_t planes = 2; planes <= 6; planes += 2) { /* of two blocks */
        sli_quality q = quality_of(&c, SLI_FIT_COPY, 1984 + planes * 768);
        assert_true(q.lost[0] < before && q.lost[0] >= exact.lost[0] - 1e-9);
        before = q.lost[0];
    }
    assert_true(before < exact.lost[0] + 0.02);
    close_class(&c);
}

static void a_gram_matrix_that_rounding_made_indefinite_is_damped_until_it_has_a_factor(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    sl_error err = {0};
    sli_linear *linear = NULL;
    assert_int_equal(sli_linear_open(1, &linear, &err), SL_OK);
    float a[9] = {1, 1, 1, 1, 1, 1, 1, 1, 0.9f}, factor[9]; /* an eigenvalue of -0.07 */
    assert_true(sli_linear_cholesky_damped(linear, 3, 0.001f, a, factor));
    for (int i = 0; i < 3; i++) /* L L' is a, but for the diagonal: 0.001 of its mean, a hundred times */
        for (int j = 0; j < 3; j++) {
            float sum = 0;
            for (int k = 0; k < 3; k++)
                sum += factor[i * 3 + k] * factor[j * 3 + k];
            assert_float_equal(sum, a[i * 3 + j] + (i == j ? 0.0967f : 0), 1e-4f);
        }
    a[4] = NAN;
    assert_false(sli_linear_cholesky_damped(linear, 3, 0.001f, a, factor));
    sli_linear_close(linear);
}

static void silent_constant_and_few_inputs_still_give_a_guess(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    static const struct {
        uint32_t rows, rank;
    } cases[] = {{300, 0}, {300, 1}, {40, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        class_room c;
        open_class(&c, cases[i].rows, cases[i].rank);
        sli_quality copy = quality_of(&c, SLI_FIT_COPY, 4000), low = quality_of(&c, SLI_FIT_LOW_RANK, 8000);
        assert_true(copy.lost[0] >= 0 && copy.lost[0] <= 1 && low.lost[0] >= 0 && low.lost[0] <= 1);
        close_class(&c);
    }
}

/* ---- all of it ---- */

typedef struct whole {
    char *in, *out, text[4096];
    sli_calibrate_options options;
} whole;

static void open_deep(whole *w, size_t text_bytes, uint32_t layers)
{
    tiny_model model = TINY_MODEL;
    uint64_t random = 5;
    model.layers = layers;
    *w = (whole){.in = tiny_path("whole.gguf"), .out = tiny_path("whole.packed.gguf")};
    assert_int_equal(tiny_write(&model, w->in, NULL), SL_OK);
    for (size_t i = 0; i < sizeof w->text; i++)
        w->text[i] = (char)('a' + next_random(&random) % 26);
    w->options = (sli_calibrate_options){.model_path = w->in, .text = w->text, .text_bytes = text_bytes, .out_path = w->out, .threads = 1};
}

static void open_whole(whole *w, size_t text_bytes)
{
    open_deep(w, text_bytes, 2);
}

static void close_whole(whole *w)
{
    unlink(w->in);
    unlink(w->out);
    free(w->in);
    free(w->out);
}

static sl_status read_section(void *ctx, const sl_gguf_tensor *tensor, void *to, sl_error *err)
{
    FILE *file = fopen(ctx, "rb");
    bool good = file != NULL && fseek(file, (long)tensor->offset, SEEK_SET) == 0 && fread(to, 1, tensor->bytes, file) == tensor->bytes;
    if (file != NULL)
        fclose(file);
    return good ? SL_OK : sl_fail(err, SL_IO, "unreadable");
}

static void a_calibrated_file_has_predictors_orders_and_curves(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    whole w;
    sl_error err = {0};
    sli_calibration c;
    sl_tool_watch quiet = {0};
    open_whole(&w, sizeof w.text);
    if (sli_calibrate(&w.options, &c, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_true(c.predictor_bytes <= c.ffn_bytes * 15 / 100);
    if (sli_calibration_store(&c, w.in, w.out, &quiet, NULL, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_gguf *file;
    sl_packed *packed;
    sli_predictor *predictor;
    float curves[2 * (SLI_DENSITY_POINTS + 1)];
    assert_int_equal(sl_gguf_open(w.out, &file, &err), SL_OK);
    assert_int_equal(sl_packed_open(file, &packed, &err), SL_OK);
    assert_memory_equal(sl_packed_layer_at(packed, 1)->order, c.orders[1], c.ff * sizeof(uint32_t));
    assert_true(sli_density_read(file, 2, curves));
    assert_true(curves[0] > 0 && curves[SLI_DENSITY_POINTS] == 0);
    sli_predictor_shape shape = {.layers = 2, .d = 64, .ff = 96};
    sli_predictor_reader reader = {read_section, w.out};
    if (sli_predictor_open(file, &shape, &reader, reference(), &predictor, &err) != SL_OK)
        fail_msg("%s", err.message);
    uint64_t stored = sl_gguf_find_tensor(file, "blk.0.calibration.predictor")->bytes +
                      sl_gguf_find_tensor(file, "blk.1.calibration.predictor")->bytes;
    assert_true(sli_predictor_price(file, 2) >= stored);
    assert_int_equal(stored, c.predictor_bytes);
    sli_predictor_close(predictor);
    sl_packed_close(packed);
    sl_gguf_close(file);
    sli_calibration_free(&c);
    close_whole(&w);
}

static bool no_svm(void)
{
    void *library = dlopen("libsvm.so.3", RTLD_NOW | RTLD_LOCAL);
    if (library != NULL)
        dlclose(library);
    return library == NULL;
}

/* Where layers can be left out, a run finds what decides it. */
static void a_calibrated_file_has_classifiers_for_early_exits(void **state)
{
    (void)state;
    if (no_blas() || no_svm())
        skip();
    for (uint32_t first = 0; first <= 3; first += 3) {
        whole w;
        sl_error err = {0};
        sli_calibration c;
        sl_tool_watch quiet = {0};
        open_deep(&w, sizeof w.text, 5);
        w.options.exits = (sli_exit_wish){.first = first, .every = first > 0, .shortlist = 100};
        if (sli_calibrate(&w.options, &c, &err) != SL_OK || sli_calibration_store(&c, w.in, w.out, &quiet, NULL, &err) != SL_OK)
            fail_msg("%s", err.message);
        assert_int_equal(c.exits.probe_count, first == 0 ? 3 : 2);
        assert_in_range(c.exits.shortlist_count, 2, 100);
        for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_GAP; kind++) {
            sl_engine *engine;
            sl_engine_info info;
            sl_engine_options options = {.model_path = w.out, .threads = 1, .early_exit = kind, .exit_agreement = 0.8};
            if (sl_engine_open(&options, &engine, &err) != SL_OK)
                fail_msg("%s", err.message);
            sl_engine_describe(engine, &info);
            assert_true(info.exit_held_agreement >= 0.8 && info.exit_held_layers <= 5);
            assert_int_equal(info.exit_first, first == 0 ? 2 : 3);
            assert_int_equal(info.exit_shortlist, c.exits.shortlist_count);
            sl_engine_close(engine);
        }
        sli_calibration_free(&c);
        close_whole(&w);
    }
}

static void probes_stand_where_they_were_wished_and_never_behind_the_last_layer(void **state)
{
    (void)state;
    int32_t at[SLI_EXIT_PROBES_MAX];
    const char *fault;
    assert_int_equal(sli_exit_probe_layers(&(sli_exit_wish){0}, 30, at, &fault), 8);
    assert_true(at[0] == 14 && at[1] == 16 && at[7] == 28);
    assert_int_equal(sli_exit_probe_layers(&(sli_exit_wish){.first = 29}, 30, at, &fault), 1);
    assert_int_equal(at[0], 28);
    assert_int_equal(sli_exit_probe_layers(&(sli_exit_wish){.first = 1, .every = 1}, 200, at, &fault), SLI_EXIT_PROBES_MAX);
    assert_int_equal(sli_exit_probe_layers(&(sli_exit_wish){0}, 2, at, &fault), 0);
    assert_null(fault);
    assert_int_equal(sli_exit_probe_layers(&(sli_exit_wish){.first = 30}, 30, at, &fault), 0);
    assert_non_null(fault);
}

static void a_shortlist_has_what_is_most_frequent(void **state)
{
    (void)state;
    uint32_t counts[] = {5, 0, 9, 1, 9, 2};
    int32_t list[4];
    assert_int_equal(sli_exit_frequent(counts, 6, 3, list), 3);
    assert_true(list[0] == 0 && list[1] == 2 && list[2] == 4);
    assert_int_equal(sli_exit_frequent(counts, 6, 1, list), 0); /* two are as frequent: rather none than one of them */
}

static void expect(whole *w, sl_status status, const char *words)
{
    sl_error err = {0};
    sli_calibration c;
    assert_int_equal(sli_calibrate(&w->options, &c, &err), status);
    if (strstr(err.message, words) == NULL)
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void what_cannot_be_calibrated_is_refused_with_a_reason(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    whole w;
    open_whole(&w, 0);
    expect(&w, SL_INVALID, "empty");
    w.options.text_bytes = 40;
    expect(&w, SL_INVALID, "tokens; at least 256");
    w.options.text_bytes = sizeof w.text;
    w.options.predictor_bytes = 100;
    expect(&w, SL_INVALID, "--predictor-bytes");
    w.options.predictor_bytes = 0;
    w.options.exits.first = 9;
    expect(&w, SL_INVALID, "--exit-first 9: the first layer that is probed lies before the last one of 2");
    close_whole(&w);
}

static bool stop(void *ctx, sli_calibrate_stage stage, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return stage != *(sli_calibrate_stage *)ctx;
}

static void it_can_be_stopped_at_every_stage(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    whole w;
    open_deep(&w, sizeof w.text, 4);
    for (int stage = SLI_CALIBRATE_READING; stage <= SLI_CALIBRATE_PROBING; stage++) {
        sli_calibrate_stage at = (sli_calibrate_stage)stage;
        w.options.progress = stop;
        w.options.ctx = &at;
        expect(&w, SL_INTERRUPTED, "interrupted");
    }
    close_whole(&w);
}

static void of_a_wide_model_only_what_could_be_chosen_is_measured(void **state)
{
    (void)state;
    sli_candidate narrow[SLI_CALIBRATE_ROWS], wide[SLI_CALIBRATE_ROWS];
    uint32_t count = sli_choose_candidates(576, 1536, 249000, 1660000, narrow), beyond = 0;
    for (uint32_t i = 0; i < count; i++)
        beyond += narrow[i].plan.bytes > 0 && !narrow[i].fits;
    assert_true(beyond > 0 && sli_choose_layers(576, 1536) == SLI_CHOOSE_LAYERS);
    count = sli_choose_candidates(4608, 12288, 16000000, 95500000, wide);
    assert_int_equal(sli_choose_layers(4608, 12288), 1);
    assert_int_equal(count, 5); /* exact, static, recent tokens; the best low rank and the best copy */
    for (uint32_t i = 0; i < count; i++)
        assert_true(wide[i].plan.bytes == 0 || wide[i].fits);
}

static bool never(void *ctx, sli_calibrate_stage stage, uint64_t done, uint64_t total)
{
    (void)ctx, (void)stage, (void)done, (void)total;
    fail_msg("something was read though the budget does not do");
    return false;
}

/* An engine runs in less than fits need: what is between is refused by the fits, before any of the text is read. */
static void a_budget_that_is_too_small_is_refused_before_anything_is_read(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    whole w;
    sl_error err;
    sli_calibration c;
    open_whole(&w, sizeof w.text);
    w.options.progress = never;
    w.options.ram_budget_bytes = 1;
    assert_int_equal(sli_calibrate(&w.options, &c, &err), SL_NO_BUDGET);
    for (int i = 0; i < 8 && strstr(err.message, "for its fits") == NULL; i++) {
        w.options.ram_budget_bytes = err.ram_budget_min_bytes + (1 << 20);
        assert_int_equal(sli_calibrate(&w.options, &c, &err), SL_NO_BUDGET);
    }
    assert_non_null(strstr(err.message, "for its fits"));
    w.options.progress = NULL;
    w.options.ram_budget_bytes = err.ram_budget_min_bytes + (1 << 20);
    assert_int_equal(sli_calibrate(&w.options, &c, &err), SL_OK);
    sli_calibration_free(&c);
    close_whole(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(density_is_divided_exactly_and_by_need),
        cmocka_unit_test(neurons_that_fire_together_are_stored_together),
        cmocka_unit_test(what_is_hottest_is_stored_first_and_within_a_tier_together),
        cmocka_unit_test(reads_are_counted_with_and_without_gaps),
        cmocka_unit_test(inputs_of_low_rank_are_found_by_a_low_rank_guess),
        cmocka_unit_test(more_bits_of_a_copy_lose_less),
        cmocka_unit_test(a_gram_matrix_that_rounding_made_indefinite_is_damped_until_it_has_a_factor),
        cmocka_unit_test(silent_constant_and_few_inputs_still_give_a_guess),
        cmocka_unit_test(a_calibrated_file_has_predictors_orders_and_curves),
        cmocka_unit_test(a_calibrated_file_has_classifiers_for_early_exits),
        cmocka_unit_test(probes_stand_where_they_were_wished_and_never_behind_the_last_layer),
        cmocka_unit_test(a_shortlist_has_what_is_most_frequent),
        cmocka_unit_test(what_cannot_be_calibrated_is_refused_with_a_reason),
        cmocka_unit_test(it_can_be_stopped_at_every_stage),
        cmocka_unit_test(of_a_wide_model_only_what_could_be_chosen_is_measured),
        cmocka_unit_test(a_budget_that_is_too_small_is_refused_before_anything_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/test_prune.c: what pruning takes away and how it makes good for it, on matrices whose answer is known, and the whole of it on tiny models.
 *
 * Numbers from OpenBLAS are compared with tolerances; how many weights become zero is counted exactly. */
#include "offload/prune/auxiliary.h"
#include "offload/prune/neurons.h"
#include "offload/prune/prune.h"
#include "offload/tools/pack.h"
#include "tests/kernels_material.h"
#include "tests/tiny_model.h"

#include <errno.h>
#include <sys/stat.h>

static bool no_blas(void)
{
    sli_linear *linear;
    sl_error err;
    if (sli_linear_open(1, &linear, &err) == SL_OK) {
        sli_linear_close(linear);
        return false;
    }
    print_message("skipped: %s\n", err.message);
    return true;
}

static size_t zeros_of(const float *x, size_t count)
{
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++)
        zeros += x[i] == 0;
    return zeros;
}

/* ---- masks ---- */

static void patterns_are_read_strictly(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "2", "2:", ":4", "0:4", "4:4", "5:4", "2:4x", "-2:4", "2:64", "2 :4", "x:y"};
    sli_prune_rule rule;
    assert_true(sli_prune_parse_pattern("3:4", &rule));
    assert_int_equal(rule.drop, 3);
    assert_int_equal(rule.of, 4);
    assert_true(rule.density == 0.25);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(sli_prune_parse_pattern(wrong[i], &rule));
}

/* Also where many scores are equal, and among them zeros. */
static void a_cut_takes_exactly_as_many_as_it_should_and_the_smallest(void **state)
{
    (void)state;
    float scores[1000];
    uint64_t random = 1;
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < 1000; i++)
            scores[i] = kind == 0 ? random_float(&random) : kind == 1 ? (float)(i % 3) : ldexpf(random_float(&random), i % 60 - 30);
        for (size_t drop = 0; drop <= 1000; drop += 125) {
            sli_prune_cut cut = sli_prune_cut_of(scores, 1000, drop);
            float largest_gone = 0, smallest_kept = INFINITY;
            size_t gone = 0;
            for (int i = 0; i < 1000; i++) {
                float magnitude = fabsf(scores[i]);
                bool goes = sli_prune_cuts(&cut, magnitude);
                gone += goes;
                if (goes)
                    largest_gone = fmaxf(largest_gone, magnitude);
                else
                    smallest_kept = fminf(smallest_kept, magnitude);
            }
            assert_int_equal(gone, drop);
            assert_true(largest_gone <= smallest_kept || drop == 0);
        }
    }
}

static void magnitude_keeps_the_largest_and_a_pattern_the_largest_of_each_group(void **state)
{
    (void)state;
    float w[8] = {1, -8, 3, 4, -5, 2, 7, -6}, same[8];
    memcpy(same, w, sizeof w);
    sli_prune_magnitude(&(sli_prune_rule){.density = 0.5}, 2, 4, w);
    assert_memory_equal(w, ((float[]){0, -8, 0, 0, -5, 0, 7, -6}), sizeof w);
    sli_prune_magnitude(&(sli_prune_rule){0.5, 2, 4}, 2, 4, same);
    assert_memory_equal(same, ((float[]){0, -8, 0, 4, 0, 0, 7, -6}), sizeof w);
}

static void wanda_weighs_by_what_comes_in_and_compares_within_a_row(void **state)
{
    (void)state;
    float w[8] = {1, 2, 3, 4, 100, 200, 300, 400}, scores[4];
    sli_prune_wanda(&(sli_prune_rule){.density = 0.5}, 2, 4, (float[]){10, 1, 1, 1}, scores, w);
    assert_memory_equal(w, ((float[]){1, 0, 0, 4, 100, 0, 0, 400}), sizeof w);
}

/* ---- Hessians ---- */

#define N    48
#define ROWS 200

typedef struct fit {
    sli_linear *linear;
    sl_threads *threads;
    sli_hessian hessian;
    double at[N * N], diagonal[N], slab[SLI_HESSIAN_SLAB * N];
    float x[ROWS * N];
} fit;

static void begin_fit(fit *f, uint64_t seed)
{
    sl_error err = {0};
    assert_int_equal(sli_linear_open(2, &f->linear, &err), SL_OK);
    assert_int_equal(sl_threads_create(2, &f->threads, &err), SL_OK);
    f->hessian = (sli_hessian){.linear = f->linear, .n = N, .at = f->at, .diagonal = f->diagonal, .slab = f->slab};
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++)
            f->x[r * N + i] = random_float(&seed) + (i > 0 ? 0.7f * f->x[r * N + i - 1] : 0);
}

static void end_fit(fit *f)
{
    sl_threads_destroy(f->threads);
    sli_linear_close(f->linear);
    free(f);
}

/* (H + damping) (H + damping)^-1 g = g */
static void a_hessian_solves(void **state)
{
    (void)state;
    fit *f = calloc(1, sizeof *f);
    float g[2 * N], solved[2 * N];
    uint64_t random = 3;
    sl_error err = {0};
    if (no_blas()) {
        free(f);
        skip();
    }
    begin_fit(f, 1);
    sli_hessian_begin(&f->hessian);
    sli_hessian_add(&f->hessian, ROWS, f->x);
    assert_int_equal(sli_hessian_factor(&f->hessian, "test", &err), SL_OK);
    assert_false(f->hessian.damped_more);
    for (int i = 0; i < 2 * N; i++)
        solved[i] = g[i] = random_float(&random);
    sli_hessian_solve(&f->hessian, 2, solved);
    for (int row = 0; row < 2; row++)
        for (int i = 0; i < N; i++) {
            double sum = f->hessian.damping * solved[row * N + i];
            for (int j = 0; j < N; j++)
                for (int r = 0; r < ROWS; r++)
                    sum += (double)f->x[r * N + i] * f->x[r * N + j] * solved[row * N + j];
            assert_true(fabs(sum - g[row * N + i]) < 1e-4);
        }
    end_fit(f);
}

static void a_singular_hessian_is_damped_and_inputs_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    fit *f = calloc(1, sizeof *f);
    sl_error err = {0};
    if (no_blas()) {
        free(f);
        skip();
    }
    begin_fit(f, 1);
    memset(f->x, 0, sizeof f->x);
    sli_hessian_begin(&f->hessian);
    sli_hessian_add(&f->hessian, ROWS, f->x);
    assert_int_equal(sli_hessian_factor(&f->hessian, "test", &err), SL_OK);
    assert_true(f->hessian.damped_more && f->hessian.damping == 1.0);
    f->x[5] = NAN;
    sli_hessian_begin(&f->hessian);
    sli_hessian_add(&f->hessian, ROWS, f->x);
    assert_int_equal(sli_hessian_factor(&f->hessian, "layer 3", &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "layer 3"));
    end_fit(f);
}

/* ---- SparseGPT ---- */

static double output_error(const fit *f, const float *dense, const float *w, size_t rows)
{
    double sum = 0;
    for (size_t row = 0; row < rows; row++)
        for (int r = 0; r < ROWS; r++) {
            double out = 0;
            for (int i = 0; i < N; i++)
                out += ((double)dense[row * N + i] - w[row * N + i]) * f->x[r * N + i];
            sum += out * out;
        }
    return sum;
}

static void sparsegpt_loses_less_than_leaving_the_others_as_they_are(void **state)
{
    (void)state;
    enum { OUT = 20 };
    static const sli_prune_rule rules[] = {{.density = 0.5}, {0.5, 2, 4}, {0.25, 3, 4}, {.density = 0.2}};
    static float dense[OUT * N], w[OUT * N], plain[OUT * N], panel[128 * N], errors[128 * N], scores[128 * N];
    fit *f = calloc(1, sizeof *f);
    uint64_t random = 9;
    sl_error err = {0};
    if (no_blas()) {
        free(f);
        skip();
    }
    begin_fit(f, 4);
    sli_hessian_begin(&f->hessian);
    sli_hessian_add(&f->hessian, ROWS, f->x);
    assert_int_equal(sli_hessian_factor(&f->hessian, "test", &err), SL_OK);
    for (int i = 0; i < OUT * N; i++)
        dense[i] = random_float(&random);
    for (size_t n = 0; n < sizeof rules / sizeof *rules; n++) {
        sli_sparsegpt s = {f->linear, f->threads, panel, errors, scores};
        memcpy(w, dense, sizeof w);
        memcpy(plain, dense, sizeof w);
        sli_sparsegpt_prune(&s, &f->hessian, &rules[n], OUT, w);
        sli_prune_magnitude(&rules[n], OUT, N, plain);
        assert_int_equal(zeros_of(w, OUT * N), sli_prune_drop_count(OUT * N, rules[n].density));
        assert_true(output_error(f, dense, w, OUT) < 0.9 * output_error(f, dense, plain, OUT));
    }
    end_fit(f);
}

/* ---- against NumPy (scripts/prune_oracle.py) ---- */

typedef struct golden {
    uint32_t rows, cols;
    float *at;
} golden;

static golden read_golden(const char *wanted)
{
    FILE *file = fopen("tests/golden/prune.txt", "r");
    char name[16];
    golden g;
    assert_non_null(file);
    for (;;) {
        assert_int_equal(fscanf(file, "%15s %u %u", name, &g.rows, &g.cols), 3);
        g.at = malloc((size_t)g.rows * g.cols * sizeof *g.at);
        for (size_t i = 0; i < (size_t)g.rows * g.cols; i++)
            assert_int_equal(fscanf(file, "%f", &g.at[i]), 1);
        if (strcmp(name, wanted) == 0)
            break;
        free(g.at);
    }
    fclose(file);
    return g;
}

/* The same masks but for one in a thousand, and where they agree the same values. Gives how many masks differ. */
static size_t check_golden(const char *name, const float *w)
{
    golden g = read_golden(name);
    size_t count = (size_t)g.rows * g.cols, other = 0;
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        other += (w[i] == 0) != (g.at[i] == 0);
        if ((w[i] == 0) == (g.at[i] == 0))
            worst = fmax(worst, fabs((double)w[i] - g.at[i]));
    }
    print_message("%s: %zu of %zu masks differ, largest difference %.2g\n", name, other, count, worst);
    assert_true(other * 1000 <= count);
    assert_true(worst < 1e-4);
    free(g.at);
    return other;
}

static void draw(uint64_t seed, float scale, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = ((float)(sli_random_next(&seed) >> 40) * 0x1p-23f - 1.0f) * scale;
}

static void draw_inputs(uint64_t seed, size_t rows, size_t cols, float *x)
{
    draw(seed, 1, rows * cols, x);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 1; i < cols; i++)
            x[row * cols + i] = (float)((double)x[row * cols + i] + 0.5 * (double)x[row * cols + i - 1]);
}

/* Zeroed memory of a test: freed by one call at its end. */
typedef struct arena {
    void *parts[32];
    int count;
} arena;

static void *take(arena *a, size_t bytes)
{
    assert_true(a->count < 32);
    return a->parts[a->count++] = calloc(1, bytes);
}

static void give_back(arena *a)
{
    while (a->count > 0)
        free(a->parts[--a->count]);
}

static sli_hessian hessian_of(arena *a, const sli_linear *linear, uint32_t n)
{
    return (sli_hessian){.linear = linear,
                         .n = n,
                         .at = take(a, (size_t)n * n * sizeof(double)),
                         .diagonal = take(a, n * sizeof(double)),
                         .slab = take(a, (size_t)SLI_HESSIAN_SLAB * n * sizeof(double))};
}

static sli_sparsegpt sparsegpt_of(arena *a, const sli_linear *linear, sl_threads *threads, size_t longest)
{
    size_t bytes = SLI_SPARSEGPT_BLOCK * longest * sizeof(float);
    return (sli_sparsegpt){linear, threads, take(a, bytes), take(a, bytes), take(a, bytes)};
}

static void sparsegpt_gives_what_numpy_gives(void **state)
{
    (void)state;
    enum { OUT = 16, IN = 160, SEEN = 300 };
    arena a = {0};
    sli_linear *linear;
    sl_threads *threads;
    sl_error err = {0};
    if (no_blas())
        skip();
    assert_int_equal(sli_linear_open(2, &linear, &err), SL_OK);
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    sli_hessian h = hessian_of(&a, linear, IN);
    sli_sparsegpt s = sparsegpt_of(&a, linear, threads, IN);
    float *x = take(&a, SEEN * IN * sizeof *x), *w = take(&a, OUT * IN * sizeof *w);
    draw_inputs(1, SEEN, IN, x);
    sli_hessian_begin(&h);
    sli_hessian_add(&h, SEEN, x);
    assert_int_equal(sli_hessian_factor(&h, "test", &err), SL_OK);
    draw(2, 1, OUT * IN, w);
    sli_sparsegpt_prune(&s, &h, &(sli_prune_rule){.density = 0.5}, OUT, w);
    check_golden("half", w);
    draw(2, 1, OUT * IN, w);
    sli_sparsegpt_prune(&s, &h, &(sli_prune_rule){0.5, 2, 4}, OUT, w);
    check_golden("2:4", w);
    sl_threads_destroy(threads);
    sli_linear_close(linear);
    give_back(&a);
}

/* Without a gate under the very same masks, so that there values alone are compared. */
static bool check_second_iteration(void *ctx, const sli_sparsellm_report *report)
{
    const sli_layer *layer = ctx;
    if (report->iteration != 1)
        return true;
    if (layer->model->gated) {
        check_golden("gate", layer->at[SL_ROLE_FFN_GATE]);
        check_golden("up", layer->at[SL_ROLE_FFN_UP]);
        check_golden("down", layer->at[SL_ROLE_FFN_DOWN]);
    } else {
        assert_int_equal(check_golden("relu-up", layer->at[SL_ROLE_FFN_UP]), 0);
        assert_int_equal(check_golden("relu-down", layer->at[SL_ROLE_FFN_DOWN]), 0);
    }
    return true;
}

/* What SparseLLM's second iteration gives, the first that refits. */
static void check_sparsellm(bool gated)
{
    enum { D = 32, FF = 48, SEEN = 200 };
    arena a = {0};
    sli_linear *linear;
    sl_threads *threads;
    sl_error err = {0};
    assert_int_equal(sli_linear_open(2, &linear, &err), SL_OK);
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    sli_hessian hx = hessian_of(&a, linear, D), hp = hessian_of(&a, linear, FF);
    sl_gguf_tensor gate = {.shape = {D, FF, 1, 1}}, down = {.shape = {FF, D, 1, 1}}, bias = {.shape = {FF, 1, 1, 1}};
    const sl_gguf_tensor *tensors[SL_ROLE_COUNT] = {0};
    tensors[SL_ROLE_FFN_GATE] = gated ? &gate : NULL;
    tensors[SL_ROLE_FFN_UP] = &gate;
    tensors[SL_ROLE_FFN_UP_BIAS] = gated ? NULL : &bias;
    tensors[SL_ROLE_FFN_DOWN] = &down;
    sl_model model = {.layers = 1, .d = D, .ff = FF, .gated = gated, .tensors = tensors};
    sli_layer layer = {.model = &model, .ff = FF};
    for (sl_tensor_role role = gated ? SL_ROLE_FFN_GATE : SL_ROLE_FFN_UP; role <= SL_ROLE_FFN_DOWN; role++) {
        layer.at[role] = take(&a, D * FF * sizeof(float));
        draw(4 + role - SL_ROLE_FFN_GATE, 0.5f, D * FF, layer.at[role]);
    }
    layer.at[SL_ROLE_FFN_UP_BIAS] = take(&a, FF * sizeof(float));
    draw(7, 0.5f, FF, layer.at[SL_ROLE_FFN_UP_BIAS]);
    sli_sparsellm s = {.gpt = sparsegpt_of(&a, linear, threads, FF),
                       .kernels = sl_kernels_for(SL_ISA_SCALAR),
                       .act = SL_GLU_SILU,
                       .gated = gated,
                       .rules = {{.density = 0.5}, {.density = 0.5}, {.density = 0.5}},
                       .d = D,
                       .ff = FF,
                       .rows = SEEN,
                       .layer = &layer,
                       .x_hessian = &hx,
                       .p_hessian = &hp,
                       .go_on = check_second_iteration,
                       .ctx = &layer};
    for (int i = 0; i < SLI_SPARSELLM_SPOOLS; i++) {
        uint32_t cols = sli_sparsellm_spool_cols(D, FF, gated, (sli_sparsellm_spool)i);
        if (cols > 0)
            assert_int_equal(sli_spool_open(SEEN, cols, true, "", &s.spools[i], &err), SL_OK);
    }
    assert_int_equal(sli_sparsellm_create(&s, &err), SL_OK);
    float *x = take(&a, SEEN * D * sizeof *x);
    draw_inputs(3, SEEN, D, x);
    assert_int_equal(sli_spool_put(&s.spools[SLI_SPARSELLM_X], 0, SEEN, x, &err), SL_OK);
    sli_hessian_begin(&hx);
    sli_hessian_add(&hx, SEEN, x);
    assert_int_equal(sli_hessian_factor(&hx, "test", &err), SL_OK);
    assert_int_equal(sli_sparsellm_run(&s, "test", &err), SL_OK);
    for (int i = 0; i < SLI_SPARSELLM_SPOOLS; i++)
        sli_spool_close(&s.spools[i]);
    sli_sparsellm_free(&s);
    sl_threads_destroy(threads);
    sli_linear_close(linear);
    give_back(&a);
}

static void sparsellm_s_second_iteration_is_numpy_s(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    check_sparsellm(true);
}

static void sparsellm_s_second_iteration_without_a_gate_is_numpy_s(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    check_sparsellm(false);
}

/* ---- auxiliaries ---- */

static void no_update_of_an_auxiliary_raises_the_objective(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static float s[COUNT], z[COUNT], p[COUNT], q[COUNT], mg[COUNT], mu[COUNT];
    double partial[2 * SLI_AUXILIARY_SUMS];
    sl_error err = {0};
    sl_threads *threads;
    uint64_t random = 5;
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    for (int act = SL_GLU_SILU; act <= SL_GLU_GELU_TANH; act++) {
        sli_auxiliary a = {(sl_glu)act, COUNT, s, z, p, q, mg, mu, threads, partial};
        for (int i = 0; i < COUNT; i++) {
            s[i] = 6 * random_float(&random);
            z[i] = 6 * random_float(&random);
            p[i] = 20 * random_float(&random);
            mg[i] = 6 * random_float(&random);
            mu[i] = 6 * random_float(&random);
        }
        for (int n = 0; n < 4; n++) {
            double before = sli_auxiliary_gap(&a);
            sli_auxiliary_update_z(&a);
            double between = sli_auxiliary_gap(&a);
            sli_auxiliary_update_s(&a);
            double after = sli_auxiliary_gap(&a);
            assert_true(between <= before * (1 + 1e-6) && after <= between * (1 + 1e-6));
            assert_true(n > 0 || after < 0.5 * before);
        }
    }
    sl_threads_destroy(threads);
}

/* The closed form against a search: no z near or far has a smaller gap. */
static void without_a_gate_the_best_z_is_found_in_both_cases(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static float z[COUNT], p[COUNT], q[COUNT], mu[COUNT];
    double partial[2 * SLI_AUXILIARY_SUMS];
    size_t negative = 0;
    sl_error err = {0};
    sl_threads *threads;
    uint64_t random = 6;
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    sli_auxiliary a = {.count = COUNT, .z = z, .p = p, .q = q, .mu = mu, .threads = threads, .partial = partial};
    for (int i = 0; i < COUNT; i++) {
        z[i] = 6 * random_float(&random);
        p[i] = 6 * random_float(&random);
        mu[i] = 6 * random_float(&random);
    }
    double before = sli_auxiliary_gap(&a);
    sli_auxiliary_update_z(&a);
    assert_true(sli_auxiliary_gap(&a) < before);
    for (int i = 0; i < COUNT; i++) {
        double best = pow((double)z[i] - mu[i], 2) + pow((double)p[i] - fmax(z[i], 0), 2);
        negative += z[i] < 0;
        for (double other = -7; other < 7; other += 0.01)
            assert_true(best <= pow(other - mu[i], 2) + pow(p[i] - fmax(other, 0), 2) + 1e-5);
    }
    assert_true(negative > COUNT / 4 && negative < COUNT * 3 / 4);
    sli_auxiliary_product(&a);
    for (int i = 0; i < COUNT; i++)
        assert_true(q[i] == (z[i] > 0 ? z[i] : 0));
    sl_threads_destroy(threads);
}

/* ---- whole models ---- */

typedef struct watched {
    char notes[2000];
    uint32_t iterations;
    double stop_at; /* 0: never */
    double error[8], objective_before;
    double density[8]; /* of layers */
    uint64_t weights, zeros;
} watched;

static void on_note(void *ctx, const char *line)
{
    watched *w = ctx;
    strncat(w->notes, line, sizeof w->notes - strlen(w->notes) - 1);
}

static bool on_progress(void *ctx, double done)
{
    watched *w = ctx;
    return w->stop_at == 0 || done < w->stop_at;
}

static void on_pruned(void *ctx, uint32_t layer, uint64_t weights, uint64_t zeros)
{
    watched *w = ctx;
    w->density[layer % 8] = 1 - (double)zeros / (double)weights;
    w->weights += weights;
    w->zeros += zeros;
}

static void on_iteration(void *ctx, uint32_t layer, const sli_sparsellm_report *r)
{
    watched *w = ctx;
    const double *o = r->objective;
    (void)layer;
    if (r->iteration > 0)
        assert_true(o[SLI_SPARSELLM_REFIT] <= r->before_refit * (1 + 1e-5));
    assert_true(o[SLI_SPARSELLM_P] <= o[SLI_SPARSELLM_PRUNED] * (1 + 1e-5));
    assert_true(o[SLI_SPARSELLM_Z] <= o[SLI_SPARSELLM_P] * (1 + 1e-5));
    assert_true(o[SLI_SPARSELLM_S] <= o[SLI_SPARSELLM_Z] * (1 + 1e-5));
    w->error[w->iterations++ % 8] = r->output_error;
}

typedef struct setting {
    char *in, *out, *text;
    watched watched;
    sli_prune_options options;
    sli_prune_result result;
} setting;

#define TEXT_BYTES 6000

static void set_up(setting *s, const char *arch, uint32_t type, sli_prune_method method)
{
    tiny_model model = TINY_MODEL;
    model.arch = arch;
    uint64_t random = 11;
    sl_error err = {0};
    for (int i = 0; i < 4; i++)
        model.types[i] = type;
    *s = (setting){.in = tiny_path("prune-in.gguf"), .out = tiny_path("prune-out.gguf"), .text = malloc(TEXT_BYTES)};
    if (tiny_write(&model, s->in, &err) != SL_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < TEXT_BYTES; i++)
        s->text[i] = (char)('a' + sli_random_next(&random) % 26);
    s->options = (sli_prune_options){.model_path = s->in,
                                     .out_path = s->out,
                                     .text = s->text,
                                     .text_bytes = TEXT_BYTES,
                                     .method = method,
                                     .rule = {.density = 0.5},
                                     .tokens = 640,
                                     .threads = 2,
                                     .progress = on_progress,
                                     .note = on_note,
                                     .pruned = on_pruned,
                                     .iterated = on_iteration};
}

static sl_status prune(setting *s, sl_error *err)
{
    *err = (sl_error){0};
    s->options.ctx = &s->watched;
    return sli_prune(&s->options, &s->result, err);
}

static void prune_well(setting *s)
{
    sl_error err;
    if (prune(s, &err) != SL_OK)
        fail_msg("%s", err.message);
}

static void tear_down(setting *s)
{
    char other[4200];
    unlink(s->in);
    unlink(s->out);
    snprintf(other, sizeof other, "%s.partial", s->out);
    unlink(other);
    snprintf(other, sizeof other, "%s.partial.layers", s->out);
    unlink(other);
    free(s->in);
    free(s->out);
    free(s->text);
}

/* Zeros of a tensor as the file has it. */
static void count_tensor(const char *path, const sl_gguf_tensor *t, size_t *zeros, size_t *weights)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(t->bytes);
    float *row = malloc(t->shape[0] * sizeof *row);
    assert_true(file != NULL && data != NULL && row != NULL);
    assert_int_equal(fseek(file, (long)t->offset, SEEK_SET), 0);
    assert_int_equal(fread(data, 1, t->bytes, file), t->bytes);
    for (uint64_t r = 0; r < t->shape[1]; r++) {
        sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(t->type, data + r * sl_row_bytes(t->type, t->shape[0]), (uint32_t)t->shape[0], row);
        *zeros += zeros_of(row, t->shape[0]);
        *weights += t->shape[0];
    }
    free(row);
    free(data);
    fclose(file);
}

static void count_file(const char *path, size_t *zeros, size_t *weights)
{
    sl_gguf *file;
    sl_model *model;
    sl_error err = {0};
    *zeros = *weights = 0;
    assert_int_equal(sl_gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (int i = 0; i < SLI_PRUNE_MATRICES; i++)
            if (sl_model_tensor(model, sli_prune_roles[i], layer) != NULL)
                count_tensor(path, sl_model_tensor(model, sli_prune_roles[i], layer), zeros, weights);
    sl_model_close(model);
    sl_gguf_close(file);
}

static void zeros_are_there_after_reload_in_every_type_and_by_every_method(void **state)
{
    (void)state;
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q8_0, SL_TYPE_Q5_0, SL_TYPE_Q4_0};
    if (no_blas())
        skip();
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSELLM; method++) {
            setting s;
            size_t zeros, weights;
            set_up(&s, NULL, SL_TYPE_Q8_0, (sli_prune_method)method);
            s.options.change_type = true;
            s.options.type = types[t];
            prune_well(&s);
            count_file(s.out, &zeros, &weights);
            assert_int_equal(zeros, s.result.zeros);
            assert_int_equal(weights, s.result.weights);
            assert_true(zeros >= weights / 2);
            assert_true(zeros < weights * 6 / 10 || types[t] == SL_TYPE_Q4_0); /* coarse types round some more to zero */
            tear_down(&s);
        }
}

static void every_architecture_with_matrices_of_its_own_is_pruned_and_runs(void **state)
{
    (void)state;
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "opt"};
    if (no_blas())
        skip();
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        setting s;
        sl_engine *engine;
        sl_error err = {0};
        set_up(&s, archs[i], SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
        s.options.rule = (sli_prune_rule){0.25, 3, 4};
        prune_well(&s);
        assert_int_equal(s.watched.iterations, 2 * SLI_SPARSELLM_ITERATIONS);
        sl_engine_options options = {.model_path = s.out, .threads = 1};
        if (sl_engine_open(&options, &engine, &err) != SL_OK)
            fail_msg("%s", err.message);
        sl_engine_close(engine);
        tear_down(&s);
    }
}

static void one_threshold_over_all_layers_keeps_the_asked_share_by_every_method(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSELLM; method++) {
        setting s;
        size_t zeros, weights;
        set_up(&s, method % 2 == 0 ? "opt" : NULL, SL_TYPE_F32, (sli_prune_method)method);
        s.options.rates = SLI_PRUNE_RATES_GLOBAL;
        s.options.rule.density = 0.6;
        prune_well(&s);
        count_file(s.out, &zeros, &weights);
        assert_true(zeros == s.watched.zeros && weights == s.watched.weights);
        assert_true(fabs(1 - (double)zeros / (double)weights - 0.6) < 0.01);
        assert_true(fabs(s.watched.density[0] - s.watched.density[1]) > 1e-4); /* layers differ */
        assert_non_null(strstr(s.watched.notes, "one threshold for all layers"));
        tear_down(&s);
    }
}

static void one_threshold_is_refused_where_layers_must_be_alike(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_MAGNITUDE);
    s.options.rates = SLI_PRUNE_RATES_GLOBAL;
    s.options.rule = (sli_prune_rule){0.5, 2, 4};
    s.options.pattern = "2:4";
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--rates global goes with --density"));
    s.options.rule = (sli_prune_rule){.density = 0};
    s.options.neurons = 0.5;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_int_equal(access(s.out, F_OK), -1);
    tear_down(&s);
}

static void a_packed_or_fused_model_is_refused(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, "phi3", SL_TYPE_F16, SLI_PRUNE_MAGNITUDE);
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "phi3"));
    tear_down(&s);
}

static void a_type_without_an_exact_zero_is_refused_with_those_that_work(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_Q4_1, SLI_PRUNE_MAGNITUDE);
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "F16"));
    assert_int_equal(access(s.out, F_OK), -1);
    s.options.change_type = true;
    s.options.type = SL_TYPE_Q5_1;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    s.options.type = SL_TYPE_F16;
    prune_well(&s);
    tear_down(&s);
}

static uint64_t hash_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t hash = 1;
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        hash = (hash ^ (unsigned)c) * 0x100000001b3u;
    fclose(file);
    return hash;
}

/* Stopped after its first layer, it leaves no file; the same call then goes on and gives what an unbroken run gives. */
static void a_run_that_was_stopped_goes_on_behind_its_last_layer(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    if (no_blas())
        skip();
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
    prune_well(&s);
    uint64_t whole = hash_file(s.out), input = hash_file(s.in);
    unlink(s.out);
    s.watched.stop_at = 0.75;
    assert_int_equal(prune(&s, &err), SL_INTERRUPTED);
    assert_true(s.result.kept);
    assert_int_equal(access(s.out, F_OK), -1);
    s.watched.stop_at = 0;
    prune_well(&s);
    assert_int_equal(s.result.resumed_layers, 1);
    assert_non_null(strstr(s.watched.notes, "going on behind its first 1 layers"));
    assert_true(hash_file(s.out) == whole && hash_file(s.in) == input);

    /* Another question does not take up the old answer. */
    unlink(s.out);
    s.watched.stop_at = 0.75;
    assert_int_equal(prune(&s, &err), SL_INTERRUPTED);
    s.watched.stop_at = 0;
    s.options.rule.density = 0.4;
    prune_well(&s);
    assert_int_equal(s.result.resumed_layers, 0);
    tear_down(&s);
}

static void activations_in_a_file_give_the_same_model(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    if (no_blas())
        skip();
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
    prune_well(&s);
    uint64_t whole = hash_file(s.out);
    assert_false(s.result.spilled);
    s.options.ram_budget_bytes = 1;
    assert_int_equal(prune(&s, &err), SL_NO_BUDGET);
    assert_true(err.ram_budget_min_bytes > 0);
    s.options.ram_budget_bytes = err.ram_budget_min_bytes;
    unlink(s.out);
    prune_well(&s);
    assert_true(hash_file(s.out) == whole);
    assert_true(s.result.spilled);
    tear_down(&s);
}

static void too_short_a_text_and_the_input_as_output_are_refused(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_WANDA);
    s.options.text_bytes = 10;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "calibration text has only"));
    s.options.text_bytes = TEXT_BYTES;
    uint64_t before = hash_file(s.in);
    s.options.out_path = s.in;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_true(hash_file(s.in) == before);
    s.options.out_path = s.out;
    s.options.some_layers = true;
    s.options.last_layer = 2;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    tear_down(&s);
}

/* ---- neurons ---- */

static void neurons_are_taken_out_in_blocks_and_the_file_shrinks(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSEGPT; method++)
        for (int no_refit = 0; no_refit < 4; no_refit++) { /* and half of them without a gate */
            setting s;
            struct stat before, after;
            sl_engine *engine;
            sl_error err = {0};
            set_up(&s, no_refit < 2 ? NULL : "opt", SL_TYPE_Q4_1, (sli_prune_method)method); /* no zero has to survive */
            s.options.neurons = 0.7;
            s.options.no_refit = no_refit % 2;
            prune_well(&s);
            assert_int_equal(s.result.neurons_after, 64);
            assert_int_equal(stat(s.in, &before), 0);
            assert_int_equal(stat(s.out, &after), 0);
            assert_true(after.st_size < before.st_size);
            sl_engine_options options = {.model_path = s.out, .threads = 1};
            if (sl_engine_open(&options, &engine, &err) != SL_OK)
                fail_msg("%s", err.message);
            sl_engine_close(engine);
            tear_down(&s);
        }
}

/* Zeros of one layer's matrix. */
static size_t zeros_in(const char *path, sl_tensor_role role, uint32_t layer)
{
    sl_gguf *file;
    sl_model *model;
    sl_error err = {0};
    size_t zeros = 0, weights = 0;
    assert_int_equal(sl_gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    count_tensor(path, sl_model_tensor(model, role, layer), &zeros, &weights);
    sl_model_close(model);
    sl_gguf_close(file);
    return zeros;
}

/* A file has one number of neurons for all layers; so where some layers lose neurons they become zeros, and packing leaves them out. */
static void neurons_of_some_layers_become_zeros_and_packing_leaves_them_out(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_Q8_0, SLI_PRUNE_SPARSEGPT);
    s.options.neurons = 0.7;
    s.options.some_layers = true;
    s.options.first_layer = s.options.last_layer = 1;
    prune_well(&s);
    assert_int_equal(s.result.neurons_after, s.result.neurons_before);
    assert_true(zeros_in(s.out, SL_ROLE_FFN_GATE, 1) >= 32 * 64);
    assert_true(zeros_in(s.out, SL_ROLE_FFN_DOWN, 1) >= 32 * 64);
    assert_int_equal(zeros_in(s.out, SL_ROLE_FFN_GATE, 0), zeros_in(s.in, SL_ROLE_FFN_GATE, 0));
    assert_int_equal(zeros_in(s.out, SL_ROLE_ATTN_Q, 1), zeros_in(s.in, SL_ROLE_ATTN_Q, 1));

    char *packed = tiny_path("prune-packed.gguf");
    sli_pack_result result;
    sli_pack_options pack = {.in_path = s.out, .out_path = packed};
    if (sli_pack(&pack, &result, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(result.silent_neurons, 32);
    unlink(packed);
    free(packed);

    tear_down(&s);

    /* A zero has to stay one, as it has not where neurons are taken out. */
    set_up(&s, NULL, SL_TYPE_Q4_1, SLI_PRUNE_MAGNITUDE);
    s.options.neurons = 0.7;
    s.options.some_layers = true;
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_read_strictly),
        cmocka_unit_test(a_cut_takes_exactly_as_many_as_it_should_and_the_smallest),
        cmocka_unit_test(magnitude_keeps_the_largest_and_a_pattern_the_largest_of_each_group),
        cmocka_unit_test(wanda_weighs_by_what_comes_in_and_compares_within_a_row),
        cmocka_unit_test(a_hessian_solves),
        cmocka_unit_test(a_singular_hessian_is_damped_and_inputs_that_are_not_finite_are_refused),
        cmocka_unit_test(sparsegpt_loses_less_than_leaving_the_others_as_they_are),
        cmocka_unit_test(sparsegpt_gives_what_numpy_gives),
        cmocka_unit_test(sparsellm_s_second_iteration_is_numpy_s),
        cmocka_unit_test(sparsellm_s_second_iteration_without_a_gate_is_numpy_s),
        cmocka_unit_test(no_update_of_an_auxiliary_raises_the_objective),
        cmocka_unit_test(without_a_gate_the_best_z_is_found_in_both_cases),
        cmocka_unit_test(zeros_are_there_after_reload_in_every_type_and_by_every_method),
        cmocka_unit_test(every_architecture_with_matrices_of_its_own_is_pruned_and_runs),
        cmocka_unit_test(one_threshold_over_all_layers_keeps_the_asked_share_by_every_method),
        cmocka_unit_test(one_threshold_is_refused_where_layers_must_be_alike),
        cmocka_unit_test(a_packed_or_fused_model_is_refused),
        cmocka_unit_test(a_type_without_an_exact_zero_is_refused_with_those_that_work),
        cmocka_unit_test(a_run_that_was_stopped_goes_on_behind_its_last_layer),
        cmocka_unit_test(activations_in_a_file_give_the_same_model),
        cmocka_unit_test(too_short_a_text_and_the_input_as_output_are_refused),
        cmocka_unit_test(neurons_are_taken_out_in_blocks_and_the_file_shrinks),
        cmocka_unit_test(neurons_of_some_layers_become_zeros_and_packing_leaves_them_out),
    };
    return cmocka_run_group_tests_name("prune", tests, NULL, NULL);
}

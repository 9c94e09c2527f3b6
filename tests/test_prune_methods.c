/* tests/test_prune_methods.c: what pruning a matrix takes away and how it makes good for it, on matrices whose answer is known, and against NumPy.
 *
 * Numbers from OpenBLAS are compared with tolerances; how many weights become zero is counted exactly. */
#include "offload/prune/auxiliary.h"
#include "offload/prune/prune.h"
#include "offload/tools/tool.h"
#include "tests/kernels_material.h"

#include "tests/blas.h" /* needs cmocka's names */

#include <errno.h>

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
    const sli_layer *layer = ((sli_sparsellm *)ctx)->layer;
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

/* The first iteration prunes, the next ones nothing: what is measured after those is what their refits were said to reach. */
static bool check_refit(void *ctx, const sli_sparsellm_report *report)
{
    sli_sparsellm *s = ctx;
    const double *o = report->objective;
    for (int i = 0; i < 3; i++)
        s->rules[i].density = 1;
    assert_true(report->iteration == 0 || o[SLI_SPARSELLM_REFIT] < 0.99 * report->before_refit);
    assert_true(report->iteration == 0 || fabs(o[SLI_SPARSELLM_PRUNED] - o[SLI_SPARSELLM_REFIT]) <= 1e-4 * o[SLI_SPARSELLM_REFIT]);
    return true;
}

/* What SparseLLM's second iteration gives, the first that refits. */
static void run_sparsellm(bool gated, bool (*check)(void *, const sli_sparsellm_report *))
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
                       .go_on = check};
    s.ctx = &s;
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
    run_sparsellm(true, check_second_iteration);
}

static void sparsellm_s_second_iteration_without_a_gate_is_numpy_s(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    run_sparsellm(false, check_second_iteration);
}

static void a_refit_lowers_the_objective_by_what_it_says(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    run_sparsellm(true, check_refit);
    run_sparsellm(false, check_refit);
}

/* ---- auxiliaries ---- */

static void no_update_of_an_auxiliary_raises_the_objective(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static float s[COUNT], z[COUNT], p[COUNT], mg[COUNT], mu[COUNT];
    double partial[2 * SLI_AUXILIARY_SUMS];
    sl_error err = {0};
    sl_threads *threads;
    uint64_t random = 5;
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    for (int act = SL_GLU_SILU; act <= SL_GLU_GELU_TANH; act++) {
        sli_auxiliary a = {sl_kernels_for(SL_ISA_SCALAR), (sl_glu)act, COUNT, s, z, p, mg, mu, threads, partial};
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
    static float z[COUNT], p[COUNT], mu[COUNT];
    double partial[2 * SLI_AUXILIARY_SUMS];
    size_t negative = 0;
    sl_error err = {0};
    sl_threads *threads;
    uint64_t random = 6;
    assert_int_equal(sl_threads_create(2, &threads, &err), SL_OK);
    sli_auxiliary a = {.count = COUNT, .z = z, .p = p, .mu = mu, .threads = threads, .partial = partial};
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
    sl_threads_destroy(threads);
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
        cmocka_unit_test(a_refit_lowers_the_objective_by_what_it_says),
        cmocka_unit_test(no_update_of_an_auxiliary_raises_the_objective),
        cmocka_unit_test(without_a_gate_the_best_z_is_found_in_both_cases),
    };
    return cmocka_run_group_tests_name("prune_methods", tests, NULL, NULL);
}

/* offload/prune/sparsellm.c: see sparsellm.h. */
#include "offload/prune/sparsellm.h"
#include "core/layout.h"
#include "core/os.h"
#include "offload/prune/auxiliary.h"

#include <math.h>
#include <string.h>

static const sl_tensor_role roles[3] = {SL_ROLE_FFN_GATE, SL_ROLE_FFN_UP, SL_ROLE_FFN_DOWN};

static size_t place(sli_sparsellm *s, uint32_t d, uint32_t ff, bool gated, unsigned threads, uint8_t *base)
{
    sl_layout l = {.base = base};
    size_t narrow = (size_t)SLI_SPARSELLM_TILE * d * sizeof(float), wide = (size_t)SLI_SPARSELLM_TILE * ff * sizeof(float);
    size_t matrix = (size_t)ff * d * sizeof(float);
    s->x = sl_layout_place(&l, narrow);
    s->y = sl_layout_place(&l, narrow);
    s->r = sl_layout_place(&l, narrow);
    s->t = sl_layout_place(&l, narrow);
    s->s = gated ? sl_layout_place(&l, wide) : NULL;
    s->z = sl_layout_place(&l, wide);
    s->p = sl_layout_place(&l, wide);
    s->mg = gated ? sl_layout_place(&l, wide) : NULL;
    s->mu = sl_layout_place(&l, wide);
    s->q = sl_layout_place(&l, wide);
    s->inverse = sl_layout_place(&l, (size_t)d * d * sizeof(float));
    for (int i = 0; i < 3; i++) {
        bool there = gated || roles[i] != SL_ROLE_FFN_GATE;
        s->sums[i] = there ? sl_layout_place(&l, matrix) : NULL;
        s->best[i] = there ? sl_layout_place(&l, matrix) : NULL;
    }
    s->partial = sl_layout_place(&l, threads * SLI_AUXILIARY_SUMS * sizeof(double));
    return l.used;
}

uint64_t sli_sparsellm_price(uint32_t d, uint32_t ff, bool gated, unsigned threads)
{
    sli_sparsellm unused;
    return sl_pages_round(place(&unused, d, ff, gated, threads, NULL));
}

uint32_t sli_sparsellm_spool_cols(uint32_t d, uint32_t ff, bool gated, sli_sparsellm_spool which)
{
    switch (which) {
    case SLI_SPARSELLM_X:
    case SLI_SPARSELLM_Y: return d;
    case SLI_SPARSELLM_SPOOL_S: return gated ? ff : 0;
    case SLI_SPARSELLM_SPOOL_Z:
    case SLI_SPARSELLM_SPOOL_P: return ff;
    case SLI_SPARSELLM_SPOOLS: break;
    }
    return 0;
}

uint64_t sli_sparsellm_spool_bytes(uint32_t d, uint32_t ff, bool gated, uint32_t rows)
{
    uint64_t bytes = 0;
    for (int which = 0; which < SLI_SPARSELLM_SPOOLS; which++)
        bytes += sli_spool_bytes(rows, sli_sparsellm_spool_cols(d, ff, gated, (sli_sparsellm_spool)which));
    return bytes;
}

sl_status sli_sparsellm_create(sli_sparsellm *s, sl_error *err)
{
    unsigned threads = sl_threads_count(s->gpt.threads);
    s->arena_bytes = place(s, s->d, s->ff, s->gated, threads, NULL);
    s->arena = sl_pages_alloc(s->arena_bytes);
    if (s->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for SparseLLM");
    place(s, s->d, s->ff, s->gated, threads, s->arena);
    return SL_OK;
}

void sli_sparsellm_free(sli_sparsellm *s)
{
    sl_pages_free(s->arena, s->arena_bytes);
    s->arena = NULL;
}

/* ---- tiles ---- */

static float *tile_of(const sli_sparsellm *s, sli_sparsellm_spool which)
{
    float *const tiles[SLI_SPARSELLM_SPOOLS] = {s->x, s->y, s->s, s->z, s->p};
    return tiles[which];
}

static sl_status load(const sli_sparsellm *s, sli_sparsellm_spool which, uint32_t first, uint32_t n, sl_error *err)
{
    return sli_spool_get(&s->spools[which], first, n, tile_of(s, which), err);
}

static sl_status store(const sli_sparsellm *s, sli_sparsellm_spool which, uint32_t first, uint32_t n, sl_error *err)
{
    return sli_spool_put(&s->spools[which], first, n, tile_of(s, which), err);
}

static sl_status load_all(const sli_sparsellm *s, uint32_t first, uint32_t n, sl_error *err)
{
    for (int which = 0; which < SLI_SPARSELLM_SPOOLS; which++)
        if (tile_of(s, (sli_sparsellm_spool)which) != NULL)
            SL_TRY(load(s, (sli_sparsellm_spool)which, first, n, err));
    return SL_OK;
}

static sl_status store_auxiliaries(const sli_sparsellm *s, uint32_t first, uint32_t n, sl_error *err)
{
    for (int which = SLI_SPARSELLM_SPOOL_S; which < SLI_SPARSELLM_SPOOLS; which++)
        if (tile_of(s, (sli_sparsellm_spool)which) != NULL)
            SL_TRY(store(s, (sli_sparsellm_spool)which, first, n, err));
    return SL_OK;
}

static uint32_t tile_rows(const sli_sparsellm *s, uint32_t first)
{
    return s->rows - first < SLI_SPARSELLM_TILE ? s->rows - first : SLI_SPARSELLM_TILE;
}

/* out[n][rows of w] = keep * out + factor * x w' */
static void multiply(const sli_sparsellm *s, uint32_t n, sl_tensor_role role, const float *x, float factor, float keep, float *out)
{
    uint32_t rows = sli_layer_rows(s->layer, role), cols = sli_layer_cols(s->layer, role);
    sli_linear_multiply(s->gpt.linear, n, rows, cols, factor, (sli_factor){x, cols, false}, (sli_factor){s->layer->at[role], cols, true},
                        keep, out, rows);
}

/* r = y - x w'd */
static void take_rest(const sli_sparsellm *s, uint32_t n, const float *x)
{
    memcpy(s->r, s->y, (size_t)n * s->d * sizeof *s->r);
    multiply(s, n, SL_ROLE_FFN_DOWN, x, -1.0f, 1.0f, s->r);
}

/* out[n][ff] = keep * out + factor * (x w' + b), of up's matrix or gate's, which has no biases. */
static void take_product(const sli_sparsellm *s, uint32_t n, sl_tensor_role role, float factor, float keep, float *out)
{
    bool biased = role == SL_ROLE_FFN_UP && sl_model_tensor(s->layer->model, SL_ROLE_FFN_UP_BIAS, s->layer->index) != NULL;
    const float *bias = s->layer->at[SL_ROLE_FFN_UP_BIAS];
    multiply(s, n, role, s->x, factor, keep, out);
    for (size_t row = 0; biased && row < n; row++)
        for (size_t i = 0; i < s->ff; i++)
            out[row * s->ff + i] += factor * bias[i];
}

static void take_products(const sli_sparsellm *s, uint32_t n)
{
    if (s->gated)
        take_product(s, n, SL_ROLE_FFN_GATE, 1.0f, 0.0f, s->mg);
    take_product(s, n, SL_ROLE_FFN_UP, 1.0f, 0.0f, s->mu);
}

/* out = act(gate) up, or relu(up) */
static void activate(const sli_sparsellm *s, uint32_t n, const float *gate, const float *up, float *out)
{
    size_t count = (size_t)n * s->ff;
    if (s->gated) {
        s->kernels->glu(s->act, gate, up, count, out);
        return;
    }
    memcpy(out, up, count * sizeof *out);
    s->kernels->relu(out, count);
}

static double squares(const float *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* Auxiliaries of the tile in hand, as auxiliary.h wants them. */
static sli_auxiliary auxiliary_of(const sli_sparsellm *s, uint32_t n)
{
    return (sli_auxiliary){.kernels = s->kernels,
                           .act = s->act,
                           .count = (size_t)n * s->ff,
                           .s = s->s,
                           .z = s->z,
                           .p = s->p,
                           .mg = s->mg,
                           .mu = s->mu,
                           .threads = s->gpt.threads,
                           .partial = s->partial};
}

/* ---- what a refit needs ---- */

static void begin_sums(const sli_sparsellm *s)
{
    for (int i = s->gated ? 0 : 1; i < 3; i++)
        memset(s->sums[i], 0, (size_t)s->d * s->ff * sizeof *s->sums[i]);
    sli_hessian_begin(s->p_hessian);
}

/* sum += rest' x of the tile in hand, for matrix `which` of roles */
static void add_rest(const sli_sparsellm *s, uint32_t n, int which, const float *rest, const float *x)
{
    uint32_t rows = sli_layer_rows(s->layer, roles[which]), cols = sli_layer_cols(s->layer, roles[which]);
    sli_linear_multiply(s->gpt.linear, rows, cols, n, 1.0f, (sli_factor){rest, rows, true}, (sli_factor){x, cols, false}, 1.0f,
                        s->sums[which], cols);
}

/* What is left of each matrix's target when its auxiliaries have been updated, times its inputs: of the tile in hand, whose products and r are
 * of the matrices as they stand. Spoils mg and mu. */
static void add_rests(const sli_sparsellm *s, uint32_t n)
{
    size_t count = (size_t)n * s->ff;
    for (size_t i = 0; s->gated && i < count; i++)
        s->mg[i] = s->s[i] - s->mg[i];
    for (size_t i = 0; i < count; i++)
        s->mu[i] = s->z[i] - s->mu[i];
    if (s->gated)
        add_rest(s, n, 0, s->mg, s->x);
    add_rest(s, n, 1, s->mu, s->x);
    add_rest(s, n, 2, s->r, s->p);
    sli_hessian_add(s->p_hessian, n, s->p);
}

/* ---- the dense beginning ---- */

static sl_status begin(const sli_sparsellm *s, double *norm, sl_error *err)
{
    *norm = 0;
    sli_hessian_begin(s->p_hessian);
    for (uint32_t at = 0; at < s->rows; at += SLI_SPARSELLM_TILE) {
        uint32_t n = tile_rows(s, at);
        SL_TRY(load(s, SLI_SPARSELLM_X, at, n, err));
        if (s->gated)
            take_product(s, n, SL_ROLE_FFN_GATE, 1.0f, 0.0f, s->s);
        take_product(s, n, SL_ROLE_FFN_UP, 1.0f, 0.0f, s->z);
        activate(s, n, s->s, s->z, s->p);
        multiply(s, n, SL_ROLE_FFN_DOWN, s->p, 1.0f, 0.0f, s->y);
        *norm += squares(s->y, (size_t)n * s->d);
        sli_hessian_add(s->p_hessian, n, s->p);
        SL_TRY(store(s, SLI_SPARSELLM_Y, at, n, err));
        SL_TRY(store_auxiliaries(s, at, n, err));
    }
    return SL_OK;
}

/* ---- the auxiliaries ---- */

/* inverse = L^-1 with L L' = Wd Wd' + I. */
static sl_status factor_down(const sli_sparsellm *s, const char *what, sl_error *err)
{
    const float *w = s->layer->at[SL_ROLE_FFN_DOWN];
    sli_linear_multiply(s->gpt.linear, s->d, s->d, s->ff, 1.0f, (sli_factor){w, s->ff, false}, (sli_factor){w, s->ff, true}, 0.0f,
                        s->inverse, s->d);
    for (uint32_t i = 0; i < s->d; i++)
        s->inverse[(size_t)i * s->d + i] += 1.0f;
    if (!sli_linear_cholesky(s->gpt.linear, s->d, s->inverse) || !sli_linear_invert_lower(s->gpt.linear, s->d, s->inverse))
        return sl_fail(err, SL_INTERNAL, "%s: its down matrix cannot be factored", what);
    return SL_OK;
}

/* p = q + (y - q Wd') (Wd Wd' + I)^-1 Wd, which minimises |y - p Wd'|^2 + |p - q|^2 through a d x d system. */
static void update_p(const sli_sparsellm *s, uint32_t n)
{
    const sli_linear *l = s->gpt.linear;
    sli_factor inverse = {s->inverse, s->d, false}, inverse_turned = {s->inverse, s->d, true};
    take_rest(s, n, s->q);
    sli_linear_multiply(l, n, s->d, s->d, 1.0f, (sli_factor){s->r, s->d, false}, inverse_turned, 0.0f, s->t, s->d);
    sli_linear_multiply(l, n, s->d, s->d, 1.0f, (sli_factor){s->t, s->d, false}, inverse, 0.0f, s->r, s->d);
    memcpy(s->p, s->q, (size_t)n * s->ff * sizeof *s->p);
    sli_linear_multiply(l, n, s->ff, s->d, 1.0f, (sli_factor){s->r, s->d, false},
                        (sli_factor){s->layer->at[SL_ROLE_FFN_DOWN], s->ff, false}, 1.0f, s->p, s->ff);
}

/* The objective of the tile in hand; its products are taken. */
static double objective_of(const sli_sparsellm *s, uint32_t n)
{
    sli_auxiliary a = auxiliary_of(s, n);
    take_rest(s, n, s->p);
    return squares(s->r, (size_t)n * s->d) + sli_auxiliary_gap(&a);
}

/* What the pruned matrices really give, act(mg) mu Wd' or relu(mu) Wd', against y. */
static double true_error(const sli_sparsellm *s, uint32_t n)
{
    activate(s, n, s->mg, s->mu, s->q);
    take_rest(s, n, s->q);
    return squares(s->r, (size_t)n * s->d);
}

/* Of the tile in hand: p, z and s follow the pruned matrices. */
static void update_tile(const sli_sparsellm *s, uint32_t n, sli_sparsellm_report *report)
{
    sli_auxiliary a = auxiliary_of(s, n);
    activate(s, n, s->s, s->z, s->q);
    update_p(s, n);
    report->objective[SLI_SPARSELLM_P] += objective_of(s, n);
    double rest = squares(s->r, (size_t)n * s->d); /* neither z nor s changes it */
    sli_auxiliary_update_z(&a);
    report->objective[SLI_SPARSELLM_Z] += rest + sli_auxiliary_gap(&a);
    if (s->gated)
        sli_auxiliary_update_s(&a);
    report->objective[SLI_SPARSELLM_S] += rest + sli_auxiliary_gap(&a);
    add_rests(s, n);
}

/* What the pruned matrices give, and, unless this was the last pruning, what follows from it. */
static sl_status follow(const sli_sparsellm *s, bool last, const char *what, sli_sparsellm_report *report, sl_error *err)
{
    if (!last)
        SL_TRY(factor_down(s, what, err));
    begin_sums(s);
    for (uint32_t at = 0; at < s->rows; at += SLI_SPARSELLM_TILE) {
        uint32_t n = tile_rows(s, at);
        SL_TRY(load_all(s, at, n, err));
        take_products(s, n);
        report->output_error += true_error(s, n);
        report->objective[SLI_SPARSELLM_PRUNED] += objective_of(s, n);
        if (last)
            continue;
        update_tile(s, n, report);
        SL_TRY(store_auxiliaries(s, at, n, err));
    }
    return SL_OK;
}

/* ---- iterations ---- */

static const sli_hessian *hessian_of(const sli_sparsellm *s, int which)
{
    return roles[which] == SL_ROLE_FFN_DOWN ? s->p_hessian : s->x_hessian;
}

static void copy_weights(const sli_sparsellm *s, bool back)
{
    for (int i = s->gated ? 0 : 1; i < 3; i++)
        memcpy(back ? s->layer->at[roles[i]] : s->best[i], back ? s->best[i] : s->layer->at[roles[i]],
               (size_t)s->d * s->ff * sizeof(float));
}

/* W += (targets - X W')' X (H + damping)^-1: the least squares solution, held to where W was by the damping. Gives what the objective loses. */
static double refit(const sli_sparsellm *s)
{
    double gain = 0;
    for (int i = s->gated ? 0 : 1; i < 3; i++) {
        gain += sli_hessian_solve(hessian_of(s, i), sli_layer_rows(s->layer, roles[i]), s->sums[i]);
        s->kernels->add(s->layer->at[roles[i]], s->sums[i], (size_t)s->d * s->ff);
    }
    return gain;
}

/* `before`: the objective that the last iteration ended with. */
static sl_status iterate(const sli_sparsellm *s, uint32_t iteration, double norm, double before, const char *what,
                         sli_sparsellm_report *report, sl_error *err)
{
    bool last = iteration + 1 == SLI_SPARSELLM_ITERATIONS;
    *report = (sli_sparsellm_report){.iteration = iteration, .gated = s->gated, .last = last};
    SL_TRY(sli_hessian_factor(s->p_hessian, what, err));
    norm = norm > 0 ? norm : 1;
    double gain = iteration > 0 ? refit(s) / norm : 0;
    for (int i = s->gated ? 0 : 1; i < 3; i++)
        sli_sparsegpt_prune(&s->gpt, hessian_of(s, i), &s->rules[i], sli_layer_rows(s->layer, roles[i]), s->layer->at[roles[i]]);
    SL_TRY(follow(s, last, what, report, err));
    report->output_error /= norm;
    for (int i = 0; i < SLI_SPARSELLM_STEPS; i++)
        report->objective[i] /= norm;
    report->before_refit = before;
    report->objective[SLI_SPARSELLM_REFIT] = before - gain;
    return SL_OK;
}

sl_status sli_sparsellm_run(sli_sparsellm *s, const char *what, sl_error *err)
{
    double norm, least = INFINITY, before = 0;
    SL_TRY(begin(s, &norm, err));
    for (uint32_t i = 0; i < SLI_SPARSELLM_ITERATIONS; i++) {
        sli_sparsellm_report report;
        SL_TRY(iterate(s, i, norm, before, what, &report, err));
        before = report.objective[SLI_SPARSELLM_S];
        if (!isfinite(report.output_error))
            return sl_fail(err, SL_INTERNAL, "%s: SparseLLM's iteration %u is not finite", what, i + 1);
        if (report.output_error < least) {
            least = report.output_error;
            copy_weights(s, false);
        }
        if (s->go_on != NULL && !s->go_on(s->ctx, &report))
            return sl_fail(err, SL_INTERRUPTED, "interrupted");
    }
    copy_weights(s, true);
    return SL_OK;
}

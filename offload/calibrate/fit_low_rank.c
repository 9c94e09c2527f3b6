/* offload/calibrate/fit_low_rank.c: gate and up of low rank; see fit.h.
 *
 * With H = L L' an input is x = L w, and the components of w are uncorrelated and of equal size. What gate and up make of w is A L; the directions of w
 * in which its rows, weighted, are longest are the leading eigenvectors R of L' A' D A L. They are found by subspace iteration from a fixed start: a few
 * products with narrow matrices instead of a decomposition of d x d. The projection is R' L^-1, rounded to a storage format; given the rounded one, the best
 * rows for it are A H V' (V H V')^-1. Directions then get their planes one at a time, where a plane buys most. */
#include "core/os.h"
#include "offload/calibrate/fit.h"
#include "offload/tools/quantize.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define DAMPING            0.001f /* of the mean diagonal */
#define BLOCKS_MAX         1024   /* of 32 directions */
#define ITERATIONS         6
#define ORTHONORMAL_ROUNDS 3
#define SPARE              16 /* directions that are followed, but not kept */

/* What is left of a normal variable's energy after rounding to so many planes. */
static const float left_after[SL_SIGN_PLANES + 1] = {1.0f, 0.3634f, 0.1175f, 0.03454f};

typedef struct work {
    sli_lesson *l;
    uint32_t n;      /* directions followed */
    uint32_t rank;   /* directions wanted */
    float *weighted; /* [d][d] A' D A */
    float *basis;    /* [d][n] */
    float *next;     /* [d][n] */
    float *kept;     /* [d][n] */
    float *small;    /* [n][n] */
    float *values;   /* [n] */
    float *rest;     /* [n * 3] */
    float *rows;     /* [SLAB][n] */
} work;

static size_t place(uint8_t *base, size_t *used, size_t count, float **out)
{
    if (base != NULL)
        *out = (float *)(void *)(base + *used);
    return *used += (count * sizeof(float) + 63) / 64 * 64;
}

static size_t place_all(const sli_fit_plan *plan, uint32_t d, uint8_t *base, work *w)
{
    size_t used = 0, n;
    w->rank = plan->blocks * SL_SIGN_COLS;
    w->n = w->rank + SPARE < d ? w->rank + SPARE : d;
    n = w->n;
    place(base, &used, (size_t)d * d, &w->weighted);
    place(base, &used, (size_t)d * n, &w->basis);
    place(base, &used, (size_t)d * n, &w->next);
    place(base, &used, (size_t)d * n, &w->kept);
    place(base, &used, n * n, &w->small);
    place(base, &used, n, &w->values);
    place(base, &used, n * 3, &w->rest);
    return place(base, &used, SLI_LESSON_SLAB * n, &w->rows);
}

size_t sli_fit_scratch_bytes(const sli_fit_plan *plan, uint32_t d, uint32_t ff)
{
    work unused = {0};
    (void)ff;
    return plan->kind == SLI_FIT_COPY ? 0 : place_all(plan, d, NULL, &unused);
}

/* ---- weights of rows ---- */

static float derivative(sl_glu act, float g)
{
    /* A difference is exact enough for a weight, and knows both activations. */
    const float step = 1e-2f;
    float low = g - step, high = g + step, y[2];
    if (act == SL_GLU_SILU) {
        y[0] = low / (1.0f + expf(-low));
        y[1] = high / (1.0f + expf(-high));
    } else {
        y[0] = 0.5f * low * (1.0f + tanhf(0.7978845608f * (low + 0.044715f * low * low * low)));
        y[1] = 0.5f * high * (1.0f + tanhf(0.7978845608f * (high + 0.044715f * high * high * high)));
    }
    return (y[1] - y[0]) / (2 * step);
}

/* How much an error of a neuron's gate, or up, shows in what it adds to the output: root mean square, in neuron[0] and [1]. Its root is the weight, since
 * a neuron that is small must be known to be small. */
static void weigh_rows(sli_lesson *l)
{
    memset(l->neuron[0], 0, l->ff * sizeof *l->neuron[0]);
    memset(l->neuron[1], 0, l->ff * sizeof *l->neuron[1]);
    for (size_t row = 0; row < l->fit_rows; row += 4)
        for (uint32_t i = 0; i < l->ff; i++) {
            size_t at = row * l->ff + i;
            double by_gate = (double)derivative(l->act, l->gate[at]) * (double)l->up[at];
            double by_up = l->up[at] != 0 ? (double)l->scores[at] / (double)l->up[at] : 0.0;
            l->neuron[0][i] += by_gate * by_gate * (double)l->norms[i] * (double)l->norms[i];
            l->neuron[1][i] += by_up * by_up;
        }
    for (uint32_t i = 0; i < l->ff; i++)
        for (int part = 0; part < 2; part++)
            l->neuron[part][i] = sqrt(sqrt(l->neuron[part][i]));
}

static void weigh_matrices(const work *w)
{
    sli_lesson *l = w->l;
    memset(w->weighted, 0, (size_t)l->d * l->d * sizeof(float));
    for (int part = SLI_WEIGHTS_GATE; part <= SLI_WEIGHTS_UP; part++)
        for (uint32_t at = 0; at < l->ff; at += SLI_LESSON_SLAB) {
            uint32_t n = l->ff - at < SLI_LESSON_SLAB ? l->ff - at : SLI_LESSON_SLAB;
            sli_weights_rows(l->weights, (sli_weights_part)part, at, n, l->slab);
            for (uint32_t r = 0; r < n; r++)
                l->kernels->scale(l->slab + (size_t)r * l->d, (float)l->neuron[part][at + r], l->d);
            sli_linear_add_gram(l->linear, n, l->d, l->slab, w->weighted);
        }
    sli_linear_mirror(l->d, w->weighted);
}

/* ---- directions ---- */

static sl_status fail(const sli_lesson *l, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "layer %u: its feed-forward's weights or inputs are not finite", l->layer);
}

/* next = L' (weighted (L basis)), with L in l->factor; basis is spoilt. */
static void apply(const work *w)
{
    const sli_lesson *l = w->l;
    size_t d = l->d, n = w->n;
    sli_linear_multiply(l->linear, d, n, d, 1.0f, (sli_factor){l->factor, d, false}, (sli_factor){w->basis, n, false}, 0.0f, w->next, n);
    sli_linear_multiply(l->linear, d, n, d, 1.0f, (sli_factor){w->weighted, d, false}, (sli_factor){w->next, n, false}, 0.0f, w->basis, n);
    sli_linear_multiply(l->linear, d, n, d, 1.0f, (sli_factor){l->factor, d, true}, (sli_factor){w->basis, n, false}, 0.0f, w->next, n);
}

/* small = L of next' next, a little of its trace added to its diagonal: fp32 cannot tell a direction with a millionth of the energy from none. */
static bool factorise_gram(const work *w)
{
    const sli_lesson *l = w->l;
    size_t n = w->n;
    float share = 1e-6f;
    for (int attempt = 0; attempt < 4; attempt++) {
        double trace = 0;
        sli_linear_multiply(l->linear, n, n, l->d, 1.0f, (sli_factor){w->next, n, true}, (sli_factor){w->next, n, false}, 0.0f, w->small,
                            n);
        for (size_t i = 0; i < n; i++)
            trace += (double)w->small[i * n + i];
        for (size_t i = 0; i < n; i++)
            w->small[i * n + i] += share * (float)trace + 1e-30f;
        if (sli_linear_cholesky(l->linear, n, w->small))
            return true;
        share *= 30;
    }
    return false;
}

/* basis = next, with orthonormal columns; each round repairs what the last one's addition left askew. */
static bool orthonormalise(const work *w)
{
    for (int round = 0; round < ORTHONORMAL_ROUNDS; round++) {
        if (!factorise_gram(w))
            return false;
        sli_linear_solve_right(w->l->linear, w->l->d, w->n, w->small, w->next);
    }
    memcpy(w->basis, w->next, (size_t)w->l->d * w->n * sizeof(float));
    return true;
}

/* The last of `rows` becomes the first, and so on. */
static void reverse(float *a, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows / 2; i++)
        for (size_t j = 0; j < cols; j++) {
            float other = a[(rows - 1 - i) * cols + j];
            a[(rows - 1 - i) * cols + j] = a[i * cols + j];
            a[i * cols + j] = other;
        }
}

/* Leading eigenvectors as columns of basis, largest first; eigenvalues in values. */
static sl_status find_directions(const work *w, sl_error *err)
{
    const sli_lesson *l = w->l;
    size_t d = l->d, n = w->n;
    uint64_t random = 1;
    for (size_t i = 0; i < d * n; i++)
        w->next[i] = (float)((double)(sli_random_next(&random) >> 11) * 0x1p-52 - 1.0);
    for (int i = 0; i < ITERATIONS; i++) {
        if (!orthonormalise(w))
            return fail(l, err);
        apply(w);
    }
    if (!orthonormalise(w))
        return fail(l, err);
    /* Rayleigh and Ritz: the eigenvectors inside the subspace. */
    memcpy(w->kept, w->basis, d * n * sizeof(float));
    apply(w);
    sli_linear_multiply(l->linear, n, n, d, 1.0f, (sli_factor){w->kept, n, true}, (sli_factor){w->next, n, false}, 0.0f, w->small, n);
    if (!sli_linear_eigen(l->linear, n, w->small, w->values, w->rest))
        return fail(l, err);
    reverse(w->values, n, 1);
    reverse(w->small, n, n);
    sli_linear_multiply(l->linear, d, n, n, 1.0f, (sli_factor){w->kept, n, false}, (sli_factor){w->small, n, true}, 0.0f, w->basis, n);
    return isfinite(w->values[0]) ? SL_OK : fail(l, err);
}

/* ---- planes ---- */

static float block_energy(const work *w, uint32_t block)
{
    float sum = 0;
    for (uint32_t i = 0; i < SL_SIGN_COLS; i++)
        sum += fmaxf(w->values[block * SL_SIGN_COLS + i], 0.0f);
    return sum;
}

/* Planes one at a time where they win most per byte; blocks are in the order of their energy, and so are their planes. Returns the blocks used. */
static uint32_t divide_planes(const work *w, const sli_fit_plan *plan, uint8_t *planes)
{
    const sli_lesson *l = w->l;
    float first_cost = (float)SL_SIGN_COLS * (float)sl_row_bytes(SLI_FIT_PROJECTION, l->d),
          plane_cost = 2.0f * (float)l->ff * SL_SIGN_COLS / 8;
    float left = (float)plan->blocks * first_cost + (float)plan->planes * plane_cost;
    uint32_t blocks = 0;
    memset(planes, 0, plan->blocks);
    for (;;) {
        uint32_t best = UINT32_MAX;
        float best_gain = 0;
        for (uint32_t b = 0; b < plan->blocks && b <= blocks; b++) {
            float cost = plane_cost + (planes[b] == 0 ? first_cost : 0.0f);
            if (planes[b] == SL_SIGN_PLANES || cost > left || (b > 0 && planes[b] >= planes[b - 1]))
                continue;
            float gain = block_energy(w, b) * (left_after[planes[b]] - left_after[planes[b] + 1]) / cost;
            if (best == UINT32_MAX || gain > best_gain) {
                best = b;
                best_gain = gain;
            }
        }
        if (best == UINT32_MAX)
            return blocks;
        left -= plane_cost + (planes[best] == 0 ? first_cost : 0.0f);
        blocks += planes[best]++ == 0;
    }
}

/* ---- the projection and the rows ---- */

/* The projection's rows: R' L^-1, rounded, into the blob; and as it is after rounding into next, [rank][d]. */
static void write_projection(const work *w, const sli_draft *t, uint32_t rank)
{
    const sli_lesson *l = w->l;
    size_t d = l->d, n = w->n, row_bytes = sl_row_bytes(SLI_FIT_PROJECTION, d);
    uint8_t *packed = (uint8_t *)l->error; /* one panel's rows as a file has them */
    sli_linear_solve_lower(l->linear, d, n, l->factor, true, w->basis);
    for (uint32_t first = 0; first < rank; first += SL_PANEL_ROWS) {
        const uint8_t *rows[SL_PANEL_ROWS];
        for (uint32_t r = 0; r < SL_PANEL_ROWS; r++) {
            float *row = w->next + (first + r) * d;
            for (size_t k = 0; k < d; k++)
                row[k] = w->basis[k * n + first + r];
            sl_quantize_row(SLI_FIT_PROJECTION, row, d, packed + r * row_bytes);
            l->kernels->dequantize_row(SLI_FIT_PROJECTION, packed + r * row_bytes, (uint32_t)d, row);
            rows[r] = packed + r * row_bytes;
        }
        l->kernels->pack(SLI_FIT_PROJECTION, rows, (uint32_t)d, t->blob + t->at.offset[SLI_GUESS_PART_PANELS] + first * row_bytes);
    }
}

/* basis becomes H V' (V H V')^-1, [d][rank]: what gate and up are multiplied by. small and kept are scratch. */
static sl_status find_rows(const work *w, uint32_t rank, sl_error *err)
{
    const sli_lesson *l = w->l;
    size_t d = l->d;
    sli_linear_multiply(l->linear, d, rank, d, 1.0f, (sli_factor){l->gram, d, false}, (sli_factor){w->next, d, true}, 0.0f, w->basis, rank);
    sli_linear_multiply(l->linear, rank, rank, d, 1.0f, (sli_factor){w->next, d, false}, (sli_factor){w->basis, rank, false}, 0.0f,
                        w->small, rank);
    memcpy(w->kept, w->small, (size_t)rank * rank * sizeof(float));
    if (!sli_linear_cholesky_damped(l->linear, rank, DAMPING, w->kept, w->small))
        return fail(l, err);
    /* (L L')^-1 from the right: first L'^-1, then L^-1 by inverting. */
    sli_linear_solve_right(l->linear, d, rank, w->small, w->basis);
    if (!sli_linear_invert_lower(l->linear, rank, w->small))
        return fail(l, err);
    memcpy(w->next, w->basis, d * rank * sizeof(float));
    sli_linear_multiply(l->linear, d, rank, rank, 1.0f, (sli_factor){w->next, rank, false}, (sli_factor){w->small, rank, false}, 0.0f,
                        w->basis, rank);
    return SL_OK;
}

/* Calls use for slabs of rows of both matrices times basis. */
static void each_slab(const work *w, uint32_t rank, sli_draft *t,
                      void (*use)(const work *w, sli_draft *t, sli_weights_part part, uint32_t first, uint32_t count, uint32_t rank))
{
    sli_lesson *l = w->l;
    for (int part = SLI_WEIGHTS_GATE; part <= SLI_WEIGHTS_UP; part++)
        for (uint32_t at = 0; at < l->ff; at += SLI_LESSON_SLAB) {
            uint32_t n = l->ff - at < SLI_LESSON_SLAB ? l->ff - at : SLI_LESSON_SLAB;
            sli_weights_rows(l->weights, (sli_weights_part)part, at, n, l->slab);
            sli_linear_multiply(l->linear, n, rank, l->d, 1.0f, (sli_factor){l->slab, l->d, false}, (sli_factor){w->basis, rank, false},
                                0.0f, w->rows, rank);
            use(w, t, (sli_weights_part)part, at, n, rank);
        }
}

static void add_columns(const work *w, sli_draft *t, sli_weights_part part, uint32_t first, uint32_t count, uint32_t rank)
{
    (void)t;
    for (uint32_t r = 0; r < count; r++)
        for (uint32_t k = 0; k < rank; k++) {
            double value = (double)w->rows[r * rank + k] * w->l->neuron[part][first + r];
            w->l->column[k] += value * value;
        }
}

static void round_rows(const work *w, sli_draft *t, sli_weights_part part, uint32_t first, uint32_t count, uint32_t rank)
{
    for (uint32_t r = 0; r < count; r++) {
        float *row = w->rows + (size_t)r * rank;
        double sum = 0;
        for (uint32_t k = 0; k < rank; k++) {
            row[k] = t->factors[k] > 0 ? row[k] / t->factors[k] : 0.0f;
            sum += (double)row[k] * (double)row[k];
        }
        float scale = (float)sqrt(sum / rank);
        t->neurons[(part == SLI_WEIGHTS_GATE ? 0 : 2) * t->rows + first + r] = sl_f32_to_bf16(scale);
        for (uint32_t b = 0; b < rank / SL_SIGN_COLS; b++) {
            uint8_t values[SL_SIGN_COLS];
            float unit = scale * sli_fit_step(t->planes[b]);
            for (uint32_t k = 0; k < SL_SIGN_COLS; k++)
                values[k] = sli_fit_level(row[b * SL_SIGN_COLS + k], unit > 0 ? 1.0f / unit : 0.0f, t->planes[b]);
            sli_draft_put(t, part, first + r, b, values);
        }
    }
}

sl_status sli_fit_low_rank(sli_lesson *l, const sli_fit_plan *plan, void *scratch, sli_draft *draft, uint8_t *blob, sl_error *err)
{
    work w = {.l = l};
    assert(scratch != NULL);
    uint8_t planes[BLOCKS_MAX] = {0};
    place_all(plan, l->d, scratch, &w);
    if (plan->blocks > BLOCKS_MAX)
        return sl_fail(err, SL_UNSUPPORTED, "a model with d = %u is wider than calibrate knows", l->d);
    weigh_rows(l);
    weigh_matrices(&w);
    if (!sli_linear_cholesky_damped(l->linear, l->d, DAMPING, l->gram, l->factor))
        return fail(l, err);
    SL_TRY(find_directions(&w, err));
    uint32_t blocks = divide_planes(&w, plan, planes), rank = blocks * SL_SIGN_COLS;
    sli_draft_begin(draft, blob, l->d, l->ff, SLI_FIT_PROJECTION, planes, blocks);
    write_projection(&w, draft, rank);
    SL_TRY(find_rows(&w, rank, err));
    memset(l->column, 0, l->d * sizeof *l->column);
    each_slab(&w, rank, draft, add_columns);
    for (uint32_t k = 0; k < rank; k++)
        draft->factors[k] = (float)sqrt(l->column[k] / (2.0 * l->ff));
    each_slab(&w, rank, draft, round_rows);
    for (uint32_t k = 0; k < rank; k++)
        draft->factors[k] *= 0.5f * sli_fit_step(planes[k / SL_SIGN_COLS]);
    return SL_OK;
}

/* offload/calibrate/fit_copy.c: gate and up at few bits; see fit.h.
 *
 * With H the inputs' mean Gram matrix and U upper triangular with H^-1 = U' U, rounding column k of a row by an error e and changing every later column
 * j by -e U[k][j] / U[k][k] leaves the least expected error of the product. The columns with the most energy go first: they have the most others to
 * pass their errors to. U comes from one factorisation: turned upside down and left to right, H = L L', and U is L^-1 turned likewise. */
#include "offload/calibrate/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DAMPING       0.01f /* of the mean diagonal, added to it: few rows leave directions unseen */
#define DAMPING_TRIES 8     /* tenfold each time, should rounding make the matrix indefinite */

typedef struct column_energy {
    double energy;
    uint32_t column;
} column_energy;

static int by_energy(const void *a, const void *b)
{
    const column_energy *x = a, *y = b;
    if (x->energy != y->energy)
        return x->energy > y->energy ? -1 : 1;
    return x->column < y->column ? -1 : 1;
}

/* Means of squares of the columns of both matrices. */
static void survey(sli_lesson *l)
{
    memset(l->column, 0, l->d * sizeof *l->column);
    for (int part = SLI_WEIGHTS_GATE; part <= SLI_WEIGHTS_UP; part++)
        for (uint32_t at = 0; at < l->ff; at += SLI_LESSON_SLAB) {
            uint32_t n = l->ff - at < SLI_LESSON_SLAB ? l->ff - at : SLI_LESSON_SLAB;
            sli_weights_rows(l->weights, (sli_weights_part)part, at, n, l->slab);
            for (size_t i = 0; i < (size_t)n * l->d; i++)
                l->column[i % l->d] += (double)l->slab[i] * (double)l->slab[i];
        }
    for (uint32_t k = 0; k < l->d; k++)
        l->column[k] /= 2.0 * l->ff;
}

static sl_status order_columns(const sli_lesson *l, uint32_t *select, sl_error *err)
{
    column_energy *energies = malloc(l->d * sizeof *energies);
    if (energies == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the order of columns");
    for (uint32_t k = 0; k < l->d; k++)
        energies[k] = (column_energy){(double)l->gram[(size_t)k * l->d + k] * l->column[k], k};
    qsort(energies, l->d, sizeof *energies, by_energy);
    for (uint32_t k = 0; k < l->d; k++)
        select[k] = energies[k].column;
    free(energies);
    return SL_OK;
}

/* l->factor becomes L^-1 of the turned Gram matrix, so that U[i][j] = factor[d-1-i][d-1-j]. */
static sl_status factorise(sli_lesson *l, const uint32_t *select, sl_error *err)
{
    size_t d = l->d;
    double trace = 0;
    for (size_t k = 0; k < d; k++)
        trace += (double)l->gram[k * d + k];
    float damping = DAMPING * (float)(trace / (double)d) + 1e-12f;
    for (int attempt = 0; attempt < DAMPING_TRIES; attempt++, damping *= 10) {
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++)
                l->factor[i * d + j] = l->gram[select[d - 1 - i] * d + select[d - 1 - j]] + (i == j ? damping : 0.0f);
        if (sli_linear_cholesky(l->linear, d, l->factor) && sli_linear_invert_lower(l->linear, d, l->factor))
            return SL_OK;
    }
    return sl_fail(err, SL_FORMAT, "layer %u: the inputs of its feed-forward are not finite", l->layer);
}

/* U's rows as they are used: [d][d] in place, by turning the matrix around its centre. */
static void turn(float *a, size_t d)
{
    for (size_t i = 0, j = d * d - 1; i < j; i++, j--) {
        float other = a[j];
        a[j] = a[i];
        a[i] = other;
    }
}

/* The rows in hand: columns permuted, as they are after what was passed on to them. */
typedef struct slab {
    sli_lesson *lesson;
    sli_draft *draft;
    sli_weights_part part;
    uint32_t first, count;
    const float *column_scale; /* [d], permuted */
} slab;

static void load_permuted(const slab *s, float *row_scales)
{
    const sli_lesson *l = s->lesson;
    float *scratch = l->error; /* free until errors are made */
    for (uint32_t r = 0; r < s->count; r++) {
        float *row = l->slab + (size_t)r * l->d;
        double sum = 0;
        memcpy(scratch, row, l->d * sizeof *row);
        for (uint32_t k = 0; k < l->d; k++) {
            row[k] = scratch[s->draft->select[k]];
            float relative = s->column_scale[k] > 0 ? row[k] / s->column_scale[k] : 0.0f;
            sum += (double)relative * (double)relative;
        }
        row_scales[r] = sl_bf16_to_f32(sl_f32_to_bf16((float)sqrt(sum / l->d)));
    }
}

/* Rounds one row's columns of a block; errors[32] are what later blocks get. */
static void round_block(const slab *s, uint32_t row, uint32_t block, float row_scale, float *errors)
{
    const sli_lesson *l = s->lesson;
    uint32_t at = block * SL_SIGN_COLS, planes = s->draft->planes[block];
    float *w = l->slab + (size_t)row * l->d + at, step = sli_fit_step(planes);
    uint8_t values[SL_SIGN_COLS];
    for (uint32_t k = 0; k < SL_SIGN_COLS; k++) {
        const float *u = l->factor + (size_t)(at + k) * l->d + at;
        float unit = row_scale * s->column_scale[at + k] * step;
        values[k] = sli_fit_level(w[k], unit > 0 ? 1.0f / unit : 0.0f, planes);
        errors[k] = (w[k] - sli_fit_worth(values[k], planes) * unit) / u[k];
        for (uint32_t j = k + 1; j < SL_SIGN_COLS; j++)
            w[j] -= errors[k] * u[j];
    }
    sli_draft_put(s->draft, s->part, s->first + row, block, values);
}

static void round_slab(const slab *s, const float *row_scales)
{
    const sli_lesson *l = s->lesson;
    for (uint32_t block = 0, blocks = l->d / SL_SIGN_COLS; block < blocks; block++) {
        uint32_t after = (block + 1) * SL_SIGN_COLS;
        for (uint32_t r = 0; r < s->count; r++)
            round_block(s, r, block, row_scales[r], l->error + (size_t)r * SL_SIGN_COLS);
        if (after < l->d)
            sli_linear_multiply(l->linear, s->count, l->d - after, SL_SIGN_COLS, -1.0f, (sli_factor){l->error, SL_SIGN_COLS, false},
                                (sli_factor){l->factor + (size_t)block * SL_SIGN_COLS * l->d + after, l->d, false}, 1.0f, l->slab + after,
                                l->d);
    }
}

static void round_part(sli_lesson *l, sli_draft *draft, sli_weights_part part, const float *column_scale)
{
    uint16_t *scales = draft->neurons + (part == SLI_WEIGHTS_GATE ? 0 : 2) * draft->rows;
    for (uint32_t at = 0; at < l->ff; at += SLI_LESSON_SLAB) {
        slab s = {l, draft, part, at, l->ff - at < SLI_LESSON_SLAB ? l->ff - at : SLI_LESSON_SLAB, column_scale};
        float row_scales[SLI_LESSON_SLAB];
        sli_weights_rows(l->weights, part, at, s.count, l->slab);
        load_permuted(&s, row_scales);
        round_slab(&s, row_scales);
        for (uint32_t r = 0; r < s.count; r++)
            scales[at + r] = sl_f32_to_bf16(row_scales[r]);
    }
}

sl_status sli_fit_copy(sli_lesson *l, const sli_fit_plan *plan, sli_draft *draft, uint8_t *blob, sl_error *err)
{
    uint32_t blocks = l->d / SL_SIGN_COLS;
    uint8_t planes[SL_LAYERS_MAX];
    if (blocks > sizeof planes)
        return sl_fail(err, SL_UNSUPPORTED, "a model with d = %u is wider than calibrate knows", l->d);
    for (uint32_t b = 0; b < blocks; b++)
        planes[b] = (uint8_t)(plan->planes / blocks + (b < plan->planes % blocks));
    sli_draft_begin(draft, blob, l->d, l->ff, SLI_GUESS_COPY, planes, blocks);
    survey(l);
    SL_TRY(order_columns(l, draft->select, err));
    SL_TRY(factorise(l, draft->select, err));
    turn(l->factor, l->d);
    /* The factors hold the columns' scales alone while rows are rounded, then half a step too: a sign counts half a step. */
    for (uint32_t k = 0; k < l->d; k++)
        draft->factors[k] = (float)sqrt(l->column[draft->select[k]]);
    round_part(l, draft, SLI_WEIGHTS_GATE, draft->factors);
    round_part(l, draft, SLI_WEIGHTS_UP, draft->factors);
    for (uint32_t k = 0; k < l->d; k++)
        draft->factors[k] *= 0.5f * sli_fit_step(planes[k / SL_SIGN_COLS]);
    return SL_OK;
}

/* offload/prune/neurons.c: see neurons.h.
 *
 * When the neurons B go, with K_BB = L L' and A = L^-1 K_B:, down loses (W_B L'^-1) A and K loses A'A. -K is what is stored, so that A'A is
 * added to it. */
#include "offload/prune/neurons.h"
#include "core/layout.h"
#include "core/os.h"

#include <math.h>
#include <string.h>

#define BATCHES 192 /* into which the neurons are divided: the more, the better the choice and the more passes over K */

static uint32_t batch_of(uint32_t ff)
{
    return ff / BATCHES > 0 ? ff / BATCHES : 1;
}

static size_t place(sli_neurons *n, uint32_t d, uint32_t ff, bool inverse, uint8_t *base)
{
    sl_layout l = {.base = base};
    size_t batch = batch_of(ff);
    n->inverse = inverse ? sl_layout_place(&l, (size_t)ff * ff * sizeof(double)) : NULL;
    n->rows = sl_layout_place(&l, batch * ff * sizeof(double));
    n->corner = sl_layout_place(&l, batch * batch * sizeof(double));
    n->costs = sl_layout_place(&l, ff * sizeof(double));
    n->rows_float = sl_layout_place(&l, batch * ff * sizeof(float));
    n->columns = sl_layout_place(&l, batch * d * sizeof(float));
    n->down = sl_layout_place(&l, (size_t)d * ff * sizeof(float));
    n->batch = sl_layout_place(&l, batch * sizeof(uint32_t));
    n->gone = sl_layout_place(&l, ff * sizeof(bool));
    return l.used;
}

uint64_t sli_neurons_price(uint32_t d, uint32_t ff, bool inverse)
{
    sli_neurons unused;
    return sl_pages_round(place(&unused, d, ff, inverse, NULL));
}

sl_status sli_neurons_create(sli_neurons *n, uint32_t d, uint32_t ff, bool inverse, sl_error *err)
{
    n->arena_bytes = place(n, d, ff, inverse, NULL);
    n->arena = sl_pages_alloc(n->arena_bytes);
    if (n->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for choosing neurons");
    place(n, d, ff, inverse, n->arena);
    return SL_OK;
}

void sli_neurons_free(sli_neurons *n)
{
    sl_pages_free(n->arena, n->arena_bytes);
    n->arena = NULL;
}

/* ---- which ---- */

static double row_norm(const float *row, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)row[i] * row[i];
    return sqrt(sum);
}

/* costs[i] = |column i of down|^2 */
static void take_column_squares(sli_neurons *n)
{
    const sli_layer *l = n->layer;
    const float *down = l->at[SL_ROLE_FFN_DOWN];
    memset(n->costs, 0, l->ff * sizeof *n->costs);
    for (uint32_t row = 0; row < l->model->d; row++)
        for (uint32_t i = 0; i < l->ff; i++)
            n->costs[i] += (double)down[(size_t)row * l->ff + i] * down[(size_t)row * l->ff + i];
}

static void take_costs(sli_neurons *n)
{
    const sli_layer *l = n->layer;
    size_t d = l->model->d, ff = l->ff;
    take_column_squares(n);
    for (size_t i = 0; i < ff; i++) {
        if (n->choice == SLI_NEURONS_COST && n->inverse != NULL)
            n->costs[i] /= -n->inverse[i * ff + i];
        else if (n->choice == SLI_NEURONS_WANDA)
            n->costs[i] *= n->hessian->diagonal[i];
        else
            n->costs[i] = sqrt(n->costs[i]) * row_norm(l->at[SL_ROLE_FFN_UP] + i * d, d) *
                          (l->model->gated ? row_norm(l->at[SL_ROLE_FFN_GATE] + i * d, d) : 1);
        if (n->gone[i])
            n->costs[i] = INFINITY;
    }
}

static void take_cheapest(sli_neurons *n, uint32_t count)
{
    for (uint32_t b = 0; b < count; b++) {
        uint32_t least = 0;
        for (uint32_t i = 1; i < n->layer->ff; i++)
            if (n->costs[i] < n->costs[least])
                least = i;
        n->costs[least] = INFINITY;
        n->gone[least] = true;
        n->batch[b] = least;
    }
}

/* ---- what the others make good ---- */

/* -K = -(U'U) */
static void take_inverse(sli_neurons *n)
{
    const sli_hessian *h = n->hessian;
    size_t ff = h->n;
    for (size_t i = 0; i < ff; i++)
        for (size_t j = 0; j < ff; j++)
            n->inverse[i * ff + j] = j <= i ? -h->at[j * ff + i] : 0;
    sli_linear_by_upper_double(h->linear, ff, ff, h->at, false, n->inverse);
}

static double inverse_at(const sli_neurons *n, size_t i, size_t j)
{
    size_t ff = n->layer->ff;
    return -(i < j ? n->inverse[i * ff + j] : n->inverse[j * ff + i]);
}

/* corner = L; false where it is not positive. */
static bool factor_corner(sli_neurons *n, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j <= i; j++)
            n->corner[i * count + j] = inverse_at(n, n->batch[i], n->batch[j]);
    return sli_linear_cholesky_double(n->linear, count, n->corner);
}

/* rows = A, columns = W_B L'^-1, by forward substitution. */
static void take_parts(sli_neurons *n, size_t count)
{
    size_t ff = n->layer->ff, d = n->layer->model->d;
    const float *down = n->layer->at[SL_ROLE_FFN_DOWN];
    for (size_t b = 0; b < count; b++) {
        const double *l = n->corner + b * count;
        for (size_t j = 0; j < ff; j++)
            n->rows[b * ff + j] = inverse_at(n, n->batch[b], j);
        for (size_t c = 0; c < b; c++)
            for (size_t j = 0; j < ff; j++)
                n->rows[b * ff + j] -= l[c] * n->rows[c * ff + j];
        for (size_t j = 0; j < ff; j++) {
            n->rows[b * ff + j] /= l[b];
            n->rows_float[b * ff + j] = (float)n->rows[b * ff + j];
        }
    }
    for (size_t row = 0; row < d; row++)
        for (size_t b = 0; b < count; b++) {
            double x = down[row * ff + n->batch[b]];
            for (size_t c = 0; c < b; c++)
                x -= n->corner[b * count + c] * n->columns[row * count + c];
            n->columns[row * count + b] = (float)(x / n->corner[b * count + b]);
        }
}

static sl_status make_good(sli_neurons *n, size_t count, const char *what, sl_error *err)
{
    size_t ff = n->layer->ff, d = n->layer->model->d;
    if (!factor_corner(n, count))
        return sl_fail(err, SL_INTERNAL, "%s: its Hessian is too close to singular for neurons to be taken out", what);
    take_parts(n, count);
    sli_linear_multiply(n->linear, d, ff, count, -1.0f, (sli_factor){n->columns, count, false}, (sli_factor){n->rows_float, ff, false},
                        1.0f, n->layer->at[SL_ROLE_FFN_DOWN], ff);
    sli_linear_add_gram_double(n->linear, count, ff, n->rows, n->inverse);
    return SL_OK;
}

/* ---- the layer without them ---- */

static void compact(sli_neurons *n)
{
    sli_layer *l = n->layer;
    size_t d = l->model->d, kept = 0, to = 0;
    for (size_t i = 0; i < l->ff; i++) {
        if (n->gone[i])
            continue;
        if (l->model->gated)
            memmove(l->at[SL_ROLE_FFN_GATE] + kept * d, l->at[SL_ROLE_FFN_GATE] + i * d, d * sizeof(float));
        memmove(l->at[SL_ROLE_FFN_UP] + kept * d, l->at[SL_ROLE_FFN_UP] + i * d, d * sizeof(float));
        if (l->at[SL_ROLE_FFN_UP_BIAS] != NULL)
            l->at[SL_ROLE_FFN_UP_BIAS][kept] = l->at[SL_ROLE_FFN_UP_BIAS][i];
        kept++;
    }
    for (size_t row = 0; row < d; row++)
        for (size_t i = 0; i < l->ff; i++)
            if (!n->gone[i])
                l->at[SL_ROLE_FFN_DOWN][to++] = l->at[SL_ROLE_FFN_DOWN][row * l->ff + i];
    l->ff = (uint32_t)kept;
}

static void clear(sli_neurons *n)
{
    sli_layer *l = n->layer;
    size_t d = l->model->d, ff = l->ff;
    for (size_t i = 0; i < ff; i++) {
        if (!n->gone[i])
            continue;
        if (l->model->gated)
            memset(l->at[SL_ROLE_FFN_GATE] + i * d, 0, d * sizeof(float));
        memset(l->at[SL_ROLE_FFN_UP] + i * d, 0, d * sizeof(float));
        for (size_t row = 0; row < d; row++)
            l->at[SL_ROLE_FFN_DOWN][row * ff + i] = 0;
    }
}

sl_status sli_neurons_remove(sli_neurons *n, const char *what, sl_error *err)
{
    uint32_t ff = n->layer->ff, most = batch_of(ff);
    size_t down_bytes = (size_t)n->layer->model->d * ff * sizeof(float);
    memset(n->gone, 0, ff * sizeof *n->gone);
    memcpy(n->down, n->layer->at[SL_ROLE_FFN_DOWN], down_bytes);
    if (n->inverse != NULL)
        take_inverse(n);
    take_costs(n);
    for (uint32_t left = ff; left > n->keep;) {
        uint32_t count = left - n->keep < most ? left - n->keep : most;
        if (n->choice == SLI_NEURONS_COST)
            take_costs(n); /* they have changed */
        take_cheapest(n, count);
        if (n->inverse != NULL)
            SL_TRY(make_good(n, count, what, err));
        left -= count;
    }
    if (!n->refit)
        memcpy(n->layer->at[SL_ROLE_FFN_DOWN], n->down, down_bytes);
    if (n->in_place)
        clear(n);
    else
        compact(n);
    return SL_OK;
}

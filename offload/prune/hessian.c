/* offload/prune/hessian.c: see hessian.h. */
#include "offload/prune/hessian.h"

#include <math.h>
#include <string.h>

#define DAMPING_TRIES 8 /* each with ten times the damping of the last */

void sli_hessian_begin(sli_hessian *h)
{
    memset(h->at, 0, (size_t)h->n * h->n * sizeof *h->at);
    h->damping = 0;
    h->damped_more = false;
}

static void widen(const float *x, size_t count, double *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = x[i];
}

void sli_hessian_add(sli_hessian *h, size_t rows, const float *x)
{
    for (size_t at = 0; at < rows; at += SLI_HESSIAN_SLAB) {
        size_t n = rows - at < SLI_HESSIAN_SLAB ? rows - at : SLI_HESSIAN_SLAB;
        widen(x + at * h->n, n * h->n, h->slab);
        sli_linear_add_gram_double(h->linear, n, h->n, h->slab, h->at);
    }
}

sl_status sli_hessian_take_diagonal(sli_hessian *h, const char *what, sl_error *err)
{
    for (size_t i = 0; i < h->n; i++) {
        h->diagonal[i] = h->at[i * h->n + i];
        if (!isfinite(h->diagonal[i]))
            return sl_fail(err, SL_FORMAT, "%s: its inputs are not finite (feature %zu); the model does not compute on this text", what, i);
    }
    return SL_OK;
}

static void reverse(double *a, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        double other = a[i];
        a[i] = a[count - 1 - i];
        a[count - 1 - i] = other;
    }
}

/* The lower half from the upper, in an array that lies backwards: its diagonal, too. */
static void restore_lower(sli_hessian *h)
{
    size_t n = h->n;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++)
            h->at[i * n + j] = h->at[j * n + i];
        h->at[i * n + i] = h->diagonal[n - 1 - i] + h->damping;
    }
}

sl_status sli_hessian_factor(sli_hessian *h, const char *what, sl_error *err)
{
    size_t n = h->n;
    double mean = 0;
    SL_TRY(sli_hessian_take_diagonal(h, what, err));
    for (size_t i = 0; i < n; i++)
        mean += h->diagonal[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            h->at[i * n + j] = h->at[j * n + i];
    reverse(h->at, n * n);
    h->damping = mean > 0 ? SLI_HESSIAN_DAMPING * mean : 1.0;
    h->damped_more = !(mean > 0);
    for (int tries = 0; tries < DAMPING_TRIES; tries++) {
        restore_lower(h);
        if (sli_linear_cholesky_double(h->linear, n, h->at) && sli_linear_invert_lower_double(h->linear, n, h->at)) {
            reverse(h->at, n * n);
            return SL_OK;
        }
        h->damping *= 10;
        h->damped_more = true;
    }
    return sl_fail(err, SL_INTERNAL, "%s: its Hessian cannot be inverted, damped by %g", what, h->damping);
}

double sli_hessian_solve(const sli_hessian *h, size_t rows, float *g)
{
    double gain = 0;
    for (size_t at = 0; at < rows; at += SLI_HESSIAN_SLAB) {
        size_t count = rows - at < SLI_HESSIAN_SLAB ? rows - at : SLI_HESSIAN_SLAB;
        widen(g + at * h->n, count * h->n, h->slab);
        sli_linear_by_upper_double(h->linear, count, h->n, h->at, true, h->slab);
        for (size_t i = 0; i < count * h->n; i++)
            gain += h->slab[i] * h->slab[i];
        sli_linear_by_upper_double(h->linear, count, h->n, h->at, false, h->slab);
        for (size_t i = 0; i < count * h->n; i++) {
            g[at * h->n + i] = (float)h->slab[i];
            gain += h->damping * h->slab[i] * h->slab[i];
        }
    }
    return gain;
}

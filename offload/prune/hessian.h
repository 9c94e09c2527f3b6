/* offload/prune/hessian.h: what a matrix's inputs were like, and the factor by which the methods weigh and repair.
 *
 * H = X'X over all calibration rows; the published H is 2/rows times that, which changes neither a choice nor a repair, since damping is relative.
 * sli_hessian_factor gives the upper triangular U with (H + damping)^-1 = U'U, in double precision. One n x n array holds both: U in the upper half,
 * H below the diagonal, so that a solve that fails can be tried again with more damping.
 *
 *   H + damping = R R' with R upper triangular, so (H + damping)^-1 = (R^-1)'(R^-1) and U = R^-1. R is the Cholesky factor of the matrix
 *   read backwards: reversing the array's n * n elements reverses rows and columns at once.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_PRUNE_HESSIAN_H
#define SL_OFFLOAD_PRUNE_HESSIAN_H

#include "offload/calibrate/linear.h"

#define SLI_HESSIAN_SLAB    256  /* rows that are widened to double at a time */
#define SLI_HESSIAN_DAMPING 0.01 /* of the mean of the diagonal, as published */

typedef struct sli_hessian {
    const sli_linear *linear;
    uint32_t n;
    double *at;       /* [n][n] */
    double *diagonal; /* [n] of H, undamped */
    double *slab;     /* [SLAB][n], may be shared */
    double damping;   /* that was added to the diagonal */
    bool damped_more; /* than asked: it was singular */
} sli_hessian;

static inline uint64_t sli_hessian_bytes(uint64_t n)
{
    return (n + 1) * n * sizeof(double);
}

void sli_hessian_begin(sli_hessian *h);
void sli_hessian_add(sli_hessian *h, size_t rows, const float *x); /* [rows][n] */
/* SL_FORMAT when the inputs are not finite; SL_INTERNAL where no damping helps. Norms of the inputs are in `diagonal` from then on, squared. */
SL_MUST_USE sl_status sli_hessian_factor(sli_hessian *h, const char *what, sl_error *err);
/* Takes the diagonal alone, for who needs no factor. SL_FORMAT as above. */
SL_MUST_USE sl_status sli_hessian_take_diagonal(sli_hessian *h, const char *what, sl_error *err);
/* g[rows][n] = g (H + damping)^-1. With g a least squares problem's rest times its inputs the result is the step that solves it, held back by the damping;
 * returned is by how much that step lowers the sum of squares: <g, step> + damping |step|^2. */
double sli_hessian_solve(const sli_hessian *h, size_t rows, float *g);

#endif

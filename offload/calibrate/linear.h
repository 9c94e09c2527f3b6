/* offload/calibrate/linear.h: the few operations of linear algebra that fits need, from OpenBLAS.
 *
 * The library is loaded when a calibration or a pruning begins, and not with the program: `run` neither needs it nor pays for its buffers. All matrices are
 * fp32 unless a name says double, row-major and without gaps unless a stride is named. Results may differ in their last bits between machines and numbers of threads; on one
 * machine they do not.
 *
 * Threads: one owner; the library has its own. */
#ifndef SL_OFFLOAD_CALIBRATE_LINEAR_H
#define SL_OFFLOAD_CALIBRATE_LINEAR_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sli_linear sli_linear;

/* SL_UNSUPPORTED names the package when the library is not there. */
SL_MUST_USE sl_status sli_linear_open(unsigned threads, sli_linear **out, sl_error *err);
void sli_linear_close(sli_linear *linear); /* NULL is fine */

/* What the library may take for itself, buffers of its threads included: an allowance, not a measurement. */
#define SLI_LINEAR_BYTES ((uint64_t)96 << 20)

/* A factor of a product as it lies in memory; `turned`: its transpose is meant. */
typedef struct sli_factor {
    const float *at;
    size_t stride;
    bool turned;
} sli_factor;

/* c[m][n] = a b + keep c, the sum over k; c's rows are `stride` apart. */
void sli_linear_multiply(const sli_linear *l, size_t m, size_t n, size_t k, float factor, sli_factor a, sli_factor b, float keep, float *c,
                         size_t stride);
/* h[n][n] += x' x over `rows` rows of x[rows][n]; only the upper half is kept up. */
void sli_linear_add_gram(const sli_linear *l, size_t rows, size_t n, const float *x, float *h);
/* Copies the upper half to the lower. */
void sli_linear_mirror(size_t n, float *h);

/* a = L L': the lower half of a becomes L, the upper zero. False when a is not positive definite; it is spoilt then. */
bool sli_linear_cholesky(const sli_linear *l, size_t n, float *a);
/* factor = L of a + damping I, where damping is `share` of a's mean diagonal, and tenfold as long as rounding leaves the sum indefinite: few rows, or rows
 * alike, make a Gram matrix that fp32 cannot tell from one with negative eigenvalues. False when nothing helps: a is not finite. */
bool sli_linear_cholesky_damped(const sli_linear *l, size_t n, float share, const float *a, float *factor);
/* The inverse of a lower triangular matrix, in place. False where it is singular. */
bool sli_linear_invert_lower(const sli_linear *l, size_t n, float *a);
/* x[n][cols] = L^-1 x, or L'^-1 x when turned. */
void sli_linear_solve_lower(const sli_linear *l, size_t n, size_t cols, const float *lower, bool turned, float *x);
/* x[rows][n] = x L'^-1 */
void sli_linear_solve_right(const sli_linear *l, size_t rows, size_t n, const float *lower, float *x);
/* Eigenvectors of a symmetric matrix as rows of a, eigenvalues ascending. `work`: [n * 3]. */
bool sli_linear_eigen(const sli_linear *l, size_t n, float *a, float *values, float *work);

/* h[n][n] += x' x over `rows` rows of x[rows][n]; only the upper half is kept up. */
void sli_linear_add_gram_double(const sli_linear *l, size_t rows, size_t n, const double *x, double *h);
/* a = L L': reads and overwrites the lower half alone; what is above the diagonal stays. False when a is not positive definite. */
bool sli_linear_cholesky_double(const sli_linear *l, size_t n, double *a);
/* The inverse of the lower half, in place; what is above the diagonal stays. */
bool sli_linear_invert_lower_double(const sli_linear *l, size_t n, double *a);
/* x[rows][n] = x U, or x U' when turned; only the upper half of `upper` is read. */
void sli_linear_by_upper_double(const sli_linear *l, size_t rows, size_t n, const double *upper, bool turned, double *x);

#endif

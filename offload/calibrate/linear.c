/* offload/calibrate/linear.c: see linear.h. LAPACK counts columns first: a row-major lower half is its upper one. */
#include "offload/calibrate/linear.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* CBLAS's enumerations. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112, UPPER = 121, LOWER = 122, NON_UNIT = 131, LEFT = 141, RIGHT = 142 };

#define DAMPING_TRIES 8

typedef void (*gemm_fn)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
typedef void (*syrk_fn)(int, int, int, int, int, float, const float *, int, float, float *, int);
typedef void (*trsm_fn)(int, int, int, int, int, int, int, float, const float *, int, float *, int);
typedef void (*potrf_fn)(const char *, const int *, float *, const int *, int *, size_t);
typedef void (*trtri_fn)(const char *, const char *, const int *, float *, const int *, int *, size_t, size_t);
typedef void (*syev_fn)(const char *, const char *, const int *, float *, const int *, float *, float *, const int *, int *, size_t,
                        size_t);
typedef void (*dsyrk_fn)(int, int, int, int, int, double, const double *, int, double, double *, int);
typedef void (*dtrmm_fn)(int, int, int, int, int, int, int, double, const double *, int, double *, int);
typedef void (*dpotrf_fn)(const char *, const int *, double *, const int *, int *, size_t);
typedef void (*dtrtri_fn)(const char *, const char *, const int *, double *, const int *, int *, size_t, size_t);
typedef void (*threads_fn)(int);

struct sli_linear {
    void *library;
    gemm_fn gemm;
    syrk_fn syrk;
    trsm_fn trsm;
    potrf_fn potrf;
    trtri_fn trtri;
    syev_fn syev;
    dsyrk_fn dsyrk;
    dtrmm_fn dtrmm;
    dpotrf_fn dpotrf;
    dtrtri_fn dtrtri;
};

static bool find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address); /* ISO C knows no cast from an object to a function */
    return address != NULL;
}

sl_status sli_linear_open(unsigned threads, sli_linear **out, sl_error *err)
{
    *out = NULL;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return sl_fail(err, SL_UNSUPPORTED, "fits need OpenBLAS (libopenblas.so.0), which is not here; install the package libopenblas0");
    sli_linear *l = calloc(1, sizeof *l);
    threads_fn set_threads;
    if (l == NULL) {
        dlclose(library);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for linear algebra");
    }
    l->library = library;
    if (!find(library, "cblas_sgemm", &l->gemm) || !find(library, "cblas_ssyrk", &l->syrk) || !find(library, "cblas_strsm", &l->trsm) ||
        !find(library, "spotrf_", &l->potrf) || !find(library, "strtri_", &l->trtri) || !find(library, "ssyev_", &l->syev) ||
        !find(library, "cblas_dsyrk", &l->dsyrk) || !find(library, "cblas_dtrmm", &l->dtrmm) || !find(library, "dpotrf_", &l->dpotrf) ||
        !find(library, "dtrtri_", &l->dtrtri) || !find(library, "openblas_set_num_threads", &set_threads)) {
        sli_linear_close(l);
        return sl_fail(err, SL_UNSUPPORTED,
                       "libopenblas.so.0 is no complete OpenBLAS (with CBLAS and LAPACK); install the package libopenblas0");
    }
    set_threads((int)threads);
    *out = l;
    return SL_OK;
}

void sli_linear_close(sli_linear *l)
{
    if (l == NULL)
        return;
    dlclose(l->library);
    free(l);
}

void sli_linear_multiply(const sli_linear *l, size_t m, size_t n, size_t k, float factor, sli_factor a, sli_factor b, float keep, float *c,
                         size_t stride)
{
    l->gemm(ROW_MAJOR, a.turned ? TRANS : NO_TRANS, b.turned ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, factor, a.at, (int)a.stride, b.at,
            (int)b.stride, keep, c, (int)stride);
}

void sli_linear_add_gram(const sli_linear *l, size_t rows, size_t n, const float *x, float *h)
{
    l->syrk(ROW_MAJOR, UPPER, TRANS, (int)n, (int)rows, 1.0f, x, (int)n, 1.0f, h, (int)n);
}

void sli_linear_mirror(size_t n, float *h)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            h[i * n + j] = h[j * n + i];
}

bool sli_linear_cholesky(const sli_linear *l, size_t n, float *a)
{
    int size = (int)n, info = 0;
    l->potrf("U", &size, a, &size, &info, 1);
    for (size_t i = 0; i < n; i++)
        memset(a + i * n + i + 1, 0, (n - i - 1) * sizeof *a);
    return info == 0;
}

bool sli_linear_cholesky_damped(const sli_linear *l, size_t n, float share, const float *a, float *factor)
{
    double trace = 0;
    for (size_t k = 0; k < n; k++)
        trace += (double)a[k * n + k];
    float damping = share * (float)(trace / (double)n) + 1e-12f;
    for (int attempt = 0; attempt < DAMPING_TRIES; attempt++) {
        memcpy(factor, a, n * n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            factor[k * n + k] += damping;
        if (sli_linear_cholesky(l, n, factor))
            return isfinite(factor[n * n - 1]); /* OpenBLAS takes what is not a number for positive */
        damping *= 10;
    }
    return false;
}

bool sli_linear_invert_lower(const sli_linear *l, size_t n, float *a)
{
    int size = (int)n, info = 0;
    l->trtri("U", "N", &size, a, &size, &info, 1, 1);
    return info == 0;
}

void sli_linear_solve_lower(const sli_linear *l, size_t n, size_t cols, const float *lower, bool turned, float *x)
{
    l->trsm(ROW_MAJOR, LEFT, LOWER, turned ? TRANS : NO_TRANS, NON_UNIT, (int)n, (int)cols, 1.0f, lower, (int)n, x, (int)cols);
}

void sli_linear_solve_right(const sli_linear *l, size_t rows, size_t n, const float *lower, float *x)
{
    l->trsm(ROW_MAJOR, RIGHT, LOWER, TRANS, NON_UNIT, (int)rows, (int)n, 1.0f, lower, (int)n, x, (int)n);
}

bool sli_linear_eigen(const sli_linear *l, size_t n, float *a, float *values, float *work)
{
    int size = (int)n, work_size = (int)n * 3, info = 0;
    l->syev("V", "U", &size, a, &size, values, work, &work_size, &info, 1, 1);
    return info == 0;
}

void sli_linear_add_gram_double(const sli_linear *l, size_t rows, size_t n, const double *x, double *h)
{
    l->dsyrk(ROW_MAJOR, UPPER, TRANS, (int)n, (int)rows, 1.0, x, (int)n, 1.0, h, (int)n);
}

bool sli_linear_cholesky_double(const sli_linear *l, size_t n, double *a)
{
    int size = (int)n, info = 0;
    l->dpotrf("U", &size, a, &size, &info, 1);
    return info == 0;
}

bool sli_linear_invert_lower_double(const sli_linear *l, size_t n, double *a)
{
    int size = (int)n, info = 0;
    l->dtrtri("U", "N", &size, a, &size, &info, 1, 1);
    return info == 0;
}

void sli_linear_by_upper_double(const sli_linear *l, size_t rows, size_t n, const double *upper, bool turned, double *x)
{
    l->dtrmm(ROW_MAJOR, RIGHT, UPPER, turned ? TRANS : NO_TRANS, NON_UNIT, (int)rows, (int)n, 1.0, upper, (int)n, x, (int)n);
}

/* tests/blas.h: whether there is a linear algebra library, which fits and solves want; where there is none their tests are skipped. Needs cmocka's names. */
#ifndef SL_TESTS_BLAS_H
#define SL_TESTS_BLAS_H

#include "offload/calibrate/linear.h"

/* True after the reason was said. */
static inline bool no_blas(void)
{
    sli_linear *linear;
    sl_error err = {0};
    if (sli_linear_open(1, &linear, &err) == SL_OK) {
        sli_linear_close(linear);
        return false;
    }
    print_message("skipped: %s\n", err.message);
    return true;
}

#endif

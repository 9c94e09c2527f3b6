/* bench/must.h: a benchmark has no use for an error but to name it and end. Include it in a program that defines PROGRAM, its name. */
#ifndef SL_BENCH_MUST_H
#define SL_BENCH_MUST_H

#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>

static inline void must_have(sl_status status, const char *what, const sl_error *err)
{
    if (status == SL_OK)
        return;
    fprintf(stderr, PROGRAM ": %s: %s\n", what, err->message);
    exit(1);
}

/* `call` names the error as E. */
#define MUST(call)                                                                                                                         \
    do {                                                                                                                                   \
        sl_error error_ = {0}, *E = &error_;                                                                                               \
        must_have((call), #call, E);                                                                                                       \
    } while (0)

#endif

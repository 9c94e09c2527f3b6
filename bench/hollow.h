/* bench/hollow.h: a hollow file of a shape of `sluice synth` whose context is as long as any benchmark wants, made once in a folder, to be used again. */
#ifndef SL_BENCH_HOLLOW_H
#define SL_BENCH_HOLLOW_H

#include "bench/must.h"
#include "core/format.h"
#include "offload/tools/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOLLOW_CONTEXT (1 << 20)

static inline sl_synth_shape hollow_shape(const char *name)
{
    for (size_t i = 0; sl_synth_shape_at(i) != NULL; i++)
        if (strcmp(sl_synth_shape_at(i)->name, name) == 0)
            return *sl_synth_shape_at(i);
    fprintf(stderr, PROGRAM ": no shape %s; `sluice synth --help` names them\n", name);
    exit(2);
}

static inline void hollow_make(const char *folder, const char *name, uint32_t type, char *path, size_t path_bytes)
{
    sl_synth_shape shape = hollow_shape(name);
    shape.context = HOLLOW_CONTEXT;
    sl_synth_options synth = {.given = &shape, .path = path, .type = type, .hollow = true};
    snprintf(path, path_bytes, "%s/hollow-long-%s-%s.gguf", folder, name, sl_format_of(type)->name);
    if (access(path, R_OK) != 0)
        MUST(sl_synth(&synth, E));
}

#endif

/* offload/density.c: see density.h. */
#include "offload/density.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POINTS SLI_DENSITY_POINTS

/* A piece of a layer's convex hull: between two of its points. */
typedef struct piece {
    double slope; /* what a neuron more saves, negative */
    uint32_t layer, from, to;
} piece;

bool sli_density_read(const sl_gguf *file, uint32_t layers, float *curves)
{
    const sl_gguf_value *v = sl_gguf_find(file, SLI_DENSITY_KEY);
    uint64_t count = (uint64_t)layers * (POINTS + 1);
    if (v == NULL || v->kind != SL_GGUF_ARRAY || v->element_kind != SL_GGUF_F32 || v->count != count)
        return false;
    memcpy(curves, v->data, count * sizeof *curves);
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(curves[i]))
            return false;
    return true;
}

static int by_slope(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    if (x->slope != y->slope)
        return x->slope < y->slope ? -1 : 1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* The lower hull of a curve, from density 0 on: always the steepest way down. */
static uint32_t hull_of(const float *curve, uint32_t layer, piece *out)
{
    uint32_t count = 0;
    for (uint32_t from = 0; from < POINTS;) {
        piece best = {INFINITY, layer, from, from + 1};
        for (uint32_t to = from + 1; to <= POINTS; to++) {
            double slope = ((double)curve[to] - (double)curve[from]) / (to - from);
            if (slope <= best.slope)
                best = (piece){slope, layer, from, to};
        }
        out[count++] = best;
        from = best.to;
    }
    return count;
}

static uint32_t neurons_at(uint32_t ff, uint32_t point)
{
    return (uint32_t)((uint64_t)ff * point / POINTS);
}

static void fill_evenly(uint32_t layers, uint32_t ff, uint64_t total, uint32_t *keep)
{
    (void)ff;
    for (uint32_t i = 0; i < layers; i++)
        keep[i] = (uint32_t)(total * (i + 1) / layers - total * i / layers);
}

sl_status sli_density_distribute(const float *curves, uint32_t layers, uint32_t ff, double density, uint32_t *keep, sl_error *err)
{
    uint64_t total = (uint64_t)(density * ff * layers * (1 + 1e-12));
    total = total < layers ? layers : total > (uint64_t)ff * layers ? (uint64_t)ff * layers : total;
    if (curves == NULL) {
        fill_evenly(layers, ff, total, keep);
        return SL_OK;
    }
    piece *pieces = malloc((size_t)layers * POINTS * sizeof *pieces);
    if (pieces == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the density of layers");
    uint32_t count = 0;
    for (uint32_t i = 0; i < layers; i++) {
        count += hull_of(curves + (size_t)i * (POINTS + 1), i, pieces + count);
        keep[i] = 1;
    }
    qsort(pieces, count, sizeof *pieces, by_slope);
    uint64_t left = total - layers;
    for (uint32_t i = 0; i < count && left > 0; i++) {
        /* The layer's first neuron was given already; a hull's pieces come in order, as they get flatter. */
        uint32_t want = neurons_at(ff, pieces[i].to), *have = &keep[pieces[i].layer];
        uint64_t more = want > *have ? want - *have : 0;
        more = more < left ? more : left;
        *have += (uint32_t)more;
        left -= more;
    }
    free(pieces);
    return SL_OK;
}

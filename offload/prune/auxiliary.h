/* offload/prune/auxiliary.h: SparseLLM's updates of auxiliary activations, element by element.
 *
 * Of each element there are s, z and p, and the products mg and mu that the matrices give now:
 *
 *     gap = (s - mg)^2 + (z - mu)^2 + (p - act(s) z)^2
 *
 * Threads: one owner; the elements are divided over the crew, sums are taken in a fixed order. */
#ifndef SL_OFFLOAD_PRUNE_AUXILIARY_H
#define SL_OFFLOAD_PRUNE_AUXILIARY_H

#include "core/threads.h"
#include "kernels/kernels.h"

#define SLI_AUXILIARY_SUMS 8 /* doubles of a thread: a cache line */

typedef struct sli_auxiliary {
    sl_glu act;
    size_t count;
    float *s, *z, *p, *q;
    const float *mg, *mu;
    sl_threads *threads;
    double *partial; /* [threads][SLI_AUXILIARY_SUMS] */
} sli_auxiliary;

double sli_auxiliary_gap(const sli_auxiliary *a);    /* summed over all elements */
void sli_auxiliary_product(const sli_auxiliary *a);  /* q = act(s) z */
void sli_auxiliary_update_z(const sli_auxiliary *a); /* the z of least gap */
void sli_auxiliary_update_s(const sli_auxiliary *a); /* a few steps of s; no element's gap rises */

#endif

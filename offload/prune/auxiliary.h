/* offload/prune/auxiliary.h: SparseLLM's updates of auxiliary activations, element by element.
 *
 * Of each element there are s, z and p, and the products mg and mu that the matrices give now:
 *
 *     gap = (s - mg)^2 + (z - mu)^2 + (p - act(s) z)^2
 *
 * Where there is no gate, s and mg are NULL, and
 *
 *     gap = (z - mu)^2 + (p - relu(z))^2
 *
 * whose least z is the better of two: of those that are not negative max(0, (p + mu) / 2), of the others min(0, mu).
 *
 * Threads: one owner; the elements are divided over the crew, sums are taken in a fixed order. */
#ifndef SL_OFFLOAD_PRUNE_AUXILIARY_H
#define SL_OFFLOAD_PRUNE_AUXILIARY_H

#include "core/threads.h"
#include "kernels/kernels.h"

#define SLI_AUXILIARY_SUMS 8 /* doubles of a thread: a cache line */

typedef struct sli_auxiliary {
    const sl_kernels *kernels;
    sl_glu act; /* of the gate */
    size_t count;
    float *s, *z;
    const float *p;
    const float *mg, *mu;
    sl_threads *threads;
    double *partial; /* [threads][SLI_AUXILIARY_SUMS] */
} sli_auxiliary;

double sli_auxiliary_gap(const sli_auxiliary *a);    /* summed over all elements */
void sli_auxiliary_update_z(const sli_auxiliary *a); /* the z of least gap */
void sli_auxiliary_update_s(const sli_auxiliary *a); /* a few steps of s, where there is one; no element's gap rises */

#endif

/* offload/prune/sparsegpt.h: SparseGPT (arXiv 2301.00774): weights go column by column, and each error is made good by the columns on its right.
 *
 * Columns come in blocks of 128. Within a block the smallest w^2 / U_ii^2 of all rows go (or, by a pattern, of each group, when its first column is
 * reached); what a block did wrong reaches the columns behind it in one product at its end.
 *
 * Threads: one owner; it works with the crew's and the library's threads. */
#ifndef SL_OFFLOAD_PRUNE_SPARSEGPT_H
#define SL_OFFLOAD_PRUNE_SPARSEGPT_H

#include "core/threads.h"
#include "offload/prune/hessian.h"
#include "offload/prune/mask.h"

#define SLI_SPARSEGPT_BLOCK 128

typedef struct sli_sparsegpt {
    const sli_linear *linear;
    sl_threads *threads;
    float *panel;  /* [BLOCK][cols]: rows of U */
    float *errors; /* [rows][BLOCK] */
    float *scores; /* [rows][BLOCK] */
} sli_sparsegpt;

/* Bytes of its arrays, for the largest matrix. */
static inline uint64_t sli_sparsegpt_bytes(uint64_t rows, uint64_t cols)
{
    return SLI_SPARSEGPT_BLOCK * (cols + 2 * rows) * sizeof(float);
}

/* Prunes w[rows][h->n]; h is factored. */
void sli_sparsegpt_prune(const sli_sparsegpt *s, const sli_hessian *h, const sli_prune_rule *rule, size_t rows, float *w);

#endif

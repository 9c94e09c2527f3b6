/* kernels/cpu/vector_scratch.h: how a thread's attention scratch is divided.
 *
 * A "query" here is one head of one row; they are numbered row by row (row * group + head) and taken in blocks of `queries`. */
#ifndef SL_KERNELS_CPU_VECTOR_SCRATCH_H
#define SL_KERNELS_CPU_VECTOR_SCRATCH_H

#include "kernels/kernels.h"

#define CHUNK 64 /* floats of a row of a product's left side that lie together; also the positions of a page */

/* A widened page serves a block of queries: with 96 widening is a twentieth of the work. Large heads take fewer, to stay below 256 KiB. */
static inline uint32_t sli_block_queries(uint32_t head_dim)
{
    return head_dim <= 128 ? 96 : head_dim <= 256 ? 48 : 24;
}

typedef struct sli_scratch {
    float *page;       /* [64 * head_dim] a K or V page as fp32 */
    float *q;          /* [chunk][queries][CHUNK] scaled queries; the last chunk may be partly used */
    float *p;          /* [queries][CHUNK] scores of a page, then their exponentials */
    float *o;          /* [queries][head_dim] */
    float *m, *l;      /* [queries] D5's running maximum and sum */
    float *correction; /* [queries] exp(m_old - m) of this page */
    float *tail;       /* [SLI_TREE_PAGES][queries][CHUNK] a tree's scores, by slot */
    float *spread;     /* [queries][CHUNK] a page's exponentials, by slot */
} sli_scratch;

/* Pages that hold a tree's slots: it may begin with the last one of a page. */
#define SLI_TREE_PAGES ((SL_KV_PAGE - 1 + SL_TREE_ROWS - 1) / SL_KV_PAGE + 1)

/* Divides the floats at `base`; with base NULL only counts them. */
static inline size_t sli_scratch_divide(uint32_t head_dim, float *base, sli_scratch *out)
{
    size_t queries = sli_block_queries(head_dim), chunks = (head_dim + CHUNK - 1) / CHUNK, used = 0;
    const size_t floats[] = {
        (size_t)SL_KV_PAGE * head_dim,    chunks * queries * CHUNK, queries * CHUNK, queries * head_dim, queries, queries, queries,
        SLI_TREE_PAGES * queries * CHUNK, queries * CHUNK};
    float **const parts[] = {&out->page, &out->q, &out->p, &out->o, &out->m, &out->l, &out->correction, &out->tail, &out->spread};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i] = base != NULL ? base + used : NULL;
        used += (floats[i] + 15) / 16 * 16; /* each part starts on a cache line */
    }
    return used;
}

#endif

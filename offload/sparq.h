/* offload/sparq.h: which part of the keys and values a query attends to (SparQ attention, arXiv 2312.04985). Pure.
 *
 * The query heads of one KV head choose together: the components with the largest |q| stand for all of them when positions are scored, and the positions
 * whose approximate attention, summed over the heads, is largest are then attended to exactly. Ties go to the lower index, so that a choice is a
 * function of its numbers alone. */
#ifndef SL_OFFLOAD_SPARQ_H
#define SL_OFFLOAD_SPARQ_H

#include "kernels/kernels.h"

#include <stddef.h>
#include <stdint.h>

/* The `count` components c with the largest sum over the heads of |q[h * head_dim + c]|, ascending. count is at most head_dim; sums: [head_dim], for
 * work. */
void sli_sparq_components(const float *q, uint32_t group, uint32_t head_dim, uint32_t count, float *sums, uint32_t *component);

/* By how much a head's scores of these components are multiplied, so that they spread as those of all do: sqrt(sum of all |q_c| / sum of theirs);
 * the paper's 1 / tau is this times 1 / sqrt(head_dim). */
float sli_sparq_factor(const float *q, uint32_t head_dim, const uint32_t *component, uint32_t count);

/* Both: the components of the query heads, ascending, and what each head multiplies keys by there, scaled: q_part[group][count]. */
void sli_sparq_scaled_query(const float *q, uint32_t group, uint32_t head_dim, uint32_t count, float scale, float *sums,
                            uint32_t *component, float *q_part);

/* Blocks of SL_ACT_BLOCK components in which these lie. */
uint32_t sli_sparq_blocks(const uint32_t *component, uint32_t count);
/* Bytes of a key that scores by `count` components in `blocks` blocks read: theirs, and the scales of the blocks. */
uint64_t sli_sparq_scored_bytes(uint32_t type, uint32_t count, uint32_t blocks);

/* What a row sees, and what it reads of it. */
typedef struct sli_sparq_row {
    uint32_t begin, end; /* positions that it sees */
    uint32_t summed;     /* the page before which sums of values are known */
    uint32_t k, r, local;
    uint32_t k_type, v_type, head_dim;
    bool reallocates;
} sli_sparq_row;

/* Of the `depth`-th row behind the root of a tree at pos0, or of a row at pos0 (depth 0); the other fields stay. */
void sli_sparq_see(sli_sparq_row *row, uint32_t pos0, uint32_t depth, uint32_t window);
/* Bytes of a KV head's keys and values: of all that the row sees; and of what is read where it chooses, with scores whose components lie in so many blocks. */
uint64_t sli_sparq_dense_bytes(const sli_sparq_row *row);
uint64_t sli_sparq_moved_bytes(const sli_sparq_row *row, uint32_t blocks);
static inline bool sli_sparq_chooses(const sli_sparq_row *row)
{
    return row->end - row->begin > row->k;
}

/* Whole pages: of k positions, the last `local` among them, a row at `base` (in a tree: its root is) attends to `others` pages of those before first_local, and
 * to all from there on; where its own page comes before as many as are kept, to all (others and first_local 0). */
typedef struct sli_sparq_kept {
    uint32_t own, first_local, others;
} sli_sparq_kept;
sli_sparq_kept sli_sparq_keep_pages(uint32_t base, uint32_t k, uint32_t local);

/* weights[p] = the sum over heads h < group and the positions i of page p < pages of shares[h * stride + i], in 16 lanes that are folded as in D4. */
void sli_sparq_page_weights(const float *shares, size_t stride, uint32_t group, uint32_t pages, float *weights);

/* `keep` of the positions [begin, end), ascending: the last `local`, and of the others those with the largest weights[position]. Weights are not
 * negative. local <= keep <= end - begin. work: [2 * (end - begin) + 2 * SL_PICK_SLACK]. */
void sli_sparq_choose(const sl_kernels *kernels, const float *weights, float *work, uint32_t begin, uint32_t end, uint32_t keep,
                      uint32_t local, uint32_t *chosen);

#endif

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

/* Bytes of a key that scores by these components read: theirs, and the scales of the blocks that they lie in. */
uint64_t sli_sparq_scored_bytes(uint32_t type, const uint32_t *component, uint32_t count);

/* weights[p] = the sum over heads h < group and the positions i of page p < pages of shares[h * stride + i], in 16 lanes that are folded as in D4. */
void sli_sparq_page_weights(const float *shares, size_t stride, uint32_t group, uint32_t pages, float *weights);

/* `keep` of the positions [begin, end), ascending: the last `local`, and of the others those with the largest weights[position]. Weights are not
 * negative. local <= keep <= end - begin. work: [2 * (end - begin) + 2 * SL_PICK_SLACK]. */
void sli_sparq_choose(const sl_kernels *kernels, const float *weights, float *work, uint32_t begin, uint32_t end, uint32_t keep,
                      uint32_t local, uint32_t *chosen);

#endif

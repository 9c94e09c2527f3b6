/* offload/select.h: the k neurons with the largest scores. Pure.
 *
 * Among equal scores the lower index comes first, so that a set is a function of its scores alone, however they were computed. */
#ifndef SL_OFFLOAD_SELECT_H
#define SL_OFFLOAD_SELECT_H

#include "kernels/kernels.h"

#include <stdint.h>

/* Writes the indices of the `keep` largest of scores[0..count) to members, ascending. A score's sign does
 * not count; a NaN is the largest.
 * keep is at most count. O(count). */
void sli_select_top(const float *scores, uint32_t count, uint32_t keep, uint32_t *members);

/* The same for few of many, in little more than one pass: a sample says what the kept ones are above, those that are above it are picked (kernels.h), and
 * the choice is made among them; where the sample said too much, among all. work: [2 * count + 2 * SL_PICK_SLACK]. */
void sli_select_few(const sl_kernels *kernels, const float *scores, uint32_t count, uint32_t keep, float *work, uint32_t *members);

/* How many numbers two ascending lists share. */
uint32_t sli_select_common(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count);

#endif

/* offload/sirius_tree.h: a step of sirius.h with a tree of drafts (Sirius, arXiv 2409.03856, section on trees).
 *
 *     t  ──┬─ the ─┬─ cat ── sat        drafted depth by depth: each a pass over the sparse rows of that depth, which see their paths only
 *          │       └─ dog
 *          └─ a ───── cat               checked by one dense pass over all rows; the longest path that dense decoding takes stays
 *
 * What stays is judged row by row as in a chain, so that the same policies apply; with several paths of one length the likelier stays. */
#ifndef SL_OFFLOAD_SIRIUS_TREE_H
#define SL_OFFLOAD_SIRIUS_TREE_H

#include "offload/sirius.h"

typedef struct sli_sirius_tree sli_sirius_tree;

/* Bytes that it allocates, for the price. */
uint64_t sli_sirius_tree_bytes(void);

/* Whether the wish, which has a tree, can be met by an engine. */
SL_MUST_USE sl_status sli_sirius_tree_check(const sl_engine *engine, const sl_drafting *how, sl_error *err);
/* NULL when there is no memory. free() takes it. */
sli_sirius_tree *sli_sirius_tree_open(void);

/* As sli_sirius_step, for a `s` with a tree. */
SL_MUST_USE sl_status sli_sirius_tree_step(sli_sirius *s, sl_token token, uint32_t most, uint32_t *count, sl_error *err);

#endif

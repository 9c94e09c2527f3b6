/* offload/tree.h: tokens that branch, as rows of one pass.
 *
 *     text so far      row 0, depth 0          rows 1 2 3, depth 1       rows 4 5, depth 2
 *     ............     the                     cat  dog  bird            sat (of 1)  ran (of 1)
 *
 * A row follows its parent, which is an earlier row, so that what a row sees, its path, is in ascending order. A row at depth d stands at
 * the session's position plus d; its keys and values lie in the slot of the session's position plus its own number until a path is kept.
 *
 * Pure. */
#ifndef SL_OFFLOAD_TREE_H
#define SL_OFFLOAD_TREE_H

#include "core/status.h"
#include "kernels/kernels.h"

typedef struct sli_tree {
    uint32_t count;
    uint8_t parent[SL_TREE_ROWS];             /* not of row 0 */
    uint8_t depth[SL_TREE_ROWS];              /* row 0: 0 */
    uint8_t path[SL_TREE_ROWS][SL_TREE_ROWS]; /* [row][depth + 1] from row 0 to the row itself */
} sli_tree;

/* Whether sli_tree_add can add the rows: parents[i], of row tree->count + i, is an earlier row; -1 for row 0 alone. */
SL_MUST_USE sl_status sli_tree_check(const sli_tree *tree, const int32_t *parents, size_t count, sl_error *err);
/* After a check. O(rows x depth). */
void sli_tree_add(sli_tree *tree, const int32_t *parents, uint32_t count);

/* Whether rows[0 .. count) are a path: from row 0, each the parent of the next. */
bool sli_tree_is_path(const sli_tree *tree, const uint32_t *rows, size_t count);

#endif

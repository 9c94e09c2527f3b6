/* offload/tree.c: see tree.h. */
#include "offload/tree.h"

#include <string.h>

sl_status sli_tree_check(const sli_tree *tree, const int32_t *parents, size_t count, sl_error *err)
{
    if (count > SL_TREE_ROWS - tree->count)
        return sl_fail(err, SL_INVALID, "a tree of %zu rows; it may have %d", tree->count + count, SL_TREE_ROWS);
    for (size_t i = 0; i < count; i++) {
        size_t row = tree->count + i;
        if (row == 0 ? parents[i] != -1 : parents[i] < 0 || (size_t)parents[i] >= row)
            return sl_fail(err, SL_INVALID,
                           "row %zu of a tree has row %d for its parent; the first has none (-1), the others an earlier one", row,
                           parents[i]);
    }
    return SL_OK;
}

void sli_tree_add(sli_tree *tree, const int32_t *parents, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = tree->count++;
        tree->depth[row] = 0;
        if (row > 0) {
            uint32_t parent = (uint32_t)parents[i];
            tree->parent[row] = (uint8_t)parent;
            tree->depth[row] = (uint8_t)(tree->depth[parent] + 1);
            memcpy(tree->path[row], tree->path[parent], tree->depth[row]);
        }
        tree->path[row][tree->depth[row]] = (uint8_t)row;
    }
}

bool sli_tree_is_path(const sli_tree *tree, const uint32_t *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i] >= tree->count || (i == 0 ? rows[i] != 0 : rows[i] == 0 || tree->parent[rows[i]] != rows[i - 1]))
            return false;
    return true;
}

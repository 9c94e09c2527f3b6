/* offload/draft_tree.c: see draft_tree.h. */
#include "offload/draft_tree.h"

#include "core/mathx.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void sli_draft_tree_begin(sli_draft_tree *t, const sli_draft_shape *shape, sl_token token)
{
    t->shape = *shape;
    t->count = 1;
    t->nodes[0] = (sli_draft_node){.token = token, .parent = -1, .row = -1, .by_model = true};
}

/* The node for a token behind another; an old one where there is. NULL when it is not worth one. */
static sli_draft_node *node_behind(sli_draft_tree *t, uint32_t parent, sl_token token, double log_p)
{
    for (uint32_t i = parent + 1; i < t->count; i++)
        if (t->nodes[i].parent == (int32_t)parent && t->nodes[i].token == token)
            return &t->nodes[i];
    if (t->count == SLI_TREE_NODES || log_p < t->shape.log_least || t->nodes[parent].depth == t->shape.depth)
        return NULL;
    t->nodes[t->count] = (sli_draft_node){
        .token = token, .parent = (int32_t)parent, .row = -1, .depth = t->nodes[parent].depth + 1, .by_model = false, .log_p = log_p};
    return &t->nodes[t->count++];
}

void sli_draft_tree_look_up(sli_draft_tree *t, const sl_token *tokens, uint32_t count, double chance)
{
    uint32_t parent = 0;
    for (uint32_t i = 0; i < count && i + 1 < SL_TREE_ROWS; i++) {
        const sli_draft_node *node = node_behind(t, parent, tokens[i], t->nodes[parent].log_p + sl_log(chance));
        if (node == NULL)
            return;
        parent = (uint32_t)(node - t->nodes);
    }
}

void sli_draft_tree_offer(sli_draft_tree *t, uint32_t node, const sl_choice *choices, uint32_t count)
{
    assert(count <= SLI_TREE_CHOICES);
    for (uint32_t i = 0; i < count; i++) {
        double log_p = t->nodes[node].log_p + choices[i].log_p;
        sli_draft_node *child = node_behind(t, node, choices[i].id, log_p);
        if (child == NULL)
            continue;
        child->by_model = true;
        child->log_p = log_p > child->log_p ? log_p : child->log_p;
    }
}

/* ---- the likeliest ---- */

/* Puts a node among the `count` best, of at most `most`, equal ones in order. */
static uint32_t rank_in(sli_draft_tree *t, uint32_t count, uint32_t most, uint32_t node)
{
    double log_p = t->nodes[node].log_p;
    uint32_t at = count;
    while (at > 0 && t->nodes[t->best[at - 1]].log_p < log_p)
        at--;
    if (at == most)
        return count;
    count += count < most;
    memmove(t->best + at + 1, t->best + at, (count - 1 - at) * sizeof *t->best);
    t->best[at] = (uint16_t)node;
    return count;
}

/* Of all nodes, or of a depth's that the model drafted, the `most` likeliest, in t->best. */
static uint32_t find_best(sli_draft_tree *t, uint32_t most, bool all, uint32_t depth)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (all || (t->nodes[i].depth == depth && t->nodes[i].by_model))
            count = rank_in(t, count, most, i);
    return count;
}

/* Numbers in ascending order: the way in which parents come before what follows them. */
static void put_in_order(uint16_t *nodes, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint16_t moving = nodes[i];
        uint32_t at = i;
        for (; at > 0 && nodes[at - 1] > moving; at--)
            nodes[at] = nodes[at - 1];
        nodes[at] = moving;
    }
}

static uint32_t rows_of(const sli_draft_tree *t)
{
    return t->shape.rows < SL_TREE_ROWS ? t->shape.rows : SL_TREE_ROWS;
}

uint32_t sli_draft_tree_level(sli_draft_tree *t, uint32_t depth, uint16_t *nodes)
{
    bool best_first = t->shape.width == 0;
    uint32_t found = find_best(t, best_first ? rows_of(t) : t->shape.width, best_first, depth), count = 0;
    for (uint32_t i = 0; i < found; i++)
        if (t->nodes[t->best[i]].depth == depth)
            nodes[count++] = t->best[i];
    put_in_order(nodes, count);
    return count;
}

/* ---- the tree ---- */

/* Of each depth its widest; then what was looked up, as far as it goes. */
static uint32_t gather_levels(sli_draft_tree *t, uint16_t *nodes)
{
    bool kept[SLI_TREE_NODES] = {false};
    uint32_t count = 0, most = rows_of(t);
    for (uint32_t depth = 0; depth <= t->shape.depth; depth++) {
        uint32_t found = find_best(t, t->shape.width < most - count ? t->shape.width : most - count, false, depth);
        for (uint32_t i = 0; i < found; i++) {
            kept[t->best[i]] = true;
            nodes[count++] = t->best[i];
        }
    }
    for (uint32_t i = 1; i < t->count && count < most; i++)
        if (!t->nodes[i].by_model && !kept[i] && kept[t->nodes[i].parent]) {
            kept[i] = true;
            nodes[count++] = (uint16_t)i;
        }
    return count;
}

uint32_t sli_draft_tree_finish(sli_draft_tree *t, uint16_t *nodes, sl_token *tokens, int32_t *parents)
{
    uint32_t count;
    if (t->shape.width == 0) {
        count = find_best(t, rows_of(t), true, 0);
        memcpy(nodes, t->best, count * sizeof *nodes);
    } else {
        count = gather_levels(t, nodes);
    }
    put_in_order(nodes, count);
    for (uint32_t row = 0; row < count; row++) {
        const sli_draft_node *node = &t->nodes[nodes[row]];
        tokens[row] = node->token;
        parents[row] = -1;
        for (uint32_t i = 0; i < row; i++)
            if (nodes[i] == node->parent)
                parents[row] = (int32_t)i;
        assert(row == 0 || parents[row] >= 0);
    }
    return count;
}

/* offload/draft_tree.h: which tokens a tree of drafts has: the policy, apart from who evaluates.
 *
 *   constant width   the paper's (Sirius, arXiv 2409.03856): at each depth the W likeliest of the W x W tokens that follow those before
 *   best first       the R likeliest of all, whatever their depth: where the drafter is sure the tree is a chain, where it is not it is broad
 *
 * Likely is the product of the chances on a path. It falls along a path, so the R likeliest are a tree; and a token that is not among the R
 * likeliest so far never will be, so that drafting depth by depth, of those that still are, finds the same tree as one by one would.
 *
 * What followed when the text went like this before (lookup.h) is a chain among the others. Best first gives it the chance that such lookups
 * have; a constant width gives it the rows that are left.
 *
 * Pure. */
#ifndef SL_OFFLOAD_DRAFT_TREE_H
#define SL_OFFLOAD_DRAFT_TREE_H

#include "core/sampler.h"
#include "kernels/kernels.h"

#define SLI_TREE_CHOICES 16 /* tokens that follow one, at most */
#define SLI_TREE_NODES   (1 + SL_TREE_ROWS * (1 + SLI_TREE_CHOICES))

typedef struct sli_draft_node {
    sl_token token;
    int32_t parent; /* an earlier node; -1 for the first */
    int32_t row;    /* where the drafter evaluated it; -1: it did not */
    uint32_t depth;
    bool by_model; /* else it was looked up */
    double log_p;  /* of the path */
} sli_draft_node;

typedef struct sli_draft_shape {
    uint32_t width;   /* 0: best first */
    uint32_t depth;   /* of the deepest token */
    uint32_t rows;    /* of a check, at most: tokens and the one they follow */
    double log_least; /* what is less likely is left out */
} sli_draft_shape;

typedef struct sli_draft_tree {
    sli_draft_shape shape;
    uint32_t count;
    sli_draft_node nodes[SLI_TREE_NODES];
    uint16_t best[SL_TREE_ROWS]; /* nodes, the likeliest first */
} sli_draft_tree;

/* Begins with the token that all others follow. */
void sli_draft_tree_begin(sli_draft_tree *t, const sli_draft_shape *shape, sl_token token);
/* A chain that was looked up, before anything else is offered; `chance` is that of each of its tokens. */
void sli_draft_tree_look_up(sli_draft_tree *t, const sl_token *tokens, uint32_t count, double chance);
/* The nodes of a depth that are worth evaluating to see what follows, in order; returns how many, at most SL_TREE_ROWS. All that follows those
 * of the depth before was offered. */
uint32_t sli_draft_tree_level(sli_draft_tree *t, uint32_t depth, uint16_t *nodes);
/* What follows a node, the likeliest first, SLI_TREE_CHOICES at most. */
void sli_draft_tree_offer(sli_draft_tree *t, uint32_t node, const sl_choice *choices, uint32_t count);
/* The tree to be checked: its nodes in order, the first included; row i's parent is an earlier row. Returns how many, at most shape.rows. */
uint32_t sli_draft_tree_finish(sli_draft_tree *t, uint16_t *nodes, sl_token *tokens, int32_t *parents);

#endif

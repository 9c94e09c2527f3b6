/* offload/pass.h: a pass in hand, for those who run parts of one (executor.c, attention.c, embed.c, exit_pass.c). */
#ifndef SL_OFFLOAD_PASS_H
#define SL_OFFLOAD_PASS_H

#include "offload/engine.h"

typedef struct sli_pass {
    sl_session *session;
    sl_engine *engine;
    const sl_token *tokens;
    uint32_t rows, pos0;
    const sli_tree *tree; /* the rows are its last ones; NULL: they follow each other */
    uint32_t first;       /* of a tree's rows */
    bool sparse, sparq, resident_only;
    bool pages; /* of sparq: whole ones */
} sli_pass;

static inline float *sli_pass_buffer(const sli_pass *p, sl_buffer b)
{
    return p->engine->scratch.buffers[b];
}

/* Where a row stands in its text, and where its keys and values lie. */
static inline uint32_t sli_pass_position(const sli_pass *p, uint32_t row)
{
    return p->pos0 + (p->tree != NULL ? p->tree->depth[p->first + row] : row);
}
static inline uint32_t sli_pass_slot(const sli_pass *p, uint32_t row)
{
    return p->pos0 + p->first + row;
}

/* Rows of the embedding (and of learned positions) into the residual. */
SL_MUST_USE sl_status sli_pass_embed(const sli_pass *p, sl_error *err);
/* Stores the rows' keys and values, and attends: `queries` and `out` are [rows][heads * head_dim]. */
SL_MUST_USE sl_status sli_pass_attend(const sli_pass *p, uint32_t layer, const float *queries, float *out, uint32_t rows, sl_error *err);
/* All rows through one layer, from residual to residual. */
SL_MUST_USE sl_status sli_pass_layer(const sli_pass *p, uint32_t layer, sl_error *err);
/* Logits of the last rows; the residual is theirs then. */
SL_MUST_USE sl_status sli_pass_head(const sli_pass *p, uint32_t logits_rows, sl_error *err);
/* Rotary tables of the rows as they stand. */
void sli_pass_turn(const sli_pass *p);
/* Tells the pager that those units of [from, to) will be acquired that are neither resident nor about to be: homes below `covered` are filled before. */
SL_MUST_USE sl_status sli_pass_plan(sl_engine *engine, sli_planned what, bool head, sl_unit_id from, sl_unit_id to, sl_unit_id covered,
                                    sl_error *err);

#endif

/* offload/pass.h: a pass in hand, for those who run parts of one (executor.c, exit_pass.c). */
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

/* offload/session_tree.c: rows that branch, behind a session's position.
 *
 *      position           slots
 *      ........|t a b c d e|          all rows of the tree, one after the other; t at depth 0, the others as their parents say
 *      ........ t b e|                the path t b e is kept: its keys and values move together, in ascending order, and the position moves */
#include "offload/device_engine.h"
#include "offload/kv_spill.h"
#include "offload/sparq_pages.h"

_Static_assert(SL_TREE_ROWS_MAX == SL_TREE_ROWS, "what the library promises is what attention takes");

static sl_status check_tree(const sl_session *s, const sl_token_id *tokens, const int32_t *parents, size_t count, unsigned flags,
                            sl_error *err)
{
    const sl_engine *e = s->engine;
    SL_TRY(sli_session_check(s, tokens, count, flags, err));
    SL_TRY(sli_tree_check(&s->tree, parents, count, err));
    uint32_t most = (flags & SL_EVAL_DRAFT) != 0 ? sli_draft_rows(e) : e->price.batch;
    if (count > most)
        return sl_fail(err, SL_INVALID, "%zu rows of a tree at once; a pass has %u", count, most);
    if (s->tree.count + count > e->context - s->position)
        return sl_fail(err, SL_FULL, "the context is full: a tree of %zu rows does not fit behind position %u of %u (-c sets it)",
                       s->tree.count + count, s->position, e->context);
    return SL_OK;
}

sl_status sl_session_eval_tree(sl_session *s, const sl_token_id *tokens, const int32_t *parents, size_t count, unsigned flags,
                               const float **logits, sl_error *err)
{
    sl_engine *e = s->engine;
    if ((flags & SL_EVAL_GROW) == 0)
        s->tree.count = 0;
    SL_TRY(check_tree(s, tokens, parents, count, flags, err));
    uint32_t before = s->tree.count, rows = (uint32_t)count;
    bool wanted = (flags & SL_EVAL_LOGITS) != 0, all = e->options.all_logits || (flags & SL_EVAL_ALL_LOGITS) != 0;
    sli_pass_kind kind = {.logits_rows = !wanted ? 0
                                         : all   ? rows
                                                 : 1,
                          .sparse = (flags & SL_EVAL_SPARSE) != 0,
                          .sparq = (flags & SL_EVAL_SPARQ) != 0,
                          .plan_next = (flags & SL_EVAL_MORE) != 0,
                          .next_dense = (flags & SLI_EVAL_DENSE_NEXT) != 0,
                          .tree = true,
                          .resident_only = (flags & SL_EVAL_DRAFT) != 0};
    s->tree_dense = sli_pass_is_dense(&kind) && (before == 0 || s->tree_dense);
    sli_session_begin(s, flags);
    sli_tree_add(&s->tree, parents, rows);
    for (uint32_t i = 0; i < rows; i++)
        s->tree_tokens[before + i] = tokens[i];
    sl_status status = sli_session_pass(s, tokens, rows, kind, err);
    if (status != SL_OK)
        s->tree.count = before;
    else if (logits != NULL)
        *logits = e->scratch.buffers[SL_BUF_LOGITS];
    return status;
}

sl_status sl_session_keep_path(sl_session *s, const uint32_t *rows, size_t count, sl_error *err)
{
    if (!sli_tree_is_path(&s->tree, rows, count))
        return sl_fail(err, SL_INVALID,
                       "%zu rows to keep that are no path of the %u evaluated ones: it begins with row 0, and each is the parent "
                       "of the next",
                       count, s->tree.count);
    uint32_t moved = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        s->history[s->position + i] = s->tree_tokens[rows[i]];
        if (rows[i] == i) /* never before its own place: what is written over was copied, or is not kept */
            continue;
        if (s->engine->device != NULL) {
            sl_status status = sli_device_kv_copy(s->engine, s->position + rows[i], s->position + i, err);
            if (status != SL_OK) {
                s->tree.count = 0; /* some of its rows were written over */
                return status;
            }
        }
        sli_kv_copy(&s->kv, s->engine->model, s->engine->kernels, s->position + rows[i], s->position + i);
        moved = i < moved ? i : moved;
    }
    if (moved < count)
        sli_pages_index_anew(s, s->position + moved, s->position + (uint32_t)count);
    s->tree.count = 0; /* also where what follows fails: its rows were moved */
    if (moved < count)
        SL_TRY(sli_kv_settle(&s->kv, s->position + moved, s->position + (uint32_t)count, err));
    if (s->dense == s->position && s->tree_dense)
        s->dense += (uint32_t)count;
    s->position += (uint32_t)count;
    return SL_OK;
}

/* offload/sirius_tree.c: see sirius_tree.h. */
#include "offload/sirius_tree.h"
#include "core/mathx.h"
#include "core/os.h"
#include "offload/draft_tree.h"

#include <math.h>
#include <stdlib.h>

#define BEST_CHOICES 8 /* tokens that may follow one, best first: the ninth is hardly ever among the likeliest */

/* Chances of each token that was looked up, by the length of the match; see draft_length.c. */
static const double lookup_chance[SLI_LOOKUP_LONGEST + 1] = {0, 0.17, 0.43, 0.6, 0.85};

struct sli_sirius_tree {
    sli_draft_tree drafts;
    uint32_t rows;
    uint16_t nodes[SL_TREE_ROWS];
    sl_token tokens[SL_TREE_ROWS];
    int32_t parents[SL_TREE_ROWS];
    sl_token picks[SL_TREE_ROWS];
    bool taken[SL_TREE_ROWS];
};

uint64_t sli_sirius_tree_bytes(void)
{
    return sizeof(sli_sirius_tree);
}

sli_sirius_tree *sli_sirius_tree_open(void)
{
    return calloc(1, sizeof(sli_sirius_tree));
}

static uint32_t rows_asked(const sl_drafting *how)
{
    return how->tree == SL_TREE_BEST ? how->tree_rows : (uint32_t)how->tree * (uint32_t)how->tokens + 1;
}

sl_status sli_sirius_tree_check(const sl_engine *e, const sl_drafting *how, sl_error *err)
{
    if (how->tree != SL_TREE_BEST && (how->tree < 2 || how->tree > SLI_TREE_CHOICES))
        return sl_fail(err, SL_INVALID, "a tree of width %d; it may be 2 to %d, or best first (-1)", how->tree, SLI_TREE_CHOICES);
    if (how->accept == SL_ACCEPT_SAMPLE)
        return sl_fail(err, SL_INVALID, "rejection sampling judges one draft at a time: it takes chains, not trees");
    if (how->tokens < 1 || how->tokens >= SL_TREE_ROWS)
        return sl_fail(err, SL_INVALID, "a tree of depth %d; it is a number from 1 to %d", how->tokens, SL_TREE_ROWS - 1);
    uint32_t rows = rows_asked(how);
    if (rows < 2 || rows > SL_TREE_ROWS)
        return sl_fail(err, SL_INVALID, "a tree of %u rows; it may have 2 to %d", rows, SL_TREE_ROWS);
    if (rows > e->price.draft_max + 1)
        return sl_fail(err, SL_INVALID, "a tree of %u rows; the engine was opened for at most %u", rows, e->price.draft_max + 1);
    return SL_OK;
}

/* ---- drafting ---- */

typedef struct drafting {
    sli_sirius *s;
    uint32_t start;     /* the session's position, and the first token's */
    uint32_t evaluated; /* rows */
    uint32_t room;      /* for rows */
    unsigned flags;
} drafting;

/* The text up to a node: what the penalties see. */
static void lay_path(const drafting *d, uint32_t node)
{
    const sli_draft_tree *t = &d->s->tree->drafts;
    for (int32_t at = (int32_t)node; at >= 0; at = t->nodes[at].parent)
        d->s->session->history[d->start + t->nodes[at].depth] = t->nodes[at].token;
}

/* Evaluates some nodes of one depth in a pass, and takes what follows each of them. */
static sl_status evaluate(drafting *d, const uint16_t *nodes, uint32_t count, sl_error *err)
{
    const sl_engine *e = d->s->session->engine;
    sli_draft_tree *t = &d->s->tree->drafts;
    sl_token tokens[SL_TREE_ROWS];
    int32_t parents[SL_TREE_ROWS];
    for (uint32_t i = 0; i < count; i++) {
        const sli_draft_node *node = &t->nodes[nodes[i]];
        tokens[i] = node->token;
        parents[i] = node->parent < 0 ? -1 : t->nodes[node->parent].row;
    }
    unsigned last = t->nodes[nodes[0]].depth + 1 == t->shape.depth ? SLI_EVAL_DENSE_NEXT : 0u; /* the reads of the check begin */
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS | SL_EVAL_MORE | d->flags | last | (d->evaluated > 0 ? SL_EVAL_GROW : 0u);
    SL_TRY(sl_session_eval_tree(d->s->session, tokens, parents, count, flags, NULL, err));
    for (uint32_t i = 0; i < count; i++) {
        sl_choice choices[SLI_TREE_CHOICES];
        float *logits = e->scratch.buffers[SL_BUF_LOGITS] + (size_t)i * e->model->vocab;
        uint32_t depth = t->nodes[nodes[i]].depth, most = t->shape.width == 0 ? BEST_CHOICES : t->shape.width;
        t->nodes[nodes[i]].row = (int32_t)d->evaluated++;
        lay_path(d, nodes[i]);
        uint32_t n = sli_choose(d->s->picker, logits, d->s->session->history, d->start + depth + 1, most, choices);
        sli_draft_tree_offer(t, nodes[i], choices, n);
    }
    return SL_OK;
}

/* Those that nothing can follow, or that there is no room for, are left out. Returns how many are left. */
static uint32_t keep_open(const drafting *d, uint16_t *nodes, uint32_t count)
{
    const sli_sirius *s = d->s;
    uint32_t n = 0;
    for (uint32_t i = 0; i < count && n < d->room - d->evaluated; i++) {
        const sli_draft_node *node = &s->tree->drafts.nodes[nodes[i]];
        bool begun = node->parent < 0 || s->tree->drafts.nodes[node->parent].row >= 0;
        if (begun && (node->parent < 0 || !sl_tokenizer_ends_generation(s->session->engine->tokenizer, node->token)))
            nodes[n++] = nodes[i];
    }
    return n;
}

static sl_status draft_levels(drafting *d, sli_drafter *model, sl_error *err)
{
    const sl_engine *e = d->s->session->engine;
    sli_draft_tree *t = &d->s->tree->drafts;
    uint32_t fits = e->price.batch < e->price.draft_max + 1 ? e->price.batch : e->price.draft_max + 1;
    uint32_t drafts = sli_draft_rows(e), at_once = (model->eval_flags & SL_EVAL_DRAFT) != 0 && drafts < fits ? drafts : fits;
    d->flags = model->eval_flags;
    for (uint32_t depth = 0; depth < t->shape.depth; depth++) {
        uint16_t nodes[SL_TREE_ROWS];
        uint32_t count = keep_open(d, nodes, sli_draft_tree_level(t, depth, nodes));
        if (count == 0)
            return SL_OK;
        for (uint32_t done = 0, rows; done < count; done += rows) {
            rows = count - done < at_once ? count - done : at_once;
            SL_TRY(evaluate(d, nodes + done, rows, err));
        }
    }
    return SL_OK;
}

/* What was looked up comes first: it is then a token like any other when the model drafts it, too. */
static sl_status look_up(const drafting *d, sli_drafter *lookup, sl_error *err)
{
    sli_draft_text text = {.session = d->s->session, .picker = d->s->picker};
    uint32_t count = 0, most = d->s->tree->drafts.shape.depth;
    if (lookup->offer(lookup, &text) == SLI_SOURCE_NONE)
        return SL_OK;
    SL_TRY(lookup->propose(lookup, &text, most, d->s->draft, &count, err));
    sli_draft_tree_look_up(&d->s->tree->drafts, d->s->draft, count, lookup_chance[lookup->match.length]);
    return SL_OK;
}

static sl_status draft(sli_sirius *s, sl_token token, uint32_t depth, sl_error *err)
{
    sli_sirius_tree *tree = s->tree;
    uint32_t start = s->session->position, room = s->session->engine->context - start, rows = rows_asked(s->how);
    if (s->how->tree != SL_TREE_BEST && s->drafter_count > 1)
        rows = s->session->engine->price.draft_max + 1; /* a lookup has what the engine gives beyond the tree */
    sli_draft_shape shape = {.width = s->how->tree == SL_TREE_BEST ? 0 : (uint32_t)s->how->tree,
                             .depth = depth,
                             .rows = rows < room ? rows : room,
                             .log_least = s->how->least_chance > 0 ? sl_log((double)s->how->least_chance) : -INFINITY};
    sli_draft_tree_begin(&tree->drafts, &shape, token);
    drafting d = {.s = s, .start = start, .room = room < SL_TREE_ROWS ? room : SL_TREE_ROWS};
    for (uint32_t i = 0; depth > 0 && i < s->drafter_count; i++)
        SL_TRY(s->drafters[i].eval_flags == 0 ? look_up(&d, &s->drafters[i], err) : draft_levels(&d, &s->drafters[i], err));
    tree->rows = sli_draft_tree_finish(&tree->drafts, tree->nodes, tree->tokens, tree->parents);
    return SL_OK;
}

/* ---- checking ---- */

static sl_status check(sli_sirius *s, bool more, double *seconds, sl_error *err)
{
    sli_sirius_tree *tree = s->tree;
    const sl_engine *e = s->session->engine;
    sli_io before = sli_engine_io(e);
    uint64_t start = sl_now_ns();
    unsigned flags = SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS | (more ? SL_EVAL_MORE : 0u) | (tree->rows > 1 ? SLI_EVAL_FADE : 0u);
    unsigned depth = sl_trace_begin(e->trace, SL_TRACE_CHECK, SL_TRACE_NONE, tree->rows);
    sl_status status = sl_session_eval_tree(s->session, tree->tokens, tree->parents, tree->rows, flags, NULL, err);
    sl_trace_end(e->trace, depth);
    SL_TRY(status);
    *seconds = (double)(sl_now_ns() - start) * 1e-9;
    sli_io after = sli_engine_io(e);
    s->stats->bytes_read += after.bytes_read - before.bytes_read;
    s->stats->wait_s += (double)(after.wait_ns - before.wait_ns) * 1e-9;
    return SL_OK;
}

/* What dense decoding picks behind a row, and whether the rows that follow it may stay. */
static void judge_row(sli_sirius *s, uint32_t row)
{
    sli_sirius_tree *tree = s->tree;
    sl_session *session = s->session;
    const sli_tree *rows = &session->tree;
    uint32_t vocab = session->engine->model->vocab, depth = rows->depth[row];
    float *logits = session->engine->scratch.buffers[SL_BUF_LOGITS] + (size_t)row * vocab;
    for (uint32_t i = 0; i <= depth; i++)
        session->history[session->position + i] = tree->tokens[rows->path[row][i]];
    tree->picks[row] = sli_pick(s->picker, logits, session->history, session->position + depth + 1);
    for (uint32_t next = row + 1; next < tree->rows; next++)
        if (tree->parents[next] == (int32_t)row)
            tree->taken[next] = sli_accepts(s->how, logits, vocab, tree->tokens[next], tree->picks[row]);
}

/* The last row of the longest path that dense decoding takes. Of several the likeliest, then the first. */
static uint32_t longest_path(sli_sirius *s)
{
    sli_sirius_tree *tree = s->tree;
    const uint8_t *depth = s->session->tree.depth;
    uint32_t best = 0;
    for (uint32_t row = 0; row < tree->rows; row++)
        tree->taken[row] = row == 0;
    for (uint32_t row = 0; row < tree->rows; row++) {
        if (!tree->taken[row])
            continue;
        judge_row(s, row);
        double gain = tree->drafts.nodes[tree->nodes[row]].log_p - tree->drafts.nodes[tree->nodes[best]].log_p;
        if (depth[row] > depth[best] || (depth[row] == depth[best] && gain > 0))
            best = row;
    }
    return best;
}

/* Keeps the longest path; its tokens and the pick behind them are the step's. Returns how many. */
static sl_status keep(sli_sirius *s, uint32_t *count, sl_error *err)
{
    sli_sirius_tree *tree = s->tree;
    uint32_t last = longest_path(s), depth = s->session->tree.depth[last], path[SL_TREE_ROWS];
    for (uint32_t i = 0; i <= depth; i++)
        path[i] = s->session->tree.path[last][i];
    for (uint32_t i = 0; i < depth; i++)
        s->given[i] = tree->tokens[path[i + 1]];
    s->given[depth] = tree->picks[last];
    *count = depth + 1;
    return sl_session_keep_path(s->session, path, depth + 1, err);
}

static void keep_account(sli_sirius *s, uint32_t given, double draft_s, double check_s)
{
    const sli_sirius_tree *tree = s->tree;
    sl_draft_stats *stats = s->stats;
    stats->checks++;
    stats->undrafted += tree->rows == 1;
    stats->drafted += tree->rows - 1;
    stats->accepted += given - 1;
    for (uint32_t row = 1; row < tree->rows; row++)
        stats->drafted_by_lookup += !tree->drafts.nodes[tree->nodes[row]].by_model;
    for (uint32_t i = 0; i + 1 < given; i++)
        stats->accepted_by_depth[i]++;
    stats->draft_s += draft_s;
    stats->check_s += check_s;
}

sl_status sli_sirius_tree_step(sli_sirius *s, sl_token token, uint32_t most, uint32_t *count, sl_error *err)
{
    sl_session *session = s->session;
    uint32_t room = session->engine->context - session->position, limit = most < room ? most : room;
    double check_s;
    *count = 0;
    session->history[session->position] = token; /* it is part of the text that drafters see */
    uint64_t start = sl_now_ns();
    unsigned depth = sl_trace_begin(session->engine->trace, SL_TRACE_DRAFT, SL_TRACE_NONE, 0);
    sl_status status = draft(s, token, limit - 1 < s->most ? limit - 1 : s->most, err);
    sl_trace_end(session->engine->trace, depth);
    SL_TRY(status);
    double draft_s = (double)(sl_now_ns() - start) * 1e-9;
    SL_TRY(check(s, most > 1, &check_s, err));
    SL_TRY(keep(s, count, err));
    keep_account(s, *count, draft_s, check_s);
    return SL_OK;
}

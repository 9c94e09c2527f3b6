/* offload/exit_pass.c: a pass of one token that may leave the layers, and of those that wait for the next one to go deeper; see early_exit.h.
 *
 * What the session holds of those who wait changes only when a pass has succeeded: a failed one leaves them where they stood, and what it wrote of their
 * keys and values is written again. */
#include "core/os.h"
#include "offload/early_exit.h"
#include "offload/matmul.h"

#include <string.h>

/* ---- those who wait ---- */

uint32_t sli_exit_waiting(sl_session *s)
{
    sli_waiting *w = &s->waiting;
    if (s->position <= w->first)
        w->count = 0;
    else if (w->count > s->position - w->first)
        w->count = s->position - w->first;
    return w->count;
}

/* Rows that stopped before this layer go on with those that are on their way; they stand before them in the text. */
static void join(sli_pass *p, uint32_t layer, uint32_t *still_waiting)
{
    const sli_waiting *w = &p->session->waiting;
    uint32_t d = p->engine->model->d, before = *still_waiting;
    while (*still_waiting > 0 && w->layer[*still_waiting - 1] <= layer)
        --*still_waiting;
    uint32_t joining = before - *still_waiting;
    if (joining == 0)
        return;
    float *residual = sli_pass_buffer(p, SL_BUF_RESIDUAL);
    memmove(residual + (size_t)joining * d, residual, (size_t)p->rows * d * sizeof *residual);
    memcpy(residual, p->engine->early->waiting + (size_t)*still_waiting * d, (size_t)joining * d * sizeof *residual);
    p->rows += joining;
    p->pos0 -= joining;
    sli_pass_turn(p);
}

/* All rows on their way wait from now on, to go on with `layer`. */
static void stand_by(const sli_pass *p, uint32_t layer, uint32_t still_waiting)
{
    sli_waiting *w = &p->session->waiting;
    uint32_t d = p->engine->model->d;
    if (still_waiting == 0)
        w->first = p->pos0;
    memcpy(p->engine->early->waiting + (size_t)still_waiting * d, sli_pass_buffer(p, SL_BUF_RESIDUAL), (size_t)p->rows * d * sizeof(float));
    for (uint32_t i = 0; i < p->rows; i++)
        w->layer[still_waiting + i] = layer;
    w->count = still_waiting + p->rows;
}

/* ---- probing ---- */

typedef struct look_job {
    const sl_engine *engine;
    uint32_t type;
    const sl_acts *acts;
} look_job;

#define SHARE_ROWS 16

static void look_share(void *arg, unsigned index, unsigned count)
{
    const look_job *j = arg;
    const struct sli_early_exit *x = j->engine->early;
    uint32_t blocks = (x->exits.shortlist_count + SHARE_ROWS - 1) / SHARE_ROWS;
    uint32_t first = (uint32_t)((uint64_t)blocks * index / count) * SHARE_ROWS;
    uint32_t end = (uint32_t)((uint64_t)blocks * (index + 1) / count) * SHARE_ROWS;
    end = end < x->exits.shortlist_count ? end : x->exits.shortlist_count;
    if (first < end)
        j->engine->kernels->dot_rows(j->type, x->row_at + first, end - first, j->acts, x->logits + first);
}

/* The last row's logits of the shortlist. */
static sli_exit_look look_at_shortlist(const sli_pass *p)
{
    sl_engine *e = p->engine;
    const sl_model *m = e->model;
    const float *norm = e->vector_at[(size_t)m->layers * e->units.layer_ops * 2];
    float *normed = sli_pass_buffer(p, SL_BUF_NORMED);
    uint32_t type = sl_model_tensor(m, SL_ROLE_OUTPUT, 0)->type;
    sl_acts acts;
    e->kernels->rms_norm(sli_pass_buffer(p, SL_BUF_RESIDUAL) + (size_t)(p->rows - 1) * m->d, norm, m->d, m->norm_eps, normed);
    sli_prepare_source(e, normed, 1, m->d, sl_format_of(type)->quantized, &acts);
    sl_threads_run(e->threads, look_share, &(look_job){e, type, &acts});
    return sli_exit_look_at(e->early->logits, e->early->exits.shortlist_count);
}

static void swap_rows(float *a, float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n && a != b; i++) {
        float other = a[i];
        a[i] = b[i];
        b[i] = other;
    }
}

/* Of the whole vocabulary: the head works on the rows in front, so the last one stands there meanwhile. */
static sl_status look_at_all(const sli_pass *p, sli_exit_look *out, sl_error *err)
{
    uint32_t d = p->engine->model->d;
    float *residual = sli_pass_buffer(p, SL_BUF_RESIDUAL), *last = residual + (size_t)(p->rows - 1) * d;
    sli_pass single = *p;
    single.rows = 1;
    swap_rows(residual, last, d);
    sl_status status = sli_pass_head(&single, 1, err);
    swap_rows(residual, last, d);
    *out = sli_exit_look_at(sli_pass_buffer(p, SL_BUF_LOGITS), p->engine->model->vocab);
    return status;
}

static sl_status probe(const sli_pass *p, sli_exit_walk *walk, bool *settled, sl_error *err)
{
    struct sli_early_exit *x = p->engine->early;
    uint64_t start = sl_now_ns();
    sli_exit_look look;
    if (x->exits.shortlist_count > 0)
        look = look_at_shortlist(p);
    else
        SL_TRY(look_at_all(p, &look, err));
    *settled = sli_exit_score(&x->exits, x->kind, &look, walk) >= (double)x->point.threshold;
    x->stats.probes++;
    x->stats.probe_s += (double)(sl_now_ns() - start) * 1e-9;
    return SL_OK;
}

/* ---- plans ---- */

static sl_unit_id after_layer(const sl_engine *e, uint32_t layer)
{
    return e->early->layer_begin[layer + 1];
}

static sl_status plan_layers(const sli_pass *p, uint32_t first, uint32_t last, sl_error *err)
{
    sl_engine *e = p->engine;
    return sli_pass_plan(e, SLI_PLANNED_ALL, false, e->early->layer_begin[first], after_layer(e, last), 0, err);
}

static sl_status plan_head(const sli_pass *p, sl_error *err)
{
    sl_engine *e = p->engine;
    return sli_pass_plan(e, SLI_PLANNED_ALL, true, e->units.body_count, e->units.count, 0, err);
}

sl_status sli_exit_plan_next(sl_session *s, sl_error *err)
{
    sl_engine *e = s->engine;
    sl_unit_id end = after_layer(e, (uint32_t)e->early->exits.probes[0]);
    SL_TRY(sli_pass_plan(e, SLI_PLANNED_ALL, false, 0, end, end, err));
    s->next_planned = SLI_PLANNED_EARLY;
    return SL_OK;
}

sl_status sli_exit_plan(const sli_pass *p, sl_error *err)
{
    sl_session *s = p->session;
    if (s->next_planned != SLI_PLANNED_NOTHING && s->next_planned != SLI_PLANNED_EARLY) {
        sl_pager_cancel(p->engine->pager);
        s->next_planned = SLI_PLANNED_NOTHING;
    }
    if (s->next_planned == SLI_PLANNED_NOTHING)
        SL_TRY(plan_layers(p, 0, (uint32_t)p->engine->early->exits.probes[0], err));
    s->next_planned = SLI_PLANNED_NOTHING;
    return SL_OK;
}

/* Until all that stays has come, a plan for the next pass would name what this one is about to fill. */
static bool all_homes_are_filled(const sl_engine *e)
{
    for (uint32_t u = 0; u < e->units.count; u++)
        if (e->units.units[u].home && sl_pager_resident(e->pager, u) == NULL)
            return false;
    return true;
}

static sl_status plan_following(const sli_pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sl_engine *e = p->engine;
    if (!kind->plan_next || (kind->next_dense && !all_homes_are_filled(e)))
        return SL_OK;
    if (!kind->next_dense)
        return sli_exit_plan_next(p->session, err);
    SL_TRY(sli_pass_plan(e, SLI_PLANNED_ALL, true, 0, e->units.count, 0, err));
    p->session->next_planned = SLI_PLANNED_ALL;
    return SL_OK;
}

/* ---- the pass ---- */

/* What a pass through these layers reads. */
static uint64_t streamed_from(const sl_engine *e, uint32_t layer)
{
    uint64_t bytes = 0;
    for (sl_unit_id u = e->early->layer_begin[layer]; u < e->units.body_count; u++)
        bytes += e->units.units[u].home ? 0 : e->units.units[u].bytes;
    return bytes;
}

static sl_status run_layer(sli_pass *p, uint32_t layer, uint32_t *still_waiting, sl_error *err)
{
    join(p, layer, still_waiting);
    return p->rows > 0 ? sli_pass_layer(p, layer, err) : SL_OK;
}

/* The answer is settled behind `layer`. */
static sl_status leave(sli_pass *p, const sli_pass_kind *kind, uint32_t layer, uint32_t still_waiting, sl_error *err)
{
    struct sli_early_exit *x = p->engine->early;
    bool head = kind->logits_rows > 0;
    if (head && x->exits.shortlist_count > 0)
        SL_TRY(plan_head(p, err));
    SL_TRY(plan_following(p, kind, err));
    uint32_t rows = p->rows;
    stand_by(p, layer + 1, still_waiting);
    if (head && x->exits.shortlist_count > 0) {
        sl_status status = sli_pass_head(p, 1, err);
        if (status != SL_OK) { /* as if the token had not come; those before it stand where they are now, and that is as good */
            p->session->waiting.count = still_waiting + rows - 1;
            return status;
        }
    }
    x->stats.exits++;
    x->stats.layers += layer + 1;
    x->stats.bytes_left_out += kind->exit == SLI_EXIT_MAY ? streamed_from(p->engine, layer + 1) : 0;
    return SL_OK;
}

/* Plans what lies between this probe and the next one, or all the rest. */
static sl_status go_on(const sli_pass *p, const sli_pass_kind *kind, uint32_t probe_index, uint32_t layer, sl_error *err)
{
    const sli_exits *x = &p->engine->early->exits;
    if (probe_index + 1 < x->probe_count)
        return plan_layers(p, layer + 1, (uint32_t)x->probes[probe_index + 1], err);
    SL_TRY(plan_layers(p, layer + 1, x->layers - 1, err));
    if (kind->logits_rows > 0)
        SL_TRY(plan_head(p, err));
    return plan_following(p, kind, err);
}

static sl_status give_up(const sli_pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sli_pass_kind check = *kind;
    check.next_dense = true; /* what follows is the check of what was drafted before it */
    p->session->settled = false;
    p->engine->early->stats.given_up++;
    return plan_following(p, &check, err);
}

sl_status sli_exit_run(sli_pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sl_engine *e = p->engine;
    const sli_exits *x = &e->early->exits;
    uint32_t still_waiting = p->session->waiting.count;
    bool may = still_waiting < SLI_EXIT_WAITING;
    sli_exit_walk walk = {0};
    uint32_t at = 0; /* the next probe */
    e->early->stats.tokens++;
    p->session->settled = true;
    if (!may && kind->exit == SLI_EXIT_ONLY)
        return give_up(p, kind, err);
    for (uint32_t layer = 0; layer < x->layers; layer++) {
        SL_TRY(run_layer(p, layer, &still_waiting, err));
        if (at == x->probe_count || (uint32_t)x->probes[at] != layer)
            continue;
        bool settled = false;
        if (may)
            SL_TRY(probe(p, &walk, &settled, err));
        if (settled)
            return leave(p, kind, layer, still_waiting, err);
        if (at + 1 == x->probe_count && kind->exit == SLI_EXIT_ONLY)
            return give_up(p, kind, err);
        SL_TRY(go_on(p, kind, at++, layer, err));
    }
    if (kind->logits_rows > 0)
        SL_TRY(sli_pass_head(p, 1, err));
    p->session->waiting.count = 0;
    e->early->stats.layers += x->layers;
    return SL_OK;
}

sl_status sli_exit_catch_up(sl_session *s, sl_error *err)
{
    sl_engine *e = s->engine;
    uint32_t still_waiting = s->waiting.count, first = s->waiting.layer[still_waiting - 1];
    sli_pass p = {.session = s, .engine = e, .pos0 = s->waiting.first + still_waiting};
    sl_pager_cancel(e->pager);
    s->next_planned = SLI_PLANNED_NOTHING;
    sl_status status = plan_layers(&p, first, e->model->layers - 1, err);
    for (uint32_t layer = first; layer < e->model->layers && status == SL_OK; layer++)
        status = run_layer(&p, layer, &still_waiting, err);
    if (status != SL_OK) {
        sl_pager_cancel(e->pager);
        return status;
    }
    s->waiting.count = 0;
    e->passes++;
    e->early->stats.catch_ups++;
    e->early->stats.bytes_made_up += streamed_from(e, first);
    return SL_OK;
}

/* offload/exit_pass.c: a pass of one token that may leave the layers, and of those that wait for the next one to go deeper; see early_exit.h.
 *
 * What the session holds of those who wait changes only when a pass has succeeded: a failed one leaves them where they stood, and what it wrote of their
 * keys and values is written again. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/early_exit.h"

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

static const sli_exit_parts *parts_of(const sl_engine *e)
{
    return e->device != NULL ? sli_exit_on_device() : sli_exit_on_processor();
}

/* Rows that stopped before this layer go on with those that are on their way; they stand before them in the text. */
static void join(sli_pass *p, uint32_t layer, uint32_t *still_waiting)
{
    const sli_waiting *w = &p->session->waiting;
    uint32_t before = *still_waiting;
    while (*still_waiting > 0 && w->layer[*still_waiting - 1] <= layer)
        --*still_waiting;
    uint32_t joining = before - *still_waiting;
    if (joining == 0)
        return;
    p->rows += joining;
    p->pos0 -= joining;
    parts_of(p->engine)->joined(p, joining, *still_waiting);
}

/* All rows on their way wait from now on, to go on with `layer`. */
static sl_status stand_by(const sli_pass *p, uint32_t layer, uint32_t still_waiting, sl_error *err)
{
    sli_waiting *w = &p->session->waiting;
    SL_TRY(parts_of(p->engine)->keep(p, still_waiting, err));
    if (still_waiting == 0)
        w->first = p->pos0;
    for (uint32_t i = 0; i < p->rows; i++)
        w->layer[still_waiting + i] = layer;
    w->count = still_waiting + p->rows;
    return SL_OK;
}

static sl_status probe(const sli_pass *p, sli_exit_walk *walk, bool *settled, sl_error *err)
{
    struct sli_early_exit *x = p->engine->early;
    sli_exit_look look;
    double seconds;
    SL_TRY(parts_of(p->engine)->look(p, &look, &seconds, err));
    uint64_t start = sl_now_ns();
    *settled = sli_exit_score(&x->exits, x->kind, &look, walk) >= (double)x->point.threshold;
    x->stats.probes++;
    x->stats.probe_s += seconds + (double)(sl_now_ns() - start) * 1e-9;
    return SL_OK;
}

/* ---- plans ---- */

static sl_unit_id after_layer(const sl_engine *e, uint32_t layer)
{
    return e->early->layer_begin[layer + 1];
}

/* What comes next: layers, the head, or both. Nothing behind it is read, or begins to cross. */
static sl_status plan_units(const sli_pass *p, sl_unit_id from, sl_unit_id to, sl_error *err)
{
    sl_engine *e = p->engine;
    SL_TRY(sli_pass_plan(e, SLI_PLANNED_ALL, to > e->units.body_count, from, to, 0, err));
    parts_of(e)->list(p, from, to);
    return SL_OK;
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
    sl_unit_id end = after_layer(p->engine, (uint32_t)p->engine->early->exits.probes[0]);
    sli_planned planned = s->next_planned;
    s->next_planned = SLI_PLANNED_NOTHING;
    if (planned == SLI_PLANNED_EARLY) {
        parts_of(p->engine)->list(p, 0, end);
        return SL_OK;
    }
    if (planned != SLI_PLANNED_NOTHING)
        sl_pager_cancel(p->engine->pager);
    return plan_units(p, 0, end, err);
}

/* Until all that stays has come, a plan for the next pass would name what this one is about to fill. */
static bool all_that_stays_has_come(const sl_engine *e)
{
    for (uint32_t u = 0; u < e->units.count; u++)
        if ((e->units.units[u].home || e->units.in_vram[u]) && sl_pager_resident(e->pager, u) == NULL &&
            (e->device == NULL || !e->device->loaded[u]))
            return false;
    return true;
}

static sl_status plan_following(const sli_pass *p, const sli_pass_kind *kind, sl_error *err)
{
    sl_engine *e = p->engine;
    if (!kind->plan_next || (kind->next_dense && !all_that_stays_has_come(e)))
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
        bytes += e->units.units[u].home || e->units.in_vram[u] ? 0 : e->units.units[u].bytes;
    return bytes;
}

static uint64_t crossing_from(const sl_engine *e, uint32_t layer)
{
    return parts_of(e)->crossing_bytes(e, e->early->layer_begin[layer], e->units.body_count);
}

static sl_status run_layer(sli_pass *p, uint32_t layer, uint32_t *still_waiting, sl_error *err)
{
    join(p, layer, still_waiting);
    return parts_of(p->engine)->layer(p, layer, err);
}

/* The answer is settled behind `layer`. */
static sl_status leave(sli_pass *p, const sli_pass_kind *kind, uint32_t layer, uint32_t still_waiting, sl_error *err)
{
    sl_engine *e = p->engine;
    struct sli_early_exit *x = e->early;
    bool head = kind->logits_rows > 0 && x->exits.shortlist_count > 0, counts = kind->exit == SLI_EXIT_MAY;
    uint64_t link_bytes = counts ? crossing_from(e, layer + 1) : 0;
    if (head)
        SL_TRY(plan_units(p, e->units.body_count, e->units.count, err));
    SL_TRY(plan_following(p, kind, err));
    SL_TRY(stand_by(p, layer + 1, still_waiting, err));
    if (head) {
        sl_status status = parts_of(e)->head(p, err);
        if (status != SL_OK) { /* as if the token had not come; those before it stand where they are now, and that is as good */
            p->session->waiting.count--;
            return status;
        }
    }
    x->stats.exits++;
    x->stats.layers += layer + 1;
    x->stats.bytes_left_out += counts ? streamed_from(e, layer + 1) : 0;
    x->stats.link_bytes_left_out += link_bytes;
    return SL_OK;
}

/* Plans what lies between this probe and the next one, or all the rest. */
static sl_status go_on(const sli_pass *p, const sli_pass_kind *kind, uint32_t probe_index, uint32_t layer, sl_error *err)
{
    const sl_engine *e = p->engine;
    const sli_exits *x = &e->early->exits;
    sl_unit_id from = e->early->layer_begin[layer + 1];
    if (probe_index + 1 < x->probe_count)
        return plan_units(p, from, after_layer(e, (uint32_t)x->probes[probe_index + 1]), err);
    SL_TRY(plan_units(p, from, kind->logits_rows > 0 ? e->units.count : e->units.body_count, err));
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

/* From the first layer on: what it wants is planned. */
static sl_status run(sli_pass *p, const sli_pass_kind *kind, sl_error *err)
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
    SL_TRY(parts_of(e)->begin(p, still_waiting, err));
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
        SL_TRY(parts_of(e)->head(p, err));
    p->session->waiting.count = 0;
    e->early->stats.layers += x->layers;
    return SL_OK;
}

static sl_status catch_up(sl_session *s, sl_error *err)
{
    sl_engine *e = s->engine;
    uint32_t still_waiting = s->waiting.count, first = s->waiting.layer[still_waiting - 1];
    sli_pass p = {.session = s, .engine = e, .pos0 = s->waiting.first + still_waiting};
    SL_TRY(plan_units(&p, e->early->layer_begin[first], e->units.body_count, err));
    uint64_t link_bytes = crossing_from(e, first);
    SL_TRY(parts_of(e)->begin(&p, still_waiting, err));
    for (uint32_t layer = first; layer < e->model->layers; layer++)
        SL_TRY(run_layer(&p, layer, &still_waiting, err));
    s->waiting.count = 0;
    e->early->stats.catch_ups++;
    e->early->stats.bytes_made_up += streamed_from(e, first);
    e->early->stats.link_bytes_made_up += link_bytes;
    return SL_OK;
}

/* ---- passes that a device may have to begin anew ---- */

typedef struct attempt {
    sli_pass *pass;
    const sli_pass_kind *kind;
    sli_pass at_first;
    sl_early_exit_stats stats;
    uint32_t tries;
} attempt;

static sl_status try_run(void *ctx, sl_error *err)
{
    attempt *a = ctx;
    sli_pass *p = a->pass;
    *p = a->at_first;
    p->engine->early->stats = a->stats;
    if (a->tries++ == 0)
        return run(p, a->kind, err);
    sl_pager_cancel(p->engine->pager);
    p->session->next_planned = SLI_PLANNED_NOTHING;
    SL_TRY(sli_exit_plan(p, err));
    return run(p, a->kind, err);
}

sl_status sli_exit_run(sli_pass *p, const sli_pass_kind *kind, sl_error *err)
{
    attempt a = {.pass = p, .kind = kind, .at_first = *p, .stats = p->engine->early->stats};
    return p->engine->device != NULL ? sli_device_try(p->engine, try_run, &a, true, err) : try_run(&a, err);
}

static sl_status try_catch_up(void *ctx, sl_error *err)
{
    sl_session *s = ctx;
    sl_pager_cancel(s->engine->pager);
    s->next_planned = SLI_PLANNED_NOTHING;
    return catch_up(s, err);
}

sl_status sli_exit_catch_up(sl_session *s, sl_error *err)
{
    sl_engine *e = s->engine;
    sl_status status = e->device != NULL ? sli_device_try(e, try_catch_up, s, true, err) : try_catch_up(s, err);
    if (status != SL_OK)
        sl_pager_cancel(e->pager);
    else
        e->passes++;
    return status;
}

/* pager/replay_run.c: the recorded calls, made again on a pager of the recorded shape; its tiers answer as theirs did. Nothing is read: weights
 * have addresses, and no one looks there. */
#include "pager/bundles_private.h"
#include "pager/pager_private.h"
#include "pager/replay.h"

#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES_MAX ((uint64_t)256 << 20) /* of one call */

/* ---- a tier that answers as recorded ---- */

typedef struct answering {
    sl_tier base;
    sl_record_cursor answers;
    sl_record_event next; /* valid while `pending` */
    uint32_t whose;
    bool pending, lost; /* lost: asked for what was not recorded; all reads fail from then on, so that nobody waits */
    uint64_t *tags;     /* in flight, depth of them */
    uint32_t in_flight;
} answering;

static sl_status submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    answering *t = (answering *)tier;
    (void)err;
    if (t->in_flight == t->base.attrs.depth)
        return SL_PENDING;
    t->tags[t->in_flight++] = read->tag;
    return SL_OK;
}

static void find_answer(answering *t)
{
    while (!t->pending && sl_record_next(&t->answers, &t->next))
        t->pending = t->next.op == SL_RECORD_REAP && t->next.number == t->whose;
}

static bool take_tag(answering *t, uint64_t tag)
{
    for (uint32_t i = 0; i < t->in_flight; i++)
        if (t->tags[i] == tag) {
            t->tags[i] = t->tags[--t->in_flight];
            return true;
        }
    return false;
}

static size_t fail_all(answering *t, sl_read_done *done, size_t max)
{
    size_t n = 0;
    t->lost = true;
    for (; n < max && t->in_flight > 0; n++)
        done[n] = (sl_read_done){.tag = t->tags[--t->in_flight], .status = SL_IO};
    return n;
}

static size_t reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    answering *t = (answering *)tier;
    if (max == 0)
        return 0;
    find_answer(t);
    if (t->pending && t->next.empty > 0 && !wait && !t->lost) {
        t->next.empty--;
        return 0;
    }
    if (!t->pending && !wait && !t->lost)
        return 0; /* behind the last answer */
    if (!t->pending || t->lost || t->next.empty > 0 || t->next.count > max)
        return fail_all(t, done, max);
    t->pending = false;
    for (uint32_t i = 0; i < t->next.count; i++) {
        uint64_t coded = t->next.wide[i], tag = coded >> 2 | ((coded & 2) != 0 ? SLI_SMALL_TAG : 0);
        done[i] = (sl_read_done){.tag = tag, .status = (coded & 1) != 0 ? SL_IO : SL_OK};
        if (!take_tag(t, tag)) {
            if (i == 0)
                return fail_all(t, done, max);
            t->lost = true;
            return i;
        }
        if ((coded & 1) != 0)
            (void)sl_fail(err, SL_IO, "a read that failed in the run");
    }
    return t->next.count;
}

static void destroy(sl_tier *tier)
{
    answering *t = (answering *)tier;
    sl_record_end(&t->answers);
    free(t->tags);
    free(t);
}

static const sl_tier_ops answering_ops = {.submit = submit, .reap = reap, .destroy = destroy};

static sl_status open_answers(const sl_record_file *file, uint32_t whose, answering **out, sl_error *err)
{
    answering *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a tier");
    uint64_t depth = whose == 0 ? file->head.depth : file->head.bundle_depth;
    t->base = (sl_tier){.ops = &answering_ops,
                        .attrs = {.engine = "record",
                                  .alignment = (uint32_t)(whose == 0 ? file->head.alignment : file->head.bundle_alignment),
                                  .depth = (uint32_t)depth}};
    t->whose = whose;
    t->tags = malloc(depth * sizeof *t->tags);
    sl_status status = t->tags == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for a queue of %llu reads", (unsigned long long)depth)
                                       : sl_record_begin(file, &t->answers, err);
    if (status != SL_OK) {
        destroy(&t->base);
        return status;
    }
    *out = t;
    return SL_OK;
}

/* ---- the calls ---- */

typedef struct again {
    const sl_record_file *file;
    sl_pager *pager;
    sl_bundles *bundles;
    answering *tiers[2];
    const uint8_t **addresses;
    uint32_t *places;
    uint8_t *small;
} again;

static bool call_pager(again *a, const sl_record_event *e)
{
    sl_pager *p = a->pager;
    const sli_unit *u = &p->units.unit[e->number < p->units.count ? e->number : 0];
    sl_error ignored; /* what failed in the run fails again */
    sl_view view;
    switch (e->op) {
    case SL_RECORD_PLAN: (void)!sl_pager_plan(p, e->list, e->count, &ignored); return true;
    case SL_RECORD_CANCEL: sl_pager_cancel(p); return true;
    case SL_RECORD_ACQUIRE:
        if (u->pins > UINT16_MAX / 2)
            return false;
        (void)!sl_pager_acquire(p, (sl_unit_id)e->number, &view, &ignored);
        return true;
    case SL_RECORD_USE: return u->state == SLI_RESIDENT;
    case SL_RECORD_READY: (void)sl_pager_ready(p, (sl_unit_id)e->number); return true;
    case SL_RECORD_POLL: sl_pager_poll(p); return true;
    case SL_RECORD_RETRY: sl_pager_retry(p); return true;
    case SL_RECORD_SETTLE:
        if (u->state != SLI_STAGED || u->pins == 0 || u->home_at == SLI_NO_HOME)
            return false;
        sl_pager_settle(p, (sl_unit_id)e->number);
        return true;
    case SL_RECORD_RELEASE:
        if (u->pins == 0 || (u->state != SLI_STAGED && u->state != SLI_RESIDENT))
            return false;
        sl_pager_release(p, (sl_unit_id)e->number);
        return true;
    case SL_RECORD_SMALL: {
        uint64_t bytes = (uint64_t)e->bytes * e->count;
        uint8_t *to = bytes <= SMALL_BYTES_MAX ? realloc(a->small, bytes + 1) : NULL;
        if (to == NULL)
            return false;
        a->small = to;
        (void)!sl_pager_read_small(p, e->file, e->wide, e->count, e->bytes, to, &ignored);
        return true;
    }
    default: return false;
    }
}

static bool call_bundles(again *a, const sl_record_event *e)
{
    static const uint8_t nothing[1];
    sl_bundles *b = a->bundles;
    uint32_t layer = (uint32_t)e->number;
    sl_error ignored;
    switch (e->op) {
    case SL_RECORD_PREFETCH: sl_bundles_prefetch(b, layer, e->list, e->count); return true;
    case SL_RECORD_FETCH: (void)!sl_bundles_fetch(b, layer, e->list, e->count, a->addresses, &ignored); return true;
    case SL_RECORD_BUNDLES_READY: (void)sl_bundles_ready(b, layer, e->list, e->count, a->places); return true;
    case SL_RECORD_BUNDLES_POLL: sl_bundles_poll(b); return true;
    case SL_RECORD_DONE:
        if (b->held == NULL || b->held->cache != &b->cache[layer])
            return false;
        sl_bundles_done(b, layer);
        return true;
    case SL_RECORD_OFFER:
        for (uint32_t i = 0; i < e->count; i++)
            sl_bundles_offer(b, layer, e->first + i, nothing);
        return true;
    default: return false;
    }
}

static bool call(again *a, const sl_record_event *e)
{
    if (e->op == SL_RECORD_PASS || e->op == SL_RECORD_REAP)
        return true;
    if (e->op < SL_RECORD_PREFETCH)
        return call_pager(a, e);
    return a->bundles != NULL && call_bundles(a, e);
}

static sl_status open_pager(again *a, sl_error *err)
{
    const sl_record_head *h = &a->file->head;
    sl_pager_config config = {
        .units = a->file->units, .unit_count = (uint32_t)h->unit_count, .staging_bytes = h->ring_bytes, .plan_max = (uint32_t)h->plan_max};
    SL_TRY(sl_pager_create(&config, (uint32_t)h->alignment, &a->pager, err));
    SL_TRY(open_answers(a->file, 0, &a->tiers[0], err));
    return sl_pager_attach(a->pager, &a->tiers[0]->base, err);
}

/* Slots of one byte: what is in them does not matter. */
static sl_status open_bundles(again *a, sl_error *err)
{
    const sl_record_head *h = &a->file->head;
    sl_bundle_layer *layers = malloc((h->layer_count + 1) * sizeof *layers);
    a->addresses = malloc((h->wanted_max + 1) * sizeof *a->addresses);
    a->places = malloc((a->file->list_max + (size_t)1) * sizeof *a->places);
    sl_status status = SL_OK;
    if (layers == NULL || a->addresses == NULL || a->places == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for %llu layers", (unsigned long long)h->layer_count);
    for (uint64_t i = 0; status == SL_OK && i < h->layer_count; i++) {
        layers[i] = a->file->layers[i];
        layers[i].bytes = layers[i].count > 0 ? 1 : 0;
    }
    sl_bundles_config config = {.layers = layers,
                                .layer_count = (uint32_t)h->layer_count,
                                .file = (uint32_t)h->file,
                                .alignment = (uint32_t)h->bundle_alignment,
                                .wanted_max = (uint32_t)h->wanted_max,
                                .staging_bytes = h->stage_bytes,
                                .gap_bytes = (uint32_t)h->gap_bytes,
                                .request_bytes = (uint32_t)h->request_bytes,
                                .policy = (sl_bundle_policy)h->policy};
    if (status == SL_OK)
        status = sl_bundles_create(&config, &a->bundles, err);
    free(layers);
    SL_TRY(status);
    SL_TRY(open_answers(a->file, 1, &a->tiers[1], err));
    return sl_bundles_attach(a->bundles, &a->tiers[1]->base, err);
}

static sl_status make_calls(const char *path, again *a, sl_error *err)
{
    sl_record_cursor calls;
    sl_record_event e;
    SL_TRY(sl_record_begin(a->file, &calls, err));
    bool good = true;
    uint64_t at = 0;
    for (; good && sl_record_next(&calls, &e); at = calls.at)
        good = call(a, &e) && !a->tiers[0]->lost && (a->tiers[1] == NULL || !a->tiers[1]->lost);
    sl_record_end(&calls);
    if (good)
        return SL_OK;
    return sl_fail(err, SL_FORMAT,
                   "%s: at byte %llu of its events the pager does other than it did in the run (was it recorded by another version?)", path,
                   (unsigned long long)at);
}

static sl_status compare(const char *path, again *a, sl_replayed *out, sl_error *err)
{
    const sl_record_head *h = &a->file->head;
    sl_pager_stats pager = sl_pager_statistics(a->pager);
    sl_bundles_stats bundles = {0};
    if (a->bundles != NULL)
        bundles = sl_bundles_statistics(a->bundles);
    *out = (sl_replayed){pager.bytes_read + bundles.bytes_read, pager.requests + bundles.requests};
    if (pager.bytes_read != h->bytes_read || pager.requests != h->requests || bundles.bytes_read != h->bundle_bytes_read ||
        bundles.requests != h->bundle_requests || bundles.cached != h->cached)
        return sl_fail(err, SL_FORMAT, "%s: replayed it reads %llu bytes, the run read %llu", path, (unsigned long long)out->bytes_read,
                       (unsigned long long)(h->bytes_read + h->bundle_bytes_read));
    return SL_OK;
}

sl_status sl_replay_run(const char *path, const sl_record_file *file, sl_replayed *out, sl_error *err)
{
    again a = {.file = file};
    *out = (sl_replayed){0};
    if ((file->head.flags & SL_RECORD_BROKEN) != 0)
        return sl_fail(err, SL_FORMAT, "%s: reads were refused in the run: it cannot be replayed to the byte", path);
    sl_status status = open_pager(&a, err);
    if (status == SL_OK && file->head.layer_count > 0)
        status = open_bundles(&a, err);
    if (status == SL_OK)
        status = make_calls(path, &a, err);
    if (status == SL_OK)
        status = compare(path, &a, out, err);
    sl_bundles_destroy(a.bundles);
    sl_pager_destroy(a.pager);
    free(a.addresses);
    free(a.places);
    free(a.small);
    return status;
}

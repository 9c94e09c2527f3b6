/* pager/bundle_fetch.c: prefetch, fetch and done: from a set of places to addresses. See bundles.h.
 *
 * A fetch takes the stage in which its layer was prefetched, or a free one. What of the guess it does not want it forgets, and what is not
 * started yet of that is never read. Then it queues what is absent. That there is room is by construction: a stage holds any set that is
 * allowed, so at worst the guess has to go, first what of it is unwanted (the rest is moved together), then all of it. */
#include "core/os.h"
#include "pager/bundles_private.h"

#include <assert.h>

#define COLLECT_MAX 16

static uint64_t tag_of(const sl_bundles *b, const sli_stage *s, uint32_t request)
{
    return (uint64_t)(s - b->stage) << 32 | request;
}

static void submit_failed(sl_bundles *b, sli_stage *s, uint32_t request, const sl_error *failure)
{
    s->request[request].state = SLI_READ_FAILED;
    b->failure = *failure;
    b->stats.failed++;
    sl_record_broken(b->record);
}

/* How many reads of the stage were started. */
static uint32_t submit_stage(sl_bundles *b, sli_stage *s)
{
    uint32_t started = 0;
    for (; s->next < s->request_count && b->in_flight < b->tier->attrs.depth; s->next++) {
        sli_request *r = &s->request[s->next];
        if (r->state != SLI_QUEUED)
            continue;
        sl_error failure = {0};
        sl_read read = {.file = b->file, .offset = r->offset, .bytes = r->bytes, .memory = s->memory + r->at, .tag = tag_of(b, s, s->next)};
        sl_status status = b->tier->ops->submit(b->tier, &read, &failure);
        if (status == SL_PENDING)
            sl_fail(&failure, SL_INTERNAL, "the %s tier has less room than it said (%u reads)", b->tier->attrs.engine,
                    b->tier->attrs.depth);
        if (status != SL_OK) {
            submit_failed(b, s, s->next, &failure);
            continue;
        }
        r->state = SLI_READING;
        s->in_flight++;
        b->in_flight++;
        started++;
        b->stats.requests++;
        b->stats.bytes_read += r->bytes;
        r->traced = sl_trace_read(b->trace, &(sl_trace_entry){.name = SL_TRACE_NEURONS,
                                                              .offset = r->offset,
                                                              .bytes = r->bytes,
                                                              .file = (uint16_t)b->file,
                                                              .layer = (uint16_t)(s->cache - b->cache),
                                                              .depth_begin = (uint16_t)b->in_flight});
        sl_record_started(b->record);
    }
    return started;
}

void sli_bundles_submit(sl_bundles *b)
{
    uint32_t started = b->urgent != NULL ? submit_stage(b, b->urgent) : 0;
    for (uint32_t i = 0; i < SLI_STAGES; i++)
        started += submit_stage(b, &b->stage[i]);
    if (started > 0)
        b->tier->ops->reap(b->tier, false, NULL, 0, NULL); /* T5: now they start */
}

void sli_bundles_collect(sl_bundles *b, bool wait)
{
    sl_read_done done[COLLECT_MAX];
    size_t count = COLLECT_MAX;
    while (count == COLLECT_MAX && b->in_flight > 0) {
        sl_error failure = {0};
        count = b->tier->ops->reap(b->tier, wait, done, COLLECT_MAX, &failure);
        if (failure.status != SL_OK)
            b->failure = failure;
        sl_record_reaped(b->record, 1, done, count);
        for (size_t i = 0; i < count; i++) {
            b->in_flight--; /* F1 */
            b->stats.failed += done[i].status != SL_OK;
            sli_stage *s = &b->stage[done[i].tag >> 32];
            sl_trace_read_done(b->trace, s->request[(uint32_t)done[i].tag].traced, b->in_flight);
            sli_stage_request_done(s, (uint32_t)done[i].tag, done[i].status != SL_OK);
        }
        wait = false;
    }
}

static void poll(sl_bundles *b)
{
    if (b->tier == NULL)
        return;
    sli_bundles_collect(b, false);
    sli_bundles_submit(b);
}

void sl_bundles_poll(sl_bundles *b)
{
    sl_record_call(b->record, SL_RECORD_BUNDLES_POLL);
    poll(b);
}

/* Waits until nothing of the stage is in flight; starts nothing. */
static void drain(sl_bundles *b, const sli_stage *s)
{
    while (s->in_flight > 0)
        sli_bundles_collect(b, true);
}

static sli_stage *stage_of(sl_bundles *b, const sli_cache *cache)
{
    for (uint32_t i = 0; i < SLI_STAGES; i++) {
        sli_stage *s = &b->stage[i];
        if (s->cache == cache && (s->state == SLI_STAGE_FILLING || s->state == SLI_STAGE_HELD))
            return s;
    }
    return NULL;
}

static sli_stage *stage_in(sl_bundles *b, sli_stage_state state)
{
    for (uint32_t i = 0; i < SLI_STAGES; i++)
        if (b->stage[i].state == state)
            return &b->stage[i];
    return NULL;
}

/* A FREE stage; a guess for another layer gives way. NULL where it would take waiting. */
static sli_stage *free_stage(sl_bundles *b, bool wait)
{
    sli_stage *s = stage_in(b, SLI_STAGE_FREE);
    if (s == NULL && stage_in(b, SLI_STAGE_DRAINING) == NULL && (s = stage_in(b, SLI_STAGE_FILLING)) != NULL)
        b->stats.wasted += sli_stage_let_go(s);
    if ((s = stage_in(b, SLI_STAGE_FREE)) == NULL && wait) {
        s = stage_in(b, SLI_STAGE_DRAINING); /* there is one: at most one of two is HELD (F2) */
        assert(s != NULL);
        drain(b, s);
    }
    return s;
}

static sli_stage *take_stage(sl_bundles *b, sli_cache *cache, bool wait)
{
    sli_stage *s = stage_of(b, cache);
    if (s == NULL && (s = free_stage(b, wait)) != NULL)
        sli_stage_take(s, cache);
    return s;
}

static bool rises(const uint32_t *places, uint32_t count, uint32_t limit)
{
    for (uint32_t i = 1; i < count; i++)
        if (places[i] <= places[i - 1])
            return false;
    return count == 0 || places[count - 1] < limit;
}

/* The absent ones of the places, into `some`; as many as there is room for. */
static uint32_t list_absent(sl_bundles *b, const sli_cache *cache, const uint32_t *places, uint32_t count)
{
    uint32_t absent = 0;
    for (uint32_t i = 0; i < count && absent < b->wanted_max; i++)
        if (cache->where[places[i]] == SLI_ABSENT_PLACE)
            b->some[absent++] = places[i];
    return absent;
}

void sl_bundles_prefetch(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count)
{
    if (b->tier == NULL || layer >= b->layer_count || !rises(places, count, b->cache[layer].layer.count))
        return;
    sl_record_places(b->record, SL_RECORD_PREFETCH, layer, places, count);
    poll(b);
    sli_cache *cache = &b->cache[layer];
    uint32_t absent = list_absent(b, cache, places, count);
    sli_stage *s = absent > 0 ? take_stage(b, cache, false) : NULL;
    if (s == NULL || s->state == SLI_STAGE_HELD)
        return;
    sli_stage_add(s, &b->how, b->some, absent, true);
    sli_bundles_submit(b);
}

/* Marks the entries that are wanted, and forgets all others and those that failed. */
static void sort_guess(sl_bundles *b, sli_stage *s, const uint32_t *places, uint32_t count)
{
    for (uint32_t i = 0; i < s->entry_count; i++)
        s->entry[i].wanted = false;
    for (uint32_t i = 0; i < count; i++) {
        if (!sli_cache_in_stage(s->cache, places[i]))
            continue;
        sli_entry *e = sli_stage_entry(s, places[i]);
        e->wanted = !sli_stage_failed(s, e);
    }
    b->stats.wasted += sli_stage_keep_wanted(s);
}

/* Room for the absent ones, which are in `some` then: their number. */
static uint32_t make_room(sl_bundles *b, sli_stage *s, const uint32_t *places, uint32_t count)
{
    sli_cache *cache = s->cache;
    uint32_t absent = list_absent(b, cache, places, count);
    if (absent == 0 || sli_stage_fits(s, &b->how, b->some, absent))
        return absent;
    drain(b, s);
    sli_stage_compact(s, b->how.alignment);
    absent = list_absent(b, cache, places, count);
    if (sli_stage_fits(s, &b->how, b->some, absent))
        return absent;
    sli_stage_let_go(s);
    sli_stage_take(s, cache);
    return list_absent(b, cache, places, count);
}

/* Waits for the requests that are needed; false when one of them failed. */
static bool wait_for_needed(sl_bundles *b, sli_stage *s)
{
    uint64_t begin = sl_now_ns();
    unsigned depth = sl_trace_begin(b->trace, SL_TRACE_WAIT, (uint32_t)(s->cache - b->cache), 0);
    bool good = true;
    b->urgent = s;
    sli_bundles_submit(b);
    for (uint32_t i = 0; i < s->request_count;) {
        const sli_request *r = &s->request[i];
        if (r->needed && (r->state == SLI_QUEUED || r->state == SLI_READING)) {
            sli_bundles_collect(b, true);
            sli_bundles_submit(b);
            continue;
        }
        good &= !r->needed || r->state == SLI_READ;
        i++;
    }
    b->urgent = NULL;
    b->stats.wait_ns += sl_now_ns() - begin;
    sl_trace_end(b->trace, depth);
    return good;
}

typedef struct tally { /* of one fetch; counted once it has succeeded */
    uint64_t cached, prefetched, late;
} tally;

static tally count_guess(const sli_stage *s, const uint32_t *places, uint32_t count)
{
    tally t = {0};
    for (uint32_t i = 0; i < count; i++)
        t.cached += sli_cache_in_slot(s->cache, places[i]);
    for (uint32_t i = 0; i < s->entry_count; i++) {
        t.prefetched += s->entry[i].guessed;
        t.late += s->entry[i].guessed && !sli_stage_ready(s, &s->entry[i]);
    }
    return t;
}

static void count_fetch(sl_bundles *b, const tally *t, uint32_t count, uint32_t stride)
{
    b->stats.needed += count;
    b->stats.cached += t->cached;
    b->stats.read += count - t->cached;
    b->stats.prefetched += t->prefetched;
    b->stats.late += t->late;
    b->stats.bytes_wanted += (count - t->cached) * stride;
}

/* Brings all that is wanted into slots or the stage; waits. */
static bool bring(sl_bundles *b, sli_stage *s, const uint32_t *places, uint32_t count)
{
    if (sli_cache_holds_all(s->cache)) {
        count_fetch(b, &(tally){.cached = count}, count, s->cache->layer.stride);
        return true;
    }
    sort_guess(b, s, places, count);
    tally t = count_guess(s, places, count);
    uint32_t absent = make_room(b, s, places, count);
    if (absent > 0) {
        uint32_t added = sli_stage_add(s, &b->how, b->some, absent, false);
        assert(added == absent);
        (void)added;
    }
    for (uint32_t i = 0; i < count; i++)
        if (sli_cache_in_stage(s->cache, places[i]))
            sli_stage_entry(s, places[i])->wanted = true;
    sli_stage_keep_wanted(s); /* of what was read with it, gaps have no more use; nothing of these was guessed */
    if (!wait_for_needed(b, s))
        return false;
    count_fetch(b, &t, count, s->cache->layer.stride);
    return true;
}

static sl_status check_fetch(const sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count, sl_error *err)
{
    if (b->tier == NULL || b->held != NULL)
        return sl_fail(err, SL_INVALID,
                       b->tier == NULL ? "bundles are fetched, and no tier is attached"
                                       : "bundles are fetched before the last fetch was done with");
    if (layer >= b->layer_count || count > b->wanted_max || !rises(places, count, b->cache[layer].layer.count))
        return sl_fail(err, SL_INVALID, "%u bundles of layer %u are asked for; at most %u work, ascending, of %u layers", count, layer,
                       b->wanted_max, b->layer_count);
    return SL_OK;
}

sl_status sl_bundles_fetch(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count, const uint8_t **addresses, sl_error *err)
{
    SL_TRY(check_fetch(b, layer, places, count, err));
    sl_record_places(b->record, SL_RECORD_FETCH, layer, places, count);
    sli_cache *cache = &b->cache[layer];
    sli_bundles_collect(b, false);
    sli_stage *s = take_stage(b, cache, true);
    if (!bring(b, s, places, count)) /* what came stays FILLING, for another try */
        return sl_fail(err, SL_IO, "%s (bundles of layer %u)", b->failure.message, layer);
    for (uint32_t i = 0; i < count; i++)
        addresses[i] = sli_cache_in_slot(cache, places[i]) ? sli_cache_slot(cache, cache->where[places[i]])
                                                           : sli_stage_data(s, sli_stage_entry(s, places[i]));
    sli_stage_hold(s);
    b->held = s;
    for (uint32_t i = 0; i < count; i++)
        b->used[i] = places[i];
    b->used_count = count;
    sl_record_resume(b->record);
    return SL_OK;
}

uint32_t sl_bundles_ready(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count, uint32_t *ready)
{
    const sli_cache *cache = &b->cache[layer];
    sl_record_places(b->record, SL_RECORD_BUNDLES_READY, layer, places, count);
    poll(b);
    const sli_stage *s = stage_of(b, cache);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        if (sli_cache_in_slot(cache, places[i]) ||
            (s != NULL && sli_cache_in_stage(cache, places[i]) && sli_stage_ready(s, sli_stage_entry(s, places[i]))))
            ready[n++] = places[i];
    return n;
}

void sl_bundles_done(sl_bundles *b, uint32_t layer)
{
    sli_stage *s = b->held;
    if (s == NULL || s->cache != &b->cache[layer]) {
        assert(!"B4: done without its fetch");
        return;
    }
    sl_record_call_of(b->record, SL_RECORD_DONE, layer);
    sli_cache *cache = s->cache;
    b->held = NULL;
    if (sli_cache_holds_all(cache)) { /* nothing comes or goes any more: uses need not be counted */
        b->stats.wasted += sli_stage_let_go(s);
        return;
    }
    uint32_t staged = 0;
    for (uint32_t i = 0; i < b->used_count; i++)
        if (sli_cache_in_stage(cache, b->used[i]))
            b->some[staged++] = b->used[i];
    sli_policy_use(&cache->ledger, b->used, b->used_count);
    uint32_t admitted = sli_policy_admit(&cache->ledger, b->some, staged, b->admission);
    for (uint32_t i = 0; i < admitted; i++)
        sli_cache_put(cache, b->admission[i], sli_stage_data(s, sli_stage_entry(s, b->admission[i].place)));
    b->stats.admitted += admitted;
    b->stats.wasted += sli_stage_let_go(s);
}

void sl_bundles_offer(sl_bundles *b, uint32_t layer, uint32_t place, const uint8_t *data)
{
    if (layer >= b->layer_count || place >= b->cache[layer].layer.count)
        return;
    sl_record_offer(b->record, layer, place);
    sli_cache *cache = &b->cache[layer];
    uint32_t slot = sli_policy_offer(&cache->ledger, place);
    if (slot == SLI_NO_SLOT || sli_cache_in_slot(cache, place))
        return;
    bool staged = sli_cache_in_stage(cache, place); /* a guess does not keep it out: B2 */
    sli_cache_put(cache, (sli_admission){.place = place, .slot = slot}, data);
    if (staged)
        sli_stage_forget_moved(stage_of(b, cache));
    b->stats.admitted++;
}

const uint8_t *sl_bundles_cached(const sl_bundles *b, uint32_t layer, uint32_t place)
{
    const sli_cache *cache = &b->cache[layer];
    return sli_cache_in_slot(cache, place) ? sli_cache_slot(cache, cache->where[place]) : NULL;
}

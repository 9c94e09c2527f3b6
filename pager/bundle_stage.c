/* pager/bundle_stage.c: see bundle_stage.h. */
#include "pager/bundle_stage.h"

#include <assert.h>
#include <string.h>

static void become_free(sli_stage *s)
{
    s->state = SLI_STAGE_FREE;
    s->cache = NULL;
    s->used = s->request_count = s->next = 0;
}

void sli_stage_take(sli_stage *s, sli_cache *cache) /* FREE -> FILLING */
{
    assert(s->state == SLI_STAGE_FREE && s->in_flight == 0 && s->entry_count == 0); /* G3 */
    s->cache = cache;
    s->state = SLI_STAGE_FILLING;
}

void sli_stage_hold(sli_stage *s) /* FILLING -> HELD */
{
    assert(s->state == SLI_STAGE_FILLING);
    s->state = SLI_STAGE_HELD;
}

static void drop_queued(sli_stage *s, bool needed_too)
{
    for (uint32_t i = s->next; i < s->request_count; i++)
        if (s->request[i].state == SLI_QUEUED && (needed_too || !s->request[i].needed))
            s->request[i].state = SLI_DROPPED;
}

/* Removes the entries that `keep` is not for, and numbers the others anew; how many guessed ones it removed. */
static uint32_t keep_entries(sli_stage *s, bool (*keep)(const sli_stage *, const sli_entry *))
{
    uint32_t kept = 0, guessed = 0;
    for (uint32_t i = 0; i < s->entry_count; i++) {
        sli_entry e = s->entry[i];
        uint32_t *where = &s->cache->where[e.place];
        assert(*where == (SLI_IN_STAGE | i)); /* G2 */
        if (keep(s, &e)) {
            *where = SLI_IN_STAGE | kept;
            s->entry[kept++] = e;
        } else {
            *where = SLI_ABSENT_PLACE;
            guessed += e.guessed;
        }
    }
    s->entry_count = kept;
    return guessed;
}

static bool is_wanted(const sli_stage *s, const sli_entry *e)
{
    (void)s;
    return e->wanted;
}

static bool is_none(const sli_stage *s, const sli_entry *e)
{
    (void)s, (void)e;
    return false;
}

void sli_stage_forget_moved(sli_stage *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->entry_count; i++)
        if (s->cache->where[s->entry[i].place] == (SLI_IN_STAGE | i)) {
            s->cache->where[s->entry[i].place] = SLI_IN_STAGE | kept;
            s->entry[kept++] = s->entry[i];
        }
    s->entry_count = kept;
}

uint32_t sli_stage_let_go(sli_stage *s) /* FILLING, HELD -> DRAINING, FREE */
{
    assert(s->state == SLI_STAGE_FILLING || s->state == SLI_STAGE_HELD);
    sli_stage_forget_moved(s);
    uint32_t wasted = 0;
    for (uint32_t i = 0; i < s->entry_count; i++)
        wasted += s->entry[i].guessed && !s->entry[i].wanted;
    keep_entries(s, is_none);
    drop_queued(s, true);
    s->state = SLI_STAGE_DRAINING;
    if (s->in_flight == 0)
        become_free(s);
    return wasted;
}

void sli_stage_request_done(sli_stage *s, uint32_t request, bool failed)
{
    assert(request < s->request_count && s->request[request].state == SLI_READING && s->in_flight > 0); /* G3 */
    s->request[request].state = failed ? SLI_READ_FAILED : SLI_READ;
    s->in_flight--;
    if (s->state == SLI_STAGE_DRAINING && s->in_flight == 0)
        become_free(s);
}

bool sli_stage_fits(const sli_stage *s, const sli_reading *how, const uint32_t *places, uint32_t count)
{
    uint32_t runs, room = s->bytes - s->used;
    uint64_t least = sli_runs_least(&s->cache->layer, places, count, how->alignment, &runs);
    /* gaps only join runs, and every request but the last of a run is of full size */
    return least <= room && runs + room / how->request_bytes <= s->request_max - s->request_count;
}

/* Enters the bundles of the run that are not anywhere yet; `asked` are those of the list, the others are in gaps. */
static void enter_run(sli_stage *s, const sli_run *run, const uint32_t *asked, bool guessed, uint32_t first_request)
{
    const sl_bundle_layer *layer = &s->cache->layer;
    uint32_t place, end, listed = 0, request = first_request;
    sli_run_whole(layer, run, &place, &end);
    for (; place < end; place++) {
        bool in_list = listed < run->places && asked[listed] == place;
        listed += in_list;
        uint32_t at = s->used + (uint32_t)(layer->offset + (uint64_t)place * layer->stride - run->from);
        while (s->request[request].at + s->request[request].bytes <= at)
            request++;
        if (s->cache->where[place] != SLI_ABSENT_PLACE)
            continue;
        assert(s->entry_count < s->entry_max); /* G1: each has its own stretch of memory */
        s->cache->where[place] = SLI_IN_STAGE | s->entry_count;
        s->entry[s->entry_count++] = (sli_entry){.place = place, .at = at, .request = request, .guessed = guessed && in_list};
    }
    assert(listed == run->places);
}

uint32_t sli_stage_add(sli_stage *s, const sli_reading *how, const uint32_t *places, uint32_t count, bool guessed)
{
    assert(s->state == SLI_STAGE_FILLING);
    uint64_t least = sli_runs_least(&s->cache->layer, places, count, how->alignment, NULL), room = s->bytes - s->used;
    uint64_t spare = room > least ? room - least : 0;
    uint32_t added = 0;
    while (added < count) {
        sli_run run = sli_run_next(&s->cache->layer, places + added, count - added, how->alignment, how->gap_bytes, &spare);
        uint64_t requests = (run.bytes + how->request_bytes - 1) / how->request_bytes;
        if (run.bytes > s->bytes - s->used || requests > s->request_max - s->request_count)
            break;
        uint32_t first = s->request_count;
        for (uint64_t done = 0; done < run.bytes; done += how->request_bytes) {
            uint64_t left = run.bytes - done;
            s->request[s->request_count++] = (sli_request){.offset = run.from + done,
                                                           .at = s->used + (uint32_t)done,
                                                           .bytes = left < how->request_bytes ? (uint32_t)left : how->request_bytes,
                                                           .state = SLI_QUEUED};
        }
        enter_run(s, &run, places + added, guessed, first);
        s->used += (uint32_t)run.bytes;
        added += run.places;
    }
    return added;
}

/* One past the last request that covers the entry. */
static uint32_t requests_end(const sli_stage *s, const sli_entry *e)
{
    uint32_t end = e->request;
    while (end < s->request_count && s->request[end].at < e->at + s->cache->layer.stride)
        end++;
    return end;
}

bool sli_stage_ready(const sli_stage *s, const sli_entry *e)
{
    if (e->request == SLI_NO_REQUEST)
        return true;
    for (uint32_t i = e->request, end = requests_end(s, e); i < end; i++)
        if (s->request[i].state != SLI_READ)
            return false;
    return true;
}

bool sli_stage_failed(const sli_stage *s, const sli_entry *e)
{
    if (e->request == SLI_NO_REQUEST)
        return false;
    for (uint32_t i = e->request, end = requests_end(s, e); i < end; i++)
        if (s->request[i].state == SLI_READ_FAILED)
            return true;
    return false;
}

uint32_t sli_stage_keep_wanted(sli_stage *s)
{
    uint32_t wasted = keep_entries(s, is_wanted);
    for (uint32_t i = 0; i < s->request_count; i++)
        s->request[i].needed = false;
    for (uint32_t i = 0; i < s->entry_count; i++) {
        const sli_entry *e = &s->entry[i];
        if (e->request == SLI_NO_REQUEST)
            continue;
        for (uint32_t r = e->request, end = requests_end(s, e); r < end; r++)
            s->request[r].needed = true;
    }
    drop_queued(s, false);
    return wasted;
}

void sli_stage_compact(sli_stage *s, uint32_t alignment)
{
    assert(s->state == SLI_STAGE_FILLING && s->in_flight == 0); /* B1: nothing is handed out */
    uint32_t stride = s->cache->layer.stride;
    keep_entries(s, sli_stage_ready);
    for (uint32_t i = 0; i < s->entry_count; i++) { /* downwards, in order: G1 */
        sli_entry *e = &s->entry[i];
        memmove(s->memory + (uint64_t)i * stride, s->memory + e->at, stride);
        e->at = i * stride;
        e->request = SLI_NO_REQUEST;
    }
    s->request_count = s->next = 0;
    s->used = (uint32_t)(((uint64_t)s->entry_count * stride + alignment - 1) / alignment * alignment);
}

const uint8_t *sli_stage_data(const sli_stage *s, const sli_entry *e)
{
    return s->memory + e->at;
}

sli_entry *sli_stage_entry(const sli_stage *s, uint32_t place)
{
    assert(sli_cache_in_stage(s->cache, place)); /* G2 */
    return &s->entry[s->cache->where[place] & ~SLI_IN_STAGE];
}

static const char *entries_broken(const sli_stage *s)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < s->entry_count; i++) {
        const sli_entry *e = &s->entry[i];
        if (e->at < end || (uint64_t)e->at + s->cache->layer.stride > s->used)
            return "G1";
        end = (uint64_t)e->at + s->cache->layer.stride;
        if (s->cache->where[e->place] != (SLI_IN_STAGE | i))
            return "G2";
        if (e->request == SLI_NO_REQUEST)
            continue;
        uint32_t last = requests_end(s, e);
        if (e->request >= last || s->request[e->request].at > e->at || s->request[last - 1].at + s->request[last - 1].bytes < end)
            return "G1";
        for (uint32_t r = e->request; r < last; r++)
            if (s->request[r].state == SLI_DROPPED)
                return "G4";
    }
    return NULL;
}

const char *sli_stage_broken(const sli_stage *s)
{
    uint32_t reading = 0, staged = 0;
    for (uint32_t i = 0; i < s->request_count; i++)
        reading += s->request[i].state == SLI_READING;
    if (reading != s->in_flight || (s->state == SLI_STAGE_FREE && (reading > 0 || s->cache != NULL || s->used > 0)))
        return "G3";
    if (s->state == SLI_STAGE_FREE || s->state == SLI_STAGE_DRAINING)
        return s->entry_count > 0 ? "G2" : NULL;
    for (uint32_t place = 0; place < s->cache->layer.count; place++)
        staged += sli_cache_in_stage(s->cache, place);
    return staged != s->entry_count || s->used > s->bytes ? "G2" : entries_broken(s);
}

/* pager/stream.c: keeps reads in flight along the plan.
 *
 * Reading ahead walks the plan from `next`. A unit that is staged or on its way is claimed for this entry; an absent one is read, together
 * with those that follow it in plan and file alike, into the next extent of the ring; without room, or with the tier's queue full, it
 * stops there and goes on at the next poll. Room comes from the oldest extents once nothing in them is pinned or claimed. So in steady
 * state the ring is a window that slides along the plan, and the disk never waits for the end of a pass.
 *
 * The next unit of the plan has always been given its place before all that follow, so the walk cannot lock itself out. Only a unit that
 * is asked for out of order, or after a change of plan, can find the ring full of others: then the furthest read-ahead is undone. */
#include "pager/pager_private.h"

#include <assert.h>

#define COLLECT_MAX 16

typedef struct request { /* a range of a file, and the units in it */
    uint64_t from, wanted;
    uint64_t bytes;
    uint32_t file, first_unit, last_unit;
} request;

void sli_widen(uint64_t offset, uint64_t bytes, uint32_t alignment, uint64_t *from, uint64_t *length)
{
    *from = offset / alignment * alignment;
    *length = (offset + bytes - *from + alignment - 1) / alignment * alignment;
}

const uint8_t *sli_stream_data(const sl_pager *p, sl_unit_id id)
{
    const sli_unit *u = &p->units.unit[id];
    const sli_extent *extent = &p->ring.extent[u->extent];
    return p->staging + extent->at + (u->offset - extent->file_offset);
}

static bool in_extent(const sli_unit *u)
{
    return u->state == SLI_LOADING ||
           u->state == SLI_STAGED; /* one that was settled stays in the extent's list, but is not there any more */
}

/* Entries that count on this unit's copy can't any more: reading ahead has to deal with them again. */
static void forget_claims(sl_pager *p, sl_unit_id id)
{
    sli_plan *plan = &p->plan;
    uint32_t left = p->units.unit[id].claims;
    for (uint64_t at = plan->tail; left > 0 && at-- > plan->head;) {
        uint32_t *entry = &plan->entry[at % plan->capacity];
        if (*entry != (id | SLI_CLAIMED))
            continue;
        *entry = id;
        if (at < plan->next)
            plan->next = at;
        left--;
    }
    assert(left == 0);
    p->units.unit[id].claims = 0;
}

/* Is anything in the extent in use: on its way, pinned, or, with `claims_count`, claimed? */
static bool extent_busy(const sl_pager *p, const sli_extent *extent, bool claims_count)
{
    if (extent->reading)
        return true;
    for (sl_unit_id id = extent->first_unit; id != SLI_NONE; id = p->units.unit[id].next) {
        const sli_unit *u = &p->units.unit[id];
        if (in_extent(u) && (u->pins > 0 || (claims_count && u->claims > 0)))
            return true;
    }
    return false;
}

static void empty_extent(sl_pager *p, sli_extent *extent)
{
    for (sl_unit_id id = extent->first_unit; id != SLI_NONE; id = p->units.unit[id].next) {
        if (!in_extent(&p->units.unit[id]))
            continue;
        forget_claims(p, id);
        sli_unit_drop(&p->units, id);
    }
    extent->first_unit = SLI_NONE;
}

/* Room in the ring, given back by the oldest extents as far as they are not in use. */
static bool find_room(sl_pager *p, uint64_t bytes, uint64_t *at)
{
    while (!sli_ring_room(&p->ring, (uint32_t)bytes, at)) {
        sli_extent *first = sli_ring_first(&p->ring);
        if (first == NULL || extent_busy(p, first, true))
            return false;
        empty_extent(p, first);
        sli_ring_pop_first(&p->ring);
    }
    return true;
}

static void units_failed(sl_pager *p, sli_extent *extent)
{
    for (sl_unit_id id = extent->first_unit; id != SLI_NONE; id = p->units.unit[id].next) {
        forget_claims(p, id);
        sli_unit_load_failed(&p->units, id);
    }
    extent->first_unit = SLI_NONE; /* a hole, until the ring has come round */
}

static uint64_t trace_start(const sl_pager *p, const request *r)
{
    uint32_t units = 0;
    for (sl_unit_id id = r->first_unit; p->trace != NULL && id != SLI_NONE; id = p->units.unit[id].next)
        units++;
    return sl_trace_read(p->trace, &(sl_trace_entry){.name = SL_TRACE_UNITS,
                                                     .offset = r->from,
                                                     .bytes = (uint32_t)r->bytes,
                                                     .file = (uint16_t)r->file,
                                                     .id = r->first_unit,
                                                     .count = units,
                                                     .layer = SL_TRACE_NONE,
                                                     .depth_begin = (uint16_t)p->in_flight});
}

/* Starts the request at `at`. All its units are ABSENT; they are LOADING afterwards, or FAILED when the tier takes no such read. */
static void start(sl_pager *p, const request *r, uint64_t at)
{
    uint32_t index = sli_ring_push(
        &p->ring,
        (sli_extent){
            .at = at, .file_offset = r->from, .bytes = (uint32_t)r->bytes, .file = r->file, .first_unit = r->first_unit, .reading = true});
    for (sl_unit_id id = r->first_unit; id != SLI_NONE; id = p->units.unit[id].next)
        sli_unit_begin_load(&p->units, id, index);
    sl_read read = {.file = r->file, .offset = r->from, .bytes = r->bytes, .memory = p->staging + at, .tag = index};
    sl_error failure = {0};
    sl_status status = p->tier->ops->submit(p->tier, &read, &failure);
    if (status == SL_OK) {
        p->in_flight++;
        p->stats.requests++;
        p->stats.bytes_read += r->bytes;
        p->stats.bytes_wanted += r->wanted;
        p->ring.extent[index].traced = trace_start(p, r);
        sl_record_started(p->record);
        return;
    }
    if (status == SL_PENDING)
        sl_fail(&failure, SL_INTERNAL, "the %s tier has less room than it said (%u reads)", p->tier->attrs.engine, p->tier->attrs.depth);
    sl_record_broken(p->record);
    p->failure = failure;
    p->ring.extent[index].reading = false;
    units_failed(p, &p->ring.extent[index]);
}

static request request_of(const sl_pager *p, sl_unit_id id)
{
    sli_unit *u = &p->units.unit[id];
    request r = {.file = u->file, .wanted = u->bytes, .first_unit = id, .last_unit = id};
    u->next = SLI_NONE;
    sli_widen(u->offset, u->bytes, p->alignment, &r.from, &r.bytes);
    return r;
}

/* Adds the unit when it follows the request in the file at once (but for padding smaller than a block) and the whole stays in bounds. */
static bool extend(const sl_pager *p, request *r, sl_unit_id id)
{
    sli_unit *u = &p->units.unit[id];
    const sli_unit *last = &p->units.unit[r->last_unit];
    uint64_t end = last->offset + last->bytes, from, length;
    if (u->state != SLI_ABSENT || u->file != r->file || u->offset < end || u->offset - end >= p->alignment)
        return false;
    sli_widen(r->from, u->offset + u->bytes - r->from, p->alignment, &from, &length);
    if (length > p->request_max || id == r->last_unit)
        return false;
    u->next = SLI_NONE;
    p->units.unit[r->last_unit].next = id;
    r->last_unit = id;
    r->bytes = length;
    r->wanted += u->bytes;
    return true;
}

/* The request that begins with the entry at plan.next. An entry that needs no read does not break a run of neighbours. */
static request gather(const sl_pager *p)
{
    const sli_plan *plan = &p->plan;
    request r = request_of(p, plan->entry[plan->next % plan->capacity]);
    for (uint64_t at = plan->next + 1; at < plan->tail && r.bytes < p->request_max; at++) {
        sl_unit_id id = plan->entry[at % plan->capacity] & ~SLI_CLAIMED;
        if (p->units.unit[id].state != SLI_RESIDENT && !extend(p, &r, id))
            break;
    }
    return r;
}

/* Deals with the entries at plan.next that need no read; true when it stands at one that does. */
static bool skip_to_absent(sl_pager *p)
{
    sli_plan *plan = &p->plan;
    for (; plan->next < plan->tail; plan->next++) {
        uint32_t *entry = &plan->entry[plan->next % plan->capacity];
        if ((*entry & SLI_CLAIMED) != 0)
            continue;
        sli_unit *u = &p->units.unit[*entry];
        if (u->state == SLI_ABSENT)
            return true;
        if (in_extent(u)) {
            u->claims++;
            *entry |= SLI_CLAIMED;
        }
    }
    return false;
}

void sli_stream_ahead(sl_pager *p)
{
    uint64_t at;
    bool started = false;
    while (p->in_flight < p->tier->attrs.depth && skip_to_absent(p)) {
        request r = gather(p);
        if (!find_room(p, r.bytes, &at))
            break;
        start(p, &r, at);
        started = true;
    }
    if (started)
        p->tier->ops->reap(p->tier, false, NULL, 0, NULL);
}

static void small_done(sl_pager *p, const sl_read_done *done)
{
    p->small_left--;
    sl_trace_read_done(p->trace, p->small_traced[done->tag & ~SLI_SMALL_TAG], p->in_flight);
    p->small_failed |= done->status != SL_OK;
}

static void extent_done(sl_pager *p, const sl_read_done *done)
{
    sli_extent *extent = &p->ring.extent[done->tag];
    extent->reading = false;
    sl_trace_read_done(p->trace, extent->traced, p->in_flight);
    if (done->status != SL_OK) {
        units_failed(p, extent);
        return;
    }
    for (sl_unit_id id = extent->first_unit; id != SLI_NONE; id = p->units.unit[id].next)
        sli_unit_loaded(&p->units, id);
}

void sli_stream_collect(sl_pager *p, bool wait)
{
    sl_read_done done[COLLECT_MAX];
    size_t count = COLLECT_MAX;
    while (count == COLLECT_MAX && p->in_flight > 0) {
        sl_error failure = {0};
        count = p->tier->ops->reap(p->tier, wait, done, COLLECT_MAX, &failure);
        if (failure.status != SL_OK)
            p->failure = failure;
        sl_record_reaped(p->record, 0, done, count);
        for (size_t i = 0; i < count; i++) {
            p->in_flight--;
            if ((done[i].tag & SLI_SMALL_TAG) != 0)
                small_done(p, &done[i]);
            else
                extent_done(p, &done[i]);
        }
        wait = false;
    }
}

/* One step towards room for a unit that can't wait its turn. Read-ahead is undone from its far end; what is pinned stays. */
static sl_status make_room(sl_pager *p, sl_error *err)
{
    sli_extent *first = sli_ring_first(&p->ring), *last = sli_ring_last(&p->ring);
    if (last != NULL && !extent_busy(p, last, false)) {
        empty_extent(p, last);
        sli_ring_pop_last(&p->ring);
        return SL_OK;
    }
    if (first != NULL && !extent_busy(p, first, false)) {
        empty_extent(p, first);
        sli_ring_pop_first(&p->ring);
        return SL_OK;
    }
    if (p->in_flight == 0)
        return sl_fail(err, SL_NO_MEMORY, "the staging ring (%llu bytes) is full of units in use; release some or make it larger",
                       (unsigned long long)p->ring.bytes);
    sli_stream_collect(p, true);
    return SL_OK;
}

sl_status sli_stream_fetch(sl_pager *p, sl_unit_id id, sl_error *err)
{
    uint64_t at;
    request r = request_of(p, id);
    if (!find_room(p, r.bytes, &at))
        return make_room(p, err);
    start(p, &r, at);
    return SL_OK;
}

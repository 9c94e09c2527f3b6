/* pager/pager.c: see pager.h. Prices and builds the pager, and hands units out; reading ahead is in stream.c, the states in unit.c.
 *
 * Three arenas: homes, staging, tables (this structure among them). Each is one sl_pages_alloc, so what they take is known to the byte
 * before they are there. Homes lie one after the other at multiples of 64 bytes. */
#include "core/os.h"
#include "pager/pager_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_MAX    ((uint64_t)1 << 20) /* reads at the speed of the tier alone (bench/SPEED.md); larger ones were not tried */
#define UNIT_BYTES_MAX ((uint32_t)1 << 30)
#define EXTENTS_MAX    4096
#define HOME_ALIGNMENT 64
#define PIECE_BYTES    ((uint32_t)64 << 10) /* of a small range, read at once */
#define ALIGNMENT_MAX  65536
#define PAGE_ALIGNMENT 4096 /* what sl_pages_alloc gives at least */
#define HUGE_ALIGNMENT ((uint64_t)2 << 20)

typedef struct layout { /* sizes as allocated, and where in the tables' arena what begins */
    uint64_t homes, staging, tables;
    uint64_t ring; /* of staging, for units */
    uint64_t units_at, plan_at, extents_at;
    uint32_t extents;
} layout;

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t largest_widened(const sl_unit *units, uint32_t count, uint32_t alignment)
{
    uint64_t from, length, largest = alignment;
    for (uint32_t i = 0; i < count; i++) {
        sli_widen(units[i].offset, units[i].bytes, alignment, &from, &length);
        if (length > largest)
            largest = length;
    }
    return largest;
}

uint64_t sl_pager_staging_min(const sl_unit *units, uint32_t unit_count, uint32_t alignment)
{
    return 3 * largest_widened(units, unit_count, alignment);
}

static layout lay_out(const sl_pager_config *config, uint32_t alignment)
{
    layout l = {0};
    for (uint32_t i = 0; i < config->unit_count; i++)
        l.homes += config->units[i].home ? round_up(config->units[i].bytes, HOME_ALIGNMENT) : 0;
    l.homes = l.homes > 0 ? sl_pages_round(l.homes) : 0;

    uint64_t ring = config->staging_bytes;
    if (ring == 0)
        ring = sl_pager_staging_min(config->units, config->unit_count, alignment);
    l.staging = sl_pages_round(ring + SLI_SMALL_BYTES);
    if (alignment > PAGE_ALIGNMENT && l.staging < HUGE_ALIGNMENT)
        l.staging = HUGE_ALIGNMENT; /* smaller memory need not be aligned to more than a page */
    l.ring = (l.staging - SLI_SMALL_BYTES) / alignment * alignment;

    uint64_t extents = l.ring / alignment;
    l.extents = extents < EXTENTS_MAX ? (uint32_t)extents : EXTENTS_MAX;
    l.units_at = round_up(sizeof(sl_pager), HOME_ALIGNMENT);
    l.plan_at = l.units_at + round_up(config->unit_count * (uint64_t)sizeof(sli_unit), HOME_ALIGNMENT);
    l.extents_at = l.plan_at + round_up(config->plan_max * (uint64_t)sizeof(uint32_t), HOME_ALIGNMENT);
    l.tables = sl_pages_round(l.extents_at + l.extents * (uint64_t)sizeof(sli_extent));
    return l;
}

sl_pager_cost sl_pager_price(const sl_pager_config *config, uint32_t alignment)
{
    layout l = lay_out(config, alignment);
    return (sl_pager_cost){.homes_bytes = l.homes, .staging_bytes = l.staging, .tables_bytes = l.tables};
}

static sl_status check_config(const sl_pager_config *config, uint32_t alignment, sl_error *err)
{
    if (alignment == 0 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return sl_fail(err, SL_INVALID, "an alignment of %u; a power of two up to %d is needed", alignment, ALIGNMENT_MAX);
    if (config->unit_count >= SLI_CLAIMED || config->plan_max == 0)
        return sl_fail(err, SL_INVALID, "a pager of %u units with a plan of %u; at most %u units and a plan of at least 1 work",
                       config->unit_count, config->plan_max, SLI_CLAIMED - 1);
    for (uint32_t i = 0; i < config->unit_count; i++) {
        const sl_unit *u = &config->units[i];
        if (u->bytes == 0 || u->bytes > UNIT_BYTES_MAX || u->offset > INT64_MAX / 2)
            return sl_fail(err, SL_INVALID, "unit %u has %u bytes at %llu; 1 byte to 1 GiB works", i, u->bytes,
                           (unsigned long long)u->offset);
    }
    uint64_t least = sl_pager_staging_min(config->units, config->unit_count, alignment);
    if (config->staging_bytes != 0 && config->staging_bytes < least)
        return sl_fail(err, SL_INVALID, "a staging ring of %llu bytes is too small; %llu is the least",
                       (unsigned long long)config->staging_bytes, (unsigned long long)least);
    return SL_OK;
}

static void copy_units(sl_pager *p, const sl_pager_config *config)
{
    uint64_t home_at = 0;
    for (uint32_t i = 0; i < config->unit_count; i++) {
        const sl_unit *u = &config->units[i];
        p->units.unit[i] = (sli_unit){.offset = u->offset,
                                      .bytes = u->bytes,
                                      .file = u->file,
                                      .home_at = u->home ? home_at : SLI_NO_HOME,
                                      .extent = SLI_NONE,
                                      .next = SLI_NONE};
        home_at += u->home ? round_up(u->bytes, HOME_ALIGNMENT) : 0;
    }
}

/* Several requests should fit the ring at once, or the disk would wait while one is used; but none is smaller than a unit. */
static uint32_t request_limit(uint64_t largest, uint64_t ring)
{
    uint64_t limit = ring / 8 < REQUEST_MAX ? ring / 8 : REQUEST_MAX;
    return (uint32_t)(limit > largest ? limit : largest);
}

sl_status sl_pager_create(const sl_pager_config *config, uint32_t alignment, sl_pager **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(check_config(config, alignment, err));
    layout l = lay_out(config, alignment);
    uint8_t *tables = sl_pages_alloc(l.tables);
    if (tables == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for the pager's tables (%llu bytes)", (unsigned long long)l.tables);
    sl_pager *p = (sl_pager *)(void *)tables;
    p->tables_bytes = l.tables;
    p->staging_bytes = l.staging;
    p->homes_bytes = l.homes;
    p->alignment = alignment;
    p->units = (sli_units){.unit = (sli_unit *)(void *)(tables + l.units_at), .count = config->unit_count};
    p->plan = (sli_plan){.entry = (uint32_t *)(void *)(tables + l.plan_at), .capacity = config->plan_max};
    p->ring = (sli_ring){.extent = (sli_extent *)(void *)(tables + l.extents_at), .capacity = l.extents, .bytes = l.ring};
    p->request_max = request_limit(largest_widened(config->units, config->unit_count, alignment), l.ring);
    copy_units(p, config);

    p->staging = sl_pages_alloc(l.staging);
    p->homes = l.homes > 0 ? sl_pages_alloc(l.homes) : NULL;
    if (p->staging == NULL || (l.homes > 0 && p->homes == NULL)) {
        sl_pager_destroy(p);
        return sl_fail(err, SL_NO_MEMORY, "no memory for the weights that stay (%llu bytes) and the staging ring (%llu bytes)",
                       (unsigned long long)l.homes, (unsigned long long)l.staging);
    }
    *out = p;
    return SL_OK;
}

void *sl_pager_staging(sl_pager *pager, size_t *bytes)
{
    *bytes = pager->staging_bytes;
    return pager->staging;
}

void *sl_pager_homes(sl_pager *p, size_t *bytes)
{
    *bytes = p->homes_bytes;
    return p->homes;
}

sl_status sl_pager_attach(sl_pager *pager, sl_tier *tier, sl_error *err)
{
    sl_status status = SL_OK;
    if (pager->tier != NULL)
        status = sl_fail(err, SL_INVALID, "the pager has a tier already");
    else if (tier->attrs.alignment == 0 || pager->alignment % tier->attrs.alignment != 0)
        status = sl_fail(err, SL_INVALID, "the %s tier wants reads aligned to %u bytes, the pager was made for %u", tier->attrs.engine,
                         tier->attrs.alignment, pager->alignment);
    if (status != SL_OK) {
        sl_tier_destroy(tier);
        return status;
    }
    pager->tier = tier;
    return SL_OK;
}

void sl_pager_trace(sl_pager *pager, sl_trace *trace)
{
    pager->trace = trace;
}

void sl_pager_destroy(sl_pager *pager)
{
    if (pager == NULL)
        return;
    sl_tier_destroy(pager->tier); /* waits: reads in flight write into the staging memory */
    sl_pages_free(pager->homes, pager->homes_bytes);
    sl_pages_free(pager->staging, pager->staging_bytes);
    sl_pages_free(pager, pager->tables_bytes);
}

static void poll(sl_pager *pager)
{
    if (pager->tier == NULL)
        return;
    sli_stream_collect(pager, false);
    sli_stream_ahead(pager);
}

void sl_pager_poll(sl_pager *pager)
{
    sl_record_call(pager->record, SL_RECORD_POLL);
    poll(pager);
}

sl_status sl_pager_plan(sl_pager *pager, const sl_unit_id *units, uint32_t count, sl_error *err)
{
    sli_plan *plan = &pager->plan;
    uint64_t waiting = plan->tail - plan->head;
    if (count > plan->capacity - waiting)
        return sl_fail(err, SL_NO_MEMORY, "a plan of %llu units and %u more; %u fit", (unsigned long long)waiting, count, plan->capacity);
    for (uint32_t i = 0; i < count; i++)
        if (units[i] >= pager->units.count)
            return sl_fail(err, SL_INVALID, "unit %u is planned; there are %u", units[i], pager->units.count);
    sl_record_plan(pager->record, units, count);
    for (uint32_t i = 0; i < count; i++)
        plan->entry[plan->tail++ % plan->capacity] = units[i];
    poll(pager);
    return SL_OK;
}

void sl_pager_cancel(sl_pager *pager)
{
    sli_plan *plan = &pager->plan;
    sl_record_call(pager->record, SL_RECORD_CANCEL);
    for (uint64_t at = plan->head; at < plan->tail; at++) {
        uint32_t entry = plan->entry[at % plan->capacity];
        if ((entry & SLI_CLAIMED) != 0)
            pager->units.unit[entry & ~SLI_CLAIMED].claims--;
    }
    plan->head = plan->next = plan->tail;
}

static bool on_its_way(const sli_unit *u)
{
    return u->state == SLI_ABSENT || u->state == SLI_LOADING;
}

/* Waits until the unit is staged or has failed. */
static sl_status bring(sl_pager *p, sl_unit_id id, bool planned, sl_error *err)
{
    const sli_unit *u = &p->units.unit[id];
    sl_status status = SL_OK;
    uint64_t begin = sl_now_ns();
    unsigned depth = sl_trace_begin(p->trace, SL_TRACE_WAIT, SL_TRACE_NONE, 0);
    if (u->state == SLI_ABSENT && planned) { /* its room may have gone to another: its turn comes first now */
        p->plan.next = p->plan.head;
        sli_stream_ahead(p);
    } else if (u->state == SLI_ABSENT) {
        p->stats.demand_reads++;
    }
    while (status == SL_OK && on_its_way(u)) {
        if (u->state == SLI_ABSENT && p->in_flight >= p->tier->attrs.depth) {
            sli_stream_collect(p, true);
            if (planned)
                sli_stream_ahead(p);
        } else if (u->state == SLI_ABSENT) {
            status = sli_stream_fetch(p, id, err); /* no reading ahead here: it would take the room that is made */
        } else {
            sli_stream_ahead(p);
            sli_stream_collect(p, true);
        }
    }
    p->stats.wait_ns += sl_now_ns() - begin;
    sl_trace_end(p->trace, depth);
    return status;
}

static void take_entry(sl_pager *p)
{
    sli_plan *plan = &p->plan;
    uint32_t entry = plan->entry[plan->head++ % plan->capacity];
    if ((entry & SLI_CLAIMED) != 0)
        p->units.unit[entry & ~SLI_CLAIMED].claims--;
    if (plan->next < plan->head)
        plan->next = plan->head;
}

static sl_status explain_failed(const sl_pager *p, sl_unit_id id, sl_error *err)
{
    const sli_unit *u = &p->units.unit[id];
    return sl_fail(err, SL_IO, "%s (unit %u: %u bytes at %llu of file %u)", p->failure.message, id, u->bytes, (unsigned long long)u->offset,
                   u->file);
}

sl_status sl_pager_acquire(sl_pager *pager, sl_unit_id unit, sl_view *view, sl_error *err)
{
    sl_pager *p = pager;
    *view = (sl_view){0};
    if (unit >= p->units.count || p->tier == NULL)
        return sl_fail(err, SL_INVALID, "unit %u is asked for; there are %u, and %s tier", unit, p->units.count, p->tier ? "a" : "no");
    sl_record_call_of(p->record, SL_RECORD_ACQUIRE, unit);
    poll(p);
    const sli_plan *plan = &p->plan;
    const sli_unit *u = &p->units.unit[unit];
    bool planned = plan->head < plan->tail && (plan->entry[plan->head % plan->capacity] & ~SLI_CLAIMED) == unit;
    p->stats.hits_resident += u->state == SLI_RESIDENT;
    p->stats.hits_staged += u->state == SLI_STAGED;
    if (on_its_way(u))
        SL_TRY(bring(p, unit, planned, err));
    sl_record_resume(p->record);
    if (u->state == SLI_FAILED)
        return explain_failed(p, unit, err);

    sli_unit_pin(&p->units, unit);
    if (planned)
        take_entry(p);
    if (u->state == SLI_STAGED)
        view->staged = sli_stream_data(p, unit);
    if (u->home_at != SLI_NO_HOME)
        view->home = p->homes + u->home_at;
    return SL_OK;
}

void sl_pager_settle(sl_pager *pager, sl_unit_id unit)
{
    sl_record_call_of(pager->record, SL_RECORD_SETTLE, unit);
    sli_unit_settle(&pager->units, unit);
    pager->stats.resident_bytes = pager->units.resident_bytes;
}

void sl_pager_release(sl_pager *pager, sl_unit_id unit)
{
    sl_record_call_of(pager->record, SL_RECORD_RELEASE, unit);
    sli_unit_unpin(&pager->units, unit);
}

void sl_pager_retry(sl_pager *pager)
{
    sl_record_call(pager->record, SL_RECORD_RETRY);
    for (uint32_t i = 0; i < pager->units.count; i++)
        if (pager->units.unit[i].state == SLI_FAILED)
            sli_unit_retry(&pager->units, i);
    pager->plan.next = pager->plan.head; /* entries that were passed over for a failed unit have their turn again */
}

bool sl_pager_ready(sl_pager *pager, sl_unit_id unit)
{
    sl_record_call_of(pager->record, SL_RECORD_READY, unit);
    poll(pager);
    sli_unit_state state = pager->units.unit[unit].state;
    return state == SLI_RESIDENT || state == SLI_STAGED;
}

const uint8_t *sl_pager_resident(const sl_pager *pager, sl_unit_id unit)
{
    const sli_unit *u = &pager->units.unit[unit];
    return u->state == SLI_RESIDENT ? pager->homes + u->home_at : NULL;
}

typedef struct small { /* a small read in its slot */
    uint64_t from, length;
    uint8_t *slot;
} small;

/* Submits read number i of the burst into its slot; waits while the tier is full. */
static sl_status small_start(sl_pager *p, uint32_t file, uint64_t offset, uint32_t bytes, small *s, uint64_t tag, sl_error *err)
{
    sli_widen(offset, bytes, p->alignment, &s->from, &s->length);
    while (p->in_flight >= p->tier->attrs.depth)
        sli_stream_collect(p, true);
    sl_read read = {.file = file, .offset = s->from, .bytes = s->length, .memory = s->slot, .tag = SLI_SMALL_TAG | tag};
    SL_TRY(p->tier->ops->submit(p->tier, &read, err));
    p->in_flight++;
    p->small_traced[tag] = sl_trace_read(p->trace, &(sl_trace_entry){.name = SL_TRACE_ROWS,
                                                                     .offset = s->from,
                                                                     .bytes = (uint32_t)s->length,
                                                                     .file = (uint16_t)file,
                                                                     .layer = SL_TRACE_NONE,
                                                                     .depth_begin = (uint16_t)p->in_flight});
    sl_record_started(p->record);
    p->small_left++;
    p->stats.requests++;
    p->stats.bytes_read += s->length;
    p->stats.bytes_wanted += bytes;
    return SL_OK;
}

static void small_wait(sl_pager *p)
{
    while (p->small_left > 0) {
        sli_stream_ahead(p); /* the plan's reads go on meanwhile */
        sli_stream_collect(p, true);
    }
}

/* Bytes [at, at + bytes) of each range, `stride` apart in `out`. */
static sl_status read_burst(sl_pager *p, uint32_t file, const uint64_t *offsets, uint32_t count, uint32_t at, uint32_t bytes,
                            uint32_t stride, uint8_t *out, sl_error *err)
{
    small burst[SLI_BURST_MAX];
    uint32_t slot_bytes = (uint32_t)round_up(bytes, p->alignment) + p->alignment, slots = (uint32_t)SLI_SMALL_BYTES / slot_bytes;
    uint8_t *area = p->staging + p->staging_bytes - SLI_SMALL_BYTES;
    sl_status status = SL_OK;
    if (slots > SLI_BURST_MAX)
        slots = SLI_BURST_MAX;
    for (uint32_t done = 0; done < count && status == SL_OK;) {
        uint32_t n = count - done < slots ? count - done : slots;
        p->small_failed = false;
        for (uint32_t i = 0; i < n && status == SL_OK; i++) {
            burst[i].slot = area + (size_t)i * slot_bytes;
            status = small_start(p, file, offsets[done + i] + at, bytes, &burst[i], i, err);
        }
        small_wait(p);
        if (status == SL_OK && p->small_failed)
            status = sl_fail(err, SL_IO, "%s", p->failure.message);
        for (uint32_t i = 0; i < n && status == SL_OK; i++)
            memcpy(out + (size_t)(done + i) * stride + at, burst[i].slot + (offsets[done + i] + at - burst[i].from), bytes);
        done += n;
    }
    return status;
}

sl_status sl_pager_read_small(sl_pager *pager, uint32_t file, const uint64_t *offsets, uint32_t count, uint32_t bytes, void *out,
                              sl_error *err)
{
    if (bytes == 0 || pager->tier == NULL)
        return sl_fail(err, SL_INVALID, "small reads of %u bytes; they need a length and a tier", bytes);
    uint64_t begin = sl_now_ns();
    sl_status status = SL_OK;
    sl_record_small(pager->record, file, bytes, offsets, count);
    for (uint32_t at = 0, piece; at < bytes && status == SL_OK; at += piece) {
        piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        status = read_burst(pager, file, offsets, count, at, piece, bytes, out, err);
    }
    pager->stats.wait_ns += sl_now_ns() - begin;
    sli_stream_ahead(pager);
    sl_record_resume(pager->record);
    return status;
}

sl_pager_stats sl_pager_statistics(const sl_pager *pager)
{
    return pager->stats;
}

const sl_tier_attrs *sl_pager_tier(const sl_pager *pager)
{
    return pager->tier != NULL ? &pager->tier->attrs : NULL;
}

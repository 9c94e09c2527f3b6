/* pager/record.c: fills the recorder: see record.h.
 *
 * A call is written as it begins, so that the answers it gets from the tier come behind it. Empty answers are counted and written with the next
 * that is not; offers of neighbouring places are written as one. */
#include "pager/bundles_private.h"
#include "pager/pager_private.h"
#include "pager/record_private.h"

#include "core/os.h"

#include <string.h>

#define EVENT_BYTES_MAX 64           /* of all events but lists */
#define LISTED_BYTES    10           /* of a number at most */
#define RESERVE_BYTES   (64u << 10)  /* a pager's call seldom reaps more than a queue's depth */
#define CAPACITY_MIN    (256u << 10) /* below it nothing of use is recorded */

static uint64_t capacity_of(uint64_t bytes)
{
    return bytes > CAPACITY_MIN ? bytes : CAPACITY_MIN;
}

uint64_t sl_record_price(uint64_t bytes)
{
    return sl_pages_round(sizeof(sl_record) + capacity_of(bytes));
}

sl_status sl_record_create(uint64_t bytes, sl_record **out, sl_error *err)
{
    uint64_t whole = sl_record_price(bytes);
    sl_record *r = sl_pages_alloc(whole);
    *out = r;
    if (r == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a record (%llu bytes)", (unsigned long long)whole);
    r->events = (uint8_t *)(r + 1);
    r->capacity = capacity_of(bytes);
    r->memory_bytes = whole;
    r->reserve = RESERVE_BYTES;
    return SL_OK;
}

void sl_record_destroy(sl_record *record)
{
    if (record != NULL)
        sl_pages_free(record, record->memory_bytes);
}

uint64_t sl_record_bytes(const sl_record *record)
{
    return record->used;
}

bool sl_record_cut(const sl_record *record)
{
    return record->cut;
}

void sl_pager_record(sl_pager *pager, sl_record *record)
{
    pager->record = record;
    record->pager = pager;
}

void sl_bundles_record(sl_bundles *bundles, sl_record *record)
{
    bundles->record = record;
    record->bundles = bundles;
}

/* ---- numbers ---- */

static void put(sl_record *r, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        r->events[r->used++] = (uint8_t)(number | 0x80);
    r->events[r->used++] = (uint8_t)number;
}

static void put_op(sl_record *r, sl_record_op op)
{
    r->events[r->used++] = (uint8_t)op;
    r->event_count++;
}

static void put_offers(sl_record *r)
{
    if (r->offer_count == 0)
        return;
    put_op(r, SL_RECORD_OFFER);
    put(r, r->offer_layer);
    put(r, r->offer_first);
    put(r, r->offer_count);
    r->offer_count = 0;
}

/* Between two calls: what follows is not recorded, and what was read until now is what the record has to give. */
static void cut(sl_record *r)
{
    put_offers(r);
    r->ended = r->cut = true;
    r->pager_stats = sl_pager_statistics(r->pager);
    if (r->bundles != NULL)
        r->bundle_stats = sl_bundles_statistics(r->bundles);
    r->end_ns = sl_now_ns();
}

/* Whether a call whose lists have so many numbers is recorded; then what was held back stands before it. */
static bool begin_call(sl_record *r, uint64_t listed)
{
    if (r->ended)
        return false;
    if (r->capacity - r->used < 2 * EVENT_BYTES_MAX + listed * LISTED_BYTES + r->reserve) {
        cut(r);
        return false;
    }
    put_offers(r);
    return true;
}

static void put_time(sl_record *r)
{
    uint64_t now = sl_now_ns();
    put(r, r->resumed_ns != 0 ? now - r->resumed_ns : 0);
    r->resumed_ns = now;
}

/* ---- calls ---- */

void sli_record_simple(sl_record *r, sl_record_op op)
{
    if (begin_call(r, 0))
        put_op(r, op);
}

void sli_record_number(sl_record *r, sl_record_op op, uint64_t number, bool timed)
{
    if (!begin_call(r, 0))
        return;
    put_op(r, op);
    put(r, number);
    if (timed)
        put_time(r);
}

void sli_record_rows(sl_record *r, uint32_t rows)
{
    uint64_t now = sl_now_ns();
    if (!begin_call(r, 0))
        return;
    put_op(r, SL_RECORD_PASS);
    put(r, rows);
    r->passes++;
    r->rows += rows;
    if (r->begin_ns == 0)
        r->begin_ns = now;
    if (r->resumed_ns == 0)
        r->resumed_ns = now;
}

void sli_record_plan(sl_record *r, const sl_unit_id *units, uint32_t count)
{
    int64_t before = 0;
    if (!begin_call(r, count))
        return;
    put_op(r, SL_RECORD_PLAN);
    put(r, count);
    for (uint32_t i = 0; i < count; i++) {
        int64_t step = (int64_t)units[i] - before;
        put(r, step < 0 ? (uint64_t)-step * 2 - 1 : (uint64_t)step * 2);
        before = units[i];
    }
}

void sli_record_small(sl_record *r, uint32_t file, uint32_t bytes, const uint64_t *offsets, uint32_t count)
{
    if (!begin_call(r, count))
        return;
    put_op(r, SL_RECORD_SMALL);
    put(r, file);
    put(r, bytes);
    put_time(r);
    put(r, count);
    for (uint32_t i = 0; i < count; i++)
        put(r, offsets[i]);
}

void sli_record_places(sl_record *r, sl_record_op op, uint32_t layer, const uint32_t *places, uint32_t count)
{
    if (!begin_call(r, count))
        return;
    put_op(r, op);
    put(r, layer);
    if (op != SL_RECORD_BUNDLES_READY)
        put_time(r);
    put(r, count);
    for (uint32_t i = 0; i < count; i++)
        put(r, i == 0 ? places[0] : places[i] - places[i - 1] - 1);
}

void sli_record_offer(sl_record *r, uint32_t layer, uint32_t place)
{
    if (r->offer_count > 0 && layer == r->offer_layer && place == r->offer_first + r->offer_count) {
        r->offer_count++;
        return;
    }
    if (!begin_call(r, 0))
        return;
    r->offer_layer = layer;
    r->offer_first = place;
    r->offer_count = 1;
}

void sli_record_resume(sl_record *r)
{
    r->resumed_ns = sl_now_ns();
}

/* ---- answers of a tier ---- */

void sli_record_started(sl_record *r)
{
    if (r->in_flight++ == 0)
        r->busy_since_ns = sl_now_ns();
}

void sli_record_reaped(sl_record *r, uint32_t whose, const sl_read_done *done, size_t count)
{
    r->in_flight -= count;
    if (count > 0 && r->in_flight == 0)
        r->busy_ns += sl_now_ns() - r->busy_since_ns;
    if (r->ended)
        return;
    if (count == 0) {
        r->empty[whose]++;
        return;
    }
    if (r->capacity - r->used < EVENT_BYTES_MAX + count * LISTED_BYTES) { /* in the middle of a call: the reserve was too small */
        r->broken = true;
        cut(r);
        return;
    }
    put_op(r, SL_RECORD_REAP);
    put(r, whose);
    put(r, r->empty[whose]);
    put(r, count);
    for (size_t i = 0; i < count; i++) /* a pager's small reads have their mark in the last bit, which the shift would lose */
        put(r, ((done[i].tag & ~SLI_SMALL_TAG) << 2 | (done[i].tag & SLI_SMALL_TAG ? 2 : 0)) | (done[i].status != SL_OK));
    r->empty[whose] = 0;
}

void sli_record_broken(sl_record *r)
{
    r->broken |= !r->ended;
}

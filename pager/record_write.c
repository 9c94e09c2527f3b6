/* pager/record_write.c: the file of a record: see record.h. */
#include "core/file_write.h"
#include "core/os.h"
#include "pager/bundles_private.h"
#include "pager/pager_private.h"
#include "pager/record_private.h"

#include <string.h>
#include <xxhash.h>

typedef struct output { /* what goes to the file goes into the checksum */
    sl_file_writer *writer;
    XXH64_state_t *hash;
} output;

static sl_status put(output *o, const void *data, size_t bytes, sl_error *err)
{
    XXH64_update(o->hash, data, bytes);
    return sl_file_writer_put(o->writer, data, bytes, err);
}

static uint8_t *store(uint8_t *at, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *at++ = (uint8_t)(number >> 8 * i);
    return at;
}

static sl_record_head head_of(const sl_record *r, const sl_record_about *about)
{
    const sl_pager *p = r->pager;
    sl_pager_stats pager = r->cut ? r->pager_stats : sl_pager_statistics(p);
    sl_record_head h = {.version = SLI_RECORD_VERSION,
                        .flags = (r->cut ? SL_RECORD_CUT : 0u) | (r->broken ? SL_RECORD_BROKEN : 0u),
                        .unit_count = p->units.count,
                        .name_bytes = strlen(about->model),
                        .event_bytes = r->used,
                        .event_count = r->event_count,
                        .passes = r->passes,
                        .rows = r->rows,
                        .alignment = p->alignment,
                        .ring_bytes = p->ring.bytes,
                        .plan_max = p->plan.capacity,
                        .depth = p->tier->attrs.depth,
                        .throttle_Bps = about->throttle_Bps,
                        .budget_bytes = about->budget_bytes,
                        .wait_ns = pager.wait_ns,
                        .busy_ns = r->busy_ns,
                        .bytes_read = pager.bytes_read,
                        .bytes_wanted = pager.bytes_wanted,
                        .requests = pager.requests};
    h.elapsed_ns = r->begin_ns == 0 ? 0 : (r->cut ? r->end_ns : r->resumed_ns) - r->begin_ns;
    for (uint32_t i = 0; i < p->units.count; i++)
        h.weight_bytes += p->units.unit[i].bytes;
    const sl_bundles *b = r->bundles;
    if (b == NULL)
        return h;
    sl_bundles_stats bundles = r->cut ? r->bundle_stats : sl_bundles_statistics(b);
    h.layer_count = b->layer_count;
    h.bundle_alignment = b->how.alignment;
    h.wanted_max = b->wanted_max;
    h.stage_bytes = b->stage[0].bytes;
    h.gap_bytes = b->how.gap_bytes;
    h.request_bytes = b->how.request_bytes;
    h.policy = b->cache[0].ledger.policy;
    h.file = b->file;
    h.bundle_depth = b->tier->attrs.depth;
    h.wait_ns += bundles.wait_ns;
    h.bundle_bytes_read = bundles.bytes_read;
    h.bundle_bytes_wanted = bundles.bytes_wanted;
    h.bundle_requests = bundles.requests;
    h.needed = bundles.needed;
    h.cached = bundles.cached;
    return h;
}

static sl_status put_head(output *o, const sl_record_head *head, sl_error *err)
{
    uint64_t numbers[SLI_RECORD_NUMBERS];
    uint8_t bytes[sizeof numbers], *at = bytes;
    memcpy(numbers, head, sizeof numbers);
    for (size_t i = 0; i < SLI_RECORD_NUMBERS; i++)
        at = store(at, numbers[i], 8);
    SL_TRY(put(o, SLI_RECORD_MAGIC, 8, err));
    return put(o, bytes, sizeof bytes, err);
}

static sl_status put_tables(output *o, const sl_record *r, const sl_record_about *about, sl_error *err)
{
    uint8_t bytes[24], *at;
    for (uint32_t i = 0; i < r->pager->units.count; i++) {
        const sli_unit *u = &r->pager->units.unit[i];
        at = store(store(bytes, u->offset, 8), u->bytes, 4);
        store(store(at, u->file, 2), about->unit_flags[i] | (u->home_at != SLI_NO_HOME ? SL_RECORD_HOME : 0u), 2);
        SL_TRY(put(o, bytes, 16, err));
    }
    for (uint32_t i = 0; r->bundles != NULL && i < r->bundles->layer_count; i++) {
        const sl_bundle_layer *l = &r->bundles->cache[i].layer;
        at = store(store(store(bytes, l->offset, 8), l->stride, 4), l->bytes, 4);
        store(store(at, l->count, 4), l->capacity, 4);
        SL_TRY(put(o, bytes, 24, err));
    }
    return put(o, about->model, strlen(about->model), err);
}

static sl_status put_all(output *o, const sl_record *r, const sl_record_about *about, sl_error *err)
{
    sl_record_head head = head_of(r, about);
    uint8_t sum[8];
    SL_TRY(sl_file_writer_begin(o->writer, 0, false, err));
    SL_TRY(put_head(o, &head, err));
    SL_TRY(put_tables(o, r, about, err));
    SL_TRY(put(o, r->events, r->used, err));
    store(sum, XXH64_digest(o->hash), 8);
    return sl_file_writer_put(o->writer, sum, sizeof sum, err);
}

sl_status sl_record_write(const sl_record *record, const sl_record_about *about, const char *path, sl_error *err)
{
    output o = {.hash = XXH64_createState()};
    if (o.hash == NULL || record->pager == NULL || record->pager->tier == NULL) {
        XXH64_freeState(o.hash);
        return sl_fail(err, o.hash == NULL ? SL_NO_MEMORY : SL_INVALID, "%s: %s", path,
                       o.hash == NULL ? "out of memory for a checksum" : "no pager was recorded");
    }
    XXH64_reset(o.hash, 0);
    sl_status status = sl_file_writer_create(path, &o.writer, err);
    if (status == SL_OK) {
        status = put_all(&o, record, about, err);
        if (status == SL_OK)
            status = sl_file_writer_finish(o.writer, err);
        else
            sl_file_writer_discard(o.writer);
    }
    XXH64_freeState(o.hash);
    return status;
}

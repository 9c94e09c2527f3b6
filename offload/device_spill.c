/* offload/device_spill.c: keys and values of which a part is in a file (kv_spill.h), where a device computes. See device_engine.h.
 *
 *     device   window        the layer in hand, all that its rows see
 *                 ▲ gathered, before new rows are stored      │ scattered: the pages that those are in
 *     host     first pages | tail | two windows, by turns ◀───┘ all page-locked
 *                                     ▲ read ahead │ complete pages, when they have come
 *     file                            └────────────┘
 *
 * The host goes on giving work while the device computes, and so is ahead of it by one such layer at most: a window is read to, and what a layer wrote goes
 * to the file, when the next layer that spills is begun, or the pass ends, and the device has told by an event that it is through with both. Whole pages go back,
 * that of the last position, too: of what comes they are the smallest part, and the link goes both ways at once. */
#include "offload/device_engine.h"
#include "offload/kv_spill.h"

static sl_status open_places(sli_device *d, uint64_t bytes, sl_error *err)
{
    sli_device_spill *s = &d->spill;
    void *memory;
    SL_TRY(d->device->ops->host_alloc(d->device, bytes, &memory, err));
    s->places = memory;
    s->list = (uint32_t *)(void *)(s->places + (size_t)2 * s->kv->kv_heads * s->kv->page_count);
    s->places_at = d->device->ops->host_address(d->device, memory);
    SL_TRY(d->device->ops->event_create(d->device, &s->moved[0], err));
    return d->device->ops->event_create(d->device, &s->moved[1], err);
}

sl_status sli_device_spill_open(sl_engine *e, sli_kv *kv, sl_error *err)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    char size[24];
    *s = (sli_device_spill){.kv = kv};
    SL_TRY(open_places(d, sli_kv_places_bytes(e->model, &e->price.kv), err));
    SL_TRY(sli_device_lock(d, kv->arena, sl_pages_round(kv->arena_bytes), "keys and values", "a smaller --kv-memory, or -c,", err));
    s->arena_at = d->device->ops->host_address(d->device, kv->arena);
    if (s->arena_at != 0 && s->places_at != 0)
        return SL_OK;
    sl_format_size(kv->arena_bytes, size);
    return sl_fail(err, SL_UNSUPPORTED, "%s cannot read host memory in place, where %s of keys and values lie; --kv-host none",
                   d->device->attrs.name, size);
}

void sli_device_spill_close(sl_engine *e)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    sl_error ignored;
    if (s->kv == NULL)
        return;
    /* Behind a pass nothing of it is on its way; a device that is lost says so here, and has stopped. */
    (void)(d->device->ops->synchronize(d->device, SL_STREAM_COMPUTE, &ignored) == SL_OK);
    if (s->kv->arena != NULL)
        sli_device_unlock(d, s->kv->arena);
    if (s->places != NULL)
        d->device->ops->host_free(d->device, s->places);
    d->device->ops->event_destroy(d->device, s->moved[0]);
    d->device->ops->event_destroy(d->device, s->moved[1]);
    *s = (sli_device_spill){0};
}

bool sli_device_spills(const sl_engine *e, uint32_t layer)
{
    const sli_kv *kv = e->device->spill.kv;
    return kv != NULL && sli_kv_holds(kv, layer);
}

/* ---- a pass ---- */

sl_status sli_device_spill_end(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    if (!s->moving)
        return SL_OK;
    s->moving = false;
    SL_TRY(d->device->ops->event_wait(d->device, s->moved[s->turn], err));
    return sli_kv_end_group(s->kv, s->layer, 0, err);
}

void sli_device_spill_forget(sl_engine *e)
{
    e->device->spill.moving = false;
}

/* Where the layer's pages lie, as the device finds them; whoever read the same table before is through. */
static sl_device_kv_pages pages_of(const sl_engine *e, uint32_t layer, uint32_t first, uint32_t end)
{
    const sli_device_spill *s = &e->device->spill;
    const sli_kv *kv = s->kv;
    size_t table = (size_t)s->turn * kv->kv_heads * kv->page_count;
    for (uint32_t head = 0; head < kv->kv_heads; head++) {
        const uint8_t *const *pages = sli_kv_pages(kv, layer, head, SLI_KV_KEYS);
        for (uint32_t page = first; page < end; page++)
            s->places[table + (size_t)head * kv->page_count + page] = s->arena_at + (sl_device_ptr)(pages[page] - kv->arena);
    }
    return (sl_device_kv_pages){.kv = sli_device_kv_shape(e->model, &e->price.kv, e->device->memory.window),
                                .places = s->places_at + table * sizeof(sl_device_ptr),
                                .stride = kv->page_count,
                                .kv_heads = kv->kv_heads,
                                .first = first,
                                .end = end};
}

/* Complete pages that the index does not have yet: a path that was kept has ended them, or they were loaded. */
static sl_status fetch_unindexed(sl_engine *e, uint32_t layer, uint32_t first, uint32_t end, sl_error *err)
{
    sli_device_spill *s = &e->device->spill;
    for (uint32_t page = first, count; page < end; page += count) {
        count = end - page < s->kv->chosen_pages ? end - page : s->kv->chosen_pages;
        for (uint32_t i = 0; i < count; i++)
            s->list[i] = page + i;
        for (uint32_t head = 0; head < s->kv->kv_heads; head++)
            SL_TRY(sli_kv_fetch(s->kv, layer, head, s->list, count, err));
        SL_TRY(sli_kv_fetched(s->kv, layer, 0, err));
    }
    return SL_OK;
}

sl_status sli_device_spill_bring(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    uint32_t first_head, heads;
    SL_TRY(sli_device_spill_end(e, err));
    SL_TRY(sli_kv_begin_group(s->kv, layer, 0, &first_head, &heads, err));
    s->layer = layer;
    s->turn = !s->turn;
    sli_kv_sight sight = sli_kv_sight_of(s->kv, layer);
    if (sli_kv_fetches(s->kv, layer)) {
        sight.seen = d->indexed_pages < sight.written ? d->indexed_pages : sight.written;
        SL_TRY(fetch_unindexed(e, layer, sight.seen, sight.written, err));
    }
    sl_device_kv_pages job = pages_of(e, layer, sight.seen, sight.held);
    *out = job.kv;
    return d->device->kernels->kv_gather(d->device, &job, err);
}

sl_status sli_device_spill_keep(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    sli_kv_sight sight = sli_kv_sight_of(s->kv, layer);
    sl_device_kv_pages job = pages_of(e, layer, sight.written, sight.end);
    *out = job.kv;
    SL_TRY(d->device->kernels->kv_scatter(d->device, &job, err));
    SL_TRY(d->device->ops->event_record(d->device, s->moved[s->turn], SL_STREAM_COMPUTE, err));
    s->moving = true;
    return SL_OK;
}

/* ---- pages that rows choose ---- */

bool sli_device_spill_fetches(const sl_engine *e, uint32_t layer)
{
    return sli_kv_fetches(e->device->spill.kv, layer);
}

sl_status sli_device_spill_fetch(sl_engine *e, uint32_t layer, sl_device_ptr lists, sl_device_sparq_pages *job, sl_error *err)
{
    sli_device *d = e->device;
    sli_device_spill *s = &d->spill;
    sli_kv *kv = s->kv;
    size_t stride = kv->chosen_pages;
    SL_TRY(d->device->ops->copy_out(d->device, SL_STREAM_COMPUTE, s->list, lists, kv->kv_heads * stride * sizeof *s->list, err));
    SL_TRY(d->device->ops->synchronize(d->device, SL_STREAM_COMPUTE, err));
    for (uint32_t head = 0; head < kv->kv_heads; head++)
        SL_TRY(sli_kv_fetch(kv, layer, head, s->list + head * stride + 1, s->list[head * stride], err));
    SL_TRY(sli_kv_fetched(kv, layer, 0, err));
    sl_device_kv_pages pages = pages_of(e, layer, 0, sli_kv_sight_of(kv, layer).end);
    job->places = pages.places;
    job->stride = pages.stride;
    return SL_OK;
}

sl_status sli_device_spill_fetched(sl_engine *e, sl_error *err)
{
    sli_device_spill *s = &e->device->spill;
    return e->device->device->ops->event_record(e->device->device, s->moved[s->turn], SL_STREAM_COMPUTE, err);
}

/* offload/device_weights.c: how weights get to where the device multiplies them. See device_engine.h.
 *
 * A pass knows beforehand which units will cross the link, and in which order (sli_device_list). Each is pushed as soon as the ring has a place for it and
 * its bytes are in page-locked memory, well ahead of its use, so that the link is busy while the device, or the processor, computes:
 *
 *     order   u0 u1 u2 u3 u4 u5 u6 u7 ...
 *                   ^used       ^pushed          [used, pushed) are in the ring, or on their way to it
 *
 * Behind a sparse pass for which nothing crosses the link would be idle until the next dense one: that one's order is listed then, and the ring filled.
 *
 * A home holds panels, which the device multiplies where they arrive. Staged bytes are rows as in the file: the device makes panels of them. */
#include "offload/device_engine.h"
#include "offload/matmul.h"

#include <assert.h>
#include <string.h>

#define HELD_SHARE 4 /* of the staging ring, one part in so many: what copies that are on their way hold */

/* ---- staged bytes that cross ---- */

static void release_first(sl_engine *e)
{
    sli_device *d = e->device;
    const sli_held *held = &d->held[d->first_held % SLI_DEVICE_HELD];
    sl_pager_release(e->pager, held->unit);
    d->held_bytes -= held->bytes;
    d->first_held++;
    d->held_count--;
}

static sl_status land_first(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    SL_TRY(sl_vram_land(d->vram, d->held[d->first_held % SLI_DEVICE_HELD].ticket, err));
    release_first(e);
    return SL_OK;
}

/* Releases what has crossed. SL_PENDING where what has not holds too much of the staging ring for one more unit. */
static sl_status release_crossed(sl_engine *e, uint32_t bytes, sl_error *err)
{
    sli_device *d = e->device;
    for (bool landed = true; d->held_count > 0;) {
        SL_TRY(sl_vram_landed(d->vram, d->held[d->first_held % SLI_DEVICE_HELD].ticket, &landed, err));
        if (!landed)
            break;
        release_first(e);
    }
    bool full = d->held_count == SLI_DEVICE_HELD || (d->held_count > 0 && d->held_bytes + bytes > e->price.staging_bytes / HELD_SHARE);
    return full ? SL_PENDING : SL_OK;
}

/* The staging ring is first in, first out: what has been released between units that are still held is no room yet. */
static sl_status acquire(sl_engine *e, sl_unit_id unit, bool wait, sl_view *view, sl_error *err)
{
    sl_status status = sl_pager_acquire(e->pager, unit, view, err);
    while (status == SL_NO_MEMORY && e->device->held_count > 0 && wait) {
        SL_TRY(land_first(e, err));
        status = sl_pager_acquire(e->pager, unit, view, err);
    }
    return status == SL_NO_MEMORY && !wait ? SL_PENDING : status;
}

static const sli_matrix *matrix_of_unit(const sl_engine *e, sl_unit_id unit)
{
    return &e->units.matrices[e->device->entry_of[unit]];
}

/* A unit that has come and stays: its home gets what products read there. */
static void settle_home(sl_engine *e, sl_unit_id unit, const sl_view *view)
{
    const sli_matrix *m = matrix_of_unit(e, unit);
    if (m->bundles) /* those stay as they lie */
        memcpy(view->home, view->staged, e->units.units[unit].bytes);
    else
        sli_fill_home(e, m, unit - m->first_unit, view->staged, view->home);
    sl_pager_settle(e->pager, unit);
}

/* Where the unit's bytes lie in page-locked memory; *staged: it is pinned until they have crossed. SL_PENDING: not without a wait. */
static sl_status find_bytes(sl_engine *e, sl_unit_id unit, bool wait, const uint8_t **bytes, bool *staged, sl_error *err)
{
    uint32_t size = e->units.units[unit].bytes;
    sl_view view;
    *staged = false;
    *bytes = sl_pager_resident(e->pager, unit);
    if (*bytes != NULL) {
        sl_record_call_of(e->record, SL_RECORD_USE, unit);
        return SL_OK;
    }
    if (!wait && !sl_pager_ready(e->pager, unit))
        return SL_PENDING;
    sl_status room = release_crossed(e, size, err);
    while (room == SL_PENDING && wait) {
        SL_TRY(land_first(e, err));
        room = release_crossed(e, size, err);
    }
    SL_TRY(room);
    SL_TRY(acquire(e, unit, wait, &view, err));
    if (view.home == NULL) {
        *bytes = view.staged;
        *staged = true;
        return SL_OK;
    }
    if (view.staged != NULL)
        settle_home(e, unit, &view);
    sl_pager_release(e->pager, unit);
    *bytes = view.home;
    return SL_OK;
}

/* ---- over the link ---- */

static bool is_followed(const sl_engine *e, sl_unit_id unit)
{
    return matrix_of_unit(e, unit)->bundles && e->device->followed[e->device->entry_of[unit] / e->units.layer_ops];
}

/* Of a unit of bundles those that have no slot on the device. */
static sl_status gather(sl_engine *e, sl_unit_id unit, sl_device_ptr at, sl_error *err)
{
    sli_device *d = e->device;
    const sli_device_memory *memory = &d->memory;
    const sli_matrix *m = matrix_of_unit(e, unit);
    uint32_t layer = d->entry_of[unit] / e->units.layer_ops;
    uint64_t first = (uint64_t)layer * e->model->ff, place = (uint64_t)(unit - m->first_unit) * m->rows_per_unit;
    return d->device->kernels->bundle_gather(d->device, memory->far + (first + place) * sizeof(uint32_t), d->far[unit], m->row_bytes,
                                             memory->sparse_at + first * sizeof(sl_device_ptr), at,
                                             memory->dense_at + first * sizeof(sl_device_ptr), err);
}

static sl_status start_copy(sl_engine *e, sl_unit_id unit, sl_ticket ticket, sl_device_ptr at, bool wait, sl_error *err)
{
    sli_device *d = e->device;
    uint32_t size = e->units.units[unit].bytes;
    const uint8_t *from;
    bool staged;
    SL_TRY(find_bytes(e, unit, wait, &from, &staged, err));
    sl_status status = is_followed(e, unit) ? gather(e, unit, at, err)
                                            : d->device->ops->copy_in(d->device, SL_STREAM_COPY, at, from, size, err);
    if (status == SL_OK)
        status = sl_vram_commit(d->vram, ticket, err);
    if (!staged)
        return status;
    if (status != SL_OK) { /* a copy that was given and not committed may still read it */
        sl_error ignored;
        sl_status copied = d->device->ops->synchronize(d->device, SL_STREAM_COPY, &ignored);
        (void)copied;
        sl_pager_release(e->pager, unit);
        return status;
    }
    d->held[(d->first_held + d->held_count++) % SLI_DEVICE_HELD] = (sli_held){unit, size, ticket};
    d->held_bytes += size;
    return SL_OK;
}

/* The next of the order. SL_PENDING: there is no place in the ring, or its bytes are not here yet. */
static sl_status push_next(sl_engine *e, bool wait, sl_error *err)
{
    sli_device *d = e->device;
    sl_unit_id unit = d->order[d->pushed];
    sl_ticket ticket = 0;
    sl_device_ptr at = 0;
    SL_TRY(sl_vram_reserve(d->vram, is_followed(e, unit) ? d->far[unit] * matrix_of_unit(e, unit)->row_bytes : e->units.units[unit].bytes,
                           &ticket, &at, err));
    sl_status status = start_copy(e, unit, ticket, at, wait, err);
    if (status != SL_OK) {
        sl_vram_cancel(d->vram, ticket);
        return status;
    }
    d->ticket_of[d->pushed++] = ticket;
    return SL_OK;
}

static sl_status push_ahead(sl_engine *e, sl_error *err)
{
    sl_status status = SL_OK;
    while (e->device->pushed < e->device->order_count && status == SL_OK)
        status = push_next(e, false, err);
    return status == SL_PENDING ? SL_OK : status;
}

bool sli_device_comes(const sl_engine *e, sl_unit_id unit)
{
    return !e->device->loaded[unit] && sl_pager_resident(e->pager, unit) == NULL && !sli_device_is_late(e, unit);
}

static bool crosses(const sl_engine *e, sl_unit_id unit, bool sparse)
{
    const sli_device *d = e->device;
    if (is_followed(e, unit))
        return !sparse && d->far[unit] > 0;
    if (sparse && matrix_of_unit(e, unit)->bundles) /* without sparsity the set is what is there */
        return e->sparsity.mode != SL_SPARSITY_OFF && sli_device_comes(e, unit);
    return !d->loaded[unit] && !d->by_cpu[unit];
}

static void list_units(sl_engine *e, sl_unit_id from, sl_unit_id to, bool sparse)
{
    sli_device *d = e->device;
    d->order_count = d->used = d->pushed = 0;
    for (sl_unit_id unit = from; unit < to; unit++)
        if (crosses(e, unit, sparse))
            d->order[d->order_count++] = unit;
}

static void list(sl_engine *e, bool head, bool sparse)
{
    list_units(e, 0, head ? e->units.count : e->units.body_count, sparse);
}

void sli_device_list_range(sl_engine *e, sl_unit_id from, sl_unit_id to)
{
    assert(e->device->used == e->device->pushed && !e->device->ahead);
    list_units(e, from, to, false);
}

uint64_t sli_device_crossing_bytes(const sl_engine *e, sl_unit_id from, sl_unit_id to)
{
    uint64_t bytes = 0;
    for (sl_unit_id unit = from; unit < to; unit++)
        bytes += crosses(e, unit, false) ? e->units.units[unit].bytes : 0;
    return bytes;
}

/* ---- what is pushed before its pass begins ---- */

/* Whether the order that was listed ahead is that of the pass that has come: in a sparse one nothing crosses, and the order waits for the next. */
static bool is_still_ahead(const sl_engine *e, bool head, bool sparse)
{
    const sli_device *d = e->device;
    uint32_t count = head ? e->units.count : e->units.body_count, found = 0;
    for (sl_unit_id unit = 0; unit < count; unit++)
        if (crosses(e, unit, sparse) && (sparse || found == d->order_count || d->order[found++] != unit))
            return false;
    return sparse || found == d->order_count;
}

/* Nobody reads what has crossed. */
sl_status sli_device_forget_ahead(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    for (; d->ahead && d->used < d->pushed; d->used++)
        SL_TRY(sl_vram_done(d->vram, d->ticket_of[d->used], err));
    d->ahead = false;
    return SL_OK;
}

sl_status sli_device_list(sl_engine *e, bool head, bool sparse, sl_error *err)
{
    sli_device *d = e->device;
    if (d->ahead && is_still_ahead(e, head, sparse)) {
        d->ahead = sparse;
        return SL_OK;
    }
    SL_TRY(sli_device_forget_ahead(e, err));
    list(e, head, sparse);
    return SL_OK;
}

sl_status sli_device_list_ahead(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    if (!d->ahead && (d->order_count > 0 || d->by_cpu_count > 0)) /* how much the processor takes is known when its rows are */
        return SL_OK;
    if (!d->ahead)
        list(e, true, false);
    d->ahead = true;
    sl_status status = SL_OK; /* from homes alone: what comes from the disk comes in the order of its pass */
    while (status == SL_OK && d->pushed < d->order_count && sl_pager_resident(e->pager, d->order[d->pushed]) != NULL)
        status = push_next(e, false, err);
    return status == SL_PENDING ? SL_OK : status;
}

/* ---- at their use ---- */

/* Rows, or panels and the rows behind the last whole one, to panels. */
static sl_status make_panels(sl_engine *e, const sli_matrix *m, uint32_t rows, bool in_panels, sl_device_ptr from, sl_device_ptr to,
                             sl_error *err)
{
    sl_device *device = e->device->device;
    uint64_t whole = in_panels ? (uint64_t)(rows / SL_PANEL_ROWS) * SL_PANEL_ROWS * m->row_bytes : 0;
    if (whole > 0)
        SL_TRY(device->ops->copy_within(device, SL_STREAM_COMPUTE, to, from, whole, err));
    uint32_t left = in_panels ? rows % SL_PANEL_ROWS : rows;
    return left == 0 ? SL_OK : device->kernels->pack(device, m->type, from + whole, m->row_bytes, left, m->cols, to + whole, err);
}

/* The ticket is done in any case, but where its place itself is what is multiplied. */
static sl_status take(sl_engine *e, const sli_matrix *m, sl_unit_id unit, uint32_t rows, sl_ticket ticket, sli_fetched *out, sl_error *err)
{
    sli_device *d = e->device;
    bool in_panels = sl_pager_resident(e->pager, unit) != NULL;
    sl_device_ptr at = 0;
    sl_error ignored;
    sl_status status = sl_vram_use(d->vram, ticket, &at, err);
    if (status == SL_OK && in_panels && rows % SL_PANEL_ROWS == 0 && d->place[unit] == 0) {
        *out = (sli_fetched){.panels = at, .ticket = ticket, .in_ring = true};
        return SL_OK;
    }
    out->panels = d->place[unit] != 0 ? d->place[unit] : d->memory.panels;
    if (status == SL_OK)
        status = make_panels(e, m, rows, in_panels, at, out->panels, err);
    sl_status done = sl_vram_done(d->vram, ticket, status == SL_OK ? err : &ignored);
    status = status != SL_OK ? status : done;
    d->loaded[unit] = status == SL_OK && d->place[unit] != 0;
    return status;
}

/* The next of the order, which is this unit: on its way to the ring, or waited for. */
static sl_status next_ticket(sl_engine *e, sl_unit_id unit, sl_ticket *out, sl_error *err)
{
    sli_device *d = e->device;
    if (d->pushed == d->used) {
        sl_status status = push_next(e, true, err);
        if (status == SL_PENDING)
            return sl_fail(err, SL_INTERNAL, "no room in the ring of the device's memory, though all of it was given back");
        SL_TRY(status);
    }
    assert(d->order[d->used] == unit);
    *out = d->ticket_of[d->used++];
    return SL_OK;
}

sl_status sli_device_look_ahead(sl_engine *e, sl_unit_id unit, bool *wait, sl_error *err)
{
    sli_device *d = e->device;
    SL_TRY(push_ahead(e, err)); /* also while what stays is multiplied: the link works ahead of the layers that need it */
    *wait = !d->loaded[unit] && d->pushed == d->used;
    return SL_OK;
}

sl_status sli_device_fetch(sl_engine *e, const sli_matrix *m, uint32_t index, sli_fetched *out, sl_error *err)
{
    sli_device *d = e->device;
    sl_unit_id unit = m->first_unit + index;
    *out = (sli_fetched){.panels = d->place[unit]};
    if (d->loaded[unit])
        return SL_OK;
    sl_ticket ticket;
    SL_TRY(next_ticket(e, unit, &ticket, err));
    SL_TRY(take(e, m, unit, sli_unit_rows(m, index), ticket, out, err));
    sl_pager_poll(e->pager);
    return push_ahead(e, err);
}

sl_status sli_device_fetch_bundles(sl_engine *e, const sli_matrix *m, uint32_t index, sli_fetched *out, sl_error *err)
{
    sli_device *d = e->device;
    sl_unit_id unit = m->first_unit + index;
    sl_device_ptr at = 0;
    sl_ticket ticket;
    *out = (sli_fetched){.panels = d->place[unit]};
    if (d->loaded[unit] || (is_followed(e, unit) && d->far[unit] == 0))
        return SL_OK;
    SL_TRY(next_ticket(e, unit, &ticket, err));
    SL_TRY(sl_vram_use(d->vram, ticket, &at, err));
    if (d->place[unit] == 0 || is_followed(e, unit)) {
        *out = (sli_fetched){.panels = at, .ticket = ticket, .in_ring = true};
        return push_ahead(e, err);
    }
    SL_TRY(d->device->ops->copy_within(d->device, SL_STREAM_COMPUTE, d->place[unit], at, e->units.units[unit].bytes, err));
    SL_TRY(sl_vram_done(d->vram, ticket, err));
    d->loaded[unit] = true;
    return push_ahead(e, err);
}

/* After a pass that failed nothing of it is on its way any more, so that host memory and the ring may be used for others. A device that is lost says so again
 * in the next pass; one call that failed for another reason may succeed now. */
void sli_device_settle(sl_engine *e)
{
    sli_device *d = e->device;
    bool idle = true;
    for (int s = 0; s < SL_STREAM_COUNT; s++) {
        sl_error ignored;
        sl_status status = d->device->ops->synchronize(d->device, (sl_stream)s, &ignored);
        if (status != SL_OK && status != SL_DEVICE_LOST)
            status = d->device->ops->synchronize(d->device, (sl_stream)s, &ignored);
        idle &= status == SL_OK;
    }
    while (d->held_count > 0)
        release_first(e);
    if (idle)
        sl_vram_reset(d->vram);
    d->used = d->pushed = d->order_count = 0;
    d->ahead = false;
    for (uint32_t layer = 0; layer < e->model->layers; layer++) { /* slots that were to be filled may not be */
        d->reachable[layer] = d->reachable[layer] && !d->followed[layer];
        d->unsettled |= d->followed[layer];
    }
    d->members_sent = false;
}

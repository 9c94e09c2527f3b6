/* offload/device_follow.c: coarse sets on a device: they go there, and the neurons that it holds follow them. See device_engine.h; residency.h is the rule.
 *
 * Until the first set is chosen bundles stay as the placement says, in whole units. From then on a layer's places are slots of single neurons. All homes have their
 * bytes by then, so a slot is filled from there, by a kernel that reads it over the link:
 *
 *     set ─▶ holders of the slots (host) ─▶ the device: addresses as if nothing were held (bundle_table), then each slot filled if it is fresh, and its
 *                                           address entered (bundle_settle)
 *
 * A dense pass finds the bundles of slots there, and the others in the ring, to which the copy stream gathers those of a unit from its home; only they cross. So slots and
 * addresses are changed when the copy stream is done with them, and it goes on when that is through; the host waits for neither.
 * Bytes do not change, so tokens do not either. Where the budget has no homes for what the device holds, nothing follows. */
#include "offload/device_engine.h"
#include "offload/matmul.h"
#include "offload/residency.h"

#include <string.h>

typedef struct followed_layer {
    const sli_matrix *m;
    const sl_packed_layer *packed;
    uint32_t layer;
    uint64_t first; /* neuron, of all layers' */
    uint32_t slots;
} followed_layer;

/* Slots are in whole units alone: the last one of a layer may be smaller. */
static followed_layer layer_at(const sl_engine *e, uint32_t layer)
{
    followed_layer f = {sli_units_bundles(e->model, e->packed, &e->units, layer), sli_bundled_layer_at(e->packed, layer), layer, 0, 0};
    f.first = (uint64_t)layer * e->model->ff;
    for (uint32_t u = 0; f.m != NULL && u < f.m->rows / f.m->rows_per_unit; u++)
        f.slots += e->units.in_vram[f.m->first_unit + u] ? f.m->rows_per_unit : 0;
    return f;
}

/* Before the first time: all homes have come and all places are filled, which the first dense pass does unless it fails. */
static bool may_begin(const sl_engine *e, const followed_layer *f)
{
    if (!e->price.follows || f->slots == 0)
        return false;
    for (uint32_t u = 0; u < f->m->unit_count; u++) {
        sl_unit_id unit = f->m->first_unit + u;
        if (sl_pager_resident(e->pager, unit) == NULL || (e->units.in_vram[unit] && !e->device->loaded[unit]))
            return false;
    }
    return true;
}

/* A unit's bundles are in the slots of its place. */
static void begin_to_follow(sl_engine *e, const followed_layer *f)
{
    sli_device *d = e->device;
    uint32_t *holders = e->scratch.device_holders + f->first, slot = 0;
    for (uint32_t u = 0; u < f->m->unit_count; u++) {
        bool whole = sli_unit_rows(f->m, u) == f->m->rows_per_unit;
        for (uint32_t i = 0; e->units.in_vram[f->m->first_unit + u] && whole && i < f->m->rows_per_unit; i++)
            holders[slot++] = f->packed->order[u * f->m->rows_per_unit + i];
        d->loaded[f->m->first_unit + u] = false;
    }
    d->followed[f->layer] = true;
    d->reachable[f->layer] = false;
}

/* The neurons that have no slot, unit by unit: each unit's begin where its places do. d->marks says who is held. */
static void list_far(sl_engine *e, const followed_layer *f)
{
    sli_device *d = e->device;
    const uint32_t *holders = e->scratch.device_holders + f->first;
    memset(d->marks, 0, e->model->ff);
    for (uint32_t s = 0; s < f->slots; s++)
        d->marks[holders[s] & ~SL_DEVICE_FRESH] = 1;
    for (uint32_t u = 0; u < f->m->unit_count; u++) {
        uint32_t first = u * f->m->rows_per_unit, *count = &d->far[f->m->first_unit + u];
        *count = 0;
        for (uint32_t i = first; i < first + sli_unit_rows(f->m, u); i++)
            if (d->marks[f->packed->order[i]] == 0)
                e->scratch.device_far[f->first + first + (*count)++] = f->packed->order[i];
    }
}

/* The layer's addresses and slots become what holders says. */
static sl_status settle(sl_engine *e, const followed_layer *f, uint32_t fresh, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_kernels *kernels = d->device->kernels;
    uint64_t at = f->first * sizeof(uint32_t);
    sl_device_ptr table = d->memory.sparse_at + f->first * sizeof(sl_device_ptr);
    const uint32_t *holders = e->scratch.device_holders + f->first;
    uint32_t places = 0, per_unit = f->m->rows_per_unit;
    for (uint32_t u = 0; u < f->m->unit_count; u++) {
        d->bundle_units[u] = d->device->ops->host_address(d->device, sl_pager_resident(e->pager, f->m->first_unit + u));
        if (d->bundle_units[u] == 0)
            return sli_device_cannot_reach(e, err);
    }
    SL_TRY(d->device->ops->copy_in(d->device, SL_STREAM_COMPUTE, d->memory.holders + at, holders, f->slots * sizeof *holders, err));
    SL_TRY(d->device->ops->copy_in(d->device, SL_STREAM_COMPUTE, d->memory.far + at, e->scratch.device_far + f->first,
                                   e->model->ff * sizeof(uint32_t), err));
    SL_TRY(kernels->bundle_table(d->device, d->bundle_units, f->m->unit_count, per_unit, f->packed->stride, d->memory.place_of + at,
                                 e->model->ff, 0, table, err));
    for (uint32_t u = 0; u < f->m->rows / per_unit; u++)
        if (e->units.in_vram[f->m->first_unit + u])
            d->bundle_units[places++] = d->place[f->m->first_unit + u];
    return kernels->bundle_settle(d->device, d->memory.holders + at, f->slots, fresh, d->bundle_units, per_unit, f->packed->stride, table,
                                  d->memory.dense_at + f->first * sizeof(sl_device_ptr), err);
}

/* Not reachable: addresses were never there, or a pass failed while slots were filled, so that none is to be trusted. */
static sl_status follow_layer(sl_engine *e, const followed_layer *f, const uint32_t *set, sl_error *err)
{
    sli_device *d = e->device;
    uint32_t *holders = e->scratch.device_holders + f->first;
    bool anew = d->followed[f->layer] && !d->reachable[f->layer];
    if (!d->followed[f->layer])
        begin_to_follow(e, f);
    sli_followed now = sli_residency_follow(f->packed->order, e->model->ff, set, e->keep[f->layer], holders, f->slots, d->marks);
    for (uint32_t s = 0; anew && s < f->slots; s++)
        holders[s] |= SL_DEVICE_FRESH;
    now.fresh = anew ? f->slots : now.fresh;
    d->host_share[f->layer] = 1 - (double)now.held / e->keep[f->layer];
    if (now.fresh == 0 && d->reachable[f->layer])
        return SL_OK;
    list_far(e, f);
    d->reachable[f->layer] = false;
    SL_TRY(settle(e, f, now.fresh, err));
    d->reachable[f->layer] = true;
    d->followed_bytes += (uint64_t)now.fresh * f->packed->stride;
    return SL_OK;
}

/* Of a layer's set, what lies in host memory where units stay as they were placed. */
static double share_in_host(const sl_engine *e, const followed_layer *f, const uint32_t *set)
{
    const uint32_t *place_of = sli_bundled_of(&e->bundled, f->layer)->place_of;
    uint32_t in_host = 0;
    for (uint32_t i = 0; i < e->keep[f->layer]; i++) {
        sl_unit_id unit = f->m->first_unit + place_of[set[i]] / f->m->rows_per_unit;
        in_host += !e->units.in_vram[unit] && !sli_device_is_late(e, unit);
    }
    return (double)in_host / e->keep[f->layer];
}

static sl_status follow_sets(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        followed_layer f = layer_at(e, layer);
        const uint32_t *set = sli_coarse_set(&e->sparsity, layer);
        if (f.m == NULL || f.packed == NULL) /* no bundles */
            continue;
        if (d->followed[layer] || may_begin(e, &f))
            SL_TRY(follow_layer(e, &f, set, err));
        else
            d->host_share[layer] = share_in_host(e, &f, set);
    }
    return SL_OK;
}

sl_status sli_device_follow(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_ops *ops = d->device->ops;
    sli_sparsity *s = &e->sparsity;
    size_t bytes = (size_t)s->layers * s->ff * sizeof *s->chosen;
    if (s->mode != SL_SPARSITY_COARSE || (d->members_sent && s->chosen_valid))
        return SL_OK;
    d->members_sent = false;
    d->unsettled = true;
    SL_TRY(sli_device_forget_ahead(e, err)); /* it was gathered by other addresses, and may be still */
    SL_TRY(ops->event_record(d->device, d->gathered, SL_STREAM_COPY, err));
    SL_TRY(ops->stream_wait(d->device, SL_STREAM_COMPUTE, d->gathered, err));
    SL_TRY(follow_sets(e, err));
    memcpy(e->scratch.device_members, s->chosen, bytes);
    SL_TRY(ops->copy_in(d->device, SL_STREAM_COMPUTE, d->memory.members, e->scratch.device_members, bytes, err));
    SL_TRY(ops->event_record(d->device, d->settled, SL_STREAM_COMPUTE, err));
    SL_TRY(ops->stream_wait(d->device, SL_STREAM_COPY, d->settled, err));
    d->members_sent = true;
    d->unsettled = false;
    return SL_OK;
}

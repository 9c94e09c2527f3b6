/* pager/vram.c: see vram.h. The ring's places are ring.h's extents; a ticket's slot is its extent's index, and holds its two events.
 *
 * A ticket:   RESERVED ─commit─▶ PUSHED ─done─▶ DONE ─(a later push wants the place)─▶ gone
 *                 └─cancel─▶ gone                      any ─reset─▶ gone */
#include "pager/vram.h"
#include "pager/ring.h"

#include <assert.h>
#include <stdlib.h>

#define TICKETS_DEFAULT 64
#define TICKETS_MAX     65536

typedef enum slot_state { SLOT_FREE, SLOT_RESERVED, SLOT_PUSHED, SLOT_DONE } slot_state;

typedef struct slot {
    sl_ticket ticket; /* that has it, or had it last */
    sl_ticket copy;   /* that `copied` was recorded for */
    slot_state state;
    uint64_t at; /* in the ring */
    sl_event *copied, *used;
} slot;

struct sl_vram {
    sl_device *device;
    sl_device_ptr arena;
    uint64_t resident_bytes; /* the ring begins behind them */
    sli_ring ring;
    slot *slots; /* ring.capacity of them */
    sl_ticket next;
    sl_ticket landed; /* all below are known to have */
    sl_vram_stats stats;
};

uint64_t sl_vram_round(uint64_t bytes)
{
    return (bytes + SL_VRAM_ALIGNMENT - 1) / SL_VRAM_ALIGNMENT * SL_VRAM_ALIGNMENT;
}

uint64_t sl_vram_ring_min(uint64_t largest_bytes)
{
    return 2 * sl_vram_round(largest_bytes);
}

uint64_t sl_vram_price(const sl_vram_config *config)
{
    return sl_vram_round(config->resident_bytes) + sl_vram_round(config->ring_bytes);
}

static sl_status create_events(sl_vram *v, sl_error *err)
{
    const sl_device_ops *ops = v->device->ops;
    for (uint32_t i = 0; i < v->ring.capacity; i++) {
        SL_TRY(ops->event_create(v->device, &v->slots[i].copied, err));
        SL_TRY(ops->event_create(v->device, &v->slots[i].used, err));
    }
    return SL_OK;
}

sl_status sl_vram_create(sl_device *device, const sl_vram_config *config, sl_vram **out, sl_error *err)
{
    *out = NULL;
    uint32_t tickets = config->tickets != 0 ? config->tickets : TICKETS_DEFAULT;
    uint64_t price = sl_vram_price(config);
    if (price == 0 || tickets > TICKETS_MAX)
        return sl_fail(err, SL_INVALID, "an arena of %llu bytes with %u tickets; at least 1 byte and at most %d tickets work",
                       (unsigned long long)price, tickets, TICKETS_MAX);
    sl_vram *v = calloc(1, sizeof *v);
    slot *slots = calloc(tickets, sizeof *slots);
    sli_extent *extents = calloc(tickets, sizeof *extents);
    if (v == NULL || slots == NULL || extents == NULL) {
        free(v);
        free(slots);
        free(extents);
        return sl_fail(err, SL_NO_MEMORY, "no memory for the tickets of the device's memory");
    }
    *v = (sl_vram){.device = device,
                   .resident_bytes = sl_vram_round(config->resident_bytes),
                   .ring = {.extent = extents, .capacity = tickets, .bytes = sl_vram_round(config->ring_bytes)},
                   .slots = slots};
    sl_status status = device->ops->alloc(device, price, &v->arena, err);
    if (status == SL_OK)
        status = create_events(v, err);
    if (status != SL_OK) {
        sl_vram_destroy(v);
        return status;
    }
    *out = v;
    return SL_OK;
}

void sl_vram_destroy(sl_vram *vram)
{
    if (vram == NULL)
        return;
    sl_device *d = vram->device;
    for (uint32_t i = 0; i < vram->ring.capacity; i++) {
        d->ops->event_destroy(d, vram->slots[i].copied);
        d->ops->event_destroy(d, vram->slots[i].used);
    }
    d->ops->free(d, vram->arena); /* waits for what reads and writes it */
    free(vram->ring.extent);
    free(vram->slots);
    free(vram);
}

sl_device_ptr sl_vram_arena(const sl_vram *vram, uint64_t *bytes)
{
    *bytes = vram->resident_bytes + vram->ring.bytes;
    return vram->arena;
}

sl_status sl_vram_place(sl_vram *vram, uint64_t bytes, sl_device_ptr *out, sl_error *err)
{
    uint64_t left = vram->resident_bytes - vram->stats.placed_bytes;
    if (bytes == 0 || sl_vram_round(bytes) > left)
        return sl_fail(err, SL_NO_DEVICE_MEMORY, "no room for %llu resident bytes in the device's memory; %llu are left",
                       (unsigned long long)bytes, (unsigned long long)left);
    *out = vram->arena + vram->stats.placed_bytes;
    vram->stats.placed_bytes += sl_vram_round(bytes);
    return SL_OK;
}

/* The oldest ticket leaves. Whatever is copied from now on waits for its reader (G1). */
static sl_status retire_oldest(sl_vram *v, sl_error *err) /* DONE -> FREE */
{
    slot *oldest = &v->slots[v->ring.first];
    assert(oldest->state == SLOT_DONE);
    SL_TRY(v->device->ops->stream_wait(v->device, SL_STREAM_COPY, oldest->used, err));
    sli_ring_pop_first(&v->ring);
    oldest->state = SLOT_FREE;
    return SL_OK;
}

static sl_status make_room(sl_vram *v, uint32_t bytes, uint64_t *at, sl_error *err)
{
    while (!sli_ring_room(&v->ring, bytes, at)) {
        if (v->slots[v->ring.first].state != SLOT_DONE) {
            v->stats.refused++;
            return SL_PENDING;
        }
        SL_TRY(retire_oldest(v, err));
    }
    return SL_OK;
}

sl_status sl_vram_reserve(sl_vram *vram, uint32_t bytes, sl_ticket *out, sl_device_ptr *at, sl_error *err) /* FREE -> RESERVED */
{
    sl_vram *v = vram;
    uint64_t rounded = sl_vram_round(bytes), offset = 0;
    if (bytes == 0 || rounded > v->ring.bytes)
        return sl_fail(err, SL_INVALID, "%u bytes cannot go through a ring of %llu in the device's memory", bytes,
                       (unsigned long long)v->ring.bytes);
    SL_TRY(make_room(v, (uint32_t)rounded, &offset, err));
    uint32_t index = sli_ring_push(&v->ring, (sli_extent){.at = offset, .bytes = (uint32_t)rounded});
    assert(index == v->next % v->ring.capacity && v->slots[index].state == SLOT_FREE);
    v->slots[index].ticket = v->next++;
    v->slots[index].state = SLOT_RESERVED;
    v->slots[index].at = offset;
    *out = v->slots[index].ticket;
    *at = v->arena + v->resident_bytes + offset;
    return SL_OK;
}

static slot *slot_of(sl_vram *v, sl_ticket ticket)
{
    return &v->slots[ticket % v->ring.capacity];
}

sl_status sl_vram_commit(sl_vram *vram, sl_ticket ticket, sl_error *err) /* RESERVED -> PUSHED */
{
    slot *s = slot_of(vram, ticket);
    assert(s->ticket == ticket && s->state == SLOT_RESERVED);
    SL_TRY(vram->device->ops->event_record(vram->device, s->copied, SL_STREAM_COPY, err));
    s->state = SLOT_PUSHED;
    s->copy = ticket;
    vram->stats.pushes++;
    vram->stats.pushed_bytes += sli_ring_last(&vram->ring)->bytes;
    return SL_OK;
}

void sl_vram_cancel(sl_vram *vram, sl_ticket ticket) /* RESERVED -> FREE */
{
    slot *s = slot_of(vram, ticket);
    assert(s->ticket == ticket && s->state == SLOT_RESERVED && ticket + 1 == vram->next);
    sli_ring_pop_last(&vram->ring);
    s->state = SLOT_FREE;
    vram->next--;
}

sl_status sl_vram_push(sl_vram *vram, const void *source, uint32_t bytes, sl_ticket *out, sl_error *err)
{
    sl_device *d = vram->device;
    sl_device_ptr at = 0;
    SL_TRY(sl_vram_reserve(vram, bytes, out, &at, err));
    sl_status status = d->ops->copy_in(d, SL_STREAM_COPY, at, source, bytes, err);
    if (status == SL_OK)
        status = sl_vram_commit(vram, *out, err);
    if (status != SL_OK)
        sl_vram_cancel(vram, *out);
    return status;
}

sl_status sl_vram_use(sl_vram *vram, sl_ticket ticket, sl_device_ptr *out, sl_error *err)
{
    slot *s = slot_of(vram, ticket);
    assert(s->ticket == ticket && s->state == SLOT_PUSHED);
    SL_TRY(vram->device->ops->stream_wait(vram->device, SL_STREAM_COMPUTE, s->copied, err));
    *out = vram->arena + vram->resident_bytes + s->at;
    return SL_OK;
}

sl_status sl_vram_done(sl_vram *vram, sl_ticket ticket, sl_error *err) /* PUSHED -> DONE */
{
    slot *s = slot_of(vram, ticket);
    assert(s->ticket == ticket && s->state == SLOT_PUSHED);
    SL_TRY(vram->device->ops->event_record(vram->device, s->used, SL_STREAM_COMPUTE, err));
    s->state = SLOT_DONE;
    return SL_OK;
}

/* The copy stream is in order: where the slot has gone to a later ticket, that one's copy stands for the earlier one's. */
sl_status sl_vram_landed(sl_vram *vram, sl_ticket ticket, bool *out, sl_error *err)
{
    const slot *s = slot_of(vram, ticket);
    assert(ticket <= s->copy && s->copy < vram->next);
    *out = ticket < vram->landed;
    if (*out)
        return SL_OK;
    SL_TRY(vram->device->ops->event_done(vram->device, s->copied, out, err));
    if (*out)
        vram->landed = s->copy + 1;
    return SL_OK;
}

sl_status sl_vram_land(sl_vram *vram, sl_ticket ticket, sl_error *err)
{
    const slot *s = slot_of(vram, ticket);
    assert(ticket <= s->copy && s->copy < vram->next);
    if (ticket < vram->landed)
        return SL_OK;
    SL_TRY(vram->device->ops->event_wait(vram->device, s->copied, err));
    vram->landed = s->copy + 1;
    return SL_OK;
}

void sl_vram_reset(sl_vram *vram) /* any -> FREE */
{
    sl_vram *v = vram;
    while (v->ring.count > 0) {
        v->slots[v->ring.first].state = SLOT_FREE;
        sli_ring_pop_first(&v->ring);
    }
    v->landed = v->next;
}

sl_vram_stats sl_vram_statistics(const sl_vram *vram)
{
    return vram->stats;
}

const char *sl_vram_broken(const sl_vram *vram)
{
    if (sli_ring_broken(&vram->ring) != NULL)
        return "G1";
    for (uint32_t i = 0; i < vram->ring.count; i++)
        if (vram->slots[(vram->ring.first + i) % vram->ring.capacity].ticket + (vram->ring.count - i) != vram->next)
            return "G3";
    return vram->stats.placed_bytes > vram->resident_bytes ? "G4" : NULL;
}

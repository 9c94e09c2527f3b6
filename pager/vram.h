/* pager/vram.h: the device's memory as a tier: one arena, of which a part is resident and the rest a ring that weights stream through.
 *
 *                arena: one allocation, of the price that was given
 *   ┌───────────────────────────────┬────────────────────────────────┐
 *   │ resident: placed once         │ ring: first in, first out      │
 *   └───────────────────────────────┴────────────────────────────────┘
 *
 *   push ──▶ copy stream: wait for the last reader of this place, copy, record `copied`
 *   use  ──▶ compute stream: wait for `copied`                  done ──▶ compute stream: record `used`
 *
 * The host never waits: that a place is still being read, or not yet written, is an order between the two streams. So a push takes a place as soon as its
 * reader was given to the compute stream, not when it is through, and the copy stream always has work ahead. Only a place whose
 * reader was not even given yet is not to be had (SL_PENDING).
 *
 * Invariants
 *  G1  A byte of the ring belongs to one ticket at a time. Before the copy stream writes it, it waits for `used` of whoever had it.
 *  G2  The compute stream waits for a ticket's `copied` before anything that is given to it after use.
 *  G3  Tickets leave the ring in the order in which they came, and only when they are done.
 *  G4  Residents never move and never meet the ring.
 *  G5  The arena is what sl_vram_price said, to the byte, and nothing is allocated after it was created.
 *
 * Threads: the device's owner. */
#ifndef SL_PAGER_VRAM_H
#define SL_PAGER_VRAM_H

#include "core/device.h"

typedef struct sl_vram sl_vram;
typedef uint64_t sl_ticket;

#define SL_VRAM_ALIGNMENT 256 /* of every place */

typedef struct sl_vram_config {
    uint64_t resident_bytes; /* sum of sl_vram_round of what will be placed */
    uint64_t ring_bytes;     /* 0: nothing streams; else at least sl_vram_ring_min */
    uint32_t tickets;        /* in the ring at once, at most; 0: 64 */
} sl_vram_config;

typedef struct sl_vram_stats {
    uint64_t pushes, pushed_bytes;
    uint64_t refused;      /* pushes that found no place (SL_PENDING) */
    uint64_t placed_bytes; /* of residents */
} sl_vram_stats;

uint64_t sl_vram_round(uint64_t bytes);
/* Two of the largest, so that one is copied while the other is read. */
uint64_t sl_vram_ring_min(uint64_t largest_bytes);
uint64_t sl_vram_price(const sl_vram_config *config); /* of the arena. Pure, as the two above */

/* SL_NO_DEVICE_MEMORY where the arena is not to be had: the device is as it was, and a smaller one may be tried. The device outlives the tier. */
SL_MUST_USE sl_status sl_vram_create(sl_device *device, const sl_vram_config *config, sl_vram **out, sl_error *err);
void sl_vram_destroy(sl_vram *vram); /* waits for both streams; NULL is fine */

/* All of the arena, for who measures with it before anything lies there. */
sl_device_ptr sl_vram_arena(const sl_vram *vram, uint64_t *bytes);

/* A place for good; SL_NO_DEVICE_MEMORY when no more are left. Filling it is the caller's. */
SL_MUST_USE sl_status sl_vram_place(sl_vram *vram, uint64_t bytes, sl_device_ptr *out, sl_error *err);

/* Copies page-locked host memory to the ring, which may not be changed before it has landed. SL_PENDING: no place before a ticket is done. */
SL_MUST_USE sl_status sl_vram_push(sl_vram *vram, const void *source, uint32_t bytes, sl_ticket *out, sl_error *err);
/* The same in pieces: a place for `bytes`, to which the caller gives copies of his own, on the copy stream, before commit or cancel. Nothing else may be
 * reserved meanwhile. */
SL_MUST_USE sl_status sl_vram_reserve(sl_vram *vram, uint32_t bytes, sl_ticket *out, sl_device_ptr *at, sl_error *err);
SL_MUST_USE sl_status sl_vram_commit(sl_vram *vram, sl_ticket ticket, sl_error *err);
/* The place is given back. What was copied to it already may still come; that is no harm, for the next copy is behind it. */
void sl_vram_cancel(sl_vram *vram, sl_ticket ticket);

/* Work that is given to the compute stream from now on finds the ticket's bytes at `*out`. */
SL_MUST_USE sl_status sl_vram_use(sl_vram *vram, sl_ticket ticket, sl_device_ptr *out, sl_error *err);
/* All work that reads them was given. Each ticket is done once, used or not. */
SL_MUST_USE sl_status sl_vram_done(sl_vram *vram, sl_ticket ticket, sl_error *err);

/* Whether the ticket's copy is through, so that its source may be changed. Never waits; may say no for too long, never yes too soon, when as many as
 * config.tickets were pushed since. */
SL_MUST_USE sl_status sl_vram_landed(sl_vram *vram, sl_ticket ticket, bool *out, sl_error *err);
SL_MUST_USE sl_status sl_vram_land(sl_vram *vram, sl_ticket ticket, sl_error *err); /* waits for it */

/* Forgets all tickets, whatever became of them; both streams must be idle. After a pass that failed. */
void sl_vram_reset(sl_vram *vram);

sl_vram_stats sl_vram_statistics(const sl_vram *vram);
const char *sl_vram_broken(const sl_vram *vram); /* the first invariant that does not hold, or NULL; for tests */

#endif

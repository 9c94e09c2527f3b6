/* offload/kv_spill.h: a KV cache of which only a part is in memory: the first pages of each head stay, the last ones are where rows are written, and what
 * lies between is in a file and comes into memory before the layer that attends to it.
 *
 *      page   0 1 2 3 | 4 5 6 7 8 9 | 10           of one layer and head
 *             resident  in the file   tail         the window: room for all pages behind the resident ones, twice, taken by turns by groups of heads
 *
 * What a pass writes goes to the tail where it has room for it, else to the window; a page that is complete is written to the file at once. All is
 * attended to in one piece and in the order of the positions, so results are those of a cache in memory.
 *
 * With a device it is the cache of the layers that the device's memory does not hold (kv_place.h), a group is a layer, and the device reads and writes these
 * places (device_spill.c).
 *
 * Invariants
 *  K1  Of each layer and head, pages [resident_pages, position / SL_KV_PAGE) of the session's text lie in the file (on_file is at least that), and the
 *      page of the position itself in the tail or in the file.
 *  K2  The file's copy of a page before on_file, and the tail's copy of a page, are what was written last; where both are there they are equal.
 *  K3  A pass that fails loses nothing that was there before it: a page of the text leaves the tail only when it lies in the file. */
#ifndef SL_OFFLOAD_KV_SPILL_H
#define SL_OFFLOAD_KV_SPILL_H

#include "offload/engine.h"

/* Lays out a cache that takes at most memory_bytes (0: the least that works): sets shape->spill, or leaves it off where all of it fits. False: not even
 * the least does. Pure. */
bool sli_kv_fit(const sl_model *model, sli_kv_shape *shape, uint64_t memory_bytes);

uint64_t sli_kv_spill_bytes(const sl_model *model, const sli_kv_shape *shape); /* in memory, as sli_kv_spill_create allocates it */
uint64_t sli_kv_places_bytes(
    const sl_model *model,
    const sli_kv_shape *shape); /* of that: what tells a device where pages lie, in two tables, and what it chose for a row */
uint64_t sli_kv_file_bytes(const sl_model *model, const sli_kv_shape *shape); /* of the file at the end of the context */

SL_MUST_USE sl_status sli_kv_spill_create(sl_engine *engine, const sli_kv_shape *shape, sli_kv *kv, sl_error *err);
void sli_kv_spill_free(sli_kv *kv);
sl_spill_stats sli_kv_spill_measure(const sli_kv *kv);

/* Around a pass that writes `rows` slots from `slot` on; selective: of layers without a window, pages before those are asked for by sli_kv_fetch. All are no-ops where the cache is not spilled; then there is one group. */
SL_MUST_USE sl_status sli_kv_begin_pass(sli_kv *kv, uint32_t slot, uint32_t rows, bool selective, sl_error *err);
uint32_t sli_kv_groups(const sli_kv *kv);
/* The heads [*first, *first + *count) of a group are in memory until sli_kv_end_group; groups are taken in order, layer after layer. */
SL_MUST_USE sl_status sli_kv_begin_group(sli_kv *kv, uint32_t layer, uint32_t group, uint32_t *first, uint32_t *count, sl_error *err);
/* In a selective pass: brings these pages of a head of the group into memory, until sli_kv_end_group; they are there after sli_kv_fetched. */
bool sli_kv_fetches(const sli_kv *kv, uint32_t layer);
SL_MUST_USE sl_status sli_kv_fetch(sli_kv *kv, uint32_t layer, uint32_t head, const uint32_t *pages, uint32_t count, sl_error *err);
SL_MUST_USE sl_status sli_kv_fetched(sli_kv *kv, uint32_t layer, uint32_t head, sl_error *err);
SL_MUST_USE sl_status sli_kv_end_group(sli_kv *kv, uint32_t layer, uint32_t group, sl_error *err);
/* Whether a layer's keys and values are in this cache. */
bool sli_kv_holds(const sli_kv *kv, uint32_t layer);
/* For who attends elsewhere, in a pass that has begun: pages. What rows see from before the pass is in [seen, held); they are written to [written, end). */
typedef struct sli_kv_sight {
    uint32_t seen, held, written, end;
} sli_kv_sight;
sli_kv_sight sli_kv_sight_of(const sli_kv *kv, uint32_t layer);
/* Between passes, of whole heads: sli_kv_pages shows the first `pages` of a head, to be read or, after begin_fill, to be written, until the next call of
 * anything here. end_fill: they are the head's, of a text of so many positions; what it had before is forgotten. */
SL_MUST_USE sl_status sli_kv_show_head(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t pages, sl_error *err);
void sli_kv_begin_fill(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t pages);
SL_MUST_USE sl_status sli_kv_end_fill(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t positions, sl_error *err);
/* After positions were moved by sli_kv_copy, to slots from `from` on: what is complete before `position` goes to the file. */
SL_MUST_USE sl_status sli_kv_settle(sli_kv *kv, uint32_t from, uint32_t position, sl_error *err);

#endif

/* offload/device_engine.h: a model on a device: what lies there, and a pass that is computed there.
 *
 *   device_price.c    what of the device's memory everything takes, and which weights stay there (pure)
 *   device_engine.c   whether a device is used, and which; opens and closes what lies there
 *   device_pass.c     runs the programs of a pass on it
 *
 *        disk ──▶ staging ─────────────┐ page-locked
 *                    └──▶ home (RAM) ──┴──▶ ring (VRAM) ──pack──▶ place (VRAM), for good
 *                                                          └────▶ one unit's panels, multiplied at once
 *
 * A weight that stays on the device crosses the link once, in the first pass that needs it, and has no home in host memory. All others cross it in every
 * pass, as they lie in the file; the device makes panels of them. The host gives a pass's work and waits for nothing but the disk and the logits: that a
 * place in the ring is free again is an order between the device's streams (pager/vram.h).
 *
 * Later, for weights that the device does not hold, the processor may compute where they lie (offload/placement.h plans that); fetch_unit is where. */
#ifndef SL_OFFLOAD_DEVICE_ENGINE_H
#define SL_OFFLOAD_DEVICE_ENGINE_H

#include "kernels/device.h"
#include "offload/engine.h"
#include "pager/vram.h"

/* Where everything but weights lies on the device: one block. */
typedef struct sli_device_memory {
    sl_device_ptr buffers[SL_BUF_COUNT];
    sl_device_ptr q, d, sum; /* of quantised sources */
    sl_device_ptr rope_cos, rope_sin, pass, attention;
    sl_device_ptr panels; /* of one unit that only passes by */
    sl_device_ptr vectors;
    sl_device_ptr kv;
} sli_device_memory;

typedef struct sli_device_shape {
    const sl_device *device;
    uint32_t batch, logits_rows;
    const sli_kv_shape *kv;
    uint64_t vector_bytes, panel_bytes;
} sli_device_shape;

/* Lays the block out from `base` on; returns its bytes. Pure. */
uint64_t sli_device_lay(const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out);
uint64_t sli_device_kv_bytes(const sl_model *model, const sli_kv_shape *shape); /* of all layers; the cache ends the block */
sl_device_kv sli_device_kv_of(const sl_model *model, const sli_kv_shape *shape, sl_device_ptr base, uint32_t layer);
/* A unit as whole panels. */
uint64_t sli_device_unit_bytes(const sli_matrix *matrix, uint32_t index);
uint64_t sli_device_largest_unit(const sl_model *model, const sli_units *units);

typedef struct sli_held { /* staged bytes that the copy stream reads */
    sl_unit_id unit;
    uint32_t bytes;
    sl_ticket ticket;
} sli_held;
#define SLI_DEVICE_HELD    64
#define SLI_DEVICE_TICKETS 64

typedef struct sli_device {
    sl_device *device;
    sl_vram *vram;
    sl_device_ptr block;
    sli_device_memory memory;
    sl_device_ptr *place; /* [unit]; 0: it only passes by */
    bool *loaded;         /* [unit]: its panels lie in its place, or will when the streams get there */
    sl_event *inputs;     /* the pass's inputs were copied */
    sli_held held[SLI_DEVICE_HELD];
    uint32_t first_held, held_count;
    uint64_t held_bytes;
    void *locked[3]; /* page-locked host memory that is ours */
    uint32_t locked_count;
} sli_device;

/* Opens the device that the options name, if there is one that does what they ask for; e->device stays NULL where the processor computes. */
SL_MUST_USE sl_status sli_device_choose(sl_engine *e, sl_error *err);
/* After the pager, scratch and vectors are there. */
SL_MUST_USE sl_status sli_device_create(sl_engine *e, uint64_t vector_bytes, sl_error *err);
void sli_device_close(sl_engine *e);

/* Before the pass's inputs are written (the last pass's were read). */
SL_MUST_USE sl_status sli_device_begin(sl_engine *e, sl_error *err);
typedef struct sli_device_rows {
    uint32_t rows, pos0, first, logits_rows;
    const sli_tree *tree; /* NULL: the rows follow each other */
} sli_device_rows;
/* From the residual and the rotary tables, in scratch, to the logits, in scratch. */
SL_MUST_USE sl_status sli_device_execute(sl_session *session, const sli_device_rows *rows, sl_error *err);
/* sli_kv_copy on the device. */
SL_MUST_USE sl_status sli_device_kv_copy(sl_engine *e, uint32_t from, uint32_t to, sl_error *err);

#endif

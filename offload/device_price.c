/* offload/device_price.c: what of the device's memory everything takes, and which weights stay there. See device_engine.h. */
#include "core/layout.h"
#include "offload/device_engine.h"
#include "offload/placement.h"

#include <stdlib.h>

#define MIB            ((uint64_t)1 << 20)
#define RING_BYTES_MAX (32 * MIB)
#define RING_SHARE     16 /* of a tight budget, one part in so many */

static sl_device_ptr room(sl_layout *l, sl_device_ptr base, uint64_t bytes)
{
    sl_device_ptr at = base + l->used;
    sl_layout_place(l, bytes);
    return at;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t pages_of(const sli_kv_shape *shape)
{
    return (shape->context + SL_KV_PAGE - 1) / SL_KV_PAGE;
}

sl_device_kv sli_device_kv_of(const sl_model *model, const sli_kv_shape *shape, sl_device_ptr base, uint32_t layer)
{
    sl_device_kv kv = {.k_type = shape->k_type,
                       .v_type = shape->v_type,
                       .k_page_bytes = sli_kv_page_bytes(model, shape, SLI_KV_KEYS),
                       .v_page_bytes = sli_kv_page_bytes(model, shape, SLI_KV_VALUES)};
    kv.v_offset = pages_of(shape) * kv.k_page_bytes;
    kv.head_stride = pages_of(shape) * (kv.k_page_bytes + kv.v_page_bytes);
    kv.base = base + (uint64_t)layer * model->kv_heads * kv.head_stride;
    return kv;
}

uint64_t sli_device_kv_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return sli_device_kv_of(model, shape, 0, model->layers).base;
}

uint64_t sli_device_lay(const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out)
{
    sl_layout l = {0};
    uint64_t rows = shape->batch;
    uint64_t widest = max64(max64(model->d, model->ff), sl_model_width(model, SL_BUF_Q));
    for (int b = 0; b < SL_BUF_COUNT; b++)
        out->buffers[b] = room(&l, base, (b == SL_BUF_LOGITS ? shape->logits_rows : rows) * sl_model_width(model, b) * sizeof(float));
    out->q = room(&l, base, rows * widest);
    out->d = room(&l, base, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(float));
    out->sum = room(&l, base, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(int32_t));
    uint64_t rope_bytes = sl_model_rope_tables(model) * rows * (model->rope_dim / 2) * sizeof(float);
    out->rope_cos = room(&l, base, rope_bytes);
    out->rope_sin = room(&l, base, rope_bytes);
    out->pass = room(&l, base, sizeof(sl_device_pass));
    out->attention = room(&l, base,
                          shape->device->kernels->attention_scratch(shape->batch, model->heads, model->head_dim, shape->kv->context));
    out->panels = room(&l, base, shape->panel_bytes);
    out->vectors = room(&l, base, shape->vector_bytes);
    out->kv = room(&l, base, sli_device_kv_bytes(model, shape->kv));
    return l.used;
}

uint64_t sli_device_unit_bytes(const sli_matrix *m, uint32_t index)
{
    uint32_t first_row = index * m->rows_per_unit;
    uint32_t rows = m->rows - first_row < m->rows_per_unit ? m->rows - first_row : m->rows_per_unit;
    return (uint64_t)((rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS) * SL_PANEL_ROWS * m->row_bytes;
}

uint64_t sli_device_largest_unit(const sl_model *model, const sli_units *units)
{
    uint64_t largest = 0;
    uint32_t entries = model->layers * units->layer_ops + units->head_ops;
    for (uint32_t entry = 0; entry < entries; entry++)
        if (units->matrices[entry].unit_count > 0)
            largest = max64(largest, sli_device_unit_bytes(&units->matrices[entry], 0));
    return largest;
}

/* Units that may stay, in the order of a pass; returns how many. */
static uint32_t list_units(const sl_model *model, const sli_units *units, uint32_t layers, sl_placement_unit *list)
{
    uint32_t count = 0, entries = model->layers * units->layer_ops + units->head_ops;
    for (uint32_t entry = 0; entry < entries; entry++) {
        const sli_matrix *m = &units->matrices[entry];
        uint32_t layer = entry / units->layer_ops < model->layers ? entry / units->layer_ops : model->layers;
        for (uint32_t i = 0; i < m->unit_count && layer < layers; i++)
            list[count++] = (sl_placement_unit){layer, sl_vram_round(sli_device_unit_bytes(m, i)), 1.0};
    }
    return count;
}

/* Every weight is read by every token here, so that which of them stay depends on no rate: nominal ones do. */
static sl_status place_units(const sl_model *model, uint32_t layers, uint64_t room_bytes, sli_units *units, uint64_t *resident_bytes,
                             sl_error *err)
{
    const sl_placement_machine machine = {
        .vram_bytes = room_bytes, .device_Bps = 200e9, .link_Bps = 12e9, .host_Bps = 40e9, .disk_Bps = 3e9};
    *resident_bytes = 0;
    if (units->count == 0)
        return SL_OK;
    sl_placement_unit *list = malloc((units->count + 1) * sizeof *list);
    sl_place *place = malloc((units->count + 1) * sizeof *place);
    sl_placement_layer *table = malloc((model->layers + 1) * sizeof *table);
    sl_placement placed;
    sl_status status = SL_OK;
    if (list == NULL || place == NULL || table == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for a plan of %u units", units->count);
    uint32_t count = status == SL_OK ? list_units(model, units, layers, list) : 0;
    if (count > 0)
        status = sl_placement_plan(&machine, list, count, model->layers + 1, place, table, &placed, err);
    /* Those listed are the first ones of all: a prefix of the layers, and the head behind all of them. */
    for (uint32_t u = 0; status == SL_OK && u < count; u++) {
        units->in_vram[u] = place[u] == SL_PLACE_VRAM;
        *resident_bytes += units->in_vram[u] ? list[u].bytes : 0;
    }
    free(list);
    free(place);
    free(table);
    return status;
}

sl_status sli_device_price(const sl_model *model, const sli_device_wishes *wishes, const sli_kv_shape *kv, uint32_t batch,
                           uint32_t logits_rows, sli_units *units, sli_vram_price *out, bool *fits, sl_error *err)
{
    sli_device_memory unused;
    sli_device_shape shape = {wishes->device, batch, logits_rows, kv, wishes->vector_bytes, sli_device_largest_unit(model, units)};
    uint64_t least = sl_vram_ring_min(units->largest_bytes), budget = wishes->budget_bytes;
    uint64_t ring = budget / RING_SHARE < RING_BYTES_MAX ? budget / RING_SHARE : RING_BYTES_MAX;
    *out = (sli_vram_price){.kv_bytes = sli_device_kv_bytes(model, kv), .block_bytes = sli_device_lay(model, &shape, 0, &unused)};
    out->ring_bytes = sl_vram_round(ring > least ? ring : least);
    if (out->block_bytes + out->ring_bytes > budget)
        out->ring_bytes = sl_vram_round(least);
    for (uint32_t u = 0; u < units->count; u++)
        units->in_vram[u] = false;
    sl_vram_config empty = {.ring_bytes = out->ring_bytes, .tickets = SLI_DEVICE_TICKETS};
    uint64_t fixed = out->block_bytes + sl_vram_price(&empty);
    *fits = fixed <= budget;
    out->total_bytes = fixed;
    if (!*fits)
        return SL_OK;
    SL_TRY(place_units(model, wishes->layers, budget - fixed, units, &out->resident_bytes, err));
    sl_vram_config config = {out->resident_bytes, out->ring_bytes, SLI_DEVICE_TICKETS};
    out->total_bytes = out->block_bytes + sl_vram_price(&config);
    return SL_OK;
}

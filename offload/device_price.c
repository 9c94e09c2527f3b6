/* offload/device_price.c: what of the device's memory everything takes, and which weights stay there. See device_engine.h. */
#include "core/layout.h"
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/guess.h"
#include "offload/kv_place.h"
#include "offload/matmul.h"
#include "offload/placement.h"

#include <stdlib.h>

#define MIB            ((uint64_t)1 << 20)
#define RING_BYTES_MAX (32 * MIB)
#define RING_SHARE     16 /* of a tight budget, one part in so many */

sl_device_ptr sli_device_room(sl_layout *l, sl_device_ptr base, uint64_t bytes)
{
    sl_device_ptr at = base + l->used;
    sl_layout_place(l, bytes);
    return at;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint32_t sli_device_kv_pages(const sli_kv_shape *shape)
{
    return (shape->context + SL_KV_PAGE - 1) / SL_KV_PAGE;
}

sl_device_kv sli_device_kv_shape(const sl_model *model, const sli_kv_shape *shape, sl_device_ptr base)
{
    sl_device_kv kv = {.base = base,
                       .k_type = shape->k_type,
                       .v_type = shape->v_type,
                       .k_page_bytes = sli_kv_page_bytes(model, shape, SLI_KV_KEYS),
                       .v_page_bytes = sli_kv_page_bytes(model, shape, SLI_KV_VALUES)};
    kv.v_offset = sli_device_kv_pages(shape) * kv.k_page_bytes;
    kv.head_stride = sli_device_kv_pages(shape) * (kv.k_page_bytes + kv.v_page_bytes);
    return kv;
}

uint64_t sli_device_kv_layer_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return model->kv_heads * sli_device_kv_shape(model, shape, 0).head_stride;
}

uint64_t sli_device_meta_at(const sl_packed *packed, uint32_t layer)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < layer; i++) {
        const sl_packed_layer *l = sli_bundled_layer_at(packed, i);
        at += l != NULL ? sl_layout_round(l->meta_bytes) : 0;
    }
    return at;
}

uint64_t sli_device_nowhere_bytes(const sl_model *model, const sl_packed *packed)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < model->layers; i++) {
        const sl_packed_layer *l = sli_bundled_layer_at(packed, i);
        largest = l != NULL && l->stride > largest ? l->stride : largest;
    }
    return largest;
}

/* What a predictor makes of a row. */
static void lay_predictor(sl_layout *l, const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out)
{
    uint64_t blocks = model->d / SL_ACT_BLOCK + 1, rows = sli_guess_rows(model->ff);
    out->predictor = sli_device_room(l, base, shape->wishes->predictor_bytes);
    out->guess_f32 = sli_device_room(l, base, model->d * sizeof(float));
    out->guess_projected = sli_device_room(l, base, model->d * sizeof(float));
    out->guess_q = sli_device_room(l, base, model->d);
    out->guess_d = sli_device_room(l, base, blocks * sizeof(float));
    out->guess_sum = sli_device_room(l, base, blocks * sizeof(int32_t));
    out->scores = sli_device_room(l, base, rows * sizeof(float));
    out->top = sli_device_room(l, base, shape->wishes->device->kernels->top_scratch(model->ff));
}

static void lay_bundles(sl_layout *l, const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out)
{
    uint64_t neurons = (uint64_t)model->layers * model->ff;
    sl_sparsity sparsity = shape->wishes->sparsity;
    out->dense_at = sli_device_room(l, base, neurons * sizeof(sl_device_ptr));
    out->place_of = sli_device_room(l, base, neurons * sizeof(uint32_t));
    out->meta = sli_device_room(l, base, sli_device_meta_at(shape->wishes->packed, model->layers));
    if (sparsity == SL_SPARSITY_OFF && !shape->wishes->draft_resident)
        return;
    out->sparse_at = sli_device_room(l, base, neurons * sizeof(sl_device_ptr));
    if (sparsity == SL_SPARSITY_COARSE) {
        out->far = sli_device_room(l, base, neurons * sizeof(uint32_t));
        out->holders = sli_device_room(l, base, neurons * sizeof(uint32_t));
    }
    if (shape->wishes->late_drop) {
        out->nowhere = sli_device_room(l, base, sli_device_nowhere_bytes(model, shape->wishes->packed));
        out->late = sli_device_room(l, base, 2 * sizeof(uint64_t));
    }
    out->members = sli_device_room(l, base, (sparsity != SL_SPARSITY_FINE ? neurons : model->ff) * sizeof(uint32_t));
    if (shape->wishes->predictor_bytes > 0)
        lay_predictor(l, model, shape, base, out);
}

uint64_t sli_device_lay(const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out)
{
    sl_layout l = {0};
    uint64_t rows = shape->batch;
    uint64_t widest = max64(max64(model->d, model->ff), sl_model_width(model, SL_BUF_Q));
    for (int b = 0; b < SL_BUF_COUNT; b++)
        out->buffers[b] = sli_device_room(&l, base,
                                          (b == SL_BUF_LOGITS ? shape->logits_rows : rows) * sl_model_width(model, b) * sizeof(float));
    out->q = sli_device_room(&l, base, rows * widest);
    out->d = sli_device_room(&l, base, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(float));
    out->sum = sli_device_room(&l, base, rows * (widest / SL_ACT_BLOCK + 1) * sizeof(int32_t));
    uint64_t rope_bytes = sl_model_rope_tables(model) * rows * (model->rope_dim / 2) * sizeof(float);
    out->rope_cos = sli_device_room(&l, base, rope_bytes);
    out->rope_sin = sli_device_room(&l, base, rope_bytes);
    out->pass = sli_device_room(&l, base, sizeof(sl_device_pass));
    out->attention = sli_device_room(
        &l, base, shape->wishes->device->kernels->attention_scratch(shape->batch, model->heads, model->head_dim, shape->kv->context));
    out->panels = sli_device_room(&l, base, shape->panel_bytes);
    out->vectors = sli_device_room(&l, base, shape->wishes->vector_bytes);
    if (shape->wishes->packed != NULL)
        lay_bundles(&l, model, shape, base, out);
    if (shape->wishes->sparq_k > 0)
        sli_device_lay_sparq(&l, model, shape, base, out);
    if (shape->wishes->exit_layers > 0)
        sli_device_lay_exits(&l, model, shape->wishes, base, out);
    uint64_t layer_bytes = sli_device_kv_layer_bytes(model, shape->kv);
    out->window = shape->kv_host_layers > 0 ? sli_device_room(&l, base, layer_bytes) : 0;
    out->kv = sli_device_room(&l, base, (model->layers - shape->kv_host_layers) * layer_bytes);
    return l.used;
}

/* Bundles become two lots of panels, which take no more than one of whole bundles. */
static uint64_t panels_bytes(const sli_matrix *m, uint32_t index)
{
    return (uint64_t)((sli_unit_rows(m, index) + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS) * SL_PANEL_ROWS * m->row_bytes;
}

uint64_t sli_device_unit_bytes(const sli_matrix *m, uint32_t index)
{
    uint32_t rows = sli_unit_rows(m, index);
    return m->bundles ? (uint64_t)rows * m->row_bytes : panels_bytes(m, index);
}

uint64_t sli_device_largest_unit(const sl_model *model, const sli_units *units)
{
    uint64_t largest = 0;
    uint32_t entries = model->layers * units->layer_ops + units->head_ops;
    for (uint32_t entry = 0; entry < entries; entry++)
        if (units->matrices[entry].unit_count > 0)
            largest = max64(largest, panels_bytes(&units->matrices[entry], 0));
    return largest;
}

/* Bundles of a layer pass through the ring together, because its down product wants all of their columns. */
static uint64_t largest_layer(const sl_model *model, const sli_device_wishes *w, const sli_units *units, uint32_t *count)
{
    uint64_t largest = 0;
    *count = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(model, w->packed, units, layer);
        uint64_t bytes = 0;
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++)
            bytes += sl_vram_round(units->units[m->first_unit + i].bytes);
        largest = max64(largest, bytes);
        *count = m != NULL && m->unit_count > *count ? m->unit_count : *count;
    }
    return largest;
}

#define DRAFTING_DENSITY 0.5 /* any: it says that drafts want what is no bundle first, then first places */

/* How often a unit is read for a token. Of layers that may be left out nobody knows it beforehand, but which of them more often: the earlier. */
static double reads_of(const sli_device_wishes *w, const sli_matrix *m, uint32_t index, uint32_t layer, uint32_t layers)
{
    if (w->exit_layers > 0 && layer >= w->exit_layers && layer < layers)
        return 1 - 0.5 * (layer - w->exit_layers + 1) / layers;
    if (!m->bundles || (w->sparsity == SL_SPARSITY_OFF && !w->draft_resident))
        return 1;
    return sl_placement_reads(w->draft_resident ? DRAFTING_DENSITY : w->density, (index + 0.5) / m->unit_count);
}

typedef struct placing {
    sl_placement_unit *list; /* [units] */
    float *crossing;
    sl_place *place;
    sl_placement_layer *layers;
} placing;

/* Of what is read of a unit that does not stay, what crosses. */
static float crossing_of(const sli_device_wishes *w, const sli_matrix *m)
{
    double processors = w->cpu_share_given ? w->cpu_share : SLI_KV_PLACE_PROCESSORS;
    return m->bundles ? 1 : (float)(1 - processors);
}

/* Units that may stay, in the order of a pass; returns how many. */
static uint32_t list_units(const sl_model *model, const sli_units *units, const sli_device_wishes *w, const placing *p)
{
    uint32_t count = 0, entries = model->layers * units->layer_ops + units->head_ops;
    for (uint32_t entry = 0; entry < entries; entry++) {
        const sli_matrix *m = &units->matrices[entry];
        uint32_t layer = entry / units->layer_ops < model->layers ? entry / units->layer_ops : model->layers;
        for (uint32_t i = 0; i < m->unit_count && layer < w->layers; i++) {
            p->crossing[count] = crossing_of(w, m);
            p->list[count++] = (sl_placement_unit){layer, sl_vram_round(sli_device_unit_bytes(m, i)),
                                                   reads_of(w, m, i, layer, model->layers)};
        }
    }
    return count;
}

/* What the device holds is what is read most often, whatever the rates are: nominal ones do. */
static sl_status place_listed(const sl_model *model, const sli_device_wishes *w, uint64_t room_bytes, const placing *p, sli_units *units,
                              uint64_t *resident_bytes, sl_error *err)
{
    const sl_placement_machine machine = {
        .vram_bytes = room_bytes, .device_Bps = 200e9, .link_Bps = 12e9, .host_Bps = 40e9, .disk_Bps = 3e9};
    sl_placement placed;
    uint32_t count = list_units(model, units, w, p);
    if (count > 0)
        SL_TRY(sl_placement_plan(&machine, p->list, count, model->layers + 1, p->place, p->layers, &placed, err));
    /* Those listed are the first ones of all: a prefix of the layers, and the head behind all of them. */
    for (uint32_t u = 0; u < count; u++) {
        units->in_vram[u] = p->place[u] == SL_PLACE_VRAM;
        *resident_bytes += units->in_vram[u] ? p->list[u].bytes : 0;
    }
    return SL_OK;
}

static sl_status placing_create(const sl_model *model, const sli_units *units, placing *out, sl_error *err)
{
    size_t count = units->count + 1;
    *out = (placing){malloc(count * sizeof *out->list), malloc(count * sizeof *out->crossing), malloc(count * sizeof *out->place),
                     malloc((model->layers + 1) * sizeof *out->layers)};
    bool there = out->list != NULL && out->crossing != NULL && out->place != NULL && out->layers != NULL;
    return there ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for a plan of %u units", units->count);
}

static void placing_free(placing *p)
{
    free(p->list);
    free(p->crossing);
    free(p->place);
    free(p->layers);
}

/* ---- keys and values ---- */

/* Of memory that has `room_bytes` for weights and caches with the least ring, and `extra_bytes` less with a comfortable one. */
static sl_status place_caches(const sl_model *model, const sli_device_wishes *w, const sli_kv_shape *kv, const sli_units *units,
                              uint64_t room_bytes, uint64_t extra_bytes, const placing *p, uint32_t *in_host, sl_error *err)
{
    sli_kv_placing caches = {.layers = model->layers,
                             .context = kv->context,
                             .window = model->window,
                             .layer_bytes = sli_device_kv_layer_bytes(model, kv),
                             .room_bytes = room_bytes,
                             .host_room_bytes = w->kv_host_room_bytes,
                             .weights = p->list,
                             .crossing = p->crossing};
    for (uint32_t layer = 0; layer < model->layers; layer++)
        caches.windowed += sl_model_window(model, layer) > 0;
    *in_host = w->kv_host == SL_KV_HOST_ALL ? model->layers : w->kv_host == SL_KV_HOST_LAYERS ? w->kv_host_layers : 0;
    if (w->kv_host != SL_KV_HOST_AUTO)
        return SL_OK;
    uint32_t fewest = *in_host = sli_kv_place_fewest(&caches);
    /* A pass over sets reads a part of the weights and all of the caches, and drafts are several such passes for a token. */
    if (!w->kv_least_crossing || w->sparsity != SL_SPARSITY_OFF || w->draft_resident)
        return SL_OK;
    if (sli_kv_place_bytes(model->layers, fewest, caches.layer_bytes) + extra_bytes <= room_bytes)
        caches.room_bytes -= extra_bytes;
    caches.weight_count = list_units(model, units, w, p);
    return sli_kv_place_least_crossing(&caches, fewest, in_host, err);
}

/* ---- all of it ---- */

static sl_status price_with(const sl_model *model, const sli_device_wishes *wishes, const sli_device_shape *given, const placing *p,
                            sli_units *units, sli_vram_price *out, bool *fits, sl_error *err)
{
    sli_device_memory unused;
    sli_device_shape shape = *given;
    uint32_t layer_units;
    uint64_t layer = largest_layer(model, wishes, units, &layer_units), layer_kv = sli_device_kv_layer_bytes(model, given->kv);
    uint64_t budget = wishes->budget_bytes, least = sl_vram_ring_min(units->largest_bytes);
    uint64_t ring = budget / RING_SHARE < RING_BYTES_MAX ? budget / RING_SHARE : RING_BYTES_MAX;
    if (layer > 0) { /* and at the end of the ring a place may be too small for the next unit */
        least += layer + sl_vram_round(units->largest_bytes);
        ring += layer;
    }
    least = sl_vram_round(least);
    ring = sl_vram_round(ring > least ? ring : least);
    *out = (sli_vram_price){.tickets = SLI_DEVICE_TICKETS + layer_units};

    sl_vram_config empty = {.ring_bytes = least, .tickets = out->tickets};
    uint64_t others = sli_device_lay(model, &shape, 0, &unused) - model->layers * layer_kv + sl_vram_price(&empty);
    SL_TRY(
        place_caches(model, wishes, shape.kv, units, budget > others ? budget - others : 0, ring - least, p, &shape.kv_host_layers, err));
    out->kv_host_layers = shape.kv_host_layers;
    out->kv_host_bytes = shape.kv_host_layers > 0 ? sl_pages_round(shape.kv_host_layers * layer_kv) : 0;
    out->window_bytes = shape.kv_host_layers > 0 ? layer_kv : 0;
    out->kv_bytes = (model->layers - shape.kv_host_layers) * layer_kv + sli_device_sparq_kv_bytes(model, given->kv);
    out->block_bytes = sli_device_lay(model, &shape, 0, &unused);

    empty.ring_bytes = out->ring_bytes = out->block_bytes + ring <= budget ? ring : least;
    uint64_t fixed = out->block_bytes + sl_vram_price(&empty);
    *fits = fixed <= budget;
    out->total_bytes = fixed;
    if (!*fits)
        return SL_OK;
    SL_TRY(place_listed(model, wishes, budget - fixed, p, units, &out->resident_bytes, err));
    sl_vram_config config = {out->resident_bytes, out->ring_bytes, out->tickets};
    out->total_bytes = out->block_bytes + sl_vram_price(&config);
    return SL_OK;
}

sl_status sli_device_price(const sl_model *model, const sli_device_wishes *wishes, const sli_kv_shape *kv, uint32_t batch,
                           uint32_t logits_rows, sli_units *units, sli_vram_price *out, bool *fits, sl_error *err)
{
    sli_device_shape shape = {wishes, kv, batch, logits_rows, sli_device_largest_unit(model, units), 0};
    placing p;
    for (uint32_t u = 0; u < units->count; u++)
        units->in_vram[u] = false;
    sl_status status = placing_create(model, units, &p, err);
    if (status == SL_OK)
        status = price_with(model, wishes, &shape, &p, units, out, fits, err);
    placing_free(&p);
    return status;
}

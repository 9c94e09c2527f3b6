/* offload/kv.c: the pages of a session's keys and values, in memory; kv_spill.c: where only a part of them is. Zeroed at allocation, so that a slot never read before it is written is finite. */
#include "core/os.h"
#include "offload/kv_spill.h"

#include <stdlib.h>
#include <string.h>

static uint32_t pages_of(uint32_t context)
{
    return (context + SL_KV_PAGE - 1) / SL_KV_PAGE;
}

static size_t rounded_page(uint32_t type, uint32_t head_dim)
{
    return (sl_kv_page_bytes(type, head_dim) + 63) & ~(size_t)63;
}

size_t sli_kv_page_bytes(const sl_model *model, const sli_kv_shape *shape, int kind)
{
    if (kind == SLI_KV_KEY_ROWS && !shape->key_rows)
        return 0;
    return rounded_page(kind == SLI_KV_VALUES ? shape->v_type : shape->k_type, model->head_dim);
}

/* A pass writes its rows before the first of them looks back: a window and the rows, wherever in a page they begin. Sums of values (SparQ) are made of all
 * pages, when a row first wants them. */
static uint32_t ring_of(const sl_model *model, const sli_kv_shape *shape)
{
    uint32_t rows = shape->pass_rows > SL_TREE_ROWS ? shape->pass_rows : SL_TREE_ROWS, pages = pages_of(shape->context);
    if (model->window == 0 || shape->pass_rows == 0 || shape->spill || shape->value_sums || model->window >= shape->context)
        return 0;
    uint32_t ring = (model->window + rows) / SL_KV_PAGE + 2;
    return ring < pages ? ring : 0;
}

static uint32_t pages_of_layer(const sl_model *model, const sli_kv_shape *shape, uint32_t layer)
{
    uint32_t ring = ring_of(model, shape);
    return ring > 0 && model->has_window[layer] ? ring : pages_of(shape->context);
}

static size_t arena_of(const sl_model *model, const sli_kv_shape *shape)
{
    size_t per_page = 0, pages = 0;
    for (int kind = 0; kind < SLI_KV_KINDS; kind++)
        per_page += sli_kv_page_bytes(model, shape, kind);
    for (uint32_t layer = 0; layer < sli_kv_layers(model, shape); layer++) /* those of a device have no rings: it counts, not which */
        pages += pages_of_layer(model, shape, layer);
    return per_page * pages * model->kv_heads;
}

static size_t table_of(const sl_model *model, const sli_kv_shape *shape)
{
    return (size_t)model->layers * model->kv_heads * SLI_KV_KINDS * pages_of(shape->context) * sizeof(uint8_t *);
}

static size_t sums_of(const sl_model *model, const sli_kv_shape *shape)
{
    if (!shape->value_sums)
        return 0;
    return (size_t)model->layers * model->kv_heads * pages_of(shape->context) * model->head_dim * sizeof(float);
}

static size_t chosen_of(const sl_model *model, const sli_kv_shape *shape)
{
    return shape->spill ? (size_t)model->kv_heads * shape->chosen_pages * sizeof(uint32_t) : 0;
}

uint32_t sli_kv_indexed_layers(const sl_model *model, uint32_t layer)
{
    uint32_t count = 0;
    for (uint32_t before = 0; before < layer; before++)
        count += sl_model_window(model, before) == 0;
    return count;
}

uint32_t sli_kv_index_type(const sl_model *model)
{
    return model->head_dim % SL_ACT_BLOCK == 0 ? SL_TYPE_Q4_0 : SL_TYPE_F16;
}

size_t sli_kv_index_page_bytes(const sl_model *model)
{
    return rounded_page(sli_kv_index_type(model), model->head_dim);
}

static size_t index_of(const sl_model *model, const sli_kv_shape *shape)
{
    if (!shape->key_index || shape->host_layers > 0) /* a device has it itself */
        return 0;
    return (size_t)sli_kv_indexed_layers(model, model->layers) * model->kv_heads * pages_of(shape->context) *
           sli_kv_index_page_bytes(model);
}

uint64_t sli_kv_price(const sl_model *model, const sli_kv_shape *shape)
{
    uint64_t pages = shape->spill ? sli_kv_spill_bytes(model, shape) : sl_pages_round(arena_of(model, shape));
    return pages + table_of(model, shape) + sums_of(model, shape) + index_of(model, shape) + chosen_of(model, shape) +
           2 * model->layers * sizeof(uint32_t);
}

/* Pages of a layer's head lie kind by kind. */
static void lay_pages(const sl_model *model, sli_kv *kv)
{
    const uint8_t *at = kv->arena, **row = kv->pages;
    for (uint32_t layer = 0; layer < model->layers; layer++) {
        uint32_t places = kv->ring_pages > 0 && model->has_window[layer] ? kv->ring_pages : kv->page_count;
        for (uint32_t i = 0; i < model->kv_heads * SLI_KV_KINDS; i++, row += kv->page_count) {
            size_t bytes = kv->page_bytes[i % SLI_KV_KINDS];
            for (uint32_t page = 0; page < kv->page_count; page++)
                row[page] = bytes > 0 ? at + page % places * bytes : NULL;
            at += places * bytes;
        }
    }
}

static sl_status create_in_memory(const sl_model *model, sli_kv *kv, sl_error *err)
{
    kv->arena = sl_pages_alloc(kv->arena_bytes);
    if (kv->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a KV cache of %zu bytes", kv->arena_bytes);
    lay_pages(model, kv);
    return SL_OK;
}

sl_status sli_kv_create(sl_engine *engine, const sli_kv_shape *shape, sli_kv *out, sl_error *err)
{
    const sl_model *model = engine->model;
    *out = (sli_kv){.page_count = pages_of(shape->context),
                    .kv_heads = model->kv_heads,
                    .head_dim = model->head_dim,
                    .ring_pages = ring_of(model, shape),
                    .model = model,
                    .k_type = shape->k_type,
                    .v_type = shape->v_type,
                    .key_rows = shape->key_rows,
                    .index_type = sli_kv_index_type(model),
                    .index_page_bytes = sli_kv_index_page_bytes(model),
                    .arena_bytes = arena_of(model, shape)};
    for (int kind = 0; kind < SLI_KV_KINDS; kind++)
        out->page_bytes[kind] = sli_kv_page_bytes(model, shape, kind);
    out->pages = malloc(table_of(model, shape));
    out->summed_pages = calloc(model->layers, sizeof *out->summed_pages);
    out->value_sums = shape->value_sums ? malloc(sums_of(model, shape)) : NULL;
    out->index = index_of(model, shape) > 0 ? aligned_alloc(64, index_of(model, shape)) : NULL;
    out->chosen_pages = shape->chosen_pages;
    out->chosen = chosen_of(model, shape) > 0 ? malloc(chosen_of(model, shape)) : NULL;
    out->indexed_pages = calloc(model->layers, sizeof *out->indexed_pages);
    sl_status status = SL_OK;
    if (out->pages == NULL || out->summed_pages == NULL || (shape->value_sums && out->value_sums == NULL) || out->indexed_pages == NULL ||
        (index_of(model, shape) > 0 && out->index == NULL) || (chosen_of(model, shape) > 0 && out->chosen == NULL))
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for the tables of a KV cache of %u positions", shape->context);
    if (status == SL_OK)
        status = shape->spill ? sli_kv_spill_create(engine, shape, out, err) : create_in_memory(model, out, err);
    if (status != SL_OK)
        sli_kv_free(out);
    return status;
}

void sli_kv_begin_write(sli_kv *kv, uint32_t layer, uint32_t slot)
{
    if (kv->summed_pages[layer] > slot / SL_KV_PAGE + 1) /* the sum before the slot's own page is without it */
        kv->summed_pages[layer] = slot / SL_KV_PAGE + 1;
    if (kv->indexed_pages[layer] > slot / SL_KV_PAGE)
        kv->indexed_pages[layer] = slot / SL_KV_PAGE;
}

uint8_t *sli_kv_index(const sli_kv *kv, uint32_t layer, uint32_t head)
{
    if (kv->index == NULL || sl_model_window(kv->model, layer) > 0)
        return NULL;
    size_t heads = (size_t)sli_kv_indexed_layers(kv->model, layer) * kv->kv_heads + head;
    return kv->index + heads * kv->page_count * kv->index_page_bytes;
}

/* ---- what layers with a window hold ---- */

uint32_t sli_kv_first_seen(const sl_model *model, uint32_t position)
{
    return model->window > 0 && position >= model->window ? (position - model->window + 1) / SL_KV_PAGE : 0;
}

static uint32_t first_in_ring(const sli_kv *kv, uint32_t written)
{
    uint32_t pages = (written + SL_KV_PAGE - 1) / SL_KV_PAGE;
    return kv->ring_pages > 0 && pages > kv->ring_pages ? pages - kv->ring_pages : 0;
}

uint32_t sli_kv_first_held(const sli_kv *kv, uint32_t layer, uint32_t written)
{
    return kv->model->has_window[layer] ? first_in_ring(kv, written) : 0;
}

uint32_t sli_kv_window_first(const sli_kv *kv)
{
    uint32_t first = first_in_ring(kv, kv->written);
    return kv->unloaded > first ? kv->unloaded : first;
}

void sli_kv_loaded(sli_kv *kv, uint32_t positions, uint32_t window_first)
{
    kv->written = positions;
    kv->unloaded = window_first;
}

void sli_kv_note_write(sli_kv *kv, uint32_t slot, uint32_t rows)
{
    if (slot == 0) /* a text begins anew */
        kv->written = kv->unloaded = 0;
    if (slot + rows > kv->written)
        kv->written = slot + rows;
}

/* ---- rows ---- */

/* The arena is ours and writable; the page table shows it read-only because attention only reads. */
static uint8_t *writable(const uint8_t *const *pages, uint32_t position)
{
    return (uint8_t *)(uintptr_t)pages[position / SL_KV_PAGE];
}

void sli_kv_copy(const sli_kv *kv, const sl_model *model, const sl_kernels *kernels, uint32_t from, uint32_t to)
{
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (uint32_t head = 0; head < kv->kv_heads && sli_kv_holds(kv, layer); head++) {
            const uint8_t *const *k = sli_kv_pages(kv, layer, head, SLI_KV_KEYS), *const *v = sli_kv_pages(kv, layer, head, SLI_KV_VALUES);
            const uint8_t *const *rows = sli_kv_pages(kv, layer, head, SLI_KV_KEY_ROWS);
            kernels->kv_copy_k(kv->k_type, k[from / SL_KV_PAGE], from % SL_KV_PAGE, writable(k, to), to % SL_KV_PAGE, model->head_dim);
            kernels->kv_copy_v(kv->v_type, v[from / SL_KV_PAGE], from % SL_KV_PAGE, writable(v, to), to % SL_KV_PAGE, model->head_dim);
            if (kv->key_rows)
                kernels->kv_copy_v(kv->k_type, rows[from / SL_KV_PAGE], from % SL_KV_PAGE, writable(rows, to), to % SL_KV_PAGE,
                                   model->head_dim);
        }
}

void sli_kv_free(sli_kv *kv)
{
    sli_kv_spill_free(kv);
    free(kv->pages);
    free(kv->value_sums);
    free(kv->summed_pages);
    free(kv->index);
    free(kv->chosen);
    free(kv->indexed_pages);
    if (kv->arena != NULL)
        sl_pages_free(kv->arena, kv->arena_bytes);
    *kv = (sli_kv){0};
}

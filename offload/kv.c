/* offload/kv.c: the pages of a session's keys and values. Zeroed at allocation, so that a slot never read before it is written is finite. */
#include "core/os.h"
#include "offload/engine.h"

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

static size_t arena_of(const sl_model *model, uint32_t context, uint32_t k_type, uint32_t v_type)
{
    size_t per_page = rounded_page(k_type, model->head_dim) + rounded_page(v_type, model->head_dim);
    return per_page * pages_of(context) * model->kv_heads * model->layers;
}

static size_t table_of(const sl_model *model, uint32_t context)
{
    return (size_t)model->layers * model->kv_heads * 2 * pages_of(context) * sizeof(uint8_t *);
}

uint64_t sli_kv_price(const sl_model *model, uint32_t context, uint32_t k_type, uint32_t v_type)
{
    return sl_pages_round(arena_of(model, context, k_type, v_type)) + table_of(model, context);
}

sl_status sli_kv_create(const sl_model *model, uint32_t context, uint32_t k_type, uint32_t v_type, sli_kv *out, sl_error *err)
{
    *out = (sli_kv){.page_count = pages_of(context),
                    .kv_heads = model->kv_heads,
                    .k_type = k_type,
                    .v_type = v_type,
                    .k_page_bytes = rounded_page(k_type, model->head_dim),
                    .v_page_bytes = rounded_page(v_type, model->head_dim),
                    .arena_bytes = arena_of(model, context, k_type, v_type)};
    out->pages = malloc(table_of(model, context));
    out->arena = sl_pages_alloc(out->arena_bytes);
    if (out->pages == NULL || out->arena == NULL) {
        size_t wanted = out->arena_bytes;
        sli_kv_free(out);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a KV cache of %zu bytes", wanted);
    }
    const uint8_t *at = out->arena;
    size_t rows = (size_t)model->layers * model->kv_heads;
    for (size_t row = 0; row < rows; row++)
        for (int value = 0; value < 2; value++)
            for (uint32_t page = 0; page < out->page_count; page++) {
                out->pages[(row * 2 + value) * out->page_count + page] = at;
                at += value ? out->v_page_bytes : out->k_page_bytes;
            }
    return SL_OK;
}

/* The arena is ours and writable; the page table shows it read-only because attention only reads. */
static uint8_t *writable(const uint8_t *const *pages, uint32_t position)
{
    return (uint8_t *)(uintptr_t)pages[position / SL_KV_PAGE];
}

void sli_kv_copy(const sli_kv *kv, const sl_model *model, const sl_kernels *kernels, uint32_t from, uint32_t to)
{
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (uint32_t head = 0; head < kv->kv_heads; head++) {
            const uint8_t *const *k = sli_kv_pages(kv, layer, head, false), *const *v = sli_kv_pages(kv, layer, head, true);
            kernels->kv_copy_k(kv->k_type, k[from / SL_KV_PAGE], from % SL_KV_PAGE, writable(k, to), to % SL_KV_PAGE, model->head_dim);
            kernels->kv_copy_v(kv->v_type, v[from / SL_KV_PAGE], from % SL_KV_PAGE, writable(v, to), to % SL_KV_PAGE, model->head_dim);
        }
}

void sli_kv_free(sli_kv *kv)
{
    free(kv->pages);
    if (kv->arena != NULL)
        sl_pages_free(kv->arena, kv->arena_bytes);
    *kv = (sli_kv){0};
}

/* offload/bundled.c: see bundled.h. One arena, whose size follows from the packed file alone. */
#include "offload/bundled.h"
#include "core/layout.h"
#include "core/os.h"

#include <string.h>

#define SMALL_STRIDE 4096 /* bundles of which several share a page are worth reading through a wider gap (bench/SPEED.md, "Bundles") */

static size_t largest_column(const sl_model *model, const sl_packed *packed)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < model->layers; i++) {
        const sl_packed_layer *layer = sli_bundled_layer_at(packed, i);
        if (layer != NULL && layer->column_bytes > largest)
            largest = layer->column_bytes;
    }
    return largest;
}

size_t sli_bundled_plain_bytes(const sl_model *model, const sl_packed *packed)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < model->layers; i++) {
        const sl_packed_layer *layer = sli_bundled_layer_at(packed, i);
        bool compact = layer != NULL && sl_packed_bundle_bytes(layer) < sl_packed_silent_bytes(layer);
        size_t bytes = compact ? (size_t)layer->gate_bytes + layer->up_bytes : 0;
        largest = bytes > largest ? bytes : largest;
    }
    return SLI_PLAIN_BUNDLES * largest;
}

static void lay_out(sl_layout *l, const sl_model *model, const sl_packed *packed, sli_bundled *b)
{
    size_t ff = model->ff;
    b->layers = sl_layout_place(l, model->layers * sizeof *b->layers);
    for (uint32_t i = 0; i < model->layers; i++) {
        const sl_packed_layer *layer = sli_bundled_layer_at(packed, i);
        sli_bundled_layer out = {.packed = layer};
        if (layer != NULL) {
            out.place_of = sl_layout_place(l, ff * sizeof *out.place_of);
            out.meta = sl_layout_place(l, layer->meta_bytes);
        }
        if (layer != NULL && l->base != NULL)
            (void)!sli_bundle_form_of(layer, &out.form); /* checked when the file was opened */
        if (l->base != NULL)
            b->layers[i] = out;
    }
    b->columns = sl_layout_place(l, ff * largest_column(model, packed));
    b->column_at = sl_layout_place(l, ff * sizeof *b->column_at);
    b->everyone = sl_layout_place(l, ff * sizeof *b->everyone);
    b->wanted = sl_layout_place(l, ff * sizeof *b->wanted);
    b->places = sl_layout_place(l, ff * sizeof *b->places);
    b->addresses = sl_layout_place(l, ff * sizeof *b->addresses);
    b->bundles = sl_layout_place(l, ff * sizeof *b->bundles);
    b->gate = sl_layout_place(l, ff * sizeof *b->gate);
    b->up = sl_layout_place(l, ff * sizeof *b->up);
    b->neurons = sl_layout_place(l, ff * sizeof *b->neurons);
    b->members = sl_layout_place(l, ff * sizeof *b->members);
}

uint64_t sli_bundled_price(const sl_model *model, const sl_packed *packed)
{
    sl_layout l = {0};
    sli_bundled unused = {0};
    if (largest_column(model, packed) == 0)
        return 0;
    lay_out(&l, model, packed, &unused);
    return sl_pages_round(l.used);
}

sl_status sli_bundled_create(const sl_model *model, const sl_packed *packed, sli_bundled *out, sl_error *err)
{
    sl_layout l = {0};
    memset(out, 0, sizeof *out);
    if (largest_column(model, packed) == 0)
        return SL_OK;
    lay_out(&l, model, packed, out);
    out->arena_bytes = l.used;
    out->arena = sl_pages_alloc(l.used);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu bytes beside the packed neurons", l.used);
    l = (sl_layout){.base = out->arena};
    lay_out(&l, model, packed, out);
    for (uint32_t i = 0; i < model->layers; i++)
        for (uint32_t p = 0; out->layers[i].packed != NULL && p < model->ff; p++)
            out->layers[i].place_of[out->layers[i].packed->order[p]] = p;
    for (uint32_t j = 0; j < model->ff; j++)
        out->everyone[j] = j;
    return SL_OK;
}

void sli_bundled_free(sli_bundled *b)
{
    if (b->arena != NULL)
        sl_pages_free(b->arena, b->arena_bytes);
    memset(b, 0, sizeof *b);
}

uint32_t sli_bundles_gap_bytes(uint32_t stride)
{
    return stride < SMALL_STRIDE ? 2 * SL_BUNDLES_GAP_BYTES : SL_BUNDLES_GAP_BYTES;
}

sl_bundles_config sli_bundled_cache(const sl_model *model, const sl_packed *packed, const uint32_t *keep, uint32_t share,
                                    uint32_t alignment, sl_bundle_policy policy, sl_bundle_layer *layers)
{
    sl_bundles_config config = {.layers = layers,
                                .layer_count = model->layers,
                                .alignment = alignment,
                                .request_bytes = SL_BUNDLES_REQUEST_BYTES,
                                .policy = policy};
    for (uint32_t i = 0; i < model->layers; i++) {
        const sl_packed_layer *layer = sli_bundled_layer_at(packed, i);
        layers[i] = (sl_bundle_layer){0};
        if (layer == NULL)
            continue;
        layers[i] = (sl_bundle_layer){.offset = layer->bundles_offset, .stride = layer->stride, .count = layer->stored};
        layers[i].bytes = sl_packed_bundle_bytes(layer);
        config.gap_bytes = sli_bundles_gap_bytes(layer->stride);
        layers[i].capacity = (uint32_t)((uint64_t)layer->stored * share / SLI_CACHE_WHOLE);
        uint32_t wanted = keep[i] < layer->stored ? keep[i] : layer->stored;
        config.wanted_max = wanted > config.wanted_max ? wanted : config.wanted_max;
    }
    return config;
}

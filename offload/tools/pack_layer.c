/* offload/tools/pack_layer.c: matrices to bundles. Matrices are streamed, bundles are filled wherever the order puts them. */
#include "offload/tools/pack_layer.h"
#include "kernels/columns.h"

#include <stdlib.h>
#include <string.h>

bool sli_pack_can_bundle(const sli_pack_source *s, uint32_t layer, sl_packed_layer *out)
{
    if (s->packed) {
        const sl_packed_layer *packed = sl_packed_layer_at(s->packed, layer);
        *out = packed ? *packed : (sl_packed_layer){0};
        return out->bundled;
    }
    if (!sli_packed_layer_of(s->original, layer, out, NULL) || sl_column_block(out->down_type) == 0)
        return false;
    size_t column = sl_column_bytes(out->down_type, out->d), meta = sl_column_meta_bytes(out->down_type, out->d, out->ff);
    if (column > INT32_MAX / 4)
        return false;
    uint64_t used = (uint64_t)out->gate_bytes + out->up_bytes + column;
    out->column_bytes = (uint32_t)column;
    out->stored = out->ff;
    for (int i = 0; i < SL_PACK_PARTS; i++)
        out->stored_bytes[i] = sl_packed_plain_bytes(out, i);
    out->stride = (uint32_t)((used + SL_PACK_STRIDE - 1) / SL_PACK_STRIDE * SL_PACK_STRIDE);
    out->meta_bytes = meta;
    out->bundled = true;
    return true;
}

typedef struct filling {
    const sl_packed_layer *shape;
    const uint32_t *place_of, *source_order; /* the latter of a packed source */
    uint32_t first, count;
    uint8_t *bundles, *meta;
    uint32_t at;       /* row of the matrix, or place of the source, that comes next */
    size_t offset;     /* in the bundle, and */
    size_t bytes;      /* bytes of what is being filled in */
    uint8_t **columns; /* [ff]: in the bundles, or `nowhere` */
    uint8_t *nowhere;
} filling;

/* Where a neuron's bundle is being made; NULL in another round. */
static uint8_t *bundle_of(const filling *f, uint32_t neuron)
{
    uint32_t place = f->place_of[neuron];
    return place >= f->first && place - f->first < f->count ? f->bundles + (size_t)(place - f->first) * f->shape->stride : NULL;
}

/* Whole rows of gate or up. */
static sl_status take_rows(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    filling *f = ctx;
    for (size_t i = 0; i < bytes / f->bytes; i++, f->at++) {
        uint8_t *bundle = bundle_of(f, f->at);
        if (bundle)
            memcpy(bundle + f->offset, data + i * f->bytes, f->bytes);
    }
    return SL_OK;
}

/* Rows of down, in groups as the columns have them. */
static sl_status take_columns(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    filling *f = ctx;
    uint32_t rows = (uint32_t)(bytes / f->bytes);
    sl_columns_split(f->shape->down_type, data, f->shape->d, f->shape->ff, f->at, rows, f->columns, f->meta);
    f->at += rows;
    return SL_OK;
}

static sl_status fill_from_matrices(sli_pack_source *s, uint32_t layer, filling *f, sl_error *err)
{
    const sl_packed_layer *shape = f->shape;
    const sl_gguf_tensor *matrices[3];
    sl_packed_layer ignored;
    if (!sli_packed_layer_of(s->original, layer, &ignored, matrices))
        return sl_fail(err, SL_INTERNAL, "layer %u cannot be cut", layer);
    for (int i = 0; i < 2 && f->count > 0; i++) {
        f->at = 0;
        f->offset = i == 0 ? 0 : shape->gate_bytes;
        f->bytes = i == 0 ? shape->gate_bytes : shape->up_bytes;
        SL_TRY(sli_pack_stream(s, matrices[i]->offset, matrices[i]->bytes, f->bytes, take_rows, f, err));
    }
    f->columns = malloc(shape->ff * sizeof(*f->columns));
    f->nowhere = malloc(shape->column_bytes);
    sl_status status = SL_OK;
    if (!f->columns || !f->nowhere)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory for %u columns", sl_gguf_path(s->file), shape->ff);
    for (uint32_t neuron = 0; neuron < shape->ff && status == SL_OK; neuron++) {
        uint8_t *bundle = bundle_of(f, neuron);
        f->columns[neuron] = bundle ? bundle + shape->gate_bytes + shape->up_bytes : f->nowhere;
    }
    f->at = 0;
    f->bytes = (size_t)(matrices[2]->bytes / shape->d);
    if (status == SL_OK)
        status = sli_pack_stream(s, matrices[2]->offset, matrices[2]->bytes, f->bytes * SL_COLUMN_GROUP, take_columns, f, err);
    free(f->nowhere);
    free(f->columns);
    return status;
}

static sl_status take_bundles(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    filling *f = ctx;
    const sl_packed_layer *shape = f->shape;
    for (size_t i = 0; i < bytes / shape->stride; i++, f->at++) {
        uint8_t *bundle = bundle_of(f, f->source_order[f->at]);
        if (bundle)
            memcpy(bundle, data + i * shape->stride, sl_packed_bundle_bytes(shape));
    }
    return SL_OK;
}

static sl_status take_meta(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    filling *f = ctx;
    memcpy(f->meta, data, bytes);
    f->meta += bytes;
    return SL_OK;
}

/* The bundles are the same in any order, but for their places. */
static sl_status fill_from_bundles(sli_pack_source *s, uint32_t layer, filling *f, sl_error *err)
{
    const sl_gguf_tensor *meta = sli_pack_layer_section(s->file, layer, "meta");
    f->source_order = f->shape->order;
    if (f->count > 0)
        SL_TRY(sli_pack_stream_section(s, sli_pack_layer_section(s->file, layer, "bundles"), f->shape->stride, take_bundles, f, err));
    return meta ? sli_pack_stream_section(s, meta, 1, take_meta, f, err) : SL_OK;
}

sl_status sli_pack_fill(sli_pack_source *s, uint32_t layer, const sl_packed_layer *shape, const uint32_t *place_of, uint32_t first,
                        uint32_t count, uint8_t *bundles, uint8_t *meta, sl_error *err)
{
    filling f = {.shape = shape, .place_of = place_of, .first = first, .count = count, .bundles = bundles, .meta = meta};
    if (count > 0)
        memset(bundles, 0, (size_t)count * shape->stride);
    return s->packed ? fill_from_bundles(s, layer, &f, err) : fill_from_matrices(s, layer, &f, err);
}

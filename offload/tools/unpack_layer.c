/* offload/tools/unpack_layer.c: bundles to matrices. Bundles are streamed; a matrix, or all columns, are gathered in memory in the original's
 * order and then written from end to end. As many of the three as fit the work memory are gathered in one pass. */
#include "kernels/columns.h"
#include "offload/bundle_form.h"
#include "offload/tools/pack_layer.h"

#include <stdlib.h>
#include <string.h>

enum { GATE, UP, DOWN, PARTS };

#define PIECE_BYTES ((size_t)4 << 20)

typedef struct gathering {
    sli_pack_source *source;
    const sl_packed_layer *shape;
    const sl_gguf_tensor *matrices[PARTS];
    sli_bundle_form form;
    size_t bytes[PARTS];    /* of each part, plain */
    int first, end;         /* parts of this pass */
    uint8_t *rows[PARTS];   /* of those: [ff][bytes] */
    uint32_t place;         /* that comes next */
    uint8_t *meta, *silent; /* NULL: there is none */
    const sl_kernels *kernels;
    uint64_t work_bytes;
    sl_file_writer *out;
    sl_status (*told)(void *ctx, uint64_t bytes, sl_error *err);
    void *ctx;
} gathering;

static sl_status no_memory(const gathering *g, uint64_t bytes, sl_error *err)
{
    return sl_fail(err, SL_NO_MEMORY, "%s: no memory for a feed-forward matrix of %llu bytes", sl_gguf_path(g->source->file),
                   (unsigned long long)bytes);
}

static sl_status gather_bundles(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    gathering *g = ctx;
    for (const uint8_t *bundle = data; bundle < data + bytes; bundle += g->shape->stride, g->place++) {
        size_t neuron = g->shape->order[g->place];
        for (int part = g->first; part < g->end; part++)
            sli_bundle_make_plain(&g->form, g->kernels, part, part + 1, bundle, g->rows[part] + neuron * g->bytes[part]);
    }
    return SL_OK;
}

/* All silent neurons are the same. */
static void gather_silent(gathering *g)
{
    for (; g->place < g->shape->ff; g->place++) {
        size_t neuron = g->shape->order[g->place], at = 0;
        for (int part = 0; part < PARTS; at += g->bytes[part++])
            if (part >= g->first && part < g->end)
                memcpy(g->rows[part] + neuron * g->bytes[part], g->silent + at, g->bytes[part]);
    }
}

static sl_status gather_section(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    uint8_t **to = ctx;
    memcpy(*to, data, bytes);
    *to += bytes;
    return SL_OK;
}

static sl_status write_pieces(gathering *g, const uint8_t *data, uint64_t bytes, sl_error *err)
{
    for (uint64_t done = 0; done < bytes;) {
        size_t piece = bytes - done < PIECE_BYTES ? (size_t)(bytes - done) : PIECE_BYTES;
        SL_TRY(sl_file_writer_put(g->out, data + done, piece, err));
        SL_TRY(g->told(g->ctx, piece, err));
        done += piece;
    }
    return SL_OK;
}

static sl_status join_down(gathering *g, sl_error *err)
{
    const sl_packed_layer *shape = g->shape;
    size_t row_bytes = (size_t)(g->matrices[DOWN]->bytes / shape->d), at_once = SL_COLUMN_GROUP;
    while (at_once * 2 * row_bytes <= PIECE_BYTES)
        at_once *= 2;
    const uint8_t **columns = malloc(shape->ff * sizeof(*columns));
    uint8_t *joined = malloc(at_once * row_bytes);
    sl_status status = columns && joined ? SL_OK : no_memory(g, at_once * row_bytes, err);
    for (size_t neuron = 0; neuron < shape->ff && status == SL_OK; neuron++)
        columns[neuron] = g->rows[DOWN] + neuron * shape->column_bytes;
    for (size_t row = 0; row < shape->d && status == SL_OK; row += at_once) {
        size_t rows = shape->d - row < at_once ? shape->d - row : at_once;
        sl_columns_join(shape->down_type, columns, g->meta, shape->d, shape->ff, (uint32_t)row, (uint32_t)rows, joined);
        status = write_pieces(g, joined, rows * row_bytes, err);
    }
    free(joined);
    free(columns);
    return status;
}

static sl_status load_section(gathering *g, const sl_gguf_tensor *section, uint8_t **out, sl_error *err)
{
    if (!section)
        return SL_OK;
    *out = malloc((size_t)section->bytes);
    if (!*out)
        return no_memory(g, section->bytes, err);
    uint8_t *to = *out;
    return sli_pack_stream_section(g->source, section, 1, gather_section, &to, err);
}

/* One pass over the bundles, from part g->first on; moves that on to the first part that did not fit. */
static sl_status gather_pass(gathering *g, const sl_gguf_tensor *bundles, sl_error *err)
{
    uint64_t used = 0, at = 0;
    g->place = 0;
    for (g->end = g->first; g->end < PARTS; g->end++) {
        uint64_t bytes = (uint64_t)g->shape->ff * g->bytes[g->end];
        if (g->end > g->first && used + bytes > g->work_bytes)
            break;
        used += bytes;
    }
    uint8_t *memory = malloc((size_t)used);
    if (!memory)
        return no_memory(g, used, err);
    for (int part = g->first; part < g->end; at += (uint64_t)g->shape->ff * g->bytes[part++])
        g->rows[part] = memory + at;
    sl_status status = sli_pack_stream_section(g->source, bundles, g->shape->stride, gather_bundles, g, err);
    if (status == SL_OK)
        gather_silent(g);
    for (int part = g->first; part < g->end; part++) {
        if (status == SL_OK)
            status = sl_file_writer_seek(g->out, g->matrices[part]->offset, err);
        if (status == SL_OK)
            status = part == DOWN ? join_down(g, err) : write_pieces(g, g->rows[part], g->matrices[part]->bytes, err);
        g->rows[part] = NULL;
    }
    free(memory);
    g->first = g->end;
    return status;
}

sl_status sli_unpack_layer(sli_pack_source *s, uint32_t layer, uint64_t work_bytes, sl_file_writer *out,
                           sl_status (*told)(void *ctx, uint64_t bytes, sl_error *err), void *ctx, sl_error *err)
{
    const sl_packed_layer *shape = sl_packed_layer_at(s->packed, layer);
    gathering g = {.source = s, .shape = shape, .work_bytes = work_bytes, .out = out, .told = told, .ctx = ctx};
    g.kernels = sl_kernels_for(SL_ISA_SCALAR);
    for (int part = 0; part < PARTS; part++)
        g.bytes[part] = sl_packed_plain_bytes(shape, part);
    sl_packed_layer ignored;
    if (!sli_bundle_form_of(shape, &g.form))
        return sl_fail(err, SL_INTERNAL, "layer %u stores what it cannot", layer);
    if (!sli_packed_layer_of(s->original, layer, &ignored, g.matrices))
        return sl_fail(err, SL_INTERNAL, "layer %u was not cut", layer);
    sl_status status = load_section(&g, sli_pack_layer_section(s->file, layer, "meta"), &g.meta, err);
    if (status == SL_OK && shape->stored < shape->ff)
        status = load_section(&g, sli_pack_layer_section(s->file, layer, "silent"), &g.silent, err);
    while (g.first < PARTS && status == SL_OK)
        status = gather_pass(&g, sli_pack_layer_section(s->file, layer, "bundles"), err);
    free(g.silent);
    free(g.meta);
    return status;
}

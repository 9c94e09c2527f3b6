/* offload/tools/unpack.c: a packed file back into its original, and checking one. */
#include "kernels/columns.h"
#include "offload/bundle_form.h"
#include "offload/tools/pack.h"
#include "offload/tools/pack_layer.h"

#include <stdlib.h>
#include <string.h>

sl_status sli_pack_check_columns(const sl_packed *packed, sl_error *err)
{
    for (uint32_t i = 0; i < sl_packed_layer_count(packed); i++) {
        const sl_packed_layer *l = sl_packed_layer_at(packed, i);
        if (!l->bundled)
            continue;
        const char *path = sl_gguf_path(sl_packed_file(packed)), *type = sl_format_of(l->down_type)->name;
        if (sl_column_block(l->down_type) == 0)
            return sl_fail(err, SL_FORMAT, "%s: layer %u is cut, but its down matrix is %s, which cannot be", path, i, type);
        size_t column = sl_column_bytes(l->down_type, l->d), meta = sl_column_meta_bytes(l->down_type, l->d, l->ff);
        if (column != l->column_bytes || meta != l->meta_bytes)
            return sl_fail(err, SL_FORMAT,
                           "%s: layer %u has columns of %u bytes and %llu bytes of meta data, but a down matrix of %s makes %zu and %zu",
                           path, i, l->column_bytes, (unsigned long long)l->meta_bytes, type, column, meta);
        sli_bundle_form form;
        if (!sli_bundle_form_of(l, &form))
            return sl_fail(err, SL_FORMAT, "%s: layer %u stores %u, %u and %u bytes of a neuron's parts, which their types do not have",
                           path, i, l->stored_bytes[0], l->stored_bytes[1], l->stored_bytes[2]);
    }
    return SL_OK;
}

typedef struct unpacking {
    const sl_tool_watch *watch;
    sli_pack_source source;
    sl_file_writer *out; /* NULL: only looks */
    uint64_t done_bytes, told_bytes, total_bytes;
} unpacking;

static sl_status told(void *ctx, uint64_t bytes, sl_error *err)
{
    unpacking *u = ctx;
    u->done_bytes += bytes;
    bool last = u->done_bytes == u->total_bytes;
    if (!u->watch || !u->watch->progress || (u->done_bytes - u->told_bytes < SLI_TOOL_STEP_BYTES && !last))
        return SL_OK;
    u->told_bytes = u->done_bytes;
    if (u->watch->progress(u->watch->ctx, u->done_bytes, u->total_bytes))
        return SL_OK;
    return sl_fail(err, SL_INTERRUPTED, "stopped at %.0f %%%s", 100.0 * (double)u->done_bytes / (double)u->total_bytes,
                   u->out ? "; no file was left" : "");
}

/* The sink of what is written in one piece. */
static sl_status put(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    unpacking *u = ctx;
    SL_TRY(sl_file_writer_put(u->out, data, bytes, err));
    return told(u, bytes, err);
}

/* ---- padding: one section that is dealt out to all gaps ---- */

typedef struct gap {
    uint64_t offset, bytes;
} gap;

typedef struct gap_list {
    unpacking *u;
    gap *gaps;
    size_t count, capacity;
    size_t at;     /* the gap being filled, and */
    uint64_t used; /* how much of it is */
} gap_list;

static sl_status add_gap(void *ctx, uint64_t offset, uint64_t bytes, sl_error *err)
{
    gap_list *list = ctx;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 256;
        gap *moved = realloc(list->gaps, capacity * sizeof(*moved));
        if (!moved)
            return sl_fail(err, SL_NO_MEMORY, "no memory for %zu gaps", capacity);
        list->gaps = moved;
        list->capacity = capacity;
    }
    list->gaps[list->count++] = (gap){offset, bytes};
    return SL_OK;
}

static sl_status put_gaps(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    gap_list *list = ctx;
    while (bytes > 0) {
        const gap *g = &list->gaps[list->at]; /* the section is as long as all gaps (packed.h) */
        size_t piece = g->bytes - list->used < bytes ? (size_t)(g->bytes - list->used) : bytes;
        SL_TRY(sl_file_writer_seek(list->u->out, g->offset + list->used, err));
        SL_TRY(put(list->u, data, piece, err));
        data += piece;
        bytes -= piece;
        list->used += piece;
        if (list->used == g->bytes) {
            list->at++;
            list->used = 0;
        }
    }
    return SL_OK;
}

static sl_status unpack_padding(unpacking *u, sl_error *err)
{
    gap_list list = {.u = u};
    sl_status status = sli_packed_each_gap(u->source.original, add_gap, &list, err);
    if (status == SL_OK && list.count > 0)
        status = sli_pack_stream_padding(&u->source, put_gaps, &list, err);
    free(list.gaps);
    return status;
}

/* ---- unpack ---- */

static sl_status unpack_all(unpacking *u, sl_error *err)
{
    const sl_gguf *original = u->source.original;
    u->total_bytes = sl_gguf_file_bytes(original);
    SL_TRY(sl_file_writer_begin(u->out, u->total_bytes, false, err));
    SL_TRY(sli_pack_stream_header(&u->source, put, u, err));
    SL_TRY(unpack_padding(u, err));
    for (size_t i = 0; i < sl_gguf_tensor_count(original); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(original, i);
        if (sl_packed_locate(u->source.packed, t) == UINT64_MAX)
            continue;
        SL_TRY(sl_file_writer_seek(u->out, t->offset, err));
        SL_TRY(sli_pack_stream_tensor(&u->source, t, put, u, err));
    }
    for (uint32_t i = 0; i < sl_packed_layer_count(u->source.packed); i++) {
        if (sl_packed_layer_at(u->source.packed, i)->bundled)
            SL_TRY(sli_unpack_layer(&u->source, i, SLI_PACK_WORK_BYTES, u->out, told, u, err));
    }
    return SL_OK;
}

static sl_status open_packed(const char *path, unpacking *u, sl_error *err)
{
    SL_TRY(sli_pack_source_open(path, &u->source, err));
    if (!u->source.packed)
        return sl_fail(err, SL_FORMAT, "%s: is not a packed file; sluice pack makes one", path);
    return sli_pack_check_columns(u->source.packed, err);
}

static void fill_result(const unpacking *u, sli_pack_result *result)
{
    if (!result)
        return;
    *result = (sli_pack_result){.original_bytes = sl_gguf_file_bytes(u->source.original),
                                .packed_bytes = sl_gguf_file_bytes(u->source.file),
                                .sections = sl_gguf_tensor_count(u->source.file),
                                .layers = sl_packed_layer_count(u->source.packed)};
    for (uint32_t i = 0; i < result->layers; i++)
        result->bundled_layers += sl_packed_layer_at(u->source.packed, i)->bundled;
    if (result->layers > 0)
        sli_pack_count_zeros(sl_packed_layer_at(u->source.packed, 0), result->layers, result);
}

void sli_pack_count_zeros(const sl_packed_layer *layers, uint32_t count, sli_pack_result *out)
{
    for (const sl_packed_layer *l = layers; l < layers + count; l++) {
        if (!l->bundled)
            continue;
        out->neurons += l->ff;
        out->silent_neurons += l->ff - l->stored;
        out->compact_layers += sl_packed_bundle_bytes(l) < sl_packed_silent_bytes(l);
    }
}

sl_status sli_unpack(const char *in_path, const char *out_path, const sl_tool_watch *watch, sli_pack_result *result, sl_error *err)
{
    unpacking u = {.watch = watch};
    sl_status status = open_packed(in_path, &u, err);
    if (status == SL_OK)
        status = sl_file_writer_create(out_path, &u.out, err);
    if (status == SL_OK) {
        status = unpack_all(&u, err);
        if (status == SL_OK)
            status = sl_file_writer_finish(u.out, err);
        else
            sl_file_writer_discard(u.out);
    }
    if (status == SL_OK)
        fill_result(&u, result);
    sli_pack_source_close(&u.source);
    return status;
}

/* ---- verify ---- */

static sl_status only_look(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)data;
    return told(ctx, bytes, err);
}

sl_status sli_pack_verify(const char *path, const sl_tool_watch *watch, sli_pack_result *result, sl_error *err)
{
    unpacking u = {.watch = watch};
    sl_status status = open_packed(path, &u, err);
    const sl_gguf_tensor *table = status == SL_OK ? sl_gguf_find_tensor(u.source.file, "sluice.checksums") : NULL;
    size_t count = status == SL_OK ? sl_gguf_tensor_count(u.source.file) : 0;
    for (size_t i = 0; i < count; i++)
        u.total_bytes += sl_gguf_tensor_at(u.source.file, i)->bytes;
    for (size_t i = 0; i < count && status == SL_OK; i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(u.source.file, i);
        status = t == table ? told(&u, t->bytes, err) /* its own checksum was checked at open */
                            : sli_pack_stream_section(&u.source, t, 1, only_look, &u, err);
    }
    if (status == SL_OK)
        fill_result(&u, result);
    sli_pack_source_close(&u.source);
    return status;
}

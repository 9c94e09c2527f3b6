/* core/gguf_write.c: the two phases of writing a GGUF file.
 *
 *   DECLARE  values and tensor descriptions gather in memory; nothing is written
 *   DATA     header and tensor data go out through a file writer (file_write.h), in file order
 *
 * begin_data and resume_data move from the first to the second. They parse the header that they are about to write with our own reader, so
 * that what we write is by construction what we accept: duplicate keys, bad shapes and the like are found there and not again here. */
#include "core/gguf_write.h"
#include "core/file_write.h"
#include "core/gguf_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct byte_list {
    uint8_t *data;
    size_t count, capacity;
} byte_list;

struct sl_gguf_writer {
    sl_file_writer *file;
    const char *path; /* of `file` */
    uint32_t alignment;

    byte_list values, tensors; /* DECLARE: the two halves of the header */
    uint64_t value_count, tensor_count;
    uint64_t data_bytes; /* of all tensors so far, padding included: the next tensor's offset */

    sl_gguf *header; /* DATA: what was declared, as a reader sees it; NULL before */
    size_t tensor;   /* which one is being written */
    uint64_t filled; /* bytes of it that are written */
};

/* ---- create and the three ends ---- */

static void free_writer(sl_gguf_writer *w)
{
    sl_gguf_close(w->header);
    free(w->tensors.data);
    free(w->values.data);
    free(w);
}

sl_status sl_gguf_writer_create(const char *path, uint32_t alignment, sl_gguf_writer **out, sl_error *err)
{
    *out = NULL;
    if (alignment < SLI_GGUF_ALIGNMENT_MIN || alignment > SLI_GGUF_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return sl_fail(err, SL_INVALID, "%s: alignment %u, must be a power of two in %u..%u", path, alignment, SLI_GGUF_ALIGNMENT_MIN,
                       SLI_GGUF_ALIGNMENT_MAX);
    sl_gguf_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to write it", path);
    w->alignment = alignment;
    sl_status status = sl_file_writer_create(path, &w->file, err);
    if (status == SL_OK) {
        w->path = sl_file_writer_path(w->file);
        if (alignment != SLI_GGUF_DEFAULT_ALIGNMENT)
            status = sl_gguf_write_u32(w, "general.alignment", alignment, err);
    }
    if (status != SL_OK) {
        sl_gguf_writer_discard(w);
        return status;
    }
    *out = w;
    return SL_OK;
}

void sl_gguf_writer_discard(sl_gguf_writer *w)
{
    if (!w)
        return;
    sl_file_writer_discard(w->file);
    free_writer(w);
}

void sl_gguf_writer_keep(sl_gguf_writer *w)
{
    if (!w)
        return;
    sl_file_writer_keep(w->file);
    free_writer(w);
}

/* ---- DECLARE ---- */

static sl_status append(sl_gguf_writer *w, byte_list *list, const void *data, size_t bytes, sl_error *err)
{
    if (bytes > list->capacity - list->count) {
        size_t capacity = list->capacity ? list->capacity : 4096;
        while (capacity - list->count < bytes) {
            if (__builtin_mul_overflow(capacity, (size_t)2, &capacity))
                return sl_fail(err, SL_NO_MEMORY, "%s: a header of more than 2^63 bytes", w->path);
        }
        uint8_t *moved = realloc(list->data, capacity);
        if (!moved)
            return sl_fail(err, SL_NO_MEMORY, "%s: no memory for a header of %zu bytes", w->path, capacity);
        list->data = moved;
        list->capacity = capacity;
    }
    if (bytes)
        memcpy(list->data + list->count, data, bytes);
    list->count += bytes;
    return SL_OK;
}

static sl_status append_u32(sl_gguf_writer *w, byte_list *list, uint32_t value, sl_error *err)
{
    return append(w, list, &value, sizeof(value), err);
}

static sl_status append_u64(sl_gguf_writer *w, byte_list *list, uint64_t value, sl_error *err)
{
    return append(w, list, &value, sizeof(value), err);
}

static sl_status append_string(sl_gguf_writer *w, byte_list *list, sl_str s, sl_error *err)
{
    SL_TRY(append_u64(w, list, s.length, err));
    return append(w, list, s.data, s.length, err);
}

/* Key and kind of a scalar, or of an array when `count` is given. A failure in mid-value is no problem: the writer is then discarded. */
static sl_status begin_value(sl_gguf_writer *w, sl_str key, sl_gguf_kind kind, const uint64_t *count, sl_error *err)
{
    if (w->header)
        return sl_fail(err, SL_INVALID, "%s: key \"%s\" comes after begin_data, values come before", w->path, sli_show(key).text);
    SL_TRY(append_string(w, &w->values, key, err));
    if (count)
        SL_TRY(append_u32(w, &w->values, SL_GGUF_ARRAY, err));
    SL_TRY(append_u32(w, &w->values, kind, err));
    if (count)
        SL_TRY(append_u64(w, &w->values, *count, err));
    w->value_count++;
    return SL_OK;
}

static sl_str str_of(const char *text)
{
    return (sl_str){text, strlen(text)};
}

sl_status sl_gguf_write_u32(sl_gguf_writer *w, const char *key, uint32_t value, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_U32, NULL, err));
    return append_u32(w, &w->values, value, err);
}

sl_status sl_gguf_write_u64(sl_gguf_writer *w, const char *key, uint64_t value, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_U64, NULL, err));
    return append_u64(w, &w->values, value, err);
}

sl_status sl_gguf_write_f32(sl_gguf_writer *w, const char *key, float value, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_F32, NULL, err));
    return append(w, &w->values, &value, sizeof(value), err);
}

sl_status sl_gguf_write_bool(sl_gguf_writer *w, const char *key, bool value, sl_error *err)
{
    uint8_t byte = value;
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_BOOL, NULL, err));
    return append(w, &w->values, &byte, 1, err);
}

sl_status sl_gguf_write_str(sl_gguf_writer *w, const char *key, const char *value, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_STRING, NULL, err));
    return append_string(w, &w->values, str_of(value), err);
}

sl_status sl_gguf_write_strings(sl_gguf_writer *w, const char *key, const sl_str *values, uint64_t count, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_STRING, &count, err));
    for (uint64_t i = 0; i < count; i++)
        SL_TRY(append_string(w, &w->values, values[i], err));
    return SL_OK;
}

sl_status sl_gguf_write_i32s(sl_gguf_writer *w, const char *key, const int32_t *values, uint64_t count, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_I32, &count, err));
    return append(w, &w->values, values, count * sizeof(*values), err);
}

sl_status sl_gguf_write_f32s(sl_gguf_writer *w, const char *key, const float *values, uint64_t count, sl_error *err)
{
    SL_TRY(begin_value(w, str_of(key), SL_GGUF_F32, &count, err));
    return append(w, &w->values, values, count * sizeof(*values), err);
}

sl_status sl_gguf_write_value(sl_gguf_writer *w, const sl_gguf_value *value, sl_error *err)
{
    const uint64_t *count = value->kind == SL_GGUF_ARRAY ? &value->count : NULL;
    SL_TRY(begin_value(w, value->key, value->element_kind, count, err));
    return append(w, &w->values, value->data, value->bytes, err);
}

/* Only what the tensor's size hangs on is checked here; the rest when the header is read back. */
static sl_status tensor_bytes(const sl_gguf_writer *w, const char *name, uint32_t type, const uint64_t *shape, uint32_t dims, uint64_t *out,
                              sl_error *err)
{
    const sl_format *format = sl_format_of(type);
    if (!format || dims < 1 || dims > 4 || shape[0] % format->block_elements != 0)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" cannot have type %u, %u dimensions and rows of %llu elements", w->path, name,
                       type, dims, dims ? (unsigned long long)shape[0] : 0ull);
    uint64_t elements = 1, bytes;
    for (uint32_t i = 0; i < dims; i++) {
        if (__builtin_mul_overflow(elements, shape[i], &elements))
            return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" has more than 2^64 elements", w->path, name);
    }
    if (__builtin_mul_overflow(elements / format->block_elements, (uint64_t)format->block_bytes, &bytes) || bytes > INT64_MAX / 2)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" is larger than any file", w->path, name);
    *out = bytes;
    return SL_OK;
}

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

sl_status sl_gguf_write_tensor(sl_gguf_writer *w, const char *name, uint32_t type, const uint64_t *shape, uint32_t dims, sl_error *err)
{
    if (w->header)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" is declared after begin_data, tensors are declared before", w->path, name);
    uint64_t bytes = 0;
    SL_TRY(tensor_bytes(w, name, type, shape, dims, &bytes, err));
    SL_TRY(append_string(w, &w->tensors, str_of(name), err));
    SL_TRY(append_u32(w, &w->tensors, dims, err));
    SL_TRY(append(w, &w->tensors, shape, dims * sizeof(*shape), err));
    SL_TRY(append_u32(w, &w->tensors, type, err));
    SL_TRY(append_u64(w, &w->tensors, w->data_bytes, err));
    w->tensor_count++;
    w->data_bytes += align_up(bytes, w->alignment);
    if (w->data_bytes > INT64_MAX / 2)
        return sl_fail(err, SL_INVALID, "%s: with tensor \"%s\" it is larger than any file", w->path, name);
    return SL_OK;
}

/* ---- DATA ---- */

/* The whole header in `out` (the caller's to free), and the same as a reader sees it in w->header. */
static sl_status assemble_header(sl_gguf_writer *w, byte_list *out, uint64_t *file_bytes, sl_error *err)
{
    SL_TRY(append(w, out, SLI_GGUF_MAGIC, 4, err));
    SL_TRY(append_u32(w, out, 3, err));
    SL_TRY(append_u64(w, out, w->tensor_count, err));
    SL_TRY(append_u64(w, out, w->value_count, err));
    SL_TRY(append(w, out, w->values.data, w->values.count, err));
    SL_TRY(append(w, out, w->tensors.data, w->tensors.count, err));
    *file_bytes = align_up(out->count, w->alignment) + w->data_bytes;
    SL_TRY(sl_gguf_parse(w->path, out->data, out->count, *file_bytes, &w->header, err));
    if (w->header->alignment != w->alignment)
        return sl_fail(err, SL_INVALID, "%s: key \"general.alignment\" is %u, but the file is laid out for %u", w->path,
                       w->header->alignment, w->alignment);
    return SL_OK;
}

/* Whether the partial file is one of this header and size, whatever its data. */
static sl_status was_begun(sl_gguf_writer *w, const byte_list *header, uint64_t file_bytes, bool *out, sl_error *err)
{
    *out = false;
    if (sl_file_writer_bytes(w->file) != file_bytes)
        return SL_OK;
    uint8_t *found = malloc(header->count);
    if (!found)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for a header of %zu bytes", w->path, header->count);
    sl_status status = sl_file_writer_read(w->file, 0, found, header->count, err);
    *out = status == SL_OK && memcmp(found, header->data, header->count) == 0;
    free(found);
    return status;
}

/* With `resumed`, a partial file of the same header keeps its data, and *resumed says so. */
static sl_status begin(sl_gguf_writer *w, bool *resumed, sl_error *err)
{
    if (w->header)
        return sl_fail(err, SL_INVALID, "%s: begin_data was called twice", w->path);
    byte_list header = {0};
    uint64_t file_bytes = 0;
    bool keep_data = false;
    sl_status status = assemble_header(w, &header, &file_bytes, err);
    if (status == SL_OK && resumed)
        status = was_begun(w, &header, file_bytes, &keep_data, err);
    if (status == SL_OK)
        status = sl_file_writer_begin(w->file, file_bytes, keep_data, err);
    if (status == SL_OK)
        status = sl_file_writer_put(w->file, header.data, header.count, err);
    if (status == SL_OK)
        status = sl_file_writer_put(w->file, NULL, sl_gguf_data_offset(w->header) - header.count, err);
    free(header.data);
    if (resumed)
        *resumed = keep_data;
    return status;
}

sl_status sl_gguf_writer_begin_data(sl_gguf_writer *w, sl_error *err)
{
    return begin(w, NULL, err);
}

sl_status sl_gguf_writer_resume_data(sl_gguf_writer *w, bool *resumed, sl_error *err)
{
    return begin(w, resumed, err);
}

const sl_gguf *sl_gguf_writer_header(const sl_gguf_writer *w)
{
    return w->header;
}

/* Ends the current tensor once it is whole. */
static sl_status next_tensor(sl_gguf_writer *w, const sl_gguf_tensor *t, sl_error *err)
{
    if (w->filled < t->bytes)
        return SL_OK;
    SL_TRY(sl_file_writer_put(w->file, NULL, align_up(t->bytes, w->alignment) - t->bytes, err));
    w->tensor++;
    w->filled = 0;
    return SL_OK;
}

sl_status sl_gguf_writer_data(sl_gguf_writer *w, const void *data, size_t bytes, sl_error *err)
{
    if (!w->header)
        return sl_fail(err, SL_INVALID, "%s: data comes before begin_data", w->path);
    const sl_gguf_tensor *t = sl_gguf_tensor_at(w->header, w->tensor);
    if (!t)
        return sl_fail(err, SL_INVALID, "%s: %zu bytes of data more than all tensors hold", w->path, bytes);
    if (bytes > t->bytes - w->filled)
        return sl_fail(err, SL_INVALID, "%s: %zu bytes of data for tensor \"%s\", which lacks only %llu", w->path, bytes,
                       sli_show(t->name).text, (unsigned long long)(t->bytes - w->filled));
    SL_TRY(sl_file_writer_put(w->file, data, bytes, err));
    w->filled += bytes;
    return next_tensor(w, t, err);
}

sl_status sl_gguf_writer_skip(sl_gguf_writer *w, sl_error *err)
{
    const sl_gguf_tensor *t = w->header ? sl_gguf_tensor_at(w->header, w->tensor) : NULL;
    if (!t || w->filled)
        return sl_fail(err, SL_INVALID, "%s: only a whole tensor can be skipped, after resume_data", w->path);
    SL_TRY(sl_file_writer_seek(w->file, t->offset + t->bytes, err));
    w->filled = t->bytes;
    return next_tensor(w, t, err);
}

sl_status sl_gguf_writer_read(sl_gguf_writer *w, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    return sl_file_writer_read(w->file, offset, to, bytes, err);
}

sl_status sl_gguf_writer_patch(sl_gguf_writer *w, uint64_t offset, const void *data, size_t bytes, sl_error *err)
{
    return sl_file_writer_patch(w->file, offset, data, bytes, err);
}

static sl_status check_complete(const sl_gguf_writer *w, sl_error *err)
{
    if (!w->header)
        return sl_fail(err, SL_INVALID, "%s: finish comes before begin_data", w->path);
    const sl_gguf_tensor *missing = sl_gguf_tensor_at(w->header, w->tensor);
    if (missing)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" has %llu of its %llu bytes", w->path, sli_show(missing->name).text,
                       (unsigned long long)w->filled, (unsigned long long)missing->bytes);
    return SL_OK;
}

sl_status sl_gguf_writer_finish(sl_gguf_writer *w, sl_error *err)
{
    sl_status status = check_complete(w, err);
    if (status != SL_OK) {
        sl_gguf_writer_discard(w);
        return status;
    }
    status = sl_file_writer_finish(w->file, err);
    free_writer(w);
    return status;
}

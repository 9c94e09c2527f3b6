/* core/gguf_write.c: the two phases of writing a GGUF file.
 *
 *   DECLARE  values and tensor descriptions gather in memory; nothing but an empty, locked PATH.partial is on disk
 *   DATA     header and tensor data go out through one staging buffer, in file order
 *
 * begin_data moves from the first to the second. It parses the header that it is about to write with our own reader, so that what we
 * write is by construction what we accept: duplicate keys, bad shapes and the like are found there and not again here.
 *
 * Page cache: writeback is started one window behind the writing position and awaited another window behind that, then those pages
 * are dropped. So the disk always has work, and never more than two windows of cache are ours. */
#include "core/gguf_write.h"
#include "core/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STAGING_BYTES ((size_t)1 << 20)
#define WINDOW_BYTES  ((uint64_t)16 << 20)

typedef struct byte_list {
    uint8_t *data;
    size_t count, capacity;
} byte_list;

struct sl_gguf_writer {
    char *path, *partial_path;
    int fd;
    uint32_t alignment;

    byte_list values, tensors; /* DECLARE: the two halves of the header */
    uint64_t value_count, tensor_count;
    uint64_t data_bytes; /* of all tensors so far, padding included: the next tensor's offset */

    sl_gguf *header;   /* DATA: what was declared, as a reader sees it; NULL before */
    size_t tensor;     /* which one is being written */
    uint64_t filled;   /* bytes of it that are written */
    uint8_t *staging;  /* STAGING_BYTES */
    size_t staged;     /* bytes in it */
    uint64_t position; /* file offset of staging[0] */
    uint64_t started;  /* writeback was started up to here */
    uint64_t dropped;  /* written, and out of the page cache, up to here */
};

/* ---- create and discard ---- */

/* The partial file is opened without truncating and only emptied under its lock: another writer of the same path keeps its data. */
static sl_status open_partial(sl_gguf_writer *w, sl_error *err)
{
    struct stat st, named;
    if (stat(w->path, &st) == 0 && !S_ISREG(st.st_mode))
        return sl_fail(err, SL_IO, "%s: is %s, want the name of a file to write", w->path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    w->fd = open(w->partial_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (w->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot create it: %s", w->partial_path, strerror(errno));
    bool locked = flock(w->fd, LOCK_EX | LOCK_NB) == 0;
    /* Between open and lock the other writer may have finished and renamed: then this is its finished file and not ours to empty. */
    if (!locked || fstat(w->fd, &st) != 0 || stat(w->partial_path, &named) != 0 || st.st_ino != named.st_ino || st.st_dev != named.st_dev) {
        close(w->fd);
        w->fd = -1;
        return sl_fail(err, SL_IO, "%s: another process is writing it", w->partial_path);
    }
    if (ftruncate(w->fd, 0) != 0)
        return sl_fail(err, SL_IO, "%s: cannot empty it: %s", w->partial_path, strerror(errno));
    return SL_OK;
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
    w->fd = -1;
    w->alignment = alignment;
    w->path = strdup(path);
    if (asprintf(&w->partial_path, "%s.partial", path) < 0)
        w->partial_path = NULL;
    w->staging = malloc(STAGING_BYTES);

    sl_status status = SL_OK;
    if (!w->path || !w->partial_path || !w->staging)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory to write it", path);
    if (status == SL_OK)
        status = open_partial(w, err);
    if (status == SL_OK && alignment != SLI_GGUF_DEFAULT_ALIGNMENT)
        status = sl_gguf_write_u32(w, "general.alignment", alignment, err);
    if (status != SL_OK) {
        sl_gguf_writer_discard(w);
        return status;
    }
    *out = w;
    return SL_OK;
}

static void free_writer(sl_gguf_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    sl_gguf_close(w->header);
    free(w->staging);
    free(w->tensors.data);
    free(w->values.data);
    free(w->partial_path);
    free(w->path);
    free(w);
}

void sl_gguf_writer_discard(sl_gguf_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0 && w->partial_path) /* only then is the partial file ours */
        (void)unlink(w->partial_path);
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

/* Starts writeback of the window behind `position`; awaits and drops the one before. */
static sl_status trim_cache(sl_gguf_writer *w, sl_error *err)
{
    uint64_t end = w->position / WINDOW_BYTES * WINDOW_BYTES;
    if (end == w->started)
        return SL_OK;
    int failed = sync_file_range(w->fd, (off_t)w->started, (off_t)(end - w->started), SYNC_FILE_RANGE_WRITE);
    if (!failed && w->started > w->dropped)
        failed = sync_file_range(w->fd, (off_t)w->dropped, (off_t)(w->started - w->dropped),
                                 SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    if (failed) /* some file systems cannot do ranges; for a real failure fdatasync gives the reason */
        failed = fdatasync(w->fd);
    if (failed)
        return sl_fail(err, SL_IO, "%s: cannot write back: %s", w->partial_path, strerror(errno));
    if (w->started > w->dropped)
        (void)posix_fadvise(w->fd, (off_t)w->dropped, (off_t)(w->started - w->dropped), POSIX_FADV_DONTNEED);
    w->dropped = w->started;
    w->started = end;
    return SL_OK;
}

static sl_status flush(sl_gguf_writer *w, sl_error *err)
{
    size_t done = 0;
    while (done < w->staged) {
        ssize_t put = pwrite(w->fd, w->staging + done, w->staged - done, (off_t)(w->position + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return sl_fail(err, SL_IO, "%s: cannot write at byte %llu: %s", w->partial_path, (unsigned long long)(w->position + done),
                           put < 0 ? strerror(errno) : "nothing was written");
        done += (size_t)put;
    }
    w->position += w->staged;
    w->staged = 0;
    return trim_cache(w, err);
}

/* `bytes` of `data`, or zeros where data is NULL. */
static sl_status put(sl_gguf_writer *w, const uint8_t *data, uint64_t bytes, sl_error *err)
{
    while (bytes) {
        size_t room = STAGING_BYTES - w->staged, piece = bytes < room ? (size_t)bytes : room;
        if (data) {
            memcpy(w->staging + w->staged, data, piece);
            data += piece;
        } else {
            memset(w->staging + w->staged, 0, piece);
        }
        w->staged += piece;
        bytes -= piece;
        if (w->staged == STAGING_BYTES)
            SL_TRY(flush(w, err));
    }
    return SL_OK;
}

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

static sl_status reserve(sl_gguf_writer *w, uint64_t file_bytes, sl_error *err)
{
    int error;
    do
        error = posix_fallocate(w->fd, 0, (off_t)file_bytes);
    while (error == EINTR);
    if (error == 0)
        return SL_OK;
    struct statvfs fs;
    if (error == ENOSPC && fstatvfs(w->fd, &fs) == 0)
        return sl_fail(err, SL_IO, "%s: the disk is full: it needs %llu bytes, %llu are free", w->path, (unsigned long long)file_bytes,
                       (unsigned long long)fs.f_bavail * fs.f_frsize);
    return sl_fail(err, SL_IO, "%s: cannot reserve its %llu bytes: %s", w->path, (unsigned long long)file_bytes, strerror(error));
}

sl_status sl_gguf_writer_begin_data(sl_gguf_writer *w, sl_error *err)
{
    if (w->header)
        return sl_fail(err, SL_INVALID, "%s: begin_data was called twice", w->path);
    byte_list header = {0};
    uint64_t file_bytes = 0;
    sl_status status = assemble_header(w, &header, &file_bytes, err);
    if (status == SL_OK)
        status = reserve(w, file_bytes, err);
    if (status == SL_OK)
        status = put(w, header.data, header.count, err);
    if (status == SL_OK)
        status = put(w, NULL, sl_gguf_data_offset(w->header) - header.count, err);
    free(header.data);
    return status;
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
    SL_TRY(put(w, data, bytes, err));
    w->filled += bytes;
    if (w->filled == t->bytes) {
        SL_TRY(put(w, NULL, align_up(t->bytes, w->alignment) - t->bytes, err));
        w->tensor++;
        w->filled = 0;
    }
    return SL_OK;
}

/* A rename is only durable once the folder is. Folders that cannot be opened or synced are let be: the file itself is safe by then. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

static sl_status complete(sl_gguf_writer *w, sl_error *err)
{
    if (!w->header)
        return sl_fail(err, SL_INVALID, "%s: finish comes before begin_data", w->path);
    const sl_gguf_tensor *missing = sl_gguf_tensor_at(w->header, w->tensor);
    if (missing)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%s\" has %llu of its %llu bytes", w->path, sli_show(missing->name).text,
                       (unsigned long long)w->filled, (unsigned long long)missing->bytes);
    SL_TRY(flush(w, err));
    if (fsync(w->fd) != 0)
        return sl_fail(err, SL_IO, "%s: cannot sync: %s", w->partial_path, strerror(errno));
    (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (rename(w->partial_path, w->path) != 0)
        return sl_fail(err, SL_IO, "%s: cannot rename it to %s: %s", w->partial_path, w->path, strerror(errno));
    sync_folder(w->path);
    return SL_OK;
}

sl_status sl_gguf_writer_finish(sl_gguf_writer *w, sl_error *err)
{
    sl_status status = complete(w, err);
    if (status == SL_OK)
        free_writer(w);
    else
        sl_gguf_writer_discard(w);
    return status;
}

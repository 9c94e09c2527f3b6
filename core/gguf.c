/* core/gguf.c: opening a GGUF file, and looking things up in its checked header.
 *
 * Where a header ends is known only when it has been walked. So it is read in chunks that double, and walked again after each; that is
 * at most twice the work of one walk, and needs no bookkeeping of half-read entries. The bytes come through plain reads, and their page
 * cache is dropped again: under a memory limit those pages are somebody's weights. */
#include "core/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_CHUNK_BYTES ((size_t)1 << 20)
/* The largest vocabularies make headers of some 20 MiB. The limit keeps a damaged length from making us read a whole model into memory. */
#define HEADER_BYTES_MAX ((size_t)128 << 20)
#define CACHE_PAGE_BYTES ((uint64_t)64 << 10) /* the largest page size of Linux: a range rounded to it drops whole pages */

sli_shown sli_show(sl_str s)
{
    sli_shown shown;
    size_t room = sizeof(shown.text) - 4, length = s.length < room ? s.length : room;
    for (size_t i = 0; i < length; i++)
        shown.text[i] = s.data[i] >= 0x20 && s.data[i] < 0x7f ? s.data[i] : '?';
    memcpy(shown.text + length, s.length > room ? "..." : "", s.length > room ? 4 : 1);
    return shown;
}

bool sl_str_equal(sl_str a, const char *b)
{
    return strlen(b) == a.length && (a.length == 0 || memcmp(a.data, b, a.length) == 0);
}

/* ---- opening ---- */

static sl_status new_gguf(const char *name, uint64_t file_bytes, sl_gguf **out, sl_error *err)
{
    sl_gguf *g = calloc(1, sizeof(*g));
    if (g)
        g->path = strdup(name);
    if (!g || !g->path) {
        free(g);
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to open it", name);
    }
    g->file_bytes = file_bytes;
    *out = g;
    return SL_OK;
}

/* Copies the header out of the buffer that it was parsed from, so that g owns exactly its bytes, and moves the pointers over. */
static sl_status own_header(sl_gguf *g, const uint8_t *data, sl_error *err)
{
    g->header = malloc(g->header_bytes);
    if (!g->header)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its header (%zu bytes)", g->path, g->header_bytes);
    memcpy(g->header, data, g->header_bytes);
    for (size_t i = 0; i < g->value_count; i++) {
        sl_gguf_value *v = &g->values[i];
        v->key.data = (const char *)g->header + ((const uint8_t *)v->key.data - data);
        v->data = g->header + (v->data - data);
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        sl_gguf_tensor *t = &g->tensors[i];
        t->name.data = (const char *)g->header + ((const uint8_t *)t->name.data - data);
    }
    return SL_OK;
}

sl_status sl_gguf_parse(const char *name, const void *data, size_t length, uint64_t file_bytes, sl_gguf **out, sl_error *err)
{
    *out = NULL;
    sl_gguf *g = NULL;
    SL_TRY(new_gguf(name, file_bytes, &g, err));
    if (length > file_bytes)
        length = (size_t)file_bytes;
    sl_status status = sli_gguf_parse(g, data, length, err);
    if (status == SL_PENDING)
        status = sl_fail(err, SL_FORMAT, "%s: the header goes on behind the %zu bytes given", name, length);
    if (status == SL_OK)
        status = own_header(g, data, err);
    if (status == SL_OK)
        status = sli_gguf_check(g, err);
    if (status != SL_OK) {
        sl_gguf_close(g);
        return status;
    }
    *out = g;
    return SL_OK;
}

static sl_status refuse_folder(int fd, const char *path, sl_error *err)
{
    bool other = faccessat(fd, "config.json", F_OK, 0) == 0;
    return sl_fail(err, SL_FORMAT, "%s: is a directory, want a GGUF file%s", path,
                   other ? "; llama.cpp's convert_hf_to_gguf.py makes one of a model's folder" : "");
}

static sl_status open_regular_file(const char *path, int *fd_out, uint64_t *file_bytes, sl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking, or a FIFO would hang here */
    if (fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot open it: %s", path, strerror(errno));
    struct stat st;
    sl_status status = SL_OK;
    if (fstat(fd, &st) != 0)
        status = sl_fail(err, SL_IO, "%s: cannot stat it: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        status = refuse_folder(fd, path, err);
    else if (!S_ISREG(st.st_mode))
        status = sl_fail(err, SL_FORMAT, "%s: is not a regular file, want a GGUF file", path);
    if (status != SL_OK) {
        close(fd);
        return status;
    }
    /* No read-ahead: it would fill the page cache with tensor data that nobody asked for. */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    *fd_out = fd;
    *file_bytes = (uint64_t)st.st_size;
    return SL_OK;
}

static sl_status read_range(int fd, const char *path, uint8_t *to, size_t from, size_t end, sl_error *err)
{
    while (from < end) {
        ssize_t got = pread(fd, to + from, end - from, (off_t)from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sl_fail(err, SL_IO, "%s: cannot read at byte %zu: %s", path, from, strerror(errno));
        if (got == 0)
            return sl_fail(err, SL_IO, "%s: ended at byte %zu while it was being read", path, from);
        from += (size_t)got;
    }
    return SL_OK;
}

/* Reads and walks until the header is whole. *buffer is the caller's to free, whatever happens. */
static sl_status read_header(sl_gguf *g, int fd, uint8_t **buffer, size_t *length, sl_error *err)
{
    size_t capacity = FIRST_CHUNK_BYTES;
    for (;; capacity *= 2) {
        size_t end = capacity < g->file_bytes ? capacity : (size_t)g->file_bytes;
        uint8_t *moved = realloc(*buffer, end ? end : 1);
        if (!moved)
            return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its header (%zu bytes so far)", g->path, end);
        *buffer = moved;
        SL_TRY(read_range(fd, g->path, *buffer, *length, end, err));
        *length = end;
        sl_status status = sli_gguf_parse(g, *buffer, *length, err);
        if (status != SL_PENDING)
            return status;
        if (capacity >= HEADER_BYTES_MAX)
            return sl_fail(err, SL_FORMAT, "%s: the header is longer than %zu bytes: damaged lengths or counts", g->path, HEADER_BYTES_MAX);
    }
}

sl_status sli_gguf_open_one(const char *path, sl_gguf **out, sl_error *err)
{
    *out = NULL;
    int fd = -1;
    uint64_t file_bytes = 0;
    SL_TRY(open_regular_file(path, &fd, &file_bytes, err));

    sl_gguf *g = NULL;
    uint8_t *buffer = NULL;
    size_t length = 0;
    sl_status status = new_gguf(path, file_bytes, &g, err);
    if (status == SL_OK)
        status = read_header(g, fd, &buffer, &length, err);
    if (status == SL_OK)
        status = own_header(g, buffer, err);
    if (status == SL_OK)
        status = sli_gguf_check(g, err);

    (void)posix_fadvise(fd, 0, (off_t)((length + CACHE_PAGE_BYTES - 1) / CACHE_PAGE_BYTES * CACHE_PAGE_BYTES), POSIX_FADV_DONTNEED);
    free(buffer);
    close(fd);
    if (status != SL_OK) {
        sl_gguf_close(g);
        return status;
    }
    *out = g;
    return SL_OK;
}

sl_status sl_gguf_open(const char *path, sl_gguf **out, sl_error *err)
{
    SL_TRY(sli_gguf_open_one(path, out, err));
    if (!sli_gguf_is_split(*out))
        return SL_OK;
    sl_status status = sli_gguf_open_parts(*out, err);
    if (status != SL_OK) {
        sl_gguf_close(*out);
        *out = NULL;
    }
    return status;
}

void sl_gguf_close(sl_gguf *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->part_count; i++)
        sl_gguf_close(g->parts[i]);
    free(g->parts);
    free(g->tensors_by_name);
    free(g->values_by_key);
    free(g->tensors);
    free(g->values);
    free(g->header);
    free(g->path);
    free(g);
}

/* ---- what it holds ---- */

const char *sl_gguf_path(const sl_gguf *g)
{
    return g->path;
}
uint32_t sl_gguf_version(const sl_gguf *g)
{
    return g->version;
}
uint64_t sl_gguf_file_bytes(const sl_gguf *g)
{
    uint64_t bytes = 0;
    for (uint32_t part = 0; part < sl_gguf_part_count(g); part++)
        bytes += sl_gguf_part_bytes(g, part);
    return bytes;
}
uint64_t sl_gguf_data_offset(const sl_gguf *g)
{
    return g->data_offset;
}
uint32_t sl_gguf_alignment(const sl_gguf *g)
{
    return g->alignment;
}
size_t sl_gguf_value_count(const sl_gguf *g)
{
    return g->value_count;
}
size_t sl_gguf_tensor_count(const sl_gguf *g)
{
    return g->tensor_count;
}

size_t sl_gguf_heap_bytes(const sl_gguf *g)
{
    size_t parts = 0;
    for (uint32_t i = 0; i < g->part_count; i++)
        parts += sizeof(sl_gguf *) + sl_gguf_heap_bytes(g->parts[i]);
    return parts + sizeof(*g) + strlen(g->path) + 1 + g->header_bytes + g->value_capacity * sizeof(*g->values) +
           g->tensor_capacity * sizeof(*g->tensors) + (g->value_count + g->tensor_count) * sizeof(uint32_t);
}

const sl_gguf_value *sl_gguf_value_at(const sl_gguf *g, size_t index)
{
    return index < g->value_count ? &g->values[index] : NULL;
}
const sl_gguf_tensor *sl_gguf_tensor_at(const sl_gguf *g, size_t index)
{
    return index < g->tensor_count ? &g->tensors[index] : NULL;
}

const sl_gguf_value *sl_gguf_find(const sl_gguf *g, const char *key)
{
    sl_str wanted = {key, strlen(key)};
    for (size_t low = 0, high = g->value_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const sl_gguf_value *v = &g->values[g->values_by_key[middle]];
        int order = sli_str_compare(wanted, v->key);
        if (order == 0)
            return v;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *g, const char *name)
{
    return sl_gguf_find_tensor_named(g, (sl_str){name, strlen(name)});
}

const sl_gguf_tensor *sl_gguf_find_tensor_named(const sl_gguf *g, sl_str name)
{
    for (size_t low = 0, high = g->tensor_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const sl_gguf_tensor *t = &g->tensors[g->tensors_by_name[middle]];
        int order = sli_str_compare(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- typed reads ---- */

static sl_status find_for(const sl_gguf *g, const char *key, const char *wanted, const sl_gguf_value **out, sl_error *err)
{
    *out = sl_gguf_find(g, key);
    if (!*out)
        return sl_fail(err, SL_FORMAT, "%s: key \"%s\" is missing, want a %s", g->path, key, wanted);
    return SL_OK;
}

static sl_status wrong_kind(const sl_gguf *g, const sl_gguf_value *v, const char *wanted, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "%s: key \"%s\" is of kind %s, want a %s", g->path, sli_show(v->key).text, sli_gguf_kind_name(v->kind),
                   wanted);
}

/* An integer element of any kind as a sign and 64 bits; false for the other kinds. */
static bool integer_at(const sl_gguf_value *v, uint64_t index, bool *negative, uint64_t *bits)
{
    const uint8_t *at = v->data + index * sli_gguf_kind_bytes(v->element_kind);
    int64_t s = 0;
    uint64_t u = 0;
    switch (v->element_kind) {
    case SL_GGUF_U8:
    case SL_GGUF_U16:
    case SL_GGUF_U32:
    case SL_GGUF_U64:
        memcpy(&u, at, sli_gguf_kind_bytes(v->element_kind)); /* little-endian: the low bytes come first */
        *negative = false;
        *bits = u;
        return true;
    case SL_GGUF_I8: s = (int8_t)at[0]; break;
    case SL_GGUF_I16: {
        int16_t x;
        memcpy(&x, at, sizeof(x));
        s = x;
        break;
    }
    case SL_GGUF_I32: {
        int32_t x;
        memcpy(&x, at, sizeof(x));
        s = x;
        break;
    }
    case SL_GGUF_I64: memcpy(&s, at, sizeof(s)); break;
    default: return false;
    }
    *negative = s < 0;
    *bits = (uint64_t)s;
    return true;
}

double sl_gguf_number_at(const sl_gguf_value *v, uint64_t index)
{
    const uint8_t *at = v->data + index * sli_gguf_kind_bytes(v->element_kind);
    bool negative;
    uint64_t bits;
    if (v->element_kind == SL_GGUF_F32) {
        float x;
        memcpy(&x, at, sizeof(x));
        return (double)x;
    }
    if (v->element_kind == SL_GGUF_F64) {
        double x;
        memcpy(&x, at, sizeof(x));
        return x;
    }
    if (v->element_kind == SL_GGUF_BOOL)
        return at[0];
    if (!integer_at(v, index, &negative, &bits))
        return 0.0;
    return negative ? (double)(int64_t)bits : (double)bits;
}

static sl_status unsigned_up_to(const sl_gguf *g, const char *key, uint64_t max, uint64_t *out, sl_error *err)
{
    const sl_gguf_value *v;
    bool negative;
    char wanted[48];
    snprintf(wanted, sizeof(wanted), "number of 0..%llu", (unsigned long long)max);
    SL_TRY(find_for(g, key, wanted, &v, err));
    if (v->kind == SL_GGUF_ARRAY || !integer_at(v, 0, &negative, out))
        return wrong_kind(g, v, wanted, err);
    if (negative)
        return sl_fail(err, SL_FORMAT, "%s: key \"%s\" is %lld, want a %s", g->path, key, (long long)*out, wanted);
    if (*out > max)
        return sl_fail(err, SL_FORMAT, "%s: key \"%s\" is %llu, want a %s", g->path, key, (unsigned long long)*out, wanted);
    return SL_OK;
}

sl_status sl_gguf_u32(const sl_gguf *g, const char *key, uint32_t *out, sl_error *err)
{
    uint64_t value;
    SL_TRY(unsigned_up_to(g, key, UINT32_MAX, &value, err));
    *out = (uint32_t)value;
    return SL_OK;
}

sl_status sl_gguf_u64(const sl_gguf *g, const char *key, uint64_t *out, sl_error *err)
{
    uint64_t value;
    SL_TRY(unsigned_up_to(g, key, UINT64_MAX, &value, err));
    *out = value;
    return SL_OK;
}

sl_status sl_gguf_f32(const sl_gguf *g, const char *key, float *out, sl_error *err)
{
    const sl_gguf_value *v;
    SL_TRY(find_for(g, key, "floating-point number", &v, err));
    if (v->kind != SL_GGUF_F32 && v->kind != SL_GGUF_F64)
        return wrong_kind(g, v, "floating-point number", err);
    *out = (float)sl_gguf_number_at(v, 0);
    return SL_OK;
}

sl_status sl_gguf_bool(const sl_gguf *g, const char *key, bool *out, sl_error *err)
{
    const sl_gguf_value *v;
    SL_TRY(find_for(g, key, "bool", &v, err));
    if (v->kind != SL_GGUF_BOOL)
        return wrong_kind(g, v, "bool", err);
    *out = v->data[0] != 0;
    return SL_OK;
}

static sl_str string_here(const uint8_t *at)
{
    uint64_t length;
    memcpy(&length, at, sizeof(length));
    return (sl_str){(const char *)at + sizeof(length), (size_t)length};
}

sl_status sl_gguf_str(const sl_gguf *g, const char *key, sl_str *out, sl_error *err)
{
    const sl_gguf_value *v;
    SL_TRY(find_for(g, key, "string", &v, err));
    if (v->kind != SL_GGUF_STRING)
        return wrong_kind(g, v, "string", err);
    *out = string_here(v->data);
    return SL_OK;
}

bool sl_gguf_next_string(const sl_gguf_value *array, size_t *cursor, sl_str *out)
{
    if (array->element_kind != SL_GGUF_STRING || *cursor >= array->bytes)
        return false;
    *out = string_here(array->data + *cursor);
    *cursor += sizeof(uint64_t) + out->length;
    return true;
}

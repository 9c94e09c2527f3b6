/* core/gguf_parse.c: the walk over a GGUF header.
 *
 *   "GGUF" | u32 version | u64 tensor count | u64 value count | values | tensor descriptions | padding | tensor data
 *   value:   string key | u32 kind | payload        string: u64 length | bytes
 *   array:   u32 element kind | u64 count | elements
 *   tensor:  string name | u32 dims | u64 shape[dims] | u32 type | u64 offset from the start of the data
 *
 * Nothing says how long the header is, so the walk runs over what has been read so far and has two ways to stop short: it needs
 * bytes that the file does not have (SL_FORMAT), or bytes that have not been read yet (SL_PENDING, and the caller reads more). Tables
 * grow with what was really read; a giant count in the file never sizes an allocation. */
#include "core/gguf_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct cursor {
    sl_gguf *g;
    const uint8_t *data;
    uint64_t length; /* bytes at `data` */
    uint64_t at;
    sl_error *err;
} cursor;

/* The smallest a value and a tensor description can be: they bound the counts by the file's size. */
enum { VALUE_BYTES_MIN = 8 + 1 + 4 + 1, TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

static sl_status need(cursor *c, uint64_t bytes, const char *what)
{
    if (bytes <= c->length - c->at)
        return SL_OK;
    if (bytes > c->g->file_bytes - c->at)
        return sl_fail(c->err, SL_FORMAT, "%s: %s at byte %llu needs %llu bytes, but the file ends after %llu: truncated or damaged",
                       c->g->path, what, (unsigned long long)c->at, (unsigned long long)bytes, (unsigned long long)c->g->file_bytes);
    return SL_PENDING;
}

static sl_status take_u32(cursor *c, const char *what, uint32_t *out)
{
    SL_TRY(need(c, sizeof(*out), what));
    memcpy(out, c->data + c->at, sizeof(*out));
    c->at += sizeof(*out);
    return SL_OK;
}

static sl_status take_u64(cursor *c, const char *what, uint64_t *out)
{
    SL_TRY(need(c, sizeof(*out), what));
    memcpy(out, c->data + c->at, sizeof(*out));
    c->at += sizeof(*out);
    return SL_OK;
}

static sl_status take_string(cursor *c, const char *what, sl_str *out)
{
    uint64_t length;
    SL_TRY(take_u64(c, what, &length));
    SL_TRY(need(c, length, what));
    *out = (sl_str){(const char *)c->data + c->at, (size_t)length};
    c->at += length;
    return SL_OK;
}

/* A key or a tensor's name: as take_string, and 1..65535 bytes long. The length is judged before the bytes are asked for. */
static sl_status take_name(cursor *c, const char *what, sl_str *out)
{
    uint64_t start = c->at, length;
    SL_TRY(take_u64(c, what, &length));
    if (length == 0 || length > SLI_GGUF_NAME_BYTES_MAX)
        return sl_fail(c->err, SL_FORMAT, "%s: %s at byte %llu has length %llu, must be 1..%u", c->g->path, what, (unsigned long long)start,
                       (unsigned long long)length, SLI_GGUF_NAME_BYTES_MAX);
    c->at = start;
    return take_string(c, what, out);
}

size_t sli_gguf_kind_bytes(sl_gguf_kind kind)
{
    switch (kind) {
    case SL_GGUF_U8:
    case SL_GGUF_I8:
    case SL_GGUF_BOOL: return 1;
    case SL_GGUF_U16:
    case SL_GGUF_I16: return 2;
    case SL_GGUF_U32:
    case SL_GGUF_I32:
    case SL_GGUF_F32: return 4;
    case SL_GGUF_U64:
    case SL_GGUF_I64:
    case SL_GGUF_F64: return 8;
    case SL_GGUF_STRING:
    case SL_GGUF_ARRAY: return 0;
    }
    return 0;
}

const char *sli_gguf_kind_name(uint32_t kind)
{
    static const char *const names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
    return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

static sl_status bad_bool(const cursor *c, const sl_gguf_value *v, unsigned byte)
{
    return sl_fail(c->err, SL_FORMAT, "%s: key \"%s\" holds the bool %u, must be 0 or 1", c->g->path, sli_show(v->key).text, byte);
}

/* The elements of a scalar (count 1) or an array, whose kind is known; leaves the cursor behind them. */
static sl_status take_elements(cursor *c, sl_gguf_value *v)
{
    v->data = c->data + c->at;
    if (v->element_kind == SL_GGUF_STRING) {
        sl_str ignored;
        for (uint64_t i = 0; i < v->count; i++)
            SL_TRY(take_string(c, "a string value", &ignored));
        v->bytes = (size_t)(c->data + c->at - v->data);
        return SL_OK;
    }
    uint64_t bytes;
    if (__builtin_mul_overflow(v->count, (uint64_t)sli_gguf_kind_bytes(v->element_kind), &bytes))
        return sl_fail(c->err, SL_FORMAT, "%s: key \"%s\" counts %llu elements, more than any file holds", c->g->path,
                       sli_show(v->key).text, (unsigned long long)v->count);
    SL_TRY(need(c, bytes, "a value"));
    if (v->element_kind == SL_GGUF_BOOL) {
        for (uint64_t i = 0; i < v->count; i++)
            if (v->data[i] > 1)
                return bad_bool(c, v, v->data[i]);
    }
    c->at += bytes;
    v->bytes = (size_t)bytes;
    return SL_OK;
}

static sl_status take_value(cursor *c, sl_gguf_value *v)
{
    SL_TRY(take_name(c, "a key", &v->key));
    uint32_t kind;
    SL_TRY(take_u32(c, "a value's kind", &kind));
    v->count = 1;
    bool array = kind == SL_GGUF_ARRAY;
    if (array) {
        SL_TRY(take_u32(c, "an array's element kind", &kind));
        SL_TRY(take_u64(c, "an array's count", &v->count));
    }
    if (kind > SL_GGUF_F64 || kind == SL_GGUF_ARRAY)
        return sl_fail(c->err, SL_FORMAT, "%s: key \"%s\" has %s kind %u, must be 0..12%s", c->g->path, sli_show(v->key).text,
                       array ? "element" : "value", kind, array ? " and not 9 (arrays do not nest)" : "");
    v->element_kind = (sl_gguf_kind)kind;
    v->kind = array ? SL_GGUF_ARRAY : v->element_kind;
    return take_elements(c, v);
}

/* Type, shape and size of one tensor, as far as they can be judged alone (G3). */
static sl_status size_tensor(const cursor *c, sl_gguf_tensor *t)
{
    const char *path = c->g->path;
    const sl_format *format = sl_format_of(t->type);
    if (!format)
        return sl_fail(c->err, SL_FORMAT, "%s: tensor \"%s\" has type %u, which GGUF does not define", path, sli_show(t->name).text,
                       t->type);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < t->dims; i++) {
        if (t->shape[i] == 0)
            return sl_fail(c->err, SL_FORMAT, "%s: tensor \"%s\" has 0 elements in dimension %u, must be at least 1", path,
                           sli_show(t->name).text, i);
        if (__builtin_mul_overflow(elements, t->shape[i], &elements))
            goto overflow;
    }
    if (t->shape[0] % format->block_elements != 0)
        return sl_fail(c->err, SL_FORMAT, "%s: tensor \"%s\" has rows of %llu elements, must be a multiple of %u for %s", path,
                       sli_show(t->name).text, (unsigned long long)t->shape[0], format->block_elements, format->name);
    if (__builtin_mul_overflow(elements / format->block_elements, (uint64_t)format->block_bytes, &t->bytes))
        goto overflow;
    return SL_OK;
overflow:
    return sl_fail(c->err, SL_FORMAT, "%s: tensor \"%s\" is larger than any file (2^64 bytes): damaged shape", path,
                   sli_show(t->name).text);
}

static sl_status take_tensor(cursor *c, sl_gguf_tensor *t)
{
    t->file = 0;
    SL_TRY(take_name(c, "a tensor's name", &t->name));
    SL_TRY(take_u32(c, "a tensor's dimension count", &t->dims));
    if (t->dims < 1 || t->dims > 4)
        return sl_fail(c->err, SL_FORMAT, "%s: tensor \"%s\" has %u dimensions, must be 1..4", c->g->path, sli_show(t->name).text, t->dims);
    for (uint32_t i = 0; i < 4; i++) {
        t->shape[i] = 1;
        if (i < t->dims)
            SL_TRY(take_u64(c, "a tensor's shape", &t->shape[i]));
    }
    SL_TRY(take_u32(c, "a tensor's type", &t->type));
    SL_TRY(take_u64(c, "a tensor's offset", &t->offset));
    return size_tensor(c, t);
}

/* Makes room for one more entry of `entry_bytes`; doubles, so that memory follows what was read and not what was claimed. */
static sl_status grow(cursor *c, void **table, size_t count, size_t *capacity, size_t entry_bytes)
{
    if (count < *capacity)
        return SL_OK;
    size_t larger = *capacity ? *capacity * 2 : 64;
    void *moved = realloc(*table, larger * entry_bytes);
    if (!moved)
        return sl_fail(c->err, SL_NO_MEMORY, "%s: no memory for %zu header entries (%zu bytes)", c->g->path, larger, larger * entry_bytes);
    *table = moved;
    *capacity = larger;
    return SL_OK;
}

typedef struct other_format {
    size_t at, length;
    const char *bytes, *what; /* what such a file is, and what to do */
} other_format;

static const other_format others[] = {
    {8, 1, "{", "a safetensors file; llama.cpp's convert_hf_to_gguf.py makes a GGUF file of the folder that it lies in"},
    {0, 4, "PK\3\4",
     "a zip archive, as PyTorch's checkpoints are; llama.cpp's convert_hf_to_gguf.py makes a GGUF file of a model's folder"},
    {0, 4, "tjgg", "a file of GGML's format before GGUF; the model has to be converted again, from its source"},
    {0, 4, "fmgg", "a file of GGML's format before GGUF; the model has to be converted again, from its source"},
    {0, 4, "lmgg", "a file of GGML's format before GGUF; the model has to be converted again, from its source"},
    {0, 23, "version https://git-lfs", "Git LFS's pointer to one; git lfs pull fetches what it points to"},
    {0, 1, "<", "a page of the web or other markup; the download went wrong"},
};

static sl_status refuse_other(const cursor *c)
{
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].at + others[i].length <= c->length && memcmp(c->data + others[i].at, others[i].bytes, others[i].length) == 0)
            return sl_fail(c->err, SL_FORMAT, "%s: not a GGUF file but %s", c->g->path, others[i].what);
    return sl_fail(c->err, SL_FORMAT, "%s: not a GGUF file: it starts with the bytes %02x %02x %02x %02x, want 47 47 55 46 (\"GGUF\")",
                   c->g->path, c->data[0], c->data[1], c->data[2], c->data[3]);
}

/* Magic and version. A big-endian file is recognised by its swapped version, to say so instead of "version 50331648". */
static sl_status take_preamble(cursor *c)
{
    sl_gguf *g = c->g;
    if (g->file_bytes == 0)
        return sl_fail(c->err, SL_FORMAT, "%s: the file is empty, want a GGUF file", g->path);
    SL_TRY(need(c, 4, "the magic"));
    if (memcmp(c->data, SLI_GGUF_MAGIC, 4) != 0)
        return refuse_other(c);
    c->at = 4;
    SL_TRY(take_u32(c, "the version", &g->version));
    if (g->version != 0 && (g->version & 0xffffu) == 0)
        return sl_fail(c->err, SL_FORMAT, "%s: a big-endian GGUF file (version field %08x), want a little-endian one: convert it", g->path,
                       g->version);
    if (g->version != 2 && g->version != 3)
        return sl_fail(c->err, SL_FORMAT, "%s: GGUF version %u, want 2 or 3%s", g->path, g->version,
                       g->version == 1 ? ": convert the model again with a current converter" : "");
    return SL_OK;
}

static sl_status take_counts(cursor *c, uint64_t *tensors, uint64_t *values)
{
    SL_TRY(take_u64(c, "the tensor count", tensors));
    SL_TRY(take_u64(c, "the value count", values));
    uint64_t left = c->g->file_bytes - c->at;
    if (*tensors > left / TENSOR_BYTES_MIN || *tensors > UINT32_MAX)
        return sl_fail(c->err, SL_FORMAT, "%s: claims %llu tensors, but a file of %llu bytes has room for %llu at most", c->g->path,
                       (unsigned long long)*tensors, (unsigned long long)c->g->file_bytes, (unsigned long long)(left / TENSOR_BYTES_MIN));
    if (*values > left / VALUE_BYTES_MIN || *values > UINT32_MAX)
        return sl_fail(c->err, SL_FORMAT, "%s: claims %llu metadata values, but a file of %llu bytes has room for %llu at most", c->g->path,
                       (unsigned long long)*values, (unsigned long long)c->g->file_bytes, (unsigned long long)(left / VALUE_BYTES_MIN));
    return SL_OK;
}

sl_status sli_gguf_parse(sl_gguf *g, const uint8_t *data, size_t length, sl_error *err)
{
    cursor c = {.g = g, .data = data, .length = length, .err = err};
    uint64_t tensor_count, value_count;
    g->value_count = g->tensor_count = 0;

    SL_TRY(take_preamble(&c));
    SL_TRY(take_counts(&c, &tensor_count, &value_count));
    while (g->value_count < value_count) {
        SL_TRY(grow(&c, (void **)&g->values, g->value_count, &g->value_capacity, sizeof(*g->values)));
        SL_TRY(take_value(&c, &g->values[g->value_count]));
        g->value_count++;
    }
    while (g->tensor_count < tensor_count) {
        SL_TRY(grow(&c, (void **)&g->tensors, g->tensor_count, &g->tensor_capacity, sizeof(*g->tensors)));
        SL_TRY(take_tensor(&c, &g->tensors[g->tensor_count]));
        g->tensor_count++;
    }
    g->header_bytes = (size_t)c.at;
    return SL_OK;
}

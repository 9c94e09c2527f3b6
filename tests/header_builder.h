/* tests/header_builder.h: GGUF headers put together in memory, with keys and values but no tensors, for tests of what reads them. */
#ifndef SL_TESTS_HEADER_BUILDER_H
#define SL_TESTS_HEADER_BUILDER_H

#include "core/gguf.h"

#include <stdlib.h>
#include <string.h>

typedef struct header {
    uint8_t *data;
    size_t count, capacity;
    uint64_t values;
} header;

static inline void header_add(header *h, const void *data, size_t count)
{
    if (h->count + count > h->capacity) {
        h->capacity = 2 * (h->count + count);
        h->data = realloc(h->data, h->capacity);
        if (!h->data)
            abort();
    }
    if (count > 0)
        memcpy(h->data + h->count, data, count);
    h->count += count;
}

static inline void header_add_u32(header *h, uint32_t value)
{
    header_add(h, &value, sizeof value);
}

static inline void header_add_u64(header *h, uint64_t value)
{
    header_add(h, &value, sizeof value);
}

static inline void header_add_bytes(header *h, const char *text, size_t length)
{
    header_add_u64(h, length);
    header_add(h, text, length);
}

static inline void header_start(header *h)
{
    *h = (header){.data = malloc(1024), .capacity = 1024};
    if (!h->data)
        abort();
    header_add(h, "GGUF", 4);
    header_add_u32(h, 3);
    header_add_u64(h, 0);
    header_add_u64(h, 0); /* the number of values, written at the end */
}

static inline void header_key(header *h, const char *key, uint32_t kind)
{
    header_add_bytes(h, key, strlen(key));
    header_add_u32(h, kind);
    h->values++;
}

static inline void header_string(header *h, const char *key, const char *value, size_t length)
{
    header_key(h, key, SL_GGUF_STRING);
    header_add_bytes(h, value, length);
}

static inline void header_u32(header *h, const char *key, uint32_t value)
{
    header_key(h, key, SL_GGUF_U32);
    header_add_u32(h, value);
}

static inline void header_bool(header *h, const char *key, bool value)
{
    header_key(h, key, SL_GGUF_BOOL);
    header_add(h, &(uint8_t){value}, 1);
}

/* The elements follow: header_add_bytes for strings, header_add_u32 for integers. */
static inline void header_array(header *h, const char *key, uint32_t kind, uint64_t count)
{
    header_key(h, key, SL_GGUF_ARRAY);
    header_add_u32(h, kind);
    header_add_u64(h, count);
}

/* Parses what was built and frees the bytes; NULL when the reader refuses them. */
static inline sl_gguf *header_parse(header *h)
{
    memcpy(h->data + 16, &h->values, sizeof h->values);
    sl_gguf *gguf = NULL;
    if (sl_gguf_parse("built.gguf", h->data, h->count, h->count, &gguf, NULL) != SL_OK)
        gguf = NULL;
    free(h->data);
    *h = (header){0};
    return gguf;
}

#endif

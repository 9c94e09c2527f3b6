/* pager/host.c: a tier over bytes that lie in memory already. A read is a copy, done at submit. */
#include "pager/tier.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH 32

typedef struct host_tier {
    sl_tier base;
    const uint8_t *data; /* the caller's */
    uint64_t tags[DEPTH];
    uint32_t first, count;
} host_tier;

static sl_status host_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    host_tier *t = (host_tier *)tier;
    uint64_t capacity = t->base.attrs.capacity_bytes;
    if (read->file != 0 || read->offset >= capacity)
        return sl_fail(err, SL_IO, "a read at %llu of file %u; the memory holds file 0 with %llu bytes", (unsigned long long)read->offset,
                       read->file, (unsigned long long)capacity);
    if (t->count == DEPTH)
        return SL_PENDING;
    uint64_t left = capacity - read->offset;
    size_t bytes = left < read->bytes ? (size_t)left : read->bytes;
    memcpy(read->memory, t->data + read->offset, bytes);
    memset((uint8_t *)read->memory + bytes, 0, read->bytes - bytes);
    t->tags[(t->first + t->count++) % DEPTH] = read->tag;
    return SL_OK;
}

static size_t host_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    host_tier *t = (host_tier *)tier;
    size_t count = 0;
    (void)wait, (void)err;
    for (; count < max && t->count > 0; count++, t->count--) {
        done[count] = (sl_read_done){.tag = t->tags[t->first], .status = SL_OK};
        t->first = (t->first + 1) % DEPTH;
    }
    return count;
}

static void host_destroy(sl_tier *tier)
{
    free(tier);
}

static const sl_tier_ops host_ops = {.submit = host_submit, .reap = host_reap, .destroy = host_destroy};

sl_status sl_tier_open_host(const void *data, uint64_t bytes, sl_tier **out, sl_error *err)
{
    host_tier *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a host tier");
    t->data = data;
    t->base = (sl_tier){.ops = &host_ops,
                        .attrs = {.engine = "host", .alignment = 1, .depth = DEPTH, .capacity_bytes = bytes, .heap_bytes = sizeof *t}};
    *out = &t->base;
    return SL_OK;
}

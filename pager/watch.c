/* pager/watch.c: any tier, with a note of how large its reads are and how long they take.
 *
 * A read's time goes from its submission to the moment when the owner is told that it is done: with an owner who computes meanwhile and
 * looks late, that is longer than the device took. */
#include "core/os.h"
#include "pager/tier.h"

#include <stdlib.h>

typedef struct watched {
    uint64_t tag, begin_ns;
    uint32_t next_free;
} watched;

typedef struct watch_tier {
    sl_tier base;
    sl_tier *inner;
    sl_histogram *read_ns, *request_bytes; /* the caller's */
    watched *reads;                        /* depth of them; the inner tier's tag is the index */
    uint32_t free_head;
} watch_tier;

#define NONE UINT32_MAX

static sl_status watch_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    watch_tier *t = (watch_tier *)tier;
    if (t->free_head == NONE)
        return SL_PENDING;
    uint32_t index = t->free_head;
    sl_read inner = *read;
    inner.tag = index;
    uint64_t begin_ns = sl_now_ns();
    SL_TRY(t->inner->ops->submit(t->inner, &inner, err));
    t->free_head = t->reads[index].next_free;
    t->reads[index] = (watched){.tag = read->tag, .begin_ns = begin_ns};
    sl_histogram_add(t->request_bytes, read->bytes);
    return SL_OK;
}

static size_t watch_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    watch_tier *t = (watch_tier *)tier;
    size_t count = t->inner->ops->reap(t->inner, wait, done, max, err);
    uint64_t now = count > 0 ? sl_now_ns() : 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t index = (uint32_t)done[i].tag;
        sl_histogram_add(t->read_ns, now - t->reads[index].begin_ns);
        done[i].tag = t->reads[index].tag;
        t->reads[index].next_free = t->free_head;
        t->free_head = index;
    }
    return count;
}

static void watch_destroy(sl_tier *tier)
{
    watch_tier *t = (watch_tier *)tier;
    sl_tier_destroy(t->inner);
    free(t->reads);
    free(t);
}

static const sl_tier_ops watch_ops = {.submit = watch_submit, .reap = watch_reap, .destroy = watch_destroy};

sl_status sl_tier_watch(sl_tier *inner, sl_histogram *read_ns, sl_histogram *request_bytes, sl_tier **out, sl_error *err)
{
    *out = NULL;
    watch_tier *t = calloc(1, sizeof *t);
    watched *reads = calloc(inner->attrs.depth, sizeof *reads);
    if (t == NULL || reads == NULL) {
        free(t);
        free(reads);
        sl_tier_destroy(inner);
        return sl_fail(err, SL_NO_MEMORY, "no memory to watch a tier");
    }
    *t = (watch_tier){.base = {.ops = &watch_ops, .attrs = inner->attrs},
                      .inner = inner,
                      .read_ns = read_ns,
                      .request_bytes = request_bytes,
                      .reads = reads};
    t->base.attrs.heap_bytes += sizeof *t + inner->attrs.depth * sizeof *reads;
    for (uint32_t i = 0; i < inner->attrs.depth; i++)
        reads[i].next_free = i + 1 < inner->attrs.depth ? i + 1 : NONE;
    *out = &t->base;
    return SL_OK;
}

/* pager/throttle.c: any tier, slowed down to a given link.
 *
 * The inner tier reads as fast as it can; what it has finished is held back until the moment when a link of the given rate would have
 * delivered it. That moment is fixed at submit: reads follow each other on the link without gaps as long as there is a next one. */
#include "core/os.h"
#include "pager/tier.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct held {
    uint64_t tag, due_ns;
    uint32_t next_free;
    bool finished; /* by the inner tier */
    bool taken;
    sl_status status;
} held;

typedef struct throttle_tier {
    sl_tier base;
    sl_tier *inner;
    double ns_per_byte;
    uint64_t latency_ns, link_free_ns;
    held *held; /* depth of them; the inner tier's tag is the index */
    uint32_t free_head, taken, finished;
    sl_error failure; /* of the last read that failed */
} throttle_tier;

#define NONE  UINT32_MAX
#define BATCH 16

static sl_status throttle_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    throttle_tier *t = (throttle_tier *)tier;
    if (t->free_head == NONE)
        return SL_PENDING;
    uint32_t index = t->free_head;
    held *h = &t->held[index];
    sl_read inner = *read;
    inner.tag = index;
    SL_TRY(t->inner->ops->submit(t->inner, &inner, err));

    uint64_t now = sl_now_ns(), begin = t->link_free_ns > now ? t->link_free_ns : now;
    t->link_free_ns = begin + (uint64_t)((double)read->bytes * t->ns_per_byte);
    t->free_head = h->next_free;
    t->taken++;
    *h = (held){.tag = read->tag, .due_ns = t->link_free_ns, .taken = true};
    if (h->due_ns < now + t->latency_ns)
        h->due_ns = now + t->latency_ns;
    return SL_OK;
}

static void collect(throttle_tier *t, bool wait)
{
    sl_read_done done[BATCH];
    sl_error failure = {0};
    size_t count = t->inner->ops->reap(t->inner, wait, done, BATCH, &failure);
    if (failure.status != SL_OK)
        t->failure = failure;
    for (size_t i = 0; i < count; i++) {
        held *h = &t->held[done[i].tag];
        h->finished = true;
        h->status = done[i].status;
        t->finished++;
    }
}

/* The finished read that is due first, or NONE. */
static uint32_t earliest(const throttle_tier *t)
{
    uint32_t best = NONE;
    for (uint32_t i = 0; i < t->base.attrs.depth; i++)
        if (t->held[i].taken && t->held[i].finished && (best == NONE || t->held[i].due_ns < t->held[best].due_ns))
            best = i;
    return best;
}

static void sleep_until(uint64_t ns)
{
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static size_t deliver(throttle_tier *t, sl_read_done *done, size_t max, sl_error *err)
{
    size_t count = 0;
    uint64_t now = sl_now_ns();
    for (uint32_t index; count < max && t->finished > 0 && (index = earliest(t)) != NONE && t->held[index].due_ns <= now; count++) {
        held *h = &t->held[index];
        done[count] = (sl_read_done){.tag = h->tag, .status = h->status};
        if (h->status != SL_OK && err != NULL)
            *err = t->failure;
        *h = (held){.next_free = t->free_head};
        t->free_head = index;
        t->taken--;
        t->finished--;
    }
    return count;
}

static size_t throttle_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    throttle_tier *t = (throttle_tier *)tier;
    collect(t, false);
    size_t count = deliver(t, done, max, err);
    while (wait && max > 0 && count == 0 && t->taken > 0) {
        uint32_t next = earliest(t);
        if (next == NONE)
            collect(t, true);
        else
            sleep_until(t->held[next].due_ns);
        collect(t, false);
        count = deliver(t, done, max, err);
    }
    return count;
}

static void throttle_destroy(sl_tier *tier)
{
    throttle_tier *t = (throttle_tier *)tier;
    sl_tier_destroy(t->inner);
    free(t->held);
    free(t);
}

static const sl_tier_ops throttle_ops = {.submit = throttle_submit, .reap = throttle_reap, .destroy = throttle_destroy};

sl_status sl_tier_throttle(sl_tier *inner, double bytes_per_s, uint64_t latency_ns, sl_tier **out, sl_error *err)
{
    *out = NULL;
    if (!(bytes_per_s > 0)) {
        sl_tier_destroy(inner);
        return sl_fail(err, SL_INVALID, "a throttle of %g bytes per second; it must be above 0", bytes_per_s);
    }
    throttle_tier *t = calloc(1, sizeof *t);
    held *table = calloc(inner->attrs.depth, sizeof *table);
    if (t == NULL || table == NULL) {
        free(t);
        free(table);
        sl_tier_destroy(inner);
        return sl_fail(err, SL_NO_MEMORY, "no memory for a throttled tier");
    }
    t->base = (sl_tier){.ops = &throttle_ops, .attrs = inner->attrs};
    t->base.attrs.heap_bytes += sizeof *t + inner->attrs.depth * sizeof *table;
    t->base.attrs.bandwidth_Bps = bytes_per_s;
    snprintf(t->base.attrs.note, sizeof t->base.attrs.note, "throttled to %.1f MB/s%s%.120s", bytes_per_s / 1e6,
             inner->attrs.note[0] != '\0' ? "; " : "", inner->attrs.note);
    t->inner = inner;
    t->ns_per_byte = 1e9 / bytes_per_s;
    t->latency_ns = latency_ns;
    t->held = table;
    for (uint32_t i = 0; i < inner->attrs.depth; i++)
        table[i].next_free = i + 1 < inner->attrs.depth ? i + 1 : NONE;
    *out = &t->base;
    return SL_OK;
}

/* pager/synthetic.c: a device that exists in arithmetic only: known bytes, simulated time, failures on demand. See tier.h.
 *
 * The link serves one read after the other at its bandwidth, each is seen `latency` later; so reads finish in the order of submission. */
#include "pager/tier.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 512
#define POLL_NS   1000 /* what a reap that does not wait costs in simulated time */

typedef struct pending {
    uint64_t tag, ready_ns;
    bool fails;
    uint64_t number; /* counted from 1 */
} pending;

typedef struct synthetic_tier {
    sl_tier base;
    sl_synthetic_options options;
    pending *queue; /* ring of depth entries */
    uint32_t first, count;
    uint64_t now_ns, link_free_ns, reads;
} synthetic_tier;

/* The finaliser of splitmix64: each bit of the result depends on each of the input. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t word_at(uint64_t seed, uint64_t offset)
{
    return mix(mix(seed + 0x9e3779b97f4a7c15u) + offset / 8 * 0x9e3779b97f4a7c15u);
}

uint8_t sl_synthetic_byte(uint64_t seed, uint64_t offset)
{
    return (uint8_t)(word_at(seed, offset) >> (offset % 8 * 8));
}

/* Offset and size are multiples of 8, for they are aligned; bytes past the end are zero. */
static void fill(const synthetic_tier *t, const sl_read *read)
{
    uint64_t capacity = t->options.capacity_bytes, seed = t->options.seed + read->file;
    uint8_t *memory = read->memory;
    for (size_t at = 0; at < read->bytes; at += 8) {
        uint64_t word = word_at(seed, read->offset + at);
        for (unsigned i = 0; i < 8; i++)
            memory[at + i] = read->offset + at + i < capacity ? (uint8_t)(word >> (8 * i)) : 0;
    }
}

static sl_status synthetic_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    synthetic_tier *t = (synthetic_tier *)tier;
    if (((read->offset | read->bytes | (uintptr_t)read->memory) & (ALIGNMENT - 1)) != 0)
        return sl_fail(err, SL_INVALID, "a read of %zu bytes at %llu is not aligned to %d", read->bytes, (unsigned long long)read->offset,
                       ALIGNMENT);
    if (read->offset >= t->options.capacity_bytes)
        return sl_fail(err, SL_IO, "a read at %llu starts past the end (%llu bytes)", (unsigned long long)read->offset,
                       (unsigned long long)t->options.capacity_bytes);
    if (t->count == t->base.attrs.depth)
        return SL_PENDING;
    t->reads++;
    pending p = {.tag = read->tag, .fails = t->reads == t->options.fail_read, .number = t->reads};
    if (!p.fails && !t->options.blank)
        fill(t, read);
    uint64_t begin = t->link_free_ns > t->now_ns ? t->link_free_ns : t->now_ns;
    t->link_free_ns = begin + (uint64_t)((double)read->bytes * 1e9 / t->options.bandwidth_Bps);
    p.ready_ns = t->link_free_ns + t->options.latency_ns;
    t->queue[(t->first + t->count++) % t->base.attrs.depth] = p;
    return SL_OK;
}

static size_t synthetic_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    synthetic_tier *t = (synthetic_tier *)tier;
    size_t count = 0;
    if (max == 0)
        return 0;
    if (!wait)
        t->now_ns += POLL_NS;
    else if (t->count > 0 && t->queue[t->first].ready_ns > t->now_ns)
        t->now_ns = t->queue[t->first].ready_ns;
    for (; count < max && t->count > 0 && t->queue[t->first].ready_ns <= t->now_ns; count++, t->count--) {
        const pending *p = &t->queue[t->first];
        done[count] = (sl_read_done){.tag = p->tag, .status = SL_OK};
        if (p->fails)
            done[count].status = sl_fail(err, SL_IO, "read %llu of the synthetic device fails as asked", (unsigned long long)p->number);
        t->first = (t->first + 1) % t->base.attrs.depth;
    }
    return count;
}

static void synthetic_destroy(sl_tier *tier)
{
    synthetic_tier *t = (synthetic_tier *)tier;
    free(t->queue);
    free(t);
}

static const sl_tier_ops synthetic_ops = {.submit = synthetic_submit, .reap = synthetic_reap, .destroy = synthetic_destroy};

sl_status sl_tier_open_synthetic(const sl_synthetic_options *options, sl_tier **out, sl_error *err)
{
    *out = NULL;
    if (options->depth == 0 || !(options->bandwidth_Bps > 0))
        return sl_fail(err, SL_INVALID, "a synthetic device of depth %u and %g B/s; both must be above 0", options->depth,
                       options->bandwidth_Bps);
    synthetic_tier *t = calloc(1, sizeof *t);
    pending *queue = calloc(options->depth, sizeof *queue);
    if (t == NULL || queue == NULL) {
        free(t);
        free(queue);
        return sl_fail(err, SL_NO_MEMORY, "no memory for a synthetic device of depth %u", options->depth);
    }
    t->options = *options;
    t->queue = queue;
    t->base = (sl_tier){.ops = &synthetic_ops,
                        .attrs = {.engine = "synthetic",
                                  .direct = true,
                                  .alignment = ALIGNMENT,
                                  .depth = options->depth,
                                  .capacity_bytes = options->capacity_bytes,
                                  .heap_bytes = sizeof *t + options->depth * sizeof *queue,
                                  .bandwidth_Bps = options->bandwidth_Bps}};
    *out = &t->base;
    return SL_OK;
}

uint64_t sl_synthetic_now_ns(const sl_tier *tier)
{
    return ((const synthetic_tier *)tier)->now_ns;
}

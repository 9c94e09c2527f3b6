/* pager/replay_units.c: a cache of units under one policy: a heap of what is cached, the one to go first on top.
 *
 * A unit's key changes only when it is used. LRU: the time. FREQUENT: the logarithm of its uses, each weighing half of one that comes HALF_LIFE
 * uses of this unit's kind later; so keys need no fading. Belady: the time until its next use, negative. A fixed part needs no heap. */
#include "pager/policy.h"
#include "pager/replay_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HALF_LIFE 8 /* uses of all units, as often as there are units */

typedef struct entry {
    double key;
    uint32_t unit, version;
} entry;

struct sli_unit_cache {
    sl_replay_policy policy;
    uint64_t budget, used;
    const sl_record_file *file;
    uint64_t *cached; /* bytes of each unit */
    uint32_t *version;
    double *key;
    bool *fixed;
    entry *heap;
    size_t count, capacity;
};

bool sli_unit_stays(const sl_record_file *file, uint32_t unit)
{
    return file->head.layer_count == 0 || (file->unit_flags[unit] & SL_RECORD_BUNDLES) == 0;
}

/* ---- the heap: least key on top; of equal ones the newest ---- */

static bool before(const entry *a, const entry *b)
{
    return a->key < b->key || (!(a->key > b->key) && a->version > b->version);
}

static bool push(sli_unit_cache *c, entry e)
{
    if (c->count == c->capacity) {
        size_t capacity = 2 * c->capacity + 1024;
        entry *grown = realloc(c->heap, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        c->heap = grown;
        c->capacity = capacity;
    }
    size_t at = c->count++;
    for (; at > 0 && before(&e, &c->heap[(at - 1) / 2]); at = (at - 1) / 2)
        c->heap[at] = c->heap[(at - 1) / 2];
    c->heap[at] = e;
    return true;
}

static entry pop(sli_unit_cache *c)
{
    entry top = c->heap[0], last = c->heap[--c->count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < c->count; at = child) {
        child += child + 1 < c->count && before(&c->heap[child + 1], &c->heap[child]);
        if (!before(&c->heap[child], &last))
            break;
        c->heap[at] = c->heap[child];
    }
    c->heap[at] = last;
    return top;
}

/* ---- policies ---- */

static sl_status fix(sli_unit_cache *c, sl_error *err)
{
    uint32_t count = (uint32_t)c->file->head.unit_count, n = 0;
    sl_unit *units = malloc(count * sizeof *units);
    sl_unit_id *order = calloc(count, sizeof *order);
    if (units == NULL || order == NULL) {
        free(units);
        free(order);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %u units", count);
    }
    memcpy(units, c->file->units, count * sizeof *units);
    for (uint32_t u = 0; u < count; u++)
        if (sli_unit_stays(c->file, u))
            order[n++] = u;
    if (c->policy == SL_REPLAY_STATIC)
        sl_policy_spread(units, order, n, c->budget);
    for (uint32_t u = 0; u < count; u++)
        c->fixed[u] = units[u].home && (c->policy == SL_REPLAY_RUN || sli_unit_stays(c->file, u));
    free(units);
    free(order);
    return SL_OK;
}

sl_status sli_unit_cache_open(const sl_record_file *file, sl_replay_policy policy, uint64_t budget_bytes, sli_unit_cache **out,
                              sl_error *err)
{
    size_t count = file->head.unit_count;
    sli_unit_cache *c = calloc(1, sizeof *c);
    *out = c;
    if (c == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a cache");
    *c = (sli_unit_cache){.policy = policy, .budget = budget_bytes, .file = file};
    c->cached = calloc(count, sizeof *c->cached);
    c->version = calloc(count, sizeof *c->version);
    c->key = calloc(count, sizeof *c->key);
    c->fixed = calloc(count, sizeof *c->fixed);
    if (c->cached == NULL || c->version == NULL || c->key == NULL || c->fixed == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a cache of %zu units", count);
    return policy == SL_REPLAY_RUN || policy == SL_REPLAY_STATIC ? fix(c, err) : SL_OK;
}

void sli_unit_cache_close(sli_unit_cache *c)
{
    if (c == NULL)
        return;
    free(c->cached);
    free(c->version);
    free(c->key);
    free(c->fixed);
    free(c->heap);
    free(c);
}

static double key_of(const sli_unit_cache *c, uint32_t unit, uint32_t access, uint32_t next)
{
    if (c->policy == SL_REPLAY_LRU)
        return access;
    if (c->policy == SL_REPLAY_BELADY)
        return -(double)next;
    double now = (double)access / ((double)c->file->head.unit_count * HALF_LIFE);
    double before_now = c->version[unit] > 0 ? c->key[unit] - now : -1000;
    return now + log2(1 + exp2(before_now));
}

/* Gives up what has to go: of Belady a part of the last one is enough. */
static void make_fit(sli_unit_cache *c)
{
    while (c->used > c->budget && c->count > 0) {
        entry e = pop(c);
        if (e.version != c->version[e.unit])
            continue;
        uint64_t excess = c->used - c->budget, there = c->cached[e.unit];
        uint64_t gone = c->policy == SL_REPLAY_BELADY && excess < there ? excess : there;
        c->cached[e.unit] -= gone;
        c->used -= gone;
        if (gone < there)
            (void)push(c, e); /* there is room: it has just been taken out */
    }
}

uint64_t sli_unit_cache_use(sli_unit_cache *c, uint32_t unit, uint32_t access, uint32_t next)
{
    uint64_t bytes = c->file->units[unit].bytes, missing = bytes - c->cached[unit];
    if (c->policy == SL_REPLAY_RUN || c->policy == SL_REPLAY_STATIC) {
        c->cached[unit] = c->fixed[unit] ? bytes : 0;
        return missing;
    }
    if (!sli_unit_stays(c->file, unit))
        return bytes;
    c->key[unit] = key_of(c, unit, access, next);
    c->version[unit]++;
    c->used += missing;
    c->cached[unit] = bytes;
    if (!push(c, (entry){c->key[unit], unit, c->version[unit]})) { /* without memory it cannot be kept */
        c->used -= bytes;
        c->cached[unit] = 0;
    }
    make_fit(c);
    return missing;
}

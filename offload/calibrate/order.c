/* offload/calibrate/order.c: see order.h. */
#include "offload/calibrate/order.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SHARES_MAX 64 /* threads that may search */

typedef struct nearest {
    uint32_t index, distance; /* in the list of those that are left */
} nearest;

typedef struct search {
    const uint64_t *histories;
    uint32_t *left;
    uint32_t count, words, from;
    nearest found[SHARES_MAX];
} search;

static uint32_t distance(const uint64_t *a, const uint64_t *b, uint32_t words)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < words; w++)
        sum += (uint32_t)__builtin_popcountll(a[w] ^ b[w]);
    return sum;
}

/* The lower neuron wins a tie, so that shares do not matter. */
static void search_share(void *arg, unsigned index, unsigned count)
{
    search *s = arg;
    uint32_t end = (uint32_t)((uint64_t)s->count * (index + 1) / count);
    nearest best = {UINT32_MAX, UINT32_MAX};
    for (uint32_t i = (uint32_t)((uint64_t)s->count * index / count); i < end; i++) {
        uint32_t d = distance(s->histories + (size_t)s->from * s->words, s->histories + (size_t)s->left[i] * s->words, s->words);
        if (d < best.distance || (d == best.distance && s->left[i] < s->left[best.index]))
            best = (nearest){i, d};
    }
    if (index < SHARES_MAX)
        s->found[index] = best;
}

static uint32_t find_nearest(sl_threads *threads, search *s)
{
    unsigned shares = sl_threads_count(threads) <= SHARES_MAX ? sl_threads_count(threads) : SHARES_MAX;
    if (shares < sl_threads_count(threads) || s->count < 1024) {
        search_share(s, 0, 1);
        return s->found[0].index;
    }
    sl_threads_run(threads, search_share, s);
    nearest best = s->found[0];
    for (unsigned i = 1; i < shares; i++) {
        nearest other = s->found[i];
        if (other.distance < best.distance || (other.distance == best.distance && s->left[other.index] < s->left[best.index]))
            best = other;
    }
    return best.index;
}

static int hotter_first(const void *left, const void *right, void *heat_of)
{
    const float *heat = heat_of;
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    if (heat[a] != heat[b])
        return heat[a] > heat[b] ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Puts those that are left on a path that begins with the one nearest to s->from. */
static void chain(sl_threads *threads, search *s, uint32_t *order)
{
    while (s->count > 0) {
        uint32_t next = find_nearest(threads, s);
        *order++ = s->from = s->left[next];
        s->left[next] = s->left[--s->count];
    }
}

void sli_order_tiered(sl_threads *threads, const sli_order_facts *facts, uint32_t tiers, uint32_t *order, uint32_t *scratch)
{
    search s = {.histories = facts->histories, .left = scratch, .words = facts->words};
    for (uint32_t i = 0; i < facts->neurons; i++)
        order[i] = i;
    qsort_r(order, facts->neurons, sizeof *order, hotter_first, (void *)(uintptr_t)facts->heat);
    s.from = order[0];
    for (uint32_t tier = 0; tier < tiers; tier++) {
        uint32_t first = (uint32_t)((uint64_t)facts->neurons * tier / tiers),
                 end = (uint32_t)((uint64_t)facts->neurons * (tier + 1) / tiers);
        s.count = end - first;
        memcpy(scratch, order + first, s.count * sizeof *scratch);
        chain(threads, &s, order + first);
    }
}

sli_reads sli_order_reads(const uint32_t *order, const uint8_t *wanted, uint32_t neurons, uint32_t gap)
{
    sli_reads reads = {0};
    uint32_t end = 0; /* behind the last wanted place */
    for (uint32_t place = 0; place < neurons; place++) {
        if (!wanted[order[place]])
            continue;
        bool joins = reads.runs > 0 && place - end <= gap;
        reads.runs += !joins;
        reads.places += joins ? place - end + 1 : 1;
        end = place + 1;
    }
    return reads;
}

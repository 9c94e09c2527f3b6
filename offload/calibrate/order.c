/* offload/calibrate/order.c: see order.h. */
#include "offload/calibrate/order.h"

#include <stdbool.h>
#include <stddef.h>

#define SHARES_MAX 64 /* threads that may search */

typedef struct nearest {
    uint32_t index, distance; /* in the list of those that are left */
} nearest;

typedef struct search {
    const uint64_t *histories;
    const uint32_t *left;
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

static uint32_t weight(const uint64_t *a, uint32_t words)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < words; w++)
        sum += (uint32_t)__builtin_popcountll(a[w]);
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

void sli_order_chain(sl_threads *threads, const uint64_t *histories, uint32_t neurons, uint32_t words, uint32_t *order, uint32_t *scratch)
{
    uint32_t hottest = 0, most = 0;
    for (uint32_t i = 0; i < neurons; i++) {
        uint32_t fires = weight(histories + (size_t)i * words, words);
        scratch[i] = i;
        if (fires > most) {
            most = fires;
            hottest = i;
        }
    }
    search s = {.histories = histories, .left = scratch, .count = neurons, .words = words};
    for (uint32_t place = 0, next = hottest; place < neurons; place++) {
        order[place] = s.from = scratch[next];
        scratch[next] = scratch[--s.count];
        next = s.count > 0 ? find_nearest(threads, &s) : 0;
    }
}

void sli_order_hot_first(const uint64_t *histories, uint32_t neurons, uint32_t words, uint32_t *order, uint32_t *scratch)
{
    for (uint32_t i = 0; i < neurons; i++)
        scratch[i] = weight(histories + (size_t)i * words, words);
    uint32_t at = 0;
    for (uint32_t fires = 64 * words + 1; fires-- > 0;)
        for (uint32_t i = 0; i < neurons; i++)
            if (scratch[i] == fires)
                order[at++] = i;
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

/* core/merge_queue.h: the candidates of a merging tokenizer, the best first: a binary heap of (rank << 32 | left symbol).
 *
 * Entries are never removed when a symbol changes under them; who takes one checks that it still holds. n symbols make at most n - 1 entries
 * at first and, each merge taking one entry and adding at most two, at most 2n at any time. So the size is known beforehand, and a run of a
 * million equal letters costs n log n.
 *
 * Memory: the caller's. Threads: pure. */
#ifndef SL_CORE_MERGE_QUEUE_H
#define SL_CORE_MERGE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

typedef struct sli_merge_queue {
    uint64_t *entries;
    size_t count;
} sli_merge_queue;

static inline void sli_merge_push(sli_merge_queue *q, uint64_t entry)
{
    size_t at = q->count++;
    while (at > 0 && q->entries[(at - 1) / 2] > entry) {
        q->entries[at] = q->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->entries[at] = entry;
}

static inline uint64_t sli_merge_pop(sli_merge_queue *q)
{
    uint64_t first = q->entries[0], last = q->entries[--q->count];
    size_t at = 0;
    for (size_t child = 1; child < q->count; child = 2 * at + 1) {
        if (child + 1 < q->count && q->entries[child + 1] < q->entries[child])
            child++;
        if (q->entries[child] >= last)
            break;
        q->entries[at] = q->entries[child];
        at = child;
    }
    q->entries[at] = last;
    return first;
}

#endif

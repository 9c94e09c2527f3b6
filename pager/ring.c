/* pager/ring.c: see ring.h. */
#include "pager/ring.h"

#include <assert.h>
#include <stddef.h>

static const sli_extent *nth(const sli_ring *ring, uint32_t i)
{
    return &ring->extent[(ring->first + i) % ring->capacity];
}

bool sli_ring_room(const sli_ring *ring, uint32_t bytes, uint64_t *at)
{
    if (ring->count == ring->capacity)
        return false;
    if (ring->count == 0) {
        *at = 0;
        return bytes <= ring->bytes;
    }
    const sli_extent *first = nth(ring, 0), *last = nth(ring, ring->count - 1);
    uint64_t end = last->at + last->bytes;
    bool wrapped = last->at < first->at;
    uint64_t limit = wrapped ? first->at : ring->bytes;
    if (limit - end >= bytes) {
        *at = end;
        return true;
    }
    *at = 0;
    return !wrapped && first->at >= bytes;
}

uint32_t sli_ring_push(sli_ring *ring, sli_extent extent)
{
    assert(ring->count < ring->capacity);
    uint32_t index = (ring->first + ring->count++) % ring->capacity;
    ring->extent[index] = extent;
    return index;
}

sli_extent *sli_ring_first(sli_ring *ring)
{
    return ring->count > 0 ? &ring->extent[ring->first] : NULL;
}

sli_extent *sli_ring_last(sli_ring *ring)
{
    return ring->count > 0 ? &ring->extent[(ring->first + ring->count - 1) % ring->capacity] : NULL;
}

void sli_ring_pop_first(sli_ring *ring)
{
    assert(ring->count > 0);
    ring->first = (ring->first + 1) % ring->capacity;
    ring->count--;
}

void sli_ring_pop_last(sli_ring *ring)
{
    assert(ring->count > 0);
    ring->count--;
}

const char *sli_ring_broken(const sli_ring *ring)
{
    unsigned steps_down = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const sli_extent *e = nth(ring, i);
        if (e->at + e->bytes > ring->bytes)
            return "R1";
        if (i == 0)
            continue;
        const sli_extent *before = nth(ring, i - 1);
        if (e->at < before->at + before->bytes) {
            steps_down++;
            if (e->at != 0)
                return "R2";
        }
    }
    if (steps_down > 1)
        return "R2";
    /* After the step down everything must stay below the first. */
    const sli_extent *first = ring->count > 0 ? nth(ring, 0) : NULL, *last = first ? nth(ring, ring->count - 1) : NULL;
    return steps_down == 1 && last->at + last->bytes > first->at ? "R1" : NULL;
}

/* offload/residency.c: see residency.h. */
#include "offload/residency.h"

#include <string.h>

enum { MEMBER = 1, HELD = 2 };

sli_followed sli_residency_follow(const uint32_t *order, uint32_t ff, const uint32_t *set, uint32_t keep, uint32_t *holders, uint32_t slots,
                                  uint8_t *marks)
{
    sli_followed out = {0};
    uint32_t slot = 0;
    memset(marks, 0, ff);
    for (uint32_t i = 0; i < keep; i++)
        marks[set[i]] |= MEMBER;
    for (uint32_t s = 0; s < slots; s++) {
        holders[s] &= ~SL_DEVICE_FRESH;
        marks[holders[s]] |= HELD;
        out.held += (marks[holders[s]] & MEMBER) != 0;
    }
    for (uint32_t place = 0; place < ff; place++) {
        uint32_t neuron = order[place];
        if (marks[neuron] != MEMBER)
            continue;
        while (slot < slots && ((holders[slot] & SL_DEVICE_FRESH) != 0 || (marks[holders[slot]] & MEMBER) != 0))
            slot++;
        if (slot == slots)
            break;
        holders[slot++] = neuron | SL_DEVICE_FRESH;
        out.fresh++;
    }
    out.held += out.fresh;
    return out;
}

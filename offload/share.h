/* offload/share.h: how a crew divides work. */
#ifndef SL_OFFLOAD_SHARE_H
#define SL_OFFLOAD_SHARE_H

#include <stdint.h>

/* Thread `index` of `count`'s share of `all` things, with borders at multiples of `unit`. */
static inline void sli_share(uint32_t all, uint32_t unit, unsigned index, unsigned count, uint32_t *begin, uint32_t *end)
{
    uint32_t units = (all + unit - 1) / unit;
    *begin = (uint32_t)((uint64_t)units * index / count) * unit;
    *end = (uint32_t)((uint64_t)units * (index + 1) / count) * unit;
    *end = *end < all ? *end : all;
}

#endif

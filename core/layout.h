/* core/layout.h: one arena laid out twice by the same code: first to learn its size (no base), then to place its parts.
 *
 * So what is priced is what is allocated. Parts begin at multiples of 64 bytes. */
#ifndef SL_CORE_LAYOUT_H
#define SL_CORE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct sl_layout {
    uint8_t *base; /* NULL: only sizes are wanted */
    size_t used;
} sl_layout;

static inline size_t sl_layout_round(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Room for `bytes`; NULL without a base. */
static inline void *sl_layout_place(sl_layout *l, size_t bytes)
{
    void *at = l->base == NULL ? NULL : l->base + l->used;
    l->used += sl_layout_round(bytes);
    return at;
}

#endif

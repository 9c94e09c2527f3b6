/* kernels/compact.h: weights without their zeros, losslessly.
 *
 * A strip is a row of a matrix of 16-bit floats as it lies in the file, or a neuron's column, which is the same (kernels/columns.h). Of its elements those that
 * are zero need not be stored:
 *
 *     +----------------------------------------+----------------------------------+-------+
 *     | a bit for each element, lowest first:  | the elements that are kept, in   | zeros |
 *     | is it kept?                            | order                            |       |
 *     +----------------------------------------+----------------------------------+-------+
 *
 * There is room for `kept_max` elements, the same in all strips that lie together. Of a row that was pruned 2:4 that is half of them, and the bits are four
 * to a group of four: what two positions of two bits would take. The same layout serves 4:8 and 3:4, and rows that were pruned in no pattern.
 *
 * "Zero" is one bit pattern: all bits clear. Whatever else there is, minus zero too, is kept, so that expanding gives every byte back.
 *
 * Why only 16-bit floats: there 2:4 takes 9 bits a weight instead of 16. Of Q8_0 it would save 3 bits of 8.5 and of Q4_0 one of 4.5, which is not worth the
 * processor's time to put the zeros back (bench/SPEED.md, "Pruning").
 *
 * Threads: pure functions over the caller's memory. */
#ifndef SL_KERNELS_COMPACT_H
#define SL_KERNELS_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether strips of this type and so many elements can be made compact. */
bool sl_compact_works(uint32_t type, uint32_t elements);

static inline size_t sl_compact_bytes(uint32_t elements, uint32_t kept_max)
{
    return elements / 8 + 2 * (size_t)kept_max;
}

/* kept_max of strips of this size; false where it is the size of none. */
bool sl_compact_kept_max(uint32_t elements, size_t bytes, uint32_t *kept_max);
/* Elements that are not zero. */
uint32_t sl_compact_kept(uint32_t elements, const uint8_t *plain);
/* Writes sl_compact_bytes; the strip keeps at most kept_max. */
void sl_compact(uint32_t elements, const uint8_t *plain, uint32_t kept_max, uint8_t *out);

#endif

/* kernels/compact.h: weights without their zeros, losslessly.
 *
 * A strip is a row of a matrix as it lies in the file, or a neuron's column as kernels/columns.h lays it out. Its blocks have a head each (a scale; none
 * in a float type or a column) and elements of 16, 8 or 4 bits; an element that stands for zero need not be stored:
 *
 *     +-----------------+----------------------------+--------------------------------------------+-------+
 *     | heads, in order | a bit for each element,    | the elements that are kept, in order,      | zeros |
 *     |                 | lowest first: is it kept?  | of 4 bits two to a byte, the lower first   |       |
 *     +-----------------+----------------------------+--------------------------------------------+-------+
 *
 * There is room for `kept_max` elements, the same in all strips that lie together. Of a row that was pruned 2:4 that is half of them, and the bits are four
 * to a group of four: what two positions of two bits would take. The same layout serves 4:8 and 3:4, and rows that were pruned in no pattern.
 *
 * "Zero" is one bit pattern: all bits clear, of Q4_0 the nibble 8. Whatever else there is, minus zero too, is kept, so that expanding gives every byte back.
 *
 * Threads: pure functions over the caller's memory. */
#ifndef SL_KERNELS_COMPACT_H
#define SL_KERNELS_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_strip {
    uint32_t blocks, head_bytes, block_elements;
    uint32_t bits; /* of an element; those of a block fill whole 64-bit words, and those of a strip whole bytes of the bitmap */
    uint8_t fill;  /* a byte of zeros */
} sl_strip;

/* False where a row, or a column, of this type and length cannot be made compact; then it stays as it is. */
bool sl_strip_of_row(uint32_t type, uint32_t cols, sl_strip *out);
bool sl_strip_of_column(uint32_t type, uint32_t rows, sl_strip *out);

static inline uint32_t sl_strip_elements(const sl_strip *s)
{
    return s->blocks * s->block_elements;
}

static inline size_t sl_strip_bytes(const sl_strip *s)
{
    return s->blocks * (s->head_bytes + (size_t)s->block_elements * s->bits / 8);
}

size_t sl_compact_bytes(const sl_strip *s, uint32_t kept_max);
/* The largest kept_max that fits; false where `bytes` is the size of no compact strip. */
bool sl_compact_kept_max(const sl_strip *s, size_t bytes, uint32_t *kept_max);
/* Elements of a strip that are not zero. */
uint32_t sl_strip_kept(const sl_strip *s, const uint8_t *plain);
/* Writes sl_compact_bytes; the strip keeps at most kept_max. */
void sl_compact(const sl_strip *s, const uint8_t *plain, uint32_t kept_max, uint8_t *out);

#endif

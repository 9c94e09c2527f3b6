/* kernels/signs.h: matrices of one to three bits per weight, as planes of signs.
 *
 * A weight is a sum of signs that count 1, 2 and 4: one plane gives -1 +1, two give -3 -1 +1 +3, three give -7 -5 ... +7. Blocks of 32 columns
 * have a number of planes each, so that the columns that matter can be finer than the others. There is no scale in here: what a row and what a
 * column must be multiplied by, the caller does outside. So a matrix of one plane takes one bit per weight, and nothing else.
 *
 * A product needs no multiplication, nor are bits ever widened to bytes. For four activations the sixteen sums with all combinations of signs
 * are a table; the four signs of a row are the place to look. A byte shuffle looks up for sixteen rows at once.
 *
 * Layout: 32 rows form a panel, the last one padded with any bits. [panel][block][plane, the one that counts 1 first][group of 4 columns: 8][16 bytes]:
 * in byte i, bits 0..3 are the signs of row i in the group's columns 0..3, bits 4..7 those of row 16 + i. A bit that is set is +1.
 *
 * Threads: constant data. */
#ifndef SL_KERNELS_SIGNS_H
#define SL_KERNELS_SIGNS_H

#include <stddef.h>
#include <stdint.h>

#define SL_SIGN_ROWS        32  /* rows of a panel */
#define SL_SIGN_COLS        32  /* columns of a block: those of an activation block */
#define SL_SIGN_PLANES      3   /* of a block, at most: 7 * 32 * 127 still fits 16 bits */
#define SL_SIGN_PLANE_BYTES 128 /* of a block in a panel */

typedef struct sl_signs {
    uint32_t rows, cols;   /* cols is a multiple of 32 */
    const uint8_t *planes; /* [cols / 32], 1 .. SL_SIGN_PLANES */
    const uint8_t *panels;
} sl_signs;

static inline size_t sl_sign_panel_bytes(const uint8_t *planes, uint32_t cols)
{
    size_t sum = 0;
    for (uint32_t b = 0; b < cols / SL_SIGN_COLS; b++)
        sum += planes[b];
    return sum * SL_SIGN_PLANE_BYTES;
}

/* Of the byte that holds the sign, from the start of a plane of a block in a panel, and which of its bits. */
static inline size_t sl_sign_byte(uint32_t row, uint32_t col)
{
    return (size_t)col / 4 * 16 + row % 16;
}
static inline unsigned sl_sign_bit(uint32_t row, uint32_t col)
{
    return col % 4 + (row & 16) / 4;
}

#endif

/* kernels/cut.h: where a block's bits go when a matrix is cut by columns (columns.h), as data.
 *
 * All of GGUF's integer formats place a plane in one way: `run` neighbouring elements lie in neighbouring bytes; the next `run` elements lie
 * in the same bytes, `bits` further up; when the bytes are full, the next `run` bytes follow. A column's own groups of 32 rows are placed by
 * the same rule, with a run of 4 * bits.
 *
 * Threads: constant data and pure functions. */
#ifndef SL_KERNELS_CUT_H
#define SL_KERNELS_CUT_H

#include "kernels/columns.h"

typedef struct sli_plane {
    uint8_t bits;   /* of an element: 8, 4, 2, 1; 0: there is no such plane */
    uint8_t run;    /* elements in neighbouring bytes, a power of two */
    uint8_t offset; /* first byte in the block */
} sli_plane;

typedef struct sli_span {
    uint8_t offset, bytes;
} sli_span;

typedef struct sli_cut {
    uint16_t block;      /* elements; 0: the type cannot be cut */
    sli_plane planes[2]; /* lowest bits first; none for float types */
    sli_span meta[2];    /* shared by the block, even bytes each, in its order */
} sli_cut;

const sli_cut *sli_cut_of(uint32_t type);

/* Bytes of a plane in one column. */
static inline size_t sli_plane_bytes(sli_plane p, uint32_t rows)
{
    return (size_t)(rows + SL_COLUMN_GROUP - 1) / SL_COLUMN_GROUP * 4 * p.bits;
}

#endif

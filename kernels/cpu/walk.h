/* kernels/cpu/walk.h: in which order a product visits weights and activations, for every vector instruction set.
 *
 * A product is cut three ways. Panels form groups that stay in the L2 cache while all activations pass; activation rows form row blocks; the
 * long dimension is cut into tiles of a few segments, so that a tile of weights and the row block's share of activations lie in the L1 cache
 * together. The instruction sets provide only the innermost step: one tile of weights times one row block, added to running totals. As
 * tiles are whole segments and come in order, the sums are D2's and D3's whatever the cuts are.
 *
 *     for each group of panels
 *         for each row block                        weights come from memory the first time, then from L2
 *             for each tile of the long dimension   activations are laid out for the kernel once ...
 *                 for each panel of the group       ... and used by every panel
 *
 * Memory is the limit when rows are few, so each step is told which tile comes next and asks for it ahead of time.
 *
 * Threads: pure functions; all scratch is on the stack (about 45 KiB). */
#ifndef SL_KERNELS_CPU_WALK_H
#define SL_KERNELS_CPU_WALK_H

#include "kernels/internal.h"

#define SLI_ROW_BLOCK   16 /* activation rows that share a visit to a tile */
#define SLI_TILE_BLOCKS 16 /* blocks of 32 in a tile: two segments */

/* A row block's activations over one tile. Compact, because rows that are a power of two apart would fall into the same cache set. */
typedef struct sli_act_tile {
    _Alignas(64) int8_t q[SLI_TILE_BLOCKS][SLI_ROW_BLOCK][SL_ACT_BLOCK];
    float d[SLI_ROW_BLOCK][SLI_TILE_BLOCKS];
    /* What takes a bias back that made weights unsigned: minus the bias times sum. */
    int32_t start[SLI_ROW_BLOCK][SLI_TILE_BLOCKS];
    float dsum[SLI_ROW_BLOCK][SLI_TILE_BLOCKS]; /* d * (float)sum, for formats with a minimum */
    /* For formats with sub-blocks of 16, of each half of a block: where sums of pairs start that were made of unsigned weights (minus the offset times
     * the sum of the words' first, and of their second pairs, modulo 2^16), or where a sum of all starts, and d * (float)sum. */
    int16_t half_start[SLI_ROW_BLOCK][SLI_TILE_BLOCKS][2][2];
    int32_t half_bias[SLI_ROW_BLOCK][SLI_TILE_BLOCKS][2];
    float half_dsum[SLI_ROW_BLOCK][SLI_TILE_BLOCKS][2];
} sli_act_tile;

/* Where the parts of a tile lie in a panel. */
typedef struct sli_weight_parts {
    const uint8_t *quants, *scales,
        *minima; /* words and 16-bit numbers of the tile's first block; minima equals scales where there is one */
} sli_weight_parts;

typedef struct sli_quant_step {
    const sli_act_tile *x;
    uint32_t rows;   /* 1 .. SLI_ROW_BLOCK */
    uint32_t blocks; /* 1 .. SLI_TILE_BLOCKS */
    uint32_t panels; /* 1 or 2: the second lies panel_bytes further on, in all its parts */
    size_t panel_bytes;
    sli_weight_parts now;   /* the tile to multiply */
    sli_weight_parts ahead; /* the tile that comes next, to be prefetched; may lie past the end, where a prefetch does nothing */
    float (*totals)[SLI_ROW_BLOCK][SL_PANEL_ROWS]; /* [panel][row][lane], 64-byte aligned */
} sli_quant_step;

typedef struct sli_float_step {
    const float *x; /* row 0 at the segment's first element */
    size_t x_stride;
    uint32_t rows;
    uint32_t count;         /* elements, 1 .. SLI_SEGMENT_ELEMENTS */
    const uint8_t *weights; /* [element][16] */
    float (*totals)[SL_PANEL_ROWS];
} sli_float_step;

typedef void (*sli_quant_step_fn)(const sli_quant_step *step);
/* Lays out what the halves of row r's blocks have of their own; q and d are the tile's first block's, blocks a multiple of 8. */
typedef void (*sli_half_sums_fn)(uint32_t type, const int8_t *q, const float *d, size_t r, size_t blocks, sli_act_tile *tile);
typedef void (*sli_float_step_fn)(const sli_float_step *step);

void sli_walk_quantized(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                        sli_quant_step_fn step);
/* The same for formats with sub-blocks of 16, for a set that has its own way to lay out what their halves need: half_bias instead of half_start. */
void sli_walk_halves(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                     sli_quant_step_fn step, sli_half_sums_fn half_sums);
void sli_walk_float(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                    sli_float_step_fn step);

#endif

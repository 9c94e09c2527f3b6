/* kernels/cpu/signs_walk.h: the order in which products with planes of signs go over panels, for kernels that look sums up.
 *
 * Tables are made for some blocks at a time, small enough for the L1 cache, and all panels pass before the next ones; running totals wait in
 * `out` meanwhile. */
#ifndef SL_KERNELS_CPU_SIGNS_WALK_H
#define SL_KERNELS_CPU_SIGNS_WALK_H

#include "kernels/internal.h"

#include <string.h>

#define SLI_SIGN_TILE_BLOCKS  48 /* 12 KiB of tables */
#define SLI_SIGN_BLOCK_GROUPS (SL_SIGN_COLS / 4)

/* Of a block's groups of four columns the sums that their signs can make, sixteen of 16 bits each, laid out as the kernel likes them. */
typedef struct sli_sign_table {
    _Alignas(32) uint8_t bytes[SLI_SIGN_BLOCK_GROUPS * 32];
} sli_sign_table;

/* The table of a block of activations. */
typedef void (*sli_sign_table_fn)(const int8_t *x, sli_sign_table *table);
/* Blocks [0, blocks) of a tile, whose signs begin at `signs`, added to the totals of a panel's rows. */
typedef void (*sli_sign_tile_fn)(const uint8_t *signs, const uint8_t *planes, uint32_t blocks, const sli_sign_table *tables, const float *d,
                                 float totals[SL_SIGN_ROWS]);

static inline void sli_walk_signs(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out,
                                  sli_sign_table_fn make_table, sli_sign_tile_fn add_tile)
{
    sli_sign_table tables[SLI_SIGN_TILE_BLOCKS];
    size_t panel_bytes = sl_sign_panel_bytes(w->planes, w->cols), offset = 0;
    uint32_t blocks = w->cols / SL_SIGN_COLS;
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    for (uint32_t first = 0; first < blocks; first += SLI_SIGN_TILE_BLOCKS) {
        uint32_t count = blocks - first < SLI_SIGN_TILE_BLOCKS ? blocks - first : SLI_SIGN_TILE_BLOCKS;
        for (uint32_t b = 0; b < count; b++)
            make_table(x->q + (size_t)(first + b) * SL_SIGN_COLS, &tables[b]);
        for (uint32_t r = row_begin; r < row_end; r += SL_SIGN_ROWS) {
            uint32_t rows = row_end - r < SL_SIGN_ROWS ? row_end - r : SL_SIGN_ROWS;
            float totals[SL_SIGN_ROWS] = {0};
            memcpy(totals, out + r, rows * sizeof *out);
            add_tile(w->panels + r / SL_SIGN_ROWS * panel_bytes + offset, w->planes + first, count, tables, x->d + first, totals);
            memcpy(out + r, totals, rows * sizeof *out);
        }
        offset += sl_sign_panel_bytes(w->planes + first, count * SL_SIGN_COLS);
    }
}

#endif

/* kernels/segments.h: products over scattered rows and over columns for every format, one segment of 256 elements at a time.
 *
 * A segment's blocks are packed, from the rows or from the columns, and multiplied as a matrix of 256 columns. A segment of columns is walked from
 * end to end before the next one is begun: a few hundred places in memory at a time, whose lines are used up while they are in cache. D2 and D3 add whole segments in order, and a product that begins at +0 and has one segment is that segment; so the bits are
 * those of the whole row. Formats that have a faster way of their own do not come here.
 *
 * Threads: pure functions; scratch is on the stack (about 110 KiB). */
#ifndef SL_KERNELS_SEGMENTS_H
#define SL_KERNELS_SEGMENTS_H

#include "kernels/internal.h"

/* What an instruction set brings: its pack, or its way from columns to a panel (sli_pack_blocks_ref); and its matmul. */
typedef struct sli_segment_kernels {
    void (*pack)(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel);
    void (*pack_blocks)(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                        uint8_t *panel);
    void (*matmul)(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);
} sli_segment_kernels;

/* sl_kernels.dot_rows (uses pack) and .matmul_columns (uses pack_blocks). */
void sli_dot_rows_by_segment(const sli_segment_kernels *k, uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x,
                             float *out);
void sli_matmul_columns_by_segment(const sli_segment_kernels *k, const sl_columns *w, const sl_acts *x, uint32_t row_begin,
                                   uint32_t row_end, float *out);

#endif

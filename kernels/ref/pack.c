/* kernels/ref/pack.c: sixteen rows interleaved into a panel, word by word.
 *
 * The layout is drawn in kernels.h. Nothing is decoded: every byte of the rows appears once in the panel, so the rows can be had back. */
#include "kernels/internal.h"

#include <string.h>

/* Copies `bytes` bytes at `offset` of a row, or zeros for an absent row. */
static void copy_bytes(uint8_t *to, const uint8_t *row, size_t offset, size_t bytes)
{
    if (row)
        memcpy(to, row + offset, bytes);
    else
        memset(to, 0, bytes);
}

static void pack_float(size_t element_bytes, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    for (uint32_t k = 0; k < cols; k++)
        for (int r = 0; r < SL_PANEL_ROWS; r++)
            copy_bytes(panel + (k * (size_t)SL_PANEL_ROWS + r) * element_bytes, rows[r], k * element_bytes, element_bytes);
}

static void pack_quantized(sli_layout layout, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    size_t blocks = cols / layout.elements;
    uint8_t *halves = panel + blocks * layout.words * 4 * SL_PANEL_ROWS;

    for (size_t b = 0; b < blocks; b++) {
        size_t block = b * layout.block_bytes;
        for (size_t w = 0; w < layout.words; w++)
            for (size_t r = 0; r < SL_PANEL_ROWS; r++)
                copy_bytes(panel + ((b * layout.words + w) * SL_PANEL_ROWS + r) * 4, rows[r], block + layout.words_offset + w * 4, 4);
        for (size_t h = 0; h < layout.halves; h++)
            for (size_t r = 0; r < SL_PANEL_ROWS; r++)
                copy_bytes(halves + ((h * blocks + b) * SL_PANEL_ROWS + r) * 2, rows[r], block + layout.half_offset[h], 2);
    }
}

void sli_pack_ref(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    sli_layout layout = sli_layout_of(type);
    if (layout.words)
        pack_quantized(layout, rows, cols, panel);
    else
        pack_float(sl_row_bytes(type, 1), rows, cols, panel);
}

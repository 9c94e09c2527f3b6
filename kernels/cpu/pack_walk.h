/* kernels/cpu/pack_walk.h: a panel from sixteen rows, by an instruction set's transpositions of sixteen bytes of each.
 *
 * Included by one file per instruction set, which then defines transpose_words() and transpose_halves(). */
#ifndef SL_KERNELS_CPU_PACK_WALK_H
#define SL_KERNELS_CPU_PACK_WALK_H

#include "kernels/internal.h"

#include <string.h>

static const uint8_t zero_bytes[16]; /* stands in for the rows that are absent */

/* Sixteen read positions. An absent row reads the same zeros again and again. */
typedef struct cursor {
    const uint8_t *at[SL_PANEL_ROWS];
    size_t keep[SL_PANEL_ROWS]; /* all ones, or zero for an absent row: offsets are masked with it */
} cursor;

static cursor cursor_of(const uint8_t *const rows[SL_PANEL_ROWS])
{
    cursor c;
    for (int r = 0; r < SL_PANEL_ROWS; r++) {
        c.at[r] = rows[r] ? rows[r] : zero_bytes;
        c.keep[r] = rows[r] ? SIZE_MAX : 0;
    }
    return c;
}

static inline const uint8_t *read_at(const cursor *c, int row, size_t offset)
{
    return c->at[row] + (offset & c->keep[row]);
}

/* Sixteen bytes of sixteen rows, as four words of each: 256 bytes to `to`. */
static inline void transpose_words(const cursor *c, size_t offset, uint8_t *to);
/* The same sixteen bytes as eight 16-bit elements of each row. */
static inline void transpose_halves(const cursor *c, size_t offset, uint8_t *to);

/* `bytes` bytes of each row, side by side: scales, minima, and the last elements of a float row. */
static inline void gather_bytes(const cursor *c, size_t offset, size_t bytes, uint8_t *to)
{
    for (int r = 0; r < SL_PANEL_ROWS; r++)
        memcpy(to + r * bytes, read_at(c, r, offset), bytes);
}

/* Four words at a time. Where that does not divide a block's words the last four overlap the ones before, and write the same again. */
static void pack_quantized(sli_layout layout, const cursor *c, uint32_t cols, uint8_t *panel)
{
    size_t blocks = cols / layout.elements, last = layout.words - 4u;
    uint8_t *words = panel, *halves = panel + blocks * layout.words * 4 * SL_PANEL_ROWS;

    for (size_t b = 0, block = 0; b < blocks; b++, block += layout.block_bytes, words += layout.words * 4 * SL_PANEL_ROWS) {
        for (size_t w = 0; w < layout.words; w += 4) {
            size_t from = w < last ? w : last;
            transpose_words(c, block + layout.words_offset + from * 4, words + from * 4 * SL_PANEL_ROWS);
        }
        for (size_t h = 0; h < layout.halves; h++)
            gather_bytes(c, block + layout.half_offset[h], 2, halves + (h * blocks + b) * 2 * SL_PANEL_ROWS);
    }
}

static void pack_float(size_t element_bytes, const cursor *c, uint32_t cols, uint8_t *panel)
{
    size_t row_bytes = cols * element_bytes, offset = 0;
    for (; offset + 16 <= row_bytes; offset += 16, panel += 16 * SL_PANEL_ROWS) {
        if (element_bytes == 4)
            transpose_words(c, offset, panel);
        else
            transpose_halves(c, offset, panel);
    }
    for (; offset < row_bytes; offset += element_bytes, panel += element_bytes * SL_PANEL_ROWS)
        gather_bytes(c, offset, element_bytes, panel);
}

static inline void pack_rows(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    sli_layout layout = sli_layout_of(type);
    cursor c = cursor_of(rows);
    if (layout.words)
        pack_quantized(layout, &c, cols, panel);
    else
        pack_float(sl_row_bytes(type, 1), &c, cols, panel);
}

#endif

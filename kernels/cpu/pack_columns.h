/* kernels/cpu/pack_columns.h: a panel from columns, for every format that can be cut.
 *
 * Sixteen rows of one column are values of 8, 4, 2 or 1 bits in neighbouring bytes (cut.h); spread to a byte each, those of the elements that
 * share a byte in the file meet in it again, and four such bytes interleaved are a word of the panel for each row. What a block shares is
 * stored by 16-bit words, sixteen rows side by side: two of them interleaved are a word of the panel, too.
 *
 * Included by one file per instruction set, which brings a register of sixteen bytes, `sixteen`, and before it
 *     values_of(bits, group, half)              one column's values in the sixteen rows, a byte each; `group` is its group of 32
 *     shifted_up(values, bits)                  in their place in the byte; nothing leaves a byte
 *     store_word(v, to)                         the four bytes of a word of sixteen rows, interleaved: 64 bytes
 *     store_interleaved(first, second, to)      sixteen numbers of 16 bits from each in turn: 64 bytes */
#ifndef SL_KERNELS_CPU_PACK_COLUMNS_H
#define SL_KERNELS_CPU_PACK_COLUMNS_H

#include "kernels/cut.h"
#include "kernels/internal.h"

#include <string.h>

#define AHEAD      64 /* bytes of a column between what is used and what is prefetched: its next line, which the next panels need */
#define WORD_BYTES (4 * SL_PANEL_ROWS)
#define HALF_BYTES (2 * SL_PANEL_ROWS)

/* What is packed: blocks of sixteen rows. */
typedef struct part {
    const sl_columns *w;
    const uint8_t *const *columns; /* of the blocks' neurons */
    size_t column_count;
    size_t first_block; /* in the matrix */
    size_t group;       /* of 32 rows */
    int half;           /* of the group */
    uint32_t first_row, lanes;
    sli_layout layout;
    const sli_cut *cut;
    size_t meta_words;
} part;

/* ---- integers ---- */

/* Number f of the elements that share a byte of a plane, in its place in the byte, of all rows. */
INLINE sixteen field_of(uint32_t bits, uint32_t f, const uint8_t *const *column, size_t run, size_t at, int half)
{
    const uint8_t *group = column[f * run] + at;
    __builtin_prefetch(group + AHEAD, 0, 2);
    return shifted_up(values_of(bits, group, half), (int)(f * bits));
}

/* A byte of a plane: the elements that share it are `run` columns apart. */
INLINE sixteen plane_byte(uint32_t bits, const uint8_t *const *column, size_t run, size_t at, int half)
{
    sixteen sum = field_of(bits, 0, column, run, at, half);
    if (bits <= 4)
        sum |= field_of(bits, 1, column, run, at, half);
    if (bits <= 2) {
        sum |= field_of(bits, 2, column, run, at, half);
        sum |= field_of(bits, 3, column, run, at, half);
    }
    if (bits == 1) {
        sum |= field_of(bits, 4, column, run, at, half);
        sum |= field_of(bits, 5, column, run, at, half);
        sum |= field_of(bits, 6, column, run, at, half);
        sum |= field_of(bits, 7, column, run, at, half);
    }
    return sum;
}

/* A plane of all blocks; `at` is where the rows' group of it lies in a column. A run has one element or a multiple of four. */
INLINE void pack_plane(uint32_t bits, const sli_plane *p, const part *t, size_t at, uint8_t *panel)
{
    const size_t elements = t->layout.elements, bytes = elements * bits / 8, fields = 8 / bits, run = p->run;
    const size_t step = run == 1 ? fields : 1;
    const int half = t->half;
    uint8_t *to = panel + (size_t)(p->offset - t->layout.words_offset) / 4 * WORD_BYTES;
    for (size_t first = 0; first < t->column_count; first += elements, to += t->layout.words * (size_t)WORD_BYTES)
        for (size_t byte = 0; byte < bytes; byte += 4) {
            const uint8_t *const *column = t->columns + first + (byte & ~(run - 1)) * fields + (byte & (run - 1));
            sixteen v[4];
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++)
                v[i] = plane_byte(bits, column + i * step, run, at, half);
            store_word(v, to + byte / 4 * WORD_BYTES);
        }
}

static void pack_integers(const part *t, uint8_t *panel)
{
    size_t plane_at = 0;
    for (const sli_plane *p = t->cut->planes; p < t->cut->planes + 2; p++) {
        size_t at = plane_at + t->group * 4 * p->bits;
        switch (p->bits) {
        case 8: pack_plane(8, p, t, at, panel); break;
        case 4: pack_plane(4, p, t, at, panel); break;
        case 2: pack_plane(2, p, t, at, panel); break;
        case 1: pack_plane(1, p, t, at, panel); break;
        default: break;
        }
        plane_at += sli_plane_bytes(*p, t->w->rows);
    }
}

/* ---- what blocks share ---- */

/* The 16-bit number at byte `offset` of block b, of all rows; zeros for rows that the matrix does not have. */
static void load_meta(const part *t, size_t b, size_t offset, uint8_t to[HALF_BYTES])
{
    const sli_span *s = t->cut->meta;
    size_t word = offset / 2 - s[0].offset / 2;
    if (offset >= (size_t)s[0].offset + s[0].bytes)
        word = s[0].bytes / 2 + (offset - s[1].offset) / 2;
    const uint8_t *from = t->w->meta + (((t->first_block + b) * t->meta_words + word) * t->w->rows + t->first_row) * 2;
    if (t->lanes < SL_PANEL_ROWS)
        memset(to, 0, HALF_BYTES);
    memcpy(to, from, 2 * (size_t)t->lanes);
}

/* Scales of a super-block, which are words of the panel: bytes [offset, offset + 4) of the block. */
static void pack_shared_word(const part *t, size_t b, size_t offset, uint8_t *to)
{
    uint8_t low[HALF_BYTES], high[HALF_BYTES];
    load_meta(t, b, offset, low);
    load_meta(t, b, offset + 2, high);
    store_interleaved(low, high, to);
}

static bool is_shared(const part *t, size_t offset)
{
    const sli_span *s = t->cut->meta;
    return (offset >= s[0].offset && offset < (size_t)s[0].offset + s[0].bytes) ||
           (offset >= s[1].offset && offset < (size_t)s[1].offset + s[1].bytes);
}

static void pack_shared(const part *t, uint8_t *panel)
{
    size_t blocks = t->column_count / t->layout.elements;
    uint8_t *halves = panel + blocks * t->layout.words * WORD_BYTES;
    for (size_t word = 0; word < t->layout.words; word++) {
        size_t offset = t->layout.words_offset + 4 * word;
        for (size_t b = 0; is_shared(t, offset) && b < blocks; b++)
            pack_shared_word(t, b, offset, panel + (b * t->layout.words + word) * WORD_BYTES);
    }
    for (size_t i = 0; i < t->layout.halves; i++)
        for (size_t b = 0; b < blocks; b++)
            load_meta(t, b, t->layout.half_offset[i], halves + (i * blocks + b) * HALF_BYTES);
}

/* ---- floats ---- */

INLINE void pack_floats(size_t size, const part *t, uint8_t *panel)
{
    for (size_t k = 0; k < t->column_count; k++, panel += size * SL_PANEL_ROWS) {
        const uint8_t *from = t->columns[k] + t->first_row * size;
        if (t->lanes == SL_PANEL_ROWS) {
            memcpy(panel, from, size * SL_PANEL_ROWS);
        } else {
            memcpy(panel, from, size * t->lanes);
            memset(panel + size * t->lanes, 0, size * (SL_PANEL_ROWS - t->lanes));
        }
    }
}

void SLI_NAME(pack_blocks)(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                           uint8_t *panel)
{
    part t = {.w = w, .columns = columns, .first_block = first_block, .first_row = first_row};
    t.layout = sli_layout_of(w->type);
    t.cut = sli_cut_of(w->type);
    t.meta_words = sl_column_meta_words(w->type);
    t.column_count = blocks * t.cut->block;
    t.group = first_row / SL_COLUMN_GROUP;
    t.half = first_row % SL_COLUMN_GROUP != 0;
    t.lanes = w->rows - first_row < SL_PANEL_ROWS ? w->rows - first_row : SL_PANEL_ROWS;
    if (t.layout.words == 0 && w->type == SL_TYPE_F32) {
        pack_floats(4, &t, panel);
    } else if (t.layout.words == 0) {
        pack_floats(2, &t, panel);
    } else {
        pack_integers(&t, panel);
        pack_shared(&t, panel);
    }
}

#endif

/* kernels/segments.c: see segments.h. */
#include "kernels/segments.h"
#include "kernels/columns.h"

#include <assert.h>
#include <string.h>

#define SEGMENT     SLI_SEGMENT_ELEMENTS
#define GROUP       SL_COLUMN_GROUP
#define BYTES_MAX   288 /* of a segment of one row: Q8_0 has 272 */
#define PANELS      (GROUP / SL_PANEL_ROWS)
#define PANEL_BYTES (SL_PANEL_ROWS * BYTES_MAX)

/* The activations of one segment. */
static sl_acts acts_of(const sl_acts *x, size_t first, size_t count)
{
    return (sl_acts){.rows = 1,
                     .cols = (uint32_t)count,
                     .f32 = x->f32 + first,
                     .q = x->q + first,
                     .d = x->d + first / SL_ACT_BLOCK,
                     .sum = x->sum + first / SL_ACT_BLOCK};
}

static size_t segment_count(size_t cols, size_t first)
{
    return cols - first < SEGMENT ? cols - first : SEGMENT;
}

void sli_dot_rows_by_segment(const sli_segment_kernels *k, uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x,
                             float *out)
{
    _Alignas(64) uint8_t panel[PANEL_BYTES];
    for (uint32_t i = 0; i < count; i += SL_PANEL_ROWS) {
        uint32_t lanes = count - i < SL_PANEL_ROWS ? count - i : SL_PANEL_ROWS;
        memset(out + i, 0, lanes * sizeof *out);
        for (size_t first = 0; first < x->cols; first += SEGMENT) {
            const uint8_t *at[SL_PANEL_ROWS] = {0};
            float sums[SL_PANEL_ROWS];
            sl_acts part = acts_of(x, first, segment_count(x->cols, first));
            for (uint32_t lane = 0; lane < lanes; lane++)
                at[lane] = rows[i + lane] + sl_row_bytes(type, first);
            k->pack(type, at, part.cols, panel);
            k->matmul(type, panel, lanes, &part, sums, lanes);
            for (uint32_t lane = 0; lane < lanes; lane++)
                out[i + lane] += sums[lane];
        }
    }
}

/* The segment's blocks in 32 rows from `first_row` on, in the file's form at rows[r]. columns: of its neurons. */
static void join_segment(const sl_columns *w, const uint8_t *const *columns, size_t first, size_t count, uint32_t first_row,
                         uint8_t rows[GROUP][BYTES_MAX])
{
    uint32_t block = sl_column_block(w->type), block_bytes = sl_format_of(w->type)->block_bytes;
    for (uint32_t b = 0; b < count / block; b++)
        sl_columns_join_block(w->type, columns + (size_t)b * block, w->meta, w->rows, w->cols, (uint32_t)(first / block) + b, first_row,
                              rows[0] + (size_t)b * block_bytes, BYTES_MAX);
}

static void pack_joined(const sli_segment_kernels *k, uint32_t type, uint8_t rows[GROUP][BYTES_MAX], uint32_t first, uint32_t lanes,
                        size_t count, uint8_t *panel)
{
    const uint8_t *at[SL_PANEL_ROWS] = {0};
    for (uint32_t lane = 0; lane < SL_PANEL_ROWS && lane < lanes; lane++)
        at[lane] = rows[first + lane];
    k->pack(type, at, (uint32_t)count, panel);
}

/* A packed segment's words and 16-bit numbers go to their places among those of the whole rows. */
static void place_segment(sli_layout layout, const uint8_t *segment, size_t blocks, size_t first_block, size_t all_blocks, uint8_t *panel)
{
    const size_t words = (size_t)layout.words * 4 * SL_PANEL_ROWS, halves = 2 * SL_PANEL_ROWS;
    memcpy(panel + first_block * words, segment, blocks * words);
    for (size_t i = 0; i < layout.halves; i++)
        memcpy(panel + all_blocks * words + (i * all_blocks + first_block) * halves, segment + blocks * words + i * blocks * halves,
               blocks * halves);
}

void sli_pack_columns_by_segment(const sli_segment_kernels *k, const sl_columns *w, uint32_t first_row, uint8_t *panel)
{
    uint8_t rows[GROUP][BYTES_MAX];
    _Alignas(64) uint8_t part[PANEL_BYTES];
    sli_layout layout = sli_layout_of(w->type);
    uint32_t group = first_row / GROUP * GROUP, lanes = w->rows - first_row;
    assert(layout.elements > 0); /* a quantised format */
    for (size_t first = 0; first < w->cols; first += SEGMENT) {
        size_t count = segment_count(w->cols, first);
        join_segment(w, w->column + first, first, count, group, rows);
        pack_joined(k, w->type, rows, first_row - group, lanes, count, part);
        place_segment(layout, part, count / layout.elements, first / layout.elements, w->cols / layout.elements, panel);
    }
}

/* The columns of a segment's neurons; where one is no member its activation is zero, and any column will do. Gives the first member of the next. */
static uint32_t list_columns(const sl_columns *w, uint32_t i, size_t *first, const uint8_t *columns[SEGMENT])
{
    *first = w->member[i] / SEGMENT * SEGMENT;
    for (size_t j = 0; j < SEGMENT; j++)
        columns[j] = w->column[i];
    for (; i < w->count && w->member[i] < *first + SEGMENT; i++)
        columns[w->member[i] - *first] = w->column[i];
    return i;
}

void sli_matmul_columns_by_segment(const sli_segment_kernels *k, const sl_columns *w, const sl_acts *x, uint32_t row_begin,
                                   uint32_t row_end, float *out)
{
    const uint8_t *columns[SEGMENT];
    uint8_t rows[GROUP][BYTES_MAX];
    _Alignas(64) uint8_t panels[PANELS][PANEL_BYTES];
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    for (uint32_t i = 0; i < w->count;) {
        size_t first;
        i = list_columns(w, i, &first, columns);
        size_t count = segment_count(w->cols, first);
        sl_acts part = acts_of(x, first, count);
        for (uint32_t row = row_begin; row < row_end; row += GROUP) {
            uint32_t lanes = row_end - row < GROUP ? row_end - row : GROUP;
            join_segment(w, columns, first, count, row, rows);
            for (uint32_t p = 0; p * SL_PANEL_ROWS < lanes; p++) {
                uint32_t n = lanes - p * SL_PANEL_ROWS < SL_PANEL_ROWS ? lanes - p * SL_PANEL_ROWS : SL_PANEL_ROWS;
                float sums[SL_PANEL_ROWS];
                pack_joined(k, w->type, rows, p * SL_PANEL_ROWS, n, count, panels[p]);
                k->matmul(w->type, panels[p], n, &part, sums, n);
                for (uint32_t lane = 0; lane < n; lane++)
                    out[row + p * SL_PANEL_ROWS + lane] += sums[lane];
            }
        }
    }
}

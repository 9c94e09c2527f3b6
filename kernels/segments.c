/* kernels/segments.c: see segments.h. */
#include "kernels/segments.h"
#include "kernels/columns.h"

#include <string.h>

#define SEGMENT        SLI_SEGMENT_ELEMENTS
#define BYTES_MAX      1024 /* of a segment of one row: F32 */
#define PANEL_BYTES    (SL_PANEL_ROWS * BYTES_MAX)
#define ROWS_MAX       64 /* of activations at a time: their part of a segment is copied, and stays in cache */
#define SEGMENT_BLOCKS SLI_SEGMENT_BLOCKS

/* The activations of one segment, rows side by side. */
typedef struct slice {
    sl_acts acts;
    _Alignas(64) float f32[ROWS_MAX * SEGMENT];
    _Alignas(64) int8_t q[ROWS_MAX * SEGMENT];
    _Alignas(64) float d[ROWS_MAX * SEGMENT_BLOCKS];
    _Alignas(64) int32_t sum[ROWS_MAX * SEGMENT_BLOCKS];
} slice;

/* Of rows that are one and lie as they are: without a copy. */
static sl_acts acts_of(const sl_acts *x, size_t first, size_t count)
{
    return (sl_acts){.rows = 1,
                     .cols = (uint32_t)count,
                     .f32 = x->f32 + first,
                     .q = x->q + first,
                     .d = x->d + first / SL_ACT_BLOCK,
                     .sum = x->sum + first / SL_ACT_BLOCK};
}

static void copy_rows(const sl_acts *x, uint32_t first_row, uint32_t rows, size_t first, size_t count, bool quantized, slice *to)
{
    size_t blocks = count / SL_ACT_BLOCK, all_blocks = x->cols / SL_ACT_BLOCK;
    to->acts = (sl_acts){.rows = rows, .cols = (uint32_t)count, .f32 = to->f32, .q = to->q, .d = to->d, .sum = to->sum};
    for (size_t r = 0; r < rows; r++) {
        size_t row = first_row + r, block = row * all_blocks + first / SL_ACT_BLOCK;
        if (!quantized) {
            memcpy(to->f32 + r * count, x->f32 + row * x->cols + first, count * sizeof *x->f32);
            continue;
        }
        memcpy(to->q + r * count, x->q + row * x->cols + first, count);
        memcpy(to->d + r * blocks, x->d + block, blocks * sizeof *x->d);
        memcpy(to->sum + r * blocks, x->sum + block, blocks * sizeof *x->sum);
    }
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

/* Sixteen lanes as compilers can take at once. */
typedef float lane_vector __attribute__((vector_size(SL_PANEL_ROWS * sizeof(float)), aligned(sizeof(float)), may_alias));

static inline void add_lanes(float *to, const float *sums, uint32_t lanes)
{
    if (lanes == SL_PANEL_ROWS) {
        *(lane_vector *)to += *(const lane_vector *)sums;
        return;
    }
    for (uint32_t lane = 0; lane < lanes; lane++)
        to[lane] += sums[lane];
}

/* A segment of the columns times the rows, added to out[row][output]. */
static void multiply_segment(const sli_segment_kernels *k, const sl_columns *w, const uint8_t *const *columns, size_t first,
                             const sl_acts *acts, uint32_t row_begin, uint32_t row_end, float *out)
{
    _Alignas(64) uint8_t panel[PANEL_BYTES];
    float sums[ROWS_MAX * SL_PANEL_ROWS];
    uint32_t block = sl_column_block(w->type);
    for (uint32_t row = row_begin; row < row_end; row += SL_PANEL_ROWS) {
        uint32_t lanes = row_end - row < SL_PANEL_ROWS ? row_end - row : SL_PANEL_ROWS;
        k->pack_blocks(w, columns, first / block, acts->cols / block, row, panel);
        k->matmul(w->type, panel, lanes, acts, sums, SL_PANEL_ROWS);
        for (size_t a = 0; a < acts->rows; a++)
            add_lanes(out + a * w->rows + row, sums + a * SL_PANEL_ROWS, lanes);
    }
}

void sli_matmul_columns_by_segment(const sli_segment_kernels *k, const sl_columns *w, const sl_acts *x, uint32_t row_begin,
                                   uint32_t row_end, float *out)
{
    const uint8_t *columns[SEGMENT];
    bool quantized = sli_layout_of(w->type).words != 0;
    slice copied;
    for (size_t a = 0; a < x->rows; a++)
        memset(out + a * w->rows + row_begin, 0, (row_end - row_begin) * sizeof *out);
    for (uint32_t first_row = 0; first_row < x->rows; first_row += ROWS_MAX) {
        uint32_t rows = x->rows - first_row < ROWS_MAX ? x->rows - first_row : ROWS_MAX;
        for (uint32_t i = 0; i < w->count;) {
            size_t first;
            i = list_columns(w, i, &first, columns);
            size_t count = segment_count(w->cols, first);
            copied.acts = acts_of(x, first, count);
            if (x->rows > 1)
                copy_rows(x, first_row, rows, first, count, quantized, &copied);
            multiply_segment(k, w, columns, first, &copied.acts, row_begin, row_end, out + (size_t)first_row * w->rows);
        }
    }
}

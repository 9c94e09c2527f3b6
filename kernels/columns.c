/* kernels/columns.c: see columns.h.
 *
 * What a format is, here, is a row of a table (cut.h): its planes and the spans of bytes that the block shares. Planes and the groups of a column are
 * placed by one rule, so both directions are one unpacking, one transposition and one packing, which all formats share.
 *
 * The unit of work is one block in 32 rows: at most 256 x 32 integers, 8 KiB on the stack. Blocks are the outer loop, so that the columns being
 * written are few and are written from end to end. */
#include "kernels/cut.h"

#include <assert.h>
#include <string.h>

#define INLINE    static inline __attribute__((always_inline))
#define GROUP     SL_COLUMN_GROUP
#define BLOCK_MAX 256

static const sli_cut cuts[SL_TYPE_LIMIT] = {
    [SL_TYPE_F32] = {.block = 1},
    [SL_TYPE_F16] = {.block = 1},
    [SL_TYPE_BF16] = {.block = 1},
    [SL_TYPE_Q4_0] = {32, {{4, 16, 2}}, {{0, 2}}},
    [SL_TYPE_Q4_1] = {32, {{4, 16, 4}}, {{0, 4}}},
    [SL_TYPE_Q5_0] = {32, {{4, 16, 6}, {1, 1, 2}}, {{0, 2}}},
    [SL_TYPE_Q5_1] = {32, {{4, 16, 8}, {1, 1, 4}}, {{0, 4}}},
    [SL_TYPE_Q8_0] = {32, {{8, 32, 2}}, {{0, 2}}},
    [SL_TYPE_Q2_K] = {256, {{2, 32, 16}}, {{0, 16}, {80, 4}}},
    [SL_TYPE_Q3_K] = {256, {{2, 32, 32}, {1, 32, 0}}, {{96, 14}}},
    [SL_TYPE_Q4_K] = {256, {{4, 32, 16}}, {{0, 16}}},
    [SL_TYPE_Q5_K] = {256, {{4, 32, 48}, {1, 32, 16}}, {{0, 16}}},
    [SL_TYPE_Q6_K] = {256, {{4, 64, 0}, {2, 32, 128}}, {{192, 18}}},
    [SL_TYPE_IQ4_NL] = {32, {{4, 16, 2}}, {{0, 2}}},
    [SL_TYPE_IQ4_XS] = {256, {{4, 16, 8}}, {{0, 8}}},
};

/* One matrix, or the rows of it that a call is about. */
typedef struct job {
    const sli_cut *cut;
    uint32_t rows, cols; /* of the whole matrix */
    uint32_t first_row, row_count;
    size_t row_bytes, block_bytes; /* in the file */
} job;

/* The integers of a plane: neuron by neuron, 32 rows each. */
typedef uint8_t values[BLOCK_MAX][GROUP];

const sli_cut *sli_cut_of(uint32_t type)
{
    return &cuts[type];
}

uint32_t sl_column_block(uint32_t type)
{
    return type < SL_TYPE_LIMIT ? cuts[type].block : 0;
}

uint32_t sl_column_meta_words(uint32_t type)
{
    return (uint32_t)(cuts[type].meta[0].bytes + cuts[type].meta[1].bytes) / 2;
}

size_t sl_column_bytes(uint32_t type, uint32_t rows)
{
    const sli_cut *c = &cuts[type];
    if (c->planes[0].bits == 0)
        return sl_row_bytes(type, rows);
    return sli_plane_bytes(c->planes[0], rows) + sli_plane_bytes(c->planes[1], rows);
}

size_t sl_column_meta_bytes(uint32_t type, uint32_t rows, uint32_t cols)
{
    return (size_t)cols / cuts[type].block * sl_column_meta_words(type) * rows * 2;
}

static job job_of(uint32_t type, uint32_t rows, uint32_t cols, uint32_t first_row, uint32_t row_count)
{
    assert(sl_column_block(type) && cols % cuts[type].block == 0 && first_row % GROUP == 0);
    assert(row_count % GROUP == 0 || first_row + row_count == rows);
    return (job){
        .cut = &cuts[type],
        .rows = rows,
        .cols = cols,
        .first_row = first_row,
        .row_count = row_count,
        .row_bytes = sl_row_bytes(type, cols),
        .block_bytes = sl_format_of(type)->block_bytes,
    };
}

/* ---- integers, between a block's bytes, values, and a column's bytes; `bits` is a constant in each instance ---- */

/* One row of a block: element j's bits at values[j][row]. */
INLINE void take_row(uint32_t bits, const sli_plane *p, uint32_t block, const uint8_t *bytes, uint32_t row, values v)
{
    const uint32_t fields = 8 / bits, mask = (1u << bits) - 1;
    for (uint32_t first = 0; first < block; first += p->run * fields, bytes += p->run)
        for (uint32_t f = 0; f < fields; f++)
            for (uint32_t i = 0; i < p->run; i++)
                v[first + f * p->run + i][row] = (uint8_t)(bytes[i] >> f * bits & mask);
}

INLINE void give_row(uint32_t bits, const sli_plane *p, uint32_t block, values v, uint32_t row, uint8_t *bytes)
{
    const uint32_t fields = 8 / bits;
    for (uint32_t first = 0; first < block; first += p->run * fields, bytes += p->run)
        for (uint32_t i = 0; i < p->run; i++) {
            uint32_t byte = 0;
            for (uint32_t f = 0; f < fields; f++)
                byte |= (uint32_t)v[first + f * p->run + i][row] << f * bits;
            bytes[i] = (uint8_t)byte;
        }
}

/* One group of a column, 4 * bits bytes. */
INLINE void give_group(uint32_t bits, const uint8_t v[GROUP], uint8_t *restrict group)
{
    for (uint32_t i = 0; i < 4 * bits; i++) {
        uint32_t byte = 0;
        for (uint32_t f = 0; f < 8 / bits; f++)
            byte |= (uint32_t)v[f * 4 * bits + i] << f * bits;
        group[i] = (uint8_t)byte;
    }
}

INLINE void take_group(uint32_t bits, const uint8_t *restrict group, uint8_t v[GROUP])
{
    for (uint32_t f = 0; f < 8 / bits; f++)
        for (uint32_t i = 0; i < 4 * bits; i++)
            v[f * 4 * bits + i] = (uint8_t)(group[i] >> f * bits & ((1u << bits) - 1));
}

/* One plane of one block in up to 32 rows: from the matrix to the columns, each of which is at its plane's group. */
INLINE void split_plane(uint32_t bits, const sli_plane *p, const job *j, const uint8_t *block, uint32_t rows, uint8_t *const *columns,
                        size_t at)
{
    values v;
    if (rows < GROUP)
        memset(v, 0, sizeof v);
    for (uint32_t r = 0; r < rows; r++)
        take_row(bits, p, j->cut->block, block + r * j->row_bytes + p->offset, r, v);
    for (uint32_t n = 0; n < j->cut->block; n++)
        give_group(bits, v[n], columns[n] + at);
}

INLINE void join_plane(uint32_t bits, const sli_plane *p, const job *j, const uint8_t *const *columns, size_t at, uint32_t rows,
                       uint8_t *block)
{
    values v;
    for (uint32_t n = 0; n < j->cut->block; n++)
        take_group(bits, columns[n] + at, v[n]);
    for (uint32_t r = 0; r < rows; r++)
        give_row(bits, p, j->cut->block, v, r, block + r * j->row_bytes + p->offset);
}

static void split_integers(const job *j, const uint8_t *block, uint32_t row, uint32_t rows, uint8_t *const *columns)
{
    size_t plane_at = 0;
    for (const sli_plane *p = j->cut->planes; p < j->cut->planes + 2; p++) {
        size_t at = plane_at + (size_t)row / GROUP * 4 * p->bits;
        switch (p->bits) {
        case 8: split_plane(8, p, j, block, rows, columns, at); break;
        case 4: split_plane(4, p, j, block, rows, columns, at); break;
        case 2: split_plane(2, p, j, block, rows, columns, at); break;
        case 1: split_plane(1, p, j, block, rows, columns, at); break;
        default: break;
        }
        plane_at += sli_plane_bytes(*p, j->rows);
    }
}

static void join_integers(const job *j, const uint8_t *const *columns, uint32_t row, uint32_t rows, uint8_t *block)
{
    size_t plane_at = 0;
    for (const sli_plane *p = j->cut->planes; p < j->cut->planes + 2; p++) {
        size_t at = plane_at + (size_t)row / GROUP * 4 * p->bits;
        switch (p->bits) {
        case 8: join_plane(8, p, j, columns, at, rows, block); break;
        case 4: join_plane(4, p, j, columns, at, rows, block); break;
        case 2: join_plane(2, p, j, columns, at, rows, block); break;
        case 1: join_plane(1, p, j, columns, at, rows, block); break;
        default: break;
        }
        plane_at += sli_plane_bytes(*p, j->rows);
    }
}

/* ---- meta data ---- */

/* The meta data of block `b`: word w of row r at [w * rows + r] 16-bit words from here. */
static size_t meta_at(const job *j, uint32_t b)
{
    return (size_t)b * (uint32_t)(j->cut->meta[0].bytes + j->cut->meta[1].bytes) * j->rows;
}

static void split_meta(const job *j, const uint8_t *block, uint32_t row, uint32_t rows, uint8_t *meta)
{
    uint8_t *word = meta + 2 * (size_t)row;
    for (const sli_span *s = j->cut->meta; s < j->cut->meta + 2; s++)
        for (uint32_t i = 0; i < s->bytes; i += 2, word += 2 * (size_t)j->rows)
            for (uint32_t r = 0; r < rows; r++)
                memcpy(word + 2 * (size_t)r, block + r * j->row_bytes + s->offset + i, 2);
}

static void join_meta(const job *j, const uint8_t *meta, uint32_t row, uint32_t rows, uint8_t *block)
{
    const uint8_t *word = meta + 2 * (size_t)row;
    for (const sli_span *s = j->cut->meta; s < j->cut->meta + 2; s++)
        for (uint32_t i = 0; i < s->bytes; i += 2, word += 2 * (size_t)j->rows)
            for (uint32_t r = 0; r < rows; r++)
                memcpy(block + r * j->row_bytes + s->offset + i, word + 2 * (size_t)r, 2);
}

/* ---- floats: a transposition; a tile of columns at a time, so that rows are read in pieces of a cache line ---- */

#define FLOAT_TILE 32

INLINE void split_floats(size_t size, const job *j, const uint8_t *matrix, uint8_t *const *columns)
{
    for (uint32_t first = 0; first < j->cols; first += FLOAT_TILE) {
        uint32_t end = first + FLOAT_TILE < j->cols ? first + FLOAT_TILE : j->cols;
        for (uint32_t r = 0; r < j->row_count; r++)
            for (uint32_t n = first; n < end; n++)
                memcpy(columns[n] + (j->first_row + r) * size, matrix + r * j->row_bytes + n * size, size);
    }
}

INLINE void join_floats(size_t size, const job *j, const uint8_t *const *columns, uint8_t *matrix)
{
    for (uint32_t first = 0; first < j->cols; first += FLOAT_TILE) {
        uint32_t end = first + FLOAT_TILE < j->cols ? first + FLOAT_TILE : j->cols;
        for (uint32_t r = 0; r < j->row_count; r++)
            for (uint32_t n = first; n < end; n++)
                memcpy(matrix + r * j->row_bytes + n * size, columns[n] + (j->first_row + r) * size, size);
    }
}

void sl_columns_split(uint32_t type, const uint8_t *matrix, uint32_t rows, uint32_t cols, uint32_t first_row, uint32_t row_count,
                      uint8_t *const *columns, uint8_t *meta)
{
    job j = job_of(type, rows, cols, first_row, row_count);
    if (j.cut->block == 1) {
        if (j.block_bytes == 4)
            split_floats(4, &j, matrix, columns);
        else
            split_floats(2, &j, matrix, columns);
        return;
    }
    for (uint32_t b = 0; b < cols / j.cut->block; b++)
        for (uint32_t r = 0; r < row_count; r += GROUP) {
            uint32_t group_rows = row_count - r < GROUP ? row_count - r : GROUP;
            const uint8_t *block = matrix + r * j.row_bytes + b * j.block_bytes;
            split_integers(&j, block, first_row + r, group_rows, columns + (size_t)b * j.cut->block);
            split_meta(&j, block, first_row + r, group_rows, meta + meta_at(&j, b));
        }
}

void sl_columns_join(uint32_t type, const uint8_t *const *columns, const uint8_t *meta, uint32_t rows, uint32_t cols, uint32_t first_row,
                     uint32_t row_count, uint8_t *matrix)
{
    job j = job_of(type, rows, cols, first_row, row_count);
    if (j.cut->block == 1) {
        if (j.block_bytes == 4)
            join_floats(4, &j, columns, matrix);
        else
            join_floats(2, &j, columns, matrix);
        return;
    }
    for (uint32_t b = 0; b < cols / j.cut->block; b++)
        for (uint32_t r = 0; r < row_count; r += GROUP) {
            uint32_t group_rows = row_count - r < GROUP ? row_count - r : GROUP;
            uint8_t *block = matrix + r * j.row_bytes + b * j.block_bytes;
            join_integers(&j, columns + (size_t)b * j.cut->block, first_row + r, group_rows, block);
            join_meta(&j, meta + meta_at(&j, b), first_row + r, group_rows, block);
        }
}

void sl_columns_join_block(uint32_t type, const uint8_t *const *columns, const uint8_t *meta, uint32_t rows, uint32_t cols, uint32_t block,
                           uint32_t first_row, uint8_t *to, size_t stride)
{
    job j = job_of(type, rows, cols, first_row, rows - first_row < GROUP ? rows - first_row : GROUP);
    j.row_bytes = stride;
    join_integers(&j, columns, first_row, j.row_count, to);
    join_meta(&j, meta + meta_at(&j, block), first_row, j.row_count, to);
}

/* kernels/cpu/vector_tile.h: the one product that attention is made of, twice.
 *
 *     out[r][j] = start + sum over k, in order, by fma, of left[r][k] * right[k][j]
 *
 * Scores are it with left = scaled queries, right = a K page, k = components, j = positions, start = 0; the output is it with left = the
 * page's exponentials, right = a V page, k = positions, j = components, start = the output so far times the correction. So K's and V's
 * different layouts meet one loop. A tile keeps R rows x N registers of `out` while k runs; lanes are columns, so no sum is ever
 * split and the order is the definition's (D5).
 *
 * `right` is a page as stored, widened in passing (few queries: memory is the limit), or one that was widened before (many). */
#ifndef SL_KERNELS_CPU_VECTOR_TILE_H
#define SL_KERNELS_CPU_VECTOR_TILE_H

#include "kernels/cpu/vector_exp.h"
#include "kernels/cpu/vector_scratch.h"

#define STREAM_TILE_ROWS 4
#define NARROW_VECS      (16 / LANES) /* head_dim is a multiple of 16: tiles of 16 columns do what wide ones leave */
#define SCALE_BLOCK      32           /* components of q8_0 and q4_0 that share a scale */
#define CACHE_LINE       64

typedef enum right_kind {
    RIGHT_F32,
    RIGHT_F16,
    RIGHT_BF16,
    RIGHT_Q8_KEYS,
    RIGHT_Q8_VALUES,
    RIGHT_Q4_KEYS,
    RIGHT_Q4_VALUES,
    RIGHT_KINDS
} right_kind;

typedef struct product {
    const float *left; /* element (r, k) at left[k / CHUNK * left_chunk + r * CHUNK + k % CHUNK] */
    size_t left_chunk; /* floats from a chunk of k to the next */
    right_kind kind;
    const uint8_t *right;  /* element (k, j) is number k * columns + j; for q4_0 see kv_store_k */
    const uint8_t *scales; /* q8_0, q4_0: fp16, keys [k / 32][columns], values [k][columns / 32] */
    uint32_t columns;
    uint32_t k_begin, k_end;
    float *out; /* [r][out_stride] */
    size_t out_stride;
    const float *correction; /* [r]: start is out * correction; NULL: start is 0 */
    const uint8_t *ahead;    /* memory that is read next, asked for while this product runs; NULL: none */
    size_t ahead_step;       /* its bytes per step of k, a multiple of CACHE_LINE */
} product;

static inline bool is_scaled_keys(right_kind kind)
{
    return kind == RIGHT_Q8_KEYS || kind == RIGHT_Q4_KEYS;
}

/* Where a component of a q4_0 block is: its byte, counted from the first component's, and by how much it is shifted there. */
static inline size_t byte_of_nibble(size_t component)
{
    return component / SCALE_BLOCK * (SCALE_BLOCK / 2) + component % (SCALE_BLOCK / 2);
}
static inline int shift_of_nibble(size_t component)
{
    return component % SCALE_BLOCK < SCALE_BLOCK / 2 ? 0 : 4;
}

/* The scales of LANES columns from column j on, of the block that row k of keys belongs to. */
static inline vf key_scale_of(const product *p, size_t k, size_t j)
{
    return vf_load_f16(p->scales + 2 * (k / SCALE_BLOCK * p->columns + j));
}

/* LANES columns of row k, from column j on, as fp32. key_scale: of these columns, loaded once per 32 k. */
static inline __attribute__((always_inline)) vf right_load(right_kind kind, const product *p, size_t k, size_t j, vf key_scale)
{
    size_t element = k * p->columns + j;
    if (kind == RIGHT_F32)
        return vf_load((const float *)p->right + element);
    if (kind == RIGHT_F16)
        return vf_load_f16(p->right + 2 * element);
    if (kind == RIGHT_BF16)
        return vf_load_bf16(p->right + 2 * element);
    if (kind == RIGHT_Q8_KEYS)
        return key_scale * vf_load_i8(p->right + element);
    if (kind == RIGHT_Q4_KEYS)
        return key_scale * vf_load_nibbles(p->right + byte_of_nibble(k) * p->columns + j, shift_of_nibble(k));
    uint16_t half;
    memcpy(&half, p->scales + 2 * (element / SCALE_BLOCK), sizeof half);
    if (kind == RIGHT_Q4_VALUES)
        return vf_splat_f16(half) * vf_load_nibbles(p->right + byte_of_nibble(element), shift_of_nibble(element));
    return vf_splat_f16(half) * vf_load_i8(p->right + element);
}

/* The tile at (row, column), which prefetches `ahead`'s lines if its caller wants that of it. R, N and kind are constants where this
 * is inlined. */
static inline __attribute__((always_inline)) void tile(right_kind kind, uint32_t R, uint32_t N, const product *p, uint32_t row,
                                                       uint32_t column, bool fetch_ahead)
{
    const uint8_t *ahead = p->ahead, *ahead_end = ahead;
    const size_t step = fetch_ahead ? p->ahead_step : 0;
    vf acc[BLOCK_TILE_ROWS][STREAM_TILE_VECS], right[STREAM_TILE_VECS], key_scale[STREAM_TILE_VECS] = {0};
    float *out = p->out + row * p->out_stride + column;
#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            acc[r][v] = p->correction == NULL ? vf_splat(0.0f)
                                              : vf_load(out + r * p->out_stride + v * LANES) * vf_splat(p->correction[row + r]);

    /* Runs of k whose left side lies together and, for keys with scales, shares those. */
    const size_t run = is_scaled_keys(kind) ? SCALE_BLOCK : CHUNK;
    for (size_t k = p->k_begin, stop; k < p->k_end; k = stop) {
        stop = (k / run + 1) * run < p->k_end ? (k / run + 1) * run : p->k_end;
        const float *left = p->left + k / CHUNK * p->left_chunk + row * CHUNK + k % CHUNK;
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            if (is_scaled_keys(kind))
                key_scale[v] = key_scale_of(p, k, column + v * LANES);
        for (size_t i = 0; i < stop - k; i++) {
            for (ahead_end += step; ahead < ahead_end; ahead += CACHE_LINE)
                __builtin_prefetch(ahead);
#pragma GCC unroll 4
            for (size_t v = 0; v < N; v++)
                right[v] = right_load(kind, p, k + i, column + v * LANES, key_scale[v]);
#pragma GCC unroll 16
            for (size_t r = 0; r < R; r++) {
                vf factor = vf_splat(left[r * CHUNK + i]);
#pragma GCC unroll 4
                for (size_t v = 0; v < N; v++)
                    acc[r][v] = vf_fma(factor, right[v], acc[r][v]);
            }
        }
    }

#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            vf_store(out + r * p->out_stride + v * LANES, acc[r][v]);
}

/* One function per kind, height and width. Tall tiles are for blocks of queries, which only ever read fp32. */
typedef void (*tile_function)(const product *p, uint32_t row, uint32_t column, bool fetch_ahead);
#define VECS_WIDE   STREAM_TILE_VECS
#define VECS_BLOCK  BLOCK_TILE_VECS
#define VECS_NARROW NARROW_VECS
#define ROWS_1      1
#define ROWS_2      2
#define ROWS_3      3
#define ROWS_4      4
#define ROWS_TALL   BLOCK_TILE_ROWS
#define TILE(kind, height, width)                                                                                                          \
    static void tile_##kind##_##height##_##width(const product *p, uint32_t row, uint32_t column, bool fetch_ahead)                        \
    {                                                                                                                                      \
        tile(RIGHT_##kind, ROWS_##height, VECS_##width, p, row, column, fetch_ahead);                                                      \
    }
#define TILES(kind, width)                                                                                                                 \
    TILE(kind, 1, width)                                                                                                                   \
    TILE(kind, 2, width)                                                                                                                   \
    TILE(kind, 3, width)                                                                                                                   \
    TILE(kind, 4, width)
#define TILE_NAMES(kind, width)                                                                                                            \
    {                                                                                                                                      \
        tile_##kind##_1_##width, tile_##kind##_2_##width, tile_##kind##_3_##width, tile_##kind##_4_##width                                 \
    }

TILES(F32, WIDE)
TILES(F32, NARROW)
TILES(F16, WIDE)
TILES(F16, NARROW)
TILES(BF16, WIDE)
TILES(BF16, NARROW)
TILES(Q8_KEYS, WIDE)
TILES(Q8_KEYS, NARROW)
TILES(Q8_VALUES, WIDE)
TILES(Q8_VALUES, NARROW)
TILES(Q4_KEYS, WIDE)
TILES(Q4_KEYS, NARROW)
TILES(Q4_VALUES, WIDE)
TILES(Q4_VALUES, NARROW)
TILE(F32, TALL, BLOCK)
TILE(F32, TALL, NARROW)

static const tile_function wide_tiles[RIGHT_KINDS][STREAM_TILE_ROWS] = {
    TILE_NAMES(F32, WIDE),       TILE_NAMES(F16, WIDE),     TILE_NAMES(BF16, WIDE),     TILE_NAMES(Q8_KEYS, WIDE),
    TILE_NAMES(Q8_VALUES, WIDE), TILE_NAMES(Q4_KEYS, WIDE), TILE_NAMES(Q4_VALUES, WIDE)};
static const tile_function narrow_tiles[RIGHT_KINDS][STREAM_TILE_ROWS] = {
    TILE_NAMES(F32, NARROW),       TILE_NAMES(F16, NARROW),     TILE_NAMES(BF16, NARROW),     TILE_NAMES(Q8_KEYS, NARROW),
    TILE_NAMES(Q8_VALUES, NARROW), TILE_NAMES(Q4_KEYS, NARROW), TILE_NAMES(Q4_VALUES, NARROW)};

/* Rows [row, row_end), columns [begin, end), both multiples of 16. The first tile fetches ahead. */
static void run_product(const product *p, uint32_t row, uint32_t row_end, uint32_t begin, uint32_t end)
{
    bool fetch_ahead = p->ahead != NULL;
    for (uint32_t height; row < row_end; row += height) {
        uint32_t rows = row_end - row;
        bool tall = p->kind == RIGHT_F32 && rows >= BLOCK_TILE_ROWS;
        height = tall ? BLOCK_TILE_ROWS : rows < STREAM_TILE_ROWS ? rows : STREAM_TILE_ROWS;
        tile_function wide = tall ? tile_F32_TALL_BLOCK : wide_tiles[p->kind][height - 1];
        tile_function narrow = tall ? tile_F32_TALL_NARROW : narrow_tiles[p->kind][height - 1];
        /* NOLINTNEXTLINE(bugprone-branch-clone): the two are equal on some instruction sets */
        uint32_t wide_columns = (tall ? BLOCK_TILE_VECS : STREAM_TILE_VECS) * LANES;
        for (uint32_t column = begin, width; column < end; column += width, fetch_ahead = false) {
            width = column + wide_columns <= end ? wide_columns : 16;
            (width == wide_columns ? wide : narrow)(p, row, column, fetch_ahead);
        }
    }
}

#endif

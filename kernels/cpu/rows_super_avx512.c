/* kernels/cpu/rows_super_avx512.c: one row of activations times rows of super-blocks that lie scattered, as in the file, with VNNI; a vector lane is a row.
 *
 * A super-block is a segment and begins with a word, so sixteen rows laid out word by word (rows_lanes_avx512.h) have the words of a panel where a
 * panel would have them, and super_lanes_avx512.h multiplies them as such.
 *
 * Activations are laid out once for all rows, in tiles like those of a product with panels; but what are rows of activations there are the segments of the
 * one row here. */
#if defined(__x86_64__)
#include "kernels/cpu/rows_lanes_avx512.h"
#include "kernels/cpu/super_lanes_avx512.h"

#include <string.h>

#define TILE_SEGMENTS SLI_ROW_BLOCK
#define TILES         4 /* 16384 elements: longer rows are taken in more than one part */

/* Some segments of the row of activations: number i is row i % 16 of tile i / 16. */
typedef struct part {
    sli_act_tile tile[TILES];
    size_t first, count; /* in the row */
} part;

static void lay_out_segment(uint32_t type, const sl_acts *x, size_t index, size_t r, sli_act_tile *tile)
{
    const size_t first = index * SLI_SEGMENT_BLOCKS;
    const int8_t *q = x->q + first * SL_ACT_BLOCK;
    for (size_t b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        memcpy(tile->q[b][r], q + b * SL_ACT_BLOCK, SL_ACT_BLOCK);
        tile->d[r][b] = x->d[first + b];
        tile->dsum[r][b] = x->d[first + b] * (float)x->sum[first + b];
        tile->start[r][b] = x->sum[first + b] * -128; /* IQ4_XS: its table's values are made unsigned */
    }
    if (subs_of(type) == 2)
        lay_out_halves(type, q, x->d + first, r, SLI_SEGMENT_BLOCKS, tile);
}

/* The 16-bit number at byte `offset` of the block, of all rows. */
INLINE void store_half(const segment *s, size_t offset, uint8_t to[HALVES])
{
    __m512i word = _mm512_load_si512(s->word[offset / 4]);
    _mm256_store_si256((__m256i *)to, _mm512_cvtepi32_epi16(offset % 4 ? _mm512_srli_epi32(word, 16) : word));
}

/* The segment at byte `at` of the rows times activations that are row r of the tile. */
INLINE __m512 multiply_scattered(uint32_t type, lane_rows rows, size_t at, const sli_act_tile *tile, size_t r)
{
    const sli_layout layout = sli_layout_of(type);
    _Alignas(32) uint8_t halves[2][HALVES];
    prefetch nothing = {.wait = UINT32_MAX}; /* the caller knows what comes next */
    __m512 acc[MAX_ROWS][MAX_PANELS];
    segment s;
    unpacked u;
    lay_out(rows, at, at + layout.block_bytes, &s);
    for (size_t i = 0; i < layout.halves; i++)
        store_half(&s, layout.half_offset[i], halves[i]);
    sli_quant_step step = {.x = tile, .now = {(const uint8_t *)s.word[layout.words_offset / 4], halves[0], halves[1]}};
    unpack_scales(type, 1, &step, 0, &u);
    multiply_segment(type, 1, 1, &step, &u, r, 0, &nothing, acc);
    return acc[0][0];
}

/* Adds the part to sixteen rows' totals. `ahead` are the rows that come next, or where none do, the same again. */
INLINE void multiply(uint32_t type, lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    const size_t bytes = sli_layout_of(type).block_bytes;
    __m512 sum = _mm512_loadu_ps(total);
    for (size_t i = 0; i < x->count; i++) {
        const size_t at = (x->first + i) * bytes;
        if (ahead != rows)
            prefetch_rows(ahead, at, at + bytes);
        sum = _mm512_add_ps(sum, multiply_scattered(type, rows, at, &x->tile[i / TILE_SEGMENTS], i % TILE_SEGMENTS));
    }
    _mm512_storeu_ps(total, sum);
}

typedef void (*multiply_fn)(lane_rows rows, lane_rows ahead, const part *x, float total[LANES]);

static void q2_k(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_Q2_K, rows, ahead, x, total);
}
static void q3_k(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_Q3_K, rows, ahead, x, total);
}
static void q4_k(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_Q4_K, rows, ahead, x, total);
}
static void q5_k(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_Q5_K, rows, ahead, x, total);
}
static void q6_k(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_Q6_K, rows, ahead, x, total);
}
static void iq4_xs(lane_rows rows, lane_rows ahead, const part *x, float total[LANES])
{
    multiply(SL_TYPE_IQ4_XS, rows, ahead, x, total);
}

static multiply_fn multiply_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q2_K: return q2_k;
    case SL_TYPE_Q3_K: return q3_k;
    case SL_TYPE_Q4_K: return q4_k;
    case SL_TYPE_Q5_K: return q5_k;
    case SL_TYPE_Q6_K: return q6_k;
    case SL_TYPE_IQ4_XS: return iq4_xs;
    default: return NULL;
    }
}

/* One part times all rows. The last ones are repeated to make sixteen. */
static void multiply_part(multiply_fn multiply_sixteen, const uint8_t *const *rows, uint32_t count, const part *x, float *out)
{
    const uint8_t *last[LANES];
    float last_out[LANES] = {0};
    const uint32_t whole = count / LANES * LANES, rest = count - whole;
    for (uint32_t j = 0; j < LANES && rest; j++)
        last[j] = rows[whole + (j < rest ? j : rest - 1)];
    for (uint32_t i = 0; i < whole; i += LANES)
        multiply_sixteen(rows + i, i + LANES < whole ? rows + i + LANES : rest ? last : rows + i, x, out + i);
    if (rest == 0)
        return;
    memcpy(last_out, out + whole, rest * sizeof *out);
    multiply_sixteen(last, last, x, last_out);
    memcpy(out + whole, last_out, rest * sizeof *out);
}

void sli_dot_rows_super_avx512(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out)
{
    const multiply_fn multiply_sixteen = multiply_of(type);
    const size_t segments = x->cols / SLI_SEGMENT_ELEMENTS;
    if (multiply_sixteen == NULL) {
        sli_dot_rows_avx2(type, rows, count, x, out);
        return;
    }
    part p;
    memset(out, 0, count * sizeof *out);
    for (p.first = 0; p.first < segments; p.first += p.count) {
        p.count = segments - p.first < TILES * TILE_SEGMENTS ? segments - p.first : TILES * TILE_SEGMENTS;
        for (size_t i = 0; i < p.count; i++)
            lay_out_segment(type, x, p.first + i, i % TILE_SEGMENTS, &p.tile[i / TILE_SEGMENTS]);
        multiply_part(multiply_sixteen, rows, count, &p, out);
    }
}
#endif

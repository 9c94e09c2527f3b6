/* kernels/cpu/columns_avx512.c: products over the members of a set, from columns (D8), with VNNI; a vector lane is a row.
 *
 * Members go block by block, at most 32 columns, four to a step, filled up with factors of zero. The rows of a block pass in tiles of 64 bytes
 * of every column. A step interleaves the bytes of its four columns, so that the four products of one row stand side by side for VPDPBUSD.
 *     nibbles: a byte is low + 16 * high. It is multiplied as it is, and once more with the lower half cleared; the second sum taken from the first
 *              leaves the low ones, shifted it is the high ones. So nothing has to be shifted or masked to get at the low ones.
 *     bytes and table values: made unsigned, as in matmul_avx512.c
 * What made weights unsigned, or is their bias, is taken back where sums start.
 *
 * Interleaving leaves four rows of each 128-bit lane of a tile in one register. Scales are put into that order, too, and only a segment's sums are put
 * right again.
 *
 * A segment's sums wait in the L1 cache from block to block, which costs a load and a store of each. So 32 columns are walked at a time and not a segment's
 * 256: bundles are often a power of two apart, or nearly so, and then few sets of a cache hold all their lines. While one block is multiplied the
 * next one's columns are asked for in the L2 cache (see rows_avx512.c), each from end to end, because memory is quicker to give neighbouring lines than lines
 * apart. */
#if defined(__x86_64__)
#include "kernels/columns.h"
#include "kernels/segments.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define TILE   64 /* bytes of a column */
#define GROUP  16 /* bytes of a column that hold 32 rows of nibbles, or 16 rows of bytes; a share of rows begins and ends with one, or two */
#define CHUNK  (18 * TILE) /* bytes of a column whose rows have their sums in the L1 cache: 9 KiB of them */
#define LINE   64
#define STEP   4 /* columns that are multiplied together */

/* The members of one block. */
typedef struct block {
    uint32_t index;                      /* in the row */
    bool opens, closes;                  /* a segment: the first or the last of its blocks that have members */
    uint32_t columns;                    /* 0: there is no block left */
    int32_t factor[SL_ACT_BLOCK / STEP]; /* a step's integers of x, one a byte */
    const uint8_t *column[SL_ACT_BLOCK]; /* steps are filled up, so never more than the block has neurons */
} block;

/* A product and the rows that are wanted. */
typedef struct span {
    const sl_columns *w;
    const sl_acts *x;
    float *out;
    size_t begin, end;               /* bytes of a column, CHUNK at most */
    float (*sums)[8][SL_PANEL_ROWS]; /* of the segment in hand: [tile][register], in the order of the integers */
} span;

INLINE bool is_bytes(uint32_t type)
{
    return type == SL_TYPE_Q8_0;
}

/* Rows whose bits are in a byte. */
INLINE size_t rows_of_byte(uint32_t type)
{
    return is_bytes(type) ? 1 : 2;
}

/* ---- laying out a block ---- */

/* Lays out the block that member `i` begins; gives the first member of the next. */
static uint32_t lay_out(const sl_columns *w, const sl_acts *x, uint32_t i, block *s)
{
    s->columns = 0;
    if (i == w->count)
        return i;
    const uint32_t index = w->member[i] / SL_ACT_BLOCK, segment = index / SLI_SEGMENT_BLOCKS;
    s->index = index;
    s->opens = i == 0 || w->member[i - 1] / SLI_SEGMENT_ELEMENTS != segment;
    while (i < w->count && w->member[i] / SL_ACT_BLOCK == index) {
        int8_t q[STEP];
        for (uint32_t n = 0; n < STEP; n++) {
            bool more = i < w->count && w->member[i] / SL_ACT_BLOCK == index;
            q[n] = more ? x->q[w->member[i]] : 0;
            s->column[s->columns + n] = more ? w->column[i] : s->column[s->columns];
            i += more;
        }
        memcpy(&s->factor[s->columns / STEP], q, sizeof q);
        s->columns += STEP;
    }
    s->closes = i == w->count || w->member[i] / SLI_SEGMENT_ELEMENTS != segment;
    return i;
}

/* ---- the integers of one block in a tile ---- */

/* A tile of which `bytes` are wanted, as a mask. */
INLINE __m512i load_tile(const uint8_t *at, bool whole, __mmask64 wanted)
{
    if (whole)
        return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi8(wanted, at);
}

/* The bytes of four columns: lane k of out[i] has rows 4 i .. 4 i + 4 of the tile's 16 bytes 16 k .. */
INLINE void interleave(const uint8_t *const *column, size_t offset, bool whole, __mmask64 wanted, __m512i out[4])
{
    __m512i a = load_tile(column[0] + offset, whole, wanted), b = load_tile(column[1] + offset, whole, wanted);
    __m512i c = load_tile(column[2] + offset, whole, wanted), d = load_tile(column[3] + offset, whole, wanted);
    __m512i low_ab = _mm512_unpacklo_epi8(a, b), high_ab = _mm512_unpackhi_epi8(a, b);
    __m512i low_cd = _mm512_unpacklo_epi8(c, d), high_cd = _mm512_unpackhi_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(low_ab, low_cd);
    out[1] = _mm512_unpackhi_epi16(low_ab, low_cd);
    out[2] = _mm512_unpacklo_epi16(high_ab, high_cd);
    out[3] = _mm512_unpackhi_epi16(high_ab, high_cd);
}

/* isum[0 .. 4) are the rows in the lower halves of bytes, isum[4 .. 8) those in the upper ones; of each less bias * sum. */
INLINE void sum_nibbles(const block *s, size_t offset, bool whole, __mmask64 wanted, int32_t start, __m512i isum[8])
{
    const __m512i upper = _mm512_set1_epi8((char)0xf0);
    __m512i both[4], high[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        both[i] = _mm512_set1_epi32(17 * start);
        high[i] = _mm512_set1_epi32(16 * start);
    }
    for (uint32_t p = 0; p < s->columns; p += STEP) {
        __m512i w[4], q = _mm512_set1_epi32(s->factor[p / STEP]);
        interleave(s->column + p, offset, whole, wanted, w);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            both[i] = _mm512_dpbusd_epi32(both[i], w[i], q);
            high[i] = _mm512_dpbusd_epi32(high[i], _mm512_and_si512(w[i], upper), q);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        isum[i] = _mm512_sub_epi32(both[i], high[i]);
        isum[4 + i] = _mm512_srai_epi32(high[i], 4);
    }
}

/* The same for the table's values. */
INLINE void sum_values(const block *s, size_t offset, bool whole, __mmask64 wanted, int32_t start, __m512i isum[8])
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)sli_iq4_values));
    const __m512i table = _mm512_xor_si512(values, _mm512_set1_epi8((char)0x80)), nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        isum[i] = _mm512_set1_epi32(start);
    for (uint32_t p = 0; p < s->columns; p += STEP) {
        __m512i w[4], q = _mm512_set1_epi32(s->factor[p / STEP]);
        interleave(s->column + p, offset, whole, wanted, w);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m512i low = _mm512_and_si512(w[i], nibble), high = _mm512_and_si512(_mm512_srli_epi16(w[i], 4), nibble);
            isum[i] = _mm512_dpbusd_epi32(isum[i], _mm512_shuffle_epi8(table, low), q);
            isum[4 + i] = _mm512_dpbusd_epi32(isum[4 + i], _mm512_shuffle_epi8(table, high), q);
        }
    }
}

INLINE void sum_bytes(const block *s, size_t offset, bool whole, __mmask64 wanted, int32_t start, __m512i isum[4])
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        isum[i] = _mm512_set1_epi32(start);
    for (uint32_t p = 0; p < s->columns; p += STEP) {
        __m512i w[4], q = _mm512_set1_epi32(s->factor[p / STEP]);
        interleave(s->column + p, offset, whole, wanted, w);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            isum[i] = _mm512_dpbusd_epi32(isum[i], _mm512_xor_si512(w[i], flip), q);
    }
}

/* ---- scales, in the order of the integers ---- */

/* 32 rows' fp16 of the tile, its rows 32 g .. 32 g + 32; zeros behind the last. */
INLINE __m512i load_scales(const uint8_t *at, int g, bool whole, uint32_t rows)
{
    if (whole || 32u * (uint32_t)g + 32 <= rows)
        return _mm512_loadu_si512(at + 64 * g);
    return _mm512_setzero_si512();
}

INLINE void widen_pair(__m512i pair, __m512 *first, __m512 *second)
{
    *first = _mm512_cvtph_ps(_mm512_castsi512_si256(pair));
    *second = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(pair, 1));
}

/* Four rows of fp16 are 64 bits. Number i of each of four loads belong together. */
INLINE void scales_of_nibbles(const uint8_t *at, bool whole, uint32_t rows, __m512 out[8])
{
    const __m512i front = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), back = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i a = load_scales(at, 0, whole, rows), b = load_scales(at, 1, whole, rows);
    __m512i c = load_scales(at, 2, whole, rows), d = load_scales(at, 3, whole, rows);
    __m512i even_ab = _mm512_unpacklo_epi64(a, b), odd_ab = _mm512_unpackhi_epi64(a, b);
    __m512i even_cd = _mm512_unpacklo_epi64(c, d), odd_cd = _mm512_unpackhi_epi64(c, d);
    widen_pair(_mm512_permutex2var_epi64(even_ab, front, even_cd), &out[0], &out[2]);
    widen_pair(_mm512_permutex2var_epi64(odd_ab, front, odd_cd), &out[1], &out[3]);
    widen_pair(_mm512_permutex2var_epi64(even_ab, back, even_cd), &out[4], &out[6]);
    widen_pair(_mm512_permutex2var_epi64(odd_ab, back, odd_cd), &out[5], &out[7]);
}

/* Numbers i, 4 + i, 8 + i, 12 + i of both loads. */
INLINE void scales_of_bytes(const uint8_t *at, bool whole, uint32_t rows, __m512 out[4])
{
    const __m512i front = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13), back = _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = load_scales(at, 0, whole, rows), b = load_scales(at, 1, whole, rows);
    widen_pair(_mm512_permutex2var_epi64(a, front, b), &out[0], &out[1]);
    widen_pair(_mm512_permutex2var_epi64(a, back, b), &out[2], &out[3]);
}

INLINE void scales_of(uint32_t type, const uint8_t *at, bool whole, uint32_t rows, __m512 *out)
{
    if (is_bytes(type))
        scales_of_bytes(at, whole, rows, out);
    else
        scales_of_nibbles(at, whole, rows, out);
}

/* ---- one tile ---- */

/* Four registers in the order of the integers, lane k of number i being four rows, added to the totals: 16 rows each at total + k * stride. */
INLINE void add_to_totals(const __m512 acc[4], float *total, size_t stride, uint32_t count)
{
    __m512 a = _mm512_shuffle_f32x4(acc[0], acc[1], 0x44), b = _mm512_shuffle_f32x4(acc[0], acc[1], 0xee);
    __m512 c = _mm512_shuffle_f32x4(acc[2], acc[3], 0x44), d = _mm512_shuffle_f32x4(acc[2], acc[3], 0xee);
    __m512 row[4] = {_mm512_shuffle_f32x4(a, c, 0x88), _mm512_shuffle_f32x4(a, c, 0xdd), _mm512_shuffle_f32x4(b, d, 0x88),
                     _mm512_shuffle_f32x4(b, d, 0xdd)};
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++)
        if (k < count)
            _mm512_storeu_ps(total + k * stride, _mm512_add_ps(_mm512_loadu_ps(total + k * stride), row[k]));
}

/* A block times a tile, of which `bytes` are wanted when it is not whole; a segment's last block adds it to the totals of its rows. */
INLINE void multiply_tile(uint32_t type, bool whole, const span *t, const block *s, size_t offset, uint32_t bytes)
{
    const int registers = is_bytes(type) ? 4 : 8;
    const int32_t bias = type == SL_TYPE_Q4_0 ? -8 : type == SL_TYPE_Q4_1 ? 0 : -128;
    const size_t row = offset * rows_of_byte(type);
    const uint32_t b = s->index, rows = bytes * (uint32_t)rows_of_byte(type), groups = whole ? TILE / GROUP : bytes / GROUP;
    const __mmask64 wanted = whole ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1;
    const int32_t start = bias * t->x->sum[b];
    float(*sums)[SL_PANEL_ROWS] = t->sums[(offset - t->begin) / TILE];
    __m512i isum[8];
    __m512 scale[8], acc[8];
    if (type == SL_TYPE_Q8_0)
        sum_bytes(s, offset, whole, wanted, start, isum);
    else if (type == SL_TYPE_IQ4_NL)
        sum_values(s, offset, whole, wanted, start, isum);
    else
        sum_nibbles(s, offset, whole, wanted, start, isum);
    const __m512 dx = _mm512_set1_ps(t->x->d[b]);
    scales_of(type, sli_column_meta(t->w, b, 0, row), whole, rows, scale);
#pragma GCC unroll 8
    for (int i = 0; i < registers; i++) {
        acc[i] = s->opens ? _mm512_setzero_ps() : _mm512_load_ps(sums[i]);
        acc[i] = _mm512_fmadd_ps(_mm512_mul_ps(scale[i], dx), _mm512_cvtepi32_ps(isum[i]), acc[i]);
    }
    if (type == SL_TYPE_Q4_1) {
        const __m512 dsum = _mm512_set1_ps(t->x->d[b] * (float)t->x->sum[b]);
        scales_of(type, sli_column_meta(t->w, b, 1, row), whole, rows, scale);
#pragma GCC unroll 8
        for (int i = 0; i < registers; i++)
            acc[i] = _mm512_fmadd_ps(scale[i], dsum, acc[i]);
    }
    if (!s->closes) {
#pragma GCC unroll 8
        for (int i = 0; i < registers; i++)
            _mm512_store_ps(sums[i], acc[i]);
        return;
    }
    add_to_totals(acc, t->out + row, is_bytes(type) ? 16 : 32, groups);
    if (!is_bytes(type))
        add_to_totals(acc + 4, t->out + row + 16, 32, groups);
}

/* ---- all tiles of all blocks ---- */

/* Asks for tile number `tile`'s share of what a block needs: some columns from end to end, and the scales of that tile. */
INLINE void prefetch_share(uint32_t type, const span *t, const block *s, size_t tile, size_t tiles)
{
    for (size_t i = s->columns * tile / tiles; i < s->columns * (tile + 1) / tiles; i++)
        for (size_t at = t->begin; at < t->end; at += LINE)
            _mm_prefetch((const char *)s->column[i] + at, _MM_HINT_T1);
    if (s->columns == 0)
        return;
    const size_t row = (t->begin + tile * TILE) * rows_of_byte(type);
    for (size_t word = 0; word < (type == SL_TYPE_Q4_1 ? 2 : 1); word++)
        for (size_t at = 0; at < TILE * rows_of_byte(type) * 2; at += LINE)
            _mm_prefetch((const char *)sli_column_meta(t->w, s->index, word, row) + at, _MM_HINT_T1);
}

INLINE void multiply_block(uint32_t type, const span *t, const block *now, const block *ahead)
{
    const size_t tiles = (t->end - t->begin + TILE - 1) / TILE;
    size_t offset = t->begin;
    for (size_t tile = 0; tile < tiles; tile++, offset += TILE) {
        prefetch_share(type, t, ahead, tile, tiles);
        if (offset + TILE <= t->end)
            multiply_tile(type, true, t, now, offset, TILE);
        else
            multiply_tile(type, false, t, now, offset, (uint32_t)(t->end - offset));
    }
}

/* All members, for the rows of a chunk. */
INLINE void multiply_chunk(uint32_t type, const span *t)
{
    block blocks[2], *now = &blocks[0], *next = &blocks[1];
    uint32_t i = lay_out(t->w, t->x, 0, now);
    while (now->columns) {
        i = lay_out(t->w, t->x, i, next);
        multiply_block(type, t, now, next);
        block *swap = now;
        now = next;
        next = swap;
    }
}

INLINE void multiply_columns(uint32_t type, const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    _Alignas(64) float sums[CHUNK / TILE][8][SL_PANEL_ROWS];
    const size_t end = row_end / rows_of_byte(type);
    for (size_t begin = row_begin / rows_of_byte(type); begin < end; begin += CHUNK) {
        span t = {.w = w, .x = x, .out = out, .begin = begin, .end = end - begin < CHUNK ? end : begin + CHUNK, .sums = sums};
        multiply_chunk(type, &t);
    }
}

/* Formats that have tiles here. */
static bool is_tiled(uint32_t type)
{
    return type == SL_TYPE_Q4_0 || type == SL_TYPE_Q4_1 || type == SL_TYPE_Q8_0 || type == SL_TYPE_IQ4_NL;
}

static void multiply_tiled(const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    switch (w->type) {
    case SL_TYPE_Q4_0: multiply_columns(SL_TYPE_Q4_0, w, x, row_begin, row_end, out); break;
    case SL_TYPE_Q4_1: multiply_columns(SL_TYPE_Q4_1, w, x, row_begin, row_end, out); break;
    case SL_TYPE_IQ4_NL: multiply_columns(SL_TYPE_IQ4_NL, w, x, row_begin, row_end, out); break;
    default: multiply_columns(SL_TYPE_Q8_0, w, x, row_begin, row_end, out); break; /* see is_tiled */
    }
}

void sli_matmul_columns_avx512(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    static const sli_segment_kernels by_segment = {.pack_blocks = sli_pack_blocks_avx2, .matmul = sli_matmul_avx512};
    if (x->rows > 1 || (!is_tiled(w->type) && sli_layout_of(w->type).words)) {
        sli_matmul_columns_by_segment(&by_segment, w, x, row_begin, row_end, out);
        return;
    }
    if (!is_tiled(w->type)) {
        sli_matmul_columns_avx2(w, x, row_begin, row_end, out); /* float types */
        return;
    }
    uint32_t whole_end = row_begin + (row_end - row_begin) / SL_COLUMN_GROUP * SL_COLUMN_GROUP;
    multiply_tiled(w, x, row_begin, whole_end, out);
    sli_matmul_columns_ref(w, x, whole_end, row_end, out); /* at most 31 rows, and none in models that exist */
}
#endif

/* kernels/cpu/columns_avx2.c: products over the members of a set, from columns (D8); a vector lane is a row.
 *
 * A segment of 256 neurons is laid out first: for each block its members' columns and integers, two neurons (nibbles) or four (bytes) to a
 * step, filled up with factors of zero. Then rows pass in tiles of 32 bytes of every column. A step interleaves the bytes of its
 * columns, so that the products of one row stand side by side and VPMADDUBSW adds them.
 *     nibbles: a block's sum of (nibble - 8) * x is within 32 * 8 * 127 = 32512, so sixteen bits hold it, whatever wraps around on the way
 *              there: it starts at -8 * sum(x), and a pair of products (3810 at most) does not saturate. Q4_1 adds the 8 * sum(x) again.
 *     bytes:   |w| times x with w's sign, as in matmul_avx2.c; a pair is widened at once.
 *
 * A segment walks along all its columns at once, more streams than a processor follows by itself. So the columns are cut into chunks, and while
 * one chunk of a segment is multiplied the next is asked for (at the end, the first chunk of the next segment), column after column, because
 * memory is quicker to give neighbouring lines than lines apart. */
#if defined(__x86_64__)
#include "kernels/columns.h"
#include "kernels/segments.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#include "kernels/cpu/columns_floats.h"

#define TILE  32  /* bytes of a column */
#define CHUNK 512 /* bytes of a column that are asked for at a time */
#define AHEAD 256 /* bytes of a column of floats between what is used and what is prefetched */
#define LINE  64
#define EIGHT 8 /* rows in a register of floats */

/* The members of one segment. */
typedef struct segment {
    uint32_t blocks; /* with members */
    uint32_t columns;
    uint32_t block[SLI_SEGMENT_BLOCKS];          /* their index in the row */
    uint32_t end[SLI_SEGMENT_BLOCKS];            /* of their columns, in column[] */
    int32_t factor[SLI_SEGMENT_ELEMENTS / 2];    /* a step's integers of x, one a byte; of two: twice */
    const uint8_t *column[SLI_SEGMENT_ELEMENTS]; /* steps are filled up, so never more than the segment has neurons */
} segment;

/* A product and the rows that are wanted. */
typedef struct span {
    const sl_columns *w;
    const sl_acts *x;
    float *out;
    size_t begin, end; /* bytes of a column */
} span;

INLINE uint32_t step_of(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 4 : 2;
}

INLINE size_t rows_of_tile(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? TILE : 2 * TILE;
}

/* ---- laying out a segment ---- */

static int32_t factor_of(const int8_t q[4], uint32_t step)
{
    int32_t factor;
    int8_t bytes[4] = {q[0], q[1], q[2 % step], q[step == 2 ? 1 : 3]};
    memcpy(&factor, bytes, sizeof factor);
    return factor;
}

/* Lays out the segment that member `i` begins; gives the first member of the next. */
static uint32_t lay_out(const sl_columns *w, const sl_acts *x, uint32_t i, segment *s)
{
    const uint32_t step = step_of(w->type), index = i < w->count ? w->member[i] / SLI_SEGMENT_ELEMENTS : 0;
    uint32_t at = 0;
    s->blocks = 0;
    while (i < w->count && w->member[i] / SLI_SEGMENT_ELEMENTS == index) {
        uint32_t b = w->member[i] / SL_ACT_BLOCK;
        while (i < w->count && w->member[i] / SL_ACT_BLOCK == b) {
            int8_t q[4] = {0};
            for (uint32_t n = 0; n < step; n++) {
                bool more = i < w->count && w->member[i] / SL_ACT_BLOCK == b;
                q[n] = more ? x->q[w->member[i]] : 0;
                s->column[at + n] = more ? w->column[i] : s->column[at];
                i += more;
            }
            s->factor[at / step] = factor_of(q, step);
            at += step;
        }
        s->block[s->blocks] = b;
        s->end[s->blocks++] = at;
    }
    s->columns = at;
    return i;
}

/* ---- one tile ---- */

INLINE __m256i load_tile(const uint8_t *at, bool whole)
{
    if (whole)
        return _mm256_loadu_si256((const __m256i *)at);
    return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

/* Sixteen-bit sums; 128-bit half h of sum[i] is rows 32 h + 8 i .. + 8 of the tile. */
INLINE void sum_nibbles(const segment *s, uint32_t p, uint32_t end, size_t offset, bool whole, int32_t start, __m256i sum[4])
{
    const __m256i nibble = _mm256_set1_epi8(15);
    sum[0] = sum[1] = sum[2] = sum[3] = _mm256_set1_epi16((int16_t)start);
    for (; p < end; p += 2) {
        __m256i a = load_tile(s->column[p] + offset, whole), b = load_tile(s->column[p + 1] + offset, whole);
        __m256i q = _mm256_set1_epi32(s->factor[p / 2]);
        __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
        sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(_mm256_and_si256(first, nibble), q));
        sum[1] = _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(_mm256_and_si256(second, nibble), q));
        sum[2] = _mm256_add_epi16(sum[2], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(first, 4), nibble), q));
        sum[3] = _mm256_add_epi16(sum[3], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(second, 4), nibble), q));
    }
}

/* Sums of 32 bits; 128-bit half h of sum[i] is rows 16 h + 4 i .. + 4 of the tile. */
INLINE void sum_bytes(const segment *s, uint32_t p, uint32_t end, size_t offset, __m256i sum[4])
{
    const __m256i ones = _mm256_set1_epi16(1);
    sum[0] = sum[1] = sum[2] = sum[3] = _mm256_setzero_si256();
    for (; p < end; p += 4) {
        __m256i a = load_tile(s->column[p] + offset, true), b = load_tile(s->column[p + 1] + offset, true);
        __m256i c = load_tile(s->column[p + 2] + offset, true), d = load_tile(s->column[p + 3] + offset, true);
        __m256i q = _mm256_set1_epi32(s->factor[p / 4]);
        __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
        __m256i cd[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m256i w = i % 2 ? _mm256_unpackhi_epi16(ab[i / 2], cd[i / 2]) : _mm256_unpacklo_epi16(ab[i / 2], cd[i / 2]);
            __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, ones));
        }
    }
}

/* The integer sums of rows 8 c .. 8 c + 8 of the tile. */
INLINE __m256i sums_of_eight(uint32_t type, const __m256i sum[4], int c)
{
    if (type != SL_TYPE_Q8_0)
        return _mm256_cvtepi16_epi32(c < 4 ? _mm256_castsi256_si128(sum[c % 4]) : _mm256_extracti128_si256(sum[c % 4], 1));
    if (c < 2)
        return _mm256_permute2x128_si256(sum[2 * (c % 2)], sum[2 * (c % 2) + 1], 0x20);
    return _mm256_permute2x128_si256(sum[2 * (c % 2)], sum[2 * (c % 2) + 1], 0x31);
}

INLINE __m256 load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* One segment times one tile, whole or half, added to the totals of its rows. */
INLINE void multiply_tile(uint32_t type, bool whole, const span *t, const segment *s, size_t offset)
{
    const int eights = (int)rows_of_tile(type) / EIGHT / (whole ? 1 : 2);
    size_t row = offset * (rows_of_tile(type) / TILE);
    uint32_t p = 0;
    __m256 acc[8];
#pragma GCC unroll 8
    for (int c = 0; c < eights; c++)
        acc[c] = _mm256_setzero_ps();
    for (uint32_t i = 0; i < s->blocks; p = s->end[i++]) {
        uint32_t b = s->block[i];
        int32_t back = 8 * t->x->sum[b];
        __m256i sum[4];
        if (type == SL_TYPE_Q8_0)
            sum_bytes(s, p, s->end[i], offset, sum);
        else
            sum_nibbles(s, p, s->end[i], offset, whole, -back, sum);
        const uint8_t *scale = sli_column_meta(t->w, b, 0, row), *min = sli_column_meta(t->w, b, 1, row);
        __m256 dx = _mm256_set1_ps(t->x->d[b]), dsum = _mm256_set1_ps(t->x->d[b] * (float)t->x->sum[b]);
#pragma GCC unroll 8
        for (int c = 0; c < eights; c++) {
            __m256i isum = sums_of_eight(type, sum, c);
            if (type == SL_TYPE_Q4_1)
                isum = _mm256_add_epi32(isum, _mm256_set1_epi32(back));
            acc[c] = _mm256_fmadd_ps(_mm256_mul_ps(load_f16(scale + 16 * c), dx), _mm256_cvtepi32_ps(isum), acc[c]);
            if (type == SL_TYPE_Q4_1)
                acc[c] = _mm256_fmadd_ps(load_f16(min + 16 * c), dsum, acc[c]);
        }
    }
    float *total = t->out + row;
#pragma GCC unroll 8
    for (int c = 0; c < eights; c++)
        _mm256_storeu_ps(total + 8 * c, _mm256_add_ps(_mm256_loadu_ps(total + 8 * c), acc[c]));
}

/* ---- all tiles of all segments ---- */

/* A piece of a segment's columns. */
typedef struct chunk {
    const segment *s;
    size_t begin, end; /* bytes of a column */
} chunk;

static chunk chunk_at(const span *t, const segment *s, size_t begin)
{
    return (chunk){s, begin, t->end - begin < CHUNK ? t->end : begin + CHUNK};
}

/* Asks for tile number `tile`'s share of what a chunk needs: some columns from end to end, and the scales of that tile. */
INLINE void prefetch_share(uint32_t type, const span *t, const chunk *c, size_t tile, size_t tiles)
{
    size_t row = (c->begin + tile * TILE) * (rows_of_tile(type) / TILE);
    for (size_t i = c->s->columns * tile / tiles; i < c->s->columns * (tile + 1) / tiles; i++)
        for (size_t at = c->begin; at < c->end; at += LINE)
            _mm_prefetch((const char *)c->s->column[i] + at, _MM_HINT_T1);
    for (uint32_t i = 0; i < c->s->blocks; i++)
        for (size_t word = 0; word < (type == SL_TYPE_Q4_1 ? 2 : 1); word++)
            for (size_t at = 0; at < rows_of_tile(type) * 2; at += LINE)
                _mm_prefetch((const char *)sli_column_meta(t->w, c->s->block[i], word, row) + at, _MM_HINT_T1);
}

INLINE void multiply_chunk(uint32_t type, const span *t, const chunk *now, const chunk *ahead)
{
    size_t offset = now->begin, tiles = (now->end - now->begin + TILE - 1) / TILE;
    for (size_t tile = 0; tile < tiles; tile++, offset += TILE) {
        prefetch_share(type, t, ahead, tile, tiles);
        if (type == SL_TYPE_Q8_0 || offset + TILE <= now->end)
            multiply_tile(type, true, t, now->s, offset);
        else
            multiply_tile(type, false, t, now->s, offset);
    }
}

INLINE void multiply_segments(uint32_t type, const span *t)
{
    segment segments[2], *now = &segments[0], *next = &segments[1];
    uint32_t i = lay_out(t->w, t->x, 0, now);
    while (now->columns && t->begin < t->end) {
        i = lay_out(t->w, t->x, i, next);
        for (chunk c = chunk_at(t, now, t->begin), ahead; c.begin < t->end; c = ahead) {
            ahead = c.end < t->end ? chunk_at(t, now, c.end) : chunk_at(t, next, t->begin);
            multiply_chunk(type, t, &c, &ahead);
            if (ahead.s == next)
                break;
        }
        segment *swap = now;
        now = next;
        next = swap;
    }
}

static void multiply_quantized(const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    size_t rows_of_byte = rows_of_tile(w->type) / TILE;
    span t = {.w = w, .x = x, .out = out, .begin = row_begin / rows_of_byte, .end = row_end / rows_of_byte};
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    switch (w->type) {
    case SL_TYPE_Q4_0: multiply_segments(SL_TYPE_Q4_0, &t); break;
    case SL_TYPE_Q4_1: multiply_segments(SL_TYPE_Q4_1, &t); break;
    default: multiply_segments(SL_TYPE_Q8_0, &t); break; /* see is_tiled */
    }
}

/* ---- floats (D3) ---- */

INLINE __m256 load_weights(uint32_t type, const uint8_t *column, size_t row)
{
    if (type == SL_TYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)(column + 4 * row));
    if (type == SL_TYPE_F16)
        return load_f16(column + 2 * row);
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(column + 2 * row)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* Lane j of a segment for 32 rows. */
INLINE void sum_lane(uint32_t type, const lanes *s, int j, size_t row, __m256 acc[4])
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
    acc[0] = acc[1] = acc[2] = acc[3] = _mm256_setzero_ps();
    for (uint32_t i = 0; i < s->count[j]; i++) {
        const uint8_t *column = s->column[j][i];
        __m256 x = _mm256_broadcast_ss(&s->x[j][i]);
        _mm_prefetch((const char *)column + size * row + AHEAD, _MM_HINT_T1);
        if (type == SL_TYPE_F32)
            _mm_prefetch((const char *)column + size * row + AHEAD + 64, _MM_HINT_T1);
#pragma GCC unroll 4
        for (size_t c = 0; c < 4; c++)
            acc[c] = _mm256_fmadd_ps(load_weights(type, column, row + 8 * c), x, acc[c]);
    }
}

INLINE void multiply_lanes(uint32_t type, const lanes *s, size_t row, float *total)
{
    __m256 sum[2][4], other[4];
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; pair++) {
        sum_lane(type, s, 2 * pair, row, sum[pair]);
        sum_lane(type, s, 2 * pair + 1, row, other);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++)
            sum[pair][c] = _mm256_add_ps(sum[pair][c], other[c]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m256 before = _mm256_loadu_ps(total + row + 8 * c);
        _mm256_storeu_ps(total + row + 8 * c, _mm256_add_ps(before, _mm256_add_ps(sum[0][c], sum[1][c])));
    }
}

/* Formats that have tiles here, for one row; others, and several rows, go segment by segment. */
static bool is_tiled(uint32_t type)
{
    return type == SL_TYPE_Q4_0 || type == SL_TYPE_Q4_1 || type == SL_TYPE_Q8_0 || sli_layout_of(type).words == 0;
}

void sli_matmul_columns_avx2(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    static const sli_segment_kernels by_segment = {.pack_blocks = sli_pack_blocks_avx2, .matmul = sli_matmul_avx2};
    uint32_t whole_end = row_begin + (row_end - row_begin) / SL_COLUMN_GROUP * SL_COLUMN_GROUP;
    if (x->rows > 1 || !is_tiled(w->type)) {
        sli_matmul_columns_by_segment(&by_segment, w, x, row_begin, row_end, out);
        return;
    }
    if (sli_layout_of(w->type).words)
        multiply_quantized(w, x, row_begin, whole_end, out);
    else
        multiply_floats(w, x, row_begin, whole_end, out);
    sli_matmul_columns_ref(w, x, whole_end, row_end, out); /* at most 31 rows, and none in models that exist */
}
#endif

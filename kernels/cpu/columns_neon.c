/* kernels/cpu/columns_neon.c: products over the members of a set, from columns (D8); a vector lane is a row. For both NEON sets.
 *
 * A segment of 256 neurons is laid out first: its members' columns and integers, in pairs within a block, filled up with factors of zero. Then rows
 * pass by 32, which are sixteen bytes of a column of nibbles and thirty-two of bytes. All lanes of a register have the same factor, so columns are
 * used as they lie, and the dot product instructions, for which four would have to be interleaved, are not.
 *     nibbles: a block's sum of (nibble - 8) * x is within 32 * 8 * 127 = 32512, so sixteen bits hold it, whatever wraps around on the way
 *              there: it starts at -8 * sum(x). Q4_1 adds the 8 * sum(x) again.
 *     bytes:   two products are at most 2 * 128 * 127 = 32512, and then widened.
 *
 * The next line of a column is asked for when one is begun. */
#if defined(__aarch64__)
#include "kernels/cpu/lanes_neon.h"
#include "kernels/segments.h"

#include "kernels/cpu/columns_floats.h"

#define ROWS  SL_COLUMN_GROUP /* at a time */
#define VECS  (ROWS / LANES)  /* registers that hold a number of each of them */
#define STEP  2               /* columns that are multiplied together */
#define LINE  64
#define AHEAD 128 /* bytes of a column between what is used and what is prefetched */

/* The members of one segment. */
typedef struct segment {
    uint32_t blocks;                             /* with members */
    uint32_t block[SLI_SEGMENT_BLOCKS];          /* their index in the row */
    uint32_t end[SLI_SEGMENT_BLOCKS];            /* of their columns, in column[] */
    int8_t factor[SLI_SEGMENT_ELEMENTS];         /* the columns' integers of x */
    const uint8_t *column[SLI_SEGMENT_ELEMENTS]; /* pairs are filled up, so never more than the segment has neurons */
} segment;

/* Lays out the segment that member `i` begins; gives the first member of the next. */
static uint32_t lay_out(const sl_columns *w, const sl_acts *x, uint32_t i, segment *s)
{
    const uint32_t index = w->member[i] / SLI_SEGMENT_ELEMENTS;
    uint32_t at = 0;
    s->blocks = 0;
    while (i < w->count && w->member[i] / SLI_SEGMENT_ELEMENTS == index) {
        const uint32_t b = w->member[i] / SL_ACT_BLOCK;
        for (; i < w->count && w->member[i] / SL_ACT_BLOCK == b; i++, at++) {
            s->factor[at] = x->q[w->member[i]];
            s->column[at] = w->column[i];
        }
        if (at % STEP != 0) {
            s->factor[at] = 0;
            s->column[at] = s->column[at - 1];
            at++;
        }
        s->block[s->blocks] = b;
        s->end[s->blocks++] = at;
    }
    return i;
}

/* ---- 32 rows ---- */

INLINE void add_products(int8x16_t w, int8x8_t x, int16x8_t sum[2])
{
    sum[0] = vmlal_s8(sum[0], vget_low_s8(w), x);
    sum[1] = vmlal_s8(sum[1], vget_high_s8(w), x);
}

/* The integer sums of columns [p, end) in sixteen bits, which start at `start`; the column's bytes are at `offset`. */
INLINE void sum_nibbles(const segment *s, uint32_t p, uint32_t end, size_t offset, int32_t start, int32x4_t isum[VECS])
{
    int16x8_t sum[VECS / 2];
    sum[0] = sum[1] = sum[2] = sum[3] = vdupq_n_s16((int16_t)start);
    for (; p < end; p++) {
        uint8x16_t bytes = vld1q_u8(s->column[p] + offset);
        int8x8_t x = vdup_n_s8(s->factor[p]);
        add_products(vreinterpretq_s8_u8(nibbles_of(bytes, false)), x, sum);
        add_products(vreinterpretq_s8_u8(nibbles_of(bytes, true)), x, sum + 2);
    }
#pragma GCC unroll 4
    for (int i = 0; i < VECS / 2; i++) {
        isum[2 * i] = vmovl_s16(vget_low_s16(sum[i]));
        isum[2 * i + 1] = vmovl_high_s16(sum[i]);
    }
}

INLINE void sum_bytes(const segment *s, uint32_t p, uint32_t end, size_t offset, int32x4_t isum[VECS])
{
#pragma GCC unroll 8
    for (int i = 0; i < VECS; i++)
        isum[i] = vdupq_n_s32(0);
    for (; p < end; p += STEP) {
        int16x8_t pairs[VECS / 2];
        pairs[0] = pairs[1] = pairs[2] = pairs[3] = vdupq_n_s16(0);
#pragma GCC unroll 2
        for (uint32_t n = p; n < p + STEP; n++) {
            const int8_t *at = (const int8_t *)s->column[n] + offset;
            add_products(vld1q_s8(at), vdup_n_s8(s->factor[n]), pairs);
            add_products(vld1q_s8(at + 16), vdup_n_s8(s->factor[n]), pairs + 2);
        }
#pragma GCC unroll 4
        for (int i = 0; i < VECS / 2; i++) {
            isum[2 * i] = vaddw_s16(isum[2 * i], vget_low_s16(pairs[i]));
            isum[2 * i + 1] = vaddw_high_s16(isum[2 * i + 1], pairs[i]);
        }
    }
}

/* One segment times 32 rows from `row` on, added to their totals. */
INLINE void multiply_rows(uint32_t type, const sl_columns *w, const sl_acts *x, const segment *s, size_t row, float *total)
{
    const size_t offset = type == SL_TYPE_Q8_0 ? row : row / 2;
    uint32_t p = 0;
    float32x4_t acc[VECS];
#pragma GCC unroll 8
    for (int i = 0; i < VECS; i++)
        acc[i] = vdupq_n_f32(0);
    for (uint32_t i = 0; i < s->blocks; p = s->end[i++]) {
        const uint32_t b = s->block[i];
        const int32_t back = 8 * x->sum[b];
        int32x4_t isum[VECS];
        if (type == SL_TYPE_Q8_0)
            sum_bytes(s, p, s->end[i], offset, isum);
        else
            sum_nibbles(s, p, s->end[i], offset, -back, isum);
        const uint8_t *scale = sli_column_meta(w, b, 0, row), *min = sli_column_meta(w, b, 1, row);
#pragma GCC unroll 8
        for (int v = 0; v < VECS; v++) {
            if (type == SL_TYPE_Q4_1)
                isum[v] = vaddq_s32(isum[v], vdupq_n_s32(back));
            acc[v] = vfmaq_f32(acc[v], vmulq_n_f32(load_f16(scale + 8 * v), x->d[b]), vcvtq_f32_s32(isum[v]));
            if (type == SL_TYPE_Q4_1)
                acc[v] = vfmaq_n_f32(acc[v], load_f16(min + 8 * v), x->d[b] * (float)x->sum[b]);
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < VECS; v++)
        vst1q_f32(total + row + 4 * v, vaddq_f32(vld1q_f32(total + row + 4 * v), acc[v]));
}

static void prefetch_columns(const segment *s, size_t offset)
{
    for (uint32_t p = 0; offset % LINE == 0 && s->blocks != 0 && p < s->end[s->blocks - 1]; p++)
        prefetch_lines(s->column[p] + offset + AHEAD, 1);
}

INLINE void multiply_segments(uint32_t type, const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    segment s;
    for (uint32_t i = 0; i < w->count;) {
        i = lay_out(w, x, i, &s);
        for (size_t row = row_begin; row < row_end; row += ROWS) {
            prefetch_columns(&s, type == SL_TYPE_Q8_0 ? row : row / 2);
            multiply_rows(type, w, x, &s, row, out);
        }
    }
}

static void multiply_quantized(const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    switch (w->type) {
    case SL_TYPE_Q4_0: multiply_segments(SL_TYPE_Q4_0, w, x, row_begin, row_end, out); break;
    case SL_TYPE_Q4_1: multiply_segments(SL_TYPE_Q4_1, w, x, row_begin, row_end, out); break;
    default: multiply_segments(SL_TYPE_Q8_0, w, x, row_begin, row_end, out); break; /* see is_tiled */
    }
}

/* ---- floats ---- */

/* Lane j of a segment for 32 rows. */
INLINE void sum_lane(uint32_t type, const lanes *s, int j, size_t row, float32x4_t acc[VECS])
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int v = 0; v < VECS; v++)
        acc[v] = vdupq_n_f32(0);
    for (uint32_t i = 0; i < s->count[j]; i++) {
        const uint8_t *column = s->column[j][i] + size * row;
        prefetch_lines(column + AHEAD, ROWS * size / LINE);
#pragma GCC unroll 8
        for (size_t v = 0; v < VECS; v++)
            acc[v] = vfmaq_n_f32(acc[v], load_floats(type, column + size * LANES * v), s->x[j][i]);
    }
}

INLINE void multiply_lanes(uint32_t type, const lanes *s, size_t row, float *total)
{
    float32x4_t sum[2][VECS], other[VECS];
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; pair++) {
        sum_lane(type, s, 2 * pair, row, sum[pair]);
        sum_lane(type, s, 2 * pair + 1, row, other);
#pragma GCC unroll 8
        for (int v = 0; v < VECS; v++)
            sum[pair][v] = vaddq_f32(sum[pair][v], other[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < VECS; v++) {
        float *at = total + row + LANES * (size_t)v;
        vst1q_f32(at, vaddq_f32(vld1q_f32(at), vaddq_f32(sum[0][v], sum[1][v])));
    }
}

/* ---- the entries ---- */

/* Formats that have a way of their own here, for one row; others, and several rows, go segment by segment. */
static bool is_tiled(uint32_t type)
{
    return type == SL_TYPE_Q4_0 || type == SL_TYPE_Q4_1 || type == SL_TYPE_Q8_0 || sli_layout_of(type).words == 0;
}

static void multiply(const sli_segment_kernels *by_segment, const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end,
                     float *out)
{
    uint32_t whole_end = row_begin + (row_end - row_begin) / ROWS * ROWS;
    if (x->rows > 1 || !is_tiled(w->type)) {
        sli_matmul_columns_by_segment(by_segment, w, x, row_begin, row_end, out);
        return;
    }
    if (sli_layout_of(w->type).words)
        multiply_quantized(w, x, row_begin, whole_end, out);
    else
        multiply_floats(w, x, row_begin, whole_end, out);
    sli_matmul_columns_ref(w, x, whole_end, row_end, out); /* at most 31 rows, and none in models that exist */
}

void sli_matmul_columns_neon(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    static const sli_segment_kernels by_segment = {.pack_blocks = sli_pack_blocks_neon, .matmul = sli_matmul_neon};
    multiply(&by_segment, w, x, row_begin, row_end, out);
}

void sli_matmul_columns_dotprod(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    static const sli_segment_kernels by_segment = {.pack_blocks = sli_pack_blocks_neon, .matmul = sli_matmul_dotprod};
    multiply(&by_segment, w, x, row_begin, row_end, out);
}
#endif

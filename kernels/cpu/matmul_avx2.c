/* kernels/cpu/matmul_avx2.c: products with AVX2; a vector lane is a row, a register is half a panel.
 *
 * AVX2 multiplies unsigned by signed bytes into 16-bit pair sums (VPMADDUBSW), which saturate; so it matters how large they can grow.
 *     nibbles: a block's eight pair sums are at most 8 * 2 * 15 * 127 = 30480 together, so a whole block is summed in 16 bits, and
 *              widened once. Q4_0's offset of 8 is taken back afterwards as -8 * sum(x).
 *     bytes:   |w| times x with w's sign is at most 2 * 128 * 127 = 32512 per pair sum, so each is widened at once.
 * D1 keeps activations within -127 .. 127, without which neither would hold. The fp32 part is D2 as it is written.
 *
 * Rows of activations are taken four, two or one at a time, constants to the inlined functions below, so that sums are registers. */
#if defined(__x86_64__)
#include "kernels/cpu/walk.h"

#include <immintrin.h>

#define INLINE      static inline __attribute__((always_inline))
#define MAX_ROWS    4
#define HALF        8  /* rows of a panel in a register */
#define FLOAT_AHEAD 64 /* elements between the weight in use and the one that is prefetched */

INLINE size_t block_quant_bytes(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 512 : 256;
}

INLINE __m256 load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256i broadcast_word(const int8_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

INLINE void prefetch_block(uint32_t type, const sli_weight_parts *ahead, size_t b)
{
    const char *quants = (const char *)ahead->quants + b * block_quant_bytes(type);
#pragma GCC unroll 16
    for (size_t i = 0; i < block_quant_bytes(type); i += 64)
        _mm_prefetch(quants + i, _MM_HINT_T0);
    _mm_prefetch((const char *)ahead->scales + b * 32, _MM_HINT_T0);
    if (type == SL_TYPE_Q4_1)
        _mm_prefetch((const char *)ahead->minima + b * 32, _MM_HINT_T0);
}

/* The integer sums of a block of nibbles, without the offset; q is the first row's block of activations. */
INLINE void dot_nibbles(int rows, const uint8_t *quants, const int8_t (*q)[SL_ACT_BLOCK], __m256i isum[MAX_ROWS])
{
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        isum[r] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int w = 0; w < 4; w++) {
        __m256i word = _mm256_loadu_si256((const __m256i *)(quants + 64 * w));
        __m256i low = _mm256_and_si256(word, nibble);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(word, 4), nibble);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            isum[r] = _mm256_add_epi16(isum[r], _mm256_maddubs_epi16(low, broadcast_word(q[r] + 4 * w)));
            isum[r] = _mm256_add_epi16(isum[r], _mm256_maddubs_epi16(high, broadcast_word(q[r] + 16 + 4 * w)));
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        isum[r] = _mm256_madd_epi16(isum[r], ones);
}

INLINE void dot_bytes(int rows, const uint8_t *quants, const int8_t (*q)[SL_ACT_BLOCK], __m256i isum[MAX_ROWS])
{
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        isum[r] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int w = 0; w < 8; w++) {
        __m256i word = _mm256_loadu_si256((const __m256i *)(quants + 64 * w)), size = _mm256_abs_epi8(word);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(broadcast_word(q[r] + 4 * w), word));
            isum[r] = _mm256_add_epi32(isum[r], _mm256_madd_epi16(pairs, ones));
        }
    }
}

/* Adds block `b` of half a panel to acc[0 .. rows): D2's inner step. */
INLINE void multiply_block(uint32_t type, int rows, const sli_act_tile *x, size_t row, const sli_weight_parts *parts, size_t b, size_t half,
                           __m256 *acc)
{
    const uint8_t *quants = parts->quants + b * block_quant_bytes(type) + half * 4 * HALF;
    size_t at = (b * SL_PANEL_ROWS + half * HALF) * 2;
    __m256i isum[MAX_ROWS];
    if (type == SL_TYPE_Q8_0)
        dot_bytes(rows, quants, &x->q[b][row], isum);
    else
        dot_nibbles(rows, quants, &x->q[b][row], isum);

    __m256 scale = load_f16(parts->scales + at);
    __m256 min = type == SL_TYPE_Q4_1 ? load_f16(parts->minima + at) : _mm256_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        if (type == SL_TYPE_Q4_0)
            isum[r] = _mm256_add_epi32(isum[r], _mm256_set1_epi32(x->start[row + r][b]));
        __m256 d = _mm256_mul_ps(scale, _mm256_broadcast_ss(&x->d[row + r][b]));
        acc[r] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(isum[r]), acc[r]);
        if (type == SL_TYPE_Q4_1)
            acc[r] = _mm256_fmadd_ps(min, _mm256_broadcast_ss(&x->dsum[row + r][b]), acc[r]);
    }
}

/* Adds acc to the totals of rows [row, row + rows), one half of the lanes. */
INLINE void add_to_totals(int rows, float (*totals)[SL_PANEL_ROWS], size_t row, size_t half, const __m256 *acc)
{
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *total = totals[row + r] + half * HALF;
        _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), acc[r]));
    }
}

INLINE sli_weight_parts parts_of_panel(const sli_weight_parts *parts, size_t offset)
{
    return (sli_weight_parts){parts->quants + offset, parts->scales + offset, parts->minima + offset};
}

/* Rows [row, row + rows) of one panel of the tile. */
INLINE void multiply_rows(uint32_t type, int rows, const sli_quant_step *s, size_t panel, size_t row)
{
    sli_weight_parts now = parts_of_panel(&s->now, panel * s->panel_bytes);
    sli_weight_parts ahead = row == 0 ? parts_of_panel(&s->ahead, panel * s->panel_bytes) : now; /* later visits need nothing fetched */
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        for (size_t half = 0; half < 2; half++) {
            __m256 acc[MAX_ROWS];
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                acc[r] = _mm256_setzero_ps();
            for (size_t b = begin; b < end; b++) {
                if (half == 0)
                    prefetch_block(type, &ahead, b);
                multiply_block(type, rows, s->x, row, &now, b, half, acc);
            }
            add_to_totals(rows, s->totals[panel], row, half, acc);
        }
    }
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    for (size_t panel = 0; panel < s->panels; panel++) {
        size_t row = 0;
        for (; row + 4 <= s->rows; row += 4)
            multiply_rows(type, 4, s, panel, row);
        if (s->rows & 2) {
            multiply_rows(type, 2, s, panel, row);
            row += 2;
        }
        if (s->rows & 1)
            multiply_rows(type, 1, s, panel, row);
    }
}

static void step_q4_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_0, s);
}
static void step_q4_1(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_1, s);
}
static void step_q8_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q8_0, s);
}

/* One element of a float format for eight rows. */
INLINE __m256 load_weight(uint32_t type, const uint8_t *weights, size_t k, size_t half)
{
    if (type == SL_TYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)(weights + k * 64 + half * 32));
    if (type == SL_TYPE_F16)
        return load_f16(weights + k * 32 + half * 16);
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(weights + k * 32 + half * 16)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* D3 for `rows` rows, two at most: four chains each, chain j taking the elements with k mod 4 = j. */
INLINE void multiply_float_rows(uint32_t type, int rows, const sli_float_step *s, size_t row, size_t half)
{
    const size_t element_bytes = type == SL_TYPE_F32 ? 64 : 32;
    const float *x = s->x + row * s->x_stride;
    size_t whole = s->count & ~(size_t)3;
    __m256 acc[2][4], sum[2];
#pragma GCC unroll 16
    for (int i = 0; i < 4 * rows; i++)
        acc[i / 4][i % 4] = _mm256_setzero_ps();
    for (size_t k = 0; k < whole; k += 4) {
#pragma GCC unroll 16
        for (int j = 0; j < 4; j++) {
            __m256 w = load_weight(type, s->weights, k + j, half);
            _mm_prefetch((const char *)s->weights + element_bytes * (k + j + FLOAT_AHEAD), _MM_HINT_T0);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                acc[r][j] = _mm256_fmadd_ps(w, _mm256_broadcast_ss(x + r * s->x_stride + k + j), acc[r][j]);
        }
    }
#pragma GCC unroll 16
    for (size_t j = 0; j < 3; j++) /* up to three elements are left */
        if (whole + j < s->count) {
            __m256 w = load_weight(type, s->weights, whole + j, half);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                acc[r][j] = _mm256_fmadd_ps(w, _mm256_broadcast_ss(x + r * s->x_stride + whole + j), acc[r][j]);
        }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        sum[r] = _mm256_add_ps(_mm256_add_ps(acc[r][0], acc[r][1]), _mm256_add_ps(acc[r][2], acc[r][3]));
    add_to_totals(rows, s->totals, row, half, sum);
}

INLINE void multiply_float_segment(uint32_t type, const sli_float_step *s)
{
    for (size_t half = 0; half < 2; half++) {
        size_t row = 0;
        for (; row + 2 <= s->rows; row += 2)
            multiply_float_rows(type, 2, s, row, half);
        if (row < s->rows)
            multiply_float_rows(type, 1, s, row, half);
    }
}

static void step_f32(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_F32, s);
}
static void step_f16(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_F16, s);
}
static void step_bf16(const sli_float_step *s)
{
    multiply_float_segment(SL_TYPE_BF16, s);
}

void sli_matmul_avx2(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_Q4_0: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_0); break;
    case SL_TYPE_Q4_1: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_1); break;
    case SL_TYPE_Q8_0: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q8_0); break;
    case SL_TYPE_F32: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f32); break;
    case SL_TYPE_F16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f16); break;
    case SL_TYPE_BF16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_bf16); break;
    case SL_TYPE_Q5_0:
    case SL_TYPE_Q5_1:
    case SL_TYPE_IQ4_NL: sli_matmul_blocks_avx2(type, panels, out_rows, x, out, out_stride); break;
    default: sli_matmul_super_avx2(type, panels, out_rows, x, out, out_stride); break;
    }
}
#endif

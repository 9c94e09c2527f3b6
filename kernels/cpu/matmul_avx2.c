/* kernels/cpu/matmul_avx2.c: products with AVX2; a vector lane is a row, two registers are a panel.
 *
 * AVX2 multiplies unsigned by signed bytes into 16-bit pair sums (VPMADDUBSW), which saturate; so it matters how large they can grow.
 *     nibbles: a block's eight pair sums are at most 8 * 2 * 15 * 127 = 30480 together, so a whole block is summed in 16 bits, and
 *              widened once. Q4_0's offset of 8 is taken back afterwards as -8 * sum(x).
 *     bytes:   |w| times x with w's sign is at most 2 * 128 * 127 = 32512 per pair sum, so each is widened at once.
 * D1 keeps activations within -127 .. 127, without which neither would hold. The fp32 part is D2 as it is written.
 *
 * Rows of activations are taken four, two or one at a time, constants to the inlined functions below. Four rows times both halves of a
 * panel are eight integer sums; with a word of weights, one of activations and the constants they fill the sixteen registers, so the
 * fp32 sums, which are touched once per block, stay in the L1 cache. A broadcast word of activations serves both halves. */
#if defined(__x86_64__)
#include "kernels/cpu/matmul_lanes_avx2.h"

#define FLOAT_AHEAD 64 /* elements between the weight in use and the one that is prefetched */

INLINE size_t block_quant_bytes(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 512 : 256;
}

/* The tile that comes next, asked for block by block. The requests are spread evenly over the visits that a panel of the tile in hand gets, one
 * per four rows of activations, because memory is asked best at a steady rate. */
typedef struct prefetch {
    sli_weight_parts tile;
    size_t block;         /* to ask for next */
    uint32_t every, wait; /* blocks multiplied per block asked for; until the next one */
} prefetch;

/* What is used once goes to the L2 cache: asked into the L1, its few outstanding misses would bound the rate of memory. */
INLINE void prefetch_line(const uint8_t *at, bool once)
{
    if (once)
        _mm_prefetch((const char *)at, _MM_HINT_T1);
    else
        _mm_prefetch((const char *)at, _MM_HINT_T0);
}

INLINE void prefetch_parts(uint32_t type, const sli_weight_parts *tile, size_t b, bool once)
{
    const uint8_t *quants = tile->quants + b * block_quant_bytes(type);
#pragma GCC unroll 16
    for (size_t i = 0; i < block_quant_bytes(type); i += 64)
        prefetch_line(quants + i, once);
    prefetch_line(tile->scales + b * 32, once);
    if (type == SL_TYPE_Q4_1)
        prefetch_line(tile->minima + b * 32, once);
}

INLINE void prefetch_block(uint32_t type, prefetch *next)
{
    if (--next->wait)
        return;
    next->wait = next->every;
    size_t b = next->block++;
    if (next->every == 1)
        prefetch_parts(type, &next->tile, b, true);
    else
        prefetch_parts(type, &next->tile, b, false);
}

/* isum += a word of nibbles of both halves times word `i` of the rows' blocks q, in 16 bits. */
INLINE void dot_nibble_word(int rows, const __m256i w[2], const int8_t (*q)[SL_ACT_BLOCK], int i, __m256i isum[MAX_ROWS][2])
{
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        __m256i x = broadcast_word(q[r] + 4 * i);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256i pairs = _mm256_maddubs_epi16(w[h], x);
            isum[r][h] = i == 0 ? pairs : in_order(_mm256_add_epi16(isum[r][h], pairs));
        }
    }
}

/* The integer sums of a block of nibbles, without the offset; q is the first row's block of activations. */
INLINE void dot_nibbles(int rows, const uint8_t *quants, const int8_t (*q)[SL_ACT_BLOCK], __m256i isum[MAX_ROWS][2])
{
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        __m256i w[2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            w[h] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(quants + 64 * i + 32 * h)), nibble);
        dot_nibble_word(rows, w, q, i, isum);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            w[h] = _mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(quants + 64 * i + 32 * h)), 4), nibble);
        dot_nibble_word(rows, w, q, 4 + i, isum);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            isum[r][h] = _mm256_madd_epi16(isum[r][h], ones);
}

INLINE void dot_bytes(int rows, const uint8_t *quants, const int8_t (*q)[SL_ACT_BLOCK], __m256i isum[MAX_ROWS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        __m256i word[2], size[2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            word[h] = _mm256_loadu_si256((const __m256i *)(quants + 64 * i + 32 * h));
            size[h] = _mm256_abs_epi8(word[h]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m256i x = broadcast_word(q[r] + 4 * i);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(size[h], _mm256_sign_epi8(x, word[h])), ones);
                isum[r][h] = i == 0 ? sums : in_order(_mm256_add_epi32(isum[r][h], sums));
            }
        }
    }
}

/* Adds block `b` of a panel to acc: D2's inner step. acc lies in memory, as the integer sums need the registers. */
INLINE void multiply_block(uint32_t type, int rows, const sli_act_tile *x, size_t row, const sli_weight_parts *parts, size_t b,
                           float (*acc)[SL_PANEL_ROWS])
{
    const uint8_t *quants = parts->quants + b * block_quant_bytes(type);
    __m256i isum[MAX_ROWS][2];
    if (type == SL_TYPE_Q8_0)
        dot_bytes(rows, quants, &x->q[b][row], isum);
    else
        dot_nibbles(rows, quants, &x->q[b][row], isum);

#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        size_t at = (b * SL_PANEL_ROWS + (size_t)h * HALF) * 2;
        __m256 scale = load_f16(parts->scales + at);
        __m256 min = type == SL_TYPE_Q4_1 ? load_f16(parts->minima + at) : _mm256_setzero_ps();
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m256i sum = isum[r][h];
            if (type == SL_TYPE_Q4_0)
                sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x->start[row + r][b]));
            __m256 d = _mm256_mul_ps(scale, _mm256_broadcast_ss(&x->d[row + r][b]));
            __m256 total = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum), _mm256_load_ps(acc[r] + h * HALF));
            if (type == SL_TYPE_Q4_1)
                total = _mm256_fmadd_ps(min, _mm256_broadcast_ss(&x->dsum[row + r][b]), total);
            _mm256_store_ps(acc[r] + h * HALF, total);
        }
    }
}

/* Rows [row, row + rows) of a panel of the tile: one segment after the other. */
INLINE void multiply_rows(uint32_t type, int rows, const sli_quant_step *s, size_t panel, size_t row, prefetch *next)
{
    sli_weight_parts now = parts_of_panel(&s->now, panel * s->panel_bytes);
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        _Alignas(32) float acc[MAX_ROWS][SL_PANEL_ROWS];
#pragma GCC unroll 16
        for (int i = 0; i < 2 * rows; i++)
            _mm256_store_ps(acc[i / 2] + i % 2 * HALF, _mm256_setzero_ps());
        for (size_t b = begin; b < end; b++) {
            prefetch_block(type, next);
            multiply_block(type, rows, s->x, row, &now, b, acc);
        }
#pragma GCC unroll 2
        for (size_t half = 0; half < 2; half++) {
            __m256 sum[MAX_ROWS];
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                sum[r] = _mm256_load_ps(acc[r] + half * HALF);
            add_to_totals(rows, s->totals[panel], row, half, sum);
        }
    }
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    uint32_t visits = s->rows / 4 + (s->rows >> 1 & 1) + (s->rows & 1);
    for (size_t panel = 0; panel < s->panels; panel++) {
        prefetch next = {.tile = parts_of_panel(&s->ahead, panel * s->panel_bytes), .every = visits, .wait = 1};
        size_t row = 0;
        for (; row + 4 <= s->rows; row += 4)
            multiply_rows(type, 4, s, panel, row, &next);
        if (s->rows & 2) {
            multiply_rows(type, 2, s, panel, row, &next);
            row += 2;
        }
        if (s->rows & 1)
            multiply_rows(type, 1, s, panel, row, &next);
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

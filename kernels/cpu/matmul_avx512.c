/* kernels/cpu/matmul_avx512.c: products with AVX-512 and VNNI; a vector lane is a row of the panel.
 *
 * A quant word of sixteen rows is one register, so a block of 32 is eight registers of unsigned bytes, whatever the format: nibbles are split
 * into their low and high halves, bytes are flipped from signed to offset binary. Each of the eight meets the activation's four
 * bytes broadcast to all lanes (a memory operand of VPDPBUSD), which sums four products per lane. The offset that made the
 * weights unsigned is taken back by starting the sum at -bias * sum(x). Then one conversion, one multiplication and one FMA per
 * block are D2 as it is written, sixteen rows at a time.
 *
 * Rows of activations are taken sixteen, eight, four, two or one at a time: these counts and the format are constants to the inlined
 * functions below, so that every accumulator is a register. */
#if defined(__x86_64__)
#include "kernels/cpu/walk.h"

#include <immintrin.h>

#define INLINE   static inline __attribute__((always_inline))
#define UNROLL   _Pragma("GCC unroll 16")
#define MAX_ROWS 16

#define QUANT_REGISTERS 8  /* of four bytes per lane: a block of 32 */
#define FLOAT_AHEAD     64 /* elements between the weight in use and the one that is prefetched */

INLINE size_t block_quant_bytes(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 512 : 256;
}

/* Sixteen rows' quants of one block as unsigned bytes; register i holds elements 4i .. 4i + 3. */
INLINE void load_quants(uint32_t type, const uint8_t *quants, __m512i w[QUANT_REGISTERS])
{
    const __m512i nibble = _mm512_set1_epi8(15), flip = _mm512_set1_epi8((char)0x80);
    if (type == SL_TYPE_Q8_0) {
#pragma GCC unroll 16
        for (int i = 0; i < 8; i++)
            w[i] = _mm512_xor_si512(_mm512_loadu_si512(quants + 64 * i), flip);
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        __m512i word = _mm512_loadu_si512(quants + 64 * i);
        w[i] = _mm512_and_si512(word, nibble);
        w[i + 4] = _mm512_and_si512(_mm512_srli_epi16(word, 4), nibble);
    }
}

INLINE __m512 load_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512i broadcast_word(const int8_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

/* Asks for block `b` of the tile that comes next. */
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

/* Adds block `b` to acc[0 .. rows): D2's inner step. */
INLINE void multiply_block(uint32_t type, int rows, const sli_act_tile *x, size_t row, const sli_weight_parts *parts, size_t b, __m512 *acc)
{
    __m512i w[QUANT_REGISTERS];
    load_quants(type, parts->quants + b * block_quant_bytes(type), w);
    __m512 scale = load_f16(parts->scales + b * 32);
    __m512 min = type == SL_TYPE_Q4_1 ? load_f16(parts->minima + b * 32) : _mm512_setzero_ps();

#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const int8_t *q = x->q[b][row + r];
        __m512i isum = type == SL_TYPE_Q4_1 ? _mm512_setzero_si512() : _mm512_set1_epi32(x->start[b][row + r]);
#pragma GCC unroll 16
        for (int i = 0; i < QUANT_REGISTERS; i++)
            isum = _mm512_dpbusd_epi32(isum, w[i], broadcast_word(q + 4 * i));
        __m512 d = _mm512_mul_ps(scale, _mm512_set1_ps(x->d[b][row + r]));
        acc[r] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(isum), acc[r]);
        if (type == SL_TYPE_Q4_1)
            acc[r] = _mm512_fmadd_ps(min, _mm512_set1_ps(x->dsum[b][row + r]), acc[r]);
    }
}

/* Rows [row, row + rows) of the tile. */
INLINE void multiply_rows(uint32_t type, int rows, const sli_quant_step *s, size_t row, const sli_weight_parts *ahead)
{
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        __m512 acc[MAX_ROWS];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            acc[r] = _mm512_setzero_ps();
        for (size_t b = begin; b < end; b++) {
            prefetch_block(type, ahead, b);
            multiply_block(type, rows, s->x, row, &s->now, b, acc);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            _mm512_store_ps(s->totals[row + r], _mm512_add_ps(_mm512_load_ps(s->totals[row + r]), acc[r]));
    }
}

/* All rows of the step. Only the first visit fetches ahead; the others ask for what is in the L1 cache already, which costs nothing. */
INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    if (s->rows == 16) {
        multiply_rows(type, 16, s, 0, &s->ahead);
        return;
    }
    const sli_weight_parts *ahead = &s->ahead;
    size_t row = 0;
    if (s->rows & 8) {
        multiply_rows(type, 8, s, row, ahead);
        row += 8, ahead = &s->now;
    }
    if (s->rows & 4) {
        multiply_rows(type, 4, s, row, ahead);
        row += 4, ahead = &s->now;
    }
    if (s->rows & 2) {
        multiply_rows(type, 2, s, row, ahead);
        row += 2, ahead = &s->now;
    }
    if (s->rows & 1)
        multiply_rows(type, 1, s, row, ahead);
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

/* One element of a float format for all sixteen rows. */
INLINE __m512 load_weight(uint32_t type, const uint8_t *weights, size_t k)
{
    if (type == SL_TYPE_F32)
        return _mm512_loadu_ps(weights + k * 64);
    if (type == SL_TYPE_F16)
        return load_f16(weights + k * 32);
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(weights + k * 32)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* D3 for `rows` rows: four chains each, chain j taking the elements with k mod 4 = j. */
INLINE void multiply_float_rows(uint32_t type, int rows, const sli_float_step *s, size_t row)
{
    __m512 acc[4][4];
    const float *x = s->x + row * s->x_stride;
    const size_t element_bytes = type == SL_TYPE_F32 ? 64 : 32;
#pragma GCC unroll 16
    for (int i = 0; i < 4 * rows; i++)
        acc[i / 4][i % 4] = _mm512_setzero_ps();
    size_t whole = s->count & ~(size_t)3;
    for (size_t k = 0; k < whole; k += 4) {
#pragma GCC unroll 16
        for (int j = 0; j < 4; j++) {
            __m512 w = load_weight(type, s->weights, k + j);
            _mm_prefetch((const char *)s->weights + element_bytes * (k + j + FLOAT_AHEAD), _MM_HINT_T0);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                acc[r][j] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[r * s->x_stride + k + j]), acc[r][j]);
        }
    }
#pragma GCC unroll 16
    for (size_t j = 0; j < 3; j++) /* up to three elements are left */
        if (whole + j < s->count) {
            __m512 w = load_weight(type, s->weights, whole + j);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                acc[r][j] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[r * s->x_stride + whole + j]), acc[r][j]);
        }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        __m512 sum = _mm512_add_ps(_mm512_add_ps(acc[r][0], acc[r][1]), _mm512_add_ps(acc[r][2], acc[r][3]));
        _mm512_store_ps(s->totals[row + r], _mm512_add_ps(_mm512_load_ps(s->totals[row + r]), sum));
    }
}

INLINE void multiply_float_segment(uint32_t type, const sli_float_step *s)
{
    size_t row = 0;
    for (; row + 4 <= s->rows; row += 4)
        multiply_float_rows(type, 4, s, row);
    for (; row < s->rows; row++)
        multiply_float_rows(type, 1, s, row);
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

void sli_matmul_avx512(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_Q4_0: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_0); break;
    case SL_TYPE_Q4_1: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_1); break;
    case SL_TYPE_Q8_0: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q8_0); break;
    case SL_TYPE_F32: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f32); break;
    case SL_TYPE_F16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f16); break;
    case SL_TYPE_BF16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_bf16); break;
    default: break; /* the engine has refused other types when it opened the file */
    }
}
#endif

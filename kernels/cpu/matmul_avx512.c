/* kernels/cpu/matmul_avx512.c: products with AVX-512 and VNNI; a vector lane is a row of the panel.
 *
 * A quant word of sixteen rows is one register of unsigned bytes, whatever the format: nibbles are split into their low and high halves,
 * bytes are flipped from signed to offset binary. It meets an activation's four bytes broadcast to all lanes in VPDPBUSD, which sums four
 * products per lane. The offset that made the weights unsigned is taken back by starting the sum at -bias * sum(x). Then one conversion, one
 * multiplication and one FMA per block are D2 as it is written, sixteen rows at a time.
 *
 * What limits it: VPDPBUSD, the multiplication and the FMA share two pipes, ten uses per block, and each broadcast is a load, of which two
 * go per cycle as well. So two panels are taken together, which halves the loads, and four rows of activations, which makes eight sums
 * that do not wait for one another: that many hide the latency of VPDPBUSD. The counts and the format are constants to the inlined functions below, so that
 * every sum is a register. */
#if defined(__x86_64__)
#include "kernels/cpu/matmul_lanes_avx512.h"

#define FLOAT_AHEAD 64 /* elements between the weight in use and the one that is prefetched */

INLINE size_t block_quant_bytes(uint32_t type)
{
    return sli_layout_of(type).words * (size_t)WORD;
}

/* Sums of nibbles, of five bits, or of the table's values plus 128, which words of nibbles stand for. */
INLINE void dot_nibbles(uint32_t type, int panels, int rows, const uint8_t *quants, size_t panel_bytes, const int8_t (*q)[SL_ACT_BLOCK],
                        __m512i isum[MAX_ROWS][MAX_PANELS])
{
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i low[MAX_PANELS], high[MAX_PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
            const uint8_t *words = quants + (size_t)p * panel_bytes;
            __m512i word = load_word(words, (size_t)(i + is_five(type)));
            low[p] = _mm512_and_si512(word, nibble);
            high[p] = _mm512_and_si512(_mm512_srli_epi16(word, 4), nibble);
            if (is_five(type)) {
                low[p] = add_fifth_bits(low[p], load_word(words, 0), i);
                high[p] = add_fifth_bits(high[p], load_word(words, 0), 4 + i);
            }
            if (type == SL_TYPE_IQ4_NL) {
                low[p] = look_up_values(low[p]);
                high[p] = look_up_values(high[p]);
            }
        }
        dot_word(panels, rows, low, q, i, isum);
        dot_word(panels, rows, high, q, 4 + i, isum);
    }
}

INLINE void dot_bytes(int panels, int rows, const uint8_t *quants, size_t panel_bytes, const int8_t (*q)[SL_ACT_BLOCK],
                      __m512i isum[MAX_ROWS][MAX_PANELS])
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m512i w[MAX_PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            w[p] = _mm512_xor_si512(_mm512_loadu_si512(quants + 64 * i + p * panel_bytes), flip);
        dot_word(panels, rows, w, q, i, isum);
    }
}

/* acc += the integer sums of block `b` times its scales, plus its minima: the fp32 part of D2. */
INLINE void add_scaled(uint32_t type, int panels, int rows, const sli_quant_step *s, size_t row, size_t b,
                       __m512i isum[MAX_ROWS][MAX_PANELS], __m512 acc[MAX_ROWS][MAX_PANELS])
{
#pragma GCC unroll 2
    for (int p = 0; p < panels; p++) {
        __m512 scale = load_f16(s->now.scales + b * 32 + p * s->panel_bytes);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m512 d = _mm512_mul_ps(scale, _mm512_set1_ps(s->x->d[row + r][b]));
            acc[r][p] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(isum[r][p]), acc[r][p]);
        }
        if (!sli_layout_of(type).has_min)
            continue;
        __m512 min = load_f16(s->now.minima + b * 32 + p * s->panel_bytes);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            acc[r][p] = _mm512_fmadd_ps(min, _mm512_set1_ps(s->x->dsum[row + r][b]), acc[r][p]);
    }
}

INLINE void multiply_block(uint32_t type, int panels, int rows, const sli_quant_step *s, size_t row, size_t b,
                           __m512 acc[MAX_ROWS][MAX_PANELS])
{
    const uint8_t *quants = s->now.quants + b * block_quant_bytes(type);
    const int8_t(*q)[SL_ACT_BLOCK] = &s->x->q[b][row];
    __m512i isum[MAX_ROWS][MAX_PANELS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        isum[r][0] = isum[r][1] = sli_layout_of(type).has_min ? _mm512_setzero_si512() : _mm512_set1_epi32(s->x->start[row + r][b]);
    if (type == SL_TYPE_Q8_0)
        dot_bytes(panels, rows, quants, s->panel_bytes, q, isum);
    else
        dot_nibbles(type, panels, rows, quants, s->panel_bytes, q, isum);
    add_scaled(type, panels, rows, s, row, b, isum, acc);
}

/* Rows [row, row + rows) of the tile: one segment after the other. */
INLINE void multiply_rows(uint32_t type, int panels, int rows, const sli_quant_step *s, size_t row, prefetch *next)
{
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        __m512 acc[MAX_ROWS][MAX_PANELS];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            acc[r][0] = acc[r][1] = _mm512_setzero_ps();
        for (size_t b = begin; b < end; b++) {
            prefetch_block(type, panels, next, s->panel_bytes);
            multiply_block(type, panels, rows, s, row, b, acc);
        }
        add_to_totals(panels, rows, s, row, acc);
    }
}

INLINE void multiply_panels(uint32_t type, int panels, const sli_quant_step *s)
{
    prefetch next = begin_prefetch(s);
    size_t row = 0;
    for (; row + 4 <= s->rows; row += 4)
        multiply_rows(type, panels, 4, s, row, &next);
    if (s->rows & 2) {
        multiply_rows(type, panels, 2, s, row, &next);
        row += 2;
    }
    if (s->rows & 1)
        multiply_rows(type, panels, 1, s, row, &next);
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    if (s->panels == 2)
        multiply_panels(type, 2, s);
    else
        multiply_panels(type, 1, s);
}

static void step_q4_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_0, s);
}
static void step_q4_1(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_1, s);
}
static void step_q5_0(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_0, s);
}
static void step_q5_1(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_1, s);
}
static void step_iq4_nl(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_IQ4_NL, s);
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

sli_quant_step_fn sli_step_avx512(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return step_q4_0;
    case SL_TYPE_Q4_1: return step_q4_1;
    case SL_TYPE_Q5_0: return step_q5_0;
    case SL_TYPE_Q5_1: return step_q5_1;
    case SL_TYPE_IQ4_NL: return step_iq4_nl;
    case SL_TYPE_Q8_0: return step_q8_0;
    default: return NULL;
    }
}

void sli_matmul_avx512(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_F32: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f32); break;
    case SL_TYPE_F16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_f16); break;
    case SL_TYPE_BF16: sli_walk_float(type, panels, out_rows, x, out, out_stride, step_bf16); break;
    default:
        if (sli_step_avx512(type) != NULL)
            sli_walk_quantized(type, panels, out_rows, x, out, out_stride, sli_step_avx512(type));
        else
            sli_matmul_super_avx512(type, panels, out_rows, x, out, out_stride);
        break;
    }
}
#endif

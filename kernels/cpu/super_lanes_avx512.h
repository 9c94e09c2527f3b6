/* kernels/cpu/super_lanes_avx512.h: a super-block (of the K-quants or IQ4_XS) of sixteen or thirty-two rows times activations, with VNNI; a vector lane is
 * a row.
 *
 * A super-block's scales and minima are spread over a few words bit by bit. They are unpacked once for each pair of panels and tile and then lie in L1 as
 * floats. That is exact: D2's integer sum of a block of 32 is below 2^24, so are the sub-blocks' parts of it, and fp32 multiplies and adds integers
 * of that size without rounding. So a sub-block's sum is converted, and scaled by a multiplication or an FMA, instead of being multiplied as an integer.
 *
 * Of a block VPDPBUSD takes eight uses of the two pipes that multiply, scaling one more for each sub-block, D2's FMA one, and each minimum one: 10 to 13
 * where Q4_0 has 10 and Q4_1 has 11. Unpacking words is done on the other pipes beside them, once for four rows of activations.
 *
 * Words of a super-block, in the file's order, are drawn in matmul_super_avx2.c.
 *
 * Threads: pure functions. */
#ifndef SL_KERNELS_CPU_SUPER_LANES_AVX512_H
#define SL_KERNELS_CPU_SUPER_LANES_AVX512_H

#include "kernels/cpu/matmul_lanes_avx512.h"

#define SUBS_MAX 16

/* Integer scales and minima of a pair of panels' super-block, as floats. */
typedef struct unpacked {
    __m512 scale[SUBS_MAX][MAX_PANELS];
    __m512 low[SUBS_MAX][MAX_PANELS];
    __m512 d[MAX_PANELS], m[MAX_PANELS];
} unpacked;

/* ---- formats, as constants to the inlined functions ---- */

INLINE size_t words_of(uint32_t type)
{
    return sli_layout_of(type).words;
}

/* Sub-blocks in a block of 32. */
INLINE int subs_of(uint32_t type)
{
    return SL_ACT_BLOCK / sli_layout_of(type).sub;
}

INLINE bool has_minima(uint32_t type)
{
    return sli_layout_of(type).has_min;
}

/* Lines of 32 elements whose words are unpacked with constant shifts; the loop over groups of them stays a loop. */
INLINE int group_lines(uint32_t type)
{
    return type == SL_TYPE_IQ4_XS ? 1 : subs_of(type) == 2 ? 4 : 2;
}

/* ---- quants ---- */

INLINE __m512i shifted(__m512i word, int right)
{
    return right > 0 ? _mm512_srli_epi16(word, (unsigned)right) : right < 0 ? _mm512_slli_epi16(word, (unsigned)-right) : word;
}

INLINE __m512i masked(__m512i word, int mask)
{
    return _mm512_and_si512(word, _mm512_set1_epi8((char)mask));
}

/* Every byte's bit `line` at bit `to`; the others are anything. */
INLINE __m512i bit_of_line(__m512i bits, size_t line, int to)
{
    return _mm512_rorv_epi32(bits, _mm512_set1_epi32((int)line - to));
}

/* Word `w` of line `j` of group `n`: four weights of sixteen rows. */
INLINE __m512i unpack_word(uint32_t type, const uint8_t *words, size_t n, int j, int w)
{
    const size_t at = (size_t)w, line = n * (size_t)group_lines(type) + (size_t)j;
    switch (type) {
    case SL_TYPE_Q2_K: return masked(shifted(load_word(words, 4 + 8 * n + at), 2 * j), 3);
    case SL_TYPE_Q3_K: {
        __m512i lower = shifted(load_word(words, 8 + 8 * n + at), 2 * j);
        return masked(select_bits(3, lower, bit_of_line(load_word(words, at), line, 2)), 7);
    }
    case SL_TYPE_Q4_K: return masked(shifted(load_word(words, 3 + 8 * n + at), 4 * j), 15);
    case SL_TYPE_Q5_K: {
        __m512i lower = shifted(load_word(words, 11 + 8 * n + at), 4 * j);
        return masked(select_bits(15, lower, bit_of_line(load_word(words, 3 + at), line, 4)), 31);
    }
    case SL_TYPE_Q6_K: {
        __m512i lower = shifted(load_word(words, 16 * n + 8 * (size_t)(j & 1) + at), j / 2 * 4);
        return masked(select_bits(15, lower, shifted(load_word(words, 32 + 8 * n + at), 2 * j - 4)), 63);
    }
    default: /* IQ4_XS: four words, the second half of the line above the first */
        return look_up_values(masked(shifted(load_word(words, 1 + 4 * n + at % 4), w / 4 * 4), 15));
    }
}

/* ---- scales and minima ---- */

INLINE __m512 byte_as_float(__m512i bytes, unsigned i)
{
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(bytes, 8 * i), _mm512_set1_epi32(255)));
}

INLINE __m512 signed_byte_as_float(__m512i bytes, unsigned i)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bytes, 24 - 8 * i), 24));
}

/* Four sub-blocks' unsigned scales and minima, from `s` on. */
INLINE void keep_four(unpacked *u, size_t p, size_t s, __m512i scales, __m512i minima)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        u->scale[s + i][p] = byte_as_float(scales, i);
        u->low[s + i][p] = byte_as_float(minima, i);
    }
}

INLINE void keep_four_signed(unpacked *u, size_t p, size_t s, __m512i scales)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        u->scale[s + i][p] = signed_byte_as_float(scales, i);
}

INLINE void unpack_q2_k(const uint8_t *words, size_t p, unpacked *u)
{
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; w++) {
        __m512i word = load_word(words, w);
        keep_four(u, p, 4 * w, masked(word, 15), masked(shifted(word, 4), 15));
    }
}

INLINE void unpack_q3_k(const uint8_t *words, size_t p, unpacked *u)
{
    const __m512i zero_point = _mm512_set1_epi8(32);
    __m512i lower[2] = {load_word(words, 24), load_word(words, 25)}, upper = load_word(words, 26);
#pragma GCC unroll 4
    for (int w = 0; w < 4; w++) {
        __m512i scales = masked(select_bits(15, shifted(lower[w % 2], w / 2 * 4), shifted(upper, 2 * w - 4)), 63);
        keep_four_signed(u, p, 4 * (size_t)w, _mm512_sub_epi8(scales, zero_point));
    }
}

INLINE void unpack_six_bits(const uint8_t *words, size_t p, unpacked *u)
{
    __m512i scales = load_word(words, 0), minima = load_word(words, 1), last = load_word(words, 2);
    keep_four(u, p, 0, masked(scales, 63), masked(minima, 63));
    keep_four(u, p, 4, masked(select_bits(15, last, shifted(scales, 2)), 63),
              masked(select_bits(15, shifted(last, 4), shifted(minima, 2)), 63));
}

INLINE void unpack_q6_k(const uint8_t *words, size_t p, unpacked *u)
{
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; w++)
        keep_four_signed(u, p, 4 * w, load_word(words, 48 + w));
}

/* The lower four bits are the nibbles of a word, the upper two the bit pairs of the second 16-bit number. */
INLINE void unpack_iq4_xs(const uint8_t *words, const uint8_t *halves, size_t p, unpacked *u)
{
    __m512i lower = load_word(words, 0), upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)halves));
#pragma GCC unroll 8
    for (unsigned b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        __m512i low = _mm512_and_si512(_mm512_srli_epi32(lower, 4 * b), _mm512_set1_epi32(15));
        __m512i high = _mm512_and_si512(_mm512_slli_epi32(_mm512_srli_epi32(upper, 2 * b), 4), _mm512_set1_epi32(48));
        u->scale[b][p] = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32)));
    }
}

/* Those of super-block `super` of the tile. */
INLINE void unpack_scales(uint32_t type, int panels, const sli_quant_step *s, size_t super, unpacked *u)
{
#pragma GCC unroll 2
    for (size_t p = 0; p < (size_t)panels; p++) {
        const uint8_t *words = s->now.quants + p * s->panel_bytes + super * words_of(type) * WORD;
        const size_t halves = p * s->panel_bytes + super * HALVES;
        switch (type) {
        case SL_TYPE_Q2_K: unpack_q2_k(words, p, u); break;
        case SL_TYPE_Q3_K: unpack_q3_k(words, p, u); break;
        case SL_TYPE_Q6_K: unpack_q6_k(words, p, u); break;
        case SL_TYPE_IQ4_XS: unpack_iq4_xs(words, s->now.minima + halves, p, u); break;
        default: unpack_six_bits(words, p, u); break;
        }
        u->d[p] = load_f16(s->now.scales + halves);
        if (has_minima(type))
            u->m[p] = load_f16(s->now.minima + halves);
    }
}

/* ---- activations ---- */

/* Eight blocks at a time: VPDPBUSD sums words, and a transposition that adds makes of four registers of them one that has the sixteen halves. */
INLINE void lay_out_halves(uint32_t type, const int8_t *q, const float *d, size_t r, size_t blocks, sli_act_tile *tile)
{
    const __m512i ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
    const __m512i in_order_of_halves = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (size_t b = 0; b < blocks; b += SLI_SEGMENT_BLOCKS) {
        __m512i s[4];
        for (size_t i = 0; i < 4; i++)
            s[i] = _mm512_dpbusd_epi32(zero, ones, load_word((const uint8_t *)q + b * SL_ACT_BLOCK, i));
        __m512i t01 = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]), _mm512_unpackhi_epi32(s[0], s[1]));
        __m512i t23 = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]), _mm512_unpackhi_epi32(s[2], s[3]));
        __m512i sums = _mm512_add_epi32(_mm512_unpacklo_epi64(t01, t23), _mm512_unpackhi_epi64(t01, t23));
        sums = _mm512_permutexvar_epi32(in_order_of_halves, sums);
        __m512 dx = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(d + b)));
        if (type == SL_TYPE_Q2_K)
            _mm512_storeu_ps(tile->half_dsum[r][b], _mm512_mul_ps(dx, _mm512_cvtepi32_ps(sums)));
        else
            _mm512_storeu_si512(tile->half_bias[r][b], _mm512_mullo_epi32(sums, _mm512_set1_epi32(type == SL_TYPE_Q6_K ? -32 : -4)));
    }
}

/* ---- products ---- */

/* What takes back that weights were made unsigned, for sub-block `sub` of block `b`. */
INLINE int32_t start_of(uint32_t type, const sli_act_tile *x, size_t row, size_t b, size_t sub)
{
    if (has_minima(type))
        return 0;
    return type == SL_TYPE_IQ4_XS ? x->start[row][b] : x->half_bias[row][b][sub];
}

/* D2's integer sums of line `j` of group `n`, which is block `b` of the tile, as floats. */
INLINE void sum_line(uint32_t type, int panels, int rows, const uint8_t *words, size_t panel_bytes, const unpacked *u, size_t n, int j,
                     const sli_act_tile *x, size_t row, size_t b, __m512 sum[MAX_ROWS][MAX_PANELS])
{
    const int subs = subs_of(type), words_of_sub = 8 / subs;
    __asm__("" : "+r"(words)); /* else gcc keeps words for the line that shares them, in registers that it does not have */
    const __m512(*scale)[MAX_PANELS] = u->scale + (n * (size_t)group_lines(type) + (size_t)j) * (size_t)subs;
#pragma GCC unroll 2
    for (int sub = 0; sub < subs; sub++) {
        __m512i isum[MAX_ROWS][MAX_PANELS];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            isum[r][0] = isum[r][1] = _mm512_set1_epi32(start_of(type, x, row + (size_t)r, b, (size_t)sub));
#pragma GCC unroll 8
        for (int w = sub * words_of_sub; w < (sub + 1) * words_of_sub; w++) {
            __m512i weights[MAX_PANELS];
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++)
                weights[p] = unpack_word(type, words + (size_t)p * panel_bytes, n, j, w);
            dot_word(panels, rows, weights, &x->q[b][row], w, isum);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++) {
                __m512 part = _mm512_cvtepi32_ps(isum[r][p]);
                sum[r][p] = sub == 0 ? _mm512_mul_ps(scale[0][p], part) : _mm512_fmadd_ps(scale[1][p], part, sum[r][p]);
            }
    }
}

/* The minima's sum: low = fma(minimum, dx * sum, low) for each sub-block; `first` is the super-block's first block in the tile. */
INLINE void sum_minima(uint32_t type, int panels, int rows, const unpacked *u, const sli_act_tile *x, size_t row, size_t first,
                       __m512 low[MAX_ROWS][MAX_PANELS])
{
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        low[r][0] = low[r][1] = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (size_t s = 0; s < (size_t)(SLI_SEGMENT_BLOCKS * subs_of(type)); s++)
#pragma GCC unroll 4
        for (size_t r = 0; r < (size_t)rows; r++) {
            const float *dsum = subs_of(type) == 1 ? &x->dsum[row + r][first + s] : &x->half_dsum[row + r][first + s / 2][s % 2];
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++)
                low[r][p] = _mm512_fmadd_ps(u->low[s][p], _mm512_set1_ps(*dsum), low[r][p]);
        }
}

/* A segment: rows [row, row + rows) times super-block `super` of the tile. */
INLINE void multiply_segment(uint32_t type, int panels, int rows, const sli_quant_step *s, const unpacked *u, size_t row, size_t super,
                             prefetch *next, __m512 acc[MAX_ROWS][MAX_PANELS])
{
    const uint8_t *words = s->now.quants + super * words_of(type) * WORD;
    const size_t first = super * SLI_SEGMENT_BLOCKS;
    const int lines = group_lines(type);
    __m512 low[MAX_ROWS][MAX_PANELS], sum[MAX_ROWS][MAX_PANELS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (size_t n = 0; n < (size_t)(SLI_SEGMENT_BLOCKS / lines); n++)
#pragma GCC unroll 4
        for (int j = 0; j < lines; j++) {
            const size_t b = first + n * (size_t)lines + (size_t)j;
            prefetch_block(type, panels, next, s->panel_bytes);
            sum_line(type, panels, rows, words, s->panel_bytes, u, n, j, s->x, row, b, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int p = 0; p < panels; p++)
                    acc[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(s->x->d[row + (size_t)r][b]), sum[r][p], acc[r][p]);
        }
    if (has_minima(type))
        sum_minima(type, panels, rows, u, s->x, row, first, low);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
            acc[r][p] = _mm512_mul_ps(u->d[p], acc[r][p]);
            if (has_minima(type))
                acc[r][p] = _mm512_fnmadd_ps(u->m[p], low[r][p], acc[r][p]);
        }
}

#endif

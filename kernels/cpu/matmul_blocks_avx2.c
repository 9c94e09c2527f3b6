/* kernels/cpu/matmul_blocks_avx2.c: products with Q5_0, Q5_1 and IQ4_NL, blocks of 32; a vector lane is a row, a register half a panel.
 *
 * Q5's fifth bits are the bits of a block's first word: bit k belongs to element k. A shuffle puts the byte with a word's four bits into
 * all bytes of the lane, and a comparison spreads them. See matmul_lanes_avx2.h for how many words may be summed in 16 bits. */
#if defined(__x86_64__)
#include "kernels/cpu/matmul_lanes_avx2.h"

INLINE size_t words_of(uint32_t type)
{
    return sli_layout_of(type).words;
}

/* Bits 4w .. 4w + 3 of every lane as sixteens in its four bytes. */
INLINE __m256i fifth_bits(__m256i bits, int w)
{
    const char byte = (char)(w / 2);
    const __m128i of_lanes = _mm_setr_epi8(byte, byte, byte, byte, (char)(4 + byte), (char)(4 + byte), (char)(4 + byte), (char)(4 + byte),
                                           (char)(8 + byte), (char)(8 + byte), (char)(8 + byte), (char)(8 + byte), (char)(12 + byte),
                                           (char)(12 + byte), (char)(12 + byte), (char)(12 + byte));
    const __m256i select = _mm256_set1_epi32((int)(w % 2 ? 0x80402010u : 0x08040201u));
    __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(bits, _mm256_broadcastsi128_si256(of_lanes)), select);
    return _mm256_and_si256(_mm256_cmpeq_epi8(spread, select), _mm256_set1_epi8(16));
}

/* Four weights of eight rows: word `w` of a block's eight. */
INLINE __m256i unpack_word(uint32_t type, const uint8_t *words, int w)
{
    const bool five = type != SL_TYPE_IQ4_NL;
    __m256i word = load_word(words, (size_t)(w % 4 + five));
    __m256i nibbles = _mm256_and_si256(w < 4 ? word : _mm256_srli_epi16(word, 4), _mm256_set1_epi8(15));
    if (five)
        return _mm256_or_si256(nibbles, fifth_bits(load_word(words, 0), w));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)sli_iq4_values)), nibbles);
}

/* Adds block `b` of half a panel to acc[0 .. rows): D2's inner step. */
INLINE void multiply_block(uint32_t type, int rows, const sli_act_tile *x, size_t row, const sli_weight_parts *parts, size_t b, size_t half,
                           __m256 *acc)
{
    const int chunk = type == SL_TYPE_IQ4_NL ? 1 : 4;
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *words = parts->quants + b * words_of(type) * WORD + half * (WORD / 2);
    size_t at = (b * SL_PANEL_ROWS + half * HALF) * 2;
    __m256i isum[MAX_ROWS], pairs[MAX_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        isum[r] = type == SL_TYPE_Q5_0 ? _mm256_set1_epi32(x->start[row + r][b]) : _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int w = 0; w < 8; w++) {
        __m256i weights = unpack_word(type, words, w);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256i product = multiply_word(weights, type == SL_TYPE_IQ4_NL, x->q[b][row + r] + 4 * w);
            pairs[r] = w % chunk == 0 ? product : in_order(_mm256_add_epi16(pairs[r], product));
            if (w % chunk == chunk - 1)
                isum[r] = in_order(_mm256_add_epi32(isum[r], _mm256_madd_epi16(pairs[r], ones)));
        }
    }
    __m256 scale = load_f16(parts->scales + at), min = load_f16(parts->minima + at);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m256 d = _mm256_mul_ps(scale, _mm256_broadcast_ss(&x->d[row + r][b]));
        acc[r] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(isum[r]), acc[r]);
        if (type == SL_TYPE_Q5_1)
            acc[r] = _mm256_fmadd_ps(min, _mm256_broadcast_ss(&x->dsum[row + r][b]), acc[r]);
    }
}

INLINE void prefetch_block(uint32_t type, const sli_weight_parts *ahead, size_t b)
{
    prefetch_lines(ahead->quants + b * words_of(type) * WORD, words_of(type));
    prefetch_lines(ahead->scales + b * (WORD / 2), 1);
    if (type == SL_TYPE_Q5_1)
        prefetch_lines(ahead->minima + b * (WORD / 2), 1);
}

/* Rows [row, row + rows) of one panel of the tile. */
INLINE void multiply_rows(uint32_t type, int rows, const sli_quant_step *s, size_t panel, size_t row)
{
    sli_weight_parts now = parts_of_panel(&s->now, panel * s->panel_bytes), ahead = parts_of_panel(&s->ahead, panel * s->panel_bytes);
    for (size_t begin = 0; begin < s->blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < s->blocks ? begin + SLI_SEGMENT_BLOCKS : s->blocks;
        for (size_t half = 0; half < 2; half++) {
            __m256 acc[MAX_ROWS];
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                acc[r] = _mm256_setzero_ps();
            for (size_t b = begin; b < end; b++) {
                if (half == 0 && row == 0)
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

void sli_matmul_blocks_avx2(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_Q5_0: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q5_0); break;
    case SL_TYPE_Q5_1: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q5_1); break;
    case SL_TYPE_IQ4_NL: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_iq4_nl); break;
    default: break; /* the engine has refused other types when it opened the file */
    }
}
#endif

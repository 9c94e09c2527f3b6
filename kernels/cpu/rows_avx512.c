/* kernels/cpu/rows_avx512.c: one row of activations times rows that lie scattered, as in the file, with VNNI; a vector lane is a row.
 *
 * Sixteen rows are laid out word by word (rows_lanes_avx512.h), scales and all. So no scale is ever gathered by itself: it is one half of a word that had
 * to be loaded anyway.
 *
 * What costs is that blocks of 18 and of 34 bytes begin in the middle of a word every second time. Their words then meet activations that
 * lie two bytes further on; the two halves at the ends of the block are shifted so that what is no weight becomes zero.
 *     nibbles: VPDPBUSD takes the lower ones as they are, and the upper ones sixteen times as large, which one shift of their sum takes back
 *     bytes and table values: made unsigned, which the sum of the activations takes back, as in matmul_avx512.c
 *
 * While sixteen rows are multiplied the next sixteen are asked for, as nobody else could know where they lie. They are asked for in the L2 cache,
 * which was measured to be faster than asking for them in the L1 cache (bench/SPEED.md). */
#if defined(__x86_64__)
#include "kernels/cpu/rows_lanes_avx512.h"

#include <string.h>

INLINE size_t block_bytes_of(uint32_t type)
{
    return type == SL_TYPE_Q8_0 ? 34 : type == SL_TYPE_Q4_1 ? 20 : 18;
}

/* ---- one block of all rows ---- */

/* Four weights of each row, raw, that begin `i` words behind the block's first; the others of a word that a block's border cuts are zero.
 * Gives what the first of them is multiplied by. */
INLINE const int8_t *take_word(const uint32_t (*word)[LANES], bool cut, int i, int words, const int8_t *x, __m512i *out)
{
    *out = _mm512_load_si512(word[i]);
    if (!cut)
        return x + 4 * i;
    if (i == 0) {
        *out = _mm512_srli_epi32(*out, 16);
        return x;
    }
    if (i == words) {
        *out = _mm512_slli_epi32(*out, 16);
        return x + 4 * i - 4;
    }
    return x + 4 * i - 2;
}

/* Where there is a weight in a word. */
INLINE uint32_t present(bool cut, int i, int words)
{
    return cut && i == 0 ? 0x0000ffffu : cut && i == words ? 0xffff0000u : 0xffffffffu;
}

INLINE __m512i bytes_where(uint32_t bytes, uint32_t mask)
{
    return _mm512_set1_epi32((int)(bytes & mask));
}

/* The sums of (nibble - bias) * x, or of nibble * x. */
INLINE __m512i dot_nibbles(const uint32_t (*word)[LANES], bool cut, const int8_t *x)
{
    __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512(), w;
#pragma GCC unroll 5
    for (int i = 0; i < 4 + cut; i++) {
        const int8_t *at = take_word(word, cut, i, 4, x, &w);
        low = _mm512_dpbusd_epi32(low, _mm512_and_si512(w, _mm512_set1_epi8(15)), broadcast_word(at));
        high = _mm512_dpbusd_epi32(high, _mm512_and_si512(w, _mm512_set1_epi8((char)0xf0)), broadcast_word(at + 16));
    }
    return _mm512_add_epi32(low, _mm512_srai_epi32(high, 4));
}

INLINE __m512i dot_bytes(const uint32_t (*word)[LANES], bool cut, const int8_t *x)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()}, w;
#pragma GCC unroll 9
    for (int i = 0; i < 8 + cut; i++) {
        const int8_t *at = take_word(word, cut, i, 8, x, &w);
        w = _mm512_xor_si512(w, bytes_where(0x80808080u, present(cut, i, 8)));
        sum[i % 2] = _mm512_dpbusd_epi32(sum[i % 2], w, broadcast_word(at));
    }
    return _mm512_add_epi32(sum[0], sum[1]);
}

/* Values of the table plus 128. */
INLINE __m512i dot_values(const uint32_t (*word)[LANES], bool cut, const int8_t *x)
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)sli_iq4_values));
    const __m512i table = _mm512_xor_si512(values, _mm512_set1_epi8((char)0x80)), nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512(), w;
#pragma GCC unroll 5
    for (int i = 0; i < 4 + cut; i++) {
        const int8_t *at = take_word(word, cut, i, 4, x, &w);
        const __m512i there = bytes_where(0xffffffffu, present(cut, i, 4));
        __m512i first = _mm512_shuffle_epi8(table, _mm512_and_si512(w, nibble));
        __m512i second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble));
        low = _mm512_dpbusd_epi32(low, _mm512_and_si512(first, there), broadcast_word(at));
        high = _mm512_dpbusd_epi32(high, _mm512_and_si512(second, there), broadcast_word(at + 16));
    }
    return _mm512_add_epi32(low, high);
}

/* The lower or the upper halves of a word, fp16. */
INLINE __m512 half_of(const uint32_t word[LANES], bool upper)
{
    __m512i w = _mm512_load_si512(word);
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(upper ? _mm512_srli_epi32(w, 16) : w));
}

/* D2's inner step for a block that begins in a lower half, or in an upper one. Either its scale or its quants begin with a word. */
INLINE __m512 add_block(uint32_t type, const uint32_t (*word)[LANES], bool upper, const sl_acts *x, size_t b, __m512 acc)
{
    const bool cut = type != SL_TYPE_Q4_1 && !upper;
    const int8_t *q = x->q + b * SL_ACT_BLOCK;
    const uint32_t(*quants)[LANES] = word + (cut ? 0 : 1);
    const int bias = type == SL_TYPE_Q4_0 ? 8 : type == SL_TYPE_Q4_1 ? 0 : 128;
    __m512i isum = type == SL_TYPE_Q8_0     ? dot_bytes(quants, cut, q)
                   : type == SL_TYPE_IQ4_NL ? dot_values(quants, cut, q)
                                            : dot_nibbles(quants, cut, q);
    if (bias)
        isum = _mm512_sub_epi32(isum, _mm512_set1_epi32(bias * x->sum[b]));
    __m512 d = _mm512_mul_ps(half_of(word[0], upper), _mm512_set1_ps(x->d[b]));
    acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(isum), acc);
    if (type == SL_TYPE_Q4_1)
        acc = _mm512_fmadd_ps(half_of(word[0], true), _mm512_set1_ps(x->d[b] * (float)x->sum[b]), acc);
    return acc;
}

/* ---- whole rows ---- */

INLINE __m512 multiply_segment(uint32_t type, const segment *s, const sl_acts *x, size_t begin, size_t end)
{
    const size_t words = block_bytes_of(type) / 4; /* of 18 and 34 bytes: and a half */
    const uint32_t(*word)[LANES] = s->word;
    __m512 acc = _mm512_setzero_ps();
    for (size_t b = begin; b < end; b += 2) {
        acc = add_block(type, word, false, x, b, acc);
        word += words;
        if (b + 1 < end)
            acc = add_block(type, word, type != SL_TYPE_Q4_1, x, b + 1, acc);
        word += words + (type != SL_TYPE_Q4_1);
    }
    return acc;
}

/* `ahead` are the rows that come next, or where none do, the same again. */
INLINE void multiply(uint32_t type, lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES])
{
    const size_t blocks = x->cols / SL_ACT_BLOCK, block_bytes = block_bytes_of(type);
    __m512 total = _mm512_setzero_ps();
    segment s;
    for (size_t begin = 0; begin < blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < blocks ? begin + SLI_SEGMENT_BLOCKS : blocks;
        if (ahead != rows)
            prefetch_rows(ahead, begin * block_bytes, end * block_bytes);
        lay_out(rows, begin * block_bytes, end * block_bytes, &s);
        total = _mm512_add_ps(total, multiply_segment(type, &s, x, begin, end));
    }
    _mm512_storeu_ps(out, total);
}

typedef void (*multiply_fn)(lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES]);

static void q4_0(lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES])
{
    multiply(SL_TYPE_Q4_0, rows, ahead, x, out);
}
static void q4_1(lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES])
{
    multiply(SL_TYPE_Q4_1, rows, ahead, x, out);
}
static void q8_0(lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES])
{
    multiply(SL_TYPE_Q8_0, rows, ahead, x, out);
}
static void iq4_nl(lane_rows rows, lane_rows ahead, const sl_acts *x, float out[LANES])
{
    multiply(SL_TYPE_IQ4_NL, rows, ahead, x, out);
}

static multiply_fn multiply_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return q4_0;
    case SL_TYPE_Q4_1: return q4_1;
    case SL_TYPE_Q8_0: return q8_0;
    case SL_TYPE_IQ4_NL: return iq4_nl;
    default: return NULL;
    }
}

void sli_dot_rows_avx512(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out)
{
    multiply_fn multiply_sixteen = multiply_of(type);
    if (multiply_sixteen == NULL) {
        sli_dot_rows_super_avx512(type, rows, count, x, out);
        return;
    }
    /* The last ones are repeated to make sixteen. */
    const uint8_t *last[LANES];
    float last_out[LANES];
    uint32_t whole = count / LANES * LANES, rest = count - whole;
    for (uint32_t j = 0; j < LANES && rest; j++)
        last[j] = rows[whole + (j < rest ? j : rest - 1)];
    for (uint32_t i = 0; i < whole; i += LANES)
        multiply_sixteen(rows + i, i + LANES < whole ? rows + i + LANES : rest ? last : rows + i, x, out + i);
    if (rest == 0)
        return;
    multiply_sixteen(last, last, x, last_out);
    memcpy(out + whole, last_out, rest * sizeof *out);
}
#endif

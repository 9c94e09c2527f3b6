/* kernels/cuda/formats.h: the quantised formats, as kernels see them.
 *
 * A format is data (where words and 16-bit numbers lie in a block, as kernels/internal.h has it for the processor) and a few lines that make integers of
 * words. Integers come in lines: 32 elements that meet one block of activations, eight lines to a segment. Of a line pair k is two words of four bytes:
 * elements 4k..4k+3 (low) and 16 + 4k.. (high). A thread that works on whole lines has N = 4 pairs; a lane of a matrix product has the N = 1 that it feeds
 * in. Where the pairs come from is the source's business: source.word(block, w) and source.half(block, h), with the blocks counted from the segment's
 * first; so a panel, a row as in the file and a row in shared memory are read by the same lines.
 *
 * sli_lines<TYPE, N>: open() loads what the whole segment shares, fetch(j) what line j needs and did not share with the line before it (lines are visited
 * in order), pair(j, k) and terms(j) give the numbers. Every index into an array is constant where loops over j are unrolled by two. */
#ifndef SL_KERNELS_CUDA_FORMATS_H
#define SL_KERNELS_CUDA_FORMATS_H

#include "kernels/cuda/device_code.h"

#ifdef SL_EMULATED
#define SLI_METHOD inline
#else
#define SLI_METHOD __device__ __forceinline__
#endif

#define SLI_SEGMENT_LINES 8   /* D2 */
#define SLI_SEGMENT_COLS  256 /* D2, D3 */
#define SLI_LINE_COLS     32

/* ---- data ---- */

struct sli_form {
    uint16_t elements; /* of a block: 32, or 256; 1: floats */
    uint8_t bytes;     /* of a block */
    uint8_t words, words_offset;
    uint8_t halves, half_offset[2];
    bool has_min;
    uint8_t sub;    /* elements that share an integer scale in a block of 256 */
    uint8_t offset; /* what is still to be taken from each integer: a line's sum of products less offset times its sum of activations */
    uint8_t shift;  /* integers are 2^shift times what they stand for: so much is cheaper, and exact */
};

__host__ __device__ constexpr sli_form sli_form_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_F32: return {1, 4, 0, 0, 0, {0, 0}, false, 0, 0, 0};
    case SL_TYPE_F16:
    case SL_TYPE_BF16: return {1, 2, 0, 0, 0, {0, 0}, false, 0, 0, 0};
    case SL_TYPE_Q4_0: return {32, 18, 4, 2, 1, {0, 0}, false, 0, 8, 0};
    case SL_TYPE_Q4_1: return {32, 20, 4, 4, 2, {0, 2}, true, 0, 0, 0};
    case SL_TYPE_Q5_0: return {32, 22, 5, 2, 1, {0, 0}, false, 0, 16, 0};
    case SL_TYPE_Q5_1: return {32, 24, 5, 4, 2, {0, 2}, true, 0, 0, 0};
    case SL_TYPE_Q8_0: return {32, 34, 8, 2, 1, {0, 0}, false, 0, 0, 0};
    case SL_TYPE_IQ4_NL: return {32, 18, 4, 2, 1, {0, 0}, false, 0, 0, 0};
    case SL_TYPE_Q2_K: return {256, 84, 20, 0, 2, {80, 82}, true, 16, 0, 0};
    case SL_TYPE_Q3_K: return {256, 110, 27, 0, 1, {108, 0}, false, 16, 0, 5};
    case SL_TYPE_Q4_K: return {256, 144, 35, 4, 2, {0, 2}, true, 32, 0, 0};
    case SL_TYPE_Q5_K: return {256, 176, 43, 4, 2, {0, 2}, true, 32, 0, 0};
    case SL_TYPE_Q6_K: return {256, 210, 52, 0, 1, {208, 0}, false, 16, 0, 2};
    case SL_TYPE_IQ4_XS: return {256, 136, 33, 4, 2, {0, 2}, false, 32, 0, 0};
    default: return {0, 0, 0, 0, 0, {0, 0}, false, 0, 0, 0};
    }
}

/* ---- four bytes at a time ---- */

SLI_DEVICE uint32_t sli_nibbles(uint32_t word, int shift)
{
    return word >> shift & 0x0f0f0f0fu;
}

SLI_DEVICE uint32_t sli_bit_pairs(uint32_t word, int shift)
{
    return word >> shift & 0x03030303u;
}

/* Bits 0..3 to bit 0 of bytes 0..3: no two of the product's terms meet. */
SLI_DEVICE uint32_t sli_spread(uint32_t bits)
{
    return (bits & 15u) * 0x00204081u & 0x01010101u;
}

/* The same to bit 4. */
SLI_DEVICE uint32_t sli_spread_above(uint32_t bits)
{
    return (bits & 15u) * 0x02040810u & 0x10101010u;
}

/* Bits moved up by `by`, or down where it is below 0; of each byte `mask` counts. */
SLI_DEVICE uint32_t sli_moved(uint32_t word, int by, uint32_t mask)
{
    return (by < 0 ? word >> -by : word << by) & mask * 0x01010101u;
}

/* Unsigned bytes less 128 of `high | low`, which have no bit in common, as signed ones: one operation of three inputs. */
SLI_DEVICE uint32_t sli_signed(uint32_t high, uint32_t low)
{
    return high ^ low ^ 0x80808080u;
}

/* Each byte less `n`; both are below 128, so that no byte borrows from the next. */
SLI_DEVICE uint32_t sli_less(uint32_t bytes, uint32_t n)
{
    return ((bytes | 0x80808080u) - n * 0x01010101u) ^ 0x80808080u;
}

/* What nibbles of IQ4_NL and IQ4_XS stand for: sixteen bytes in four words. A byte permutation looks four nibbles up in half of them, and a third one
 * chooses between the halves. `index` has the lower three bits of nibbles 0 to 3 (what is above does not count), `choice` which byte of which half. */
SLI_DEVICE uint32_t sli_iq4_four(uint32_t index, uint32_t choice)
{
    const uint32_t table[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    return sli_permute(sli_permute(table[0], table[1], index), sli_permute(table[2], table[3], index), choice);
}

/* Of eight nibbles, the even and the odd ones. */
SLI_DEVICE void sli_iq4_pair(uint32_t word, uint32_t *low, uint32_t *high)
{
    uint32_t index = word & 0x77777777u, choice = (word >> 1 & 0x44444444u) | 0x32103210u;
    uint32_t first = sli_iq4_four(index, choice), last = sli_iq4_four(index >> 16, choice >> 16);
    *low = sli_permute(first, last, 0x6420);
    *high = sli_permute(first, last, 0x7531);
}

/* Of four nibbles, a byte each. */
SLI_DEVICE uint32_t sli_iq4(uint32_t nibbles)
{
    uint32_t packed = sli_permute(nibbles | nibbles >> 4, 0, 0x4420);
    return sli_iq4_four(packed & 0x7777u, (packed >> 1 & 0x4444u) | 0x3210u);
}

SLI_DEVICE int sli_byte(uint32_t word, int i)
{
    return (int)(word >> 8 * i & 255u);
}

/* ---- what a line's sums are multiplied by ---- */

/* d and m: of a line of a block of 32, else of the whole segment. scale, low: of the line's halves (sub-blocks of 16), or [0] of all of it. */
struct sli_terms {
    float d, m;
    int scale[2], low[2];
};

template <typename Source> SLI_DEVICE void sli_block_terms(const Source &source, uint32_t block, bool has_min, sli_terms *terms)
{
    terms->d = sli_f16_to_f32(source.half(block, 0));
    terms->m = has_min ? sli_f16_to_f32(source.half(block, 1)) : 0.0f;
}

template <uint32_t TYPE, int N> struct sli_lines;

/* ---- blocks of 32 ---- */

/* N words from `first` on, as they lie. */
template <int N> struct sli_plain_words {
    uint32_t quants[N];
    template <typename Source> SLI_METHOD void open(const Source &, uint32_t) {}
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        for (int k = 0; k < N; k++)
            quants[k] = source.word((uint32_t)j, first + (uint32_t)k);
    }
    SLI_METHOD void nibbles(int k, uint32_t *low, uint32_t *high) const
    {
        *low = sli_nibbles(quants[k], 0);
        *high = sli_nibbles(quants[k], 4);
    }
    template <typename Source> SLI_METHOD void terms(const Source &, int, sli_terms *) const {}
};

template <int N> struct sli_lines<SL_TYPE_Q4_0, N> : sli_plain_words<N> {
    SLI_METHOD void pair(int, int k, uint32_t *low, uint32_t *high) const { this->nibbles(k, low, high); }
};
template <int N> struct sli_lines<SL_TYPE_Q4_1, N> : sli_lines<SL_TYPE_Q4_0, N> {
};
template <int N> struct sli_lines<SL_TYPE_IQ4_NL, N> : sli_plain_words<N> {
    SLI_METHOD void pair(int, int k, uint32_t *low, uint32_t *high) const { sli_iq4_pair(this->quants[k], low, high); }
};

/* Word 0 has the fifth bits of all elements, in order. */
template <int N> struct sli_lines<SL_TYPE_Q5_0, N> : sli_plain_words<N> {
    uint32_t fifth;
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        sli_plain_words<N>::fetch(source, first + 1, j);
        fifth = source.word((uint32_t)j, 0) >> 4 * first;
    }
    SLI_METHOD void pair(int, int k, uint32_t *low, uint32_t *high) const
    {
        this->nibbles(k, low, high);
        *low |= sli_spread_above(fifth >> 4 * k);
        *high |= sli_spread_above(fifth >> (16 + 4 * k));
    }
};
template <int N> struct sli_lines<SL_TYPE_Q5_1, N> : sli_lines<SL_TYPE_Q5_0, N> {
};

template <int N> struct sli_lines<SL_TYPE_Q8_0, N> : sli_plain_words<N> {
    uint32_t upper[N];
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        sli_plain_words<N>::fetch(source, first, j);
        for (int k = 0; k < N; k++)
            upper[k] = source.word((uint32_t)j, first + 4 + (uint32_t)k);
    }
    SLI_METHOD void pair(int, int k, uint32_t *low, uint32_t *high) const
    {
        *low = this->quants[k];
        *high = upper[k];
    }
};

/* ---- super-blocks of 256: line j's words lie four for the low halves, then four for the high ones ---- */

template <int N> struct sli_line_words {
    uint32_t low[N], high[N];
    template <typename Source> SLI_METHOD void load(const Source &source, uint32_t word, uint32_t first)
    {
        for (int k = 0; k < N; k++) {
            low[k] = source.word(0, word + first + (uint32_t)k);
            high[k] = source.word(0, word + first + 4 + (uint32_t)k);
        }
    }
};

/* Eight scales and minima of six bits in three words, see kernels/ref/decode.c. */
struct sli_six_bits {
    uint32_t words[3];
    template <typename Source> SLI_METHOD void load(const Source &source)
    {
        for (int i = 0; i < 3; i++)
            words[i] = source.word(0, (uint32_t)i);
    }
    SLI_METHOD void terms(int j, sli_terms *terms) const
    {
        int i = j % 4, last = sli_byte(words[2], i);
        terms->scale[0] = j < 4 ? sli_byte(words[0], i) & 63 : (last & 15) | sli_byte(words[0], i) >> 6 << 4;
        terms->low[0] = j < 4 ? sli_byte(words[1], i) & 63 : last >> 4 | sli_byte(words[1], i) >> 6 << 4;
    }
};

/* Two lines in the nibbles of eight words. */
template <int N, uint32_t FIRST> struct sli_nibble_lines {
    sli_six_bits six;
    sli_line_words<N> quants;
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t) { six.load(source); }
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        if (j % 2 == 0)
            quants.load(source, FIRST + (uint32_t)j / 2 * 8, first);
    }
    SLI_METHOD void pair(int j, int k, uint32_t *low, uint32_t *high) const
    {
        *low = sli_nibbles(quants.low[k], j % 2 * 4);
        *high = sli_nibbles(quants.high[k], j % 2 * 4);
    }
    template <typename Source> SLI_METHOD void terms(const Source &, int j, sli_terms *terms) const { six.terms(j, terms); }
};

template <int N> struct sli_lines<SL_TYPE_Q4_K, N> : sli_nibble_lines<N, 3> {
};
template <int N> struct sli_lines<SL_TYPE_Q5_K, N> : sli_nibble_lines<N, 11> {
    sli_line_words<N> fifth; /* bit j of a byte is line j's */
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t first)
    {
        this->six.load(source);
        fifth.load(source, 3, first);
    }
    SLI_METHOD void pair(int j, int k, uint32_t *low, uint32_t *high) const
    {
        sli_nibble_lines<N, 11>::pair(j, k, low, high);
        *low |= (fifth.low[k] >> j & 0x01010101u) << 4;
        *high |= (fifth.high[k] >> j & 0x01010101u) << 4;
    }
};

/* Four lines in the bit pairs of eight words; the scales come first, a nibble each, minima above them. */
template <int N> struct sli_lines<SL_TYPE_Q2_K, N> {
    uint32_t scales[4];
    sli_line_words<N> quants;
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t)
    {
        for (int i = 0; i < 4; i++)
            scales[i] = source.word(0, (uint32_t)i);
    }
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        if (j % 4 == 0)
            quants.load(source, 4 + (uint32_t)j / 4 * 8, first);
    }
    SLI_METHOD void pair(int j, int k, uint32_t *low, uint32_t *high) const
    {
        *low = sli_bit_pairs(quants.low[k], j % 4 * 2);
        *high = sli_bit_pairs(quants.high[k], j % 4 * 2);
    }
    template <typename Source> SLI_METHOD void terms(const Source &, int j, sli_terms *terms) const
    {
        uint32_t word = j / 4 == 0 ? (j / 2 == 0 ? scales[0] : scales[1]) : (j / 2 == 2 ? scales[2] : scales[3]);
        for (int half = 0; half < 2; half++) {
            int byte = sli_byte(word, j % 2 * 2 + half);
            terms->scale[half] = byte & 15;
            terms->low[half] = byte >> 4;
        }
    }
};

/* As Q2_K, with third bits before the pairs (integers less 4, times 32), and sixteen scales of six bits: the lower four are the nibbles of two words, the upper two the pairs of one. */
template <int N> struct sli_lines<SL_TYPE_Q3_K, N> {
    uint32_t scales[3];
    sli_line_words<N> third, quants;
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t first)
    {
        for (int i = 0; i < 3; i++)
            scales[i] = source.word(0, 24 + (uint32_t)i);
        third.load(source, 0, first);
    }
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        if (j % 4 == 0)
            quants.load(source, 8 + (uint32_t)j / 4 * 8, first);
    }
    SLI_METHOD void pair(int j, int k, uint32_t *low, uint32_t *high) const
    {
        int pair = 5 - j % 4 * 2, bit = 7 - j;
        *low = sli_signed(sli_moved(third.low[k], bit, 0x80), sli_moved(quants.low[k], pair, 0x60));
        *high = sli_signed(sli_moved(third.high[k], bit, 0x80), sli_moved(quants.high[k], pair, 0x60));
    }
    template <typename Source> SLI_METHOD void terms(const Source &, int j, sli_terms *terms) const
    {
        uint32_t lower = (j / 2 % 2 == 0 ? scales[0] : scales[1]) >> j / 4 * 4;
        for (int half = 0; half < 2; half++) {
            int s = 2 * j + half;
            terms->scale[half] = ((sli_byte(lower, s % 4) & 15) | (sli_byte(scales[2], s % 4) >> s / 4 * 2 & 3) << 4) - 32;
        }
    }
};

/* Of each half super-block the lower four bits of lines 0 and 2 share eight words, and so do 1 and 3; the upper two of all four share eight.
 * Integers less 32, times 4. */
template <int N> struct sli_lines<SL_TYPE_Q6_K, N> {
    uint32_t scales[4];
    sli_line_words<N> nibbles[2], pairs;
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t)
    {
        for (int i = 0; i < 4; i++)
            scales[i] = source.word(0, 48 + (uint32_t)i);
    }
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        if (j % 4 < 2)
            nibbles[j % 2].load(source, (uint32_t)(j / 4 * 16 + j % 2 * 8), first);
        if (j % 4 == 0)
            pairs.load(source, 32 + (uint32_t)j / 4 * 8, first);
    }
    SLI_METHOD void pair(int j, int k, uint32_t *low, uint32_t *high) const
    {
        int nibble = 2 - j % 4 / 2 * 4, upper = 6 - j % 4 * 2;
        *low = sli_signed(sli_moved(pairs.low[k], upper, 0xc0), sli_moved(nibbles[j % 2].low[k], nibble, 0x3c));
        *high = sli_signed(sli_moved(pairs.high[k], upper, 0xc0), sli_moved(nibbles[j % 2].high[k], nibble, 0x3c));
    }
    template <typename Source> SLI_METHOD void terms(const Source &, int j, sli_terms *terms) const
    {
        uint32_t word = j / 4 == 0 ? (j / 2 == 0 ? scales[0] : scales[1]) : (j / 2 == 2 ? scales[2] : scales[3]);
        for (int half = 0; half < 2; half++)
            terms->scale[half] = (int8_t)sli_byte(word, j % 2 * 2 + half);
    }
};

/* A line is four words of nibbles, as a block of IQ4_NL; six bits of scale: four in the first word, two in the second 16-bit number. */
template <int N> struct sli_lines<SL_TYPE_IQ4_XS, N> {
    uint32_t quants[N], lower, upper;
    template <typename Source> SLI_METHOD void open(const Source &source, uint32_t)
    {
        lower = source.word(0, 0);
        upper = source.half(0, 1);
    }
    template <typename Source> SLI_METHOD void fetch(const Source &source, uint32_t first, int j)
    {
        for (int k = 0; k < N; k++)
            quants[k] = source.word(0, 1 + (uint32_t)j * 4 + first + (uint32_t)k);
    }
    SLI_METHOD void pair(int, int k, uint32_t *low, uint32_t *high) const { sli_iq4_pair(quants[k], low, high); }
    template <typename Source> SLI_METHOD void terms(const Source &, int j, sli_terms *terms) const
    {
        terms->scale[0] = (int)((lower >> 4 * j & 15u) | (upper >> 2 * j & 3u) << 4) - 32;
    }
};

/* The sum of sixteen activations. */
SLI_DEVICE int sli_sum_of(int4 q)
{
    return __dp4a(q.x, 0x01010101, __dp4a(q.y, 0x01010101, __dp4a(q.z, 0x01010101, __dp4a(q.w, 0x01010101, 0))));
}

/* What sli_add_line takes of a line whose first half is `first`: d, and the sum of all of it. */
template <uint32_t TYPE> SLI_DEVICE void sli_shares(int4 first, float d, int sum, float share[2])
{
    constexpr sli_form form = sli_form_of(TYPE);
    if constexpr (form.has_min) {
        int sum0 = form.sub == 16 ? sli_sum_of(first) : sum;
        share[0] = d * (float)sum0;
        share[1] = d * (float)(sum - sum0);
    }
}

/* ---- D2, for one row of weights and one of activations ---- */

struct sli_segment_sum {
    float acc, low;
};

/* Takes in line j's sums of products over its halves. share: of a format with minima, d times the sum of the line's activations; with one for each half, of
 * the halves'. */
template <uint32_t TYPE>
SLI_DEVICE void sli_add_line(sli_segment_sum *s, const sli_terms &w, int low, int high, float d, const float share[2])
{
    constexpr sli_form form = sli_form_of(TYPE);
    if constexpr (form.elements == 32) {
        s->acc = fmaf(w.d * d, (float)(low + high), s->acc);
        if constexpr (form.has_min)
            s->acc = fmaf(w.m, share[0], s->acc);
    } else {
        int scaled = form.sub == 32 ? w.scale[0] * (low + high) : w.scale[0] * low + w.scale[1] * high;
        s->acc = fmaf(d, (float)(scaled >> form.shift), s->acc);
        if constexpr (form.has_min) {
            s->low = fmaf((float)w.low[0], share[0], s->low);
            if constexpr (form.sub == 16)
                s->low = fmaf((float)w.low[1], share[1], s->low);
        }
    }
}

template <uint32_t TYPE> SLI_DEVICE float sli_end_segment(const sli_segment_sum &s, const sli_terms &w)
{
    constexpr sli_form form = sli_form_of(TYPE);
    if constexpr (form.elements == 32)
        return s.acc;
    return form.has_min ? fmaf(-w.m, s.low, w.d * s.acc) : w.d * s.acc;
}

#endif

/* kernels/cpu/pack_avx2.c: panels by transposing 32-bit words.
 *
 * The step that everything is made of takes sixteen bytes from each of sixteen rows, which is a matrix of 16 x 4 words, and stores it as 4 x
 * 16. Row 4h + j goes into half (h mod 2) of register j, so that the transpositions within 128-bit halves that AVX2 offers put four
 * neighbouring rows side by side; no lane ever has to cross. Packing reads and writes memory once and is limited by that, so
 * AVX-512 uses this file too. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>
#include <string.h>

static const uint8_t zero_bytes[16]; /* stands in for the rows that are absent */

/* Sixteen read positions. An absent row reads the same zeros again and again. */
typedef struct cursor {
    const uint8_t *at[SL_PANEL_ROWS];
    size_t keep[SL_PANEL_ROWS]; /* all ones, or zero for an absent row: offsets are masked with it */
} cursor;

static cursor cursor_of(const uint8_t *const rows[SL_PANEL_ROWS])
{
    cursor c;
    for (int r = 0; r < SL_PANEL_ROWS; r++) {
        c.at[r] = rows[r] ? rows[r] : zero_bytes;
        c.keep[r] = rows[r] ? SIZE_MAX : 0;
    }
    return c;
}

static inline const uint8_t *read_at(const cursor *c, int row, size_t offset)
{
    return c->at[row] + (offset & c->keep[row]);
}

static inline __m256i load_pair(const cursor *c, int low_row, size_t offset)
{
    __m128i low = _mm_loadu_si128((const __m128i *)read_at(c, low_row, offset));
    __m128i high = _mm_loadu_si128((const __m128i *)read_at(c, low_row + 4, offset));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* The words of 8 rows from `row` on: out[w] has word w of each. */
static inline void transpose_half(const cursor *c, int row, size_t offset, __m256i out[4])
{
    __m256i r0 = load_pair(c, row, offset), r1 = load_pair(c, row + 1, offset);
    __m256i r2 = load_pair(c, row + 2, offset), r3 = load_pair(c, row + 3, offset);
    __m256i low01 = _mm256_unpacklo_epi32(r0, r1), low23 = _mm256_unpacklo_epi32(r2, r3);
    __m256i high01 = _mm256_unpackhi_epi32(r0, r1), high23 = _mm256_unpackhi_epi32(r2, r3);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* Sixteen bytes of sixteen rows, as four words of each: 256 bytes to `to`. */
static inline void transpose_words(const cursor *c, size_t offset, uint8_t *to)
{
    __m256i first[4], second[4];
    transpose_half(c, 0, offset, first);
    transpose_half(c, 8, offset, second);
    for (int w = 0; w < 4; w++) {
        _mm256_storeu_si256((__m256i *)(to + 64 * w), first[w]);
        _mm256_storeu_si256((__m256i *)(to + 64 * w + 32), second[w]);
    }
}

/* The same sixteen bytes as eight 16-bit elements of each row. A word holds two of them: even ones low, odd ones high. */
static inline void transpose_halves(const cursor *c, size_t offset, uint8_t *to)
{
    const __m256i low_mask = _mm256_set1_epi32(0xffff);
    __m256i first[4], second[4];
    transpose_half(c, 0, offset, first);
    transpose_half(c, 8, offset, second);
    for (int w = 0; w < 4; w++) {
        __m256i even = _mm256_packus_epi32(_mm256_and_si256(first[w], low_mask), _mm256_and_si256(second[w], low_mask));
        __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(first[w], 16), _mm256_srli_epi32(second[w], 16));
        _mm256_storeu_si256((__m256i *)(to + 64 * w), _mm256_permute4x64_epi64(even, _MM_SHUFFLE(3, 1, 2, 0)));
        _mm256_storeu_si256((__m256i *)(to + 64 * w + 32), _mm256_permute4x64_epi64(odd, _MM_SHUFFLE(3, 1, 2, 0)));
    }
}

/* `bytes` bytes of each row, side by side: scales, minima, and the last elements of a float row. */
static inline void gather_bytes(const cursor *c, size_t offset, size_t bytes, uint8_t *to)
{
    for (int r = 0; r < SL_PANEL_ROWS; r++)
        memcpy(to + r * bytes, read_at(c, r, offset), bytes);
}

/* Four words at a time. Where that does not divide a block's words the last four overlap the ones before, and write the same again. */
static void pack_quantized(sli_layout layout, const cursor *c, uint32_t cols, uint8_t *panel)
{
    size_t blocks = cols / layout.elements, last = layout.words - 4u;
    uint8_t *words = panel, *halves = panel + blocks * layout.words * 4 * SL_PANEL_ROWS;

    for (size_t b = 0, block = 0; b < blocks; b++, block += layout.block_bytes, words += layout.words * 4 * SL_PANEL_ROWS) {
        for (size_t w = 0; w < layout.words; w += 4) {
            size_t from = w < last ? w : last;
            transpose_words(c, block + layout.words_offset + from * 4, words + from * 4 * SL_PANEL_ROWS);
        }
        for (size_t h = 0; h < layout.halves; h++)
            gather_bytes(c, block + layout.half_offset[h], 2, halves + (h * blocks + b) * 2 * SL_PANEL_ROWS);
    }
}

static void pack_float(size_t element_bytes, const cursor *c, uint32_t cols, uint8_t *panel)
{
    size_t row_bytes = cols * element_bytes, offset = 0;
    for (; offset + 16 <= row_bytes; offset += 16, panel += 16 * SL_PANEL_ROWS) {
        if (element_bytes == 4)
            transpose_words(c, offset, panel);
        else
            transpose_halves(c, offset, panel);
    }
    for (; offset < row_bytes; offset += element_bytes, panel += element_bytes * SL_PANEL_ROWS)
        gather_bytes(c, offset, element_bytes, panel);
}

void sli_pack_avx2(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    sli_layout layout = sli_layout_of(type);
    cursor c = cursor_of(rows);
    if (layout.words)
        pack_quantized(layout, &c, cols, panel);
    else
        pack_float(sl_row_bytes(type, 1), &c, cols, panel);
}
#endif

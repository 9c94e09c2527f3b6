/* kernels/cpu/pack_columns_avx2.c: a panel from columns.
 *
 * Sixteen rows of a column are sixteen neighbouring bytes, or one half of them; four columns interleaved byte by byte are a word of the panel for
 * each row. Nibbles of elements i and 16 + i meet in one byte first, as the file has them. */
#if defined(__x86_64__)
#include "kernels/columns.h"
#include "kernels/segments.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AHEAD  64 /* columns between those in use and those that are prefetched */

/* Where the panel's sixteen rows lie in each column of bytes or nibbles. */
typedef struct place {
    size_t offset;
    int high; /* of nibbles: in the high halves */
} place;

INLINE __m128i load(const sl_columns *w, size_t column, place at)
{
    if (column + AHEAD < w->cols)
        _mm_prefetch((const char *)w->column[column + AHEAD] + at.offset, _MM_HINT_T0);
    return _mm_loadu_si128((const __m128i *)(w->column[column] + at.offset));
}

/* Byte i of a block's quants, of all rows. */
INLINE __m128i quant_bytes(uint32_t type, const sl_columns *w, size_t first, size_t i, place at)
{
    const __m128i low = _mm_set1_epi8(15), high = _mm_set1_epi8((char)0xf0);
    if (type == SL_TYPE_Q8_0)
        return load(w, first + i, at);
    __m128i a = load(w, first + i, at), b = load(w, first + 16 + i, at);
    if (at.high)
        return _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a, 4), low), _mm_and_si128(b, high));
    return _mm_or_si128(_mm_and_si128(a, low), _mm_and_si128(_mm_slli_epi16(b, 4), high));
}

INLINE void pack_word(uint32_t type, const sl_columns *w, size_t first, size_t word, place at, uint8_t *to)
{
    __m128i v[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        v[i] = quant_bytes(type, w, first, 4 * word + i, at);
    __m128i low01 = _mm_unpacklo_epi8(v[0], v[1]), low23 = _mm_unpacklo_epi8(v[2], v[3]);
    __m128i high01 = _mm_unpackhi_epi8(v[0], v[1]), high23 = _mm_unpackhi_epi8(v[2], v[3]);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(to + 32), _mm_unpacklo_epi16(high01, high23));
    _mm_storeu_si128((__m128i *)(to + 48), _mm_unpackhi_epi16(high01, high23));
}

INLINE void pack_quants(uint32_t type, const sl_columns *w, place at, uint8_t *panel)
{
    const size_t words = type == SL_TYPE_Q8_0 ? 8 : 4;
    for (size_t first = 0; first < w->cols; first += SL_ACT_BLOCK)
        for (size_t word = 0; word < words; word++, panel += 4 * SL_PANEL_ROWS)
            pack_word(type, w, first, word, at, panel);
}

/* The scales, or the minima, of all blocks: [block][row]; zeros for rows that the matrix does not have. */
static void pack_meta(const sl_columns *w, size_t word, size_t first_row, size_t lanes, uint8_t *to)
{
    for (size_t b = 0; b < w->cols / SL_ACT_BLOCK; b++, to += 2 * SL_PANEL_ROWS) {
        const uint8_t *from = sli_column_meta(w, b, word, first_row);
        if (lanes == SL_PANEL_ROWS) {
            memcpy(to, from, 2 * SL_PANEL_ROWS);
        } else {
            memcpy(to, from, 2 * lanes);
            memset(to + 2 * lanes, 0, 2 * (SL_PANEL_ROWS - lanes));
        }
    }
}

static void pack_quantized(const sl_columns *w, size_t first_row, size_t lanes, uint8_t *panel)
{
    place bytes = {.offset = first_row};
    place nibbles = {.offset = first_row / SL_COLUMN_GROUP * 16, .high = first_row % SL_COLUMN_GROUP != 0};
    size_t blocks = w->cols / SL_ACT_BLOCK;
    uint8_t *scales = panel + blocks * sli_layout_of(w->type).words * 4 * SL_PANEL_ROWS;
    switch (w->type) {
    case SL_TYPE_Q8_0: pack_quants(SL_TYPE_Q8_0, w, bytes, panel); break;
    default: pack_quants(SL_TYPE_Q4_0, w, nibbles, panel); break; /* Q4_1's nibbles lie in the same way */
    }
    pack_meta(w, 0, first_row, lanes, scales);
    if (sli_layout_of(w->type).has_min)
        pack_meta(w, 1, first_row, lanes, scales + blocks * 2 * SL_PANEL_ROWS);
}

INLINE void pack_floats(size_t size, const sl_columns *w, size_t first_row, size_t lanes, uint8_t *panel)
{
    for (size_t k = 0; k < w->cols; k++, panel += size * SL_PANEL_ROWS) {
        const uint8_t *from = w->column[k] + first_row * size;
        if (lanes == SL_PANEL_ROWS) {
            memcpy(panel, from, size * SL_PANEL_ROWS);
        } else {
            memcpy(panel, from, size * lanes);
            memset(panel + size * lanes, 0, size * (SL_PANEL_ROWS - lanes));
        }
    }
}

void sli_pack_columns_avx2(const sl_columns *w, uint32_t first_row, uint8_t *panel)
{
    static const sli_segment_kernels by_segment = {sli_pack_avx2, sli_matmul_avx2};
    if (sli_layout_of(w->type).words && w->type != SL_TYPE_Q4_0 && w->type != SL_TYPE_Q4_1 && w->type != SL_TYPE_Q8_0) {
        sli_pack_columns_by_segment(&by_segment, w, first_row, panel);
        return;
    }
    size_t lanes = w->rows - first_row < SL_PANEL_ROWS ? w->rows - first_row : SL_PANEL_ROWS;
    if (sli_layout_of(w->type).words)
        pack_quantized(w, first_row, lanes, panel);
    else if (w->type == SL_TYPE_F32)
        pack_floats(4, w, first_row, lanes, panel);
    else
        pack_floats(2, w, first_row, lanes, panel);
}
#endif

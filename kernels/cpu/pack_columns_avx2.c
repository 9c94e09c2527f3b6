/* kernels/cpu/pack_columns_avx2.c: a panel from columns with 128-bit registers; one source for all sets. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE         static inline __attribute__((always_inline))
#define SLI_NAME(name) sli_##name##_avx2

typedef __m128i sixteen;

/* One column's values in the sixteen rows; `group` is its group of 32. */
INLINE sixteen values_of(uint32_t bits, const uint8_t *group, int half)
{
    if (bits == 8)
        return _mm_loadu_si128((const __m128i *)(group + (size_t)half * 16));
    if (bits == 4)
        return _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i *)group), 4 * half), _mm_set1_epi8(15));
    if (bits == 2) {
        __m128i v = _mm_loadl_epi64((const __m128i *)group);
        return _mm_and_si128(_mm_unpacklo_epi64(_mm_srli_epi16(v, 4 * half), _mm_srli_epi16(v, 4 * half + 2)), _mm_set1_epi8(3));
    }
    int32_t word;
    memcpy(&word, group, sizeof word);
    __m128i shifts = _mm_add_epi32(_mm_setr_epi32(0, 1, 2, 3), _mm_set1_epi32(4 * half));
    return _mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32(word), shifts), _mm_set1_epi8(1));
}

INLINE sixteen shifted_up(sixteen values, int bits)
{
    return _mm_slli_epi16(values, bits);
}

INLINE void store_word(const sixteen v[4], uint8_t *to)
{
    __m128i low01 = _mm_unpacklo_epi8(v[0], v[1]), low23 = _mm_unpacklo_epi8(v[2], v[3]);
    __m128i high01 = _mm_unpackhi_epi8(v[0], v[1]), high23 = _mm_unpackhi_epi8(v[2], v[3]);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(to + 32), _mm_unpacklo_epi16(high01, high23));
    _mm_storeu_si128((__m128i *)(to + 48), _mm_unpackhi_epi16(high01, high23));
}

INLINE void store_interleaved(const uint8_t *first, const uint8_t *second, uint8_t *to)
{
    for (size_t r = 0; r < 2; r++, to += 32) {
        __m128i a = _mm_loadu_si128((const __m128i *)first + r), b = _mm_loadu_si128((const __m128i *)second + r);
        _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(a, b));
        _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi16(a, b));
    }
}

#include "kernels/cpu/pack_columns.h"
#endif

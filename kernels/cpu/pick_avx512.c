/* kernels/cpu/pick_avx512.c: what is at least so large, sixteen at a time. Lanes are compressed in a register and stored whole: compressing into memory
 * takes a hundred cycles on Zen 4. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>

uint32_t sli_pick_avx512(const float *x, uint32_t count, float limit, uint32_t *index, float *value)
{
    const __m512i unsigned_bits = _mm512_set1_epi32(0x7fffffff);
    __m512i least = _mm512_and_si512(_mm512_castps_si512(_mm512_set1_ps(limit)), unsigned_bits);
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i += 16) {
        __mmask16 there = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : 0xffff;
        __m512i bits = _mm512_maskz_loadu_epi32(there, x + i);
        __mmask16 picked = _mm512_mask_cmpge_epu32_mask(there, _mm512_and_si512(bits, unsigned_bits), least);
        _mm512_storeu_si512(index + n, _mm512_maskz_compress_epi32(picked, at));
        _mm512_storeu_si512(value + n, _mm512_maskz_compress_epi32(picked, bits));
        n += (uint32_t)__builtin_popcount(picked);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    return n;
}
#endif

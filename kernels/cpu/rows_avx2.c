/* kernels/cpu/rows_avx2.c: one row of activations times rows that lie scattered, as in the file; a vector lane is a row.
 *
 * Eight rows go through the blocks together, so that D2's chains are lanes and nothing has to be packed. A block's products of one row end in
 * one lane by a tree of horizontal additions, which is shared by the eight rows:
 *     nibbles: rows i and i + 4 are the two halves of a register. Two products of nibbles are 2 * (3810 at most) in 16 bits, two levels of the tree
 *              make that 30480 at most, and the last one widens.
 *     bytes:   widened at once, as in matmul_avx2.c; the tree adds 32 bits.
 * Floats: D3's four lanes are a register of 128 bits, one a row; eight rows are the eight chains that hide its latency. */
#if defined(__x86_64__)
#include <immintrin.h>

#define INLINE          static inline __attribute__((always_inline))
#define SLI_NAME(entry) sli_##entry##_avx2
#define SLI_PACK        sli_pack_avx2

#include "kernels/cpu/rows_by_eights.h"

INLINE __m256i dot_nibbles(eight_rows rows, size_t offset, const int8_t *x)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low_x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)x));
    const __m256i high_x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x + 16)));
    __m256i sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m128i first = _mm_loadu_si128((const __m128i *)(rows[i] + offset)),
                other = _mm_loadu_si128((const __m128i *)(rows[i + 4] + offset));
        __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(first), other, 1);
        __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(bytes, nibble), low_x);
        __m256i high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble), high_x);
        sum[i] = _mm256_add_epi16(low, high);
    }
    __m256i all = _mm256_hadd_epi16(_mm256_hadd_epi16(sum[0], sum[1]), _mm256_hadd_epi16(sum[2], sum[3]));
    return _mm256_madd_epi16(all, _mm256_set1_epi16(1));
}

INLINE __m256i dot_bytes(eight_rows rows, size_t offset, const int8_t *x)
{
    const __m256i ones = _mm256_set1_epi16(1), q = _mm256_loadu_si256((const __m256i *)x);
    __m256i sum[EIGHT];
#pragma GCC unroll 8
    for (int i = 0; i < EIGHT; i++) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(rows[i] + offset));
        sum[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w)), ones);
    }
    __m256i first = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    __m256i other = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[4], sum[5]), _mm256_hadd_epi32(sum[6], sum[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(first, other, 0x20), _mm256_permute2x128_si256(first, other, 0x31));
}

/* A word of sixteen bits of each row. */
INLINE __m128i gather_u16(eight_rows rows, size_t offset)
{
    uint16_t word[EIGHT];
#pragma GCC unroll 8
    for (int i = 0; i < EIGHT; i++)
        memcpy(&word[i], rows[i] + offset, 2);
    return _mm_setr_epi16((short)word[0], (short)word[1], (short)word[2], (short)word[3], (short)word[4], (short)word[5], (short)word[6],
                          (short)word[7]);
}

INLINE __m256 multiply_block(uint32_t type, eight_rows rows, const sl_acts *x, size_t b, __m256 acc)
{
    const size_t quant_offset = type == SL_TYPE_Q4_1 ? 4 : 2;
    size_t block = b * block_bytes_of(type);
    __m256i isum = type == SL_TYPE_Q8_0 ? dot_bytes(rows, block + quant_offset, x->q + b * SL_ACT_BLOCK)
                                        : dot_nibbles(rows, block + quant_offset, x->q + b * SL_ACT_BLOCK);
    if (type == SL_TYPE_Q4_0)
        isum = _mm256_sub_epi32(isum, _mm256_set1_epi32(8 * x->sum[b]));
    __m256 d = _mm256_mul_ps(_mm256_cvtph_ps(gather_u16(rows, block)), _mm256_set1_ps(x->d[b]));
    acc = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(isum), acc);
    if (type == SL_TYPE_Q4_1)
        acc = _mm256_fmadd_ps(_mm256_cvtph_ps(gather_u16(rows, block + 2)), _mm256_set1_ps(x->d[b] * (float)x->sum[b]), acc);
    return acc;
}

INLINE void multiply_quantized(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    size_t blocks = x->cols / SL_ACT_BLOCK;
    __m256 total = _mm256_setzero_ps();
    for (size_t begin = 0; begin < blocks; begin += SLI_SEGMENT_BLOCKS) {
        size_t end = begin + SLI_SEGMENT_BLOCKS < blocks ? begin + SLI_SEGMENT_BLOCKS : blocks;
        __m256 acc = _mm256_setzero_ps();
        prefetch_rows(ahead, begin * block_bytes_of(type), end * block_bytes_of(type));
        for (size_t b = begin; b < end; b++)
            acc = multiply_block(type, rows, x, b, acc);
        total = _mm256_add_ps(total, acc);
    }
    _mm256_storeu_ps(out, total);
}

/* ---- floats ---- */

INLINE __m128 load_four(uint32_t type, const uint8_t *row, size_t k)
{
    if (type == SL_TYPE_F32)
        return _mm_loadu_ps((const float *)(const void *)(row + 4 * k));
    __m128i halves = _mm_loadl_epi64((const __m128i *)(row + 2 * k));
    if (type == SL_TYPE_F16)
        return _mm_cvtph_ps(halves);
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(halves), 16));
}

/* The last one to three elements, padded with zeros, which add nothing to a lane. */
INLINE __m128 load_rest(uint32_t type, const uint8_t *row, size_t k, size_t count)
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
    uint8_t padded[16] = {0};
    memcpy(padded, row + k * size, count * size);
    return load_four(type, padded, 0);
}

INLINE void multiply_floats(uint32_t type, eight_rows rows, eight_rows ahead, const sl_acts *x, float out[EIGHT])
{
    const size_t size = type == SL_TYPE_F32 ? 4 : 2;
    memset(out, 0, EIGHT * sizeof *out);
    for (size_t begin = 0; begin < x->cols; begin += SLI_SEGMENT_ELEMENTS) {
        size_t end = begin + SLI_SEGMENT_ELEMENTS < x->cols ? begin + SLI_SEGMENT_ELEMENTS : x->cols, k = begin;
        __m128 acc[EIGHT];
        prefetch_rows(ahead, begin * size, end * size);
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++)
            acc[i] = _mm_setzero_ps();
        for (; k + 4 <= end; k += 4) {
            __m128 four = _mm_loadu_ps(x->f32 + k);
#pragma GCC unroll 8
            for (int i = 0; i < EIGHT; i++)
                acc[i] = _mm_fmadd_ps(load_four(type, rows[i], k), four, acc[i]);
        }
        if (k < end) {
            __m128 rest = load_rest(SL_TYPE_F32, (const uint8_t *)x->f32, k, end - k);
#pragma GCC unroll 8
            for (int i = 0; i < EIGHT; i++)
                acc[i] = _mm_fmadd_ps(load_rest(type, rows[i], k, end - k), rest, acc[i]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++) {
            __m128 pairs = _mm_hadd_ps(acc[i], acc[i]);
            out[i] += _mm_cvtss_f32(_mm_hadd_ps(pairs, pairs));
        }
    }
}
#endif

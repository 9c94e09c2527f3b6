/* tests/formats.h: the storage formats written down once more, from a block's bytes and not from our layouts, for the tests of kernels. Static,
 * because each test is one program. */
#ifndef SL_TESTS_FORMATS_H
#define SL_TESTS_FORMATS_H

#include "core/format.h"

#include <math.h>
#include <string.h>

static const uint32_t all_types[] = {SL_TYPE_F32,  SL_TYPE_F16,  SL_TYPE_BF16, SL_TYPE_Q4_0,   SL_TYPE_Q4_1,
                                     SL_TYPE_Q5_0, SL_TYPE_Q5_1, SL_TYPE_Q8_0, SL_TYPE_IQ4_NL, SL_TYPE_Q2_K,
                                     SL_TYPE_Q3_K, SL_TYPE_Q4_K, SL_TYPE_Q5_K, SL_TYPE_Q6_K,   SL_TYPE_IQ4_XS};
#define TYPE_COUNT (sizeof all_types / sizeof all_types[0])

/* `cols` rounded up to what the format can have. */
static inline uint32_t fitting(uint32_t type, uint32_t cols)
{
    uint32_t block = sl_format_of(type)->block_elements;
    return block == 1 ? cols : (cols + block - 1) / block * block;
}

/* Where a quantised block has its fp16 numbers. */
typedef struct file_halves {
    size_t d, m;
    bool has_min;
} file_halves;

/* Where a super-block has its integer scales: `first`, and how many bytes; 0 for blocks of 32. */
static inline size_t file_scales(uint32_t type, size_t *first)
{
    *first = type == SL_TYPE_Q6_K ? 192 : type == SL_TYPE_Q3_K ? 96 : type == SL_TYPE_Q2_K ? 0 : type == SL_TYPE_IQ4_XS ? 2 : 4;
    if (sl_format_of(type)->block_elements != 256)
        return 0;
    return type == SL_TYPE_Q6_K || type == SL_TYPE_Q2_K ? 16 : type == SL_TYPE_IQ4_XS ? 6 : 12;
}

static inline file_halves halves_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_1:
    case SL_TYPE_Q5_1:
    case SL_TYPE_Q4_K:
    case SL_TYPE_Q5_K: return (file_halves){0, 2, true};
    case SL_TYPE_Q2_K: return (file_halves){80, 82, true};
    case SL_TYPE_Q3_K: return (file_halves){.d = 108};
    case SL_TYPE_Q6_K: return (file_halves){.d = 208};
    default: return (file_halves){0};
    }
}

static inline float file_f16(const uint8_t *at)
{
    uint16_t bits;
    memcpy(&bits, at, 2);
    return sl_f16_to_f32(bits);
}

static const int iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* `count` bits from bit `bit` of a little-endian field. */
static inline int file_bits(const uint8_t *field, int bit, int count)
{
    return field[bit / 8] >> bit % 8 & ((1 << count) - 1);
}

/* Element k of a block of 32. */
static inline int small_integer(uint32_t type, const uint8_t *block, int k)
{
    int nibble = k % 16 * 8 + k / 16 * 4; /* its bit */
    switch (type) {
    case SL_TYPE_Q4_0: return file_bits(block + 2, nibble, 4) - 8;
    case SL_TYPE_Q4_1: return file_bits(block + 4, nibble, 4);
    case SL_TYPE_Q5_0: return (file_bits(block + 6, nibble, 4) | file_bits(block + 2, k, 1) << 4) - 16;
    case SL_TYPE_Q5_1: return file_bits(block + 8, nibble, 4) | file_bits(block + 4, k, 1) << 4;
    case SL_TYPE_IQ4_NL: return iq4_values[file_bits(block + 2, nibble, 4)];
    default: return (int8_t)block[2 + k];
    }
}

/* Element k of a super-block. */
static inline int super_integer(uint32_t type, const uint8_t *block, int k)
{
    int of_64 = (k / 64 * 32 + k % 32) * 8 + k / 32 % 2 * 4;   /* the bit of a nibble: two lines of 32 above each other */
    int of_128 = (k / 128 * 32 + k % 32) * 8 + k / 32 % 4 * 2; /* of a bit pair: four lines */
    int of_256 = k % 32 * 8 + k / 32;                          /* of a single bit: eight */
    int of_q6 = (k / 128 * 64 + k % 64) * 8 + k / 64 % 2 * 4;  /* Q6_K's nibbles: 64 above 64 */
    int of_xs = (k / 32 * 16 + k % 16) * 8 + k / 16 % 2 * 4;   /* IQ4_XS's: 16 above 16 */
    switch (type) {
    case SL_TYPE_Q2_K: return file_bits(block + 16, of_128, 2);
    case SL_TYPE_Q3_K: return file_bits(block + 32, of_128, 2) - (file_bits(block, of_256, 1) ? 0 : 4);
    case SL_TYPE_Q4_K: return file_bits(block + 16, of_64, 4);
    case SL_TYPE_Q5_K: return file_bits(block + 48, of_64, 4) | file_bits(block + 16, of_256, 1) << 4;
    case SL_TYPE_Q6_K: return (file_bits(block, of_q6, 4) | file_bits(block + 128, of_128, 2) << 4) - 32;
    default: return iq4_values[file_bits(block + 8, of_xs, 4)];
    }
}

static inline bool has_subs_of_16(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q3_K || type == SL_TYPE_Q6_K;
}

/* The integer scale of element k's sub-block, and its integer minimum. */
static inline int super_scale(uint32_t type, const uint8_t *block, int k)
{
    int s = k / (has_subs_of_16(type) ? 16 : 32);
    switch (type) {
    case SL_TYPE_Q2_K: return block[s] % 16;
    case SL_TYPE_Q3_K:
        return (file_bits(block + 96, s % 8 * 8 + s / 8 * 4, 4) | file_bits(block + 104, s % 4 * 8 + s / 4 * 2, 2) << 4) - 32;
    case SL_TYPE_Q6_K: return (int8_t)block[192 + s];
    case SL_TYPE_IQ4_XS: return (file_bits(block + 4, s * 4, 4) | file_bits(block + 2, s * 2, 2) << 4) - 32;
    default: return s < 4 ? block[4 + s] % 64 : block[8 + s] % 16 + block[s] / 64 * 16;
    }
}

static inline int super_minimum(uint32_t type, const uint8_t *block, int k)
{
    int s = k / 32;
    if (type == SL_TYPE_Q2_K)
        return block[k / 16] / 16;
    return s < 4 ? block[8 + s] % 64 : block[8 + s] / 16 + block[4 + s] / 64 * 16;
}

/* One element as the format means it; every product is exact. */
static inline float file_element(uint32_t type, const uint8_t *block, int k)
{
    file_halves halves = halves_of(type);
    float d = file_f16(block + halves.d), m = file_f16(block + halves.m);
    if (sl_format_of(type)->block_elements == 32)
        return halves.has_min ? fmaf(d, (float)small_integer(type, block, k), m) : d * (float)small_integer(type, block, k);
    float scaled = d * (float)(super_scale(type, block, k) * super_integer(type, block, k));
    return halves.has_min ? scaled - m * (float)super_minimum(type, block, k) : scaled;
}

#endif

/* kernels/cpu/pack_columns_neon.c: a panel from columns with NEON; one source for all sets. */
#if defined(__aarch64__)
#include "kernels/cpu/lanes_neon.h"

#define SLI_NAME(name) sli_##name##_neon

typedef uint8x16_t sixteen;

INLINE sixteen values_of(uint32_t bits, const uint8_t *group, int half)
{
    const int8_t down = (int8_t)(-4 * half);
    if (bits == 8)
        return vld1q_u8(group + (size_t)half * SL_PANEL_ROWS);
    if (bits == 4)
        return nibbles_of(vld1q_u8(group), half != 0);
    if (bits == 2) {
        uint8x8_t v = vshl_u8(vld1_u8(group), vdup_n_s8(down));
        return vandq_u8(vcombine_u8(v, vshr_n_u8(v, 2)), vdupq_n_u8(3));
    }
    const int8x16_t of_four = {0, 0, 0, 0, -1, -1, -1, -1, -2, -2, -2, -2, -3, -3, -3, -3};
    uint32_t word;
    __builtin_memcpy(&word, group, sizeof word);
    return vandq_u8(vshlq_u8(vreinterpretq_u8_u32(vdupq_n_u32(word)), vaddq_s8(of_four, vdupq_n_s8(down))), vdupq_n_u8(1));
}

INLINE sixteen shifted_up(sixteen values, int bits)
{
    return vshlq_u8(values, vdupq_n_s8((int8_t)bits));
}

INLINE void store_word(const sixteen v[4], uint8_t *to)
{
    vst4q_u8(to, (uint8x16x4_t){{v[0], v[1], v[2], v[3]}});
}

INLINE void store_interleaved(const uint8_t *first, const uint8_t *second, uint8_t *to)
{
    for (size_t i = 0; i < 2; i++) {
        uint16x8_t a = vreinterpretq_u16_u8(vld1q_u8(first + 16 * i)), b = vreinterpretq_u16_u8(vld1q_u8(second + 16 * i));
        vst1q_u8(to + 32 * i, vreinterpretq_u8_u16(vzip1q_u16(a, b)));
        vst1q_u8(to + 32 * i + 16, vreinterpretq_u8_u16(vzip2q_u16(a, b)));
    }
}

#include "kernels/cpu/pack_columns.h"
#endif

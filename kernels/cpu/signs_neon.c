/* kernels/cpu/signs_neon.c: products with planes of signs (D9) by looking sums up; kernels/signs.h tells the idea.
 *
 * A group of four columns has a table of sixteen 16-bit sums, kept as sixteen low and sixteen high bytes, because TBL looks up bytes. Sums stay within
 * 16 bits: 7 * 32 * 127 with three planes. */
#if defined(__aarch64__)
#include "kernels/cpu/signs_walk.h"

#include "kernels/cpu/lanes_neon.h"

#define AHEAD  4096
#define EIGHTS (SL_SIGN_ROWS / 8) /* registers of 16-bit sums, one a row */

/* x with the sign that bit `bit` of the place says, for eight places from `first` on. */
INLINE int16x8_t with_signs(int8_t x, int bit, int first)
{
    const int16x8_t ahead = {0, 1, 2, 3, 4, 5, 6, 7};
    uint16x8_t set = vtstq_s16(vaddq_s16(ahead, vdupq_n_s16((int16_t)first)), vdupq_n_s16((int16_t)(1 << bit)));
    return vbslq_s16(set, vdupq_n_s16(x), vdupq_n_s16((int16_t)-x));
}

/* Sums of four activations with the signs that the place's bits say. */
INLINE int16x8_t sums_of(const int8_t *x, int first)
{
    int16x8_t low = vaddq_s16(with_signs(x[0], 0, first), with_signs(x[1], 1, first));
    return vaddq_s16(low, vaddq_s16(with_signs(x[2], 2, first), with_signs(x[3], 3, first)));
}

static void make_table(const int8_t *x, sli_sign_table *table)
{
    for (size_t group = 0; group < SLI_SIGN_BLOCK_GROUPS; group++) {
        int8x16_t a = vreinterpretq_s8_s16(sums_of(x + 4 * group, 0)), b = vreinterpretq_s8_s16(sums_of(x + 4 * group, 8));
        vst1q_u8(table->bytes + 32 * group, vreinterpretq_u8_s8(vuzp1q_s8(a, b)));
        vst1q_u8(table->bytes + 32 * group + 16, vreinterpretq_u8_s8(vuzp2q_s8(a, b)));
    }
}

/* The sums that sixteen rows' places name, added to theirs. */
INLINE void add_places(const uint8_t *table, uint8x16_t places, int16x8_t sums[2])
{
    uint8x16_t low = vqtbl1q_u8(vld1q_u8(table), places), high = vqtbl1q_u8(vld1q_u8(table + 16), places);
    sums[0] = vaddq_s16(sums[0], vreinterpretq_s16_u8(vzip1q_u8(low, high)));
    sums[1] = vaddq_s16(sums[1], vreinterpretq_s16_u8(vzip2q_u8(low, high)));
}

INLINE void add_plane(const uint8_t *signs, const sli_sign_table *table, int16x8_t sums[EIGHTS])
{
#pragma GCC unroll 8
    for (size_t group = 0; group < SLI_SIGN_BLOCK_GROUPS; group++) {
        uint8x16_t bytes = vld1q_u8(signs + 16 * group);
        add_places(table->bytes + 32 * group, nibbles_of(bytes, false), sums);
        add_places(table->bytes + 32 * group, nibbles_of(bytes, true), sums + 2);
    }
}

INLINE void add_block(const uint8_t *signs, uint32_t planes, const sli_sign_table *table, float d, float32x4_t acc[2 * EIGHTS])
{
    int16x8_t sums[EIGHTS] = {vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0)};
    prefetch_lines(signs + AHEAD, planes * SL_SIGN_PLANE_BYTES / 64);
    for (uint32_t p = planes; p-- > 0;) {
#pragma GCC unroll 4
        for (int i = 0; i < EIGHTS; i++)
            sums[i] = vaddq_s16(sums[i], sums[i]);
        add_plane(signs + p * SL_SIGN_PLANE_BYTES, table, sums);
    }
#pragma GCC unroll 4
    for (int i = 0; i < EIGHTS; i++) {
        acc[2 * i] = vfmaq_n_f32(acc[2 * i], vcvtq_f32_s32(vmovl_s16(vget_low_s16(sums[i]))), d);
        acc[2 * i + 1] = vfmaq_n_f32(acc[2 * i + 1], vcvtq_f32_s32(vmovl_high_s16(sums[i])), d);
    }
}

static void add_tile(const uint8_t *signs, const uint8_t *planes, uint32_t blocks, const sli_sign_table *tables, const float *d,
                     float totals[SL_SIGN_ROWS])
{
    float32x4_t acc[2 * EIGHTS];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * EIGHTS; i++)
        acc[i] = vld1q_f32(totals + 4 * i);
    for (uint32_t b = 0; b < blocks; b++) {
        if (planes[b] == 1)
            add_block(signs, 1, &tables[b], d[b], acc);
        else
            add_block(signs, planes[b], &tables[b], d[b], acc);
        signs += planes[b] * SL_SIGN_PLANE_BYTES;
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2 * EIGHTS; i++)
        vst1q_f32(totals + 4 * i, acc[i]);
}

void sli_dot_signs_neon(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    sli_walk_signs(w, x, row_begin, row_end, out, make_table, add_tile);
}
#endif

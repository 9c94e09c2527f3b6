/* kernels/cpu/pack_neon.c: panels by transposing 32-bit words, four rows at a time.
 *
 * Sixteen bytes of four rows are a matrix of 4 x 4 words, which is stored as one of 4 x 4 with a quarter of a panel to a row. For 16-bit floats the
 * words are pairs of elements, which are then taken apart. */
#if defined(__aarch64__)
#include "kernels/cpu/lanes_neon.h"
#include "kernels/cpu/pack_walk.h"

INLINE uint32x4_t load_row(const cursor *c, size_t row, size_t offset)
{
    return vreinterpretq_u32_u8(vld1q_u8(read_at(c, row, offset)));
}

INLINE uint32x4_t zip_pairs(uint32x4_t a, uint32x4_t b, bool upper)
{
    uint64x2_t first = vreinterpretq_u64_u32(a), second = vreinterpretq_u64_u32(b);
    return vreinterpretq_u32_u64(upper ? vzip2q_u64(first, second) : vzip1q_u64(first, second));
}

/* Four words of the four rows of a quarter: out[w] has word w of each. */
INLINE void transpose_quarter(const cursor *c, size_t quarter, size_t offset, uint32x4_t out[4])
{
    size_t row = quarter * LANES;
    uint32x4_t r0 = load_row(c, row, offset), r1 = load_row(c, row + 1, offset);
    uint32x4_t r2 = load_row(c, row + 2, offset), r3 = load_row(c, row + 3, offset);
    uint32x4_t low01 = vzip1q_u32(r0, r1), low23 = vzip1q_u32(r2, r3);
    uint32x4_t high01 = vzip2q_u32(r0, r1), high23 = vzip2q_u32(r2, r3);
    out[0] = zip_pairs(low01, low23, false);
    out[1] = zip_pairs(low01, low23, true);
    out[2] = zip_pairs(high01, high23, false);
    out[3] = zip_pairs(high01, high23, true);
}

static inline void transpose_words(const cursor *c, size_t offset, uint8_t *to)
{
    for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
        uint32x4_t words[4];
        transpose_quarter(c, quarter, offset, words);
        for (size_t w = 0; w < 4; w++)
            vst1q_u8(to + w * WORD + quarter * 16, vreinterpretq_u8_u32(words[w]));
    }
}

static inline void transpose_halves(const cursor *c, size_t offset, uint8_t *to)
{
    for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
        uint32x4_t words[4];
        transpose_quarter(c, quarter, offset, words);
        for (size_t w = 0; w < 4; w++) {
            vst1_u8(to + w * WORD + quarter * 8, vreinterpret_u8_u16(vmovn_u32(words[w])));
            vst1_u8(to + w * WORD + WORD / 2 + quarter * 8, vreinterpret_u8_u16(vshrn_n_u32(words[w], 16)));
        }
    }
}

void sli_pack_neon(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel)
{
    pack_rows(type, rows, cols, panel);
}
#endif

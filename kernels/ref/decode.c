/* kernels/ref/decode.c: where the bits of each quantised format lie.
 *
 * A block of 32 keeps element k < 16 in the low nibble of byte k and element 16 + k in its high nibble; Q5's fifth bits are the bits of one
 * word. A super-block of 256 is cut into lines of 32 elements that share 32 bytes: nibbles hold two lines, the second above the first;
 * pairs of bits hold four. */
#include "kernels/ref/decode.h"

enum { LINE = 32, LINES = SLI_SEGMENT_ELEMENTS / LINE };

const int8_t sli_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* ---- blocks of 32 ---- */

static void decode_bytes(const uint8_t *quants, int8_t *q)
{
    memcpy(q, quants, 32);
}

static void decode_nibbles(const uint8_t *quants, int offset, int8_t *q)
{
    for (size_t i = 0; i < 16; i++) {
        q[i] = (int8_t)((quants[i] & 15) - offset);
        q[16 + i] = (int8_t)((quants[i] >> 4) - offset);
    }
}

static void decode_five_bits(const uint8_t *fifth, const uint8_t *quants, int offset, int8_t *q)
{
    decode_nibbles(quants, offset, q);
    for (size_t k = 0; k < 32; k++)
        q[k] = (int8_t)(q[k] + (fifth[k / 8] >> k % 8 & 1) * 16);
}

static void decode_indices(const uint8_t *quants, int8_t *q)
{
    for (size_t i = 0; i < 16; i++) {
        q[i] = sli_iq4_values[quants[i] & 15];
        q[16 + i] = sli_iq4_values[quants[i] >> 4];
    }
}

/* ---- super-blocks ---- */

/* Element `i` of line `line`, from lines of nibbles and from lines of bit pairs. */
static int nibble_of(const uint8_t *quants, size_t line, size_t i)
{
    return quants[line / 2 * LINE + i] >> line % 2 * 4 & 15;
}

static int pair_of(const uint8_t *quants, size_t line, size_t i)
{
    return quants[line / 4 * LINE + i] >> line % 4 * 2 & 3;
}

/* Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole, in bytes 0..3 and 4..7, whose upper two bits belong to
 * the last four; their lower four bits are the nibbles of bytes 8..11. */
static void decode_six_bits(const uint8_t *packed, sli_decoded *out)
{
    for (size_t i = 0; i < 4; i++) {
        out->scale[i] = (int8_t)(packed[i] & 63);
        out->low[i] = packed[4 + i] & 63;
        out->scale[4 + i] = (int8_t)((packed[8 + i] & 15) | packed[i] >> 6 << 4);
        out->low[4 + i] = (uint8_t)(packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4);
    }
}

static void decode_q2_k(const uint8_t *block, sli_decoded *out)
{
    for (size_t s = 0; s < 16; s++) {
        out->scale[s] = (int8_t)(block[s] & 15);
        out->low[s] = block[s] >> 4;
    }
    for (size_t k = 0; k < 256; k++)
        out->q[k] = (int8_t)pair_of(block + 16, k / LINE, k % LINE);
}

/* Sixteen scales of 6 bits, less 32: the lower four bits are the nibbles of eight bytes, the upper two follow in four. */
static void decode_q3_k(const uint8_t *block, sli_decoded *out)
{
    const uint8_t *third = block, *packed = block + 96;
    for (size_t s = 0; s < 16; s++)
        out->scale[s] = (int8_t)(((packed[s % 8] >> s / 8 * 4 & 15) | (packed[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32);
    for (size_t k = 0; k < 256; k++) {
        int upper = third[k % LINE] >> k / LINE & 1;
        out->q[k] = (int8_t)(pair_of(block + 32, k / LINE, k % LINE) + 4 * upper - 4);
    }
}

static void decode_q4_k(const uint8_t *block, sli_decoded *out)
{
    decode_six_bits(block + 4, out);
    for (size_t k = 0; k < 256; k++)
        out->q[k] = (int8_t)nibble_of(block + 16, k / LINE, k % LINE);
}

static void decode_q5_k(const uint8_t *block, sli_decoded *out)
{
    const uint8_t *fifth = block + 16;
    decode_six_bits(block + 4, out);
    for (size_t k = 0; k < 256; k++)
        out->q[k] = (int8_t)(nibble_of(block + 48, k / LINE, k % LINE) + 16 * (fifth[k % LINE] >> k / LINE & 1));
}

/* Here nibbles lie otherwise: of each half super-block, lines 0 and 2 share 32 bytes, and so do 1 and 3. */
static void decode_q6_k(const uint8_t *block, sli_decoded *out)
{
    memcpy(out->scale, block + 192, 16);
    for (size_t k = 0; k < 256; k++) {
        size_t half = k / 128, line = k / LINE % 4;
        int lower = block[half * 64 + line % 2 * LINE + k % LINE] >> line / 2 * 4 & 15;
        out->q[k] = (int8_t)((lower | pair_of(block + 128, k / LINE, k % LINE) << 4) - 32);
    }
}

static void decode_iq4_xs(const uint8_t *block, sli_decoded *out)
{
    for (size_t s = 0; s < LINES; s++) {
        int lower = block[4 + s / 2] >> s % 2 * 4 & 15, upper = block[2 + s / 4] >> s % 4 * 2 & 3;
        out->scale[s] = (int8_t)((lower | upper << 4) - 32);
        decode_indices(block + 8 + s * 16, out->q + s * LINE);
    }
}

void sli_decode_block(uint32_t type, const uint8_t *block, sli_decoded *out)
{
    sli_layout layout = sli_layout_of(type);
    out->d = sli_load_f16(block + layout.half_offset[0]);
    out->m = layout.has_min ? sli_load_f16(block + layout.half_offset[1]) : 0.0f;
    switch (type) {
    case SL_TYPE_Q4_0: decode_nibbles(block + 2, 8, out->q); break;
    case SL_TYPE_Q4_1: decode_nibbles(block + 4, 0, out->q); break;
    case SL_TYPE_Q5_0: decode_five_bits(block + 2, block + 6, 16, out->q); break;
    case SL_TYPE_Q5_1: decode_five_bits(block + 4, block + 8, 0, out->q); break;
    case SL_TYPE_Q8_0: decode_bytes(block + 2, out->q); break;
    case SL_TYPE_IQ4_NL: decode_indices(block + 2, out->q); break;
    case SL_TYPE_Q2_K: decode_q2_k(block, out); break;
    case SL_TYPE_Q3_K: decode_q3_k(block, out); break;
    case SL_TYPE_Q4_K: decode_q4_k(block, out); break;
    case SL_TYPE_Q5_K: decode_q5_k(block, out); break;
    case SL_TYPE_Q6_K: decode_q6_k(block, out); break;
    case SL_TYPE_IQ4_XS: decode_iq4_xs(block, out); break;
    default: break; /* the engine has refused other types when it opened the file */
    }
}

void sli_gather_block(sli_layout layout, const uint8_t *panel, size_t blocks, size_t b, size_t r, uint8_t *block)
{
    const uint8_t *halves = panel + blocks * layout.words * 4 * SL_PANEL_ROWS;
    for (size_t w = 0; w < layout.words; w++)
        memcpy(block + layout.words_offset + 4 * w, panel + ((b * layout.words + w) * SL_PANEL_ROWS + r) * 4, 4);
    for (size_t h = 0; h < layout.halves; h++)
        memcpy(block + layout.half_offset[h], halves + ((h * blocks + b) * SL_PANEL_ROWS + r) * 2, 2);
}

/* offload/tools/widen_tensor.c: the roles of tensors, and the sharing out of a row.
 *
 * Copies are laid out as tiles: copy c of feature i of d is feature c * d + i. So blocks of 32 stay whole, and with q heads and kv heads
 * tiled alike, q head c * H + h still finds its kv head at (c * H + h) / group, because H is a multiple of the group.
 *
 * The shares of a block are random in proportion 0.5 .. 1.5. All but the last copy get step * share, rounded to the format's fp16; the
 * last gets what is left. So the rounded steps sum to the step again, up to the last one's rounding. */
#include "offload/tools/widen_tensor.h"
#include "offload/tools/tool.h"
#include "offload/tools/widen.h"

#include <string.h>

enum { BLOCK = 32 };

static const sli_widen_role roles[] = {
    {"token_embd.weight", SLI_WIDEN_TILE, false, true, true},
    {"output.weight", SLI_WIDEN_SHARE, false, true, true},
    {"output.bias", SLI_WIDEN_KEEP, false, false, true},
    {"output_norm.weight", SLI_WIDEN_TILE, false, false, false},
    {"rope_freqs.weight", SLI_WIDEN_KEEP, false, false, false},
    {"attn_norm.weight", SLI_WIDEN_TILE, false, false, false},
    {"ffn_norm.weight", SLI_WIDEN_TILE, false, false, false},
    {"attn_q_norm.weight", SLI_WIDEN_KEEP, false, false, false}, /* per head component */
    {"attn_k_norm.weight", SLI_WIDEN_KEEP, false, false, false},
    {"attn_q.weight", SLI_WIDEN_SHARE, true, true, false},
    {"attn_k.weight", SLI_WIDEN_SHARE, true, true, false},
    {"attn_v.weight", SLI_WIDEN_SHARE, true, true, false},
    {"attn_output.weight", SLI_WIDEN_SHARE, true, true, false},
    {"ffn_gate.weight", SLI_WIDEN_SHARE, true, true, false},
    {"ffn_up.weight", SLI_WIDEN_SHARE, true, true, false},
    {"ffn_down.weight", SLI_WIDEN_SHARE, true, true, false},
    {"attn_q.bias", SLI_WIDEN_TILE, false, false, false},
    {"attn_k.bias", SLI_WIDEN_TILE, false, false, false},
    {"attn_v.bias", SLI_WIDEN_TILE, false, false, false},
    {"attn_output.bias", SLI_WIDEN_TILE, false, false, false},
    {"ffn_gate.bias", SLI_WIDEN_TILE, false, false, false},
    {"ffn_up.bias", SLI_WIDEN_TILE, false, false, false},
    {"ffn_down.bias", SLI_WIDEN_TILE, false, false, false},
};

/* "blk.12.attn_q.weight" -> "attn_q.weight"; other names as they are. */
static sl_str without_layer(sl_str name)
{
    if (name.length < 5 || memcmp(name.data, "blk.", 4) != 0)
        return name;
    size_t i = 4;
    while (i < name.length && name.data[i] >= '0' && name.data[i] <= '9')
        i++;
    if (i == 4 || i > 4 + 10 || i == name.length || name.data[i] != '.') /* no number, or one of more than 32 bits */
        return name;
    return (sl_str){name.data + i + 1, name.length - i - 1};
}

const sli_widen_role *sli_widen_role_of(sl_str name)
{
    sl_str plain = without_layer(name);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (sl_str_equal(plain, roles[i].name))
            return &roles[i];
    }
    return NULL;
}

bool sli_widen_knows_architecture(sl_str architecture)
{
    return sl_str_equal(architecture, "llama") || sl_str_equal(architecture, "qwen2") || sl_str_equal(architecture, "qwen3");
}

/* ---- sharing out ---- */

static void draw_shares(uint64_t *random, uint32_t factor, float shares[SL_WIDEN_FACTOR_MAX])
{
    float sum = 0.0f;
    for (uint32_t c = 0; c < factor; c += 4) { /* a 64-bit number holds four of 16 bits */
        uint64_t word = sli_random_next(random);
        for (uint32_t k = c; k < factor && k < c + 4; k++, word >>= 16) {
            shares[k] = 0.5f + (float)(word & 0xffff) * 0x1p-16f;
            sum += shares[k];
        }
    }
    for (uint32_t c = 0; c < factor; c++)
        shares[c] /= sum;
}

static float load_float(uint32_t type, const uint8_t *at)
{
    uint16_t half;
    float value;
    if (type == SL_TYPE_F32) {
        memcpy(&value, at, sizeof(value));
        return value;
    }
    memcpy(&half, at, sizeof(half));
    return type == SL_TYPE_F16 ? sl_f16_to_f32(half) : sl_bf16_to_f32(half);
}

/* Stores `value` rounded to the type and returns what it was rounded to. */
static float store_float(uint32_t type, float value, uint8_t *at)
{
    if (type == SL_TYPE_F32) {
        memcpy(at, &value, sizeof(value));
        return value;
    }
    uint16_t half = type == SL_TYPE_F16 ? sl_f32_to_f16(value) : sl_f32_to_bf16(value);
    memcpy(at, &half, sizeof(half));
    return type == SL_TYPE_F16 ? sl_f16_to_f32(half) : sl_bf16_to_f32(half);
}

/* Shares out one number: the copies lie `stride` bytes apart. */
static void split(uint32_t type, const uint8_t *from, const float *shares, uint32_t factor, uint8_t *to, size_t stride)
{
    float value = load_float(type, from), left = value;
    for (uint32_t c = 0; c + 1 < factor; c++)
        left -= store_float(type, value * shares[c], to + c * stride);
    (void)store_float(type, left, to + (factor - 1) * stride);
}

static void share_block_row(uint32_t type, uint64_t elements, uint32_t factor, const uint8_t *row, uint64_t random, uint8_t *out)
{
    size_t row_bytes = sl_row_bytes(type, elements), block_bytes = sl_row_bytes(type, BLOCK);
    float shares[SL_WIDEN_FACTOR_MAX];
    for (uint32_t c = 0; c < factor; c++)
        memcpy(out + c * row_bytes, row, row_bytes);
    for (size_t at = 0; at < row_bytes; at += block_bytes) {
        draw_shares(&random, factor, shares);
        split(SL_TYPE_F16, row + at, shares, factor, out + at, row_bytes); /* the step comes first in every block format of ours */
        if (type == SL_TYPE_Q4_1)
            split(SL_TYPE_F16, row + at + 2, shares, factor, out + at + 2, row_bytes);
    }
}

static void share_float_row(uint32_t type, uint64_t elements, uint32_t factor, const uint8_t *row, uint64_t random, uint8_t *out)
{
    size_t row_bytes = sl_row_bytes(type, elements), element_bytes = sl_row_bytes(type, 1);
    float shares[SL_WIDEN_FACTOR_MAX];
    for (uint64_t i = 0; i < elements; i++) {
        if (i % BLOCK == 0)
            draw_shares(&random, factor, shares);
        split(type, row + i * element_bytes, shares, factor, out + i * element_bytes, row_bytes);
    }
}

void sli_widen_row(uint32_t type, sli_widen_columns columns, uint64_t elements, uint32_t factor, const uint8_t *row, uint64_t random,
                   uint8_t *out)
{
    if (columns == SLI_WIDEN_SHARE && sl_format_of(type)->quantized) {
        share_block_row(type, elements, factor, row, random, out);
    } else if (columns == SLI_WIDEN_SHARE) {
        share_float_row(type, elements, factor, row, random, out);
    } else {
        size_t row_bytes = sl_row_bytes(type, elements);
        for (uint32_t c = 0; c < factor; c++)
            memcpy(out + c * row_bytes, row, row_bytes);
    }
}

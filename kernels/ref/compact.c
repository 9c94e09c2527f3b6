/* kernels/ref/compact.c: strips without their zeros, and back; kernels/compact.h has the layout. */
#include "kernels/internal.h"

#include <string.h>

#define WORD_BITS 64

/* ---- which strips there are ---- */

/* Elements of one block without a head, in words and bitmap bytes that are whole. */
static bool is_whole(uint32_t elements, uint32_t bits)
{
    return elements > 0 && elements % 8 == 0 && (uint64_t)elements * bits % WORD_BITS == 0;
}

bool sl_strip_of_row(uint32_t type, uint32_t cols, sl_strip *out)
{
    switch (type) {
    case SL_TYPE_F16:
    case SL_TYPE_BF16: *out = (sl_strip){1, 0, cols, 16, 0}; return is_whole(cols, 16);
    case SL_TYPE_Q8_0: *out = (sl_strip){cols / 32, 2, 32, 8, 0}; return cols >= 32;
    case SL_TYPE_Q4_0: *out = (sl_strip){cols / 32, 2, 32, 4, 0x88}; return cols >= 32;
    default: return false;
    }
}

bool sl_strip_of_column(uint32_t type, uint32_t rows, sl_strip *out)
{
    uint32_t padded = (rows + 31) / 32 * 32; /* columns.h: groups of 32 rows, the last padded */
    switch (type) {
    case SL_TYPE_F16:
    case SL_TYPE_BF16: *out = (sl_strip){1, 0, rows, 16, 0}; return is_whole(rows, 16);
    case SL_TYPE_Q8_0: *out = (sl_strip){1, 0, padded, 8, 0}; return rows > 0;
    case SL_TYPE_Q4_0: *out = (sl_strip){1, 0, padded, 4, 0x88}; return rows > 0;
    default: return false;
    }
}

static size_t fixed_bytes(const sl_strip *s)
{
    return (size_t)s->blocks * s->head_bytes + sl_strip_elements(s) / 8;
}

size_t sl_compact_bytes(const sl_strip *s, uint32_t kept_max)
{
    return fixed_bytes(s) + ((size_t)kept_max * s->bits + 7) / 8;
}

bool sl_compact_kept_max(const sl_strip *s, size_t bytes, uint32_t *kept_max)
{
    if (bytes < fixed_bytes(s) || bytes > sl_compact_bytes(s, sl_strip_elements(s)))
        return false;
    *kept_max = (uint32_t)((bytes - fixed_bytes(s)) * 8 / s->bits);
    return sl_compact_bytes(s, *kept_max) == bytes;
}

/* ---- elements ---- */

/* Element i of a run of them, as bits. */
static uint32_t element(const uint8_t *run, size_t i, uint32_t bits)
{
    if (bits == 4)
        return i % 2 == 0 ? run[i / 2] & 15u : run[i / 2] >> 4;
    return bits == 8 ? run[i] : run[2 * i] | (uint32_t)run[2 * i + 1] << 8;
}

/* Sets it, where only zero bits were before. */
static void set_element(uint8_t *run, size_t i, uint32_t bits, uint32_t value)
{
    if (bits == 16) {
        run[2 * i] = (uint8_t)value;
        run[2 * i + 1] = (uint8_t)(value >> 8);
    } else {
        size_t at = bits == 4 ? i / 2 : i;
        run[at] = (uint8_t)(run[at] | value << (bits == 4 && i % 2 == 1 ? 4 : 0));
    }
}

/* The bits of a zero. */
static uint32_t zero_of(const sl_strip *s)
{
    return s->bits == 4 ? s->fill & 15u : 0;
}

static const uint8_t *elements_of(const sl_strip *s, const uint8_t *plain, uint32_t block)
{
    return plain + block * (s->head_bytes + (size_t)s->block_elements * s->bits / 8) + s->head_bytes;
}

uint32_t sl_strip_kept(const sl_strip *s, const uint8_t *plain)
{
    uint32_t kept = 0, zero = zero_of(s);
    for (uint32_t block = 0; block < s->blocks; block++) {
        const uint8_t *run = elements_of(s, plain, block);
        for (uint32_t i = 0; i < s->block_elements; i++)
            kept += element(run, i, s->bits) != zero;
    }
    return kept;
}

void sl_compact(const sl_strip *s, const uint8_t *plain, uint32_t kept_max, uint8_t *out)
{
    uint8_t *bitmap = out + (size_t)s->blocks * s->head_bytes, *values = bitmap + sl_strip_elements(s) / 8;
    uint32_t zero = zero_of(s), kept = 0, at = 0;
    memset(out, 0, sl_compact_bytes(s, kept_max));
    for (uint32_t block = 0; block < s->blocks; block++) {
        const uint8_t *run = elements_of(s, plain, block);
        memcpy(out + (size_t)block * s->head_bytes, run - s->head_bytes, s->head_bytes);
        for (uint32_t i = 0; i < s->block_elements; i++, at++) {
            uint32_t value = element(run, i, s->bits);
            if (value == zero)
                continue;
            bitmap[at / 8] = (uint8_t)(bitmap[at / 8] | 1u << at % 8);
            set_element(values, kept++, s->bits, value);
        }
    }
}

/* ---- and back ---- */

uint32_t sli_expand_elements(const sl_strip *s, const uint8_t *bitmap, const uint8_t *values, uint32_t kept_max, uint32_t kept,
                             uint32_t first, uint32_t count, uint8_t *run)
{
    memset(run, 0, (size_t)count * s->bits / 8);
    for (uint32_t i = 0; i < count; i++) {
        bool is_kept = (bitmap[(first + i) / 8] >> (first + i) % 8 & 1) != 0 && kept < kept_max;
        set_element(run, i, s->bits, is_kept ? element(values, kept, s->bits) : zero_of(s));
        kept += is_kept;
    }
    return kept;
}

void sli_expand_ref(const sl_strip *s, const uint8_t *compact, uint32_t kept_max, uint8_t *plain)
{
    const uint8_t *bitmap = compact + (size_t)s->blocks * s->head_bytes, *values = bitmap + sl_strip_elements(s) / 8;
    size_t run_bytes = (size_t)s->block_elements * s->bits / 8;
    uint32_t kept = 0;
    for (uint32_t block = 0; block < s->blocks; block++, plain += s->head_bytes + run_bytes) {
        memcpy(plain, compact + (size_t)block * s->head_bytes, s->head_bytes);
        kept = sli_expand_elements(s, bitmap, values, kept_max, kept, block * s->block_elements, s->block_elements, plain + s->head_bytes);
    }
}

/* kernels/cpu/compact_avx2.c: strips with their zeros put back, 64 bits at a time: the bitmap's bits become a mask over elements, and PDEP deals the kept
 * ones out to the places that the mask has. It comes with every processor that has AVX2. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* A strip, walked from its first element to its last. */
typedef struct walk {
    const sl_strip *strip;
    const uint8_t *bitmap, *values;
    uint32_t kept_max;
    uint32_t safe; /* kept elements before this one can be loaded with those of the word behind them */
    uint32_t kept, at;
} walk;

INLINE uint64_t load_word(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Kept elements from w->kept on, at least as many as a word has. */
INLINE uint64_t next_values(const walk *w, uint32_t bits)
{
    if (bits != 4)
        return load_word(w->values + (size_t)w->kept * bits / 8);
    const uint8_t *at = w->values + w->kept / 2;
    uint64_t low = load_word(at);
    return w->kept % 2 == 0 ? low : low >> 4 | (uint64_t)at[8] << 60;
}

/* `bits` is a constant in each instance. */
INLINE void expand_run(walk *w, uint32_t bits, uint8_t *run)
{
    const uint32_t per_word = 64 / bits;
    const uint64_t ones = bits == 4 ? 0x1111111111111111 : bits == 8 ? 0x0101010101010101 : 0x0001000100010001;
    const uint64_t fill = 0x0101010101010101 * w->strip->fill;
    uint32_t end = w->at + w->strip->block_elements;
    for (; w->at < end && w->kept < w->safe; w->at += per_word, run += sizeof(uint64_t)) {
        uint16_t pair = 0;
        memcpy(&pair, w->bitmap + w->at / 8, bits == 4 ? 2 : 1);
        uint64_t set = (uint64_t)pair >> w->at % 8 & ((UINT64_C(1) << per_word) - 1);
        uint64_t mask = _pdep_u64(set, ones) * ((UINT64_C(1) << bits) - 1), word = _pdep_u64(next_values(w, bits), mask) | (fill & ~mask);
        memcpy(run, &word, sizeof word);
        w->kept += (uint32_t)__builtin_popcountll(set);
    }
    w->kept = sli_expand_elements(w->strip, w->bitmap, w->values, w->kept_max, w->kept, w->at, end - w->at, run);
    w->at = end;
}

INLINE void expand(walk *w, uint32_t bits, const uint8_t *heads, uint8_t *plain)
{
    const sl_strip *s = w->strip;
    for (uint32_t block = 0; block < s->blocks; block++) {
        memcpy(plain, heads, s->head_bytes);
        expand_run(w, bits, plain + s->head_bytes);
        heads += s->head_bytes;
        plain += s->head_bytes + (size_t)s->block_elements * bits / 8;
    }
}

void sli_expand_avx2(const sl_strip *s, const uint8_t *compact, uint32_t kept_max, uint8_t *plain)
{
    walk w = {.strip = s, .bitmap = compact + (size_t)s->blocks * s->head_bytes, .kept_max = kept_max};
    uint32_t reach = 2 * 64 / s->bits; /* a word, and the nibble behind it */
    w.values = w.bitmap + sl_strip_elements(s) / 8;
    w.safe = kept_max > reach ? kept_max - reach : 0;
    switch (s->bits) {
    case 4: expand(&w, 4, compact, plain); break;
    case 8: expand(&w, 8, compact, plain); break;
    default: expand(&w, 16, compact, plain); break;
    }
}
#endif

/* kernels/cpu/compact_avx2.c: strips with their zeros put back, four elements at a time: four bits of the map become a mask over a 64-bit word, and PDEP deals
 * the kept elements out to the places that the mask has. It comes with every processor that has AVX2. */
#if defined(__x86_64__)
#include "kernels/internal.h"

#include <immintrin.h>
#include <string.h>

#define AT_ONCE 4 /* elements of a word */

/* The last kept elements are loaded from a copy with zeros behind them, because what lies behind a strip is not its own. */
typedef struct tail {
    uint8_t bytes[2 * AT_ONCE * 2];
    uint32_t first; /* kept element */
} tail;

static tail tail_of(const uint8_t *values, uint32_t kept_max)
{
    tail t = {.first = kept_max > AT_ONCE ? kept_max - AT_ONCE : 0};
    memcpy(t.bytes, values + 2 * (size_t)t.first, 2 * (size_t)(kept_max - t.first));
    return t;
}

void sli_expand_avx2(uint32_t elements, const uint8_t *compact, uint32_t kept_max, uint8_t *plain)
{
    const uint8_t *values = compact + elements / 8;
    const tail last = tail_of(values, kept_max);
    uint32_t kept = 0;
    for (size_t i = 0; i < elements; i += AT_ONCE, plain += sizeof(uint64_t)) {
        uint64_t word, mask = _pdep_u64((uint64_t)compact[i / 8] >> i % 8 & 15, 0x0001000100010001) * 0xffff;
        memcpy(&word, kept < last.first ? values + 2 * (size_t)kept : last.bytes + 2 * (size_t)(kept - last.first), sizeof word);
        word = _pdep_u64(word, mask);
        memcpy(plain, &word, sizeof word);
        kept += (uint32_t)_mm_popcnt_u64(mask) / 16;
        kept = kept < kept_max ? kept : kept_max; /* bits that say more than there is room for get zeros */
    }
}
#endif

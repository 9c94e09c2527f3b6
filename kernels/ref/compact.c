/* kernels/ref/compact.c: strips without their zeros, and back; kernels/compact.h has the layout. */
#include "kernels/internal.h"

#include <string.h>

bool sl_compact_works(uint32_t type, uint32_t elements)
{
    return (type == SL_TYPE_F16 || type == SL_TYPE_BF16) && elements > 0 && elements % 8 == 0;
}

bool sl_compact_kept_max(uint32_t elements, size_t bytes, uint32_t *kept_max)
{
    if (bytes < elements / 8 || (bytes - elements / 8) % 2 != 0 || bytes > sl_compact_bytes(elements, elements))
        return false;
    *kept_max = (uint32_t)((bytes - elements / 8) / 2);
    return true;
}

static bool is_zero(const uint8_t *plain, size_t i)
{
    return plain[2 * i] == 0 && plain[2 * i + 1] == 0;
}

uint32_t sl_compact_kept(uint32_t elements, const uint8_t *plain)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < elements; i++)
        kept += !is_zero(plain, i);
    return kept;
}

void sl_compact(uint32_t elements, const uint8_t *plain, uint32_t kept_max, uint8_t *out)
{
    uint8_t *values = out + elements / 8;
    memset(out, 0, sl_compact_bytes(elements, kept_max));
    for (size_t i = 0; i < elements; i++) {
        if (is_zero(plain, i))
            continue;
        out[i / 8] = (uint8_t)(out[i / 8] | 1u << i % 8);
        memcpy(values, plain + 2 * i, 2);
        values += 2;
    }
}

void sli_expand_ref(uint32_t elements, const uint8_t *compact, uint32_t kept_max, uint8_t *plain)
{
    const uint8_t *values = compact + elements / 8;
    uint32_t kept = 0;
    memset(plain, 0, 2 * (size_t)elements);
    for (size_t i = 0; i < elements; i++)
        if ((compact[i / 8] >> i % 8 & 1) != 0 && kept < kept_max)
            memcpy(plain + 2 * i, values + 2 * (size_t)kept++, 2);
}

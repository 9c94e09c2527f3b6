/* offload/lookup.c: see lookup.h. */
#include "offload/lookup.h"

/* Tokens that agree before text[end] and before text[count]. */
static uint32_t agreeing(const sl_token *text, uint32_t count, uint32_t end)
{
    uint32_t n = 0;
    while (n < SLI_LOOKUP_LONGEST && n < end && text[end - 1 - n] == text[count - 1 - n])
        n++;
    return n;
}

sli_match sli_lookup(const sl_token *text, uint32_t count)
{
    sli_match best = {0};
    for (uint32_t end = count; end-- > 1 && best.length < SLI_LOOKUP_LONGEST;) {
        uint32_t length = agreeing(text, count, end);
        if (length > best.length)
            best = (sli_match){length, end};
    }
    return best;
}

uint32_t sli_lookup_continue(const sl_token *text, uint32_t count, sli_match match, uint32_t most, sl_token *out)
{
    if (match.length == 0)
        return 0;
    for (uint32_t i = 0; i < most; i++) {
        uint32_t at = match.next + i;
        out[i] = at < count ? text[at] : out[at - count];
    }
    return most;
}

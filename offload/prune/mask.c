/* offload/prune/mask.c: see mask.h. */
#include "offload/prune/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sli_prune_parse_pattern(const char *text, sli_prune_rule *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long drop = strtoul(text, &end, 10);
    if (*end != ':' || end[1] < '0' || end[1] > '9')
        return false;
    unsigned long of = strtoul(end + 1, &end, 10);
    if (*end != '\0' || drop < 1 || drop >= of || of > SLI_PRUNE_GROUP_MAX)
        return false;
    *out = (sli_prune_rule){1.0 - (double)drop / (double)of, (uint32_t)drop, (uint32_t)of};
    return true;
}

size_t sli_prune_drop_count(size_t count, double density)
{
    return (size_t)floor((double)count * (1.0 - density) + 1e-6); /* 1 - 0.7 is a little above 0.3 */
}

/* Bits of magnitudes order as the magnitudes do. */
static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffffu;
}

/* Digits of the bits, the highest first: so few bins that they stay in cache. */
static const struct {
    uint32_t shift, bins;
} digits[] = {{20, 2048}, {10, 1024}, {0, 1024}};

#define BINS_MAX 2048

/* Walks the bins until `drop` values lie before; *drop becomes what is still to go within the bin that is given. */
static uint32_t find_bin(const size_t *bins, uint32_t count, size_t *drop)
{
    uint32_t bin = 0;
    while (bin + 1 < count && bins[bin] <= *drop)
        *drop -= bins[bin++];
    return bin;
}

sli_prune_cut sli_prune_cut_of(const float *scores, size_t count, size_t drop)
{
    uint32_t found = 0;
    if (drop >= count)
        return (sli_prune_cut){INFINITY, count};
    for (size_t d = 0; d < sizeof digits / sizeof *digits; d++) {
        size_t bins[BINS_MAX] = {0};
        for (size_t i = 0; i < count; i++)
            if (d == 0 || bits_of(scores[i]) >> digits[d - 1].shift == found >> digits[d - 1].shift)
                bins[bits_of(scores[i]) >> digits[d].shift & (digits[d].bins - 1)]++;
        found |= find_bin(bins, digits[d].bins, &drop) << digits[d].shift;
    }
    sli_prune_cut cut = {.ties = drop};
    memcpy(&cut.value, &found, sizeof found);
    return cut;
}

void sli_prune_group(const sli_prune_rule *rule, const float *scores, bool *goes)
{
    memset(goes, 0, rule->of * sizeof *goes);
    for (uint32_t n = 0; n < rule->drop; n++) {
        uint32_t least = rule->of;
        for (uint32_t i = 0; i < rule->of; i++)
            if (!goes[i] && (least == rule->of || scores[i] < scores[least]))
                least = i;
        goes[least] = true;
    }
}

/* Both arrays have `cols`, a multiple of the pattern. */
static void apply_pattern(const sli_prune_rule *rule, size_t cols, const float *scores, float *w)
{
    bool goes[SLI_PRUNE_GROUP_MAX];
    for (size_t at = 0; at < cols; at += rule->of) {
        sli_prune_group(rule, scores + at, goes);
        for (uint32_t i = 0; i < rule->of; i++)
            if (goes[i])
                w[at + i] = 0;
    }
}

void sli_prune_magnitude(const sli_prune_rule *rule, size_t rows, size_t cols, float *w)
{
    if (rule->of != 0) {
        for (size_t at = 0; at < rows * cols; at += rule->of) {
            float scores[SLI_PRUNE_GROUP_MAX];
            for (uint32_t i = 0; i < rule->of; i++)
                scores[i] = fabsf(w[at + i]);
            apply_pattern(rule, rule->of, scores, w + at);
        }
        return;
    }
    sli_prune_cut cut = sli_prune_cut_of(w, rows * cols, sli_prune_drop_count(rows * cols, rule->density));
    for (size_t i = 0; i < rows * cols; i++)
        if (sli_prune_cuts(&cut, fabsf(w[i])))
            w[i] = 0;
}

void sli_prune_wanda(const sli_prune_rule *rule, size_t rows, size_t cols, const float *norms, float *scores, float *w)
{
    for (size_t r = 0; r < rows; r++, w += cols) {
        for (size_t i = 0; i < cols; i++)
            scores[i] = fabsf(w[i]) * norms[i];
        if (rule->of != 0) {
            apply_pattern(rule, cols, scores, w);
            continue;
        }
        sli_prune_cut cut = sli_prune_cut_of(scores, cols, sli_prune_drop_count(cols, rule->density));
        for (size_t i = 0; i < cols; i++)
            if (sli_prune_cuts(&cut, scores[i]))
                w[i] = 0;
    }
}

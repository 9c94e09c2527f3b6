/* offload/prune/rates.c: see rates.h. */
#include "offload/prune/rates.h"
#include "core/os.h"
#include "offload/prune/mask.h"

#include <math.h>
#include <string.h>

#define BIN_SHIFT 19 /* bits of a float below its bin */

static size_t bin_bytes(uint32_t matrices)
{
    return (size_t)matrices * SLI_RATES_BINS * sizeof(uint32_t);
}

uint64_t sli_rates_price(uint32_t matrices)
{
    return sl_pages_round(bin_bytes(matrices) + matrices * sizeof(double));
}

sl_status sli_rates_create(uint32_t matrices, sli_rates *out, sl_error *err)
{
    *out = (sli_rates){.matrices = matrices};
    out->bins = sl_pages_alloc((size_t)sli_rates_price(matrices));
    if (out->bins == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the scores of %u matrices", matrices);
    memset(out->bins, 0, bin_bytes(matrices));
    out->density = (double *)(void *)((char *)out->bins + bin_bytes(matrices));
    return SL_OK;
}

void sli_rates_free(sli_rates *r)
{
    if (r->bins != NULL)
        sl_pages_free(r->bins, (size_t)sli_rates_price(r->matrices));
    *r = (sli_rates){0};
}

static uint32_t bin_of(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x7fffffffu) >> BIN_SHIFT;
}

void sli_rates_see(sli_rates *r, uint32_t matrix, size_t rows, size_t cols, const float *w, const float *by, bool squared)
{
    uint32_t *bins = r->bins + (size_t)matrix * SLI_RATES_BINS;
    for (size_t row = 0; row < rows; row++, w += cols)
        for (size_t i = 0; i < cols; i++) {
            float x = by != NULL ? w[i] * by[i] : w[i];
            bins[bin_of(squared ? x * x : x)]++;
        }
    r->weights += rows * cols;
}

static uint64_t all_in(const sli_rates *r, uint32_t bin)
{
    uint64_t count = 0;
    for (uint32_t m = 0; m < r->matrices; m++)
        count += r->bins[(size_t)m * SLI_RATES_BINS + bin];
    return count;
}

/* What of a matrix stays when bins below `bin` go, and `part` of it. */
static double kept_of(const uint32_t *bins, uint32_t bin, double part)
{
    uint64_t below = 0, all = 0;
    for (uint32_t b = 0; b < SLI_RATES_BINS; b++) {
        below += b < bin ? bins[b] : 0;
        all += bins[b];
    }
    return all > 0 ? 1 - ((double)below + part * bins[bin]) / (double)all : 1;
}

void sli_rates_settle(sli_rates *r, double density)
{
    uint64_t left = sli_prune_drop_count(r->weights, density);
    uint32_t bin = 0;
    for (uint64_t count; bin + 1 < SLI_RATES_BINS && (count = all_in(r, bin)) <= left; bin++)
        left -= count;
    uint64_t here = all_in(r, bin);
    double part = here > 0 ? (double)left / (double)here : 0;
    uint32_t bits = (uint32_t)((bin + part) * (1u << BIN_SHIFT));
    memcpy(&r->threshold, &bits, sizeof bits);
    for (uint32_t m = 0; m < r->matrices; m++)
        r->density[m] = kept_of(r->bins + (size_t)m * SLI_RATES_BINS, bin, part);
}

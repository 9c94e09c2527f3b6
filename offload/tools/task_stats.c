/* offload/tools/task_stats.c: intervals of shares, of their differences and of ratios of those. */
#include "offload/tools/task_stats.h"
#include "offload/tools/tool.h"

#include <math.h>
#include <stdlib.h>

#define Z 1.959963984540054 /* the middle 95 % of a normal distribution */

sl_interval sl_wilson(uint64_t right, uint64_t count)
{
    if (count == 0)
        return (sl_interval){0, 1};
    double n = (double)count, p = (double)right / n, scale = 1 + Z * Z / n;
    double middle = (p + Z * Z / (2 * n)) / scale, half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / scale;
    return (sl_interval){right == 0 ? 0 : middle - half, right == count ? 1 : middle + half};
}

/* Twice the lower tail of a fair coin's tosses. */
static double mcnemar(uint64_t fewer, uint64_t all)
{
    double tail = 0;
    for (uint64_t i = 0; i <= fewer; i++)
        tail += exp(lgamma((double)all + 1) - lgamma((double)i + 1) - lgamma((double)(all - i) + 1) - (double)all * log(2.0));
    return 2 * tail < 1 ? 2 * tail : 1;
}

sl_paired sl_paired_of(const bool *first, const bool *second, size_t count)
{
    sl_paired r = {.count = count, .p = 1, .interval = {-1, 1}};
    for (size_t i = 0; i < count; i++) {
        r.lost += first[i] && !second[i];
        r.gained += !first[i] && second[i];
    }
    if (count == 0)
        return r;
    double n = (double)count + 2, lost = ((double)r.lost + 1) / n, gained = ((double)r.gained + 1) / n;
    double half = Z * sqrt((lost + gained - (gained - lost) * (gained - lost)) / n);
    r.difference = ((double)r.gained - (double)r.lost) / (double)count;
    r.interval = (sl_interval){fmax(gained - lost - half, -1), fmin(gained - lost + half, 1)};
    r.p = mcnemar(r.lost < r.gained ? r.lost : r.gained, r.lost + r.gained);
    return r;
}

/* ---- what is given back ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* An item is one of eight: right or wrong in each way. */
static bool share_of(const uint64_t cell[8], double *out)
{
    int64_t lost = 0, back = 0;
    for (unsigned c = 0; c < 8; c++) {
        int dense = (int)(c & 1), sparse = (int)(c >> 1 & 1), corrected = (int)(c >> 2 & 1);
        lost += (int64_t)cell[c] * (dense - sparse);
        back += (int64_t)cell[c] * (corrected - sparse);
    }
    *out = lost > 0 ? (double)back / (double)lost : 0;
    return lost > 0;
}

sl_recovered sl_recovered_of(const bool *dense, const bool *sparse, const bool *corrected, size_t count)
{
    sl_recovered r = {0};
    uint64_t cell[8] = {0}, state = sli_random_row(1, count, 0);
    for (size_t i = 0; i < count; i++)
        cell[dense[i] + 2 * sparse[i] + 4 * corrected[i]]++;
    r.known = share_of(cell, &r.share);
    double *shares = r.known ? malloc(SL_RESAMPLES * sizeof *shares) : NULL;
    r.interval = (sl_interval){-HUGE_VAL, HUGE_VAL};
    if (shares == NULL)
        return r;
    size_t used = 0;
    for (size_t n = 0; n < SL_RESAMPLES; n++) {
        uint64_t drawn[8] = {0};
        for (size_t i = 0; i < count; i++) {
            size_t k = (size_t)(sli_random_next(&state) % count);
            drawn[dense[k] + 2 * sparse[k] + 4 * corrected[k]]++;
        }
        used += share_of(drawn, &shares[used]);
    }
    qsort(shares, used, sizeof *shares, by_size);
    if (used > 0)
        r.interval = (sl_interval){shares[used / 40], shares[used - 1 - used / 40]};
    free(shares);
    return r;
}

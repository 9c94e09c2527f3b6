/* core/histogram.c: see histogram.h. */
#include "core/histogram.h"

#define MANTISSA_BITS 4 /* kept behind the leading one: a bucket is a sixteenth of its value wide, and its middle stands for it */

static unsigned bucket_of(uint64_t value)
{
    if (value < 1u << MANTISSA_BITS)
        return (unsigned)value;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value), shift = exponent - MANTISSA_BITS;
    return ((shift + 1) << MANTISSA_BITS) + (unsigned)((value >> shift) & ((1u << MANTISSA_BITS) - 1));
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 1u << MANTISSA_BITS)
        return bucket;
    unsigned shift = (bucket >> MANTISSA_BITS) - 1;
    uint64_t low = (uint64_t)((1u << MANTISSA_BITS) | (bucket & ((1u << MANTISSA_BITS) - 1))) << shift;
    return low + (((uint64_t)1 << shift) - 1) / 2;
}

void sl_histogram_add(sl_histogram *h, uint64_t value)
{
    h->bucket[bucket_of(value)]++;
    h->count++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
}

uint64_t sl_histogram_percentile(const sl_histogram *h, double share)
{
    uint64_t seen = 0, rank = (uint64_t)(share * (double)h->count);
    rank += (double)rank < share * (double)h->count; /* the nearest rank, rounded up */
    for (unsigned i = 0; i < SL_HISTOGRAM_BUCKETS && h->count > 0; i++) {
        seen += h->bucket[i];
        if (seen >= rank && h->bucket[i] > 0)
            return middle_of(i) < h->max ? middle_of(i) : h->max;
    }
    return h->max;
}

/* offload/select.c: see select.h.
 *
 * The bits of floats that are not negative rise with their value, so the k-th largest score is found digit by digit, as in a radix sort: eleven
 * bits, eleven bits, ten bits, each time counting how many scores share the digits so far. */
#include "offload/select.h"

#include <math.h>
#include <string.h>

#define DIGITS    3
#define BUCKETS   2048u
#define SIGN_MASK 0x7fffffffu

static const uint32_t shift_of[DIGITS] = {21, 10, 0}, bits_of[DIGITS] = {11, 11, 10};

static uint32_t key_of(const float *score)
{
    uint32_t bits;
    memcpy(&bits, score, sizeof bits);
    return bits & SIGN_MASK;
}

/* The key of the keep-th largest score; *larger is how many are above it. keep >= 1. */
static uint32_t threshold(const float *scores, uint32_t count, uint32_t keep, uint32_t *larger)
{
    uint32_t prefix = 0, mask = 0, left = keep;
    for (int digit = 0; digit < DIGITS; digit++) {
        uint32_t histogram[BUCKETS] = {0}, top = (1u << bits_of[digit]) - 1;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t key = key_of(&scores[i]);
            if ((key & mask) == prefix)
                histogram[key >> shift_of[digit] & top]++;
        }
        uint32_t bucket = top;
        while (histogram[bucket] < left)
            left -= histogram[bucket--];
        prefix |= bucket << shift_of[digit];
        mask |= top << shift_of[digit];
    }
    *larger = keep - left;
    return prefix;
}

void sli_select_top(const float *scores, uint32_t count, uint32_t keep, uint32_t *members)
{
    uint32_t larger, n = 0;
    if (keep == 0)
        return;
    uint32_t limit = threshold(scores, count, keep, &larger), equal = keep - larger;
    /* Without a branch: which ones are taken cannot be foretold, and a wrong guess costs the processor more than all else here. */
    for (uint32_t i = 0; i < count && n < keep; i++) {
        uint32_t key = key_of(&scores[i]), is_equal = (key == limit) & (equal > 0);
        members[n] = i;
        n += (key > limit) | is_equal;
        equal -= is_equal;
    }
}

#define SAMPLED 16   /* each so many-th score is looked at */
#define FEW     4    /* at most one part in so many is kept, else a sample saves nothing */
#define MANY    1024 /* with fewer scores neither */

/* What is probably below all that is kept, by two standard deviations of the sample: the lower end of a bucket of scores. */
static float sampled_limit(const float *scores, uint32_t count, uint32_t keep)
{
    uint32_t histogram[BUCKETS] = {0}, bucket = BUCKETS - 1;
    float among = (float)keep / SAMPLED, limit;
    uint32_t left = (uint32_t)(among + 2 * sqrtf(among)) + 2;
    for (uint32_t i = 0; i < count; i += SAMPLED)
        histogram[key_of(&scores[i]) >> shift_of[0]]++;
    while (bucket > 0 && histogram[bucket] < left)
        left -= histogram[bucket--];
    bucket <<= shift_of[0];
    memcpy(&limit, &bucket, sizeof limit);
    return limit;
}

void sli_select_few(const sl_kernels *kernels, const float *scores, uint32_t count, uint32_t keep, float *work, uint32_t *members)
{
    uint32_t *index = (uint32_t *)(void *)(work + count + SL_PICK_SLACK), picked = 0;
    if (count >= MANY && keep <= count / FEW)
        picked = kernels->pick(scores, count, sampled_limit(scores, count, keep), index, work);
    if (picked < keep || picked == 0) {
        sli_select_top(scores, count, keep, members);
        return;
    }
    sli_select_top(work, picked, keep, members); /* they ascend, so ties fall as among all */
    for (uint32_t n = 0; n < keep; n++)
        members[n] = index[members[n]];
}

uint32_t sli_select_common(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count)
{
    uint32_t i = 0, j = 0, common = 0;
    while (i < a_count && j < b_count) {
        common += a[i] == b[j];
        uint32_t at_a = a[i], at_b = b[j];
        i += at_a <= at_b;
        j += at_b <= at_a;
    }
    return common;
}

/* kernels/cuda/top.h: the largest of some scores, as an ascending list (offload/select.c's rule and its three digits), chosen by a block.
 *
 * One block does it all: some ten thousand scores are a few dozen a thread, and what costs time is meeting, not reading. A thread has neighbouring scores,
 * so that the order of threads is that of indices. */
#ifndef SL_KERNELS_CUDA_TOP_H
#define SL_KERNELS_CUDA_TOP_H

#include "kernels/cuda/device_code.h"

#define SLI_TOP_THREADS 1024 /* of the block */
#define SLI_TOP_WARPS   (SLI_TOP_THREADS / 32)
#define SLI_TOP_BUCKETS 2048

/* A score's sign does not count; a NaN is the largest. */
SLI_DEVICE uint32_t sli_top_key(float score)
{
    return __float_as_uint(score) & 0x7fffffffu;
}

/* The sum of the values of the threads before this one; *all: of all threads. Ends at a barrier. */
SLI_DEVICE uint32_t sli_top_sum_before(uint32_t value, uint32_t *all)
{
    __shared__ uint32_t of_warp[SLI_TOP_WARPS];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = value;
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint32_t other = __shfl_up_sync(SLI_FULL_WARP, sum, step);
        sum += lane >= step ? other : 0;
    }
    if (lane == 31)
        of_warp[warp] = sum;
    __syncthreads();
    uint32_t before = 0, total = 0;
    for (uint32_t w = 0; w < SLI_TOP_WARPS; w++) {
        before += w < warp ? of_warp[w] : 0;
        total += of_warp[w];
    }
    __syncthreads();
    *all = total;
    return before + sum - value;
}

/* The highest bucket with which `left` scores are reached, and how many are in those above it. All threads get both. */
SLI_DEVICE void sli_top_find_bucket(const uint32_t *histogram, uint32_t left, uint32_t *bucket, uint32_t *above)
{
    __shared__ uint32_t found[2];
    uint32_t all, top = SLI_TOP_BUCKETS - 1 - 2 * threadIdx.x; /* a thread has two, the highest first */
    uint32_t before = sli_top_sum_before(histogram[top] + histogram[top - 1], &all);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t here = histogram[top - i];
        if (before < left && before + here >= left) {
            found[0] = top - i;
            found[1] = before;
        }
        before += here;
    }
    __syncthreads();
    *bucket = found[0];
    *above = found[1];
    __syncthreads();
}

/* members[n] = `offset` + the index of the n-th of the `keep` largest of scores[0 .. count), 1 <= keep <= count. All threads of the block call this, and
 * have written the scores before a barrier. */
SLI_DEVICE void sli_top_of_block(const float *scores, uint32_t count, uint32_t keep, uint32_t offset, uint32_t *members)
{
    const uint32_t shift[3] = {21, 10, 0}, digits[3] = {2047, 2047, 1023};
    __shared__ uint32_t histogram[SLI_TOP_BUCKETS];
    uint32_t share = (count + SLI_TOP_THREADS - 1) / SLI_TOP_THREADS, first = min(threadIdx.x * share, count);
    uint32_t last = min(first + share, count), limit = 0, mask = 0, left = keep;
    for (int digit = 0; digit < 3; digit++) {
        uint32_t bucket, above;
        for (uint32_t i = threadIdx.x; i < SLI_TOP_BUCKETS; i += SLI_TOP_THREADS)
            histogram[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += SLI_TOP_THREADS) {
            uint32_t key = sli_top_key(scores[i]);
            if ((key & mask) == limit)
                atomicAdd(&histogram[key >> shift[digit] & digits[digit]], 1u);
        }
        __syncthreads();
        sli_top_find_bucket(histogram, left, &bucket, &above);
        left -= above;
        limit |= bucket << shift[digit];
        mask |= digits[digit] << shift[digit];
    }

    uint32_t larger = 0, equal = 0, all;
    for (uint32_t i = first; i < last; i++) {
        larger += sli_top_key(scores[i]) > limit;
        equal += sli_top_key(scores[i]) == limit;
    }
    uint32_t equal_before = sli_top_sum_before(equal, &all), at = sli_top_sum_before(larger, &all) + min(equal_before, left);
    for (uint32_t i = first; i < last; i++) {
        uint32_t key = sli_top_key(scores[i]);
        bool taken = key > limit || (key == limit && equal_before < left);
        equal_before += key == limit;
        if (taken)
            members[at++] = offset + i;
    }
}

#endif

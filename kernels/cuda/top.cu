/* kernels/cuda/top.cu: the largest of some scores, as an ascending list (offload/select.c's rule and its three digits).
 *
 * One block does it all: some ten thousand scores are a few dozen a thread, and what costs time is meeting, not reading. A thread has neighbouring scores,
 * so that the order of threads is that of indices. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/launch.h"

#include <assert.h>

#define THREADS 1024
#define WARPS   (THREADS / 32)
#define BUCKETS 2048

SLI_DEVICE uint32_t key_of(float score)
{
    return __float_as_uint(score) & 0x7fffffffu;
}

/* The sum of the values of the threads before this one; *all: of all threads. Ends at a barrier. */
SLI_DEVICE uint32_t sum_before(uint32_t value, uint32_t *all)
{
    __shared__ uint32_t of_warp[WARPS];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = value;
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint32_t other = __shfl_up_sync(SLI_FULL_WARP, sum, step);
        sum += lane >= step ? other : 0;
    }
    if (lane == 31)
        of_warp[warp] = sum;
    __syncthreads();
    uint32_t before = 0, total = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        before += w < warp ? of_warp[w] : 0;
        total += of_warp[w];
    }
    __syncthreads();
    *all = total;
    return before + sum - value;
}

/* The highest bucket with which `left` scores are reached, and how many are in those above it. All threads get both. */
SLI_DEVICE void find_bucket(const uint32_t *histogram, uint32_t left, uint32_t *bucket, uint32_t *above)
{
    __shared__ uint32_t found[2];
    uint32_t all, top = BUCKETS - 1 - 2 * threadIdx.x; /* a thread has two, the highest first */
    uint32_t before = sum_before(histogram[top] + histogram[top - 1], &all);
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

static __global__ void __launch_bounds__(THREADS)
    top_kernel(const float *scores, uint32_t count, uint32_t keep, uint32_t *members, float *clear)
{
    const uint32_t shift[3] = {21, 10, 0}, digits[3] = {2047, 2047, 1023};
    __shared__ uint32_t histogram[BUCKETS];
    uint32_t share = (count + THREADS - 1) / THREADS, first = min(threadIdx.x * share, count), last = min(first + share, count);
    uint32_t limit = 0, mask = 0, left = keep;
    for (uint32_t i = threadIdx.x; clear != NULL && i < count; i += THREADS)
        clear[i] = 0.0f;
    if (keep == 0)
        return;
    for (int digit = 0; digit < 3; digit++) {
        uint32_t bucket, above;
        for (uint32_t i = threadIdx.x; i < BUCKETS; i += THREADS)
            histogram[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
            uint32_t key = key_of(scores[i]);
            if ((key & mask) == limit)
                atomicAdd(&histogram[key >> shift[digit] & digits[digit]], 1u);
        }
        __syncthreads();
        find_bucket(histogram, left, &bucket, &above);
        left -= above;
        limit |= bucket << shift[digit];
        mask |= digits[digit] << shift[digit];
    }

    uint32_t larger = 0, equal = 0, all;
    for (uint32_t i = first; i < last; i++) {
        larger += key_of(scores[i]) > limit;
        equal += key_of(scores[i]) == limit;
    }
    uint32_t equal_before = sum_before(equal, &all), at = sum_before(larger, &all) + min(equal_before, left);
    for (uint32_t i = first; i < last; i++) {
        uint32_t key = key_of(scores[i]);
        bool taken = key > limit || (key == limit && equal_before < left);
        equal_before += key == limit;
        if (taken)
            members[at++] = i;
    }
}

sl_status sli_device_top(sl_device *dev, sl_device_ptr scores, uint32_t count, uint32_t keep, sl_device_ptr members, sl_device_ptr clear,
                         sl_device_ptr scratch, sl_error *err)
{
    (void)scratch;
    assert(keep <= count);
    if (keep == 0 && clear == 0)
        return SL_OK;
    return sli_launch(dev, err, (uint64_t)count * (clear != 0 ? 8 : 4), top_kernel, dim3(1), dim3(THREADS), 0, sli_at<const float>(scores),
                      count, keep, sli_at<uint32_t>(members), sli_at<float>(clear));
}

/* Shared memory is enough; a little, because nobody allocates nothing. */
uint64_t sli_device_top_scratch(uint32_t count)
{
    (void)count;
    return 256;
}

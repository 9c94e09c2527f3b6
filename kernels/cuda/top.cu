/* kernels/cuda/top.cu: the largest of some scores, as an ascending list: a single block's work (top.h). */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/top.h"

#include <assert.h>

static __global__ void __launch_bounds__(SLI_TOP_THREADS)
    top_kernel(const float *scores, uint32_t count, uint32_t keep, uint32_t *members, float *clear)
{
    for (uint32_t i = threadIdx.x; clear != NULL && i < count; i += SLI_TOP_THREADS)
        clear[i] = 0.0f;
    if (keep > 0)
        sli_top_of_block(scores, count, keep, 0, members);
}

sl_status sli_device_top(sl_device *dev, sl_device_ptr scores, uint32_t count, uint32_t keep, sl_device_ptr members, sl_device_ptr clear,
                         sl_device_ptr scratch, sl_error *err)
{
    (void)scratch;
    assert(keep <= count);
    if (keep == 0 && clear == 0)
        return SL_OK;
    return sli_launch(dev, err, (uint64_t)count * (clear != 0 ? 8 : 4), top_kernel, dim3(1), dim3(SLI_TOP_THREADS), 0,
                      sli_at<const float>(scores), count, keep, sli_at<uint32_t>(members), sli_at<float>(clear));
}

/* Shared memory is enough; a little, because nobody allocates nothing. */
uint64_t sli_device_top_scratch(uint32_t count)
{
    (void)count;
    return 256;
}

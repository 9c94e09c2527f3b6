/* kernels/cuda/kv_bring.cu: a layer's keys and values from host memory to the device's, for the attention that follows.
 *
 * They could be attended to where they lie. But what a device reads in mapped host memory is cached nowhere: each query of a KV head would have all of its values
 * cross anew, each eight of them all keys, and in requests of 64 bytes, which take the link as long as 128. Brought, a line crosses once for a pass, whatever
 * its rows and queries, and attention is the one that there is. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/kv.h"
#include "kernels/cuda/launch.h"

#include <assert.h>

#define THREADS 128

struct bring_job {
    sli_kv from, to;
    uint32_t rows, window;
    const sl_device_pass *pass;
};

/* A block has a page of a head's keys, or of its values. */
static __global__ void __launch_bounds__(THREADS) kv_bring_kernel(bring_job job)
{
    uint32_t page = blockIdx.x, head = blockIdx.y, slot = page * SL_KV_PAGE;
    bool key = blockIdx.z == 0;
    /* The first row sees furthest back: of a tree its root, which stands at pos0. */
    uint32_t end = job.pass->pos0 + job.pass->first + job.rows;
    uint32_t first = job.pass->pos0 + (job.pass->tree != 0 ? 0 : job.pass->first);
    uint32_t begin = job.window != 0 && first >= job.window ? first - job.window + 1 : 0;
    if (slot >= end || slot + SL_KV_PAGE <= begin)
        return;
    const uint4 *from = (const uint4 *)(key ? sli_k_page(job.from, head, slot) : sli_v_page(job.from, head, slot));
    uint4 *to = (uint4 *)(key ? sli_k_page(job.to, head, slot) : sli_v_page(job.to, head, slot));
    uint32_t pieces = (uint32_t)((key ? job.from.k_page_bytes : job.from.v_page_bytes) / sizeof *to);
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < pieces; i += THREADS)
        to[i] = from[i];
}

sl_status sli_device_kv_bring(sl_device *dev, const sl_device_kv_bring *job, sl_error *err)
{
    assert(job->from.k_page_bytes % sizeof(uint4) == 0 && job->from.v_page_bytes % sizeof(uint4) == 0);
    uint32_t pages = (job->positions + SL_KV_PAGE - 1) / SL_KV_PAGE;
    uint32_t unseen = job->window != 0 && job->positions > job->window + job->rows ? job->positions - job->window - job->rows : 0;
    uint64_t bytes = (uint64_t)(pages - unseen / SL_KV_PAGE) * job->kv_heads * (job->from.k_page_bytes + job->from.v_page_bytes);
    bring_job j = {sli_kv_of(&job->from), sli_kv_of(&job->to), job->rows, job->window, sli_at<sl_device_pass>(job->pass)};
    return sli_launch(dev, err, sli_traffic(bytes, job->from.in_host ? bytes : 0), kv_bring_kernel, dim3(pages, job->kv_heads, 2),
                      dim3(THREADS), 0, j);
}

/* kernels/cuda/kv_bring.cu: a layer's keys and values from host memory to the device's, for the attention that follows; and pages that have places of their own
 * there, both ways.
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

/* By a block. */
SLI_DEVICE void copy_page(const uint8_t *from, uint8_t *to, uint64_t bytes)
{
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < (uint32_t)(bytes / sizeof(uint4)); i += THREADS)
        ((uint4 *)to)[i] = ((const uint4 *)from)[i];
}

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
    if (key)
        copy_page(sli_k_page(job.from, head, slot), sli_k_page(job.to, head, slot), job.from.k_page_bytes);
    else
        copy_page(sli_v_page(job.from, head, slot), sli_v_page(job.to, head, slot), job.from.v_page_bytes);
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

/* ---- pages with places of their own ---- */

struct pages_job {
    sli_kv kv;
    const sl_device_ptr *places;
    uint32_t stride, first;
    bool back;
};

/* As above; a place is the same for all threads of a block. */
static __global__ void __launch_bounds__(THREADS) kv_pages_kernel(pages_job job)
{
    uint32_t page = job.first + blockIdx.x, head = blockIdx.y;
    bool key = blockIdx.z == 0;
    uint8_t *there = (uint8_t *)(uintptr_t)job.places[(size_t)head * job.stride + page] + (key ? 0 : job.kv.k_page_bytes);
    uint8_t *here = key ? sli_k_page(job.kv, head, page * SL_KV_PAGE) : sli_v_page(job.kv, head, page * SL_KV_PAGE);
    copy_page(job.back ? here : there, job.back ? there : here, key ? job.kv.k_page_bytes : job.kv.v_page_bytes);
}

static sl_status move_pages(sl_device *dev, const sl_device_kv_pages *job, bool back, sl_error *err)
{
    assert(job->kv.k_page_bytes % sizeof(uint4) == 0 && job->kv.v_page_bytes % sizeof(uint4) == 0);
    if (job->first >= job->end)
        return SL_OK;
    uint32_t pages = job->end - job->first;
    uint64_t bytes = (uint64_t)pages * job->kv_heads * (job->kv.k_page_bytes + job->kv.v_page_bytes);
    pages_job j = {sli_kv_of(&job->kv), sli_at<const sl_device_ptr>(job->places), job->stride, job->first, back};
    return sli_launch(dev, err, sli_traffic(bytes, bytes), kv_pages_kernel, dim3(pages, job->kv_heads, 2), dim3(THREADS), 0, j);
}

sl_status sli_device_kv_gather(sl_device *dev, const sl_device_kv_pages *job, sl_error *err)
{
    return move_pages(dev, job, false, err);
}

sl_status sli_device_kv_scatter(sl_device *dev, const sl_device_kv_pages *job, sl_error *err)
{
    return move_pages(dev, job, true, err);
}

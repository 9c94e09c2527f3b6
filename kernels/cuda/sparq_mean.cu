/* kernels/cuda/sparq_mean.cu: what stands for the values that SparQ leaves out: their mean, which is that of all values that a row sees. Its sums are those of
 * offload/sparq_attention.c, addition by addition: up to the end of the first page, if a window begins within it; whole pages, as a difference of sums that
 * are there; what the last page has so far. A thread has a component. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sparq.h"

#define THREADS 128

template <uint32_t TYPE> SLI_DEVICE float value_at(const sli_kv &kv, uint32_t kv_head, uint32_t slot, uint32_t c, uint32_t head_dim)
{
    return sli_kv_float<TYPE>(sli_kv_place_of(false, TYPE, sli_v_page(kv, kv_head, slot), slot, head_dim), c);
}

/* The sum of a component of the values at positions [begin, end), in order. */
template <uint32_t TYPE>
SLI_DEVICE float sum_of(const sli_sparq_job &job, const sli_sight &see, uint32_t kv_head, uint32_t c, uint32_t begin, uint32_t end)
{
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t i = begin; i < end; i++)
        sum += value_at<TYPE>(job.kv, kv_head, sli_slot_of(see, i), c, job.head_dim);
    return sum;
}

/* Of all positions before a page: what is known, and page by page what a tree's paths add to it. */
template <uint32_t TYPE>
SLI_DEVICE float sum_before(const sli_sparq_job &job, const sli_sight &see, uint32_t kv_head, uint32_t c, uint32_t page)
{
    uint32_t summed = min(see.end - 1, see.tree_begin) / SL_KV_PAGE, known = min(page, summed);
    float sum = job.value_sums[((size_t)kv_head * job.sums_pages + known) * job.head_dim + c];
    for (; known < page; known++)
        sum += sum_of<TYPE>(job, see, kv_head, c, known * SL_KV_PAGE, (known + 1) * SL_KV_PAGE);
    return sum;
}

template <uint32_t TYPE> SLI_DEVICE float mean_of(const sli_sparq_job &job, const sli_sight &see, uint32_t kv_head, uint32_t c)
{
    uint32_t last = (see.end - 1) / SL_KV_PAGE;
    float sum = 0.0f;
    for (uint32_t at = see.begin, stop; at < see.end; at = stop) {
        uint32_t page = at / SL_KV_PAGE;
        bool whole = at % SL_KV_PAGE == 0 && page < last;
        stop = whole ? last * SL_KV_PAGE : page < last ? (page + 1) * SL_KV_PAGE : see.end;
        sum += whole ? sum_before<TYPE>(job, see, kv_head, c, last) - sum_before<TYPE>(job, see, kv_head, c, page)
                     : sum_of<TYPE>(job, see, kv_head, c, at, stop);
    }
    return sum / (float)(see.end - see.begin);
}

/* A block has a KV head of a row. */
template <uint32_t TYPE> static __global__ void __launch_bounds__(THREADS) reallocate_kernel(sli_sparq_job job)
{
    uint32_t kv_head = blockIdx.x, row = blockIdx.y, group = job.heads / job.kv_heads;
    sli_sight see = sli_sparq_sight(job, row);
    if (!sli_sparq_chooses(job, see))
        return;
    for (uint32_t c = threadIdx.x; c < job.head_dim; c += THREADS) {
        float mean = mean_of<TYPE>(job, see, kv_head, c);
        for (uint32_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            float share = job.share[(size_t)row * job.heads + head];
            float *out = job.out + ((size_t)(job.row0 + row) * job.heads + head) * job.head_dim + c;
            *out = share * *out + (1.0f - share) * mean;
        }
    }
}

template <uint32_t TYPE> static sl_status launch_reallocate(sl_device *dev, const sli_sparq_job &job, uint64_t bytes, sl_error *err)
{
    return sli_launch(dev, err, bytes, reallocate_kernel<TYPE>, dim3(job.kv_heads, job.rows), THREADS, 0, job);
}

sl_status sli_sparq_reallocate(sl_device *dev, const sli_sparq_job *job, uint64_t memory_bytes, sl_error *err)
{
    uint64_t values = (uint64_t)job->rows * job->kv_heads * (job->kv.v_page_bytes / 2 + job->head_dim * sizeof(float));
    return SLI_FOR_KV_TYPE(job->kv.v_type, launch_reallocate, dev, *job, memory_bytes + values, err);
}

/* ---- the sums before pages ---- */

/* A block has a KV head. */
template <uint32_t TYPE>
static __global__ void __launch_bounds__(THREADS)
    value_sums_kernel(sli_kv kv, uint32_t head_dim, float *sums, uint32_t sums_pages, uint32_t from, uint32_t to)
{
    float *own = sums + (size_t)blockIdx.x * sums_pages * head_dim;
    for (uint32_t c = threadIdx.x; c < head_dim; c += THREADS)
        for (uint32_t page = from; page < to; page++) {
            float sum = 0.0f;
#pragma unroll 16
            for (uint32_t i = 0; page > 0 && i < SL_KV_PAGE; i++)
                sum += value_at<TYPE>(kv, blockIdx.x, (page - 1) * SL_KV_PAGE + i, c, head_dim);
            own[(size_t)page * head_dim + c] = page > 0 ? sum + own[(size_t)(page - 1) * head_dim + c] : 0.0f;
        }
}

template <uint32_t TYPE>
static sl_status launch_sums(sl_device *dev, const sl_device_kv *kv, uint32_t kv_heads, uint32_t head_dim, sl_device_ptr sums,
                             uint32_t sums_pages, uint32_t from, uint32_t to, sl_error *err)
{
    return sli_launch(dev, err, (uint64_t)(to - from) * kv_heads * (kv->v_page_bytes + head_dim * 8), value_sums_kernel<TYPE>,
                      dim3(kv_heads), THREADS, 0, sli_kv_of(kv), head_dim, sli_at<float>(sums), sums_pages, from, to);
}

sl_status sli_device_value_sums(sl_device *dev, const sl_device_kv *kv, uint32_t kv_heads, uint32_t head_dim, sl_device_ptr sums,
                                uint32_t sums_pages, uint32_t from, uint32_t to, sl_error *err)
{
    return SLI_FOR_KV_TYPE(kv->v_type, launch_sums, dev, kv, kv_heads, head_dim, sums, sums_pages, from, to, err);
}

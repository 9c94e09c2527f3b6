/* kernels/cuda/heads.cu: queries, keys and values on their way from their products to attention: norms of heads (D4), rotary turns (D7), and the
 * rounding of keys and values into their pages. One kernel does all of it, a warp for a head of a row. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/kv.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"

#include <assert.h>

#define WARPS        4 /* of a block */
#define MAX_HEAD_DIM 512
#define APART_BYTES  32 /* that a write of one number takes of the link */

struct heads_job {
    uint32_t heads, kv_heads, head_dim, rope_dim;
    sl_rope rope;
    float eps;
    float *q;
    const float *k, *v, *q_norm, *k_norm, *rope_cos, *rope_sin;
    const sl_device_pass *pass;
    sli_kv kv;
    sli_key_rows key_rows;
};

/* ---- what a warp does to the head that lies in its shared memory ---- */

SLI_DEVICE void norm_head(float *x, const float *weight, uint32_t head_dim, float eps, uint32_t lane)
{
    float acc = 0.0f;
    for (uint32_t i = lane % SLI_LANES; i < head_dim; i += SLI_LANES) /* both halves of the warp: the same */
        acc = fmaf(x[i], x[i], acc);
    float inverse = 1.0f / sqrtf(sli_fold_lanes(SLI_FULL_WARP, acc) / (float)head_dim + eps);
    __syncwarp();
    for (uint32_t i = lane; i < head_dim; i += 32)
        x[i] = (x[i] * inverse) * weight[i];
    __syncwarp();
}

SLI_DEVICE void turn_head(float *x, const heads_job &job, uint32_t row, uint32_t lane)
{
    uint32_t pairs = job.rope_dim / 2;
    const float *cos = job.rope_cos + (size_t)row * pairs, *sin = job.rope_sin + (size_t)row * pairs;
    for (uint32_t i = lane; i < pairs; i += 32) {
        uint32_t first = job.rope == SL_ROPE_PAIRS ? 2 * i : i, second = job.rope == SL_ROPE_PAIRS ? first + 1 : first + pairs;
        float x0 = x[first], x1 = x[second], c = cos[i], s = sin[i];
        x[first] = fmaf(x0, c, -(x1 * s));
        x[second] = fmaf(x0, s, x1 * c);
    }
    __syncwarp();
}

SLI_DEVICE float largest_of_warp(float x)
{
    for (int other = 16; other > 0; other /= 2)
        x = fmaxf(x, __shfl_xor_sync(SLI_FULL_WARP, x, other));
    return x;
}

/* One block of 32 components, x this lane's. */
SLI_DEVICE void store_q8(const sli_kv_place &at, uint32_t block, float x, uint32_t lane)
{
    sli_block_scale scale = sli_scale_of(largest_of_warp(fabsf(x)));
    at.page[at.unit0 + (block * SL_ACT_BLOCK + lane) * at.unit_step] = (uint8_t)__float2int_rn(x * scale.inverse);
    if (lane == 0)
        at.scales[at.scale0 + block * at.scale_step] = sli_f32_to_f16(scale.d);
}

SLI_DEVICE void store_q4(const sli_kv_place &at, uint32_t block, float x, uint32_t lane)
{
    float amax = largest_of_warp(fabsf(x));
    uint32_t largest = __ballot_sync(SLI_FULL_WARP, fabsf(x) == amax);
    float extreme = __shfl_sync(SLI_FULL_WARP, x, __ffs((int)largest) - 1); /* the first of the largest ones */
    bool zero = amax < SLI_DEVICE_AMAX_MIN;
    int q = __float2int_rn(x * (zero ? 0.0f : -8.0f / extreme)) + 8;
    q = q < 0 ? 0 : q > 15 ? 15 : q;
    int high = __shfl_down_sync(SLI_FULL_WARP, q, 16);
    if (lane < 16)
        at.page[at.unit0 + (block * (SL_ACT_BLOCK / 2) + lane) * at.unit_step] = (uint8_t)(q | high << 4);
    if (lane == 0)
        at.scales[at.scale0 + block * at.scale_step] = sli_f32_to_f16(zero ? 0.0f : extreme / -8.0f);
}

SLI_DEVICE void store_head(uint32_t type, const sli_kv_place &at, const float *x, uint32_t head_dim, uint32_t lane)
{
    for (uint32_t c = lane; c < head_dim; c += 32) { /* blocks of 32 are whole where there are scales */
        uint32_t unit = at.unit0 + c * at.unit_step;
        switch (type) {
        case SL_TYPE_F32: ((float *)at.page)[unit] = x[c]; break;
        case SL_TYPE_F16: ((uint16_t *)at.page)[unit] = sli_f32_to_f16(x[c]); break;
        case SL_TYPE_BF16: ((uint16_t *)at.page)[unit] = sli_f32_to_bf16(x[c]); break;
        case SL_TYPE_Q8_0: store_q8(at, c / 32, x[c], lane); break;
        default: store_q4(at, c / 32, x[c], lane);
        }
    }
}

static __global__ void __launch_bounds__(WARPS * 32) heads_kernel(heads_job job)
{
    __shared__ float head_shared[WARPS][MAX_HEAD_DIM];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.y, dim = job.head_dim;
    uint32_t head = blockIdx.x * WARPS + warp;
    if (head >= job.heads + 2 * job.kv_heads)
        return;
    bool is_query = head < job.heads, is_key = !is_query && head < job.heads + job.kv_heads;
    uint32_t own = is_query ? head : is_key ? head - job.heads : head - job.heads - job.kv_heads;
    const float *from = (is_query ? job.q : is_key ? job.k : job.v) + ((size_t)row * (is_query ? job.heads : job.kv_heads) + own) * dim;
    const float *norm = is_query ? job.q_norm : is_key ? job.k_norm : NULL;

    float *x = head_shared[warp];
    for (uint32_t i = lane; i < dim; i += 32)
        x[i] = from[i];
    __syncwarp();
    if (norm != NULL)
        norm_head(x, norm, dim, job.eps, lane);
    if (is_query || is_key)
        turn_head(x, job, row, lane);

    if (is_query) {
        float *to = job.q + ((size_t)row * job.heads + own) * dim;
        for (uint32_t i = lane; i < dim; i += 32)
            to[i] = x[i];
        return;
    }
    uint32_t slot = job.pass->pos0 + job.pass->first + row, type = is_key ? job.kv.k_type : job.kv.v_type;
    uint8_t *page = is_key ? sli_k_page(job.kv, own, slot) : sli_v_page(job.kv, own, slot);
    store_head(type, sli_kv_place_of(is_key, type, page, slot, dim), x, dim, lane);
    if (is_key && job.key_rows.base != NULL)
        store_head(type, sli_kv_place_of(false, type, sli_key_row_page(job.key_rows, own, slot), slot, dim), x, dim, lane);
}

/* Of the keys and values of so many positions what crosses the link: values as they are stored; components of a key lie apart, and each is a write of its own. */
static uint64_t link_bytes(const sl_device_kv *kv, uint64_t positions, uint32_t kv_heads)
{
    uint64_t components = kv->k_page_bytes / SL_KV_PAGE / sli_kv_unit_bytes(kv->k_type);
    return kv->in_host ? positions * kv_heads * (components * APART_BYTES + kv->v_page_bytes / SL_KV_PAGE) : 0;
}

sl_status sli_device_heads(sl_device *dev, const sl_device_heads *job, sl_error *err)
{
    assert(job->head_dim <= MAX_HEAD_DIM && job->head_dim % 16 == 0 && job->rope_dim <= job->head_dim);
    assert(job->head_dim % SL_ACT_BLOCK == 0 || (job->kv.k_type != SL_TYPE_Q8_0 && job->kv.k_type != SL_TYPE_Q4_0 &&
                                                 job->kv.v_type != SL_TYPE_Q8_0 && job->kv.v_type != SL_TYPE_Q4_0));
    heads_job j = {job->heads,
                   job->kv_heads,
                   job->head_dim,
                   job->rope_dim,
                   job->rope,
                   job->eps,
                   sli_at<float>(job->q),
                   sli_at<float>(job->k),
                   sli_at<float>(job->v),
                   sli_at<float>(job->q_norm),
                   sli_at<float>(job->k_norm),
                   sli_at<float>(job->rope_cos),
                   sli_at<float>(job->rope_sin),
                   sli_at<sl_device_pass>(job->pass),
                   sli_kv_of(&job->kv),
                   sli_key_rows_of(&job->key_rows)};
    uint32_t all = job->heads + 2 * job->kv_heads;
    sli_traffic bytes((uint64_t)job->rows * all * job->head_dim * 8, link_bytes(&job->kv, job->rows, job->kv_heads));
    return sli_launch(dev, err, bytes, heads_kernel, dim3((all + WARPS - 1) / WARPS, job->rows), WARPS * 32, 0, j);
}

/* ---- the index ---- */

/* A warp has a key: as it is stored, once more in the index's type. */
static __global__ void __launch_bounds__(WARPS * 32) key_index_kernel(sli_kv kv, sli_kv index, uint32_t from, uint32_t head_dim)
{
    __shared__ float head_shared[WARPS][MAX_HEAD_DIM];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, slot = from * SL_KV_PAGE + blockIdx.x * WARPS + warp, head = blockIdx.y;
    sli_kv_place key = sli_kv_place_of(true, kv.k_type, sli_k_page(kv, head, slot), slot, head_dim);
    float *x = head_shared[warp];
    for (uint32_t c = lane; c < head_dim; c += 32)
        switch (kv.k_type) {
        case SL_TYPE_F32: x[c] = sli_kv_float<SL_TYPE_F32>(key, c); break;
        case SL_TYPE_F16: x[c] = sli_kv_float<SL_TYPE_F16>(key, c); break;
        case SL_TYPE_BF16: x[c] = sli_kv_float<SL_TYPE_BF16>(key, c); break;
        case SL_TYPE_Q8_0: x[c] = sli_kv_float<SL_TYPE_Q8_0>(key, c); break;
        default: x[c] = sli_kv_float<SL_TYPE_Q4_0>(key, c);
        }
    __syncwarp();
    store_head(index.k_type, sli_kv_place_of(true, index.k_type, sli_k_page(index, head, slot), slot, head_dim), x, head_dim, lane);
}

sl_status sli_device_key_index(sl_device *dev, const sl_device_kv *kv, const sl_device_kv *index, uint32_t kv_heads, uint32_t head_dim,
                               uint32_t from, uint32_t to, sl_error *err)
{
    assert(from < to && head_dim <= MAX_HEAD_DIM && SL_KV_PAGE % WARPS == 0);
    uint64_t pages = (uint64_t)(to - from) * kv_heads, read = pages * kv->k_page_bytes;
    sli_traffic bytes(read + pages * index->k_page_bytes, kv->in_host ? read : 0);
    return sli_launch(dev, err, bytes, key_index_kernel, dim3((to - from) * (SL_KV_PAGE / WARPS), kv_heads), WARPS * 32, 0, sli_kv_of(kv),
                      sli_kv_of(index), from, head_dim);
}

/* ---- copies ---- */

/* A block has what a KV head holds of one kind: keys, values, keys in one piece. */
static __global__ void __launch_bounds__(64)
    kv_copy_kernel(sli_kv kv, sli_key_rows rows, uint32_t kinds, uint32_t head_dim, uint32_t from, uint32_t to)
{
    uint32_t head = blockIdx.x / kinds, kind = blockIdx.x % kinds, type = kind == 1 ? kv.v_type : kv.k_type;
    uint8_t *source = kind == 0 ? sli_k_page(kv, head, from) : kind == 1 ? sli_v_page(kv, head, from) : sli_key_row_page(rows, head, from);
    uint8_t *target = kind == 0 ? sli_k_page(kv, head, to) : kind == 1 ? sli_v_page(kv, head, to) : sli_key_row_page(rows, head, to);
    sli_kv_copy_vector(type, sli_kv_place_of(kind == 0, type, source, from, head_dim),
                       sli_kv_place_of(kind == 0, type, target, to, head_dim), head_dim, threadIdx.x, blockDim.x);
}

sl_status sli_device_kv_copy(sl_device *dev, const sl_device_kv *kv, const sl_device_key_rows *rows, uint32_t kv_heads, uint32_t head_dim,
                             uint32_t from, uint32_t to, sl_error *err)
{
    assert(from != to);
    uint32_t kinds = rows->base != 0 ? 3 : 2;
    sli_traffic bytes((uint64_t)kinds * kv_heads * head_dim * 4, link_bytes(kv, 2, kv_heads));
    return sli_launch(dev, err, bytes, kv_copy_kernel, kinds * kv_heads, 64, 0, sli_kv_of(kv), sli_key_rows_of(rows), kinds, head_dim, from,
                      to);
}

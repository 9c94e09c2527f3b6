/* kernels/cuda/elementwise.cu: what happens to a vector between two products (D1, D4, D6): quantisation, norm, gated units, addition.
 *
 * A thread has four elements that lie side by side; eight threads have a block of activations, which they quantise as soon as they have computed it:
 * so a norm or a gated unit writes its floats and the integers of the product after it in one go. */
#include "kernels/cuda/activate.h"
#include "kernels/cuda/internal.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"

#include <assert.h>

#define THREADS   256
#define NORM_TILE 4096 /* floats of a row that are summed at a time */

static uint32_t blocks_for(uint64_t threads)
{
    return (uint32_t)((threads + THREADS - 1) / THREADS);
}

/* ---- quantise ---- */

static __global__ void __launch_bounds__(THREADS) quantise_kernel(const float4 *x, size_t fours, sli_quantised to)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    bool there = i < fours;
    sli_quantise_fours(to, i, there, there ? x[i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}

sl_status sli_device_quantize(sl_device *dev, const sl_device_acts *x, sl_error *err)
{
    assert(x->cols % SL_ACT_BLOCK == 0);
    uint64_t count = (uint64_t)x->rows * x->cols;
    return sli_launch(dev, err, 5 * count, quantise_kernel, blocks_for(count / 4), THREADS, 0, sli_at<float4>(x->f32), (size_t)(count / 4),
                      sli_quantised_of(x));
}

/* ---- norm ---- */

/* A block has a row. Sixteen lanes that add one after the other are all that D4 leaves for the sum, so what counts is that they never wait for memory:
 * everybody fetches for them. */
static __global__ void __launch_bounds__(THREADS)
    norm_kernel(const float *src, const float *weight, float *dst, uint32_t cols, float eps, sli_quantised to)
{
    __shared__ __align__(16) float tile[NORM_TILE];
    __shared__ float inverse_shared;
    const float *x = src + (size_t)blockIdx.x * cols;
    float *y = dst + (size_t)blockIdx.x * cols;
    float acc = 0.0f;
    for (uint32_t begin = 0; begin < cols; begin += NORM_TILE) {
        uint32_t count = min(cols - begin, (uint32_t)NORM_TILE);
        __syncthreads();
        if (cols % 4 == 0) {
#pragma unroll 4
            for (uint32_t i = threadIdx.x; i < count / 4; i += THREADS)
                ((float4 *)tile)[i] = ((const float4 *)(x + begin))[i];
        } else {
            for (uint32_t i = threadIdx.x; i < count; i += THREADS)
                tile[i] = x[begin + i];
        }
        __syncthreads();
        if (threadIdx.x < SLI_LANES) {
#pragma unroll 8
            for (uint32_t i = threadIdx.x; i < count; i += SLI_LANES)
                acc = fmaf(tile[i], tile[i], acc);
        }
    }
    if (threadIdx.x < SLI_LANES) {
        float total = sli_fold_lanes(0xffffu, acc);
        if (threadIdx.x == 0)
            inverse_shared = 1.0f / sqrtf(total / (float)cols + eps);
    }
    __syncthreads();
    float inverse = inverse_shared;

    if (to.q == NULL) {
        for (uint32_t i = threadIdx.x; i < cols; i += THREADS)
            y[i] = (x[i] * inverse) * weight[i];
        return;
    }
    uint32_t fours = cols / 4;
    size_t row_fours = (size_t)blockIdx.x * fours;
    for (uint32_t begin = 0; begin < fours; begin += THREADS) {
        uint32_t i = begin + threadIdx.x;
        bool there = i < fours;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (there) {
            float4 a = ((const float4 *)x)[i], w = ((const float4 *)weight)[i];
            v = make_float4((a.x * inverse) * w.x, (a.y * inverse) * w.y, (a.z * inverse) * w.z, (a.w * inverse) * w.w);
            ((float4 *)y)[i] = v;
        }
        sli_quantise_fours(to, row_fours + i, there, v);
    }
}

sl_status sli_device_rms_norm(sl_device *dev, const sl_device_norm *job, sl_error *err)
{
    assert(job->acts == NULL || (job->cols % SL_ACT_BLOCK == 0 && job->acts->f32 == job->dst));
    return sli_launch(dev, err, (uint64_t)job->rows * job->cols * 13, norm_kernel, job->rows, THREADS, 0, sli_at<float>(job->src),
                      sli_at<float>(job->weight), sli_at<float>(job->dst), job->cols, job->eps, sli_quantised_of(job->acts));
}

/* ---- gated units ---- */

static __global__ void __launch_bounds__(THREADS) glu_kernel(sl_glu act, const float *gate, const float *up, float *dst, size_t count)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        dst[i] = sli_activate(act, gate[i]) * up[i];
}

static __global__ void __launch_bounds__(THREADS)
    glu_quantise_kernel(sl_glu act, const float4 *gate, const float4 *up, float4 *dst, size_t fours, sli_quantised to)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    bool there = i < fours;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (there) {
        float4 g = gate[i], u = up[i];
        v = make_float4(sli_activate(act, g.x) * u.x, sli_activate(act, g.y) * u.y, sli_activate(act, g.z) * u.z,
                        sli_activate(act, g.w) * u.w);
        dst[i] = v;
    }
    sli_quantise_fours(to, i, there, v);
}

sl_status sli_device_glu(sl_device *dev, const sl_device_glu *job, sl_error *err)
{
    uint64_t count = (uint64_t)job->rows * job->cols;
    if (job->acts == NULL)
        return sli_launch(dev, err, 12 * count, glu_kernel, blocks_for(count), THREADS, 0, job->act, sli_at<float>(job->gate),
                          sli_at<float>(job->up), sli_at<float>(job->dst), (size_t)count);
    assert(job->cols % SL_ACT_BLOCK == 0 && job->acts->f32 == job->dst);
    return sli_launch(dev, err, 13 * count, glu_quantise_kernel, blocks_for(count / 4), THREADS, 0, job->act, sli_at<float4>(job->gate),
                      sli_at<float4>(job->up), sli_at<float4>(job->dst), (size_t)(count / 4), sli_quantised_of(job->acts));
}

/* ---- addition ---- */

static __global__ void __launch_bounds__(THREADS) add_kernel(float *acc, const float *x, size_t count)
{
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (i + 4 <= count) {
        float4 a = *(const float4 *)(acc + i), b = *(const float4 *)(x + i);
        *(float4 *)(acc + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
        return;
    }
    for (; i < count; i++)
        acc[i] += x[i];
}

sl_status sli_device_add(sl_device *dev, sl_device_ptr acc, sl_device_ptr x, uint64_t count, sl_error *err)
{
    return sli_launch(dev, err, 12 * count, add_kernel, blocks_for((count + 3) / 4), THREADS, 0, sli_at<float>(acc), sli_at<float>(x),
                      (size_t)count);
}

/* ---- move ---- */

static __global__ void __launch_bounds__(THREADS)
    place_kernel(float *to, const float *from, uint32_t to_stride, uint32_t from_stride, uint32_t cols)
{
    uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i < cols)
        to[(size_t)blockIdx.y * to_stride + i] = from[(size_t)blockIdx.y * from_stride + i];
}

sl_status sli_device_place(sl_device *dev, sl_device_ptr to, uint32_t to_stride, sl_device_ptr from, uint32_t from_stride, uint32_t cols,
                           uint32_t rows, sl_error *err)
{
    if (cols == 0 || rows == 0)
        return SL_OK;
    return sli_launch(dev, err, 8 * (uint64_t)cols * rows, place_kernel, dim3(blocks_for(cols), rows), dim3(THREADS), 0, sli_at<float>(to),
                      sli_at<const float>(from), to_stride, from_stride, cols);
}

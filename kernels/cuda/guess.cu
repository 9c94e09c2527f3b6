/* kernels/cuda/guess.cu: the predictor: products with planes of signs (D9), its inputs and its scores (offload/guess.c). */
#include "kernels/cuda/activate.h"
#include "kernels/cuda/products.h"

#include <assert.h>

#define THREADS     256
#define SIGN_BLOCKS 256 /* of 32 columns, whose sums fit shared memory at once */
#define HALF_WARPS  (THREADS / 16)

/* Planes before each of up to SIGN_BLOCKS blocks, by the first warp; [SIGN_BLOCKS] is all of them. */
SLI_DEVICE void count_planes(const uint8_t *planes, uint32_t count, uint32_t before[SIGN_BLOCKS + 1])
{
    const uint32_t share = SIGN_BLOCKS / 32, lane = threadIdx.x;
    uint32_t sum = 0, own;
    for (uint32_t i = 0; i < share; i++)
        sum += lane * share + i < count ? planes[lane * share + i] : 0;
    own = sum;
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint32_t other = __shfl_up_sync(SLI_FULL_WARP, sum, step);
        sum += lane >= step ? other : 0;
    }
    uint32_t at = sum - own;
    for (uint32_t i = 0; i < share; i++) {
        before[lane * share + i] = at;
        at += lane * share + i < count ? planes[lane * share + i] : 0;
    }
    if (lane == 31)
        before[SIGN_BLOCKS] = at;
}

/* A block of rows i and 16 + i, i = lane % 16: weights are signs, so a plane's sum is twice that of the activations with a + less that of all. */
SLI_DEVICE void dot_block(const uint8_t *block, uint32_t planes, const int *q, int sum, int isum[2])
{
    uint32_t i = threadIdx.x % 16;
    isum[0] = isum[1] = 0;
    for (uint32_t p = 0; p < planes; p++, block += SL_SIGN_PLANE_BYTES) {
        int plus[2] = {0, 0};
#pragma unroll
        for (uint32_t group = 0; group < SL_SIGN_COLS / 4; group++) {
            uint32_t byte = __ldg(block + group * 16 + i);
            int four = __ldg(q + group);
            plus[0] = __dp4a((int)sli_spread(byte), four, plus[0]);
            plus[1] = __dp4a((int)sli_spread(byte >> 4), four, plus[1]);
        }
        isum[0] += (2 * plus[0] - sum) * (1 << p);
        isum[1] += (2 * plus[1] - sum) * (1 << p);
    }
}

/* A block has a panel of 32 rows. Its half warps make the sums of blocks of columns, then a thread per row adds them up, one after the other. */
static __global__ void __launch_bounds__(THREADS)
    signs_kernel(uint32_t rows, const uint8_t *planes, const uint8_t *panels, sli_acts_view x, float *out)
{
    __shared__ uint32_t before[SIGN_BLOCKS + 1];
    __shared__ int isum[SIGN_BLOCKS][SL_SIGN_ROWS];
    uint32_t blocks = x.cols / SL_SIGN_COLS, i = threadIdx.x % 16, all = 0;
    for (uint32_t b = 0; b < blocks; b++) /* planes of a row: a few hundred bytes that stay in the cache */
        all += __ldg(planes + b);
    const uint8_t *panel = panels + (size_t)blockIdx.x * all * SL_SIGN_PLANE_BYTES;
    float acc = 0.0f;

    for (uint32_t first = 0; first < blocks; first += SIGN_BLOCKS) {
        uint32_t count = min(blocks - first, (uint32_t)SIGN_BLOCKS);
        if (threadIdx.x < 32)
            count_planes(planes + first, count, before);
        __syncthreads();
        for (uint32_t b = threadIdx.x / 16; b < count; b += HALF_WARPS) {
            int sums[2];
            dot_block(panel + (size_t)before[b] * SL_SIGN_PLANE_BYTES, planes[first + b], (const int *)x.q + (size_t)(first + b) * 8,
                      x.sum[first + b], sums);
            isum[b][i] = sums[0];
            isum[b][16 + i] = sums[1];
        }
        __syncthreads();
        if (threadIdx.x < SL_SIGN_ROWS)
            for (uint32_t b = 0; b < count; b++)
                acc = fmaf(__ldg(x.d + first + b), (float)isum[b][threadIdx.x], acc);
        panel += (size_t)before[SIGN_BLOCKS] * SL_SIGN_PLANE_BYTES;
        __syncthreads();
    }
    uint32_t row = blockIdx.x * SL_SIGN_ROWS + threadIdx.x;
    if (threadIdx.x < SL_SIGN_ROWS && row < rows)
        out[row] = acc;
}

sl_status sli_device_dot_signs(sl_device *dev, uint32_t rows, uint32_t cols, sl_device_ptr planes, sl_device_ptr panels,
                               const sl_device_acts *x, sl_device_ptr out, sl_error *err)
{
    assert(x->rows == 1 && x->cols == cols && cols % SL_SIGN_COLS == 0);
    if (rows == 0)
        return SL_OK;
    uint64_t bytes = (uint64_t)rows * cols / 8;
    return sli_launch(dev, err, bytes, signs_kernel, dim3((rows + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS), dim3(THREADS), 0, rows,
                      sli_at<const uint8_t>(planes), sli_at<const uint8_t>(panels), sli_view_of(x), sli_at<float>(out));
}

static __global__ void inputs_kernel(const float *x, const uint32_t *select, const float *factors, uint32_t count, float *out)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        out[i] = x[select != NULL ? select[i] : i] * factors[i];
}

sl_status sli_device_guess_inputs(sl_device *dev, sl_device_ptr x, sl_device_ptr select, sl_device_ptr factors, const sl_device_acts *out,
                                  sl_error *err)
{
    assert(out->rows == 1);
    SL_TRY(sli_launch(dev, err, (uint64_t)out->cols * 16, inputs_kernel, dim3((out->cols + THREADS - 1) / THREADS), dim3(THREADS), 0,
                      sli_at<const float>(x), sli_at<const uint32_t>(select), sli_at<const float>(factors), out->cols,
                      sli_at<float>(out->f32)));
    return sli_device_quantize(dev, out, err);
}

/* As offload/guess.c, term by term. */
static __global__ void scores_kernel(sl_glu act, const float *gate, const float *up, const uint16_t *neurons, uint32_t ff, uint32_t rows,
                                     float *scores)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= ff)
        return;
    float product = gate[i] * sli_bf16_to_f32(neurons[i]), error = sli_bf16_to_f32(neurons[rows + i]);
    float other = up[i] * sli_bf16_to_f32(neurons[2 * (size_t)rows + i]), other_error = sli_bf16_to_f32(neurons[3 * (size_t)rows + i]);
    float more = sli_activate(act, product + error), less = sli_activate(act, product - error);
    scores[i] = sqrtf(0.5f * (more * more + less * less) * (other * other + other_error));
}

sl_status sli_device_guess_scores(sl_device *dev, sl_glu act, sl_device_ptr gate, sl_device_ptr up, sl_device_ptr neurons, uint32_t ff,
                                  sl_device_ptr scores, sl_error *err)
{
    uint32_t rows = (ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS * SL_SIGN_ROWS;
    return sli_launch(dev, err, (uint64_t)ff * 20, scores_kernel, dim3((ff + THREADS - 1) / THREADS), dim3(THREADS), 0, act,
                      sli_at<const float>(gate), sli_at<const float>(up), sli_at<const uint16_t>(neurons), ff, rows, sli_at<float>(scores));
}

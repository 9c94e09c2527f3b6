/* kernels/cuda/guess.cu: the predictor: its inputs, and its scores from products with planes of signs (D9; offload/guess.c). */
#include "kernels/cuda/activate.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/products.h"

#include <assert.h>

#define THREADS     256
#define SIGN_BLOCKS 128 /* of 32 columns, whose sums fit shared memory at once */
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

struct scores_job {
    sl_glu act;
    uint32_t ff;
    const uint8_t *planes, *panels[2]; /* of gate, of up */
    const uint16_t *neurons;
    float *scores;
};

/* As offload/guess.c, term by term. */
SLI_DEVICE float score_of(const scores_job &job, uint32_t i, float gate, float up)
{
    size_t rows = (job.ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS * SL_SIGN_ROWS;
    float product = gate * sli_bf16_to_f32(job.neurons[i]), error = sli_bf16_to_f32(job.neurons[rows + i]);
    float other = up * sli_bf16_to_f32(job.neurons[2 * rows + i]), other_error = sli_bf16_to_f32(job.neurons[3 * rows + i]);
    float more = sli_activate(job.act, product + error), less = sli_activate(job.act, product - error);
    return sqrtf(0.5f * (more * more + less * less) * (other * other + other_error));
}

/* A block has a panel of 32 rows of both matrices. Its half warps make the sums of blocks of columns, then a thread per row of either adds them up, one after
 * the other, and one per neuron makes its score. */
static __global__ void __launch_bounds__(THREADS) scores_kernel(scores_job job, sli_acts_view x)
{
    __shared__ uint32_t before[SIGN_BLOCKS + 1];
    __shared__ int isum[2][SIGN_BLOCKS][SL_SIGN_ROWS];
    __shared__ float products[2][SL_SIGN_ROWS];
    uint32_t blocks = x.cols / SL_SIGN_COLS, i = threadIdx.x % 16, all = 0;
    uint32_t matrix = threadIdx.x / SL_SIGN_ROWS, in_panel = threadIdx.x % SL_SIGN_ROWS;
    for (uint32_t b = 0; b < blocks; b++) /* planes of a row: a few hundred bytes that stay in the cache */
        all += __ldg(job.planes + b);
    size_t panel = (size_t)blockIdx.x * all * SL_SIGN_PLANE_BYTES;
    float acc = 0.0f;

    for (uint32_t first = 0; first < blocks; first += SIGN_BLOCKS) {
        uint32_t count = min(blocks - first, (uint32_t)SIGN_BLOCKS);
        if (threadIdx.x < 32)
            count_planes(job.planes + first, count, before);
        __syncthreads();
        for (uint32_t n = threadIdx.x / 16; n < 2 * count; n += HALF_WARPS) {
            int sums[2];
            uint32_t of = n / count, b = n % count;
            dot_block(job.panels[of] + panel + (size_t)before[b] * SL_SIGN_PLANE_BYTES, job.planes[first + b],
                      (const int *)x.q + (size_t)(first + b) * 8, x.sum[first + b], sums);
            isum[of][b][i] = sums[0];
            isum[of][b][16 + i] = sums[1];
        }
        __syncthreads();
        if (matrix < 2)
            for (uint32_t b = 0; b < count; b++)
                acc = fmaf(__ldg(x.d + first + b), (float)isum[matrix][b][in_panel], acc);
        panel += (size_t)before[SIGN_BLOCKS] * SL_SIGN_PLANE_BYTES;
        __syncthreads();
    }
    if (matrix < 2)
        products[matrix][in_panel] = acc;
    __syncthreads();
    uint32_t neuron = blockIdx.x * SL_SIGN_ROWS + in_panel;
    if (matrix == 0 && neuron < job.ff)
        job.scores[neuron] = score_of(job, neuron, products[0][in_panel], products[1][in_panel]);
}

sl_status sli_device_guess_scores(sl_device *dev, const sl_device_guess *g, sl_glu act, const sl_device_acts *x, sl_device_ptr scores,
                                  sl_error *err)
{
    assert(x->rows == 1 && x->cols % SL_SIGN_COLS == 0);
    scores_job job = {act,
                      g->ff,
                      sli_at<const uint8_t>(g->planes),
                      {sli_at<const uint8_t>(g->gate), sli_at<const uint8_t>(g->up)},
                      sli_at<const uint16_t>(g->neurons),
                      sli_at<float>(scores)};
    uint64_t bytes = 2 * (uint64_t)g->planes_sum * SL_SIGN_PLANE_BYTES / SL_SIGN_ROWS * g->ff + (uint64_t)g->ff * 12;
    return sli_launch(dev, err, bytes, scores_kernel, dim3((g->ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS), dim3(THREADS), 0, job,
                      sli_view_of(x));
}

/* A thread has four inputs, which it quantises at once. */
static __global__ void __launch_bounds__(THREADS)
    inputs_kernel(const float *x, const uint32_t *select, const float *factors, size_t fours, float4 *out, sli_quantised to)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    bool there = i < fours;
    float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t n = 0; there && n < 4; n++)
        v[n] = x[select != NULL ? select[4 * i + n] : 4 * i + n] * factors[4 * i + n];
    if (there)
        out[i] = make_float4(v[0], v[1], v[2], v[3]);
    sli_quantise_fours(to, i, there, make_float4(v[0], v[1], v[2], v[3]));
}

sl_status sli_device_guess_inputs(sl_device *dev, sl_device_ptr x, sl_device_ptr select, sl_device_ptr factors, const sl_device_acts *out,
                                  sl_error *err)
{
    assert(out->rows == 1 && out->cols % SL_ACT_BLOCK == 0);
    uint32_t fours = out->cols / 4;
    return sli_launch(dev, err, (uint64_t)out->cols * 17, inputs_kernel, dim3((fours + THREADS - 1) / THREADS), dim3(THREADS), 0,
                      sli_at<const float>(x), sli_at<const uint32_t>(select), sli_at<const float>(factors), (size_t)fours,
                      sli_at<float4>(out->f32), sli_quantised_of(out));
}

/* kernels/cuda/matmul_batch.cu: products of many rows of activations: a prompt. Arithmetic decides here, so each weight is decoded once for 64 rows (32
 * of formats that need more registers), and a segment of those rows lies in shared memory for all warps of a block.
 *
 * Of one line a warp decodes its panel's words once (two loads a lane), then does eight (four) matrix products of 4096 multiply-adds; each is followed by
 * twelve instructions of D2 a lane and fed by two shared loads. With what decoding and addresses cost, Q4_0 takes 22 instructions for each product, K-quants
 * of four bits 26: so a multiprocessor of four schedulers does at most 760 (630) multiply-adds a cycle. That is more than a consumer GPU's tensor cores do in
 * fp16 (512), three quarters of what they do with bytes. An H200 does 2048 in fp16: there at most 37 % (31 %) of cuBLAS's peak can be had. */
#include "kernels/cuda/tile.h"

#define WARPS 8
#define PITCH 36 /* of a column, in pairs of words: 72 words are 8 banks on, so that the four columns of a half warp do not meet */

/* Products of a line: 64 rows, or 32 where two sums per result and the scales of a block of 256 take too many registers. */
template <uint32_t TYPE> struct tiles {
    static constexpr int count = sli_form_of(TYPE).elements == 256 ? 4 : 8;
};

/* A segment of 8 NT rows: of each line the words t and 4 + t side by side. Shares of a line's halves, or [0] of all of it. */
template <uint32_t TYPE> struct staged {
    static constexpr int columns = tiles<TYPE>::count * SLI_TILE_COLS, shares = !sli_form_of(TYPE).has_min    ? 0
                                                                                : sli_form_of(TYPE).sub == 16 ? 2
                                                                                                              : 1;
    uint2 q[columns * PITCH];
    float d[SLI_SEGMENT_LINES][columns], share[shares == 0 ? 1 : shares][SLI_SEGMENT_LINES][shares == 0 ? 1 : columns];
};

template <uint32_t TYPE> struct acts_staged {
    const staged<TYPE> &s;

    SLI_METHOD void pair(int n, int j, uint32_t word[2]) const
    {
        uint32_t lane = threadIdx.x % 32;
        uint2 both = s.q[((uint32_t)n * SLI_TILE_COLS + lane / 4) * PITCH + (uint32_t)j * 4 + lane % 4];
        word[0] = both.x;
        word[1] = both.y;
    }
    SLI_METHOD void scales(int n, int j, float d[2]) const
    {
        float2 both = *(const float2 *)&s.d[j][(uint32_t)n * SLI_TILE_COLS + threadIdx.x % 4 * 2];
        d[0] = both.x;
        d[1] = both.y;
    }
    SLI_METHOD void shares(int n, int j, const float *, float share[2][2]) const
    {
        for (int half = 0; half < staged<TYPE>::shares; half++) {
            float2 both = *(const float2 *)&s.share[half][j][(uint32_t)n * SLI_TILE_COLS + threadIdx.x % 4 * 2];
            share[0][half] = both.x;
            share[1][half] = both.y;
        }
    }
};

/* Columns that x does not have repeat the last one. */
template <uint32_t TYPE> SLI_DEVICE void stage(const sli_acts_view &x, uint32_t first_row, uint32_t segment, staged<TYPE> *s)
{
    uint32_t blocks = x.cols / SLI_LINE_COLS, lines = min(blocks - segment * SLI_SEGMENT_LINES, (uint32_t)SLI_SEGMENT_LINES);
    for (uint32_t i = threadIdx.x; i < s->columns * SLI_SEGMENT_LINES; i += WARPS * 32) {
        uint32_t column = i / SLI_SEGMENT_LINES, j = i % SLI_SEGMENT_LINES;
        if (j >= lines)
            continue;
        size_t block = (size_t)min(first_row + column, x.rows - 1) * blocks + segment * SLI_SEGMENT_LINES + j;
        const int4 *q = (const int4 *)(x.q + block * SLI_LINE_COLS);
        int4 low = __ldg(q), high = __ldg(q + 1);
        uint2 *to = s->q + column * PITCH + j * 4;
        to[0] = make_uint2((uint32_t)low.x, (uint32_t)high.x);
        to[1] = make_uint2((uint32_t)low.y, (uint32_t)high.y);
        to[2] = make_uint2((uint32_t)low.z, (uint32_t)high.z);
        to[3] = make_uint2((uint32_t)low.w, (uint32_t)high.w);
        float d = __ldg(x.d + block), share[2];
        s->d[j][column] = d;
        if constexpr (staged<TYPE>::shares != 0) {
            sli_shares<TYPE>(low, d, __ldg(x.sum + block), share);
            for (int half = 0; half < staged<TYPE>::shares; half++)
                s->share[half][j][column] = share[half];
        }
    }
}

/* Block: WARPS x 32, a warp has a panel; grid: tiles of rows, whose blocks find the panels in the cache, x groups of WARPS panels. */
template <uint32_t TYPE> __global__ void __launch_bounds__(WARPS * 32, 2) batch_kernel(sli_products products, sli_acts_view x)
{
    constexpr int NT = tiles<TYPE>::count;
    __shared__ staged<TYPE> s;
    uint32_t lane = threadIdx.x % 32, index = blockIdx.y * WARPS + threadIdx.x / 32, first_row = blockIdx.x * NT * SLI_TILE_COLS;
    bool has_panel = index < products.panels;
    sli_panel panel = sli_find_panel<TYPE>(products, x.cols, has_panel ? index : products.panels - 1);
    float total[NT][4] = {};

    for (uint32_t segment = 0; segment < sli_segments_of(x.cols); segment++) {
        __syncthreads();
        stage(x, first_row, segment, &s);
        __syncthreads();
        float out[NT][4];
        acts_staged<TYPE> acts = {s};
        sli_tile_segment<TYPE, NT>(panel.bytes, x.cols, segment, acts, out);
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[n][i] = total[n][i] + out[n][i];
    }
    if (!has_panel)
        return;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t a = first_row + (uint32_t)n * SLI_TILE_COLS + lane % 4 * 2 + i % 2;
            if (a < x.rows)
                sli_put_result(*panel.product, panel.first_row + lane / 4 + i / 2 * 8, a, total[n][i]);
        }
}

template <uint32_t TYPE>
static sl_status launch(sl_device *dev, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes, sl_error *err)
{
    uint32_t columns = tiles<TYPE>::count * SLI_TILE_COLS;
    return sli_launch(dev, err, memory_bytes, batch_kernel<TYPE>,
                      dim3((x->rows + columns - 1) / columns, (products->panels + WARPS - 1) / WARPS), dim3(WARPS * 32), 0, *products, *x);
}

sl_status sli_matmul_batch(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                           sl_error *err)
{
    SLI_FOR_QUANTIZED(type, launch, dev, products, x, memory_bytes, err)
    return sl_fail(err, SL_INTERNAL, "type %u has no tiles", type);
}

/* kernels/cuda/matmul_tiles.cu: products of some ten to a hundred rows of activations: checks and trees, for which weights still come from memory once
 * and are used a few dozen times.
 *
 * A block has one panel; its warps share the segments, so that there are enough warps to keep memory busy even for small matrices (288 panels of a
 * projection of 4608 rows are 2304 warps). Activations are read in place: they are few, and stay in the nearest cache. */
#include "kernels/cuda/tile.h"

#define WARPS 8

/* Part of activations. One operation finds what lies 32 bits behind a place that all threads share, two an address of 64. */
template <typename T, typename Base> SLI_DEVICE T at(const Base *base, uint32_t offset_bytes)
{
    return __ldg((const T *)((const char *)base + offset_bytes));
}

/* Activations in place; columns that x does not have repeat the last one. */
template <uint32_t TYPE> struct acts_in_place {
    const sli_acts_view &x;
    uint32_t first_row, segment;

    SLI_METHOD uint32_t block(uint32_t column, int j) const
    {
        uint32_t row = min(first_row + column, x.rows - 1);
        return row * (x.cols / SLI_LINE_COLS) + segment * SLI_SEGMENT_LINES + (uint32_t)j;
    }
    SLI_METHOD void pair(int n, int j, uint32_t word[2]) const
    {
        uint32_t lane = threadIdx.x % 32, column = (uint32_t)n * SLI_TILE_COLS + lane / 4;
        uint32_t offset = block(column, j) * SLI_LINE_COLS + lane % 4 * 4;
        word[0] = at<uint32_t>(x.q, offset);
        word[1] = at<uint32_t>(x.q + 16, offset);
    }
    SLI_METHOD void scales(int n, int j, float d[2]) const
    {
        for (uint32_t i = 0; i < 2; i++)
            d[i] = at<float>(x.d, block((uint32_t)n * SLI_TILE_COLS + threadIdx.x % 4 * 2 + i, j) * 4);
    }
    SLI_METHOD void shares(int n, int j, const float d[2], float share[2][2]) const
    {
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t block = this->block((uint32_t)n * SLI_TILE_COLS + threadIdx.x % 4 * 2 + i, j);
            int4 first = sli_form_of(TYPE).sub == 16 ? at<int4>(x.q, block * SLI_LINE_COLS) : int4{};
            sli_shares<TYPE>(first, d[i], at<int>(x.sum, block * 4), share[i]);
        }
    }
};

/* Block: WARPS x 32; grid: tiles of 8 NT rows of activations x panels. Shared: sums [warp][column][16]. */
template <uint32_t TYPE, int NT> __global__ void __launch_bounds__(WARPS * 32, 2) tiles_kernel(sli_products products, sli_acts_view x)
{
    constexpr uint32_t columns = NT * SLI_TILE_COLS, results = columns * SL_PANEL_ROWS, mine = (results + WARPS * 32 - 1) / (WARPS * 32);
    __shared__ float sums[WARPS][results];
    sli_panel panel = sli_find_panel<TYPE>(products, x.cols, blockIdx.y);
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, segments = sli_segments_of(x.cols), first_row = blockIdx.x * columns;
    float total[mine] = {};

    for (uint32_t first = 0; first < segments; first += WARPS) {
        if (first + warp < segments) {
            float out[NT][4];
            acts_in_place<TYPE> acts = {x, first_row, first + warp};
            sli_tile_segment<TYPE, NT>(panel.bytes, x.cols, first + warp, acts, out);
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (uint32_t i = 0; i < 4; i++)
                    sums[warp][((uint32_t)n * SLI_TILE_COLS + lane % 4 * 2 + i % 2) * SL_PANEL_ROWS + lane / 4 + i / 2 * 8] = out[n][i];
        }
        __syncthreads();
#pragma unroll
        for (uint32_t i = 0; i < mine; i++)
            for (uint32_t w = 0; w < WARPS && first + w < segments; w++)
                total[i] = total[i] + sums[w][i * WARPS * 32 + threadIdx.x];
        __syncthreads();
    }
#pragma unroll
    for (uint32_t i = 0; i < mine; i++) {
        uint32_t at = i * WARPS * 32 + threadIdx.x, a = first_row + at / SL_PANEL_ROWS;
        if (a < x.rows)
            sli_put_result(*panel.product, panel.first_row + at % SL_PANEL_ROWS, a, total[i]);
    }
}

template <uint32_t TYPE, int NT>
static sl_status launch(sl_device *dev, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes, sl_error *err)
{
    uint32_t columns = NT * SLI_TILE_COLS;
    return sli_launch(dev, err, memory_bytes, tiles_kernel<TYPE, NT>, dim3((x->rows + columns - 1) / columns, products->panels),
                      dim3(WARPS * 32), 0, *products, *x);
}

template <uint32_t TYPE>
static sl_status by_tiles(sl_device *dev, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes, sl_error *err)
{
    if (x->rows <= 2 * SLI_TILE_COLS)
        return launch<TYPE, 2>(dev, products, x, memory_bytes, err);
    return launch<TYPE, 4>(dev, products, x, memory_bytes, err);
}

sl_status sli_matmul_tiles(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                           sl_error *err)
{
    SLI_FOR_QUANTIZED(type, by_tiles, dev, products, x, memory_bytes, err)
    return sl_fail(err, SL_INTERNAL, "type %u has no tiles", type);
}

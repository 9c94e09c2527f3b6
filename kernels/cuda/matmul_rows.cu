/* kernels/cuda/matmul_rows.cu: products of a few rows of activations: decoding, drafts, and all of the float formats.
 *
 * A thread has one row of a panel and one segment; sixteen neighbouring threads have the panel's rows, so that a word of all of them is 64 bytes in one
 * piece: two whole sectors, and the next word is the line's other half. Nothing is shared before the segments' sums, which one thread per result adds in
 * order.
 *
 * What this reaches. To keep memory busy, bandwidth x latency must be on its way: 250 GB/s x 0.6 us = 150 KB for a laptop's GPU (24 multiprocessors: 6 KB
 * each), 4.8 TB/s x 0.7 us = 3.4 MB for an H200 (132: 26 KB each). A thread's segment of Q4_0 is straight code with 40 loads (144 bytes) that depend on
 * nothing; at 64 registers 1024 threads are resident, which need 26 bytes each in flight: seven of the 40. Arithmetic is no limit for one row: 2.2
 * instructions a byte, and while a byte arrives an H200's schedulers have 7 to give, the laptop's 28. Four rows cost 7.7, eight 12.6: there an H200 has
 * 55 % of its bandwidth left, and the laptop all of it. (Counted in what the compiler makes; other formats in bench/SPEED.md.) */
#include "kernels/cuda/products.h"

/* Segments of a block at once, and blocks that are to be resident: 64 registers for one row, 80 for several. */
template <int A> struct shape {
    static constexpr uint32_t segments = A == 1 ? 32 : 24, threads = segments * SL_PANEL_ROWS;
};

template <uint32_t TYPE, int A>
SLI_DEVICE void dot(const uint8_t *panel, const sli_acts_view &x, uint32_t first, uint32_t segment, uint32_t r, float *out)
{
    if constexpr (sli_form_of(TYPE).words != 0)
        sli_dot_segment<TYPE, A>(sli_panel_source<TYPE>(panel, x.cols, segment, r), x, first, segment, out);
    else
        sli_dot_floats<TYPE, A>(sli_panel_floats<TYPE>(panel, x.cols, segment, r), x, first, segment, out);
}

/* Block: 16 rows x segments; grid: groups of A rows of activations, whose blocks find a panel in the cache, x panels. Shared: totals [A][16], then sums [segment][A][16]. */
template <uint32_t TYPE, int A> __global__ void __launch_bounds__(shape<A>::threads, 2) rows_kernel(sli_products products, sli_acts_view x)
{
    SLI_DYNAMIC_SHARED(float, totals);
    float *sums = totals + A * SL_PANEL_ROWS;
    sli_panel panel = sli_find_panel<TYPE>(products, x.cols, blockIdx.y);
    uint32_t r = threadIdx.x, segments = sli_segments_of(x.cols), first_row = blockIdx.x * A;
    uint32_t me = threadIdx.y * SL_PANEL_ROWS + r, threads = blockDim.y * SL_PANEL_ROWS;

    for (uint32_t first = 0; first < segments; first += blockDim.y) {
        if (first + threadIdx.y < segments) {
            float out[A];
            dot<TYPE, A>(panel.bytes, x, first_row, first + threadIdx.y, r, out);
#pragma unroll
            for (int a = 0; a < A; a++)
                sums[(threadIdx.y * A + (uint32_t)a) * SL_PANEL_ROWS + r] = out[a];
        }
        __syncthreads();
        for (uint32_t i = me; i < A * SL_PANEL_ROWS; i += threads) {
            float total = first == 0 ? 0.0f : totals[i];
            for (uint32_t s = 0; s < blockDim.y && first + s < segments; s++)
                total = total + sums[s * A * SL_PANEL_ROWS + i];
            totals[i] = total;
        }
        __syncthreads();
    }
    for (uint32_t i = me; i < A * SL_PANEL_ROWS; i += threads)
        if (first_row + i / SL_PANEL_ROWS < x.rows)
            sli_put_result(*panel.product, panel.first_row + i % SL_PANEL_ROWS, first_row + i / SL_PANEL_ROWS, totals[i]);
}

template <uint32_t TYPE, int A>
static sl_status launch(sl_device *dev, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes, sl_error *err)
{
    uint32_t segments = (x->cols + SLI_SEGMENT_COLS - 1) / SLI_SEGMENT_COLS,
             passes = (segments + shape<A>::segments - 1) / shape<A>::segments;
    uint32_t at_once = (segments + passes - 1) / passes;
    return sli_launch(dev, err, memory_bytes, rows_kernel<TYPE, A>, dim3((x->rows + A - 1) / A, products->panels),
                      dim3(SL_PANEL_ROWS, at_once), (size_t)(at_once + 1) * A * SL_PANEL_ROWS * sizeof(float), *products, *x);
}

template <uint32_t TYPE>
static sl_status by_rows(sl_device *dev, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes, sl_error *err)
{
    if (x->rows == 1)
        return launch<TYPE, 1>(dev, products, x, memory_bytes, err);
    if (x->rows <= 4)
        return launch<TYPE, 4>(dev, products, x, memory_bytes, err);
    return launch<TYPE, 8>(dev, products, x, memory_bytes, err);
}

sl_status sli_matmul_rows(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                          sl_error *err)
{
    SLI_FOR_QUANTIZED(type, by_rows, dev, products, x, memory_bytes, err)
    if (type == SL_TYPE_F32)
        return by_rows<SL_TYPE_F32>(dev, products, x, memory_bytes, err);
    return type == SL_TYPE_F16 ? by_rows<SL_TYPE_F16>(dev, products, x, memory_bytes, err)
                               : by_rows<SL_TYPE_BF16>(dev, products, x, memory_bytes, err);
}

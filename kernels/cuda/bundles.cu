/* kernels/cuda/bundles.cu: gate and up rows of a list of neurons, each of which lies as a bundle somewhere, device memory or host memory (D2, D3, D6); the
 * table that says where, and their ways: to a slot, and to the ring.
 *
 * A block copies the rows of a few neurons to shared memory as they lie, in whole lines, because over PCIe a line costs what half of one does, and 2-byte
 * loads of packed blocks would ask for each several times; all rows of activations read them there. Then a thread has a segment of one of the rows. */
#include "kernels/cuda/activate.h"
#include "kernels/cuda/products.h"

#include <assert.h>

#define THREADS      256
#define STAGED_BYTES (40 * 1024) /* of rows in shared memory */
#define NEURONS_MAX  32          /* of a block */

/* The segment of any format: the branch is the same for all threads of a row. */
SLI_DEVICE float dot_any(uint32_t type, const uint8_t *row, const sli_acts_view &x, uint32_t a, uint32_t segment)
{
    float out[1] = {0.0f};
    switch (type) {
#define CASE(T)                                                                                                                            \
    case T:                                                                                                                                \
        if constexpr (sli_form_of(T).words != 0)                                                                                           \
            sli_dot_segment<T, 1>(sli_row_source<T>(row, segment), x, a, segment, out);                                                    \
        else                                                                                                                               \
            sli_dot_floats<T, 1>(sli_row_source<T>(row, segment), x, a, segment, out);                                                     \
        break
        CASE(SL_TYPE_F32);
        CASE(SL_TYPE_F16);
        CASE(SL_TYPE_BF16);
        CASE(SL_TYPE_Q4_0);
        CASE(SL_TYPE_Q4_1);
        CASE(SL_TYPE_Q5_0);
        CASE(SL_TYPE_Q5_1);
        CASE(SL_TYPE_Q8_0);
        CASE(SL_TYPE_IQ4_NL);
        CASE(SL_TYPE_Q2_K);
        CASE(SL_TYPE_Q3_K);
        CASE(SL_TYPE_Q4_K);
        CASE(SL_TYPE_Q5_K);
        CASE(SL_TYPE_Q6_K);
        CASE(SL_TYPE_IQ4_XS);
#undef CASE
    default: break;
    }
    return out[0];
}

struct gate_up_job {
    uint32_t gate_type, up_type, gate_bytes, row_bytes; /* of both rows, which are neighbours */
    uint32_t pitch;                                     /* of a neuron's rows in shared memory; 0: they are too long and read in place */
    uint32_t at_once;                                   /* neurons of a block */
    uint32_t count, ff;
    const uint8_t *const *at;
    const uint32_t *neurons;
    float *h; /* [rows][ff] */
    sl_glu act;
};

/* What the block's threads copy together, in the largest pieces that both addresses allow; they are 2-byte aligned, and so is `bytes`. */
template <typename T> SLI_DEVICE void copy_pieces(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    uint32_t whole = bytes / sizeof(T);
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < whole; i += THREADS)
        ((T *)to)[i] = ((const T *)from)[i];
    for (uint32_t i = whole * (sizeof(T) / 2) + threadIdx.x; i < bytes / 2; i += THREADS)
        ((uint16_t *)to)[i] = ((const uint16_t *)from)[i];
}

SLI_DEVICE void copy_rows(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    uintptr_t both = (uintptr_t)from | (uintptr_t)to;
    if (both % 16 == 0)
        copy_pieces<uint4>(to, from, bytes);
    else if (both % 4 == 0)
        copy_pieces<uint32_t>(to, from, bytes);
    else
        copy_pieces<uint16_t>(to, from, bytes);
}

SLI_DEVICE uint32_t neuron_of(const gate_up_job &job, uint32_t i)
{
    return job.neurons != NULL ? job.neurons[i] : i;
}

/* Shared: rows [neuron][pitch], then sums [neuron][gate, up][segment]. */
static __global__ void __launch_bounds__(THREADS) gate_up_kernel(gate_up_job job, sli_acts_view x)
{
    SLI_DYNAMIC_SHARED(uint8_t, rows);
    float *sums = (float *)(rows + (size_t)job.at_once * job.pitch);
    uint32_t first = blockIdx.x * job.at_once, count = min(job.count - first, job.at_once), segments = sli_segments_of(x.cols);
    for (uint32_t i = 0; i < count && job.pitch != 0; i++)
        copy_rows(rows + i * job.pitch, job.at[neuron_of(job, first + i)], job.row_bytes);
    __syncthreads();
    for (uint32_t a = 0; a < x.rows; a++) {
        for (uint32_t i = threadIdx.x; i < count * 2 * segments; i += THREADS) {
            uint32_t segment = i % segments, matrix = i / segments % 2, neuron = i / segments / 2;
            const uint8_t *row = job.pitch != 0 ? rows + neuron * job.pitch : job.at[neuron_of(job, first + neuron)];
            sums[i] = dot_any(matrix == 0 ? job.gate_type : job.up_type, row + (matrix == 0 ? 0 : job.gate_bytes), x, a, segment);
        }
        __syncthreads();
        if (threadIdx.x < count) {
            float product[2] = {0.0f, 0.0f};
            for (uint32_t i = 0; i < 2 * segments; i++)
                product[i / segments] = product[i / segments] + sums[threadIdx.x * 2 * segments + i];
            job.h[(size_t)a * job.ff + neuron_of(job, first + threadIdx.x)] = sli_activate(job.act, product[0]) * product[1];
        }
        __syncthreads();
    }
}

sl_status sli_device_bundle_gate_up(sl_device *dev, const sl_device_bundles *b, sl_glu act, sl_device_ptr neurons, uint32_t count,
                                    const sl_device_acts *x, sl_device_ptr h, sl_error *err)
{
    assert(x->cols == b->d);
    if (count == 0)
        return SL_OK;
    uint32_t row_bytes = b->gate_bytes + b->up_bytes, segments = (x->cols + SLI_SEGMENT_COLS - 1) / SLI_SEGMENT_COLS;
    uint32_t pitch = (row_bytes + 15) / 16 * 16, at_once = NEURONS_MAX;
    if (pitch > STAGED_BYTES)
        pitch = 0;
    else if (at_once > STAGED_BYTES / pitch)
        at_once = STAGED_BYTES / pitch;
    uint32_t by_threads = THREADS / (2 * segments) > 0 ? THREADS / (2 * segments)
                                                       : 1; /* a thread has one segment, unless rows are very long */
    at_once = at_once < by_threads ? at_once : by_threads;
    gate_up_job job = {b->gate_type,
                       b->up_type,
                       b->gate_bytes,
                       row_bytes,
                       pitch,
                       at_once,
                       count,
                       b->ff,
                       sli_at<const uint8_t *const>(b->at),
                       sli_at<const uint32_t>(neurons),
                       sli_at<float>(h),
                       act};
    uint64_t bytes = (uint64_t)count * row_bytes * (pitch != 0 ? 1 : x->rows);
    return sli_launch(dev, err, sli_traffic(bytes, (uint64_t)((double)b->host_share * (double)bytes)), gate_up_kernel,
                      dim3((count + at_once - 1) / at_once), dim3(THREADS), (size_t)at_once * (pitch + 2 * segments * sizeof(float)), job,
                      sli_view_of(x));
}

/* ---- where they lie ---- */

#define UNITS_AT_ONCE 256 /* of a launch: their addresses are arguments */

struct table_job {
    uint32_t ff, per_unit, stride, first, count; /* of units */
    const uint32_t *place_of;
    const uint8_t *nowhere, **at;
    const uint8_t *unit[UNITS_AT_ONCE];
};

static __global__ void __launch_bounds__(THREADS) table_kernel(table_job job)
{
    uint32_t neuron = blockIdx.x * THREADS + threadIdx.x;
    if (neuron >= job.ff)
        return;
    uint32_t place = job.place_of[neuron], unit = place / job.per_unit - job.first; /* wraps below the first */
    if (unit < job.count)
        job.at[neuron] = job.unit[unit] == NULL ? job.nowhere : job.unit[unit] + (size_t)(place % job.per_unit) * job.stride;
}

sl_status sli_device_bundle_table(sl_device *dev, const sl_device_ptr *units, uint32_t count, uint32_t per_unit, uint32_t stride,
                                  sl_device_ptr place_of, uint32_t ff, sl_device_ptr nowhere, sl_device_ptr at, sl_error *err)
{
    assert(per_unit > 0 && (uint64_t)count * per_unit >= ff);
    for (uint32_t first = 0; first < count; first += UNITS_AT_ONCE) {
        table_job job = {ff,
                         per_unit,
                         stride,
                         first,
                         count - first < UNITS_AT_ONCE ? count - first : UNITS_AT_ONCE,
                         sli_at<const uint32_t>(place_of),
                         sli_at<const uint8_t>(nowhere),
                         sli_at<const uint8_t *>(at),
                         {}};
        for (uint32_t i = 0; i < job.count; i++)
            job.unit[i] = sli_at<const uint8_t>(units[first + i]);
        SL_TRY(sli_launch(dev, err, (uint64_t)ff * (sizeof(uint32_t) + sizeof(sl_device_ptr)), table_kernel,
                          dim3((ff + THREADS - 1) / THREADS), dim3(THREADS), 0, job));
    }
    return SL_OK;
}

/* One block: some thousand neurons are a few a thread. */
static __global__ void __launch_bounds__(THREADS)
    count_kernel(const uint8_t *const *at, const uint8_t *nowhere, const uint32_t *neurons, uint32_t count, uint32_t times, uint64_t *sum)
{
    __shared__ uint32_t found;
    uint32_t mine = 0;
    if (threadIdx.x == 0)
        found = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += THREADS)
        mine += at[neurons[i]] == nowhere;
    atomicAdd(&found, mine);
    __syncthreads();
    if (threadIdx.x == 0)
        *sum += (uint64_t)found * times;
}

sl_status sli_device_bundle_count(sl_device *dev, sl_device_ptr at, sl_device_ptr nowhere, sl_device_ptr neurons, uint32_t count,
                                  uint32_t times, sl_device_ptr sum, sl_error *err)
{
    return sli_launch(dev, err, (uint64_t)count * (sizeof(uint32_t) + sizeof(sl_device_ptr)), count_kernel, dim3(1), dim3(THREADS), 0,
                      sli_at<const uint8_t *const>(at), sli_at<const uint8_t>(nowhere), sli_at<const uint32_t>(neurons), count, times,
                      sli_at<uint64_t>(sum));
}

/* ---- their ways ---- */

struct settle_job {
    uint32_t per_unit, stride, first; /* slot */
    const uint32_t *holders;
    const uint8_t **at, **also;
    uint8_t *unit[UNITS_AT_ONCE];
};

/* A block has a slot. No two have one neuron. */
static __global__ void __launch_bounds__(THREADS) settle_kernel(settle_job job)
{
    uint32_t holder = job.holders[job.first + blockIdx.x], neuron = holder & ~SL_DEVICE_FRESH;
    uint8_t *slot = job.unit[blockIdx.x / job.per_unit] + (size_t)(blockIdx.x % job.per_unit) * job.stride;
    if (neuron != holder)
        copy_rows(slot, job.at[neuron], job.stride);
    __syncthreads();
    if (threadIdx.x == 0)
        job.at[neuron] = job.also[neuron] = slot;
}

sl_status sli_device_bundle_settle(sl_device *dev, sl_device_ptr holders, uint32_t slots, uint32_t fresh, const sl_device_ptr *units,
                                   uint32_t per_unit, uint32_t stride, sl_device_ptr at, sl_device_ptr also, sl_error *err)
{
    assert(stride % 2 == 0 && fresh <= slots);
    uint64_t bytes = (uint64_t)fresh * stride;
    for (uint32_t first = 0; first < slots; first += UNITS_AT_ONCE * per_unit, bytes = 0) { /* whole at the first: on the clock alone */
        uint32_t count = slots - first < UNITS_AT_ONCE * per_unit ? slots - first : UNITS_AT_ONCE * per_unit;
        settle_job job = {
            per_unit, stride, first, sli_at<const uint32_t>(holders), sli_at<const uint8_t *>(at), sli_at<const uint8_t *>(also), {}};
        for (uint32_t i = 0; i * per_unit < count; i++)
            job.unit[i] = sli_at<uint8_t>(units[first / per_unit + i]);
        SL_TRY(sli_launch(dev, err, sli_traffic(bytes, bytes), settle_kernel, dim3(count), dim3(THREADS), 0, job));
    }
    return SL_OK;
}

/* A block has a bundle. */
static __global__ void __launch_bounds__(THREADS)
    gather_kernel(const uint32_t *neurons, uint32_t stride, const uint8_t *const *from, uint8_t *to, const uint8_t **at)
{
    uint32_t neuron = neurons[blockIdx.x];
    uint8_t *room = to + (size_t)blockIdx.x * stride;
    copy_rows(room, from[neuron], stride);
    if (threadIdx.x == 0)
        at[neuron] = room;
}

sl_status sli_device_bundle_gather(sl_device *dev, sl_device_ptr neurons, uint32_t count, uint32_t stride, sl_device_ptr from,
                                   sl_device_ptr to, sl_device_ptr at, sl_error *err)
{
    uint64_t bytes = (uint64_t)count * stride;
    assert(stride % 2 == 0);
    if (count == 0)
        return SL_OK;
    return sli_launch_on(dev, SL_STREAM_COPY, err, sli_traffic(bytes, bytes), gather_kernel, dim3(count), dim3(THREADS), 0,
                         sli_at<const uint32_t>(neurons), stride, sli_at<const uint8_t *const>(from), sli_at<uint8_t>(to),
                         sli_at<const uint8_t *>(at));
}

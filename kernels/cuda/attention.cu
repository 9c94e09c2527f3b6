/* kernels/cuda/attention.cu: attention over pages of stored keys and values (D5), in three kernels.
 *
 *     scores     s of every slot of a page, a thread for a slot, for up to eight queries at once; and each page's largest
 *     weights    p, page sum and correction of every page: the largest so far is a prefix's, and a largest knows no order, so that all pages of a
 *                query are done at once; and the values are asked for
 *     values     o: for each component a chain over all positions, as D5 has it. It cannot be split, so what counts is that it never waits: a
 *                warp has 32 components of a query, and fetches 32 positions ahead
 *
 * A row of a tree finds position pos0 + k in the slot that its path names. Scores are by slot, weights and values by position.
 *
 * Rows are done a number at a time, so that scores of many rows stay in SCRATCH_BYTES. What is in the scratch, for each query (row, head):
 *     scores [slots], weights [slots], largest [pages], sum [pages], correction [pages]
 *
 * The grid is for the largest number of positions that the pass may have; pages beyond what is there end at once. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/kv.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sight.h"

#include <assert.h>

#define MAX_HEAD_DIM  512
#define STEP          16 /* components whose keys are in registers */
#define AHEAD         32 /* positions whose values are */
#define MEMORY_LINE   128u
#define VALUES_WARPS  4 /* queries of a block */
#define SCRATCH_BYTES ((uint64_t)48 << 20)

struct attention_job {
    uint32_t rows, row0, heads, kv_heads, head_dim, window, pages; /* rows of this launch, from row0 of the pass on */
    float scale;
    const float *q;
    float *out;
    const sl_device_pass *pass;
    sli_kv kv;
    float *scores, *weights, *largest, *sums, *corrections;
    sli_quantised quantised;
};

SLI_DEVICE sli_sight sight_of(const attention_job &job, uint32_t row)
{
    return sli_sight_of(job.pass, job.window, job.row0 + row);
}
/* Slots that the row may need: of a tree all before its own and its own. */
SLI_DEVICE uint32_t slots_end(const attention_job &job, const sli_sight &see, uint32_t row)
{
    return see.path != NULL ? job.pass->pos0 + job.pass->first + job.row0 + row + 1 : see.end;
}

/* ---- scores ---- */

/* Keys of components [c, c + STEP) in this slot, widened as D5 says. */
template <uint32_t TYPE> SLI_DEVICE void load_keys(const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim, float *k)
{
    if (TYPE == SL_TYPE_F32) {
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++)
            k[i] = ((const float *)page)[(c + i) * SL_KV_PAGE + index];
    } else if (TYPE == SL_TYPE_F16 || TYPE == SL_TYPE_BF16) {
        uint16_t half[STEP];
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++)
            half[i] = ((const uint16_t *)page)[(c + i) * SL_KV_PAGE + index];
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++)
            k[i] = TYPE == SL_TYPE_F16 ? sli_f16_to_f32(half[i]) : sli_bf16_to_f32(half[i]);
    } else {
        uint32_t units = TYPE == SL_TYPE_Q4_0 ? head_dim / 2 : head_dim;
        const uint16_t *scales = (const uint16_t *)(page + SL_KV_PAGE * units);
        float d = sli_f16_to_f32(scales[c / SL_ACT_BLOCK * SL_KV_PAGE + index]);
        uint32_t unit = TYPE == SL_TYPE_Q4_0 ? c / SL_ACT_BLOCK * (SL_ACT_BLOCK / 2)
                                             : c; /* q4_0: low nibbles of 16 bytes, then high ones */
        uint32_t shift = c % SL_ACT_BLOCK < SL_ACT_BLOCK / 2 ? 0 : 4;
        uint8_t byte[STEP];
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++)
            byte[i] = page[(unit + i) * SL_KV_PAGE + index];
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++)
            k[i] = d * (TYPE == SL_TYPE_Q4_0 ? (float)((int)(byte[i] >> shift & 15) - 8) : (float)(int8_t)byte[i]);
    }
}

/* A block has a page of a KV head and QUERIES of its queries: those [first, first + QUERIES) of rows x group. */
template <uint32_t TYPE, uint32_t QUERIES> static __global__ void __launch_bounds__(SL_KV_PAGE) scores_kernel(attention_job job)
{
    __shared__ float4 q_shared[QUERIES][MAX_HEAD_DIM / 4];
    __shared__ float largest[QUERIES][2];
    uint32_t page = blockIdx.x, kv_head = blockIdx.y, group = job.heads / job.kv_heads, first = blockIdx.z * QUERIES;
    uint32_t count = min(QUERIES, job.rows * group - first), dim = job.head_dim, slot = page * SL_KV_PAGE + threadIdx.x;

    /* Rows follow each other, so what the block's first sees begins no later than the others', and its last's slots end no earlier. */
    uint32_t last_row = (first + count - 1) / group;
    sli_sight first_sees = sight_of(job, first / group), last_sees = sight_of(job, last_row);
    if (page * SL_KV_PAGE >= slots_end(job, last_sees, last_row))
        return;
    if (first_sees.path == NULL && (page + 1) * SL_KV_PAGE <= first_sees.begin)
        return;

    float *q_floats = (float *)q_shared;
    for (uint32_t i = threadIdx.x; i < QUERIES * dim; i += SL_KV_PAGE) {
        uint32_t n = first + i / dim, row = n / group, head = kv_head * group + n % group;
        q_floats[i / dim * MAX_HEAD_DIM + i % dim] = n < first + count
                                                         ? job.q[((size_t)(job.row0 + row) * job.heads + head) * dim + i % dim] * job.scale
                                                         : 0.0f;
    }
    __syncthreads();

    float acc[QUERIES];
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++)
        acc[n] = 0.0f;
    if (slot < slots_end(job, last_sees, last_row)) { /* behind it is memory that nobody has written */
        const uint8_t *keys = sli_k_page(job.kv, kv_head, slot);
        for (uint32_t c = 0; c < dim; c += STEP) {
            float k[STEP];
            load_keys<TYPE>(keys, threadIdx.x, c, dim, k);
#pragma unroll
            for (uint32_t i = 0; i < STEP; i += 4) {
#pragma unroll
                for (uint32_t n = 0; n < QUERIES; n++) {
                    float4 q = q_shared[n][(c + i) / 4];
                    acc[n] = fmaf(q.w, k[i + 3], fmaf(q.z, k[i + 2], fmaf(q.y, k[i + 1], fmaf(q.x, k[i], acc[n]))));
                }
            }
        }
    }

    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++) {
        uint32_t row = (first + min(n, count - 1)) / group;
        sli_sight see = sight_of(job, row);
        float m = slot >= see.begin && slot < see.end ? acc[n] : -INFINITY; /* by position: of a tree's pages this is not used */
        for (int other = 16; other > 0; other /= 2)
            m = fmaxf(m, __shfl_xor_sync(SLI_FULL_WARP, m, other));
        if (lane == 0)
            largest[n][warp] = m;
    }
    __syncthreads();
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++) {
        if (n >= count)
            break;
        uint32_t row = (first + n) / group, query = row * job.heads + kv_head * group + (first + n) % group;
        job.scores[(size_t)query * job.pages * SL_KV_PAGE + slot] = acc[n];
        if (threadIdx.x == 0)
            job.largest[(size_t)query * job.pages + page] = fmaxf(largest[n][0], largest[n][1]);
    }
}

/* ---- weights ---- */

SLI_DEVICE float largest_of_block(float x, float shared[2])
{
    for (int other = 16; other > 0; other /= 2)
        x = fmaxf(x, __shfl_xor_sync(SLI_FULL_WARP, x, other));
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = x;
    __syncthreads();
    return fmaxf(shared[0], shared[1]);
}

/* Of a page of values each line. The chain that wants them has few threads, who would wait longer for memory than they compute. */
SLI_DEVICE void prefetch_values(const attention_job &job, uint32_t kv_head, uint32_t page)
{
    const uint8_t *values = sli_v_page(job.kv, kv_head, page * SL_KV_PAGE);
    for (uint64_t at = threadIdx.x * MEMORY_LINE; at < job.kv.v_page_bytes; at += SL_KV_PAGE * MEMORY_LINE)
        sli_prefetch(values + at);
}

/* A block has a page of positions of a query. */
static __global__ void __launch_bounds__(SL_KV_PAGE) weights_kernel(attention_job job)
{
    __shared__ float shared[2], p_shared[SL_KV_PAGE];
    uint32_t page = blockIdx.x, query = blockIdx.y, position = page * SL_KV_PAGE + threadIdx.x;
    sli_sight see = sight_of(job, query / job.heads);
    if (page < see.begin / SL_KV_PAGE || page * SL_KV_PAGE >= see.end)
        return;
    uint32_t head = query % job.heads, group = job.heads / job.kv_heads;
    if (head % group == 0 && query / job.heads == job.rows - 1) /* once for all who want them; the last row sees most */
        prefetch_values(job, head / group, page);
    const float *scores = job.scores + (size_t)query * job.pages * SL_KV_PAGE;
    const float *largest = job.largest + (size_t)query * job.pages;

    /* The largest before this page: of whole pages before the tree as they are, of its own by position. */
    uint32_t whole_end = min(page, see.tree_begin / SL_KV_PAGE);
    float before = -INFINITY;
    for (uint32_t other = see.begin / SL_KV_PAGE + threadIdx.x; other < whole_end; other += SL_KV_PAGE)
        before = fmaxf(before, largest[other]);
    for (uint32_t other = max(whole_end * SL_KV_PAGE, see.begin) + threadIdx.x; other < page * SL_KV_PAGE; other += SL_KV_PAGE)
        before = fmaxf(before, scores[sli_slot_of(see, other)]);
    bool visible = position >= see.begin && position < see.end;
    float s = visible ? scores[sli_slot_of(see, position)] : -INFINITY;
    before = largest_of_block(before, shared);
    float m = fmaxf(before, largest_of_block(s, shared));

    float p = visible ? sli_exp(s - m) : 0.0f;
    job.weights[(size_t)query * job.pages * SL_KV_PAGE + position] = p;
    p_shared[threadIdx.x] = p;
    __syncthreads();
    if (threadIdx.x >= SLI_LANES)
        return;
    float acc = 0.0f;
    for (uint32_t i = threadIdx.x; i < SL_KV_PAGE; i += SLI_LANES)
        acc += p_shared[i];
    acc = sli_fold_lanes(0xffffu, acc);
    if (threadIdx.x == 0) {
        job.sums[(size_t)query * job.pages + page] = acc;
        job.corrections[(size_t)query * job.pages + page] = sli_exp(before - m);
    }
}

/* ---- values ---- */

/* A value as it is fetched: bits, and the scale's where there is one. */
struct raw_value {
    uint32_t bits;
    uint16_t scale;
};

template <uint32_t TYPE> SLI_DEVICE raw_value load_value(const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim)
{
    if (TYPE == SL_TYPE_F32)
        return {((const uint32_t *)page)[index * head_dim + c], 0};
    if (TYPE == SL_TYPE_F16 || TYPE == SL_TYPE_BF16)
        return {((const uint16_t *)page)[index * head_dim + c], 0};
    uint32_t units = TYPE == SL_TYPE_Q4_0 ? head_dim / 2 : head_dim, b = c / SL_ACT_BLOCK;
    uint32_t unit = TYPE == SL_TYPE_Q4_0 ? b * (SL_ACT_BLOCK / 2) + c % (SL_ACT_BLOCK / 2) : c;
    const uint16_t *scales = (const uint16_t *)(page + SL_KV_PAGE * units);
    return {page[index * units + unit], scales[index * (head_dim / SL_ACT_BLOCK) + b]};
}
template <uint32_t TYPE> SLI_DEVICE float widen(raw_value raw, uint32_t c)
{
    if (TYPE == SL_TYPE_F32)
        return __uint_as_float(raw.bits);
    if (TYPE == SL_TYPE_F16)
        return sli_f16_to_f32((uint16_t)raw.bits);
    if (TYPE == SL_TYPE_BF16)
        return sli_bf16_to_f32((uint16_t)raw.bits);
    int q = TYPE == SL_TYPE_Q4_0 ? (int)(raw.bits >> (c % SL_ACT_BLOCK < SL_ACT_BLOCK / 2 ? 0 : 4) & 15) - 8 : (int)(int8_t)raw.bits;
    return sli_f16_to_f32(raw.scale) * (float)q;
}

/* Of AHEAD positions: this component's values, and the weights of all. */
struct fetched {
    raw_value v[AHEAD];
    float4 p[AHEAD / 4];
};

template <uint32_t TYPE>
SLI_DEVICE void fetch(const attention_job &job, const sli_sight &see, uint32_t kv_head, const float *weights, uint32_t begin, uint32_t c,
                      fetched *to)
{
#pragma unroll
    for (uint32_t i = 0; i < AHEAD / 4; i++)
        to->p[i] = ((const float4 *)(weights + begin))[i];
    if (begin >= see.begin && begin + AHEAD <= min(see.end, see.tree_begin)) { /* all in one page, side by side */
        const uint8_t *page = sli_v_page(job.kv, kv_head, begin);
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            to->v[i] = load_value<TYPE>(page, begin % SL_KV_PAGE + i, c, job.head_dim);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++) {
        uint32_t position = begin + i;
        to->v[i] = {0, 0}; /* zero in every type; what is not visible may not be a number */
        if (position >= see.begin && position < see.end) {
            uint32_t slot = sli_slot_of(see, position);
            to->v[i] = load_value<TYPE>(sli_v_page(job.kv, kv_head, slot), slot % SL_KV_PAGE, c, job.head_dim);
        }
    }
}

/* A warp has 32 components of a query. */
template <uint32_t TYPE> static __global__ void __launch_bounds__(VALUES_WARPS * 32) values_kernel(attention_job job)
{
    uint32_t lane = threadIdx.x % 32, kv_head = blockIdx.z, group = job.heads / job.kv_heads;
    uint32_t n = blockIdx.y * VALUES_WARPS + threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    if (n >= job.rows * group)
        return;
    uint32_t row = n / group, head = kv_head * group + n % group, query = row * job.heads + head;
    bool there = c < job.head_dim;
    uint32_t component = there ? c : job.head_dim - 1;
    sli_sight see = sight_of(job, row);
    const float *weights = job.weights + (size_t)query * job.pages * SL_KV_PAGE;
    const float *sums = job.sums + (size_t)query * job.pages, *corrections = job.corrections + (size_t)query * job.pages;

    float l = 0.0f, o = 0.0f;
    uint32_t begin = see.begin / SL_KV_PAGE * SL_KV_PAGE;
    fetched now, next;
    fetch<TYPE>(job, see, kv_head, weights, begin, component, &next);
    for (; begin < see.end; begin += AHEAD) {
        now = next;
        uint32_t ahead = (begin + AHEAD) % SL_KV_PAGE != 0 || begin + AHEAD < see.end ? begin + AHEAD
                                                                                      : begin; /* in a page that has weights */
        fetch<TYPE>(job, see, kv_head, weights, ahead, component, &next);
        if (begin % SL_KV_PAGE == 0) {
            float correction = corrections[begin / SL_KV_PAGE];
            l = l * correction + sums[begin / SL_KV_PAGE];
            o *= correction;
        }
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            float4 p = now.p[i / 4];
            o = fmaf(i % 4 == 0 ? p.x : i % 4 == 1 ? p.y : i % 4 == 2 ? p.z : p.w, widen<TYPE>(now.v[i], component), o);
        }
    }

    float result = o * (1.0f / l) + 0.0f;
    size_t at = (size_t)(job.row0 + row) * job.heads + head;
    if (there)
        job.out[at * job.head_dim + c] = result;
    if (job.quantised.q != NULL) /* head_dim is a multiple of 32: the warp's components are a block */
        sli_quantise_ones(job.quantised, (at * job.head_dim + c) / SL_ACT_BLOCK, lane, result);
}

/* ---- launches ---- */

/* A tree's slots reach further than its positions. */
static uint32_t pages_for(uint32_t positions)
{
    return (positions + SL_TREE_ROWS + SL_KV_PAGE - 1) / SL_KV_PAGE;
}
static uint64_t row_bytes(uint32_t heads, uint32_t pages)
{
    return (uint64_t)heads * pages * (2 * SL_KV_PAGE + 3) * sizeof(float);
}
static uint32_t rows_at_once(uint32_t rows, uint32_t heads, uint32_t pages)
{
    uint64_t fit = SCRATCH_BYTES / row_bytes(heads, pages);
    uint64_t most = 65535 / heads; /* queries are a dimension of a grid */
    fit = fit < most ? fit : most;
    return fit < 1 ? 1 : fit < rows ? (uint32_t)fit : rows;
}

uint64_t sli_device_attention_scratch(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t positions)
{
    (void)head_dim;
    uint32_t pages = pages_for(positions);
    return rows_at_once(rows, heads, pages) * row_bytes(heads, pages);
}

template <uint32_t TYPE> static sl_status launch_scores(sl_device *dev, const attention_job &job, uint64_t bytes, sl_error *err)
{
    uint32_t queries = job.rows * (job.heads / job.kv_heads);
    dim3 grid(job.pages, job.kv_heads);
    if (queries == 1)
        return sli_launch(dev, err, bytes, scores_kernel<TYPE, 1>, grid, SL_KV_PAGE, 0, job);
    grid.z = (queries + 3) / 4;
    if (queries <= 4)
        return sli_launch(dev, err, bytes, scores_kernel<TYPE, 4>, grid, SL_KV_PAGE, 0, job);
    grid.z = (queries + 7) / 8;
    return sli_launch(dev, err, bytes, scores_kernel<TYPE, 8>, grid, SL_KV_PAGE, 0, job);
}

template <uint32_t TYPE> static sl_status launch_values(sl_device *dev, const attention_job &job, uint64_t bytes, sl_error *err)
{
    uint32_t queries = job.rows * (job.heads / job.kv_heads);
    dim3 grid((job.head_dim + 31) / 32, (queries + VALUES_WARPS - 1) / VALUES_WARPS, job.kv_heads);
    return sli_launch(dev, err, bytes, values_kernel<TYPE>, grid, VALUES_WARPS * 32, 0, job);
}

sl_status sli_device_attention(sl_device *dev, const sl_device_attention *job, sl_error *err)
{
    assert(job->head_dim <= MAX_HEAD_DIM && job->head_dim % 16 == 0 && job->heads % job->kv_heads == 0);
    uint32_t pages = pages_for(job->positions), at_once = rows_at_once(job->rows, job->heads, pages);
    size_t queries = (size_t)at_once * job->heads;
    bool quantise_here = job->acts != NULL && job->head_dim % SL_ACT_BLOCK == 0;
    float *scratch = sli_at<float>(job->scratch);
    attention_job j = {0,
                       0,
                       job->heads,
                       job->kv_heads,
                       job->head_dim,
                       job->window,
                       pages,
                       job->scale,
                       sli_at<float>(job->q),
                       sli_at<float>(job->out),
                       sli_at<sl_device_pass>(job->pass),
                       sli_kv_of(&job->kv),
                       scratch,
                       scratch + queries * pages * SL_KV_PAGE,
                       scratch + 2 * queries * pages * SL_KV_PAGE,
                       scratch + queries * pages * (2 * SL_KV_PAGE + 1),
                       scratch + queries * pages * (2 * SL_KV_PAGE + 2),
                       sli_quantised_of(quantise_here ? job->acts : NULL)};

    uint64_t k_bytes = (uint64_t)job->kv_heads * job->positions / SL_KV_PAGE * job->kv.k_page_bytes;
    uint64_t v_bytes = (uint64_t)job->kv_heads * job->positions / SL_KV_PAGE * job->kv.v_page_bytes;
    for (uint32_t row = 0; row < job->rows; row += at_once) {
        j.row0 = row;
        j.rows = job->rows - row < at_once ? job->rows - row : at_once;
        uint64_t score_bytes = (uint64_t)j.rows * job->heads * job->positions * sizeof(float);
        SL_TRY(SLI_FOR_KV_TYPE(job->kv.k_type, launch_scores, dev, j, k_bytes + score_bytes, err));
        SL_TRY(sli_launch(dev, err, 2 * score_bytes, weights_kernel, dim3(pages, j.rows * job->heads), SL_KV_PAGE, 0, j));
        SL_TRY(SLI_FOR_KV_TYPE(job->kv.v_type, launch_values, dev, j, v_bytes + score_bytes, err));
    }
    return job->acts != NULL && !quantise_here ? sli_device_quantize(dev, job->acts, err) : SL_OK;
}

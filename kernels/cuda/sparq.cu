/* kernels/cuda/sparq.cu: attention of each row to a part of the cache (SparQ; offload/sparq_attention.c is the processor's).
 *
 *     components   of each KV head those that its queries are largest in, and the queries there, scaled
 *     scores       D10's of every position, a thread for a position, for up to eight heads at once
 *     softmax      D10's, but for the last product, which whoever reads does
 *     choose       weights of the positions, the best of them (top.h), and their share
 *     gather       their keys and values, into pages of their own
 *     attention    attention.cu's, over those pages: a row's KV heads are KV heads of a single row, which all choose as many
 *     mean         sparq_mean.cu
 *
 * Rows that see no more than they would choose take their positions as they are, and skip what only a choice needs: who gives the work cannot always know
 * where a row stands (a captured graph is run for many). Positions are what everything is stored by; only keys and values of a tree lie elsewhere. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sparq.h"
#include "kernels/cuda/top.h"

#include <assert.h>

#define MAX_HEAD_DIM       512
#define COMPONENTS_THREADS 128
#define SOFTMAX_THREADS    256
#define SOFTMAX_TILE       1024 /* positions, a multiple of D4's lanes */
#define GATHER_THREADS     8    /* that share a vector */

/* ---- components ---- */

/* How many components come before c: larger ones, and equal ones with a lower index. */
SLI_DEVICE uint32_t rank_of(const uint32_t *key, uint32_t head_dim, uint32_t c)
{
    uint32_t before = 0;
    for (uint32_t other = 0; other < head_dim; other++)
        before += key[other] > key[c] || (key[other] == key[c] && other < c);
    return before;
}

/* offload/sparq.c's sli_sparq_factor: by how much scores of some components are multiplied, so that they spread as those of all do. */
SLI_DEVICE float factor_of(const float *q, uint32_t head_dim, const uint32_t *component, uint32_t count)
{
    float all = 0.0f, part = 0.0f;
#pragma unroll 8
    for (uint32_t c = 0; c < head_dim; c++)
        all += fabsf(q[c]);
#pragma unroll 8
    for (uint32_t n = 0; n < count; n++)
        part += fabsf(q[component[n]]);
    return part > 0 ? sqrtf(all / part) : 1.0f;
}

/* A block has a KV head of a row. */
static __global__ void __launch_bounds__(COMPONENTS_THREADS) components_kernel(sli_sparq_job job)
{
    __shared__ uint32_t key[MAX_HEAD_DIM], component[MAX_HEAD_DIM];
    __shared__ uint8_t taken[MAX_HEAD_DIM];
    uint32_t kv_head = blockIdx.x, row = blockIdx.y, group = job.heads / job.kv_heads, dim = job.head_dim;
    sli_sight see = sli_sparq_sight(job, row);
    if (!sli_sparq_chooses(job, see))
        return;
    const float *q = job.q + ((size_t)(job.row0 + row) * job.heads + kv_head * group) * dim;
    for (uint32_t c = threadIdx.x; c < dim; c += COMPONENTS_THREADS) {
        float sum = fabsf(q[c]);
        for (uint32_t h = 1; h < group; h++)
            sum += fabsf(q[h * dim + c]);
        key[c] = sli_top_key(sum);
    }
    __syncthreads();
    for (uint32_t c = threadIdx.x; c < dim; c += COMPONENTS_THREADS)
        taken[c] = rank_of(key, dim, c) < job.r;
    __syncthreads();
    uint32_t *list = job.component + ((size_t)row * job.kv_heads + kv_head) * job.r;
    for (uint32_t c = threadIdx.x; c < dim; c += COMPONENTS_THREADS) {
        uint32_t at = 0;
        for (uint32_t other = 0; other < c; other++)
            at += taken[other];
        if (taken[c])
            component[at] = list[at] = c;
    }
    __syncthreads();
    for (uint32_t h = threadIdx.x; h < group; h += COMPONENTS_THREADS) {
        float factor = job.scale * factor_of(q + h * dim, dim, component, job.r);
        float *part = job.q_part + ((size_t)row * job.heads + kv_head * group + h) * job.r;
        for (uint32_t n = 0; n < job.r; n++)
            part[n] = q[h * dim + component[n]] * factor;
    }
    if (threadIdx.x == COMPONENTS_THREADS - 1) {
        uint32_t blocks = 0;
        for (uint32_t n = 0; n < job.r; n++)
            blocks += n == 0 || component[n] / SL_ACT_BLOCK != component[n - 1] / SL_ACT_BLOCK;
        atomicAdd(job.blocks_read, (unsigned long long)blocks * (see.end - see.begin));
    }
}

/* ---- scores ---- */

/* A block has a page of positions of a row, and QUERIES of a KV head's queries. */
template <uint32_t TYPE, uint32_t QUERIES> static __global__ void __launch_bounds__(SL_KV_PAGE) scores_kernel(sli_sparq_job job)
{
    __shared__ float q[MAX_HEAD_DIM][QUERIES];
    __shared__ uint32_t component[MAX_HEAD_DIM];
    uint32_t page = blockIdx.x, kv_head = blockIdx.y, group = job.heads / job.kv_heads, shares = (group + QUERIES - 1) / QUERIES;
    uint32_t row = blockIdx.z / shares, first = blockIdx.z % shares * QUERIES, count = min(QUERIES, group - first);
    sli_sight see = sli_sparq_sight(job, row);
    if (!sli_sparq_chooses(job, see) || page * SL_KV_PAGE >= see.end || (page + 1) * SL_KV_PAGE <= see.begin)
        return;
    size_t query = (size_t)row * job.heads + kv_head * group + first;
    for (uint32_t i = threadIdx.x; i < job.r * QUERIES; i += SL_KV_PAGE)
        q[i / QUERIES][i % QUERIES] = i % QUERIES < count ? job.q_part[(query + i % QUERIES) * job.r + i / QUERIES] : 0.0f;
    for (uint32_t n = threadIdx.x; n < job.r; n += SL_KV_PAGE)
        component[n] = job.component[((size_t)row * job.kv_heads + kv_head) * job.r + n];
    __syncthreads();

    uint32_t position = page * SL_KV_PAGE + threadIdx.x;
    if (position < see.begin || position >= see.end)
        return;
    uint32_t slot = sli_slot_of(see, position);
    sli_kv_place key = sli_kv_place_of(true, TYPE, sli_k_page(job.kv, kv_head, slot), slot, job.head_dim);
    float acc[QUERIES];
#pragma unroll
    for (uint32_t h = 0; h < QUERIES; h++)
        acc[h] = 0.0f;
#pragma unroll 8
    for (uint32_t n = 0; n < job.r; n++) {
        float k = sli_kv_float<TYPE>(key, component[n]);
#pragma unroll
        for (uint32_t h = 0; h < QUERIES; h++)
            acc[h] = fmaf(q[n][h], k, acc[h]);
    }
#pragma unroll
    for (uint32_t h = 0; h < QUERIES; h++)
        if (h < count)
            job.scores[(query + h) * job.stride + position] = acc[h];
}

/* ---- softmax ---- */

SLI_DEVICE float largest_of_block(float x)
{
    __shared__ float of_warp[SOFTMAX_THREADS / 32];
    for (int other = 16; other > 0; other /= 2)
        x = fmaxf(x, __shfl_xor_sync(SLI_FULL_WARP, x, other));
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    for (uint32_t w = 0; w < SOFTMAX_THREADS / 32; w++)
        x = fmaxf(x, of_warp[w]);
    return x;
}

/* A block has a head of a row. The sums of D10's lanes are chains, so sixteen threads add up one tile of positions while all raise the next one. */
static __global__ void __launch_bounds__(SOFTMAX_THREADS) softmax_kernel(sli_sparq_job job)
{
    __shared__ float tile[2][SOFTMAX_TILE];
    size_t query = (size_t)blockIdx.y * job.heads + blockIdx.x;
    sli_sight see = sli_sparq_sight(job, blockIdx.y);
    if (!sli_sparq_chooses(job, see))
        return;
    float *scores = job.scores + query * job.stride, m = -INFINITY, acc = 0.0f;
    for (uint32_t i = see.begin + threadIdx.x; i < see.end; i += SOFTMAX_THREADS)
        m = fmaxf(m, scores[i]);
    m = largest_of_block(m);

    uint32_t which = 0;
    for (uint32_t from = see.begin / SLI_LANES * SLI_LANES; from < see.end; from += SOFTMAX_TILE, which ^= 1) {
        for (uint32_t i = threadIdx.x; i < SOFTMAX_TILE; i += SOFTMAX_THREADS) {
            uint32_t position = from + i;
            bool there = position >= see.begin && position < see.end;
            float p = there ? sli_exp(scores[position] - m) : 0.0f; /* which adds nothing */
            tile[which][i] = p;
            if (there)
                scores[position] = p;
        }
        __syncthreads();
        uint32_t end = min((uint32_t)SOFTMAX_TILE, see.end - from);
        if (threadIdx.x < SLI_LANES) {
#pragma unroll 8
            for (uint32_t i = threadIdx.x; i < end; i += SLI_LANES)
                acc += tile[which][i];
        }
    }
    if (threadIdx.x >= SLI_LANES)
        return;
    acc = sli_fold_lanes(0xffffu, acc);
    if (threadIdx.x == 0)
        job.inverse[query] = 1.0f / acc;
}

/* ---- the choice ---- */

/* A block has a KV head of a row. */
static __global__ void __launch_bounds__(SLI_TOP_THREADS) choose_kernel(sli_sparq_job job)
{
    uint32_t kv_head = blockIdx.x, row = blockIdx.y, group = job.heads / job.kv_heads, head0 = kv_head * group;
    sli_sight see = sli_sparq_sight(job, row);
    uint32_t seen = see.end - see.begin, count = min(job.k, seen), last = see.end - job.local, others = job.k - job.local;
    uint32_t *chosen = job.chosen + ((size_t)row * job.kv_heads + kv_head) * job.k;
    if (kv_head == 0 && threadIdx.x == 0) {
        uint32_t *pass = (uint32_t *)(job.passes + row * SL_DEVICE_PASS_BYTES);
        pass[0] = count - 1; /* pos0; and neither rows before it nor a tree */
        pass[1] = pass[2] = pass[3] = 0;
    }
    if (!sli_sparq_chooses(job, see)) {
        for (uint32_t n = threadIdx.x; n < count; n += SLI_TOP_THREADS)
            chosen[n] = see.begin + n;
        return;
    }

    const float *inverse = job.inverse + (size_t)row * job.heads;
    float *weights = job.weights + ((size_t)row * job.kv_heads + kv_head) * job.stride;
    for (uint32_t i = see.begin + threadIdx.x; i < last; i += SLI_TOP_THREADS) {
        float sum = sli_sparq_scores(job, row, head0)[i] * inverse[head0];
        for (uint32_t h = 1; h < group; h++)
            sum += sli_sparq_scores(job, row, head0 + h)[i] * inverse[head0 + h];
        weights[i] = sum;
    }
    __syncthreads();
    if (others > 0)
        sli_top_of_block(weights + see.begin, last - see.begin, others, see.begin, chosen);
    for (uint32_t n = threadIdx.x; n < job.local; n += SLI_TOP_THREADS)
        chosen[others + n] = last + n;
    __syncthreads();
    for (uint32_t h = threadIdx.x; h < group && job.value_sums != NULL; h += SLI_TOP_THREADS) {
        const float *p = sli_sparq_scores(job, row, head0 + h);
        float factor = inverse[head0 + h], share = 0.0f;
#pragma unroll 8
        for (uint32_t n = 0; n < job.k; n++)
            share += p[chosen[n]] * factor;
        job.share[(size_t)row * job.heads + head0 + h] = share;
    }
}

/* A block has a page of what a KV head of a row chose: GATHER_THREADS threads for each vector. */
static __global__ void __launch_bounds__(SL_KV_PAGE *GATHER_THREADS) gather_kernel(sli_sparq_job job)
{
    uint32_t kv_head = blockIdx.y, row = blockIdx.z, own = row * job.kv_heads + kv_head, dim = job.head_dim;
    uint32_t index = blockIdx.x * SL_KV_PAGE + threadIdx.x;
    sli_sight see = sli_sparq_sight(job, row);
    if (index >= min(job.k, see.end - see.begin))
        return;
    uint32_t slot = sli_slot_of(see, job.chosen[(size_t)own * job.k + index]), k_type = job.kv.k_type, v_type = job.kv.v_type;
    sli_kv_copy_vector(k_type, sli_kv_place_of(false, k_type, sli_key_row_page(job.key_rows, kv_head, slot), slot, dim),
                       sli_kv_place_of(true, k_type, sli_k_page(job.gathered, own, index), index, dim), dim, threadIdx.y, GATHER_THREADS);
    sli_kv_copy_vector(v_type, sli_kv_place_of(false, v_type, sli_v_page(job.kv, kv_head, slot), slot, dim),
                       sli_kv_place_of(false, v_type, sli_v_page(job.gathered, own, index), index, dim), dim, threadIdx.y, GATHER_THREADS);
}

/* ---- the scratch ---- */

/* What attention over the chosen is called with, but for its rows. */
struct chosen_attention {
    sl_device_kv kv;
    sl_device_ptr passes, scratch;
};

/* Lays out what `rows` rows take; returns where it ends. */
static sl_device_ptr lay_out(const sl_device_sparq *s, uint32_t rows, sl_device_ptr at, sli_sparq_job *job, chosen_attention *chosen)
{
    const sl_device_attention *a = &s->all;
    uint64_t pages = (s->k + SL_KV_PAGE - 1) / SL_KV_PAGE, queries = (uint64_t)rows * a->heads, lists = (uint64_t)rows * a->kv_heads;
    job->stride = (a->positions + SL_KV_PAGE - 1) / SL_KV_PAGE * SL_KV_PAGE;
    job->component = sli_at<uint32_t>(sli_sparq_take(&at, lists * s->r * sizeof(uint32_t)));
    job->q_part = sli_at<float>(sli_sparq_take(&at, queries * s->r * sizeof(float)));
    job->scores = sli_at<float>(sli_sparq_take(&at, queries * job->stride * sizeof(float)));
    job->inverse = sli_at<float>(sli_sparq_take(&at, queries * sizeof(float)));
    job->share = sli_at<float>(sli_sparq_take(&at, queries * sizeof(float)));
    job->weights = sli_at<float>(sli_sparq_take(&at, lists * job->stride * sizeof(float)));
    job->chosen = sli_at<uint32_t>(sli_sparq_take(&at, lists * s->k * sizeof(uint32_t)));
    chosen->passes = sli_sparq_take(&at, (uint64_t)rows * SL_DEVICE_PASS_BYTES);
    job->passes = sli_at<uint8_t>(chosen->passes);
    chosen->kv = a->kv;
    chosen->kv.v_offset = pages * a->kv.k_page_bytes;
    chosen->kv.head_stride = pages * (a->kv.k_page_bytes + a->kv.v_page_bytes);
    chosen->kv.base = sli_sparq_take(&at, lists * chosen->kv.head_stride);
    job->gathered = sli_kv_of(&chosen->kv);
    chosen->scratch = sli_sparq_take(&at, sli_device_attention_scratch(1, rows * a->heads, a->head_dim, s->k));
    return at;
}

static uint64_t scratch_of(const sl_device_sparq *s, uint32_t rows)
{
    sli_sparq_job unused;
    chosen_attention unused_too;
    return lay_out(s, rows, 0, &unused, &unused_too);
}

static uint32_t rows_at_once(const sl_device_sparq *s)
{
    return sli_sparq_rows(&s->all, [s](uint32_t rows) { return scratch_of(s, rows); });
}

uint64_t sli_device_sparq_scratch(const sl_device_sparq *s)
{
    return scratch_of(s, rows_at_once(s));
}

/* ---- launches ---- */

template <uint32_t TYPE> static sl_status launch_scores(sl_device *dev, const sli_sparq_job &job, sli_traffic bytes, sl_error *err)
{
    uint32_t group = job.heads / job.kv_heads;
    dim3 grid(job.stride / SL_KV_PAGE, job.kv_heads, job.rows);
    if (group == 1)
        return sli_launch(dev, err, bytes, scores_kernel<TYPE, 1>, grid, SL_KV_PAGE, 0, job);
    grid.z = job.rows * ((group + 3) / 4);
    if (group <= 4)
        return sli_launch(dev, err, bytes, scores_kernel<TYPE, 4>, grid, SL_KV_PAGE, 0, job);
    grid.z = job.rows * ((group + 7) / 8);
    return sli_launch(dev, err, bytes, scores_kernel<TYPE, 8>, grid, SL_KV_PAGE, 0, job);
}

/* What the positions of a launch take to read, for the emulated device's clock. */
struct traffic {
    uint64_t keys, queries, weights; /* components; a float of each head; of each KV head */
    uint64_t chosen;                 /* keys and values */
};
static traffic traffic_of(const sl_device_sparq *s, uint32_t rows)
{
    const sl_device_attention *a = &s->all;
    uint64_t lists = (uint64_t)rows * a->kv_heads, vectors = (a->kv.k_page_bytes + a->kv.v_page_bytes) / SL_KV_PAGE;
    return {lists * a->positions * (a->kv.k_page_bytes * s->r / a->head_dim / SL_KV_PAGE + 1),
            (uint64_t)rows * a->heads * a->positions * sizeof(float), lists * a->positions * sizeof(float), lists * s->k * vectors};
}

sl_status sli_sparq_score(sl_device *dev, const sli_sparq_job *job, uint32_t k_type, uint64_t key_bytes, uint64_t link_bytes, sl_error *err)
{
    uint64_t queries = (uint64_t)job->rows * job->heads * job->stride * sizeof(float);
    SL_TRY(sli_launch(dev, err, (uint64_t)job->rows * job->heads * job->head_dim * 4, components_kernel, dim3(job->kv_heads, job->rows),
                      COMPONENTS_THREADS, 0, *job));
    SL_TRY(SLI_FOR_KV_TYPE(k_type, launch_scores, dev, *job, sli_traffic(key_bytes + queries, link_bytes), err));
    return sli_launch(dev, err, 3 * queries, softmax_kernel, dim3(job->heads, job->rows), SOFTMAX_THREADS, 0, *job);
}

static sl_status choose(sl_device *dev, const sl_device_sparq *s, const sli_sparq_job &job, sl_error *err)
{
    traffic bytes = traffic_of(s, job.rows);
    dim3 lists(job.kv_heads, job.rows), pages((job.k + SL_KV_PAGE - 1) / SL_KV_PAGE, job.kv_heads, job.rows);
    SL_TRY(sli_sparq_score(dev, &job, job.kv.k_type, bytes.keys, s->all.kv.in_host ? bytes.keys : 0, err));
    SL_TRY(sli_launch(dev, err, bytes.queries + 6 * bytes.weights, choose_kernel, lists, SLI_TOP_THREADS, 0, job));
    uint64_t k_bytes = s->all.kv.k_page_bytes, v_bytes = s->all.kv.v_page_bytes;
    sli_traffic gathered(2 * bytes.chosen,
                         s->all.kv.in_host ? bytes.chosen / (k_bytes + v_bytes) * v_bytes : 0); /* keys in one piece are here */
    return sli_launch(dev, err, gathered, gather_kernel, pages, dim3(SL_KV_PAGE, GATHER_THREADS), 0, job);
}

/* Rows that choose as many each are one row with the KV heads of all; others are attended to one by one. */
static sl_status attend(sl_device *dev, const sl_device_sparq *s, const sli_sparq_job &job, const chosen_attention *chosen,
                        const sl_device_acts *acts, sl_error *err)
{
    uint32_t together = s->alike ? job.rows : 1;
    for (uint32_t row = 0; row < job.rows; row += together) {
        uint64_t at = (uint64_t)(job.row0 + row) * job.heads * job.head_dim * sizeof(float);
        sl_device_attention a = s->all;
        a.rows = 1;
        a.heads = together * job.heads;
        a.kv_heads = together * job.kv_heads;
        a.window = 0;
        a.positions = s->k;
        a.q = s->all.q + at;
        a.out = s->all.out + at;
        a.pass = chosen->passes + row * SL_DEVICE_PASS_BYTES;
        a.scratch = chosen->scratch;
        a.kv = chosen->kv;
        a.kv.base += (uint64_t)row * job.kv_heads * chosen->kv.head_stride;
        a.acts = acts;
        SL_TRY(sli_device_attention(dev, &a, err));
    }
    return SL_OK;
}

sl_status sli_device_sparq(sl_device *dev, const sl_device_sparq *s, sl_error *err)
{
    const sl_device_attention *a = &s->all;
    assert(a->head_dim <= MAX_HEAD_DIM && a->head_dim % 16 == 0 && a->heads % a->kv_heads == 0);
    assert(s->k >= 1 && s->r >= 1 && s->r <= a->head_dim && s->local <= s->k && (a->window == 0 || a->window > s->k));
    assert(s->key_rows.base != 0 && s->blocks_read != 0);
    chosen_attention chosen;
    uint32_t at_once = rows_at_once(s);
    bool quantise_there = a->acts != NULL && s->value_sums == 0 && s->alike && at_once == a->rows;
    sl_device_acts flat = a->acts != NULL ? *a->acts : sl_device_acts{}; /* all rows as one, as their heads are */
    flat.cols *= flat.rows;
    flat.rows = 1;
    sli_sparq_job job = {};
    job.heads = a->heads;
    job.kv_heads = a->kv_heads;
    job.head_dim = a->head_dim;
    job.window = a->window;
    job.k = s->k;
    job.r = s->r;
    job.local = s->local;
    job.scale = a->scale;
    job.q = sli_at<const float>(a->q);
    job.out = sli_at<float>(a->out);
    job.pass = sli_at<const sl_device_pass>(a->pass);
    job.kv = sli_kv_of(&a->kv);
    job.key_rows = sli_key_rows_of(&s->key_rows);
    job.value_sums = sli_at<const float>(s->value_sums);
    job.sums_pages = s->sums_pages;
    job.blocks_read = sli_at<unsigned long long>(s->blocks_read);
    lay_out(s, at_once, a->scratch, &job, &chosen);
    for (uint32_t row = 0; row < a->rows; row += at_once) {
        job.row0 = row;
        job.rows = a->rows - row < at_once ? a->rows - row : at_once;
        SL_TRY(choose(dev, s, job, err));
        SL_TRY(attend(dev, s, job, &chosen, quantise_there ? &flat : NULL, err));
        if (s->value_sums != 0)
            SL_TRY(sli_sparq_reallocate(dev, &job, (uint64_t)job.rows * job.heads * job.head_dim * 8, err));
    }
    return a->acts != NULL && !quantise_there ? sli_device_quantize(dev, a->acts, err) : SL_OK;
}

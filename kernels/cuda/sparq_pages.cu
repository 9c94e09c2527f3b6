/* kernels/cuda/sparq_pages.cu: attention of each row to some pages of the cache (offload/sparq_pages.h; sparq_pages.c is the processor's).
 *
 *     index        keys of complete pages once more in few bits (heads.cu)
 *     scores       as sparq.cu has them, of the index: components, D10's scores and softmax
 *     choose       attention by pages, the best of them (top.h), and what is always attended to
 *     gather       those pages to pages of their own
 *     attention    attention.cu's, over those: what comes before the row's own page, or its tree's, is whole pages, so that the row stands as far into its page as before
 *
 * Between the choice and the rest the host may bring what was chosen: so they are two calls. Rows that attend to all they see choose all pages. */
#include "kernels/cuda/internal.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sparq.h"
#include "kernels/cuda/top.h"

#include <assert.h>

#define GATHER_THREADS 128
#define TREE_PAGES     ((SL_TREE_ROWS + SL_KV_PAGE - 2) / SL_KV_PAGE + 1)

static uint32_t most_of(uint32_t k)
{
    return k / SL_KV_PAGE + TREE_PAGES;
}

/* ---- the choice ---- */

/* The attention that a page's keys get, summed over the heads in lanes (offload/sparq.c's sli_sparq_page_weights): sixteen threads have a page. */
SLI_DEVICE void weigh_pages(const sli_sparq_job &job, uint32_t kv_head, uint32_t row, uint32_t pages, float *weights)
{
    uint32_t group = job.heads / job.kv_heads, head0 = kv_head * group, lane = threadIdx.x % SLI_LANES;
    uint32_t own_half = 0xffffu << (threadIdx.x % 32 / SLI_LANES * SLI_LANES);
    const float *inverse = job.inverse + (size_t)row * job.heads + head0;
    for (uint32_t page = threadIdx.x / SLI_LANES; page < pages; page += SLI_TOP_THREADS / SLI_LANES) {
        float acc = 0.0f;
        for (uint32_t i = page * SL_KV_PAGE + lane; i < (page + 1) * SL_KV_PAGE; i += SLI_LANES)
            for (uint32_t h = 0; h < group; h++)
                acc += sli_sparq_scores(job, row, head0 + h)[i] * inverse[h];
        acc = sli_fold_lanes(own_half, acc);
        if (lane == 0)
            weights[page] = page == 0 ? (float)(group + 1) : acc; /* the first one is above all sums of shares */
    }
}

/* As the row stands behind what it chose; of a tree its path, too. */
SLI_DEVICE void place_row(const sli_sparq_job &job, uint32_t row, const sli_pages_row &at)
{
    sl_device_pass *to = (sl_device_pass *)(job.passes + (size_t)row * sizeof(sl_device_pass));
    uint32_t tree_row = job.pass->first + job.row0 + row;
    bool tree = job.pass->tree != 0;
    if (threadIdx.x == 0) {
        to->pos0 = (at.others + at.own - at.first_local) * SL_KV_PAGE + at.base % SL_KV_PAGE;
        to->first = tree ? tree_row : 0;
        to->tree = tree;
        to->unused = 0;
        to->depth[tree_row % SL_TREE_ROWS] = tree ? job.pass->depth[tree_row] : 0;
    }
    for (uint32_t i = threadIdx.x; tree && i < SL_TREE_ROWS; i += SLI_TOP_THREADS)
        to->path[tree_row][i] = job.pass->path[tree_row][i];
}

/* A block has a KV head of a row. */
static __global__ void __launch_bounds__(SLI_TOP_THREADS) choose_pages_kernel(sli_sparq_job job)
{
    uint32_t kv_head = blockIdx.x, row = blockIdx.y;
    size_t own = (size_t)row * job.kv_heads + kv_head;
    sli_pages_row at = sli_pages_row_of(job, row);
    uint32_t *list = job.chosen + own * job.list_stride;
    if (kv_head == 0)
        place_row(job, row, at);
    if (at.others > 0) {
        float *weights = job.weights + own * job.pages_stride;
        weigh_pages(job, kv_head, row, at.first_local, weights);
        __syncthreads();
        sli_top_of_block(weights, at.first_local, at.others, 0, list + 1);
    }
    for (uint32_t page = at.first_local + threadIdx.x; page <= at.last; page += SLI_TOP_THREADS)
        list[1 + at.others + page - at.first_local] = page;
    if (threadIdx.x == 0)
        list[0] = at.others + at.last - at.first_local + 1;
}

/* ---- what was chosen ---- */

/* A block has a page of keys, or of values. */
static __global__ void __launch_bounds__(GATHER_THREADS)
    gather_pages_kernel(sli_sparq_job job, sli_kv from, const sl_device_ptr *places, uint32_t stride)
{
    uint32_t n = blockIdx.x, kv_head = blockIdx.y / 2, row = blockIdx.z, own = row * job.kv_heads + kv_head;
    bool key = blockIdx.y % 2 == 0;
    const uint32_t *list = job.chosen + (size_t)own * job.list_stride;
    if (n >= list[0])
        return;
    uint32_t page = list[1 + n];
    const uint8_t *there = key ? sli_k_page(from, kv_head, page * SL_KV_PAGE) : sli_v_page(from, kv_head, page * SL_KV_PAGE);
    if (places != NULL)
        there = (const uint8_t *)(uintptr_t)places[(size_t)kv_head * stride + page] + (key ? 0 : from.k_page_bytes);
    uint8_t *here = key ? sli_k_page(job.gathered, own, n * SL_KV_PAGE) : sli_v_page(job.gathered, own, n * SL_KV_PAGE);
    uint32_t pieces = (uint32_t)((key ? from.k_page_bytes : from.v_page_bytes) / sizeof(uint4));
    for (uint32_t i = threadIdx.x; i < pieces; i += GATHER_THREADS)
        ((uint4 *)here)[i] = ((const uint4 *)there)[i];
}

/* ---- the scratch ---- */

struct chosen_pages { /* that attention is called with */
    sl_device_kv kv;
    sl_device_ptr lists, passes, scratch;
};

/* Lays out what `rows` rows take; returns where it ends. */
static sl_device_ptr lay_out(const sl_device_sparq_pages *s, uint32_t rows, sl_device_ptr at, sli_sparq_job *job, chosen_pages *chosen)
{
    const sl_device_attention *a = &s->all;
    uint64_t most = most_of(s->k), queries = (uint64_t)rows * a->heads, lists = (uint64_t)rows * a->kv_heads;
    job->pages_stride = (a->positions + SL_KV_PAGE - 1) / SL_KV_PAGE;
    job->stride = job->pages_stride * SL_KV_PAGE;
    job->list_stride = (uint32_t)most + 1;
    job->component = sli_at<uint32_t>(sli_sparq_take(&at, lists * s->r * sizeof(uint32_t)));
    job->q_part = sli_at<float>(sli_sparq_take(&at, queries * s->r * sizeof(float)));
    job->scores = sli_at<float>(sli_sparq_take(&at, queries * job->stride * sizeof(float)));
    job->inverse = sli_at<float>(sli_sparq_take(&at, queries * sizeof(float)));
    job->weights = sli_at<float>(sli_sparq_take(&at, lists * job->pages_stride * sizeof(float)));
    chosen->lists = sli_sparq_take(&at, lists * job->list_stride * sizeof(uint32_t));
    job->chosen = sli_at<uint32_t>(chosen->lists);
    chosen->passes = sli_sparq_take(&at, (uint64_t)rows * sizeof(sl_device_pass));
    job->passes = sli_at<uint8_t>(chosen->passes);
    chosen->kv = a->kv;
    chosen->kv.in_host = false;
    chosen->kv.v_offset = most * a->kv.k_page_bytes;
    chosen->kv.head_stride = most * (a->kv.k_page_bytes + a->kv.v_page_bytes);
    chosen->kv.base = sli_sparq_take(&at, lists * chosen->kv.head_stride);
    job->gathered = sli_kv_of(&chosen->kv);
    chosen->scratch = sli_sparq_take(&at, sli_device_attention_scratch(1, a->heads, a->head_dim, (uint32_t)most * SL_KV_PAGE));
    return at;
}

static uint64_t scratch_of(const sl_device_sparq_pages *s, uint32_t rows)
{
    sli_sparq_job unused;
    chosen_pages unused_too;
    return lay_out(s, rows, 0, &unused, &unused_too);
}

uint32_t sli_device_sparq_pages_rows(const sl_device_sparq_pages *s)
{
    return sli_sparq_rows(&s->all, [s](uint32_t rows) { return scratch_of(s, rows); });
}

uint64_t sli_device_sparq_pages_scratch(const sl_device_sparq_pages *s)
{
    return scratch_of(s, sli_device_sparq_pages_rows(s));
}

sl_device_ptr sli_device_sparq_pages_lists(const sl_device_sparq_pages *s)
{
    sli_sparq_job unused;
    chosen_pages chosen;
    lay_out(s, sli_device_sparq_pages_rows(s), s->all.scratch, &unused, &chosen);
    return chosen.lists;
}

/* ---- launches ---- */

static sli_sparq_job job_of(const sl_device_sparq_pages *s, chosen_pages *chosen)
{
    const sl_device_attention *a = &s->all;
    assert(a->head_dim % 16 == 0 && a->heads % a->kv_heads == 0 && a->window == 0);
    assert(s->k % SL_KV_PAGE == 0 && s->k > 0 && s->r >= 1 && s->r <= a->head_dim && s->local <= s->k);
    sli_sparq_job job = {};
    job.heads = a->heads;
    job.kv_heads = a->kv_heads;
    job.head_dim = a->head_dim;
    job.k = s->k;
    job.r = s->r;
    job.local = s->local;
    job.keep = s->k / SL_KV_PAGE;
    job.scale = a->scale;
    job.q = sli_at<const float>(a->q);
    job.pass = sli_at<const sl_device_pass>(a->pass);
    job.kv = sli_kv_of(&s->index);
    job.blocks_read = sli_at<unsigned long long>(s->blocks_read);
    job.row0 = s->row0;
    job.rows = s->rows;
    lay_out(s, sli_device_sparq_pages_rows(s), a->scratch, &job, chosen);
    return job;
}

sl_status sli_device_sparq_pages_choose(sl_device *dev, const sl_device_sparq_pages *s, sl_error *err)
{
    chosen_pages unused;
    sli_sparq_job job = job_of(s, &unused);
    uint64_t positions = (uint64_t)s->rows * s->all.positions;
    SL_TRY(sli_sparq_score(dev, &job, s->index.k_type,
                           positions * s->all.kv_heads * (s->index.k_page_bytes * s->r / s->all.head_dim / SL_KV_PAGE + 1), 0, err));
    return sli_launch(dev, err, positions * s->all.heads * 4, choose_pages_kernel, dim3(s->all.kv_heads, s->rows), SLI_TOP_THREADS, 0, job);
}

sl_status sli_device_sparq_pages_attend(sl_device *dev, const sl_device_sparq_pages *s, sl_error *err)
{
    const sl_device_attention *all = &s->all;
    chosen_pages chosen;
    sli_sparq_job job = job_of(s, &chosen);
    uint32_t most = most_of(s->k);
    uint64_t bytes = (uint64_t)s->rows * all->kv_heads * (all->positions < s->k ? all->positions : s->k) / SL_KV_PAGE *
                     (all->kv.k_page_bytes + all->kv.v_page_bytes);
    sli_traffic traffic(2 * bytes, all->kv.in_host || s->places != 0 ? bytes : 0);
    SL_TRY(sli_launch(dev, err, traffic, gather_pages_kernel, dim3(most, 2 * all->kv_heads, s->rows), GATHER_THREADS, 0, job,
                      sli_kv_of(&all->kv), sli_at<const sl_device_ptr>(s->places), s->stride));
    for (uint32_t row = 0; row < s->rows; row++) { /* each stands elsewhere in its page */
        uint64_t at = (uint64_t)(s->row0 + row) * all->heads * all->head_dim * sizeof(float);
        sl_device_attention a = *all;
        a.rows = 1;
        a.positions = most * SL_KV_PAGE;
        a.q += at;
        a.out += at;
        a.pass = chosen.passes + row * sizeof(sl_device_pass);
        a.scratch = chosen.scratch;
        a.kv = chosen.kv;
        a.kv.base += (uint64_t)row * all->kv_heads * chosen.kv.head_stride;
        a.acts = all->rows == 1 ? all->acts : NULL;
        SL_TRY(sli_device_attention(dev, &a, err));
    }
    bool last = s->row0 + s->rows == all->rows;
    return all->acts != NULL && all->rows > 1 && last ? sli_device_quantize(dev, all->acts, err) : SL_OK;
}

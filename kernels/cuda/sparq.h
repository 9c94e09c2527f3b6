/* kernels/cuda/sparq.h: a job of SparQ attention as its kernels have it: sparq.cu chooses, sparq_mean.cu says what stands for the rest. */
#ifndef SL_KERNELS_CUDA_SPARQ_H
#define SL_KERNELS_CUDA_SPARQ_H

#include "kernels/cuda/kv.h"
#include "kernels/cuda/sight.h"

#define SLI_SPARQ_QUERIES_MAX   4096 /* of a launch: dimensions of a grid end at 65535 */
#define SLI_SPARQ_SCRATCH_BYTES ((uint64_t)16 << 20)

/* Rows of a launch are [row0, row0 + rows) of the pass; everything but q, out and the pass itself is by the launch's own rows. */
struct sli_sparq_job {
    uint32_t rows, row0, heads, kv_heads, head_dim, window;
    uint32_t k, r, local, stride; /* floats from a head's scores to the next head's */
    float scale;
    const float *q;
    float *out;
    const sl_device_pass *pass;
    sli_kv kv;
    sli_key_rows key_rows;
    const float *value_sums;
    uint32_t sums_pages;
    unsigned long long *blocks_read;
    /* In the scratch. */
    uint32_t *component;    /* [row][KV head][r], ascending */
    float *q_part;          /* [row][head][r] */
    float *scores;          /* [row][head][stride], by position: scores, then exp(score - largest) */
    float *inverse, *share; /* [row][head]: of the sum of the latter; of the chosen */
    float *weights;         /* [row][KV head][stride] */
    uint32_t *chosen;       /* [row][KV head][k] positions, ascending */
    uint8_t *passes;        /* [row] as a pass: at the last of what it chose */
    sli_kv gathered;        /* of "KV heads" [row][KV head]: what was chosen */
    /* Of whole pages (sparq_pages.cu): how many are kept; else 0. `kv` is the index, `chosen` [row][KV head][list_stride] lists that begin with their lengths, weights
     * [row][KV head][pages_stride], passes whole. */
    uint32_t keep, pages_stride, list_stride;
};

/* What a row attends to of whole pages: `others` of those before first_local, and [first_local, last]. */
struct sli_pages_row {
    uint32_t base, own, first_local, last, others; /* own is base's page: up to there slots are positions */
};
SLI_DEVICE sli_pages_row sli_pages_row_of(const sli_sparq_job &job, uint32_t row)
{
    uint32_t tree_row = job.pass->first + job.row0 + row;
    bool tree = job.pass->tree != 0;
    uint32_t base = tree ? job.pass->pos0 : job.pass->pos0 + tree_row,
             own = base / SL_KV_PAGE; /* slots ascend along a path: the row's own is its last */
    uint32_t last = tree ? (base + job.pass->path[tree_row][job.pass->depth[tree_row]]) / SL_KV_PAGE : own;
    if (own < job.keep)
        return {base, own, 0, last, 0};
    uint32_t first_local = base + 1 > job.local ? (base + 1 - job.local) / SL_KV_PAGE : 0, always = own - first_local + 1;
    return {base, own, first_local, last, job.keep > always ? job.keep - always : 0};
}

/* The positions that are scored. */
SLI_DEVICE sli_sight sli_sparq_sight(const sli_sparq_job &job, uint32_t row)
{
    if (job.keep == 0)
        return sli_sight_of(job.pass, job.window, job.row0 + row);
    sli_pages_row at = sli_pages_row_of(job, row);
    return {0, at.others > 0 ? at.first_local * SL_KV_PAGE : 0, UINT32_MAX, NULL};
}
SLI_DEVICE bool sli_sparq_chooses(const sli_sparq_job &job, const sli_sight &see)
{
    return job.keep == 0 ? see.end - see.begin > job.k : see.end > 0;
}
SLI_DEVICE const float *sli_sparq_scores(const sli_sparq_job &job, uint32_t row, uint32_t head)
{
    return job.scores + ((size_t)row * job.heads + head) * job.stride;
}

/* Takes `bytes` of a scratch; at 0 it is only measured. */
static inline sl_device_ptr sli_sparq_take(sl_device_ptr *at, uint64_t bytes)
{
    sl_device_ptr here = *at;
    *at += (bytes + 127) / 128 * 128;
    return here;
}

/* Rows of a launch, of which a grid and a scratch have room for so many: `bytes` gives that of some rows. */
template <typename Bytes> static inline uint32_t sli_sparq_rows(const sl_device_attention *all, Bytes bytes)
{
    uint32_t rows = all->rows, most = SLI_SPARQ_QUERIES_MAX / all->heads;
    most = most < 1 ? 1 : most;
    for (rows = rows < most ? rows : most; rows > 1 && bytes(rows) > SLI_SPARQ_SCRATCH_BYTES;)
        rows = (rows + 1) / 2;
    return rows;
}

/* sparq.cu: components, scores and their softmax, of keys of this type, of which so many bytes are read, and so many of those in host memory. */
sl_status sli_sparq_score(sl_device *dev, const sli_sparq_job *job, uint32_t k_type, uint64_t key_bytes, uint64_t link_bytes,
                          sl_error *err);
/* sparq_mean.cu: out = share * out + (1 - share) * the mean of all values, of rows that chose. */
sl_status sli_sparq_reallocate(sl_device *dev, const sli_sparq_job *job, uint64_t memory_bytes, sl_error *err);

#endif

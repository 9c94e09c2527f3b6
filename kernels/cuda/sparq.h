/* kernels/cuda/sparq.h: a job of SparQ attention as its kernels have it: sparq.cu chooses, sparq_mean.cu says what stands for the rest. */
#ifndef SL_KERNELS_CUDA_SPARQ_H
#define SL_KERNELS_CUDA_SPARQ_H

#include "kernels/cuda/kv.h"
#include "kernels/cuda/sight.h"


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
};

SLI_DEVICE sli_sight sli_sparq_sight(const sli_sparq_job &job, uint32_t row)
{
    return sli_sight_of(job.pass, job.window, job.row0 + row);
}
SLI_DEVICE bool sli_sparq_chooses(const sli_sparq_job &job, const sli_sight &see)
{
    return see.end - see.begin > job.k;
}
SLI_DEVICE const float *sli_sparq_scores(const sli_sparq_job &job, uint32_t row, uint32_t head)
{
    return job.scores + ((size_t)row * job.heads + head) * job.stride;
}

/* sparq_mean.cu: out = share * out + (1 - share) * the mean of all values, of rows that chose. */
sl_status sli_sparq_reallocate(sl_device *dev, const sli_sparq_job *job, uint64_t memory_bytes, sl_error *err);

#endif

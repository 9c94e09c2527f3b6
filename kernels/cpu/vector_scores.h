/* kernels/cpu/vector_scores.h: kernels/ref/scores.c with a lane per position (D10), and sums of values with a lane per component.
 *
 * A page of keys has its positions side by side for each component, so the components that count are whole rows of it and nothing else is read.
 * Those of the next page are asked for while a page is multiplied: they lie too far apart for the processor to guess. */
#ifndef SL_KERNELS_CPU_VECTOR_SCORES_H
#define SL_KERNELS_CPU_VECTOR_SCORES_H

#include "kernels/cpu/vector_attention.h"

/* Heads [head, head + R) of one page, columns [column, column + N * LANES); kind, R and N are constants where this is inlined. */
static inline __attribute__((always_inline)) void score_tile(right_kind kind, uint32_t R, uint32_t N, const sl_key_scores *job,
                                                             const product *page, uint32_t head, uint32_t column, float *out)
{
    vf acc[STREAM_TILE_ROWS][STREAM_TILE_VECS], right[STREAM_TILE_VECS], key_scale[STREAM_TILE_VECS] = {0};
    const float *q = job->q + (size_t)head * job->count;
    uint32_t scaled = UINT32_MAX;
#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            acc[r][v] = vf_splat(0.0f);
    for (uint32_t n = 0; n < job->count; n++) {
        uint32_t c = job->component[n];
        if (is_scaled_keys(kind) && c / SCALE_BLOCK != scaled) {
            scaled = c / SCALE_BLOCK;
#pragma GCC unroll 4
            for (size_t v = 0; v < N; v++)
                key_scale[v] = key_scale_of(page, c, column + v * LANES);
        }
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            right[v] = right_load(kind, page, c, column + v * LANES, key_scale[v]);
#pragma GCC unroll 16
        for (size_t r = 0; r < R; r++) {
            vf factor = vf_splat(q[r * job->count + n]);
#pragma GCC unroll 4
            for (size_t v = 0; v < N; v++)
                acc[r][v] = vf_fma(factor, right[v], acc[r][v]);
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < R; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < N; v++)
            vf_store(out + (head + r) * job->out_stride + column + v * LANES, acc[r][v]);
}

/* All heads of one page: `out` is where its first position's scores go. */
static inline __attribute__((always_inline)) void score_heads(right_kind kind, const sl_key_scores *job, const product *page, float *out)
{
    for (uint32_t head = 0, rows; head < job->group; head += rows) {
        rows = job->group - head < STREAM_TILE_ROWS ? job->group - head : STREAM_TILE_ROWS;
        for (uint32_t column = 0; column < SL_KV_PAGE; column += STREAM_TILE_VECS * LANES)
            switch (rows) {
            case 1: score_tile(kind, 1, STREAM_TILE_VECS, job, page, head, column, out); break;
            case 2: score_tile(kind, 2, STREAM_TILE_VECS, job, page, head, column, out); break;
            case 3: score_tile(kind, 3, STREAM_TILE_VECS, job, page, head, column, out); break;
            default: score_tile(kind, STREAM_TILE_ROWS, STREAM_TILE_VECS, job, page, head, column, out);
            }
    }
}

/* The rows of a page that count; of q4_0, two components share one. */
static void fetch_rows(const sl_key_scores *job, const uint8_t *page)
{
    size_t row_bytes = SL_KV_PAGE * (job->k_type == SL_TYPE_F32 ? 4 : job->k_type == SL_TYPE_F16 || job->k_type == SL_TYPE_BF16 ? 2 : 1);
    for (uint32_t n = 0; n < job->count; n++) {
        size_t row = job->k_type == SL_TYPE_Q4_0 ? byte_of_nibble(job->component[n]) : job->component[n];
        for (size_t at = 0; at < row_bytes; at += CACHE_LINE)
            __builtin_prefetch(page + row * row_bytes + at);
    }
}

void SLI_NAME(key_scores)(const sl_key_scores *job)
{
    for (uint32_t number = job->page_begin; number < job->page_end; number++) {
        product page = {
            .right = job->k_pages[number], .scales = scales_of(job->k_type, job->k_pages[number], job->head_dim), .columns = SL_KV_PAGE};
        float *out = job->out + (size_t)number * SL_KV_PAGE;
        if (number + 1 < job->page_end)
            fetch_rows(job, job->k_pages[number + 1]);
        switch (stored_kind(job->k_type, true)) {
        case RIGHT_F32: score_heads(RIGHT_F32, job, &page, out); break;
        case RIGHT_F16: score_heads(RIGHT_F16, job, &page, out); break;
        case RIGHT_BF16: score_heads(RIGHT_BF16, job, &page, out); break;
        case RIGHT_Q4_KEYS: score_heads(RIGHT_Q4_KEYS, job, &page, out); break;
        default: score_heads(RIGHT_Q8_KEYS, job, &page, out);
        }
    }
}

/* Whole groups of 16 lanes: what lies beside [begin, end) becomes -inf, and its exponentials add nothing. */
void SLI_NAME(softmax)(float *x, uint32_t begin, uint32_t end)
{
    uint32_t first = begin / 16 * 16, last = (end + 15) / 16 * 16;
    vf largest[SUM_VECS], sum[SUM_VECS] = {0};
    for (uint32_t i = first; i < begin; i++)
        x[i] = -INFINITY;
    for (uint32_t i = end; i < last; i++)
        x[i] = -INFINITY;
#pragma GCC unroll 4
    for (uint32_t v = 0; v < SUM_VECS; v++)
        largest[v] = vf_splat(-INFINITY);
    for (uint32_t i = first; i < last; i += 16)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < SUM_VECS; v++)
            largest[v] = vf_max(largest[v], vf_load(x + i + v * LANES));
    const vf m = vf_splat(fold_max(largest));
    for (uint32_t i = first; i < last; i += 16)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < SUM_VECS; v++) {
            vf p = vf_exp_small(vf_load(x + i + v * LANES) - m);
            vf_store(x + i + v * LANES, p);
            sum[v] += p;
        }
    const vf inverse = vf_splat(1.0f / fold_sum(sum));
    for (uint32_t i = first; i < last; i += LANES)
        vf_store(x + i, vf_load(x + i) * inverse);
}

static inline __attribute__((always_inline)) void sum_rows(right_kind kind, const product *page, uint32_t begin, uint32_t end, float *sum)
{
    for (uint32_t c = 0; c < page->columns; c += LANES) {
        vf acc = vf_load(sum + c);
        for (uint32_t i = begin; i < end; i++)
            acc += right_load(kind, page, i, c, vf_splat(0.0f));
        vf_store(sum + c, acc);
    }
}

void SLI_NAME(kv_sum_v)(uint32_t type, const uint8_t *page, uint32_t begin, uint32_t end, uint32_t head_dim, float *sum)
{
    product values = {.right = page, .scales = scales_of(type, page, head_dim), .columns = head_dim};
    switch (stored_kind(type, false)) {
    case RIGHT_F32: sum_rows(RIGHT_F32, &values, begin, end, sum); break;
    case RIGHT_F16: sum_rows(RIGHT_F16, &values, begin, end, sum); break;
    case RIGHT_BF16: sum_rows(RIGHT_BF16, &values, begin, end, sum); break;
    case RIGHT_Q4_VALUES: sum_rows(RIGHT_Q4_VALUES, &values, begin, end, sum); break;
    default: sum_rows(RIGHT_Q8_VALUES, &values, begin, end, sum);
    }
}

#endif

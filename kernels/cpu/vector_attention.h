/* kernels/cpu/vector_attention.h: kernels/ref/attention.c with a lane per position, then a lane per component (D5).
 *
 * Queries (a head of a row each) are taken in blocks; a block walks over the pages that any of its queries sees:
 *
 *     scores      p = q' * K             run_product; columns outside what the block sees are not computed
 *     softmax     p = exp(p - m')        query by query; positions that this query does not see become 0
 *     output      o = o * c + p * V      run_product, over the positions that the block sees
 *
 * A block of many queries widens each page to fp32 once; one of few reads it as stored. Both read the same numbers. */
#ifndef SL_KERNELS_CPU_VECTOR_ATTENTION_H
#define SL_KERNELS_CPU_VECTOR_ATTENTION_H

#include "kernels/cpu/vector_tile.h"
#include "kernels/internal.h"

#include <assert.h>

#define WIDEN_QUERIES BLOCK_TILE_ROWS /* from here on a widened page is read by tall tiles and pays */
#define PAGE_VECS     (SL_KV_PAGE / LANES)

typedef struct span {
    uint32_t begin, end; /* empty when begin >= end */
} span;

/* The positions of `page` that query number `query` sees, counted from the page's first. */
static span visible_in_page(const sl_attention *job, uint32_t query, uint32_t page)
{
    uint32_t position = job->pos0 + query / job->group, first = page * SL_KV_PAGE;
    uint32_t begin = job->window != 0 && position >= job->window ? position - job->window + 1 : 0;
    uint32_t end = position + 1;
    begin = begin > first ? begin - first : 0;
    end = end > first ? end - first : 0;
    return (span){begin, end < SL_KV_PAGE ? end : SL_KV_PAGE};
}

static right_kind stored_kind(uint32_t type, bool keys)
{
    if (type == SL_TYPE_F32)
        return RIGHT_F32;
    if (type == SL_TYPE_F16)
        return RIGHT_F16;
    return keys ? RIGHT_Q8_KEYS : RIGHT_Q8_VALUES;
}

/* Rows [begin, end) of k of p's right side as fp32 in `page`, which p then reads instead. */
static void widen_right(product *p, uint32_t begin, uint32_t end, float *page)
{
    if (p->kind == RIGHT_F32)
        return;
    for (uint32_t k = begin; k < end; k++) {
        float *to = page + (size_t)k * p->columns;
        for (uint32_t j = 0; j < p->columns; j += LANES) {
            vf x;
            if (p->kind == RIGHT_F16)
                x = right_load(RIGHT_F16, p, k, j, vf_splat(0.0f));
            else if (p->kind == RIGHT_Q8_KEYS)
                x = right_load(RIGHT_Q8_KEYS, p, k, j, vf_load_f16(p->scales + 2 * ((size_t)(k / Q8_BLOCK) * p->columns + j)));
            else
                x = right_load(RIGHT_Q8_VALUES, p, k, j, vf_splat(0.0f));
            vf_store(to + j, x);
        }
    }
    p->kind = RIGHT_F32;
    p->right = (const uint8_t *)page;
}

/* Scores of one query over a page become exponentials; returns by how much the earlier output and sum shrink. */
static float softmax_page(float *p, span seen, float *m, float *l)
{
    if (seen.begin >= seen.end) {
        memset(p, 0, SL_KV_PAGE * sizeof *p);
        return 1.0f;
    }
    for (uint32_t i = 0; i < seen.begin; i++)
        p[i] = -INFINITY;
    for (uint32_t i = seen.end; i < SL_KV_PAGE; i++)
        p[i] = -INFINITY;

    vf largest[SUM_VECS], sum[SUM_VECS] = {0};
#pragma GCC unroll 4
    for (uint32_t v = 0; v < SUM_VECS; v++)
        largest[v] = vf_load(p + v * LANES);
#pragma GCC unroll 16
    for (uint32_t v = SUM_VECS; v < PAGE_VECS; v++)
        largest[v % SUM_VECS] = vf_max(largest[v % SUM_VECS], vf_load(p + v * LANES));
    float page_max = fold_max(largest), new_max = *m > page_max ? *m : page_max;

#pragma GCC unroll 16
    for (uint32_t v = 0; v < PAGE_VECS; v++) {
        vf x = vf_exp_small(vf_load(p + v * LANES) - vf_splat(new_max));
        vf_store(p + v * LANES, x);
        sum[v % SUM_VECS] += x;
    }
    float correction = sli_exp(*m - new_max);
    *m = new_max;
    *l = *l * correction + fold_sum(sum);
    return correction;
}

/* Copies the queries [first, first + count) of the job, scaled, to where products read them, and starts their sums. */
static void begin_block(const sl_attention *job, uint32_t first, uint32_t count, const sli_scratch *s)
{
    size_t chunk_floats = (size_t)sli_block_queries(job->head_dim) * CHUNK;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = (first + i) / job->group, head = (first + i) % job->group;
        const float *q = job->q + row * job->q_stride + (size_t)head * job->head_dim;
        for (uint32_t c = 0; c < job->head_dim; c += LANES)
            vf_store(s->q + c / CHUNK * chunk_floats + i * CHUNK + c % CHUNK, vf_load(q + c) * vf_splat(job->scale));
        s->m[i] = -INFINITY;
        s->l[i] = 0.0f;
    }
    memset(s->o, 0, (size_t)count * job->head_dim * sizeof *s->o);
}

static void end_block(const sl_attention *job, uint32_t first, uint32_t count, const sli_scratch *s)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = (first + i) / job->group, head = (first + i) % job->group;
        float *out = job->out + row * job->out_stride + (size_t)head * job->head_dim;
        vf inverse = vf_splat(1.0f / s->l[i]);
        for (uint32_t c = 0; c < job->head_dim; c += LANES)
            vf_store(out + c, vf_load(s->o + (size_t)i * job->head_dim + c) * inverse + vf_splat(0.0f));
    }
}

/* What the queries [first, first + count) take from one page. */
static void attend_page(const sl_attention *job, uint32_t first, uint32_t count, uint32_t page, const sli_scratch *s)
{
    const size_t elements = (size_t)SL_KV_PAGE * job->head_dim;
    const bool widen = count >= WIDEN_QUERIES;
    const span all = {visible_in_page(job, first, page).begin, visible_in_page(job, first + count - 1, page).end};

    product scores = {.left = s->q,
                      .left_chunk = (size_t)sli_block_queries(job->head_dim) * CHUNK,
                      .kind = stored_kind(job->k_type, true),
                      .right = job->k_pages[page],
                      .scales = job->k_pages[page] + elements,
                      .columns = SL_KV_PAGE,
                      .k_end = job->head_dim,
                      .out = s->p,
                      .out_stride = CHUNK};
    if (widen)
        widen_right(&scores, 0, job->head_dim, s->page);
    run_product(&scores, count, all.begin / 16 * 16, (all.end + 15) / 16 * 16);

    for (uint32_t i = 0; i < count; i++)
        s->correction[i] = softmax_page(s->p + i * CHUNK, visible_in_page(job, first + i, page), &s->m[i], &s->l[i]);

    product output = {.left = s->p,
                      .kind = stored_kind(job->v_type, false),
                      .right = job->v_pages[page],
                      .scales = job->v_pages[page] + elements,
                      .columns = job->head_dim,
                      .k_begin = all.begin,
                      .k_end = all.end,
                      .out = s->o,
                      .out_stride = job->head_dim,
                      .correction = s->correction};
    if (widen)
        widen_right(&output, all.begin, all.end, s->page);
    run_product(&output, count, 0, job->head_dim);
}

void SLI_NAME(attention)(const sl_attention *job)
{
    assert(job->head_dim % 16 == 0 && job->head_dim <= 512);
    sli_scratch scratch;
    sli_scratch_divide(job->head_dim, job->scratch, &scratch);

    uint32_t queries = job->rows * job->group, block = sli_block_queries(job->head_dim);
    for (uint32_t first = 0; first < queries; first += block) {
        uint32_t count = queries - first < block ? queries - first : block;
        uint32_t first_position = job->pos0 + first / job->group, last_position = job->pos0 + (first + count - 1) / job->group;
        uint32_t begin = job->window != 0 && first_position >= job->window ? first_position - job->window + 1 : 0;

        begin_block(job, first, count, &scratch);
        for (uint32_t page = begin / SL_KV_PAGE; page <= last_position / SL_KV_PAGE; page++)
            attend_page(job, first, count, page, &scratch);
        end_block(job, first, count, &scratch);
    }
}

#endif

/* kernels/cpu/vector_attention.h: kernels/ref/attention.c with a lane per position, then a lane per component (D5).
 *
 * Queries (a head of a row each) are taken in blocks; a block walks over the pages that any of its queries sees:
 *
 *     scores      p = q' * K             run_product; columns that a tile's queries do not see are not computed
 *     softmax     p = exp(p - m')        query by query; positions that this query does not see become 0
 *     output      o = o * c + p * V      run_product, over the positions that a tile's queries see
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

static uint32_t position_of(const sl_attention *job, uint32_t row)
{
    return job->pos0 + (job->tree != NULL ? job->tree->depth[row] : row);
}

/* The positions of `page` that row `row` sees, counted from the page's first. */
static span visible_in_page(const sl_attention *job, uint32_t row, uint32_t page)
{
    uint32_t position = position_of(job, row), first = page * SL_KV_PAGE;
    uint32_t begin = job->window != 0 && position >= job->window ? position - job->window + 1 : 0;
    uint32_t end = position + 1;
    begin = begin > first ? begin - first : 0;
    end = end > first ? end - first : 0;
    return (span){begin, end < SL_KV_PAGE ? end : SL_KV_PAGE};
}

static right_kind stored_kind(uint32_t type, bool keys)
{
    switch (type) {
    case SL_TYPE_F32: return RIGHT_F32;
    case SL_TYPE_F16: return RIGHT_F16;
    case SL_TYPE_BF16: return RIGHT_BF16;
    case SL_TYPE_Q4_0: return keys ? RIGHT_Q4_KEYS : RIGHT_Q4_VALUES;
    default: return keys ? RIGHT_Q8_KEYS : RIGHT_Q8_VALUES;
    }
}

/* Where a page's scales begin, if it has any. */
static const uint8_t *scales_of(uint32_t type, const uint8_t *page, uint32_t head_dim)
{
    return page + (size_t)SL_KV_PAGE * (type == SL_TYPE_Q4_0 ? head_dim / 2 : head_dim);
}

/* Row k of p's right side as fp32; inlined for each kind. */
static inline __attribute__((always_inline)) void widen_row(right_kind kind, const product *p, uint32_t k, float *to)
{
    for (uint32_t j = 0; j < p->columns; j += LANES)
        vf_store(to + j, right_load(kind, p, k, j, is_scaled_keys(kind) ? key_scale_of(p, k, j) : vf_splat(0.0f)));
}

/* Rows [begin, end) of k of p's right side as fp32 in `page`, which p then reads instead. */
static void widen_right(product *p, uint32_t begin, uint32_t end, float *page)
{
    for (uint32_t k = begin; k < end; k++) {
        float *to = page + (size_t)k * p->columns;
        switch (p->kind) {
        case RIGHT_F16: widen_row(RIGHT_F16, p, k, to); break;
        case RIGHT_BF16: widen_row(RIGHT_BF16, p, k, to); break;
        case RIGHT_Q8_KEYS: widen_row(RIGHT_Q8_KEYS, p, k, to); break;
        case RIGHT_Q8_VALUES: widen_row(RIGHT_Q8_VALUES, p, k, to); break;
        case RIGHT_Q4_KEYS: widen_row(RIGHT_Q4_KEYS, p, k, to); break;
        case RIGHT_Q4_VALUES: widen_row(RIGHT_Q4_VALUES, p, k, to); break;
        default: return; /* it is fp32 */
        }
    }
    p->kind = RIGHT_F32;
    p->right = (const uint8_t *)page;
}

/* Positions outside `seen` get the score -inf, whose exponential is 0. */
static void hide_scores(float *p, span seen)
{
    static const float numbers[SL_KV_PAGE] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                              22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                              44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const vf begin = vf_splat((float)seen.begin), end = vf_splat((float)seen.end), hidden = vf_splat(-INFINITY);
    for (uint32_t i = 0; i < SL_KV_PAGE; i += LANES) {
        vf number = vf_load(numbers + i), x = vf_load(p + i);
        x = vf_select_less(number, begin, hidden, x);
        vf_store(p + i, vf_select_less(number, end, x, hidden));
    }
}

/* Scores of one query over a page become exponentials; returns by how much the earlier output and sum shrink. */
static float softmax_page(float *p, span seen, float *m, float *l)
{
    if (seen.begin >= seen.end) {
        memset(p, 0, SL_KV_PAGE * sizeof *p);
        return 1.0f;
    }
    if (seen.begin > 0 || seen.end < SL_KV_PAGE)
        hide_scores(p, seen);

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

/* Few queries wait for memory, and a page is too short for the processor to guess its end: while one page is multiplied, the lines
 * of the next to come (NULL: none) are asked for, evenly over the product's steps. */
static void fetch_ahead(product *p, const uint8_t *page, size_t page_bytes)
{
    uint32_t steps = p->k_end - p->k_begin;
    p->ahead = page;
    p->ahead_step = (page_bytes / steps + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

/* `count` queries from number `first` on, and what they share. */
typedef struct block {
    const sl_attention *job;
    uint32_t first, count;
    bool widen;
    sli_scratch s;
} block;

/* The positions of `page` that any of the block's queries [begin, end) sees: rows of a chain see ever further on, those of a tree as they stand. */
static span visible_to(const block *b, uint32_t begin, uint32_t end, uint32_t page)
{
    uint32_t first = (b->first + begin) / b->job->group, last = (b->first + end - 1) / b->job->group;
    span seen = {visible_in_page(b->job, first, page).begin, visible_in_page(b->job, last, page).end};
    for (uint32_t row = first; b->job->tree != NULL && row <= last; row++) {
        span of_row = visible_in_page(b->job, row, page);
        seen.begin = of_row.begin < seen.begin ? of_row.begin : seen.begin;
        seen.end = of_row.end > seen.end ? of_row.end : seen.end;
    }
    return seen;
}

/* The block's queries times the keys of `page`, into out [query][CHUNK]; its values are read next. */
static product scores_of(const block *b, uint32_t page, float *out)
{
    const sl_attention *job = b->job;
    product scores = {.left = b->s.q,
                      .left_chunk = (size_t)sli_block_queries(job->head_dim) * CHUNK,
                      .kind = stored_kind(job->k_type, true),
                      .right = job->k_pages[page],
                      .scales = scales_of(job->k_type, job->k_pages[page], job->head_dim),
                      .columns = SL_KV_PAGE,
                      .k_end = job->head_dim,
                      .out = out,
                      .out_stride = CHUNK};
    if (b->widen)
        widen_right(&scores, 0, job->head_dim, b->s.page);
    fetch_ahead(&scores, job->v_pages[page], sl_kv_page_bytes(job->v_type, job->head_dim));
    return scores;
}

/* s.o = s.o * correction + exponentials [query][CHUNK] times the values of `page` that lie in `used`. */
static product output_of(const block *b, uint32_t page, const float *exponentials, span used)
{
    const sl_attention *job = b->job;
    product output = {.left = exponentials,
                      .kind = stored_kind(job->v_type, false),
                      .right = job->v_pages[page],
                      .scales = scales_of(job->v_type, job->v_pages[page], job->head_dim),
                      .columns = job->head_dim,
                      .k_begin = used.begin,
                      .k_end = used.end,
                      .out = b->s.o,
                      .out_stride = job->head_dim,
                      .correction = b->s.correction};
    if (b->widen)
        widen_right(&output, used.begin, used.end, b->s.page);
    return output;
}

/* s.p = scores, of the columns that a tile's queries see. */
static void score_page(const block *b, uint32_t page)
{
    product scores = scores_of(b, page, b->s.p);
    for (uint32_t i = 0, next; i < b->count; i = next) {
        next = b->count - i < BLOCK_TILE_ROWS ? b->count : i + BLOCK_TILE_ROWS;
        span seen = visible_to(b, i, next, page);
        if (seen.begin >= seen.end)
            continue;
        run_product(&scores, i, next, seen.begin / 16 * 16, (seen.end + 15) / 16 * 16);
        scores.ahead = NULL;
    }
}

static void softmax_block(const block *b, uint32_t page)
{
    const sli_scratch *s = &b->s;
    uint32_t group = b->job->group, row = b->first / group, head = b->first % group;
    for (uint32_t i = 0; i < b->count; row++, head = 0) {
        span seen = visible_in_page(b->job, row, page);
        for (; head < group && i < b->count; head++, i++)
            s->correction[i] = softmax_page(s->p + i * CHUNK, seen, &s->m[i], &s->l[i]);
    }
}

/* s.o = s.o * correction + s.p * V, over the positions that a tile's queries see. `next_keys`: the K page that is read next, or NULL. */
static void output_page(const block *b, uint32_t page, const uint8_t *next_keys)
{
    const sl_attention *job = b->job;
    span seen = visible_to(b, 0, b->count, page);
    product output = output_of(b, page, b->s.p, seen);
    for (uint32_t i = 0, next; i < b->count; i = next) {
        next = b->count - i < BLOCK_TILE_ROWS ? b->count : i + BLOCK_TILE_ROWS;
        seen = visible_to(b, i, next, page);
        output.k_begin = seen.begin;
        output.k_end = seen.end;
        if (seen.begin >= seen.end)
            continue;
        fetch_ahead(&output, next_keys, sl_kv_page_bytes(job->k_type, job->head_dim));
        run_product(&output, i, next, 0, job->head_dim);
        next_keys = NULL;
    }
}

/* Pages [begin, end), which lie as they count. */
static void attend_pages(const block *b, uint32_t begin, uint32_t end)
{
    for (uint32_t page = begin; page < end; page++) {
        score_page(b, page);
        softmax_block(b, page);
        output_page(b, page, page + 1 < end ? b->job->k_pages[page + 1] : NULL);
    }
}

#include "kernels/cpu/vector_tree.h"

/* The first page that any of the block's rows sees. */
static uint32_t first_page(const block *b)
{
    const sl_attention *job = b->job;
    uint32_t first = b->first / job->group, last = (b->first + b->count - 1) / job->group, position = position_of(job, first);
    for (uint32_t row = first; job->tree != NULL && row <= last; row++)
        position = position_of(job, row) < position ? position_of(job, row) : position;
    return (job->window != 0 && position >= job->window ? position - job->window + 1 : 0) / SL_KV_PAGE;
}

void SLI_NAME(attention)(const sl_attention *job)
{
    assert(job->head_dim % 16 == 0 && job->head_dim <= 512);
    block b = {.job = job};
    sli_scratch_divide(job->head_dim, job->scratch, &b.s);

    uint32_t queries = job->rows * job->group;
    for (; b.first < queries; b.first += b.count) {
        b.count = sli_block_queries(job->head_dim);
        if (b.count > queries - b.first)
            b.count = queries - b.first;
        b.widen = b.count >= WIDEN_QUERIES;
        begin_block(job, b.first, b.count, &b.s);
        if (job->tree != NULL) {
            attend_pages(&b, first_page(&b), job->pos0 / SL_KV_PAGE);
            attend_tree(&b);
        } else {
            attend_pages(&b, first_page(&b), position_of(job, (b.first + b.count - 1) / job->group) / SL_KV_PAGE + 1);
        }
        end_block(job, b.first, b.count, &b.s);
    }
}

#endif

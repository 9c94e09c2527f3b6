/* offload/sparq_attention.c: see sparq_attention.h. */
#include "offload/sparq_attention.h"
#include "core/layout.h"
#include "offload/sparq.h"

#include <string.h>

bool sli_sparq_reallocates(const sl_engine *e)
{
    if (e->options.sparq_k == 0 || e->options.sparq_select == SL_SPARQ_PAGES)
        return false;
    if (e->options.sparq_reallocate == SL_SPARQ_REALLOCATE_AUTO)
        return e->model->heads == e->model->kv_heads;
    return e->options.sparq_reallocate == SL_SPARQ_REALLOCATE_ON;
}

/* ---- a thread's memory ---- */

typedef struct work {
    float *scores;       /* [group][positions] */
    float *weights;      /* [positions] */
    float *choice;       /* [2 * (positions + SL_PICK_SLACK)] */
    float *q;            /* [group][r] */
    float *sums;         /* [head_dim] */
    uint32_t *component; /* [r] */
    uint32_t *chosen;    /* [k] */
    uint8_t *k, *v;      /* pages of what was chosen */
    const uint8_t **k_pages, **v_pages;
    size_t positions; /* room for those of the context, in whole pages */
} work;

static void lay_out(const sl_engine *e, sl_layout *l, work *w)
{
    const sl_model *m = e->model;
    sli_kv_shape kv = sli_kv_shape_of(e);
    uint32_t group = m->heads / m->kv_heads, k = e->options.sparq_k, pages = (k + SL_KV_PAGE - 1) / SL_KV_PAGE;
    w->positions = (size_t)(e->context + SL_KV_PAGE - 1) / SL_KV_PAGE * SL_KV_PAGE;
    w->scores = sl_layout_place(l, group * w->positions * sizeof *w->scores);
    w->weights = sl_layout_place(l, w->positions * sizeof *w->weights);
    w->choice = sl_layout_place(l, 2 * (w->positions + SL_PICK_SLACK) * sizeof *w->choice);
    w->q = sl_layout_place(l, (size_t)group * e->options.sparq_r * sizeof *w->q);
    w->sums = sl_layout_place(l, m->head_dim * sizeof *w->sums);
    w->component = sl_layout_place(l, e->options.sparq_r * sizeof *w->component);
    w->chosen = sl_layout_place(l, k * sizeof *w->chosen);
    w->k_pages = sl_layout_place(l, pages * sizeof *w->k_pages);
    w->v_pages = sl_layout_place(l, pages * sizeof *w->v_pages);
    w->k = sl_layout_place(l, pages * sl_kv_page_bytes(kv.k_type, m->head_dim));
    w->v = sl_layout_place(l, pages * sl_kv_page_bytes(kv.v_type, m->head_dim));
}

size_t sli_sparq_thread_bytes(const sl_engine *e)
{
    sl_layout l = {0};
    work unused;
    if (e->options.sparq_k == 0 || e->options.sparq_select == SL_SPARQ_PAGES)
        return 0;
    lay_out(e, &l, &unused);
    return l.used;
}

/* ---- one row ---- */

typedef struct sparq {
    const sl_engine *engine;
    const sli_kv *kv;
    uint32_t layer, head;
    const sl_attention *row;
    uint32_t begin, end; /* positions that it sees */
    uint32_t base;       /* up to here positions are slots */
    uint32_t summed;     /* the page before which sums of values are known */
    uint32_t k, r, local;
    work w;
} sparq;

static uint32_t slot_of(const sparq *s, uint32_t position)
{
    bool in_tree = s->row->tree != NULL && position >= s->base;
    return in_tree ? s->base + s->row->tree->path[0][position - s->base] : position;
}

/* s->w.scores: of all positions, for each head, as shares of 1. */
static void score_positions(sparq *s)
{
    const sl_attention *row = s->row;
    const sl_kernels *kernels = s->engine->kernels;
    work *w = &s->w;
    sli_sparq_scaled_query(row->q, row->group, row->head_dim, s->r, row->scale, w->sums, w->component, w->q);
    sl_key_scores job = {.head_dim = row->head_dim,
                         .group = row->group,
                         .k_type = row->k_type,
                         .k_pages = row->k_pages,
                         .page_begin = s->begin / SL_KV_PAGE,
                         .page_end = slot_of(s, s->end - 1) / SL_KV_PAGE + 1,
                         .count = s->r,
                         .component = w->component,
                         .q = w->q,
                         .out = w->scores,
                         .out_stride = w->positions};
    kernels->key_scores(&job);
    for (uint32_t h = 0; h < row->group; h++) {
        float *scores = w->scores + h * w->positions;
        for (uint32_t i = s->base > s->begin ? s->base : s->begin; i < s->end;
             i++) /* a path's slots ascend, never before their positions */
            scores[i] = scores[slot_of(s, i)];
        kernels->softmax(scores, s->begin, s->end);
    }
}

static void choose_positions(sparq *s)
{
    work *w = &s->w;
    size_t count = s->end - s->begin;
    memcpy(w->weights + s->begin, w->scores + s->begin, count * sizeof *w->weights);
    for (uint32_t h = 1; h < s->row->group; h++)
        s->engine->kernels->add(w->weights + s->begin, w->scores + h * w->positions + s->begin, count);
    sli_sparq_choose(s->engine->kernels, w->weights, w->choice, s->begin, s->end, s->k, s->local, w->chosen);
}

#define AHEAD 8 /* keys and values that are asked for before they are copied */

static void fetch(const uint8_t *page, size_t vector_bytes, uint32_t index)
{
    for (size_t at = 0; at < vector_bytes; at += 64)
        __builtin_prefetch(page + vector_bytes * index + at);
}

/* What was chosen, in order, to pages of its own. */
static void gather(const sparq *s)
{
    const sl_attention *row = s->row;
    const sl_kernels *kernels = s->engine->kernels;
    const work *w = &s->w;
    const uint8_t *const *rows = sli_kv_pages(s->kv, s->layer, s->head, SLI_KV_KEY_ROWS);
    uint32_t dim = row->head_dim;
    size_t k_bytes = sl_kv_page_bytes(row->k_type, dim), v_bytes = sl_kv_page_bytes(row->v_type, dim);
    for (uint32_t n = 0; n < s->k; n++) {
        uint32_t slot = slot_of(s, w->chosen[n]), page = slot / SL_KV_PAGE, index = slot % SL_KV_PAGE;
        if (n + AHEAD < s->k) {
            uint32_t next = slot_of(s, w->chosen[n + AHEAD]);
            fetch(rows[next / SL_KV_PAGE], k_bytes / SL_KV_PAGE, next % SL_KV_PAGE);
            fetch(row->v_pages[next / SL_KV_PAGE], v_bytes / SL_KV_PAGE, next % SL_KV_PAGE);
        }
        uint8_t *k = w->k + n / SL_KV_PAGE * k_bytes, *v = w->v + n / SL_KV_PAGE * v_bytes;
        kernels->kv_turn_k(row->k_type, rows[page], index, k, n % SL_KV_PAGE, dim);
        kernels->kv_copy_v(row->v_type, row->v_pages[page], index, v, n % SL_KV_PAGE, dim);
        w->k_pages[n / SL_KV_PAGE] = k;
        w->v_pages[n / SL_KV_PAGE] = v;
    }
}

static void attend_chosen(const sparq *s)
{
    sl_attention job = *s->row;
    job.pos0 = s->k - 1;
    job.window = 0;
    job.tree = NULL;
    job.k_pages = s->w.k_pages;
    job.v_pages = s->w.v_pages;
    s->engine->kernels->attention(&job);
}

/* ---- the mean of the values ---- */

/* sum += the values at positions [begin, end) of one page of positions. */
static void add_values(const sparq *s, uint32_t begin, uint32_t end, float *sum)
{
    const sl_attention *row = s->row;
    for (uint32_t at = begin, stop; at < end; at = stop) {
        uint32_t slot = slot_of(s, at);
        stop = at < s->base ? (end < s->base ? end : s->base) : at + 1;
        s->engine->kernels->kv_sum_v(row->v_type, row->v_pages[slot / SL_KV_PAGE], slot % SL_KV_PAGE, slot % SL_KV_PAGE + (stop - at),
                                     row->head_dim, sum);
    }
}

/* Of all positions before a page: what the cache knows, and page by page what a tree's paths add to it. */
static void sum_before(const sparq *s, uint32_t page, float *sum)
{
    uint32_t dim = s->row->head_dim, known = page < s->summed ? page : s->summed;
    float part[SL_HEAD_DIM_MAX];
    memcpy(sum, sli_kv_value_sum(s->kv, s->layer, s->head, known), dim * sizeof *sum);
    for (; known < page; known++) {
        memset(part, 0, dim * sizeof *part);
        add_values(s, known * SL_KV_PAGE, (known + 1) * SL_KV_PAGE, part);
        s->engine->kernels->add(sum, part, dim);
    }
}

/* In three parts: up to the end of the first page, if the window does not begin with it; whole pages; what the last one has so far. */
static void mean_of_values(const sparq *s, float *mean)
{
    uint32_t dim = s->row->head_dim, last = (s->end - 1) / SL_KV_PAGE;
    float part[SL_HEAD_DIM_MAX], before[SL_HEAD_DIM_MAX];
    memset(mean, 0, dim * sizeof *mean);
    for (uint32_t at = s->begin, stop; at < s->end; at = stop) {
        uint32_t page = at / SL_KV_PAGE;
        if (at % SL_KV_PAGE == 0 && page < last) {
            stop = last * SL_KV_PAGE;
            sum_before(s, last, part);
            sum_before(s, page, before);
            for (uint32_t c = 0; c < dim; c++)
                part[c] -= before[c];
        } else {
            stop = page < last ? (page + 1) * SL_KV_PAGE : s->end;
            memset(part, 0, dim * sizeof *part);
            add_values(s, at, stop, part);
        }
        s->engine->kernels->add(mean, part, dim);
    }
    for (uint32_t c = 0; c < dim; c++)
        mean[c] /= (float)(s->end - s->begin);
}

static void reallocate(sparq *s)
{
    const sl_attention *row = s->row;
    float *mean = s->w.sums;
    mean_of_values(s, mean);
    for (uint32_t h = 0; h < row->group; h++) {
        const float *scores = s->w.scores + h * s->w.positions;
        float share = 0.0f, *out = row->out + (size_t)h * row->head_dim;
        for (uint32_t n = 0; n < s->k; n++)
            share += scores[s->w.chosen[n]];
        for (uint32_t c = 0; c < row->head_dim; c++)
            out[c] = share * out[c] + (1.0f - share) * mean[c];
    }
}

bool sli_sparq_wants_sums(const sl_session *session, uint32_t layer, uint32_t position)
{
    return session->kv.value_sums != NULL && session->kv.summed_pages[layer] < position / SL_KV_PAGE + 1;
}

void sli_sparq_sum_values(sl_session *session, uint32_t layer, uint32_t head, uint32_t position)
{
    const sli_kv *kv = &session->kv;
    const uint8_t *const *pages = sli_kv_pages(kv, layer, head, SLI_KV_VALUES);
    for (uint32_t page = kv->summed_pages[layer]; page <= position / SL_KV_PAGE; page++) {
        float *sum = sli_kv_value_sum(kv, layer, head, page);
        memset(sum, 0, kv->head_dim * sizeof *sum);
        if (page == 0)
            continue;
        session->engine->kernels->kv_sum_v(kv->v_type, pages[page - 1], 0, SL_KV_PAGE, kv->head_dim, sum);
        session->engine->kernels->add(sum, sum - kv->head_dim, kv->head_dim);
    }
}

void sli_sparq_summed(sl_session *session, uint32_t layer, uint32_t position)
{
    session->kv.summed_pages[layer] = position / SL_KV_PAGE + 1;
}

/* ---- the account ---- */

static void count_bytes(sl_engine *e, uint64_t moved, uint64_t dense)
{
    atomic_fetch_add_explicit(&e->sparq.bytes_moved, moved, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->sparq.dense_bytes, dense, memory_order_relaxed);
}

void sli_sparq_attend(sl_session *session, uint32_t layer, uint32_t head, const sl_attention *row)
{
    sl_engine *e = session->engine;
    sli_sparq_row seen = {.k = e->options.sparq_k,
                          .r = e->options.sparq_r,
                          .local = e->options.sparq_local,
                          .k_type = row->k_type,
                          .v_type = row->v_type,
                          .head_dim = row->head_dim,
                          .reallocates = session->kv.value_sums != NULL};
    sli_sparq_see(&seen, row->pos0, row->tree != NULL ? row->tree->depth[0] : 0, row->window);
    uint64_t dense = sli_sparq_dense_bytes(&seen);
    if (!sli_sparq_chooses(&seen)) { /* nothing is left out */
        e->kernels->attention(row);
        count_bytes(e, dense, dense);
        return;
    }
    sparq s = {.engine = e,
               .kv = &session->kv,
               .layer = layer,
               .head = head,
               .row = row,
               .begin = seen.begin,
               .end = seen.end,
               .base = row->tree != NULL ? row->pos0 : seen.end,
               .summed = seen.summed,
               .k = seen.k,
               .r = seen.r,
               .local = seen.local};
    sl_layout l = {.base = (uint8_t *)row->scratch + sl_attention_scratch_bytes(row->head_dim, row->group)};
    lay_out(e, &l, &s.w);
    score_positions(&s);
    choose_positions(&s);
    gather(&s);
    attend_chosen(&s);
    if (seen.reallocates)
        reallocate(&s);
    count_bytes(e, sli_sparq_moved_bytes(&seen, sli_sparq_blocks(s.w.component, s.r)), dense);
}

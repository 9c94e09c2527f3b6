/* offload/sparq_pages.c: see sparq_pages.h. */
#include "offload/sparq_pages.h"
#include "core/layout.h"
#include "offload/select.h"
#include "offload/sparq.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TREE_PAGES ((SL_TREE_ROWS + SL_KV_PAGE - 2) / SL_KV_PAGE + 1)

/* ---- a thread's memory ---- */

typedef struct work {
    float *scores, *weights, *sums; /* [pages], [pages], [head_dim] */
    uint32_t *component;            /* [r] */
    const uint8_t **k_pages, **v_pages;
    uint32_t *list;
} work;

uint32_t sli_pages_most(const sl_engine *e)
{
    return e->options.sparq_k / SL_KV_PAGE + TREE_PAGES;
}

static void lay_out(const sl_engine *e, sl_layout *l, work *w)
{
    size_t pages = sli_kv_bound_stride(e->context), most = sli_pages_most(e);
    w->scores = sl_layout_place(l, pages * sizeof *w->scores);
    w->weights = sl_layout_place(l, pages * sizeof *w->weights);
    w->sums = sl_layout_place(l, e->model->head_dim * sizeof *w->sums);
    w->component = sl_layout_place(l, e->options.sparq_r * sizeof *w->component);
    w->k_pages = sl_layout_place(l, most * sizeof *w->k_pages);
    w->v_pages = sl_layout_place(l, most * sizeof *w->v_pages);
    w->list = sl_layout_place(l, most * sizeof *w->list);
}

size_t sli_pages_thread_bytes(const sl_engine *e)
{
    sl_layout l = {0};
    work unused;
    if (e->options.sparq_k == 0 || e->options.sparq_select != SL_SPARQ_PAGES)
        return 0;
    lay_out(e, &l, &unused);
    return l.used;
}

static work work_of(const sl_engine *e, const sl_attention *row)
{
    work w;
    sl_layout l = {.base = (uint8_t *)row->scratch + sl_attention_scratch_bytes(row->head_dim, row->group)};
    assert(l.base != NULL);
    lay_out(e, &l, &w);
    return w;
}

uint32_t *sli_pages_list(const sl_engine *e, const sl_attention *row)
{
    return work_of(e, row).list;
}

/* ---- which pages ---- */

/* scores[p] = sum over the components of the larger product, for pages [0, pages). */
static void score_pages(const sli_kv *kv, uint32_t layer, uint32_t head, uint32_t pages, const float *q, const uint32_t *component,
                        uint32_t count, float *scores)
{
    memset(scores, 0, pages * sizeof *scores);
    for (uint32_t n = 0; n < count; n++) {
        uint32_t c = component[n];
        const float *bound = sli_kv_bounds(kv, layer, head, q[c] < 0, c);
        for (uint32_t p = 0; p < pages; p++)
            scores[p] += q[c] * bound[p];
    }
}

/* Each head counts by its own softmax: what one is sure of is worth as much as what all find likely. */
static void weigh_pages(const sl_session *s, uint32_t layer, uint32_t head, const sl_attention *row, uint32_t pages, const work *w)
{
    const sl_engine *e = s->engine;
    uint32_t r = e->options.sparq_r;
    memset(w->weights, 0, pages * sizeof *w->weights);
    sli_sparq_components(row->q, row->group, row->head_dim, r, w->sums, w->component);
    for (uint32_t h = 0; h < row->group; h++) {
        const float *q = row->q + (size_t)h * row->head_dim;
        float factor = row->scale * sli_sparq_factor(q, row->head_dim, w->component, r);
        score_pages(&s->kv, layer, head, pages, q, w->component, r, w->scores);
        e->kernels->scale(w->scores, factor, pages);
        e->kernels->softmax(w->scores, 0, pages);
        e->kernels->add(w->weights, w->scores, pages);
    }
}

uint32_t sli_pages_choose(const sl_session *s, uint32_t layer, uint32_t head, const sl_attention *row, uint32_t *list)
{
    const sl_engine *e = s->engine;
    uint32_t keep = e->options.sparq_k / SL_KV_PAGE, local = e->options.sparq_local, depth = row->tree != NULL ? row->tree->depth[0] : 0;
    uint32_t own = row->pos0 / SL_KV_PAGE, last = own, first_local = row->pos0 + 1 > local ? (row->pos0 + 1 - local) / SL_KV_PAGE : 0;
    if (row->window != 0 || own < keep)
        return 0;
    if (row->tree != NULL) /* slots ascend along a path, so the row's own is its last */
        last = (row->pos0 + row->tree->path[0][depth]) / SL_KV_PAGE;
    uint32_t always = own - first_local + 1, others = keep > always ? keep - always : 0;
    work w = work_of(e, row);
    if (others > 0) {
        weigh_pages(s, layer, head, row, first_local, &w);
        w.weights[0] = (float)(row->group + 1); /* above all sums of shares */
        sli_select_top(w.weights, first_local, others, list);
    }
    for (uint32_t page = first_local; page <= last; page++)
        list[others++] = page;
    return others;
}

/* ---- attention ---- */

static void count_bytes(sl_engine *e, const sl_attention *row, uint32_t seen, uint32_t pages, uint32_t scored)
{
    uint64_t vectors = sl_row_bytes(row->k_type, row->head_dim) + sl_row_bytes(row->v_type, row->head_dim);
    uint64_t moved = pages > 0 ? (uint64_t)pages * SL_KV_PAGE * vectors + (uint64_t)scored * e->options.sparq_r * sizeof(float)
                               : seen * vectors;
    atomic_fetch_add_explicit(&e->sparq.bytes_moved, moved, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->sparq.dense_bytes, seen * vectors, memory_order_relaxed);
}

void sli_pages_attend(sl_session *s, const sl_attention *row, const uint32_t *list, uint32_t count)
{
    sl_engine *e = s->engine;
    uint32_t position = row->pos0 + (row->tree != NULL ? row->tree->depth[0] : 0);
    uint32_t seen = row->window != 0 && position >= row->window ? row->window : position + 1;
    if (count == 0) {
        e->kernels->attention(row);
        count_bytes(e, row, seen, 0, 0);
        return;
    }
    work w = work_of(e, row);
    uint32_t own = row->pos0 / SL_KV_PAGE, before = 0;
    for (uint32_t n = 0; n < count; n++) {
        w.k_pages[n] = row->k_pages[list[n]];
        w.v_pages[n] = row->v_pages[list[n]];
        before += list[n] < own;
    }
    sl_attention job = *row;
    job.k_pages = w.k_pages;
    job.v_pages = w.v_pages;
    job.pos0 = before * SL_KV_PAGE + row->pos0 % SL_KV_PAGE;
    e->kernels->attention(&job);
    count_bytes(e, row, seen, count, own);
}

/* ---- bounds ---- */

void sli_pages_bound(const sli_kv *kv, uint32_t layer, uint32_t head, uint32_t end)
{
    const uint8_t *const *pages = sli_kv_pages(kv, layer, head, SLI_KV_KEYS);
    for (uint32_t page = kv->bounded_pages[layer]; page < end / SL_KV_PAGE; page++)
        for (uint32_t c = 0; c < kv->head_dim; c++)
            sl_kv_key_bounds(kv->k_type, pages[page], c, kv->head_dim, sli_kv_bounds(kv, layer, head, false, c) + page,
                             sli_kv_bounds(kv, layer, head, true, c) + page);
}

void sli_pages_bounded(sli_kv *kv, uint32_t layer, uint32_t end)
{
    if (kv->bounded_pages[layer] < end / SL_KV_PAGE)
        kv->bounded_pages[layer] = end / SL_KV_PAGE;
}

void sli_kv_rebound(sli_kv *kv, uint32_t layers, uint32_t slot, uint32_t end)
{
    for (uint32_t layer = 0; layer < layers && kv->bounds != NULL; layer++) {
        sli_kv_begin_write(kv, layer, slot);
        for (uint32_t head = 0; head < kv->kv_heads; head++)
            sli_pages_bound(kv, layer, head, end);
        sli_pages_bounded(kv, layer, end);
    }
}

/* offload/sparq_pages.c: see sparq_pages.h. */
#include "offload/sparq_pages.h"
#include "core/layout.h"
#include "offload/select.h"
#include "offload/sparq.h"

#include <assert.h>
#include <string.h>

#define TREE_PAGES ((SL_TREE_ROWS + SL_KV_PAGE - 2) / SL_KV_PAGE + 1)

/* ---- a thread's memory ---- */

typedef struct work {
    float *scores;         /* [group][positions] */
    float *weights, *sums; /* [pages], [head_dim] */
    float *q;              /* [group][r] */
    uint32_t *component;   /* [r] */
    const uint8_t **index; /* [pages] */
    const uint8_t **k_pages, **v_pages;
    uint32_t *list;
    size_t positions; /* room for those of the context, in whole pages */
} work;

uint32_t sli_pages_most(const sl_engine *e)
{
    return e->options.sparq_k / SL_KV_PAGE + TREE_PAGES;
}

static void lay_out(const sl_engine *e, sl_layout *l, work *w)
{
    size_t pages = (e->context + SL_KV_PAGE - 1) / SL_KV_PAGE, most = sli_pages_most(e), group = e->model->heads / e->model->kv_heads;
    w->positions = pages * SL_KV_PAGE;
    w->scores = sl_layout_place(l, group * w->positions * sizeof *w->scores);
    w->weights = sl_layout_place(l, pages * sizeof *w->weights);
    w->sums = sl_layout_place(l, e->model->head_dim * sizeof *w->sums);
    w->q = sl_layout_place(l, group * e->options.sparq_r * sizeof *w->q);
    w->component = sl_layout_place(l, e->options.sparq_r * sizeof *w->component);
    w->index = sl_layout_place(l, pages * sizeof *w->index);
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

static void count_bytes(sl_engine *e, uint64_t moved, uint64_t dense)
{
    atomic_fetch_add_explicit(&e->sparq.bytes_moved, moved, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->sparq.dense_bytes, dense, memory_order_relaxed);
}

/* weights[p]: the attention that keys of page p of [0, pages) would get among all of these, summed over the heads. Each head counts by its own softmax:
 * what one is sure of is worth as much as what all find likely. */
static void weigh_pages(const sl_session *s, uint32_t layer, uint32_t head, const sl_attention *row, uint32_t pages, const work *w)
{
    sl_engine *e = s->engine;
    const uint8_t *index = sli_kv_index(&s->kv, layer, head);
    for (uint32_t page = 0; page < pages; page++)
        w->index[page] = index + page * s->kv.index_page_bytes;
    sli_sparq_scaled_query(row->q, row->group, row->head_dim, e->options.sparq_r, row->scale, w->sums, w->component, w->q);
    sl_key_scores job = {.head_dim = row->head_dim,
                         .group = row->group,
                         .k_type = s->kv.index_type,
                         .k_pages = w->index,
                         .page_end = pages,
                         .count = e->options.sparq_r,
                         .component = w->component,
                         .q = w->q,
                         .out = w->scores,
                         .out_stride = w->positions};
    e->kernels->key_scores(&job);
    uint32_t blocks = sli_sparq_blocks(w->component, e->options.sparq_r);
    count_bytes(e, (uint64_t)pages * SL_KV_PAGE * sli_sparq_scored_bytes(s->kv.index_type, e->options.sparq_r, blocks), 0);
    for (uint32_t h = 0; h < row->group; h++)
        e->kernels->softmax(w->scores + h * w->positions, 0, pages * SL_KV_PAGE);
    sli_sparq_page_weights(w->scores, w->positions, row->group, pages, w->weights);
}

uint32_t sli_pages_choose(const sl_session *s, uint32_t layer, uint32_t head, const sl_attention *row, uint32_t *list)
{
    const sl_engine *e = s->engine;
    uint32_t depth = row->tree != NULL ? row->tree->depth[0] : 0;
    sli_sparq_kept kept = sli_sparq_keep_pages(row->pos0, e->options.sparq_k, e->options.sparq_local);
    uint32_t last = kept.own, others = kept.others;
    if (row->window != 0 || kept.own < e->options.sparq_k / SL_KV_PAGE)
        return 0;
    if (row->tree != NULL) /* slots ascend along a path, so the row's own is its last */
        last = (row->pos0 + row->tree->path[0][depth]) / SL_KV_PAGE;
    work w = work_of(e, row);
    if (others > 0) {
        weigh_pages(s, layer, head, row, kept.first_local, &w);
        w.weights[0] = (float)(row->group + 1); /* above all sums of shares */
        sli_select_top(w.weights, kept.first_local, others, list);
    }
    for (uint32_t page = kept.first_local; page <= last; page++)
        list[others++] = page;
    return others;
}

/* ---- attention ---- */

void sli_pages_attend(sl_session *s, const sl_attention *row, const uint32_t *list, uint32_t count)
{
    sl_engine *e = s->engine;
    uint32_t position = row->pos0 + (row->tree != NULL ? row->tree->depth[0] : 0);
    uint32_t seen = row->window != 0 && position >= row->window ? row->window : position + 1;
    uint64_t vectors = sl_row_bytes(row->k_type, row->head_dim) + sl_row_bytes(row->v_type, row->head_dim), dense = seen * vectors;
    if (count == 0) {
        e->kernels->attention(row);
        count_bytes(e, dense, dense);
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
    count_bytes(e, (position + 1 - (own - before) * SL_KV_PAGE) * vectors, dense);
}

/* ---- the index ---- */

void sli_pages_index(const sl_session *s, uint32_t layer, uint32_t head, uint32_t end)
{
    const sli_kv *kv = &s->kv;
    const uint8_t *const *pages = sli_kv_pages(kv, layer, head, SLI_KV_KEYS);
    uint8_t *index = sli_kv_index(kv, layer, head);
    float key[SL_HEAD_DIM_MAX];
    for (uint32_t page = kv->indexed_pages[layer]; index != NULL && page < end / SL_KV_PAGE; page++)
        for (uint32_t i = 0; i < SL_KV_PAGE; i++) { /* from what is stored, so that it does not show how that came there */
            sl_kv_key_floats(kv->k_type, pages[page], i, kv->head_dim, key);
            s->engine->kernels->kv_store_k(kv->index_type, index + page * kv->index_page_bytes, i, key, kv->head_dim);
        }
}

void sli_pages_indexed(sli_kv *kv, uint32_t layer, uint32_t end)
{
    if (kv->indexed_pages[layer] < end / SL_KV_PAGE)
        kv->indexed_pages[layer] = end / SL_KV_PAGE;
}

void sli_pages_index_anew(sl_session *s, uint32_t slot, uint32_t end)
{
    for (uint32_t layer = 0; layer < s->engine->model->layers && s->kv.index != NULL; layer++) {
        sli_kv_begin_write(&s->kv, layer, slot);
        for (uint32_t head = 0; head < s->kv.kv_heads; head++)
            sli_pages_index(s, layer, head, end);
        sli_pages_indexed(&s->kv, layer, end);
    }
}

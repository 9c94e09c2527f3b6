/* offload/attention.c: the attention of a pass: its rows' keys and values go into the cache, then the rows look at what they may see of it.
 *
 * Divided over the crew by KV head and rows. Where the cache lies partly in a file, a group of heads at a time; with SparQ's pages, only what a
 * row chose is fetched. */
#include "core/os.h"
#include "offload/kv_spill.h"
#include "offload/pass.h"
#include "offload/sparq_attention.h"
#include "offload/sparq_pages.h"

#define ATTENTION_ROWS 32 /* rows of one attention task: enough to reuse a widened page, few enough to balance a causal triangle */

typedef sli_pass pass;

typedef struct attention_job {
    const pass *pass;
    uint32_t layer, rows;
    const float *queries;       /* [rows][heads * head_dim] */
    float *out;                 /* the same */
    uint32_t first_head, heads; /* KV heads that attention is at */
    uint32_t row;               /* that it is at, where pages are fetched for it */
    atomic_uint next_task;
} attention_job;

static void store_kv(const attention_job *j, uint32_t row)
{
    const pass *p = j->pass;
    const sl_model *m = p->engine->model;
    const sli_kv *kv = &p->session->kv;
    uint32_t page = sli_pass_slot(p, row) / SL_KV_PAGE, slot = sli_pass_slot(p, row) % SL_KV_PAGE;
    for (uint32_t h = j->first_head; h < j->first_head + j->heads; h++) {
        size_t at = ((size_t)row * m->kv_heads + h) * m->head_dim;
        /* The arena is ours and writable; the page table shows it read-only because attention only reads. */
        uint8_t *k_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_KEYS)[page];
        uint8_t *v_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_VALUES)[page];
        uint8_t *row_page = (uint8_t *)(uintptr_t)sli_kv_pages(kv, j->layer, h, SLI_KV_KEY_ROWS)[page];
        p->engine->kernels->kv_store_k(kv->k_type, k_page, slot, sli_pass_buffer(p, SL_BUF_K) + at, m->head_dim);
        p->engine->kernels->kv_store_v(kv->v_type, v_page, slot, sli_pass_buffer(p, SL_BUF_V) + at, m->head_dim);
        if (row_page != NULL)
            p->engine->kernels->kv_store_v(kv->k_type, row_page, slot, sli_pass_buffer(p, SL_BUF_K) + at, m->head_dim);
    }
}

static void store_share(void *arg, unsigned index, unsigned count)
{
    attention_job *j = arg;
    uint32_t end = (uint32_t)((uint64_t)j->rows * (index + 1) / count);
    for (uint32_t row = (uint32_t)((uint64_t)j->rows * index / count); row < end; row++)
        store_kv(j, row);
}

static sl_attention attention_of(const attention_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread,
                                 sl_attention_tree *tree)
{
    const pass *p = j->pass;
    const sl_model *m = p->engine->model;
    const sli_kv *kv = &p->session->kv;
    uint32_t group = m->heads / m->kv_heads;
    size_t stride = (size_t)m->heads * m->head_dim, at = first_row * stride + (size_t)head * group * m->head_dim;
    sl_attention job = {.head_dim = m->head_dim,
                        .group = group,
                        .rows = rows,
                        .pos0 = p->tree != NULL ? p->pos0 : p->pos0 + first_row,
                        .window = sl_model_window(m, j->layer),
                        .scale = m->attention_scale,
                        .k_type = kv->k_type,
                        .v_type = kv->v_type,
                        .k_pages = sli_kv_pages(kv, j->layer, head, SLI_KV_KEYS),
                        .v_pages = sli_kv_pages(kv, j->layer, head, SLI_KV_VALUES),
                        .q = j->queries + at,
                        .q_stride = stride,
                        .out = j->out + at,
                        .out_stride = stride,
                        .scratch = (float *)(void *)(p->engine->scratch.thread_memory + thread * p->engine->scratch.thread_bytes)};
    if (p->tree != NULL) {
        *tree = (sl_attention_tree){p->tree->depth + p->first + first_row, p->tree->path + p->first + first_row};
        job.tree = tree;
    }
    return job;
}

/* The pages that a row attends to: chosen before, and fetched, or now. */
static void attend_pages(const attention_job *j, uint32_t head, const sl_attention *job)
{
    sl_session *s = j->pass->session;
    uint32_t *list = sli_pages_list(s->engine, job), count;
    if (sli_kv_fetches(&s->kv, j->layer)) {
        list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
        count = *list++;
    } else
        count = sli_pages_choose(s, j->layer, head, job, list);
    sli_pages_attend(s, job, list, count);
}

static void attend_rows(const attention_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread)
{
    const pass *p = j->pass;
    sl_attention_tree tree;
    sl_attention job = attention_of(j, head, first_row, rows, thread, &tree);
    if (p->sparq && p->pages)
        attend_pages(j, head, &job);
    else if (p->sparq)
        sli_sparq_attend(p->session, j->layer, head, &job);
    else
        p->engine->kernels->attention(&job);
}

/* Rows that attend to a part of the cache choose one by one. */
static void attend(const attention_job *j, uint32_t head, uint32_t first_row, uint32_t rows, unsigned thread)
{
    if (!j->pass->sparq)
        attend_rows(j, head, first_row, rows, thread);
    for (uint32_t row = 0; j->pass->sparq && row < rows; row++)
        attend_rows(j, head, first_row + row, 1, thread);
}

/* Later rows see more keys: tasks are taken as they come, the longest first. */
static void attend_share(void *arg, unsigned index, unsigned count)
{
    attention_job *j = arg;
    uint32_t chunks = (j->rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    (void)count;
    for (;;) {
        uint32_t task = atomic_fetch_add_explicit(&j->next_task, 1, memory_order_relaxed);
        if (task >= j->heads * chunks)
            return;
        uint32_t chunk = chunks - 1 - task / j->heads, first = chunk * ATTENTION_ROWS;
        attend(j, j->first_head + task % j->heads, first, j->rows - first < ATTENTION_ROWS ? j->rows - first : ATTENTION_ROWS, index);
    }
}

/* The last position before which rows find all slots in order. */
static uint32_t last_plain_position(const pass *p)
{
    return p->pos0 + (p->tree != NULL ? 0 : p->rows - 1);
}

static void sum_values_share(void *arg, unsigned index, unsigned count)
{
    const attention_job *j = arg;
    const pass *p = j->pass;
    for (uint32_t head = index; head < p->engine->model->kv_heads; head += count)
        sli_sparq_sum_values(p->session, j->layer, head, last_plain_position(p));
}

static void index_share(void *arg, unsigned index, unsigned count)
{
    const attention_job *j = arg;
    const pass *p = j->pass;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count)
        sli_pages_index(p->session, j->layer, head, sli_pass_slot(p, p->rows));
}

static void choose_share(void *arg, unsigned index, unsigned count)
{
    const attention_job *j = arg;
    sl_session *s = j->pass->session;
    sl_attention_tree tree;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count) {
        sl_attention job = attention_of(j, head, j->row, 1, index, &tree);
        uint32_t *list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
        list[0] = sli_pages_choose(s, j->layer, head, &job, list + 1);
    }
}

static void chosen_share(void *arg, unsigned index, unsigned count)
{
    const attention_job *j = arg;
    for (uint32_t head = j->first_head + index; head < j->first_head + j->heads; head += count)
        attend_rows(j, head, j->row, 1, index);
}

/* Row by row: which pages each head wants, what of them is in the file, attention. */
static sl_status attend_fetched(attention_job *j, sl_error *err)
{
    sl_session *s = j->pass->session;
    for (j->row = 0; j->row < j->rows; j->row++) {
        sl_threads_run(j->pass->engine->threads, choose_share, j);
        for (uint32_t head = j->first_head; head < j->first_head + j->heads; head++) {
            const uint32_t *list = s->kv.chosen + (size_t)head * s->kv.chosen_pages;
            SL_TRY(sli_kv_fetch(&s->kv, j->layer, head, list + 1, list[0], err));
        }
        SL_TRY(sli_kv_fetched(&s->kv, j->layer, j->first_head, err));
        sl_threads_run(j->pass->engine->threads, chosen_share, j);
    }
    return SL_OK;
}

/* Of the heads whose keys and values are in memory now. */
static sl_status attend_group(attention_job *j, sl_error *err)
{
    const pass *p = j->pass;
    if (j->rows == 1)
        store_kv(j, 0);
    else
        sl_threads_run(p->engine->threads, store_share, j);
    if (p->sparq && sli_sparq_wants_sums(p->session, j->layer, last_plain_position(p))) {
        sl_threads_run(p->engine->threads, sum_values_share, j);
        sli_sparq_summed(p->session, j->layer, last_plain_position(p));
    }
    if (p->session->kv.index != NULL && p->session->kv.indexed_pages[j->layer] < sli_pass_slot(p, p->rows) / SL_KV_PAGE)
        sl_threads_run(p->engine->threads, index_share, j);
    if (p->sparq && p->pages && sli_kv_fetches(&p->session->kv, j->layer))
        return attend_fetched(j, err);
    atomic_store(&j->next_task, 0);
    sl_threads_run(p->engine->threads, attend_share, j);
    return SL_OK;
}

sl_status sli_pass_attend(const pass *p, uint32_t layer, const float *queries, float *out, uint32_t rows, sl_error *err)
{
    attention_job job = {.pass = p, .layer = layer, .rows = rows, .queries = queries, .out = out};
    sli_kv *kv = &p->session->kv;
    sli_kv_begin_write(kv, layer, sli_pass_slot(p, 0));
    for (uint32_t group = 0; group < sli_kv_groups(kv); group++) {
        SL_TRY(sli_kv_begin_group(kv, layer, group, &job.first_head, &job.heads, err));
        SL_TRY(attend_group(&job, err));
        SL_TRY(sli_kv_end_group(kv, layer, group, err));
    }
    sli_pages_indexed(kv, layer, sli_pass_slot(p, p->rows));
    return SL_OK;
}

/* offload/device_sparq_pages.c: rows that attend to whole pages of the cache (sparq_pages.h), on a device. See device_engine.h.
 *
 *     index (device)   keys of complete pages, of layers without a window; completed where a page is, in a pass that goes into no graph
 *     choice           on the device, which may attend at once where pages lie there or in host memory;
 *     of what spills   the host waits for it, reads those pages from the file, and says where they are (device_spill.c)
 *
 * The account is the host's, but for the blocks whose scales scores read, as with single keys (device_sparq.c). */
#include "offload/device_engine.h"
#include "offload/sparq.h"

/* ---- memory ---- */

static uint64_t index_head_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return sli_device_kv_pages(shape) * sli_kv_index_page_bytes(model);
}

uint64_t sli_device_index_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return shape->key_index ? (uint64_t)sli_kv_indexed_layers(model, model->layers) * model->kv_heads * index_head_bytes(model, shape) : 0;
}

static sl_device_kv index_of(const sl_engine *e, uint32_t layer)
{
    uint64_t head_bytes = index_head_bytes(e->model, &e->price.kv);
    return (sl_device_kv){.base = e->device->memory.key_index + sli_kv_indexed_layers(e->model, layer) * e->model->kv_heads * head_bytes,
                          .k_type = sli_kv_index_type(e->model),
                          .head_stride = head_bytes,
                          .k_page_bytes = sli_kv_index_page_bytes(e->model)};
}

uint64_t sli_device_pages_scratch(const sl_model *model, const sli_device_shape *shape)
{
    sl_device_sparq_pages sizes = {
        .all = sli_device_attention_shape(model, shape), .k = shape->wishes->sparq_k, .r = shape->wishes->sparq_r};
    return shape->wishes->device->kernels->sparq_pages_scratch(&sizes);
}

/* ---- the index ---- */

static uint32_t complete_pages(const sli_device_rows *rows)
{
    return (rows->pos0 + rows->first + rows->rows) / SL_KV_PAGE;
}

bool sli_device_pages_wants_index(const sl_engine *e, const sli_device_rows *rows)
{
    return e->price.kv.key_index && e->device->indexed_pages < complete_pages(rows);
}

void sli_device_pages_begin(sl_engine *e, uint32_t slot)
{
    if (e->device->indexed_pages > slot / SL_KV_PAGE)
        e->device->indexed_pages = slot / SL_KV_PAGE;
}

void sli_device_pages_end(sl_engine *e, const sli_device_rows *rows)
{
    if (sli_device_pages_wants_index(e, rows))
        e->device->indexed_pages = complete_pages(rows);
}

static sl_status complete_index(sl_engine *e, const sli_device_rows *rows, uint32_t layer, const sl_device_kv *kv, sl_error *err)
{
    sl_device_kv index = index_of(e, layer);
    if (sl_model_window(e->model, layer) > 0 || !sli_device_pages_wants_index(e, rows))
        return SL_OK;
    return e->device->device->kernels->key_index(e->device->device, kv, &index, e->model->kv_heads, e->model->head_dim,
                                                 e->device->indexed_pages, complete_pages(rows), err);
}

/* ---- attention ---- */

/* Whether a row of a layer chooses where it sees so many positions. */
static bool chooses(const sl_engine *e, uint32_t layer, uint32_t positions)
{
    return sl_model_window(e->model, layer) == 0 && (positions - 1) / SL_KV_PAGE >= e->options.sparq_k / SL_KV_PAGE;
}

/* Of what spills row by row: pages of several would not be asked for at once. */
static sl_status attend_rows(sl_engine *e, uint32_t layer, bool fetched, sl_device_sparq_pages *job, sl_error *err)
{
    sl_device *device = e->device->device;
    uint32_t at_once = fetched ? 1 : device->kernels->sparq_pages_rows(job);
    for (job->row0 = 0; job->row0 < job->all.rows; job->row0 += job->rows) {
        job->rows = job->all.rows - job->row0 < at_once ? job->all.rows - job->row0 : at_once;
        SL_TRY(device->kernels->sparq_pages_choose(device, job, err));
        if (fetched)
            SL_TRY(sli_device_spill_fetch(e, layer, device->kernels->sparq_pages_lists(job), job, err));
        SL_TRY(device->kernels->sparq_pages_attend(device, job, err));
    }
    return fetched ? sli_device_spill_fetched(e, err) : SL_OK;
}

sl_status sli_device_pages_attend(sl_engine *e, const sli_device_rows *rows, uint32_t layer, sl_device_attention *all, sl_error *err)
{
    sli_device *d = e->device;
    bool some = rows->sparq && chooses(e, layer, all->positions), spills = sli_device_spills(e, layer);
    if (some && !spills)
        all->kv = sli_device_kv_at(e, layer); /* what is chosen is read where it lies */
    else {
        sli_device_sight sight = {layer, all->rows, all->positions, all->pass};
        SL_TRY(sli_device_kv_see(e, &sight, &all->kv, err));
    }
    SL_TRY(complete_index(e, rows, layer, &all->kv, err));
    if (!some)
        return d->device->kernels->attention(d->device, all, err);
    sl_device_sparq_pages job = {.all = *all,
                                 .index = index_of(e, layer),
                                 .k = e->options.sparq_k,
                                 .r = e->options.sparq_r,
                                 .local = e->options.sparq_local,
                                 .blocks_read = d->memory.blocks_read};
    job.all.scratch = d->memory.sparq;
    return attend_rows(e, layer, spills && sli_device_spill_fetches(e, layer), &job, err);
}

/* ---- the account ---- */

/* Of a row of a layer without a window, for each KV head; as sparq_pages.c counts. */
static uint64_t moved_bytes(const sl_engine *e, uint32_t base, uint32_t position, uint64_t vectors)
{
    sli_sparq_kept kept = sli_sparq_keep_pages(base, e->options.sparq_k, e->options.sparq_local);
    uint64_t scored = kept.others > 0 ? (uint64_t)kept.first_local * SL_KV_PAGE : 0;
    return scored * sli_sparq_scored_bytes(sli_kv_index_type(e->model), e->options.sparq_r, 0) +
           (position + 1 - (kept.first_local - kept.others) * SL_KV_PAGE) * vectors;
}

void sli_device_pages_count(sl_engine *e, const sli_device_rows *rows)
{
    const sl_model *m = e->model;
    uint64_t vectors = sl_row_bytes(e->price.kv.k_type, m->head_dim) + sl_row_bytes(e->price.kv.v_type, m->head_dim), moved = 0, dense = 0;
    for (uint32_t layer = 0; layer < m->layers; layer++)
        for (uint32_t i = 0; i < rows->rows; i++) {
            uint32_t window = sl_model_window(m, layer), depth = rows->tree != NULL ? rows->tree->depth[rows->first + i] : i;
            uint32_t position = rows->pos0 + depth, seen = window != 0 && position >= window ? window : position + 1;
            dense += m->kv_heads * seen * vectors;
            moved += m->kv_heads *
                     (window != 0 ? seen * vectors : moved_bytes(e, rows->tree != NULL ? rows->pos0 : position, position, vectors));
        }
    atomic_fetch_add_explicit(&e->sparq.bytes_moved, moved, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->sparq.dense_bytes, dense, memory_order_relaxed);
}

/* offload/device_sparq.c: rows that attend to a part of the cache (sparq_attention.h), on a device. See device_engine.h.
 *
 * What a row attends to is the device's to find out, so nobody waits. Keys lie there twice, as they do for the processor, and so do the sums of the values before
 * each page. Those that a pass wants and that are not there yet are added up in it, layer by layer: of single rows that is once in a page, and such a pass goes
 * into no graph.
 *
 * The account is the host's, but for one number: how many blocks of components scores read the scales of is known to the device alone, which adds it up. A pass that
 * fails half-way is taken out of that again. */
#include "offload/device_engine.h"
#include "offload/sparq.h"

#include <string.h>

/* ---- memory ---- */

static uint64_t key_row_bytes(const sl_model *model, const sli_kv_shape *shape) /* of a layer's KV head */
{
    return sli_device_kv_pages(shape) * sli_kv_page_bytes(model, shape, SLI_KV_KEY_ROWS);
}

static uint64_t sum_bytes(const sl_model *model, const sli_kv_shape *shape) /* likewise */
{
    return shape->value_sums ? (uint64_t)sli_device_kv_pages(shape) * model->head_dim * sizeof(float) : 0;
}

uint64_t sli_device_sparq_kv_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return (uint64_t)model->layers * model->kv_heads * (key_row_bytes(model, shape) + sum_bytes(model, shape)) +
           sli_device_index_bytes(model, shape);
}

sl_device_attention sli_device_attention_shape(const sl_model *model, const sli_device_shape *shape)
{
    return (sl_device_attention){.rows = shape->batch,
                                 .heads = model->heads,
                                 .kv_heads = model->kv_heads,
                                 .head_dim = model->head_dim,
                                 .positions = shape->kv->context,
                                 .kv = sli_device_kv_shape(model, shape->kv, 0)};
}

void sli_device_lay_sparq(sl_layout *l, const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out)
{
    uint64_t heads = (uint64_t)model->layers * model->kv_heads;
    sl_device_sparq sizes = {.all = sli_device_attention_shape(model, shape), .k = shape->wishes->sparq_k, .r = shape->wishes->sparq_r};
    out->key_rows = sli_device_room(l, base, heads * key_row_bytes(model, shape->kv));
    out->value_sums = shape->kv->value_sums ? sli_device_room(l, base, heads * sum_bytes(model, shape->kv)) : 0;
    out->blocks_read = sli_device_room(l, base, 2 * sizeof(uint64_t)); /* and as it was before the pass in hand */
    out->key_index = sli_device_room(l, base, sli_device_index_bytes(model, shape->kv));
    out->sparq = sli_device_room(
        l, base, shape->kv->key_index ? sli_device_pages_scratch(model, shape) : shape->wishes->device->kernels->sparq_scratch(&sizes));
}

sl_device_key_rows sli_device_key_rows_of(const sl_engine *e, uint32_t layer)
{
    const sli_kv_shape *shape = &e->price.kv;
    uint64_t head_bytes = key_row_bytes(e->model, shape);
    if (head_bytes == 0)
        return (sl_device_key_rows){0};
    return (sl_device_key_rows){.base = e->device->memory.key_rows + layer * e->model->kv_heads * head_bytes,
                                .head_stride = head_bytes,
                                .page_bytes = sli_kv_page_bytes(e->model, shape, SLI_KV_KEY_ROWS)};
}

static sl_device_ptr sums_of(const sl_engine *e, uint32_t layer)
{
    const sli_device_memory *memory = &e->device->memory;
    return memory->value_sums == 0 ? 0 : memory->value_sums + layer * e->model->kv_heads * sum_bytes(e->model, &e->price.kv);
}

sl_status sli_device_sparq_open(sl_engine *e, sl_error *err)
{
    return e->options.sparq_k == 0 ? SL_OK : sli_device_count_open(e, e->device->memory.blocks_read, err);
}

/* ---- which rows ---- */

static uint32_t depth_of(const sli_device_rows *rows, uint32_t row)
{
    return rows->tree != NULL ? rows->tree->depth[rows->first + row] : row;
}

/* Whether rows of a layer choose, where one sees so many positions. */
static bool chooses(const sl_engine *e, uint32_t layer, uint32_t positions)
{
    uint32_t window = sl_model_window(e->model, layer);
    return positions > e->options.sparq_k && (window == 0 || window > e->options.sparq_k);
}

bool sli_device_sparq_takes_part(const sl_engine *e, const sli_device_rows *rows, uint32_t positions)
{
    for (uint32_t layer = 0; rows->sparq && layer < e->model->layers; layer++)
        if (chooses(e, layer, positions))
            return true;
    return false;
}

static bool every_row_chooses(const sl_engine *e, const sli_device_rows *rows)
{
    for (uint32_t row = 0; row < rows->rows; row++)
        if (rows->pos0 + depth_of(rows, row) + 1 <= e->options.sparq_k)
            return false;
    return true;
}

/* Sums before this page and all earlier ones are what the rows need: a tree's own pages are summed along its paths. */
static uint32_t last_summed(const sli_device_rows *rows)
{
    return (rows->pos0 + (rows->tree != NULL ? 0 : rows->rows - 1)) / SL_KV_PAGE;
}

bool sli_device_sparq_wants_sums(const sl_engine *e, const sli_device_rows *rows)
{
    return e->device->memory.value_sums != 0 && e->device->summed_pages <= last_summed(rows) &&
           sli_device_sparq_takes_part(e, rows, rows->pos0 + rows->first + rows->rows);
}

/* ---- a pass ---- */

/* Of what is scored. */
static uint32_t scored_type(const sl_engine *e)
{
    return e->price.kv.key_index ? sli_kv_index_type(e->model) : e->price.kv.k_type;
}

static bool counts_blocks(const sl_engine *e)
{
    return e->options.sparq_k > 0 && sl_format_of(scored_type(e))->quantized;
}

sl_status sli_device_sparq_begin(sl_engine *e, const sli_device_rows *rows, sl_error *err)
{
    sli_device *d = e->device;
    uint32_t page = (rows->pos0 + rows->first) / SL_KV_PAGE;
    if (d->summed_pages > page + 1) /* the sum before the first slot's page is without it */
        d->summed_pages = page + 1;
    sli_device_pages_begin(e, rows->pos0 + rows->first);
    return rows->sparq && counts_blocks(e) ? sli_device_count_begin(e, d->memory.blocks_read, err) : SL_OK;
}

void sli_device_sparq_undo(sl_engine *e, const sli_device_rows *rows)
{
    if (rows->sparq && counts_blocks(e))
        sli_device_count_undo(e, e->device->memory.blocks_read);
}

/* What is attended to as a whole comes from host memory at once; rows that choose read what they chose where it lies. */
sl_status sli_device_attend(sl_engine *e, const sli_device_rows *rows, uint32_t layer, sl_device_attention *all, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_kernels *kernels = d->device->kernels;
    if (e->price.kv.key_index)
        return sli_device_pages_attend(e, rows, layer, all, err);
    if (!rows->sparq || !chooses(e, layer, all->positions)) {
        sli_device_sight sight = {layer, all->rows, all->positions, all->pass};
        SL_TRY(sli_device_kv_see(e, &sight, &all->kv, err));
        return kernels->attention(d->device, all, err);
    }
    all->kv = sli_device_kv_at(e, layer);
    sl_device_sparq job = {.all = *all,
                           .key_rows = sli_device_key_rows_of(e, layer),
                           .k = e->options.sparq_k,
                           .r = e->options.sparq_r,
                           .local = e->options.sparq_local,
                           .alike = rows->rows == 1 || every_row_chooses(e, rows),
                           .value_sums = sums_of(e, layer),
                           .sums_pages = sli_device_kv_pages(&e->price.kv),
                           .blocks_read = d->memory.blocks_read};
    job.all.scratch = d->memory.sparq;
    if (sli_device_sparq_wants_sums(e, rows))
        SL_TRY(kernels->value_sums(d->device, &all->kv, all->kv_heads, all->head_dim, job.value_sums, job.sums_pages, d->summed_pages,
                                   last_summed(rows) + 1, err));
    return kernels->sparq(d->device, &job, err);
}

/* ---- the account ---- */

static void count_rows(sl_engine *e, const sli_device_rows *rows)
{
    const sl_model *m = e->model;
    uint64_t moved = 0, dense = 0;
    sli_sparq_row row = {.k = e->options.sparq_k,
                         .r = e->options.sparq_r,
                         .local = e->options.sparq_local,
                         .k_type = e->price.kv.k_type,
                         .v_type = e->price.kv.v_type,
                         .head_dim = m->head_dim,
                         .reallocates = e->device->memory.value_sums != 0};
    for (uint32_t layer = 0; layer < m->layers; layer++)
        for (uint32_t i = 0; i < rows->rows; i++) {
            uint32_t depth = depth_of(rows, i);
            sli_sparq_see(&row, rows->tree != NULL ? rows->pos0 : rows->pos0 + depth, rows->tree != NULL ? depth : 0,
                          sl_model_window(m, layer));
            uint64_t all = sli_sparq_dense_bytes(&row);
            dense += m->kv_heads * all;
            moved += m->kv_heads * (sli_sparq_chooses(&row) ? sli_sparq_moved_bytes(&row, 0) : all);
        }
    atomic_fetch_add_explicit(&e->sparq.bytes_moved, moved, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->sparq.dense_bytes, dense, memory_order_relaxed);
}

void sli_device_sparq_end(sl_engine *e, const sli_device_rows *rows)
{
    sli_device_pages_end(e, rows);
    if (!rows->sparq)
        return;
    if (e->price.kv.key_index) {
        sli_device_pages_count(e, rows);
        return;
    }
    if (sli_device_sparq_wants_sums(e, rows))
        e->device->summed_pages = last_summed(rows) + 1;
    count_rows(e, rows);
}

uint64_t sli_device_sparq_bytes(const sl_engine *e)
{
    sli_device *d = e->device;
    if (!counts_blocks(e))
        return 0;
    sli_device_count_read(e, d->memory.blocks_read, &d->blocks_read);
    return d->blocks_read * (sli_sparq_scored_bytes(scored_type(e), 0, 1) - sli_sparq_scored_bytes(scored_type(e), 0, 0));
}

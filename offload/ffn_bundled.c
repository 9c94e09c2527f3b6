/* offload/ffn_bundled.c: see ffn_bundled.h.
 *
 * Work is divided in groups of sixteen places: for many rows a group is packed as a panel and multiplied like any other; one row
 * multiplies the rows where they lie, many groups together. */
#include "offload/ffn_bundled.h"
#include "kernels/columns.h"
#include "offload/gate_up.h"

#include <assert.h>
#include <string.h>

#define GROUP      SL_PANEL_ROWS
#define PIECES_MAX 256

/* A run of bundles in memory. */
typedef struct piece {
    sl_unit_id unit;
    const uint8_t *data; /* the bundles, one after the other */
    uint8_t *home;       /* where a staged unit is going to stay, or NULL */
    bool staged;
    uint32_t first_place, count, groups;
} piece;

typedef struct gathering {
    const sli_ffn *ffn;
    const sli_bundled_layer *layer;
    sl_acts acts;
    uint32_t count, groups;
    uint64_t held_bytes; /* staged */
    piece pieces[PIECES_MAX];
} gathering;

size_t sli_bundled_thread_bytes(uint32_t rows, size_t largest_panel_bytes)
{
    return ((largest_panel_bytes + 63) & ~(size_t)63) + (size_t)rows * GROUP * sizeof(float);
}

/* ---- one thread's share ---- */

/* Many rows. Bundles of a group, `rows` being their gate or up rows; results go to the neurons' columns of out[row][ff]. */
static void multiply_group(const gathering *g, uint32_t type, const uint8_t *const rows[GROUP], const uint32_t *neurons, uint32_t count,
                           float *out, uint8_t *memory)
{
    const sl_kernels *kernels = g->ffn->engine->kernels;
    uint32_t ff = g->layer->packed->ff;
    size_t panel_bytes = sl_panel_bytes(type, g->acts.cols);
    float *results = (float *)(void *)(memory + ((panel_bytes + 63) & ~(size_t)63));
    kernels->pack(type, rows, g->acts.cols, memory);
    kernels->matmul(type, memory, count, &g->acts, results, GROUP);
    for (uint32_t a = 0; a < g->acts.rows; a++)
        for (uint32_t i = 0; i < count; i++)
            out[(size_t)a * ff + neurons[i]] = results[a * GROUP + i];
}

/* A staged bundle's column is copied: its home or the layer's columns keep it until the down product. A compact one is kept plain. */
static void keep_column(const gathering *g, const piece *p, uint32_t index)
{
    const sl_packed_layer *l = g->layer->packed;
    const sli_bundle_form *form = &g->layer->form;
    sli_bundled *b = &g->ffn->engine->bundled;
    uint32_t neuron = l->order[p->first_place + index];
    size_t at = (size_t)index * l->stride, column = form->part[SLI_PART_COLUMN].at;
    if (p->home != NULL && p->staged)
        memcpy(p->home + at, p->data + at, l->stride);
    if (p->home != NULL && !form->part[SLI_PART_COLUMN].compact) {
        b->column_at[neuron] = p->home + at + column;
        return;
    }
    uint8_t *to = sli_bundled_column(b, g->layer, neuron);
    sli_bundle_make_plain(form, g->ffn->engine->kernels, SLI_PART_COLUMN, SLI_PART_END, p->data + at, to);
    b->column_at[neuron] = to;
}

/* A bundle's gate row with the up row behind it: where they lie, or made plain as the thread's i-th. */
static const uint8_t *rows_of(const gathering *g, const uint8_t *bundle, unsigned thread, uint32_t i)
{
    if (!g->layer->form.compact)
        return bundle;
    uint8_t *to = sli_ffn_plain_rows(g->ffn, g->layer->packed, thread, i);
    sli_bundle_make_plain(&g->layer->form, g->ffn->engine->kernels, SLI_PART_GATE, SLI_PART_COLUMN, bundle, to);
    return to;
}

static void run_group(const gathering *g, const piece *p, uint32_t group, unsigned thread)
{
    uint8_t *memory = sli_ffn_memory(g->ffn, thread);
    const sl_packed_layer *l = g->layer->packed;
    const sli_ffn *f = g->ffn;
    const uint8_t *gate[GROUP] = {0}, *up[GROUP] = {0};
    uint32_t first = group * GROUP, count = p->count - first < GROUP ? p->count - first : GROUP;
    const uint32_t *neurons = l->order + p->first_place + first;
    for (uint32_t i = 0; i < count; i++) {
        gate[i] = rows_of(g, p->data + (size_t)(first + i) * l->stride, thread, i);
        up[i] = gate[i] + l->gate_bytes;
        keep_column(g, p, first + i);
    }
    multiply_group(g, l->gate_type, gate, neurons, count, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst), memory);
    multiply_group(g, l->up_type, up, neurons, count, sli_ffn_buffer(f, f->ops[SLI_FFN_UP].dst), memory);
}

/* Bundles that lie one behind the other in storage order, for one row. */
typedef struct bunch {
    uint32_t first_place, count;
    const uint8_t *bundles[SLI_GATE_UP_BUNDLES];
} bunch;

static void multiply_bunch(const gathering *g, bunch *b)
{
    const sl_packed_layer *l = g->layer->packed;
    const sli_ffn *f = g->ffn;
    float gate[SLI_GATE_UP_BUNDLES], up[SLI_GATE_UP_BUNDLES];
    float *gates = sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst), *ups = sli_ffn_buffer(f, f->ops[SLI_FFN_UP].dst);
    sli_gate_up(f->engine->kernels, l, &g->acts, b->bundles, b->count, gate, up);
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t neuron = l->order[b->first_place + i];
        gates[neuron] = gate[i];
        ups[neuron] = up[i];
    }
    b->count = 0;
}

/* A group of a piece joins those before it; when there are enough they are multiplied. */
static void add_group(const gathering *g, const piece *p, uint32_t group, unsigned thread, bunch *b)
{
    uint32_t first = group * GROUP, count = p->count - first < GROUP ? p->count - first : GROUP;
    if (b->count + count > (g->layer->form.compact ? SLI_PLAIN_BUNDLES : SLI_GATE_UP_BUNDLES))
        multiply_bunch(g, b);
    if (b->count == 0)
        b->first_place = p->first_place + first;
    assert(b->first_place + b->count == p->first_place + first); /* units are gathered in storage order */
    for (uint32_t i = first; i < first + count; i++) {
        keep_column(g, p, i);
        b->bundles[b->count] = rows_of(g, p->data + (size_t)i * g->layer->packed->stride, thread, b->count);
        b->count++;
    }
}

static void gate_up_share(void *arg, unsigned index, unsigned count)
{
    const gathering *g = arg;
    uint32_t begin, end, at = 0;
    bunch b;
    b.count = 0;
    sli_share(g->groups, 1, index, count, &begin, &end);
    for (uint32_t i = 0; i < g->count && at < end; at += g->pieces[i].groups, i++)
        for (uint32_t group = begin > at ? begin - at : 0; group < g->pieces[i].groups && at + group < end; group++)
            if (g->acts.rows == 1)
                add_group(g, &g->pieces[i], group, index, &b);
            else
                run_group(g, &g->pieces[i], group, index);
    if (b.count > 0)
        multiply_bunch(g, &b);
}

/* ---- gathering ---- */

/* Bundles that a dense pass reads anyway fill the cache that sparse rows use. */
static void offer(const gathering *g, const piece *p)
{
    sl_bundles *cache = g->ffn->engine->bundles;
    for (uint32_t i = 0; cache != NULL && p->staged && i < p->count; i++)
        sl_bundles_offer(cache, g->ffn->layer, p->first_place + i, p->data + (size_t)i * g->layer->packed->stride);
}

static void release_held(gathering *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->pieces[i].staged)
            sl_pager_release(g->ffn->engine->pager, g->pieces[i].unit);
    g->count = g->groups = 0;
    g->held_bytes = 0;
}

static sl_status flush(gathering *g, sl_error *err)
{
    sl_engine *engine = g->ffn->engine;
    if (g->count > 0) {
        sl_threads_run(engine->threads, gate_up_share, g);
        for (uint32_t i = 0; i < g->count; i++) {
            offer(g, &g->pieces[i]);
            if (g->pieces[i].staged && g->pieces[i].home != NULL)
                sl_pager_settle(engine->pager, g->pieces[i].unit);
        }
        release_held(g);
        sl_pager_poll(engine->pager);
    }
    if (atomic_load_explicit(&engine->interrupted, memory_order_relaxed))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

static sl_status gather_unit(gathering *g, const sli_matrix *m, uint32_t index, sl_error *err)
{
    sl_pager *pager = g->ffn->engine->pager;
    uint32_t first = index * m->rows_per_unit;
    piece p = {.unit = m->first_unit + index, .first_place = first};
    p.count = m->rows - first < m->rows_per_unit ? m->rows - first : m->rows_per_unit;
    p.groups = (p.count + GROUP - 1) / GROUP;
    p.home = (uint8_t *)(uintptr_t)sl_pager_resident(pager, p.unit);
    p.data = p.home;
    if (g->count == PIECES_MAX || (p.home == NULL && sli_gathered_enough(g->ffn->engine, p.unit, g->held_bytes)))
        SL_TRY(flush(g, err));
    if (p.home != NULL)
        sl_record_call_of(g->ffn->engine->record, SL_RECORD_USE, p.unit);
    if (p.home == NULL) {
        sl_view view;
        SL_TRY(sl_pager_acquire(pager, p.unit, &view, err));
        p.staged = view.staged != NULL;
        p.data = p.staged ? view.staged : view.home;
        p.home = view.home;
        g->held_bytes += p.staged ? (uint64_t)p.count * m->row_bytes : 0;
    }
    g->groups += p.groups;
    g->pieces[g->count++] = p;
    return SL_OK;
}

/* Neurons that are not stored give nothing. */
static void clear_silent(const sli_ffn *f, const sl_packed_layer *l)
{
    float *gates = sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst), *ups = sli_ffn_buffer(f, f->ops[SLI_FFN_UP].dst);
    for (uint32_t row = 0; row < f->rows; row++)
        for (uint32_t place = l->stored; place < l->ff; place++)
            gates[(size_t)row * l->ff + l->order[place]] = ups[(size_t)row * l->ff + l->order[place]] = 0;
}

sl_status sli_bundled_gate_up(const sli_ffn *f, sl_error *err)
{
    const sli_matrix *m = &f->matrices[SLI_FFN_GATE];
    gathering g = {.ffn = f, .layer = sli_bundled_of(&f->engine->bundled, f->layer)};
    assert(g.layer != NULL);
    const sl_packed_layer *l = g.layer->packed;
    bool quantized = sl_format_of(l->gate_type)->quantized || sl_format_of(l->up_type)->quantized;
    sli_prepare_source(f->engine, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].src), f->rows, m->cols, quantized, &g.acts);
    sl_status status = SL_OK;
    for (uint32_t u = 0; u < m->unit_count && status == SL_OK; u++)
        status = gather_unit(&g, m, u, err);
    if (status == SL_OK)
        status = flush(&g, err);
    release_held(&g);
    clear_silent(f, l);
    return status;
}

/* ---- down ---- */

typedef struct down_job {
    const sli_ffn *ffn;
    sl_columns columns;
    sl_acts acts;
    float *out;
} down_job;

static void down_share(void *arg, unsigned index, unsigned count)
{
    const down_job *j = arg;
    const sl_kernels *kernels = j->ffn->engine->kernels;
    uint32_t begin, end;
    sli_share(j->columns.rows, SL_COLUMN_GROUP, index, count, &begin, &end);
    if (begin < end)
        kernels->matmul_columns(&j->columns, &j->acts, begin, end, j->out);
}

/* Neurons that are stored, in their own order, and their columns. */
static void list_stored(const sli_bundled *b, const sli_bundled_layer *layer, sl_columns *columns)
{
    uint32_t n = 0;
    for (uint32_t neuron = 0; neuron < layer->packed->ff; neuron++) {
        if (layer->place_of[neuron] >= layer->packed->stored)
            continue;
        b->members[n] = neuron;
        b->addresses[n++] = b->column_at[neuron];
    }
    columns->count = n;
    columns->member = b->members;
    columns->column = b->addresses;
}

void sli_bundled_down(const sli_ffn *f)
{
    const sli_bundled *b = &f->engine->bundled;
    const sli_bundled_layer *layer = sli_bundled_of(b, f->layer);
    const sl_packed_layer *l = layer->packed;
    down_job job = {.ffn = f, .out = sli_ffn_buffer(f, f->ops[SLI_FFN_DOWN].dst)};
    job.columns = (sl_columns){.type = l->down_type,
                               .rows = l->d,
                               .cols = l->ff,
                               .meta = layer->meta,
                               .count = l->ff,
                               .member = b->everyone,
                               .column = b->column_at};
    if (l->stored < l->ff)
        list_stored(b, layer, &job.columns);
    sli_prepare_source(f->engine, sli_ffn_buffer(f, f->ops[SLI_FFN_DOWN].src), f->rows, l->ff, sl_format_of(l->down_type)->quantized,
                       &job.acts);
    sl_threads_run(f->engine->threads, down_share, &job);
}

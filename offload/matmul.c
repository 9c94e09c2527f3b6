/* offload/matmul.c: see offload/matmul.h. */
#include "offload/matmul.h"

#include <string.h>

/* A unit, ready to be multiplied. */
typedef struct piece {
    const sli_matrix *matrix;
    sl_unit_id unit;
    const uint8_t *staged; /* rows as in the file, or NULL */
    uint8_t *home;         /* panels: to be read, or with staged, to be filled; NULL when it does not stay */
    uint32_t rows, panels; /* the last panel may be partly used */
    float *out;            /* of the unit's first row */
} piece;

#define PIECES_MAX 256
#define LYING_ROWS 64 /* rows of one call: enough to fetch ahead */
#define HELD_SHARE 4  /* of the ring, one part in so many: what is held by those who compute */

typedef struct gathering {
    sl_engine *engine;
    sl_acts acts;
    uint32_t count, panels;
    uint64_t held_bytes; /* staged */
    piece pieces[PIECES_MAX];
} gathering;

/* ---- one thread's share ---- */

static void pack_panel(const gathering *g, const piece *p, uint32_t panel, uint8_t *to)
{
    const uint8_t *rows[SL_PANEL_ROWS] = {0};
    const uint8_t *from = p->staged != NULL ? p->staged : p->home;
    for (uint32_t r = 0; r < SL_PANEL_ROWS && panel * SL_PANEL_ROWS + r < p->rows; r++)
        rows[r] = from + (size_t)(panel * SL_PANEL_ROWS + r) * p->matrix->row_bytes;
    g->engine->kernels->pack(p->matrix->type, rows, p->matrix->cols, to);
}

static void multiply_panels(const gathering *g, const piece *p, const uint8_t *panels, uint32_t first, uint32_t count)
{
    uint32_t first_row = first * SL_PANEL_ROWS;
    uint32_t rows = p->rows - first_row < count * SL_PANEL_ROWS ? p->rows - first_row : count * SL_PANEL_ROWS;
    g->engine->kernels->matmul(p->matrix->type, panels, rows, &g->acts, p->out + first_row, p->matrix->rows);
}

/* One row of activations times rows that only pass by: where they lie, as packing them would take longer than multiplying. */
static void multiply_lying(const gathering *g, const piece *p, uint32_t first, uint32_t end)
{
    const uint8_t *rows[LYING_ROWS];
    uint32_t end_row = end * SL_PANEL_ROWS;
    for (uint32_t row = first * SL_PANEL_ROWS; row < end_row; row += LYING_ROWS) {
        uint32_t n = end_row - row < LYING_ROWS ? end_row - row : LYING_ROWS;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = p->staged + (size_t)(row + i) * p->matrix->row_bytes;
        g->engine->kernels->dot_rows(p->matrix->type, rows, n, &g->acts, p->out + row);
    }
}

/* Panels [first, end) of a piece, all whole. */
static void multiply_whole(const gathering *g, const piece *p, uint32_t first, uint32_t end, uint8_t *scratch)
{
    size_t panel_bytes = sl_panel_bytes(p->matrix->type, p->matrix->cols);
    if (p->home != NULL) {
        uint8_t *panels = p->home + first * panel_bytes;
        for (uint32_t i = first; p->staged != NULL && i < end; i++)
            pack_panel(g, p, i, p->home + i * panel_bytes);
        if (first < end)
            multiply_panels(g, p, panels, first, end - first);
        return;
    }
    if (g->acts.rows == 1) {
        multiply_lying(g, p, first, end);
        return;
    }
    for (uint32_t i = first; i < end; i += SLI_PACK_PANELS) {
        uint32_t n = end - i < SLI_PACK_PANELS ? end - i : SLI_PACK_PANELS;
        for (uint32_t j = 0; j < n; j++)
            pack_panel(g, p, i + j, scratch + j * panel_bytes);
        multiply_panels(g, p, scratch, i, n);
    }
}

/* A last panel of fewer than 16 rows has no room to be interleaved in place: it stays as rows and is packed at each use. */
static void keep_tail(const piece *p, uint32_t panel)
{
    size_t offset = (size_t)panel * SL_PANEL_ROWS * p->matrix->row_bytes;
    memcpy(p->home + offset, p->staged + offset, (size_t)p->rows * p->matrix->row_bytes - offset);
}

static void multiply_tail(const gathering *g, const piece *p, uint8_t *scratch)
{
    uint32_t panel = p->panels - 1;
    if (p->home != NULL && p->staged != NULL)
        keep_tail(p, panel);
    pack_panel(g, p, panel, scratch);
    multiply_panels(g, p, scratch, panel, 1);
}

static void multiply_share(void *arg, unsigned index, unsigned count)
{
    const gathering *g = arg;
    uint8_t *scratch = g->engine->scratch.thread_memory + index * g->engine->scratch.thread_bytes;
    uint32_t begin = (uint32_t)((uint64_t)g->panels * index / count), end = (uint32_t)((uint64_t)g->panels * (index + 1) / count);
    uint32_t at = 0;
    for (uint32_t i = 0; i < g->count && at < end; at += g->pieces[i].panels, i++) {
        const piece *p = &g->pieces[i];
        uint32_t whole = p->rows / SL_PANEL_ROWS;
        uint32_t first = begin > at ? begin - at : 0, last = end - at < p->panels ? end - at : p->panels;
        if (first >= last)
            continue;
        multiply_whole(g, p, first, last < whole ? last : whole, scratch);
        if (last == p->panels && whole < p->panels)
            multiply_tail(g, p, scratch);
    }
}

static void fill_share(void *arg, unsigned index, unsigned count)
{
    const gathering *g = arg;
    const piece *p = &g->pieces[0];
    uint32_t begin = (uint32_t)((uint64_t)p->panels * index / count), end = (uint32_t)((uint64_t)p->panels * (index + 1) / count);
    size_t panel_bytes = sl_panel_bytes(p->matrix->type, p->matrix->cols);
    for (uint32_t i = begin; i < end; i++)
        if ((i + 1) * SL_PANEL_ROWS <= p->rows)
            pack_panel(g, p, i, p->home + i * panel_bytes);
        else
            keep_tail(p, i);
}

void sli_fill_home(sl_engine *engine, const sli_matrix *matrix, uint32_t index, const uint8_t *staged, uint8_t *home)
{
    gathering g;
    uint32_t rows = sli_unit_rows(matrix, index);
    g.engine = engine;
    g.pieces[0] = (piece){.matrix = matrix, .staged = staged, .home = home, .rows = rows};
    g.pieces[0].panels = (rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
    sl_threads_run(engine->threads, fill_share, &g);
}

/* ---- gathering ---- */

static void release_held(gathering *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->pieces[i].staged != NULL)
            sl_pager_release(g->engine->pager, g->pieces[i].unit);
    g->count = g->panels = 0;
    g->held_bytes = 0;
}

bool sli_gathered_enough(const sl_engine *engine, sl_unit_id unit, uint64_t held_bytes)
{
    return !sl_pager_ready(engine->pager, unit) || held_bytes >= engine->price.staging_bytes / HELD_SHARE;
}

static sl_status flush(gathering *g, sl_error *err)
{
    if (g->count > 0) {
        sl_threads_run(g->engine->threads, multiply_share, g);
        for (uint32_t i = 0; i < g->count; i++)
            if (g->pieces[i].staged != NULL && g->pieces[i].home != NULL)
                sl_pager_settle(g->engine->pager, g->pieces[i].unit);
        release_held(g);
        sl_pager_poll(g->engine->pager);
    }
    if (atomic_load_explicit(&g->engine->interrupted, memory_order_relaxed))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

/* Homes of neighbouring units are neighbours: as one piece they are one call, whose prefetching does not stop at their border. */
static bool follows(gathering *g, const piece *p)
{
    piece *last = g->count > 0 ? &g->pieces[g->count - 1] : NULL;
    if (last == NULL || last->matrix != p->matrix || last->staged != NULL || p->staged != NULL || last->rows % SL_PANEL_ROWS != 0 ||
        last->home + (size_t)last->rows * p->matrix->row_bytes != p->home || last->out + last->rows != p->out)
        return false;
    last->rows += p->rows;
    last->panels += p->panels;
    return true;
}

static sl_status gather_unit(gathering *g, const sli_product *product, uint32_t index, sl_error *err)
{
    const sli_matrix *m = product->matrix;
    uint32_t first_row = index * m->rows_per_unit;
    piece p = {.matrix = m, .unit = m->first_unit + index, .out = product->out + first_row};
    p.rows = sli_unit_rows(m, index);
    p.panels = (p.rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;

    p.home = (uint8_t *)(uintptr_t)sl_pager_resident(g->engine->pager, p.unit);
    if (g->count == PIECES_MAX || (p.home == NULL && sli_gathered_enough(g->engine, p.unit, g->held_bytes)))
        SL_TRY(flush(g, err));
    if (p.home != NULL)
        sl_record_call_of(g->engine->record, SL_RECORD_USE, p.unit);
    if (p.home == NULL) {
        sl_view view;
        SL_TRY(sl_pager_acquire(g->engine->pager, p.unit, &view, err));
        p.staged = view.staged;
        p.home = view.home;
        g->held_bytes += view.staged != NULL ? (uint64_t)p.rows * m->row_bytes : 0;
    }
    g->panels += p.panels;
    if (!follows(g, &p))
        g->pieces[g->count++] = p;
    return SL_OK;
}

typedef struct quantize_job {
    const sl_kernels *kernels;
    sl_acts *acts;
} quantize_job;

static void quantize_share(void *arg, unsigned index, unsigned count)
{
    const quantize_job *job = arg;
    uint32_t rows = job->acts->rows;
    job->kernels->quantize(job->acts, (uint32_t)((uint64_t)rows * index / count), (uint32_t)((uint64_t)rows * (index + 1) / count));
}

void sli_prepare_source(sl_engine *engine, const float *src, uint32_t rows, uint32_t cols, bool quantized, sl_acts *out)
{
    *out = engine->scratch.acts;
    out->rows = rows;
    out->cols = cols;
    out->f32 = src;
    if (!quantized)
        return;
    quantize_job job = {engine->kernels, out};
    if (rows == 1)
        engine->kernels->quantize(out, 0, 1);
    else
        sl_threads_run(engine->threads, quantize_share, &job);
}

static bool wants(const sli_product *product, uint32_t index)
{
    return product->wanted == NULL || product->wanted[product->matrix->first_unit + index];
}

static void add_bias(sl_engine *engine, const sli_product *product, uint32_t rows)
{
    const sli_matrix *m = product->matrix;
    for (uint32_t u = 0; product->bias != NULL && u < m->unit_count; u++)
        for (uint32_t r = 0, first = u * m->rows_per_unit; wants(product, u) && r < rows; r++)
            engine->kernels->add(product->out + (size_t)r * m->rows + first, product->bias + first, sli_unit_rows(m, u));
}

sl_status sli_multiply(sl_engine *engine, const float *src, uint32_t rows, const sli_product *products, uint32_t count, sl_error *err)
{
    gathering g;
    g.engine = engine;
    g.count = g.panels = 0;
    g.held_bytes = 0;
    bool quantized = false;
    for (uint32_t i = 0; i < count; i++)
        quantized |= sl_format_of(products[i].matrix->type)->quantized;
    sli_prepare_source(engine, src, rows, products[0].matrix->cols, quantized, &g.acts);

    sl_status status = SL_OK;
    for (uint32_t i = 0; i < count && status == SL_OK; i++)
        for (uint32_t u = 0; u < products[i].matrix->unit_count && status == SL_OK; u++)
            status = wants(&products[i], u) ? gather_unit(&g, &products[i], u, err) : SL_OK;
    if (status == SL_OK)
        status = flush(&g, err);
    release_held(&g);
    for (uint32_t i = 0; i < count && status == SL_OK; i++)
        add_bias(engine, &products[i], rows);
    return status;
}

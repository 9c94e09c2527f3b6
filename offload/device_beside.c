/* offload/device_beside.c: the processor's part of a pass on a device. See device_engine.h.
 *
 * Of what the device does not hold, a part may be computed where it lies, in host memory, while the rest crosses the link: activations move, weights stay. Which
 * share is faster is arithmetic over rates (placement.h), which are measured when the engine is opened. Of each group of products with one source the
 * first units, by bytes, are the processor's:
 *
 *     compute stream   quantise ─ source to the host ─ products of what is held and of what has crossed ─ ... ─ the processor's results ─ ...
 *     copy stream      ... what the next products need ...
 *     the host                     └▶ wait, products of its units ────────────────────────────────────────────▶┘
 *
 * Who computes a row does not change its bits. Passes of many rows (prompts) leave all to the device: there the processor would be in the way. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/matmul.h"
#include "offload/placement.h"

#include <stdlib.h>
#include <string.h>

#define MIB           ((uint64_t)1 << 20)
#define MEASURE_BYTES (64 * MIB) /* that the processor goes through, at most: more than caches hold */
#define COPY_BYTES    (16 * MIB) /* that cross the link */
#define FEW_BYTES     (MIB / 4)  /* too little to measure with */
#define ROWS_AT_ONCE  256        /* weights' rows of a call */
#define MANY_ROWS     8          /* the second number of rows that the processor is measured with */
#define WAKE_S        15e-6      /* until the host goes on after an event, and the device after a launch */
#define FAST_BPS      1e15       /* what is no limit here */

/* ---- what the processor reaches ---- */

typedef struct trial {
    sl_engine *engine;
    const uint8_t *panels;
    uint32_t type, rows; /* of the weights */
    sl_acts acts;
} trial;

static void trial_share(void *arg, unsigned index, unsigned count)
{
    const trial *t = arg;
    float *out = (float *)(void *)(t->engine->scratch.thread_memory + index * t->engine->scratch.thread_bytes);
    size_t row_bytes = sl_row_bytes(t->type, t->acts.cols);
    uint32_t pieces = t->rows / ROWS_AT_ONCE;
    uint32_t end = (uint32_t)((uint64_t)pieces * (index + 1) / count);
    for (uint32_t i = (uint32_t)((uint64_t)pieces * index / count); i < end; i++)
        t->engine->kernels->matmul(t->type, t->panels + (size_t)i * ROWS_AT_ONCE * row_bytes, ROWS_AT_ONCE, &t->acts, out, ROWS_AT_ONCE);
}

/* Homes before anything lies in them: zeros take as long as weights, once they have pages of their own. */
static double processor_seconds(trial *t, uint32_t rows)
{
    double best = 0;
    t->acts.rows = rows;
    if (sl_format_of(t->type)->quantized)
        t->engine->kernels->quantize(&t->acts, 0, rows);
    for (int i = 0; i < 3; i++) { /* the first for warmth */
        uint64_t start = sl_now_ns();
        sl_threads_run(t->engine->threads, trial_share, t);
        double seconds = (double)(sl_now_ns() - start) * 1e-9;
        best = i > 0 && (best == 0 || seconds < best) ? seconds : best;
    }
    return best;
}

/* The matrix that most of the homes' bytes are of. */
static const sli_matrix *usual_matrix(const sl_engine *e)
{
    uint64_t most = 0;
    const sli_matrix *usual = NULL;
    uint32_t entries = e->model->layers * e->units.layer_ops + e->units.head_ops;
    for (uint32_t i = 0; i < entries; i++) {
        const sli_matrix *m = &e->units.matrices[i];
        uint64_t bytes = 0;
        for (uint32_t u = 0; u < m->unit_count && !m->bundles; u++)
            bytes += e->units.units[m->first_unit + u].home ? e->units.units[m->first_unit + u].bytes : 0;
        if (bytes > most) {
            most = bytes;
            usual = m;
        }
    }
    return usual;
}

static void measure_processor(sl_engine *e, sli_device_rates *rates)
{
    const sli_matrix *m = usual_matrix(e);
    size_t bytes;
    void *homes = sl_pager_homes(e->pager, &bytes);
    bytes = bytes < MEASURE_BYTES ? bytes : MEASURE_BYTES;
    if (m == NULL || bytes / m->row_bytes < ROWS_AT_ONCE)
        return;
    trial t = {.engine = e, .panels = homes, .type = m->type, .acts = e->scratch.acts};
    t.rows = (uint32_t)(bytes / m->row_bytes) / ROWS_AT_ONCE * ROWS_AT_ONCE;
    t.acts.cols = m->cols;
    t.acts.f32 = e->scratch.beside_src;
    memset(homes, 0, bytes); /* else all of it would be one page of zeros, in the cache */
    double gone_through = (double)t.rows * m->row_bytes;
    uint32_t many = e->device->beside_rows < MANY_ROWS ? e->device->beside_rows : MANY_ROWS;
    rates->processor_s_per_byte = processor_seconds(&t, 1) / gone_through;
    rates->processor_row_s_per_byte = many > 1 ? (processor_seconds(&t, many) / gone_through - rates->processor_s_per_byte) / (many - 1)
                                               : 0;
    if (rates->processor_row_s_per_byte < 0)
        rates->processor_row_s_per_byte = 0;
}

/* ---- what link and device reach ---- */

typedef struct stopwatch {
    sl_device *device;
    sl_event *from, *to;
} stopwatch;

static sl_status stop(stopwatch *w, double *seconds, sl_error *err)
{
    const sl_device_ops *ops = w->device->ops;
    SL_TRY(ops->event_record(w->device, w->to, SL_STREAM_COMPUTE, err));
    SL_TRY(ops->event_wait(w->device, w->to, err));
    return ops->event_elapsed(w->device, w->from, w->to, seconds, err);
}

static sl_status measure_link(sl_engine *e, stopwatch *w, sli_device_rates *rates, sl_error *err)
{
    sl_device *d = w->device;
    uint64_t arena_bytes;
    size_t bytes;
    sl_device_ptr arena = sl_vram_arena(e->device->vram, &arena_bytes);
    void *staging = sl_pager_staging(e->pager, &bytes);
    uint64_t copied = bytes < arena_bytes ? bytes : arena_bytes, half = arena_bytes / 2 / SL_VRAM_ALIGNMENT * SL_VRAM_ALIGNMENT;
    copied = copied < COPY_BYTES ? copied : COPY_BYTES;
    half = half < COPY_BYTES ? half : COPY_BYTES;
    if (copied < FEW_BYTES || half < FEW_BYTES)
        return SL_OK;
    double seconds = 0;
    for (int i = 0; i < 2; i++) { /* the first wakes the link up */
        SL_TRY(d->ops->event_record(d, w->from, SL_STREAM_COMPUTE, err));
        SL_TRY(d->ops->copy_in(d, SL_STREAM_COMPUTE, arena, staging, copied, err));
        SL_TRY(stop(w, &seconds, err));
        rates->link_Bps = seconds > 0 ? (double)copied / seconds : FAST_BPS;
        SL_TRY(d->ops->event_record(d, w->from, SL_STREAM_COMPUTE, err));
        SL_TRY(d->ops->copy_within(d, SL_STREAM_COMPUTE, arena + half, arena, half, err));
        SL_TRY(stop(w, &seconds, err));
        rates->device_Bps = seconds > 0 ? 2 * (double)half / seconds : FAST_BPS;
    }
    return SL_OK;
}

/* A source to the host and results back. */
static sl_status measure_hop(sl_engine *e, stopwatch *w, sli_device_rates *rates, sl_error *err)
{
    sl_device *d = w->device;
    size_t bytes = e->model->d * sizeof(float);
    double seconds = 0;
    SL_TRY(d->ops->event_record(d, w->from, SL_STREAM_COMPUTE, err));
    SL_TRY(d->ops->copy_out(d, SL_STREAM_COMPUTE, e->scratch.beside_src, e->device->memory.buffers[SL_BUF_NORMED], bytes, err));
    SL_TRY(d->ops->copy_in(d, SL_STREAM_COMPUTE, e->device->memory.buffers[SL_BUF_NORMED], e->scratch.beside_src, bytes, err));
    SL_TRY(stop(w, &seconds, err));
    rates->hop_s = seconds + 2 * WAKE_S;
    memset(e->scratch.beside_src, 0, bytes);
    return SL_OK;
}

static sl_status measure(sl_engine *e, sl_error *err)
{
    sl_device *d = e->device->device;
    stopwatch w = {.device = d};
    sli_device_rates *rates = &e->device->rates;
    sl_status status = d->ops->event_create(d, &w.from, err);
    if (status == SL_OK)
        status = d->ops->event_create(d, &w.to, err);
    if (status == SL_OK)
        status = measure_link(e, &w, rates, err);
    if (status == SL_OK)
        status = measure_hop(e, &w, rates, err);
    d->ops->event_destroy(d, w.from);
    d->ops->event_destroy(d, w.to);
    if (status == SL_OK)
        measure_processor(e, rates);
    return status;
}

/* ---- the share ---- */

/* What each layer holds where, and the head. */
static uint32_t sum_up(const sl_engine *e, sl_placement_unit *units, sl_place *place)
{
    uint32_t count = 3 * (e->model->layers + 1), entries = e->model->layers * e->units.layer_ops + e->units.head_ops;
    for (uint32_t i = 0; i < count; i++) {
        units[i] = (sl_placement_unit){.layer = i / 3, .reads = 1};
        place[i] = (sl_place)(i % 3);
    }
    for (uint32_t entry = 0; entry < entries; entry++) {
        const sli_matrix *m = &e->units.matrices[entry];
        uint32_t layer = entry / e->units.layer_ops < e->model->layers ? entry / e->units.layer_ops : e->model->layers;
        for (uint32_t u = m->first_unit; u < m->first_unit + m->unit_count; u++) {
            /* Bundles are never the processor's, as if they came from the disk. */
            bool beside = e->units.units[u].home && !m->bundles;
            sl_place at = e->units.in_vram[u] ? SL_PLACE_VRAM : beside ? SL_PLACE_RAM : SL_PLACE_DISK;
            units[3 * layer + at].bytes += e->units.units[u].bytes;
        }
    }
    return count;
}

static uint32_t groups_of(const sl_op *ops)
{
    uint32_t groups = 0;
    for (uint32_t i = 0; ops[i].kind != SL_OP_END; i++)
        groups += ops[i].kind == SL_OP_MATMUL && (i == 0 || ops[i - 1].kind != SL_OP_MATMUL || ops[i - 1].src != ops[i].src);
    return groups;
}

static sl_placement_machine machine_for(const sl_engine *e, uint32_t rows)
{
    const sli_device_rates *r = &e->device->rates;
    double s_per_byte = r->processor_s_per_byte + (rows - 1) * r->processor_row_s_per_byte;
    return (sl_placement_machine){.device_Bps = r->device_Bps,
                                  .link_Bps = r->link_Bps,
                                  .cpu_Bps = s_per_byte > 0 ? 1 / s_per_byte : 0,
                                  .host_Bps = FAST_BPS,
                                  .disk_Bps = FAST_BPS,
                                  .hop_s = groups_of(e->model->arch->layer) * r->hop_s};
}

static void divide(sl_engine *e, sl_placement_unit *units, sl_place *place, sl_placement_layer *table)
{
    sli_device *d = e->device;
    uint32_t count = sum_up(e, units, place);
    for (uint32_t rows = 1; rows <= d->beside_rows; rows++) {
        sl_placement_machine machine = machine_for(e, rows);
        sl_placement placed;
        sl_placement_divide(&machine, units, count, e->model->layers + 1, place, table, &placed);
        bool measured = machine.link_Bps > 0 && machine.cpu_Bps > 0;
        d->cpu_share[rows] = e->options.cpu_share_given ? e->options.cpu_share : measured ? 1 - placed.streamed_share : 0;
    }
}

/* For each number of rows what is the processor's. */
static sl_status choose_shares(sl_engine *e, sl_error *err)
{
    size_t layers = e->model->layers + 1;
    sl_placement_unit *units = malloc(3 * layers * sizeof *units);
    sl_place *place = malloc(3 * layers * sizeof *place);
    sl_placement_layer *table = malloc(layers * sizeof *table);
    bool there = units != NULL && place != NULL && table != NULL;
    if (there)
        divide(e, units, place, table);
    free(units);
    free(place);
    free(table);
    return there ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for a plan of %zu layers", layers);
}

/* Units of a group of products by their place among its bytes: those below the share are the processor's. */
static void rank_group(sl_engine *e, const sli_matrix *first, uint32_t count)
{
    uint64_t all = 0, before = 0;
    for (int round = 0; round < 2; round++)
        for (const sli_matrix *m = first; m < first + count; m++)
            for (uint32_t u = m->first_unit; u < m->first_unit + m->unit_count; u++) {
                uint64_t bytes = e->units.units[u].home && !m->bundles ? e->units.units[u].bytes : 0;
                all += round == 0 ? bytes : 0;
                if (round == 1 && bytes > 0)
                    e->device->rank[u] = (float)(((double)before + 0.5 * (double)bytes) / (double)all);
                before += round == 1 ? bytes : 0;
            }
}

static void rank_program(sl_engine *e, const sl_op *ops, uint32_t first_entry)
{
    const sli_matrix *matrices = e->units.matrices + first_entry;
    for (uint32_t i = 0, end; ops[i].kind != SL_OP_END; i = end) {
        for (end = i + 1; ops[i].kind == SL_OP_MATMUL && ops[end].kind == SL_OP_MATMUL && ops[end].src == ops[i].src; end++)
            ;
        if (ops[i].kind == SL_OP_MATMUL)
            rank_group(e, &matrices[i], end - i);
    }
}

sl_status sli_beside_plan(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    d->beside_rows = e->scratch.beside_rows;
    for (uint32_t u = 0; u < e->units.count; u++)
        d->rank[u] = 2; /* never the processor's */
    for (uint32_t layer = 0; layer < e->model->layers; layer++)
        rank_program(e, e->model->arch->layer, layer * e->units.layer_ops);
    rank_program(e, e->model->arch->head, e->model->layers * e->units.layer_ops);
    if (usual_matrix(e) == NULL) {
        d->beside_rows = 0;
        return SL_OK;
    }
    SL_TRY(measure(e, err));
    return choose_shares(e, err);
}

void sli_beside_choose(sl_engine *e, uint32_t rows)
{
    sli_device *d = e->device;
    double share = rows <= d->beside_rows ? d->cpu_share[rows] : 0;
    d->by_cpu_count = 0;
    for (uint32_t u = 0; u < e->units.count; u++) {
        d->by_cpu[u] = d->rank[u] < share && sl_pager_resident(e->pager, u) != NULL;
        d->by_cpu_count += d->by_cpu[u];
    }
}

void sli_beside_bytes(const sl_engine *e, uint64_t *streamed, uint64_t *computed)
{
    const sli_device *d = e->device;
    *streamed = *computed = 0;
    for (uint32_t u = 0; u < e->units.count && d->rank != NULL; u++) {
        bool computes = d->beside_rows > 0 && d->rank[u] < d->cpu_share[1];
        bool in_part = e->options.sparsity != SL_SPARSITY_OFF && e->units.matrices[d->entry_of[u]].bundles;
        double bytes = e->units.in_vram[u] || sli_device_leaves_out(e, u)
                           ? 0
                           : (double)e->units.units[u].bytes * (in_part ? e->options.density : 1);
        *(computes ? computed : streamed) += (uint64_t)bytes;
    }
}

/* ---- a group of products ---- */

static bool any_of(const sli_device *d, const sli_beside *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        for (uint32_t u = 0; u < b->matrices[i].unit_count; u++)
            if (d->by_cpu[b->matrices[i].first_unit + u])
                return true;
    return false;
}

sl_status sli_beside_begin(sl_engine *e, sli_beside *b, sl_error *err)
{
    sl_device *device = e->device->device;
    b->takes_part = any_of(e->device, b);
    if (!b->takes_part)
        return SL_OK;
    size_t bytes = (size_t)b->rows * b->matrices[0].cols * sizeof(float);
    SL_TRY(device->ops->copy_out(device, SL_STREAM_COMPUTE, e->scratch.beside_src, b->src, bytes, err));
    return device->ops->event_record(device, e->device->source, SL_STREAM_COMPUTE, err);
}

/* The rows of neighbouring units go back together. */
static sl_status give_back(sl_engine *e, const sli_beside *b, uint32_t i, const float *out, sl_error *err)
{
    const sli_matrix *m = &b->matrices[i];
    sl_device *device = e->device->device;
    const bool *by_cpu = e->device->by_cpu + m->first_unit;
    for (uint32_t u = 0, end; u < m->unit_count; u = end) {
        for (end = u; end < m->unit_count && by_cpu[end]; end++)
            ;
        uint32_t first = u * m->rows_per_unit, last = end * m->rows_per_unit < m->rows ? end * m->rows_per_unit : m->rows;
        sl_device_ptr to = b->dst[i] + first * sizeof(float), from = device->ops->host_address(device, out + first);
        if (end > u && from != 0)
            SL_TRY(device->kernels->place(device, to, m->rows, from, m->rows, last - first, b->rows, err));
        else if (end > u)
            SL_TRY(device->ops->copy_in_rows(device, SL_STREAM_COMPUTE, to, m->rows * sizeof(float), out + first, m->rows * sizeof(float),
                                             (last - first) * sizeof(float), b->rows, err));
        end += end == u;
    }
    return SL_OK;
}

sl_status sli_beside_finish(sl_engine *e, const sli_beside *b, sl_error *err)
{
    sl_device *device = e->device->device;
    sli_product products[SLI_PRODUCTS_MAX];
    float *at = e->scratch.beside_out;
    if (!b->takes_part)
        return SL_OK;
    for (uint32_t i = 0; i < b->count; i++) {
        products[i] = (sli_product){.matrix = &b->matrices[i], .bias = b->bias[i], .out = at, .wanted = e->device->by_cpu};
        at += (size_t)b->rows * b->matrices[i].rows;
    }
    /* What was given back from beside_out before was read by then, too: it is behind in the same stream. */
    SL_TRY(device->ops->event_wait(device, e->device->source, err));
    SL_TRY(sli_multiply(e, e->scratch.beside_src, b->rows, products, b->count, err));
    for (uint32_t i = 0; i < b->count; i++)
        SL_TRY(give_back(e, b, i, products[i].out, err));
    return SL_OK;
}

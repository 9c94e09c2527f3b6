/* offload/device_ffn.c: feed-forwards of a packed file on a device. See device_engine.h; ffn.h says what they are.
 *
 * A dense pass has all of a layer's bundles on the device, those that only pass by in the ring, and reads them where they are, by a table of addresses, until the down
 * product has read all columns:
 *
 *     units ─▶ (all there) ─▶ gate and up rows as they lie, or as panels for many rows ─▶ gated units ─▶ quantised ─▶ down product ─▶ the ring's places are given back
 *
 * A sparse row reads the bundles of its set where they lie, in the device's memory or in page-locked host memory, and no others: the predictor, the
 * choice and the products follow each other on the device, and the host waits for nothing. Coarse sets are chosen by the host, from what dense passes showed of the neurons;
 * rows of a tree that is drafted over one such set read it together. Drafts without sparsity have one set, too: the neurons that stay on the device. */
#include "offload/device_engine.h"
#include "offload/ffn.h"
#include "offload/guess.h"

#include <assert.h>
#include <string.h>

typedef struct layer_job {
    sl_engine *engine;
    const sli_device_ffn *ffn;
    const sl_packed_layer *packed;
    sl_device *device;
    const sl_device_kernels *kernels;
    const sli_device_memory *memory;
} layer_job;

static layer_job job_of(sl_engine *e, const sli_device_ffn *f)
{
    const sl_packed_layer *packed = sli_bundled_layer_at(e->packed, f->layer);
    assert(packed != NULL);
    return (layer_job){e, f, packed, e->device->device, e->device->device->kernels, &e->device->memory};
}

static sl_device_acts acts_of(const layer_job *j, uint32_t rows, uint32_t cols, sl_device_ptr f32)
{
    return (sl_device_acts){rows, cols, f32, j->memory->q, j->memory->d, j->memory->sum};
}

static bool quantizes_input(const layer_job *j)
{
    return sl_format_of(j->packed->gate_type)->quantized || sl_format_of(j->packed->up_type)->quantized;
}

static uint64_t first_neuron(const layer_job *j)
{
    return (uint64_t)j->ffn->layer * j->packed->ff;
}

/* A table of where bundles lie, from where their units do (bundle_units; 0: nowhere). A copy of one would wait behind the weights that come ahead. */
static sl_status fill_table(const layer_job *j, sl_device_ptr at, sl_error *err)
{
    const sli_matrix *m = j->ffn->bundles;
    return j->kernels->bundle_table(j->device, j->engine->device->bundle_units, m->unit_count, m->rows_per_unit, j->packed->stride,
                                    j->memory->place_of + first_neuron(j) * sizeof(uint32_t), j->packed->ff, j->memory->nowhere, at, err);
}

static sl_device_bundles bundles_of(const layer_job *j, sl_device_ptr at, double host_share)
{
    const sl_packed_layer *l = j->packed;
    return (sl_device_bundles){.gate_type = l->gate_type,
                               .up_type = l->up_type,
                               .down_type = l->down_type,
                               .d = l->d,
                               .ff = l->ff,
                               .gate_bytes = l->gate_bytes,
                               .up_bytes = l->up_bytes,
                               .column_bytes = l->column_bytes,
                               .at = at,
                               .meta = j->memory->meta + sli_device_meta_at(j->engine->packed, j->ffn->layer),
                               .host_share = (float)host_share};
}

/* ---- what does not change ---- */

/* The neurons of a layer that stay on the device, ascending. */
static sl_status upload_held(sl_engine *e, uint32_t layer, sl_error *err)
{
    const sli_matrix *m = sli_units_bundles(e->model, e->packed, &e->units, layer);
    const uint32_t *place_of = sli_bundled_of(&e->bundled, layer)->place_of;
    uint32_t *held = e->bundled.members, *count = &e->device->held_neurons[layer];
    for (uint32_t neuron = 0; neuron < e->model->ff; neuron++)
        if (e->units.in_vram[m->first_unit + place_of[neuron] / m->rows_per_unit])
            held[(*count)++] = neuron;
    return sli_device_upload(e, e->device->memory.members + (uint64_t)layer * e->model->ff * sizeof *held, held, *count * sizeof *held,
                             err);
}

sl_status sli_device_ffn_open(sl_engine *e, sl_error *err)
{
    const sli_device_memory *memory = &e->device->memory;
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        const sli_bundled_layer *l = sli_bundled_of(&e->bundled, layer);
        if (l == NULL)
            continue;
        uint64_t first = (uint64_t)layer * e->model->ff;
        SL_TRY(sli_device_upload(e, memory->place_of + first * sizeof(uint32_t), l->place_of, e->model->ff * sizeof(uint32_t), err));
        SL_TRY(sli_device_upload(e, memory->meta + sli_device_meta_at(e->packed, layer), l->meta, l->packed->meta_bytes, err));
        if (e->price.draft_neurons > 0)
            SL_TRY(upload_held(e, layer, err));
    }
    if (e->predictor == NULL)
        return SL_OK;
    size_t bytes;
    const void *predictor = sli_predictor_memory(e->predictor, &bytes);
    return sli_device_upload(e, memory->predictor, predictor, bytes, err);
}

/* ---- what coarse sets are chosen by ---- */

typedef struct seen {
    sli_sparsity *sparsity;
    const float *h;
    uint32_t layer, rows;
} seen;

static void norms_share(void *arg, unsigned index, unsigned count)
{
    const seen *s = arg;
    uint32_t begin, end;
    sli_share(s->rows, 1, index, count, &begin, &end);
    sli_coarse_norms(s->sparsity, s->h, begin, end);
}

static void see_share(void *arg, unsigned index, unsigned count)
{
    const seen *s = arg;
    uint32_t first, last;
    sli_share(s->sparsity->ff, 1, index, count, &first, &last);
    sli_coarse_see(s->sparsity, s->layer, s->h, s->rows, first, last);
}

/* Coarse sets learn from dense rows, on the host. */
static sl_status show_rows(const layer_job *j, sl_device_ptr h, sl_error *err)
{
    sl_engine *e = j->engine;
    sli_sparsity *s = &e->sparsity;
    if (s->mode != SL_SPARSITY_COARSE)
        return SL_OK;
    size_t bytes = (size_t)j->ffn->rows * s->ff * sizeof(float);
    SL_TRY(j->device->ops->copy_out(j->device, SL_STREAM_COMPUTE, e->scratch.device_seen, h, bytes, err));
    SL_TRY(j->device->ops->event_record(j->device, e->device->source, SL_STREAM_COMPUTE, err));
    SL_TRY(j->device->ops->event_wait(j->device, e->device->source, err));
    seen shown = {s, e->scratch.device_seen, j->ffn->layer, j->ffn->rows};
    sl_threads_run(e->threads, norms_share, &shown);
    sl_threads_run(e->threads, see_share, &shown);
    s->chosen_valid = false;
    return SL_OK;
}

/* ---- all neurons ---- */

#define FEW_ROWS 16 /* so many read a bundle's rows as they lie; for more it pays to make panels of them */

/* Brings what is not there; places in the ring stay taken, *tickets of them, until the down product has read them. */
static sl_status bring_all(const layer_job *j, uint32_t *tickets, sl_error *err)
{
    const sli_matrix *m = j->ffn->bundles;
    sli_device *d = j->engine->device;
    for (uint32_t u = 0; u < m->unit_count; u++) {
        sli_fetched fetched;
        SL_TRY(sli_device_fetch_bundles(j->engine, m, u, &fetched, err));
        if (fetched.in_ring)
            d->bundle_tickets[(*tickets)++] = fetched.ticket;
        d->bundle_units[u] = fetched.panels;
        sl_pager_poll(j->engine->pager);
    }
    return SL_OK;
}

/* Gates and ups of neurons [first, first + count), as products with panels. */
static sl_status multiply(const layer_job *j, const sl_device_acts *x, sl_device_ptr at, uint32_t first, uint32_t count, sl_error *err)
{
    const sl_packed_layer *l = j->packed;
    uint32_t padded = (count + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS * SL_PANEL_ROWS;
    sl_device_ptr gate = j->memory->panels, up = gate + (uint64_t)padded * l->gate_bytes, rows = at + first * sizeof(sl_device_ptr);
    sl_device_product products[2] = {
        {.type = l->gate_type, .rows = count, .panels = gate, .out = j->memory->buffers[SL_BUF_GATE] + first * sizeof(float)},
        {.type = l->up_type, .rows = count, .panels = up, .out = j->memory->buffers[SL_BUF_UP] + first * sizeof(float)}};
    products[0].out_stride = products[1].out_stride = l->ff;
    SL_TRY(j->kernels->bundle_pack(j->device, l->gate_type, rows, 0, count, l->d, gate, err));
    SL_TRY(j->kernels->bundle_pack(j->device, l->up_type, rows, l->gate_bytes, count, l->d, up, err));
    if (l->gate_type == l->up_type)
        return j->kernels->matmul(j->device, products, 2, x, err);
    SL_TRY(j->kernels->matmul(j->device, &products[0], 1, x, err));
    return j->kernels->matmul(j->device, &products[1], 1, x, err);
}

/* Gated units of all neurons, to the gate's buffer. */
static sl_status gate_up(const layer_job *j, const sl_device_bundles *b, sl_error *err)
{
    const sli_device_ffn *f = j->ffn;
    uint32_t ff = j->packed->ff, step = f->bundles->rows_per_unit / SL_PANEL_ROWS * SL_PANEL_ROWS;
    sl_device_acts x = acts_of(j, f->rows, j->packed->d, f->src);
    sl_device_ptr gate = j->memory->buffers[SL_BUF_GATE], up = j->memory->buffers[SL_BUF_UP];
    if (quantizes_input(j) && !f->quantized)
        SL_TRY(j->kernels->quantize(j->device, &x, err));
    if (f->rows <= FEW_ROWS)
        return j->kernels->bundle_gate_up(j->device, b, f->act, 0, ff, &x, gate, err);
    step = step > 0 ? step : f->bundles->rows_per_unit; /* what memory.panels holds */
    for (uint32_t first = 0; first < ff; first += step)
        SL_TRY(multiply(j, &x, b->at, first, ff - first < step ? ff - first : step, err));
    sl_device_glu glu = {f->act, f->rows, ff, gate, up, gate, NULL};
    return j->kernels->glu(j->device, &glu, err);
}

static sl_status run_dense(const layer_job *j, sl_error *err)
{
    sli_device *d = j->engine->device;
    uint32_t rows = j->ffn->rows, ff = j->packed->ff, tickets = 0;
    sl_device_bundles b = bundles_of(j, j->memory->dense_at + first_neuron(j) * sizeof(sl_device_ptr), 0);
    sl_device_acts h = acts_of(j, rows, ff, j->memory->buffers[SL_BUF_GATE]);
    SL_TRY(bring_all(j, &tickets, err));
    if (!d->followed[j->ffn->layer]) /* else slots and what was gathered are in the table */
        SL_TRY(fill_table(j, b.at, err));
    SL_TRY(gate_up(j, &b, err));
    SL_TRY(show_rows(j, h.f32, err));
    if (sl_format_of(j->packed->down_type)->quantized)
        SL_TRY(j->kernels->quantize(j->device, &h, err));
    SL_TRY(j->kernels->bundle_down(j->device, &b, 0, ff, &h, j->ffn->dst, j->ffn->add, err));
    for (uint32_t i = 0; i < tickets; i++)
        SL_TRY(sl_vram_done(d->vram, d->bundle_tickets[i], err));
    return SL_OK;
}

/* ---- a set of them ---- */

sl_status sli_device_cannot_reach(const sl_engine *e, sl_error *err)
{
    return sl_fail(err, SL_UNSUPPORTED,
                   "%s cannot read host memory in place, where neurons lie that its own does not hold; a larger --vram-budget, or "
                   "--sparsity off",
                   e->device->device->attrs.name);
}

/* Whether rows have the set that the device holds, of which nothing has to come. */
static bool holds_set(const sl_engine *e)
{
    return e->sparsity.mode == SL_SPARSITY_OFF;
}

/* Where sparse rows find each bundle. The first time a layer is asked for, what is not there yet is brought. */
static sl_status reach_all(const layer_job *j, sl_error *err)
{
    sl_engine *e = j->engine;
    sli_device *d = e->device;
    const sli_matrix *m = j->ffn->bundles;
    uint32_t in_host = 0;
    if (d->reachable[j->ffn->layer])
        return SL_OK;
    for (uint32_t u = 0; u < m->unit_count; u++) {
        sl_unit_id unit = m->first_unit + u;
        sli_fetched fetched;
        if (!holds_set(e) && sli_device_comes(e, unit)) {
            SL_TRY(sli_device_fetch_bundles(e, m, u, &fetched, err));
            if (fetched.in_ring)
                SL_TRY(sl_vram_done(d->vram, fetched.ticket, err));
        }
        const uint8_t *home = d->loaded[unit] || holds_set(e) ? NULL : sl_pager_resident(e->pager, unit);
        d->bundle_units[u] = home != NULL ? j->device->ops->host_address(j->device, home) : d->place[unit];
        if (home != NULL && d->bundle_units[u] == 0)
            return sli_device_cannot_reach(e, err);
        in_host += home != NULL ? sli_unit_rows(m, u) : 0;
    }
    SL_TRY(fill_table(j, j->memory->sparse_at + first_neuron(j) * sizeof(sl_device_ptr), err));
    if (e->sparsity.mode != SL_SPARSITY_COARSE) /* whose sets the host knows */
        d->host_share[j->ffn->layer] = (double)in_host / j->packed->ff;
    d->reachable[j->ffn->layer] = true;
    return SL_OK;
}

/* An address in the predictor's memory on the device. */
static sl_device_ptr copy_of(const layer_job *j, const void *part)
{
    size_t bytes;
    const uint8_t *base = sli_predictor_memory(j->engine->predictor, &bytes);
    return part == NULL ? 0 : j->memory->predictor + (uint64_t)((const uint8_t *)part - base);
}

static sl_status project(const layer_job *j, const sli_guess *g, const sl_device_acts *x, sl_error *err)
{
    sl_device_product product = {.type = g->projection,
                                 .rows = g->inputs,
                                 .panels = copy_of(j, g->panels),
                                 .out = j->memory->guess_projected,
                                 .out_stride = g->inputs};
    if (sl_format_of(g->projection)->quantized && !j->ffn->quantized)
        SL_TRY(j->kernels->quantize(j->device, x, err));
    return j->kernels->matmul(j->device, &product, 1, x, err);
}

static sl_device_guess guess_of(const layer_job *j, const sli_guess *g)
{
    sl_device_guess out = {
        g->ff, 0, copy_of(j, g->gate.planes), copy_of(j, g->gate.panels), copy_of(j, g->up.panels), copy_of(j, g->neurons)};
    for (uint32_t block = 0; block < g->inputs / SL_SIGN_COLS; block++)
        out.planes_sum += g->gate.planes[block];
    return out;
}

/* A row's set, in memory.members; `h` becomes zero meanwhile. */
static sl_status predict(const layer_job *j, const sl_device_acts *x, sl_device_ptr h, sl_error *err)
{
    const sli_guess *g = sli_predictor_layer(j->engine->predictor, j->ffn->layer);
    const sli_device_memory *m = j->memory;
    sl_device_acts inputs = {1, g->inputs, m->guess_f32, m->guess_q, m->guess_d, m->guess_sum};
    if (g->select == NULL)
        SL_TRY(project(j, g, x, err));
    SL_TRY(j->kernels->guess_inputs(j->device, g->select == NULL ? m->guess_projected : x->f32, copy_of(j, g->select),
                                    copy_of(j, g->factors), &inputs, err));
    sl_device_guess guess = guess_of(j, g);
    SL_TRY(j->kernels->guess_scores(j->device, &guess, j->ffn->act, &inputs, m->scores, err));
    return j->kernels->top(j->device, m->scores, g->ff, j->engine->keep[j->ffn->layer], m->members, h, m->top, err);
}

/* `count` rows, from `row` on, that have one set; b: where the bundles are. */
static sl_status run_rows(const layer_job *j, uint32_t row, uint32_t count, const sl_device_bundles *b, sl_error *err)
{
    uint32_t d = j->packed->d, ff = j->packed->ff;
    uint32_t keep = holds_set(j->engine) ? j->engine->device->held_neurons[j->ffn->layer] : j->engine->keep[j->ffn->layer];
    bool fine = j->engine->sparsity.mode == SL_SPARSITY_FINE;
    sl_device_acts x = acts_of(j, count, d, j->ffn->src + (uint64_t)row * d * sizeof(float));
    sl_device_ptr members = j->memory->members + (fine ? 0 : first_neuron(j) * sizeof(uint32_t)), gate = j->memory->buffers[SL_BUF_GATE];
    if (fine)
        SL_TRY(predict(j, &x, gate, err));
    else
        SL_TRY(j->device->ops->zero(j->device, SL_STREAM_COMPUTE, gate, (uint64_t)count * ff * sizeof(float), err));
    SL_TRY(sli_device_late_see(j->engine, b->at, members, keep, count, err));
    if (quantizes_input(j) && !j->ffn->quantized)
        SL_TRY(j->kernels->quantize(j->device, &x, err));
    SL_TRY(j->kernels->bundle_gate_up(j->device, b, j->ffn->act, members, keep, &x, gate, err));
    sl_device_acts h = acts_of(j, count, ff, gate);
    if (sl_format_of(j->packed->down_type)->quantized)
        SL_TRY(j->kernels->quantize(j->device, &h, err));
    return j->kernels->bundle_down(j->device, b, members, keep, &h, j->ffn->dst + (uint64_t)row * d * sizeof(float), j->ffn->add, err);
}

sl_status sli_device_ffn_run(sl_engine *e, const sli_device_ffn *f, sl_error *err)
{
    layer_job job = job_of(e, f);
    if (!f->sparse)
        return run_dense(&job, err);
    SL_TRY(reach_all(&job, err));
    sl_device_bundles b = bundles_of(&job, e->device->memory.sparse_at + first_neuron(&job) * sizeof(sl_device_ptr),
                                     e->device->host_share[f->layer]);
    if (e->sparsity.mode != SL_SPARSITY_FINE)
        return run_rows(&job, 0, f->rows, &b, err);
    for (uint32_t row = 0; row < f->rows; row++) /* each has a set of its own */
        SL_TRY(run_rows(&job, row, 1, &b, err));
    return SL_OK;
}

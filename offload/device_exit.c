/* offload/device_exit.c: the parts of a pass with probes, as a device computes them; see early_exit.h, and device_engine.h.
 *
 *     memory.waiting   w0 w1 w2 .. ......   residuals of those who wait
 *          └ begin ▶
 *     residual         w0 w1 w2 t           all rows that may come, in the text's order; on their way are those from some row on, and that row moves to the front
 *          └ keep ▶ the same places         as others join
 *     memory.pass      p0 p1 p2 p3          where they stand, for each row that may be the first; rotary tables are of all
 *
 * So nothing has to be moved, and the host sends all of it at once. Its one wait is a probe's: whether the next layers are wanted is known no earlier, and until it is, nothing
 * of them begins to cross (bench/SPEED.md, "Early exit on a device"). The shortlist's rows lie on the device as panels. */
#include "offload/device_engine.h"
#include "offload/early_exit.h"

#include <assert.h>

_Static_assert((SLI_EXIT_WAITING + 1) * SL_DEVICE_PASS_BYTES <= sizeof(sl_device_pass), "one pass's room holds those of all rows");

static uint64_t row_bytes_of(const sl_engine *e)
{
    return e->model->d * sizeof(float);
}

static const sl_gguf_tensor *head_of(const sl_engine *e)
{
    return sl_model_tensor(e->model, SL_ROLE_OUTPUT, 0);
}

/* ---- memory ---- */

uint64_t sli_device_exit_panels_bytes(const sl_engine *e)
{
    uint64_t panels = (e->early->exits.shortlist_count + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
    return panels * SL_PANEL_ROWS * sl_row_bytes(head_of(e)->type, e->model->d);
}

void sli_device_lay_exits(sl_layout *l, const sl_model *model, const sli_device_wishes *wishes, sl_device_ptr base, sli_device_memory *out)
{
    out->waiting = sli_device_room(l, base, (uint64_t)SLI_EXIT_WAITING * model->d * sizeof(float));
    out->shortlist = sli_device_room(l, base, wishes->exit_panels_bytes);
}

/* A thread's memory has room for two panels of any matrix, memory.panels for one: rows of the file come through both. */
sl_status sli_device_exit_open(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_ops *ops = d->device->ops;
    uint32_t type = head_of(e)->type, count = e->early->exits.shortlist_count;
    uint64_t row_bytes = sl_row_bytes(type, e->model->d);
    SL_TRY(ops->event_create(d->device, &d->look_begins, err));
    SL_TRY(ops->event_create(d->device, &d->look_ends, err));
    for (uint32_t at = 0; at < count; at += SL_PANEL_ROWS) {
        uint32_t n = count - at < SL_PANEL_ROWS ? count - at : SL_PANEL_ROWS;
        SL_TRY(sli_early_exit_read_rows(e, at, n, e->scratch.thread_memory, err));
        SL_TRY(ops->copy_in(d->device, SL_STREAM_COMPUTE, d->memory.panels, e->scratch.thread_memory, n * row_bytes, err));
        SL_TRY(d->device->kernels->pack(d->device, type, d->memory.panels, row_bytes, n, e->model->d, d->memory.shortlist + at * row_bytes,
                                        err));
        SL_TRY(ops->synchronize(d->device, SL_STREAM_COMPUTE, err));
    }
    return SL_OK;
}

/* ---- the parts ---- */

/* The first row that is on its way. */
static uint32_t first_row(const sli_pass *p)
{
    return p->engine->device->exit_rows.rows - p->rows;
}

static sl_status begin(const sli_pass *p, uint32_t waiting, sl_error *err)
{
    sl_engine *e = p->engine;
    sli_device *d = e->device;
    const sl_device_ops *ops = d->device->ops;
    sli_pass all = *p;
    all.rows += waiting;
    all.pos0 -= waiting;
    d->exit_rows = (sli_device_rows){.rows = all.rows, .pos0 = all.pos0, .logits_rows = 1};
    SL_TRY(sli_device_begin(e, err));
    sli_pass_turn(&all);
    for (uint32_t row = 0; row < all.rows; row++) {
        sl_device_pass *pass = (sl_device_pass *)(void *)((uint8_t *)e->scratch.device_pass + row * SL_DEVICE_PASS_BYTES);
        pass->pos0 = all.pos0 + row;
        pass->first = pass->tree = 0;
    }
    sl_device_ptr residual = d->memory.buffers[SL_BUF_RESIDUAL];
    if (waiting > 0)
        SL_TRY(ops->copy_within(d->device, SL_STREAM_COMPUTE, residual, d->memory.waiting, waiting * row_bytes_of(e), err));
    if (p->rows > 0)
        SL_TRY(ops->copy_in(d->device, SL_STREAM_COMPUTE, residual + waiting * row_bytes_of(e), e->scratch.buffers[SL_BUF_RESIDUAL],
                            p->rows * row_bytes_of(e), err));
    SL_TRY(sli_device_send_tables(e, all.rows, all.rows * SL_DEVICE_PASS_BYTES, err));
    return ops->event_record(d->device, d->inputs, SL_STREAM_COMPUTE, err);
}

static void joined(const sli_pass *p, uint32_t joining, uint32_t still_waiting)
{
    (void)joining;
    (void)still_waiting;
    assert(first_row(p) == still_waiting);
}

static void list(const sli_pass *p, sl_unit_id from, sl_unit_id to)
{
    sli_beside_choose(p->engine, p->rows > 0 ? p->rows : p->session->waiting.count);
    sli_device_list_range(p->engine, from, to);
}

static sl_status layer(const sli_pass *p, uint32_t which, sl_error *err)
{
    return p->rows > 0 ? sli_device_run_layer(p->engine, &p->engine->device->exit_rows, first_row(p), which, err) : SL_OK;
}

/* All that was given is done. */
static sl_status wait(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    sl_status status = d->device->ops->synchronize(d->device, SL_STREAM_COMPUTE, err);
    d->inputs_wanted = d->inputs_wanted && status != SL_OK;
    return status;
}

static sl_status head(const sli_pass *p, sl_error *err)
{
    SL_TRY(sli_device_run_head(p->engine, &p->engine->device->exit_rows, err));
    return wait(p->engine, err);
}

/* Logits of the shortlist, on their way to where the head's go. */
static sl_status look_at_shortlist(const sli_pass *p, sl_error *err)
{
    sl_engine *e = p->engine;
    const sl_model *m = e->model;
    const sli_device_memory *memory = &e->device->memory;
    sl_device *device = e->device->device;
    uint32_t type = head_of(e)->type, count = e->early->exits.shortlist_count, last = e->device->exit_rows.rows - 1;
    sl_device_acts x = {1, m->d, memory->buffers[SL_BUF_NORMED], memory->q, memory->d, memory->sum};
    sl_device_norm norm = {.rows = 1,
                           .cols = m->d,
                           .eps = m->norm_eps,
                           .src = memory->buffers[SL_BUF_RESIDUAL] + last * row_bytes_of(e),
                           .weight = sli_device_vector(e, m->layers * e->units.layer_ops, false),
                           .dst = x.f32,
                           .acts = sl_format_of(type)->quantized ? &x : NULL};
    sl_device_product product = {
        .type = type, .rows = count, .panels = memory->shortlist, .out = memory->buffers[SL_BUF_LOGITS], .out_stride = count};
    SL_TRY(device->kernels->rms_norm(device, &norm, err));
    SL_TRY(device->kernels->matmul(device, &product, 1, &x, err));
    return device->ops->copy_out(device, SL_STREAM_COMPUTE, e->scratch.buffers[SL_BUF_LOGITS], memory->buffers[SL_BUF_LOGITS],
                                 count * sizeof(float), err);
}

static sl_status look_at_all(const sli_pass *p, sl_error *err)
{
    list(p, p->engine->units.body_count, p->engine->units.count);
    return sli_device_run_head(p->engine, &p->engine->device->exit_rows, err);
}

static sl_status look(const sli_pass *p, sli_exit_look *out, double *seconds, sl_error *err)
{
    sl_engine *e = p->engine;
    sli_device *d = e->device;
    uint32_t count = e->early->exits.shortlist_count;
    SL_TRY(d->device->ops->event_record(d->device, d->look_begins, SL_STREAM_COMPUTE, err));
    SL_TRY(count > 0 ? look_at_shortlist(p, err) : look_at_all(p, err));
    SL_TRY(d->device->ops->event_record(d->device, d->look_ends, SL_STREAM_COMPUTE, err));
    SL_TRY(wait(e, err));
    *out = sli_exit_look_at(e->scratch.buffers[SL_BUF_LOGITS], count > 0 ? count : e->model->vocab);
    return d->device->ops->event_elapsed(d->device, d->look_begins, d->look_ends, seconds, err);
}

static sl_status keep(const sli_pass *p, uint32_t still_waiting, sl_error *err)
{
    const sl_engine *e = p->engine;
    const sli_device *d = e->device;
    uint64_t at = still_waiting * row_bytes_of(e);
    return d->device->ops->copy_within(d->device, SL_STREAM_COMPUTE, d->memory.waiting + at, d->memory.buffers[SL_BUF_RESIDUAL] + at,
                                       p->rows * row_bytes_of(e), err);
}

const sli_exit_parts *sli_exit_on_device(void)
{
    static const sli_exit_parts parts = {begin, joined, list, layer, look, head, keep, sli_device_crossing_bytes};
    return &parts;
}

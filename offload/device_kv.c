/* offload/device_kv.c: where keys and values lie when a device computes. See device_engine.h; kv_place.h says which layers' are where.
 *
 *     device   kv       layer 0 | layer 2 | ...     those that are attended to where they lie
 *              window   what a pass sees of the layer in hand
 *                 ▲ brought before attention, each line once, over the link
 *     host     kv_host  layer 1 | layer 3 | ...     page-locked; new rows are written there by the kernel that stores them, over the link
 *
 * With --kv-spill those in host memory may be in a file for the greater part: device_spill.c.
 *
 * All of it has one form (sli_device_kv_shape), so that who stores, copies or attends does not ask where it lies, and what is attended to has the same bits. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/kv_place.h"

#include <string.h>

bool sli_device_reads_host(sl_device *device)
{
    void *trial = NULL;
    sl_error ignored;
    if (device->ops->host_alloc(device, 1, &trial, &ignored) != SL_OK)
        return false;
    bool reads = device->ops->host_address(device, trial) != 0;
    device->ops->host_free(device, trial);
    return reads;
}

static sl_status open_host(sl_engine *e, uint64_t bytes, sl_device_ptr *base, sl_error *err)
{
    sli_device *d = e->device;
    char size[24];
    sl_format_size(bytes, size);
    d->kv_host_bytes = bytes;
    d->kv_host = sl_pages_alloc(bytes);
    if (d->kv_host == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no host memory for %s of keys and values (--kv-host none, or a smaller -c, takes less)", size);
    SL_TRY(sli_device_lock(d, d->kv_host, sl_pages_round(bytes), "keys and values", "--kv-host none, or a smaller -c,", err));
    *base = d->device->ops->host_address(d->device, d->kv_host);
    if (*base == 0)
        return sl_fail(err, SL_UNSUPPORTED, "%s cannot read host memory in place, where %s of keys and values lie; --kv-host none",
                       d->device->attrs.name, size);
    return SL_OK;
}

sl_status sli_device_kv_open(sl_engine *e, sl_error *err)
{
    sli_device *d = e->device;
    const sl_model *m = e->model;
    uint64_t layer_bytes = sli_device_kv_layer_bytes(m, &e->price.kv);
    uint32_t in_host = e->price.vram.kv_host_layers;
    sl_device_ptr here = d->memory.kv, there = 0;
    sli_kv_place_choose(m, in_host, d->kv_in_host);
    if (in_host > 0 && !e->price.kv.spill)
        SL_TRY(open_host(e, in_host * layer_bytes, &there, err));
    d->kv_host_at = there;
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        sl_device_ptr *next = d->kv_in_host[layer] ? &there : &here;
        d->kv_at[layer] = *next;
        *next += layer_bytes;
    }
    /* A slot that is read before it is written is finite; in host memory it is zero from the beginning. */
    if (in_host == m->layers)
        return SL_OK;
    return d->device->ops->zero(d->device, SL_STREAM_COMPUTE, d->memory.kv, (m->layers - in_host) * layer_bytes, err);
}

void sli_device_kv_close(sl_engine *e)
{
    if (e->device->kv_host != NULL)
        sl_pages_free(e->device->kv_host, e->device->kv_host_bytes);
    e->device->kv_host = NULL;
}

sl_device_kv sli_device_kv_at(const sl_engine *e, uint32_t layer)
{
    sl_device_kv kv = sli_device_kv_shape(e->model, &e->price.kv, e->device->kv_at[layer]);
    kv.in_host = e->device->kv_in_host[layer];
    return kv;
}

sl_status sli_device_kv_store(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err)
{
    if (sli_device_spills(e, layer))
        return sli_device_spill_bring(e, layer, out, err);
    *out = sli_device_kv_at(e, layer);
    return SL_OK;
}

sl_status sli_device_kv_see(sl_engine *e, const sli_device_sight *sight, sl_device_kv *out, sl_error *err)
{
    sli_device *d = e->device;
    if (sli_device_spills(e, sight->layer))
        return sli_device_spill_keep(e, sight->layer, out, err);
    *out = sli_device_kv_at(e, sight->layer);
    if (!out->in_host)
        return SL_OK;
    sl_device_kv_bring bring = {.from = *out,
                                .to = sli_device_kv_shape(e->model, &e->price.kv, d->memory.window),
                                .rows = sight->rows,
                                .kv_heads = e->model->kv_heads,
                                .window = sl_model_window(e->model, sight->layer),
                                .positions = sight->positions,
                                .pass = sight->pass};
    *out = bring.to;
    return d->device->kernels->kv_bring(d->device, &bring, err);
}

sl_status sli_device_kv_copy(sl_engine *e, uint32_t from, uint32_t to, sl_error *err)
{
    const sl_model *m = e->model;
    sli_device_pages_begin(e, to);
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        if (sli_device_spills(e, layer))
            continue;
        sl_device_kv kv = sli_device_kv_at(e, layer);
        sl_device_key_rows rows = sli_device_key_rows_of(e, layer);
        SL_TRY(e->device->device->kernels->kv_copy(e->device->device, &kv, &rows, m->kv_heads, m->head_dim, from, to, err));
    }
    return SL_OK;
}

/* ---- pages that come and go ---- */

uint64_t sli_device_pages_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    return SLI_DEVICE_PAGES * (sli_kv_page_bytes(model, shape, SLI_KV_KEYS) + sli_kv_page_bytes(model, shape, SLI_KV_VALUES));
}

sl_status sli_device_pages_open(sl_engine *e, sli_device_pages *out, sl_error *err)
{
    uint64_t bytes = sli_device_pages_bytes(e->model, &e->price.kv);
    void *memory;
    *out = (sli_device_pages){0};
    SL_TRY(e->device->device->ops->host_alloc(e->device->device, bytes, &memory, err));
    memset(memory, 0, bytes);
    out->keys = memory;
    out->values = out->keys + SLI_DEVICE_PAGES * sli_kv_page_bytes(e->model, &e->price.kv, SLI_KV_KEYS);
    return SL_OK;
}

void sli_device_pages_close(sl_engine *e, sli_device_pages *pages)
{
    if (pages->keys != NULL)
        e->device->device->ops->host_free(e->device->device, pages->keys);
    *pages = (sli_device_pages){0};
}

/* Pages of one kind: they lie one after the other on either side. */
typedef struct stretch {
    uint8_t *memory;
    uint64_t offset, bytes; /* in the layer's keys and values */
} stretch;

static stretch stretch_of(const sl_device_kv *kv, const sli_device_pages *p, bool keys)
{
    uint64_t page = keys ? kv->k_page_bytes : kv->v_page_bytes;
    return (stretch){keys ? p->keys : p->values, p->head * kv->head_stride + (keys ? 0 : kv->v_offset) + p->first * page, p->count * page};
}

static sl_status move(sl_engine *e, const sli_device_pages *p, bool get, sl_error *err)
{
    sli_device *d = e->device;
    const sl_device_ops *ops = d->device->ops;
    sl_device_kv kv = sli_device_kv_at(e, p->layer);
    SL_TRY(ops->synchronize(d->device, SL_STREAM_COMPUTE, err)); /* who stored them, and who reads them, may still be on its way */
    for (int keys = 0; keys < 2; keys++) {
        stretch s = stretch_of(&kv, p, keys == 1);
        uint8_t *in_host = kv.in_host ? d->kv_host + (kv.base - d->kv_host_at) + s.offset : NULL;
        if (in_host != NULL)
            memcpy(get ? s.memory : in_host, get ? in_host : s.memory, s.bytes);
        else if (get)
            SL_TRY(ops->copy_out(d->device, SL_STREAM_COMPUTE, s.memory, kv.base + s.offset, s.bytes, err));
        else
            SL_TRY(ops->copy_in(d->device, SL_STREAM_COMPUTE, kv.base + s.offset, s.memory, s.bytes, err));
    }
    return kv.in_host ? SL_OK : ops->synchronize(d->device, SL_STREAM_COMPUTE, err);
}

sl_status sli_device_pages_get(sl_engine *e, sli_device_pages *pages, sl_error *err)
{
    return move(e, pages, true, err);
}

sl_status sli_device_pages_put(sl_engine *e, const sli_device_pages *pages, sl_error *err)
{
    return move(e, pages, false, err);
}

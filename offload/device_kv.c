/* offload/device_kv.c: where keys and values lie when a device computes. See device_engine.h; kv_place.h says which layers' are where.
 *
 *     device   kv       layer 0 | layer 2 | ...     those that are attended to where they lie
 *              window   what a pass sees of the layer in hand
 *                 ▲ brought before attention, each line once, over the link
 *     host     kv_host  layer 1 | layer 3 | ...     page-locked; new rows are written there by the kernel that stores them, over the link
 *
 * All of it has one form (sli_device_kv_shape), so that who stores, copies or attends does not ask where it lies, and what is attended to has the same bits. */
#include "core/os.h"
#include "offload/device_engine.h"
#include "offload/kv_place.h"

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
    if (in_host > 0)
        SL_TRY(open_host(e, in_host * layer_bytes, &there, err));
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        sl_device_ptr *next = d->kv_in_host[layer] ? &there : &here;
        d->kv_at[layer] = *next;
        *next += layer_bytes;
    }
    /* A slot that is read before it is written is finite; in host memory it is zero from the beginning. */
    return d->device->ops->zero(d->device, SL_STREAM_COMPUTE, d->memory.kv, e->price.vram.kv_bytes, err);
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

sl_status sli_device_kv_see(sl_engine *e, const sli_device_sight *sight, sl_device_kv *out, sl_error *err)
{
    sli_device *d = e->device;
    *out = sli_device_kv_at(e, sight->layer);
    if (!out->in_host)
        return SL_OK;
    sl_device_kv_bring bring = {.from = *out,
                                .to = sli_device_kv_shape(e->model, &e->price.kv, d->memory.window),
                                .rows = sight->rows,
                                .kv_heads = e->model->kv_heads,
                                .window = sl_model_window(e->model, sight->layer),
                                .positions = sight->positions,
                                .pass = d->memory.pass};
    *out = bring.to;
    return d->device->kernels->kv_bring(d->device, &bring, err);
}

sl_status sli_device_kv_copy(sl_engine *e, uint32_t from, uint32_t to, sl_error *err)
{
    const sl_model *m = e->model;
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        sl_device_kv kv = sli_device_kv_at(e, layer);
        SL_TRY(e->device->device->kernels->kv_copy(e->device->device, &kv, m->kv_heads, m->head_dim, from, to, err));
    }
    return SL_OK;
}

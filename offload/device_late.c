/* offload/device_late.c: neurons of a set that neither the device nor host memory holds (--late drop). See device_engine.h.
 *
 * Late is what has yet to come from the disk, as for the processor; a crossing of the link is not late. On a device a sparse row's set is known to the device alone, so
 * nobody can ask the disk for its members: what has no place in either memory is late in every sparse row, whatever the disk's speed, and what has one never is. So the text
 * depends on the budgets, and not on the time. Dense passes read everything, as ever.
 *
 * For the kernels nothing is left out. A late neuron's address is that of a bundle of zeros, which gives zero, and that is what a neuron outside of a set gives (kernels.h, D8). How many
 * members of sets that were, the device counts. */
#include "offload/device_engine.h"

#include <string.h>

/* ---- what the device counts ---- */

sl_status sli_device_count_open(const sl_engine *e, sl_device_ptr count, sl_error *err)
{
    sl_device *device = e->device->device;
    return device->ops->zero(device, SL_STREAM_COMPUTE, count, 2 * sizeof(uint64_t), err);
}

sl_status sli_device_count_begin(const sl_engine *e, sl_device_ptr count, sl_error *err)
{
    sl_device *device = e->device->device;
    return device->ops->copy_within(device, SL_STREAM_COMPUTE, count + sizeof(uint64_t), count, sizeof(uint64_t), err);
}

/* Where the device is lost this fails, too, and nobody counts any more. */
void sli_device_count_undo(const sl_engine *e, sl_device_ptr count)
{
    sl_device *device = e->device->device;
    sl_error ignored;
    (void)(device->ops->copy_within(device, SL_STREAM_COMPUTE, count, count + sizeof(uint64_t), sizeof(uint64_t), &ignored) == SL_OK);
}

/* Through what the last pass was copied from: the stream is past that. */
static sl_status read_count(const sl_engine *e, sl_device_ptr count, uint64_t *out, sl_error *err)
{
    sl_device *device = e->device->device;
    void *locked = e->scratch.device_pass;
    SL_TRY(device->ops->copy_out(device, SL_STREAM_COMPUTE, locked, count, sizeof *out, err));
    SL_TRY(device->ops->synchronize(device, SL_STREAM_COMPUTE, err));
    memcpy(out, locked, sizeof *out);
    return SL_OK;
}

void sli_device_count_read(const sl_engine *e, sl_device_ptr count, uint64_t *known)
{
    sl_error ignored;
    uint64_t now;
    for (int tries = 0; tries < 2; tries++) /* a call may fail once; where both do the device is lost, which was said */
        if (read_count(e, count, &now, &ignored) == SL_OK) {
            *known = now;
            return;
        }
}

/* ---- what is late ---- */

bool sli_device_is_late(const sl_engine *e, sl_unit_id unit)
{
    return !e->units.in_vram[unit] && !e->units.units[unit].home;
}

static bool counts(const sl_engine *e)
{
    return e->price.late_neurons > 0;
}

bool sli_device_leaves_out(const sl_engine *e, sl_unit_id unit)
{
    const uint32_t *entry_of = e->device->entry_of; /* NULL: the engine only plans */
    return counts(e) && entry_of != NULL && sli_device_is_late(e, unit) && e->units.matrices[entry_of[unit]].bundles;
}

sl_status sli_device_late_open(sl_engine *e, sl_error *err)
{
    sl_device *device = e->device->device;
    if (!counts(e))
        return SL_OK;
    SL_TRY(device->ops->zero(device, SL_STREAM_COMPUTE, e->device->memory.nowhere, sli_device_nowhere_bytes(e->model, e->packed), err));
    return sli_device_count_open(e, e->device->memory.late, err);
}

sl_status sli_device_late_begin(sl_engine *e, const sli_device_rows *rows, sl_error *err)
{
    return rows->sparse && counts(e) ? sli_device_count_begin(e, e->device->memory.late, err) : SL_OK;
}

void sli_device_late_undo(sl_engine *e, const sli_device_rows *rows)
{
    if (rows->sparse && counts(e))
        sli_device_count_undo(e, e->device->memory.late);
}

sl_status sli_device_late_see(sl_engine *e, sl_device_ptr at, sl_device_ptr members, uint32_t count, uint32_t rows, sl_error *err)
{
    const sli_device *d = e->device;
    if (!counts(e))
        return SL_OK;
    return d->device->kernels->bundle_count(d->device, at, d->memory.nowhere, members, count, rows, d->memory.late, err);
}

uint64_t sli_device_late(const sl_engine *e)
{
    if (counts(e))
        sli_device_count_read(e, e->device->memory.late, &e->device->late);
    return e->device->late;
}

/* tests/device_memory.h: what a test of kernels puts on a device and gets from it. Static, because each test is one program. */
#ifndef SL_TESTS_DEVICE_MEMORY_H
#define SL_TESTS_DEVICE_MEMORY_H

#include "kernels/device.h"
#include "tests/kernels_material.h"

#include "tests/device_material.h" /* needs cmocka's names */

#define DEVICE_BLOCKS_MAX 4096

/* A device, and what was put on it since the last device_clear. */
typedef struct device_bed {
    sl_device *device;
    const sl_device_kernels *kernels;
    sl_device_ptr blocks[DEVICE_BLOCKS_MAX];
    size_t count;
} device_bed;

/* With the threads and blocks of kernels in the order that belongs to the number (0: ascending), where the device is emulated. */
static inline void device_reopen(device_bed *t, unsigned order)
{
    char options[64];
    assert_true(t->count == 0);
    snprintf(options, sizeof options, "memory=256M,lazy=1,order=%u", order);
    sl_device_close(t->device);
    t->device = device_with(options);
    t->kernels = t->device->kernels;
}

static inline device_bed *device_bed_open(void)
{
    device_bed *t = calloc(1, sizeof *t);
    assert_non_null(t);
    device_reopen(t, 0);
    return t;
}

/* Frees what was put there. */
static inline void device_clear(device_bed *t)
{
    while (t->count > 0)
        t->device->ops->free(t->device, t->blocks[--t->count]);
}

static inline void device_bed_close(device_bed *t)
{
    device_clear(t);
    sl_device_close(t->device);
    free(t);
}

static inline sl_device_ptr device_room(device_bed *t, size_t bytes)
{
    sl_device_ptr p = 0;
    assert_true(t->count < DEVICE_BLOCKS_MAX);
    device_ok(t->device->ops->alloc(t->device, bytes > 0 ? bytes : 1, &p, E));
    t->blocks[t->count++] = p;
    return p;
}

/* Through page-locked memory, as the contract asks (V2). */
static inline void device_write(device_bed *t, sl_device_ptr to, const void *from, size_t bytes)
{
    void *pinned = NULL;
    if (bytes == 0)
        return;
    device_ok(t->device->ops->host_alloc(t->device, bytes, &pinned, E));
    memcpy(pinned, from, bytes);
    device_ok(t->device->ops->copy_in(t->device, SL_STREAM_COMPUTE, to, pinned, bytes, E));
    device_ok(t->device->ops->synchronize(t->device, SL_STREAM_COMPUTE, E));
    t->device->ops->host_free(t->device, pinned);
}

static inline void device_read(device_bed *t, void *to, sl_device_ptr from, size_t bytes)
{
    void *pinned = NULL;
    if (bytes == 0)
        return;
    device_ok(t->device->ops->host_alloc(t->device, bytes, &pinned, E));
    device_ok(t->device->ops->copy_out(t->device, SL_STREAM_COMPUTE, pinned, from, bytes, E));
    device_ok(t->device->ops->synchronize(t->device, SL_STREAM_COMPUTE, E));
    memcpy(to, pinned, bytes);
    t->device->ops->host_free(t->device, pinned);
}

static inline sl_device_ptr device_put(device_bed *t, const void *from, size_t bytes)
{
    sl_device_ptr p = device_room(t, bytes);
    device_write(t, p, from, bytes);
    return p;
}

/* Activations as they are on the host, quantised where they have been. */
static inline sl_device_acts device_put_acts(device_bed *t, const sl_acts *x)
{
    size_t n = (size_t)x->rows * x->cols, blocks = n / SL_ACT_BLOCK;
    sl_device_acts out = {.rows = x->rows, .cols = x->cols, .f32 = device_put(t, x->f32, n * sizeof(float))};
    if (x->q != NULL) {
        out.q = device_put(t, x->q, n);
        out.d = device_put(t, x->d, blocks * sizeof(float));
        out.sum = device_put(t, x->sum, blocks * sizeof(int32_t));
    }
    return out;
}

#endif

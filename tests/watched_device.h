/* tests/watched_device.h: a device whose calls are counted, one at a time: how often the host waits for it, and what it has to say to it. */
#ifndef SL_TESTS_WATCHED_DEVICE_H
#define SL_TESTS_WATCHED_DEVICE_H

#include "kernels/device.h"

static struct watched {
    const sl_device_ops *real;
    sl_device_ops ops;
    uint32_t waits, graphs, captures, copies_in;
    /* kernels that others do the work of */
    const sl_device_kernels *real_kernels;
    sl_device_kernels kernels;
    uint32_t quantizes, adds, zeros;
} watched;

static sl_status watched_quantize(sl_device *d, const sl_device_acts *x, sl_error *err)
{
    watched.quantizes++;
    return watched.real_kernels->quantize(d, x, err);
}

static sl_status watched_add(sl_device *d, sl_device_ptr acc, sl_device_ptr x, uint64_t count, sl_error *err)
{
    watched.adds++;
    return watched.real_kernels->add(d, acc, x, count, err);
}

static sl_status watched_zero(sl_device *d, sl_stream s, sl_device_ptr to, size_t bytes, sl_error *err)
{
    watched.zeros++;
    return watched.real->zero(d, s, to, bytes, err);
}

static sl_status watched_event_wait(sl_device *d, sl_event *e, sl_error *err)
{
    watched.waits++;
    return watched.real->event_wait(d, e, err);
}

static sl_status watched_synchronize(sl_device *d, sl_stream s, sl_error *err)
{
    watched.waits++;
    return watched.real->synchronize(d, s, err);
}

static sl_status watched_graph_begin(sl_device *d, sl_error *err)
{
    watched.captures++;
    return watched.real->graph_begin(d, err);
}

static sl_status watched_graph_launch(sl_device *d, sl_graph *g, sl_error *err)
{
    watched.graphs++;
    return watched.real->graph_launch(d, g, err);
}

static sl_status watched_copy_in(sl_device *d, sl_stream s, sl_device_ptr to, const void *from, size_t bytes, sl_error *err)
{
    watched.copies_in++;
    return watched.real->copy_in(d, s, to, from, bytes, err);
}

static inline void watch(sl_device *d)
{
    watched = (struct watched){.real = d->ops, .ops = *d->ops};
    watched.ops.event_wait = watched_event_wait;
    watched.ops.synchronize = watched_synchronize;
    watched.ops.graph_begin = watched_graph_begin;
    watched.ops.graph_launch = watched_graph_launch;
    watched.ops.copy_in = watched_copy_in;
    watched.ops.zero = watched_zero;
    d->ops = &watched.ops;
    watched.real_kernels = d->kernels;
    watched.kernels = *d->kernels;
    watched.kernels.quantize = watched_quantize;
    watched.kernels.add = watched_add;
    d->kernels = &watched.kernels;
}

static inline void unwatch(sl_device *d)
{
    d->ops = watched.real;
    d->kernels = watched.real_kernels;
}

#endif

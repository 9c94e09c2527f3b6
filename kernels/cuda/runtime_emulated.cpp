/* kernels/cuda/runtime_emulated.cpp: core/device.h's vtable over the emulated device (emulated.h). */
#include "kernels/cuda/emulated.h"
#include "kernels/cuda/internal.h"
#include "kernels/cuda/ops.h"

#include <new>
#include <stdlib.h>
#include <string.h>

using namespace emulated;

struct sl_event {
    std::shared_ptr<event> is; /* work that was given for it outlives it */
};
struct sl_graph {
    std::vector<piece> pieces;
};

/* ---- what comes before every call ---- */

/* Counts it, fails it if its turn has come, and refuses what a lost device, or a capture, does not do. */
static sl_status begin_call(device *d, const char *what, bool in_capture, sl_status no_memory, sl_error *err)
{
    d->calls++;
    d->host_s += d->how.call_s;
    if (d->calls == d->how.lost && d->failure.status == SL_OK)
        sl_fail(&d->failure, SL_DEVICE_LOST, "the device has fallen off the bus");
    if (d->failure.status != SL_OK)
        return sl_fail(err, SL_DEVICE_LOST, "%s: %.400s", what, d->failure.message);
    if (d->calls == d->how.fail)
        return sl_fail(err, no_memory, "%s: out of memory (call %llu was to fail)", what, (unsigned long long)d->calls);
    if (d->capture != NULL && !in_capture)
        return sl_fail(err, SL_INVALID, "%s: not while a graph is captured (V5)", what);
    return SL_OK;
}

static sl_status begin_work(device *d, const char *what, sl_stream s, bool is_event, sl_error *err)
{
    return begin_call(d, what, !is_event || s != SL_STREAM_COMPUTE, SL_NO_DEVICE_MEMORY, err);
}

/* What failed while work was done, if anything did. */
static sl_status told(const device *d, const char *what, sl_error *err)
{
    return d->failure.status == SL_OK ? SL_OK : sl_fail(err, d->failure.status, "%s: %.400s", what, d->failure.message);
}

static void run_all(device *d)
{
    for (int s = 0; s < SL_STREAM_COUNT; s++)
        run_stream(d, (sl_stream)s);
}

/* ---- memory ---- */

static void do_close(sl_device *base)
{
    device *d = of(base);
    run_all(d);
    memory_destroy(d);
    delete d->capture;
    delete d;
}

static sl_status do_alloc(sl_device *base, uint64_t bytes, sl_device_ptr *out, sl_error *err)
{
    *out = 0;
    SL_TRY(begin_call(of(base), "alloc", false, SL_NO_DEVICE_MEMORY, err));
    return memory_take(of(base), bytes, out, err);
}

static void do_free(sl_device *base, sl_device_ptr p)
{
    if (p == 0)
        return;
    run_all(of(base));
    memory_give(of(base), p);
}

static sl_status do_free_bytes(sl_device *base, uint64_t *out, sl_error *err)
{
    SL_TRY(begin_call(of(base), "free_bytes", true, SL_NO_DEVICE_MEMORY, err));
    *out = memory_free_bytes(of(base));
    return SL_OK;
}

static sl_status do_host_alloc(sl_device *base, size_t bytes, void **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(begin_call(of(base), "host_alloc", false, SL_NO_MEMORY, err));
    return pinned_take(of(base), bytes, out, err);
}

static void do_host_free(sl_device *base, void *p)
{
    if (p == NULL)
        return;
    run_all(of(base));
    pinned_give(of(base), p, true);
}

static sl_status do_host_register(sl_device *base, void *p, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(base), "host_register", false, SL_NO_MEMORY, err));
    if (((uintptr_t)p & 4095) != 0 || bytes == 0)
        return sl_fail(err, SL_INVALID, "host_register: memory must begin at a page");
    return pinned_register(of(base), p, bytes, err);
}

static void do_host_unregister(sl_device *base, void *p)
{
    run_all(of(base));
    pinned_give(of(base), p, false);
}

static sl_device_ptr do_host_address(sl_device *base, const void *p)
{
    return of(base)->how.zero_copy && pinned_holds(of(base), p, 1) ? (sl_device_ptr)(uintptr_t)p : 0;
}

/* ---- copies ---- */

static uint8_t *at(sl_device_ptr p)
{
    return (uint8_t *)(uintptr_t)p;
}

static uint64_t spread(size_t stride, size_t bytes, size_t rows)
{
    return rows == 0 ? 0 : (rows - 1) * (uint64_t)stride + bytes;
}

static sl_status check_device(device *d, const char *what, sl_device_ptr p, uint64_t bytes, sl_error *err)
{
    if (memory_holds(d, p, bytes) || pinned_holds(d, at(p), bytes))
        return SL_OK;
    return sl_fail(err, SL_INVALID, "%s: %llu bytes at %#llx are not in one piece of the device's memory", what, (unsigned long long)bytes,
                   (unsigned long long)p);
}

static sl_status check_host(device *d, const char *what, const void *p, uint64_t bytes, sl_error *err)
{
    if (pinned_holds(d, p, bytes))
        return SL_OK;
    return sl_fail(err, SL_INVALID, "%s: %llu bytes of host memory are not page-locked (V2)", what, (unsigned long long)bytes);
}

static piece copy_of(work what, void *to, const void *from, size_t bytes, double takes_s)
{
    piece p = {};
    p.what = what;
    p.to = static_cast<uint8_t *>(to);
    p.from = static_cast<const uint8_t *>(from);
    p.bytes = p.to_stride = p.from_stride = bytes;
    p.rows = 1;
    p.takes_s = takes_s;
    return p;
}

static double over_link_s(const device *d, uint64_t bytes)
{
    return d->how.latency_s + (double)bytes / d->how.link;
}

static double within_s(const device *d, uint64_t bytes)
{
    return d->how.launch_s + (double)bytes / d->how.memory_bandwidth;
}

static sl_status do_copy_in_rows(sl_device *base, sl_stream s, sl_device_ptr to, size_t to_stride, const void *from, size_t from_stride,
                                 size_t bytes, size_t rows, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "copy_in", s, false, err));
    if (rows > 1 && (to_stride < bytes || from_stride < bytes))
        return sl_fail(err, SL_INVALID, "copy_in: rows of %zu bytes with strides of %zu and %zu", bytes, to_stride, from_stride);
    if (bytes == 0 || rows == 0)
        return SL_OK;
    SL_TRY(check_device(d, "copy_in", to, spread(to_stride, bytes, rows), err));
    SL_TRY(check_host(d, "copy_in", from, spread(from_stride, bytes, rows), err));
    piece p = copy_of(work::COPY_IN, at(to), from, bytes, over_link_s(d, (uint64_t)bytes * rows));
    p.rows = rows;
    p.to_stride = to_stride;
    p.from_stride = from_stride;
    return give(d, s, std::move(p), err);
}

static sl_status do_copy_in(sl_device *base, sl_stream s, sl_device_ptr to, const void *from, size_t bytes, sl_error *err)
{
    return do_copy_in_rows(base, s, to, bytes, from, bytes, bytes, 1, err);
}

static sl_status do_copy_out(sl_device *base, sl_stream s, void *to, sl_device_ptr from, size_t bytes, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "copy_out", s, false, err));
    if (bytes == 0)
        return SL_OK;
    SL_TRY(check_device(d, "copy_out", from, bytes, err));
    SL_TRY(check_host(d, "copy_out", to, bytes, err));
    return give(d, s, copy_of(work::COPY_OUT, to, at(from), bytes, over_link_s(d, bytes)), err);
}

static sl_status do_copy_within(sl_device *base, sl_stream s, sl_device_ptr to, sl_device_ptr from, size_t bytes, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "copy_within", s, false, err));
    if (bytes == 0)
        return SL_OK;
    SL_TRY(check_device(d, "copy_within", from, bytes, err));
    SL_TRY(check_device(d, "copy_within", to, bytes, err));
    return give(d, s, copy_of(work::COPY_WITHIN, at(to), at(from), bytes, within_s(d, 2 * (uint64_t)bytes)), err);
}

static sl_status do_zero(sl_device *base, sl_stream s, sl_device_ptr to, size_t bytes, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "zero", s, false, err));
    if (bytes == 0)
        return SL_OK;
    SL_TRY(check_device(d, "zero", to, bytes, err));
    return give(d, s, copy_of(work::ZERO, at(to), NULL, bytes, within_s(d, bytes)), err);
}

sl_status sli_emulated_enqueue(sl_device *base, sl_stream stream, sli_closure_run run, const void *closure, size_t closure_bytes,
                               sli_traffic traffic, sl_error *err)
{
    device *d = of(base);
    const size_t alignment = 16;
    SL_TRY(begin_work(d, "launch", stream, false, err));
    piece p = {};
    p.what = work::KERNEL;
    p.run = run;
    p.closure = std::shared_ptr<void>(aligned_alloc(alignment, (closure_bytes + alignment - 1) / alignment * alignment), free);
    if (p.closure == nullptr)
        return sl_fail(err, SL_NO_MEMORY, "launch: no memory for its arguments");
    memcpy(p.closure.get(), closure, closure_bytes);
    p.takes_s = within_s(d, traffic.memory_bytes);
    p.link_s = (double)traffic.link_bytes / d->how.link;
    return give(d, stream, std::move(p), err);
}

/* ---- events ---- */

static sl_status do_event_create(sl_device *base, sl_event **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(begin_call(of(base), "event_create", true, SL_NO_DEVICE_MEMORY, err));
    *out = new sl_event{std::make_shared<event>()};
    return SL_OK;
}

static void do_event_destroy(sl_device *base, sl_event *e)
{
    (void)base;
    delete e;
}

static sl_status do_event_record(sl_device *base, sl_event *e, sl_stream s, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "event_record", s, true, err));
    piece p = {};
    p.what = work::RECORD;
    p.on = e->is;
    p.ticket = e->is->recorded = ++d->tickets;
    e->is->stream = s;
    return give(d, s, std::move(p), err);
}

static sl_status do_stream_wait(sl_device *base, sl_stream s, sl_event *e, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_work(d, "stream_wait", s, true, err));
    if (e->is->recorded == 0)
        return SL_OK;
    piece p = {};
    p.what = work::WAIT;
    p.on = e->is;
    p.ticket = e->is->recorded;
    p.ticket_stream = e->is->stream;
    return give(d, s, std::move(p), err);
}

static sl_status do_event_done(sl_device *base, sl_event *e, bool *out, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_call(d, "event_done", true, SL_NO_DEVICE_MEMORY, err));
    const double poll_s = 1e-6; /* who asks again and again sees time pass */
    d->host_s += poll_s;
    run_some(d);
    if (d->how.lazy && d->host_s >= e->is->at_s)
        run_event(d, e->is.get());
    *out = e->is->done >= e->is->recorded && d->host_s >= e->is->at_s;
    return told(d, "event_done", err);
}

static sl_status do_event_wait(sl_device *base, sl_event *e, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_call(d, "event_wait", false, SL_NO_DEVICE_MEMORY, err));
    run_event(d, e->is.get());
    d->host_s = d->host_s > e->is->at_s ? d->host_s : e->is->at_s;
    return told(d, "event_wait", err);
}

static sl_status do_synchronize(sl_device *base, sl_stream s, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_call(d, "synchronize", false, SL_NO_DEVICE_MEMORY, err));
    run_stream(d, s);
    d->host_s = d->host_s > d->stream[s].free_s ? d->host_s : d->stream[s].free_s;
    return told(d, "synchronize", err);
}

static sl_status do_event_elapsed(sl_device *base, sl_event *from, sl_event *to, double *seconds, sl_error *err)
{
    SL_TRY(begin_call(of(base), "event_elapsed", true, SL_NO_DEVICE_MEMORY, err));
    for (const sl_event *e : {from, to})
        if (e->is->recorded == 0 || e->is->done < e->is->recorded)
            return sl_fail(err, SL_INVALID, "event_elapsed: an event is not done");
    *seconds = to->is->at_s - from->is->at_s;
    return SL_OK;
}

/* ---- graphs ---- */

static sl_status do_graph_begin(sl_device *base, sl_error *err)
{
    device *d = of(base);
    SL_TRY(begin_call(d, "graph_begin", false, SL_NO_DEVICE_MEMORY, err));
    if (!d->how.graphs)
        return sl_fail(err, SL_UNSUPPORTED, "graph_begin: this device captures no graphs");
    d->capture = new std::vector<piece>();
    return SL_OK;
}

static sl_status do_graph_end(sl_device *base, sl_graph **out, sl_error *err)
{
    device *d = of(base);
    *out = NULL;
    std::unique_ptr<std::vector<piece>> captured(d->capture);
    d->capture = NULL;
    SL_TRY(begin_call(d, "graph_end", true, SL_NO_DEVICE_MEMORY, err));
    if (captured == nullptr)
        return sl_fail(err, SL_INVALID, "graph_end: no graph is captured");
    *out = new sl_graph{std::move(*captured)};
    return SL_OK;
}

/* One launch is paid for; the graph's kernels then follow each other closely. */
static sl_status do_graph_launch(sl_device *base, sl_graph *g, sl_error *err)
{
    device *d = of(base);
    const double kernel_s = 1e-6;
    SL_TRY(begin_call(d, "graph_launch", false, SL_NO_DEVICE_MEMORY, err));
    for (const piece &captured : g->pieces) {
        piece p = captured;
        bool first = &captured == &g->pieces.front();
        if (!first && p.what == work::KERNEL && d->how.launch_s > kernel_s)
            p.takes_s -= d->how.launch_s - kernel_s;
        SL_TRY(give(d, SL_STREAM_COMPUTE, std::move(p), err));
    }
    return SL_OK;
}

static void do_graph_destroy(sl_device *base, sl_graph *g)
{
    (void)base;
    delete g;
}

/* ---- the plug-in ---- */

static const sl_device_ops emulated_ops = SLI_DEVICE_OPS;

static uint32_t count_devices(char *why, size_t why_bytes)
{
    if (why_bytes > 0)
        why[0] = '\0';
    return 1;
}

static sl_status open_device(uint32_t index, const char *text, sl_device **out, sl_error *err)
{
    *out = NULL;
    std::unique_ptr<device> d(new (std::nothrow) device());
    if (d == nullptr)
        return sl_fail(err, SL_NO_MEMORY, "no memory for an emulated device");
    SL_TRY(parse(text, &d->how, err));
    SL_TRY(memory_create(d.get(), err));
    d->lot = d->how.seed;
    sli_emulated_order(d->how.order);
    d->base.ops = &emulated_ops;
    d->base.kernels = &sli_device_kernels;
    d->base.attrs = {.name = "emulated device",
                     .backend = "emulated",
                     .index = index,
                     .arch = 75,
                     .driver = 0,
                     .processors = 24,
                     .total_bytes = d->how.memory,
                     .free_bytes = d->how.memory,
                     .numa_node = -1,
                     .graphs = d->how.graphs,
                     .timing_only = d->how.timing_only,
                     .pci = ""};
    *out = &d.release()->base;
    return SL_OK;
}

extern "C" __attribute__((visibility("default"))) const sl_device_plugin *sl_device_plugin_entry(void) __asm__(SL_DEVICE_ENTRY);
extern "C" const sl_device_plugin *sl_device_plugin_entry(void)
{
    static const sl_device_plugin plugin = {SL_DEVICE_VERSION, "emulated", count_devices, open_device};
    return &plugin;
}

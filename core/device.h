/* core/device.h: an accelerator as a place: memory, two streams, events and copies. What it can compute is kernels/device.h.
 *
 * A device is reached through this vtable alone, and everything that knows its maker's library lies behind it, in a plug-in that is loaded when the
 * machine has one (kernels/cuda). A second plug-in emulates one on the processor, with copies that take simulated time and calls that can be made
 * to fail, so that all that stands on this is tested without a GPU.
 *
 * Contract
 *  V1  Work on one stream runs in the order in which it was given. Work on different streams is ordered by events alone.
 *  V2  copy_in and copy_out return before the copy is done. Their host memory must have come from host_alloc or host_register, and may not be
 *      changed (copy_in) or read (copy_out) before an event that was recorded after the copy is done.
 *  V3  A call that fails has done nothing, but for streams' work that fails later: that is reported by the next event_wait, event_done or
 *      synchronize, and from then on by every call (SL_DEVICE_LOST is sticky: close the device).
 *  V4  Running out of memory is SL_NO_DEVICE_MEMORY (alloc) or SL_NO_MEMORY (host_alloc, host_register), and leaves the device usable.
 *  V5  While a graph is captured, work of the compute stream goes into it and is not run. Alloc, free, host calls, event_wait, synchronize, and events
 *      that the compute stream records or waits for, are not allowed then (SL_INVALID, and the capture goes on); the copy stream works as ever.
 *
 * Threads: one owner calls everything. */
#ifndef SL_CORE_DEVICE_H
#define SL_CORE_DEVICE_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

/* An address in the device's memory; 0: none. Host memory that the device may read in place has one, too (host_address). */
typedef uint64_t sl_device_ptr;

typedef enum sl_stream { SL_STREAM_COMPUTE, SL_STREAM_COPY, SL_STREAM_COUNT } sl_stream;

typedef struct sl_device sl_device;
typedef struct sl_event sl_event;
typedef struct sl_graph sl_graph;

typedef struct sl_device_attrs {
    char name[64];        /* "NVIDIA GeForce RTX 4060 Laptop GPU" */
    char backend[16];     /* "cuda", "emulated" */
    uint32_t index;       /* among the backend's */
    uint32_t arch;        /* compute capability, 89 for 8.9; 0: not known */
    uint32_t driver;      /* 13000 for 13.0 */
    uint32_t processors;  /* multiprocessors */
    uint64_t total_bytes; /* of its memory */
    uint64_t free_bytes;  /* when it was opened */
    int numa_node;        /* that it hangs on; -1: not known */
    bool graphs;          /* capture works */
    bool timing_only;     /* an emulated device for benchmarks: work takes its time and does nothing */
    char pci[16];         /* "0000:01:00.0"; "": none */
} sl_device_attrs;

typedef struct sl_device_ops {
    void (*close)(sl_device *d); /* waits for its streams */

    sl_status (*alloc)(sl_device *d, uint64_t bytes, sl_device_ptr *out, sl_error *err); /* 256-byte aligned, not zeroed */
    void (*free)(sl_device *d, sl_device_ptr p);                                         /* 0 is fine; waits for the streams */
    sl_status (*free_bytes)(sl_device *d, uint64_t *out, sl_error *err);                 /* now */

    /* Page-locked host memory: to be had, or made of memory that is there (page-aligned). */
    sl_status (*host_alloc)(sl_device *d, size_t bytes, void **out, sl_error *err);
    void (*host_free)(sl_device *d, void *p);
    sl_status (*host_register)(sl_device *d, void *p, size_t bytes, sl_error *err);
    void (*host_unregister)(sl_device *d, void *p);
    sl_device_ptr (*host_address)(sl_device *d, const void *p); /* where the device reads such memory in place, or 0: it cannot */

    sl_status (*copy_in)(sl_device *d, sl_stream s, sl_device_ptr to, const void *from, size_t bytes, sl_error *err);
    sl_status (*copy_out)(sl_device *d, sl_stream s, void *to, sl_device_ptr from, size_t bytes, sl_error *err);
    /* `rows` rows of `bytes` each, whose beginnings lie a stride apart on either side. */
    sl_status (*copy_in_rows)(sl_device *d, sl_stream s, sl_device_ptr to, size_t to_stride, const void *from, size_t from_stride,
                              size_t bytes, size_t rows, sl_error *err);
    sl_status (*copy_within)(sl_device *d, sl_stream s, sl_device_ptr to, sl_device_ptr from, size_t bytes, sl_error *err);
    sl_status (*zero)(sl_device *d, sl_stream s, sl_device_ptr to, size_t bytes, sl_error *err);

    sl_status (*event_create)(sl_device *d, sl_event **out, sl_error *err);
    void (*event_destroy)(sl_device *d, sl_event *e);                                 /* NULL is fine */
    sl_status (*event_record)(sl_device *d, sl_event *e, sl_stream s, sl_error *err); /* again: the later one counts */
    sl_status (*stream_wait)(sl_device *d, sl_stream s, sl_event *e, sl_error *err);  /* later work of s; never recorded: no wait */
    sl_status (*event_done)(sl_device *d, sl_event *e, bool *out, sl_error *err);     /* never waits */
    sl_status (*event_wait)(sl_device *d, sl_event *e, sl_error *err);                /* the host waits */
    sl_status (*synchronize)(sl_device *d, sl_stream s, sl_error *err);
    sl_status (*event_elapsed)(sl_device *d, sl_event *from, sl_event *to, double *seconds, sl_error *err); /* both are done */

    /* Work given to the compute stream between begin and end is kept, to be run any number of times by one call. */
    sl_status (*graph_begin)(sl_device *d, sl_error *err);
    sl_status (*graph_end)(sl_device *d, sl_graph **out, sl_error *err);
    sl_status (*graph_launch)(sl_device *d, sl_graph *g, sl_error *err);
    void (*graph_destroy)(sl_device *d, sl_graph *g); /* NULL is fine */
} sl_device_ops;

struct sl_device { /* every device begins with this */
    const sl_device_ops *ops;
    const struct sl_device_kernels *kernels; /* kernels/device.h */
    sl_device_attrs attrs;
};

/* ---- plug-ins ---- */

/* What a plug-in exports, as a function named SL_DEVICE_ENTRY. `version` is SL_DEVICE_VERSION of the header that it was built with. */
#define SL_DEVICE_VERSION 5u
#define SL_DEVICE_ENTRY   "sl_device_plugin"
typedef struct sl_device_plugin {
    uint32_t version;
    const char *backend;
    /* How many devices there are; 0 with a reason in `why` ("there is no driver (libcuda.so.1)", "the driver is of CUDA 11.4; 13.0 is needed"). */
    uint32_t (*count)(char *why, size_t why_bytes);
    /* `options` are the plug-in's own, "": none. Those it does not know are SL_INVALID. */
    sl_status (*open)(uint32_t index, const char *options, sl_device **out, sl_error *err);
} sl_device_plugin;
typedef const sl_device_plugin *(*sl_device_entry)(void);

/* Finds and opens a device. `wanted`: "auto" (the CUDA device with the most free memory, or none), "none", "cuda", "cuda:1", "emulated",
 * "emulated:memory=4G,seed=3" (kernels/cuda/emulated.h has the options), or a plug-in's path, with a slash in it, in place of the backend's name.
 * *out is NULL with "none", and with "auto" where there is none: `why` then says why, for people. A device that was asked for by name and is not there
 * is an error (SL_UNSUPPORTED). Plug-ins are looked for beside the program, in ../lib, .. and build from there, beside the library, and where the
 * system looks. */
SL_MUST_USE sl_status sl_device_open(const char *wanted, sl_device **out, char *why, size_t why_bytes, sl_error *err);
void sl_device_close(sl_device *device); /* NULL is fine */

#endif

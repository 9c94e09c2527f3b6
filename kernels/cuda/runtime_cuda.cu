/* kernels/cuda/runtime_cuda.cu: core/device.h's vtable over the CUDA runtime, which is linked statically. So the plug-in loads where there is no driver,
 * and says so when asked how many devices there are.
 *
 * Which failures are of the device: running out of memory and wrong arguments leave it usable; all else that CUDA reports (an illegal address, a failed launch, a device
 * that is gone) stays with the context until it is destroyed, so it is SL_DEVICE_LOST, kept here, and told by every call from then on. */
#include "kernels/cuda/contract.h"
#include "kernels/cuda/internal.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct sl_event {
    cudaEvent_t is;
    bool recorded;
};
struct sl_graph {
    cudaGraphExec_t is;
};

struct cuda_device {
    sl_device base; /* first */
    cudaStream_t stream[SL_STREAM_COUNT];
    bool capturing;
    sl_error lost; /* with a status: what all calls say */
};

static cuda_device *of(sl_device *d)
{
    return reinterpret_cast<cuda_device *>(d);
}

/* CUDA's calls act on the thread's current device, and another may have been opened, or another thread be the owner, since. */
static void make_current(const cuda_device *d)
{
    (void)cudaSetDevice((int)d->base.attrs.index);
}

cudaStream_t sli_cuda_stream(sl_device *dev, sl_stream stream)
{
    make_current(of(dev));
    return of(dev)->stream[stream];
}

/* ---- failures ---- */

static bool out_of_memory(cudaError_t result)
{
    return result == cudaErrorMemoryAllocation;
}

/* The code that lies in the plug-in does not run here: not on this device, or not with this driver. */
static bool no_code(cudaError_t result)
{
    switch (result) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled: return true;
    default: return false;
    }
}

/* Wrong arguments: ours to fix, the context is unharmed. */
static bool refused(cudaError_t result)
{
    switch (result) {
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidPitchValue:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorHostMemoryAlreadyRegistered:
    case cudaErrorHostMemoryNotRegistered:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorGraphExecUpdateFailure: return true;
    default: return false;
    }
}

static sl_status told(const cuda_device *d, const char *what, sl_error *err)
{
    return sl_fail(err, SL_DEVICE_LOST, "%s: %.400s", what, d->lost.message);
}

sl_status sli_cuda_check(sl_device *dev, cudaError_t result, const char *what, sl_error *err)
{
    cuda_device *d = of(dev);
    if (d->lost.status != SL_OK)
        return told(d, what, err);
    if (result == cudaSuccess)
        return SL_OK;
    (void)cudaGetLastError(); /* else the next launch would report it once more */
    if (out_of_memory(result))
        return sl_fail(err, SL_NO_DEVICE_MEMORY, "%s: %s (%s)", what, cudaGetErrorString(result), d->base.attrs.name);
    if (result == cudaErrorNotSupported)
        return sl_fail(err, SL_UNSUPPORTED, "%s: %s (%s)", what, cudaGetErrorString(result), d->base.attrs.name);
    if (no_code(result))
        return sl_fail(err, SL_UNSUPPORTED, "%s: the plug-in has no code for compute capability %u.%u of %s (%s); make CUDA_ARCH=sm_%u",
                       what, d->base.attrs.arch / 10, d->base.attrs.arch % 10, d->base.attrs.name, cudaGetErrorName(result),
                       d->base.attrs.arch);
    if (refused(result))
        return sl_fail(err, SL_INVALID, "%s: %s (%s)", what, cudaGetErrorString(result), cudaGetErrorName(result));
    sl_fail(&d->lost, SL_DEVICE_LOST, "%s failed: %s (%s)", d->base.attrs.name, cudaGetErrorString(result), cudaGetErrorName(result));
    return told(d, what, err);
}

/* What comes before every call: a lost device is asked nothing, and a capture is not broken by what may not be in it (V5). */
static sl_status begin_call(cuda_device *d, const char *what, bool in_capture, sl_error *err)
{
    if (d->lost.status != SL_OK)
        return told(d, what, err);
    if (d->capturing && !in_capture)
        return sl_fail(err, SL_INVALID, "%s: not while a graph is captured (V5)", what);
    make_current(d);
    return SL_OK;
}

static sl_status begin_event(cuda_device *d, const char *what, sl_stream s, sl_error *err)
{
    return begin_call(d, what, s != SL_STREAM_COMPUTE, err);
}

/* Page-locking fails for the host's reasons. */
static sl_status check_host(cuda_device *d, cudaError_t result, const char *what, size_t bytes, sl_error *err)
{
    if (!out_of_memory(result))
        return sli_cuda_check(&d->base, result, what, err);
    (void)cudaGetLastError();
    return sl_fail(err, SL_NO_MEMORY, "%s: %zu bytes of memory cannot be page-locked", what, bytes);
}

/* ---- memory ---- */

static sl_status do_alloc(sl_device *dev, uint64_t bytes, sl_device_ptr *out, sl_error *err)
{
    void *p = NULL;
    *out = 0;
    SL_TRY(begin_call(of(dev), "cudaMalloc", false, err));
    if (bytes == 0)
        return sl_fail(err, SL_NO_DEVICE_MEMORY, "cudaMalloc: 0 bytes");
    SL_TRY(sli_cuda_check(dev, cudaMalloc(&p, bytes), "cudaMalloc", err));
    *out = (sl_device_ptr)(uintptr_t)p;
    return SL_OK;
}

static void do_free(sl_device *dev, sl_device_ptr p)
{
    make_current(of(dev));
    if (p != 0)
        (void)sli_cuda_check(dev, cudaFree((void *)(uintptr_t)p), "cudaFree", NULL);
}

static sl_status do_free_bytes(sl_device *dev, uint64_t *out, sl_error *err)
{
    size_t free_now = 0, total = 0;
    SL_TRY(begin_call(of(dev), "cudaMemGetInfo", true, err));
    SL_TRY(sli_cuda_check(dev, cudaMemGetInfo(&free_now, &total), "cudaMemGetInfo", err));
    *out = free_now;
    return SL_OK;
}

static sl_status do_host_alloc(sl_device *dev, size_t bytes, void **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(begin_call(of(dev), "cudaHostAlloc", false, err));
    return check_host(of(dev), cudaHostAlloc(out, bytes, cudaHostAllocMapped), "cudaHostAlloc", bytes, err);
}

static void do_host_free(sl_device *dev, void *p)
{
    make_current(of(dev));
    if (p != NULL)
        (void)sli_cuda_check(dev, cudaFreeHost(p), "cudaFreeHost", NULL);
}

static sl_status do_host_register(sl_device *dev, void *p, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "cudaHostRegister", false, err));
    if (((uintptr_t)p & 4095) != 0 || bytes == 0)
        return sl_fail(err, SL_INVALID, "cudaHostRegister: memory must begin at a page");
    return check_host(of(dev), cudaHostRegister(p, bytes, cudaHostRegisterMapped), "cudaHostRegister", bytes, err);
}

static void do_host_unregister(sl_device *dev, void *p)
{
    make_current(of(dev));
    (void)sli_cuda_check(dev, cudaHostUnregister(p), "cudaHostUnregister", NULL);
}

static sl_device_ptr do_host_address(sl_device *dev, const void *p)
{
    void *address = NULL;
    if (of(dev)->lost.status != SL_OK || cudaHostGetDevicePointer(&address, (void *)p, 0) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return (sl_device_ptr)(uintptr_t)address;
}

/* ---- copies ---- */

static sl_status do_copy_in(sl_device *dev, sl_stream s, sl_device_ptr to, const void *from, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "copy_in", true, err));
    cudaError_t result = cudaMemcpyAsync((void *)(uintptr_t)to, from, bytes, cudaMemcpyHostToDevice, of(dev)->stream[s]);
    return sli_cuda_check(dev, result, "copy_in", err);
}

static sl_status do_copy_out(sl_device *dev, sl_stream s, void *to, sl_device_ptr from, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "copy_out", true, err));
    cudaError_t result = cudaMemcpyAsync(to, (const void *)(uintptr_t)from, bytes, cudaMemcpyDeviceToHost, of(dev)->stream[s]);
    return sli_cuda_check(dev, result, "copy_out", err);
}

static sl_status do_copy_in_rows(sl_device *dev, sl_stream s, sl_device_ptr to, size_t to_stride, const void *from, size_t from_stride,
                                 size_t bytes, size_t rows, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "copy_in", true, err));
    if (rows > 1 && (to_stride < bytes || from_stride < bytes))
        return sl_fail(err, SL_INVALID, "copy_in: rows of %zu bytes with strides of %zu and %zu", bytes, to_stride, from_stride);
    if (bytes == 0 || rows == 0)
        return SL_OK;
    cudaError_t result = cudaMemcpy2DAsync((void *)(uintptr_t)to, rows > 1 ? to_stride : bytes, from, rows > 1 ? from_stride : bytes, bytes,
                                           rows, cudaMemcpyHostToDevice, of(dev)->stream[s]);
    return sli_cuda_check(dev, result, "copy_in", err);
}

static sl_status do_copy_within(sl_device *dev, sl_stream s, sl_device_ptr to, sl_device_ptr from, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "copy_within", true, err));
    /* Default: an address may also be one of host memory (host_address). */
    cudaError_t result = cudaMemcpyAsync((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, cudaMemcpyDefault,
                                         of(dev)->stream[s]);
    return sli_cuda_check(dev, result, "copy_within", err);
}

static sl_status do_zero(sl_device *dev, sl_stream s, sl_device_ptr to, size_t bytes, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "zero", true, err));
    return sli_cuda_check(dev, cudaMemsetAsync((void *)(uintptr_t)to, 0, bytes, of(dev)->stream[s]), "zero", err);
}

/* ---- events ---- */

static sl_status do_event_create(sl_device *dev, sl_event **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(begin_call(of(dev), "cudaEventCreate", true, err));
    sl_event *e = (sl_event *)calloc(1, sizeof *e);
    if (e == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for an event");
    sl_status status = sli_cuda_check(dev, cudaEventCreate(&e->is), "cudaEventCreate", err);
    if (status != SL_OK)
        free(e);
    else
        *out = e;
    return status;
}

static void do_event_destroy(sl_device *dev, sl_event *e)
{
    make_current(of(dev));
    if (e != NULL)
        (void)sli_cuda_check(dev, cudaEventDestroy(e->is), "cudaEventDestroy", NULL);
    free(e);
}

static sl_status do_event_record(sl_device *dev, sl_event *e, sl_stream s, sl_error *err)
{
    SL_TRY(begin_event(of(dev), "event_record", s, err));
    SL_TRY(sli_cuda_check(dev, cudaEventRecord(e->is, of(dev)->stream[s]), "event_record", err));
    e->recorded = true;
    return SL_OK;
}

static sl_status do_stream_wait(sl_device *dev, sl_stream s, sl_event *e, sl_error *err)
{
    SL_TRY(begin_event(of(dev), "stream_wait", s, err));
    if (!e->recorded)
        return SL_OK;
    return sli_cuda_check(dev, cudaStreamWaitEvent(of(dev)->stream[s], e->is, 0), "stream_wait", err);
}

static sl_status do_event_done(sl_device *dev, sl_event *e, bool *out, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "event_done", true, err));
    cudaError_t result = cudaEventQuery(e->is);
    *out = result == cudaSuccess;
    return sli_cuda_check(dev, result == cudaErrorNotReady ? cudaSuccess : result, "event_done", err);
}

static sl_status do_event_wait(sl_device *dev, sl_event *e, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "event_wait", false, err));
    return sli_cuda_check(dev, cudaEventSynchronize(e->is), "event_wait", err);
}

static sl_status do_synchronize(sl_device *dev, sl_stream s, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "synchronize", false, err));
    return sli_cuda_check(dev, cudaStreamSynchronize(of(dev)->stream[s]), "synchronize", err);
}

static sl_status do_event_elapsed(sl_device *dev, sl_event *from, sl_event *to, double *seconds, sl_error *err)
{
    float ms = 0;
    SL_TRY(begin_call(of(dev), "event_elapsed", true, err));
    cudaError_t result = from->recorded && to->recorded ? cudaEventElapsedTime(&ms, from->is, to->is) : cudaErrorNotReady;
    if (result == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return sl_fail(err, SL_INVALID, "event_elapsed: an event is not done");
    }
    SL_TRY(sli_cuda_check(dev, result, "event_elapsed", err));
    *seconds = (double)ms * 1e-3;
    return SL_OK;
}

/* ---- graphs ---- */

static sl_status do_graph_begin(sl_device *dev, sl_error *err)
{
    cuda_device *d = of(dev);
    SL_TRY(begin_call(d, "graph_begin", false, err));
    /* Relaxed: events of the copy stream may be asked for, and streamed copies given, while a pass is captured. */
    cudaError_t result = cudaStreamBeginCapture(d->stream[SL_STREAM_COMPUTE], cudaStreamCaptureModeRelaxed);
    SL_TRY(sli_cuda_check(dev, result, "graph_begin", err));
    d->capturing = true;
    return SL_OK;
}

static sl_status do_graph_end(sl_device *dev, sl_graph **out, sl_error *err)
{
    cuda_device *d = of(dev);
    cudaGraph_t captured = NULL;
    *out = NULL;
    SL_TRY(begin_call(d, "graph_end", true, err));
    if (!d->capturing)
        return sl_fail(err, SL_INVALID, "graph_end: no graph is captured");
    d->capturing = false; /* also where the end fails: CUDA has none any more then */
    cudaError_t result = cudaStreamEndCapture(d->stream[SL_STREAM_COMPUTE], &captured);
    SL_TRY(sli_cuda_check(dev, result, "graph_end", err));
    sl_graph *g = (sl_graph *)calloc(1, sizeof *g);
    sl_status status = g == NULL ? sl_fail(err, SL_NO_MEMORY, "no memory for a graph")
                                 : sli_cuda_check(dev, cudaGraphInstantiate(&g->is, captured, 0), "graph_end", err);
    (void)cudaGraphDestroy(captured);
    if (status != SL_OK)
        free(g);
    else
        *out = g;
    return status;
}

static sl_status do_graph_launch(sl_device *dev, sl_graph *g, sl_error *err)
{
    SL_TRY(begin_call(of(dev), "graph_launch", false, err));
    return sli_cuda_check(dev, cudaGraphLaunch(g->is, of(dev)->stream[SL_STREAM_COMPUTE]), "graph_launch", err);
}

static void do_graph_destroy(sl_device *dev, sl_graph *g)
{
    make_current(of(dev));
    if (g != NULL)
        (void)sli_cuda_check(dev, cudaGraphExecDestroy(g->is), "graph_destroy", NULL);
    free(g);
}

/* ---- the plug-in ---- */

static void do_close(sl_device *dev)
{
    cuda_device *d = of(dev);
    make_current(d);
    for (cudaStream_t s : d->stream)
        if (s != NULL) {
            (void)cudaStreamSynchronize(s);
            (void)cudaStreamDestroy(s);
        }
    /* A failed context is of no use to the next who opens the device; and nobody else in the process has anything in it. */
    if (d->lost.status != SL_OK)
        (void)cudaDeviceReset();
    (void)cudaGetLastError();
    free(d);
}

static const sl_device_ops cuda_ops = SLI_DEVICE_OPS;

static void version(int number, char out[16])
{
    snprintf(out, 16, "%d.%d", number / 1000, number % 1000 / 10);
}

static uint32_t count_devices(char *why, size_t why_bytes)
{
    int count = 0, driver = 0;
    char has[16], needs[16];
    cudaError_t result = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (result == cudaSuccess && count > 0)
        return (uint32_t)count;
    bool known = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    version(driver, has);
    version(CUDART_VERSION, needs);
    if (result == cudaErrorInsufficientDriver && !known)
        snprintf(why, why_bytes, "there is no NVIDIA driver (libcuda.so.1)");
    else if (result == cudaErrorInsufficientDriver)
        snprintf(why, why_bytes, "the NVIDIA driver is too old: it is of CUDA %s, %s is needed", has, needs);
    else if (result == cudaSuccess || result == cudaErrorNoDevice)
        snprintf(why, why_bytes, "the NVIDIA driver has no device (CUDA_VISIBLE_DEVICES, or none in this machine or container)");
    else
        snprintf(why, why_bytes, "the NVIDIA driver does not work: %s (%s)", cudaGetErrorString(result), cudaGetErrorName(result));
    return 0;
}

/* The NUMA node of a PCI device, as the kernel says it; -1: it has none, or it is not known. */
static int numa_node_of(const char *pci)
{
    char path[64], text[16] = "";
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", pci);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return read ? (int)strtol(text, NULL, 10) : -1;
}

static sl_status describe(cuda_device *d, int index, sl_error *err)
{
    cudaDeviceProp properties;
    int driver = 0;
    size_t free_now = 0, total = 0;
    sl_device_attrs *a = &d->base.attrs;
    snprintf(a->name, sizeof a->name, "CUDA device %d", index); /* until it says its own */
    SL_TRY(sli_cuda_check(&d->base, cudaSetDevice(index), "cudaSetDevice", err));
    SL_TRY(sli_cuda_check(&d->base, cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties", err));
    snprintf(a->name, sizeof a->name, "%.63s", properties.name);
    SL_TRY(sli_cuda_check(&d->base, cudaDriverGetVersion(&driver), "cudaDriverGetVersion", err));
    SL_TRY(sli_cuda_check(&d->base, cudaMemGetInfo(&free_now, &total), "cudaMemGetInfo", err));
    snprintf(a->backend, sizeof a->backend, "cuda");
    a->arch = (uint32_t)(properties.major * 10 + properties.minor);
    a->driver = (uint32_t)driver;
    a->processors = (uint32_t)properties.multiProcessorCount;
    a->total_bytes = total;
    a->free_bytes = free_now;
    a->graphs = true;
    snprintf(a->pci, sizeof a->pci, "%04x:%02x:%02x.0", (unsigned)properties.pciDomainID & 0xffff, (unsigned)properties.pciBusID & 0xff,
             (unsigned)properties.pciDeviceID & 0xff);
    a->numa_node = numa_node_of(a->pci);
    return SL_OK;
}

static sl_status make_streams(cuda_device *d, sl_error *err)
{
    for (cudaStream_t &s : d->stream)
        SL_TRY(sli_cuda_check(&d->base, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreate", err));
    return SL_OK;
}

static sl_status open_device(uint32_t index, const char *options, sl_device **out, sl_error *err)
{
    *out = NULL;
    if (options[0] != '\0')
        return sl_fail(err, SL_INVALID, "'%.200s': a CUDA device has no options; cuda or cuda:1 is one", options);
    cuda_device *d = (cuda_device *)calloc(1, sizeof *d);
    if (d == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a device");
    d->base.ops = &cuda_ops;
    d->base.kernels = &sli_device_kernels;
    d->base.attrs.index = index;
    sl_status status = describe(d, (int)index, err);
    if (status == SL_OK)
        status = make_streams(d, err);
    if (status != SL_OK)
        do_close(&d->base);
    else
        *out = &d->base;
    return status;
}

extern "C" __attribute__((visibility("default"))) const sl_device_plugin *sl_device_plugin_entry(void) __asm__(SL_DEVICE_ENTRY);
extern "C" const sl_device_plugin *sl_device_plugin_entry(void)
{
    static const sl_device_plugin plugin = {SL_DEVICE_VERSION, "cuda", count_devices, open_device};
    return &plugin;
}

/* kernels/cuda/stream.h: how a launch reaches a device's stream.
 *
 * There are two builds of the plug-in. The real one hands a kernel to CUDA; the emulated one (SL_EMULATED is defined) has no launch: the kernel and its
 * arguments become a closure that the emulated stream runs when it gets there. Both are behind sli_launch (launch.h); runtime_cuda.cu
 * and runtime_emulated.cpp define what is declared here.
 *
 * Threads: the device's owner. */
#ifndef SL_KERNELS_CUDA_STREAM_H
#define SL_KERNELS_CUDA_STREAM_H

#include "kernels/cuda/contract.h"

/* What a kernel moves: to and from the device's memory, and, where it reads host memory in place, over the link. */
struct sli_traffic {
    uint64_t memory_bytes, link_bytes;
    sli_traffic(uint64_t memory, uint64_t link = 0) : memory_bytes(memory), link_bytes(link) {}
};

#ifdef SL_EMULATED

#define SLI_CLOSURE_BYTES_MAX 4608 /* CUDA's limit of a kernel's arguments is 4 KiB */

/* Runs a closure to its end; a fault that the emulator finds (threads that do not meet at a barrier) is SL_INTERNAL. */
typedef sl_status (*sli_closure_run)(const void *closure, sl_error *err);

/* Gives a closure to a stream, or, of the compute stream, to the graph that is being captured. Its bytes are copied (16-byte aligned when run); `traffic`
 * says how long it takes in simulated time. */
sl_status sli_emulated_enqueue(sl_device *dev, sl_stream stream, sli_closure_run run, const void *closure, size_t closure_bytes,
                               sli_traffic traffic, sl_error *err);

/* Kernels' threads and blocks run in another order for each seed; 0: ascending. For tests; counts for the whole process, from the next kernel on. */
void sli_emulated_order(uint64_t seed);

#else

#include <cuda_runtime.h>

cudaStream_t sli_cuda_stream(sl_device *dev, sl_stream stream);
/* What a CUDA call returned as a status; `what` names the call. A sticky error marks the device lost. */
sl_status sli_cuda_check(sl_device *dev, cudaError_t result, const char *what, sl_error *err);

#endif

/* A device's address as a kernel's argument. In the emulated device an address is the process's own. */
template <typename T> static inline T *sli_at(sl_device_ptr p)
{
    return (T *)(uintptr_t)p;
}

#endif

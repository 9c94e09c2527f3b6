/* kernels/cuda/launch.h: one way to launch a kernel, on CUDA or in the emulator.
 *
 *     SL_TRY(sli_launch(dev, err, memory_bytes, add_kernel, blocks, threads, shared_bytes, acc, x, count));
 *
 * Arguments are converted to the kernel's parameters; of a template its instance is named: kernel<SL_TYPE_Q4_0, 4>. memory_bytes is what the
 * kernel moves to and from the device's memory, or an sli_traffic that says, too, what of it comes over the link: the emulated device takes its time from it, CUDA has no use for it. Dynamic shared memory is at most
 * 48 KiB, so that no device has to be asked for more. */
#ifndef SL_KERNELS_CUDA_LAUNCH_H
#define SL_KERNELS_CUDA_LAUNCH_H

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/stream.h"

#include <tuple>
#include <type_traits>
#include <utility>

#ifdef SL_EMULATED

template <typename... P> struct sli_closure {
    void (*kernel)(P...);
    dim3 grid, block;
    size_t shared_bytes;
    std::tuple<P...> args;

    static void thread(const void *self)
    {
        const sli_closure *c = (const sli_closure *)self;
        std::apply(c->kernel, c->args);
    }
    static sl_status run(const void *self, sl_error *err)
    {
        const sli_closure *c = (const sli_closure *)self;
        return sli_emulate(thread, self, c->grid, c->block, c->shared_bytes, err);
    }
};

template <typename... P, typename... A>
static inline sl_status sli_launch_on(sl_device *dev, sl_stream stream, sl_error *err, sli_traffic traffic, void (*kernel)(P...), dim3 grid,
                                      dim3 block, size_t shared_bytes, A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
    static_assert((std::is_trivially_copyable<P>::value && ...), "a kernel's parameters are plain bytes");
    static_assert(sizeof(sli_closure<P...>) <= SLI_CLOSURE_BYTES_MAX, "too many arguments");
    sli_closure<P...> closure = {kernel, grid, block, shared_bytes, std::tuple<P...>((P)args...)};
    return sli_emulated_enqueue(dev, stream, sli_closure<P...>::run, &closure, sizeof closure, traffic, err);
}

#else

template <typename... P, typename... A>
static inline sl_status sli_launch_on(sl_device *dev, sl_stream stream, sl_error *err, sli_traffic traffic, void (*kernel)(P...), dim3 grid,
                                      dim3 block, size_t shared_bytes, A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
    (void)traffic;
    std::tuple<P...> values((P)args...);
    cudaError_t result = std::apply(
        [&](P &...value) {
            void *addresses[] = {(void *)&value...};
            return cudaLaunchKernel((const void *)kernel, grid, block, addresses, shared_bytes, sli_cuda_stream(dev, stream));
        },
        values);
    return sli_cuda_check(dev, result, "cudaLaunchKernel", err);
}

#endif

/* On the compute stream, as nearly all are. */
template <typename... P, typename... A>
static inline sl_status sli_launch(sl_device *dev, sl_error *err, sli_traffic traffic, void (*kernel)(P...), dim3 grid, dim3 block,
                                   size_t shared_bytes, A... args)
{
    return sli_launch_on(dev, SL_STREAM_COMPUTE, err, traffic, kernel, grid, block, shared_bytes, args...);
}

#endif

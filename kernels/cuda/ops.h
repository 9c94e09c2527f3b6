/* kernels/cuda/ops.h: the vtable of a device (core/device.h), for both runtimes: each has functions of these names. */
#ifndef SL_KERNELS_CUDA_OPS_H
#define SL_KERNELS_CUDA_OPS_H

#include "kernels/cuda/contract.h"

/* clang-format off */
#define SLI_DEVICE_OPS                        \
    {                                         \
        .close = do_close,                    \
        .alloc = do_alloc,                    \
        .free = do_free,                      \
        .free_bytes = do_free_bytes,          \
        .host_alloc = do_host_alloc,          \
        .host_free = do_host_free,            \
        .host_register = do_host_register,    \
        .host_unregister = do_host_unregister,\
        .host_address = do_host_address,      \
        .copy_in = do_copy_in,                \
        .copy_out = do_copy_out,              \
        .copy_in_rows = do_copy_in_rows,      \
        .copy_within = do_copy_within,        \
        .zero = do_zero,                      \
        .event_create = do_event_create,      \
        .event_destroy = do_event_destroy,    \
        .event_record = do_event_record,      \
        .stream_wait = do_stream_wait,        \
        .event_done = do_event_done,          \
        .event_wait = do_event_wait,          \
        .synchronize = do_synchronize,        \
        .event_elapsed = do_event_elapsed,    \
        .graph_begin = do_graph_begin,        \
        .graph_end = do_graph_end,            \
        .graph_launch = do_graph_launch,      \
        .graph_destroy = do_graph_destroy,    \
    }
/* clang-format on */

#endif

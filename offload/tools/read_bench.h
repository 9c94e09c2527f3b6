/* offload/tools/read_bench.h: what a tier reads per second: so many requests of one size in flight, at places one after the other or at random. */
#ifndef SL_OFFLOAD_TOOLS_READ_BENCH_H
#define SL_OFFLOAD_TOOLS_READ_BENCH_H

#include "core/histogram.h"
#include "pager/tier.h"

#define SL_READ_DEPTH_MAX 256

typedef struct sl_read_case {
    uint32_t bytes, depth; /* of a request, a multiple of the tier's alignment; in flight, at most the tier's and SL_READ_DEPTH_MAX */
    bool sequential;
    uint64_t file_bytes; /* at least one request; what does not fill one is not read */
    uint64_t limit_ns;   /* how long */
} sl_read_case;

typedef struct sl_read_figures {
    uint64_t requests; /* that finished in time */
    double seconds, bandwidth_Bps, requests_per_s;
    sl_histogram latency_ns; /* of each */
} sl_read_figures;

/* Reads into `memory`, depth places of `bytes` each; random places follow from *random. The tier is idle before and after. */
SL_MUST_USE sl_status sl_read_bench(sl_tier *tier, const sl_read_case *c, char *memory, uint64_t *random, sl_read_figures *out,
                                    sl_error *err);

#endif

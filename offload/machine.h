/* offload/machine.h: a machine as figures: what it reads per second from memory and from its disk, and what its cores compute.
 *
 * The figures are measured (doctor), read from a file (offload/cli/machine_file.h) or one of the presets here; what is asked between two of them is
 * taken from the line between. Nothing here looks at the machine that it runs on.
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_MACHINE_H
#define SL_OFFLOAD_MACHINE_H

#include "core/cpu.h"
#include "core/format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SLI_MACHINE_READS_MAX = 64,
    SLI_MACHINE_BANDWIDTHS_MAX = 16,
    SLI_MACHINE_RATES_MAX = 96,
    SLI_MACHINE_NAME_BYTES = 80,
    SLI_MACHINE_SOURCE_BYTES = 240,
};

typedef struct sli_machine_bandwidth {
    uint32_t threads;
    double Bps;
} sli_machine_bandwidth;

typedef struct sli_machine_read {
    char engine[8]; /* "uring", "pread" */
    uint64_t bytes; /* of a request */
    uint32_t depth;
    double Bps;
} sli_machine_read;

/* More than caches hold: what is measured with so many bytes is what memory gives. */
#define SLI_MACHINE_UNCACHED_BYTES ((uint64_t)1 << 30)

/* Products with weights of a format, all cores together. */
typedef struct sli_machine_rate {
    uint32_t type;
    uint64_t bytes;     /* of the weights that were gone through again and again: fewer may stay in a cache */
    double weights_Bps; /* one row: weights go by once */
    double ops_per_s;   /* many rows; a multiplication and an addition count two */
} sli_machine_rate;

typedef struct sli_machine_gpu {
    char name[SLI_MACHINE_NAME_BYTES]; /* "": none */
    uint64_t memory_bytes;
    double memory_Bps, link_Bps;
} sli_machine_gpu;

typedef struct sli_machine {
    char name[SLI_MACHINE_NAME_BYTES];
    char source[SLI_MACHINE_SOURCE_BYTES]; /* where the figures come from */
    bool measured;                         /* here; else figures are typical ones, and predictions wider */
    uint64_t memory_bytes;
    uint32_t cores;
    sl_isa isa;
    size_t bandwidths, reads, rates;
    sli_machine_bandwidth bandwidth[SLI_MACHINE_BANDWIDTHS_MAX];
    sli_machine_read read[SLI_MACHINE_READS_MAX];
    sli_machine_rate rate[SLI_MACHINE_RATES_MAX];
    sli_machine_gpu gpu;
} sli_machine;

/* Bytes per second that so many threads read from memory. */
double sli_machine_memory_rate(const sli_machine *m, uint32_t threads);
/* ... that the disk gives in requests of this size, so many in flight, by the engine (NULL: the faster one); 0: there is no figure. */
double sli_machine_read_rate(const sli_machine *m, const char *engine, uint64_t bytes, uint32_t depth);
/* What products with a format run at with so many threads, in a model of which each token touches so many bytes: as given, or as is typical of the
 * instruction set. */
sli_machine_rate sli_machine_rate_of(const sli_machine *m, uint32_t type, uint32_t threads, uint64_t touched_bytes);

/* Machines that are common. False behind the last. */
bool sli_machine_preset(size_t index, sli_machine *out);
const char *sli_machine_preset_name(size_t index); /* NULL behind the last */

#endif

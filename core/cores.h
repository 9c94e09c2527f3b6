/* core/cores.h: the physical cores that this process may use.
 *
 * Threads: pure; sli_bind_self changes the calling thread only. */
#ifndef SL_CORE_CORES_H
#define SL_CORE_CORES_H

#include <stdbool.h>

#define SLI_CORES_MAX 1024 /* more cores than these are not used */
#define SLI_CPUS_MAX  8192 /* the largest CPU number of the kernels we know, plus one */

typedef struct sli_cores {
    unsigned count;                    /* at least 1 */
    bool known;                        /* cpu[] is filled; else count is a guess */
    unsigned short cpu[SLI_CORES_MAX]; /* of each core, the first CPU in the process's affinity mask */
} sli_cores;

/* An affinity mask as the kernel has it. */
typedef struct sli_cpu_mask {
    unsigned long bits[SLI_CPUS_MAX / (8 * sizeof(unsigned long))];
} sli_cpu_mask;

void sli_cores_find(sli_cores *out);

bool sli_mask_get(sli_cpu_mask *out); /* of the calling thread */
bool sli_mask_set(const sli_cpu_mask *mask);
bool sli_bind_self(unsigned cpu); /* the calling thread runs on this CPU only */

#endif

/* core/topology.h: what the machine's processors look like, for people.
 *
 * Threads: pure. */
#ifndef SL_CORE_TOPOLOGY_H
#define SL_CORE_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#define SL_CACHE_LEVELS 3

typedef struct sl_cache_info {
    unsigned count; /* 0: there is none of this level, or nobody says */
    uint64_t bytes; /* of one */
} sl_cache_info;

typedef struct sl_topology {
    bool known;                           /* else all below is 0, but for cores_usable */
    unsigned packages, cores, threads;    /* cores: physical ones; threads: what the kernel calls CPUs */
    unsigned numa_nodes;                  /* at least 1 */
    unsigned cores_usable;                /* in the affinity mask, and no more than the cgroup's quota pays for; at least 1 */
    sl_cache_info cache[SL_CACHE_LEVELS]; /* data caches, level 1 first */
} sl_topology;
void sl_topology_get(sl_topology *out);

#endif

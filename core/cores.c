/* core/cores.c: see cores.h. hwloc is asked once and its topology, some megabytes of it, given back at once. */
#include "core/cores.h"

#include <hwloc.h>
#include <sched.h>
#include <string.h>

#define WORD_BITS (8 * sizeof(unsigned long))

bool sli_mask_get(sli_cpu_mask *out)
{
    memset(out, 0, sizeof *out);
    return sched_getaffinity(0, sizeof out->bits, (cpu_set_t *)out->bits) == 0;
}

bool sli_mask_set(const sli_cpu_mask *mask)
{
    return sched_setaffinity(0, sizeof mask->bits, (const cpu_set_t *)mask->bits) == 0;
}

static bool mask_has(const sli_cpu_mask *mask, unsigned cpu)
{
    return cpu < SLI_CPUS_MAX && (mask->bits[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1) != 0;
}

bool sli_bind_self(unsigned cpu)
{
    sli_cpu_mask mask = {{0}};
    if (cpu >= SLI_CPUS_MAX)
        return false;
    mask.bits[cpu / WORD_BITS] = 1ul << (cpu % WORD_BITS);
    return sli_mask_set(&mask);
}

/* Adds the first CPU of `cpus` that the mask allows. A core with several is counted once: its hardware threads share the units that
 * our kernels keep busy. */
static void add_core(sli_cores *out, hwloc_const_cpuset_t cpus, const sli_cpu_mask *mask)
{
    int cpu;
    hwloc_bitmap_foreach_begin(cpu, cpus)
    {
        if (out->count < SLI_CORES_MAX && mask_has(mask, (unsigned)cpu)) {
            out->cpu[out->count++] = (unsigned short)cpu;
            return;
        }
    }
    hwloc_bitmap_foreach_end();
}

static bool ask_hwloc(sli_cores *out, const sli_cpu_mask *mask)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return false;
    /* The x86 component finds out by running on every CPU in turn, which disturbs whoever works there; Linux knows it all. */
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    bool loaded = hwloc_topology_load(topology) == 0;
    if (loaded) {
        hwloc_obj_type_t type = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
        for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_type(topology, type, core)) != NULL;)
            add_core(out, core->cpuset, mask);
    }
    hwloc_topology_destroy(topology);
    return loaded && out->count > 0;
}

void sli_cores_find(sli_cores *out)
{
    sli_cpu_mask mask;
    memset(out, 0, sizeof *out);
    bool masked = sli_mask_get(&mask);
    out->known = masked && ask_hwloc(out, &mask);
    if (out->known)
        return;
    out->count = 0;
    for (unsigned cpu = 0; masked && cpu < SLI_CPUS_MAX; cpu++)
        out->count += mask_has(&mask, cpu);
    if (out->count == 0)
        out->count = 1;
}

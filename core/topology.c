/* core/topology.c: see topology.h. As in cores.c, hwloc is asked once and its topology given back at once. */
#include "core/topology.h"
#include "core/cores.h"
#include "core/os_private.h"

#include <hwloc.h>
#include <string.h>

static unsigned count_of(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_by_type(topology, type);
    return count > 0 ? (unsigned)count : 0;
}

static void look(hwloc_topology_t topology, sl_topology *out)
{
    static const hwloc_obj_type_t caches[SL_CACHE_LEVELS] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE};
    out->packages = count_of(topology, HWLOC_OBJ_PACKAGE);
    out->threads = count_of(topology, HWLOC_OBJ_PU);
    out->cores = count_of(topology, HWLOC_OBJ_CORE);
    if (out->cores == 0) /* some virtual machines do not say */
        out->cores = out->threads;
    out->numa_nodes = count_of(topology, HWLOC_OBJ_NUMANODE);
    for (int i = 0; i < SL_CACHE_LEVELS; i++) {
        hwloc_obj_t first = hwloc_get_obj_by_type(topology, caches[i], 0);
        if (first != NULL)
            out->cache[i] = (sl_cache_info){.count = count_of(topology, caches[i]), .bytes = first->attr->cache.size};
    }
}

static bool ask_hwloc(sl_topology *out)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return false;
    /* See cores.c: the x86 component would disturb whoever works there. */
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    bool loaded = hwloc_topology_load(topology) == 0;
    if (loaded)
        look(topology, out);
    hwloc_topology_destroy(topology);
    return loaded;
}

void sl_topology_get(sl_topology *out)
{
    sli_cores cores;
    unsigned quota = sli_cpu_quota_from("");
    memset(out, 0, sizeof *out);
    out->known = ask_hwloc(out);
    sli_cores_find(&cores);
    out->cores_usable = cores.count < quota ? cores.count : quota;
}

/* offload/cli/doctor_device.c: the part of `sluice doctor`'s report that is the GPU's. */
#include "offload/cli/doctor_device.h"
#include "core/os.h"

#include <stdio.h>
#include <string.h>

static const char *rate(double Bps, char out[28])
{
    if (Bps <= 0)
        return "not measured";
    sl_format_size((uint64_t)Bps, out);
    strcat(out, "/s");
    return out;
}

void cli_print_doctor_device(const sl_doctor_device *g)
{
    const sl_device_attrs *a = &g->attrs;
    char total[24], free_now[24], pinned[24], in[28], out[28];
    if (!g->used) {
        printf("gpu     not used: %s\n", g->reason);
        return;
    }
    printf("gpu     %s (%s:%u), compute capability %u.%u, %u multiprocessors", a->name, a->backend, a->index, a->arch / 10, a->arch % 10,
           a->processors);
    if (a->driver != 0)
        printf(", driver of CUDA %u.%u", a->driver / 1000, a->driver % 1000 / 10);
    if (a->pci[0] != '\0')
        printf(", at %s", a->pci);
    if (a->numa_node >= 0)
        printf(" on NUMA node %d", a->numa_node);
    sl_format_size(a->total_bytes, total);
    sl_format_size(a->free_bytes, free_now);
    sl_format_size(g->pinned_bytes, pinned);
    printf("\n        %s of memory, %s free; page-locked at once: %s\n", total, free_now, g->pinned_bytes > 0 ? pinned : "nothing");
    printf("        link %s in, %s out", rate(g->in_Bps, in), rate(g->out_Bps, out));
    printf("; not page-locked %s in, %s out\n", rate(g->pageable_in_Bps, in), rate(g->pageable_out_Bps, out));
    if (g->skipped[0] != '\0')
        printf("        %s\n", g->skipped);
}

static json_t *json_rate(double Bps)
{
    return Bps > 0 ? json_real(Bps) : json_null();
}

static json_t *json_reason(const char *text)
{
    return text[0] != '\0' ? cli_json_text(text, strlen(text)) : json_null();
}

json_t *cli_json_doctor_device(const sl_doctor_device *g)
{
    const sl_device_attrs *a = &g->attrs;
    if (!g->used)
        return json_pack("{s:b, s:o}", "used", 0, "reason", json_reason(g->reason));
    json_t *gpu = json_pack("{s:b, s:n, s:o, s:s, s:I, s:I, s:I, s:I}", "used", 1, "reason", "name",
                            cli_json_text(a->name, strlen(a->name)), "backend", a->backend, "index", (json_int_t)a->index,
                            "compute_capability", (json_int_t)a->arch, "driver", (json_int_t)a->driver, "multiprocessors",
                            (json_int_t)a->processors);
    json_object_set_new(gpu, "pci", json_reason(a->pci));
    json_object_set_new(gpu, "numa_node", a->numa_node >= 0 ? json_integer(a->numa_node) : json_null());
    json_object_set_new(gpu, "memory_bytes", json_integer((json_int_t)a->total_bytes));
    json_object_set_new(gpu, "memory_free_bytes", json_integer((json_int_t)a->free_bytes));
    json_object_set_new(gpu, "pinned_bytes", json_integer((json_int_t)g->pinned_bytes));
    json_object_set_new(gpu, "in_bytes_per_s", json_rate(g->in_Bps));
    json_object_set_new(gpu, "out_bytes_per_s", json_rate(g->out_Bps));
    json_object_set_new(gpu, "pageable_in_bytes_per_s", json_rate(g->pageable_in_Bps));
    json_object_set_new(gpu, "pageable_out_bytes_per_s", json_rate(g->pageable_out_Bps));
    json_object_set_new(gpu, "skipped", json_reason(g->skipped));
    return gpu;
}

/* offload/cli/doctor.c: `sluice doctor`: whether this machine suits offloading. It looks and measures in offload/tools/doctor.h; here the
 * report is printed. */
#include "offload/tools/doctor.h"
#include "core/cpu.h"
#include "offload/cli/cli.h"
#include "offload/cli/doctor_device.h"
#include "offload/cli/machine_here.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const fitness_names[] = {"unknown", "poor", "fair", "good"};
static const char *const limit_names[] = {"unknown", "disk", "memory", "cores"};
static const char *const fitness_texts[] = {"it is not known whether this machine suits offloading", "this machine hardly suits offloading",
                                            "this machine suits offloading, slowly", "this machine suits offloading"};
static const char *const limit_texts[] = {"what limits it is not known", "the disk is the limit", "memory bandwidth is the limit",
                                          "the cores are the limit"};

static const char *engine_name(sl_io_engine engine)
{
    return engine == SL_IO_URING ? "uring" : "pread";
}

/* ---- text ---- */

static const char *size_or_none(uint64_t bytes, char out[24])
{
    if (bytes == UINT64_MAX)
        return "none";
    sl_format_size(bytes, out);
    return out;
}

static void print_processors(const sl_topology *t)
{
    if (t->known)
        printf("cores   %u physical, %u threads, %u package%s, %u NUMA node%s; ", t->cores, t->threads, t->packages,
               t->packages == 1 ? "" : "s", t->numa_nodes, t->numa_nodes == 1 ? "" : "s");
    else
        printf("cores   ");
    printf("%u usable here\n", t->cores_usable);
    printf("caches ");
    for (int i = 0; i < SL_CACHE_LEVELS; i++) {
        char size[24];
        sl_format_size(t->cache[i].bytes, size);
        if (t->cache[i].count > 0)
            printf(" L%d %u x %s%s", i + 1, t->cache[i].count, size, i + 1 < SL_CACHE_LEVELS && t->cache[i + 1].count > 0 ? "," : "");
    }
    printf("%s\n", t->cache[0].count > 0 ? "" : " not known");
    printf("sets    built:");
    cli_print_isas(false);
    printf("; usable:");
    cli_print_isas(true);
    puts("");
}

static void print_memory(const sl_doctor_report *r)
{
    char total[24], available[24], limit[24], used[24], locked[24], budget[24];
    sl_format_size(r->memory.total_bytes, total);
    sl_format_size(r->memory.available_bytes, available);
    sl_format_size(r->memory.cgroup_used_bytes, used);
    sl_format_size(r->ram_budget_bytes, budget);
    printf("memory  %s, %s available; ", total, available);
    if (r->memory.cgroup_version == 0)
        printf("in no cgroup");
    else
        printf("cgroup v%u limit: %s", r->memory.cgroup_version, size_or_none(r->memory.cgroup_limit_bytes, limit));
    if (r->memory.cgroup_limit_bytes != UINT64_MAX)
        printf(", %s used", used);
    printf("; budget %s\n", budget);
    printf("limits  locked memory: %s; open files: ", size_or_none(r->memlock_limit_bytes, locked));
    if (r->open_files_limit == UINT64_MAX)
        puts("none");
    else
        printf("%llu\n", (unsigned long long)r->open_files_limit);
}

static void print_place(const sl_doctor_report *r)
{
    const sl_doctor_place *p = &r->place;
    printf("uring   %s\n", r->uring ? "works" : r->uring_refusal);
    printf("disk    %s on %s; O_DIRECT ", p->path, p->file_system);
    if (p->direct)
        printf("works, aligned to %u bytes\n", p->alignment);
    else
        puts(p->direct_known ? "refused" : "not tried");
    if (p->numa_node >= 0)
        printf("        on NUMA node %d\n", p->numa_node);
    cli_print_doctor_device(&r->device);
}

static void print_figures(const sl_doctor_report *r)
{
    char speed[24];
    for (size_t i = 0; i < r->memories; i++) {
        sl_format_size((uint64_t)r->bandwidth[i].bandwidth_Bps, speed);
        printf("%s%12s/s read by %u thread%s\n", i == 0 ? "\nmemory  " : "        ", speed, r->bandwidth[i].threads,
               r->bandwidth[i].threads == 1 ? "" : "s");
    }
    if (r->reads > 0)
        puts("\nreads at random places, direct\nengine   request  depth     bandwidth  requests/s      median        99 %");
    for (size_t i = 0; i < r->reads; i++) {
        const sl_doctor_read *c = &r->read[i];
        sl_format_size((uint64_t)c->bandwidth_Bps, speed);
        printf("%-6s %5u KiB  %5u  %10s/s  %10.0f  %7.3f ms  %7.3f ms\n", engine_name(c->engine), c->bytes / 1024, c->depth, speed,
               c->requests_per_s, c->median_s * 1e3, c->p99_s * 1e3);
    }
}

static void print_lines(const char *name, const sl_doctor_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        printf("%-8s%s\n", i == 0 ? name : "", lines->line[i]);
}

static int print_text(const sl_doctor_report *r, const char *kept, const sl_error *not_kept)
{
    const sl_doctor_verdict *v = &r->verdict;
    print_processors(&r->topology);
    print_memory(r);
    print_place(r);
    print_figures(r);
    puts("");
    print_lines("skipped", &r->skipped);
    printf("verdict %s; %s\n", fitness_texts[v->fitness], limit_texts[v->limit]);
    if (v->use.bytes > 0)
        printf("        best read in requests of %u KiB, %u in flight, by %s\n", v->use.bytes / 1024, v->use.depth,
               engine_name(v->use.engine));
    print_lines("advice", &v->advice);
    if (kept != NULL)
        printf("kept    %s: `sluice plan` predicts with it\n", kept);
    else
        printf("kept    nothing new for `sluice plan`: %s\n", not_kept->message);
    return cli_finish_text();
}

/* ---- JSON ---- */

/* null stands for "no limit". */
static json_t *json_limit(uint64_t value)
{
    return value == UINT64_MAX ? json_null() : json_integer((json_int_t)value);
}

static json_t *json_reason(const char *reason)
{
    return reason[0] == '\0' ? json_null() : cli_json_text(reason, strlen(reason));
}

static json_t *json_lines(const sl_doctor_lines *lines)
{
    json_t *array = json_array();
    for (size_t i = 0; i < lines->count; i++)
        json_array_append_new(array, cli_json_text(lines->line[i], strlen(lines->line[i])));
    return array;
}

static json_t *json_processors(const sl_topology *t)
{
    json_t *caches = json_array();
    for (int i = 0; i < SL_CACHE_LEVELS; i++)
        if (t->cache[i].count > 0)
            json_array_append_new(caches, json_pack("{s:i, s:i, s:I}", "level", i + 1, "count", (int)t->cache[i].count, "bytes",
                                                    (json_int_t)t->cache[i].bytes));
    return json_pack("{s:b, s:i, s:i, s:i, s:i, s:i, s:o}", "known", (int)t->known, "packages", (int)t->packages, "cores", (int)t->cores,
                     "threads", (int)t->threads, "numa_nodes", (int)t->numa_nodes, "cores_usable", (int)t->cores_usable, "caches", caches);
}

static json_t *json_sets(void)
{
    json_t *built = json_array(), *usable = json_array();
    for (sl_isa isa = 0; isa < SL_ISA_COUNT; isa++) {
        if (cli_has_isa(isa, false))
            json_array_append_new(built, json_string(sl_isa_name(isa)));
        if (cli_has_isa(isa, true))
            json_array_append_new(usable, json_string(sl_isa_name(isa)));
    }
    return json_pack("{s:o, s:o}", "built", built, "usable", usable);
}

static json_t *json_memory(const sl_doctor_report *r)
{
    return json_pack("{s:I, s:I, s:i, s:o, s:I, s:o, s:o, s:I}", "total_bytes", (json_int_t)r->memory.total_bytes, "available_bytes",
                     (json_int_t)r->memory.available_bytes, "cgroup_version", (int)r->memory.cgroup_version, "cgroup_limit_bytes",
                     json_limit(r->memory.cgroup_limit_bytes), "cgroup_used_bytes", (json_int_t)r->memory.cgroup_used_bytes,
                     "memlock_limit_bytes", json_limit(r->memlock_limit_bytes), "open_files_limit", json_limit(r->open_files_limit),
                     "ram_budget_bytes", (json_int_t)r->ram_budget_bytes);
}

static json_t *json_place(const sl_doctor_place *p, const char *kept)
{
    json_t *direct = json_pack("{s:o, s:o, s:o}", "works", p->direct_known ? json_boolean(p->direct) : json_null(), "alignment",
                               p->direct ? json_integer(p->alignment) : json_null(), "reason", json_reason(p->refusal));
    json_t *node = p->numa_node >= 0 ? json_integer(p->numa_node) : json_null();
    json_t *file = kept != NULL ? cli_json_text(kept, strlen(kept)) : json_null();
    return json_pack("{s:o, s:o, s:o, s:b, s:s, s:o}", "numa_node", node, "kept", file, "path", cli_json_text(p->path, strlen(p->path)),
                     "is_file", (int)p->is_file, "file_system", p->file_system, "direct", direct);
}

static json_t *json_bandwidth(const sl_doctor_report *r)
{
    json_t *array = json_array();
    for (size_t i = 0; i < r->memories; i++)
        json_array_append_new(
            array, json_pack("{s:i, s:f}", "threads", (int)r->bandwidth[i].threads, "bytes_per_s", r->bandwidth[i].bandwidth_Bps));
    return array;
}

static json_t *json_reads(const sl_doctor_report *r)
{
    json_t *array = json_array();
    for (size_t i = 0; i < r->reads; i++) {
        const sl_doctor_read *c = &r->read[i];
        json_array_append_new(array, json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "engine", engine_name(c->engine),
                                               "request_bytes", (json_int_t)c->bytes, "depth", (json_int_t)c->depth, "requests",
                                               (json_int_t)c->requests, "bytes_per_s", c->bandwidth_Bps, "requests_per_s",
                                               c->requests_per_s, "latency_median_s", c->median_s, "latency_p99_s", c->p99_s));
    }
    return array;
}

static json_t *json_verdict(const sl_doctor_verdict *v)
{
    json_t *use = v->use.bytes == 0
                      ? json_null()
                      : json_pack("{s:s, s:I, s:I, s:f}", "engine", engine_name(v->use.engine), "request_bytes", (json_int_t)v->use.bytes,
                                  "depth", (json_int_t)v->use.depth, "bytes_per_s", v->use.bandwidth_Bps);
    return json_pack("{s:s, s:s, s:o, s:o}", "suits", fitness_names[v->fitness], "limit", limit_names[v->limit], "use", use, "advice",
                     json_lines(&v->advice));
}

static int print_json(const sl_doctor_report *r, const char *kept)
{
    json_t *uring = json_pack("{s:b, s:o}", "works", (int)r->uring, "reason", json_reason(r->uring_refusal));
    return cli_print_json(json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "processors", json_processors(&r->topology),
                                    "isa", json_sets(), "memory", json_memory(r), "io_uring", uring, "place", json_place(&r->place, kept),
                                    "gpu", cli_json_doctor_device(&r->device), "memory_bandwidth", json_bandwidth(r), "reads",
                                    json_reads(r), "skipped", json_lines(&r->skipped), "verdict", json_verdict(&r->verdict)));
}

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    return cli_progress("measuring", done, total);
}

int cli_doctor(const cli_args *args)
{
    sl_doctor_options options = {.path = args->operands > 0 ? args->operand[0] : NULL,
                                 .ram_budget_bytes = args->ram_budget_bytes,
                                 .device = args->device,
                                 .quick = args->quick,
                                 .watch = {.progress = on_progress}};
    sl_doctor_report report;
    sl_error err = {0};
    cli_catch_interrupt(NULL);
    if (sl_doctor_examine(&options, &report, &err) != SL_OK)
        return cli_fail(args, &err);
    sl_error not_kept = {0};
    char *kept;
    cli_machine_keep(&report, args->quick, &kept, &not_kept);
    cli_progress_end();
    int result = args->json ? print_json(&report, kept) : print_text(&report, kept, &not_kept);
    free(kept);
    bool silent = report.reads == 0 && report.memories == 0;
    return result == CLI_DONE && silent ? CLI_FAILED : result;
}

/* offload/tools/doctor.c: see doctor.h. */
#include "offload/tools/doctor.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define TIME_NS    ((uint64_t)9500000000)
#define TIME_QUICK ((uint64_t)3000000000)

void sli_doctor_say(sl_doctor_lines *lines, const char *format, ...)
{
    va_list arguments;
    if (lines->count == SL_DOCTOR_LINES_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(lines->line[lines->count++], SL_DOCTOR_LINE_BYTES, format, arguments);
    va_end(arguments);
}

sl_status sli_doctor_tick(const sli_doctor_clock *clock, sl_error *err)
{
    uint64_t spent = sl_now_ns() - clock->begin_ns;
    const sl_tool_watch *watch = clock->watch;
    if (watch->progress != NULL && !watch->progress(watch->ctx, spent < clock->total_ns ? spent : clock->total_ns, clock->total_ns))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}

bool sli_doctor_late(const sli_doctor_clock *clock)
{
    return sl_now_ns() - clock->begin_ns > clock->total_ns;
}

/* The kernel gives a number; these are the ones of linux/magic.h, and of file systems outside the kernel, where models lie. */
static void name_file_system(sl_doctor_place *place, sl_doctor_lines *skipped)
{
    static const struct {
        uint32_t magic;
        const char *name;
    } known[] = {{0xef53, "ext4"},         {0x58465342, "xfs"},  {0x9123683e, "btrfs"}, {0x01021994, "tmpfs"}, {0x794c7630, "overlay"},
                 {0x6969, "nfs"},          {0x2fc12fc1, "zfs"},  {0xf2f52010, "f2fs"},  {0x65735546, "fuse"},  {0x01021997, "9p"},
                 {0xff534d42, "cifs"},     {0xfe534d42, "smb2"}, {0x4d44, "vfat"},      {0x5346544e, "ntfs"},  {0x2011bab0, "exfat"},
                 {0xca451a4e, "bcachefs"}, {0x858458f6, "ramfs"}};
    struct statfs info;
    snprintf(place->file_system, sizeof place->file_system, "unknown");
    if (statfs(place->path, &info) != 0) {
        sli_doctor_say(skipped, "file system: %s cannot be examined: %s", place->path, strerror(errno));
        return;
    }
    snprintf(place->file_system, sizeof place->file_system, "unknown (0x%x)", (uint32_t)info.f_type);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].magic == (uint32_t)info.f_type)
            snprintf(place->file_system, sizeof place->file_system, "%s", known[i].name);
}

/* What the file says; -1 where it does not. */
static int number_in(const char *path)
{
    char text[32] = "", *end = text;
    FILE *file = fopen(path, "re");
    long number = file != NULL && fgets(text, sizeof text, file) != NULL ? strtol(text, &end, 10) : -1;
    if (file != NULL)
        (void)fclose(file); /* it was only read */
    return end == text || number < 0 || number > INT_MAX ? -1 : (int)number;
}

/* The node of the first thing on the way from the block device up the bus that has one. */
static int numa_node_of(const struct stat *info)
{
    char link[64], path[PATH_MAX + 16];
    snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(info->st_dev), minor(info->st_dev));
    char *at = realpath(link, NULL), *slash;
    int node = -1;
    while (node < 0 && at != NULL && (slash = strrchr(at, '/')) != NULL && slash != at) {
        snprintf(path, sizeof path, "%s/numa_node", at);
        node = number_in(path);
        *slash = '\0';
    }
    free(at);
    return node;
}

static sl_status find_place(const char *path, sl_doctor_report *r, sl_error *err)
{
    struct stat info;
    r->place.path = path != NULL ? path : ".";
    if (stat(r->place.path, &info) != 0)
        return sl_fail(err, SL_INVALID, "%s: cannot be examined: %s; give a folder or a model's file", r->place.path, strerror(errno));
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
        return sl_fail(err, SL_INVALID, "%s: is a special file; give a folder or a model's file", r->place.path);
    r->place.numa_node = numa_node_of(&info);
    r->place.is_file = S_ISREG(info.st_mode);
    r->place.bytes = r->place.is_file ? (uint64_t)info.st_size : 0;
    name_file_system(&r->place, &r->skipped);
    return SL_OK;
}

/* Asks for a ring over a file that is always there: the program's own. */
static void try_uring(sl_doctor_report *r)
{
    const char *path = "/proc/self/exe";
    sl_files_options options = {.engine = SL_IO_URING, .depth = SL_DOCTOR_DEPTH_MAX, .buffered = true};
    sl_tier *tier = NULL;
    sl_error refused = {0};
    r->uring = sl_tier_open_files(&path, 1, &options, &tier, &refused) == SL_OK;
    if (!r->uring)
        snprintf(r->uring_refusal, sizeof r->uring_refusal, "%.150s", refused.message);
    sl_tier_destroy(tier);
}

static void look_at_memory(const sl_doctor_options *options, sl_doctor_report *r)
{
    sl_memory_info_get(&r->memory);
    r->ram_budget_bytes = options->ram_budget_bytes != 0 ? options->ram_budget_bytes : sl_default_budget(&r->memory);
    r->memlock_limit_bytes = sl_memlock_limit_bytes();
    r->open_files_limit = sl_open_files_limit();
}

static sl_status examine_device(const sl_doctor_options *options, sl_doctor_report *r, sl_error *err)
{
    const char *wanted = options->device != NULL ? options->device : "auto";
    return sl_doctor_device_examine(wanted, sli_doctor_memory_left(&r->memory), &r->device, err);
}

sl_status sl_doctor_examine(const sl_doctor_options *options, sl_doctor_report *out, sl_error *err)
{
    sli_doctor_clock clock = {.watch = &options->watch,
                              .begin_ns = sl_now_ns(),
                              .total_ns = options->quick ? TIME_QUICK : TIME_NS,
                              .quick = options->quick,
                              .brief = options->brief};
    memset(out, 0, sizeof *out);
    SL_TRY(find_place(options->path, out, err));
    sl_topology_get(&out->topology);
    if (!out->topology.known)
        sli_doctor_say(&out->skipped, "topology: hwloc finds nothing out here");
    look_at_memory(options, out);
    try_uring(out);
    SL_TRY(examine_device(options, out, err));
    clock.begin_ns = sl_now_ns(); /* opening a GPU may take seconds */
    SL_TRY(sli_doctor_measure_memory(&clock, out, err));
    if (!options->no_reads)
        SL_TRY(sli_doctor_measure_reads(&clock, out, err));
    sli_doctor_judge(out, &out->verdict);
    return SL_OK;
}

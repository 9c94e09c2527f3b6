/* offload/tools/doctor_io.c: what a file's tier reads per second, at random places, by engine, depth and request size. See doctor.h.
 *
 * A folder gets a temporary file that has no name by the time anything is in it, so that nothing is left of it however the program ends.
 * It is read through /proc/self/fd. All reads are O_DIRECT ones, so the page cache, in which the file has just been written, is not asked;
 * that what was written has reached the disk is fdatasync's part. */
#include "core/os.h"
#include "offload/tools/doctor.h"
#include "offload/tools/read_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEMPORARY_BYTES ((uint64_t)256 << 20)
#define TEMPORARY_MIN   ((uint64_t)32 << 20) /* less says nothing of a disk */
#define STEP_BYTES      ((size_t)16 << 20)
#define SPARE_BYTES     ((uint64_t)64 << 20) /* of the folder's free space, that stay free */
#define WRITE_NS        ((uint64_t)2000000000)
#define WRITE_QUICK_NS  ((uint64_t)700000000)
#define CASE_NS         ((uint64_t)330000000)
#define CASE_QUICK_NS   ((uint64_t)75000000)
#define CASE_BRIEF_NS   ((uint64_t)40000000)

static const uint32_t sizes[] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, SL_DOCTOR_REQUEST_MAX};
static const uint32_t depths[] = {1, SL_DOCTOR_DEPTH_MAX};
static const sl_io_engine engines[] = {SL_IO_URING, SL_IO_PREAD};

typedef struct bench {
    const sli_doctor_clock *clock;
    sl_doctor_report *report;
    char path[64]; /* of the temporary file; else "" */
    uint64_t file_bytes, random;
    char *memory;             /* SL_DOCTOR_DEPTH_MAX places of SL_DOCTOR_REQUEST_MAX */
    sl_read_figures *figures; /* of the case that runs */
} bench;

#define MEMORY_BYTES ((size_t)SL_DOCTOR_DEPTH_MAX * SL_DOCTOR_REQUEST_MAX)

/* ---- the temporary file ---- */

static bool write_step(int fd, const char *data)
{
    for (size_t done = 0; done < STEP_BYTES;) {
        ssize_t got = write(fd, data + done, STEP_BYTES - done);
        if (got < 0 && errno != EINTR)
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return fdatasync(fd) == 0;
}

/* Writes steps until the size or the time is reached. Random bytes, for there are disks that compress. */
static sl_status fill(bench *b, int fd, sl_error *err)
{
    uint64_t limit = b->clock->quick ? WRITE_QUICK_NS : WRITE_NS, begin = sl_now_ns();
    const char *folder = b->report->place.path;
    while (b->file_bytes < TEMPORARY_BYTES && (b->file_bytes < TEMPORARY_MIN || sl_now_ns() - begin < limit)) {
        for (size_t i = 0; i < STEP_BYTES / sizeof(uint64_t); i++)
            ((uint64_t *)(void *)b->memory)[i] = sli_random_next(&b->random);
        if (!write_step(fd, b->memory))
            return sl_fail(err, SL_IO, "%s: a temporary file cannot be written: %s", folder, strerror(errno));
        b->file_bytes += STEP_BYTES;
        SL_TRY(sli_doctor_tick(b->clock, err));
    }
    return SL_OK;
}

static sl_status make_temporary(bench *b, int *fd, sl_error *err)
{
    const char *folder = b->report->place.path;
    struct statvfs info;
    if (statvfs(folder, &info) == 0 && (uint64_t)info.f_bavail * info.f_frsize < TEMPORARY_BYTES + SPARE_BYTES)
        return sl_fail(err, SL_IO, "%s: no room for a temporary file of 256 MiB", folder);
    *fd = sl_nameless_file(folder, 0);
    if (*fd < 0)
        return sl_fail(err, SL_IO, "%s: no temporary file can be made: %s", folder, strerror(errno));
    SL_TRY(fill(b, *fd, err));
    snprintf(b->path, sizeof b->path, "/proc/self/fd/%d", *fd);
    return SL_OK;
}

/* ---- one case ---- */

static sl_status run_case(bench *b, sl_tier *tier, sl_doctor_read *c, sl_error *err)
{
    sl_read_case wanted = {.bytes = c->bytes,
                           .depth = c->depth,
                           .file_bytes = b->file_bytes,
                           .limit_ns = b->clock->brief   ? CASE_BRIEF_NS
                                       : b->clock->quick ? CASE_QUICK_NS
                                                         : CASE_NS};
    SL_TRY(sl_read_bench(tier, &wanted, b->memory, &b->random, b->figures, err));
    c->requests = b->figures->requests;
    c->requests_per_s = b->figures->requests_per_s;
    c->bandwidth_Bps = b->figures->bandwidth_Bps;
    c->median_s = (double)sl_histogram_percentile(&b->figures->latency_ns, 0.5) * 1e-9;
    c->p99_s = (double)sl_histogram_percentile(&b->figures->latency_ns, 0.99) * 1e-9;
    return SL_OK;
}

/* ---- all cases ---- */

/* Without figures of many reads in flight there is no verdict, and no plan: on a machine that others keep busy these are taken although the
 * time is up. */
static bool is_needed(const bench *b, uint32_t depth)
{
    for (size_t i = 0; i < b->report->reads; i++)
        if (b->report->read[i].depth == SL_DOCTOR_DEPTH_MAX && b->report->read[i].bytes == SL_DOCTOR_REQUEST_MAX)
            return false;
    return depth == SL_DOCTOR_DEPTH_MAX;
}

static sl_status run_sizes(bench *b, sl_tier *tier, sl_io_engine engine, uint32_t depth, sl_error *err)
{
    sl_doctor_report *r = b->report;
    bool needed = is_needed(b, depth);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && (needed || !sli_doctor_late(b->clock)); i++) {
        sl_doctor_read c = {.engine = engine, .bytes = sizes[i], .depth = depth};
        if (sizes[i] > b->file_bytes || sizes[i] % tier->attrs.alignment != 0)
            continue;
        SL_TRY(run_case(b, tier, &c, err));
        r->read[r->reads++] = c;
        SL_TRY(sli_doctor_tick(b->clock, err));
    }
    return SL_OK;
}

static sl_status run_engine(bench *b, const char *path, sl_io_engine engine, uint32_t depth, sl_error *err)
{
    sl_files_options options = {
        .engine = engine, .depth = depth, .register_memory = b->memory, .register_bytes = (size_t)depth * SL_DOCTOR_REQUEST_MAX};
    sl_tier *tier = NULL;
    SL_TRY(sl_tier_open_files(&path, 1, &options, &tier, err));
    b->report->unregistered |= engine == SL_IO_URING && tier->attrs.note[0] != '\0';
    sl_status status = run_sizes(b, tier, engine, depth, err);
    sl_tier_destroy(tier);
    return status;
}

static sl_status run_engines(bench *b, const char *path, sl_error *err)
{
    for (size_t e = 0; e < sizeof engines / sizeof *engines; e++) {
        if (b->clock->brief ? (engines[e] == SL_IO_URING) != b->report->uring : engines[e] == SL_IO_URING && !b->report->uring)
            continue;
        for (size_t d = b->clock->brief; d < sizeof depths / sizeof *depths; d++)
            if (is_needed(b, depths[d]) || !sli_doctor_late(b->clock))
                SL_TRY(run_engine(b, path, engines[e], depths[d], err));
    }
    if (sli_doctor_late(b->clock))
        sli_doctor_say(&b->report->skipped, "reads: some, for the time was up");
    return SL_OK;
}

/* One direct read tells more than an open: some file systems refuse only that. */
static void try_direct(bench *b, const char *path)
{
    sl_doctor_place *place = &b->report->place;
    sl_files_options options = {.engine = SL_IO_PREAD, .depth = 1};
    sl_tier *tier = NULL;
    sl_error err = {0};
    sl_read_done done = {.status = SL_OK};
    sl_status status = sl_tier_open_files(&path, 1, &options, &tier, &err);
    if (status == SL_OK) {
        place->alignment = tier->attrs.alignment;
        sl_read read = {.bytes = place->alignment, .memory = b->memory};
        status = tier->ops->submit(tier, &read, &err);
    }
    if (status == SL_OK && tier->ops->reap(tier, true, &done, 1, &err) == 1)
        status = done.status;
    place->direct_known = true;
    place->direct = status == SL_OK;
    if (!place->direct)
        snprintf(place->refusal, sizeof place->refusal, "the file system refuses direct reads (%s)", place->file_system);
    sl_tier_destroy(tier);
}

/* The file that is read: the one given, or a temporary one, which *fd then holds. */
static sl_status find_file(bench *b, int *fd, const char **path, sl_error *err)
{
    const sl_doctor_place *place = &b->report->place;
    *path = place->is_file ? place->path : b->path;
    b->file_bytes = place->bytes;
    if (strcmp(place->file_system, "tmpfs") == 0 || strcmp(place->file_system, "ramfs") == 0)
        return sl_fail(err, SL_IO, "%s lies in memory (%s): there is no disk to measure", place->path, place->file_system);
    if (!place->is_file)
        SL_TRY(make_temporary(b, fd, err));
    if (!place->is_file && access(b->path, F_OK) != 0)
        return sl_fail(err, SL_IO, "/proc is not mounted, through which the temporary file would be read");
    if (access(*path, R_OK) != 0)
        return sl_fail(err, SL_IO, "%s: cannot be read: %s", *path, strerror(errno));
    return b->file_bytes >= sizes[0] ? SL_OK : sl_fail(err, SL_IO, "%s: too short to measure", *path);
}

static sl_status measure(bench *b, int *fd, sl_error *err)
{
    const sl_doctor_place *place = &b->report->place;
    const char *path;
    SL_TRY(find_file(b, fd, &path, err));
    try_direct(b, path);
    if (!place->direct)
        return sl_fail(err, SL_IO, "%s", place->refusal);
    return run_engines(b, path, err);
}

/* A failure other than an interruption is one line more of what was skipped. */
sl_status sli_doctor_measure_reads(const sli_doctor_clock *clock, sl_doctor_report *report, sl_error *err)
{
    int fd = -1;
    bench b = {.clock = clock,
               .report = report,
               .random = sl_now_ns(),
               .memory = sl_pages_alloc(MEMORY_BYTES),
               .figures = calloc(1, sizeof *b.figures)};
    sl_status status = SL_NO_MEMORY;
    bool room = sli_doctor_memory_left(&report->memory) >= 2 * MEMORY_BYTES; /* touching more than a cgroup allows would kill us */
    if (room && b.memory != NULL && b.figures != NULL)
        status = measure(&b, &fd, err);
    else
        (void)sl_fail(err, SL_NO_MEMORY, "too little memory is left for their buffers");
    if (fd >= 0)
        close(fd);
    sl_pages_free(b.memory, MEMORY_BYTES);
    free(b.figures);
    if (status != SL_OK && status != SL_INTERRUPTED)
        sli_doctor_say(&report->skipped, "reads: %.220s", err->message);
    return status == SL_INTERRUPTED ? status : SL_OK;
}

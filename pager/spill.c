/* pager/spill.c: see spill.h. Reads go through a tier that opens the file once more by its descriptor; writes are plain pwrite: they come once in many
 * tokens, and then all together. */
#include "pager/spill.h"
#include "core/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 32

typedef struct range {
    uint64_t offset;
    size_t bytes;
    uint8_t *memory;
    uint32_t group;
} range;

struct sl_spill {
    int fd;
    char *folder;
    sl_tier *tier;
    range *queue; /* ring of `capacity`: what was not submitted yet */
    uint32_t capacity, first, count;
    uint32_t open[SL_SPILL_GROUPS]; /* pieces in flight and ranges queued */
    sl_status failed[SL_SPILL_GROUPS];
    sl_error failure;
    sl_spill_stats stats;
    uint8_t **kept; /* [cell] what the disk had no room for; NULL: it never was full */
    uint64_t file_bytes, kept_bytes_max;
    size_t cell_bytes;
};

/* ---- the file ---- */

static sl_status explain(const char *folder, bool buffered, int reason, sl_error *err)
{
    if (reason == EINVAL && !buffered)
        return sl_fail(
            err, SL_IO,
            "--kv-spill %s: the file system of this folder refuses O_DIRECT; name a folder on a disk, or read through the page cache "
            "with --buffered",
            folder);
    return sl_fail(err, SL_IO, "--kv-spill %s: no file can be made in this folder: %s", folder, strerror(reason));
}

static sl_status open_file(const char *folder, bool buffered, int *fd, sl_error *err)
{
    *fd = sl_nameless_file(folder, buffered ? 0 : O_DIRECT);
    return *fd >= 0 ? SL_OK : explain(folder, buffered, errno, err);
}

static void path_of(int fd, char out[32])
{
    snprintf(out, 32, "/proc/self/fd/%d", fd);
}

sl_status sl_spill_alignment(const char *folder, bool buffered, uint32_t *out, sl_error *err)
{
    int fd;
    char path[32];
    SL_TRY(open_file(folder, buffered, &fd, err));
    path_of(fd, path);
    sl_status status = sl_files_alignment(path, buffered, out, err);
    close(fd);
    return status;
}

static sl_status open_tier(sl_spill *s, const sl_spill_options *options, sl_error *err)
{
    char path[32];
    const char *paths[] = {path};
    sl_files_options files = {.engine = options->engine,
                              .depth = DEPTH,
                              .buffered = options->buffered,
                              .register_memory = options->memory,
                              .register_bytes = options->memory_bytes};
    path_of(s->fd, path);
    SL_TRY(sl_tier_open_files(paths, 1, &files, &s->tier, err));
    if (options->throttle_Bps > 0)
        return sl_tier_throttle(s->tier, options->throttle_Bps, 0, &s->tier, err);
    return SL_OK;
}

sl_status sl_spill_open(const char *folder, const sl_spill_options *options, sl_spill **out, sl_error *err)
{
    *out = NULL;
    sl_spill *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a spill file");
    s->fd = -1;
    s->capacity = options->ranges;
    s->file_bytes = options->bytes;
    s->cell_bytes = options->cell_bytes;
    s->kept_bytes_max = options->kept_bytes_max;
    s->folder = strdup(folder);
    s->queue = malloc(options->ranges * sizeof *s->queue);
    sl_status status = s->folder == NULL || s->queue == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for a spill file")
                                                             : open_file(folder, options->buffered, &s->fd, err);
    /* Its size at once, so that a read never meets an end; what was not written takes no room. */
    if (status == SL_OK && ftruncate(s->fd, (off_t)options->bytes) != 0)
        status = sl_fail(err, SL_IO, "--kv-spill %s: no file of %llu bytes can be made in this folder: %s", folder,
                         (unsigned long long)options->bytes, strerror(errno));
    if (status == SL_OK)
        status = open_tier(s, options, err);
    if (status != SL_OK) {
        sl_spill_close(s);
        return status;
    }
    *out = s;
    return SL_OK;
}

static uint64_t cell_count(const sl_spill *s)
{
    return s->file_bytes / s->cell_bytes;
}

void sl_spill_close(sl_spill *s)
{
    if (s == NULL)
        return;
    if (s->tier != NULL)
        sl_tier_destroy(s->tier);
    if (s->fd >= 0)
        close(s->fd);
    for (uint64_t cell = 0; s->kept != NULL && cell < cell_count(s); cell++)
        free(s->kept[cell]);
    free(s->kept);
    free(s->queue);
    free(s->folder);
    free(s);
}

/* ---- writing ---- */

/* 0, or why not. */
static int put(const sl_spill *s, uint64_t offset, size_t bytes, const uint8_t *memory)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t written = pwrite(s->fd, memory + done, bytes - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : ENOSPC;
        done += (size_t)written;
    }
    return 0;
}

static bool is_full(int reason)
{
    return reason == ENOSPC || reason == EDQUOT;
}

static bool take_kept_bytes(sl_spill *s, uint64_t bytes)
{
    if (s->stats.kept_bytes + bytes > s->kept_bytes_max)
        return false;
    s->stats.kept_bytes += bytes;
    return true;
}

/* A cell in memory from now on; NULL: there is no room for it. */
static uint8_t *keep_cell(sl_spill *s, uint64_t cell)
{
    if (s->kept == NULL && take_kept_bytes(s, cell_count(s) * sizeof *s->kept))
        s->kept = calloc(cell_count(s), sizeof *s->kept);
    if (s->kept == NULL || !take_kept_bytes(s, s->cell_bytes))
        return NULL;
    s->kept[cell] = malloc(s->cell_bytes);
    if (s->kept[cell] == NULL)
        s->stats.kept_bytes -= s->cell_bytes;
    return s->kept[cell];
}

/* Each to the file while that takes it. What is kept once stays so: then there is one place to look. */
static int write_cells(sl_spill *s, uint64_t offset, size_t bytes, const uint8_t *memory)
{
    for (size_t at = 0; at < bytes; at += s->cell_bytes) {
        uint64_t cell = (offset + at) / s->cell_bytes;
        uint8_t *kept = s->kept != NULL ? s->kept[cell] : NULL;
        int reason = kept != NULL ? ENOSPC : put(s, offset + at, s->cell_bytes, memory + at);
        if (is_full(reason) && kept == NULL)
            kept = keep_cell(s, cell);
        if (kept != NULL)
            memcpy(kept, memory + at, s->cell_bytes);
        else if (reason != 0)
            return reason;
    }
    return 0;
}

sl_status sl_spill_write(sl_spill *s, uint64_t offset, size_t bytes, const void *memory, sl_error *err)
{
    uint64_t start = sl_now_ns();
    int reason = s->kept == NULL ? put(s, offset, bytes, memory) : ENOSPC;
    if (is_full(reason))
        reason = write_cells(s, offset, bytes, memory);
    if (reason != 0)
        return sl_fail(err, SL_IO, "--kv-spill %s: keys and values cannot be written there: %s%s", s->folder, strerror(reason),
                       is_full(reason) ? ", and the RAM budget has no room for more of them" : "");
    s->stats.bytes_written += bytes;
    s->stats.wait_ns += sl_now_ns() - start;
    return SL_OK;
}

/* ---- reading ---- */

static void fail_group(sl_spill *s, uint32_t group, sl_status status, const sl_error *error)
{
    if (s->failed[group] == SL_OK) {
        s->failed[group] = status;
        s->failure = *error;
    }
}

/* Submits pieces of what is queued, as many as the tier takes. */
static void submit_pieces(sl_spill *s)
{
    while (s->count > 0) {
        range *r = &s->queue[s->first];
        size_t bytes = r->bytes < SL_SPILL_PIECE_BYTES ? r->bytes : SL_SPILL_PIECE_BYTES;
        sl_read read = {.offset = r->offset, .bytes = bytes, .memory = r->memory, .tag = r->group};
        sl_error error = {0};
        sl_status status = s->tier->ops->submit(s->tier, &read, &error);
        if (status == SL_PENDING)
            return;
        if (status == SL_OK) {
            s->open[r->group]++;
            s->stats.requests++;
        } else
            fail_group(s, r->group, status, &error);
        bool over = status != SL_OK || bytes == r->bytes;
        r->offset += bytes, r->memory += bytes, r->bytes -= bytes;
        if (over) {
            s->open[r->group]--;
            s->first = (s->first + 1) % s->capacity;
            s->count--;
        }
    }
}

static void collect(sl_spill *s, bool wait)
{
    sl_read_done done[DEPTH];
    sl_error error = {0};
    size_t n = s->tier->ops->reap(s->tier, wait, done, DEPTH, &error);
    for (size_t i = 0; i < n; i++) {
        s->open[done[i].tag]--;
        if (done[i].status != SL_OK)
            fail_group(s, (uint32_t)done[i].tag, done[i].status, &error);
    }
}

static sl_status read_file(sl_spill *s, uint32_t group, uint64_t offset, size_t bytes, uint8_t *memory, sl_error *err)
{
    while (s->kept != NULL && s->count == s->capacity) { /* ranges were cut where cells are in memory: more than were reckoned with */
        submit_pieces(s);
        collect(s, true);
    }
    if (s->count == s->capacity)
        return sl_fail(err, SL_INTERNAL, "more than %u ranges of a spill file asked for at once", s->capacity);
    s->queue[(s->first + s->count++) % s->capacity] = (range){.offset = offset, .bytes = bytes, .memory = memory, .group = group};
    s->open[group]++;
    s->stats.bytes_read += bytes;
    submit_pieces(s);
    collect(s, false); /* starts what was held back */
    return SL_OK;
}

sl_status sl_spill_read(sl_spill *s, uint32_t group, uint64_t offset, size_t bytes, void *memory, sl_error *err)
{
    uint8_t *to = memory;
    if (s->kept == NULL && bytes > 0)
        return read_file(s, group, offset, bytes, to, err);
    for (size_t run; bytes > 0; offset += run, to += run, bytes -= run) {
        uint8_t *const *cell = s->kept + offset / s->cell_bytes;
        run = s->cell_bytes;
        if (cell[0] != NULL) {
            memcpy(to, cell[0], run);
            continue;
        }
        while (run < bytes && cell[run / s->cell_bytes] == NULL)
            run += s->cell_bytes;
        SL_TRY(read_file(s, group, offset, run, to, err));
    }
    return SL_OK;
}

sl_status sl_spill_wait(sl_spill *s, uint32_t group, sl_error *err)
{
    uint64_t start = sl_now_ns();
    while (s->open[group] > 0) {
        submit_pieces(s);
        collect(s, true);
    }
    submit_pieces(s); /* of the other group, into the places that have become free */
    collect(s, false);
    s->stats.wait_ns += sl_now_ns() - start;
    sl_status status = s->failed[group];
    s->failed[group] = SL_OK;
    if (status != SL_OK)
        return sl_fail(err, status, "--kv-spill %s: keys and values cannot be read back: %s", s->folder, s->failure.message);
    return SL_OK;
}

void sl_spill_forget(sl_spill *s)
{
    for (; s->count > 0; s->count--) {
        s->open[s->queue[s->first].group]--;
        s->first = (s->first + 1) % s->capacity;
    }
    for (uint32_t group = 0; group < SL_SPILL_GROUPS; group++) {
        while (s->open[group] > 0)
            collect(s, true);
        s->failed[group] = SL_OK;
    }
}

sl_spill_stats sl_spill_measure(const sl_spill *s)
{
    return s->stats;
}

const sl_tier_attrs *sl_spill_tier(const sl_spill *s)
{
    return &s->tier->attrs;
}

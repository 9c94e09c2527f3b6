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

void sl_spill_close(sl_spill *s)
{
    if (s == NULL)
        return;
    if (s->tier != NULL)
        sl_tier_destroy(s->tier);
    if (s->fd >= 0)
        close(s->fd);
    free(s->queue);
    free(s->folder);
    free(s);
}

/* ---- writing ---- */

sl_status sl_spill_write(sl_spill *s, uint64_t offset, size_t bytes, const void *memory, sl_error *err)
{
    uint64_t start = sl_now_ns();
    for (size_t done = 0; done < bytes;) {
        ssize_t put = pwrite(s->fd, (const uint8_t *)memory + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return sl_fail(err, SL_IO, "--kv-spill %s: keys and values cannot be written there: %s", s->folder,
                           put < 0 ? strerror(errno) : "the disk takes nothing more");
        done += (size_t)put;
    }
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

sl_status sl_spill_read(sl_spill *s, uint32_t group, uint64_t offset, size_t bytes, void *memory, sl_error *err)
{
    if (bytes == 0)
        return SL_OK;
    if (s->count == s->capacity)
        return sl_fail(err, SL_INTERNAL, "more than %u ranges of a spill file asked for at once", s->capacity);
    s->queue[(s->first + s->count++) % s->capacity] = (range){.offset = offset, .bytes = bytes, .memory = memory, .group = group};
    s->open[group]++;
    s->stats.bytes_read += bytes;
    submit_pieces(s);
    collect(s, false); /* starts what was held back */
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

/* core/file_write.c: one staging buffer, one position, and the page cache behind it.
 *
 * Page cache: writeback is started one window behind the writing position and awaited another window behind that, then those pages
 * are dropped. So the disk always has work, and never more than two windows of cache are ours. */
#include "core/file_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STAGING_BYTES ((size_t)1 << 20)
#define WINDOW_BYTES  ((uint64_t)16 << 20)

struct sl_file_writer {
    char *path, *partial_path;
    int fd;
    uint8_t *staging;  /* STAGING_BYTES */
    size_t staged;     /* bytes in it */
    uint64_t position; /* file offset of staging[0] */
    uint64_t started;  /* writeback was started up to here */
    uint64_t dropped;  /* written, and out of the page cache, from where the position last jumped up to here */
};

/* ---- create, keep and discard ---- */

/* The partial file is opened without truncating and only changed under its lock: another writer of the same path keeps its data. */
static sl_status open_partial(sl_file_writer *w, sl_error *err)
{
    struct stat st, named;
    if (stat(w->path, &st) == 0 && !S_ISREG(st.st_mode))
        return sl_fail(err, SL_IO, "%s: is %s, want the name of a file to write", w->path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    w->fd = open(w->partial_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (w->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot create it: %s", w->partial_path, strerror(errno));
    bool locked = flock(w->fd, LOCK_EX | LOCK_NB) == 0;
    /* Between open and lock the other writer may have finished and renamed: then this is its finished file and not ours to empty. */
    if (!locked || fstat(w->fd, &st) != 0 || stat(w->partial_path, &named) != 0 || st.st_ino != named.st_ino || st.st_dev != named.st_dev) {
        close(w->fd);
        w->fd = -1;
        return sl_fail(err, SL_IO, "%s: another process is writing it", w->partial_path);
    }
    return SL_OK;
}

sl_status sl_file_writer_create(const char *path, sl_file_writer **out, sl_error *err)
{
    *out = NULL;
    sl_file_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to write it", path);
    w->fd = -1;
    w->path = strdup(path);
    if (asprintf(&w->partial_path, "%s.partial", path) < 0)
        w->partial_path = NULL;
    w->staging = malloc(STAGING_BYTES);

    sl_status status = SL_OK;
    if (!w->path || !w->partial_path || !w->staging)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory to write it", path);
    if (status == SL_OK)
        status = open_partial(w, err);
    if (status != SL_OK) {
        sl_file_writer_discard(w);
        return status;
    }
    *out = w;
    return SL_OK;
}

static void free_writer(sl_file_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    free(w->staging);
    free(w->partial_path);
    free(w->path);
    free(w);
}

void sl_file_writer_discard(sl_file_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0 && w->partial_path != NULL) /* only then is the partial file ours */
        (void)unlink(w->partial_path);
    free_writer(w);
}

const char *sl_file_writer_path(const sl_file_writer *w)
{
    return w->path;
}
uint64_t sl_file_writer_bytes(const sl_file_writer *w)
{
    struct stat st;
    return fstat(w->fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

/* ---- writing ---- */

sl_status sl_file_writer_begin(sl_file_writer *w, uint64_t file_bytes, bool keep_data, sl_error *err)
{
    if (!keep_data && ftruncate(w->fd, 0) != 0)
        return sl_fail(err, SL_IO, "%s: cannot empty it: %s", w->partial_path, strerror(errno));
    int error;
    do
        error = file_bytes ? posix_fallocate(w->fd, 0, (off_t)file_bytes) : 0;
    while (error == EINTR);
    if (error == 0)
        return SL_OK;
    struct statvfs fs;
    if (error == ENOSPC && fstatvfs(w->fd, &fs) == 0)
        return sl_fail(err, SL_IO, "%s: the disk is full: it needs %llu bytes, %llu are free", w->path, (unsigned long long)file_bytes,
                       (unsigned long long)fs.f_bavail * fs.f_frsize);
    return sl_fail(err, SL_IO, "%s: cannot reserve its %llu bytes: %s", w->path, (unsigned long long)file_bytes, strerror(error));
}

/* Awaits the writeback of [from, end) and drops those pages. */
static sl_status drop_range(sl_file_writer *w, uint64_t from, uint64_t end, sl_error *err)
{
    if (from >= end)
        return SL_OK;
    /* Some file systems cannot do ranges; for a real failure fdatasync gives the reason. */
    if (sync_file_range(w->fd, (off_t)from, (off_t)(end - from),
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0 &&
        fdatasync(w->fd) != 0)
        return sl_fail(err, SL_IO, "%s: cannot write back: %s", w->partial_path, strerror(errno));
    (void)posix_fadvise(w->fd, (off_t)from, (off_t)(end - from), POSIX_FADV_DONTNEED);
    return SL_OK;
}

/* Starts writeback of the window behind `position`; awaits and drops the one before. */
static sl_status trim_cache(sl_file_writer *w, sl_error *err)
{
    uint64_t end = w->position / WINDOW_BYTES * WINDOW_BYTES;
    if (end <= w->started)
        return SL_OK;
    if (sync_file_range(w->fd, (off_t)w->started, (off_t)(end - w->started), SYNC_FILE_RANGE_WRITE) != 0 && fdatasync(w->fd) != 0)
        return sl_fail(err, SL_IO, "%s: cannot write back: %s", w->partial_path, strerror(errno));
    SL_TRY(drop_range(w, w->dropped, w->started, err));
    w->dropped = w->started;
    w->started = end;
    return SL_OK;
}

static sl_status write_at(sl_file_writer *w, const uint8_t *data, size_t bytes, uint64_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t put = pwrite(w->fd, data + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return sl_fail(err, SL_IO, "%s: cannot write at byte %llu: %s", w->partial_path, (unsigned long long)(offset + done),
                           put < 0 ? strerror(errno) : "nothing was written");
        done += (size_t)put;
    }
    return SL_OK;
}

static sl_status flush(sl_file_writer *w, sl_error *err)
{
    SL_TRY(write_at(w, w->staging, w->staged, w->position, err));
    w->position += w->staged;
    w->staged = 0;
    return trim_cache(w, err);
}

sl_status sl_file_writer_put(sl_file_writer *w, const void *data, uint64_t bytes, sl_error *err)
{
    const uint8_t *from = data;
    while (bytes) {
        size_t room = STAGING_BYTES - w->staged, piece = bytes < room ? (size_t)bytes : room;
        if (from) {
            memcpy(w->staging + w->staged, from, piece);
            from += piece;
        } else {
            memset(w->staging + w->staged, 0, piece);
        }
        w->staged += piece;
        bytes -= piece;
        if (w->staged == STAGING_BYTES)
            SL_TRY(flush(w, err));
    }
    return SL_OK;
}

sl_status sl_file_writer_seek(sl_file_writer *w, uint64_t offset, sl_error *err)
{
    if (offset == w->position + w->staged)
        return SL_OK;
    SL_TRY(flush(w, err));
    /* A short piece is left to the system and dropped at the end; to wait for each would make many small tensors slow. */
    if (w->position - w->dropped >= WINDOW_BYTES)
        SL_TRY(drop_range(w, w->dropped, w->position, err));
    else if (w->position > w->started)
        (void)sync_file_range(w->fd, (off_t)w->started, (off_t)(w->position - w->started), SYNC_FILE_RANGE_WRITE);
    w->position = w->started = w->dropped = offset;
    return SL_OK;
}

sl_status sl_file_writer_read(sl_file_writer *w, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    SL_TRY(flush(w, err));
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(w->fd, (uint8_t *)to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return sl_fail(err, SL_IO, "%s: cannot read back at byte %llu: %s", w->partial_path, (unsigned long long)(offset + done),
                           got < 0 ? strerror(errno) : "it ends there");
        done += (size_t)got;
    }
    (void)posix_fadvise(w->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    return SL_OK;
}

sl_status sl_file_writer_patch(sl_file_writer *w, uint64_t offset, const void *data, size_t bytes, sl_error *err)
{
    SL_TRY(flush(w, err));
    return write_at(w, data, bytes, offset, err);
}

/* ---- the end ---- */

/* A rename is only durable once the folder is. Folders that cannot be opened or synced are let be: the file itself is safe by then. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

static sl_status complete(sl_file_writer *w, sl_error *err)
{
    SL_TRY(flush(w, err));
    if (fsync(w->fd) != 0)
        return sl_fail(err, SL_IO, "%s: cannot sync: %s", w->partial_path, strerror(errno));
    (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (rename(w->partial_path, w->path) != 0)
        return sl_fail(err, SL_IO, "%s: cannot rename it to %s: %s", w->partial_path, w->path, strerror(errno));
    sync_folder(w->path);
    return SL_OK;
}

sl_status sl_file_writer_finish(sl_file_writer *w, sl_error *err)
{
    sl_status status = complete(w, err);
    if (status == SL_OK)
        free_writer(w);
    else
        sl_file_writer_discard(w);
    return status;
}

void sl_file_writer_keep(sl_file_writer *w)
{
    if (!w)
        return;
    sl_error ignored; /* what cannot be written now will be missed, and made again, by the next writer */
    if (flush(w, &ignored) == SL_OK)
        (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    free_writer(w);
}

/* pager/files.c: opening files for direct reads, and the rules for a result that is less than was asked for. See files.h, tier.h.
 *
 * O_DIRECT leaves the page cache out, so that memory stays ours to promise; it wants offsets, sizes and memory aligned to what the file
 * system says through statx, 4096 where it says nothing. A file may be shorter than a whole number of blocks: the last read is then
 * short, which is no fault. Any other short read is continued; no byte at all before the size seen at open means that the file shrank. */
#include "pager/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT_DEFAULT 4096
#define ALIGNMENT_MAX     65536
#define DELAYS_MAX        10000 /* EAGAIN and EINTR in a row, after which a read counts as failed */

/* struct statx grew its direct I/O fields with Linux 6.1; older headers lack their names, not their place. */
#define STATX_ASK_DIO       0x2000u
#define STATX_DIO_MEM_AT    0x98
#define STATX_DIO_OFFSET_AT 0x9c

static uint32_t direct_alignment(int fd)
{
    struct statx info;
    uint32_t memory = 0, offset = 0;
    memset(&info, 0, sizeof info);
    if (statx(fd, "", AT_EMPTY_PATH, STATX_ASK_DIO, &info) != 0 || (info.stx_mask & STATX_ASK_DIO) == 0)
        return ALIGNMENT_DEFAULT;
    memcpy(&memory, (const char *)&info + STATX_DIO_MEM_AT, sizeof memory);
    memcpy(&offset, (const char *)&info + STATX_DIO_OFFSET_AT, sizeof offset);
    uint32_t need = memory > offset ? memory : offset;
    bool usable = need > 0 && need <= ALIGNMENT_MAX && (need & (need - 1)) == 0;
    return usable ? need : ALIGNMENT_DEFAULT;
}

static sl_status explain_open(const char *path, bool direct, int reason, sl_error *err)
{
    if (!direct || reason != EINVAL)
        return sl_fail(err, SL_IO, "%s: cannot open: %s", path, strerror(reason));
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    return sl_fail(err, SL_IO,
                   "%s: the file system of folder %.*s refuses O_DIRECT; move the file to a disk, or read through the page cache with "
                   "--buffered",
                   path, length, slash == NULL ? "." : path);
}

static sl_status open_one(const char *path, bool direct, sli_file *out, sl_error *err)
{
    struct stat info;
    out->fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (out->fd < 0)
        return explain_open(path, direct, errno, err);
    if (fstat(out->fd, &info) != 0)
        return sl_fail(err, SL_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return sl_fail(err, SL_IO, "%s: is %s, not a file", path, S_ISDIR(info.st_mode) ? "a folder" : "a special file");
    off_t end = S_ISBLK(info.st_mode) ? lseek(out->fd, 0, SEEK_END) : info.st_size;
    if (end < 0)
        return sl_fail(err, SL_IO, "%s: its size is not known: %s", path, strerror(errno));
    out->bytes = (uint64_t)end;
    out->path = strdup(path);
    return out->path != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "no memory for the name of %s", path);
}

sl_status sli_files_open(const char *const *paths, uint32_t count, bool buffered, sli_files *out, sl_error *err)
{
    *out = (sli_files){.alignment = 1, .direct = !buffered};
    if (count == 0)
        return sl_fail(err, SL_INVALID, "no file to open; at least 1 is needed");
    out->file = calloc(count, sizeof *out->file);
    if (out->file == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a table of %u files", count);
    for (uint32_t i = 0; i < count; i++)
        out->file[i].fd = -1;
    out->count = count;
    sl_status status = SL_OK;
    for (uint32_t i = 0; i < count && status == SL_OK; i++) {
        status = open_one(paths[i], out->direct, &out->file[i], err);
        uint32_t alignment = status == SL_OK && out->direct ? direct_alignment(out->file[i].fd) : 1;
        if (alignment > out->alignment)
            out->alignment = alignment;
    }
    if (status != SL_OK)
        sli_files_close(out);
    return status;
}

sl_status sl_files_alignment(const char *path, bool buffered, uint32_t *out, sl_error *err)
{
    sli_files files;
    SL_TRY(sli_files_open(&path, 1, buffered, &files, err));
    *out = files.alignment;
    sli_files_close(&files);
    return SL_OK;
}

void sli_files_close(sli_files *files)
{
    for (uint32_t i = 0; i < files->count; i++) {
        if (files->file[i].fd >= 0)
            close(files->file[i].fd);
        free(files->file[i].path);
    }
    free(files->file);
    *files = (sli_files){0};
}

uint64_t sli_files_total_bytes(const sli_files *files)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < files->count; i++)
        total += files->file[i].bytes;
    return total;
}

sl_status sli_files_check(const sli_files *files, const sl_read *read, sl_error *err)
{
    uint32_t mask = files->alignment - 1;
    if (read->file >= files->count)
        return sl_fail(err, SL_INVALID, "read from file %u of %u", read->file, files->count);
    const sli_file *file = &files->file[read->file];
    if (((read->offset | read->bytes | (uintptr_t)read->memory) & mask) != 0 || read->bytes == 0)
        return sl_fail(err, SL_INVALID, "%s: a read of %zu bytes at %llu is not aligned to %u", file->path, read->bytes,
                       (unsigned long long)read->offset, files->alignment);
    if (read->offset >= file->bytes)
        return sl_fail(err, SL_IO, "%s: a read at %llu starts past its end (%llu bytes)", file->path, (unsigned long long)read->offset,
                       (unsigned long long)file->bytes);
    return SL_OK;
}

static sl_status explain_end(const sli_file *file, uint64_t at, sl_error *err)
{
    struct stat info;
    uint64_t now = fstat(file->fd, &info) == 0 ? (uint64_t)info.st_size : at;
    return sl_fail(err, SL_IO, "%s shrank while it was read: it has %llu bytes, had %llu", file->path, (unsigned long long)now,
                   (unsigned long long)file->bytes);
}

sl_status sli_files_advance(const sli_files *files, const sl_read *read, sli_progress *progress, ssize_t result, sl_error *err)
{
    const sli_file *file = &files->file[read->file];
    uint64_t at = read->offset + progress->done;
    if (result == -EAGAIN || result == -EINTR) {
        if (++progress->delays <= DELAYS_MAX)
            return SL_PENDING;
    }
    if (result < 0)
        return sl_fail(err, SL_IO, "%s: reading %zu bytes at %llu failed: %s", file->path, read->bytes - progress->done,
                       (unsigned long long)at, strerror((int)-result));

    size_t before = progress->done;
    progress->delays = 0;
    progress->done += (size_t)result;
    if (progress->done >= read->bytes)
        return SL_OK;
    if (read->offset + progress->done >= file->bytes) {
        memset((char *)read->memory + progress->done, 0, read->bytes - progress->done);
        return SL_OK;
    }
    /* Read on from a whole block, for the next read must be aligned too. Not even one block: there is no more. */
    progress->done -= progress->done % files->alignment;
    if (progress->done == before)
        return explain_end(file, at, err);
    return SL_PENDING;
}

sl_status sl_tier_open_files(const char *const *paths, uint32_t count, const sl_files_options *options, sl_tier **out, sl_error *err)
{
    sli_files files;
    *out = NULL;
    if (options->depth > SLI_DEPTH_MAX)
        return sl_fail(err, SL_INVALID, "an I/O depth of %u is too large; 1 to %d work", options->depth, SLI_DEPTH_MAX);
    SL_TRY(sli_files_open(paths, count, options->buffered, &files, err));
    if (options->engine == SL_IO_PREAD)
        return sli_pread_open(&files, options, out, err);

    sl_error refused = {0};
    sl_status status = sli_uring_open(&files, options, out, &refused);
    if (status == SL_UNSUPPORTED && options->engine == SL_IO_AUTO) {
        status = sli_pread_open(&files, options, out, err);
        if (status == SL_OK)
            snprintf((*out)->attrs.note, sizeof(*out)->attrs.note, "%.130s; using pread", refused.message);
        return status;
    }
    if (status == SL_UNSUPPORTED)
        sli_files_close(&files);
    if (status != SL_OK && err != NULL)
        *err = refused;
    return status;
}

void sl_tier_destroy(sl_tier *tier)
{
    if (tier != NULL)
        tier->ops->destroy(tier);
}

/* offload/prune/spool.c: see spool.h. */
#include "offload/prune/spool.h"
#include "core/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sl_status open_file(sli_spool *spool, const char *beside, sl_error *err)
{
    spool->fd = sl_nameless_file_beside(beside, 0);
    if (spool->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot make a temporary file beside it: %s", beside, strerror(errno));
    off_t bytes = (off_t)sli_spool_bytes(spool->rows, spool->cols);
    int full = posix_fallocate(spool->fd, 0, bytes);
    if (full != 0)
        return sl_fail(err, SL_IO, "%s: the folder cannot hold %llu bytes of activations: %s", beside, (unsigned long long)bytes,
                       strerror(full));
    return SL_OK;
}

sl_status sli_spool_open(uint32_t rows, uint32_t cols, bool in_memory, const char *beside, sli_spool *out, sl_error *err)
{
    *out = (sli_spool){.fd = -1, .rows = rows, .cols = cols};
    if (!in_memory)
        return open_file(out, beside, err);
    out->memory = sl_pages_alloc(sli_spool_bytes(rows, cols));
    return out->memory != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for activations");
}

void sli_spool_close(sli_spool *spool)
{
    if (spool->memory != NULL)
        sl_pages_free(spool->memory, sli_spool_bytes(spool->rows, spool->cols));
    else if (spool->rows > 0 && spool->fd >= 0)
        close(spool->fd);
    *spool = (sli_spool){.fd = -1};
}

sl_status sli_spool_put(const sli_spool *spool, uint32_t first, uint32_t count, const float *x, sl_error *err)
{
    size_t row_bytes = spool->cols * sizeof(float), bytes = count * row_bytes, offset = first * row_bytes;
    if (spool->memory != NULL) {
        memcpy((char *)spool->memory + offset, x, bytes);
        return SL_OK;
    }
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(spool->fd, (const char *)x + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "the temporary file of activations cannot be written: %s", strerror(n < 0 ? errno : ENOSPC));
        done += (size_t)n;
    }
    posix_fadvise(spool->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED); /* the cgroup counts the page cache */
    return SL_OK;
}

sl_status sli_spool_get(const sli_spool *spool, uint32_t first, uint32_t count, float *x, sl_error *err)
{
    size_t row_bytes = spool->cols * sizeof(float), bytes = count * row_bytes, offset = first * row_bytes;
    if (spool->memory != NULL) {
        memcpy(x, (const char *)spool->memory + offset, bytes);
        return SL_OK;
    }
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(spool->fd, (char *)x + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "the temporary file of activations cannot be read: %s", n < 0 ? strerror(errno) : "it is too short");
        done += (size_t)n;
    }
    posix_fadvise(spool->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    return SL_OK;
}

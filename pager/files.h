/* pager/files.h: the files behind a tier, and what a read's result means. Shared by the engines that read files (uring.c, pread.c).
 *
 * Threads: immutable after open, so any thread may read through it. */
#ifndef SL_PAGER_FILES_H
#define SL_PAGER_FILES_H

#include "pager/tier.h"

#include <sys/types.h>

typedef struct sli_file {
    int fd;
    char *path; /* owned */
    uint64_t bytes;
} sli_file;

typedef struct sli_files {
    sli_file *file; /* owned */
    uint32_t count;
    uint32_t alignment;
    bool direct;
} sli_files;

SL_MUST_USE sl_status sli_files_open(const char *const *paths, uint32_t count, bool buffered, sli_files *out, sl_error *err);
void sli_files_close(sli_files *files);
uint64_t sli_files_total_bytes(const sli_files *files);

/* SL_OK when `read` is one that T4 allows. */
SL_MUST_USE sl_status sli_files_check(const sli_files *files, const sl_read *read, sl_error *err);

/* A read on its way: how much has come, and how often the system put us off. */
typedef struct sli_progress {
    size_t done;
    unsigned delays;
} sli_progress;

/* Takes the result of reading the rest of `read` from progress->done on: bytes, or a negative errno. SL_OK: all is there (what lies past
 * the end of the file is zeroed); SL_PENDING: read on from progress->done; SL_IO: it failed. */
SL_MUST_USE sl_status sli_files_advance(const sli_files *files, const sl_read *read, sli_progress *progress, ssize_t result, sl_error *err);

/* The engines. Each takes the files over, also on failure. uring gives SL_UNSUPPORTED where io_uring is refused, and then leaves the
 * files to the caller. */
SL_MUST_USE sl_status sli_uring_open(sli_files *files, const sl_files_options *options, sl_tier **out, sl_error *err);
SL_MUST_USE sl_status sli_pread_open(sli_files *files, const sl_files_options *options, sl_tier **out, sl_error *err);

#define SLI_DEPTH_DEFAULT 32
#define SLI_DEPTH_MAX     1024

#endif

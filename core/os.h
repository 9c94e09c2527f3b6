/* core/os.h: what we ask of Linux: memory figures, aligned memory, clocks.
 *
 * Threads: pure, except where said. */
#ifndef SL_CORE_OS_H
#define SL_CORE_OS_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t sl_now_ns(void); /* monotonic */

typedef struct sl_memory_info {
    uint64_t total_bytes;        /* MemTotal */
    uint64_t available_bytes;    /* MemAvailable */
    uint64_t cgroup_limit_bytes; /* smallest limit on the way to the root, v1 or v2; UINT64_MAX: none */
    uint64_t cgroup_used_bytes;  /* of the cgroup that has that limit; 0 where there is none */
    uint64_t cgroup_cache_bytes; /* of those, page cache of files, which the kernel gives back */
    unsigned cgroup_version;     /* 1 or 2: whose limit would count; 0: no group of memory was found */
} sl_memory_info;
void sl_memory_info_get(sl_memory_info *out);
/* What can be had at most: the available memory, or the cgroup's limit where that is less; and what a run takes of it unasked. Pure. */
uint64_t sl_memory_within(const sl_memory_info *info);
uint64_t sl_default_budget(const sl_memory_info *info); /* 0.8 of it */

uint64_t sl_rss_bytes(void);         /* resident now (VmRSS) */
uint64_t sl_peak_rss_bytes(void);    /* VmHWM */
uint64_t sl_cgroup_peak_bytes(void); /* the cgroup's own peak; 0 where it can't be read */
uint64_t sl_memlock_limit_bytes(void);
uint64_t sl_open_files_limit(void); /* UINT64_MAX: none */

/* A file of the folder that never had a name, or, where the file system knows no such thing, has lost it at once: it goes with its last descriptor. Opened to
 * read and write, with `flags` (O_DIRECT); -1 with errno. Beside: in the folder of this file. */
int sl_nameless_file(const char *folder, int flags);
int sl_nameless_file_beside(const char *path, int flags);

/* Zeroed anonymous pages, 2 MiB aligned and advised for huge pages when `bytes` is at least that; else page aligned. Returned memory is
 * rounded up: sl_pages_round says to what, so that it can be priced first. NULL when the system refuses. */
void *sl_pages_alloc(size_t bytes);
void sl_pages_free(void *pages, size_t bytes);
size_t sl_pages_round(size_t bytes);

/* "512M", "4G", "1.5GiB", "1048576" -> bytes; K, M, G, T are powers of 1024. False when it is no size or overflows. */
bool sl_parse_size(const char *text, uint64_t *out);
/* 3221225472 -> "3.00 GiB" in `out`. */
void sl_format_size(uint64_t bytes, char out[24]);

#endif

/* pager/tier.h: a place where weights lie, behind one vtable: files on NVMe, host memory, a synthetic device, or any of them throttled.
 *
 * A tier reads byte ranges into memory that the caller owns, asynchronously. It knows nothing of units or budgets.
 *
 * Contract of submit/reap:
 *  T1  a submitted read is reported by reap exactly once, in any order, with SL_OK (all bytes are there) or SL_IO;
 *  T2  short reads, EINTR and EAGAIN are finished inside the tier; a file that ends early is SL_IO ("shrank while it was read");
 *  T3  at most attrs.depth reads are in flight; submit returns SL_PENDING, having taken none, when the read would exceed it;
 *  T4  offset, bytes and memory must be multiples of attrs.alignment (the caller widens a range; the end of the file may cut the last
 *      block short: bytes past the end read as zero).
 *  T5  a submitted read may be held back until the next reap, so that several start with one system call: end a burst of submits with a
 *      reap (wait = false, max = 0 does nothing else).
 *
 * Threads: one owner thread calls everything of one tier. */
#ifndef SL_PAGER_TIER_H
#define SL_PAGER_TIER_H

#include "core/histogram.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_tier sl_tier;

typedef struct sl_tier_attrs {
    const char *engine; /* "uring", "pread", "host", "synthetic"; what --json reports */
    bool direct;        /* O_DIRECT: the page cache is not used */
    uint32_t alignment; /* of offsets, sizes and memory */
    uint32_t depth;     /* reads in flight, at most */
    uint64_t capacity_bytes;
    uint64_t heap_bytes;  /* what it holds in memory (rings, thread stacks), for the budget */
    double bandwidth_Bps; /* 0 until measured */
    char note[160];       /* what the user must be told ("io_uring is refused here (EPERM); using pread"), else "" */
} sl_tier_attrs;

typedef struct sl_read {
    uint32_t file;   /* index into the tier's files */
    uint64_t offset; /* aligned (T4) */
    size_t bytes;    /* aligned (T4) */
    void *memory;
    uint64_t tag; /* given back by reap */
} sl_read;

typedef struct sl_read_done {
    uint64_t tag;
    sl_status status;
} sl_read_done;

typedef struct sl_tier_ops {
    sl_status (*submit)(sl_tier *tier, const sl_read *read, sl_error *err);
    /* Collects up to max finished reads; waits for at least one when `wait` and any are in flight. err explains the last SL_IO. */
    size_t (*reap)(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err);
    void (*destroy)(sl_tier *tier);
} sl_tier_ops;

struct sl_tier { /* every tier begins with this */
    const sl_tier_ops *ops;
    sl_tier_attrs attrs;
};

typedef enum sl_io_engine { SL_IO_AUTO, SL_IO_URING, SL_IO_PREAD } sl_io_engine;

typedef struct sl_files_options {
    sl_io_engine engine; /* AUTO: io_uring, else pread with attrs.note saying why */
    uint32_t depth;      /* 0: the default, 32 */
    bool buffered;       /* through the page cache; without it a file system that refuses O_DIRECT is an error naming the folder */
    /* Memory that all reads go to, registered with the ring as far as RLIMIT_MEMLOCK allows (else unregistered, and noted); NULL: none. */
    void *register_memory;
    size_t register_bytes;
} sl_files_options;

/* What reads of this file will have to be aligned to, before memory is laid out for them; a file that cannot be opened is SL_IO. */
SL_MUST_USE sl_status sl_files_alignment(const char *path, bool buffered, uint32_t *out, sl_error *err);
/* Opens the files for reading. */
SL_MUST_USE sl_status sl_tier_open_files(const char *const *paths, uint32_t count, const sl_files_options *options, sl_tier **out,
                                         sl_error *err);
/* Copies from memory that the caller keeps alive. */
SL_MUST_USE sl_status sl_tier_open_host(const void *data, uint64_t bytes, sl_tier **out, sl_error *err);
/* Bytes are a hash of (seed + file, offset); any file number works. Time is simulated, so that any link is reproducible in a test: a reap
 * that waits advances it to the next finished read, one that does not by a microsecond. The read named by fail_read (counted from 1; 0:
 * none) fails. */
typedef struct sl_synthetic_options {
    uint64_t seed, capacity_bytes;
    double bandwidth_Bps;
    uint64_t latency_ns;
    uint32_t depth, fail_read;
    bool blank; /* no bytes: memory stays as it is, for those who only count */
} sl_synthetic_options;
SL_MUST_USE sl_status sl_tier_open_synthetic(const sl_synthetic_options *options, sl_tier **out, sl_error *err);
uint8_t sl_synthetic_byte(uint64_t seed, uint64_t offset);
uint64_t sl_synthetic_now_ns(const sl_tier *tier);

/* Wraps `inner` (and owns it, also on failure) so that it delivers at most bytes_per_s, each read after latency_ns at the earliest. */
SL_MUST_USE sl_status sl_tier_throttle(sl_tier *inner, double bytes_per_s, uint64_t latency_ns, sl_tier **out, sl_error *err);

/* Wraps `inner` (and owns it, also on failure) and adds each read's size and time (ns, from submission until reap gives it) to histograms
 * that the caller keeps. */
SL_MUST_USE sl_status sl_tier_watch(sl_tier *inner, sl_histogram *read_ns, sl_histogram *request_bytes, sl_tier **out, sl_error *err);

void sl_tier_destroy(sl_tier *tier); /* waits for what is in flight; NULL is fine */

#endif

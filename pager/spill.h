/* pager/spill.h: a file without a name, for what does not fit in memory and may be forgotten: it goes with the process, however that ends.
 *
 * It is written and read back past the page cache, like a model's file. A write is done when the call returns; reads are asynchronous, in groups that
 * are waited for.
 *
 * Invariants
 *  S1  A group is done when none of its ranges is queued or in flight; sl_spill_wait returns at that point, or with the first failure after all of them.
 *  S2  Ranges are read in the order in which they were asked for, cut into pieces of at most SL_SPILL_PIECE_BYTES.
 *  S3  A cell lies in the file or, where the disk was full when it was written, in memory, until it closes; kept_bytes is what those take, with
 *      their table, and never above kept_bytes_max.
 *
 * Threads: one owner. */
#ifndef SL_PAGER_SPILL_H
#define SL_PAGER_SPILL_H

#include "pager/tier.h"

#define SL_SPILL_GROUPS      2
#define SL_SPILL_PIECE_BYTES ((size_t)1 << 20)

typedef struct sl_spill sl_spill;

typedef struct sl_spill_options {
    uint64_t bytes;      /* the largest it can become; the disk is used as it is written */
    uint32_t ranges;     /* asked for and not yet waited for, at most */
    sl_io_engine engine; /* of the reads */
    bool buffered;       /* through the page cache, where a file system refuses direct access */
    double throttle_Bps; /* of the reads; 0: none */
    void *memory;        /* that is read to, see sl_files_options */
    size_t memory_bytes;
    size_t cell_bytes;       /* what offsets and sizes are multiples of */
    uint64_t kept_bytes_max; /* that cells may take in memory when the disk is full */
} sl_spill_options;

/* What offsets, sizes and memory will have to be multiples of, in a folder; SL_IO where no such file can be made there, with the reason. */
SL_MUST_USE sl_status sl_spill_alignment(const char *folder, bool buffered, uint32_t *out, sl_error *err);

SL_MUST_USE sl_status sl_spill_open(const char *folder, const sl_spill_options *options, sl_spill **out, sl_error *err);
void sl_spill_close(sl_spill *spill); /* waits for what is in flight; NULL is fine */

SL_MUST_USE sl_status sl_spill_write(sl_spill *spill, uint64_t offset, size_t bytes, const void *memory, sl_error *err);
/* Starts to read a range into `memory`, as part of a group (0 .. SL_SPILL_GROUPS - 1). */
SL_MUST_USE sl_status sl_spill_read(sl_spill *spill, uint32_t group, uint64_t offset, size_t bytes, void *memory, sl_error *err);
SL_MUST_USE sl_status sl_spill_wait(sl_spill *spill, uint32_t group, sl_error *err);
void sl_spill_forget(
    sl_spill *spill); /* drops what is queued, and waits for what is in flight, of all groups; their failures do not matter */

typedef struct sl_spill_stats { /* since open */
    uint64_t bytes_read, bytes_written;
    uint64_t requests; /* of reads */
    uint64_t wait_ns;  /* in sl_spill_wait and sl_spill_write */
    uint64_t kept_bytes;
} sl_spill_stats;
sl_spill_stats sl_spill_measure(const sl_spill *spill);
const sl_tier_attrs *sl_spill_tier(const sl_spill *spill); /* of the reads */

#endif

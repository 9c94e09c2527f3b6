/* offload/prune/spool.h: rows of activations, in memory or, where the budget wants it, in a temporary file without a name.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_PRUNE_SPOOL_H
#define SL_OFFLOAD_PRUNE_SPOOL_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sli_spool {
    float *memory; /* NULL: in the file */
    int fd;
    uint32_t rows, cols;
} sli_spool;

static inline uint64_t sli_spool_bytes(uint64_t rows, uint64_t cols)
{
    return rows * cols * sizeof(float);
}

/* `beside`: a temporary file lies in this file's folder. */
SL_MUST_USE sl_status sli_spool_open(uint32_t rows, uint32_t cols, bool in_memory, const char *beside, sli_spool *out, sl_error *err);
void sli_spool_close(sli_spool *spool); /* one of zeros is fine, too */
SL_MUST_USE sl_status sli_spool_put(const sli_spool *spool, uint32_t first, uint32_t count, const float *x, sl_error *err);
SL_MUST_USE sl_status sli_spool_get(const sli_spool *spool, uint32_t first, uint32_t count, float *x, sl_error *err);

#endif

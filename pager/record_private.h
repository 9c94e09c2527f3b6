/* pager/record_private.h: the recorder, shared by what fills it (record.c) and what writes the file (record_write.c). */
#ifndef SL_PAGER_RECORD_PRIVATE_H
#define SL_PAGER_RECORD_PRIVATE_H

#include "pager/record.h"

#define SLI_RECORD_MAGIC   "SLRECORD"
#define SLI_RECORD_VERSION 1u
#define SLI_RECORD_NUMBERS (sizeof(sl_record_head) / sizeof(uint64_t))

struct sl_record {
    uint8_t *events;
    uint64_t used, capacity, memory_bytes;
    uint64_t reserve; /* kept free for what one call reaps */
    uint64_t event_count, passes, rows;
    uint64_t empty[2];                              /* answers of the tiers not written yet */
    uint32_t offer_layer, offer_first, offer_count; /* offers in a row not written yet */
    uint64_t begin_ns, end_ns, resumed_ns;          /* the first pass; the last event; since when computing goes on */
    uint64_t busy_ns, busy_since_ns, in_flight;
    bool ended, cut, broken;
    const sl_pager *pager;
    const sl_bundles *bundles;
    sl_pager_stats pager_stats; /* when it was cut */
    sl_bundles_stats bundle_stats;
};

#endif

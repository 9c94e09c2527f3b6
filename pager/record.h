/* pager/record.h: what was asked of the pager and of the bundles, call by call, and when the reads came back: enough to do it again without a model.
 *
 * Nothing but these calls and the tier's answers decides what the pager reads. So a record that holds both can be replayed through the same code,
 * byte for byte (replay.h), and one can ask what another policy, more memory or another disk would have made of the same accesses.
 *
 * The memory is set aside beforehand. When it is full the recording ends, between two calls, and says so: what is there is whole.
 *
 * The file (version 1; numbers are little-endian)
 *
 *     "SLRECORD", then 40 numbers of 64 bits (sl_record_head), version first
 *     units      [unit_count]   offset u64, bytes u32, file u16, flags u16 (sl_record_unit_flags)
 *     layers     [layer_count]  offset u64, stride u32, bytes u32, count u32, capacity u32
 *     name       [name_bytes]   of the model
 *     events     [event_bytes]  a byte of sl_record_op, then its numbers as LEB128 (sl_record_event says which)
 *     XXH64 of all that comes before
 *
 * Lists of places are a count, the first, and each one's distance to the one before less one. Times are nanoseconds of computing since the
 * event before that has one: what was waited is not in them.
 *
 * Threads: the pager's owner. */
#ifndef SL_PAGER_RECORD_H
#define SL_PAGER_RECORD_H

#include "pager/bundles.h"
#include "pager/pager.h"

typedef enum sl_record_op {
    SL_RECORD_PASS = 1, /* rows */
    /* of the pager */
    SL_RECORD_PLAN,    /* units, each as the distance (zigzag) to the one before */
    SL_RECORD_CANCEL,  /* nothing */
    SL_RECORD_ACQUIRE, /* unit, time */
    SL_RECORD_USE,     /* unit, time: it was resident */
    SL_RECORD_SETTLE,  /* unit */
    SL_RECORD_RELEASE, /* unit */
    SL_RECORD_READY,   /* unit */
    SL_RECORD_POLL,    /* nothing */
    SL_RECORD_RETRY,   /* nothing */
    SL_RECORD_SMALL,   /* file, bytes of each, time, offsets */
    /* of the bundles */
    SL_RECORD_PREFETCH,      /* layer, time, places */
    SL_RECORD_FETCH,         /* layer, time, places */
    SL_RECORD_BUNDLES_READY, /* layer, places */
    SL_RECORD_DONE,          /* layer */
    SL_RECORD_OFFER,         /* layer, first place, how many */
    SL_RECORD_BUNDLES_POLL,  /* nothing */
    /* of a tier */
    SL_RECORD_REAP, /* whose (0: the pager's), how many empty answers came before, reads that were done: each tag * 4, + 2 for a small range, + 1 where it failed */
    SL_RECORD_OPS
} sl_record_op;

enum sl_record_unit_flags { SL_RECORD_HOME = 1, SL_RECORD_BUNDLES = 2, SL_RECORD_HEAD = 4 };
enum sl_record_flags { SL_RECORD_CUT = 1 /* the memory was full */, SL_RECORD_BROKEN = 2 /* it cannot be replayed byte for byte */ };

typedef struct sl_record_head { /* 40 numbers, as in the file */
    uint64_t version, flags;
    uint64_t unit_count, layer_count, name_bytes, event_bytes, event_count, passes, rows;
    uint64_t alignment, ring_bytes, plan_max, depth;                                            /* of the pager */
    uint64_t bundle_alignment, wanted_max, stage_bytes, gap_bytes, request_bytes, policy, file; /* of the bundles; layer_count 0: none */
    uint64_t bundle_depth;
    uint64_t throttle_Bps;                                            /* 0: none */
    uint64_t weight_bytes;                                            /* of all units */
    uint64_t budget_bytes;                                            /* of the whole process */
    uint64_t elapsed_ns, wait_ns;                                     /* from the first pass on */
    uint64_t busy_ns;                                                 /* some read was on its way */
    uint64_t bytes_read, bytes_wanted, requests;                      /* of the pager */
    uint64_t bundle_bytes_read, bundle_bytes_wanted, bundle_requests; /* of the bundles */
    uint64_t needed, cached;                                          /* bundles */
    uint64_t spare[5];
} sl_record_head;

typedef struct sl_record sl_record;

/* Bytes of memory that a recorder with `bytes` for its events takes, as allocated. Pure. */
uint64_t sl_record_price(uint64_t bytes);
SL_MUST_USE sl_status sl_record_create(uint64_t bytes, sl_record **out, sl_error *err);
void sl_record_destroy(sl_record *record);         /* NULL is fine */
uint64_t sl_record_bytes(const sl_record *record); /* that events take */
bool sl_record_cut(const sl_record *record);       /* it was full, and ended early */

/* Before the tiers are attached, and before anything is read. A record belongs to one pager, and to its bundles where there are some. */
void sl_pager_record(sl_pager *pager, sl_record *record);
void sl_bundles_record(sl_bundles *bundles, sl_record *record);

typedef struct sl_record_about { /* what a file says beside */
    const char *model;
    uint64_t budget_bytes, throttle_Bps;
    const uint16_t *unit_flags; /* [unit_count]; homes are added */
} sl_record_about;
/* Writes the file, whole or not at all. */
SL_MUST_USE sl_status sl_record_write(const sl_record *record, const sl_record_about *about, const char *path, sl_error *err);

/* ---- for those who are recorded ---- */

void sli_record_simple(sl_record *r, sl_record_op op);
void sli_record_number(sl_record *r, sl_record_op op, uint64_t number, bool timed);
void sli_record_plan(sl_record *r, const sl_unit_id *units, uint32_t count);
void sli_record_small(sl_record *r, uint32_t file, uint32_t bytes, const uint64_t *offsets, uint32_t count);
void sli_record_places(sl_record *r, sl_record_op op, uint32_t layer, const uint32_t *places, uint32_t count);
void sli_record_offer(sl_record *r, uint32_t layer, uint32_t place);
void sli_record_started(sl_record *r);
void sli_record_reaped(sl_record *r, uint32_t whose, const sl_read_done *done, size_t count);
void sli_record_resume(sl_record *r);
void sli_record_broken(sl_record *r);
void sli_record_rows(sl_record *r, uint32_t rows);

/* Calls of the pager and the bundles, as they begin; each is one test without a record. */
static inline void sl_record_call(sl_record *r, sl_record_op op)
{
    if (r != NULL)
        sli_record_simple(r, op);
}
static inline void sl_record_call_of(sl_record *r, sl_record_op op, uint32_t unit_or_layer)
{
    if (r != NULL)
        sli_record_number(r, op, unit_or_layer, op == SL_RECORD_ACQUIRE || op == SL_RECORD_USE);
}
static inline void sl_record_plan(sl_record *r, const sl_unit_id *units, uint32_t count)
{
    if (r != NULL)
        sli_record_plan(r, units, count);
}
static inline void sl_record_small(sl_record *r, uint32_t file, uint32_t bytes, const uint64_t *offsets, uint32_t count)
{
    if (r != NULL)
        sli_record_small(r, file, bytes, offsets, count);
}
static inline void sl_record_places(sl_record *r, sl_record_op op, uint32_t layer, const uint32_t *places, uint32_t count)
{
    if (r != NULL)
        sli_record_places(r, op, layer, places, count);
}
static inline void sl_record_offer(sl_record *r, uint32_t layer, uint32_t place)
{
    if (r != NULL)
        sli_record_offer(r, layer, place);
}
/* A call that may have waited is over: computing goes on. */
static inline void sl_record_resume(sl_record *r)
{
    if (r != NULL)
        sli_record_resume(r);
}
/* A read has started; what a tier's reap gave; a read that the tier did not take, which no replay can know. */
static inline void sl_record_started(sl_record *r)
{
    if (r != NULL)
        sli_record_started(r);
}
static inline void sl_record_reaped(sl_record *r, uint32_t whose, const sl_read_done *done, size_t count)
{
    if (r != NULL)
        sli_record_reaped(r, whose, done, count);
}
static inline void sl_record_broken(sl_record *r)
{
    if (r != NULL)
        sli_record_broken(r);
}
/* A pass over the weights begins. */
static inline void sl_record_pass(sl_record *r, uint32_t rows)
{
    if (r != NULL)
        sli_record_rows(r, rows);
}

/* ---- reading ---- */

typedef struct sl_record_event {
    sl_record_op op;
    uint64_t number, compute_ns; /* a unit, a layer, rows, whose reap; the time */
    uint32_t first, count;       /* OFFER; length of the list that the others have */
    uint32_t file, bytes;        /* SMALL */
    uint64_t empty;              /* REAP */
    const uint32_t *list;        /* units, places */
    const uint64_t *wide;        /* SMALL: offsets; REAP: tag * 4 + small * 2 + failed */
} sl_record_event;

typedef struct sl_record_file {
    sl_record_head head;
    sl_unit *units;
    uint16_t *unit_flags;
    sl_bundle_layer *layers;
    char *name;
    const uint8_t *events;
    uint32_t list_max; /* of any event */
    void *memory;
} sl_record_file;

/* Reads a file whole, and checks all of it: what it gives can be walked without further looks. */
SL_MUST_USE sl_status sl_record_open(const char *path, sl_record_file *out, sl_error *err);
/* The same of bytes in memory, malloc'd, which it takes over, also when it fails. */
SL_MUST_USE sl_status sl_record_parse(const char *path, uint8_t *bytes, uint64_t length, sl_record_file *out, sl_error *err);
void sl_record_close(sl_record_file *file);

typedef struct sl_record_cursor {
    const sl_record_file *file;
    uint64_t at;
    uint32_t *list; /* room for list_max */
    uint64_t *wide;
} sl_record_cursor;
SL_MUST_USE sl_status sl_record_begin(const sl_record_file *file, sl_record_cursor *out, sl_error *err);
bool sl_record_next(sl_record_cursor *cursor, sl_record_event *out); /* false at the end; lists hold until the next */
void sl_record_end(sl_record_cursor *cursor);

#endif

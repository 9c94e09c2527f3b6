/* pager/bundles.h: neurons as units: those that are in memory, and the reads of those that are not.
 *
 * A layer's bundles lie in the file one after the other, `stride` bytes each, and are named by their place in that order (the storage
 * order; what neuron a place holds is the caller's business). Each layer has a cache of `capacity` slots; beside it there are two stages,
 * where reads land, so that one layer can be computed on while the next is read. Absent bundles are read in few requests: neighbours
 * together, and across a gap where reading the gap is cheaper than a further request.
 *
 *     prefetch(l, guess)            reads begin, nothing waits
 *     fetch(l, set) -> addresses    what is absent still is read; waits; the addresses hold until done(l)
 *     done(l)                       the policy sees what was used, and may copy bundles from the stage into the cache
 *
 * A slot holds a bundle without its padding, in an odd number of cache lines: bundles a power of two apart would share few sets of the
 * processor's caches, and multiplying them would wait for it.
 *
 * Invariants (those of the parts are in bundle_policy.h, bundle_cache.h and bundle_stage.h)
 *  B1  An address handed out by fetch does not move or change until done.
 *  B2  What is in the cache is a function of the calls of fetch, done and offer that succeeded, never of time or of prefetch; and it never
 *      changes what fetch gives, only what it reads.
 *  B3  Memory held is exactly what sl_bundles_price said, from create to destroy; nothing is allocated in between.
 *  B4  One fetch is owed its done at most; until then another layer may be prefetched, one at a time.
 *
 * Threads: one owner thread calls everything; addresses may be read by any thread. */
#ifndef SL_PAGER_BUNDLES_H
#define SL_PAGER_BUNDLES_H

#include "core/trace.h"
#include "pager/tier.h"

/* What offsets and strides must be multiples of, and so what addresses are. Multiples of the tier's alignment are read without waste. */
#define SL_BUNDLE_ALIGNMENT 64

typedef enum sl_bundle_policy {
    SL_BUNDLES_STATIC,   /* the first places of the storage order, for ever: of use where that is hot first */
    SL_BUNDLES_LRU,      /* what was used last */
    SL_BUNDLES_FREQUENT, /* what was used most lately: uses that fade; none is given up for one that is not used more */
} sl_bundle_policy;

typedef struct sl_bundle_layer {
    uint64_t offset;   /* of place 0 in the file */
    uint32_t stride;   /* bytes from one bundle to the next, padding included */
    uint32_t bytes;    /* of a bundle without its padding, at most stride: what is kept */
    uint32_t count;    /* places; 0: the layer has no bundles */
    uint32_t capacity; /* slots, at most count */
} sl_bundle_layer;

typedef struct sl_bundles_config {
    const sl_bundle_layer *layers; /* copied */
    uint32_t layer_count;
    uint32_t file;       /* the tier's */
    uint32_t alignment;  /* the tier's must divide it; a power of two */
    uint32_t wanted_max; /* places of one fetch, at most */
    uint64_t
        staging_bytes; /* of each of the two stages: at least sl_bundles_staging_min; 0: that. More lets gaps be read and guesses be kept */
    uint32_t gap_bytes;     /* a gap up to this size is read rather than left out, where the stage has room */
    uint32_t request_bytes; /* largest request; 0: the default */
    sl_bundle_policy policy;
} sl_bundles_config;

/* Measured (bench/SPEED.md, "Bundles"): one bundle of a 7 B is read through, which reads a quarter more at most and is within a tenth of the
 * best; twice that gap is for bundles of 1 KiB. A queue of 128 reads as much as a quarter more than one of 32. */
#define SL_BUNDLES_GAP_BYTES     ((uint32_t)8 << 10)
#define SL_BUNDLES_REQUEST_BYTES ((uint32_t)256 << 10)

typedef struct sl_bundles sl_bundles;

/* Bytes of a slot. */
uint32_t sl_bundles_slot_bytes(const sl_bundle_layer *layer);

/* Bytes of host memory that this configuration takes, as allocated. Pure. */
typedef struct sl_bundles_cost {
    uint64_t slots_bytes, staging_bytes, tables_bytes;
} sl_bundles_cost;
sl_bundles_cost sl_bundles_price(const sl_bundles_config *config);
/* The least stage that works for every set of wanted_max places: all absent, and no two of them neighbours. Pure. */
uint64_t sl_bundles_staging_min(const sl_bundle_layer *layers, uint32_t layer_count, uint32_t wanted_max, uint32_t alignment);

/* The stages exist before the tier does, so that it can register them: create, sl_bundles_staging, open the tier, attach. */
SL_MUST_USE sl_status sl_bundles_create(const sl_bundles_config *config, sl_bundles **out, sl_error *err);
void *sl_bundles_staging(sl_bundles *b, size_t *bytes);
/* Takes the tier over, also when it fails. */
SL_MUST_USE sl_status sl_bundles_attach(sl_bundles *b, sl_tier *tier, sl_error *err);
void sl_bundles_trace(sl_bundles *b, sl_trace *trace); /* reads and waits go to it from now on; nothing is in flight */
void sl_bundles_destroy(sl_bundles *b);                /* NULL is fine; waits for reads in flight */

/* Begins to read what of these places (ascending) is absent. Never waits. May do less than asked (no room, or the stage's last reads are
 * still on their way), and a read of it may fail: fetch makes up for both. More than one call for a layer adds up. */
void sl_bundles_prefetch(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count);
/* Addresses of all `count` places (ascending, at most wanted_max); waits for what is absent. SL_IO names the file; then nothing is owed and
 * the same call may be tried again, which reads only what is still absent. On SL_OK one done(layer) is owed. */
SL_MUST_USE sl_status sl_bundles_fetch(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count, const uint8_t **addresses,
                                       sl_error *err);
/* Which of these places (ascending) are in memory now, cached or prefetched: a fetch of those would not wait. `ready` may be `places`. How many. */
uint32_t sl_bundles_ready(sl_bundles *b, uint32_t layer, const uint32_t *places, uint32_t count, uint32_t *ready);
void sl_bundles_done(sl_bundles *b, uint32_t layer);
/* Collects finished reads and starts further ones; never waits. Cheap: call it between slabs of work. */
void sl_bundles_poll(sl_bundles *b);

/* A bundle that passes by anyway (a dense pass): copied into a free slot, if there is one (STATIC: its own). */
void sl_bundles_offer(sl_bundles *b, uint32_t layer, uint32_t place, const uint8_t *data);
/* The bundle's address in the cache, or NULL; valid until the next done of its layer. */
const uint8_t *sl_bundles_cached(const sl_bundles *b, uint32_t layer, uint32_t place);

typedef struct sl_bundles_stats {       /* since create, monotonic */
    uint64_t needed, cached, read;      /* bundles: asked for by fetch; of those in the cache; the others, needed - cached */
    uint64_t prefetched, late;          /* of those read: begun by prefetch; of these, not there yet when fetch asked */
    uint64_t wasted;                    /* asked for by prefetch and then not by fetch */
    uint64_t admitted;                  /* copied into the cache */
    uint64_t bytes_wanted, bytes_read;  /* of `read`; of all requests */
    uint64_t resident_bytes;            /* in the cache now */
    uint64_t requests, failed, wait_ns; /* failed: of the requests; wait_ns: fetch waited */
} sl_bundles_stats;
sl_bundles_stats sl_bundles_statistics(const sl_bundles *b);
const sl_tier_attrs *sl_bundles_tier(const sl_bundles *b); /* NULL before attach */

#endif

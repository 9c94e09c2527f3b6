/* pager/replay.h: a record of accesses once more, without a model.
 *
 * sl_replay_run does it again: the pager and the bundles themselves, with the recorded calls and the recorded answers of the tier. What it reads is
 * what the run read, to the byte, or it says that the record and this program do not agree.
 *
 * sl_replay_model asks what would have been: another policy, more or less memory for weights, another link. A policy decides what of each access is a hit;
 * misses become requests by the pager's rules, and wait for a link that reads ahead as far as the ring has room. What timing did to the run (guesses
 * dropped before they were read, a copy still staged) it only estimates: hold its figure for the run's own policy against the run's.
 *
 * Threads: pure, but for memory. */
#ifndef SL_PAGER_REPLAY_H
#define SL_PAGER_REPLAY_H

#include "pager/record.h"

typedef struct sl_replayed {
    uint64_t bytes_read, requests;
} sl_replayed;
/* SL_FORMAT where a call or an answer does not fit what the pager does now, or the sums differ from the recorded ones. */
SL_MUST_USE sl_status sl_replay_run(const char *path, const sl_record_file *file, sl_replayed *out, sl_error *err);

typedef enum sl_replay_policy {
    SL_REPLAY_RUN,      /* as the run had it: its homes, its caches and their policy; cache_bytes is the run's */
    SL_REPLAY_STATIC,   /* a fixed part, spread evenly; of neurons the first places */
    SL_REPLAY_LRU,      /* what was used last */
    SL_REPLAY_FREQUENT, /* what was used most lately */
    SL_REPLAY_BELADY,   /* knows the future; parts of a unit may stay: no policy misses fewer bytes of units, or fewer neurons */
    SL_REPLAY_POLICIES
} sl_replay_policy;

typedef struct sl_replay_config {
    sl_replay_policy policy;
    uint64_t cache_bytes; /* for weights that stay: units first, then the layers' neurons in equal shares */
    double link_Bps;      /* 0: as fast as the run's reads were */
} sl_replay_config;

typedef struct sl_replay_result {
    uint64_t cache_bytes, bytes_read, requests;
    uint64_t used_bytes, hit_bytes;   /* of weights: asked for; found in memory */
    double link_Bps, seconds, wait_s; /* predicted, from the first pass on */
} sl_replay_result;

typedef struct sl_replay sl_replay; /* the accesses, ready to be asked often */
SL_MUST_USE sl_status sl_replay_open(const sl_record_file *file, sl_replay **out, sl_error *err);
void sl_replay_close(sl_replay *replay);
SL_MUST_USE sl_status sl_replay_model(const sl_replay *replay, const sl_replay_config *config, sl_replay_result *out, sl_error *err);
/* Memory for weights in the run; the rate at which it read while it read. */
uint64_t sl_replay_cache_bytes(const sl_record_file *file);
double sl_replay_link(const sl_record_file *file);

#endif

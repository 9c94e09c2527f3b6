/* offload/plan.h: how fast a model will run on a machine, and why; pure arithmetic over where everything lies (placement.h) and what the machine
 * gives (machine.h).
 *
 *   a dense pass        max(bytes that are streamed / the disk's rate, computing over the rows), for the executor reads while it computes and goes on
 *                       reading for the next pass
 *   a sparse row        per layer: what is read ahead runs beside the attention, what is late is waited for, then the set is computed
 *   drafts and a check  [N * draft + the check's pass] / mean advance
 *   leaving early       a dense pass over the layers that tokens take in the mean, and the probes; those left out are the last ones, which stream
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_PLAN_H
#define SL_OFFLOAD_PLAN_H

#include "offload/bundle_trial.h"
#include "offload/division.h"
#include "offload/machine.h"

typedef enum sli_plan_drafter { SLI_PLAN_NO_DRAFTS, SLI_PLAN_LOOKUP, SLI_PLAN_MODEL } sli_plan_drafter;

typedef struct sli_plan_work {
    sli_plan_drafter drafter;
    uint32_t drafted; /* tokens of a draft */
    double advance;   /* mean tokens that a check gives; 0: assumed */
    uint32_t prompt;  /* tokens of the prompt whose speed is predicted; 0: 512, or half the context */
    double link_Bps;  /* reads are held to this; 0: they are not */
    const char *engine;
    uint32_t depth; /* reads in flight; 0: the engine's */
    bool leave;     /* by the placement's exits; without drafts */
} sli_plan_work;

typedef enum sli_plan_limit { SLI_LIMITED_BY_DISK, SLI_LIMITED_BY_MEMORY, SLI_LIMITED_BY_COMPUTE } sli_plan_limit;
const char *sli_plan_limit_name(sli_plan_limit limit); /* "disk", "memory bandwidth", "compute" */

typedef struct sli_plan {
    double decode_tokens_per_s, decode_low, decode_high;
    double prompt_tokens_per_s;
    sli_plan_limit limit;
    double token_s;
    /* Of a decoded token: */
    double link_s, memory_s, compute_s;     /* each alone */
    double part_read_bytes[SLI_PART_COUNT]; /* from the disk */
    double part_used_bytes[SLI_PART_COUNT]; /* by computing: from memory */
    double kv_bytes, predictor_bytes, read_bytes;
    double cached_share; /* of the neurons of a set, that are found in memory; 0 where no sets are fetched */
    double advance;      /* mean; 1 without drafts */
    bool advance_assumed;
    double draft_s, check_s; /* of one token; of one pass */
    double left_out_bytes;   /* by tokens that leave early, of a token */
} sli_plan;

/* Of the weights, that a plain token's computing goes through: what of them is in a cache, the next one finds there. */
uint64_t sli_plan_touched_bytes(const sli_division *at);

/* Of keys and values, that a token reads: of a text that has grown to half a usual one. */
double sli_plan_kv_bytes(const sli_division *at);

/* `trial` is NULL where sparse rows fetch nothing. */
void sli_plan_predict(const sli_division *placement, const sli_bundle_trial *trial, const sli_machine *machine, const sli_plan_work *work,
                      sli_plan *out);

#endif

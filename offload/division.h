/* offload/division.h: where the price list put everything, as figures that a prediction needs.
 *
 * The engine's own prices and units are counted, nothing is priced a second time: what the plan says is what a run does.
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_DIVISION_H
#define SL_OFFLOAD_DIVISION_H

#include "offload/engine.h"

typedef enum sli_part { SLI_PART_EMBEDDING, SLI_PART_ATTENTION, SLI_PART_FFN, SLI_PART_HEAD, SLI_PART_COUNT } sli_part;
const char *sli_part_name(sli_part part); /* "embedding" */

typedef struct sli_part_division {
    uint64_t bytes;          /* as they lie in the file, padding of bundles included */
    uint64_t resident_bytes; /* of these: in memory for good, or kept in the cache of bundles */
    double operations;       /* a multiplication and an addition count two; of one row */
    uint32_t type;           /* of most of the bytes */
} sli_part_division;

/* The feed-forwards of a packed file whose sparse rows fetch single bundles. */
typedef struct sli_bundle_division {
    uint32_t layers, count; /* neurons of a layer; layers 0: nobody fetches single bundles */
    uint32_t stride, alignment, gap_bytes;
    uint32_t kept_max; /* neurons of the largest set */
    sl_bundle_policy policy;
    double kept_share;   /* of the neurons, in a set */
    double cached_share; /* of them, the cache holds */
} sli_bundle_division;

/* Tokens that leave the layers early, on the text that was held out. */
typedef struct sli_exit_division {
    double layers_mean;      /* 0: they do not */
    uint32_t probes;         /* that stand in front of the layer that they take last, in the mean */
    uint64_t probe_bytes;    /* of the head, that one looks at */
    uint64_t streamed_bytes; /* for layers behind the first probe */
} sli_exit_division;

typedef struct sli_division {
    sli_part_division part[SLI_PART_COUNT];
    bool packed;
    sli_bundle_division bundles;
    sli_exit_division exits;
    uint64_t vector_bytes;  /* norms and biases */
    uint64_t request_bytes; /* the usual read of a dense pass */
    uint32_t io_alignment;  /* to which it is widened */
    uint64_t
        embedding_row_bytes; /* that a token reads: of the embedding (unless it stays, as the head's matrix) and of learned positions */
    uint32_t layers, d, ff, vocab, context, batch, threads, draft_max;
    uint32_t windowed_layers, window; /* of the former rows see so many positions */
    uint64_t kv_position_bytes;       /* keys and values of one position, all layers */
    double draft_share;               /* of the neurons, for drafts from what is in memory; 0: none */
    sl_sparsity sparsity;
    double density; /* asked for; 1 without sparsity */
    uint32_t sparq_k, sparq_r, head_dim;
    sli_price price;
    uint64_t budget_bytes, budget_min_bytes;
    uint64_t peak_bytes; /* resident memory that a run with a full context is expected to reach, at most the budget */
} sli_division;

void sli_division_of(const sl_engine *engine, sli_division *out);

#endif

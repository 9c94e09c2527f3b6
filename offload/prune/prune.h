/* offload/prune/prune.h: makes weights zero, or takes neurons out, layer by layer, so that what is left computes nearly the same.
 *
 *   forward.c   a layer's program over calibration rows     layer.c      one layer's weights as floats
 *   hessian.c   what the inputs were like                   mask.c       which weights go; magnitude and Wanda
 *   sparsegpt.c  sparsellm.c (with auxiliary.c)  neurons.c   the methods
 *   spool.c     activations in memory or in a file          output.c     the file that is written, and taken up again
 *   rates.c     what one threshold keeps of each matrix
 *   layers.c    all of it in turn: each layer sees what the pruned ones before it give
 *   prune.c     what is asked for, memory, files
 *
 * For each half of a layer (attention, feed-forward) the calibration rows run through it dense, and what its products multiply is gathered; the half is pruned,
 * rounded to the file's type, and the rows run through it again, to be the next half's inputs.
 *
 * Threads: one call, one thread, which has a crew of its own. */
#ifndef SL_OFFLOAD_PRUNE_H
#define SL_OFFLOAD_PRUNE_H

#include "offload/prune/mask.h"
#include "offload/prune/sparsellm.h"

#define SLI_PRUNE_TOKENS       8192u /* of the text, by default */
#define SLI_PRUNE_TOKENS_MIN   256u
#define SLI_PRUNE_NEURON_BLOCK 32u /* neurons are kept in multiples of this: blocks of down's rows */

typedef enum sli_prune_method { SLI_PRUNE_MAGNITUDE, SLI_PRUNE_WANDA, SLI_PRUNE_SPARSEGPT, SLI_PRUNE_SPARSELLM } sli_prune_method;
const char *sli_prune_method_name(sli_prune_method method);

/* What is compared with what, where a density is asked for. */
typedef enum sli_prune_rates {
    SLI_PRUNE_RATES_LAYER,  /* every matrix keeps that share */
    SLI_PRUNE_RATES_GLOBAL, /* one threshold over the scores of all layers: see rates.h */
} sli_prune_rates;

typedef struct sli_prune_options {
    const char *model_path, *out_path;
    const char *text; /* may be empty with magnitude */
    size_t text_bytes;
    sli_prune_method method;
    sli_prune_rule rule;
    sli_prune_rates rates; /* global: neither with a pattern nor with neurons */
    const char *pattern;   /* as it was given; NULL: none */
    double neurons;        /* kept share; 0: weights are pruned by the rule */
    bool no_refit;         /* of neurons */
    bool change_type;
    uint32_t type;
    bool some_layers; /* only first_layer .. last_layer */
    uint32_t first_layer, last_layer;
    uint64_t ram_budget_bytes;                /* 0: the default of an engine */
    uint32_t tokens, threads;                 /* 0: the default */
    bool (*progress)(void *ctx, double done); /* 0 .. 1; false stops with SL_INTERRUPTED */
    void (*note)(void *ctx, const char *line);
    void (*pruned)(void *ctx, uint32_t layer, uint64_t weights, uint64_t zeros);     /* a layer is in the file */
    void (*iterated)(void *ctx, uint32_t layer, const sli_sparsellm_report *report); /* of SparseLLM */
    void *ctx;
} sli_prune_options;

typedef struct sli_prune_result {
    uint32_t layers, tokens, resumed_layers, neurons_before, neurons_after;
    uint64_t weights, zeros; /* of the matrices that this run wrote */
    uint64_t budget_bytes, price_bytes;
    bool spilled; /* activations lay in a file */
    bool kept;    /* after a failure: a later run can go on */
    double seconds;
} sli_prune_result;

/* SL_INVALID, SL_UNSUPPORTED, SL_FORMAT, SL_NO_BUDGET, SL_NO_MEMORY, SL_IO, SL_INTERRUPTED. No file is there unless SL_OK. */
SL_MUST_USE sl_status sli_prune(const sli_prune_options *options, sli_prune_result *out, sl_error *err);

#endif

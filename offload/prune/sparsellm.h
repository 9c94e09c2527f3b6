/* offload/prune/sparsellm.h: SparseLLM (arXiv 2402.17946): a feed-forward's matrices are pruned for what they give together.
 *
 * With X the inputs and Y the dense outputs, auxiliary rows s (gate before its activation), z (up) and p (what down multiplies) begin as the dense
 * ones, and
 *
 *     |s - X Wg'|^2 + |z - X Wu'|^2 + |Y - p Wd'|^2 + |p - act(s) z|^2                     (the published weights are all equal)
 *
 * or, of a feed-forward without a gate, with b the biases of up (down's are outside of all this),
 *
 *     |z - (X Wu' + b)|^2 + |Y - p Wd'|^2 + |p - relu(z)|^2
 *
 * is lowered in turn: from the second iteration on each matrix is refitted to its auxiliaries; SparseGPT prunes them; then p, z and s follow, p and z in
 * closed form, s by damped Gauss-Newton steps that are only taken where they help. Refits are proximal (|W - W_before|^2 times the Hessian's
 * damping is added), so that none of these updates can raise the objective; only pruning can. The first iteration is SparseGPT. What is kept of all iterations
 * is the one whose true output, act(X Wg') (X Wu') Wd' or relu(X Wu' + b) Wd', is nearest to Y: so the result is never worse there than SparseGPT's.
 *
 * Rows are worked on in tiles, once after each pruning: what the next refit needs of a tile (rests of the targets times inputs, and p's Hessian) is
 * summed while it is in hand. What belongs to rows lies in spools.  Threads: one owner, with the crew's and the library's threads. */
#ifndef SL_OFFLOAD_PRUNE_SPARSELLM_H
#define SL_OFFLOAD_PRUNE_SPARSELLM_H

#include "offload/prune/layer.h"
#include "offload/prune/sparsegpt.h"
#include "offload/prune/spool.h"

#define SLI_SPARSELLM_ITERATIONS 4
#define SLI_SPARSELLM_TILE       256 /* rows at a time */

typedef enum sli_sparsellm_step {
    SLI_SPARSELLM_REFIT, /* 0 in the first iteration, which has none */
    SLI_SPARSELLM_PRUNED,
    SLI_SPARSELLM_P,
    SLI_SPARSELLM_Z,
    SLI_SPARSELLM_S, /* as before it, where there is no gate */
    SLI_SPARSELLM_STEPS
} sli_sparsellm_step;

/* Of an iteration, all relative to |Y|^2. */
typedef struct sli_sparsellm_report {
    uint32_t iteration;
    bool gated;
    bool last;                             /* p, z and s stay as they are: there is no refit after it that they could serve */
    double before_refit;                   /* where the last iteration ended; 0 in the first */
    double objective[SLI_SPARSELLM_STEPS]; /* after the step; those of p, z and s 0 in the last iteration */
    double output_error;                   /* of the true output, after pruning */
} sli_sparsellm_report;

typedef enum sli_sparsellm_spool {
    SLI_SPARSELLM_X,
    SLI_SPARSELLM_Y,
    SLI_SPARSELLM_SPOOL_S,
    SLI_SPARSELLM_SPOOL_Z,
    SLI_SPARSELLM_SPOOL_P,
    SLI_SPARSELLM_SPOOLS
} sli_sparsellm_spool;

typedef struct sli_sparsellm {
    sli_sparsegpt gpt; /* its linear and threads are used throughout */
    const sl_kernels *kernels;
    sl_glu act;              /* of the gate */
    bool gated;              /* the layer has one */
    sli_prune_rule rules[3]; /* of gate, up and down */
    uint32_t d, ff, rows;
    sli_layer *layer;
    sli_hessian *x_hessian, *p_hessian;     /* x: factored by the caller */
    sli_spool spools[SLI_SPARSELLM_SPOOLS]; /* X is filled by the caller; without a gate there is none of s */
    uint8_t *arena;
    size_t arena_bytes;
    float *x, *y, *r, *t;                                         /* tiles [TILE][d] */
    float *s, *z, *p, *mg, *mu, *q;                               /* tiles [TILE][ff]; s and mg NULL without a gate */
    float *sums[3];                                               /* [ff][d] each: a target's rest times its inputs; of the gate as best */
    float *inverse;                                               /* [d][d] */
    float *best[3];                                               /* [ff][d] each; of the gate NULL where there is none */
    double *partial;                                              /* [threads][8] */
    bool (*go_on)(void *ctx, const sli_sparsellm_report *report); /* after each iteration; false: stop */
    void *ctx;
} sli_sparsellm;

uint64_t sli_sparsellm_price(uint32_t d, uint32_t ff, bool gated, unsigned threads);               /* without spools */
uint32_t sli_sparsellm_spool_cols(uint32_t d, uint32_t ff, bool gated, sli_sparsellm_spool which); /* 0: there is none */
uint64_t sli_sparsellm_spool_bytes(uint32_t d, uint32_t ff, bool gated, uint32_t rows);            /* of all */
/* Allocates; the caller has filled in all before `arena` but the spools, which it opens itself. */
SL_MUST_USE sl_status sli_sparsellm_create(sli_sparsellm *s, sl_error *err);
void sli_sparsellm_free(sli_sparsellm *s);
/* Prunes the layer's three matrices, or two; Y, s, z and p are computed from the dense ones first. SL_INTERRUPTED when go_on says so. */
SL_MUST_USE sl_status sli_sparsellm_run(sli_sparsellm *s, const char *what, sl_error *err);

#endif

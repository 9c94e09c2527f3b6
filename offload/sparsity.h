/* offload/sparsity.h: which neurons of a feed-forward take part (papers: Sirius, arXiv 2409.03856, section 2; GRIFFIN, arXiv 2404.01365).
 *
 *   coarse   one set per layer, from the activations of the rows that were computed dense so far: the prompt, and checks of drafts, at each of
 *            which earlier evidence fades
 *   fine     one set per row and layer, by a score: the stored predictor's guess of |act(gate) * up| * ||down column||, the exact
 *            |act(gate) * up| (oracle; a stock file has no norms at hand), or |act(gate)| (gate, the paper's)
 *
 * A set of a layer has keep[layer] neurons and is a function of the tokens and the options alone, never of budget, batch or threads. Only
 * rows that are evaluated as sparse have sets; prompts and checks are dense.
 *
 * Threads: functions on rows may run on many threads at once, each with its own `thread`; the others belong to the owner. */
#ifndef SL_OFFLOAD_SPARSITY_H
#define SL_OFFLOAD_SPARSITY_H

#include "core/model.h"
#include "offload/predictor.h"
#include "offload/sluice.h"

#include <stdatomic.h>

typedef struct sli_sparsity {
    uint8_t *arena;
    size_t arena_bytes;
    sl_sparsity mode;
    sl_predictor predictor;
    uint32_t layers, d, ff;
    uint32_t *keep; /* [layer] neurons in a set */

    /* coarse */
    float *evidence;    /* [layer][ff] sum over the dense rows so far of (h / |h|)^2 */
    float *marked;      /* the evidence when the eval that is under way began */
    float *row_inverse; /* [batch] 1 / |h| of the rows in hand */
    uint32_t *chosen;   /* [layer][ff]: keep[layer] members, ascending */
    bool chosen_valid;

    /* fine */
    float *ones;            /* [ff], for the gate's score */
    uint8_t *thread_inputs; /* [thread] a row as the stored predictor takes it: its copy, then the predictor's memory */
    size_t thread_input_bytes;
    float *thread_scores;     /* [thread][ff] */
    uint32_t *thread_members; /* [thread][2][ff]: a set, and one to compare it with */

    const sli_predictor *stored; /* the engine's; NULL: none */

    atomic_ullong dropped;           /* members left out because they were late */
    atomic_ullong sets, members;     /* chosen so far; neurons in them */
    atomic_ullong compared, in_both; /* members that were compared with the exact set, and those in both */
} sli_sparsity;

typedef struct sli_sparsity_shape {
    sl_sparsity mode;
    sl_predictor predictor;
    uint32_t batch, threads;
} sli_sparsity_shape;

/* Bytes of everything below, as allocated; 0 for SL_SPARSITY_OFF. Pure. */
uint64_t sli_sparsity_price(const sl_model *model, const sli_sparsity_shape *shape);
/* `keep` ([layer]) is copied. */
SL_MUST_USE sl_status sli_sparsity_create(const sl_model *model, const sli_sparsity_shape *shape, const uint32_t *keep, sli_sparsity *out,
                                          sl_error *err);
void sli_sparsity_free(sli_sparsity *s);

/* Neurons that a density keeps of `ff`: the whole part, at least one. */
uint32_t sli_sparsity_keep(uint32_t ff, double density);

/* The largest scores' neurons, ascending, in s->thread_members of this thread. */
const uint32_t *sli_sparsity_top(sli_sparsity *s, uint32_t layer, const float *scores, unsigned thread);
/* What the stored predictor makes of x ([d]) for a layer, by ranges of neurons as in predictor.h: begin once, by the thread or, where it owns
 * one, with its crew; then the scores of ranges, into s->thread_scores of the thread that began. */
void sli_sparsity_begin(sli_sparsity *s, uint32_t layer, sl_threads *crew, const float *x, unsigned thread, sli_predictor_row *row);
float *sli_sparsity_scores(const sli_sparsity *s, unsigned thread);
/* All of it, on one thread: the predicted set. */
const uint32_t *sli_sparsity_predict(sli_sparsity *s, uint32_t layer, const float *x, unsigned thread);
/* Counts how many of a set's members the exact activations `h` would have chosen, too. */
void sli_sparsity_compare(sli_sparsity *s, uint32_t layer, const uint32_t *members, const float *h, unsigned thread);
/* Counts a set that is used, of so many members. */
void sli_sparsity_count(sli_sparsity *s, uint32_t members);

/* ---- coarse (GRIFFIN, section 4.2) ---- */

/* Forgets what was seen: a sequence begins. */
void sli_coarse_reset(sli_sparsity *s);
/* What an eval saw counts only when it succeeds: mark before it, back after a failure. */
void sli_coarse_mark(sli_sparsity *s);
void sli_coarse_back(sli_sparsity *s);
/* Before the rows of a check: what was seen so far counts less, so that the sets follow the text. */
void sli_coarse_fade(sli_sparsity *s);
/* Norms of rows [begin, end) of h[rows][ff]; then, when all are there, the evidence of neurons [first, last) of a layer. Rows count in order,
 * so that the sums depend neither on batches nor on threads. */
void sli_coarse_norms(sli_sparsity *s, const float *h, uint32_t begin, uint32_t end);
void sli_coarse_see(sli_sparsity *s, uint32_t layer, const float *h, uint32_t rows, uint32_t first, uint32_t last);
/* The set of a layer from the evidence so far. Owner only: it may choose anew. */
const uint32_t *sli_coarse_set(sli_sparsity *s, uint32_t layer);

#endif

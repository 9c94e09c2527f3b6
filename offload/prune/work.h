/* offload/prune/work.h: what pruning one model is about: shared by prune.c, which opens and closes it, and layers.c, which does it.
 *
 * Threads: as prune.h. */
#ifndef SL_OFFLOAD_PRUNE_WORK_H
#define SL_OFFLOAD_PRUNE_WORK_H

#include "offload/prune/forward.h"
#include "offload/prune/neurons.h"
#include "offload/prune/output.h"
#include "offload/prune/prune.h"
#include "offload/prune/rates.h"

#include "core/tokenizer.h"

typedef struct sli_prune_work {
    const sli_prune_options *options;
    sli_prune_result *out;
    uint64_t rss_bytes;
    sl_gguf *file;
    sl_model *model;
    const sl_kernels *kernels;
    sl_threads *threads;
    sli_linear *linear;
    sl_tokens tokens;
    float *rope_factors;
    sli_layer layer;
    sli_forward forward;
    sli_prune_output output;
    sli_spool residual; /* [tokens][d] */
    bool in_memory;     /* spools */
    uint8_t *arena;
    size_t arena_bytes;
    sli_hessian hessians[2]; /* of a half's first products, and of its last one's */
    sli_sparsegpt gpt;
    float *scores, *norms; /* of Wanda: [the longest row] */
    sli_sparsellm sparsellm;
    sli_neurons neurons;
    uint32_t keep_neurons;     /* of each layer that is pruned */
    uint32_t seen_rows;        /* by the spool of SparseLLM */
    uint32_t index;            /* of the layer in hand */
    sli_rates rates;           /* of global ones, by layer and role as sli_prune_roles has them */
    bool surveying;            /* scores are counted, nothing is pruned */
    double done_from, done_to; /* what of the whole work is in hand, for progress */
} sli_prune_work;

/* ---- what a method needs ---- */

static inline bool sli_prune_neurons_go(const sli_prune_work *w)
{
    return w->options->neurons > 0;
}

/* Whether neurons that go leave zeros behind. A file has one number of neurons for all its layers: where only some layers lose neurons, they keep
 * their shape, and it is packing that saves the bytes. */
static inline bool sli_prune_zeroes_neurons(const sli_prune_work *w)
{
    const sli_prune_options *o = w->options;
    return sli_prune_neurons_go(w) && o->some_layers && o->last_layer - o->first_layer + 1 < w->model->layers;
}

/* Whether the text is looked at. */
static inline bool sli_prune_observes(const sli_prune_work *w)
{
    return w->options->method != SLI_PRUNE_MAGNITUDE || (sli_prune_neurons_go(w) && !w->options->no_refit);
}

static inline bool sli_prune_runs_sparsellm(const sli_prune_work *w)
{
    return w->options->method == SLI_PRUNE_SPARSELLM && !sli_prune_neurons_go(w);
}

/* Whether Hessians are factored, and not only their diagonals taken. */
static inline bool sli_prune_factors(const sli_prune_work *w)
{
    return w->options->method >= SLI_PRUNE_SPARSEGPT || (sli_prune_neurons_go(w) && !w->options->no_refit);
}

static inline uint32_t sli_prune_attended_width(const sl_model *m)
{
    return m->heads * m->head_dim;
}

static inline void sli_prune_note(const sli_prune_work *w, const char *line)
{
    if (w->options->note != NULL)
        w->options->note(w->options->ctx, line);
}

/* Prunes all layers in turn and finishes the file. */
SL_MUST_USE sl_status sli_prune_layers(sli_prune_work *w, sl_error *err);

#endif

/* offload/ffn.h: the feed-forward of a layer where it is more than three products in a row: over a set of its neurons, or over a
 * packed file's bundles.
 *
 * An architecture's program writes a feed-forward as gate and up products, their gated unit and the down product. Those operations are run
 * here, together, when the engine was opened for sparsity or the layer is bundled; what comes out is D8 of kernels.h. */
#ifndef SL_OFFLOAD_FFN_H
#define SL_OFFLOAD_FFN_H

#include "offload/matmul.h"
#include "offload/share.h"

/* The operations that a feed-forward consists of, in the program's order. */
enum { SLI_FFN_GATE, SLI_FFN_UP, SLI_FFN_GLU, SLI_FFN_DOWN, SLI_FFN_OPS };

typedef struct sli_ffn {
    sl_engine *engine;
    const sl_op *ops;            /* gate, up, gated unit, down */
    const sli_matrix *matrices;  /* as ops */
    const float *const *vectors; /* {weight, bias} as ops */
    uint32_t layer, row, rows;   /* `rows` rows of the buffers, from `row` on */
    bool sparse;                 /* the rows have sets; else all neurons count */
    bool resident_only;          /* but for a draft's row: those that are in memory */
} sli_ffn;

/* Whether a feed-forward begins at `ops` that has to be run here. */
bool sli_ffn_begins(const sl_engine *engine, const sl_op *ops, uint32_t layer);

/* Runs it. Source and result are the operations' buffers. */
SL_MUST_USE sl_status sli_ffn_run(const sli_ffn *ffn, sl_error *err);
/* Row by row where a single row needs less than all bundles. */
SL_MUST_USE sl_status sli_ffn_run_singly(const sli_ffn *ffn, sl_error *err);

static inline sl_glu sli_ffn_activation(const sli_ffn *f)
{
    return f->engine->model->arch->activation == SL_ACTIVATION_SILU ? SL_GLU_SILU : SL_GLU_GELU_TANH;
}

/* A thread's memory, and in it the place of the i-th bundle's rows that are made plain (SLI_PLAIN_BUNDLES of them). */
static inline uint8_t *sli_ffn_memory(const sli_ffn *f, unsigned thread)
{
    return f->engine->scratch.thread_memory + thread * f->engine->scratch.thread_bytes;
}
static inline uint8_t *sli_ffn_plain_rows(const sli_ffn *f, const sl_packed_layer *l, unsigned thread, uint32_t i)
{
    return sli_ffn_memory(f, thread) + f->engine->scratch.plain_at + (size_t)i * (l->gate_bytes + l->up_bytes);
}

static inline float *sli_ffn_buffer(const sli_ffn *f, sl_buffer buffer)
{
    return f->engine->scratch.buffers[buffer] + (size_t)f->row * sl_model_width(f->engine->model, buffer);
}

#endif

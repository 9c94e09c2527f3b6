/* offload/prune/forward.h: runs part of a layer's program over a chunk of rows, with weights that are floats in memory.
 *
 * Everything but the products is the engine's arithmetic (kernels.h); the products are OpenBLAS's, because weights change between one run and the next
 * and calibration needs no exact bits. A chunk is a text of its own: positions begin at 0.
 *
 * Threads: one owner; it works with the crew's and the library's threads. */
#ifndef SL_OFFLOAD_PRUNE_FORWARD_H
#define SL_OFFLOAD_PRUNE_FORWARD_H

#include "core/threads.h"
#include "offload/calibrate/linear.h"
#include "offload/prune/layer.h"

#define SLI_PRUNE_CHUNK 512 /* tokens, or the context where that is smaller */

typedef struct sli_forward {
    const sl_model *model;
    const sl_kernels *kernels;
    sl_threads *threads;
    const sli_linear *linear;
    const sli_layer *layer;
    uint8_t *arena;
    size_t arena_bytes;
    uint32_t chunk;               /* rows, at most */
    float *buffers[SL_BUF_COUNT]; /* [chunk][width] */
    float *rope_cos, *rope_sin;   /* [table][chunk][rope_dim / 2] */
    const uint8_t **pages;        /* [kv head][keys, values][page] */
    uint8_t *page_memory, *thread_memory;
    size_t page_bytes, thread_bytes;
    uint32_t page_count;
    /* Sees the inputs of products before they are taken, once for those that share them. */
    sl_status (*see)(void *ctx, sl_tensor_role role, const float *x, uint32_t rows, sl_error *err);
    void *see_ctx;
} sli_forward;

uint32_t sli_forward_chunk(const sl_model *model); /* tokens */
uint64_t sli_forward_price(const sl_model *model, unsigned threads);
/* rope_factors: the model's for a chunk (sl_rope_factors), or NULL. */
SL_MUST_USE sl_status sli_forward_create(const sl_model *model, const sl_kernels *kernels, sl_threads *threads, const sli_linear *linear,
                                         const float *rope_factors, sli_forward *out, sl_error *err);
void sli_forward_free(sli_forward *forward);

/* Runs operations [first, end) of the layer's program on `rows` rows; the residual is in and stays in buffers[SL_BUF_RESIDUAL]. */
SL_MUST_USE sl_status sli_forward_run(sli_forward *f, uint32_t first, uint32_t end, uint32_t rows, sl_error *err);

#endif

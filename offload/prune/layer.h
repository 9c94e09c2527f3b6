/* offload/prune/layer.h: one layer of a model in memory as floats: its seven matrices (six where there is no gate) and its vectors.
 *
 * Matrices are [rows][cols] as in the file. A layer whose neurons were removed has smaller feed-forward matrices than there is room for.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_PRUNE_LAYER_H
#define SL_OFFLOAD_PRUNE_LAYER_H

#include "core/model.h"
#include "kernels/kernels.h"

/* The matrices that are pruned, as the file's tensors have them. */
#define SLI_PRUNE_MATRICES 7
extern const sl_tensor_role sli_prune_roles[SLI_PRUNE_MATRICES]; /* query, key, value, output, gate, up, down */

/* Reads a tensor's bytes from wherever they are by now. */
typedef struct sli_tensor_source {
    sl_status (*read)(void *ctx, const sl_gguf_tensor *tensor, uint64_t offset, void *to, size_t bytes, sl_error *err);
    void *ctx;
} sli_tensor_source;

typedef struct sli_layer {
    const sl_model *model;
    const sl_kernels *kernels;
    uint8_t *arena;
    size_t arena_bytes;
    uint32_t index;
    uint32_t ff;              /* of this layer by now */
    float *at[SL_ROLE_COUNT]; /* matrices and vectors; NULL where the layer has none */
    uint8_t *piece;           /* [piece_bytes] of a file */
    size_t piece_bytes;
} sli_layer;

/* SL_UNSUPPORTED for a model whose layers are not made of those matrices. */
SL_MUST_USE sl_status sli_layer_check(const sl_model *model, const char *path, sl_error *err);
uint64_t sli_layer_price(const sl_model *model);
SL_MUST_USE sl_status sli_layer_create(const sl_model *model, const sl_kernels *kernels, sli_layer *out, sl_error *err);
void sli_layer_free(sli_layer *layer);

/* Reads a layer. `tensor_of` gives the tensor that holds a role's data in the source: in a file that is being written it is another than in the model. */
typedef const sl_gguf_tensor *(*sli_tensor_of)(void *ctx, sl_tensor_role role, uint32_t layer);
SL_MUST_USE sl_status sli_layer_load(sli_layer *layer, uint32_t index, sli_tensor_source source, sli_tensor_of tensor_of, sl_error *err);

/* Rows and columns of a matrix by now. */
uint32_t sli_layer_rows(const sli_layer *layer, sl_tensor_role role);
uint32_t sli_layer_cols(const sli_layer *layer, sl_tensor_role role);

#endif

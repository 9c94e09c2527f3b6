/* offload/prune/output.h: the pruned file, layer by layer, so that a run that was cut off goes on where it was.
 *
 * The tensors that belong to no layer come first, then the layers in turn. Beside OUT.partial lies OUT.partial.layers, a few lines of text: what was asked for,
 * as a number, and of each finished layer a checksum of its bytes. A later run that asks for the same takes up the layers whose checksums hold.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_PRUNE_OUTPUT_H
#define SL_OFFLOAD_PRUNE_OUTPUT_H

#include "core/gguf_write.h"
#include "offload/prune/layer.h"
#include "offload/tools/tool.h"

/* What a file says of its pruning. */
typedef struct sli_prune_record {
    const char *method;
    double density;      /* kept share of the weights; 0: see neurons */
    const char *pattern; /* or NULL */
    bool global;         /* the density is that of all layers together */
    double neurons;      /* kept share; 0: none were removed */
    bool refit, zeroed;  /* neurons: down was refitted; they are zeros where they were */
    uint32_t tokens, first_layer, end_layer;
} sli_prune_record;

typedef struct sli_prune_output {
    const char *path;
    const sl_model *model;
    const sl_gguf *in;
    int fd; /* of the input */
    const sl_kernels *kernels;
    sl_gguf_writer *writer;
    uint32_t keep_ff;                /* neurons of each layer */
    bool only_feed_forward;          /* is pruned; else attention, too */
    uint32_t first_layer, end_layer; /* that are pruned */
    uint32_t type;                   /* of pruned matrices; SLI_PRUNE_SAME_TYPE: each as it was */
    uint64_t fingerprint;
    char *state_path;
    uint32_t done_layers; /* that are in the file */
    uint64_t *checksums;  /* [layers] */
    uint8_t *row, *piece; /* of output, of input */
    float *floats;
    uint64_t zeros, weights; /* of the matrices written as pruned, by this run */
} sli_prune_output;

#define SLI_PRUNE_SAME_TYPE UINT32_MAX
#define SLI_PRUNE_TYPES     "F16, BF16, F32, Q8_0, Q4_0 or Q5_0" /* that have an exact zero and can be written */

/* Whether a zero stays one in this type, and sl_quantize_row knows it. */
bool sli_prune_type_works(uint32_t type);
/* SL_UNSUPPORTED with a line that names tensor and type, where a matrix that is to be pruned cannot be written; `zeros`: and zeros must survive. */
SL_MUST_USE sl_status sli_prune_check_types(const sli_prune_output *o, bool zeros, sl_error *err);

/* The caller has filled in all before `writer` and what is asked for. Declares the file, takes up an earlier one (unless `fresh`), and copies what
 * belongs to no layer. */
SL_MUST_USE sl_status sli_prune_output_open(sli_prune_output *o, const sli_prune_record *record, sl_error *err);
/* Writes the next layer: pruned matrices from `layer` (NULL: copies all), the rest as in the input. */
SL_MUST_USE sl_status sli_prune_output_layer(sli_prune_output *o, const sli_layer *layer, sl_error *err);
/* Rounds a layer's pruned matrices to what the file will say. */
void sli_prune_output_round(const sli_prune_output *o, sli_layer *layer, sl_tensor_role role);
SL_MUST_USE sl_status sli_prune_output_finish(sli_prune_output *o, sl_error *err);
/* Frees all; with finished layers the partial file stays for another run, and true is returned. */
bool sli_prune_output_close(sli_prune_output *o);

/* Tensors of finished layers, for sli_layer_load; ctx is the output. */
SL_MUST_USE sl_status sli_prune_output_read(void *ctx, const sl_gguf_tensor *tensor, uint64_t offset, void *to, size_t bytes,
                                            sl_error *err);
const sl_gguf_tensor *sli_prune_output_tensor(void *ctx, sl_tensor_role role, uint32_t layer);
/* And of the input. */
SL_MUST_USE sl_status sli_prune_input_read(void *ctx, const sl_gguf_tensor *tensor, uint64_t offset, void *to, size_t bytes, sl_error *err);
const sl_gguf_tensor *sli_prune_input_tensor(void *ctx, sl_tensor_role role, uint32_t layer);

#endif

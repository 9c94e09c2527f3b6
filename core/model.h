/* core/model.h: a model described as data.
 *
 * An architecture is a row of a table (core/arch.c): which keys it has, which tensors, and the program of one layer as a list of
 * operations over named buffers. sl_model_open matches a GGUF file against its row and refuses what the row does not explain:
 * an unknown architecture, a missing or mis-shaped tensor, a tensor nobody uses, a key of the architecture that would change the arithmetic.
 * The executor runs the program; a further architecture is a further row.
 *
 * Threads: immutable after open. */
#ifndef SL_CORE_MODEL_H
#define SL_CORE_MODEL_H

#include "core/gguf.h"

#include <stdbool.h>

typedef enum sl_tensor_role {
    SL_ROLE_NONE = 0, /* "no tensor here" in a program */
    /* of the model */
    SL_ROLE_TOKEN_EMBD,
    SL_ROLE_POSITION_EMBD,
    SL_ROLE_OUTPUT_NORM,
    SL_ROLE_OUTPUT_NORM_BIAS,
    SL_ROLE_OUTPUT, /* absent: tied, the embedding is used */
    SL_ROLE_ROPE_FREQS,
    SL_ROLE_ROPE_LONG, /* longrope: the factors for contexts beyond the original one */
    SL_ROLE_ROPE_SHORT,
    /* of a layer */
    SL_ROLE_ATTN_NORM,
    SL_ROLE_ATTN_Q,
    SL_ROLE_ATTN_Q_BIAS,
    SL_ROLE_ATTN_Q_NORM,
    SL_ROLE_ATTN_K,
    SL_ROLE_ATTN_K_BIAS,
    SL_ROLE_ATTN_K_NORM,
    SL_ROLE_ATTN_V,
    SL_ROLE_ATTN_V_BIAS,
    SL_ROLE_ATTN_QKV, /* the three in one matrix */
    SL_ROLE_ATTN_OUT,
    SL_ROLE_ATTN_POST_NORM,
    SL_ROLE_FFN_NORM,
    SL_ROLE_FFN_GATE,
    SL_ROLE_FFN_UP, /* where there is no gate: both in one matrix */
    SL_ROLE_FFN_DOWN,
    SL_ROLE_FFN_POST_NORM,
    SL_ROLE_ATTN_NORM_BIAS,
    SL_ROLE_ATTN_OUT_BIAS,
    SL_ROLE_FFN_NORM_BIAS,
    SL_ROLE_FFN_UP_BIAS,
    SL_ROLE_FFN_DOWN_BIAS,
    SL_ROLE_COUNT
} sl_tensor_role;

/* Buffers that operations name: rows x width floats each. Widths follow from the model (sl_model_width). */
typedef enum sl_buffer {
    SL_BUF_RESIDUAL, /* d */
    SL_BUF_NORMED,   /* max(d, q): a norm's output; then a block's output before it is added */
    SL_BUF_Q,        /* query heads */
    SL_BUF_K,
    SL_BUF_V,
    SL_BUF_ATTENDED, /* query heads */
    SL_BUF_GATE,     /* ff; nothing where feed-forwards have no gate */
    SL_BUF_UP,       /* ff */
    SL_BUF_LOGITS,   /* vocabulary */
    SL_BUF_COUNT
} sl_buffer;

typedef enum sl_op_kind {
    SL_OP_END = 0,
    SL_OP_RMS_NORM,   /* dst = rms_norm(src) * weight; dst may be src */
    SL_OP_LAYER_NORM, /* dst = layer_norm(src) * weight (+ bias); dst may be src */
    SL_OP_HEAD_NORM,  /* each head of dst = rms_norm(that head) * weight */
    SL_OP_MATMUL,     /* dst = weight . src (+ bias) */
    SL_OP_ROPE,       /* dst is turned by its position */
    SL_OP_ATTENTION,  /* K and V are stored, then dst = attention(src) */
    SL_OP_GLU,        /* dst = act(src) * UP */
    SL_OP_RELU,       /* dst = relu(dst) */
    SL_OP_ADD,        /* dst += src */
} sl_op_kind;

/* Which rows of its weight a product multiplies with: some files lay several matrices in one, one after the other. */
typedef enum sl_slice {
    SL_SLICE_ALL = 0,
    SL_SLICE_Q, /* of query, key and value */
    SL_SLICE_K,
    SL_SLICE_V,
    SL_SLICE_GATE, /* of gate and up */
    SL_SLICE_UP,
} sl_slice;

typedef struct sl_op {
    sl_op_kind kind;
    sl_buffer dst, src;
    sl_tensor_role weight, bias;
    sl_slice slice;
} sl_op;

typedef enum sl_activation { SL_ACTIVATION_SILU, SL_ACTIVATION_GELU_TANH } sl_activation;

/* The tensors that an architecture has are those that its programs name: weights must be there, biases may. */
typedef struct sl_arch {
    const char *name;                /* general.architecture, the prefix of its keys */
    bool rope_halves;                /* rotary pairs are (i, i + n/2), else (2i, 2i + 1) */
    bool rope_factors;               /* rope_freqs.weight may be there */
    bool rope_longrope;              /* rope_factors_long.weight and _short.weight may be there */
    bool embedding_scaled;           /* rows of the embedding times sqrt(d) */
    bool windows;                    /* the file may say how many positions a query sees */
    bool learned_positions;          /* a row of position_embd.weight is added to each token's; else queries and keys are turned */
    bool layer_norms;                /* the key of the norms' epsilon is layer_norm_epsilon, not layer_norm_rms_epsilon */
    sl_activation activation;        /* of the gate, where there is one */
    const char *without_output_norm; /* what a file without an output norm is, where files of that kind are known; NULL: broken */
    uint32_t window_period;          /* the last of every window_period layers sees all the same; 0: none does */
    uint32_t share_layers;           /* a model of so many layers divides scores by sqrt(d / heads), not by sqrt(head_dim); 0: none does */
    double window_rope_base;         /* rotary base of layers with a window; 0: the file's, as the others */
    const sl_op *layer;              /* ends with SL_OP_END */
    const sl_op *head;               /* from the residual to the logits */
    const char *const *ignored_keys; /* known keys that do not change the arithmetic; NULL-terminated */
} sl_arch;

typedef enum sl_rope_scaling { SL_ROPE_SCALING_LINEAR, SL_ROPE_SCALING_YARN, SL_ROPE_SCALING_LONGROPE } sl_rope_scaling;

#define SL_LAYERS_MAX   1024
#define SL_HEAD_DIM_MAX 512

typedef struct sl_model {
    const sl_arch *arch;
    uint32_t layers, d, ff, heads, kv_heads, head_dim, vocab, context;
    uint32_t rope_dim; /* 0: positions are learned */
    float norm_eps;
    bool gated; /* feed-forwards have a gate */
    float embedding_scale, attention_scale;
    /* Angles are core/rope.h's; without scale and factors where the window has a base of its own. */
    sl_rope_scaling rope_scaling;
    double rope_base, rope_scale;
    double rope_magnitude; /* of cosine and sine */
    double yarn_beta_fast, yarn_beta_slow;
    uint32_t rope_original_context;
    double window_rope_base; /* 0: layers with a window turn as the others do */
    uint32_t window;         /* positions; 0: there are no windows */
    bool *has_window;        /* [layers] */
    bool tied;
    const sl_gguf_tensor **tensors; /* see sl_model_tensor */
} sl_model;

SL_MUST_USE sl_status sl_model_open(const sl_gguf *gguf, sl_model **out, sl_error *err);
void sl_model_close(sl_model *model); /* NULL is fine */

/* The tensor of a role (of layer `layer` for a layer's role), or NULL when the model does without. SL_ROLE_OUTPUT of a tied model gives
 * the embedding. */
const sl_gguf_tensor *sl_model_tensor(const sl_model *model, sl_tensor_role role, uint32_t layer);
uint32_t sl_model_width(const sl_model *model, sl_buffer buffer); /* floats per row */
/* The first row of its weight that a product uses (as many as its dst is wide), and how many the whole weight has. */
uint32_t sl_model_slice(const sl_model *model, const sl_op *op, uint32_t *all_rows);

/* Bytes of a layer's gate, up and down (fused: in one tensor; without a gate: of the others). */
uint64_t sl_model_ffn_bytes(const sl_model *model, uint32_t layer);

/* Positions that a layer's queries see, 0: all. */
static inline uint32_t sl_model_window(const sl_model *model, uint32_t layer)
{
    return model->has_window[layer] ? model->window : 0;
}
/* Rotary tables of a model, and the one of a layer. */
static inline uint32_t sl_model_rope_tables(const sl_model *model)
{
    return model->window_rope_base > 0 ? 2 : 1;
}
static inline uint32_t sl_model_rope_table(const sl_model *model, uint32_t layer)
{
    return model->window_rope_base > 0 && model->has_window[layer];
}

const sl_arch *sl_arch_find(sl_str name); /* NULL when unknown */
const char *sl_arch_names(void);          /* "llama, ..." for messages */

#endif

/* core/arch.c: the architectures, each as data. See core/model.h. */
#include "core/model.h"

#include <string.h>

/* ---- how operations are written ---- */

#define NORM(dst, src, weight)                                                                                                             \
    {                                                                                                                                      \
        SL_OP_RMS_NORM, dst, src, weight, SL_ROLE_NONE, SL_SLICE_ALL                                                                       \
    }
#define BIASED_NORM(dst, src, weight)                                                                                                      \
    {                                                                                                                                      \
        SL_OP_LAYER_NORM, dst, src, weight, weight##_BIAS, SL_SLICE_ALL                                                                    \
    }
#define HEAD_NORM(buffer, weight)                                                                                                          \
    {                                                                                                                                      \
        SL_OP_HEAD_NORM, buffer, buffer, weight, SL_ROLE_NONE, SL_SLICE_ALL                                                                \
    }
#define PRODUCT(dst, src, weight)                                                                                                          \
    {                                                                                                                                      \
        SL_OP_MATMUL, dst, src, weight, SL_ROLE_NONE, SL_SLICE_ALL                                                                         \
    }
#define BIASED(dst, src, weight)                                                                                                           \
    {                                                                                                                                      \
        SL_OP_MATMUL, dst, src, weight, weight##_BIAS, SL_SLICE_ALL                                                                        \
    }
#define SLICE(dst, src, weight, slice)                                                                                                     \
    {                                                                                                                                      \
        SL_OP_MATMUL, dst, src, weight, SL_ROLE_NONE, slice                                                                                \
    }
#define OPERATION(kind, dst, src)                                                                                                          \
    {                                                                                                                                      \
        kind, dst, src, SL_ROLE_NONE, SL_ROLE_NONE, SL_SLICE_ALL                                                                           \
    }
#define END OPERATION(SL_OP_END, 0, 0)

/* ---- what many layers share ---- */

#define QKV_BIASED                                                                                                                         \
    BIASED(SL_BUF_Q, SL_BUF_NORMED, SL_ROLE_ATTN_Q), BIASED(SL_BUF_K, SL_BUF_NORMED, SL_ROLE_ATTN_K),                                      \
        BIASED(SL_BUF_V, SL_BUF_NORMED, SL_ROLE_ATTN_V)

#define QKV_WITH_HEAD_NORMS                                                                                                                \
    PRODUCT(SL_BUF_Q, SL_BUF_NORMED, SL_ROLE_ATTN_Q), PRODUCT(SL_BUF_K, SL_BUF_NORMED, SL_ROLE_ATTN_K),                                    \
        PRODUCT(SL_BUF_V, SL_BUF_NORMED, SL_ROLE_ATTN_V), HEAD_NORM(SL_BUF_Q, SL_ROLE_ATTN_Q_NORM),                                        \
        HEAD_NORM(SL_BUF_K, SL_ROLE_ATTN_K_NORM)

#define ATTEND                                                                                                                             \
    OPERATION(SL_OP_ROPE, SL_BUF_Q, SL_BUF_Q), OPERATION(SL_OP_ROPE, SL_BUF_K, SL_BUF_K),                                                  \
        OPERATION(SL_OP_ATTENTION, SL_BUF_ATTENDED, SL_BUF_Q), PRODUCT(SL_BUF_NORMED, SL_BUF_ATTENDED, SL_ROLE_ATTN_OUT)

#define GATE_AND_UP PRODUCT(SL_BUF_GATE, SL_BUF_NORMED, SL_ROLE_FFN_GATE), PRODUCT(SL_BUF_UP, SL_BUF_NORMED, SL_ROLE_FFN_UP)

#define ACTIVATE_AND_DOWN OPERATION(SL_OP_GLU, SL_BUF_GATE, SL_BUF_GATE), PRODUCT(SL_BUF_NORMED, SL_BUF_GATE, SL_ROLE_FFN_DOWN)

#define ADD_TO_RESIDUAL OPERATION(SL_OP_ADD, SL_BUF_RESIDUAL, SL_BUF_NORMED)

static const sl_op plain_head[] = {
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_OUTPUT_NORM),
    PRODUCT(SL_BUF_LOGITS, SL_BUF_NORMED, SL_ROLE_OUTPUT),
    END,
};

static const char *const plain_ignored[] = {"vocab_size", "context_length", NULL};

/* ---- the layers ---- */

/* Pre-norm transformer with gated feed-forward: llama and its many descendants. */
static const sl_op llama_layer[] = {
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM),
    QKV_BIASED,
    ATTEND,
    ADD_TO_RESIDUAL,
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM),
    GATE_AND_UP,
    ACTIVATE_AND_DOWN,
    ADD_TO_RESIDUAL,
    END,
};

static const sl_op qwen3_layer[] = {
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM),
    QKV_WITH_HEAD_NORMS,
    ATTEND,
    ADD_TO_RESIDUAL,
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM),
    GATE_AND_UP,
    ACTIVATE_AND_DOWN,
    ADD_TO_RESIDUAL,
    END,
};

/* What a block gives is normed too, before it is added. Norm weights are as they lie in the file: the converter has added the 1. */
static const sl_op gemma3_layer[] = {
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM),
    QKV_WITH_HEAD_NORMS,
    ATTEND,
    NORM(SL_BUF_NORMED, SL_BUF_NORMED, SL_ROLE_ATTN_POST_NORM),
    ADD_TO_RESIDUAL,
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM),
    GATE_AND_UP,
    ACTIVATE_AND_DOWN,
    NORM(SL_BUF_NORMED, SL_BUF_NORMED, SL_ROLE_FFN_POST_NORM),
    ADD_TO_RESIDUAL,
    END,
};

static const sl_op phi3_layer[] = {
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM),
    SLICE(SL_BUF_Q, SL_BUF_NORMED, SL_ROLE_ATTN_QKV, SL_SLICE_Q),
    SLICE(SL_BUF_K, SL_BUF_NORMED, SL_ROLE_ATTN_QKV, SL_SLICE_K),
    SLICE(SL_BUF_V, SL_BUF_NORMED, SL_ROLE_ATTN_QKV, SL_SLICE_V),
    ATTEND,
    ADD_TO_RESIDUAL,
    NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM),
    SLICE(SL_BUF_GATE, SL_BUF_NORMED, SL_ROLE_FFN_UP, SL_SLICE_GATE),
    SLICE(SL_BUF_UP, SL_BUF_NORMED, SL_ROLE_FFN_UP, SL_SLICE_UP),
    ACTIVATE_AND_DOWN,
    ADD_TO_RESIDUAL,
    END,
};

/* Pre-norm, with biases wherever one can be, and a feed-forward without a gate. Positions come with the embedding. */
static const sl_op opt_layer[] = {
    BIASED_NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM),
    QKV_BIASED,
    OPERATION(SL_OP_ATTENTION, SL_BUF_ATTENDED, SL_BUF_Q),
    BIASED(SL_BUF_NORMED, SL_BUF_ATTENDED, SL_ROLE_ATTN_OUT),
    ADD_TO_RESIDUAL,
    BIASED_NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM),
    BIASED(SL_BUF_UP, SL_BUF_NORMED, SL_ROLE_FFN_UP),
    OPERATION(SL_OP_RELU, SL_BUF_UP, SL_BUF_UP),
    BIASED(SL_BUF_NORMED, SL_BUF_UP, SL_ROLE_FFN_DOWN),
    ADD_TO_RESIDUAL,
    END,
};

static const sl_op opt_head[] = {
    BIASED_NORM(SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_OUTPUT_NORM),
    PRODUCT(SL_BUF_LOGITS, SL_BUF_NORMED, SL_ROLE_OUTPUT),
    END,
};

/* ---- the table ---- */

static const sl_arch architectures[] = {
    {.name = "llama", /* mistral too: its files may have a window */
     .rope_factors = true,
     .activation = SL_ACTIVATION_SILU,
     .windows = true,
     .layer = llama_layer,
     .head = plain_head,
     .ignored_keys = plain_ignored},
    {.name = "qwen2",
     .rope_halves = true,
     .activation = SL_ACTIVATION_SILU,
     .layer = llama_layer,
     .head = plain_head,
     .ignored_keys = plain_ignored},
    {.name = "qwen3",
     .rope_halves = true,
     .activation = SL_ACTIVATION_SILU,
     .layer = qwen3_layer,
     .head = plain_head,
     .ignored_keys = plain_ignored},
    {.name = "gemma3",
     .rope_halves = true,
     .embedding_scaled = true,
     .activation = SL_ACTIVATION_GELU_TANH,
     .windows = true,
     .window_period = 6,
     .window_rope_base = 10000.0,
     .share_layers = 62, /* the 27B */
     .layer = gemma3_layer,
     .head = plain_head,
     .ignored_keys = plain_ignored},
    {.name = "phi3",
     .rope_halves = true,
     .rope_longrope = true,
     .activation = SL_ACTIVATION_SILU,
     .windows = true,
     .layer = phi3_layer,
     .head = plain_head,
     .ignored_keys = plain_ignored},
    {.name = "opt",
     .learned_positions = true,
     .layer_norms = true,
     .without_output_norm = "norms that follow each block instead of coming before it, as in OPT-350m",
     .layer = opt_layer,
     .head = opt_head,
     .ignored_keys = plain_ignored},
};

const sl_arch *sl_arch_find(sl_str name)
{
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (sl_str_equal(name, architectures[i].name))
            return &architectures[i];
    return NULL;
}

const char *sl_arch_names(void)
{
    return "llama, qwen2, qwen3, gemma3, phi3, opt";
}

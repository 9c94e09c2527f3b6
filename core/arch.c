/* core/arch.c: the architectures, each as data. See core/model.h. */
#include "core/model.h"

#include <string.h>

/* Pre-norm transformer with gated feed-forward: llama and its many descendants. */
static const sl_op llama_layer[] = {
    {SL_OP_RMS_NORM, SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_ATTN_NORM, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_Q, SL_BUF_NORMED, SL_ROLE_ATTN_Q, SL_ROLE_ATTN_Q_BIAS},
    {SL_OP_MATMUL, SL_BUF_K, SL_BUF_NORMED, SL_ROLE_ATTN_K, SL_ROLE_ATTN_K_BIAS},
    {SL_OP_MATMUL, SL_BUF_V, SL_BUF_NORMED, SL_ROLE_ATTN_V, SL_ROLE_ATTN_V_BIAS},
    {SL_OP_ROPE, SL_BUF_Q, SL_BUF_Q, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_ROPE, SL_BUF_K, SL_BUF_K, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_ATTENTION, SL_BUF_ATTENDED, SL_BUF_Q, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_NORMED, SL_BUF_ATTENDED, SL_ROLE_ATTN_OUT, SL_ROLE_NONE},
    {SL_OP_ADD, SL_BUF_RESIDUAL, SL_BUF_NORMED, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_RMS_NORM, SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_FFN_NORM, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_GATE, SL_BUF_NORMED, SL_ROLE_FFN_GATE, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_UP, SL_BUF_NORMED, SL_ROLE_FFN_UP, SL_ROLE_NONE},
    {SL_OP_GLU, SL_BUF_GATE, SL_BUF_GATE, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_NORMED, SL_BUF_GATE, SL_ROLE_FFN_DOWN, SL_ROLE_NONE},
    {SL_OP_ADD, SL_BUF_RESIDUAL, SL_BUF_NORMED, SL_ROLE_NONE, SL_ROLE_NONE},
    {SL_OP_END, 0, 0, 0, 0},
};

static const sl_op llama_head[] = {
    {SL_OP_RMS_NORM, SL_BUF_NORMED, SL_BUF_RESIDUAL, SL_ROLE_OUTPUT_NORM, SL_ROLE_NONE},
    {SL_OP_MATMUL, SL_BUF_LOGITS, SL_BUF_NORMED, SL_ROLE_OUTPUT, SL_ROLE_NONE},
    {SL_OP_END, 0, 0, 0, 0},
};

static const char *const llama_ignored[] = {"vocab_size", "context_length", NULL};

static const sl_arch architectures[] = {
    {.name = "llama",
     .rope_halves = false,
     .activation = SL_ACTIVATION_SILU,
     .layer = llama_layer,
     .head = llama_head,
     .ignored_keys = llama_ignored},
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
    return "llama";
}

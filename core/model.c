/* core/model.c: matches a GGUF file against its architecture's row. See core/model.h. */
#include "core/model.h"

#include "core/mathx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names of tensors; "%u" is the layer. */
static const char *const role_names[SL_ROLE_COUNT] = {
    [SL_ROLE_TOKEN_EMBD] = "token_embd.weight",
    [SL_ROLE_POSITION_EMBD] = "position_embd.weight",
    [SL_ROLE_OUTPUT_NORM] = "output_norm.weight",
    [SL_ROLE_OUTPUT_NORM_BIAS] = "output_norm.bias",
    [SL_ROLE_OUTPUT] = "output.weight",
    [SL_ROLE_ROPE_FREQS] = "rope_freqs.weight",
    [SL_ROLE_ROPE_LONG] = "rope_factors_long.weight",
    [SL_ROLE_ROPE_SHORT] = "rope_factors_short.weight",
    [SL_ROLE_ATTN_NORM] = "blk.%u.attn_norm.weight",
    [SL_ROLE_ATTN_Q] = "blk.%u.attn_q.weight",
    [SL_ROLE_ATTN_Q_BIAS] = "blk.%u.attn_q.bias",
    [SL_ROLE_ATTN_Q_NORM] = "blk.%u.attn_q_norm.weight",
    [SL_ROLE_ATTN_K] = "blk.%u.attn_k.weight",
    [SL_ROLE_ATTN_K_BIAS] = "blk.%u.attn_k.bias",
    [SL_ROLE_ATTN_K_NORM] = "blk.%u.attn_k_norm.weight",
    [SL_ROLE_ATTN_V] = "blk.%u.attn_v.weight",
    [SL_ROLE_ATTN_V_BIAS] = "blk.%u.attn_v.bias",
    [SL_ROLE_ATTN_QKV] = "blk.%u.attn_qkv.weight",
    [SL_ROLE_ATTN_OUT] = "blk.%u.attn_output.weight",
    [SL_ROLE_ATTN_POST_NORM] = "blk.%u.post_attention_norm.weight",
    [SL_ROLE_FFN_NORM] = "blk.%u.ffn_norm.weight",
    [SL_ROLE_FFN_GATE] = "blk.%u.ffn_gate.weight",
    [SL_ROLE_FFN_UP] = "blk.%u.ffn_up.weight",
    [SL_ROLE_FFN_DOWN] = "blk.%u.ffn_down.weight",
    [SL_ROLE_FFN_POST_NORM] = "blk.%u.post_ffw_norm.weight",
    [SL_ROLE_ATTN_NORM_BIAS] = "blk.%u.attn_norm.bias",
    [SL_ROLE_ATTN_OUT_BIAS] = "blk.%u.attn_output.bias",
    [SL_ROLE_FFN_NORM_BIAS] = "blk.%u.ffn_norm.bias",
    [SL_ROLE_FFN_UP_BIAS] = "blk.%u.ffn_up.bias",
    [SL_ROLE_FFN_DOWN_BIAS] = "blk.%u.ffn_down.bias",
};

static bool of_layer(sl_tensor_role role)
{
    return role >= SL_ROLE_ATTN_NORM;
}

/* ---- keys ---- */

typedef struct key_reader {
    const sl_gguf *gguf;
    const char *arch;
    sl_error *err;
    sl_status status; /* of the first failure; later reads are skipped */
} key_reader;

static const char *full_key(const key_reader *r, const char *name, char out[128])
{
    snprintf(out, 128, "%s.%s", r->arch, name);
    return out;
}

/* `fallback` UINT32_MAX: the key must be there. */
static uint32_t read_u32(key_reader *r, const char *name, uint32_t min, uint32_t max, uint32_t fallback)
{
    char key[128];
    uint32_t value = fallback;
    full_key(r, name, key);
    if (r->status != SL_OK)
        return 0;
    if (fallback != UINT32_MAX && sl_gguf_find(r->gguf, key) == NULL)
        return fallback;
    r->status = sl_gguf_u32(r->gguf, key, &value, r->err);
    if (r->status == SL_OK && (value < min || value > max))
        r->status = sl_fail(r->err, SL_FORMAT, "%s: %s is %u; it must be %u to %u", sl_gguf_path(r->gguf), key, (unsigned)value,
                            (unsigned)min, (unsigned)max);
    return value;
}

static float read_f32(key_reader *r, const char *name, float fallback)
{
    char key[128];
    float value = fallback;
    full_key(r, name, key);
    if (r->status != SL_OK)
        return 0;
    if (!isnan(fallback) && sl_gguf_find(r->gguf, key) == NULL)
        return fallback;
    r->status = sl_gguf_f32(r->gguf, key, &value, r->err);
    if (r->status == SL_OK && !(value > 0 && value < 1e12f))
        r->status = sl_fail(r->err, SL_FORMAT, "%s: %s is %g; it must be a positive number", sl_gguf_path(r->gguf), key, (double)value);
    return value;
}

/* Keys that the reader below uses, beside the row's ignored ones. Any other "<arch>.*" key is refused: it may change the arithmetic. */
static const char *const used_keys[] = {
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    NULL,
};

/* Used only by architectures that turn queries and keys. */
static const char *const rope_keys[] = {
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.finetuned", /* it says how the model was made */
    NULL,
};

/* Used only by architectures that have windows, and a rotary base of their own for these. */
static const char *const window_keys[] = {"attention.sliding_window", "attention.sliding_window_pattern", NULL};
static const char *const window_rope_keys[] = {"rope.freq_base_swa", NULL};

static const char *epsilon_key(const sl_arch *arch)
{
    return arch->layer_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}

static bool listed(const char *const *list, sl_str name)
{
    for (; *list != NULL; list++)
        if (sl_str_equal(name, *list))
            return true;
    return false;
}

static bool knows_key(const sl_arch *arch, sl_str name)
{
    return listed(used_keys, name) || sl_str_equal(name, epsilon_key(arch)) || listed(arch->ignored_keys, name) ||
           (!arch->learned_positions && listed(rope_keys, name)) || (arch->windows && listed(window_keys, name)) ||
           (arch->window_rope_base > 0 && listed(window_rope_keys, name));
}

static sl_status check_keys(const sl_gguf *gguf, const sl_arch *arch, sl_error *err)
{
    size_t prefix = strlen(arch->name);
    for (size_t i = 0; i < sl_gguf_value_count(gguf); i++) {
        const sl_gguf_value *value = sl_gguf_value_at(gguf, i);
        if (value->key.length <= prefix || memcmp(value->key.data, arch->name, prefix) != 0 || value->key.data[prefix] != '.')
            continue;
        sl_str name = {value->key.data + prefix + 1, value->key.length - prefix - 1};
        if (!knows_key(arch, name))
            return sl_fail(err, SL_UNSUPPORTED,
                           "%s: key %.*s is not known for architecture %s; it may change the result, so the file is refused",
                           sl_gguf_path(gguf), (int)value->key.length, value->key.data, arch->name);
    }
    return SL_OK;
}

/* What YaRN has beside the scale. Cosine and sine grow with the logarithm of it, and by attn_factor where there is one. */
static sl_status read_yarn(key_reader *r, sl_model *model)
{
    model->rope_scaling = SL_ROPE_SCALING_YARN;
    model->yarn_beta_fast = read_f32(r, "rope.scaling.yarn_beta_fast", 32.0f);
    model->yarn_beta_slow = read_f32(r, "rope.scaling.yarn_beta_slow", 1.0f);
    SL_TRY(r->status);
    if (!(model->rope_base > 1))
        return sl_fail(r->err, SL_FORMAT, "%s: %s.rope.freq_base is %g; YaRN needs more than 1", sl_gguf_path(r->gguf), r->arch,
                       model->rope_base);
    if (model->rope_scale > 1)
        model->rope_magnitude *= 1 + 0.1 * sl_log(model->rope_scale);
    return SL_OK;
}

/* Linear scaling divides positions, by rope.scaling.factor or, in older files, rope.scale_linear; it is what a factor means unless the type
 * says otherwise. llama 3's scaling comes as the tensor rope_freqs.weight. Anything else is refused. */
static sl_status read_rope_scaling(key_reader *r, sl_model *model)
{
    char key[128];
    sl_str type = {"linear", 6};
    if (model->arch->learned_positions)
        return SL_OK;
    model->rope_scale = read_f32(r, "rope.scaling.factor", read_f32(r, "rope.scale_linear", 1.0f));
    model->rope_magnitude = read_f32(r, "rope.scaling.attn_factor", 1.0f);
    model->rope_original_context = read_u32(r, "rope.scaling.original_context_length", 0, 1u << 24, 0);
    SL_TRY(r->status);
    if (model->rope_original_context == 0)
        model->rope_original_context = model->context;
    full_key(r, "rope.scaling.type", key);
    if (sl_gguf_find(r->gguf, key) != NULL)
        SL_TRY(sl_gguf_str(r->gguf, key, &type, r->err));
    if (sl_str_equal(type, "linear"))
        return SL_OK;
    if (sl_str_equal(type, "yarn") && model->window_rope_base == 0)
        return read_yarn(r, model);
    if (sl_str_equal(type, "longrope") && model->arch->rope_longrope && model->rope_scale == 1.0)
        model->rope_scaling = SL_ROPE_SCALING_LONGROPE;
    else if (sl_str_equal(type, "none"))
        model->rope_scale = 1.0;
    else
        return sl_fail(
            r->err, SL_UNSUPPORTED,
            "%s: %s is \"%.*s\"; known are none, linear, yarn (with one rotary base for all layers) and, of phi3, longrope (without a "
            "factor)",
            sl_gguf_path(r->gguf), key, (int)(type.length < 40 ? type.length : 40), type.data);
    return SL_OK;
}

/* The file says which layers have the window, each or by their period; else it is as the architecture has it. */
static sl_status read_window_layers(key_reader *r, sl_model *model)
{
    char key[128];
    const sl_gguf_value *value = sl_gguf_find(r->gguf, full_key(r, "attention.sliding_window_pattern", key));
    uint32_t period = model->arch->window_period;
    if (value == NULL || value->kind != SL_GGUF_ARRAY) {
        period = read_u32(r, "attention.sliding_window_pattern", 0, SL_LAYERS_MAX, period);
        for (uint32_t layer = 0; layer < model->layers; layer++)
            model->has_window[layer] = period == 0 || layer % period < period - 1;
        return r->status;
    }
    if (value->element_kind != SL_GGUF_BOOL || value->count != model->layers)
        return sl_fail(r->err, SL_FORMAT, "%s: %s must be a period, or true or false for each of the %u layers", sl_gguf_path(r->gguf), key,
                       model->layers);
    for (uint32_t layer = 0; layer < model->layers; layer++)
        model->has_window[layer] = value->data[layer] != 0;
    return SL_OK;
}

static sl_status read_windows(key_reader *r, sl_model *model)
{
    model->has_window = calloc(model->layers, sizeof *model->has_window);
    if (model->has_window == NULL)
        return sl_fail(r->err, SL_NO_MEMORY, "out of memory for the layers' windows");
    model->window = model->arch->windows ? read_u32(r, "attention.sliding_window", 0, 1u << 30, 0) : 0;
    SL_TRY(r->status);
    if (model->window == 0)
        return SL_OK;
    if (model->arch->window_rope_base > 0)
        model->window_rope_base = read_f32(r, "rope.freq_base_swa", (float)model->arch->window_rope_base);
    return read_window_layers(r, model);
}

static void derive_scales(sl_model *model)
{
    uint32_t width = model->arch->share_layers == model->layers ? model->d / model->heads : model->head_dim;
    model->attention_scale = 1.0f / sqrtf((float)width);
    model->embedding_scale = model->arch->embedding_scaled ? sqrtf((float)model->d) : 1.0f;
}

static sl_status read_keys(const sl_gguf *gguf, sl_model *model, sl_error *err)
{
    key_reader r = {gguf, model->arch->name, err, SL_OK};
    model->layers = read_u32(&r, "block_count", 1, SL_LAYERS_MAX, UINT32_MAX);
    model->d = read_u32(&r, "embedding_length", 32, 1u << 17, UINT32_MAX);
    model->ff = read_u32(&r, "feed_forward_length", 32, 1u << 19, UINT32_MAX);
    model->heads = read_u32(&r, "attention.head_count", 1, 4096, UINT32_MAX);
    model->kv_heads = read_u32(&r, "attention.head_count_kv", 1, 4096, model->heads);
    model->context = read_u32(&r, "context_length", 1, 1u << 24, UINT32_MAX);
    SL_TRY(r.status);
    if (model->heads % model->kv_heads != 0)
        return sl_fail(err, SL_FORMAT, "%s: %u query heads cannot share %u key heads; the first must be a multiple of the second",
                       sl_gguf_path(gguf), model->heads, model->kv_heads);
    model->head_dim = read_u32(&r, "attention.key_length", 16, SL_HEAD_DIM_MAX, model->d / model->heads);
    uint32_t value_dim = read_u32(&r, "attention.value_length", 16, SL_HEAD_DIM_MAX, model->head_dim);
    model->norm_eps = read_f32(&r, epsilon_key(model->arch), NAN);
    if (!model->arch->learned_positions) {
        model->rope_dim = read_u32(&r, "rope.dimension_count", 2, SL_HEAD_DIM_MAX, model->head_dim);
        model->rope_base = read_f32(&r, "rope.freq_base", 10000.0f);
    }
    SL_TRY(r.status);
    if (value_dim != model->head_dim || model->head_dim % 16 != 0 || model->head_dim == 0 || model->head_dim > SL_HEAD_DIM_MAX)
        return sl_fail(err, SL_UNSUPPORTED, "%s: heads of %u key and %u value components; they must be equal, a multiple of 16, at most %d",
                       sl_gguf_path(gguf), model->head_dim, value_dim, SL_HEAD_DIM_MAX);
    if (model->rope_dim > model->head_dim || model->rope_dim % 2 != 0)
        return sl_fail(err, SL_FORMAT, "%s: rope.dimension_count is %u; it must be even and at most the head's %u", sl_gguf_path(gguf),
                       model->rope_dim, model->head_dim);
    derive_scales(model);
    SL_TRY(read_windows(&r, model));
    return read_rope_scaling(&r, model);
}

/* ---- tensors ---- */

static size_t slot_of(sl_tensor_role role, uint32_t layer)
{
    if (!of_layer(role))
        return role;
    return SL_ROLE_ATTN_NORM + (size_t)layer * (SL_ROLE_COUNT - SL_ROLE_ATTN_NORM) + (role - SL_ROLE_ATTN_NORM);
}

const sl_gguf_tensor *sl_model_tensor(const sl_model *model, sl_tensor_role role, uint32_t layer)
{
    if (role == SL_ROLE_NONE)
        return NULL;
    if (role == SL_ROLE_OUTPUT && model->tied)
        role = SL_ROLE_TOKEN_EMBD;
    return model->tensors[slot_of(role, layer)];
}

uint32_t sl_model_width(const sl_model *model, sl_buffer buffer)
{
    uint32_t q = model->heads * model->head_dim, kv = model->kv_heads * model->head_dim;
    switch (buffer) {
    case SL_BUF_RESIDUAL:
    case SL_BUF_NORMED: return model->d;
    case SL_BUF_Q:
    case SL_BUF_ATTENDED: return q;
    case SL_BUF_K:
    case SL_BUF_V: return kv;
    case SL_BUF_GATE: return model->gated ? model->ff : 0;
    case SL_BUF_UP: return model->ff;
    case SL_BUF_LOGITS: return model->vocab;
    case SL_BUF_COUNT: break;
    }
    return 0;
}

uint32_t sl_model_slice(const sl_model *model, const sl_op *op, uint32_t *all_rows)
{
    uint32_t q = sl_model_width(model, SL_BUF_Q), kv = sl_model_width(model, SL_BUF_K);
    *all_rows = sl_model_width(model, op->dst);
    switch (op->slice) {
    case SL_SLICE_ALL: return 0;
    case SL_SLICE_Q:
    case SL_SLICE_K:
    case SL_SLICE_V: *all_rows = q + 2 * kv; return op->slice == SL_SLICE_Q ? 0 : op->slice == SL_SLICE_K ? q : q + kv;
    case SL_SLICE_GATE:
    case SL_SLICE_UP: *all_rows = 2 * model->ff; return op->slice == SL_SLICE_GATE ? 0 : model->ff;
    }
    return 0;
}

static sl_status bad_shape(const sl_gguf *gguf, const sl_gguf_tensor *t, uint64_t cols, uint64_t rows, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "%s: tensor %.*s is %llu x %llu; the model's keys ask for %llu x %llu", sl_gguf_path(gguf),
                   (int)t->name.length, t->name.data, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                   (unsigned long long)cols, (unsigned long long)rows);
}

static sl_status check_matrix(const sl_gguf *gguf, const sl_gguf_tensor *t, uint64_t cols, uint64_t rows, sl_error *err)
{
    if (t->shape[0] != cols || t->shape[1] != rows || t->shape[2] != 1 || t->shape[3] != 1)
        return bad_shape(gguf, t, cols, rows, err);
    const sl_format *format = sl_format_of(t->type);
    if (!format->supported)
        return sl_fail(err, SL_UNSUPPORTED, "%s: tensor %.*s has type %s, which is not supported; " SL_SUPPORTED_FORMATS " are",
                       sl_gguf_path(gguf), (int)t->name.length, t->name.data, format->name);
    return SL_OK;
}

static sl_status check_vector(const sl_gguf *gguf, const sl_gguf_tensor *t, uint64_t n, sl_error *err)
{
    if (t->shape[0] != n || t->shape[1] != 1 || t->shape[2] != 1 || t->shape[3] != 1)
        return bad_shape(gguf, t, n, 1, err);
    if (t->type != SL_TYPE_F32)
        return sl_fail(err, SL_UNSUPPORTED, "%s: tensor %.*s has type %s; a vector must be F32", sl_gguf_path(gguf), (int)t->name.length,
                       t->name.data, sl_format_of(t->type)->name);
    return SL_OK;
}

static sl_status check_op(const sl_gguf *gguf, const sl_model *model, const sl_op *op, uint32_t layer, sl_error *err)
{
    const sl_gguf_tensor *weight = sl_model_tensor(model, op->weight, layer), *bias = sl_model_tensor(model, op->bias, layer);
    uint32_t out = sl_model_width(model, op->dst), all_rows;
    switch (op->kind) {
    case SL_OP_RMS_NORM:
    case SL_OP_LAYER_NORM: SL_TRY(check_vector(gguf, weight, out, err)); break;
    case SL_OP_HEAD_NORM: SL_TRY(check_vector(gguf, weight, model->head_dim, err)); break;
    case SL_OP_MATMUL:
        sl_model_slice(model, op, &all_rows);
        SL_TRY(check_matrix(gguf, weight, sl_model_width(model, op->src), all_rows, err));
        break;
    case SL_OP_END:
    case SL_OP_ROPE:
    case SL_OP_ATTENTION:
    case SL_OP_GLU:
    case SL_OP_RELU:
    case SL_OP_ADD: break;
    }
    return bias == NULL ? SL_OK : check_vector(gguf, bias, out, err);
}

typedef enum role_use { ROLE_UNUSED, ROLE_OPTIONAL, ROLE_NEEDED } role_use;

static role_use use_in(const sl_op *ops, sl_tensor_role role)
{
    role_use use = ROLE_UNUSED;
    for (; ops->kind != SL_OP_END; ops++) {
        if (ops->weight == role)
            return ROLE_NEEDED;
        if (ops->bias == role)
            use = ROLE_OPTIONAL;
    }
    return use;
}

static role_use use_of(const sl_arch *arch, sl_tensor_role role)
{
    if (role == SL_ROLE_TOKEN_EMBD)
        return ROLE_NEEDED;
    if (role == SL_ROLE_POSITION_EMBD)
        return arch->learned_positions ? ROLE_NEEDED : ROLE_UNUSED;
    if (role == SL_ROLE_OUTPUT)
        return ROLE_OPTIONAL;
    if (role == SL_ROLE_ROPE_FREQS)
        return arch->rope_factors ? ROLE_OPTIONAL : ROLE_UNUSED;
    if (role == SL_ROLE_ROPE_LONG || role == SL_ROLE_ROPE_SHORT)
        return arch->rope_longrope ? ROLE_OPTIONAL : ROLE_UNUSED;
    return use_in(of_layer(role) ? arch->layer : arch->head, role);
}

static sl_status claim(const sl_gguf *gguf, sl_model *model, sl_tensor_role role, uint32_t layer, size_t *claimed, sl_error *err)
{
    char name[64];
    role_use use = use_of(model->arch, role);
    if (use == ROLE_UNUSED)
        return SL_OK;
    snprintf(name, sizeof name, role_names[role], layer);
    const sl_gguf_tensor *tensor = sl_gguf_find_tensor(gguf, name);
    if (tensor == NULL && role == SL_ROLE_OUTPUT_NORM && model->arch->without_output_norm != NULL)
        return sl_fail(err, SL_UNSUPPORTED, "%s: has no %s; so this %s model has %s, which is not supported", sl_gguf_path(gguf), name,
                       model->arch->name, model->arch->without_output_norm);
    if (tensor == NULL && use == ROLE_NEEDED)
        return sl_fail(err, SL_FORMAT, "%s: tensor %s is missing; architecture %s needs it", sl_gguf_path(gguf), name, model->arch->name);
    model->tensors[slot_of(role, layer)] = tensor;
    *claimed += tensor != NULL;
    return SL_OK;
}

/* A tensor that no role claims would be silently ignored: find it and name it. */
static sl_status name_unclaimed(const sl_gguf *gguf, const sl_model *model, sl_error *err)
{
    size_t slots = SL_ROLE_ATTN_NORM + (size_t)model->layers * (SL_ROLE_COUNT - SL_ROLE_ATTN_NORM);
    for (size_t i = 0; i < sl_gguf_tensor_count(gguf); i++) {
        const sl_gguf_tensor *tensor = sl_gguf_tensor_at(gguf, i);
        bool found = false;
        for (size_t s = 0; s < slots && !found; s++)
            found = model->tensors[s] == tensor;
        if (!found)
            return sl_fail(err, SL_UNSUPPORTED, "%s: tensor %.*s is not part of architecture %s as known here; the file is refused",
                           sl_gguf_path(gguf), (int)tensor->name.length, tensor->name.data, model->arch->name);
    }
    return SL_OK;
}

/* Checkpoints of OPT have two more rows than positions, the first two, which no token ever uses: a file leaves them out. */
static sl_status check_positions(const sl_gguf *gguf, const sl_model *model, sl_error *err)
{
    const sl_gguf_tensor *t = sl_model_tensor(model, SL_ROLE_POSITION_EMBD, 0);
    if (t == NULL)
        return SL_OK;
    if (t->shape[0] == model->d && t->shape[1] == (uint64_t)model->context + 2)
        return sl_fail(err, SL_FORMAT,
                       "%s: tensor %.*s has %u rows for %u positions; the first two, which are never used, must be left out",
                       sl_gguf_path(gguf), (int)t->name.length, t->name.data, model->context + 2, model->context);
    return check_matrix(gguf, t, model->d, model->context, err);
}

static sl_status check_rope_factors(const sl_gguf *gguf, const sl_model *model, sl_error *err)
{
    static const sl_tensor_role roles[] = {SL_ROLE_ROPE_FREQS, SL_ROLE_ROPE_LONG, SL_ROLE_ROPE_SHORT};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (model->tensors[roles[i]] != NULL)
            SL_TRY(check_vector(gguf, model->tensors[roles[i]], model->rope_dim / 2, err));
    bool has_long = model->tensors[SL_ROLE_ROPE_LONG] != NULL, has_short = model->tensors[SL_ROLE_ROPE_SHORT] != NULL;
    if (has_long != has_short || (!has_long && model->rope_scaling == SL_ROPE_SCALING_LONGROPE))
        return sl_fail(err, SL_FORMAT, "%s: tensor %s is missing; longrope needs two lists of factors", sl_gguf_path(gguf),
                       role_names[has_long ? SL_ROLE_ROPE_SHORT : SL_ROLE_ROPE_LONG]);
    return SL_OK;
}

static sl_status claim_tensors(const sl_gguf *gguf, sl_model *model, sl_error *err)
{
    size_t claimed = 0;
    for (sl_tensor_role role = SL_ROLE_TOKEN_EMBD; role < SL_ROLE_ATTN_NORM; role++)
        SL_TRY(claim(gguf, model, role, 0, &claimed, err));
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (sl_tensor_role role = SL_ROLE_ATTN_NORM; role < SL_ROLE_COUNT; role++)
            SL_TRY(claim(gguf, model, role, layer, &claimed, err));
    if (claimed != sl_gguf_tensor_count(gguf))
        SL_TRY(name_unclaimed(gguf, model, err));

    const sl_gguf_tensor *embd = sl_model_tensor(model, SL_ROLE_TOKEN_EMBD, 0);
    model->tied = model->tensors[SL_ROLE_OUTPUT] == NULL;
    if (embd->shape[1] < 2 || embd->shape[1] > (1u << 24))
        return bad_shape(gguf, embd, model->d, 32000, err);
    model->vocab = (uint32_t)embd->shape[1];
    SL_TRY(check_matrix(gguf, embd, model->d, model->vocab, err));
    SL_TRY(check_positions(gguf, model, err));
    SL_TRY(check_rope_factors(gguf, model, err));
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (const sl_op *op = model->arch->layer; op->kind != SL_OP_END; op++)
            SL_TRY(check_op(gguf, model, op, layer, err));
    for (const sl_op *op = model->arch->head; op->kind != SL_OP_END; op++)
        SL_TRY(check_op(gguf, model, op, 0, err));
    return SL_OK;
}

sl_status sl_model_open(const sl_gguf *gguf, sl_model **out, sl_error *err)
{
    sl_str name;
    *out = NULL;
    SL_TRY(sl_gguf_str(gguf, "general.architecture", &name, err));
    const sl_arch *arch = sl_arch_find(name);
    if (arch == NULL)
        return sl_fail(err, SL_UNSUPPORTED, "%s: architecture \"%.*s\" is not known; known: %s", sl_gguf_path(gguf),
                       (int)(name.length < 60 ? name.length : 60), name.data, sl_arch_names());
    if (sl_gguf_tensor_count(gguf) == 0)
        return sl_fail(err, SL_FORMAT,
                       "%s: there are no weights in it; if it is a vocabulary alone, tokenize takes it, and the rest needs the model",
                       sl_gguf_path(gguf));

    sl_model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the model's description");
    model->arch = arch;
    for (const sl_op *op = arch->layer; op->kind != SL_OP_END; op++)
        model->gated = model->gated || op->kind == SL_OP_GLU;
    sl_status status = check_keys(gguf, arch, err);
    if (status == SL_OK)
        status = read_keys(gguf, model, err);
    if (status == SL_OK) {
        size_t slots = SL_ROLE_ATTN_NORM + (size_t)model->layers * (SL_ROLE_COUNT - SL_ROLE_ATTN_NORM);
        model->tensors = calloc(slots, sizeof *model->tensors);
        status = model->tensors == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for %zu tensor entries", slots)
                                        : claim_tensors(gguf, model, err);
    }
    if (status != SL_OK) {
        sl_model_close(model);
        return status;
    }
    *out = model;
    return SL_OK;
}

void sl_model_close(sl_model *model)
{
    if (model == NULL)
        return;
    free(model->has_window);
    free(model->tensors);
    free(model);
}

uint64_t sl_model_ffn_bytes(const sl_model *model, uint32_t layer)
{
    static const sl_tensor_role roles[] = {SL_ROLE_FFN_GATE, SL_ROLE_FFN_UP, SL_ROLE_FFN_DOWN};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        const sl_gguf_tensor *tensor = sl_model_tensor(model, roles[i], layer);
        bytes += tensor != NULL ? tensor->bytes : 0;
    }
    return bytes;
}

/* tests/tiny_model.h: models of any odd shape, written in milliseconds, for tests of what runs them.
 *
 * `synth` makes models of fixed, sensible shapes; these may have rows that fill no panel, heads that are wider than their share, biases,
 * rotary factors and another format for each matrix. Same description, same bytes. Files lie in $TMPDIR, or beside the test program:
 * both are on a disk, so that direct reads work. */
#ifndef SL_TESTS_TINY_MODEL_H
#define SL_TESTS_TINY_MODEL_H

#include "offload/sluice.h"
#include "offload/tools/quantize.h"
#include "offload/tools/synth_row.h"
#include "offload/tools/synth_vocabulary.h"
#include "offload/tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tiny_model {
    const char *arch;                                                  /* NULL: llama */
    uint32_t layers, d, ff, heads, kv_heads, head_dim, vocab, context; /* vocab at least SLI_SYNTH_VOCABULARY_MIN */
    uint32_t types[4];                                                 /* of the matrices, in turn */
    bool tied, biases, rope_factors;
    bool pruned;                /* its feed-forwards have zeros in them: tiny_is_zero */
    bool head_copies_embedding; /* of an untied model: the file has the same matrix twice */
    float rope_linear;          /* 0: no scaling */
    float rope_yarn;            /* the same, YaRN's */
    uint32_t rope_original;     /* the context before it was stretched; 0: the file does not say */
    bool rope_longrope;         /* factors for the original context and for longer ones */
    float rope_magnitude;       /* 0: the file does not say */
    uint32_t window;            /* 0: none */
    uint32_t window_period;     /* 0: the architecture's */
    /* [vocab] or NULL. A model that knows nothing but what follows each token: its likeliest next one by far. It is untied, F32, and d is at
     * least vocab: the embedding is the identity, the layers add nothing, and the head maps each token to its successor. */
    const sl_token_id *successors;
    uint64_t seed;
} tiny_model;

/* The shape that most tests use: two layers, two query heads for each key head, a last panel of three rows. */
#define TINY_MODEL                                                                                                                         \
    {                                                                                                                                      \
        .layers = 2, .d = 64, .ff = 96, .heads = 4, .kv_heads = 2, .head_dim = 32, .vocab = 387, .context = 256, .tied = true, .seed = 1   \
    }

/* A path for a file of this test, in a buffer that the caller frees. */
static inline char *tiny_path(const char *name)
{
    char folder[4096];
    const char *set = getenv("TMPDIR");
    if (set != NULL && set[0] != '\0') {
        snprintf(folder, sizeof folder, "%s", set);
    } else {
        ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
        folder[length > 0 ? length : 0] = '\0';
        char *slash = strrchr(folder, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    size_t bytes = strlen(folder) + strlen(name) + 32;
    char *path = malloc(bytes);
    if (path == NULL)
        abort();
    snprintf(path, bytes, "%s/%d-%s", folder, (int)getpid(), name);
    return path;
}

typedef struct tiny_writer {
    const tiny_model *model;
    sl_gguf_writer *file;
    bool filling; /* first all tensors are declared, then all are filled */
    uint32_t matrices;
    uint64_t tensors;
} tiny_writer;

/* Of a pruned model's feed-forward three of four weights are zero, and of every fifth neuron all: with the second of them it begins. */
static inline bool tiny_is_zero(const char *name, uint32_t row, uint32_t column)
{
    const char *what = strstr(name, "ffn_");
    if (what == NULL || strcmp(what, "ffn_norm.weight") == 0)
        return false;
    uint32_t neuron = strcmp(what, "ffn_down.weight") == 0 ? column : row;
    return neuron % 5 == 1 || (row + column) % 4 != 0;
}

static inline float tiny_successor_weight(const tiny_model *m, const char *name, uint32_t row, uint32_t column)
{
    if (strcmp(name, "token_embd.weight") == 0)
        return row == column;
    return strcmp(name, "output.weight") == 0 && column < m->vocab && m->successors[column] == (sl_token_id)row;
}

/* `spread` around `middle`; rows 0 is a vector. */
static inline sl_status tiny_tensor(tiny_writer *w, const char *name, uint32_t columns, uint32_t rows, float middle, float spread,
                                    sl_error *err)
{
    uint32_t type = rows == 0 ? (uint32_t)SL_TYPE_F32 : w->model->types[w->matrices++ % 4];
    uint64_t state = sli_random_row(w->model->seed, w->tensors++, 0);
    if (!w->filling)
        return sl_gguf_write_tensor(w->file, name, type, (uint64_t[]){columns, rows}, rows == 0 ? 1 : 2, err);
    float *row = malloc(columns * sizeof *row);
    uint8_t *stored = malloc(columns * sizeof *row);
    sl_status status = row != NULL && stored != NULL ? SL_OK : SL_NO_MEMORY;
    for (uint32_t r = 0; r < (rows == 0 ? 1 : rows) && status == SL_OK; r++) {
        for (uint32_t c = 0; c < columns && rows > 0 && w->model->successors != NULL; c++)
            row[c] = tiny_successor_weight(w->model, name, r, c);
        for (uint32_t c = 0; c < columns && (rows == 0 || w->model->successors == NULL); c++)
            row[c] = middle + spread * ((float)(sli_random_next(&state) >> 40) * 0x1p-23f - 1.0f);
        for (uint32_t c = 0; c < columns && w->model->pruned; c++)
            row[c] = tiny_is_zero(name, r, c) ? 0 : row[c];
        if (sl_quantize_knows(type))
            sl_quantize_row(type, row, columns, stored);
        else
            sli_synth_row(type, columns, sli_random_row(w->model->seed, w->tensors - 1, r), row, stored);
        status = sl_gguf_writer_data(w->file, stored, sl_row_bytes(type, columns), err);
    }
    free(stored);
    free(row);
    return status;
}

static inline const char *tiny_arch(const tiny_model *m)
{
    return m->arch != NULL ? m->arch : "llama";
}

static inline bool tiny_is_opt(const tiny_model *m)
{
    return strcmp(tiny_arch(m), "opt") == 0;
}

static inline sl_status tiny_layer(tiny_writer *w, uint32_t layer, sl_error *err)
{
    const tiny_model *m = w->model;
    uint32_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    bool fused = strcmp(tiny_arch(m), "phi3") == 0, post_norms = strcmp(tiny_arch(m), "gemma3") == 0;
    bool opt = tiny_is_opt(m), apart = !fused, gate = apart && !opt, biases = m->biases || opt,
         head_norms = post_norms || strcmp(tiny_arch(m), "qwen3") == 0;
    const struct {
        bool there;
        const char *name;
        uint32_t columns, rows;
        float middle, spread;
    } tensors[] = {
        {true, "attn_norm.weight", m->d, 0, 1.0f, 0.1f},
        {opt, "attn_norm.bias", m->d, 0, 0, 0.2f},
        {fused, "attn_qkv.weight", m->d, q + 2 * kv, 0, 2},
        {apart, "attn_q.weight", m->d, q, 0, 2},
        {biases, "attn_q.bias", q, 0, 0, 0.5f},
        {head_norms, "attn_q_norm.weight", m->head_dim, 0, 1.0f, 0.3f},
        {apart, "attn_k.weight", m->d, kv, 0, 2},
        {biases, "attn_k.bias", kv, 0, 0, 0.5f},
        {head_norms, "attn_k_norm.weight", m->head_dim, 0, 1.0f, 0.3f},
        {apart, "attn_v.weight", m->d, kv, 0, 2},
        {biases, "attn_v.bias", kv, 0, 0, 0.5f},
        {true, "attn_output.weight", q, m->d, 0, 2},
        {opt, "attn_output.bias", m->d, 0, 0, 0.2f},
        {post_norms, "post_attention_norm.weight", m->d, 0, 0.5f, 0.1f},
        {true, "ffn_norm.weight", m->d, 0, 1.0f, 0.1f},
        {opt, "ffn_norm.bias", m->d, 0, 0, 0.2f},
        {gate, "ffn_gate.weight", m->d, m->ff, 0, 2},
        {true, "ffn_up.weight", m->d, fused ? 2 * m->ff : m->ff, 0, 2},
        {opt, "ffn_up.bias", m->ff, 0, 0, 0.5f},
        {true, "ffn_down.weight", m->ff, m->d, 0, 2},
        {opt, "ffn_down.bias", m->d, 0, 0, 0.2f},
        {post_norms, "post_ffw_norm.weight", m->d, 0, 0.5f, 0.1f},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[64];
        if (!tensors[i].there)
            continue;
        snprintf(name, sizeof name, "blk.%u.%s", layer, tensors[i].name);
        /* A matrix is spread by its row length, so that what goes in comes out at about the same size. */
        float spread = tensors[i].rows == 0 ? tensors[i].spread : tensors[i].spread / sqrtf((float)tensors[i].columns);
        SL_TRY(tiny_tensor(w, name, tensors[i].columns, tensors[i].rows, tensors[i].middle, spread, err));
    }
    return SL_OK;
}

static inline sl_status tiny_tensors(tiny_writer *w, bool filling, sl_error *err)
{
    const tiny_model *m = w->model;
    float spread = 2 / sqrtf((float)m->d);
    w->filling = filling;
    w->matrices = 0;
    w->tensors = 0;
    SL_TRY(tiny_tensor(w, "token_embd.weight", m->d, m->vocab, 0, spread, err));
    if (tiny_is_opt(m))
        SL_TRY(tiny_tensor(w, "position_embd.weight", m->d, m->context, 0, spread, err));
    if (m->rope_factors)
        SL_TRY(tiny_tensor(w, "rope_freqs.weight", m->head_dim / 2, 0, 4.0f, 3.0f, err));
    if (m->rope_longrope) {
        SL_TRY(tiny_tensor(w, "rope_factors_long.weight", m->head_dim / 2, 0, 4.0f, 3.0f, err));
        SL_TRY(tiny_tensor(w, "rope_factors_short.weight", m->head_dim / 2, 0, 1.2f, 0.2f, err));
    }
    for (uint32_t layer = 0; layer < m->layers; layer++)
        SL_TRY(tiny_layer(w, layer, err));
    SL_TRY(tiny_tensor(w, "output_norm.weight", m->d, 0, 2.0f, 0.1f, err));
    if (tiny_is_opt(m))
        SL_TRY(tiny_tensor(w, "output_norm.bias", m->d, 0, 0, 0.2f, err));
    if (m->head_copies_embedding)
        w->matrices = w->tensors = 0;
    return m->tied ? SL_OK : tiny_tensor(w, "output.weight", m->d, m->vocab, 0, spread, err);
}

static inline sl_status tiny_number(sl_gguf_writer *w, const tiny_model *m, const char *name, uint32_t value, sl_error *err)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", tiny_arch(m), name);
    return sl_gguf_write_u32(w, key, value, err);
}

static inline sl_status tiny_real(sl_gguf_writer *w, const tiny_model *m, const char *name, float value, sl_error *err)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", tiny_arch(m), name);
    return sl_gguf_write_f32(w, key, value, err);
}

static inline sl_status tiny_values(sl_gguf_writer *w, const tiny_model *m, sl_error *err)
{
    const struct {
        const char *name;
        uint32_t value;
        bool may_lack; /* where it is 0 */
    } numbers[] = {{"context_length", m->context, false},
                   {"embedding_length", m->d, false},
                   {"block_count", m->layers, false},
                   {"feed_forward_length", m->ff, false},
                   {"attention.head_count", m->heads, false},
                   {"attention.head_count_kv", m->kv_heads, false},
                   {"attention.key_length", m->head_dim, false},
                   {"attention.value_length", m->head_dim, false},
                   {"rope.dimension_count", tiny_is_opt(m) ? 0 : m->head_dim, true},
                   {"attention.sliding_window", m->window, true},
                   {"rope.scaling.original_context_length", m->rope_original, true},
                   {"attention.sliding_window_pattern", m->window_period, true}};
    char key[96];
    SL_TRY(sl_gguf_write_str(w, "general.architecture", tiny_arch(m), err));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value != 0 || !numbers[i].may_lack)
            SL_TRY(tiny_number(w, m, numbers[i].name, numbers[i].value, err));
    SL_TRY(tiny_real(w, m, tiny_is_opt(m) ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 1e-5f, err));
    if (!tiny_is_opt(m))
        SL_TRY(tiny_real(w, m, "rope.freq_base", m->window > 0 ? 1e6f : 10000.0f, err));
    if (m->rope_linear > 0 || m->rope_yarn > 0) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", tiny_arch(m));
        SL_TRY(sl_gguf_write_str(w, key, m->rope_yarn > 0 ? "yarn" : "linear", err));
        SL_TRY(tiny_real(w, m, "rope.scaling.factor", m->rope_yarn > 0 ? m->rope_yarn : m->rope_linear, err));
    }
    if (m->rope_magnitude > 0)
        SL_TRY(tiny_real(w, m, "rope.scaling.attn_factor", m->rope_magnitude, err));
    /* The rows beyond it are tokens without a text. */
    return sli_synth_vocabulary(w, SLI_SYNTH_VOCABULARY_MIN, err);
}

static inline sl_status tiny_write(const tiny_model *model, const char *path, sl_error *err)
{
    tiny_writer w = {.model = model};
    SL_TRY(sl_gguf_writer_create(path, 32, &w.file, err));
    sl_status status = tiny_values(w.file, model, err);
    if (status == SL_OK)
        status = tiny_tensors(&w, false, err);
    if (status == SL_OK)
        status = sl_gguf_writer_begin_data(w.file, err);
    if (status == SL_OK)
        status = tiny_tensors(&w, true, err);
    if (status == SL_OK)
        return sl_gguf_writer_finish(w.file, err);
    sl_gguf_writer_discard(w.file);
    return status;
}

/* What a test process may grow by between two engines, bytes: a budget is the whole process's. */
#if defined(__SANITIZE_ADDRESS__)
#define GROWTH ((uint64_t)4 << 20) /* it keeps more of what was freed */
#else
#define GROWTH ((uint64_t)1 << 20)
#endif

/* AddressSanitizer would keep freed memory in a quarantine, and each engine of a test would find a larger process. */
#if defined(__SANITIZE_ADDRESS__)
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=0:thread_local_quarantine_size_kb=0";
}
#endif

#endif

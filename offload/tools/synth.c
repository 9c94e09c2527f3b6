/* offload/tools/synth.c: random models, written as fast as the disk takes them.
 *
 * Each row has a random stream of its own (synth_row.h). */
#include "offload/tools/synth.h"
#include "offload/tools/synth_row.h"
#include "offload/tools/synth_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* tiny: rows of 128 and 160, so that no length is a multiple of 256 and one is not even of 64; tiny-256: all are, for super-blocks. */
static const sl_synth_shape shapes[] = {
    {"tiny", "llama", 2, 128, 160, 4, 2, 384, 512, 1e4f, 1e-5f, true},
    {"tiny-untied", "llama", 2, 128, 160, 4, 2, 384, 512, 1e4f, 1e-5f, false},
    {"tiny-256", "llama", 2, 256, 512, 8, 4, 384, 512, 1e4f, 1e-5f, false},
    {"smollm2-135m", "llama", 30, 576, 1536, 9, 3, 49152, 8192, 1e5f, 1e-5f, true},
    {"smollm2-360m", "llama", 32, 960, 2560, 15, 5, 49152, 8192, 1e5f, 1e-5f, true},
    {"tinyllama-1.1b", "llama", 22, 2048, 5632, 32, 4, 32000, 2048, 1e4f, 1e-5f, false},
    {"smollm2-1.7b", "llama", 24, 2048, 8192, 32, 32, 49152, 8192, 1.3e5f, 1e-5f, true},
    {"llama-7b", "llama", 32, 4096, 11008, 32, 32, 32000, 4096, 1e4f, 1e-5f, false},
    {"llama3-8b", "llama", 32, 4096, 14336, 32, 8, 128256, 8192, 5e5f, 1e-5f, false},
    {"llama-13b", "llama", 40, 5120, 13824, 40, 40, 32000, 4096, 1e4f, 1e-5f, false},
    {"llama-30b", "llama", 60, 6656, 17920, 52, 52, 32000, 2048, 1e4f, 1e-6f, false},
    {"llama-70b", "llama", 80, 8192, 28672, 64, 8, 32000, 4096, 1e4f, 1e-5f, false},
    {"llama3-70b", "llama", 80, 8192, 28672, 64, 8, 128256, 8192, 5e5f, 1e-5f, false},
    {"tiny-opt", "opt", 2, 128, 160, 4, 4, 384, 512, 0, 1e-5f, true}, /* learned positions */
    {"opt-125m", "opt", 12, 768, 3072, 12, 12, 50272, 2048, 0, 1e-5f, true},
    {"opt-1.3b", "opt", 24, 2048, 8192, 32, 32, 50272, 2048, 0, 1e-5f, true},
    {"opt-6.7b", "opt", 32, 4096, 16384, 32, 32, 50272, 2048, 0, 1e-5f, true},
    {"opt-30b", "opt", 48, 7168, 28672, 56, 56, 50272, 2048, 0, 1e-5f, true},
};
enum { SHAPE_COUNT = sizeof(shapes) / sizeof(shapes[0]) };

const sl_synth_shape *sl_synth_shape_at(size_t index)
{
    return index < SHAPE_COUNT ? &shapes[index] : NULL;
}

/* The type of a matrix with rows of `columns`. Where super-blocks do not divide them the next larger format of blocks of 32 stands in, as
 * in files that llama.cpp quantises. */
static uint32_t type_for(uint32_t type, uint64_t columns)
{
    if (columns % sl_format_of(type)->block_elements == 0)
        return type;
    switch (type) {
    case SL_TYPE_Q4_K: return SL_TYPE_Q5_0;
    case SL_TYPE_Q5_K: return SL_TYPE_Q5_1;
    case SL_TYPE_Q6_K: return SL_TYPE_Q8_0;
    default: return SL_TYPE_IQ4_NL;
    }
}

/* Norm weights are near 1 and biases near 0, each another, so that a forgotten one shows. */
static void random_vector(const char *name, uint64_t elements, uint64_t state, float *out)
{
    size_t length = strlen(name);
    float first = length > 5 && strcmp(name + length - 5, ".bias") == 0 ? -0.1f : 0.9f;
    for (uint64_t i = 0; i < elements; i++)
        out[i] = first + 0.2f * sli_unit(sli_random_next(&state));
}

static bool is_opt(const sl_synth_shape *shape)
{
    return strcmp(shape->arch, "opt") == 0;
}

/* ---- the file ---- */

typedef struct synth {
    const sl_synth_options *options;
    const sl_synth_shape *shape;
    sli_tool_output output;
    uint64_t tensor; /* running number, for the random streams */
    float *floats;   /* one row */
    uint8_t *row;    /* one row, stored */
} synth;

/* What is done with each tensor in turn: first all are declared, then all are filled. Both passes walk the same list. */
typedef sl_status (*tensor_visit)(synth *s, const char *name, uint64_t columns, uint64_t rows, sl_error *err);

static sl_status declare_tensor(synth *s, const char *name, uint64_t columns, uint64_t rows, sl_error *err)
{
    uint32_t type = rows ? type_for(s->options->type, columns) : SL_TYPE_F32;
    s->output.total_bytes += sl_row_bytes(type, columns) * (rows ? rows : 1);
    return sl_gguf_write_tensor(s->output.writer, name, type, (uint64_t[]){columns, rows}, rows ? 2 : 1, err);
}

static sl_status fill_tensor(synth *s, const char *name, uint64_t columns, uint64_t rows, sl_error *err)
{
    uint64_t tensor = s->tensor++;
    if (s->options->hollow)
        return sl_gguf_writer_skip(s->output.writer, err);
    if (!rows) {
        random_vector(name, columns, sli_random_row(s->options->seed, tensor, 0), s->floats);
        return sli_tool_put(&s->output, s->floats, columns * sizeof(*s->floats), err);
    }
    uint32_t type = type_for(s->options->type, columns);
    size_t row_bytes = sl_row_bytes(type, columns);
    for (uint64_t r = 0; r < rows; r++) {
        sli_synth_row(type, columns, sli_random_row(s->options->seed, tensor, r), s->floats, s->row);
        SL_TRY(sli_tool_put(&s->output, s->row, row_bytes, err));
    }
    return SL_OK;
}

/* A tensor of a layer; OPT has a bias beside everything. */
typedef struct layer_tensor {
    const char *name;
    uint64_t columns, rows;
} layer_tensor;

static sl_status visit_layer(synth *s, tensor_visit visit, uint32_t layer, sl_error *err)
{
    const sl_synth_shape *h = s->shape;
    uint64_t kv = (uint64_t)h->d / h->heads * h->kv_heads;
    const layer_tensor tensors[] = {
        {"attn_norm", h->d, 0}, {"attn_q", h->d, h->d},    {"attn_k", h->d, kv},    {"attn_v", h->d, kv},      {"attn_output", h->d, h->d},
        {"ffn_norm", h->d, 0},  {"ffn_gate", h->d, h->ff}, {"ffn_up", h->d, h->ff}, {"ffn_down", h->ff, h->d},
    };
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        const layer_tensor *t = &tensors[i];
        char name[64];
        if (is_opt(h) && strcmp(t->name, "ffn_gate") == 0)
            continue;
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, t->name);
        SL_TRY(visit(s, name, t->columns, t->rows, err));
        snprintf(name, sizeof(name), "blk.%u.%s.bias", layer, t->name);
        if (is_opt(h))
            SL_TRY(visit(s, name, t->rows ? t->rows : t->columns, 0, err));
    }
    return SL_OK;
}

/* All tensors of the model, in file order. rows 0: a vector. */
static sl_status visit_tensors(synth *s, tensor_visit visit, sl_error *err)
{
    const sl_synth_shape *h = s->shape;
    SL_TRY(visit(s, "token_embd.weight", h->d, h->vocab, err));
    if (is_opt(h))
        SL_TRY(visit(s, "position_embd.weight", h->d, h->context, err));
    for (uint32_t l = 0; l < h->layers; l++)
        SL_TRY(visit_layer(s, visit, l, err));
    SL_TRY(visit(s, "output_norm.weight", h->d, 0, err));
    if (is_opt(h))
        SL_TRY(visit(s, "output_norm.bias", h->d, 0, err));
    return h->tied ? SL_OK : visit(s, "output.weight", h->d, h->vocab, err);
}

/* "llama.block_count" */
static const char *key_of(const synth *s, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", s->shape->arch, name);
    return out;
}

static sl_status write_values(const synth *s, sl_error *err)
{
    sl_gguf_writer *w = s->output.writer;
    const sl_synth_shape *h = s->shape;
    char name[64], key[96];
    uint32_t file_type;
    snprintf(name, sizeof(name), "random %s", h->name);
    SL_TRY(sl_gguf_write_str(w, "general.architecture", h->arch, err));
    SL_TRY(sl_gguf_write_str(w, "general.name", name, err));
    if (sli_file_type_of(s->options->type, &file_type))
        SL_TRY(sl_gguf_write_u32(w, "general.file_type", file_type, err));
    SL_TRY(sl_gguf_write_u32(w, "general.quantization_version", 2, err));
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"vocab_size", h->vocab},           {"context_length", h->context},           {"embedding_length", h->d},
        {"block_count", h->layers},         {"feed_forward_length", h->ff},           {"rope.dimension_count", h->d / h->heads},
        {"attention.head_count", h->heads}, {"attention.head_count_kv", h->kv_heads},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!is_opt(h) || strcmp(numbers[i].key, "rope.dimension_count") != 0)
            SL_TRY(sl_gguf_write_u32(w, key_of(s, numbers[i].key, key), numbers[i].value, err));
    if (is_opt(h)) {
        SL_TRY(sl_gguf_write_f32(w, key_of(s, "attention.layer_norm_epsilon", key), h->epsilon, err));
    } else {
        SL_TRY(sl_gguf_write_f32(w, key_of(s, "attention.layer_norm_rms_epsilon", key), h->epsilon, err));
        SL_TRY(sl_gguf_write_f32(w, key_of(s, "rope.freq_base", key), h->rope_base, err));
    }
    return sli_synth_vocabulary(w, h->vocab, err);
}

static sl_status find_shape(const char *name, const sl_synth_shape **out, sl_error *err)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            *out = &shapes[i];
            return SL_OK;
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", shapes[i].name);
    }
    return sl_fail(err, SL_INVALID, "no shape \"%s\"; there are %s", name, known);
}

static sl_status write_model(synth *s, sl_error *err)
{
    SL_TRY(write_values(s, err));
    SL_TRY(visit_tensors(s, declare_tensor, err));
    SL_TRY(sl_gguf_writer_begin_data(s->output.writer, err));
    return visit_tensors(s, fill_tensor, err);
}

sl_status sl_synth(const sl_synth_options *options, sl_error *err)
{
    synth s = {.options = options, .output = {.watch = &options->watch}};
    s.shape = options->given;
    if (s.shape == NULL)
        SL_TRY(find_shape(options->shape, &s.shape, err));
    const sl_format *format = sl_format_of(options->type);
    if (!format || !format->supported)
        return sl_fail(err, SL_INVALID, "cannot make weights of type %u (%s); known are %s", options->type,
                       format ? format->name : "undefined", SL_SUPPORTED_FORMATS);
    SL_TRY(sl_gguf_writer_create(options->path, 32, &s.output.writer, err));

    uint32_t longest = s.shape->ff > s.shape->d ? s.shape->ff : s.shape->d;
    s.floats = malloc(longest * sizeof(*s.floats));
    s.row = malloc(4 * (size_t)longest); /* no format is wider than F32 */
    sl_status status = s.floats && s.row ? write_model(&s, err) : sl_fail(err, SL_NO_MEMORY, "%s: no memory for a row", options->path);
    if (status == SL_OK)
        status = sl_gguf_writer_finish(s.output.writer, err);
    else
        sl_gguf_writer_discard(s.output.writer);
    free(s.row);
    free(s.floats);
    return status;
}

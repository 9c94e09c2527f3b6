/* tests/model_description.h: a model's header, described key by key and tensor by tensor, so that a test can take one that is right and
 * change one thing. The tensors' bytes are never there: only the header is read. Needs cmocka's names. */
#ifndef SL_TESTS_MODEL_DESCRIPTION_H
#define SL_TESTS_MODEL_DESCRIPTION_H

#include "core/model.h"
#include "tests/header_builder.h"

#include <stdio.h>

enum { LAYERS = 2, D = 64, FF = 96, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, VOCAB = 50, NAME_MAX = 64, TENSORS_MAX = 48, KEYS_MAX = 24 };

typedef struct key {
    char name[NAME_MAX];
    uint32_t kind; /* SL_GGUF_U32, F32 or STRING; UINT32_MAX: left out */
    uint32_t number;
    float real;
    const char *text;
    const uint8_t *flags; /* `number` of them, of an array */
} key;

typedef struct tensor {
    char name[NAME_MAX];
    uint32_t dims, type;
    uint64_t shape[4];
} tensor;

typedef struct description {
    key keys[KEYS_MAX];
    size_t key_count;
    tensor tensors[TENSORS_MAX];
    size_t tensor_count;
} description;

static inline key *add_key(description *f, const char *name, uint32_t kind)
{
    assert_true(f->key_count < KEYS_MAX);
    key *k = &f->keys[f->key_count++];
    *k = (key){.kind = kind};
    snprintf(k->name, sizeof k->name, "%s", name);
    return k;
}

static inline void add_number(description *f, const char *name, uint32_t value)
{
    add_key(f, name, SL_GGUF_U32)->number = value;
}
static inline void add_real(description *f, const char *name, float value)
{
    add_key(f, name, SL_GGUF_F32)->real = value;
}
static inline void add_text(description *f, const char *name, const char *value)
{
    add_key(f, name, SL_GGUF_STRING)->text = value;
}

/* rows 0: a vector. */
static inline void add_tensor(description *f, const char *name, uint32_t type, uint64_t columns, uint64_t rows)
{
    assert_true(f->tensor_count < TENSORS_MAX);
    tensor *t = &f->tensors[f->tensor_count++];
    *t = (tensor){.dims = rows == 0 ? 1 : 2, .type = type, .shape = {columns, rows == 0 ? 1 : rows, 1, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
}

static inline key *find_key(description *f, const char *name)
{
    for (size_t i = 0; i < f->key_count; i++)
        if (strcmp(f->keys[i].name, name) == 0)
            return &f->keys[i];
    fail_msg("no key %s", name);
    return NULL;
}

static inline tensor *find_tensor(description *f, const char *name)
{
    for (size_t i = 0; i < f->tensor_count; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void add_layer(description *f, unsigned layer)
{
    static const struct {
        const char *name;
        uint64_t columns, rows;
    } tensors[] = {
        {"attn_norm", D, 0},
        {"attn_q", D, HEADS * HEAD_DIM},
        {"attn_k", D, KV_HEADS * HEAD_DIM},
        {"attn_v", D, KV_HEADS * HEAD_DIM},
        {"attn_output", HEADS * HEAD_DIM, D},
        {"ffn_norm", D, 0},
        {"ffn_gate", D, FF},
        {"ffn_up", D, FF},
        {"ffn_down", FF, D},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[NAME_MAX];
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, tensors[i].name);
        add_tensor(f, name, tensors[i].rows == 0 ? SL_TYPE_F32 : SL_TYPE_Q4_0, tensors[i].columns, tensors[i].rows);
    }
}

static inline void right_file(description *f)
{
    *f = (description){0};
    add_text(f, "general.architecture", "llama");
    add_number(f, "llama.context_length", 512);
    add_number(f, "llama.embedding_length", D);
    add_number(f, "llama.block_count", LAYERS);
    add_number(f, "llama.feed_forward_length", FF);
    add_number(f, "llama.attention.head_count", HEADS);
    add_number(f, "llama.attention.head_count_kv", KV_HEADS);
    add_real(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    add_tensor(f, "token_embd.weight", SL_TYPE_Q8_0, D, VOCAB);
    add_tensor(f, "output_norm.weight", SL_TYPE_F32, D, 0);
    for (unsigned layer = 0; layer < LAYERS; layer++)
        add_layer(f, layer);
}

static inline void write_key(header *h, const key *k)
{
    switch (k->kind) {
    case SL_GGUF_U32: header_u32(h, k->name, k->number); break;
    case SL_GGUF_STRING: header_string(h, k->name, k->text, strlen(k->text)); break;
    case SL_GGUF_ARRAY:
        header_array(h, k->name, SL_GGUF_BOOL, k->number);
        header_add(h, k->flags, k->number);
        break;
    case SL_GGUF_F32:
        header_key(h, k->name, SL_GGUF_F32);
        header_add(h, &k->real, sizeof k->real);
        break;
    default: break;
    }
}

static inline uint64_t bytes_of(const tensor *t)
{
    const sl_format *format = sl_format_of(t->type);
    return t->shape[0] / format->block_elements * format->block_bytes * t->shape[1] * t->shape[2] * t->shape[3];
}

/* A tensor without a name is left out. */
static inline sl_gguf *parse(const description *f)
{
    header h;
    uint64_t tensors = 0, at = 0;
    header_start(&h);
    for (size_t i = 0; i < f->key_count; i++)
        write_key(&h, &f->keys[i]);
    for (size_t i = 0; i < f->tensor_count; i++) {
        const tensor *t = &f->tensors[i];
        if (t->name[0] == '\0')
            continue;
        header_add_bytes(&h, t->name, strlen(t->name));
        header_add_u32(&h, t->dims);
        for (uint32_t dim = 0; dim < t->dims; dim++)
            header_add_u64(&h, t->shape[dim]);
        header_add_u32(&h, t->type);
        header_add_u64(&h, at);
        at += (bytes_of(t) + 31) / 32 * 32;
        tensors++;
    }
    memcpy(h.data + 8, &tensors, sizeof tensors);
    memcpy(h.data + 16, &h.values, sizeof h.values);
    sl_gguf *gguf;
    sl_error err = {0};
    if (sl_gguf_parse("built.gguf", h.data, h.count, h.count + 32 + at, &gguf, &err) != SL_OK)
        fail_msg("%s", err.message);
    free(h.data);
    return gguf;
}

/* The file, and the model that points into it. */
typedef struct opened {
    sl_gguf *gguf;
    sl_model *model;
} opened;

static inline opened open_model(const description *f)
{
    sl_error err = {0};
    opened o = {.gguf = parse(f)};
    if (sl_model_open(o.gguf, &o.model, &err) != SL_OK)
        fail_msg("%s", err.message);
    return o;
}

static inline void close_model(opened o)
{
    sl_model_close(o.model);
    sl_gguf_close(o.gguf);
}

/* Refused with `status`, the file named, and a message that has `said` in it. */
static inline void check_refused(const description *f, sl_status status, const char *said)
{
    sl_error err = {0};
    sl_gguf *gguf = parse(f);
    sl_model *model = (sl_model *)(void *)&err;
    sl_status got = sl_model_open(gguf, &model, &err);
    if (got != status || strstr(err.message, said) == NULL || strncmp(err.message, "built.gguf: ", 12) != 0)
        fail_msg("status %d (%s), not %d with \"%s\"", got, err.message, status, said);
    assert_null(model);
    sl_gguf_close(gguf);
}

/* The same file under the name of another architecture. Names of keys are cut where they grow too long: none here does. */
static inline void rename_arch(description *f, const char *arch)
{
    find_key(f, "general.architecture")->text = arch;
    for (size_t i = 0; i < f->key_count; i++) {
        char renamed[2 * NAME_MAX];
        if (strncmp(f->keys[i].name, "llama.", 6) != 0)
            continue;
        snprintf(renamed, sizeof renamed, "%s.%s", arch, f->keys[i].name + 6);
        snprintf(f->keys[i].name, sizeof f->keys[i].name, "%.*s", NAME_MAX - 1, renamed);
    }
}

#endif

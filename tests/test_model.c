/* tests/test_model.c: which files the architecture table takes, and that a file it does not explain is refused by name.
 *
 * Each test takes a header that is right and changes one thing. The tensors' bytes are never there: only the header is read. */
#include "core/model.h"

#include "core/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/header_builder.h"

/* ---- building a model's header ---- */

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

static key *add_key(description *f, const char *name, uint32_t kind)
{
    assert_true(f->key_count < KEYS_MAX);
    key *k = &f->keys[f->key_count++];
    *k = (key){.kind = kind};
    snprintf(k->name, sizeof k->name, "%s", name);
    return k;
}

static void add_number(description *f, const char *name, uint32_t value)
{
    add_key(f, name, SL_GGUF_U32)->number = value;
}
static void add_real(description *f, const char *name, float value)
{
    add_key(f, name, SL_GGUF_F32)->real = value;
}
static void add_text(description *f, const char *name, const char *value)
{
    add_key(f, name, SL_GGUF_STRING)->text = value;
}

/* rows 0: a vector. */
static void add_tensor(description *f, const char *name, uint32_t type, uint64_t columns, uint64_t rows)
{
    assert_true(f->tensor_count < TENSORS_MAX);
    tensor *t = &f->tensors[f->tensor_count++];
    *t = (tensor){.dims = rows == 0 ? 1 : 2, .type = type, .shape = {columns, rows == 0 ? 1 : rows, 1, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
}

static key *find_key(description *f, const char *name)
{
    for (size_t i = 0; i < f->key_count; i++)
        if (strcmp(f->keys[i].name, name) == 0)
            return &f->keys[i];
    fail_msg("no key %s", name);
    return NULL;
}

static tensor *find_tensor(description *f, const char *name)
{
    for (size_t i = 0; i < f->tensor_count; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void add_layer(description *f, unsigned layer)
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

static void right_file(description *f)
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

static void write_key(header *h, const key *k)
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

static uint64_t bytes_of(const tensor *t)
{
    const sl_format *format = sl_format_of(t->type);
    return t->shape[0] / format->block_elements * format->block_bytes * t->shape[1] * t->shape[2] * t->shape[3];
}

/* A tensor without a name is left out. */
static sl_gguf *parse(const description *f)
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

static opened open_model(const description *f)
{
    sl_error err = {0};
    opened o = {.gguf = parse(f)};
    if (sl_model_open(o.gguf, &o.model, &err) != SL_OK)
        fail_msg("%s", err.message);
    return o;
}

static void close_model(opened o)
{
    sl_model_close(o.model);
    sl_gguf_close(o.gguf);
}

/* Refused with `status`, the file named, and a message that has `said` in it. */
static void check_refused(const description *f, sl_status status, const char *said)
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

/* ---- what is taken ---- */

static void a_complete_file_is_taken_and_described(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    const sl_model *m = o.model;
    assert_string_equal(m->arch->name, "llama");
    assert_int_equal(m->layers, LAYERS);
    assert_int_equal(m->d, D);
    assert_int_equal(m->ff, FF);
    assert_int_equal(m->heads, HEADS);
    assert_int_equal(m->kv_heads, KV_HEADS);
    assert_int_equal(m->head_dim, HEAD_DIM);
    assert_int_equal(m->rope_dim, HEAD_DIM);
    assert_int_equal(m->vocab, VOCAB);
    assert_int_equal(m->context, 512);
    assert_true(m->rope_base == 10000.0 && m->rope_scale == 1.0 && m->norm_eps == 1e-5f);
    assert_int_equal(sl_model_width(m, SL_BUF_Q), HEADS * HEAD_DIM);
    assert_int_equal(sl_model_width(m, SL_BUF_V), KV_HEADS * HEAD_DIM);
    assert_int_equal(sl_model_width(m, SL_BUF_UP), FF);
    assert_int_equal(sl_model_width(m, SL_BUF_LOGITS), VOCAB);
    assert_ptr_equal(sl_model_tensor(m, SL_ROLE_FFN_DOWN, 1), sl_gguf_find_tensor(o.gguf, "blk.1.ffn_down.weight"));
    assert_ptr_equal(sl_model_tensor(m, SL_ROLE_ATTN_NORM, 0), sl_gguf_find_tensor(o.gguf, "blk.0.attn_norm.weight"));
    assert_null(sl_model_tensor(m, SL_ROLE_ATTN_Q_BIAS, 0));
    assert_null(sl_model_tensor(m, SL_ROLE_NONE, 0));
    close_model(o);
    sl_model_close(NULL);
}

static void without_an_output_matrix_the_embedding_is_the_head(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    assert_true(o.model->tied);
    assert_ptr_equal(sl_model_tensor(o.model, SL_ROLE_OUTPUT, 0), sl_gguf_find_tensor(o.gguf, "token_embd.weight"));
    close_model(o);

    add_tensor(&f, "output.weight", SL_TYPE_F16, D, VOCAB);
    o = open_model(&f);
    assert_false(o.model->tied);
    assert_ptr_equal(sl_model_tensor(o.model, SL_ROLE_OUTPUT, 0), sl_gguf_find_tensor(o.gguf, "output.weight"));
    close_model(o);
}

static void biases_and_rotary_factors_may_be_there(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_tensor(&f, "blk.1.attn_k.bias", SL_TYPE_F32, KV_HEADS * HEAD_DIM, 0);
    add_tensor(&f, "rope_freqs.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    opened o = open_model(&f);
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_ATTN_K_BIAS, 1));
    assert_null(sl_model_tensor(o.model, SL_ROLE_ATTN_K_BIAS, 0));
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_ROPE_FREQS, 0));
    close_model(o);
    find_tensor(&f, "rope_freqs.weight")->shape[0] = HEAD_DIM;
    check_refused(&f, SL_FORMAT, "tensor rope_freqs.weight is 16 x 1; the model's keys ask for 8 x 1");
    right_file(&f);
    add_tensor(&f, "blk.1.attn_q.bias", SL_TYPE_F32, HEADS * HEAD_DIM - 1, 0);
    check_refused(&f, SL_FORMAT, "tensor blk.1.attn_q.bias is 63 x 1; the model's keys ask for 64 x 1");
}

static void keys_without_effect_are_passed_over(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_number(&f, "llama.vocab_size", 1);
    add_number(&f, "general.file_type", 2);
    add_number(&f, "llamas.in.the.meadow", 3); /* another prefix */
    add_number(&f, "llama", 4);
    close_model(open_model(&f));
}

static void without_a_count_of_key_heads_each_query_head_has_its_own(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "llama.attention.head_count_kv")->kind = UINT32_MAX;
    check_refused(&f, SL_FORMAT, "tensor blk.0.attn_k.weight is 64 x 32; the model's keys ask for 64 x 64");
    find_key(&f, "llama.attention.head_count")->number = KV_HEADS; /* two heads of 32 */
    find_tensor(&f, "blk.0.attn_k.weight")->shape[1] = D;
    find_tensor(&f, "blk.0.attn_v.weight")->shape[1] = D;
    find_tensor(&f, "blk.1.attn_k.weight")->shape[1] = D;
    find_tensor(&f, "blk.1.attn_v.weight")->shape[1] = D;
    opened o = open_model(&f);
    assert_int_equal(o.model->kv_heads, KV_HEADS);
    assert_int_equal(o.model->head_dim, 32);
    close_model(o);
}

/* ---- rotary scaling ---- */

/* llama.cpp's rule: a factor counts as linear scaling unless the type says none; scale_linear is the factor's old name. */
static void rotary_scaling_is_none_or_linear(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float factor, old_name; /* 0: not there */
        double scale;
    } cases[] = {
        {NULL, 0, 0, 1},     {"none", 0, 0, 1},   {"none", 4, 0, 1}, {"none", 0, 4, 1}, {"linear", 0, 0, 1}, {"linear", 4, 0, 4},
        {"linear", 4, 8, 4}, {"linear", 0, 8, 8}, {NULL, 0, 8, 8},   {NULL, 4, 0, 4},   {NULL, 4, 8, 4},     {"linear", 0.5f, 0, 0.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        if (cases[i].type != NULL)
            add_text(&f, "llama.rope.scaling.type", cases[i].type);
        if (cases[i].factor > 0)
            add_real(&f, "llama.rope.scaling.factor", cases[i].factor);
        if (cases[i].old_name > 0)
            add_real(&f, "llama.rope.scale_linear", cases[i].old_name);
        add_number(&f, "llama.rope.scaling.finetuned", 1); /* says how the model was made: no part of the arithmetic */
        opened o = open_model(&f);
        if (o.model->rope_scale != cases[i].scale)
            fail_msg("case %zu: a scale of %g, not %g", i, o.model->rope_scale, cases[i].scale);
        close_model(o);
    }
}

static void other_rotary_scaling_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_text(&f, "llama.rope.scaling.type", "martian");
    check_refused(&f, SL_UNSUPPORTED, "llama.rope.scaling.type is \"martian\"; known are none, linear, yarn");
    find_key(&f, "llama.rope.scaling.type")->kind = SL_GGUF_U32;
    check_refused(&f, SL_FORMAT, "llama.rope.scaling.type");
    static const float wrong[] = {0.0f, -1.0f, 1e20f, (float)NAN, (float)INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        right_file(&f);
        add_text(&f, "llama.rope.scaling.type", "linear");
        add_real(&f, "llama.rope.scaling.factor", wrong[i]);
        check_refused(&f, SL_FORMAT, "it must be a positive number");
    }
}

static void yarn_reads_its_bounds_and_its_magnitude(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    add_number(&f, "llama.rope.scaling.original_context_length", 77);
    add_text(&f, "llama.rope.scaling.type", "yarn");
    opened o = open_model(&f);
    assert_true(o.model->rope_scaling == SL_ROPE_SCALING_YARN && o.model->rope_original_context == 77);
    assert_true(o.model->yarn_beta_fast == 32 && o.model->yarn_beta_slow == 1 && o.model->rope_magnitude == 1);
    close_model(o);
    add_real(&f, "llama.rope.scaling.factor", 4);
    add_real(&f, "llama.rope.scaling.yarn_beta_fast", 20);
    add_real(&f, "llama.rope.scaling.yarn_beta_slow", 2);
    add_real(&f, "llama.rope.scaling.attn_factor", 0.5f);
    o = open_model(&f);
    assert_true(o.model->yarn_beta_fast == 20 && o.model->yarn_beta_slow == 2);
    assert_true(fabs(o.model->rope_magnitude - 0.5 * (1 + 0.1 * log(4))) < 1e-12);
    close_model(o);
    add_real(&f, "llama.rope.freq_base", 1);
    check_refused(&f, SL_FORMAT, "llama.rope.freq_base is 1; YaRN needs more than 1");
    right_file(&f);
    add_real(&f, "llama.rope.scaling.yarn_log_multiplier", 0.1f);
    check_refused(&f, SL_UNSUPPORTED, "key llama.rope.scaling.yarn_log_multiplier is not known");
}

/* A pair that turns often in the original context keeps its frequency, one that turns less than once is interpolated. */
static void yarn_leaves_quick_pairs_alone(void **state)
{
    (void)state;
    description f;
    double plain[HEAD_DIM / 2], stretched[HEAD_DIM / 2];
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, NULL, "x.gguf", plain, NULL), SL_OK);
    close_model(o);
    add_text(&f, "llama.rope.scaling.type", "yarn");
    add_real(&f, "llama.rope.scaling.factor", 8);
    add_number(&f, "llama.rope.scaling.original_context_length", 1000);
    o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, NULL, "x.gguf", stretched, NULL), SL_OK);
    assert_true(stretched[0] == plain[0] && stretched[1] == plain[1]); /* 159 turns and 50 */
    assert_true(stretched[3] < plain[3] && stretched[3] > plain[3] / 8);
    assert_true(fabs(stretched[7] * 8 / plain[7] - 1) < 1e-12); /* a twentieth of a turn */
    close_model(o);
}

static void a_rotary_factor_that_is_not_positive_is_refused(void **state)
{
    (void)state;
    description f;
    double steps[HEAD_DIM / 2];
    float factors[HEAD_DIM / 2] = {1, 1, 1, 0};
    sl_error err = {0};
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_rope_steps(o.model, factors, "x.gguf", steps, &err), SL_FORMAT);
    assert_string_equal(err.message, "x.gguf: rotary factor 3 is 0; it must be positive");
    factors[3] = 1e-9f;
    assert_int_equal(sl_rope_steps(o.model, factors, "x.gguf", steps, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "x.gguf: rotary pair 3 turns by 3.1"));
    close_model(o);
}

/* ---- windows ---- */

/* The same file under the name of another architecture. Names of keys are cut where they grow too long: none here does. */
static void rename_arch(description *f, const char *arch)
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

static void make_phi3(description *f)
{
    static const char *const fused[] = {"attn_k", "attn_v", "ffn_gate"};
    char name[NAME_MAX];
    rename_arch(f, "phi3");
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        snprintf(name, sizeof name, "blk.%u.attn_q.weight", layer);
        tensor *qkv = find_tensor(f, name);
        snprintf(name, sizeof name, "blk.%u.attn_qkv.weight", layer);
        memcpy(qkv->name, name, sizeof name);
        qkv->shape[1] = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
        snprintf(name, sizeof name, "blk.%u.ffn_up.weight", layer);
        find_tensor(f, name)->shape[1] = 2 * FF;
        for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, fused[i]);
            find_tensor(f, name)->name[0] = '\0';
        }
    }
}

static void longrope_takes_its_factors_by_the_context(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    make_phi3(&f);
    opened o = open_model(&f);
    assert_null(sl_rope_factors(o.model, 1000000));
    close_model(o);
    add_number(&f, "phi3.rope.scaling.original_context_length", 100);
    add_text(&f, "phi3.rope.scaling.type", "longrope");
    check_refused(&f, SL_FORMAT, "tensor rope_factors_long.weight is missing; longrope needs two lists of factors");
    add_tensor(&f, "rope_factors_long.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    check_refused(&f, SL_FORMAT, "tensor rope_factors_short.weight is missing; longrope needs two lists of factors");
    add_tensor(&f, "rope_factors_short.weight", SL_TYPE_F32, HEAD_DIM / 2, 0);
    o = open_model(&f);
    assert_ptr_equal(sl_rope_factors(o.model, 100), sl_model_tensor(o.model, SL_ROLE_ROPE_SHORT, 0));
    assert_ptr_equal(sl_rope_factors(o.model, 101), sl_model_tensor(o.model, SL_ROLE_ROPE_LONG, 0));
    close_model(o);
    add_real(&f, "phi3.rope.scaling.factor", 4);
    check_refused(&f, SL_UNSUPPORTED, "longrope (without a factor)");
}

static void as_gemma3(description *f)
{
    static const char *const vectors[] = {"attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"};
    right_file(f);
    rename_arch(f, "gemma3");
    for (unsigned layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
            char name[NAME_MAX];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, vectors[i]);
            add_tensor(f, name, SL_TYPE_F32, i < 2 ? HEAD_DIM : D, 0);
        }
}

static void a_window_of_llama_is_every_layers(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    opened o = open_model(&f);
    assert_int_equal(sl_model_window(o.model, 0), 0);
    close_model(o);
    add_number(&f, "llama.attention.sliding_window", 99);
    o = open_model(&f);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        assert_int_equal(sl_model_window(o.model, layer), 99);
    assert_int_equal(sl_model_rope_tables(o.model), 1);
    close_model(o);
}

static void gemma3_has_its_windows_by_period_or_as_the_file_says(void **state)
{
    (void)state;
    description f;
    as_gemma3(&f);
    opened o = open_model(&f); /* no window: one rotary base for all */
    assert_int_equal(sl_model_window(o.model, 0), 0);
    assert_int_equal(sl_model_rope_tables(o.model), 1);
    assert_true(o.model->embedding_scale == 8.0f && o.model->attention_scale == 0.25f);
    close_model(o);

    add_number(&f, "gemma3.attention.sliding_window", 7);
    o = open_model(&f); /* the sixth layer would be the first without */
    assert_true(sl_model_window(o.model, 0) == 7 && sl_model_window(o.model, 1) == 7);
    assert_true(sl_model_rope_tables(o.model) == 2 && o.model->window_rope_base == 10000.0);
    assert_int_equal(sl_model_rope_table(o.model, 1), 1);
    close_model(o);

    add_number(&f, "gemma3.attention.sliding_window_pattern", 2);
    add_real(&f, "gemma3.rope.freq_base_swa", 500.0f);
    o = open_model(&f);
    assert_true(sl_model_window(o.model, 0) == 7 && sl_model_window(o.model, 1) == 0);
    assert_true(sl_model_rope_table(o.model, 0) == 1 && sl_model_rope_table(o.model, 1) == 0);
    assert_true(o.model->window_rope_base == 500.0);
    close_model(o);

    static const uint8_t layers[] = {0, 1, 1};
    key *pattern = find_key(&f, "gemma3.attention.sliding_window_pattern");
    pattern->kind = SL_GGUF_ARRAY;
    pattern->flags = layers;
    pattern->number = LAYERS;
    o = open_model(&f);
    assert_true(sl_model_window(o.model, 0) == 0 && sl_model_window(o.model, 1) == 7);
    close_model(o);
    pattern->number = LAYERS + 1;
    check_refused(&f, SL_FORMAT, "gemma3.attention.sliding_window_pattern must be a period, or true or false for each of the 2 layers");
}

static void keys_of_gemma_that_change_the_arithmetic_otherwise_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"gemma3.final_logit_softcapping", "gemma3.attn_logit_softcapping"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        as_gemma3(&f);
        add_real(&f, names[i], 30.0f);
        check_refused(&f, SL_UNSUPPORTED, names[i]);
    }
}

static void norms_of_heads_have_a_heads_size(void **state)
{
    (void)state;
    description f;
    as_gemma3(&f);
    find_tensor(&f, "blk.1.attn_k_norm.weight")->shape[0] = KV_HEADS * HEAD_DIM;
    check_refused(&f, SL_FORMAT, "tensor blk.1.attn_k_norm.weight is 32 x 1; the model's keys ask for 16 x 1");
    as_gemma3(&f);
    find_tensor(&f, "blk.0.post_ffw_norm.weight")->name[0] = '\0';
    check_refused(&f, SL_FORMAT, "tensor blk.0.post_ffw_norm.weight is missing; architecture gemma3 needs it");
}

/* ---- OPT ---- */

static void as_opt(description *f)
{
    *f = (description){0};
    add_text(f, "general.architecture", "opt");
    add_number(f, "opt.context_length", 512);
    add_number(f, "opt.embedding_length", D);
    add_number(f, "opt.block_count", LAYERS);
    add_number(f, "opt.feed_forward_length", FF);
    add_number(f, "opt.attention.head_count", HEADS);
    add_real(f, "opt.attention.layer_norm_epsilon", 1e-5f);
    add_tensor(f, "token_embd.weight", SL_TYPE_Q8_0, D, VOCAB);
    add_tensor(f, "position_embd.weight", SL_TYPE_F16, D, 512);
    add_tensor(f, "output_norm.weight", SL_TYPE_F32, D, 0);
    add_tensor(f, "output_norm.bias", SL_TYPE_F32, D, 0);
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        static const char *const names[] = {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_up", "ffn_down"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            bool norm = strstr(names[i], "norm") != NULL, up = strcmp(names[i], "ffn_up") == 0;
            char name[NAME_MAX];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, names[i]);
            add_tensor(f, name, norm ? SL_TYPE_F32 : SL_TYPE_Q4_0, strcmp(names[i], "ffn_down") == 0 ? FF : D, norm ? 0 : up ? FF : D);
            snprintf(name, sizeof name, "blk.%u.%s.bias", layer, names[i]);
            add_tensor(f, name, SL_TYPE_F32, up ? FF : D, 0);
        }
    }
}

static void opt_has_learned_positions_biases_and_no_gate(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    opened o = open_model(&f);
    assert_false(o.model->gated);
    assert_true(o.model->tied);
    assert_int_equal(o.model->rope_dim, 0);
    assert_int_equal(o.model->kv_heads, HEADS);
    assert_int_equal(sl_model_width(o.model, SL_BUF_GATE), 0);
    assert_int_equal(sl_model_width(o.model, SL_BUF_UP), FF);
    assert_int_equal(sl_model_tensor(o.model, SL_ROLE_POSITION_EMBD, 0)->shape[1], 512);
    assert_non_null(sl_model_tensor(o.model, SL_ROLE_FFN_UP_BIAS, 1));
    close_model(o);
    find_tensor(&f, "blk.1.ffn_down.bias")->shape[0] = FF;
    check_refused(&f, SL_FORMAT, "tensor blk.1.ffn_down.bias is ");
}

static void opt_with_norms_behind_its_blocks_is_refused_by_what_it_is(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    find_tensor(&f, "output_norm.weight")->name[0] = '\0';
    find_tensor(&f, "output_norm.bias")->name[0] = '\0';
    check_refused(&f, SL_UNSUPPORTED,
                  "has no output_norm.weight; so this opt model has norms that follow each block instead of coming before it");
}

static void positions_of_opt_are_as_many_as_its_context_has(void **state)
{
    (void)state;
    description f;
    as_opt(&f);
    find_tensor(&f, "position_embd.weight")->shape[1] = 514;
    check_refused(&f, SL_FORMAT,
                  "position_embd.weight has 514 rows for 512 positions; the first two, which are never used, must be left out");
    find_tensor(&f, "position_embd.weight")->shape[1] = 513;
    check_refused(&f, SL_FORMAT, "tensor position_embd.weight is ");
    find_tensor(&f, "position_embd.weight")->name[0] = '\0';
    check_refused(&f, SL_FORMAT, "tensor position_embd.weight is missing; architecture opt needs it");
    as_opt(&f);
    add_real(&f, "opt.rope.freq_base", 10000.0f);
    check_refused(&f, SL_UNSUPPORTED, "key opt.rope.freq_base is not known");
}

/* ---- what is refused ---- */

static void an_architecture_that_is_not_in_the_table_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "general.architecture")->text = "mamba";
    check_refused(&f, SL_UNSUPPORTED, "architecture \"mamba\" is not known; known: llama, qwen2, qwen3, gemma3, phi3, opt");
    find_key(&f, "general.architecture")->text = "llam";
    check_refused(&f, SL_UNSUPPORTED, "\"llam\"");
    find_key(&f, "general.architecture")->text = "";
    check_refused(&f, SL_UNSUPPORTED, "\"\"");
    find_key(&f, "general.architecture")->kind = UINT32_MAX;
    check_refused(&f, SL_FORMAT, "general.architecture");
    find_key(&f, "general.architecture")->kind = SL_GGUF_U32;
    check_refused(&f, SL_FORMAT, "general.architecture");
}

static void a_key_of_the_architecture_that_nobody_knows_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.rope.freq_base_swa", "llama.expert_count", "llama.", "llama.block_count.more",
                                        "llama.logit_scale"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        char said[128];
        right_file(&f);
        add_number(&f, names[i], 1);
        snprintf(said, sizeof said, "key %s is not known", names[i]);
        check_refused(&f, SL_UNSUPPORTED, said);
    }
}

static void each_key_that_is_needed_is_missed_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.context_length",       "llama.embedding_length",
                                        "llama.block_count",          "llama.feed_forward_length",
                                        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        right_file(&f);
        find_key(&f, names[i])->kind = UINT32_MAX;
        check_refused(&f, SL_FORMAT, names[i]);
        right_file(&f);
        find_key(&f, names[i])->kind = SL_GGUF_STRING;
        find_key(&f, names[i])->text = "many";
        check_refused(&f, SL_FORMAT, names[i]);
    }
}

static void numbers_out_of_range_are_refused_with_their_range(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t value;
        const char *said;
    } cases[] = {
        {"llama.block_count", 0, "llama.block_count is 0; it must be 1 to 1024"},
        {"llama.block_count", 1025, "1 to 1024"},
        {"llama.block_count", UINT32_MAX, "1 to 1024"},
        {"llama.embedding_length", 0, "32 to 131072"},
        {"llama.embedding_length", 31, "32 to 131072"},
        {"llama.embedding_length", UINT32_MAX, "32 to 131072"},
        {"llama.feed_forward_length", 0, "32 to 524288"},
        {"llama.feed_forward_length", UINT32_MAX, "32 to 524288"},
        {"llama.attention.head_count", 0, "1 to 4096"},
        {"llama.attention.head_count", UINT32_MAX, "1 to 4096"},
        {"llama.attention.head_count_kv", 0, "1 to 4096"},
        {"llama.attention.head_count_kv", UINT32_MAX, "1 to 4096"},
        {"llama.context_length", 0, "1 to 16777216"},
        {"llama.context_length", UINT32_MAX, "1 to 16777216"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        find_key(&f, cases[i].name)->number = cases[i].value;
        check_refused(&f, SL_FORMAT, cases[i].said);
    }
}

static void heads_that_do_not_divide_are_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_key(&f, "llama.attention.head_count_kv")->number = 3;
    check_refused(&f, SL_FORMAT, "4 query heads cannot share 3 key heads");
    find_key(&f, "llama.attention.head_count_kv")->number = 8;
    check_refused(&f, SL_FORMAT, "4 query heads cannot share 8 key heads");
    right_file(&f);
    find_key(&f, "llama.attention.head_count")->number = 128; /* more heads than components */
    check_refused(&f, SL_UNSUPPORTED, "heads of 0 key");
}

static void head_sizes_that_the_kernels_do_not_know_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t key, value;
        sl_status status;
        const char *said;
    } cases[] = {
        {24, 24, SL_UNSUPPORTED, "heads of 24 key and 24 value components"},
        {16, 32, SL_UNSUPPORTED, "heads of 16 key and 32 value components"},
        {8, 8, SL_FORMAT, "llama.attention.key_length is 8; it must be 16 to 512"},
        {528, 528, SL_FORMAT, "16 to 512"},
        {32, 32, SL_FORMAT, "tensor blk.0.attn_q.weight is 64 x 64; the model's keys ask for 64 x 128"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        description f;
        right_file(&f);
        add_number(&f, "llama.attention.key_length", cases[i].key);
        add_number(&f, "llama.attention.value_length", cases[i].value);
        check_refused(&f, cases[i].status, cases[i].said);
    }
    static const uint32_t rope[] = {15, 18, 513, 0, 1};
    for (size_t i = 0; i < sizeof rope / sizeof *rope; i++) {
        description f;
        right_file(&f);
        add_number(&f, "llama.rope.dimension_count", rope[i]);
        check_refused(&f, SL_FORMAT, "rope.dimension_count");
    }
    description f;
    right_file(&f);
    add_number(&f, "llama.rope.dimension_count", 8); /* half of a head turns */
    opened o = open_model(&f);
    assert_int_equal(o.model->rope_dim, 8);
    close_model(o);
}

static void a_real_that_is_no_positive_number_is_refused(void **state)
{
    (void)state;
    static const float wrong[] = {0.0f, -1e-5f, (float)NAN, (float)INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        description f;
        right_file(&f);
        find_key(&f, "llama.attention.layer_norm_rms_epsilon")->real = wrong[i];
        check_refused(&f, SL_FORMAT, "llama.attention.layer_norm_rms_epsilon is");
        right_file(&f);
        add_real(&f, "llama.rope.freq_base", wrong[i]);
        check_refused(&f, SL_FORMAT, "llama.rope.freq_base is");
    }
}

static void each_tensor_that_is_needed_is_missed_by_name(void **state)
{
    (void)state;
    description right;
    right_file(&right);
    for (size_t i = 0; i < right.tensor_count; i++) {
        description f = right;
        char said[128];
        snprintf(said, sizeof said, "tensor %s is missing", f.tensors[i].name);
        f.tensors[i].name[0] = '\0';
        check_refused(&f, SL_FORMAT, said);
    }
}

static void a_tensor_that_nobody_uses_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {
        "blk.2.attn_norm.weight",  "blk.0.attn_q_norm.weight", "blk.0.ffn_gate.bias", "blk.01.attn_norm.weight", "output.bias",
        "rope_factors_long.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        description f;
        char said[128];
        right_file(&f);
        add_tensor(&f, names[i], SL_TYPE_F32, D, 0);
        snprintf(said, sizeof said, "tensor %s is not part of architecture llama", names[i]);
        check_refused(&f, SL_UNSUPPORTED, said);
    }
}

static void each_tensor_of_another_shape_is_refused_by_name(void **state)
{
    (void)state;
    description right;
    right_file(&right);
    add_tensor(&right, "output.weight", SL_TYPE_Q8_0, D, VOCAB);
    for (size_t i = 0; i < right.tensor_count; i++)
        for (int dim = 0; dim < 4; dim++) {
            description f = right;
            tensor *t = &f.tensors[i];
            char said[128];
            if (strcmp(t->name, "token_embd.weight") == 0 && dim == 1)
                continue; /* its rows are what the vocabulary is */
            t->shape[dim] += dim == 0 ? 32 : 1;
            t->dims = t->dims > (uint32_t)dim ? t->dims : (uint32_t)dim + 1;
            snprintf(said, sizeof said, "tensor %s is ", t->name);
            check_refused(&f, SL_FORMAT, said);
        }
}

static void a_vocabulary_of_one_is_refused(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_tensor(&f, "token_embd.weight")->shape[1] = 1;
    check_refused(&f, SL_FORMAT, "token_embd.weight");
}

static void vectors_must_be_f32(void **state)
{
    (void)state;
    description f;
    right_file(&f);
    find_tensor(&f, "blk.1.ffn_norm.weight")->type = SL_TYPE_F16;
    check_refused(&f, SL_UNSUPPORTED, "tensor blk.1.ffn_norm.weight has type F16; a vector must be F32");
    right_file(&f);
    find_tensor(&f, "output_norm.weight")->type = SL_TYPE_Q8_0;
    check_refused(&f, SL_UNSUPPORTED, "tensor output_norm.weight has type Q8_0");
    right_file(&f);
    add_tensor(&f, "rope_freqs.weight", SL_TYPE_BF16, HEAD_DIM / 2, 0);
    check_refused(&f, SL_UNSUPPORTED, "tensor rope_freqs.weight has type BF16");
}

static void a_format_without_kernels_is_refused_by_name(void **state)
{
    (void)state;
    uint32_t q8_1;
    assert_non_null(sl_format_by_name("Q8_1", &q8_1));
    description f;
    right_file(&f);
    find_tensor(&f, "blk.0.ffn_up.weight")->type = q8_1;
    check_refused(&f, SL_UNSUPPORTED, "tensor blk.0.ffn_up.weight has type Q8_1, which is not supported; F32");
    right_file(&f);
    find_tensor(&f, "token_embd.weight")->type = q8_1;
    check_refused(&f, SL_UNSUPPORTED, "tensor token_embd.weight has type Q8_1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_file_is_taken_and_described),
        cmocka_unit_test(without_an_output_matrix_the_embedding_is_the_head),
        cmocka_unit_test(biases_and_rotary_factors_may_be_there),
        cmocka_unit_test(keys_without_effect_are_passed_over),
        cmocka_unit_test(without_a_count_of_key_heads_each_query_head_has_its_own),
        cmocka_unit_test(rotary_scaling_is_none_or_linear),
        cmocka_unit_test(other_rotary_scaling_is_refused),
        cmocka_unit_test(yarn_reads_its_bounds_and_its_magnitude),
        cmocka_unit_test(yarn_leaves_quick_pairs_alone),
        cmocka_unit_test(a_rotary_factor_that_is_not_positive_is_refused),
        cmocka_unit_test(longrope_takes_its_factors_by_the_context),
        cmocka_unit_test(a_window_of_llama_is_every_layers),
        cmocka_unit_test(gemma3_has_its_windows_by_period_or_as_the_file_says),
        cmocka_unit_test(keys_of_gemma_that_change_the_arithmetic_otherwise_are_refused),
        cmocka_unit_test(norms_of_heads_have_a_heads_size),
        cmocka_unit_test(opt_has_learned_positions_biases_and_no_gate),
        cmocka_unit_test(opt_with_norms_behind_its_blocks_is_refused_by_what_it_is),
        cmocka_unit_test(positions_of_opt_are_as_many_as_its_context_has),
        cmocka_unit_test(an_architecture_that_is_not_in_the_table_is_refused),
        cmocka_unit_test(a_key_of_the_architecture_that_nobody_knows_is_refused),
        cmocka_unit_test(each_key_that_is_needed_is_missed_by_name),
        cmocka_unit_test(numbers_out_of_range_are_refused_with_their_range),
        cmocka_unit_test(heads_that_do_not_divide_are_refused),
        cmocka_unit_test(head_sizes_that_the_kernels_do_not_know_are_refused),
        cmocka_unit_test(a_real_that_is_no_positive_number_is_refused),
        cmocka_unit_test(each_tensor_that_is_needed_is_missed_by_name),
        cmocka_unit_test(a_tensor_that_nobody_uses_is_refused_by_name),
        cmocka_unit_test(each_tensor_of_another_shape_is_refused_by_name),
        cmocka_unit_test(a_vocabulary_of_one_is_refused),
        cmocka_unit_test(vectors_must_be_f32),
        cmocka_unit_test(a_format_without_kernels_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

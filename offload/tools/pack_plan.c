/* offload/tools/pack_plan.c: sections in the original's order: a layer's bundles lie where the first of its three matrices lay. */
#include "offload/tools/pack_plan.h"
#include "offload/tools/pack_layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sl_status no_memory(const sli_pack_plan *p, sl_error *err)
{
    return sl_fail(err, SL_NO_MEMORY, "%s: no memory to plan how to pack it", p->options->in_path);
}

/* ---- sections ---- */

/* Adds a section; its name is copied. */
static sl_status add(sli_pack_plan *p, sli_pack_section s, sl_str name, sl_error *err)
{
    if (p->section_count == p->section_capacity) {
        size_t capacity = p->section_capacity ? p->section_capacity * 2 : 256;
        sli_pack_section *moved = realloc(p->sections, capacity * sizeof(*moved));
        if (!moved)
            return no_memory(p, err);
        p->sections = moved;
        p->section_capacity = capacity;
    }
    if (memchr(name.data, '\0', name.length))
        return sl_fail(err, SL_UNSUPPORTED, "%s: a tensor's name with a NUL byte in it cannot be packed", p->options->in_path);
    s.name = strndup(name.data, name.length);
    if (!s.name)
        return no_memory(p, err);
    p->sections[p->section_count++] = s;
    return SL_OK;
}

/* A section of our own: one row of `count` elements, or `rows` of them. */
static sl_status add_own(sli_pack_plan *p, sli_pack_kind kind, const char *name, uint32_t type, uint64_t count, uint64_t rows,
                         uint32_t layer, sl_error *err)
{
    sli_pack_section s = {.kind = kind, .type = type, .dims = rows ? 2 : 1, .shape = {count, rows, 1, 1}, .layer = layer};
    return add(p, s, (sl_str){name, strlen(name)}, err);
}

/* A tensor of another file, as it is. */
static sl_status add_copy(sli_pack_plan *p, sli_pack_kind kind, const sl_gguf_tensor *t, sl_error *err)
{
    sli_pack_section s = {.kind = kind, .type = t->type, .dims = t->dims, .tensor = t};
    memcpy(s.shape, t->shape, sizeof(s.shape));
    return add(p, s, t->name, err);
}

static sl_status add_layer(sli_pack_plan *p, uint32_t layer, sl_error *err)
{
    const sl_packed_layer *l = &p->layers[layer];
    char name[48];
    snprintf(name, sizeof(name), "blk.%u.ffn.bundles", layer);
    SL_TRY(add_own(p, SLI_PACK_BUNDLES, name, SL_TYPE_I8, l->stride, l->stored, layer, err));
    snprintf(name, sizeof(name), "blk.%u.ffn.meta", layer);
    if (l->meta_bytes > 0)
        SL_TRY(add_own(p, SLI_PACK_META, name, SL_TYPE_I8, l->meta_bytes, 0, layer, err));
    snprintf(name, sizeof(name), "blk.%u.ffn.silent", layer);
    if (l->stored < l->ff)
        SL_TRY(add_own(p, SLI_PACK_SILENT, name, SL_TYPE_I8, sl_packed_silent_bytes(l), 0, layer, err));
    snprintf(name, sizeof(name), "blk.%u.ffn.order", layer);
    return add_own(p, SLI_PACK_ORDER, name, SL_TYPE_I32, l->ff, 0, layer, err);
}

static bool reserved(sl_str name)
{
    static const char prefix[] = "sluice.";
    return (name.length >= sizeof(prefix) - 1 && memcmp(name.data, prefix, sizeof(prefix) - 1) == 0) || sli_packed_is_calibration(name);
}

/* For each tensor of the original: 0 it is plain, else it goes into layer N as N + 1, negative unless it is the first of the three. */
static sl_status assign_tensors(const sli_pack_plan *p, int64_t **out, sl_error *err)
{
    const sl_gguf *original = p->source->original;
    const sl_gguf_tensor *all = sl_gguf_tensor_at(original, 0);
    *out = calloc(sl_gguf_tensor_count(original) + 1, sizeof(**out));
    if (!*out)
        return no_memory(p, err);
    for (uint32_t layer = 0; layer < p->layer_count; layer++) {
        const sl_gguf_tensor *matrices[3], *first;
        sl_packed_layer ignored;
        if (!p->layers[layer].bundled || !sli_packed_layer_of(original, layer, &ignored, matrices))
            continue;
        first = matrices[0];
        for (int i = 0; i < 3; i++) {
            (*out)[matrices[i] - all] = -(int64_t)layer - 1;
            first = matrices[i] < first ? matrices[i] : first;
        }
        (*out)[first - all] = (int64_t)layer + 1;
    }
    return SL_OK;
}

static sl_status add_model(sli_pack_plan *p, sl_error *err)
{
    const sl_gguf *original = p->source->original;
    int64_t *layer_of;
    SL_TRY(assign_tensors(p, &layer_of, err));
    sl_status status = SL_OK;
    for (size_t i = 0; i < sl_gguf_tensor_count(original) && status == SL_OK; i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(original, i);
        if (reserved(t->name))
            status = sl_fail(err, SL_UNSUPPORTED, "%s: tensor \"%.*s\" has a name that packed files use themselves", p->options->in_path,
                             t->name.length < 80 ? (int)t->name.length : 80, t->name.data);
        else if (layer_of[i] == 0)
            status = add_copy(p, SLI_PACK_PLAIN, t, err);
        else if (layer_of[i] > 0)
            status = add_layer(p, (uint32_t)(layer_of[i] - 1), err);
    }
    free(layer_of);
    return status;
}

static bool replaced(const sli_pack_plan *p, sl_str name)
{
    for (size_t i = 0; i < p->options->tensor_count; i++)
        if (sl_str_equal(name, p->options->tensors[i].name))
            return true;
    return false;
}

static sl_status add_calibration(sli_pack_plan *p, sl_error *err)
{
    const sli_pack_options *o = p->options;
    const sl_gguf *file = p->source->file;
    for (size_t i = 0; p->source->packed && !o->drop_calibration && i < sl_gguf_tensor_count(file); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(file, i);
        if (sli_packed_is_calibration(t->name) && !replaced(p, t->name))
            SL_TRY(add_copy(p, SLI_PACK_CARRIED, t, err));
    }
    for (size_t i = 0; i < o->tensor_count; i++) {
        const sli_pack_tensor *t = &o->tensors[i];
        sl_str name = {t->name, strlen(t->name)};
        sli_pack_section s = {.kind = SLI_PACK_ADDED, .type = t->type, .dims = t->dims, .added = t};
        if (!sli_packed_is_calibration(name))
            return sl_fail(err, SL_INVALID, "tensor \"%s\" must be named sluice.calibration.* or blk.N.calibration.*", t->name);
        memcpy(s.shape, t->shape, sizeof(s.shape));
        SL_TRY(add(p, s, name, err));
    }
    return SL_OK;
}

static bool leaves_out(const sl_packed_layer *l)
{
    return l->stored < l->ff || sl_packed_bundle_bytes(l) < sl_packed_silent_bytes(l);
}

/* What each layer becomes. */
static sl_status plan_layers(sli_pack_plan *p, sli_pack_source *source, sl_error *err)
{
    sli_pack_zero_rule rule = p->options->zeros;
    bool look = rule == SLI_PACK_LEAVE_ZEROS_OUT || (rule == SLI_PACK_ZEROS_AUTO && sli_pack_says_pruned(source->original));
    if (source->packed && rule != SLI_PACK_ZEROS_AUTO)
        return sl_fail(err, SL_INVALID, "%s: is packed already, and its zeros stay as they are; unpack it to have them stored otherwise",
                       p->options->in_path);
    p->version = 1;
    for (uint32_t i = 0; i < p->layer_count; i++) {
        sl_packed_layer *l = &p->layers[i];
        if (!sli_pack_can_bundle(source, i, l))
            continue;
        p->bundled_layers++;
        if (source->packed)
            SL_TRY(sli_pack_carry_zeros(source, i, l, &p->zeros[i], err));
        else if (look)
            SL_TRY(sli_pack_find_zeros(source, i, l, &p->zeros[i], err));
        p->version = leaves_out(l) ? 2 : p->version;
    }
    return SL_OK;
}

sl_status sli_pack_plan_make(sli_pack_plan *p, sli_pack_source *source, const sli_pack_options *options, sl_error *err)
{
    *p = (sli_pack_plan){.options = options, .source = source, .layer_count = sli_packed_count_layers(source->original)};
    p->layers = calloc(p->layer_count + (size_t)1, sizeof(*p->layers));
    p->zeros = calloc(p->layer_count + (size_t)1, sizeof(*p->zeros));
    if (!p->layers || !p->zeros)
        return no_memory(p, err);
    SL_TRY(plan_layers(p, source, err));

    uint64_t padding = sli_packed_padding_bytes(source->original);
    SL_TRY(add_own(p, SLI_PACK_CHECKSUMS, "sluice.checksums", SL_TYPE_I64, 0, 0, 0, err));
    SL_TRY(add_own(p, SLI_PACK_ORIGINAL, "sluice.original", SL_TYPE_I8, sl_gguf_data_offset(source->original), 0, 0, err));
    if (padding > 0)
        SL_TRY(add_own(p, SLI_PACK_PADDING, "sluice.padding", SL_TYPE_I8, padding, 0, 0, err));
    SL_TRY(add_model(p, err));
    SL_TRY(add_calibration(p, err));
    p->sections[0].shape[0] = p->section_count;
    return SL_OK;
}

void sli_pack_plan_free(sli_pack_plan *p)
{
    for (size_t i = 0; i < p->section_count; i++)
        free(p->sections[i].name);
    free(p->sections);
    for (uint32_t i = 0; p->zeros && i < p->layer_count; i++)
        sli_pack_zeros_free(&p->zeros[i]);
    free(p->zeros);
    free(p->layers);
}

/* ---- keys ---- */

static bool is_calibration_key(sl_str key)
{
    static const char prefix[] = "sluice.calibration.";
    return key.length > sizeof(prefix) - 1 && memcmp(key.data, prefix, sizeof(prefix) - 1) == 0;
}

static sl_status declare_key(sl_gguf_writer *w, const sli_pack_key *k, sl_error *err)
{
    static const uint8_t bytes_of[] = {
        [SL_GGUF_U8] = 1,  [SL_GGUF_I8] = 1,   [SL_GGUF_U16] = 2, [SL_GGUF_I16] = 2, [SL_GGUF_U32] = 4, [SL_GGUF_I32] = 4,
        [SL_GGUF_F32] = 4, [SL_GGUF_BOOL] = 1, [SL_GGUF_U64] = 8, [SL_GGUF_I64] = 8, [SL_GGUF_F64] = 8};
    sl_str key = {k->key, strlen(k->key)};
    if (!is_calibration_key(key))
        return sl_fail(err, SL_INVALID, "key \"%s\" must be named sluice.calibration.*", k->key);
    if (k->kind == SL_GGUF_STRING && !k->array)
        return sl_gguf_write_str(w, k->key, k->data, err);
    if ((unsigned)k->kind > SL_GGUF_F64 || bytes_of[k->kind] == 0)
        return sl_fail(err, SL_INVALID, "key \"%s\" is of a kind (%d) that cannot be stored", k->key, (int)k->kind);
    uint64_t count = k->array ? k->count : 1;
    sl_gguf_value v = {.key = key, .kind = k->array ? SL_GGUF_ARRAY : k->kind, .element_kind = k->kind, .count = count, .data = k->data};
    v.bytes = (size_t)count * bytes_of[k->kind];
    return sl_gguf_write_value(w, &v, err);
}

static bool replaces_key(const sli_pack_options *o, sl_str key)
{
    for (size_t i = 0; i < o->key_count; i++)
        if (sl_str_equal(key, o->keys[i].key))
            return true;
    return false;
}

static sl_status declare_calibration_keys(const sli_pack_plan *p, sl_gguf_writer *w, sl_error *err)
{
    const sli_pack_options *o = p->options;
    const sl_gguf *file = p->source->file;
    for (size_t i = 0; p->source->packed && !o->drop_calibration && i < sl_gguf_value_count(file); i++) {
        const sl_gguf_value *v = sl_gguf_value_at(file, i);
        if (is_calibration_key(v->key) && !replaces_key(o, v->key))
            SL_TRY(sl_gguf_write_value(w, v, err));
    }
    for (size_t i = 0; i < o->key_count; i++)
        SL_TRY(declare_key(w, &o->keys[i], err));
    return SL_OK;
}

/* For people: what the order is. One that is kept is called what it was. */
static sl_status declare_order(const sli_pack_plan *p, sl_gguf_writer *w, sl_error *err)
{
    static const char *const names[] = {"file", "random", "file", "calibrated"};
    const sl_gguf_value *before = p->source->packed ? sl_gguf_find(p->source->file, "sluice.pack.order") : NULL;
    if (before && p->options->order == SLI_PACK_KEPT_ORDER)
        return sl_gguf_write_value(w, before, err);
    return sl_gguf_write_str(w, "sluice.pack.order", names[p->options->order], err);
}

static int32_t column_bytes_of(const sl_packed_layer *l, uint32_t i)
{
    (void)i;
    return (int32_t)l->column_bytes;
}

static int32_t stored_neurons_of(const sl_packed_layer *l, uint32_t i)
{
    (void)i;
    return (int32_t)l->stored;
}

static int32_t stored_bytes_of(const sl_packed_layer *l, uint32_t i)
{
    return (int32_t)l->stored_bytes[i];
}

/* `each` numbers of each layer; 0 of those that lie plain. */
static sl_status declare_numbers(const sli_pack_plan *p, sl_gguf_writer *w, const char *key, uint32_t each,
                                 int32_t (*number)(const sl_packed_layer *l, uint32_t i), sl_error *err)
{
    int32_t *numbers = calloc((p->layer_count + (size_t)1) * each, sizeof(*numbers));
    if (!numbers)
        return no_memory(p, err);
    for (size_t i = 0; i < (size_t)p->layer_count * each; i++)
        numbers[i] = p->layers[i / each].bundled ? number(&p->layers[i / each], (uint32_t)(i % each)) : 0;
    sl_status status = sl_gguf_write_i32s(w, key, numbers, (uint64_t)p->layer_count * each, err);
    free(numbers);
    return status;
}

sl_status sli_pack_plan_declare(const sli_pack_plan *p, sl_gguf_writer *w, sl_error *err)
{
    SL_TRY(sl_gguf_write_str(w, "general.architecture", SL_PACK_ARCHITECTURE, err));
    SL_TRY(sl_gguf_write_u32(w, "sluice.pack.version", p->version, err));
    SL_TRY(sl_gguf_write_u32(w, "sluice.pack.alignment", SL_PACK_STRIDE, err));
    SL_TRY(sl_gguf_write_u64(w, "sluice.pack.original_bytes", sl_gguf_file_bytes(p->source->original), err));
    SL_TRY(declare_numbers(p, w, "sluice.pack.column_bytes", 1, column_bytes_of, err));
    if (p->version > 1) {
        SL_TRY(declare_numbers(p, w, "sluice.pack.stored_neurons", 1, stored_neurons_of, err));
        SL_TRY(declare_numbers(p, w, "sluice.pack.stored_bytes", SL_PACK_PARTS, stored_bytes_of, err));
    }
    SL_TRY(declare_order(p, w, err));
    SL_TRY(declare_calibration_keys(p, w, err));
    for (size_t i = 0; i < p->section_count; i++) {
        const sli_pack_section *s = &p->sections[i];
        SL_TRY(sl_gguf_write_tensor(w, s->name, s->type, s->shape, s->dims, err));
    }
    return SL_OK;
}

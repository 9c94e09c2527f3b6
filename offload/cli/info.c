/* offload/cli/info.c: `sluice info FILE`: what a file holds, also when it can't be run. */
#include "core/gguf.h"
#include "core/os.h"
#include "offload/cli/cli.h"
#include "pager/packed.h"

#include <stdio.h>
#include <stdlib.h>

#define SHOWN_ELEMENTS 6 /* of an array, for people */

static const char *const kind_names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "array", "u64", "i64", "f64"};

static json_t *scalar(const sl_gguf_value *v, uint64_t index)
{
    double number = sl_gguf_number_at(v, index);
    switch (v->element_kind) {
    case SL_GGUF_F32:
    case SL_GGUF_F64: return json_real(number);
    case SL_GGUF_BOOL: return json_boolean(number != 0);
    default: return json_integer((json_int_t)number);
    }
}

static json_t *strings(const sl_gguf_value *v, uint64_t limit)
{
    json_t *array = json_array();
    size_t cursor = 0;
    sl_str s;
    for (uint64_t i = 0; i < limit && sl_gguf_next_string(v, &cursor, &s); i++)
        json_array_append_new(array, cli_json_text(s.data, s.length));
    return array;
}

static json_t *value_of(const sl_gguf_value *v, uint64_t limit)
{
    if (v->kind == SL_GGUF_STRING) {
        json_t *array = strings(v, 1), *text = json_incref(json_array_get(array, 0));
        json_decref(array);
        return text;
    }
    if (v->kind != SL_GGUF_ARRAY)
        return scalar(v, 0);
    if (v->element_kind == SL_GGUF_STRING)
        return strings(v, limit);
    json_t *array = json_array();
    for (uint64_t i = 0; i < v->count && i < limit; i++)
        json_array_append_new(array, scalar(v, i));
    return array;
}

static void shape_text(const sl_gguf_tensor *t, char out[96])
{
    int used = 0;
    for (uint32_t d = 0; d < t->dims; d++)
        used += snprintf(out + used, 96 - (size_t)used, "%s%llu", d > 0 ? " x " : "", (unsigned long long)t->shape[d]);
}

/* ---- a packed file: what was packed, and how ---- */

typedef struct packing_seen {
    uint32_t layers, bundled, compact, neurons, silent, stride_min, stride_max;
    uint64_t bundle_bytes, meta_bytes, calibration_bytes;
} packing_seen;

static packing_seen look_at_packing(const sl_packed *packed)
{
    const sl_gguf *file = sl_packed_file(packed);
    packing_seen seen = {.layers = sl_packed_layer_count(packed)};
    for (uint32_t i = 0; i < seen.layers; i++) {
        const sl_packed_layer *l = sl_packed_layer_at(packed, i);
        if (!l->bundled)
            continue;
        seen.stride_min = seen.bundled == 0 || l->stride < seen.stride_min ? l->stride : seen.stride_min;
        seen.stride_max = l->stride > seen.stride_max ? l->stride : seen.stride_max;
        seen.bundled++;
        seen.neurons += l->ff;
        seen.silent += l->ff - l->stored;
        seen.compact += sl_packed_bundle_bytes(l) < sl_packed_silent_bytes(l);
        seen.bundle_bytes += (uint64_t)l->stride * l->stored;
        seen.meta_bytes += l->meta_bytes;
    }
    for (size_t i = 0; i < sl_gguf_tensor_count(file); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(file, i);
        seen.calibration_bytes += sli_packed_is_calibration(t->name) ? t->bytes : 0;
    }
    return seen;
}

static sl_str text_of(const sl_gguf *g, const char *key)
{
    sl_str text = {"unknown", 7};
    (void)!sl_gguf_str(g, key, &text, NULL);
    return text;
}

static void print_packing(const sl_packed *packed)
{
    const sl_gguf *original = sl_packed_original(packed);
    packing_seen seen = look_at_packing(packed);
    sl_str architecture = text_of(original, "general.architecture"), order = text_of(sl_packed_file(packed), "sluice.pack.order");
    char whole[24], bundles[24], meta[24], calibration[24];
    sl_format_size(sl_gguf_file_bytes(original), whole);
    sl_format_size(seen.bundle_bytes, bundles);
    sl_format_size(seen.meta_bytes, meta);
    sl_format_size(seen.calibration_bytes, calibration);
    printf("packed by sluice, layout version %u: a %.*s model of %s, GGUF v%u, %zu tensors (sluice unpack gives it back)\n",
           sl_packed_version(packed), (int)architecture.length, architecture.data, whole, sl_gguf_version(original),
           sl_gguf_tensor_count(original));
    if (seen.compact > 0 || seen.silent > 0)
        printf("zeros are left out: of the bundles of %u layers, and %u neurons altogether\n", seen.compact, seen.silent);
    printf("%u of %u layers in bundles: %u neurons of %u to %u bytes in %.*s order, %s, and %s of meta data; calibration %s\n\n",
           seen.bundled, seen.layers, seen.neurons, seen.stride_min, seen.stride_max, (int)order.length, order.data, bundles, meta,
           seen.calibration_bytes > 0 ? calibration : "none");
}

static json_t *packing_json(const sl_packed *packed)
{
    const sl_gguf *original = sl_packed_original(packed);
    packing_seen seen = look_at_packing(packed);
    sl_str architecture = text_of(original, "general.architecture"), order = text_of(sl_packed_file(packed), "sluice.pack.order");
    return json_pack("{s:i, s:o, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "version",
                     (int)sl_packed_version(packed), "architecture", cli_json_text(architecture.data, architecture.length),
                     "original_bytes", (json_int_t)sl_gguf_file_bytes(original), "original_tensors",
                     (json_int_t)sl_gguf_tensor_count(original), "order", cli_json_text(order.data, order.length), "layers",
                     (json_int_t)seen.layers, "bundled_layers", (json_int_t)seen.bundled, "neurons", (json_int_t)seen.neurons, "stride_min",
                     (json_int_t)seen.stride_min, "stride_max", (json_int_t)seen.stride_max, "bundle_bytes", (json_int_t)seen.bundle_bytes,
                     "meta_bytes", (json_int_t)seen.meta_bytes, "calibration_bytes", (json_int_t)seen.calibration_bytes, "silent_neurons",
                     (json_int_t)seen.silent, "compact_layers", (json_int_t)seen.compact);
}

/* ---- any file ---- */

static int print_text(const sl_gguf *g, const sl_packed *packed)
{
    char size[24];
    sl_format_size(sl_gguf_file_bytes(g), size);
    printf("%s: GGUF v%u, %s, %zu keys, %zu tensors, data at %llu, alignment %u\n\n", sl_gguf_path(g), sl_gguf_version(g), size,
           sl_gguf_value_count(g), sl_gguf_tensor_count(g), (unsigned long long)sl_gguf_data_offset(g), sl_gguf_alignment(g));
    for (uint32_t part = 0; sl_gguf_part_count(g) > 1 && part < sl_gguf_part_count(g); part++) {
        sl_format_size(sl_gguf_part_bytes(g, part), size);
        printf("part %u of %u: %s, %s%s", part + 1, sl_gguf_part_count(g), sl_gguf_part_path(g, part), size,
               part + 1 == sl_gguf_part_count(g) ? "\n\n" : "\n");
    }
    if (packed)
        print_packing(packed);
    for (size_t i = 0; i < sl_gguf_value_count(g); i++) {
        const sl_gguf_value *v = sl_gguf_value_at(g, i);
        json_t *value = value_of(v, SHOWN_ELEMENTS);
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7));
        char many[48] = "";
        if (v->kind == SL_GGUF_ARRAY)
            snprintf(many, sizeof many, "[%llu]", (unsigned long long)v->count);
        printf("%-44.*s %s%s %.200s\n", (int)v->key.length, v->key.data, kind_names[v->element_kind], many, text == NULL ? "" : text);
        free(text);
        json_decref(value);
    }
    putchar('\n');
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        char shape[96];
        shape_text(t, shape);
        sl_format_size(t->bytes, size);
        char part[24] = "";
        if (sl_gguf_part_count(g) > 1)
            snprintf(part, sizeof part, " of part %u", t->file + 1);
        printf("%-44.*s %-6s %-20s %10s at %llu%s\n", (int)t->name.length, t->name.data, sl_format_of(t->type)->name, shape, size,
               (unsigned long long)t->offset, part);
    }
    return cli_finish_text();
}

static int print_json(const sl_gguf *g, const sl_packed *packed)
{
    json_t *keys = json_object(), *tensors = json_array(), *parts = json_array();
    for (size_t i = 0; i < sl_gguf_value_count(g); i++) {
        const sl_gguf_value *v = sl_gguf_value_at(g, i);
        json_t *name = cli_json_text(v->key.data, v->key.length);
        json_object_set_new(keys, json_string_value(name), value_of(v, UINT64_MAX));
        json_decref(name);
    }
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        json_array_append_new(tensors, json_pack("{s:o, s:s, s:o, s:i, s:I, s:I}", "name", cli_json_text(t->name.data, t->name.length),
                                                 "type", sl_format_of(t->type)->name, "shape", shape, "file", (int)t->file, "offset",
                                                 (json_int_t)t->offset, "bytes", (json_int_t)t->bytes));
    }
    for (uint32_t part = 0; part < sl_gguf_part_count(g); part++)
        json_array_append_new(
            parts, json_pack("{s:s, s:I}", "path", sl_gguf_part_path(g, part), "bytes", (json_int_t)sl_gguf_part_bytes(g, part)));
    return cli_print_json(json_pack("{s:i, s:I, s:o, s:i, s:I, s:o, s:o, s:o*}", "version", (int)sl_gguf_version(g), "file_bytes",
                                    (json_int_t)sl_gguf_file_bytes(g), "files", parts, "alignment", (int)sl_gguf_alignment(g),
                                    "data_offset", (json_int_t)sl_gguf_data_offset(g), "metadata", keys, "tensors", tensors, "packed",
                                    packed ? packing_json(packed) : NULL));
}

int cli_info(const cli_args *args)
{
    sl_gguf *gguf = NULL;
    sl_packed *packed = NULL;
    sl_error err = {0};
    sl_status status = args->operands == 1 ? sl_gguf_open(args->operand[0], &gguf, &err)
                                           : sl_fail(&err, SL_INVALID, "no file; usage: sluice info FILE");
    if (status == SL_OK && sl_packed_is(gguf))
        status = sl_packed_open(gguf, &packed, &err);
    int result;
    if (status != SL_OK)
        result = cli_fail(args, &err);
    else
        result = args->json ? print_json(gguf, packed) : print_text(gguf, packed);
    sl_packed_close(packed);
    sl_gguf_close(gguf);
    return result;
}

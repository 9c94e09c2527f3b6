/* offload/cli/info.c: `sluice info FILE`: what a file holds, also when it can't be run. */
#include "core/gguf.h"
#include "core/os.h"
#include "offload/cli/cli.h"

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

static int print_text(const sl_gguf *g)
{
    char size[24];
    sl_format_size(sl_gguf_file_bytes(g), size);
    printf("%s: GGUF v%u, %s, %zu keys, %zu tensors, data at %llu, alignment %u\n\n", sl_gguf_path(g), sl_gguf_version(g), size,
           sl_gguf_value_count(g), sl_gguf_tensor_count(g), (unsigned long long)sl_gguf_data_offset(g), sl_gguf_alignment(g));
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
        printf("%-44.*s %-6s %-20s %10s at %llu\n", (int)t->name.length, t->name.data, sl_format_of(t->type)->name, shape, size,
               (unsigned long long)t->offset);
    }
    return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
}

static int print_json(const sl_gguf *g)
{
    json_t *keys = json_object(), *tensors = json_array();
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
        json_array_append_new(tensors, json_pack("{s:o, s:s, s:o, s:I, s:I}", "name", cli_json_text(t->name.data, t->name.length), "type",
                                                 sl_format_of(t->type)->name, "shape", shape, "offset", (json_int_t)t->offset, "bytes",
                                                 (json_int_t)t->bytes));
    }
    return cli_print_json(json_pack("{s:i, s:I, s:i, s:I, s:o, s:o}", "version", (int)sl_gguf_version(g), "file_bytes",
                                    (json_int_t)sl_gguf_file_bytes(g), "alignment", (int)sl_gguf_alignment(g), "data_offset",
                                    (json_int_t)sl_gguf_data_offset(g), "metadata", keys, "tensors", tensors));
}

int cli_info(const cli_args *args)
{
    sl_gguf *gguf = NULL;
    sl_error err = {0};
    sl_status status = args->operands == 1 ? sl_gguf_open(args->operand[0], &gguf, &err)
                                           : sl_fail(&err, SL_INVALID, "no file; usage: sluice info FILE");
    if (status != SL_OK)
        return cli_fail(args, &err);
    int result = args->json ? print_json(gguf) : print_text(gguf);
    sl_gguf_close(gguf);
    return result;
}

/* pager/packed_layout.c: what follows from the original alone: which layers could be bundled, which bytes no tensor has. */
#include "pager/packed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "blk.12.rest": 12 in *layer, "rest" in *rest. Numbers as converters write them: no sign, no leading zeros. */
static bool split_name(sl_str name, uint64_t *layer, sl_str *rest)
{
    const char *at = name.data + 4, *end = name.data + name.length;
    if (name.length < 7 || memcmp(name.data, "blk.", 4) != 0 || (at[0] == '0' && at[1] != '.'))
        return false;
    const char *digits = at;
    for (*layer = 0; at < end && *at >= '0' && *at <= '9' && at - digits < 10; at++)
        *layer = *layer * 10 + (uint64_t)(*at - '0');
    if (at == digits || at == end || *at != '.')
        return false;
    *rest = (sl_str){at + 1, (size_t)(end - at - 1)};
    return true;
}

static bool begins_with(sl_str text, const char *prefix)
{
    size_t length = strlen(prefix);
    return text.length > length && memcmp(text.data, prefix, length) == 0;
}

bool sli_packed_is_calibration(sl_str name)
{
    uint64_t layer;
    sl_str rest;
    return begins_with(name, "sluice.calibration.") || (split_name(name, &layer, &rest) && begins_with(rest, "calibration."));
}

uint32_t sli_packed_count_layers(const sl_gguf *original)
{
    uint64_t count = 0, layer;
    sl_str rest;
    for (size_t i = 0; i < sl_gguf_tensor_count(original); i++) {
        if (split_name(sl_gguf_tensor_at(original, i)->name, &layer, &rest) && layer < sl_gguf_tensor_count(original) && layer >= count)
            count = layer + 1;
    }
    return (uint32_t)count;
}

static bool is_matrix(const sl_gguf_tensor *t, uint64_t row_elements, uint64_t rows)
{
    return t->dims == 2 && t->shape[0] == row_elements && t->shape[1] == rows;
}

bool sli_packed_layer_of(const sl_gguf *original, uint32_t layer, sl_packed_layer *out, const sl_gguf_tensor *matrices[3])
{
    static const char *const names[] = {"gate", "up", "down"};
    const sl_gguf_tensor *found[3];
    *out = (sl_packed_layer){0};
    for (int i = 0; i < 3; i++) {
        char name[48];
        snprintf(name, sizeof(name), "blk.%u.ffn_%s.weight", layer, names[i]);
        found[i] = sl_gguf_find_tensor(original, name);
        if (!found[i])
            return false;
    }
    uint64_t d = found[0]->shape[0], ff = found[0]->shape[1];
    if (!is_matrix(found[0], d, ff) || !is_matrix(found[1], d, ff) || !is_matrix(found[2], ff, d) || d > INT32_MAX || ff > INT32_MAX)
        return false;
    uint64_t gate_bytes = found[0]->bytes / ff, up_bytes = found[1]->bytes / ff;
    if (gate_bytes > INT32_MAX / 4 || up_bytes > INT32_MAX / 4) /* so that a bundle's bytes fit, whatever is added */
        return false;
    out->gate_type = found[0]->type;
    out->up_type = found[1]->type;
    out->down_type = found[2]->type;
    out->ff = (uint32_t)ff;
    out->d = (uint32_t)d;
    out->gate_bytes = (uint32_t)gate_bytes;
    out->up_bytes = (uint32_t)up_bytes;
    if (matrices)
        memcpy(matrices, found, sizeof(found));
    return true;
}

uint64_t sli_packed_padding_bytes(const sl_gguf *original)
{
    /* Tensors lie inside the file, behind the header, and do not overlap (G4): the sum cannot pass the file's size. */
    uint64_t rest = sl_gguf_file_bytes(original) - sl_gguf_data_offset(original);
    for (size_t i = 0; i < sl_gguf_tensor_count(original); i++)
        rest -= sl_gguf_tensor_at(original, i)->bytes;
    return rest;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t left = (*(const sl_gguf_tensor *const *)a)->offset, right = (*(const sl_gguf_tensor *const *)b)->offset;
    return (left > right) - (left < right);
}

sl_status sli_packed_each_gap(const sl_gguf *original, sl_status (*visit)(void *ctx, uint64_t offset, uint64_t bytes, sl_error *err),
                              void *ctx, sl_error *err)
{
    size_t count = sl_gguf_tensor_count(original);
    const sl_gguf_tensor **sorted = malloc((count ? count : 1) * sizeof(*sorted));
    if (!sorted)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to sort %zu tensors", sl_gguf_path(original), count);
    for (size_t i = 0; i < count; i++)
        sorted[i] = sl_gguf_tensor_at(original, i);
    qsort(sorted, count, sizeof(*sorted), by_offset);

    uint64_t at = sl_gguf_data_offset(original);
    sl_status status = SL_OK;
    for (size_t i = 0; i <= count && status == SL_OK; i++) {
        uint64_t next = i < count ? sorted[i]->offset : sl_gguf_file_bytes(original);
        if (next > at)
            status = visit(ctx, at, next - at, err);
        at = i < count ? next + sorted[i]->bytes : next;
    }
    free(sorted);
    return status;
}

/* core/gguf_check.c: the rules of a GGUF header that only the whole header can break.
 *
 * Keys and names are sorted once; equal neighbours are duplicates, and the same order serves the look-ups afterwards. Tensors sorted by
 * offset show overlaps the same way. The overlap order is dropped again; nothing else needs it. */
#include "core/gguf_internal.h"

#include <stdlib.h>
#include <string.h>

int sli_str_compare(sl_str a, sl_str b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

static int by_key(const void *a, const void *b, void *gguf)
{
    const sl_gguf *g = gguf;
    return sli_str_compare(g->values[*(const uint32_t *)a].key, g->values[*(const uint32_t *)b].key);
}

static int by_name(const void *a, const void *b, void *gguf)
{
    const sl_gguf *g = gguf;
    return sli_str_compare(g->tensors[*(const uint32_t *)a].name, g->tensors[*(const uint32_t *)b].name);
}

static int by_offset(const void *a, const void *b, void *gguf)
{
    const sl_gguf *g = gguf;
    uint64_t left = g->tensors[*(const uint32_t *)a].offset, right = g->tensors[*(const uint32_t *)b].offset;
    return (left > right) - (left < right);
}

/* 0..count-1 in the given order; malloc'd (at least one byte, so that NULL means no memory). */
static uint32_t *sorted_indices(sl_gguf *g, size_t count, int (*order)(const void *, const void *, void *))
{
    uint32_t *indices = malloc((count ? count : 1) * sizeof(*indices));
    if (!indices)
        return NULL;
    for (size_t i = 0; i < count; i++)
        indices[i] = (uint32_t)i;
    qsort_r(indices, count, sizeof(*indices), order, g);
    return indices;
}

static sl_status check_keys_unique(sl_gguf *g, sl_error *err)
{
    g->values_by_key = sorted_indices(g, g->value_count, by_key);
    if (!g->values_by_key)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to index %zu metadata values", g->path, g->value_count);
    for (size_t i = 1; i < g->value_count; i++) {
        sl_str key = g->values[g->values_by_key[i]].key;
        if (sli_str_compare(g->values[g->values_by_key[i - 1]].key, key) == 0)
            return sl_fail(err, SL_FORMAT, "%s: key \"%s\" appears twice, keys must be unique", g->path, sli_show(key).text);
    }
    return SL_OK;
}

sl_status sli_gguf_index_tensors(sl_gguf *g, sl_error *err)
{
    g->tensors_by_name = sorted_indices(g, g->tensor_count, by_name);
    if (!g->tensors_by_name)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to index %zu tensors", g->path, g->tensor_count);
    for (size_t i = 1; i < g->tensor_count; i++) {
        sl_str name = g->tensors[g->tensors_by_name[i]].name;
        if (sli_str_compare(g->tensors[g->tensors_by_name[i - 1]].name, name) == 0)
            return sl_fail(err, SL_FORMAT, "%s: tensor \"%s\" appears twice, names must be unique", g->path, sli_show(name).text);
    }
    return SL_OK;
}

static sl_status read_alignment(sl_gguf *g, sl_error *err)
{
    g->alignment = SLI_GGUF_DEFAULT_ALIGNMENT;
    if (!sl_gguf_find(g, "general.alignment"))
        return SL_OK;
    SL_TRY(sl_gguf_u32(g, "general.alignment", &g->alignment, err));
    uint32_t a = g->alignment;
    if (a < SLI_GGUF_ALIGNMENT_MIN || a > SLI_GGUF_ALIGNMENT_MAX || (a & (a - 1)) != 0)
        return sl_fail(err, SL_FORMAT, "%s: key \"general.alignment\" is %u, must be a power of two in %u..%u", g->path, a,
                       SLI_GGUF_ALIGNMENT_MIN, SLI_GGUF_ALIGNMENT_MAX);
    return SL_OK;
}

/* Turns a tensor's offset into one from the start of the file, once it is known to lie there (G4). */
static sl_status place_tensor(sl_gguf *g, sl_gguf_tensor *t, sl_error *err)
{
    if (t->offset % g->alignment != 0)
        return sl_fail(err, SL_FORMAT, "%s: tensor \"%s\" has data offset %llu, must be a multiple of the alignment %u", g->path,
                       sli_show(t->name).text, (unsigned long long)t->offset, g->alignment);
    uint64_t start, end;
    if (__builtin_add_overflow(g->data_offset, t->offset, &start) || __builtin_add_overflow(start, t->bytes, &end) || end > g->file_bytes)
        return sl_fail(err, SL_FORMAT,
                       "%s: tensor \"%s\" has %llu bytes at data offset %llu, behind the file's end at %llu: truncated or damaged", g->path,
                       sli_show(t->name).text, (unsigned long long)t->bytes, (unsigned long long)t->offset,
                       (unsigned long long)g->file_bytes);
    t->offset = start;
    return SL_OK;
}

static sl_status check_no_overlap(sl_gguf *g, sl_error *err)
{
    uint32_t *order = sorted_indices(g, g->tensor_count, by_offset);
    if (!order)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to check %zu tensors", g->path, g->tensor_count);
    sl_status status = SL_OK;
    for (size_t i = 1; i < g->tensor_count && status == SL_OK; i++) {
        const sl_gguf_tensor *before = &g->tensors[order[i - 1]], *t = &g->tensors[order[i]];
        if (before->offset + before->bytes > t->offset)
            status = sl_fail(err, SL_FORMAT, "%s: tensor \"%s\" at byte %llu overlaps tensor \"%s\", which ends at byte %llu", g->path,
                             sli_show(t->name).text, (unsigned long long)t->offset, sli_show(before->name).text,
                             (unsigned long long)(before->offset + before->bytes));
    }
    free(order);
    return status;
}

sl_status sli_gguf_check(sl_gguf *g, sl_error *err)
{
    SL_TRY(check_keys_unique(g, err));
    SL_TRY(sli_gguf_index_tensors(g, err));
    SL_TRY(read_alignment(g, err));

    /* header_bytes is at most the file's size and the alignment small: no overflow. A file without tensors may end unpadded. */
    g->data_offset = (g->header_bytes + (uint64_t)g->alignment - 1) / g->alignment * g->alignment;
    if (g->tensor_count == 0 && g->data_offset > g->file_bytes)
        g->data_offset = g->file_bytes;
    for (size_t i = 0; i < g->tensor_count; i++)
        SL_TRY(place_tensor(g, &g->tensors[i], err));
    return check_no_overlap(g, err);
}

/* core/gguf_split.c: a model in several files, NAME-00001-of-00003.gguf and so on: found beside the first, checked, and made one header.
 *
 * The first part has the metadata, and every part says which it is (split.no, from 0), of how many (split.count), and how many tensors all have
 * together (split.tensors.count). A part that is missing, in another's place or of another model must not go unnoticed, for what would then be
 * read in place of a weight is some other number. */
#include "core/gguf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX   65535u
#define SUFFIX      ".gguf"
#define OF          "-of-"
#define DIGITS_MIN  5
#define DIGITS_MAX  9
#define PATH_GROWTH 32 /* a path's numbers, written anew */

/* What a part says of itself. */
typedef struct split {
    uint64_t no, count, tensors;
} split;

static sl_status read_split(const sl_gguf *g, split *out, sl_error *err)
{
    SL_TRY(sl_gguf_u64(g, "split.no", &out->no, err));
    SL_TRY(sl_gguf_u64(g, "split.count", &out->count, err));
    SL_TRY(sl_gguf_u64(g, "split.tensors.count", &out->tensors, err));
    if (out->count > PARTS_MAX || out->no >= out->count)
        return sl_fail(err, SL_FORMAT, "%s: says that it is part %llu of %llu (split.no, split.count): damaged", g->path,
                       (unsigned long long)out->no + 1, (unsigned long long)out->count);
    return SL_OK;
}

/* ---- names ---- */

/* The digits that end before `end`, at least DIGITS_MIN after a '-'; NULL when there are none. */
static const char *digits_before(const char *begin, const char *end, uint64_t *value)
{
    const char *at = end;
    while (at > begin && at[-1] >= '0' && at[-1] <= '9')
        at--;
    if (end - at < DIGITS_MIN || end - at > DIGITS_MAX || at == begin || at[-1] != '-')
        return NULL;
    *value = strtoull(at, NULL, 10);
    return at;
}

/* Takes PREFIX-00001-of-00003.gguf apart; false when the name is another one. */
static bool take_name_apart(const char *path, size_t *prefix, uint64_t *number, uint64_t *count)
{
    size_t length = strlen(path), suffix = strlen(SUFFIX);
    if (length < suffix || strcmp(path + length - suffix, SUFFIX) != 0)
        return false;
    const char *at = digits_before(path, path + length - suffix, count);
    if (!at || at - path < (ptrdiff_t)strlen(OF) || strncmp(at - strlen(OF), OF, strlen(OF)) != 0)
        return false;
    at = digits_before(path, at - strlen(OF), number);
    if (!at)
        return false;
    *prefix = (size_t)(at - 1 - path);
    return true;
}

static char *name_of_part(const char *path, size_t prefix, uint64_t number, uint64_t count)
{
    size_t bytes = prefix + PATH_GROWTH + 2 * DIGITS_MAX;
    char *name = malloc(bytes);
    if (name)
        snprintf(name, bytes, "%.*s-%05llu" OF "%05llu" SUFFIX, (int)prefix, path, (unsigned long long)number, (unsigned long long)count);
    return name;
}

/* ---- one header ---- */

static sl_status check_part(const sl_gguf *first, const sl_gguf *part, uint64_t number, const split *whole, sl_error *err)
{
    split own;
    SL_TRY(read_split(part, &own, err));
    if (own.no != number)
        return sl_fail(err, SL_FORMAT, "%s: stands in the place of part %llu but says that it is part %llu: swapped or renamed", part->path,
                       (unsigned long long)number + 1, (unsigned long long)own.no + 1);
    if (own.count != whole->count || own.tensors != whole->tensors)
        return sl_fail(err, SL_FORMAT,
                       "%s: is a part of another model than %s: it is of %llu parts with %llu tensors, that of %llu with %llu", part->path,
                       first->path, (unsigned long long)own.count, (unsigned long long)own.tensors, (unsigned long long)whole->count,
                       (unsigned long long)whole->tensors);
    return SL_OK;
}

static sl_status check_total(const sl_gguf *first, sl_gguf *const *others, const split *whole, size_t *total, sl_error *err)
{
    *total = first->tensor_count;
    for (uint64_t i = 1; i < whole->count; i++)
        *total += others[i - 1]->tensor_count;
    if (*total != whole->tensors)
        return sl_fail(err, SL_FORMAT, "%s: its %llu parts have %zu tensors together, but should have %llu: not of one model, or damaged",
                       first->path, (unsigned long long)whole->count, *total, (unsigned long long)whole->tensors);
    return SL_OK;
}

/* Takes the parts over when it succeeds. */
static sl_status add_tensors(sl_gguf *g, sl_gguf **others, uint32_t count, size_t total, sl_error *err)
{
    sl_gguf_tensor *tensors = realloc(g->tensors, (total ? total : 1) * sizeof(*tensors));
    if (!tensors)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for %zu tensors", g->path, total);
    g->tensors = tensors;
    size_t own = g->tensor_count;
    for (uint32_t i = 0; i < count; i++) {
        for (size_t t = 0; t < others[i]->tensor_count; t++) {
            tensors[g->tensor_count] = others[i]->tensors[t];
            tensors[g->tensor_count++].file = i + 1;
        }
    }
    g->tensor_capacity = total;
    uint32_t *own_names = g->tensors_by_name;
    sl_status status = sli_gguf_index_tensors(g, err); /* names are unique over all parts */
    if (status != SL_OK) {
        free(g->tensors_by_name);
        g->tensors_by_name = own_names;
        g->tensor_count = own;
        return status;
    }
    free(own_names);
    g->parts = others;
    g->part_count = count;
    return SL_OK;
}

sl_status sli_gguf_join(sl_gguf *first, sl_gguf **others, uint32_t count, sl_error *err)
{
    split whole;
    size_t total;
    SL_TRY(read_split(first, &whole, err));
    if (whole.count != (uint64_t)count + 1)
        return sl_fail(err, SL_FORMAT, "%s: is of %llu parts, and %u were given", first->path, (unsigned long long)whole.count, count + 1);
    SL_TRY(check_part(first, first, 0, &whole, err));
    for (uint32_t i = 0; i < count; i++)
        SL_TRY(check_part(first, others[i], i + 1, &whole, err));
    SL_TRY(check_total(first, others, &whole, &total, err));
    return add_tensors(first, others, count, total, err);
}

/* ---- finding the parts ---- */

bool sli_gguf_is_split(const sl_gguf *g)
{
    uint64_t count;
    return sl_gguf_find(g, "split.count") && (sl_gguf_u64(g, "split.count", &count, NULL) != SL_OK || count > 1);
}

static sl_status check_first(const sl_gguf *g, const split *whole, size_t *prefix, sl_error *err)
{
    uint64_t number, count;
    if (!take_name_apart(g->path, prefix, &number, &count))
        return sl_fail(err, SL_FORMAT,
                       "%s: is one of %llu files of a split model, but its name does not end in -00001-of-%05llu.gguf, by which the others "
                       "would be found",
                       g->path, (unsigned long long)whole->count, (unsigned long long)whole->count);
    if (count != whole->count)
        return sl_fail(err, SL_FORMAT, "%s: has %llu parts by its name and %llu by its header (split.count)", g->path,
                       (unsigned long long)count, (unsigned long long)whole->count);
    if (number != whole->no + 1)
        return sl_fail(err, SL_FORMAT, "%s: is part %llu by its name and part %llu by its header (split.no): swapped or renamed", g->path,
                       (unsigned long long)number, (unsigned long long)whole->no + 1);
    if (whole->no == 0)
        return SL_OK;
    char *first = name_of_part(g->path, *prefix, 1, whole->count);
    sl_status status = sl_fail(err, SL_FORMAT, "%s: is part %llu of a split model; name the first part: %s", g->path,
                               (unsigned long long)whole->no + 1, first ? first : "the one with 00001");
    free(first);
    return status;
}

static sl_status open_part(const sl_gguf *first, size_t prefix, uint64_t number, uint64_t count, sl_gguf **out, sl_error *err)
{
    sl_error reason = {0};
    char *path = name_of_part(first->path, prefix, number, count);
    if (!path)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for the names of its parts", first->path);
    sl_status status = sli_gguf_open_one(path, out, &reason);
    free(path);
    if (status == SL_OK)
        return SL_OK;
    return sl_fail(err, status, "part %llu of %llu of a split model: %s", (unsigned long long)number, (unsigned long long)count,
                   reason.message);
}

sl_status sli_gguf_open_parts(sl_gguf *g, sl_error *err)
{
    split whole;
    size_t prefix = 0;
    SL_TRY(read_split(g, &whole, err));
    SL_TRY(check_first(g, &whole, &prefix, err));
    uint32_t others = (uint32_t)whole.count - 1, opened = 0;
    sl_gguf **parts = calloc(others, sizeof(*parts));
    sl_status status = parts ? SL_OK : sl_fail(err, SL_NO_MEMORY, "%s: no memory for its parts", g->path);
    for (; status == SL_OK && opened < others; opened++)
        status = open_part(g, prefix, opened + 2, whole.count, &parts[opened], err);
    if (status == SL_OK)
        status = sli_gguf_join(g, parts, others, err);
    if (status == SL_OK)
        return SL_OK;
    for (uint32_t i = 0; parts && i < others; i++)
        sl_gguf_close(parts[i]);
    free(parts);
    return status;
}

/* ---- what it is made of ---- */

uint32_t sl_gguf_part_count(const sl_gguf *g)
{
    return g->part_count + 1;
}

const char *sl_gguf_part_path(const sl_gguf *g, uint32_t part)
{
    return part == 0 ? g->path : g->parts[part - 1]->path;
}

uint64_t sl_gguf_part_bytes(const sl_gguf *g, uint32_t part)
{
    return part == 0 ? g->file_bytes : g->parts[part - 1]->file_bytes;
}

sl_status sl_gguf_check_single(const sl_gguf *g, const char *command, sl_error *err)
{
    if (g->part_count == 0)
        return SL_OK;
    return sl_fail(err, SL_UNSUPPORTED, "%s: is split into %u files; %s takes a model in one: join them first (llama-gguf-split --merge)",
                   g->path, sl_gguf_part_count(g), command);
}

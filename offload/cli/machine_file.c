/* offload/cli/machine_file.c: see machine_file.h. */
#include "offload/cli/machine_file.h"
#include "core/file_write.h"
#include "core/os.h"
#include "offload/cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)

/* Bounds beyond which a figure is a slip of units. */
#define RATE_MIN   1e5
#define RATE_MAX   1e14
#define OPS_MAX    1e17
#define MEMORY_MIN 67108864.0
#define MEMORY_MAX 1e15

/* ---- reading ---- */

typedef struct reader {
    const char *file;
    sl_error *err;
} reader;

typedef struct field { /* of an object in the file: "reads[3]" and "depth" */
    const json_t *object;
    char where[64];
} field;

static sl_status known_keys(const reader *r, const field *f, const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)f->object, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL) {
            char all[200] = "";
            for (i = 0; known[i] != NULL; i++) {
                size_t used = strlen(all);
                snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", known[i]);
            }
            return sl_fail(r->err, SL_INVALID, "%s: %s%.40s: no such key; known are %s", r->file, f->where, key, all);
        }
    }
    return SL_OK;
}

static sl_status missing(const reader *r, const field *f, const char *key, const char *right)
{
    return sl_fail(r->err, SL_INVALID, "%s: %s%s is missing; it is %s", r->file, f->where, key, right);
}

/* A number within bounds; bytes may be a size such as "16G", too. */
static sl_status number(const reader *r, const field *f, const char *key, double min, double max, const char *right, double *out)
{
    const json_t *value = json_object_get(f->object, key);
    uint64_t bytes;
    if (value == NULL)
        return missing(r, f, key, right);
    *out = NAN;
    if (json_is_number(value))
        *out = json_number_value(value);
    else if (json_is_string(value) && strstr(key, "bytes") != NULL && sl_parse_size(json_string_value(value), &bytes))
        *out = (double)bytes;
    if (*out >= min && *out <= max)
        return SL_OK;
    char *said = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    sl_status status = sl_fail(r->err, SL_INVALID, "%s: %s%s is %.40s; it must be %s, from %g to %g", r->file, f->where, key,
                               said != NULL ? said : "no number", right, min, max);
    free(said);
    return status;
}

static sl_status whole(const reader *r, const field *f, const char *key, double max, const char *right, uint32_t *out)
{
    double value;
    SL_TRY(number(r, f, key, 1, max, right, &value));
    if (value != floor(value))
        return sl_fail(r->err, SL_INVALID, "%s: %s%s is %g; it must be %s, a whole number", r->file, f->where, key, value, right);
    *out = (uint32_t)value;
    return SL_OK;
}

/* `needed` NULL: may be left out. */
static sl_status text(const reader *r, const field *f, const char *key, const char *needed, char *out, size_t bytes)
{
    const json_t *value = json_object_get(f->object, key);
    if (value == NULL)
        return needed == NULL ? SL_OK : missing(r, f, key, needed);
    if (!json_is_string(value))
        return sl_fail(r->err, SL_INVALID, "%s: %s%s must be a text", r->file, f->where, key);
    snprintf(out, bytes, "%s", json_string_value(value));
    for (char *c = out; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' '; /* it will be printed */
    return SL_OK;
}

/* The array of this key; `max` 0 entries are never right. */
static sl_status list(const reader *r, const field *f, const char *key, size_t max, const char *needed, const json_t **out)
{
    *out = json_object_get(f->object, key);
    if (*out == NULL)
        return needed == NULL ? SL_OK : missing(r, f, key, needed);
    if (!json_is_array(*out) || json_array_size(*out) < 1 || json_array_size(*out) > max)
        return sl_fail(r->err, SL_INVALID, "%s: %s%s must be a list of 1 to %zu objects", r->file, f->where, key, max);
    return SL_OK;
}

static sl_status entry(const reader *r, const json_t *array, const char *key, size_t index, const char *const *known, field *out)
{
    out->object = json_array_get(array, index);
    snprintf(out->where, sizeof out->where, "%s[%zu].", key, index);
    if (!json_is_object(out->object))
        return sl_fail(r->err, SL_INVALID, "%s: %s[%zu] must be an object", r->file, key, index);
    return known_keys(r, out, known);
}

static sl_status read_bandwidths(const reader *r, const field *root, sli_machine *m)
{
    static const char *const known[] = {"threads", "bytes_per_s", NULL};
    const json_t *array;
    SL_TRY(list(r, root, "memory_bandwidth", SLI_MACHINE_BANDWIDTHS_MAX,
                "a list of {\"threads\": 1, \"bytes_per_s\": 20e9}, for one thread and for all cores", &array));
    for (; m->bandwidths < json_array_size(array); m->bandwidths++) {
        field f;
        sli_machine_bandwidth *b = &m->bandwidth[m->bandwidths];
        SL_TRY(entry(r, array, "memory_bandwidth", m->bandwidths, known, &f));
        SL_TRY(whole(r, &f, "threads", 4096, "how many threads read", &b->threads));
        SL_TRY(number(r, &f, "bytes_per_s", RATE_MIN, RATE_MAX, "bytes per second", &b->Bps));
    }
    return SL_OK;
}

static sl_status read_reads(const reader *r, const field *root, sli_machine *m)
{
    static const char *const known[] = {"engine", "request_bytes", "depth", "bytes_per_s", NULL};
    const json_t *array;
    SL_TRY(list(r, root, "reads", SLI_MACHINE_READS_MAX,
                "a list of {\"engine\": \"uring\", \"request_bytes\": 1048576, \"depth\": 32, \"bytes_per_s\": 3e9}", &array));
    for (; m->reads < json_array_size(array); m->reads++) {
        field f;
        double bytes;
        sli_machine_read *read = &m->read[m->reads];
        SL_TRY(entry(r, array, "reads", m->reads, known, &f));
        SL_TRY(text(r, &f, "engine", "uring or pread", read->engine, sizeof read->engine));
        if (strcmp(read->engine, "uring") != 0 && strcmp(read->engine, "pread") != 0)
            return sl_fail(r->err, SL_INVALID, "%s: %sengine is %s; it must be uring or pread", r->file, f.where, read->engine);
        SL_TRY(number(r, &f, "request_bytes", 512, 1 << 30, "bytes of a request", &bytes));
        SL_TRY(whole(r, &f, "depth", 65536, "how many reads are in flight", &read->depth));
        SL_TRY(number(r, &f, "bytes_per_s", RATE_MIN, RATE_MAX, "bytes per second", &read->Bps));
        read->bytes = (uint64_t)bytes;
    }
    return SL_OK;
}

static sl_status read_products(const reader *r, const field *root, sli_machine *m)
{
    static const char *const known[] = {"type", "weights_bytes", "weights_bytes_per_s", "operations_per_s", NULL};
    const json_t *array;
    SL_TRY(list(r, root, "products", SLI_MACHINE_RATES_MAX, NULL, &array));
    for (; m->rates < json_array_size(array); m->rates++) {
        field f;
        char type[16];
        sli_machine_rate *rate = &m->rate[m->rates];
        SL_TRY(entry(r, array, "products", m->rates, known, &f));
        SL_TRY(text(r, &f, "type", "a format such as Q4_0", type, sizeof type));
        if (sl_format_by_name(type, &rate->type) == NULL)
            return sl_fail(r->err, SL_INVALID, "%s: %stype is %s; known are %s", r->file, f.where, type, SL_SUPPORTED_FORMATS);
        double bytes = (double)SLI_MACHINE_UNCACHED_BYTES;
        if (json_object_get(f.object, "weights_bytes") != NULL)
            SL_TRY(number(r, &f, "weights_bytes", 1 << 16, 1e12, "how many bytes of weights were gone through again and again", &bytes));
        rate->bytes = (uint64_t)bytes;
        SL_TRY(number(r, &f, "weights_bytes_per_s", RATE_MIN, RATE_MAX, "bytes of weights per second", &rate->weights_Bps));
        SL_TRY(number(r, &f, "operations_per_s", RATE_MIN, OPS_MAX, "operations per second of all cores", &rate->ops_per_s));
    }
    return SL_OK;
}

static sl_status read_gpu(const reader *r, const field *root, sli_machine *m)
{
    static const char *const known[] = {"name", "memory_bytes", "memory_bytes_per_s", "link_bytes_per_s", NULL};
    field f = {.object = json_object_get(root->object, "gpu"), .where = "gpu."};
    double bytes;
    if (f.object == NULL)
        return SL_OK;
    if (!json_is_object(f.object))
        return sl_fail(r->err, SL_INVALID, "%s: gpu must be an object", r->file);
    SL_TRY(known_keys(r, &f, known));
    SL_TRY(text(r, &f, "name", "the card's name", m->gpu.name, sizeof m->gpu.name));
    SL_TRY(number(r, &f, "memory_bytes", MEMORY_MIN, MEMORY_MAX, "its memory in bytes, or a size such as \"12G\"", &bytes));
    SL_TRY(number(r, &f, "memory_bytes_per_s", RATE_MIN, RATE_MAX, "bytes per second", &m->gpu.memory_Bps));
    SL_TRY(number(r, &f, "link_bytes_per_s", RATE_MIN, RATE_MAX, "bytes per second over its link", &m->gpu.link_Bps));
    m->gpu.memory_bytes = (uint64_t)bytes;
    return SL_OK;
}

static sl_status read_root(const reader *r, const field *root, sli_machine *m)
{
    static const char *const known[] = {"name",     "source", "measured", "memory_bytes", "cores", "isa", "memory_bandwidth", "reads",
                                        "products", "gpu",    NULL};
    char isa[16] = "";
    double bytes;
    if (!json_is_object(root->object))
        return sl_fail(r->err, SL_INVALID, "%s: a machine file holds one JSON object", r->file);
    SL_TRY(known_keys(r, root, known));
    SL_TRY(text(r, root, "name", NULL, m->name, sizeof m->name));
    SL_TRY(text(r, root, "source", NULL, m->source, sizeof m->source));
    m->measured = json_is_true(json_object_get(root->object, "measured"));
    SL_TRY(number(r, root, "memory_bytes", MEMORY_MIN, MEMORY_MAX, "the memory in bytes, or a size such as \"16G\"", &bytes));
    m->memory_bytes = (uint64_t)bytes;
    SL_TRY(whole(r, root, "cores", 4096, "how many physical cores there are", &m->cores));
    SL_TRY(text(r, root, "isa", "one of " SL_ISA_NAMES, isa, sizeof isa));
    if (!sl_isa_by_name(isa, &m->isa))
        return sl_fail(r->err, SL_INVALID, "%s: isa is %s; known are " SL_ISA_NAMES, r->file, isa);
    SL_TRY(read_bandwidths(r, root, m));
    SL_TRY(read_reads(r, root, m));
    SL_TRY(read_products(r, root, m));
    return read_gpu(r, root, m);
}

sl_status cli_machine_parse(const char *bytes, size_t length, const char *name, sli_machine *out, sl_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &where);
    reader r = {name, err};
    *out = (sli_machine){0};
    if (root == NULL)
        return sl_fail(err, SL_INVALID, "%s: line %d: not JSON: %.120s", name, where.line, where.text);
    field f = {.object = root};
    sl_status status = read_root(&r, &f, out);
    json_decref(root);
    if (status == SL_OK && out->name[0] == '\0')
        snprintf(out->name, sizeof out->name, "%s", name);
    if (status == SL_OK && out->source[0] == '\0')
        snprintf(out->source, sizeof out->source, "%s", name);
    return status;
}

sl_status cli_machine_read(const char *path, sli_machine *out, sl_error *err)
{
    char *bytes;
    size_t length;
    SL_TRY(cli_read_file(path, &bytes, &length, err));
    sl_status status = length > FILE_BYTES_MAX ? sl_fail(err, SL_INVALID, "%s: %zu bytes are too many for a machine file", path, length)
                                               : cli_machine_parse(bytes, length, path, out, err);
    free(bytes);
    return status;
}

/* ---- writing ---- */

json_t *cli_machine_json(const sli_machine *m)
{
    json_t *bandwidth = json_array(), *reads = json_array(), *products = json_array();
    for (size_t i = 0; i < m->bandwidths; i++)
        json_array_append_new(bandwidth,
                              json_pack("{s:i, s:f}", "threads", (int)m->bandwidth[i].threads, "bytes_per_s", m->bandwidth[i].Bps));
    for (size_t i = 0; i < m->reads; i++)
        json_array_append_new(reads,
                              json_pack("{s:s, s:I, s:i, s:f}", "engine", m->read[i].engine, "request_bytes", (json_int_t)m->read[i].bytes,
                                        "depth", (int)m->read[i].depth, "bytes_per_s", m->read[i].Bps));
    for (size_t i = 0; i < m->rates; i++)
        json_array_append_new(products, json_pack("{s:s, s:I, s:f, s:f}", "type", sl_format_of(m->rate[i].type)->name, "weights_bytes",
                                                  (json_int_t)m->rate[i].bytes, "weights_bytes_per_s", m->rate[i].weights_Bps,
                                                  "operations_per_s", m->rate[i].ops_per_s));
    json_t *all = json_pack("{s:o, s:o, s:b, s:I, s:i, s:s, s:o, s:o}", "name", cli_json_text(m->name, strlen(m->name)), "source",
                            cli_json_text(m->source, strlen(m->source)), "measured", (int)m->measured, "memory_bytes",
                            (json_int_t)m->memory_bytes, "cores", (int)m->cores, "isa", sl_isa_name(m->isa), "memory_bandwidth", bandwidth,
                            "reads", reads);
    if (m->rates > 0)
        json_object_set_new(all, "products", products);
    else
        json_decref(products);
    if (m->gpu.name[0] != '\0')
        json_object_set_new(all, "gpu",
                            json_pack("{s:o, s:I, s:f, s:f}", "name", cli_json_text(m->gpu.name, strlen(m->gpu.name)), "memory_bytes",
                                      (json_int_t)m->gpu.memory_bytes, "memory_bytes_per_s", m->gpu.memory_Bps, "link_bytes_per_s",
                                      m->gpu.link_Bps));
    return all;
}

sl_status cli_machine_write(const char *path, const sli_machine *machine, sl_error *err)
{
    json_t *value = cli_machine_json(machine);
    char *bytes = json_dumps(value, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(value);
    if (bytes == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %s", path);
    sl_file_writer *w = NULL;
    sl_status status = sl_file_writer_create(path, &w, err);
    if (status == SL_OK)
        status = sl_file_writer_begin(w, strlen(bytes), false, err);
    if (status == SL_OK)
        status = sl_file_writer_put(w, bytes, strlen(bytes), err);
    if (status == SL_OK)
        status = sl_file_writer_finish(w, err);
    else
        sl_file_writer_discard(w);
    free(bytes);
    return status;
}

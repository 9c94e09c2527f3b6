/* pager/packed.c: opening a packed file, and answering where things lie.
 *
 * Nothing the file says is used before it is checked against something else: sections against the original's shapes, those against the
 * original's header, that and the order of the neurons against their checksums, and the checksums against their own. */
#include "pager/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE_BYTES ((size_t)64 << 10)

struct sl_packed {
    const sl_gguf *file;
    sl_gguf *original;
    uint64_t *checksums; /* one a tensor of `file` */
    uint64_t *locations; /* one a tensor of `original` */
    uint32_t *orders;    /* of all bundled layers, one after the other */
    size_t order_count;
    uint32_t version, alignment;
    uint32_t layer_count;
    sl_packed_layer *layers;
    size_t sections; /* tensors of `file` that have been accounted for */
};

/* ---- sections ---- */

static sl_status missing(const sl_gguf *file, const char *name, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "%s: section \"%s\" is missing: not a whole packed file", sl_gguf_path(file), name);
}

/* A section of one row of `count` elements, or of `rows` of them; 0 elements: any count. Counts it as accounted for. */
static sl_status find_section(sl_packed *p, const char *name, uint32_t type, uint64_t count, uint64_t rows, const sl_gguf_tensor **out,
                              sl_error *err)
{
    const sl_gguf_tensor *t = sl_gguf_find_tensor(p->file, name);
    if (!t)
        return missing(p->file, name, err);
    if (t->type != type || t->dims != (rows ? 2u : 1u) || (count && t->shape[0] != count) || (rows && t->shape[1] != rows))
        return sl_fail(err, SL_FORMAT,
                       "%s: section \"%s\" is %s with %u dimensions, the first two of %llu and %llu; want %s of %llu and %llu",
                       sl_gguf_path(p->file), name, sl_format_of(t->type)->name, t->dims, (unsigned long long)t->shape[0],
                       (unsigned long long)t->shape[1], sl_format_of(type)->name, (unsigned long long)(count ? count : t->shape[0]),
                       (unsigned long long)(rows ? rows : 1));
    p->sections++;
    *out = t;
    return SL_OK;
}

static sl_status bad_checksum(const sl_gguf *file, sl_str name, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "%s: section \"%.*s\" is damaged: its checksum is not the one that was written", sl_gguf_path(file),
                   name.length < 80 ? (int)name.length : 80, name.data);
}

sl_status sl_packed_check_tensor(const sl_packed *p, const sl_gguf_tensor *tensor, const void *data, sl_error *err)
{
    if (XXH3_64bits(data, (size_t)tensor->bytes) != sl_packed_checksum(p, tensor))
        return bad_checksum(p->file, tensor->name, err);
    return SL_OK;
}

/* Reads a section whole to `to` and holds it against its checksum. */
static sl_status load(const sl_packed *p, const sl_packed_source *source, const sl_gguf_tensor *t, void *to, sl_error *err)
{
    SL_TRY(source->read(source->ctx, t->offset, to, (size_t)t->bytes, err));
    return sl_packed_check_tensor(p, t, to, err);
}

/* ---- P1: version, checksums ---- */

bool sl_packed_is(const sl_gguf *file)
{
    return sl_gguf_find(file, "sluice.pack.version") != NULL;
}

static sl_status check_keys(sl_packed *p, uint64_t *original_bytes, sl_error *err)
{
    const char *path = sl_gguf_path(p->file);
    if (!sl_packed_is(p->file))
        return sl_fail(err, SL_FORMAT, "%s: is not a packed file; sluice pack makes one", path);
    SL_TRY(sl_gguf_u32(p->file, "sluice.pack.version", &p->version, err));
    if (p->version < 1 || p->version > SL_PACK_VERSION)
        return sl_fail(err, SL_FORMAT, "%s: is packed in version %u of the layout, this program knows versions 1 to %u%s", path, p->version,
                       SL_PACK_VERSION, p->version > 0 ? ": use a newer one" : "");
    SL_TRY(sl_gguf_u32(p->file, "sluice.pack.alignment", &p->alignment, err));
    if (p->alignment < SL_PACK_STRIDE || p->alignment > SL_PACK_ALIGNMENT || (p->alignment & (p->alignment - 1)) != 0)
        return sl_fail(err, SL_FORMAT, "%s: key \"sluice.pack.alignment\" is %u, must be a power of two in %u..%u", path, p->alignment,
                       SL_PACK_STRIDE, SL_PACK_ALIGNMENT);
    if (sl_gguf_alignment(p->file) % p->alignment != 0)
        return sl_fail(err, SL_FORMAT, "%s: key \"general.alignment\" is %u, must be a multiple of %u as the bundles are", path,
                       sl_gguf_alignment(p->file), p->alignment);
    return sl_gguf_u64(p->file, "sluice.pack.original_bytes", original_bytes, err);
}

sl_status sli_packed_self_checksum(const sl_gguf *file, const sl_packed_source *source, const uint64_t *checksums, uint64_t *out,
                                   sl_error *err)
{
    const sl_gguf_tensor *table = sl_gguf_find_tensor(file, "sluice.checksums");
    uint8_t *piece = malloc(PIECE_BYTES);
    XXH3_state_t *state = XXH3_createState();
    sl_status status = SL_OK;
    if (!table)
        status = missing(file, "sluice.checksums", err);
    else if (!piece || !state || XXH3_64bits_reset(state) != XXH_OK)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory for a checksum", sl_gguf_path(file));
    uint64_t end = sl_gguf_data_offset(file);
    for (uint64_t at = 0; at < end && status == SL_OK; at += PIECE_BYTES) {
        size_t bytes = end - at < PIECE_BYTES ? (size_t)(end - at) : PIECE_BYTES;
        status = source->read(source->ctx, at, piece, bytes, err);
        if (status == SL_OK)
            (void)XXH3_64bits_update(state, piece, bytes);
    }
    for (size_t i = 0; i < sl_gguf_tensor_count(file) && status == SL_OK; i++) {
        if (sl_gguf_tensor_at(file, i) != table)
            (void)XXH3_64bits_update(state, &checksums[i], sizeof(checksums[i]));
    }
    if (status == SL_OK)
        *out = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(piece);
    return status;
}

static sl_status load_checksums(sl_packed *p, const sl_packed_source *source, sl_error *err)
{
    const sl_gguf_tensor *table;
    uint64_t self;
    SL_TRY(find_section(p, "sluice.checksums", SL_TYPE_I64, sl_gguf_tensor_count(p->file), 0, &table, err));
    p->checksums = malloc((size_t)table->bytes);
    if (!p->checksums)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for %llu bytes of checksums", sl_gguf_path(p->file),
                       (unsigned long long)table->bytes);
    SL_TRY(source->read(source->ctx, table->offset, p->checksums, (size_t)table->bytes, err));
    SL_TRY(sli_packed_self_checksum(p->file, source, p->checksums, &self, err));
    if (self != sl_packed_checksum(p, table))
        return sl_fail(err, SL_FORMAT, "%s: the header or its checksums are damaged: they are not what was written", sl_gguf_path(p->file));
    return SL_OK;
}

uint64_t sl_packed_checksum(const sl_packed *p, const sl_gguf_tensor *tensor)
{
    return p->checksums[tensor - sl_gguf_tensor_at(p->file, 0)];
}

/* ---- P2: the original ---- */

static sl_status load_original(sl_packed *p, const sl_packed_source *source, uint64_t original_bytes, sl_error *err)
{
    const char *path = sl_gguf_path(p->file);
    const sl_gguf_tensor *section;
    SL_TRY(find_section(p, "sluice.original", SL_TYPE_I8, 0, 0, &section, err));
    if (section->bytes > original_bytes)
        return sl_fail(err, SL_FORMAT, "%s: section \"sluice.original\" has %llu bytes, more than the whole original's %llu", path,
                       (unsigned long long)section->bytes, (unsigned long long)original_bytes);
    uint8_t *bytes = malloc((size_t)section->bytes);
    if (!bytes)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for the original's header (%llu bytes)", path, (unsigned long long)section->bytes);
    sl_status status = load(p, source, section, bytes, err);
    if (status == SL_OK)
        status = sl_gguf_parse(path, bytes, (size_t)section->bytes, original_bytes, &p->original, err);
    free(bytes);
    SL_TRY(status);
    if (sl_gguf_data_offset(p->original) != section->bytes)
        return sl_fail(err, SL_FORMAT, "%s: section \"sluice.original\" has %llu bytes, but the original's data begins at %llu", path,
                       (unsigned long long)section->bytes, (unsigned long long)sl_gguf_data_offset(p->original));
    uint64_t padding = sli_packed_padding_bytes(p->original);
    if (padding > 0)
        return find_section(p, "sluice.padding", SL_TYPE_I8, padding, 0, &section, err);
    return SL_OK;
}

/* ---- P4: layers ---- */

static sl_status check_order(const sl_packed *p, const char *name, const uint32_t *order, uint32_t count, sl_error *err)
{
    uint8_t *seen = calloc(1, count / 8 + 1);
    if (!seen)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to check an order of %u neurons", sl_gguf_path(p->file), count);
    uint32_t place = 0;
    for (; place < count; place++) {
        uint32_t neuron = order[place];
        if (neuron >= count || (seen[neuron / 8] >> neuron % 8 & 1) != 0)
            break;
        seen[neuron / 8] = (uint8_t)(seen[neuron / 8] | 1u << neuron % 8);
    }
    free(seen);
    if (place < count)
        return sl_fail(err, SL_FORMAT, "%s: section \"%s\" has neuron %u at place %u, which %s: not a permutation of %u",
                       sl_gguf_path(p->file), name, order[place], place, order[place] < count ? "has a place already" : "does not exist",
                       count);
    return SL_OK;
}

/* Size, offsets and order of a bundled layer, whose column has column_bytes. */
static sl_status load_layer(sl_packed *p, const sl_packed_source *source, uint32_t index, sl_packed_layer *layer, sl_error *err)
{
    char name[48];
    const sl_gguf_tensor *t;
    layer->stride = (sl_packed_bundle_bytes(layer) + p->alignment - 1) / p->alignment * p->alignment;
    snprintf(name, sizeof(name), "blk.%u.ffn.bundles", index);
    SL_TRY(find_section(p, name, SL_TYPE_I8, layer->stride, layer->stored, &t, err));
    layer->bundles_offset = t->offset;
    snprintf(name, sizeof(name), "blk.%u.ffn.silent", index);
    if (layer->stored < layer->ff) {
        SL_TRY(find_section(p, name, SL_TYPE_I8, sl_packed_silent_bytes(layer), 0, &t, err));
        layer->silent_offset = t->offset;
    }
    snprintf(name, sizeof(name), "blk.%u.ffn.meta", index);
    if (sl_gguf_find_tensor(p->file, name)) {
        SL_TRY(find_section(p, name, SL_TYPE_I8, 0, 0, &t, err));
        layer->meta_offset = t->offset;
        layer->meta_bytes = t->bytes;
    }
    snprintf(name, sizeof(name), "blk.%u.ffn.order", index);
    SL_TRY(find_section(p, name, SL_TYPE_I32, layer->ff, 0, &t, err));
    layer->order_offset = t->offset;
    uint32_t *order = p->orders + p->order_count;
    SL_TRY(load(p, source, t, order, err));
    SL_TRY(check_order(p, name, order, layer->ff, err));
    layer->order = order;
    layer->bundled = true;
    p->order_count += layer->ff;
    return SL_OK;
}

/* An array of `each` numbers for each layer. */
static sl_status find_numbers(const sl_packed *p, const char *key, uint32_t each, const sl_gguf_value **out, sl_error *err)
{
    const sl_gguf_value *v = sl_gguf_find(p->file, key);
    if (!v || v->kind != SL_GGUF_ARRAY || v->element_kind != SL_GGUF_I32 || v->count != (uint64_t)p->layer_count * each)
        return sl_fail(err, SL_FORMAT, "%s: key \"%s\" is not an array of %u i32 for each of %u layers", sl_gguf_path(p->file), key, each,
                       p->layer_count);
    *out = v;
    return SL_OK;
}

static int32_t number_at(const sl_gguf_value *v, size_t index)
{
    int32_t number;
    memcpy(&number, v->data + index * sizeof(number), sizeof(number));
    return number;
}

/* What is left out of a layer's bundles (version 2); neurons and bytes are NULL in version 1. */
static sl_status describe_stored(const sl_packed *p, uint32_t index, const sl_gguf_value *neurons, const sl_gguf_value *bytes,
                                 sl_packed_layer *layer, sl_error *err)
{
    layer->stored = layer->ff;
    for (int part = 0; part < SL_PACK_PARTS; part++)
        layer->stored_bytes[part] = sl_packed_plain_bytes(layer, part);
    if (!neurons)
        return SL_OK;
    int32_t stored = number_at(neurons, index);
    if (stored < 1 || (uint32_t)stored > layer->ff)
        return sl_fail(err, SL_FORMAT, "%s: key \"sluice.pack.stored_neurons\" is %d for layer %u, want 1..%u", sl_gguf_path(p->file),
                       stored, index, layer->ff);
    layer->stored = (uint32_t)stored;
    for (size_t part = 0; part < SL_PACK_PARTS; part++) {
        int32_t size = number_at(bytes, index * SL_PACK_PARTS + part);
        if (size < 1 || (uint32_t)size > layer->stored_bytes[part])
            return sl_fail(err, SL_FORMAT, "%s: key \"sluice.pack.stored_bytes\" is %d for part %zu of layer %u, want 1..%u",
                           sl_gguf_path(p->file), size, part, index, layer->stored_bytes[part]);
        layer->stored_bytes[part] = (uint32_t)size;
    }
    return SL_OK;
}

/* What the keys say about the layers, held against the original; how many neurons and how many bundles there are in all. */
static sl_status describe_layers(sl_packed *p, uint64_t *neurons, uint64_t *bundles, sl_error *err)
{
    const char *path = sl_gguf_path(p->file);
    const sl_gguf_value *columns, *stored_neurons = NULL, *stored_bytes = NULL;
    p->layer_count = sli_packed_count_layers(p->original);
    p->layers = calloc(p->layer_count + (size_t)1, sizeof(*p->layers));
    if (!p->layers)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for %u layers", path, p->layer_count);
    SL_TRY(find_numbers(p, "sluice.pack.column_bytes", 1, &columns, err));
    if (p->version > 1) {
        SL_TRY(find_numbers(p, "sluice.pack.stored_neurons", 1, &stored_neurons, err));
        SL_TRY(find_numbers(p, "sluice.pack.stored_bytes", SL_PACK_PARTS, &stored_bytes, err));
    }
    for (uint32_t i = 0; i < p->layer_count; i++) {
        sl_packed_layer *layer = &p->layers[i];
        int32_t bytes = number_at(columns, i);
        if (bytes == 0)
            continue;
        if (bytes < 0 || bytes > INT32_MAX / 4)
            return sl_fail(err, SL_FORMAT, "%s: key \"sluice.pack.column_bytes\" is %d for layer %u, want 0..%d", path, bytes, i,
                           INT32_MAX / 4);
        if (!sli_packed_layer_of(p->original, i, layer, NULL))
            return sl_fail(err, SL_FORMAT, "%s: layer %u is said to be cut, but the original has no such matrices", path, i);
        layer->column_bytes = (uint32_t)bytes;
        SL_TRY(describe_stored(p, i, stored_neurons, stored_bytes, layer, err));
        *neurons += layer->ff;
        *bundles += layer->stored;
    }
    return SL_OK;
}

static sl_status load_layers(sl_packed *p, const sl_packed_source *source, sl_error *err)
{
    uint64_t neurons = 0, bundles = 0, bytes = sl_gguf_file_bytes(p->file);
    SL_TRY(describe_layers(p, &neurons, &bundles, err));
    /* No bundle is smaller, and each neuron has a place in an order: the memory follows the file's size. */
    if (bundles > bytes / SL_PACK_STRIDE || neurons > bytes / sizeof(*p->orders))
        return sl_fail(err, SL_FORMAT, "%s: claims %llu neurons, %llu of them stored, more than fit a file of %llu bytes",
                       sl_gguf_path(p->file), (unsigned long long)neurons, (unsigned long long)bundles, (unsigned long long)bytes);
    p->orders = malloc((size_t)(neurons ? neurons : 1) * sizeof(*p->orders));
    if (!p->orders)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for the order of %llu neurons", sl_gguf_path(p->file),
                       (unsigned long long)neurons);
    for (uint32_t i = 0; i < p->layer_count; i++) {
        if (p->layers[i].column_bytes > 0)
            SL_TRY(load_layer(p, source, i, &p->layers[i], err));
    }
    return SL_OK;
}

/* ---- P3: every tensor in exactly one place ---- */

static size_t index_of(const sl_packed *p, const sl_gguf_tensor *original)
{
    return (size_t)(original - sl_gguf_tensor_at(p->original, 0));
}

static bool same_shape(const sl_gguf_tensor *a, const sl_gguf_tensor *b)
{
    return a->type == b->type && a->dims == b->dims && memcmp(a->shape, b->shape, sizeof(a->shape)) == 0;
}

static sl_status locate_all(sl_packed *p, sl_error *err)
{
    const char *path = sl_gguf_path(p->file);
    size_t count = sl_gguf_tensor_count(p->original);
    p->locations = calloc(count + 1, sizeof(*p->locations));
    if (!p->locations)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to locate %zu tensors", path, count);
    for (uint32_t i = 0; i < p->layer_count; i++) {
        const sl_gguf_tensor *matrices[3];
        sl_packed_layer ignored;
        if (!p->layers[i].bundled || !sli_packed_layer_of(p->original, i, &ignored, matrices))
            continue;
        for (int m = 0; m < 3; m++)
            p->locations[index_of(p, matrices[m])] = UINT64_MAX;
    }
    for (size_t i = 0; i < count; i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(p->original, i), *plain = sl_gguf_find_tensor_named(p->file, t->name);
        int length = t->name.length < 80 ? (int)t->name.length : 80;
        if (p->locations[i] == UINT64_MAX)
            continue;
        if (!plain)
            return sl_fail(err, SL_FORMAT, "%s: section \"%.*s\" is missing: not a whole packed file", path, length, t->name.data);
        if (!same_shape(plain, t))
            return sl_fail(err, SL_FORMAT, "%s: section \"%.*s\" is not of the original's type and shape", path, length, t->name.data);
        p->locations[i] = plain->offset;
        p->sections++;
    }
    return SL_OK;
}

/* Names are unique, and each section found was counted once: what is over is calibration, or does not belong here. */
static sl_status check_nothing_else(const sl_packed *p, sl_error *err)
{
    size_t calibration = 0, all = sl_gguf_tensor_count(p->file);
    for (size_t i = 0; i < all; i++)
        calibration += sli_packed_is_calibration(sl_gguf_tensor_at(p->file, i)->name);
    if (p->sections + calibration != all)
        return sl_fail(err, SL_FORMAT, "%s: has %zu sections, but %zu are what the original and its calibration need",
                       sl_gguf_path(p->file), all, p->sections + calibration);
    return SL_OK;
}

/* ---- open and close ---- */

static sl_status read_packed(sl_packed *p, const sl_packed_source *source, sl_error *err)
{
    uint64_t original_bytes;
    SL_TRY(check_keys(p, &original_bytes, err));
    SL_TRY(load_checksums(p, source, err));
    SL_TRY(load_original(p, source, original_bytes, err));
    SL_TRY(load_layers(p, source, err));
    SL_TRY(locate_all(p, err));
    return check_nothing_else(p, err);
}

sl_status sl_packed_open_from(const sl_gguf *file, const sl_packed_source *source, sl_packed **out, sl_error *err)
{
    *out = NULL;
    sl_packed *p = calloc(1, sizeof(*p));
    if (!p)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory to open it", sl_gguf_path(file));
    p->file = file;
    sl_status status = read_packed(p, source, err);
    if (status != SL_OK) {
        sl_packed_close(p);
        return status;
    }
    *out = p;
    return SL_OK;
}

typedef struct opened_file {
    int fd;
    const char *path;
} opened_file;

static sl_status read_file(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    const opened_file *file = ctx;
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(file->fd, (uint8_t *)to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return sl_fail(err, SL_IO, "%s: cannot read at byte %llu: %s", file->path, (unsigned long long)(offset + done),
                           got < 0 ? strerror(errno) : "it ended while it was being read");
        done += (size_t)got;
    }
    return SL_OK;
}

sl_status sl_packed_open(const sl_gguf *file, sl_packed **out, sl_error *err)
{
    *out = NULL;
    opened_file opened = {open(sl_gguf_path(file), O_RDONLY | O_CLOEXEC | O_NONBLOCK), sl_gguf_path(file)};
    if (opened.fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot open it: %s", opened.path, strerror(errno));
    (void)posix_fadvise(opened.fd, 0, 0, POSIX_FADV_RANDOM); /* no read-ahead into data that nobody asked for */
    sl_status status = sl_packed_open_from(file, &(sl_packed_source){read_file, &opened}, out, err);
    (void)posix_fadvise(opened.fd, 0, 0, POSIX_FADV_DONTNEED);
    close(opened.fd);
    return status;
}

void sl_packed_close(sl_packed *p)
{
    if (!p)
        return;
    sl_gguf_close(p->original);
    free(p->layers);
    free(p->orders);
    free(p->locations);
    free(p->checksums);
    free(p);
}

size_t sl_packed_heap_bytes(const sl_packed *p)
{
    return sizeof(*p) + sl_gguf_heap_bytes(p->original) + sl_gguf_tensor_count(p->file) * sizeof(*p->checksums) +
           (sl_gguf_tensor_count(p->original) + 1) * sizeof(*p->locations) + p->order_count * sizeof(*p->orders) +
           (p->layer_count + (size_t)1) * sizeof(*p->layers);
}

/* ---- what it holds ---- */

uint32_t sl_packed_version(const sl_packed *p)
{
    return p->version;
}
const sl_gguf *sl_packed_file(const sl_packed *p)
{
    return p->file;
}
const sl_gguf *sl_packed_original(const sl_packed *p)
{
    return p->original;
}
uint32_t sl_packed_layer_count(const sl_packed *p)
{
    return p->layer_count;
}

uint64_t sl_packed_locate(const sl_packed *p, const sl_gguf_tensor *original)
{
    return p->locations[index_of(p, original)];
}

const sl_packed_layer *sl_packed_layer_at(const sl_packed *p, uint32_t layer)
{
    return layer < p->layer_count ? &p->layers[layer] : NULL;
}

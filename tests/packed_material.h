/* tests/packed_material.h: small files to pack, of any types, with everything odd that a stock file may have. Same description, same bytes. */
#ifndef SL_TESTS_PACKED_MATERIAL_H
#define SL_TESTS_PACKED_MATERIAL_H

#include "core/gguf_write.h"
#include "offload/tools/tool.h"
#include "pager/packed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MATERIAL_LAYERS 3

typedef struct material {
    uint32_t d, ff;
    uint32_t gate[MATERIAL_LAYERS], up[MATERIAL_LAYERS], down[MATERIAL_LAYERS]; /* types */
    uint32_t alignment;
    uint32_t trailing_bytes; /* behind the last tensor */
    bool version_2;
    bool no_gate; /* in layer 0 */
    bool pruned;  /* material_prune */
    bool empty;   /* and nothing is left */
    uint64_t seed;
} material;

static inline void material_check(sl_status status, const sl_error *err)
{
    if (status == SL_OK)
        return;
    fprintf(stderr, "material: %s\n", err->message);
    abort();
}

static inline void material_declare(sl_gguf_writer *w, const material *m)
{
    sl_error err = {0};
    char name[64];
    material_check(sl_gguf_write_str(w, "general.architecture", "odd", &err), &err);
    material_check(sl_gguf_write_tensor(w, "token_embd.weight", SL_TYPE_F32, (uint64_t[]){m->d, 5}, 2, &err), &err);
    for (uint32_t i = 0; i < MATERIAL_LAYERS; i++) {
        snprintf(name, sizeof name, "blk.%u.attn_norm.weight", i);
        material_check(sl_gguf_write_tensor(w, name, SL_TYPE_F32, (uint64_t[]){3}, 1, &err), &err);
        /* down before gate and up, as some converters sort them */
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", i);
        material_check(sl_gguf_write_tensor(w, name, m->down[i], (uint64_t[]){m->ff, m->d}, 2, &err), &err);
        snprintf(name, sizeof name, "blk.%u.ffn_gate.weight", i);
        if (i > 0 || !m->no_gate)
            material_check(sl_gguf_write_tensor(w, name, m->gate[i], (uint64_t[]){m->d, m->ff}, 2, &err), &err);
        snprintf(name, sizeof name, "blk.%u.ffn_up.weight", i);
        material_check(sl_gguf_write_tensor(w, name, m->up[i], (uint64_t[]){m->d, m->ff}, 2, &err), &err);
    }
}

/* Changes and appends what the writer would not: version, gaps that are not zero, bytes behind the end. */
static inline void material_make_odd(const char *path, const material *m)
{
    sl_error err = {0};
    sl_gguf *g;
    int fd = open(path, O_RDWR);
    struct stat st;
    material_check(sl_gguf_open(path, &g, &err), &err);
    if (fd < 0 || fstat(fd, &st) != 0)
        abort();
    bool done = true;
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        uint64_t end = t->offset + t->bytes;
        if (end % m->alignment != 0)
            done &= pwrite(fd, "!", 1, (off_t)end) == 1;
    }
    for (uint32_t i = 0; i < m->trailing_bytes; i++)
        done &= pwrite(fd, &(uint8_t){(uint8_t)(i * 7 + 1)}, 1, st.st_size + (off_t)i) == 1;
    if (m->version_2)
        done &= pwrite(fd, &(uint32_t){2}, 4, 4) == 4;
    if (!done)
        abort();
    close(fd);
    sl_gguf_close(g);
}

/* Of F16 and Q8_0 matrices of feed-forwards three of four elements become zero, and of every fourth neuron all, gate's and up's scales too. */
static inline void material_prune(const material *m, const sl_gguf_tensor *t, uint8_t *data)
{
    bool down = memmem(t->name.data, t->name.length, "ffn_down", 8) != NULL, quantized = t->type == SL_TYPE_Q8_0;
    if (!memmem(t->name.data, t->name.length, "ffn_", 4) || (!quantized && t->type != SL_TYPE_F16))
        return;
    size_t row_bytes = (size_t)(t->bytes / t->shape[1]);
    if (m->empty)
        memset(data, 0, (size_t)t->bytes);
    for (size_t row = 0; row < t->shape[1]; row++) {
        uint8_t *at = data + row * row_bytes;
        for (size_t c = 0; c < t->shape[0]; c++)
            if ((row + c) % 4 != 0 || (down ? c : row) % 4 == 3)
                memset(at + (quantized ? c / 32 * 34 + 2 + c % 32 : 2 * c), 0, quantized ? 1 : 2);
        if (!down && row % 4 == 3)
            memset(at, 0, row_bytes);
    }
}

static inline void material_write(const char *path, const material *m)
{
    sl_error err = {0};
    sl_gguf_writer *w;
    uint64_t state = m->seed;
    material_check(sl_gguf_writer_create(path, m->alignment, &w, &err), &err);
    material_declare(w, m);
    material_check(sl_gguf_writer_begin_data(w, &err), &err);
    const sl_gguf *header = sl_gguf_writer_header(w);
    for (size_t i = 0; i < sl_gguf_tensor_count(header); i++) {
        size_t bytes = (size_t)sl_gguf_tensor_at(header, i)->bytes;
        uint8_t *data = malloc(bytes);
        if (!data)
            abort();
        for (size_t b = 0; b < bytes; b++)
            data[b] = (uint8_t)(sli_random_next(&state) >> 56);
        if (m->pruned)
            material_prune(m, sl_gguf_tensor_at(header, i), data);
        material_check(sl_gguf_writer_data(w, data, bytes, &err), &err);
        free(data);
    }
    material_check(sl_gguf_writer_finish(w, &err), &err);
    material_make_odd(path, m);
}

/* Three layers of one type each. */
static inline material material_of(uint32_t d, uint32_t ff, uint32_t gate, uint32_t up, uint32_t down)
{
    material m = {.d = d, .ff = ff, .alignment = 32, .seed = 1};
    for (int i = 0; i < MATERIAL_LAYERS; i++) {
        m.gate[i] = gate;
        m.up[i] = up;
        m.down[i] = down;
    }
    return m;
}

/* ---- whole files in memory ---- */

typedef struct blob {
    uint8_t *data;
    size_t bytes;
} blob;

static inline blob blob_read(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        abort();
    blob b = {malloc((size_t)st.st_size + 1), (size_t)st.st_size};
    if (!b.data || pread(fd, b.data, b.bytes, 0) != (ssize_t)b.bytes)
        abort();
    close(fd);
    return b;
}

static inline blob blob_copy(const blob *from)
{
    blob b = {malloc(from->bytes + 1), from->bytes};
    if (!b.data)
        abort();
    memcpy(b.data, from->data, b.bytes);
    return b;
}

static inline void blob_write(const char *path, const blob *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || pwrite(fd, b->data, b->bytes, 0) != (ssize_t)b->bytes)
        abort();
    close(fd);
}

static inline sl_status blob_source(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    const blob *b = ctx;
    if (offset > b->bytes || bytes > b->bytes - offset)
        return sl_fail(err, SL_IO, "blob: %zu bytes at %llu of %zu", bytes, (unsigned long long)offset, b->bytes);
    memcpy(to, b->data + offset, bytes);
    return SL_OK;
}

/* Makes all checksums right again after a change, so that what lies behind them is reached. Does nothing where there is no table. */
static inline void blob_seal(blob *b)
{
    sl_gguf *g;
    sl_error err;
    if (sl_gguf_parse("seal", b->data, b->bytes, b->bytes, &g, &err) != SL_OK)
        return;
    const sl_gguf_tensor *table = sl_gguf_find_tensor(g, "sluice.checksums");
    size_t count = sl_gguf_tensor_count(g);
    if (table && table->bytes == count * 8) {
        uint64_t self = 0, *sums = calloc(count, 8);
        if (!sums)
            abort();
        for (size_t i = 0; i < count; i++) {
            const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
            sums[i] = XXH3_64bits(b->data + t->offset, (size_t)t->bytes);
        }
        if (sli_packed_self_checksum(g, &(sl_packed_source){blob_source, b}, sums, &self, &err) == SL_OK) {
            sums[table - sl_gguf_tensor_at(g, 0)] = self;
            memcpy(b->data + table->offset, sums, count * 8);
        }
        free(sums);
    }
    sl_gguf_close(g);
}

#endif

/* offload/tools/pack_source.c: streaming, with the page cache dropped behind it. */
#include "offload/tools/pack_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE_BYTES ((uint64_t)1 << 20)

sl_status sli_pack_source_open(const char *path, sli_pack_source *out, sl_error *err)
{
    *out = (sli_pack_source){.fd = -1};
    SL_TRY(sl_gguf_open(path, &out->file, err));
    SL_TRY(sl_gguf_check_single(out->file, "pack", err));
    out->original = out->file;
    if (sl_packed_is(out->file)) {
        SL_TRY(sl_packed_open(out->file, &out->packed, err));
        out->original = sl_packed_original(out->packed);
    }
    out->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (out->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot open it: %s", path, strerror(errno));
    (void)posix_fadvise(out->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return SL_OK;
}

void sli_pack_source_close(sli_pack_source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    free(source->piece);
    sl_packed_close(source->packed);
    sl_gguf_close(source->file);
}

static sl_status read_exactly(const sli_pack_source *s, uint8_t *to, size_t bytes, uint64_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(s->fd, to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return sl_fail(err, SL_IO, "%s: cannot read at byte %llu: %s", sl_gguf_path(s->file), (unsigned long long)(offset + done),
                           got < 0 ? strerror(errno) : "it ended while it was being read");
        done += (size_t)got;
    }
    return SL_OK;
}

/* As sli_pack_stream; adds what was read to `hash` where one is given. */
static sl_status stream(sli_pack_source *s, uint64_t offset, uint64_t bytes, uint64_t unit, XXH3_state_t *hash, sli_pack_sink sink,
                        void *ctx, sl_error *err)
{
    uint64_t most = unit < PIECE_BYTES ? PIECE_BYTES / unit * unit : unit;
    if (most > s->piece_bytes) {
        free(s->piece);
        s->piece_bytes = 0;
        s->piece = malloc((size_t)most);
        if (!s->piece)
            return sl_fail(err, SL_NO_MEMORY, "%s: no memory to read %llu bytes at once", sl_gguf_path(s->file), (unsigned long long)most);
        s->piece_bytes = (size_t)most;
    }
    for (uint64_t done = 0; done < bytes;) {
        size_t piece = bytes - done < most ? (size_t)(bytes - done) : (size_t)most;
        SL_TRY(read_exactly(s, s->piece, piece, offset + done, err));
        if (hash)
            (void)XXH3_64bits_update(hash, s->piece, piece);
        SL_TRY(sink(ctx, s->piece, piece, err));
        done += piece;
    }
    (void)posix_fadvise(s->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    return SL_OK;
}

sl_status sli_pack_stream(sli_pack_source *s, uint64_t offset, uint64_t bytes, uint64_t unit, sli_pack_sink sink, void *ctx, sl_error *err)
{
    return stream(s, offset, bytes, unit, NULL, sink, ctx, err);
}

sl_status sli_pack_stream_section(sli_pack_source *s, const sl_gguf_tensor *section, uint64_t unit, sli_pack_sink sink, void *ctx,
                                  sl_error *err)
{
    XXH3_state_t *hash = XXH3_createState();
    if (!hash || XXH3_64bits_reset(hash) != XXH_OK) {
        XXH3_freeState(hash);
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for a checksum", sl_gguf_path(s->file));
    }
    sl_status status = stream(s, section->offset, section->bytes, unit, hash, sink, ctx, err);
    if (status == SL_OK && XXH3_64bits_digest(hash) != sl_packed_checksum(s->packed, section))
        status = sl_fail(err, SL_FORMAT, "%s: section \"%.*s\" is damaged: its checksum is not the one that was written",
                         sl_gguf_path(s->file), section->name.length < 80 ? (int)section->name.length : 80, section->name.data);
    XXH3_freeState(hash);
    return status;
}

sl_status sli_pack_stream_header(sli_pack_source *s, sli_pack_sink sink, void *ctx, sl_error *err)
{
    if (s->packed)
        return sli_pack_stream_section(s, sl_gguf_find_tensor(s->file, "sluice.original"), 1, sink, ctx, err);
    return sli_pack_stream(s, 0, sl_gguf_data_offset(s->file), 1, sink, ctx, err);
}

typedef struct gap_stream {
    sli_pack_source *source;
    sli_pack_sink sink;
    void *ctx;
} gap_stream;

static sl_status stream_gap(void *ctx, uint64_t offset, uint64_t bytes, sl_error *err)
{
    const gap_stream *g = ctx;
    return sli_pack_stream(g->source, offset, bytes, 1, g->sink, g->ctx, err);
}

sl_status sli_pack_stream_padding(sli_pack_source *s, sli_pack_sink sink, void *ctx, sl_error *err)
{
    if (s->packed)
        return sli_pack_stream_section(s, sl_gguf_find_tensor(s->file, "sluice.padding"), 1, sink, ctx, err);
    gap_stream gaps = {s, sink, ctx};
    return sli_packed_each_gap(s->original, stream_gap, &gaps, err);
}

sl_status sli_pack_stream_tensor(sli_pack_source *s, const sl_gguf_tensor *original, sli_pack_sink sink, void *ctx, sl_error *err)
{
    if (s->packed)
        return sli_pack_stream_section(s, sl_gguf_find_tensor_named(s->file, original->name), 1, sink, ctx, err);
    return sli_pack_stream(s, original->offset, original->bytes, 1, sink, ctx, err);
}

const sl_gguf_tensor *sli_pack_layer_section(const sl_gguf *file, uint32_t layer, const char *what)
{
    char name[64];
    snprintf(name, sizeof(name), "blk.%u.ffn.%s", layer, what);
    return sl_gguf_find_tensor(file, name);
}

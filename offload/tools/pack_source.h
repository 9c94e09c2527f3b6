/* offload/tools/pack_source.h: the original's bytes, from a stock file or from a packed one.
 *
 * What is read from a packed file is held against its checksum, so that damage cannot be packed anew under a good one. */
#ifndef SL_OFFLOAD_TOOLS_PACK_SOURCE_H
#define SL_OFFLOAD_TOOLS_PACK_SOURCE_H

#include "pager/packed.h"

typedef struct sli_pack_source {
    int fd;
    sl_gguf *file;
    sl_packed *packed; /* NULL: a stock file */
    const sl_gguf *original;
    uint8_t *piece; /* the one buffer that all reading goes through */
    size_t piece_bytes;
} sli_pack_source;

/* Takes the next piece of what is streamed. */
typedef sl_status (*sli_pack_sink)(void *ctx, const uint8_t *data, size_t bytes, sl_error *err);

/* On failure too, close undoes it. */
SL_MUST_USE sl_status sli_pack_source_open(const char *path, sli_pack_source *out, sl_error *err);
void sli_pack_source_close(sli_pack_source *source);

/* Streams a range of the file in pieces of about 1 MiB, each a multiple of `unit` bytes but for the last. */
SL_MUST_USE sl_status sli_pack_stream(sli_pack_source *source, uint64_t offset, uint64_t bytes, uint64_t unit, sli_pack_sink sink,
                                      void *ctx, sl_error *err);
/* A section of a packed file, checked at its end. */
SL_MUST_USE sl_status sli_pack_stream_section(sli_pack_source *source, const sl_gguf_tensor *section, uint64_t unit, sli_pack_sink sink,
                                              void *ctx, sl_error *err);
/* The original's header, the bytes that no tensor has, and a tensor that is not cut. */
SL_MUST_USE sl_status sli_pack_stream_header(sli_pack_source *source, sli_pack_sink sink, void *ctx, sl_error *err);
SL_MUST_USE sl_status sli_pack_stream_padding(sli_pack_source *source, sli_pack_sink sink, void *ctx, sl_error *err);
SL_MUST_USE sl_status sli_pack_stream_tensor(sli_pack_source *source, const sl_gguf_tensor *original, sli_pack_sink sink, void *ctx,
                                             sl_error *err);
/* A section "blk.N.ffn.WHAT"; NULL when there is none. */
const sl_gguf_tensor *sli_pack_layer_section(const sl_gguf *file, uint32_t layer, const char *what);

#endif

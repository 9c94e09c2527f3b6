/* offload/tools/tool.h: how a tool that writes a model talks to whoever started it. */
#ifndef SL_OFFLOAD_TOOLS_TOOL_H
#define SL_OFFLOAD_TOOLS_TOOL_H

#include "core/format.h"
#include "core/gguf_write.h"

/* Zero-initialised it is silent and runs to the end. */
typedef struct sl_tool_watch {
    /* Called now and then with bytes of tensor data; false stops the tool with SL_INTERRUPTED and leaves no file. */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    /* Called for what the user should be told; one line without newline. */
    void (*note)(void *ctx, const char *line);
    void *ctx;
} sl_tool_watch;

/* Progress is told every so many bytes: often enough for Ctrl-C to feel immediate, seldom enough to cost nothing. */
#define SLI_TOOL_STEP_BYTES ((uint64_t)4 << 20)

/* What general.file_type says for a model whose matrices are mostly of `type`; false where GGUF has no number for it. */
bool sli_file_type_of(uint32_t type, uint32_t *out);

/* Passes `bytes` on to the writer and tells the watch, at each step, how far the data is. */
typedef struct sli_tool_output {
    sl_gguf_writer *writer;
    const sl_tool_watch *watch;
    uint64_t done_bytes, told_bytes, total_bytes;
} sli_tool_output;
SL_MUST_USE sl_status sli_tool_put(sli_tool_output *output, const void *data, size_t bytes, sl_error *err);

/* Counter-based random numbers: the same state gives the same stream on every machine, and any row of any tensor can be made alone. */
static inline uint64_t sli_random_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The next number of the stream (splitmix64). */
static inline uint64_t sli_random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return sli_random_mix(*state);
}

/* The start of the stream that belongs to a row of a tensor. */
static inline uint64_t sli_random_row(uint64_t seed, uint64_t tensor, uint64_t row)
{
    return sli_random_mix(sli_random_mix(sli_random_mix(seed + 0x632be59bd9b4e019u) ^ tensor) ^ row);
}

#endif

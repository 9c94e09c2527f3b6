/* offload/tools/synth.h: a valid model of random weights, of any size, without a download.
 *
 * The file has everything that a real one has (hyper-parameters, a byte-level BPE vocabulary with special tokens, a chat template), so
 * that every command runs on it; what it says is noise. Weights are scaled so that activations neither vanish nor overflow. Same shape,
 * type and seed, same bytes.  Threads: one call, one thread. */
#ifndef SL_OFFLOAD_TOOLS_SYNTH_H
#define SL_OFFLOAD_TOOLS_SYNTH_H

#include "offload/tools/tool.h"

typedef struct sl_synth_shape {
    const char *name, *arch;
    uint32_t layers, d, ff, heads, kv_heads, vocab, context;
    float rope_base, epsilon;
    bool tied; /* the embedding is the head, too */
} sl_synth_shape;

/* The table of shapes, for help texts: NULL behind the last. */
const sl_synth_shape *sl_synth_shape_at(size_t index);

typedef struct sl_synth_options {
    const char *shape;           /* "tiny", "llama-7b", "opt-6.7b", ... */
    const sl_synth_shape *given; /* or this one */
    bool hollow; /* the file has its size and all weights are zero: nothing is written, for those who only ask how long moving them takes */
    const char *path; /* written; an existing file is replaced when all is done */
    uint32_t type;    /* of all matrices; norms are F32 */
    uint64_t seed;
    sl_tool_watch watch;
} sl_synth_options;

/* SL_INVALID (unknown shape or type; the message lists the known ones), SL_IO, SL_NO_MEMORY, SL_INTERRUPTED. */
SL_MUST_USE sl_status sl_synth(const sl_synth_options *options, sl_error *err);

#endif

/* offload/tools/synth_vocabulary.h: the tokenizer that synthetic models carry. */
#ifndef SL_OFFLOAD_TOOLS_SYNTH_VOCABULARY_H
#define SL_OFFLOAD_TOOLS_SYNTH_VOCABULARY_H

#include "core/gguf_write.h"

/* Special tokens, the 256 bytes and the merges need this many; the rest of a vocabulary is filler. */
#define SLI_SYNTH_VOCABULARY_MIN 384

/* Writes all tokenizer.* values for a vocabulary of `size` >= SLI_SYNTH_VOCABULARY_MIN tokens. */
SL_MUST_USE sl_status sli_synth_vocabulary(sl_gguf_writer *writer, uint32_t size, sl_error *err);

#endif

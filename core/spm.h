/* core/spm.h: merging the characters of a text into tokens, the highest score first: SentencePiece's vocabularies, as llama.cpp reads them.
 *
 * A space is U+2581. What is neither a token nor part of one becomes the tokens of its bytes, which a vocabulary must have.
 *
 * Memory: a scratch for pieces of up to SLI_SPM_SCRATCH characters; a longer piece takes SLI_SPM_BYTES_A_SYMBOL bytes per character while it
 * is merged, and a text its length, each space counting three. Scores stay where they are, in the GGUF's header. Threads: one encode at a
 * time. */
#ifndef SL_CORE_SPM_H
#define SL_CORE_SPM_H

#include "core/vocab.h"

#define SLI_SPM_SCRATCH        1024
#define SLI_SPM_BYTES_A_SYMBOL 36 /* a symbol and two entries of the queue */

typedef struct sli_spm sli_spm;

/* Reads tokenizer.ggml.scores; `vocab` and the GGUF must outlive this. */
SL_MUST_USE sl_status sli_spm_open(const sl_gguf *gguf, const sli_vocab *vocab, sli_spm **out, sl_error *err);
void sli_spm_close(sli_spm *spm); /* NULL is fine */
size_t sli_spm_heap_bytes(const sli_spm *spm);

/* Appends the tokens of a text, as if a space stood before it when `space_first`. Any bytes are taken. */
SL_MUST_USE sl_status sli_spm_encode(sli_spm *spm, const char *text, size_t length, bool space_first, sl_tokens *out, sl_error *err);

#endif

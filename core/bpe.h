/* core/bpe.h: merging the bytes of a piece into tokens, lowest rank first.
 *
 * Memory: 12 bytes a merge, 8 to 16 in the hash table, and a scratch for pieces of up to SLI_BPE_SCRATCH bytes; a longer piece takes
 * SLI_BPE_BYTES_A_SYMBOL bytes per byte of it while it is merged. Threads: one merge at a time. */
#ifndef SL_CORE_BPE_H
#define SL_CORE_BPE_H

#include "core/vocab.h"

#define SLI_BPE_SCRATCH        1024
#define SLI_BPE_BYTES_A_SYMBOL 28 /* a symbol and two entries of the queue */

typedef struct sli_bpe sli_bpe;

/* Reads tokenizer.ggml.merges; both halves of a merge and what it gives must be tokens of `vocab`, which must outlive this. */
SL_MUST_USE sl_status sli_bpe_open(const sl_gguf *gguf, const sli_vocab *vocab, sli_bpe **out, sl_error *err);
void sli_bpe_close(sli_bpe *bpe); /* NULL is fine */
size_t sli_bpe_heap_bytes(const sli_bpe *bpe);

/* Appends the tokens of one piece. A byte that the vocabulary has no token for is left out. O(n log n). */
SL_MUST_USE sl_status sli_bpe_encode(sli_bpe *bpe, const char *piece, size_t length, sl_tokens *out, sl_error *err);

#endif

/* core/special_tokens.h: tokens that are recognised in a text before anything else, and those that end a generation.
 *
 * Special tokens are cut out one after the other, the longest text first: each takes its occurrences, from left to right, in what the ones
 * before it have left of the text. Control and unknown tokens only when asked; user-defined ones always.
 *
 * Memory: one id a special token. Threads: immutable after open. */
#ifndef SL_CORE_SPECIAL_TOKENS_H
#define SL_CORE_SPECIAL_TOKENS_H

#include "core/vocab.h"

typedef struct sli_specials {
    sl_token *ids; /* longest text first, then by id */
    uint32_t count;
    sl_token *enders; /* a handful, in no order */
    uint32_t ender_count, ender_capacity;
    bool strips; /* white space after a special token goes with it: phi-3 */
} sli_specials;

/* A stretch of a text: a token that was found there, or text that is still to be tokenised. */
typedef struct sli_fragment {
    size_t offset, length;
    sl_token token; /* SL_TOKEN_NONE: text */
} sli_fragment;

typedef struct sli_fragments { /* a growing list; start with {0} */
    sli_fragment *items;
    size_t count, capacity;
} sli_fragments;

/* Finds the special tokens; tokens whose text is a well-known marker become control tokens in `vocab` whatever the file says. */
SL_MUST_USE sl_status sli_specials_open(sli_specials *s, const sl_gguf *gguf, sli_vocab *vocab, sl_token eos, sl_error *err);
void sli_specials_close(sli_specials *s);
size_t sli_specials_heap_bytes(const sli_specials *s);
bool sli_specials_ends(const sli_specials *s, sl_token id);

/* Cuts `text`; the caller frees out->items, also after a failure. */
SL_MUST_USE sl_status sli_specials_cut(const sli_specials *s, const sli_vocab *vocab, const char *text, size_t length, bool control,
                                       sli_fragments *out, sl_error *err);

/* An optional token id: SL_TOKEN_NONE when the key is absent, SL_FORMAT when the id is no token's. */
SL_MUST_USE sl_status sli_special_id(const sl_gguf *gguf, const sli_vocab *vocab, const char *key, sl_token *out, sl_error *err);

#endif

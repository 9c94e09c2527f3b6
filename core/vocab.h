/* core/vocab.h: the tokens of a vocabulary: texts, bytes, kinds, and the way from a text to its id.
 *
 * Texts stay where they are, in the header buffer of the GGUF file, and are referred to by 32-bit offsets; the bytes that tokens stand for
 * are decoded once, one after the other. Per token that is 4 + 4 + 1 bytes, its bytes, and 8 to 16 in the hash table.
 *
 * Invariants
 *  V1  texts are unique, so text and id determine each other.
 *  V2  slots is an open-addressing table at most half full; an empty slot is UINT32_MAX.
 *
 * Memory: owned, except for the texts (the GGUF must outlive this). Threads: immutable after open. */
#ifndef SL_CORE_VOCAB_H
#define SL_CORE_VOCAB_H

#include "core/tokenizer.h"

/* tokenizer.ggml.token_type */
typedef enum sli_token_kind {
    SLI_TOKEN_UNDEFINED = 0,
    SLI_TOKEN_NORMAL = 1,
    SLI_TOKEN_UNKNOWN = 2,
    SLI_TOKEN_CONTROL = 3,
    SLI_TOKEN_USER_DEFINED = 4,
    SLI_TOKEN_UNUSED = 5,
    SLI_TOKEN_BYTE = 6,
    SLI_TOKEN_KINDS
} sli_token_kind;

/* How the texts of normal tokens are written. */
typedef enum sli_spelling {
    SLI_SPELLED_BYTES,  /* each byte as a visible character, core/byte_unicode.h */
    SLI_SPELLED_SPACES, /* as they are, but a space is U+2581; other tokens stand for single bytes: <0x0A> */
} sli_spelling;

typedef struct sli_vocab {
    sli_spelling spelling;
    uint32_t size;
    uint32_t longest_text; /* bytes */
    const uint8_t *texts;  /* the GGUF array: u64 length + bytes, each at texts + text_at[id] */
    uint32_t *text_at;
    uint32_t *piece_at; /* size + 1 offsets into pieces */
    char *pieces;
    uint8_t *kinds; /* sli_token_kind */
    uint32_t *slots;
    uint32_t slot_mask;
    sl_token byte_token[256]; /* the token of a single byte, or SL_TOKEN_NONE */
    size_t heap_bytes;
} sli_vocab;

/* Fills *v, which the caller owns; on failure nothing is left to close. */
SL_MUST_USE sl_status sli_vocab_open(sli_vocab *v, const sl_gguf *gguf, sli_spelling spelling, sl_error *err);
void sli_vocab_close(sli_vocab *v);

sl_str sli_vocab_text(const sli_vocab *v, sl_token id);
sl_token sli_vocab_find(const sli_vocab *v, const char *text, size_t length);

/* The array `key` of strings; a missing or other one is SL_FORMAT with a message. */
SL_MUST_USE sl_status sli_string_array(const sl_gguf *gguf, const char *key, const sl_gguf_value **out, sl_error *err);
uint32_t sli_hash_bytes(const char *data, size_t length);
/* The power of two that keeps a table of `count` at most half full. */
uint32_t sli_table_slots(uint32_t count);

#endif

/* core/tokenizer.h: text to token ids and back, from the vocabulary in a GGUF file.
 *
 * Two kinds, by tokenizer.ggml.model. "gpt2": byte-level BPE with the pre-tokenizer that the file names; a pre-tokenizer is a row of a table
 * (name, PCRE2 patterns, flags), and each piece is merged by rank. "llama": SentencePiece's vocabularies (llama 2, mistral, phi-3, gemma);
 * characters are merged by score, a space goes before a text where the file asks for it. Ids and text follow llama.cpp's behaviour: special
 * tokens are cut out first, the longest first at equal positions.
 *
 * A byte that a byte-level vocabulary has no token for is left out, as llama.cpp does (SmolLM2 lacks 21: some control characters, 0xF1, 0xF2
 * and bytes that UTF-8 never uses); all else comes back exactly, except for the space before.
 *
 * Memory: tables sized at open (sl_tokenizer_heap_bytes, which includes PCRE2's); token texts stay in the GGUF's buffer, so the GGUF must
 * outlive the tokenizer. Encoding takes the list of tokens and, given back on return: 28 bytes per byte of the longest unbroken piece above
 * 1 KiB; of a SentencePiece vocabulary 36 per character of the longest piece without a space above 1024, and the text once more. Threads:
 * immutable after open, except that encode uses a scratch of its own: one encode at a time per tokenizer; decode is pure. */
#ifndef SL_CORE_TOKENIZER_H
#define SL_CORE_TOKENIZER_H

#include "core/gguf.h"

typedef int32_t sl_token;
#define SL_TOKEN_NONE (-1)
typedef struct sl_tokenizer sl_tokenizer;

typedef struct sl_tokens { /* a growing list; start with {0}, end with sl_tokens_free */
    sl_token *ids;
    size_t count, capacity;
} sl_tokens;
void sl_tokens_free(sl_tokens *list);
SL_MUST_USE sl_status sl_tokens_push(sl_tokens *list, sl_token id, sl_error *err);

SL_MUST_USE sl_status sl_tokenizer_open(const sl_gguf *gguf, sl_tokenizer **out, sl_error *err);
void sl_tokenizer_close(sl_tokenizer *t);
size_t sl_tokenizer_heap_bytes(const sl_tokenizer *t);
uint32_t sl_tokenizer_size(const sl_tokenizer *t);

typedef struct sl_encode_options {
    bool add_bos;       /* put BOS (and EOS) where the file's flags ask for it */
    bool parse_special; /* "<|im_end|>" in the text is the token, not its characters */
} sl_encode_options;
/* Appends. Any bytes are accepted; what is no UTF-8 becomes the tokens of its bytes. */
SL_MUST_USE sl_status sl_tokenizer_encode(sl_tokenizer *t, const char *text, size_t length, sl_encode_options options, sl_tokens *out,
                                          sl_error *err);
/* The bytes of one token; control tokens give their text only when `special`. Valid while the tokenizer is. SL_STR {NULL,0} for a bad id. */
sl_str sl_tokenizer_piece(const sl_tokenizer *t, sl_token id, bool special);
sl_token sl_tokenizer_bos(const sl_tokenizer *t); /* SL_TOKEN_NONE when there is none */
sl_token sl_tokenizer_eos(const sl_tokenizer *t);
bool sl_tokenizer_adds_bos(const sl_tokenizer *t);                     /* the file asks for it before a text */
bool sl_tokenizer_ends_generation(const sl_tokenizer *t, sl_token id); /* EOS, EOT, <|im_end|>, ... */
bool sl_tokenizer_is_control(const sl_tokenizer *t, sl_token id);
sl_token sl_tokenizer_find(const sl_tokenizer *t, const char *text); /* exact token text, or SL_TOKEN_NONE */

#endif

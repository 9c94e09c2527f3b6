/* tests/fuzz/vocabulary.h: vocabularies put together from lines, for the fuzzers of what reads them and of what cuts text with them.
 *
 * A line is a token, its type in front as a digit, or else a merge, with any other character in front. */
#ifndef SL_TESTS_FUZZ_VOCABULARY_H
#define SL_TESTS_FUZZ_VOCABULARY_H

#include "core/byte_unicode.h"
#include "core/tokenizer.h"

#include "tests/header_builder.h"

#include <stdio.h>

/* One of each kind, behind those that the seeds know by their numbers; the last one is none. */
static const char *const pres[] = {"smollm", "gpt-2",        "llama-bpe",      "qwen2",       "default",  "dbrx",
                                   "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",   "tekken",
                                   "gpt-4o", "viking",       "jais-2",         "seed-coder",  "minicpm5", "none"};
#define PRES (sizeof pres / sizeof *pres)

typedef struct line {
    const char *data;
    size_t length;
} line;

typedef struct vocabulary {
    const char *pre;
    bool scored;     /* merged by score (SentencePiece), not by rank */
    bool bytes[256]; /* which have a token of their own; those tokens come first */
    const line *lines;
    size_t count;
    uint8_t flags; /* 1: an end, whose id it is; 2: says whether texts begin with a token, 4: they do; 8: is called phi-3 */
} vocabulary;

static inline bool is_token(const line *l)
{
    return l->data[0] >= '0' && l->data[0] <= '9';
}

static inline size_t count_bytes(const vocabulary *v)
{
    size_t count = 0;
    for (int byte = 0; byte < 256; byte++)
        count += v->bytes[byte];
    return count;
}

static inline void add_tokens(header *h, const vocabulary *v, size_t size)
{
    header_array(h, "tokenizer.ggml.tokens", SL_GGUF_STRING, size);
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        if (v->bytes[byte])
            header_add_bytes(h, text,
                             v->scored ? (size_t)snprintf(text, sizeof text, "<0x%02X>", byte) : sli_byte_to_text((uint8_t)byte, text));
    }
    for (size_t i = 0; i < v->count; i++) {
        if (is_token(&v->lines[i]))
            header_add_bytes(h, v->lines[i].data + 1, v->lines[i].length - 1);
    }
}

static inline void add_types(header *h, const vocabulary *v, size_t bytes, size_t size)
{
    header_array(h, "tokenizer.ggml.token_type", SL_GGUF_I32, size);
    for (size_t i = 0; i < bytes; i++)
        header_add_u32(h, v->scored ? 6 : 1);
    for (size_t i = 0; i < v->count; i++) {
        if (is_token(&v->lines[i]))
            header_add_u32(h, (uint32_t)(v->lines[i].data[0] - '0'));
    }
}

/* A token's score is its text's first byte: equal ones are wanted. */
static inline void add_scores(header *h, const vocabulary *v, size_t bytes, size_t size)
{
    header_array(h, "tokenizer.ggml.scores", SL_GGUF_F32, size);
    for (size_t i = 0; i < bytes; i++)
        header_add_u32(h, 0);
    for (size_t i = 0; i < v->count; i++) {
        float score = v->lines[i].length < 2 ? 0 : (float)v->lines[i].data[1];
        if (is_token(&v->lines[i]))
            header_add(h, &score, sizeof score);
    }
}

static inline void add_merges(header *h, const vocabulary *v, size_t merges)
{
    header_array(h, "tokenizer.ggml.merges", SL_GGUF_STRING, merges);
    for (size_t i = 0; i < v->count; i++) {
        if (!is_token(&v->lines[i]))
            header_add_bytes(h, v->lines[i].data + 1, v->lines[i].length - 1);
    }
}

static inline sl_gguf *vocabulary_build(const vocabulary *v)
{
    const char *model = v->scored ? "llama" : "gpt2";
    size_t bytes = count_bytes(v), tokens = 0;
    for (size_t i = 0; i < v->count; i++)
        tokens += is_token(&v->lines[i]);

    header h;
    header_start(&h);
    header_string(&h, "tokenizer.ggml.model", model, strlen(model));
    header_string(&h, "tokenizer.ggml.pre", v->pre, strlen(v->pre));
    add_tokens(&h, v, bytes + tokens);
    add_types(&h, v, bytes, bytes + tokens);
    if (v->scored)
        add_scores(&h, v, bytes, bytes + tokens);
    else
        add_merges(&h, v, v->count - tokens);
    if (v->flags & 1)
        header_u32(&h, "tokenizer.ggml.eos_token_id", v->flags);
    if (v->flags & 2)
        header_bool(&h, "tokenizer.ggml.add_bos_token", v->flags & 4);
    if (v->flags & 8)
        header_string(&h, "general.name", "phi-3", 5);
    return header_parse(&h);
}

/* Ids are ids, and the pieces put together are the text, or something else where `lossy`. */
static inline void encode_and_check(sl_tokenizer *t, const char *text, size_t length, bool special, bool lossy)
{
    sl_tokens list = {0};
    if (sl_tokenizer_encode(t, text, length, (sl_encode_options){lossy && special, special}, &list, NULL) != SL_OK)
        __builtin_trap();
    size_t at = 0;
    for (size_t i = 0; i < list.count; i++) {
        sl_str piece = sl_tokenizer_piece(t, list.ids[i], true);
        if (!piece.data)
            __builtin_trap();
        if (!lossy && (piece.length > length - at || memcmp(text + at, piece.data, piece.length) != 0))
            __builtin_trap();
        at += piece.length;
    }
    if (!lossy && at != length)
        __builtin_trap();
    sl_tokens_free(&list);
}

#endif

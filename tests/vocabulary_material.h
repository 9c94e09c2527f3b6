/* tests/vocabulary_material.h: small vocabularies, all 256 bytes and a few merges and special tokens, so that each test says what it depends on.
 *
 * Needs cmocka's headers before it. */
#ifndef SL_TESTS_VOCABULARY_MATERIAL_H
#define SL_TESTS_VOCABULARY_MATERIAL_H

#include "core/byte_unicode.h"
#include "core/tokenizer.h"
#include "tests/header_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES      256 /* a byte's token has the byte's number */
#define TOKENS_MAX 1024
#define TEXT_MAX   80

/* ---- vocabularies ---- */

typedef struct token {
    char text[TEXT_MAX];
    uint32_t kind; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    float score;
} token;

typedef struct recipe {
    token tokens[TOKENS_MAX];
    uint32_t token_count;
    char merges[TOKENS_MAX][TEXT_MAX];
    uint32_t merge_count;
    const char *model, *pre, *name;  /* NULL: the key is left out */
    int64_t bos, eos;                /* below 0: left out */
    int add_bos, add_eos, add_space; /* the same */
    int64_t scores;                  /* how many are written; below 0: the key is left out */
    bool no_tokens, no_merges, tokens_are_numbers;
    uint32_t types; /* how many are written */
} recipe;

static inline uint32_t add_token(recipe *r, const char *text, uint32_t kind)
{
    token *t = &r->tokens[r->token_count++];
    assert_true(strlen(text) < sizeof t->text);
    strcpy(t->text, text);
    t->kind = kind;
    r->types = r->token_count;
    return r->token_count - 1;
}

/* "a b": the merge and the token that it gives. */
static inline uint32_t add_merge(recipe *r, const char *merge)
{
    strcpy(r->merges[r->merge_count++], merge);
    char joined[TEXT_MAX];
    size_t left = (size_t)(strchr(merge + 1, ' ') - merge);
    memcpy(joined, merge, left);
    strcpy(joined + left, merge + left + 1);
    return add_token(r, joined, 1);
}

static inline recipe *new_recipe(void)
{
    recipe *r = calloc(1, sizeof *r);
    assert_non_null(r);
    for (int byte = 0; byte < BYTES; byte++) {
        char text[3] = {0};
        sli_byte_to_text((uint8_t)byte, text);
        add_token(r, text, 1);
    }
    r->model = "gpt2";
    r->pre = "gpt-2";
    r->bos = r->eos = -1;
    r->add_bos = r->add_eos = r->add_space = -1;
    r->scores = -1;
    return r;
}

#define SPACE "\xe2\x96\x81"

static inline uint32_t add_scored(recipe *r, const char *text, float score)
{
    uint32_t id = add_token(r, text, 1);
    r->tokens[id].score = score;
    r->scores = r->token_count;
    return id;
}

/* A SentencePiece vocabulary: tokens 0 to 255 are the bytes, then come <unk>, <s> and </s>, so 259 is the first that a test adds. */
static inline recipe *new_scored(void)
{
    recipe *r = new_recipe();
    for (int byte = 0; byte < BYTES; byte++) {
        snprintf(r->tokens[byte].text, TEXT_MAX, "<0x%02X>", byte);
        r->tokens[byte].kind = 6;
    }
    r->model = "llama";
    r->pre = NULL;
    r->no_merges = true;
    add_token(r, "<unk>", 2);
    r->bos = add_token(r, "<s>", 3);
    r->eos = add_token(r, "</s>", 3);
    r->scores = r->token_count;
    return r;
}

static inline void write_vocabulary(header *h, const recipe *r)
{
    if (!r->no_tokens) {
        header_array(h, "tokenizer.ggml.tokens", r->tokens_are_numbers ? SL_GGUF_U32 : SL_GGUF_STRING, r->token_count);
        for (uint32_t i = 0; i < r->token_count; i++) {
            if (r->tokens_are_numbers)
                header_add_u32(h, i);
            else
                header_add_bytes(h, r->tokens[i].text, strlen(r->tokens[i].text));
        }
    }
    header_array(h, "tokenizer.ggml.token_type", SL_GGUF_I32, r->types);
    for (uint32_t i = 0; i < r->types; i++)
        header_add_u32(h, r->tokens[i].kind);
    if (r->scores >= 0) {
        header_array(h, "tokenizer.ggml.scores", SL_GGUF_F32, (uint64_t)r->scores);
        for (int64_t i = 0; i < r->scores; i++)
            header_add(h, &r->tokens[i].score, sizeof r->tokens[i].score);
    }
    if (!r->no_merges) {
        header_array(h, "tokenizer.ggml.merges", SL_GGUF_STRING, r->merge_count);
        for (uint32_t i = 0; i < r->merge_count; i++)
            header_add_bytes(h, r->merges[i], strlen(r->merges[i]));
    }
}

/* Frees the recipe. */
static inline sl_gguf *cook(recipe *r)
{
    header h;
    header_start(&h);
    if (r->model)
        header_string(&h, "tokenizer.ggml.model", r->model, strlen(r->model));
    if (r->pre)
        header_string(&h, "tokenizer.ggml.pre", r->pre, strlen(r->pre));
    if (r->name)
        header_string(&h, "general.name", r->name, strlen(r->name));
    if (r->add_space >= 0)
        header_bool(&h, "tokenizer.ggml.add_space_prefix", r->add_space);
    if (r->bos >= 0)
        header_u32(&h, "tokenizer.ggml.bos_token_id", (uint32_t)r->bos);
    if (r->eos >= 0)
        header_u32(&h, "tokenizer.ggml.eos_token_id", (uint32_t)r->eos);
    if (r->add_bos >= 0)
        header_bool(&h, "tokenizer.ggml.add_bos_token", r->add_bos);
    if (r->add_eos >= 0)
        header_bool(&h, "tokenizer.ggml.add_eos_token", r->add_eos);
    write_vocabulary(&h, r);
    free(r);
    sl_gguf *gguf = header_parse(&h);
    assert_non_null(gguf);
    return gguf;
}

typedef struct opened {
    sl_gguf *gguf;
    sl_tokenizer *t;
} opened;

static inline opened open_recipe(recipe *r)
{
    opened o = {.gguf = cook(r)};
    sl_error err = {0};
    if (sl_tokenizer_open(o.gguf, &o.t, &err) != SL_OK)
        fail_msg("%s", err.message);
    return o;
}

static inline void close_opened(opened o)
{
    sl_tokenizer_close(o.t);
    sl_gguf_close(o.gguf);
}

/* ---- comparing ---- */

static inline sl_tokens encode(sl_tokenizer *t, const char *text, size_t length, bool add_bos, bool parse_special)
{
    sl_tokens out = {0};
    sl_error err = {0};
    if (sl_tokenizer_encode(t, text, length, (sl_encode_options){add_bos, parse_special}, &out, &err) != SL_OK)
        fail_msg("%s", err.message);
    return out;
}

static inline void spell(const sl_tokens *list, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < list->count && used + 16 < size; i++)
        used += (size_t)snprintf(out + used, size - used, i > 0 ? " %d" : "%d", list->ids[i]);
}

static inline void expect(sl_tokenizer *t, const char *text, size_t length, bool parse_special, const char *ids)
{
    char got[4096];
    sl_tokens list = encode(t, text, length, false, parse_special);
    spell(&list, got, sizeof got);
    sl_tokens_free(&list);
    if (strcmp(got, ids) != 0)
        fail_msg("'%.*s' gives %s instead of %s", (int)length, text, got, ids);
}

static inline void expect_text(sl_tokenizer *t, const char *text, bool parse_special, const char *ids)
{
    expect(t, text, strlen(text), parse_special, ids);
}

static inline void expect_round_trip(sl_tokenizer *t, const char *text, size_t length, bool parse_special)
{
    sl_tokens list = encode(t, text, length, false, parse_special);
    size_t at = 0;
    for (size_t i = 0; i < list.count; i++) {
        sl_str piece = sl_tokenizer_piece(t, list.ids[i], true);
        assert_true(piece.length <= length - at);
        assert_memory_equal(text + at, piece.data, piece.length);
        at += piece.length;
    }
    assert_int_equal(at, length);
    sl_tokens_free(&list);
}

/* Opening fails with `status`, and the message holds `words` and the file's name. */
static inline void expect_refused(recipe *r, sl_status status, const char *words)
{
    sl_gguf *gguf = cook(r);
    sl_tokenizer *t = (sl_tokenizer *)1;
    sl_error err = {0};
    assert_int_equal(sl_tokenizer_open(gguf, &t, &err), status);
    assert_null(t);
    if (!strstr(err.message, words) || !strstr(err.message, "built.gguf"))
        fail_msg("the message is: %s", err.message);
    sl_gguf_close(gguf);
}

#endif

/* tests/fuzz/fuzz_tokenizer.c: any vocabulary, and any text through it and through a sound one.
 *
 * The first byte chooses the pre-tokenizer, or, from 128 on, merging by score; the second what special ids there are; then come tokens and merges, one a line, tokens with
 * their type as the first character; after an empty line the rest is the text. All 256 bytes are tokens of the sound vocabulary, so there
 * the text must come back. */
#include "core/byte_unicode.h"
#include "core/tokenizer.h"

#include "tests/header_builder.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

typedef struct line {
    const char *data;
    size_t length;
} line;

#define LINES_MAX 64

/* One of each kind, behind those that the seeds know by their numbers; the last one is none. */
static const char *const pres[] = {"smollm", "gpt-2",        "llama-bpe",      "qwen2",       "default",  "dbrx",
                                   "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",   "tekken",
                                   "gpt-4o", "viking",       "jais-2",         "seed-coder",  "minicpm5", "none"};
#define PRES (sizeof pres / sizeof *pres)

static bool is_token(const line *l)
{
    return l->data[0] >= '0' && l->data[0] <= '9';
}

static void add_byte_tokens(header *h, bool scored)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        if (scored)
            header_add_bytes(h, text, (size_t)snprintf(text, sizeof text, "<0x%02X>", byte));
        else
            header_add_bytes(h, text, sli_byte_to_text((uint8_t)byte, text));
    }
}

/* A token's score is its text's first byte: equal ones are wanted. */
static void add_scores(header *h, const line *lines, size_t count, size_t tokens)
{
    header_array(h, "tokenizer.ggml.scores", SL_GGUF_F32, 256 + tokens);
    for (size_t i = 0; i < 256 + count; i++) {
        float score = i < 256 || lines[i - 256].length < 2 ? 0 : (float)lines[i - 256].data[1];
        if (i < 256 || is_token(&lines[i - 256]))
            header_add(h, &score, sizeof score);
    }
}

static void add_merges(header *h, const line *lines, size_t count, size_t tokens)
{
    header_array(h, "tokenizer.ggml.merges", SL_GGUF_STRING, count - tokens);
    for (size_t i = 0; i < count; i++) {
        if (!is_token(&lines[i]))
            header_add_bytes(h, lines[i].data + 1, lines[i].length - 1);
    }
}

static sl_gguf *build(const uint8_t choice[2], const line *lines, size_t count)
{
    bool scored = choice[0] >= 128;
    const char *pre = pres[choice[0] % PRES], *model = scored ? "llama" : "gpt2";
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++)
        tokens += is_token(&lines[i]);

    header h;
    header_start(&h);
    header_string(&h, "tokenizer.ggml.model", model, strlen(model));
    header_string(&h, "tokenizer.ggml.pre", pre, strlen(pre));
    header_array(&h, "tokenizer.ggml.tokens", SL_GGUF_STRING, 256 + tokens);
    add_byte_tokens(&h, scored);
    for (size_t i = 0; i < count; i++) {
        if (is_token(&lines[i]))
            header_add_bytes(&h, lines[i].data + 1, lines[i].length - 1);
    }
    header_array(&h, "tokenizer.ggml.token_type", SL_GGUF_I32, 256 + tokens);
    for (int byte = 0; byte < 256; byte++)
        header_add_u32(&h, scored ? 6 : 1);
    for (size_t i = 0; i < count; i++) {
        if (is_token(&lines[i]))
            header_add_u32(&h, (uint32_t)(lines[i].data[0] - '0'));
    }
    if (scored)
        add_scores(&h, lines, count, tokens);
    else
        add_merges(&h, lines, count, tokens);
    if (choice[1] & 1)
        header_u32(&h, "tokenizer.ggml.eos_token_id", choice[1]);
    if (choice[1] & 2)
        header_bool(&h, "tokenizer.ggml.add_bos_token", choice[1] & 4);
    if (choice[1] & 8)
        header_string(&h, "general.name", "phi-3", 5);
    return header_parse(&h);
}

/* Ids are ids, and the pieces put together are the text, or shorter where `lossy`. */
static void encode_and_check(sl_tokenizer *t, const char *text, size_t length, bool special, bool lossy)
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

static void run(const uint8_t choice[2], const line *lines, size_t count, const char *text, size_t length, bool lossy)
{
    sl_gguf *gguf = build(choice, lines, count);
    sl_tokenizer *t;
    if (gguf && sl_tokenizer_open(gguf, &t, NULL) == SL_OK) {
        encode_and_check(t, text, length, false, lossy);
        encode_and_check(t, text, length, true, lossy);
        for (sl_token id = -1; id <= (sl_token)sl_tokenizer_size(t); id++)
            (void)(sl_tokenizer_ends_generation(t, id) + sl_tokenizer_is_control(t, id));
        sl_tokenizer_close(t);
    }
    sl_gguf_close(gguf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length < 2)
        return 0;
    line lines[LINES_MAX];
    size_t count = 0;
    const char *at = (const char *)data + 2, *end = (const char *)data + length;
    while (count < LINES_MAX && at < end && *at != '\n') {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        lines[count++] = (line){at, (size_t)((stop ? stop : end) - at)};
        at = stop ? stop + 1 : end;
    }
    if (at < end)
        at++;
    run(data, lines, count, at, (size_t)(end - at), true);
    const uint8_t sound[2] = {(uint8_t)(data[0] % (PRES - 1)), 0};
    run(sound, NULL, 0, at, (size_t)(end - at), false);
    return 0;
}

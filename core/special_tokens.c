/* core/special_tokens.c: see the header. */
#include "core/special_tokens.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Texts by which models mark the end of a turn or of a text, or what comes after code in a repository; files often give them no key, and
 * sometimes the wrong type. llama.cpp's list. */
static const char *const ender_texts[] = {
    "<|eot_id|>",    "<|im_end|>",      "<|end|>",      "<|return|>",         "<|call|>",    "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>",   "</s>",         "<|eom_id|>",         "<EOT>",       "_<EOT>",    "[EOT]",
    "[EOS]",         "<|end_of_text|>", "<eos>",        "<end_of_utterance>", "<|fim_pad|>", "<fim-pad>", "<fim_pad>",
    "<PAD>",         "[PAD]",           "<|fim_repo|>", "<|repo_name|>",      "<fim-repo>",  "<REPO>",    "<reponame>",
    "<|file_sep|>",
};

/* Markers of where code is to be filled in: control tokens, but they end nothing. */
static const char *const control_texts[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<|code_prefix|>", "<PRE>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<|code_suffix|>", "<SUF>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<|code_middle|>", "<MID>",
};

static const char *const ender_keys[] = {
    "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",     "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))
/* Every ender comes from one of the lists, or is EOS. */
#define ENDERS_MAX (COUNT(ender_texts) + COUNT(ender_keys) + 1)

/* ---- opening ---- */

sl_status sli_special_id(const sl_gguf *gguf, const sli_vocab *vocab, const char *key, sl_token *out, sl_error *err)
{
    *out = SL_TOKEN_NONE;
    if (!sl_gguf_find(gguf, key))
        return SL_OK;
    uint32_t id;
    SL_TRY(sl_gguf_u32(gguf, key, &id, err));
    if (id >= vocab->size)
        return sl_fail(err, SL_FORMAT, "%s: %s is %u, but the vocabulary has only %u tokens", sl_gguf_path(gguf), key, id, vocab->size);
    *out = (sl_token)id;
    return SL_OK;
}

bool sli_specials_ends(const sli_specials *s, sl_token id)
{
    for (uint32_t i = 0; i < s->ender_count; i++) {
        if (s->enders[i] == id)
            return true;
    }
    return false;
}

static void add_ender(sli_specials *s, sl_token id)
{
    if (id >= 0 && !sli_specials_ends(s, id))
        s->enders[s->ender_count++] = id;
}

static sl_token find_text(const sli_vocab *vocab, const char *text)
{
    return sli_vocab_find(vocab, text, strlen(text));
}

/* A marker is a control token whatever the file says of it; its bytes are then its text as it stands, which for ASCII is what they were. */
static void make_control(sli_vocab *vocab, sl_token id)
{
    if (id >= 0)
        vocab->kinds[id] = SLI_TOKEN_CONTROL;
}

static sl_status find_enders(sli_specials *s, const sl_gguf *gguf, sli_vocab *vocab, sl_token eos, sl_error *err)
{
    for (size_t i = 0; i < COUNT(ender_texts); i++) {
        sl_token id = find_text(vocab, ender_texts[i]);
        make_control(vocab, id);
        add_ender(s, id);
    }
    for (size_t i = 0; i < COUNT(control_texts); i++)
        make_control(vocab, find_text(vocab, control_texts[i]));
    for (size_t i = 0; i < COUNT(ender_keys); i++) {
        sl_token id;
        SL_TRY(sli_special_id(gguf, vocab, ender_keys[i], &id, err));
        add_ender(s, id);
    }
    add_ender(s, eos);
    return SL_OK;
}

static bool is_special(const sli_vocab *vocab, uint32_t id)
{
    uint8_t kind = vocab->kinds[id];
    bool cut = kind == SLI_TOKEN_CONTROL || kind == SLI_TOKEN_USER_DEFINED || kind == SLI_TOKEN_UNKNOWN;
    return cut && sli_vocab_text(vocab, (sl_token)id).length > 0;
}

typedef struct sized_id {
    size_t length;
    sl_token id;
} sized_id;

static int by_length_then_id(const void *a, const void *b)
{
    const sized_id *x = a, *y = b;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Lists the special tokens, the longest text first. */
static sl_status collect(sli_specials *s, const sl_gguf *gguf, const sli_vocab *vocab, sl_error *err)
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < vocab->size; id++)
        count += is_special(vocab, id);
    sized_id *sized = malloc((size_t)count * sizeof *sized + 1);
    s->ids = malloc((size_t)count * sizeof *s->ids + 1);
    if (!sized || !s->ids) {
        free(sized);
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its special tokens", sl_gguf_path(gguf));
    }
    for (uint32_t id = 0; id < vocab->size; id++) {
        if (is_special(vocab, id))
            sized[s->count++] = (sized_id){sli_vocab_text(vocab, (sl_token)id).length, (sl_token)id};
    }
    qsort(sized, count, sizeof *sized, by_length_then_id);
    for (uint32_t i = 0; i < count; i++)
        s->ids[i] = sized[i].id;
    free(sized);
    return SL_OK;
}

/* No key says how a vocabulary treats the space after a special token; llama.cpp goes by the model's name, and so do we. */
static sl_status find_stripping(sli_specials *s, const sl_gguf *gguf, sl_error *err)
{
    sl_str name;
    if (!sl_gguf_find(gguf, "general.name"))
        return SL_OK;
    SL_TRY(sl_gguf_str(gguf, "general.name", &name, err));
    for (size_t i = 0; i + 4 <= name.length; i++)
        s->strips |= strncasecmp(name.data + i, "phi3", 4) == 0 || (i + 5 <= name.length && strncasecmp(name.data + i, "phi-3", 5) == 0);
    return SL_OK;
}

static bool strips_after(const sli_specials *s, sl_str what)
{
    return s->strips && !sl_str_equal(what, "<unk>") && !sl_str_equal(what, "<s>") && !sl_str_equal(what, "<|endoftext|>");
}

sl_status sli_specials_open(sli_specials *s, const sl_gguf *gguf, sli_vocab *vocab, sl_token eos, sl_error *err)
{
    memset(s, 0, sizeof *s);
    s->ender_capacity = ENDERS_MAX;
    s->enders = malloc(ENDERS_MAX * sizeof *s->enders);
    sl_status status;
    if (!s->enders)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory for its special tokens", sl_gguf_path(gguf));
    else
        status = find_enders(s, gguf, vocab, eos, err);
    if (status == SL_OK)
        status = find_stripping(s, gguf, err);
    if (status == SL_OK)
        status = collect(s, gguf, vocab, err);
    if (status != SL_OK)
        sli_specials_close(s);
    return status;
}

void sli_specials_close(sli_specials *s)
{
    free(s->ids);
    free(s->enders);
    memset(s, 0, sizeof *s);
}

size_t sli_specials_heap_bytes(const sli_specials *s)
{
    return s->count * sizeof *s->ids + 1 + s->ender_capacity * sizeof *s->enders;
}

/* ---- cutting ---- */

static sl_status add_fragment(sli_fragments *list, sli_fragment fragment, sl_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        sli_fragment *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return sl_fail(err, SL_NO_MEMORY, "no memory to cut a text at its special tokens");
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = fragment;
    return SL_OK;
}

/* What is cut out of a text, and what it becomes. */
typedef struct cut {
    sl_str what;
    sl_token token;
    bool strips;
} cut;

/* Appends to `out` what is left of one stretch of text when everything in it that is to be cut has been. */
static sl_status cut_stretch(sli_fragments *out, const char *text, sli_fragment stretch, const cut *c, sl_error *err)
{
    size_t at = stretch.offset, end = stretch.offset + stretch.length;
    while (at < end) {
        const char *found = memmem(text + at, end - at, c->what.data, c->what.length);
        size_t begin = found ? (size_t)(found - text) : end;
        if (begin > at)
            SL_TRY(add_fragment(out, (sli_fragment){at, begin - at, SL_TOKEN_NONE}, err));
        if (!found)
            break;
        SL_TRY(add_fragment(out, (sli_fragment){begin, c->what.length, c->token}, err));
        at = begin + c->what.length;
        while (c->strips && at < end && strchr(" \t\n\v\f\r", text[at]) && text[at])
            at++;
    }
    return SL_OK;
}

static sl_status cut_all(sli_fragments *list, const char *text, const cut *c, sl_error *err)
{
    sli_fragments next = {0};
    sl_status status = SL_OK;
    for (size_t i = 0; i < list->count && status == SL_OK; i++) {
        sli_fragment f = list->items[i];
        status = f.token == SL_TOKEN_NONE ? cut_stretch(&next, text, f, c, err) : add_fragment(&next, f, err);
    }
    if (status != SL_OK) {
        free(next.items);
        return status;
    }
    free(list->items);
    *list = next;
    return SL_OK;
}

sl_status sli_specials_cut(const sli_specials *s, const sli_vocab *vocab, const char *text, size_t length, bool control, sli_fragments *out,
                           sl_error *err)
{
    if (length == 0)
        return SL_OK;
    SL_TRY(add_fragment(out, (sli_fragment){0, length, SL_TOKEN_NONE}, err));
    for (uint32_t i = 0; i < s->count; i++) {
        sl_token id = s->ids[i];
        if (!control && vocab->kinds[id] != SLI_TOKEN_USER_DEFINED)
            continue;
        cut c = {.what = sli_vocab_text(vocab, id), .token = id};
        c.strips = strips_after(s, c.what);
        if (memmem(text, length, c.what.data, c.what.length)) /* most never occur */
            SL_TRY(cut_all(out, text, &c, err));
    }
    return SL_OK;
}

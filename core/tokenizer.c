/* core/tokenizer.c: text to tokens and back, put together from the vocabulary, the special tokens, the pre-tokenizer and the merging.
 *
 *   text --special tokens cut out--> stretches --invalid UTF-8 cut out--> runs --pre-tokenizer--> pieces --merging by rank--> ids
 *                                              \--merging by score (core/spm.c)--> ids
 *
 * Byte-level: bytes that are not UTF-8 become one token each, so that the patterns only ever see valid text and every such byte decodes to itself. */
#include "core/tokenizer.h"

#include "core/bpe.h"
#include "core/byte_unicode.h"
#include "core/pretokenizer.h"
#include "core/special_tokens.h"
#include "core/spm.h"

#include <stdlib.h>
#include <string.h>

struct sl_tokenizer {
    sli_vocab vocab;
    sli_specials specials;
    sli_spm *spm; /* or, where it is NULL, the two: */
    sli_pretokenizer *pretokenizer;
    sli_bpe *bpe;
    sl_token bos, eos;
    bool add_bos, add_eos; /* what the file asks for */
    bool add_space;        /* before a text, and after each special token */
    char *spelling;        /* room for a piece in stand-ins, where whole pieces are looked up; else NULL */
};

/* ---- lists of tokens ---- */

void sl_tokens_free(sl_tokens *list)
{
    free(list->ids);
    *list = (sl_tokens){0};
}

sl_status sl_tokens_push(sl_tokens *list, sl_token id, sl_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        sl_token *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return sl_fail(err, SL_NO_MEMORY, "no memory for a list of %zu tokens", capacity);
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return SL_OK;
}

/* ---- opening ---- */

/* What other vocabularies are called, for those who meet one. */
static const char *kind_of_model(sl_str model)
{
    static const struct {
        const char *model, *kind;
    } kinds[] = {
        {"bert", " (WordPiece)"},          {"t5", " (SentencePiece by unigrams)"},
        {"rwkv", " (RWKV's greedy trie)"}, {"gemma4", " (byte pairs over whole lines)"},
        {"plamo2", " (PLaMo's table)"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (sl_str_equal(model, kinds[i].model))
            return kinds[i].kind;
    }
    return "";
}

static sl_status read_model(const sl_gguf *gguf, sli_spelling *out, sl_error *err)
{
    sl_str model;
    SL_TRY(sl_gguf_str(gguf, "tokenizer.ggml.model", &model, err));
    if (!sl_str_equal(model, "gpt2") && !sl_str_equal(model, "llama"))
        return sl_fail(
            err, SL_UNSUPPORTED,
            "%s: tokenizer.ggml.model is '%.*s'%s, which is not supported; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are",
            sl_gguf_path(gguf), model.length > 64 ? 64 : (int)model.length, model.data, kind_of_model(model));
    *out = sl_str_equal(model, "gpt2") ? SLI_SPELLED_BYTES : SLI_SPELLED_SPACES;
    return SL_OK;
}

static sl_status optional_flag(const sl_gguf *gguf, const char *key, bool otherwise, bool *out, sl_error *err)
{
    *out = otherwise;
    return sl_gguf_find(gguf, key) ? sl_gguf_bool(gguf, key, out, err) : SL_OK;
}

/* Where a SentencePiece vocabulary does not name its ends, they are where llama has them. */
static sl_status read_end(sl_tokenizer *t, const sl_gguf *gguf, const char *key, uint32_t llamas, sl_token *out, sl_error *err)
{
    SL_TRY(sli_special_id(gguf, &t->vocab, key, out, err));
    if (t->spm && !sl_gguf_find(gguf, key) && llamas < t->vocab.size)
        *out = (sl_token)llamas;
    return SL_OK;
}

static sl_status read_ends(sl_tokenizer *t, const sl_gguf *gguf, sl_error *err)
{
    const char *file = sl_gguf_path(gguf);
    SL_TRY(read_end(t, gguf, "tokenizer.ggml.bos_token_id", 1, &t->bos, err));
    SL_TRY(read_end(t, gguf, "tokenizer.ggml.eos_token_id", 2, &t->eos, err));
    bool by_default = (t->spm || sli_pretokenizer_adds_bos(t->pretokenizer)) && t->bos != SL_TOKEN_NONE;
    SL_TRY(optional_flag(gguf, "tokenizer.ggml.add_bos_token", by_default, &t->add_bos, err));
    SL_TRY(optional_flag(gguf, "tokenizer.ggml.add_eos_token", false, &t->add_eos, err));
    SL_TRY(optional_flag(gguf, "tokenizer.ggml.add_space_prefix", t->spm != NULL, &t->add_space, err));
    if (t->add_bos && t->bos == SL_TOKEN_NONE)
        return sl_fail(err, SL_FORMAT, "%s: tokenizer.ggml.add_bos_token is true, but there is no tokenizer.ggml.bos_token_id", file);
    if (t->add_eos && t->eos == SL_TOKEN_NONE)
        return sl_fail(err, SL_FORMAT, "%s: tokenizer.ggml.add_eos_token is true, but there is no tokenizer.ggml.eos_token_id", file);
    return SL_OK;
}

static sl_status open_byte_level(sl_tokenizer *t, const sl_gguf *gguf, sl_error *err)
{
    sl_str pre;
    if (!sl_gguf_find(gguf, "tokenizer.ggml.pre"))
        return sl_fail(err, SL_UNSUPPORTED,
                       "%s: tokenizer.ggml.pre is missing: the file is too old to say how its text is cut, which a byte-level vocabulary "
                       "needs; a newer conversion of the model says it",
                       sl_gguf_path(gguf));
    SL_TRY(sl_gguf_str(gguf, "tokenizer.ggml.pre", &pre, err));
    SL_TRY(sli_pretokenizer_open(pre, sl_gguf_path(gguf), &t->pretokenizer, err));
    SL_TRY(sli_bpe_open(gguf, &t->vocab, &t->bpe, err));
    if (sli_pretokenizer_whole_first(t->pretokenizer)) {
        t->spelling = malloc((size_t)t->vocab.longest_text + 2);
        if (!t->spelling)
            return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its tokenizer", sl_gguf_path(gguf));
    }
    return SL_OK;
}

static sl_status open_parts(sl_tokenizer *t, const sl_gguf *gguf, sl_error *err)
{
    sli_spelling spelling = SLI_SPELLED_BYTES;
    SL_TRY(read_model(gguf, &spelling, err));
    SL_TRY(sli_vocab_open(&t->vocab, gguf, spelling, err));
    if (spelling == SLI_SPELLED_SPACES)
        SL_TRY(sli_spm_open(gguf, &t->vocab, &t->spm, err));
    else
        SL_TRY(open_byte_level(t, gguf, err));
    SL_TRY(read_ends(t, gguf, err));
    return sli_specials_open(&t->specials, gguf, &t->vocab, t->eos, err);
}

sl_status sl_tokenizer_open(const sl_gguf *gguf, sl_tokenizer **out, sl_error *err)
{
    *out = NULL;
    sl_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its tokenizer", sl_gguf_path(gguf));
    sl_status status = open_parts(t, gguf, err);
    if (status != SL_OK) {
        sl_tokenizer_close(t);
        return status;
    }
    *out = t;
    return SL_OK;
}

void sl_tokenizer_close(sl_tokenizer *t)
{
    if (!t)
        return;
    free(t->spelling);
    sli_spm_close(t->spm);
    sli_bpe_close(t->bpe);
    sli_specials_close(&t->specials);
    sli_vocab_close(&t->vocab);
    sli_pretokenizer_close(t->pretokenizer);
    free(t);
}

size_t sl_tokenizer_heap_bytes(const sl_tokenizer *t)
{
    size_t common = sizeof *t + t->vocab.heap_bytes + sli_specials_heap_bytes(&t->specials);
    if (t->spm)
        return common + sli_spm_heap_bytes(t->spm);
    return common + sli_bpe_heap_bytes(t->bpe) + sli_pretokenizer_heap_bytes(t->pretokenizer) +
           (t->spelling ? (size_t)t->vocab.longest_text + 2 : 0);
}

/* ---- encoding ---- */

typedef struct encoding {
    sl_tokenizer *tokenizer;
    sl_tokens *out;
} encoding;

/* The token that is exactly this piece, where such are not taken apart; else SL_TOKEN_NONE. */
static sl_token whole_token(sl_tokenizer *t, const char *piece, size_t length)
{
    if (!t->spelling)
        return SL_TOKEN_NONE;
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (used >= t->vocab.longest_text)
            return SL_TOKEN_NONE;
        used += sli_byte_to_text((uint8_t)piece[i], t->spelling + used); /* up to one byte beyond longest_text: there is room for 2 */
    }
    return sli_vocab_find(&t->vocab, t->spelling, used);
}

static sl_status encode_piece(void *arg, const char *piece, size_t length, sl_error *err)
{
    encoding *e = arg;
    sl_token whole = whole_token(e->tokenizer, piece, length);
    if (whole != SL_TOKEN_NONE)
        return sl_tokens_push(e->out, whole, err);
    return sli_bpe_encode(e->tokenizer->bpe, piece, length, e->out, err);
}

/* Text without special tokens, byte-level: valid runs through the pre-tokenizer, stray bytes one by one. */
static sl_status encode_stretch(encoding *e, const char *text, size_t length, sl_error *err)
{
    size_t begin = 0, at = 0;
    while (at < length) {
        uint32_t code;
        size_t count = sli_utf8_next(text + at, length - at, &code);
        if (count > 0) {
            at += count;
            continue;
        }
        SL_TRY(sli_pretokenizer_split(e->tokenizer->pretokenizer, text + begin, at - begin, encode_piece, e, err));
        SL_TRY(sli_bpe_encode(e->tokenizer->bpe, text + at, 1, e->out, err));
        begin = ++at;
    }
    return sli_pretokenizer_split(e->tokenizer->pretokenizer, text + begin, at - begin, encode_piece, e, err);
}

sl_status sl_tokenizer_encode(sl_tokenizer *t, const char *text, size_t length, sl_encode_options options, sl_tokens *out, sl_error *err)
{
    encoding e = {t, out};
    if (options.add_bos && t->add_bos)
        SL_TRY(sl_tokens_push(out, t->bos, err));

    sli_fragments fragments = {0};
    sl_status status = sli_specials_cut(&t->specials, &t->vocab, text, length, options.parse_special, &fragments, err);
    bool after_text = false;
    for (size_t i = 0; i < fragments.count && status == SL_OK; i++) {
        sli_fragment f = fragments.items[i];
        if (f.token != SL_TOKEN_NONE)
            status = sl_tokens_push(out, f.token, err);
        else if (t->spm)
            status = sli_spm_encode(t->spm, text + f.offset, f.length, t->add_space && !after_text, out, err);
        else
            status = encode_stretch(&e, text + f.offset, f.length, err);
        after_text = f.token == SL_TOKEN_NONE;
    }
    free(fragments.items);
    if (status == SL_OK && options.add_bos && t->add_eos)
        status = sl_tokens_push(out, t->eos, err);
    return status;
}

/* ---- looking things up ---- */

static bool is_token(const sl_tokenizer *t, sl_token id)
{
    return id >= 0 && (uint32_t)id < t->vocab.size;
}

sl_str sl_tokenizer_piece(const sl_tokenizer *t, sl_token id, bool special)
{
    if (!is_token(t, id))
        return (sl_str){NULL, 0};
    uint8_t kind = t->vocab.kinds[id];
    const char *piece = t->vocab.pieces + t->vocab.piece_at[id];
    bool silent = !special && (kind == SLI_TOKEN_CONTROL || kind == SLI_TOKEN_UNKNOWN);
    return (sl_str){piece, silent ? 0 : t->vocab.piece_at[id + 1] - t->vocab.piece_at[id]};
}

uint32_t sl_tokenizer_size(const sl_tokenizer *t)
{
    return t->vocab.size;
}

sl_token sl_tokenizer_bos(const sl_tokenizer *t)
{
    return t->bos;
}

sl_token sl_tokenizer_eos(const sl_tokenizer *t)
{
    return t->eos;
}

bool sl_tokenizer_adds_bos(const sl_tokenizer *t)
{
    return t->add_bos;
}

bool sl_tokenizer_ends_generation(const sl_tokenizer *t, sl_token id)
{
    return sli_specials_ends(&t->specials, id);
}

bool sl_tokenizer_is_control(const sl_tokenizer *t, sl_token id)
{
    return is_token(t, id) && t->vocab.kinds[id] == SLI_TOKEN_CONTROL;
}

sl_token sl_tokenizer_find(const sl_tokenizer *t, const char *text)
{
    return sli_vocab_find(&t->vocab, text, strlen(text));
}

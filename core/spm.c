/* core/spm.c: merging by score.
 *
 * A piece starts as a chain of symbols, one a character. Of all neighbours whose joined text is a token, those with the highest score join,
 * the leftmost of equals, until none do; see core/merge_queue.h for how they are found. An entry holds while the symbol's pair still has the
 * entry's rank.
 *
 * A text would be one single piece. But nothing can ever join across a place where no token has the byte before it and a space one after the
 * other; nearly every space of a text is such a place, so a piece is a word, and what merging costs does not grow with the text. */
#include "core/spm.h"

#include "core/merge_queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCORES_KEY      "tokenizer.ggml.scores"
#define SPACE           "\xe2\x96\x81"
#define SPACE_BYTES     3
#define NO_RANK         UINT32_MAX
#define NO_SYMBOL       UINT32_MAX
#define PIECE_BYTES_MAX ((size_t)1 << 30) /* symbol numbers are 32 bits; longer pieces would take 36 GiB anyway */

typedef struct symbol {
    uint32_t begin, length; /* in the piece; length 0: melted into its left neighbour */
    uint32_t previous, next;
    uint32_t rank; /* of it and the next one joined */
} symbol;

typedef struct scratch {
    symbol *symbols;
    sli_merge_queue queue;
} scratch;

_Static_assert(sizeof(symbol) + 2 * sizeof(uint64_t) == SLI_SPM_BYTES_A_SYMBOL, "the header says what a symbol costs");

struct sli_spm {
    const sli_vocab *vocab;
    const sl_gguf_value *scores;
    bool before_space[256]; /* some token has this byte and then a space */
    scratch scratch;        /* for pieces of up to SLI_SPM_SCRATCH symbols */
};

/* ---- opening ---- */

/* Ranks ascend where scores descend; they are never NO_RANK, which would be the rank of a NaN. */
static uint32_t rank_of(const sli_spm *spm, sl_token id)
{
    float score = (float)sl_gguf_number_at(spm->scores, (uint64_t)id) + 0.0f; /* -0 becomes 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

static sl_status check_scores(sli_spm *spm, const sl_gguf *gguf, sl_error *err)
{
    const char *file = sl_gguf_path(gguf);
    const sl_gguf_value *scores = sl_gguf_find(gguf, SCORES_KEY);
    if (!scores)
        return sl_fail(err, SL_FORMAT, "%s: " SCORES_KEY " is missing; a SentencePiece vocabulary needs it", file);
    if (scores->kind != SL_GGUF_ARRAY || (scores->element_kind != SL_GGUF_F32 && scores->element_kind != SL_GGUF_I32))
        return sl_fail(err, SL_FORMAT, "%s: " SCORES_KEY " is not an array of numbers", file);
    if (scores->count != spm->vocab->size)
        return sl_fail(err, SL_FORMAT, "%s: " SCORES_KEY " has %llu entries, but there are %u tokens", file,
                       (unsigned long long)scores->count, spm->vocab->size);
    for (uint64_t id = 0; id < scores->count; id++) {
        if (isnan(sl_gguf_number_at(scores, id)))
            return sl_fail(err, SL_FORMAT, "%s: the score of token %llu is no number", file, (unsigned long long)id);
    }
    spm->scores = scores;
    return SL_OK;
}

static sl_status check_bytes(const sli_vocab *vocab, const sl_gguf *gguf, sl_error *err)
{
    for (int byte = 0; byte < 256; byte++) {
        if (vocab->byte_token[byte] < 0)
            return sl_fail(
                err, SL_UNSUPPORTED,
                "%s: the vocabulary has no token <0x%02X>; a SentencePiece vocabulary without a token for each byte is not supported",
                sl_gguf_path(gguf), byte);
    }
    return SL_OK;
}

static void find_inner_spaces(sli_spm *spm)
{
    for (uint32_t id = 0; id < spm->vocab->size; id++) {
        sl_str text = sli_vocab_text(spm->vocab, (sl_token)id);
        const char *at = text.data, *end = text.data + text.length;
        while (end - at > SPACE_BYTES && (at = memmem(at + 1, (size_t)(end - at - 1), SPACE, SPACE_BYTES)) != NULL)
            spm->before_space[(unsigned char)at[-1]] = true;
    }
}

static bool scratch_open(scratch *s, size_t symbols)
{
    s->symbols = malloc(symbols * sizeof *s->symbols);
    s->queue = (sli_merge_queue){.entries = malloc(2 * symbols * sizeof(uint64_t))};
    return s->symbols && s->queue.entries;
}

static void scratch_close(scratch *s)
{
    free(s->queue.entries);
    free(s->symbols);
}

sl_status sli_spm_open(const sl_gguf *gguf, const sli_vocab *vocab, sli_spm **out, sl_error *err)
{
    *out = NULL;
    sli_spm *spm = calloc(1, sizeof *spm);
    if (!spm)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its tokenizer", sl_gguf_path(gguf));
    spm->vocab = vocab;
    sl_status status = check_scores(spm, gguf, err);
    if (status == SL_OK)
        status = check_bytes(vocab, gguf, err);
    if (status == SL_OK && !scratch_open(&spm->scratch, SLI_SPM_SCRATCH))
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory for its tokenizer", sl_gguf_path(gguf));
    if (status != SL_OK) {
        sli_spm_close(spm);
        return status;
    }
    find_inner_spaces(spm);
    *out = spm;
    return SL_OK;
}

void sli_spm_close(sli_spm *spm)
{
    if (!spm)
        return;
    scratch_close(&spm->scratch);
    free(spm);
}

size_t sli_spm_heap_bytes(const sli_spm *spm)
{
    return sizeof *spm + (size_t)SLI_SPM_SCRATCH * SLI_SPM_BYTES_A_SYMBOL;
}

/* ---- merging a piece ---- */

/* Of a character by its first byte alone, as llama.cpp has it: bytes that are no UTF-8 become a symbol somehow, and that one no token. */
static size_t symbol_length(const char *text, size_t left)
{
    unsigned char lead = (unsigned char)text[0];
    size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return length < left ? length : left;
}

static void push_pair(const sli_spm *spm, scratch *s, const char *piece, uint32_t left)
{
    if (left == NO_SYMBOL)
        return;
    symbol *a = &s->symbols[left];
    a->rank = NO_RANK;
    if (a->next == NO_SYMBOL)
        return;
    size_t length = (size_t)a->length + s->symbols[a->next].length;
    sl_token joined = length <= spm->vocab->longest_text ? sli_vocab_find(spm->vocab, piece + a->begin, length) : SL_TOKEN_NONE;
    if (joined < 0)
        return;
    a->rank = rank_of(spm, joined);
    sli_merge_push(&s->queue, (uint64_t)a->rank << 32 | left);
}

static void take_pair(const sli_spm *spm, scratch *s, const char *piece, uint64_t entry)
{
    uint32_t at = (uint32_t)entry;
    symbol *left = &s->symbols[at];
    if (left->length == 0 || left->rank != entry >> 32)
        return; /* the chain has changed since */
    symbol *right = &s->symbols[left->next];
    left->length += right->length;
    left->next = right->next;
    right->length = 0;
    if (left->next != NO_SYMBOL)
        s->symbols[left->next].previous = at;
    push_pair(spm, s, piece, left->previous);
    push_pair(spm, s, piece, at);
}

static sl_status push_symbol(const sli_spm *spm, const char *text, uint32_t length, sl_tokens *out, sl_error *err)
{
    sl_token token = sli_vocab_find(spm->vocab, text, length);
    if (token >= 0)
        return sl_tokens_push(out, token, err);
    for (uint32_t i = 0; i < length; i++)
        SL_TRY(sl_tokens_push(out, spm->vocab->byte_token[(unsigned char)text[i]], err));
    return SL_OK;
}

static sl_status merge_with(const sli_spm *spm, scratch *s, const char *piece, size_t length, uint32_t count, sl_tokens *out, sl_error *err)
{
    s->queue.count = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t bytes = symbol_length(piece + at, length - at);
        s->symbols[i] = (symbol){(uint32_t)at, (uint32_t)bytes, i > 0 ? i - 1 : NO_SYMBOL, i + 1 < count ? i + 1 : NO_SYMBOL, NO_RANK};
        at += bytes;
    }
    for (uint32_t i = 0; i < count; i++)
        push_pair(spm, s, piece, i);
    while (s->queue.count > 0)
        take_pair(spm, s, piece, sli_merge_pop(&s->queue));
    for (uint32_t i = 0; i != NO_SYMBOL; i = s->symbols[i].next)
        SL_TRY(push_symbol(spm, piece + s->symbols[i].begin, s->symbols[i].length, out, err));
    return SL_OK;
}

static sl_status merge_piece(sli_spm *spm, const char *piece, size_t length, uint32_t count, sl_tokens *out, sl_error *err)
{
    if (count <= SLI_SPM_SCRATCH)
        return merge_with(spm, &spm->scratch, piece, length, count, out, err);
    scratch large = {0};
    sl_status status;
    if (scratch_open(&large, count))
        status = merge_with(spm, &large, piece, length, count, out, err);
    else
        status = sl_fail(err, SL_NO_MEMORY, "no memory to tokenise %zu bytes without a break", length);
    scratch_close(&large);
    return status;
}

/* ---- cutting a text into pieces ---- */

static char *spell_spaces(const char *text, size_t length, bool space_first, size_t *spelled)
{
    size_t spaces = space_first;
    for (size_t i = 0; i < length; i++)
        spaces += text[i] == ' ';
    char *out = malloc(length + SPACE_BYTES * spaces + 1), *to = out;
    if (!out)
        return NULL;
    if (space_first)
        to = mempcpy(to, SPACE, SPACE_BYTES);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ')
            to = mempcpy(to, SPACE, SPACE_BYTES);
        else
            *to++ = text[i];
    }
    *spelled = (size_t)(to - out);
    return out;
}

/* Bytes and symbols up to the first place that nothing joins across. */
static size_t piece_length(const sli_spm *spm, const char *text, size_t length, uint32_t *symbols)
{
    size_t at = 0;
    for (*symbols = 0; at < length && at < PIECE_BYTES_MAX; ++*symbols) {
        bool space = length - at >= SPACE_BYTES && memcmp(text + at, SPACE, SPACE_BYTES) == 0;
        if (at > 0 && space && !spm->before_space[(unsigned char)text[at - 1]])
            break;
        at += symbol_length(text + at, length - at);
    }
    return at;
}

sl_status sli_spm_encode(sli_spm *spm, const char *text, size_t length, bool space_first, sl_tokens *out, sl_error *err)
{
    size_t spelled = 0;
    char *spelling = spell_spaces(text, length, space_first, &spelled);
    if (!spelling)
        return sl_fail(err, SL_NO_MEMORY, "no memory to tokenise %zu bytes", length);
    sl_status status = SL_OK;
    for (size_t at = 0; at < spelled && status == SL_OK;) {
        uint32_t symbols;
        size_t bytes = piece_length(spm, spelling + at, spelled - at, &symbols);
        if (bytes >= PIECE_BYTES_MAX)
            status = sl_fail(err, SL_INVALID, "the text has %zu bytes without a break; at most %zu can be tokenised", bytes,
                             PIECE_BYTES_MAX);
        else
            status = merge_piece(spm, spelling + at, bytes, symbols, out, err);
        at += bytes;
    }
    free(spelling);
    return status;
}

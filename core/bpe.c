/* core/bpe.c: byte-pair merging with a queue of candidates.
 *
 * A piece starts as a chain of symbols, one a byte. Every adjacent pair that some merge joins waits in the queue, ordered by rank and then
 * from left to right; the first is taken, its right symbol melts into the left, and the left's two new neighbourhoods join the queue. A rank
 * names the two tokens that it was made for: if the chain holds others by now the entry is skipped. */
#include "core/bpe.h"

#include "core/merge_queue.h"

#include <stdlib.h>
#include <string.h>

#define MERGES_KEY "tokenizer.ggml.merges"
#define NO_MERGE   UINT32_MAX
#define NO_SYMBOL  UINT32_MAX
/* Symbol numbers are 32 bits with one value to spare; longer pieces would take 28 GiB to merge anyway. */
#define PIECE_BYTES_MAX ((size_t)1 << 30)

typedef struct merge {
    sl_token left, right, result;
} merge;

typedef struct symbol {
    sl_token token; /* SL_TOKEN_NONE: melted into its left neighbour, or a byte without a token */
    uint32_t previous, next;
} symbol;

typedef struct scratch {
    symbol *symbols;
    sli_merge_queue queue;
} scratch;

_Static_assert(sizeof(symbol) + 2 * sizeof(uint64_t) == SLI_BPE_BYTES_A_SYMBOL, "the header says what a symbol costs");

struct sli_bpe {
    const sli_vocab *vocab;
    uint32_t merge_count;
    uint32_t slot_mask;
    merge *merges;   /* by rank */
    uint32_t *slots; /* rank, open addressing, at most half full */
    scratch scratch; /* for pieces up to SLI_BPE_SCRATCH bytes */
};

/* ---- the merges ---- */

static uint32_t hash_pair(sl_token left, sl_token right)
{
    uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(x >> 32);
}

/* The slot of the pair, or the empty one where it belongs. */
static uint32_t slot_of(const sli_bpe *bpe, sl_token left, sl_token right)
{
    for (uint32_t slot = hash_pair(left, right) & bpe->slot_mask;; slot = (slot + 1) & bpe->slot_mask) {
        uint32_t rank = bpe->slots[slot];
        if (rank == NO_MERGE || (bpe->merges[rank].left == left && bpe->merges[rank].right == right))
            return slot;
    }
}

/* "Ġ the" -> its two halves and what they give. The first space that is not the first byte parts them. */
static sl_status resolve(const sli_bpe *bpe, const sl_gguf *gguf, uint32_t rank, sl_str text, char *joined, merge *out, sl_error *err)
{
    const char *space = text.length > 1 ? memchr(text.data + 1, ' ', text.length - 1) : NULL;
    if (!space || space == text.data + text.length - 1)
        return sl_fail(err, SL_FORMAT, "%s: merge %u is '%.*s', not two tokens with a space between", sl_gguf_path(gguf), rank,
                       text.length > 64 ? 64 : (int)text.length, text.data);
    size_t left = (size_t)(space - text.data), right = text.length - left - 1;
    out->left = sli_vocab_find(bpe->vocab, text.data, left);
    out->right = sli_vocab_find(bpe->vocab, space + 1, right);
    out->result = SL_TOKEN_NONE;
    if (left + right <= bpe->vocab->longest_text) {
        memcpy(joined, text.data, left);
        memcpy(joined + left, space + 1, right);
        out->result = sli_vocab_find(bpe->vocab, joined, left + right);
    }
    if (out->left < 0 || out->right < 0 || out->result < 0)
        return sl_fail(err, SL_FORMAT, "%s: merge %u, '%.*s', %s not in the vocabulary", sl_gguf_path(gguf), rank,
                       text.length > 64 ? 64 : (int)text.length, text.data,
                       out->left < 0    ? "has a left half"
                       : out->right < 0 ? "has a right half"
                                        : "gives a token");
    return SL_OK;
}

static sl_status read_merges(sli_bpe *bpe, const sl_gguf *gguf, const sl_gguf_value *array, sl_error *err)
{
    char *joined = malloc((size_t)bpe->vocab->longest_text + 1);
    if (!joined)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its merges", sl_gguf_path(gguf));
    memset(bpe->slots, 0xff, ((size_t)bpe->slot_mask + 1) * sizeof *bpe->slots);
    sl_status status = SL_OK;
    size_t cursor = 0;
    sl_str text;
    for (uint32_t rank = 0; rank < bpe->merge_count && sl_gguf_next_string(array, &cursor, &text); rank++) {
        status = resolve(bpe, gguf, rank, text, joined, &bpe->merges[rank], err);
        if (status != SL_OK)
            break;
        uint32_t slot = slot_of(bpe, bpe->merges[rank].left, bpe->merges[rank].right);
        if (bpe->slots[slot] == NO_MERGE) /* of a merge that is listed twice, the first counts */
            bpe->slots[slot] = rank;
    }
    free(joined);
    return status;
}

/* ---- opening ---- */

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

sl_status sli_bpe_open(const sl_gguf *gguf, const sli_vocab *vocab, sli_bpe **out, sl_error *err)
{
    *out = NULL;
    const sl_gguf_value *array;
    SL_TRY(sli_string_array(gguf, MERGES_KEY, &array, err));

    sli_bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its merges", sl_gguf_path(gguf));
    bpe->vocab = vocab;
    bpe->merge_count = (uint32_t)array->count;
    bpe->slot_mask = sli_table_slots(bpe->merge_count) - 1;
    bpe->merges = malloc((size_t)bpe->merge_count * sizeof *bpe->merges + 1);
    bpe->slots = malloc(((size_t)bpe->slot_mask + 1) * sizeof *bpe->slots);
    sl_status status;
    if (!scratch_open(&bpe->scratch, SLI_BPE_SCRATCH) || !bpe->merges || !bpe->slots)
        status = sl_fail(err, SL_NO_MEMORY, "%s: no memory for its merges", sl_gguf_path(gguf));
    else
        status = read_merges(bpe, gguf, array, err);
    if (status != SL_OK) {
        sli_bpe_close(bpe);
        return status;
    }
    *out = bpe;
    return SL_OK;
}

void sli_bpe_close(sli_bpe *bpe)
{
    if (!bpe)
        return;
    scratch_close(&bpe->scratch);
    free(bpe->slots);
    free(bpe->merges);
    free(bpe);
}

size_t sli_bpe_heap_bytes(const sli_bpe *bpe)
{
    return sizeof *bpe + bpe->merge_count * sizeof *bpe->merges + 1 + ((size_t)bpe->slot_mask + 1) * sizeof *bpe->slots +
           (size_t)SLI_BPE_SCRATCH * SLI_BPE_BYTES_A_SYMBOL;
}

/* ---- merging ---- */

static void push_pair(const sli_bpe *bpe, scratch *s, uint32_t left)
{
    uint32_t right = left == NO_SYMBOL ? NO_SYMBOL : s->symbols[left].next;
    if (right == NO_SYMBOL)
        return;
    sl_token a = s->symbols[left].token, b = s->symbols[right].token;
    if (a < 0 || b < 0)
        return;
    uint32_t rank = bpe->slots[slot_of(bpe, a, b)];
    if (rank != NO_MERGE)
        sli_merge_push(&s->queue, (uint64_t)rank << 32 | left);
}

static void take_pair(const sli_bpe *bpe, scratch *s, uint64_t entry)
{
    const merge *m = &bpe->merges[entry >> 32];
    uint32_t at = (uint32_t)entry;
    symbol *left = &s->symbols[at];
    if (left->token != m->left || left->next == NO_SYMBOL || s->symbols[left->next].token != m->right)
        return; /* the chain has changed since */
    symbol *right = &s->symbols[left->next];
    left->token = m->result;
    left->next = right->next;
    right->token = SL_TOKEN_NONE;
    if (left->next != NO_SYMBOL)
        s->symbols[left->next].previous = at;
    push_pair(bpe, s, left->previous);
    push_pair(bpe, s, at);
}

static sl_status encode_with(const sli_bpe *bpe, scratch *s, const char *piece, uint32_t length, sl_tokens *out, sl_error *err)
{
    s->queue.count = 0;
    for (uint32_t i = 0; i < length; i++) {
        sl_token token = bpe->vocab->byte_token[(unsigned char)piece[i]];
        s->symbols[i] = (symbol){token, i > 0 ? i - 1 : NO_SYMBOL, i + 1 < length ? i + 1 : NO_SYMBOL};
    }
    for (uint32_t i = 0; i < length; i++)
        push_pair(bpe, s, i);
    while (s->queue.count > 0)
        take_pair(bpe, s, sli_merge_pop(&s->queue));
    for (uint32_t i = 0; i != NO_SYMBOL; i = s->symbols[i].next) {
        if (s->symbols[i].token >= 0)
            SL_TRY(sl_tokens_push(out, s->symbols[i].token, err));
    }
    return SL_OK;
}

sl_status sli_bpe_encode(sli_bpe *bpe, const char *piece, size_t length, sl_tokens *out, sl_error *err)
{
    if (length == 0)
        return SL_OK;
    if (length <= SLI_BPE_SCRATCH)
        return encode_with(bpe, &bpe->scratch, piece, (uint32_t)length, out, err);
    if (length > PIECE_BYTES_MAX)
        return sl_fail(err, SL_INVALID, "the text has %zu bytes without a break; at most %zu can be tokenised", length, PIECE_BYTES_MAX);
    scratch large = {0};
    sl_status status;
    if (scratch_open(&large, length))
        status = encode_with(bpe, &large, piece, (uint32_t)length, out, err);
    else
        status = sl_fail(err, SL_NO_MEMORY, "no memory to tokenise %zu bytes without a break", length);
    scratch_close(&large);
    return status;
}

/* core/vocab.c: reading tokenizer.ggml.tokens and .token_type into compact tables. See the header. */
#include "core/vocab.h"

#include "core/byte_unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_KEY "tokenizer.ggml.tokens"
#define TYPES_KEY  "tokenizer.ggml.token_type"
/* Ids are int32 and hash tables hold twice as many slots; no vocabulary comes near. */
#define SIZE_MAX_TOKENS (1u << 28)
#define NO_TOKEN        UINT32_MAX

sl_status sli_string_array(const sl_gguf *gguf, const char *key, const sl_gguf_value **out, sl_error *err)
{
    const sl_gguf_value *value = sl_gguf_find(gguf, key);
    if (!value)
        return sl_fail(err, SL_FORMAT, "%s: %s is missing; a vocabulary needs it, an array of strings", sl_gguf_path(gguf), key);
    if (value->kind != SL_GGUF_ARRAY || value->element_kind != SL_GGUF_STRING)
        return sl_fail(err, SL_FORMAT, "%s: %s is not an array of strings", sl_gguf_path(gguf), key);
    if (value->count > SIZE_MAX_TOKENS)
        return sl_fail(err, SL_FORMAT, "%s: %s has %llu entries; at most %u make sense", sl_gguf_path(gguf), key,
                       (unsigned long long)value->count, SIZE_MAX_TOKENS);
    *out = value;
    return SL_OK;
}

uint32_t sli_hash_bytes(const char *data, size_t length) /* FNV-1a, folded so that the low bits depend on all */
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3u;
    return (uint32_t)(hash ^ hash >> 32);
}

uint32_t sli_table_slots(uint32_t count)
{
    uint32_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    return slots;
}

sl_str sli_vocab_text(const sli_vocab *v, sl_token id)
{
    const uint8_t *at = v->texts + v->text_at[id];
    uint64_t length;
    memcpy(&length, at, sizeof length);
    return (sl_str){(const char *)at + sizeof length, (size_t)length};
}

/* The slot that holds `text`, or the empty one where it belongs. */
static uint32_t slot_of(const sli_vocab *v, const char *text, size_t length)
{
    for (uint32_t slot = sli_hash_bytes(text, length) & v->slot_mask;; slot = (slot + 1) & v->slot_mask) {
        if (v->slots[slot] == NO_TOKEN)
            return slot;
        sl_str other = sli_vocab_text(v, (sl_token)v->slots[slot]);
        if (other.length == length && (length == 0 || memcmp(other.data, text, length) == 0))
            return slot;
    }
}

sl_token sli_vocab_find(const sli_vocab *v, const char *text, size_t length)
{
    uint32_t id = v->slots[slot_of(v, text, length)];
    return id == NO_TOKEN ? SL_TOKEN_NONE : (sl_token)id;
}

/* ---- opening ---- */

static sl_status no_memory(const sl_gguf *gguf, sl_error *err)
{
    return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its vocabulary", sl_gguf_path(gguf));
}

static sl_status read_kinds(sli_vocab *v, const sl_gguf *gguf, sl_error *err)
{
    const sl_gguf_value *types = sl_gguf_find(gguf, TYPES_KEY);
    if (!types) { /* optional: all are ordinary then */
        memset(v->kinds, SLI_TOKEN_NORMAL, v->size);
        return SL_OK;
    }
    if (types->kind != SL_GGUF_ARRAY || (types->element_kind != SL_GGUF_I32 && types->element_kind != SL_GGUF_U32))
        return sl_fail(err, SL_FORMAT, "%s: " TYPES_KEY " is not an array of 32-bit integers", sl_gguf_path(gguf));
    if (types->count != v->size)
        return sl_fail(err, SL_FORMAT, "%s: " TYPES_KEY " has %llu entries, but there are %u tokens", sl_gguf_path(gguf),
                       (unsigned long long)types->count, v->size);
    for (uint32_t id = 0; id < v->size; id++) {
        double kind = sl_gguf_number_at(types, id);
        if (!(kind >= 0 && kind < SLI_TOKEN_KINDS))
            return sl_fail(err, SL_FORMAT, "%s: token %u has type %.0f; types are 0..%d", sl_gguf_path(gguf), id, kind,
                           SLI_TOKEN_KINDS - 1);
        v->kinds[id] = (uint8_t)kind;
    }
    return SL_OK;
}

/* Fills text_at and the hash table; the bytes of all texts together in *total. */
static sl_status read_texts(sli_vocab *v, const sl_gguf *gguf, const sl_gguf_value *tokens, size_t *total, sl_error *err)
{
    v->texts = tokens->data;
    memset(v->slots, 0xff, ((size_t)v->slot_mask + 1) * sizeof *v->slots);
    size_t cursor = 0;
    sl_str text;
    *total = 0;
    for (uint32_t id = 0; id < v->size && sl_gguf_next_string(tokens, &cursor, &text); id++) {
        size_t at = (size_t)((const uint8_t *)text.data - tokens->data) - sizeof(uint64_t);
        if (at > UINT32_MAX)
            return sl_fail(err, SL_FORMAT, "%s: " TOKENS_KEY " is larger than 4 GiB", sl_gguf_path(gguf));
        uint32_t slot = slot_of(v, text.data, text.length);
        if (v->slots[slot] != NO_TOKEN)
            return sl_fail(err, SL_FORMAT, "%s: tokens %u and %u have the same text '%.*s'", sl_gguf_path(gguf), v->slots[slot], id,
                           text.length > 64 ? 64 : (int)text.length, text.data);
        v->slots[slot] = id;
        v->text_at[id] = (uint32_t)at;
        *total += text.length;
        if (text.length > v->longest_text)
            v->longest_text = (uint32_t)text.length;
    }
    return SL_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int byte_of_text(sl_str text) /* "<0x0A>" -> 10; -1 when it is no such text */
{
    if (text.length != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* U+2581 back into a space; returns the count of bytes. */
static size_t spaces_back(sl_str text, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < text.length; i++) {
        bool space = text.length - i >= 3 && memcmp(text.data + i, "\xe2\x96\x81", 3) == 0;
        out[used++] = space ? ' ' : text.data[i];
        i += space ? 2 : 0;
    }
    return used;
}

static size_t decode_normal(const sli_vocab *v, sl_str text, char *out)
{
    return v->spelling == SLI_SPELLED_SPACES ? spaces_back(text, out) : sli_text_to_bytes(text.data, text.length, out);
}

/* The bytes that each token stands for in a text. Unused ones stand for nothing. */
static sl_status decode_pieces(sli_vocab *v, const sl_gguf *gguf, sl_error *err)
{
    size_t used = 0;
    for (uint32_t id = 0; id < v->size; id++) {
        sl_str text = sli_vocab_text(v, (sl_token)id);
        v->piece_at[id] = (uint32_t)used;
        switch ((sli_token_kind)v->kinds[id]) {
        case SLI_TOKEN_NORMAL: used += decode_normal(v, text, v->pieces + used); break;
        case SLI_TOKEN_UNKNOWN:
        case SLI_TOKEN_CONTROL:
        case SLI_TOKEN_USER_DEFINED:
            if (text.length > 0)
                memcpy(v->pieces + used, text.data, text.length);
            used += text.length;
            break;
        case SLI_TOKEN_BYTE:
            if (byte_of_text(text) < 0)
                return sl_fail(err, SL_FORMAT, "%s: token %u is of type byte, but its text is not like <0x0A>", sl_gguf_path(gguf), id);
            v->pieces[used++] = (char)byte_of_text(text);
            break;
        default: break;
        }
    }
    v->piece_at[v->size] = (uint32_t)used;
    return SL_OK;
}

static sl_token find_byte_token(const sli_vocab *v, uint8_t byte)
{
    char text[8];
    if (v->spelling == SLI_SPELLED_BYTES)
        return sli_vocab_find(v, text, sli_byte_to_text(byte, text));
    snprintf(text, sizeof text, "<0x%02X>", byte);
    sl_token token = sli_vocab_find(v, text, strlen(text));
    return token >= 0 ? token : sli_vocab_find(v, (const char *)&byte, 1);
}

static void find_byte_tokens(sli_vocab *v)
{
    for (int byte = 0; byte < 256; byte++)
        v->byte_token[byte] = find_byte_token(v, (uint8_t)byte);
}

/* Gives back what decoding saved: stand-ins are longer than the bytes they stand for. */
static void shrink_pieces(sli_vocab *v, size_t reserved)
{
    size_t used = v->piece_at[v->size] > 0 ? v->piece_at[v->size] : 1;
    char *smaller = realloc(v->pieces, used);
    if (smaller) {
        v->pieces = smaller;
        v->heap_bytes -= reserved - used;
    }
}

static sl_status open_tables(sli_vocab *v, const sl_gguf *gguf, const sl_gguf_value *tokens, sl_error *err)
{
    size_t total = 0, size = v->size;
    v->slot_mask = sli_table_slots(v->size) - 1;
    v->text_at = malloc(size * sizeof *v->text_at);
    v->piece_at = malloc((size + 1) * sizeof *v->piece_at);
    v->kinds = malloc(size);
    v->slots = malloc(((size_t)v->slot_mask + 1) * sizeof *v->slots);
    if (!v->text_at || !v->piece_at || !v->kinds || !v->slots)
        return no_memory(gguf, err);
    SL_TRY(read_kinds(v, gguf, err));
    SL_TRY(read_texts(v, gguf, tokens, &total, err));

    v->pieces = malloc(total + 1);
    if (!v->pieces)
        return no_memory(gguf, err);
    v->heap_bytes = size * (2 * sizeof(uint32_t) + 1) + sizeof(uint32_t) + ((size_t)v->slot_mask + 1) * sizeof *v->slots + total + 1;
    SL_TRY(decode_pieces(v, gguf, err));
    shrink_pieces(v, total + 1);
    find_byte_tokens(v);
    return SL_OK;
}

sl_status sli_vocab_open(sli_vocab *v, const sl_gguf *gguf, sli_spelling spelling, sl_error *err)
{
    memset(v, 0, sizeof *v);
    v->spelling = spelling;
    const sl_gguf_value *tokens;
    SL_TRY(sli_string_array(gguf, TOKENS_KEY, &tokens, err));
    if (tokens->count == 0)
        return sl_fail(err, SL_FORMAT, "%s: " TOKENS_KEY " is empty", sl_gguf_path(gguf));
    v->size = (uint32_t)tokens->count;
    sl_status status = open_tables(v, gguf, tokens, err);
    if (status != SL_OK)
        sli_vocab_close(v);
    return status;
}

void sli_vocab_close(sli_vocab *v)
{
    free(v->slots);
    free(v->kinds);
    free(v->pieces);
    free(v->piece_at);
    free(v->text_at);
    memset(v, 0, sizeof *v);
}

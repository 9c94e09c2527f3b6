/* offload/tools/synth_vocabulary.c: a small vocabulary that really tokenises.
 *
 * Byte-level BPE in four parts: special tokens, one token for each byte (so that any text can be encoded), the results of some merges
 * that are frequent in English (so that merging is exercised), and filler words up to the size that is asked for. Text reaches no filler,
 * but a random model speaks in them, and then they are readable. */
#include "offload/tools/synth_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GGUF's tokenizer.ggml.token_type */
enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3 };
enum { TOKEN_UNKNOWN_ID = 0, TOKEN_BOS_ID = 1, TOKEN_EOS_ID = 2, BYTE_COUNT = 256, TEXT_BYTES_MAX = 16 };

static const char *const special_tokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { SPECIAL_COUNT = sizeof(special_tokens) / sizeof(special_tokens[0]) };

/* Learnt from an English novel of 1817, in rank order: left+right, "_" standing for the space at a word's start. */
static const char merge_rules[] =
    "h+e _+t _+a i+n _+w _+s e+r _+o h+a _t+he e+n r+e o+u _+b n+d i+t e+d _t+o in+g _+m o+n i+s _o+f _+f _a+nd _+c l+l _+_ "
    "_+he _b+e _+ha _+n o+r a+s e+s _+in a+r o+t _+h _+p _+d a+t a+n o+m l+e en+t l+d v+e _w+as s+e _he+r l+y v+er _+l c+h "
    "_+g _ha+d s+t i+m ha+t c+e i+on _+e _n+ot u+t a+l o+w ou+ld t+er i+r g+h n+e _+y _+re _a+s _+it it+h he+r a+y r+o a+in "
    "_+M _f+or e+t i+d _t+h _s+he _t+hat _y+ou _w+h _+I a+d _w+ith r+i c+t _a+n ";

static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/* Strings in one growing block of memory. Offsets, not pointers, until all are there. */
typedef struct text_list {
    char *bytes;
    size_t used, room;
    sl_str *items; /* data is filled in at the end */
    size_t count;
} text_list;

static bool text_list_open(text_list *list, size_t items)
{
    list->room = items * TEXT_BYTES_MAX;
    list->bytes = malloc(list->room);
    list->items = calloc(items, sizeof(*list->items));
    return list->bytes && list->items;
}

static void text_list_close(text_list *list)
{
    free(list->bytes);
    free(list->items);
}

/* Every text of ours is shorter than TEXT_BYTES_MAX, so the room is there. */
static void text_list_add(text_list *list, const char *text, size_t length)
{
    memcpy(list->bytes + list->used, text, length);
    list->items[list->count++] = (sl_str){list->bytes + list->used, length};
    list->used += length;
}

/* Byte-level BPE writes bytes as letters: the printable ones of Latin-1 as themselves, the rest as U+0100 and on, in order. */
static size_t byte_as_utf8(unsigned byte, char out[2])
{
    unsigned code = byte;
    if (byte <= 0x20)
        code = 0x100 + byte;
    else if (byte >= 0x7f && byte <= 0xa0)
        code = 0x121 + byte - 0x7f;
    else if (byte == 0xad)
        code = 0x143;
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

/* "_t+he" -> "Ġt he" and "Ġthe"; returns what follows the rule, or NULL at the end of the rules. */
static const char *next_merge(const char *rules, char pair[TEXT_BYTES_MAX], char joined[TEXT_BYTES_MAX])
{
    size_t p = 0, j = 0;
    if (*rules == '\0')
        return NULL;
    for (; *rules != ' '; rules++) {
        char letters[2] = {*rules};
        size_t count = *rules == '_' ? byte_as_utf8(' ', letters) : 1;
        if (*rules == '+') {
            pair[p++] = ' ';
            continue;
        }
        memcpy(pair + p, letters, count);
        memcpy(joined + j, letters, count);
        p += count;
        j += count;
    }
    pair[p] = joined[j] = '\0';
    return rules + 1;
}

static void fill_lists(text_list *tokens, text_list *merges, uint32_t size)
{
    for (size_t i = 0; i < SPECIAL_COUNT; i++)
        text_list_add(tokens, special_tokens[i], strlen(special_tokens[i]));
    for (unsigned byte = 0; byte < BYTE_COUNT; byte++) {
        char letters[2];
        text_list_add(tokens, letters, byte_as_utf8(byte, letters));
    }
    char pair[TEXT_BYTES_MAX], joined[TEXT_BYTES_MAX];
    for (const char *rules = merge_rules; (rules = next_merge(rules, pair, joined)) != NULL;) {
        text_list_add(merges, pair, strlen(pair));
        text_list_add(tokens, joined, strlen(joined));
    }
    while (tokens->count < size) {
        char word[TEXT_BYTES_MAX];
        int length = snprintf(word, sizeof(word), "\xc4\xa0w%u", (unsigned)tokens->count); /* U+0120: a space */
        text_list_add(tokens, word, (size_t)length);
    }
}

static sl_status write_lists(sl_gguf_writer *w, const text_list *tokens, const text_list *merges, int32_t *kinds, sl_error *err)
{
    for (size_t i = 0; i < tokens->count; i++)
        kinds[i] = i < SPECIAL_COUNT ? TOKEN_CONTROL : TOKEN_NORMAL;
    SL_TRY(sl_gguf_write_strings(w, "tokenizer.ggml.tokens", tokens->items, tokens->count, err));
    SL_TRY(sl_gguf_write_i32s(w, "tokenizer.ggml.token_type", kinds, tokens->count, err));
    return sl_gguf_write_strings(w, "tokenizer.ggml.merges", merges->items, merges->count, err);
}

sl_status sli_synth_vocabulary(sl_gguf_writer *w, uint32_t size, sl_error *err)
{
    if (size < SLI_SYNTH_VOCABULARY_MIN)
        return sl_fail(err, SL_INVALID, "a vocabulary of %u tokens, must be at least %d", size, SLI_SYNTH_VOCABULARY_MIN);
    SL_TRY(sl_gguf_write_str(w, "tokenizer.ggml.model", "gpt2", err));
    SL_TRY(sl_gguf_write_str(w, "tokenizer.ggml.pre", "smollm", err));

    text_list tokens = {0}, merges = {0};
    int32_t *kinds = malloc(size * sizeof(*kinds));
    sl_status status;
    if (text_list_open(&tokens, size) && text_list_open(&merges, SLI_SYNTH_VOCABULARY_MIN) && kinds) {
        fill_lists(&tokens, &merges, size);
        status = write_lists(w, &tokens, &merges, kinds, err);
    } else {
        status = sl_fail(err, SL_NO_MEMORY, "no memory for a vocabulary of %u tokens", size);
    }
    free(kinds);
    text_list_close(&merges);
    text_list_close(&tokens);
    SL_TRY(status);

    SL_TRY(sl_gguf_write_u32(w, "tokenizer.ggml.bos_token_id", TOKEN_BOS_ID, err));
    SL_TRY(sl_gguf_write_u32(w, "tokenizer.ggml.eos_token_id", TOKEN_EOS_ID, err));
    SL_TRY(sl_gguf_write_u32(w, "tokenizer.ggml.unknown_token_id", TOKEN_UNKNOWN_ID, err));
    SL_TRY(sl_gguf_write_u32(w, "tokenizer.ggml.padding_token_id", TOKEN_EOS_ID, err));
    SL_TRY(sl_gguf_write_bool(w, "tokenizer.ggml.add_bos_token", false, err));
    SL_TRY(sl_gguf_write_bool(w, "tokenizer.ggml.add_space_prefix", false, err));
    return sl_gguf_write_str(w, "tokenizer.chat_template", chat_template, err);
}

/* core/pretokenizer.c: the table of pre-tokenizers, and the cutting by PCRE2.
 *
 * The patterns say what those of llama.cpp and of the tokenizers' own files say, in three ways more strictly:
 *  - Character classes know Unicode 15.1, as llama.cpp's do: what came after Unicode 14 (PCRE2 10.40 to 10.42) is named. A PCRE2 that knows
 *    still later letters (from 10.45 on) takes them for letters; nothing is named against that. PCRE2's own \s is not used: it takes U+180E
 *    for a space, which Unicode does not.
 *  - Repetitions that end an alternative are possessive (++): they could give nothing back that would match, so a long run costs no
 *    backtracking.
 *  - "|\s+" stands at the end wherever a lone space would else be left over; llama.cpp's splitter makes it a piece of its own, too. */
#include "core/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>
#include <string.h>

#define SPACE "\\x09-\\x0d\\x{85}\\p{Z}"
#define LETTER                                                                                                                             \
    "\\p{L}\\x{1123f}\\x{11240}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{1b132}\\x{1b155}"    \
    "\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBER      "\\p{N}\\x{11f50}-\\x{11f59}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"
#define PUNCTUATION "\\p{P}\\x{11b00}-\\x{11b09}\\x{11f43}-\\x{11f4f}"

#define RUN_OF_SPACE "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]++"
#define GPT2_WORDS   "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]++| ?[" NUMBER "]++| ?[^" SPACE LETTER NUMBER "]++|" RUN_OF_SPACE
/* The later generation: contractions in either case, a word takes one leading sign along, digits in small groups, newlines apart. */
#define CL100K_WORDS(digits)                                                                                                               \
    "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]++|[" NUMBER "]" digits "| ?[^" SPACE LETTER NUMBER \
    "]++[\\r\\n]*+|[" SPACE "]*[\\r\\n]++|" RUN_OF_SPACE

#define PATTERNS_MAX 4
#define NAMES_MAX    8

typedef struct row {
    const char *names[NAMES_MAX];
    const char *patterns[PATTERNS_MAX];
    bool whole_first;
    bool adds_bos;
} row;

static const row table[] = {
    {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
     .patterns = {"[" NUMBER "]", GPT2_WORDS}},
    {.names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"}, .patterns = {GPT2_WORDS}},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"},
     .patterns = {CL100K_WORDS("{1,3}+")},
     .whole_first = true,
     .adds_bos = true},
    {.names = {"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"}, .patterns = {CL100K_WORDS("")}},
    {.names = {"default"}, .patterns = {"[" PUNCTUATION "$+<=>^~|]++", GPT2_WORDS, "[" NUMBER "]++", "[0-9][0-9][0-9]"}},
};

struct sli_pretokenizer {
    const row *row;
    pcre2_code *codes[PATTERNS_MAX];
    pcre2_match_data *matches[PATTERNS_MAX]; /* one a level: an outer search goes on after the inner ones */
    size_t heap_bytes;
};

static const row *find_row(sl_str name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (size_t j = 0; j < NAMES_MAX && table[i].names[j]; j++) {
            if (sl_str_equal(name, table[i].names[j]))
                return &table[i];
        }
    }
    return NULL;
}

static void list_names(char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *name = table[i].names[0];
        size_t need = strlen(name) + (used > 0 ? 2 : 0);
        if (used + need + 1 > size)
            return;
        if (used > 0)
            memcpy(out + used, ", ", 2);
        memcpy(out + used + need - strlen(name), name, strlen(name) + 1);
        used += need;
    }
}

static sl_status compile(sli_pretokenizer *p, size_t level, sl_error *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    p->codes[level] = pcre2_compile((PCRE2_SPTR)p->row->patterns[level], PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (!p->codes[level]) {
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return sl_fail(err, SL_NO_MEMORY, "no memory for the patterns of pre-tokenizer '%s'", p->row->names[0]);
        return sl_fail(err, SL_INTERNAL, "pre-tokenizer '%s': PCRE2 refuses pattern %zu with error %d at %zu", p->row->names[0], level,
                       code, (size_t)at);
    }
    p->matches[level] = pcre2_match_data_create(1, NULL);
    if (!p->matches[level])
        return sl_fail(err, SL_NO_MEMORY, "no memory for the patterns of pre-tokenizer '%s'", p->row->names[0]);

    /* A hardened kernel may refuse memory that is both written and run; then PCRE2 interprets, with the same matches. */
    size_t size = 0;
    if (pcre2_jit_compile(p->codes[level], PCRE2_JIT_COMPLETE) == 0 && pcre2_pattern_info(p->codes[level], PCRE2_INFO_JITSIZE, &size) == 0)
        p->heap_bytes += size;
    if (pcre2_pattern_info(p->codes[level], PCRE2_INFO_SIZE, &size) == 0)
        p->heap_bytes += size;
    p->heap_bytes += pcre2_get_match_data_size(p->matches[level]);
    return SL_OK;
}

sl_status sli_pretokenizer_open(sl_str name, const char *file, sli_pretokenizer **out, sl_error *err)
{
    *out = NULL;
    const row *found = find_row(name);
    if (!found) {
        char names[200];
        list_names(names, sizeof names);
        return sl_fail(err, SL_UNSUPPORTED, "%s: tokenizer.ggml.pre is '%.*s', which we do not know; known are %s and their kin", file,
                       name.length > 64 ? 64 : (int)name.length, name.data, names);
    }
    sli_pretokenizer *p = calloc(1, sizeof *p);
    if (!p)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its pre-tokenizer", file);
    p->row = found;
    p->heap_bytes = sizeof *p;
    for (size_t level = 0; level < PATTERNS_MAX && found->patterns[level]; level++) {
        sl_status status = compile(p, level, err);
        if (status != SL_OK) {
            sli_pretokenizer_close(p);
            return status;
        }
    }
    *out = p;
    return SL_OK;
}

void sli_pretokenizer_close(sli_pretokenizer *p)
{
    if (!p)
        return;
    for (size_t level = 0; level < PATTERNS_MAX; level++) {
        pcre2_match_data_free(p->matches[level]);
        pcre2_code_free(p->codes[level]);
    }
    free(p);
}

size_t sli_pretokenizer_heap_bytes(const sli_pretokenizer *p)
{
    return p->heap_bytes;
}

bool sli_pretokenizer_whole_first(const sli_pretokenizer *p)
{
    return p->row->whole_first;
}

bool sli_pretokenizer_adds_bos(const sli_pretokenizer *p)
{
    return p->row->adds_bos;
}

/* The next match at or after `from`, its ends in *begin and *end; SL_PENDING when there is none. */
static sl_status next_match(sli_pretokenizer *p, size_t level, const char *text, size_t length, size_t from, size_t *begin, size_t *end,
                            sl_error *err)
{
    pcre2_match_data *match = p->matches[level];
    int got = pcre2_match(p->codes[level], (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, match, NULL);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT)
        got = pcre2_match(p->codes[level], (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, NULL);
    if (got == PCRE2_ERROR_NOMATCH)
        return SL_PENDING;
    if (got < 0) {
        return sl_fail(err, got == PCRE2_ERROR_NOMEMORY ? SL_NO_MEMORY : SL_INTERNAL,
                       "pre-tokenizer '%s': PCRE2 fails with error %d in a text of %zu bytes", p->row->names[0], got, length);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match);
    *begin = ends[0];
    *end = ends[1];
    return SL_OK;
}

/* Cuts by the pattern of this level and hands each part to the next; recursion is at most PATTERNS_MAX deep. */
static sl_status split_level(sli_pretokenizer *p, size_t level, const char *text, size_t length, sli_piece_fn fn, void *arg, sl_error *err)
{
    if (length == 0)
        return SL_OK;
    if (level == PATTERNS_MAX || !p->codes[level])
        return fn(arg, text, length, err);

    size_t done = 0;
    while (done < length) {
        size_t begin = 0, end = 0;
        sl_status status = next_match(p, level, text, length, done, &begin, &end, err);
        if (status == SL_PENDING)
            break;
        if (status != SL_OK)
            return status;
        SL_TRY(split_level(p, level + 1, text + done, begin - done, fn, arg, err));
        SL_TRY(split_level(p, level + 1, text + begin, end - begin, fn, arg, err));
        done = end; /* no pattern matches nothing, so this advances */
    }
    return split_level(p, level + 1, text + done, length - done, fn, arg, err);
}

sl_status sli_pretokenizer_split(sli_pretokenizer *p, const char *text, size_t length, sli_piece_fn fn, void *arg, sl_error *err)
{
    return split_level(p, 0, text, length, fn, arg, err);
}

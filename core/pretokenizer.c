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
#define MARK                                                                                                                               \
    "\\p{M}\\x{cf3}\\x{ece}\\x{10efd}-\\x{10eff}\\x{11241}\\x{11f00}\\x{11f01}\\x{11f03}\\x{11f34}-\\x{11f3a}\\x{11f3e}-\\x{11f42}"        \
    "\\x{13440}\\x{13447}-\\x{13455}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}"
#define NUMBER      "\\p{N}\\x{11f50}-\\x{11f59}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"
#define PUNCTUATION "\\p{P}\\x{11b00}-\\x{11b09}\\x{11f43}-\\x{11f4f}"
#define SYMBOL                                                                                                                             \
    "\\p{S}\\x{2ffc}-\\x{2fff}\\x{31ef}\\x{1f6dc}\\x{1f774}-\\x{1f776}\\x{1f77b}-\\x{1f77f}\\x{1f7d9}\\x{1fa75}-\\x{1fa77}\\x{1fa87}"      \
    "\\x{1fa88}\\x{1faad}-\\x{1faaf}\\x{1fabb}-\\x{1fabd}\\x{1fabf}\\x{1face}\\x{1facf}\\x{1fada}\\x{1fadb}\\x{1fae8}\\x{1faf7}\\x{1faf8}"

#define RUN_OF_SPACE "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]++"
#define GPT2_WORDS   "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]++| ?[" NUMBER "]++| ?[^" SPACE LETTER NUMBER "]++|" RUN_OF_SPACE

/* The later generation: contractions in either case, a word takes one leading sign along, digits in small groups, newlines apart. */
#define CONTRACTION              "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
#define LEAD                     "[^\\r\\n" LETTER NUMBER "]?"
#define SIGNS                    " ?[^" SPACE LETTER NUMBER "]++"
#define LINE_ENDS                "[" SPACE "]*[\\r\\n]++"
#define CL100K_WITH(digits, run) CONTRACTION "|" LEAD "[" LETTER "]++|[" NUMBER "]" digits "|" SIGNS "[\\r\\n]*+|" LINE_ENDS "|" run
#define CL100K_WORDS(digits)     CL100K_WITH(digits, RUN_OF_SPACE)

/* The one after that cuts before a capital, too. As llama.cpp has it, only the capitals of ASCII count: other letters are both. */
#define NO_SMALL   "(?:(?![a-z])[" LETTER "])"
#define NO_CAPITAL "(?:(?![A-Z])[" LETTER "])"
#define O200K_WORDS(tail, digits)                                                                                                          \
    LEAD NO_SMALL "*" NO_CAPITAL "++" tail "|" LEAD NO_SMALL "++" NO_CAPITAL "*+" tail "|[" NUMBER "]" digits "|" SIGNS                    \
                  "[\\r\\n/]*+|" LINE_ENDS "|" RUN_OF_SPACE

/* What DeepSeek's first vocabularies call letters: those with a case, but of the scripts of some older list. */
#define CASED                                                                                                                              \
    "(?:(?![\\x{560}-\\x{588}\\x{10c7}\\x{10cd}\\x{10d0}-\\x{10ff}\\x{1c80}-\\x{1c8f}\\x{2d00}-\\x{2d2d}\\x{a790}-\\x{ab6f}"               \
    "\\x{10570}-\\x{105bf}\\x{10d50}-\\x{10d8f}\\x{16e40}-\\x{1dfff}])[\\p{Lu}\\p{Ll}\\p{Lt}])"
#define SIGNS_OF_ANY_WIDTH "[!-/:-~\\x{2018}-\\x{201f}\\x{3001}\\x{3002}\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}]"
#define EAST_ASIAN         "(?:(?![" SPACE "])[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}])++"
#define LAST_SPACE         "(?<![" SPACE "])[" SPACE "]++\\z"
#define DEEPSEEK3_WORDS                                                                                                                    \
    "[!-/:-@\\[-`{-~][A-Za-z]++|[^\\r\\n" LETTER PUNCTUATION SYMBOL "]?[" LETTER MARK "]++| ?[" PUNCTUATION SYMBOL                         \
    "]++[\\r\\n]*+|" LINE_ENDS "|" RUN_OF_SPACE

#define QWEN35_WORDS                                                                                                                       \
    CONTRACTION "|" LEAD "[" LETTER MARK "]++|[" NUMBER "]| ?[^" SPACE LETTER MARK NUMBER "]++[\\r\\n]*+|" LINE_ENDS "|" RUN_OF_SPACE
#define SEED_WORDS CONTRACTION "|" LEAD "[" LETTER "]++|[" NUMBER "]|" SIGNS "|" LINE_ENDS "|" RUN_OF_SPACE
/* Up to the next of these marks. */
#define BETWEEN_MARKS " ?[^(" SPACE "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]++"
/* Space in lengths that are powers of two. */
#define SPACES(count) "[" SPACE "]{" count "}(?![^" SPACE "])|"
#define SPACE_BY_POWERS                                                                                                                    \
    SPACES("512") SPACES("256") SPACES("128") SPACES("64") SPACES("32") SPACES("16") SPACES("8") SPACES("4") SPACES("1,2") "[" SPACE "]"

#define PATTERNS_MAX 6
#define NAMES_MAX    12
#define NAMES_BYTES  300

typedef struct row {
    const char *names[NAMES_MAX];
    const char *patterns[PATTERNS_MAX];
    bool whole_first;
    bool adds_bos;
} row;

static const row table[] = {
    {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
     .patterns = {"[" NUMBER "]", GPT2_WORDS}},
    {.names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat", "a.x-4.0", "mellum"},
     .patterns = {GPT2_WORDS}},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
     .patterns = {CL100K_WORDS("{1,3}+")},
     .whole_first = true,
     .adds_bos = true},
    {.names = {"dbrx", "smaug-bpe", "chatglm-bpe"}, .patterns = {CL100K_WORDS("{1,3}+")}},
    {.names = {"glm4", "glm5"}, .patterns = {CL100K_WORDS("{1,3}+")}, .whole_first = true},
    {.names = {"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "solar-open", "grok-2", "bailingmoe", "bailingmoe2",
               "llada-moe"},
     .patterns = {CL100K_WORDS("")}},
    {.names = {"qwen35"}, .patterns = {QWEN35_WORDS}},
    {.names = {"deepseek-llm"},
     .patterns = {"[\\r\\n]", "[" SPACE "]?" CASED "++", "[" SPACE "]?" SIGNS_OF_ANY_WIDTH "++", LAST_SPACE, EAST_ASIAN, "[" NUMBER "]++"}},
    {.names = {"deepseek-coder"},
     .patterns = {"[\\r\\n]", "[" SPACE "]?[" LETTER "]++", "[" SPACE "]?[" PUNCTUATION "]++", EAST_ASIAN, "[" NUMBER "]"}},
    {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"},
     .patterns = {"[" NUMBER "]{1,3}+", "[\\x{3040}-\\x{30ff}\\x{4e00}-\\x{9fa5}]++", DEEPSEEK3_WORDS}},
    {.names = {"falcon"}, .patterns = {"[" PUNCTUATION "$+<=>^~|`]++", GPT2_WORDS, "[0-9][0-9][0-9]"}},
    {.names = {"tekken"}, .patterns = {O200K_WORDS("", "")}, .whole_first = true, .adds_bos = true},
    {.names = {"gpt-4o", "llama4", "kanana2", "minimax-m2"}, .patterns = {O200K_WORDS("(?:" CONTRACTION ")?+", "{1,3}+")}},
    {.names = {"poro-chat", "bloom", "gpt3-finnish"}, .patterns = {BETWEEN_MARKS}},
    {.names = {"viking"}, .patterns = {BETWEEN_MARKS, "[" NUMBER "]"}},
    {.names = {"jais-2"}, .patterns = {CL100K_WITH("{1,3}+", SPACE_BY_POWERS)}},
    {.names = {"seed-coder"}, .patterns = {SEED_WORDS}},
    {.names = {"minicpm5"}, .patterns = {"[" NUMBER "]{1,3}+", CL100K_WORDS("++")}, .whole_first = true},
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
        char names[NAMES_BYTES];
        list_names(names, sizeof names);
        return sl_fail(err, SL_UNSUPPORTED,
                       "%s: tokenizer.ggml.pre is '%.*s', a pre-tokenizer that is not supported; these and their kin are: %s", file,
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

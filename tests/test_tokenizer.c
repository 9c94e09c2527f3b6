/* tests/test_tokenizer.c: text to tokens and back.
 *
 * Small vocabularies are built here, all 256 bytes and a few merges and special tokens, so that each test says what it depends on. What
 * makes the ids those that the real model was trained with is compared with goldens, which need SLUICE_TEST_MODEL (SmolLM2's GGUF). */
#include "core/tokenizer.h"

#include "core/byte_unicode.h"
#include "tests/header_builder.h"

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

static uint32_t add_token(recipe *r, const char *text, uint32_t kind)
{
    token *t = &r->tokens[r->token_count++];
    assert_true(strlen(text) < sizeof t->text);
    strcpy(t->text, text);
    t->kind = kind;
    r->types = r->token_count;
    return r->token_count - 1;
}

/* "a b": the merge and the token that it gives. */
static uint32_t add_merge(recipe *r, const char *merge)
{
    strcpy(r->merges[r->merge_count++], merge);
    char joined[TEXT_MAX];
    size_t left = (size_t)(strchr(merge + 1, ' ') - merge);
    memcpy(joined, merge, left);
    strcpy(joined + left, merge + left + 1);
    return add_token(r, joined, 1);
}

static recipe *new_recipe(void)
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

static uint32_t add_scored(recipe *r, const char *text, float score)
{
    uint32_t id = add_token(r, text, 1);
    r->tokens[id].score = score;
    r->scores = r->token_count;
    return id;
}

/* A SentencePiece vocabulary: tokens 0 to 255 are the bytes, then come <unk>, <s> and </s>, so 259 is the first that a test adds. */
static recipe *new_scored(void)
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

static void write_vocabulary(header *h, const recipe *r)
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
static sl_gguf *cook(recipe *r)
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

static opened open_recipe(recipe *r)
{
    opened o = {.gguf = cook(r)};
    sl_error err = {0};
    if (sl_tokenizer_open(o.gguf, &o.t, &err) != SL_OK)
        fail_msg("%s", err.message);
    return o;
}

static void close_opened(opened o)
{
    sl_tokenizer_close(o.t);
    sl_gguf_close(o.gguf);
}

/* ---- comparing ---- */

static sl_tokens encode(sl_tokenizer *t, const char *text, size_t length, bool add_bos, bool parse_special)
{
    sl_tokens out = {0};
    sl_error err = {0};
    if (sl_tokenizer_encode(t, text, length, (sl_encode_options){add_bos, parse_special}, &out, &err) != SL_OK)
        fail_msg("%s", err.message);
    return out;
}

static void spell(const sl_tokens *list, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < list->count && used + 16 < size; i++)
        used += (size_t)snprintf(out + used, size - used, i > 0 ? " %d" : "%d", list->ids[i]);
}

static void expect(sl_tokenizer *t, const char *text, size_t length, bool parse_special, const char *ids)
{
    char got[4096];
    sl_tokens list = encode(t, text, length, false, parse_special);
    spell(&list, got, sizeof got);
    sl_tokens_free(&list);
    if (strcmp(got, ids) != 0)
        fail_msg("'%.*s' gives %s instead of %s", (int)length, text, got, ids);
}

static void expect_text(sl_tokenizer *t, const char *text, bool parse_special, const char *ids)
{
    expect(t, text, strlen(text), parse_special, ids);
}

static void expect_round_trip(sl_tokenizer *t, const char *text, size_t length, bool parse_special)
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
static void expect_refused(recipe *r, sl_status status, const char *words)
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

/* ---- bytes and pieces ---- */

static void bytes_and_their_stand_ins_map_both_ways(void **state)
{
    (void)state;
    bool seen[0x200] = {0};
    for (int byte = 0; byte < 256; byte++) {
        char text[2];
        size_t length = sli_byte_to_text((uint8_t)byte, text);
        uint32_t code = 0;
        assert_int_equal(sli_utf8_next(text, length, &code), length);
        assert_true(code > 0x20 && code < 0x144 && !seen[code]);
        seen[code] = true;
        assert_int_equal(sli_code_to_byte(code), byte);
    }
    assert_int_equal(sli_code_to_byte(0x120), ' ');
    assert_int_equal(sli_code_to_byte(0x10a), '\n');
    assert_int_equal(sli_code_to_byte(0x144), -1);
    assert_int_equal(sli_code_to_byte(' '), -1);
    char out[8];
    assert_int_equal(sli_text_to_bytes("\xc4\xa0"
                                       "a \xe4\xbd\xa0",
                                       7, out),
                     6); /* what is no stand-in stays: a space, and U+4F60 */
    assert_memory_equal(out, " a \xe4\xbd\xa0", 6);
}

static void only_well_formed_utf8_is_decoded(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t length, expected;
        uint32_t code;
    } cases[] = {
        {"a", 1, 1, 'a'},
        {"\xc3\xa9", 2, 2, 0xe9},
        {"\xe4\xbd\xa0", 3, 3, 0x4f60},
        {"\xf4\x8f\xbf\xbf", 4, 4, 0x10ffff},
        {"\x80", 1, 0, 0},
        {"\xc0\x80", 2, 0, 0},
        {"\xc1\xbf", 2, 0, 0},
        {"\xe0\x9f\xbf", 3, 0, 0},
        {"\xed\xa0\x80", 3, 0, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0, 0},
        {"\xf4\x90\x80\x80", 4, 0, 0},
        {"\xf5\x80\x80\x80", 4, 0, 0},
        {"\xe4\xbd", 2, 0, 0},
        {"\xc3", 1, 0, 0},
        {"\xc3(", 2, 0, 0},
        {"\xff", 1, 0, 0},
        {"", 0, 0, 0},
        {"\xed\x9f\xbf", 3, 3, 0xd7ff},
        {"\xee\x80\x80", 3, 3, 0xe000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t code = 0;
        assert_int_equal(sli_utf8_next(cases[i].text, cases[i].length, &code), cases[i].expected);
        assert_int_equal(code, cases[i].expected > 0 ? cases[i].code : 0);
    }
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a b");
    add_token(r, "<x>", 3);
    opened o = open_recipe(r);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    expect_round_trip(o.t, all, sizeof all, true);
    uint64_t seed = 1;
    for (int round = 0; round < 300; round++) {
        char text[200];
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[i] = "ab <x>\n\xc3\xa9\xe4\xbd\xa0\xff\x80 1"[(seed >> 33) % 16];
        }
        expect_round_trip(o.t, text, (size_t)(seed >> 40) % sizeof text, round % 2);
    }
    close_opened(o);
}

static void invalid_utf8_becomes_a_token_a_byte(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "\xc3\xa4 \xc2\xbd"); /* the bytes E4 BD, which begin a Chinese character */
    opened o = open_recipe(r);
    expect_text(o.t, "\xe4\xbd\xa0", false, "256 160"); /* whole: merged */
    expect_text(o.t, "\xe4\xbd", false, "228 189");     /* cut short: not */
    expect_text(o.t,
                "a\xff"
                "b",
                false, "97 255 98");
    close_opened(o);
}

static void a_byte_without_a_token_is_left_out(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    strcpy(r->tokens['q'].text, "qq"); /* now 'q' has none */
    add_merge(r, "a b");
    opened o = open_recipe(r);
    expect_text(o.t, "aqb", false, "97 98"); /* and its neighbours do not join across it */
    expect_text(o.t, "qab", false, "256");
    close_opened(o);
}

static void nothing_gives_nothing(void **state)
{
    (void)state;
    opened o = open_recipe(new_recipe());
    expect(o.t, "", 0, true, "");
    expect(o.t, NULL, 0, true, "");
    close_opened(o);
}

/* ---- merging ---- */

static void the_lowest_rank_goes_first_then_the_leftmost(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    uint32_t bc = add_merge(r, "b c"), ab = add_merge(r, "a b"), aa = add_merge(r, "a a");
    assert_true(bc == 256 && ab == 257 && aa == 258);
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "97 256");
    expect_text(o.t, "ab", false, "257");
    expect_text(o.t, "aaa", false, "258 97");
    close_opened(o);
}

static void a_merge_listed_twice_counts_once(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a b");
    add_merge(r, "b c");
    strcpy(r->merges[r->merge_count++], "a b");
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "256 99");
    close_opened(o);
}

/* The definition: while any adjacent pair is a merge, join the one of lowest rank, the leftmost of equals. Merge i gives token 256 + i. */
static size_t merge_by_definition(sl_token *ids, size_t count, sl_token pairs[][2], size_t merges)
{
    for (;;) {
        size_t best = merges, at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (size_t m = 0; m < best; m++) {
                if (pairs[m][0] == ids[i] && pairs[m][1] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
            }
        }
        if (best == merges)
            return count;
        ids[at] = (sl_token)(BYTES + best);
        memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof *ids);
        count--;
    }
}

static void merging_agrees_with_its_definition(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 20; round++) {
        recipe *r = new_recipe();
        sl_token pairs[40][2];
        size_t merges = 0;
        for (int attempt = 0; attempt < 60 && merges < 40; attempt++) {
            uint32_t pool[43] = {'a', 'b', 'c'}, pool_size = 3;
            for (size_t m = 0; m < merges; m++)
                pool[pool_size++] = (uint32_t)(BYTES + m);
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t left = pool[(seed >> 33) % pool_size], right = pool[(seed >> 43) % pool_size];
            char text[2 * TEXT_MAX], joined[2 * TEXT_MAX];
            snprintf(text, sizeof text, "%s %s", r->tokens[left].text, r->tokens[right].text);
            snprintf(joined, sizeof joined, "%s%s", r->tokens[left].text, r->tokens[right].text);
            bool fresh = strlen(text) < TEXT_MAX;
            for (uint32_t i = BYTES; i < r->token_count; i++)
                fresh = fresh && strcmp(r->tokens[i].text, joined) != 0;
            if (!fresh)
                continue;
            add_merge(r, text);
            pairs[merges][0] = (sl_token)left;
            pairs[merges++][1] = (sl_token)right;
        }
        opened o = open_recipe(r);
        for (int text = 0; text < 50; text++) {
            char letters[120];
            sl_token ids[120];
            for (size_t i = 0; i < sizeof letters; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                letters[i] = "aaabbc"[(seed >> 33) % 6];
                ids[i] = letters[i];
            }
            size_t count = merge_by_definition(ids, sizeof letters, pairs, merges);
            sl_tokens got = encode(o.t, letters, sizeof letters, false, false);
            assert_int_equal(got.count, count);
            assert_memory_equal(got.ids, ids, count * sizeof *ids);
            sl_tokens_free(&got);
        }
        close_opened(o);
    }
}

static void a_million_equal_letters_are_no_trouble(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_merge(r, "a a");
    add_merge(r, "aa aa");
    add_merge(r, "aaaa aaaa");
    opened o = open_recipe(r);
    size_t length = 1000003; /* quadratic merging would take minutes */
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'a', length);
    sl_tokens list = encode(o.t, text, length, false, false);
    assert_int_equal(list.count, 125000 + 2);
    assert_int_equal(list.ids[124999], 258);
    assert_int_equal(list.ids[125000], 256);
    assert_int_equal(list.ids[125001], 'a');
    sl_tokens_free(&list);
    memset(text, ' ', length);
    expect_round_trip(o.t, text, length, false);
    free(text);
    close_opened(o);
}

static void pieces_part_words_digits_and_spaces(void **state)
{
    (void)state;
    const struct {
        const char *pre, *ids;
    } cases[] = {
        /* tokens: 256 "12", 257 " a", 258 "!!", 259 "!!\n" */
        {"smollm", "257 49 50 51 258 10"}, {"gpt-2", "257 256 51 258 10"},   {"llama-bpe", "257 256 51 259"},
        {"qwen2", "257 49 50 51 259"},     {"default", "257 256 51 258 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        recipe *r = new_recipe();
        r->pre = cases[i].pre;
        add_merge(r, "1 2");
        add_merge(r, "\xc4\xa0 a");
        add_merge(r, "! !");
        add_merge(r, "!! \xc4\x8a");
        opened o = open_recipe(r);
        expect_text(o.t, " a123!!\n", false, cases[i].ids);
        close_opened(o);
    }
}

static void a_piece_that_is_a_token_is_taken_whole_where_the_family_says_so(void **state)
{
    (void)state;
    for (int llama = 0; llama < 2; llama++) {
        recipe *r = new_recipe();
        r->pre = llama ? "llama-bpe" : "gpt-2";
        add_token(r, "xyz", 1); /* no merges lead there */
        add_token(r, "\xc4\xa0\xc4\xa0", 1);
        opened o = open_recipe(r);
        expect_text(o.t, "xyz", false, llama ? "256" : "120 121 122");
        expect_text(o.t, "  ", false, llama ? "257" : "32 32");
        expect_text(o.t, "xyzx", false, "120 121 122 120");
        close_opened(o);
    }
}

/* ---- merging by score ---- */

static void the_highest_score_goes_first_then_the_leftmost(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "a", -9);
    add_scored(r, "b", -9);
    add_scored(r, "c", -9);
    add_scored(r, "ab", -3); /* 262 */
    add_scored(r, "bc", -2);
    add_scored(r, "aa", -3);
    add_scored(r, "aab", -1); /* 265 */
    opened o = open_recipe(r);
    expect_text(o.t, "abc", false, "259 263");
    expect_text(o.t, "ab", false, "262");
    expect_text(o.t, "aaa", false, "264 259");
    expect_text(o.t, "aab", false, "265"); /* by way of aa, the leftmost of two equals */
    expect_text(o.t, "aaab", false, "264 262");
    close_opened(o);
}

static void what_is_no_token_becomes_its_bytes(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "\xc3\xa9", -1); /* 259 */
    opened o = open_recipe(r);
    expect_text(o.t, "\xc3\xa9", false, "259");
    expect_text(o.t, "\xc3\xa8", false, "195 168");
    expect_text(o.t, "x\n", false, "120 10");
    expect_text(o.t, " ", false, "226 150 129"); /* the space's own spelling, which comes back as a space only where it is a token */
    expect_text(o.t,
                "\xff\xe2"
                "a",
                false, "255 226 97");
    expect(o.t, "a\0b", 3, false, "97 0 98");
    close_opened(o);
}

static void a_space_goes_before_a_text_and_after_each_special_token(void **state)
{
    (void)state;
    for (int asks = 0; asks < 2; asks++) {
        recipe *r = new_scored();
        r->add_space = asks ? -1 : 0; /* the default is yes */
        add_scored(r, SPACE, -5);
        add_scored(r, "a", -5);
        add_scored(r, SPACE "a", -1);
        opened o = open_recipe(r);
        expect_text(o.t, "a<s>a a", true, asks ? "261 257 261 261" : "260 257 260 261");
        expect_text(o.t, SPACE "a", false, asks ? "259 261" : "261"); /* the spelling itself is as good as a space */
        expect_text(o.t, "", false, "");
        sl_tokens list = encode(o.t, "a", 1, true, false);
        assert_int_equal(list.ids[0], 257); /* BOS, unless the file says no */
        sl_tokens_free(&list);
        assert_true(sl_str_equal(sl_tokenizer_piece(o.t, 261, false), " a"));
        assert_true(sl_str_equal(sl_tokenizer_piece(o.t, 10, false), "\n"));
        close_opened(o);
    }
}

/* The definition, by looking at all neighbours again and again; vocabularies in which tokens do have spaces inside. */
static size_t merge_by_scores(const recipe *r, char parts[][TEXT_MAX], size_t count)
{
    for (;;) {
        size_t at = count;
        float best = -INFINITY;
        for (size_t i = 0; i + 1 < count; i++) {
            size_t length = strlen(parts[i]);
            for (uint32_t id = 0; id < r->token_count; id++)
                if (strncmp(r->tokens[id].text, parts[i], length) == 0 && strcmp(r->tokens[id].text + length, parts[i + 1]) == 0 &&
                    (at == count || r->tokens[id].score > best)) {
                    best = r->tokens[id].score;
                    at = i;
                }
        }
        if (at == count)
            return count;
        memcpy(parts[at] + strlen(parts[at]), parts[at + 1], strlen(parts[at + 1]) + 1);
        memmove(parts[at + 1], parts[at + 2], (count - at - 2) * TEXT_MAX);
        count--;
    }
}

static void merging_by_score_agrees_with_its_definition(void **state)
{
    (void)state;
    static char parts[64][TEXT_MAX];
    static const char *const letters[] = {"a", "b", SPACE, "\xc3\xa9"};
    uint64_t seed = 3;
    for (int round = 0; round < 20; round++) {
        recipe *r = new_scored();
        r->add_space = 0;
        for (int i = 0; i < 4; i++)
            add_scored(r, letters[i], -20);
        for (int i = 0; i < 40; i++) {
            char text[2 * TEXT_MAX];
            bool fresh = true;
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            const char *left = r->tokens[259 + (seed >> 33) % (r->token_count - 259)].text;
            snprintf(text, sizeof text, "%s%s", left, letters[(seed >> 53) % (round % 2 ? 2 : 4)]);
            for (uint32_t id = 0; id < r->token_count; id++)
                fresh = fresh && strcmp(r->tokens[id].text, text) != 0;
            if (fresh && strlen(text) < 20)
                add_scored(r, text, -(float)((seed >> 45) % 8));
        }
        recipe copy = *r;
        opened o = open_recipe(r);
        for (int text = 0; text < 30; text++) {
            char spelled[64 * 4] = "", got[4096], expected[4096];
            sl_tokens ids = {0};
            size_t count = 40;
            for (size_t i = 0; i < count; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                strcpy(parts[i], letters[(seed >> 33) % 4]);
                strcat(spelled, strcmp(parts[i], SPACE) == 0 ? " " : parts[i]);
            }
            count = merge_by_scores(&copy, parts, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(sl_tokens_push(&ids, sl_tokenizer_find(o.t, parts[i]), NULL), SL_OK);
            spell(&ids, expected, sizeof expected);
            sl_tokens_free(&ids);
            ids = encode(o.t, spelled, strlen(spelled), false, false);
            spell(&ids, got, sizeof got);
            sl_tokens_free(&ids);
            assert_string_equal(got, expected);
        }
        close_opened(o);
    }
}

static void a_million_equal_characters_are_no_trouble_for_scores(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->add_space = 0;
    add_scored(r, "aa", -1); /* 259 */
    add_scored(r, "aaaa", -2);
    opened o = open_recipe(r);
    size_t length = 1000003;
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'a', length);
    sl_tokens list = encode(o.t, text, length, false, false);
    assert_int_equal(list.count, 250000 + 2);
    assert_true(list.ids[249999] == 260 && list.ids[250000] == 259 && list.ids[250001] == 'a');
    sl_tokens_free(&list);
    free(text);
    close_opened(o);
}

static void phi_3_drops_the_space_after_a_special_token(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->name = "Microsoft Phi-3 mini";
    add_token(r, "<|user|>", 3); /* 259 */
    r->add_space = 0;
    r->scores = r->token_count;
    opened o = open_recipe(r);
    expect_text(o.t, "<|user|> \n\tx<s> x", true, "259 120 257 226 150 129 120");
    expect_text(o.t, "<|user|> ", true, "259");
    close_opened(o);
}

static void damaged_scores_are_refused(void **state)
{
    (void)state;
    recipe *r = new_scored();
    r->scores = -1;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.scores is missing");
    r = new_scored();
    r->scores = 258;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.scores has 258 entries, but there are 259 tokens");
    r = new_scored();
    r->tokens[7].score = NAN;
    expect_refused(r, SL_FORMAT, "the score of token 7 is no number");
    r = new_scored();
    strcpy(r->tokens[0x41].text, "bee");
    r->tokens[0x41].kind = 1;
    expect_refused(r, SL_UNSUPPORTED, "no token <0x41>");
}

/* ---- special tokens ---- */

static void special_tokens_are_cut_out_longest_first(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    uint32_t small = add_token(r, "<b>", 3), large = add_token(r, "a<b>", 3), user = add_token(r, "USER", 4),
             unknown = add_token(r, "<unk>", 2);
    assert_true(small == 256 && large == 257 && user == 258 && unknown == 259);
    opened o = open_recipe(r);
    expect_text(o.t, "a<b><b>x<b>", true, "257 256 120 256");
    expect_text(o.t, "<a<b>b>", true, "60 257 98 62"); /* what remains around it does not join */
    expect_text(o.t, "<unk>USER", true, "259 258");
    expect_text(o.t, "<b>USER<unk>", false, "60 98 62 258 60 117 110 107 62"); /* user-defined ones always */
    close_opened(o);
}

static void pieces_of_control_tokens_show_only_when_asked(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_token(r, "<c>", 3);
    add_token(r, "\xc4\xa0u", 4); /* a user-defined text stands as it is, even where it looks like stand-ins */
    add_token(r, "<unk>", 2);
    add_token(r, "<gone>", 5);
    add_token(r, "<0x0A>", 6);
    add_token(r, "\xc4\xa0w", 1);
    opened o = open_recipe(r);
    const struct {
        sl_token id;
        bool special;
        const char *piece;
    } cases[] = {{256, true, "<c>"}, {256, false, ""}, {257, false, "\xc4\xa0u"}, {258, true, "<unk>"},
                 {258, false, ""},   {259, true, ""},  {260, false, "\n"},        {261, false, " w"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sl_str piece = sl_tokenizer_piece(o.t, cases[i].id, cases[i].special);
        assert_true(sl_str_equal(piece, cases[i].piece));
    }
    assert_null(sl_tokenizer_piece(o.t, -1, true).data);
    assert_null(sl_tokenizer_piece(o.t, 262, true).data);
    assert_true(sl_tokenizer_is_control(o.t, 256) && !sl_tokenizer_is_control(o.t, 257) && !sl_tokenizer_is_control(o.t, 262));
    assert_int_equal(sl_tokenizer_find(o.t, "<c>"), 256);
    assert_int_equal(sl_tokenizer_find(o.t, "<d>"), SL_TOKEN_NONE);
    assert_int_equal(sl_tokenizer_size(o.t), 262);
    close_opened(o);
}

static void generations_end_at_eos_and_at_well_known_markers(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    add_token(r, "<|im_end|>", 1); /* of the wrong type: a marker is a control token all the same */
    add_token(r, "<|eot_id|>", 3);
    add_token(r, "<fim_prefix>", 3);
    r->eos = 'z';
    opened o = open_recipe(r);
    assert_true(sl_tokenizer_ends_generation(o.t, 256) && sl_tokenizer_ends_generation(o.t, 257) && sl_tokenizer_ends_generation(o.t, 'z'));
    assert_false(sl_tokenizer_ends_generation(o.t, 258) || sl_tokenizer_ends_generation(o.t, 'y') || sl_tokenizer_ends_generation(o.t, -1));
    assert_true(sl_tokenizer_is_control(o.t, 256));
    expect_text(o.t, "<|im_end|>", true, "256");
    assert_int_equal(sl_tokenizer_eos(o.t), 'z');
    assert_int_equal(sl_tokenizer_bos(o.t), SL_TOKEN_NONE);
    close_opened(o);
}

static void bos_and_eos_go_where_the_file_asks_and_the_caller_agrees(void **state)
{
    (void)state;
    for (int asks = 0; asks < 4; asks++) {
        recipe *r = new_recipe();
        r->bos = 'B';
        r->eos = 'E';
        r->add_bos = asks & 1;
        r->add_eos = asks >> 1;
        opened o = open_recipe(r);
        const char *expected[4] = {"120", "66 120", "120 69", "66 120 69"};
        for (int agrees = 0; agrees < 2; agrees++) {
            char got[64];
            sl_tokens list = encode(o.t, "x", 1, agrees, false);
            spell(&list, got, sizeof got);
            sl_tokens_free(&list);
            assert_string_equal(got, expected[agrees ? asks : 0]);
        }
        close_opened(o);
    }
    recipe *r = new_recipe(); /* the llama family adds BOS where the file says nothing */
    r->pre = "llama-bpe";
    r->bos = 'B';
    opened o = open_recipe(r);
    sl_tokens list = encode(o.t, "x", 1, true, false);
    assert_int_equal(list.count, 2);
    sl_tokens_free(&list);
    close_opened(o);
}

/* ---- what is refused ---- */

static void damaged_vocabularies_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->no_tokens = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is missing");
    r = new_recipe();
    r->tokens_are_numbers = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is not an array of strings");
    r = new_recipe();
    r->token_count = r->types = 0;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.tokens is empty");
    r = new_recipe();
    add_token(r, "x", 1);
    expect_refused(r, SL_FORMAT, "tokens 120 and 256 have the same text 'x'");
    r = new_recipe();
    r->types = 255;
    expect_refused(r, SL_FORMAT, "has 255 entries, but there are 256 tokens");
    r = new_recipe();
    r->tokens[9].kind = 7;
    expect_refused(r, SL_FORMAT, "token 9 has type 7");
    r = new_recipe();
    r->tokens[9].kind = 6;
    expect_refused(r, SL_FORMAT, "token 9 is of type byte");
}

static void damaged_merges_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->no_merges = true;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.merges is missing");
    const struct {
        const char *merge, *words;
    } cases[] = {{"ab", "merge 0 is 'ab'"}, {"", "merge 0 is ''"},  {"a ", "merge 0 is 'a '"}, {" a", "merge 0 is ' a'"},
                 {"zz a", "left half"},     {"a zz", "right half"}, {"a b", "gives a token"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        r = new_recipe();
        strcpy(r->merges[r->merge_count++], cases[i].merge);
        expect_refused(r, SL_FORMAT, cases[i].words);
    }
}

static void unknown_models_and_pre_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->model = "bert";
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.model is 'bert'");
    r = new_recipe();
    r->model = NULL;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.model");
    r = new_recipe();
    r->pre = "martian";
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.pre is 'martian'");
    r = new_recipe();
    r->pre = NULL;
    expect_refused(r, SL_UNSUPPORTED, "tokenizer.ggml.pre is missing");
}

static void special_ids_beyond_the_vocabulary_are_refused(void **state)
{
    (void)state;
    recipe *r = new_recipe();
    r->bos = 256;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.bos_token_id is 256, but the vocabulary has only 256 tokens");
    r = new_recipe();
    r->eos = UINT32_MAX;
    expect_refused(r, SL_FORMAT, "tokenizer.ggml.eos_token_id is 4294967295");
    r = new_recipe();
    r->add_bos = 1;
    expect_refused(r, SL_FORMAT, "there is no tokenizer.ggml.bos_token_id");
    r = new_recipe();
    r->add_eos = 1;
    expect_refused(r, SL_FORMAT, "there is no tokenizer.ggml.eos_token_id");
}

/* ---- the real vocabulary ---- */

static bool open_file(const char *variable, const char *model, opened *o)
{
    const char *path = getenv(variable);
    if (!path) {
        print_message("%s is not set: it names %s's GGUF file\n", variable, model);
        return false;
    }
    sl_error err = {0};
    if (sl_gguf_open(path, &o->gguf, &err) != SL_OK || sl_tokenizer_open(o->gguf, &o->t, &err) != SL_OK)
        fail_msg("%s", err.message);
    return true;
}

static bool open_model(opened *o)
{
    return open_file("SLUICE_TEST_MODEL", "SmolLM2", o);
}

static const struct golden {
    bool parse_special;
    const char *text;
    size_t length;
    const char *ids;
} goldens[] =
    {
#include "tests/golden/tokenizer_smollm.txt"
},
  gemma_goldens[] = {
#include "tests/golden/tokenizer_gemma.txt"
};

static void smollm_gives_the_ids_of_llama_cpp(void **state)
{
    (void)state;
    opened o;
    if (!open_model(&o))
        skip();
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++)
        expect(o.t, goldens[i].text, goldens[i].length, goldens[i].parse_special, goldens[i].ids);
    assert_int_equal(sl_tokenizer_bos(o.t), 1);
    assert_int_equal(sl_tokenizer_eos(o.t), 2);
    assert_true(sl_tokenizer_ends_generation(o.t, 0) && sl_tokenizer_ends_generation(o.t, 2) && !sl_tokenizer_ends_generation(o.t, 1));
    close_opened(o);
}

static void gemma_gives_the_ids_of_llama_cpp(void **state)
{
    (void)state;
    opened o;
    if (!open_file("SLUICE_TEST_MODEL_GEMMA", "Gemma 3", &o))
        skip();
    for (size_t i = 0; i < sizeof gemma_goldens / sizeof *gemma_goldens; i++) {
        const struct golden *g = &gemma_goldens[i];
        expect(o.t, g->text, g->length, g->parse_special, g->ids);
        if (memmem(g->text, g->length, SPACE, strlen(SPACE)) == NULL) /* which comes back as a space */
            expect_round_trip(o.t, g->text, g->length, g->parse_special);
    }
    assert_true(sl_tokenizer_bos(o.t) == 2 && sl_tokenizer_eos(o.t) == 1 && sl_tokenizer_adds_bos(o.t));
    assert_true(sl_tokenizer_ends_generation(o.t, 1) && sl_tokenizer_ends_generation(o.t, 106)); /* <end_of_turn> */
    close_opened(o);
}

static void smollm_takes_no_more_memory_than_it_says(void **state)
{
    (void)state;
    opened o;
    if (!open_model(&o))
        skip();
    size_t said = sl_tokenizer_heap_bytes(o.t);
    sl_tokenizer_close(o.t);
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(sl_tokenizer_open(o.gguf, &o.t, NULL), SL_OK);
    struct mallinfo2 after = mallinfo2();
    size_t taken = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd; /* 0 where a sanitizer replaces malloc */
    assert_true(taken <= said + 16384); /* the allocator's own rounding: 4 KiB for each of the large tables */
    assert_true(said < 4u << 20);
    close_opened(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_their_stand_ins_map_both_ways),
        cmocka_unit_test(only_well_formed_utf8_is_decoded),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(invalid_utf8_becomes_a_token_a_byte),
        cmocka_unit_test(a_byte_without_a_token_is_left_out),
        cmocka_unit_test(nothing_gives_nothing),
        cmocka_unit_test(the_lowest_rank_goes_first_then_the_leftmost),
        cmocka_unit_test(a_merge_listed_twice_counts_once),
        cmocka_unit_test(merging_agrees_with_its_definition),
        cmocka_unit_test(a_million_equal_letters_are_no_trouble),
        cmocka_unit_test(pieces_part_words_digits_and_spaces),
        cmocka_unit_test(a_piece_that_is_a_token_is_taken_whole_where_the_family_says_so),
        cmocka_unit_test(the_highest_score_goes_first_then_the_leftmost),
        cmocka_unit_test(what_is_no_token_becomes_its_bytes),
        cmocka_unit_test(a_space_goes_before_a_text_and_after_each_special_token),
        cmocka_unit_test(merging_by_score_agrees_with_its_definition),
        cmocka_unit_test(a_million_equal_characters_are_no_trouble_for_scores),
        cmocka_unit_test(phi_3_drops_the_space_after_a_special_token),
        cmocka_unit_test(damaged_scores_are_refused),
        cmocka_unit_test(special_tokens_are_cut_out_longest_first),
        cmocka_unit_test(pieces_of_control_tokens_show_only_when_asked),
        cmocka_unit_test(generations_end_at_eos_and_at_well_known_markers),
        cmocka_unit_test(bos_and_eos_go_where_the_file_asks_and_the_caller_agrees),
        cmocka_unit_test(damaged_vocabularies_are_refused),
        cmocka_unit_test(damaged_merges_are_refused),
        cmocka_unit_test(unknown_models_and_pre_tokenizers_are_refused_by_name),
        cmocka_unit_test(special_ids_beyond_the_vocabulary_are_refused),
        cmocka_unit_test(smollm_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(gemma_gives_the_ids_of_llama_cpp),
        cmocka_unit_test(smollm_takes_no_more_memory_than_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

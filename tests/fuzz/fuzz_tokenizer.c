/* tests/fuzz/fuzz_tokenizer.c: any text through a sound vocabulary, which has a token for each byte, so that the text must come back.
 *
 * The first byte chooses the pre-tokenizer, of which each is opened once, and, from 128 on, that special tokens are looked for.
 * fuzz_vocabulary.c has the vocabularies that are not sound. */
/* fuzz: -max_len=512 */
#include "tests/fuzz/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define TEXT(s) ((line){s, sizeof(s) - 1})

/* Some merges, also across what a pre-tokenizer cuts, and texts that are tokens as a whole. */
static const line lines[] = {
    TEXT("1he"),      TEXT("1\xc4\xa0t"),  TEXT("1\xc4\xa0the"),  TEXT("112"),  TEXT("1123"),  TEXT("1\xc3\x83\xc2\xa9"),
    TEXT(" h e"),     TEXT(" \xc4\xa0 t"), TEXT(" \xc4\xa0t he"), TEXT(" 1 2"), TEXT(" 12 3"), TEXT(" \xc3\x83 \xc2\xa9"),
    TEXT("3<|end|>"), TEXT("4<user>")};

/* What stays open: the tokenizer looks into the file. */
typedef struct sound {
    sl_gguf *gguf;
    sl_tokenizer *tokenizer;
} sound;

static sound open_sound(const char *pre)
{
    vocabulary v = {.pre = pre, .lines = lines, .count = sizeof lines / sizeof *lines};
    memset(v.bytes, true, sizeof v.bytes);
    sound s = {.gguf = vocabulary_build(&v)};
    if (s.gguf == NULL || sl_tokenizer_open(s.gguf, &s.tokenizer, NULL) != SL_OK)
        __builtin_trap();
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static sound opened[PRES - 1];
    if (length == 0)
        return 0;
    sound *s = &opened[data[0] % (PRES - 1)];
    if (s->tokenizer == NULL)
        *s = open_sound(pres[data[0] % (PRES - 1)]);
    encode_and_check(s->tokenizer, (const char *)data + 1, length - 1, data[0] >= 128, false);
    return 0;
}

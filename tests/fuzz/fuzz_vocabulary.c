/* tests/fuzz/fuzz_vocabulary.c: any vocabulary, and any text through what is accepted of it.
 *
 * The first byte chooses the pre-tokenizer, or, from 128 on, merging by score; the second what special ids there are (vocabulary.flags), and
 * with 16 in it that no byte has a token; then come the lines of vocabulary.h; after an empty line the rest is the text. Only bytes that
 * occur have tokens, so that a vocabulary costs what its input costs. */
/* fuzz: -max_len=300 */
#include "tests/fuzz/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define LINES_MAX 64

static size_t read_lines(const char **at, const char *end, line *lines)
{
    size_t count = 0;
    while (count < LINES_MAX && *at < end && **at != '\n') {
        const char *stop = memchr(*at, '\n', (size_t)(end - *at));
        lines[count++] = (line){*at, (size_t)((stop ? stop : end) - *at)};
        *at = stop ? stop + 1 : end;
    }
    if (*at < end)
        (*at)++;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length < 2)
        return 0;
    line lines[LINES_MAX];
    const char *text = (const char *)data + 2, *end = (const char *)data + length;
    vocabulary v = {.pre = pres[data[0] % PRES], .scored = data[0] >= 128, .flags = data[1], .lines = lines};
    v.count = read_lines(&text, end, lines);
    for (size_t i = 2; i < length && !(data[1] & 16); i++)
        v.bytes[data[i]] = true;

    sl_gguf *gguf = vocabulary_build(&v);
    sl_tokenizer *t;
    if (gguf && sl_tokenizer_open(gguf, &t, NULL) == SL_OK) {
        encode_and_check(t, text, (size_t)(end - text), false, true);
        encode_and_check(t, text, (size_t)(end - text), true, true);
        for (sl_token id = -1; id <= (sl_token)sl_tokenizer_size(t); id++)
            (void)(sl_tokenizer_ends_generation(t, id) + sl_tokenizer_is_control(t, id));
        sl_tokenizer_close(t);
    }
    sl_gguf_close(gguf);
    return 0;
}

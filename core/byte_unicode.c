/* core/byte_unicode.c: bytes as visible characters, and strict UTF-8 decoding. See the header. */
#include "core/byte_unicode.h"

#include <stdbool.h>

/* The bytes that stand for themselves: printable, not a space, not the soft hyphen. */
static bool is_own_character(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

/* The others, numbered upwards, are 0x00..0x20 (0..32), 0x7f..0xa0 (33..66) and 0xad (67). */
static uint32_t other_number(uint32_t byte)
{
    return byte <= 0x20 ? byte : byte == 0xad ? 67 : byte - 0x7f + 33;
}

static uint32_t other_at(uint32_t number)
{
    return number <= 32 ? number : number == 67 ? 0xad : number - 33 + 0x7f;
}

size_t sli_byte_to_text(uint8_t byte, char out[2])
{
    uint32_t code = is_own_character(byte) ? byte : 0x100 + other_number(byte);
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | (code >> 6));
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

int sli_code_to_byte(uint32_t code)
{
    if (code < 0x100)
        return is_own_character(code) ? (int)code : -1;
    return code <= 0x100 + 67 ? (int)other_at(code - 0x100) : -1;
}

static bool is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t sli_utf8_next(const char *text, size_t length, uint32_t *code)
{
    /* By length of the sequence: the smallest code point that needs it. Anything smaller is an overlong form. */
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};

    if (length == 0)
        return 0;
    unsigned char lead = (unsigned char)text[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    size_t count = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    if (count == 0 || count > length)
        return 0;
    uint32_t value = lead & (0x7fu >> count);
    for (size_t i = 1; i < count; i++) {
        if (!is_tail(text[i]))
            return 0;
        value = value << 6 | ((unsigned char)text[i] & 0x3f);
    }
    if (value < smallest[count] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return count;
}

size_t sli_text_to_bytes(const char *text, size_t length, char *out)
{
    size_t written = 0;
    for (size_t at = 0; at < length;) {
        uint32_t code = 0;
        size_t count = sli_utf8_next(text + at, length - at, &code);
        int byte = count > 0 ? sli_code_to_byte(code) : -1;
        if (byte >= 0) {
            out[written++] = (char)byte;
            at += count;
            continue;
        }
        size_t end = at + (count > 0 ? count : 1);
        while (at < end)
            out[written++] = text[at++];
    }
    return written;
}

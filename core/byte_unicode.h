/* core/byte_unicode.h: the printable stand-ins for bytes in byte-level vocabularies, and the UTF-8 they are written in.
 *
 * A byte-level vocabulary stores token texts in which every byte stands as one visible character: printable Latin-1 bytes as themselves,
 * the other 68 as U+0100 and up in byte order (a space is U+0120). So " the" is stored as "\u0120the".
 *
 * Threads: pure. */
#ifndef SL_CORE_BYTE_UNICODE_H
#define SL_CORE_BYTE_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Length of the well-formed UTF-8 sequence at the start of `text` (1..4), its code point in *code; 0 when there is none. */
size_t sli_utf8_next(const char *text, size_t length, uint32_t *code);

/* Writes the stand-in of `byte` in UTF-8 (1 or 2 bytes) and returns its length. */
size_t sli_byte_to_text(uint8_t byte, char out[2]);

/* The byte that `code` stands for, or -1. */
int sli_code_to_byte(uint32_t code);

/* Turns stand-ins back into bytes: at most `length` bytes to `out`, the count returned. What is no stand-in is copied as it is. */
size_t sli_text_to_bytes(const char *text, size_t length, char *out);

#endif

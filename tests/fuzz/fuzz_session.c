/* tests/fuzz/fuzz_session.c: any bytes through the reader of sessions on disk; what it takes is walked to its end, page by page.
 *
 * Checksums would stop every mutation at the door, so they are made right before, unless the last byte is odd. */
#include "offload/session_reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

enum { SUM_AT = SLI_SESSION_HEAD_BYTES - 8, TOKENS_AT = 8 + 8 * 4, NOTE_AT = 8 + 9 * 4 };

static uint32_t number_at(const uint8_t *bytes, size_t at)
{
    uint32_t number;
    memcpy(&number, bytes + at, sizeof number);
    return number;
}

static void seal(uint8_t *bytes, size_t length)
{
    uint64_t tokens = number_at(bytes, TOKENS_AT) * (uint64_t)sizeof(uint32_t), note = number_at(bytes, NOTE_AT);
    if (tokens + note > length - SLI_SESSION_HEAD_BYTES)
        return;
    uint64_t sum = XXH3_64bits(bytes, SUM_AT);
    sum = XXH3_64bits_withSeed(bytes + SLI_SESSION_HEAD_BYTES, tokens, sum);
    sum = XXH3_64bits_withSeed(bytes + SLI_SESSION_HEAD_BYTES + tokens, note, sum);
    memcpy(bytes + SUM_AT, &sum, sizeof sum);
}

static void walk(sli_session_reader *r)
{
    const uint8_t *keys, *values;
    sl_error err = {0};
    volatile uint32_t sum = 0;
    for (uint32_t i = 0; i < r->head.tokens; i++)
        sum += r->tokens[i];
    if (strlen(r->note) > r->head.note_bytes || sli_session_file_bytes(&r->head) != r->head.file_bytes)
        __builtin_trap();
    for (uint64_t page = 0; page < 64; page++) {
        if (sli_session_reader_page(r, page, &keys, &values, &err) != SL_OK)
            continue;
        for (uint32_t i = 0; i < r->head.k_page_bytes; i++)
            sum += keys[i];
        for (uint32_t i = 0; i < r->head.v_page_bytes; i++)
            sum += values[i];
    }
    (void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    int fd = memfd_create("session", MFD_CLOEXEC);
    sli_session_reader reader;
    sl_error err = {0};
    if (bytes == NULL || fd < 0)
        abort();
    if (length > 0)
        memcpy(bytes, data, length);
    if (length >= SLI_SESSION_HEAD_BYTES && (data[length - 1] & 1) == 0)
        seal(bytes, length);
    if (write(fd, bytes, length) != (ssize_t)length)
        abort();
    free(bytes);
    if (sli_session_reader_open("fuzz", fd, &reader, &err) == SL_OK) {
        walk(&reader);
        sli_session_reader_close(&reader);
    } else if (err.message[0] == '\0' || reader.tokens != NULL) {
        __builtin_trap();
    }
    return 0;
}

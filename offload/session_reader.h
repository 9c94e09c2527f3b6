/* offload/session_reader.h: the file of a session, as it is read: all that it says is checked before it is used, a page before it is handed out.
 *
 *     head        SLI_SESSION_HEAD_BYTES: the struct below, little-endian, behind 8 bytes of magic; last an XXH3-64 of all up to the first page
 *     tokens      u32 each
 *     note        the caller's, any bytes
 *     pages       layer by layer, KV head by KV head, page by page: keys, values (as kernels.h has them), XXH3-64 of both, seeded with the page's number
 *                 in the file. Of layers with a window from page `window_first` on, of the others from the first on. Positions behind the last token
 *                 are zero.
 *
 * What is stored is a function of the model, the types and the tokens alone: not of budget, batch, instruction set or layout in memory.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_SESSION_READER_H
#define SL_OFFLOAD_SESSION_READER_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLI_SESSION_VERSION    1
#define SLI_SESSION_HEAD_BYTES 80
#define SLI_SESSION_TOKENS_MAX ((uint32_t)1 << 24)
#define SLI_SESSION_NOTE_MAX   ((uint32_t)16 << 20)

typedef struct sli_session_head {
    uint32_t version;
    uint32_t layers, windowed_layers, kv_heads;
    uint32_t k_type, v_type;             /* sl_type */
    uint32_t k_page_bytes, v_page_bytes; /* of a head's page of SL_KV_PAGE positions, as stored */
    uint32_t tokens, note_bytes, window_first;
    uint64_t model; /* its fingerprint */
    uint64_t file_bytes;
} sli_session_head;

uint64_t sli_session_file_bytes(const sli_session_head *head); /* that a file with this head has */
void sli_session_head_write(const sli_session_head *head, const void *tokens, const void *note, uint8_t out[SLI_SESSION_HEAD_BYTES]);
/* Of a page's bytes, where it is the file's page with this number. */
uint64_t sli_session_page_sum(const void *pages, size_t bytes, uint64_t number);
static inline size_t sli_session_record_bytes(const sli_session_head *head)
{
    return (size_t)head->k_page_bytes + head->v_page_bytes + sizeof(uint64_t);
}

typedef struct sli_session_reader {
    const char *name; /* the caller's */
    int fd;           /* the reader's */
    sli_session_head head;
    uint32_t *tokens; /* [head.tokens] */
    char *note;       /* [head.note_bytes], and a NUL */
    uint8_t *record;  /* room for a page's */
} sli_session_reader;

/* Takes over `fd`, also where it fails. SL_FORMAT for what is no session, cut off or damaged. */
SL_MUST_USE sl_status sli_session_reader_open(const char *name, int fd, sli_session_reader *out, sl_error *err);
void sli_session_reader_close(sli_session_reader *reader); /* one that is all zero is fine, too */

/* Reads page `number` of those stored, counted through the file: *keys and *values until the next call. */
SL_MUST_USE sl_status sli_session_reader_page(sli_session_reader *reader, uint64_t number, const uint8_t **keys, const uint8_t **values,
                                              sl_error *err);
void sli_session_reader_forget_cache(const sli_session_reader *reader); /* the page cache of what was read */

#endif

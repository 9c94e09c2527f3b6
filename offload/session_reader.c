/* offload/session_reader.c: see session_reader.h. */
#include "offload/session_reader.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC_BYTES    8
#define SUM_AT         (SLI_SESSION_HEAD_BYTES - 8)
#define LAYERS_MAX     4096u
#define HEADS_MAX      4096u
#define PAGE_BYTES_MAX ((uint32_t)1 << 20)

static const char magic[MAGIC_BYTES] = {'S', 'L', 'U', 'I', 'C', 'E', 'K', 'V'};

/* ---- the head ---- */

/* The head's numbers in their order; false: none is left. */
static bool field(sli_session_head *h, unsigned index, uint32_t **small, uint64_t **large)
{
    uint32_t *const smalls[] = {&h->version,      &h->layers,       &h->windowed_layers, &h->kv_heads,   &h->k_type,      &h->v_type,
                                &h->k_page_bytes, &h->v_page_bytes, &h->tokens,          &h->note_bytes, &h->window_first};
    uint64_t *const larges[] = {&h->model, &h->file_bytes};
    enum { SMALLS = sizeof smalls / sizeof *smalls, LARGES = sizeof larges / sizeof *larges };
    _Static_assert(MAGIC_BYTES + 4 * SMALLS + 8 * LARGES <= SUM_AT, "they fit before the checksum");
    *small = index < SMALLS ? smalls[index] : NULL;
    *large = index >= SMALLS && index < SMALLS + LARGES ? larges[index - SMALLS] : NULL;
    return index < SMALLS + LARGES;
}

static uint64_t number_at(const uint8_t *at, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number |= (uint64_t)at[i] << 8 * i;
    return number;
}

static void number_to(uint8_t *at, unsigned bytes, uint64_t number)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(number >> 8 * i);
}

static void decode(const uint8_t *bytes, sli_session_head *out)
{
    uint32_t *small;
    uint64_t *large;
    bytes += MAGIC_BYTES;
    for (unsigned i = 0; field(out, i, &small, &large); i++) {
        unsigned width = small != NULL ? 4 : 8;
        if (small != NULL)
            *small = (uint32_t)number_at(bytes, width);
        else
            *large = number_at(bytes, width);
        bytes += width;
    }
}

static uint64_t front_sum(const uint8_t *head, const void *tokens, size_t token_bytes, const void *note, size_t note_bytes)
{
    uint64_t sum = XXH3_64bits(head, SUM_AT);
    sum = XXH3_64bits_withSeed(tokens, token_bytes, sum);
    return XXH3_64bits_withSeed(note, note_bytes, sum);
}

void sli_session_head_write(const sli_session_head *head, const void *tokens, const void *note, uint8_t out[SLI_SESSION_HEAD_BYTES])
{
    sli_session_head h = *head;
    uint32_t *small;
    uint64_t *large;
    uint8_t *at = out + MAGIC_BYTES;
    memset(out, 0, SLI_SESSION_HEAD_BYTES);
    memcpy(out, magic, MAGIC_BYTES);
    for (unsigned i = 0; field(&h, i, &small, &large); i++) {
        number_to(at, small != NULL ? 4 : 8, small != NULL ? *small : *large);
        at += small != NULL ? 4 : 8;
    }
    number_to(out + SUM_AT, 8, front_sum(out, tokens, (size_t)h.tokens * sizeof(uint32_t), note, h.note_bytes));
}

static uint64_t first_page_at(const sli_session_head *h)
{
    return SLI_SESSION_HEAD_BYTES + (uint64_t)h->tokens * sizeof(uint32_t) + h->note_bytes;
}

static uint64_t page_count(const sli_session_head *h)
{
    uint64_t pages = (h->tokens + SL_KV_PAGE - 1) / SL_KV_PAGE, windowed = pages - h->window_first;
    return ((uint64_t)h->windowed_layers * windowed + (uint64_t)(h->layers - h->windowed_layers) * pages) * h->kv_heads;
}

uint64_t sli_session_file_bytes(const sli_session_head *h)
{
    return first_page_at(h) + page_count(h) * sli_session_record_bytes(h);
}

uint64_t sli_session_page_sum(const void *pages, size_t bytes, uint64_t number)
{
    return XXH3_64bits_withSeed(pages, bytes, number);
}

/* Numbers that cannot overflow what is computed from them. */
static bool plausible(const sli_session_head *h)
{
    return h->layers >= 1 && h->layers <= LAYERS_MAX && h->windowed_layers <= h->layers && h->kv_heads >= 1 && h->kv_heads <= HEADS_MAX &&
           h->k_page_bytes <= PAGE_BYTES_MAX && h->v_page_bytes <= PAGE_BYTES_MAX && h->tokens <= SLI_SESSION_TOKENS_MAX &&
           h->note_bytes <= SLI_SESSION_NOTE_MAX && h->window_first <= (h->tokens + SL_KV_PAGE - 1) / SL_KV_PAGE;
}

/* ---- reading ---- */

static sl_status read_at(const sli_session_reader *r, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(r->fd, (uint8_t *)to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sl_fail(err, SL_IO, "%s: cannot read at byte %llu: %s", r->name, (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return sl_fail(err, SL_FORMAT, "%s: it ends at byte %llu, while it is read", r->name, (unsigned long long)(offset + done));
        done += (size_t)got;
    }
    return SL_OK;
}

static sl_status read_head(sli_session_reader *r, uint8_t bytes[SLI_SESSION_HEAD_BYTES], sl_error *err)
{
    struct stat st;
    if (fstat(r->fd, &st) != 0)
        return sl_fail(err, SL_IO, "%s: cannot look at it: %s", r->name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return sl_fail(err, SL_FORMAT, "%s: it is no regular file; a session is kept in one", r->name);
    uint64_t size = (uint64_t)st.st_size;
    if (size < SLI_SESSION_HEAD_BYTES)
        return sl_fail(err, SL_FORMAT, "%s: it is no session: %llu bytes, the head alone has %d", r->name, (unsigned long long)size,
                       SLI_SESSION_HEAD_BYTES);
    SL_TRY(read_at(r, 0, bytes, SLI_SESSION_HEAD_BYTES, err));
    if (memcmp(bytes, magic, MAGIC_BYTES) != 0)
        return sl_fail(err, SL_FORMAT, "%s: it is no session: it does not begin with %.8s", r->name, magic);
    decode(bytes, &r->head);
    if (r->head.version != SLI_SESSION_VERSION)
        return sl_fail(err, SL_UNSUPPORTED, "%s: a session of version %u; this program reads version %d", r->name, r->head.version,
                       SLI_SESSION_VERSION);
    if (!plausible(&r->head) || sli_session_file_bytes(&r->head) != r->head.file_bytes)
        return sl_fail(err, SL_FORMAT, "%s: it is damaged: what its head says does not fit together", r->name);
    if (size != r->head.file_bytes)
        return sl_fail(err, SL_FORMAT, "%s: it is damaged: it has %llu bytes and was written with %llu", r->name, (unsigned long long)size,
                       (unsigned long long)r->head.file_bytes);
    return SL_OK;
}

static sl_status read_front(sli_session_reader *r, sl_error *err)
{
    uint8_t head[SLI_SESSION_HEAD_BYTES];
    SL_TRY(read_head(r, head, err));
    size_t token_bytes = (size_t)r->head.tokens * sizeof *r->tokens;
    r->tokens = malloc(token_bytes + 1);
    r->note = malloc((size_t)r->head.note_bytes + 1);
    r->record = malloc(sli_session_record_bytes(&r->head));
    if (r->tokens == NULL || r->note == NULL || r->record == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the %u tokens of %s", r->head.tokens, r->name);
    SL_TRY(read_at(r, SLI_SESSION_HEAD_BYTES, r->tokens, token_bytes, err));
    SL_TRY(read_at(r, SLI_SESSION_HEAD_BYTES + token_bytes, r->note, r->head.note_bytes, err));
    r->note[r->head.note_bytes] = '\0';
    if (front_sum(head, r->tokens, token_bytes, r->note, r->head.note_bytes) != number_at(head + SUM_AT, 8))
        return sl_fail(err, SL_FORMAT, "%s: it is damaged: its tokens do not have the checksum that was written with them", r->name);
    return SL_OK;
}

sl_status sli_session_reader_open(const char *name, int fd, sli_session_reader *out, sl_error *err)
{
    *out = (sli_session_reader){.name = name, .fd = fd};
    sl_status status = read_front(out, err);
    if (status != SL_OK)
        sli_session_reader_close(out);
    return status;
}

void sli_session_reader_close(sli_session_reader *r)
{
    if (r->name != NULL)
        close(r->fd);
    free(r->tokens);
    free(r->note);
    free(r->record);
    *r = (sli_session_reader){0};
}

sl_status sli_session_reader_page(sli_session_reader *r, uint64_t number, const uint8_t **keys, const uint8_t **values, sl_error *err)
{
    size_t record = sli_session_record_bytes(&r->head), pages = record - sizeof(uint64_t);
    if (number >= page_count(&r->head))
        return sl_fail(err, SL_INTERNAL, "%s: page %llu of %llu asked for", r->name, (unsigned long long)number,
                       (unsigned long long)page_count(&r->head));
    SL_TRY(read_at(r, first_page_at(&r->head) + number * record, r->record, record, err));
    if (sli_session_page_sum(r->record, pages, number) != number_at(r->record + pages, sizeof(uint64_t)))
        return sl_fail(err, SL_FORMAT, "%s: it is damaged: page %llu of %llu does not have the checksum that was written with it", r->name,
                       (unsigned long long)number, (unsigned long long)page_count(&r->head));
    *keys = r->record;
    *values = r->record + r->head.k_page_bytes;
    return SL_OK;
}

void sli_session_reader_forget_cache(const sli_session_reader *r)
{
    (void)posix_fadvise(r->fd, 0, 0, POSIX_FADV_DONTNEED);
}

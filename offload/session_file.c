/* offload/session_file.c: a conversation's tokens, keys and values on disk (session_reader.h draws the file), so that what was evaluated once is not
 * evaluated again.
 *
 * Only what was computed densely is kept: so what comes back is what evaluating the tokens would give, bit for bit, under whatever options, and the file
 * is good for all of them that do not change what is stored. The file is locked while it is open, by the name that its next version is written to. */
#include "core/file_write.h"
#include "core/rope.h"
#include "offload/device_engine.h"
#include "offload/kv_spill.h"
#include "offload/session_reader.h"
#include "offload/sparq_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SAMPLE_BYTES 4096u /* of each tensor, for the fingerprint */
#define SAMPLES      32u   /* read at once */
#define WRITER_BYTES ((uint64_t)1 << 20)

struct sl_session_file {
    sl_engine *engine;
    char *path;
    sl_file_writer *writer;    /* holds the lock */
    sli_session_reader reader; /* all zero: there is no file yet */
    uint64_t model;
    sli_device_pages pages; /* all zero: the processor computes */
};

/* ---- which model ---- */

static uint64_t hash_header(const sl_gguf *g, uint64_t sum)
{
    for (size_t i = 0; i < sl_gguf_value_count(g); i++) {
        const sl_gguf_value *v = sl_gguf_value_at(g, i);
        sum = XXH3_64bits_withSeed(v->key.data, v->key.length, sum);
        sum = XXH3_64bits_withSeed(v->data, v->bytes, sum);
    }
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        const uint64_t shape[] = {t->type, t->shape[0], t->shape[1], t->shape[2], t->shape[3]};
        sum = XXH3_64bits_withSeed(t->name.data, t->name.length, sum);
        sum = XXH3_64bits_withSeed(shape, sizeof shape, sum);
    }
    return sum;
}

/* From the middle of each tensor: what was trained further, or pruned, has the same header. */
static sl_status hash_samples(sl_engine *e, uint8_t *samples, uint64_t *sum, sl_error *err)
{
    size_t tensors = sl_gguf_tensor_count(e->file);
    for (size_t i = 0; i < tensors;) {
        uint64_t offsets[SAMPLES];
        uint32_t count = 0, file = sl_gguf_tensor_at(e->file, i)->file;
        for (; i < tensors && count < SAMPLES && sl_gguf_tensor_at(e->file, i)->file == file; i++) {
            const sl_gguf_tensor *t = sl_gguf_tensor_at(e->file, i);
            if (t->bytes >= SAMPLE_BYTES) /* smaller ones are too many for what they tell */
                offsets[count++] = t->offset + (t->bytes - SAMPLE_BYTES) / 2;
        }
        if (count > 0)
            SL_TRY(sl_pager_read_small(e->pager, file, offsets, count, SAMPLE_BYTES, samples, err));
        *sum = XXH3_64bits_withSeed(samples, (size_t)count * SAMPLE_BYTES, *sum);
    }
    return SL_OK;
}

/* Keys that were turned by one of longrope's two lists of factors are worthless beside the other's. */
static uint64_t hash_rope(const sl_engine *e, uint64_t sum)
{
    const sl_gguf_tensor *factors = sl_rope_factors(e->model, e->context);
    return factors == NULL ? sum : XXH3_64bits_withSeed(factors->name.data, factors->name.length, sum);
}

static sl_status fingerprint(sl_engine *e, uint64_t *out, sl_error *err)
{
    uint8_t *samples = malloc((size_t)SAMPLES * SAMPLE_BYTES);
    if (samples == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for samples of %s", e->path);
    *out = hash_rope(e, hash_header(e->gguf, sl_gguf_file_bytes(e->file)));
    sl_status status = hash_samples(e, samples, out, err);
    free(samples);
    return status;
}

/* ---- opening ---- */

static sli_session_head head_of(const sl_session_file *f)
{
    const sl_model *m = f->engine->model;
    const sli_kv_shape *kv = &f->engine->price.kv;
    sli_session_head h = {.version = SLI_SESSION_VERSION,
                          .layers = m->layers,
                          .kv_heads = m->kv_heads,
                          .k_type = kv->k_type,
                          .v_type = kv->v_type,
                          .k_page_bytes = (uint32_t)sl_kv_page_bytes(kv->k_type, m->head_dim),
                          .v_page_bytes = (uint32_t)sl_kv_page_bytes(kv->v_type, m->head_dim),
                          .model = f->model};
    for (uint32_t layer = 0; layer < m->layers; layer++)
        h.windowed_layers += sl_model_window(m, layer) > 0;
    return h;
}

/* As the flags have it. */
static const char *type_name(uint32_t type)
{
    switch (type) {
    case SL_TYPE_F32: return "f32";
    case SL_TYPE_F16: return "f16";
    case SL_TYPE_BF16: return "bf16";
    case SL_TYPE_Q8_0: return "q8_0";
    case SL_TYPE_Q4_0: return "q4_0";
    default: return "unknown";
    }
}

static sl_status check_head(const sl_session_file *f, sl_error *err)
{
    sli_session_head want = head_of(f);
    const sli_session_head *has = &f->reader.head;
    const sl_model *m = f->engine->model;
    if (has->model != want.model && sl_model_tensor(m, SL_ROLE_ROPE_LONG, 0) != NULL)
        return sl_fail(
            err, SL_INVALID,
            "%s: a session of another model than %s, or of a context on the other side of %u positions, where its rotary factors "
            "change; it continues with the file and the -c that it was made with",
            f->path, f->engine->path, m->rope_original_context);
    if (has->model != want.model)
        return sl_fail(err, SL_INVALID,
                       "%s: a session of another model than %s, or of another file of it; it continues with the file it was made with",
                       f->path, f->engine->path);
    if (has->k_type != want.k_type || has->v_type != want.v_type)
        return sl_fail(err, SL_INVALID, "%s: a session with %s keys and %s values, this run has %s and %s; -ctk and -ctv choose", f->path,
                       type_name(has->k_type), type_name(has->v_type), type_name(want.k_type), type_name(want.v_type));
    if (has->layers != want.layers || has->windowed_layers != want.windowed_layers || has->kv_heads != want.kv_heads ||
        has->k_page_bytes != want.k_page_bytes || has->v_page_bytes != want.v_page_bytes)
        return sl_fail(err, SL_FORMAT, "%s: it is damaged: its keys and values are not shaped as the model's", f->path);
    for (uint32_t i = 0; i < has->tokens; i++)
        if (f->reader.tokens[i] >= m->vocab)
            return sl_fail(err, SL_FORMAT, "%s: it is damaged: token %u is not in the vocabulary of %u", f->path, f->reader.tokens[i],
                           m->vocab);
    return SL_OK;
}

static sl_status read_file(sl_session_file *f, sl_error *err)
{
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return SL_OK;
    if (fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot open it: %s", f->path, strerror(errno));
    SL_TRY(sli_session_reader_open(f->path, fd, &f->reader, err));
    return check_head(f, err);
}

static sl_status check_engine(const sl_engine *e, const char *path, sl_error *err)
{
    if (e->pager == NULL)
        return sl_fail(err, SL_INVALID, "%s: the engine was opened without weights; it has no sessions", path);
    if (e->options.sparsity == SL_SPARSITY_COARSE)
        return sl_fail(err, SL_INVALID,
                       "%s: sessions on disk do not go with --sparsity coarse: its sets come from activations of the whole prompt", path);
    if (e->device != NULL && e->options.sparq_k > 0 && !e->price.kv.key_index) /* keys lie there twice, and pages bring them once */
        return sl_fail(
            err, SL_INVALID,
            "%s: sessions on disk do not go with single keys of --sparq-k on a device yet; --sparq-select pages or --device none do", path);
    return SL_OK;
}

sl_status sl_session_file_open(sl_engine *engine, const char *path, sl_session_file **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(check_engine(engine, path, err));
    sl_session_file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %s", path);
    f->engine = engine;
    f->path = strdup(path);
    sl_status status = f->path == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for %s", path) : SL_OK;
    if (status == SL_OK)
        status = sl_file_writer_create(path, &f->writer, err);
    if (status == SL_OK && engine->device != NULL)
        status = sli_device_pages_open(engine, &f->pages, err);
    if (status == SL_OK)
        status = fingerprint(engine, &f->model, err);
    if (status == SL_OK)
        status = read_file(f, err);
    if (status != SL_OK) {
        sl_session_file_close(f);
        return status;
    }
    *out = f;
    return SL_OK;
}

void sl_session_file_close(sl_session_file *f)
{
    if (f == NULL)
        return;
    sli_session_reader_close(&f->reader);
    sl_file_writer_discard(f->writer);
    sli_device_pages_close(f->engine, &f->pages);
    free(f->path);
    free(f);
}

uint64_t sli_session_file_price(const sl_model *model, const sli_kv_shape *kv)
{
    size_t record = sl_kv_page_bytes(kv->k_type, model->head_dim) + sl_kv_page_bytes(kv->v_type, model->head_dim) + sizeof(uint64_t);
    return sizeof(sl_session_file) + WRITER_BYTES + 2 * record + (uint64_t)kv->context * sizeof(sl_token) +
           (uint64_t)SAMPLES * SAMPLE_BYTES;
}

uint32_t sl_session_file_tokens(const sl_session_file *f, const sl_token_id **tokens)
{
    *tokens = (const sl_token_id *)(const void *)f->reader.tokens;
    return f->reader.head.tokens;
}

const char *sl_session_file_note(const sl_session_file *f, size_t *length)
{
    *length = f->reader.head.note_bytes;
    return f->reader.note;
}

/* ---- loading ---- */

static void fill_page(const sl_session *s, uint32_t layer, uint32_t head, uint32_t page, const uint8_t *keys, const uint8_t *values)
{
    const sli_kv *kv = &s->kv;
    uint8_t *to[SLI_KV_KINDS]; /* the arena is ours and writable; the page table shows it read-only because attention only reads */
    for (int kind = 0; kind < SLI_KV_KINDS; kind++)
        to[kind] = (uint8_t *)(uintptr_t)sli_kv_pages(kv, layer, head, (sli_kv_kind)kind)[page];
    memcpy(to[SLI_KV_KEYS], keys, sl_kv_page_bytes(kv->k_type, kv->head_dim));
    memcpy(to[SLI_KV_VALUES], values, sl_kv_page_bytes(kv->v_type, kv->head_dim));
    for (uint32_t i = 0; kv->key_rows && i < SL_KV_PAGE; i++)
        sl_kv_key_row(kv->k_type, keys, i, to[SLI_KV_KEY_ROWS], i, kv->head_dim);
}

/* The first `pages` of a head, of which the file's first is `stored` and has this number; the first ones may lie before what memory holds. */
static sl_status load_head(sl_session_file *f, sl_session *s, uint32_t layer, uint32_t head, uint32_t stored, uint32_t pages,
                           uint64_t number, sl_error *err)
{
    uint32_t first = sli_kv_first_held(&s->kv, layer, pages * SL_KV_PAGE);
    sli_kv_begin_fill(&s->kv, layer, head, pages);
    for (uint32_t page = stored > first ? stored : first; page < pages; page++) {
        const uint8_t *keys, *values;
        SL_TRY(sli_session_reader_page(&f->reader, number + (page - stored), &keys, &values, err));
        fill_page(s, layer, head, page, keys, values);
    }
    return SL_OK;
}

/* The same of a layer that a device holds, which has all pages. */
static sl_status load_head_there(sl_session_file *f, uint32_t layer, uint32_t head, uint32_t stored, uint32_t pages, uint64_t number,
                                 sl_error *err)
{
    const sli_session_head *h = &f->reader.head;
    const sli_kv_shape *kv = &f->engine->price.kv;
    size_t k_stride = sli_kv_page_bytes(f->engine->model, kv, SLI_KV_KEYS),
           v_stride = sli_kv_page_bytes(f->engine->model, kv, SLI_KV_VALUES);
    for (uint32_t page = stored; page < pages; page += f->pages.count) {
        uint32_t count = pages - page < SLI_DEVICE_PAGES ? pages - page : SLI_DEVICE_PAGES;
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *keys, *values;
            SL_TRY(sli_session_reader_page(&f->reader, number + (page + i - stored), &keys, &values, err));
            memcpy(f->pages.keys + i * k_stride, keys, h->k_page_bytes);
            memcpy(f->pages.values + i * v_stride, values, h->v_page_bytes);
        }
        f->pages.layer = layer;
        f->pages.head = head;
        f->pages.first = page;
        f->pages.count = count;
        SL_TRY(sli_device_pages_put(f->engine, &f->pages, err));
    }
    return SL_OK;
}

/* Whether a device holds the layer, or what spills has it, or the processor's cache. */
static bool is_there(const sl_session *s, uint32_t layer)
{
    return s->engine->device != NULL && !sli_device_spills(s->engine, layer);
}

static sl_status load_all(sl_session_file *f, sl_session *s, uint32_t count, sl_error *err)
{
    const sli_session_head *h = &f->reader.head;
    uint32_t pages = (count + SL_KV_PAGE - 1) / SL_KV_PAGE, stored_pages = (h->tokens + SL_KV_PAGE - 1) / SL_KV_PAGE;
    uint64_t number = 0;
    for (uint32_t layer = 0; layer < h->layers; layer++) {
        uint32_t first = sl_model_window(f->engine->model, layer) > 0 ? h->window_first : 0;
        bool there = is_there(s, layer);
        if (!there)
            sli_kv_begin_write(&s->kv, layer, 0);
        for (uint32_t head = 0; head < h->kv_heads; head++, number += stored_pages - first) {
            if (there) {
                SL_TRY(load_head_there(f, layer, head, first, pages, number, err));
                continue;
            }
            SL_TRY(load_head(f, s, layer, head, first, pages, number, err));
            if (s->kv.index != NULL)
                sli_pages_index(s, layer, head, count);
            SL_TRY(sli_kv_end_fill(&s->kv, layer, head, count, err));
        }
        if (!there)
            sli_pages_indexed(&s->kv, layer, count);
        sli_session_reader_forget_cache(&f->reader);
    }
    return SL_OK;
}

/* Whether the file has of layers with a window what rows behind these tokens need: what they see; where values are summed, all. */
static bool reaches(const sl_session_file *f, const sl_session *s, uint32_t tokens)
{
    uint32_t first = s->kv.value_sums != NULL ? 0 : sli_kv_first_seen(f->engine->model, tokens);
    return f->reader.head.window_first <= first;
}

uint32_t sl_session_file_common(const sl_session_file *f, const sl_token_id *tokens, size_t count)
{
    uint32_t common = 0;
    while (common < count && common < f->reader.head.tokens && f->reader.tokens[common] == (uint32_t)tokens[common])
        common++;
    return common;
}

sl_status sl_session_file_load(sl_session_file *f, sl_session *s, const sl_token_id *tokens, size_t count, uint32_t *loaded, sl_error *err)
{
    uint32_t common = sl_session_file_common(f, tokens, count);
    common = common < f->engine->context ? common : f->engine->context;
    *loaded = 0;
    if (s->position != 0)
        return sl_fail(err, SL_INVALID, "%s: it is loaded into a session at its beginning, not at position %u", f->path, s->position);
    if (common == 0 || !reaches(f, s, common))
        return SL_OK;
    if (f->engine->device != NULL)
        sli_device_pages_begin(f->engine, 0);
    SL_TRY(load_all(f, s, common, err));
    memcpy(s->history, tokens, common * sizeof *tokens);
    sli_kv_loaded(&s->kv, common, f->reader.head.window_first);
    s->tree.count = 0;
    s->position = s->dense = *loaded = common;
    return SL_OK;
}

/* ---- saving ---- */

/* A page as it is stored: positions that are not part of the text are zero. */
static void page_as_stored(const sl_session *s, const uint8_t *k, const uint8_t *v, uint32_t positions, uint8_t *out)
{
    const sli_kv_shape *kv = &s->engine->price.kv;
    const sl_kernels *kernels = s->engine->kernels;
    uint32_t head_dim = s->engine->model->head_dim;
    size_t k_bytes = sl_kv_page_bytes(kv->k_type, head_dim), v_bytes = sl_kv_page_bytes(kv->v_type, head_dim);
    if (positions == SL_KV_PAGE) {
        memcpy(out, k, k_bytes);
        memcpy(out + k_bytes, v, v_bytes);
        return;
    }
    memset(out, 0, k_bytes + v_bytes);
    for (uint32_t i = 0; i < positions; i++) {
        kernels->kv_copy_k(kv->k_type, k, i, out, i, head_dim);
        kernels->kv_copy_v(kv->v_type, v, i, out + k_bytes, i, head_dim);
    }
}

/* Page `page` of a head that has so many: where this cache has it, or in what came of them from a device. */
static sl_status show_page(sl_session_file *f, sl_session *s, uint32_t layer, uint32_t head, uint32_t page, uint32_t pages,
                           const uint8_t **keys, const uint8_t **values, sl_error *err)
{
    sli_device_pages *p = &f->pages;
    if (!is_there(s, layer)) {
        *keys = sli_kv_pages(&s->kv, layer, head, SLI_KV_KEYS)[page];
        *values = sli_kv_pages(&s->kv, layer, head, SLI_KV_VALUES)[page];
        return SL_OK;
    }
    if (p->layer != layer || p->head != head || page < p->first || page >= p->first + p->count) {
        uint32_t count = pages - page < SLI_DEVICE_PAGES ? pages - page : SLI_DEVICE_PAGES;
        *p = (sli_device_pages){p->keys, p->values, layer, head, page, count};
        SL_TRY(sli_device_pages_get(s->engine, p, err));
    }
    *keys = p->keys + (page - p->first) * sli_kv_page_bytes(s->engine->model, &s->engine->price.kv, SLI_KV_KEYS);
    *values = p->values + (page - p->first) * sli_kv_page_bytes(s->engine->model, &s->engine->price.kv, SLI_KV_VALUES);
    return SL_OK;
}

static sl_status save_pages(sl_session_file *f, sl_session *s, const sli_session_head *h, uint8_t *record, sl_error *err)
{
    size_t bytes = sli_session_record_bytes(h) - sizeof(uint64_t);
    uint32_t pages = (h->tokens + SL_KV_PAGE - 1) / SL_KV_PAGE;
    uint64_t number = 0;
    f->pages.count = 0; /* what came before was written since */
    for (uint32_t layer = 0; layer < h->layers; layer++)
        for (uint32_t head = 0; head < h->kv_heads; head++) {
            if (!is_there(s, layer))
                SL_TRY(sli_kv_show_head(&s->kv, layer, head, pages, err));
            uint32_t page = sl_model_window(s->engine->model, layer) > 0 ? h->window_first : 0;
            for (; page < pages; page++) {
                uint32_t left = h->tokens - page * SL_KV_PAGE;
                const uint8_t *k, *v;
                SL_TRY(show_page(f, s, layer, head, page, pages, &k, &v, err));
                page_as_stored(s, k, v, left < SL_KV_PAGE ? left : SL_KV_PAGE, record);
                uint64_t sum = sli_session_page_sum(record, bytes, number++);
                memcpy(record + bytes, &sum, sizeof sum);
                SL_TRY(sl_file_writer_put(f->writer, record, bytes + sizeof sum, err));
            }
        }
    return SL_OK;
}

static sl_status write_all(sl_session_file *f, sl_session *s, const char *note, size_t note_length, uint32_t tokens, uint64_t *bytes,
                           sl_error *err)
{
    uint8_t front[SLI_SESSION_HEAD_BYTES];
    sli_session_head h = head_of(f);
    uint32_t pages = (tokens + SL_KV_PAGE - 1) / SL_KV_PAGE, first = sli_kv_window_first(&s->kv);
    h.tokens = tokens;
    h.note_bytes = (uint32_t)note_length;
    h.window_first = h.windowed_layers == 0 ? 0 : first < pages ? first : pages;
    h.file_bytes = *bytes = sli_session_file_bytes(&h);
    uint8_t *record = malloc(sli_session_record_bytes(&h));
    if (record == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory to write %s", f->path);
    sli_session_head_write(&h, s->history, note, front);
    sl_status status = sl_file_writer_begin(f->writer, h.file_bytes, false, err);
    if (status == SL_OK)
        status = sl_file_writer_put(f->writer, front, sizeof front, err);
    if (status == SL_OK)
        status = sl_file_writer_put(f->writer, s->history, tokens * sizeof *s->history, err);
    if (status == SL_OK && note_length > 0)
        status = sl_file_writer_put(f->writer, note, note_length, err);
    if (status == SL_OK)
        status = save_pages(f, s, &h, record, err);
    free(record);
    return status;
}

sl_status sl_session_file_save(sl_session_file *f, sl_session *s, const char *note, size_t note_length, sl_session_saved *out,
                               sl_error *err)
{
    *out = (sl_session_saved){.tokens = s->dense < s->position ? s->dense : s->position};
    if (note_length > SLI_SESSION_NOTE_MAX || out->tokens > SLI_SESSION_TOKENS_MAX)
        return sl_fail(err, SL_INVALID, "%s: a session file holds at most %u tokens and %u bytes of what is said of them", f->path,
                       SLI_SESSION_TOKENS_MAX, SLI_SESSION_NOTE_MAX);
    if (f->writer == NULL)
        SL_TRY(sl_file_writer_create(f->path, &f->writer, err));
    sl_pager_cancel(s->engine->pager);
    s->next_planned = SLI_PLANNED_NOTHING;
    s->tree.count = 0;
    sl_file_writer *writer = f->writer;
    sl_status status = write_all(f, s, note != NULL ? note : "", note_length, out->tokens, &out->bytes, err);
    f->writer = NULL;
    if (status == SL_OK)
        status = sl_file_writer_finish(writer, err);
    else
        sl_file_writer_discard(writer);
    sl_error ignored; /* where the lock is not to be had again now, the next save says so */
    if (sl_file_writer_create(f->path, &f->writer, &ignored) != SL_OK)
        f->writer = NULL;
    return status;
}

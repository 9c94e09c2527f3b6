/* offload/tools/pack.c: writing a packed file, section by section.
 *
 *   plan      which sections there are, in which order (pack_plan.h); the header follows from that alone
 *   resume    is OUT.partial this job's? Then its table of checksums says which sections were done
 *   write     each section: kept if its data still has its checksum, else made; then its checksum goes into the table
 *   finish    the table gets its own checksum, in place of the job's mark; sync, rename
 *
 * While the file is being written, the table's own entry holds the mark of the job: a hash of what decides the data but does not show in the
 * header, which is the input file's identity and the orders. A killed process leaves its pages to the kernel; after a power cut a section may
 * be recorded and not be there, which its checksum shows. */
#include "offload/tools/pack.h"
#include "offload/bundle_form.h"
#include "offload/tools/pack_layer.h"
#include "offload/tools/pack_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define PIECE_BYTES ((size_t)4 << 20)

typedef struct packing {
    const sli_pack_options *options;
    sli_pack_source source;
    sli_pack_plan plan;
    sl_gguf_writer *writer;
    char *partial_name;
    uint64_t *checksums; /* one a section; 0: not done, the first the job's mark */
    uint64_t mark;
    XXH3_state_t *hash;            /* of the section being written */
    uint8_t *piece;                /* PIECE_BYTES */
    uint8_t *work, *meta, *bundle; /* the latter: one that is being made compact */
    uint32_t meta_layer;           /* whose meta data is in `meta`; UINT32_MAX: nobody's */
    uint32_t *order, *place_of;
    uint64_t done_bytes, told_bytes, total_bytes, kept_bytes;
    bool begun; /* the partial file is this job's */
} packing;

static sl_status no_memory(const packing *p, sl_error *err)
{
    return sl_fail(err, SL_NO_MEMORY, "%s: no memory to pack it", p->options->in_path);
}

static void note(const packing *p, const char *line)
{
    if (p->options->watch.note)
        p->options->watch.note(p->options->watch.ctx, line);
}

/* ---- order ---- */

static bool invert(const uint32_t *order, uint32_t count, uint32_t *place_of)
{
    memset(place_of, 0xff, count * sizeof(*place_of));
    for (uint32_t place = 0; place < count; place++) {
        if (order[place] >= count || place_of[order[place]] != UINT32_MAX)
            return false;
        place_of[order[place]] = place;
    }
    return true;
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t seed, uint32_t layer)
{
    uint64_t state = sli_random_row(seed, layer, 0);
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)((sli_random_next(&state) >> 32) * i >> 32), moved = order[i - 1];
        order[i - 1] = order[other];
        order[other] = moved;
    }
}

/* Silent neurons go behind the others, which stay in their order. */
static void move_silent(const bool *silent, uint32_t count, uint32_t *order, uint32_t *work)
{
    uint32_t at = 0;
    for (int last = 0; last < 2; last++)
        for (uint32_t i = 0; i < count; i++)
            if (silent[order[i]] == (last == 1))
                work[at++] = order[i];
    memcpy(order, work, count * sizeof(*order));
}

/* The layer's order in p->order, its inverse in p->place_of. */
static sl_status set_order(packing *p, uint32_t layer, sl_error *err)
{
    const sli_pack_options *o = p->options;
    uint32_t count = p->plan.layers[layer].ff;
    const uint32_t *given = o->order == SLI_PACK_GIVEN_ORDER && layer < o->layer_count ? o->orders[layer] : NULL;
    if (!given && (o->order == SLI_PACK_KEPT_ORDER || o->order == SLI_PACK_GIVEN_ORDER))
        given = p->plan.layers[layer].order; /* NULL of a stock file */
    for (uint32_t i = 0; i < count; i++)
        p->order[i] = given ? given[i] : i;
    if (o->order == SLI_PACK_RANDOM_ORDER)
        shuffle(p->order, count, o->seed, layer);
    if (!invert(p->order, count, p->place_of))
        return sl_fail(err, SL_INVALID, "the order given for layer %u is not a permutation of its %u neurons", layer, count);
    if (p->plan.zeros[layer].silent) {
        move_silent(p->plan.zeros[layer].silent, count, p->order, p->place_of);
        (void)invert(p->order, count, p->place_of);
    }
    return SL_OK;
}

/* ---- resume ---- */

/* What decides the data and is not in the header. */
static sl_status mark_job(packing *p, sl_error *err)
{
    struct stat st;
    if (fstat(p->source.fd, &st) != 0)
        return sl_fail(err, SL_IO, "%s: cannot stat it", p->options->in_path);
    uint64_t identity[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
    (void)XXH3_64bits_reset(p->hash);
    (void)XXH3_64bits_update(p->hash, identity, sizeof(identity));
    for (uint32_t i = 0; i < p->plan.layer_count; i++) {
        if (!p->plan.layers[i].bundled)
            continue;
        SL_TRY(set_order(p, i, err));
        (void)XXH3_64bits_update(p->hash, p->order, p->plan.layers[i].ff * sizeof(*p->order));
    }
    p->mark = XXH3_64bits_digest(p->hash) | 1; /* an empty table holds 0 */
    return SL_OK;
}

static const sl_gguf_tensor *tensor_of(const packing *p, size_t section)
{
    return sl_gguf_tensor_at(sl_gguf_writer_header(p->writer), section);
}

/* A model whose feed-forwards have no gate, or have it in up's matrix, is packed, but nothing is won by it. */
static void tell_uncut(const packing *p)
{
    if (p->plan.layer_count > 0 && p->plan.bundled_layers == 0)
        note(p, "no layer is cut into bundles: that takes feed-forwards of separate gate, up and down matrices");
}

/* Says how far the earlier run came, going by its own records. */
static void tell_resumed(const packing *p)
{
    char line[512];
    uint64_t recorded = 0;
    for (size_t i = 1; i < p->plan.section_count; i++)
        recorded += p->checksums[i] ? tensor_of(p, i)->bytes : 0;
    snprintf(line, sizeof(line), "taking up %.400s at %.0f %%", p->partial_name, 100.0 * (double)recorded / (double)p->total_bytes);
    note(p, line);
}

/* Begins the data; p->checksums has what an earlier run of this job recorded, else zeros behind the job's mark. */
static sl_status begin(packing *p, sl_error *err)
{
    bool resumed;
    size_t table_bytes = p->plan.section_count * sizeof(*p->checksums);
    SL_TRY(sli_pack_plan_declare(&p->plan, p->writer, err));
    SL_TRY(sl_gguf_writer_resume_data(p->writer, &resumed, err));
    for (size_t i = 0; i < p->plan.section_count; i++)
        p->total_bytes += tensor_of(p, i)->bytes;
    if (resumed)
        SL_TRY(sl_gguf_writer_read(p->writer, tensor_of(p, 0)->offset, p->checksums, table_bytes, err));
    if (resumed && p->checksums[0] == p->mark)
        tell_resumed(p);
    else
        memset(p->checksums, 0, table_bytes);
    p->checksums[0] = p->mark;
    SL_TRY(sl_gguf_writer_data(p->writer, p->checksums, table_bytes, err));
    p->done_bytes = table_bytes;
    p->begun = true;
    return SL_OK;
}

/* ---- write ---- */

static sl_status tell(packing *p, sl_error *err)
{
    const sl_tool_watch *watch = &p->options->watch;
    bool last = p->done_bytes == p->total_bytes;
    if (!watch->progress || (p->done_bytes - p->told_bytes < SLI_TOOL_STEP_BYTES && !last))
        return SL_OK;
    p->told_bytes = p->done_bytes;
    if (watch->progress(watch->ctx, p->done_bytes, p->total_bytes))
        return SL_OK;
    return sl_fail(err, SL_INTERRUPTED, "stopped at %.0f %%", 100.0 * (double)p->done_bytes / (double)p->total_bytes);
}

/* The sink of everything that is written. */
static sl_status put(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    packing *p = ctx;
    while (bytes > 0) {
        size_t piece = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        (void)XXH3_64bits_update(p->hash, data, piece);
        SL_TRY(sl_gguf_writer_data(p->writer, data, piece, err));
        p->done_bytes += piece;
        SL_TRY(tell(p, err));
        data += piece;
        bytes -= piece;
    }
    return SL_OK;
}

/* As sli_pack_fill wants it: plain, unless the source is packed. */
static sl_packed_layer filled_shape(const packing *p, uint32_t layer)
{
    sl_packed_layer l = p->plan.layers[layer];
    if (!p->source.packed)
        (void)sli_pack_can_bundle(&p->source, layer, &l);
    return l;
}

/* Bundles in p->work as they are to be stored. */
static sl_status store_bundles(packing *p, const sl_packed_layer *from, const sl_packed_layer *to, uint32_t count, sl_error *err)
{
    sli_bundle_form form;
    if (!sli_bundle_form_of(to, &form))
        return sl_fail(err, SL_INTERNAL, "bundles cannot be stored so");
    for (uint32_t i = 0; i < count && from->stride != to->stride; i++) {
        sli_bundle_store(&form, p->work + (size_t)i * from->stride, p->bundle);
        uint8_t *at = p->work + (size_t)i * to->stride; /* not behind where it lay */
        memset(at, 0, to->stride);
        memcpy(at, p->bundle, sl_packed_bundle_bytes(to));
    }
    return SL_OK;
}

static sl_status put_bundles(packing *p, uint32_t layer, sl_error *err)
{
    const sl_packed_layer *l = &p->plan.layers[layer], from = filled_shape(p, layer);
    uint64_t fit = SLI_PACK_WORK_BYTES / from.stride;
    uint32_t at_once = fit == 0 ? 1 : fit < l->stored ? (uint32_t)fit : l->stored;
    SL_TRY(set_order(p, layer, err));
    for (uint32_t first = 0; first < l->stored; first += at_once) {
        uint32_t count = l->stored - first < at_once ? l->stored - first : at_once;
        SL_TRY(sli_pack_fill(&p->source, layer, &from, p->place_of, first, count, p->work, p->meta, err));
        SL_TRY(store_bundles(p, &from, l, count, err));
        SL_TRY(put(p, p->work, (size_t)count * l->stride, err));
    }
    p->meta_layer = layer;
    return SL_OK;
}

/* The meta data came with the bundles, unless those were kept. */
static sl_status put_meta(packing *p, uint32_t layer, sl_error *err)
{
    const sl_packed_layer *l = &p->plan.layers[layer], from = filled_shape(p, layer);
    SL_TRY(set_order(p, layer, err));
    if (p->meta_layer != layer)
        SL_TRY(sli_pack_fill(&p->source, layer, &from, p->place_of, 0, 0, p->work, p->meta, err));
    return put(p, p->meta, (size_t)l->meta_bytes, err);
}

static sl_status put_added(packing *p, const sli_pack_tensor *t, uint64_t bytes, sl_error *err)
{
    if (t->data)
        return put(p, t->data, (size_t)bytes, err);
    for (uint64_t done = 0; done < bytes;) {
        size_t piece = bytes - done < PIECE_BYTES ? (size_t)(bytes - done) : PIECE_BYTES;
        SL_TRY(t->read(t->ctx, done, p->piece, piece, err));
        SL_TRY(put(p, p->piece, piece, err));
        done += piece;
    }
    return SL_OK;
}

static sl_status make_section(packing *p, size_t index, sl_error *err)
{
    const sli_pack_section *s = &p->plan.sections[index];
    switch (s->kind) {
    case SLI_PACK_ORIGINAL: return sli_pack_stream_header(&p->source, put, p, err);
    case SLI_PACK_PADDING: return sli_pack_stream_padding(&p->source, put, p, err);
    case SLI_PACK_PLAIN: return sli_pack_stream_tensor(&p->source, s->tensor, put, p, err);
    case SLI_PACK_BUNDLES: return put_bundles(p, s->layer, err);
    case SLI_PACK_META: return put_meta(p, s->layer, err);
    case SLI_PACK_SILENT: return put(p, p->plan.zeros[s->layer].bundle, (size_t)tensor_of(p, index)->bytes, err);
    case SLI_PACK_ORDER:
        SL_TRY(set_order(p, s->layer, err));
        return put(p, (const uint8_t *)p->order, p->plan.layers[s->layer].ff * sizeof(*p->order), err);
    case SLI_PACK_CARRIED: return sli_pack_stream_section(&p->source, s->tensor, 1, put, p, err);
    case SLI_PACK_ADDED: return put_added(p, s->added, tensor_of(p, index)->bytes, err);
    case SLI_PACK_CHECKSUMS: break;
    }
    return sl_fail(err, SL_INTERNAL, "section \"%s\" cannot be made", s->name);
}

/* Whether the section was recorded as done and its data is still what was recorded. What was added may be another job's: it is made anew. */
static sl_status is_done(packing *p, size_t index, bool *out, sl_error *err)
{
    const sl_gguf_tensor *t = tensor_of(p, index);
    *out = false;
    if (p->checksums[index] == 0 || p->plan.sections[index].kind == SLI_PACK_ADDED)
        return SL_OK;
    (void)XXH3_64bits_reset(p->hash);
    for (uint64_t done = 0; done < t->bytes;) {
        size_t piece = t->bytes - done < PIECE_BYTES ? (size_t)(t->bytes - done) : PIECE_BYTES;
        SL_TRY(sl_gguf_writer_read(p->writer, t->offset + done, p->piece, piece, err));
        (void)XXH3_64bits_update(p->hash, p->piece, piece);
        done += piece;
    }
    *out = XXH3_64bits_digest(p->hash) == p->checksums[index];
    return SL_OK;
}

static sl_status write_section(packing *p, size_t index, sl_error *err)
{
    bool done;
    SL_TRY(is_done(p, index, &done, err));
    if (done) {
        p->done_bytes += tensor_of(p, index)->bytes;
        p->kept_bytes += tensor_of(p, index)->bytes;
        SL_TRY(sl_gguf_writer_skip(p->writer, err));
        return tell(p, err);
    }
    (void)XXH3_64bits_reset(p->hash);
    SL_TRY(make_section(p, index, err));
    p->checksums[index] = XXH3_64bits_digest(p->hash);
    return sl_gguf_writer_patch(p->writer, tensor_of(p, 0)->offset + index * sizeof(*p->checksums), &p->checksums[index],
                                sizeof(*p->checksums), err);
}

static sl_status read_back(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    return sl_gguf_writer_read(ctx, offset, to, bytes, err);
}

static sl_status write_file(packing *p, sl_error *err)
{
    SL_TRY(begin(p, err));
    for (size_t i = 1; i < p->plan.section_count; i++)
        SL_TRY(write_section(p, i, err));
    uint64_t self;
    SL_TRY(sli_packed_self_checksum(sl_gguf_writer_header(p->writer), &(sl_packed_source){read_back, p->writer}, p->checksums, &self, err));
    return sl_gguf_writer_patch(p->writer, tensor_of(p, 0)->offset, &self, sizeof(self), err);
}

/* ---- the whole ---- */

static sl_status allocate(packing *p, sl_error *err)
{
    size_t most = 1;
    uint64_t work_bytes = 1, meta_bytes = 1, bundle_bytes = 1;
    for (uint32_t i = 0; i < p->plan.layer_count; i++) {
        const sl_packed_layer *l = &p->plan.layers[i];
        if (!l->bundled)
            continue;
        uint64_t stride = filled_shape(p, i).stride, limit = stride > SLI_PACK_WORK_BYTES ? stride : SLI_PACK_WORK_BYTES;
        uint64_t bytes = l->stored * stride;
        bundle_bytes = l->stride > bundle_bytes ? l->stride : bundle_bytes;
        bytes = bytes < limit ? bytes : limit;
        most = l->ff > most ? l->ff : most;
        work_bytes = bytes > work_bytes ? bytes : work_bytes;
        meta_bytes = l->meta_bytes > meta_bytes ? l->meta_bytes : meta_bytes;
    }
    p->meta_layer = UINT32_MAX;
    p->checksums = calloc(p->plan.section_count, sizeof(*p->checksums));
    p->order = malloc(most * sizeof(*p->order));
    p->place_of = malloc(most * sizeof(*p->place_of));
    p->work = malloc((size_t)work_bytes);
    p->meta = malloc((size_t)meta_bytes);
    p->bundle = malloc((size_t)bundle_bytes);
    p->piece = malloc(PIECE_BYTES);
    p->hash = XXH3_createState();
    if (asprintf(&p->partial_name, "%s.partial", p->options->out_path) < 0)
        p->partial_name = NULL;
    return p->checksums && p->order && p->place_of && p->work && p->meta && p->bundle && p->piece && p->hash && p->partial_name
               ? SL_OK
               : no_memory(p, err);
}

/* A failed write and a stop can be gone on from; then the message says so. */
static sl_status end(packing *p, sl_status status, sl_error *err)
{
    if (status == SL_OK)
        return sl_gguf_writer_finish(p->writer, err);
    bool keep = p->begun && (status == SL_IO || status == SL_INTERRUPTED);
    if (keep && err) {
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof(err->message) - used, "; %s keeps what is done: the same command goes on from there",
                 p->partial_name);
    }
    if (keep)
        sl_gguf_writer_keep(p->writer);
    else
        sl_gguf_writer_discard(p->writer);
    return status;
}

static void fill_result(const packing *p, sli_pack_result *result)
{
    if (!result)
        return;
    *result = (sli_pack_result){.original_bytes = sl_gguf_file_bytes(p->source.original),
                                .packed_bytes = sl_gguf_file_bytes(sl_gguf_writer_header(p->writer)),
                                .kept_bytes = p->kept_bytes,
                                .sections = p->plan.section_count,
                                .layers = p->plan.layer_count,
                                .bundled_layers = p->plan.bundled_layers};
    sli_pack_count_zeros(p->plan.layers, p->plan.layer_count, result);
}

sl_status sli_pack(const sli_pack_options *options, sli_pack_result *result, sl_error *err)
{
    packing p = {.options = options};
    if (options->order == SLI_PACK_GIVEN_ORDER && !options->orders)
        return sl_fail(err, SL_INVALID, "no orders are given");
    sl_status status = sli_pack_source_open(options->in_path, &p.source, err);
    if (status == SL_OK)
        status = sli_pack_plan_make(&p.plan, &p.source, options, err);
    if (status == SL_OK) {
        tell_uncut(&p);
        status = allocate(&p, err);
    }
    if (status == SL_OK)
        status = mark_job(&p, err);
    if (status == SL_OK)
        status = sl_gguf_writer_create(options->out_path, SL_PACK_ALIGNMENT, &p.writer, err);
    if (status == SL_OK) {
        status = write_file(&p, err);
        if (status == SL_OK)
            fill_result(&p, result);
        status = end(&p, status, err);
    }
    free(p.partial_name);
    XXH3_freeState(p.hash);
    free(p.piece);
    free(p.bundle);
    free(p.meta);
    free(p.work);
    free(p.place_of);
    free(p.order);
    free(p.checksums);
    sli_pack_plan_free(&p.plan);
    sli_pack_source_close(&p.source);
    return status;
}

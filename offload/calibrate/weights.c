/* offload/calibrate/weights.c: see weights.h. */
#include "offload/calibrate/weights.h"
#include "core/layout.h"
#include "core/os.h"
#include "kernels/columns.h"
#include "offload/engine.h"
#include "offload/tools/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)4 << 20) /* of a file that are read at a time, or one row or bundle where that is longer */
#define JOIN_ROWS   SL_COLUMN_GROUP   /* rows of the down matrix that are put together at a time */

struct sli_weights {
    const sl_kernels *kernels;
    sl_gguf *file;
    sl_packed *packed; /* NULL: a stock file */
    sl_model *model;
    int fd;
    uint8_t *arena;
    size_t arena_bytes;
    uint8_t *rows[2];          /* gate and up, as in the file; each has room for the largest layer's */
    uint8_t *columns;          /* [ff][column bytes] of a bundled down matrix */
    uint8_t *meta;             /* and what its blocks share */
    uint8_t *piece;            /* [piece_bytes] */
    uint8_t *plain;            /* a neuron's parts */
    float *row, *norms;        /* [ff] */
    const uint8_t **column_at; /* [ff] */
    size_t piece_bytes;
    uint32_t type[2]; /* of the layer in hand */
};

/* ---- memory ---- */

typedef struct sizes {
    size_t rows[2], columns, meta, piece, plain;
} sizes;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static sizes sizes_of(const sli_weights *w)
{
    const sl_model *m = w->model;
    sizes s = {.piece = PIECE_BYTES};
    for (uint32_t i = 0; i < m->layers; i++) {
        s.rows[0] = larger(s.rows[0], sl_model_tensor(m, SL_ROLE_FFN_GATE, i)->bytes);
        s.rows[1] = larger(s.rows[1], sl_model_tensor(m, SL_ROLE_FFN_UP, i)->bytes);
        const sl_packed_layer *l = sli_bundled_layer_at(w->packed, i);
        if (l != NULL) {
            s.columns = larger(s.columns, (size_t)l->column_bytes * m->ff);
            s.meta = larger(s.meta, l->meta_bytes);
            s.piece = larger(s.piece, l->stride);
            s.plain = larger(s.plain, sl_packed_silent_bytes(l));
        }
        s.piece = larger(s.piece, JOIN_ROWS * sl_row_bytes(sl_model_tensor(m, SL_ROLE_FFN_DOWN, i)->type, m->ff));
    }
    return s;
}

static size_t place(sli_weights *w, uint8_t *base)
{
    sizes s = sizes_of(w);
    size_t ff = w->model->ff;
    sl_layout l = {.base = base};
    w->rows[0] = sl_layout_place(&l, s.rows[0]);
    w->rows[1] = sl_layout_place(&l, s.rows[1]);
    w->columns = sl_layout_place(&l, s.columns);
    w->meta = sl_layout_place(&l, s.meta);
    w->piece = sl_layout_place(&l, s.piece);
    w->plain = sl_layout_place(&l, s.plain);
    w->row = sl_layout_place(&l, larger(ff, w->model->d) * sizeof(float));
    w->norms = sl_layout_place(&l, ff * sizeof(float));
    w->column_at = sl_layout_place(&l, ff * sizeof *w->column_at);
    w->piece_bytes = s.piece;
    return l.used;
}

static sl_status open_parts(sli_weights *w, const char *path, sl_error *err)
{
    SL_TRY(sl_gguf_open(path, &w->file, err));
    SL_TRY(sl_gguf_check_single(w->file, "calibrate", err));
    if (sl_packed_is(w->file)) {
        SL_TRY(sl_packed_open(w->file, &w->packed, err));
        SL_TRY(sli_pack_check_columns(w->packed, err));
    }
    SL_TRY(sl_model_open(w->packed == NULL ? w->file : sl_packed_original(w->packed), &w->model, err));
    for (sl_tensor_role role = SL_ROLE_FFN_GATE; role <= SL_ROLE_FFN_DOWN; role++)
        if (sl_model_tensor(w->model, role, 0) == NULL)
            return sl_fail(err, SL_UNSUPPORTED, "%s: this model's feed-forwards have no gate; calibrate knows only gated ones", path);
    w->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    w->arena_bytes = place(w, NULL);
    w->arena = sl_pages_alloc(w->arena_bytes);
    if (w->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a layer's matrices");
    place(w, w->arena);
    return SL_OK;
}

sl_status sli_weights_open(const char *path, const sl_kernels *kernels, sli_weights **out, sl_error *err)
{
    *out = NULL;
    sli_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a layer's matrices");
    w->kernels = kernels;
    w->fd = -1;
    sl_status status = open_parts(w, path, err);
    if (status != SL_OK) {
        sli_weights_close(w);
        return status;
    }
    *out = w;
    return SL_OK;
}

void sli_weights_close(sli_weights *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        close(w->fd);
    sl_pages_free(w->arena, w->arena_bytes);
    sl_model_close(w->model);
    sl_packed_close(w->packed);
    sl_gguf_close(w->file);
    free(w);
}

const sl_model *sli_weights_model(const sli_weights *w)
{
    return w->model;
}

uint64_t sli_weights_bytes(const sli_weights *w)
{
    return sl_pages_round(w->arena_bytes) + 2 * sl_gguf_heap_bytes(w->file);
}

/* ---- reading ---- */

static sl_status read_at(const sli_weights *w, void *to, size_t bytes, uint64_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(w->fd, (char *)to + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "%s: cannot be read: %s", sl_gguf_path(w->file), n < 0 ? strerror(errno) : "it ends early");
        done += (size_t)n;
    }
    posix_fadvise(w->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED); /* the cgroup counts the page cache */
    return SL_OK;
}

static void add_squares(sli_weights *w, uint32_t type, const uint8_t *row)
{
    w->kernels->dequantize_row(type, row, w->model->ff, w->row);
    for (uint32_t i = 0; i < w->model->ff; i++)
        w->norms[i] += w->row[i] * w->row[i];
}

static sl_status load_plain(sli_weights *w, uint32_t layer, sl_error *err)
{
    const sl_gguf_tensor *gate = sl_model_tensor(w->model, SL_ROLE_FFN_GATE, layer), *up = sl_model_tensor(w->model, SL_ROLE_FFN_UP, layer);
    const sl_gguf_tensor *down = sl_model_tensor(w->model, SL_ROLE_FFN_DOWN, layer);
    size_t row_bytes = sl_row_bytes(down->type, w->model->ff);
    uint32_t at_once = (uint32_t)(w->piece_bytes / row_bytes);
    SL_TRY(read_at(w, w->rows[0], gate->bytes, sli_tensor_offset(w->packed, gate), err));
    SL_TRY(read_at(w, w->rows[1], up->bytes, sli_tensor_offset(w->packed, up), err));
    for (uint32_t at = 0; at < w->model->d; at += at_once) {
        uint32_t n = w->model->d - at < at_once ? w->model->d - at : at_once;
        SL_TRY(read_at(w, w->piece, n * row_bytes, sli_tensor_offset(w->packed, down) + at * row_bytes, err));
        for (uint32_t i = 0; i < n; i++)
            add_squares(w, down->type, w->piece + i * row_bytes);
    }
    return SL_OK;
}

/* A neuron's parts from w->plain. */
static void take_neuron(sli_weights *w, const sl_packed_layer *l, uint32_t neuron)
{
    memcpy(w->rows[0] + (size_t)neuron * l->gate_bytes, w->plain, l->gate_bytes);
    memcpy(w->rows[1] + (size_t)neuron * l->up_bytes, w->plain + l->gate_bytes, l->up_bytes);
    memcpy(w->columns + (size_t)neuron * l->column_bytes, w->plain + l->gate_bytes + l->up_bytes, l->column_bytes);
}

static sl_status load_bundles(sli_weights *w, const sl_packed_layer *l, sl_error *err)
{
    sli_bundle_form form;
    if (!sli_bundle_form_of(l, &form))
        return sl_fail(err, SL_INTERNAL, "a layer stores what it cannot");
    uint32_t at_once = (uint32_t)(w->piece_bytes / l->stride);
    for (uint32_t place = 0; place < l->stored; place += at_once) {
        uint32_t n = l->stored - place < at_once ? l->stored - place : at_once;
        SL_TRY(read_at(w, w->piece, (size_t)n * l->stride, l->bundles_offset + (uint64_t)place * l->stride, err));
        for (uint32_t i = 0; i < n; i++) {
            sli_bundle_make_plain(&form, w->kernels, SLI_PART_GATE, SLI_PART_END, w->piece + (size_t)i * l->stride, w->plain);
            take_neuron(w, l, l->order[place + i]);
        }
    }
    if (l->stored < l->ff)
        SL_TRY(read_at(w, w->plain, sl_packed_silent_bytes(l), l->silent_offset, err));
    for (uint32_t place = l->stored; place < l->ff; place++)
        take_neuron(w, l, l->order[place]);
    if (l->meta_bytes > 0)
        SL_TRY(read_at(w, w->meta, l->meta_bytes, l->meta_offset, err));
    for (uint32_t i = 0; i < l->ff; i++)
        w->column_at[i] = w->columns + (size_t)i * l->column_bytes;
    size_t row_bytes = sl_row_bytes(l->down_type, l->ff);
    for (uint32_t at = 0; at < l->d; at += JOIN_ROWS) {
        uint32_t n = l->d - at < JOIN_ROWS ? l->d - at : JOIN_ROWS;
        sl_columns_join(l->down_type, w->column_at, w->meta, l->d, l->ff, at, n, w->piece);
        for (uint32_t i = 0; i < n; i++)
            add_squares(w, l->down_type, w->piece + i * row_bytes);
    }
    return SL_OK;
}

sl_status sli_weights_load(sli_weights *w, uint32_t layer, sl_error *err)
{
    const sl_packed_layer *l = sli_bundled_layer_at(w->packed, layer);
    w->type[0] = sl_model_tensor(w->model, SL_ROLE_FFN_GATE, layer)->type;
    w->type[1] = sl_model_tensor(w->model, SL_ROLE_FFN_UP, layer)->type;
    memset(w->norms, 0, w->model->ff * sizeof *w->norms);
    if (l != NULL)
        SL_TRY(load_bundles(w, l, err));
    else
        SL_TRY(load_plain(w, layer, err));
    for (uint32_t i = 0; i < w->model->ff; i++)
        w->norms[i] = sqrtf(w->norms[i]);
    return SL_OK;
}

void sli_weights_rows(const sli_weights *w, sli_weights_part part, uint32_t first, uint32_t count, float *out)
{
    size_t row_bytes = sl_row_bytes(w->type[part], w->model->d);
    for (uint32_t i = 0; i < count; i++)
        w->kernels->dequantize_row(w->type[part], w->rows[part] + (first + i) * row_bytes, w->model->d, out + (size_t)i * w->model->d);
}

const float *sli_weights_norms(const sli_weights *w)
{
    return w->norms;
}

/* offload/calibrate/weights.c: see weights.h. */
#include "offload/calibrate/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 20) /* of rows that are read at a time */

struct sli_weights {
    const sl_kernels *kernels;
    sl_gguf *file;
    sl_model *model;
    int fd;
    uint8_t *piece; /* [PIECE_BYTES], or one row where that is longer */
    size_t piece_bytes;
    float *row; /* [ff] */
};

static sl_status open_parts(sli_weights *w, const char *path, sl_error *err)
{
    SL_TRY(sl_gguf_open(path, &w->file, err));
    SL_TRY(sl_model_open(w->file, &w->model, err));
    const sl_gguf_tensor *down = sl_model_tensor(w->model, SL_ROLE_FFN_DOWN, 0);
    if (sl_model_tensor(w->model, SL_ROLE_FFN_GATE, 0) == NULL || down == NULL)
        return sl_fail(err, SL_UNSUPPORTED, "%s: this model's feed-forwards have no gate; calibrate knows only gated ones", path);
    w->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w->fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    size_t longest = (size_t)(w->model->ff > w->model->d ? w->model->ff : w->model->d) * sizeof(float);
    w->piece_bytes = longest > PIECE_BYTES ? longest : PIECE_BYTES;
    w->piece = aligned_alloc(64, (w->piece_bytes + 63) / 64 * 64);
    w->row = aligned_alloc(64, (longest + 63) / 64 * 64);
    if (w->piece == NULL || w->row == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the rows of matrices");
    return SL_OK;
}

sl_status sli_weights_open(const char *path, const sl_kernels *kernels, sli_weights **out, sl_error *err)
{
    *out = NULL;
    sli_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the rows of matrices");
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
    free(w->piece);
    free(w->row);
    sl_model_close(w->model);
    sl_gguf_close(w->file);
    free(w);
}

const sl_model *sli_weights_model(const sli_weights *w)
{
    return w->model;
}

uint64_t sli_weights_bytes(const sli_weights *w)
{
    return w->piece_bytes + (uint64_t)w->model->ff * sizeof(float) + 2 * sl_gguf_heap_bytes(w->file);
}

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

/* Calls use(ctx, row, values) for rows of a matrix. */
static sl_status each_row(sli_weights *w, const sl_gguf_tensor *t, uint32_t first, uint32_t count, float *row,
                          void (*use)(void *ctx, uint32_t index, const float *row), void *ctx, sl_error *err)
{
    uint32_t cols = (uint32_t)t->shape[0];
    size_t row_bytes = sl_row_bytes(t->type, cols);
    uint32_t at_once = (uint32_t)(w->piece_bytes / row_bytes);
    for (uint32_t at = 0; at < count; at += at_once) {
        uint32_t n = count - at < at_once ? count - at : at_once;
        SL_TRY(read_at(w, w->piece, n * row_bytes, t->offset + (uint64_t)(first + at) * row_bytes, err));
        for (uint32_t i = 0; i < n; i++) {
            w->kernels->dequantize_row(t->type, w->piece + i * row_bytes, cols, row);
            use(ctx, at + i, row);
        }
    }
    return SL_OK;
}

typedef struct rows_out {
    float *out;
    size_t cols;
} rows_out;

static void keep_row(void *ctx, uint32_t index, const float *row)
{
    const rows_out *r = ctx;
    memcpy(r->out + index * r->cols, row, r->cols * sizeof *row);
}

sl_status sli_weights_rows(sli_weights *w, sli_weights_part part, uint32_t layer, uint32_t first, uint32_t count, float *out, sl_error *err)
{
    const sl_gguf_tensor *t = sl_model_tensor(w->model, part == SLI_WEIGHTS_GATE ? SL_ROLE_FFN_GATE : SL_ROLE_FFN_UP, layer);
    rows_out r = {out, w->model->d};
    return each_row(w, t, first, count, w->row, keep_row, &r, err);
}

static void add_squares(void *ctx, uint32_t index, const float *row)
{
    const rows_out *r = ctx;
    (void)index;
    for (size_t i = 0; i < r->cols; i++)
        r->out[i] += row[i] * row[i];
}

sl_status sli_weights_norms(sli_weights *w, uint32_t layer, float *norms, sl_error *err)
{
    rows_out r = {norms, w->model->ff};
    memset(norms, 0, r.cols * sizeof *norms);
    SL_TRY(each_row(w, sl_model_tensor(w->model, SL_ROLE_FFN_DOWN, layer), 0, w->model->d, w->row, add_squares, &r, err));
    for (size_t i = 0; i < r.cols; i++)
        norms[i] = sqrtf(norms[i]);
    return SL_OK;
}

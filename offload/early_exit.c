/* offload/early_exit.c: opening what early exits need; see early_exit.h. exit_pass.c runs them. */
#include "offload/early_exit.h"
#include "offload/predictor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOB_MOST ((uint64_t)64 << 20)

/* ---- before the price ---- */

static sl_status check_options(const sl_engine *e, sl_error *err)
{
    const sl_engine_options *o = &e->options;
    const char *other = o->sparsity != SL_SPARSITY_OFF ? "--sparsity"
                        : o->sparq_k > 0               ? "--sparq-k"
                        : o->kv_spill != NULL          ? "--kv-spill"
                        : o->session_file              ? "--session"
                        : o->draft_resident            ? "--drafter model of what is in memory"
                                                       : NULL;
    if (other != NULL)
        return sl_fail(err, SL_INVALID, "--early-exit does not go with %s", other);
    if ((unsigned)o->early_exit > SL_EARLY_EXIT_GAP)
        return sl_fail(err, SL_INVALID, "early exit %d; known are off (0), svm (1), crf (2) and gap (3)", (int)o->early_exit);
    if (o->batch != 0 && o->batch <= SLI_EXIT_WAITING)
        return sl_fail(err, SL_INVALID, "-b %u: --early-exit wants room for %u rows, of tokens that wait", o->batch, SLI_EXIT_WAITING + 1);
    if (!(o->exit_agreement >= 0 && o->exit_agreement < 1))
        return sl_fail(err, SL_INVALID, "an agreement of %g; the asked one lies above 0 and below 1", o->exit_agreement);
    return SL_OK;
}

/* Small, and needed before there is a pager: read through the page cache, which is given back. */
static sl_status read_blob(const sl_engine *e, const sl_gguf_tensor *t, void *to, sl_error *err)
{
    int file = open(e->path, O_RDONLY | O_CLOEXEC);
    uint64_t done = 0;
    while (file >= 0 && done < t->bytes) {
        ssize_t n = pread(file, (char *)to + done, t->bytes - done, (off_t)(t->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    int reason = errno;
    if (file >= 0) {
        (void)posix_fadvise(file, (off_t)t->offset, (off_t)t->bytes, POSIX_FADV_DONTNEED);
        close(file);
    }
    if (done < t->bytes)
        return sl_fail(err, SL_IO, "%s: cannot read the exit classifiers: %s", e->path, strerror(reason));
    return sl_packed_check_tensor(e->packed, t, to, err);
}

static sl_status load(sl_engine *e, const sl_gguf_tensor *t, sl_error *err)
{
    struct sli_early_exit *x = e->early;
    sli_exit_shape shape = {e->model->layers, e->model->d, e->model->vocab};
    if (t->bytes > BLOB_MOST || t->type != SL_TYPE_I8)
        return sl_fail(err, SL_FORMAT, "%s: the section \"%s\" holds no exit classifiers", e->path, SLI_EXIT_TENSOR);
    x->blob = malloc(t->bytes);
    if (x->blob == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for exit classifiers");
    SL_TRY(read_blob(e, t, x->blob, err));
    const char *fault = sli_exits_view(x->blob, t->bytes, &shape, &x->exits);
    return fault == NULL ? SL_OK : sl_fail(err, SL_FORMAT, "%s: the exit classifiers %s", e->path, fault);
}

sl_status sli_early_exit_choose(sl_engine *e, sl_error *err)
{
    sl_engine_options *o = &e->options;
    if (o->early_exit == SL_EARLY_EXIT_OFF)
        return SL_OK;
    SL_TRY(check_options(e, err));
    const sl_gguf_tensor *t = e->packed != NULL ? sl_gguf_find_tensor(e->file, SLI_EXIT_TENSOR) : NULL;
    if (t == NULL)
        return sl_fail(err, SL_INVALID, "%s holds no exit classifiers for --early-exit: %s", e->path,
                       e->packed != NULL ? "`sluice calibrate` it with a text of some 8000 tokens"
                                         : "`sluice calibrate` it with a text, which gives a packed file");
    e->early = calloc(1, sizeof *e->early);
    if (e->early == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for exit classifiers");
    e->early->kind = o->early_exit;
    SL_TRY(load(e, t, err));
    o->exit_agreement = o->exit_agreement > 0 ? o->exit_agreement : SL_EXIT_AGREEMENT;
    const sli_exit_point *point = sli_exit_point_of(&e->early->exits, o->early_exit, o->exit_agreement);
    if (point == NULL)
        return sl_fail(err, SL_INVALID, "an agreement of %g: %s has thresholds for %g at most", o->exit_agreement, e->path,
                       (double)e->early->exits.asked[e->early->exits.point_count - 1]);
    e->early->point = *point;
    return SL_OK;
}

/* ---- the head's rows ---- */

static const sl_gguf_tensor *head_of(const sl_engine *e)
{
    return sl_model_tensor(e->model, SL_ROLE_OUTPUT, 0);
}

uint64_t sli_early_exit_bytes(const sl_engine *e)
{
    if (e->early == NULL)
        return 0;
    uint64_t each = sl_row_bytes(head_of(e)->type, e->model->d) + sizeof(uint8_t *) + sizeof(float);
    const sl_gguf_tensor *t = sl_gguf_find_tensor(e->file, SLI_EXIT_TENSOR);
    uint64_t bytes = sizeof *e->early + t->bytes + (e->model->layers + 1) * sizeof(sl_unit_id);
    if (e->device != NULL)
        return bytes;
    return bytes + e->early->exits.shortlist_count * each + (uint64_t)SLI_EXIT_WAITING * e->model->d * sizeof(float);
}

sl_status sli_early_exit_read_rows(sl_engine *e, uint32_t first, uint32_t count, uint8_t *to, sl_error *err)
{
    const sl_gguf_tensor *t = head_of(e);
    uint32_t row_bytes = (uint32_t)sl_row_bytes(t->type, e->model->d);
    uint64_t offsets[SLI_EXIT_ROWS];
    assert(count <= SLI_EXIT_ROWS);
    for (uint32_t i = 0; i < count; i++)
        offsets[i] = sli_tensor_offset(e->packed, t) + (uint64_t)(uint32_t)e->early->exits.shortlist[first + i] * row_bytes;
    return sl_pager_read_small(e->pager, t->file, offsets, count, row_bytes, to, err);
}

static sl_status read_all_rows(sl_engine *e, sl_error *err)
{
    struct sli_early_exit *x = e->early;
    size_t row_bytes = sl_row_bytes(head_of(e)->type, e->model->d);
    uint32_t count = x->exits.shortlist_count;
    for (uint32_t at = 0; at < count; at += SLI_EXIT_ROWS) {
        uint32_t n = count - at < SLI_EXIT_ROWS ? count - at : SLI_EXIT_ROWS;
        SL_TRY(sli_early_exit_read_rows(e, at, n, x->rows + at * row_bytes, err));
    }
    for (uint32_t i = 0; i < count; i++)
        x->row_at[i] = x->rows + i * row_bytes;
    return SL_OK;
}

/* Of this layer, or of the first behind it that has any; else the head's. */
static sl_unit_id first_unit_from(const sl_engine *e, uint32_t layer)
{
    for (; layer < e->model->layers; layer++)
        for (uint32_t op = 0; op < e->units.layer_ops; op++)
            if (sli_units_layer(&e->units, layer, op)->unit_count > 0)
                return sli_units_layer(&e->units, layer, op)->first_unit;
    return e->units.body_count;
}

uint64_t sli_early_exit_streamed(const sl_engine *e)
{
    uint64_t bytes = 0;
    for (sl_unit_id u = first_unit_from(e, (uint32_t)e->early->exits.probes[0] + 1); u < e->units.body_count; u++)
        bytes += e->units.in_vram[u] || (e->units.units[u].home && e->device == NULL) ? 0 : e->units.units[u].bytes;
    return bytes;
}

/* Of what a device has itself there is nothing here. */
static sl_status open_on_processor(sl_engine *e, sl_error *err)
{
    struct sli_early_exit *x = e->early;
    size_t count = x->exits.shortlist_count;
    x->waiting = malloc((size_t)SLI_EXIT_WAITING * e->model->d * sizeof *x->waiting);
    x->rows = malloc(count * sl_row_bytes(head_of(e)->type, e->model->d) + 1);
    x->row_at = malloc((count + 1) * sizeof *x->row_at);
    x->logits = malloc((count + 1) * sizeof *x->logits);
    if (x->waiting == NULL || x->rows == NULL || x->row_at == NULL || x->logits == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for early exits");
    return read_all_rows(e, err);
}

sl_status sli_early_exit_open(sl_engine *e, sl_error *err)
{
    struct sli_early_exit *x = e->early;
    if (x == NULL)
        return SL_OK;
    x->layer_begin = malloc((e->model->layers + 1) * sizeof *x->layer_begin);
    if (x->layer_begin == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for early exits");
    for (uint32_t layer = 0; layer <= e->model->layers; layer++)
        x->layer_begin[layer] = first_unit_from(e, layer);
    return e->device != NULL ? SL_OK : open_on_processor(e, err);
}

void sli_early_exit_close(sl_engine *e)
{
    struct sli_early_exit *x = e->early;
    if (x == NULL)
        return;
    free(x->blob);
    free(x->layer_begin);
    free(x->waiting);
    free(x->rows);
    free(x->row_at);
    free(x->logits);
    free(x);
    e->early = NULL;
}

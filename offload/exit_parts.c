/* offload/exit_parts.c: the parts of a pass with probes, as the processor computes them; see early_exit.h. */
#include "core/os.h"
#include "offload/early_exit.h"
#include "offload/matmul.h"

#include <string.h>

static sl_status begin(const sli_pass *p, uint32_t waiting, sl_error *err)
{
    (void)p;
    (void)waiting;
    (void)err;
    return SL_OK;
}

static void list(const sli_pass *p, sl_unit_id from, sl_unit_id to)
{
    (void)p;
    (void)from;
    (void)to;
}

static uint64_t crossing_bytes(const sl_engine *e, sl_unit_id from, sl_unit_id to)
{
    (void)e;
    (void)from;
    (void)to;
    return 0;
}

/* Rows in front are those that a layer computes. */
static void joined(const sli_pass *p, uint32_t joining, uint32_t still_waiting)
{
    size_t d = p->engine->model->d;
    float *residual = sli_pass_buffer(p, SL_BUF_RESIDUAL);
    memmove(residual + joining * d, residual, (p->rows - joining) * d * sizeof *residual);
    memcpy(residual, p->engine->early->waiting + still_waiting * d, joining * d * sizeof *residual);
    sli_pass_turn(p);
}

static sl_status keep(const sli_pass *p, uint32_t still_waiting, sl_error *err)
{
    size_t d = p->engine->model->d;
    (void)err;
    memcpy(p->engine->early->waiting + still_waiting * d, sli_pass_buffer(p, SL_BUF_RESIDUAL), p->rows * d * sizeof(float));
    return SL_OK;
}

static sl_status layer(const sli_pass *p, uint32_t which, sl_error *err)
{
    return p->rows > 0 ? sli_pass_layer(p, which, err) : SL_OK;
}

static sl_status head(const sli_pass *p, sl_error *err)
{
    return sli_pass_head(p, 1, err);
}

/* ---- a look ---- */

typedef struct look_job {
    const sl_engine *engine;
    uint32_t type;
    const sl_acts *acts;
} look_job;

#define SHARE_ROWS 16

static void look_share(void *arg, unsigned index, unsigned count)
{
    const look_job *j = arg;
    const struct sli_early_exit *x = j->engine->early;
    uint32_t blocks = (x->exits.shortlist_count + SHARE_ROWS - 1) / SHARE_ROWS;
    uint32_t first = (uint32_t)((uint64_t)blocks * index / count) * SHARE_ROWS;
    uint32_t end = (uint32_t)((uint64_t)blocks * (index + 1) / count) * SHARE_ROWS;
    end = end < x->exits.shortlist_count ? end : x->exits.shortlist_count;
    if (first < end)
        j->engine->kernels->dot_rows(j->type, x->row_at + first, end - first, j->acts, x->logits + first);
}

/* The last row's logits of the shortlist. */
static sli_exit_look look_at_shortlist(const sli_pass *p)
{
    sl_engine *e = p->engine;
    const sl_model *m = e->model;
    const float *norm = e->vector_at[(size_t)m->layers * e->units.layer_ops * 2];
    float *normed = sli_pass_buffer(p, SL_BUF_NORMED);
    uint32_t type = sl_model_tensor(m, SL_ROLE_OUTPUT, 0)->type;
    sl_acts acts;
    e->kernels->rms_norm(sli_pass_buffer(p, SL_BUF_RESIDUAL) + (size_t)(p->rows - 1) * m->d, norm, m->d, m->norm_eps, normed);
    sli_prepare_source(e, normed, 1, m->d, sl_format_of(type)->quantized, &acts);
    sl_threads_run(e->threads, look_share, &(look_job){e, type, &acts});
    return sli_exit_look_at(e->early->logits, e->early->exits.shortlist_count);
}

static void swap_rows(float *a, float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n && a != b; i++) {
        float other = a[i];
        a[i] = b[i];
        b[i] = other;
    }
}

/* Of the whole vocabulary: the head works on the rows in front, so the last one stands there meanwhile. */
static sl_status look_at_all(const sli_pass *p, sli_exit_look *out, sl_error *err)
{
    uint32_t d = p->engine->model->d;
    float *residual = sli_pass_buffer(p, SL_BUF_RESIDUAL), *last = residual + (size_t)(p->rows - 1) * d;
    sli_pass single = *p;
    single.rows = 1;
    swap_rows(residual, last, d);
    sl_status status = sli_pass_head(&single, 1, err);
    swap_rows(residual, last, d);
    *out = sli_exit_look_at(sli_pass_buffer(p, SL_BUF_LOGITS), p->engine->model->vocab);
    return status;
}

static sl_status look(const sli_pass *p, sli_exit_look *out, double *seconds, sl_error *err)
{
    uint64_t start = sl_now_ns();
    if (p->engine->early->exits.shortlist_count > 0)
        *out = look_at_shortlist(p);
    else
        SL_TRY(look_at_all(p, out, err));
    *seconds = (double)(sl_now_ns() - start) * 1e-9;
    return SL_OK;
}

const sli_exit_parts *sli_exit_on_processor(void)
{
    static const sli_exit_parts parts = {begin, joined, list, layer, look, head, keep, crossing_bytes};
    return &parts;
}

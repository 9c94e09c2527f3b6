/* offload/ffn.c: see ffn.h. Here all neurons' gates and ups are at hand, so that a set only decides what is set to zero. Nothing is saved by that; it
 * is how prompts run, how many sparse rows at once run (perplexity), and what the ways that save are held against. */
#include "offload/ffn.h"
#include "offload/ffn_bundled.h"
#include "offload/ffn_resident.h"
#include "offload/ffn_sparse.h"
#include "offload/sparsity.h"

#include <string.h>

static bool is_feed_forward(const sl_op *ops)
{
    return ops[SLI_FFN_GATE].kind == SL_OP_MATMUL && ops[SLI_FFN_GATE].dst == SL_BUF_GATE && ops[SLI_FFN_UP].kind == SL_OP_MATMUL &&
           ops[SLI_FFN_UP].dst == SL_BUF_UP && ops[SLI_FFN_GLU].kind == SL_OP_GLU && ops[SLI_FFN_DOWN].kind == SL_OP_MATMUL &&
           ops[SLI_FFN_DOWN].src == SL_BUF_GATE;
}

bool sli_ffn_begins(const sl_engine *engine, const sl_op *ops, uint32_t layer)
{
    return (engine->sparsity.mode != SL_SPARSITY_OFF || sli_bundled_of(&engine->bundled, layer) != NULL) && is_feed_forward(ops);
}

/* ---- rows with sets ---- */

static void clear_others(float *h, uint32_t ff, const uint32_t *members, uint32_t count)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        memset(h + at, 0, (members[i] - at) * sizeof *h);
        at = members[i] + 1;
    }
    memset(h + at, 0, (ff - at) * sizeof *h);
}

static const float *input_row(const sli_ffn *f, uint32_t row)
{
    return sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].src) + (size_t)row * f->engine->model->d;
}

/* gate becomes the activations of the row's set, zero elsewhere. */
static void mask_row(const sli_ffn *f, uint32_t row, const uint32_t *coarse, unsigned thread)
{
    sli_sparsity *s = &f->engine->sparsity;
    const sl_kernels *kernels = f->engine->kernels;
    float *gate = sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst) + (size_t)row * s->ff;
    const float *up = sli_ffn_buffer(f, f->ops[SLI_FFN_UP].dst) + (size_t)row * s->ff;
    const uint32_t *members = coarse;
    if (coarse == NULL && s->predictor == SL_PREDICTOR_STORED)
        members = sli_sparsity_predict(s, f->layer, input_row(f, row), thread);
    if (coarse == NULL && s->predictor == SL_PREDICTOR_GATE) {
        float *activated = s->thread_scores + (size_t)thread * s->ff;
        kernels->glu(sli_ffn_activation(f), gate, s->ones, s->ff, activated);
        members = sli_sparsity_top(s, f->layer, activated, thread);
    }
    kernels->glu(sli_ffn_activation(f), gate, up, s->ff, gate);
    if (members == NULL)
        members = sli_sparsity_top(s, f->layer, gate, thread);
    sli_sparsity_compare(s, f->layer, members, gate, thread);
    clear_others(gate, s->ff, members, s->keep[f->layer]);
    sli_sparsity_count(s, s->keep[f->layer]);
}

typedef struct mask_job {
    const sli_ffn *ffn;
    const uint32_t *coarse; /* the layer's set, or NULL */
} mask_job;

static void mask_share(void *arg, unsigned index, unsigned count)
{
    const mask_job *job = arg;
    uint32_t begin, end;
    sli_share(job->ffn->rows, 1, index, count, &begin, &end);
    for (uint32_t row = begin; row < end; row++)
        mask_row(job->ffn, row, job->coarse, index);
}

static void activate_sets(const sli_ffn *f)
{
    sli_sparsity *s = &f->engine->sparsity;
    mask_job job = {f, s->mode == SL_SPARSITY_COARSE ? sli_coarse_set(s, f->layer) : NULL};
    sl_threads_run(f->engine->threads, mask_share, &job);
}

/* ---- rows without ---- */

/* Rows at the end of a dense batch for which the predictor is asked, too, because here it can be held against the truth. */
#define ROWS_COMPARED 8

static void compare_rows(const sli_ffn *f, uint32_t begin, uint32_t end, unsigned thread)
{
    sli_sparsity *s = &f->engine->sparsity;
    if (f->rows > ROWS_COMPARED && begin < f->rows - ROWS_COMPARED)
        begin = f->rows - ROWS_COMPARED;
    for (uint32_t row = begin; row < end; row++) {
        const float *h = sli_ffn_buffer(f, f->ops[SLI_FFN_GLU].dst) + (size_t)row * s->ff;
        sli_sparsity_compare(s, f->layer, sli_sparsity_predict(s, f->layer, input_row(f, row), thread), h, thread);
    }
}

static void activate_share(void *arg, unsigned index, unsigned count)
{
    const sli_ffn *f = arg;
    sli_sparsity *s = &f->engine->sparsity;
    uint32_t begin, end, ff = f->engine->model->ff;
    sli_share(f->rows, 1, index, count, &begin, &end);
    float *gate = sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst);
    const float *up = sli_ffn_buffer(f, f->ops[SLI_FFN_UP].dst);
    size_t at = (size_t)begin * ff;
    f->engine->kernels->glu(sli_ffn_activation(f), gate + at, up + at, (size_t)(end - begin) * ff, gate + at);
    if (s->mode == SL_SPARSITY_COARSE)
        sli_coarse_norms(s, gate, begin, end);
    if (s->stored != NULL && f->rows > f->engine->price.draft_max + 1) /* a prompt: at each check it would cost too much */
        compare_rows(f, begin, end, index);
}

static void see_share(void *arg, unsigned index, unsigned count)
{
    const sli_ffn *f = arg;
    sli_sparsity *s = &f->engine->sparsity;
    uint32_t first, last;
    sli_share(s->ff, 1, index, count, &first, &last);
    sli_coarse_see(s, f->layer, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].dst), f->rows, first, last);
}

static void activate_all(sli_ffn *f)
{
    sli_sparsity *s = &f->engine->sparsity;
    sl_threads_run(f->engine->threads, activate_share, f);
    if (s->mode != SL_SPARSITY_COARSE)
        return;
    sl_threads_run(f->engine->threads, see_share, f);
    s->chosen_valid = false;
}

/* ---- all of it ---- */

static sli_product product_of(const sli_ffn *f, int op)
{
    return (sli_product){.matrix = &f->matrices[op], .bias = f->vectors[2 * op + 1], .out = sli_ffn_buffer(f, f->ops[op].dst)};
}

static sl_status gate_up(const sli_ffn *f, sl_error *err)
{
    if (sli_bundled_of(&f->engine->bundled, f->layer) != NULL)
        return sli_bundled_gate_up(f, err);
    sli_product in[2] = {product_of(f, SLI_FFN_GATE), product_of(f, SLI_FFN_UP)};
    return sli_multiply(f->engine, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].src), f->rows, in, 2, err);
}

static sl_status down(const sli_ffn *f, sl_error *err)
{
    if (sli_bundled_of(&f->engine->bundled, f->layer) != NULL) {
        sli_bundled_down(f);
        return SL_OK;
    }
    sli_product out = product_of(f, SLI_FFN_DOWN);
    return sli_multiply(f->engine, sli_ffn_buffer(f, f->ops[SLI_FFN_DOWN].src), f->rows, &out, 1, err);
}

sl_status sli_ffn_run(const sli_ffn *ffn, sl_error *err)
{
    sli_ffn f = *ffn;
    if (f.sparse && f.rows == 1 && sli_ffn_streams_sets(f.engine, f.layer))
        return sli_ffn_sparse(&f, err);
    if (f.resident_only && sli_bundled_of(&f.engine->bundled, f.layer) != NULL) {
        sli_ffn_resident(&f);
        return SL_OK;
    }
    SL_TRY(gate_up(&f, err));
    if (f.sparse)
        activate_sets(&f);
    else
        activate_all(&f);
    return down(&f, err);
}

sl_status sli_ffn_run_singly(const sli_ffn *ffn, sl_error *err)
{
    sli_ffn one = *ffn;
    if (!ffn->sparse || !sli_ffn_streams_sets(ffn->engine, ffn->layer))
        return sli_ffn_run(ffn, err);
    one.rows = 1;
    for (; one.row < ffn->row + ffn->rows; one.row++)
        SL_TRY(sli_ffn_run(&one, err));
    return SL_OK;
}

/* offload/sparsity.c: see sparsity.h. */
#include "offload/sparsity.h"
#include "core/layout.h"
#include "core/os.h"
#include "offload/select.h"

#include <math.h>
#include <string.h>

static void lay_out(sl_layout *l, const sl_model *model, const sli_sparsity_shape *shape, sli_sparsity *s)
{
    size_t ff = model->ff, layers = model->layers;
    bool coarse = shape->mode == SL_SPARSITY_COARSE, gate = !coarse && shape->predictor == SL_PREDICTOR_GATE;
    s->keep = sl_layout_place(l, layers * sizeof *s->keep);
    s->evidence = sl_layout_place(l, coarse ? layers * ff * sizeof *s->evidence : 0);
    s->marked = sl_layout_place(l, coarse ? layers * ff * sizeof *s->marked : 0);
    s->row_inverse = sl_layout_place(l, coarse ? shape->batch * sizeof *s->row_inverse : 0);
    s->chosen = sl_layout_place(l, coarse ? layers * ff * sizeof *s->chosen : 0);
    s->ones = sl_layout_place(l, gate ? ff * sizeof *s->ones : 0);
    bool stored = !coarse && shape->predictor == SL_PREDICTOR_STORED;
    s->thread_input_bytes = stored ? sl_layout_round(model->d * sizeof(float)) + sl_layout_round(sli_predictor_row_bytes(model->d)) : 0;
    s->thread_inputs = sl_layout_place(l, shape->threads * s->thread_input_bytes);
    s->thread_scores = sl_layout_place(l, shape->threads * ff * sizeof *s->thread_scores);
    s->thread_members = sl_layout_place(l, shape->threads * 2 * ff * sizeof *s->thread_members);
}

uint64_t sli_sparsity_price(const sl_model *model, const sli_sparsity_shape *shape)
{
    sl_layout l = {0};
    sli_sparsity unused = {0};
    if (shape->mode == SL_SPARSITY_OFF)
        return 0;
    lay_out(&l, model, shape, &unused);
    return sl_pages_round(l.used);
}

uint32_t sli_sparsity_keep(uint32_t ff, double density)
{
    /* A density that was written as 0.3 is a little less in binary: it still means three tenths. */
    uint32_t keep = (uint32_t)floor((double)ff * density + 1e-6);
    return keep < 1 ? 1 : keep > ff ? ff : keep;
}

sl_status sli_sparsity_create(const sl_model *model, const sli_sparsity_shape *shape, const uint32_t *keep, sli_sparsity *out,
                              sl_error *err)
{
    sl_layout l = {0};
    memset(out, 0, sizeof *out);
    if (shape->mode == SL_SPARSITY_OFF)
        return SL_OK;
    lay_out(&l, model, shape, out);
    out->arena_bytes = l.used;
    out->arena = sl_pages_alloc(l.used);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu bytes of neuron sets", l.used);
    l = (sl_layout){.base = out->arena};
    lay_out(&l, model, shape, out);
    out->mode = shape->mode;
    out->predictor = shape->predictor;
    out->layers = model->layers;
    out->d = model->d;
    out->ff = model->ff;
    memcpy(out->keep, keep, out->layers * sizeof *keep);
    if (out->mode == SL_SPARSITY_FINE && out->predictor == SL_PREDICTOR_GATE)
        for (uint32_t j = 0; j < out->ff; j++)
            out->ones[j] = 1.0f;
    return SL_OK;
}

void sli_sparsity_free(sli_sparsity *s)
{
    if (s->arena != NULL)
        sl_pages_free(s->arena, s->arena_bytes);
    memset(s, 0, sizeof *s);
}

/* ---- sets ---- */

const uint32_t *sli_sparsity_top(sli_sparsity *s, uint32_t layer, const float *scores, unsigned thread)
{
    uint32_t *members = s->thread_members + (size_t)thread * 2 * s->ff;
    sli_select_top(scores, s->ff, s->keep[layer], members);
    return members;
}

void sli_sparsity_compare(sli_sparsity *s, uint32_t layer, const uint32_t *members, const float *h, unsigned thread)
{
    uint32_t *exact = s->thread_members + ((size_t)thread * 2 + 1) * s->ff, keep = s->keep[layer];
    sli_select_top(h, s->ff, keep, exact);
    atomic_fetch_add_explicit(&s->compared, keep, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->in_both, sli_select_common(members, keep, exact, keep), memory_order_relaxed);
}

void sli_sparsity_count(sli_sparsity *s, uint32_t members)
{
    atomic_fetch_add_explicit(&s->sets, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->members, members, memory_order_relaxed);
}

void sli_sparsity_begin(sli_sparsity *s, uint32_t layer, sl_threads *crew, const float *x, unsigned thread, sli_predictor_row *row)
{
    float *copy = (float *)(void *)(s->thread_inputs + thread * s->thread_input_bytes); /* aligned, as rows of a batch need not be */
    memcpy(copy, x, s->d * sizeof *x);
    sli_predictor_begin(s->stored, layer, crew, copy, (uint8_t *)copy + sl_layout_round(s->d * sizeof *x), row);
}

float *sli_sparsity_scores(const sli_sparsity *s, unsigned thread)
{
    return s->thread_scores + (size_t)thread * s->ff;
}

const uint32_t *sli_sparsity_predict(sli_sparsity *s, uint32_t layer, const float *x, unsigned thread)
{
    sli_predictor_row row;
    float *scores = sli_sparsity_scores(s, thread);
    sli_sparsity_begin(s, layer, NULL, x, thread, &row);
    sli_predictor_scores(&row, 0, s->ff, scores);
    return sli_sparsity_top(s, layer, scores, thread);
}

/* ---- coarse ---- */

void sli_coarse_reset(sli_sparsity *s)
{
    if (s->mode != SL_SPARSITY_COARSE)
        return;
    memset(s->evidence, 0, (size_t)s->layers * s->ff * sizeof *s->evidence);
    s->chosen_valid = false;
}

static size_t evidence_bytes(const sli_sparsity *s)
{
    return (size_t)s->layers * s->ff * sizeof *s->evidence;
}

void sli_coarse_mark(sli_sparsity *s)
{
    if (s->mode == SL_SPARSITY_COARSE)
        memcpy(s->marked, s->evidence, evidence_bytes(s));
}

void sli_coarse_back(sli_sparsity *s)
{
    if (s->mode != SL_SPARSITY_COARSE)
        return;
    memcpy(s->evidence, s->marked, evidence_bytes(s));
    s->chosen_valid = false;
}

/* What a check leaves of earlier evidence: that of about ten checks counts. */
#define FADE 0.9f

void sli_coarse_fade(sli_sparsity *s)
{
    if (s->mode != SL_SPARSITY_COARSE)
        return;
    for (size_t i = 0; i < (size_t)s->layers * s->ff; i++)
        s->evidence[i] *= FADE;
    s->chosen_valid = false;
}

void sli_coarse_norms(sli_sparsity *s, const float *h, uint32_t begin, uint32_t end)
{
    for (uint32_t row = begin; row < end; row++) {
        const float *of_row = h + (size_t)row * s->ff;
        double sum = 0;
        for (uint32_t j = 0; j < s->ff; j++)
            sum += (double)of_row[j] * (double)of_row[j];
        s->row_inverse[row] = sum > 0 ? (float)(1.0 / sqrt(sum)) : 0.0f; /* a row of zeros speaks for nobody */
    }
}

void sli_coarse_see(sli_sparsity *s, uint32_t layer, const float *h, uint32_t rows, uint32_t first, uint32_t last)
{
    float *evidence = s->evidence + (size_t)layer * s->ff;
    for (uint32_t row = 0; row < rows; row++) {
        const float *of_row = h + (size_t)row * s->ff;
        for (uint32_t j = first; j < last; j++) {
            float share = of_row[j] * s->row_inverse[row];
            evidence[j] += share * share;
        }
    }
}

const uint32_t *sli_coarse_set(sli_sparsity *s, uint32_t layer)
{
    for (uint32_t l = 0; !s->chosen_valid && l < s->layers; l++)
        sli_select_top(s->evidence + (size_t)l * s->ff, s->ff, s->keep[l], s->chosen + (size_t)l * s->ff);
    s->chosen_valid = true;
    return s->chosen + (size_t)layer * s->ff;
}

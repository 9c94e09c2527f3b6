/* offload/calibrate/lesson.c: see lesson.h. */
#include "offload/calibrate/lesson.h"
#include "core/os.h"
#include "offload/guess.h"

#include <math.h>
#include <string.h>

#define FIT_ROWS_MAX  1024
#define HELD_ROWS_MAX 512

sli_lesson_shape sli_lesson_shape_of(const sl_model *model, uint32_t observed_rows)
{
    sli_lesson_shape s = {.d = model->d, .ff = model->ff};
    s.held_rows = observed_rows / 10 < HELD_ROWS_MAX ? observed_rows / 10 : HELD_ROWS_MAX;
    s.seen_rows = observed_rows - observed_rows / 10;
    s.fit_rows = s.seen_rows < FIT_ROWS_MAX ? s.seen_rows : FIT_ROWS_MAX;
    return s;
}

/* Places parts one after the other; with a NULL base it only counts. */
typedef struct placing {
    uint8_t *base;
    size_t used;
} placing;

static void *place(placing *p, size_t count, size_t bytes)
{
    void *at = p->base == NULL ? NULL : p->base + p->used;
    p->used += (count * bytes + 63) / 64 * 64;
    return at;
}

static void place_all(placing *p, const sli_lesson_shape *s, sli_lesson *l)
{
    size_t rows = (size_t)s->fit_rows + s->held_rows, slab = SLI_LESSON_SLAB;
    l->x = place(p, rows * s->d, sizeof(float));
    l->gate = place(p, rows * s->ff, sizeof(float));
    l->up = place(p, rows * s->ff, sizeof(float));
    l->scores = place(p, rows * s->ff, sizeof(float));
    l->gram = place(p, (size_t)s->d * s->d, sizeof(float));
    l->factor = place(p, (size_t)s->d * s->d, sizeof(float));
    l->slab = place(p, slab * s->d, sizeof(float));
    l->error = place(p, slab * s->d, sizeof(float));
    l->column = place(p, s->d, sizeof(double));
    for (int i = 0; i < 6; i++)
        l->neuron[i] = place(p, s->ff, sizeof(double));
    l->row = place(p, sli_guess_row_bytes(s->d), 1);
}

uint64_t sli_lesson_price(const sli_lesson_shape *shape)
{
    placing p = {0};
    sli_lesson unused;
    place_all(&p, shape, &unused);
    return sl_pages_round(p.used);
}

sl_status sli_lesson_create(const sli_lesson_shape *shape, sli_lesson *out, sl_error *err)
{
    placing p = {0};
    place_all(&p, shape, out);
    *out = (sli_lesson){.arena_bytes = p.used, .d = shape->d, .ff = shape->ff, .seen_rows = shape->seen_rows};
    out->fit_rows = shape->fit_rows;
    out->held_rows = shape->held_rows;
    out->arena = sl_pages_alloc(p.used);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a layer's activations");
    p = (placing){.base = out->arena};
    place_all(&p, shape, out);
    return SL_OK;
}

void sli_lesson_free(sli_lesson *l)
{
    sl_pages_free(l->arena, l->arena_bytes);
    l->arena = NULL;
}

/* ---- a layer ---- */

static sl_status take_gram(sli_lesson *l, const sli_observation *o, sl_error *err)
{
    size_t d = l->d;
    memset(l->gram, 0, d * d * sizeof *l->gram);
    for (uint32_t at = 0; at < l->seen_rows; at += SLI_LESSON_SLAB) {
        uint32_t n = l->seen_rows - at < SLI_LESSON_SLAB ? l->seen_rows - at : SLI_LESSON_SLAB;
        SL_TRY(sli_observation_read(o, l->layer, at, n, l->slab, err));
        sli_linear_add_gram(l->linear, n, d, l->slab, l->gram);
    }
    sli_linear_mirror(d, l->gram);
    l->kernels->scale(l->gram, 1.0f / (float)l->seen_rows, d * d);
    return SL_OK;
}

/* Rows for fitting are spread evenly; those that are held out are the text's last. */
static sl_status take_sample(sli_lesson *l, const sli_observation *o, sl_error *err)
{
    for (uint32_t i = 0; i < l->fit_rows; i++) {
        uint32_t row = (uint32_t)((uint64_t)i * l->seen_rows / l->fit_rows);
        SL_TRY(sli_observation_read(o, l->layer, row, 1, l->x + (size_t)i * l->d, err));
    }
    return sli_observation_read(o, l->layer, o->rows - l->held_rows, l->held_rows, l->x + (size_t)l->fit_rows * l->d, err);
}

static void multiply_part(sli_lesson *l, sli_weights_part part, float *out)
{
    uint32_t rows = l->fit_rows + l->held_rows;
    for (uint32_t at = 0; at < l->ff; at += SLI_LESSON_SLAB) {
        uint32_t n = l->ff - at < SLI_LESSON_SLAB ? l->ff - at : SLI_LESSON_SLAB;
        sli_weights_rows(l->weights, part, at, n, l->slab);
        sli_linear_multiply(l->linear, rows, n, l->d, 1.0f, (sli_factor){l->x, l->d, false}, (sli_factor){l->slab, l->d, true}, 0.0f,
                            out + at, l->ff);
    }
}

sl_status sli_lesson_begin(sli_lesson *l, const sli_observation *o, uint32_t layer, sl_error *err)
{
    l->layer = layer;
    SL_TRY(take_gram(l, o, err));
    SL_TRY(take_sample(l, o, err));
    SL_TRY(sli_weights_load(l->weights, layer, err));
    multiply_part(l, SLI_WEIGHTS_GATE, l->gate);
    multiply_part(l, SLI_WEIGHTS_UP, l->up);
    l->norms = sli_weights_norms(l->weights);
    size_t rows = (size_t)l->fit_rows + l->held_rows;
    l->kernels->glu(l->act, l->gate, l->up, rows * l->ff, l->scores);
    for (size_t i = 0; i < rows * l->ff; i++)
        l->scores[i] = fabsf(l->scores[i]) * l->norms[i % l->ff];
    return SL_OK;
}

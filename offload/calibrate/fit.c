/* offload/calibrate/fit.c: see fit.h. What both kinds share: sizes, the blob, and the scales and errors at the end. */
#include "offload/calibrate/fit.h"

#include <math.h>
#include <string.h>

/* ---- plans ---- */

static size_t bytes_of(sli_fit_kind kind, uint32_t d, uint32_t ff, uint32_t blocks, uint32_t planes)
{
    uint32_t words[SLI_GUESS_WORDS] = {0};
    words[SLI_GUESS_D] = d;
    words[SLI_GUESS_FF] = ff;
    words[SLI_GUESS_INPUTS] = blocks * SL_SIGN_COLS;
    words[SLI_GUESS_PROJECTION] = kind == SLI_FIT_COPY ? SLI_GUESS_COPY : (uint32_t)SLI_FIT_PROJECTION;
    words[SLI_GUESS_PLANES_SUM] = planes;
    return sli_guess_layout_of(words).total_bytes;
}

/* A low rank's planes are divided once the directions are known. Half as many again as blocks is about what comes out, so that many are planned. */
bool sli_fit_plan_of(sli_fit_kind kind, uint32_t d, uint32_t ff, size_t bytes, sli_fit_plan *out)
{
    uint32_t blocks = d / SL_SIGN_COLS, least = kind == SLI_FIT_COPY ? blocks : 1;
    *out = (sli_fit_plan){.kind = kind};
    for (uint32_t n = least; n <= blocks; n++)
        for (uint32_t planes = kind == SLI_FIT_COPY ? n : (3 * n + 1) / 2; planes <= n * SL_SIGN_PLANES; planes++) {
            size_t needed = bytes_of(kind, d, ff, n, planes);
            if (needed > bytes)
                break;
            *out = (sli_fit_plan){kind, n, planes, needed};
        }
    return out->blocks > 0;
}

float sli_fit_step(uint32_t planes)
{
    static const float steps[SL_SIGN_PLANES + 1] = {0.0f, 1.596f, 0.9957f, 0.586f};
    return steps[planes];
}

/* ---- a blob being written ---- */

void sli_draft_begin(sli_draft *t, uint8_t *blob, uint32_t d, uint32_t ff, uint32_t projection, const uint8_t *planes, uint32_t blocks)
{
    *t = (sli_draft){.blob = blob, .rows = sli_guess_rows(ff)};
    uint32_t sum = 0;
    for (uint32_t b = 0; b < blocks; b++)
        sum += planes[b];
    t->words[SLI_GUESS_VERSION] = SLI_GUESS_VERSION_NUMBER;
    t->words[SLI_GUESS_D] = d;
    t->words[SLI_GUESS_FF] = ff;
    t->words[SLI_GUESS_INPUTS] = blocks * SL_SIGN_COLS;
    t->words[SLI_GUESS_PROJECTION] = projection;
    t->words[SLI_GUESS_PLANES_SUM] = sum;
    t->at = sli_guess_layout_of(t->words);
    memset(blob, 0, t->at.total_bytes);
    memcpy(blob, t->words, sizeof t->words);
    t->planes = blob + t->at.offset[SLI_GUESS_PART_PLANES];
    memcpy(t->planes, planes, blocks);
    t->factors = (float *)(void *)(blob + t->at.offset[SLI_GUESS_PART_FACTORS]);
    t->select = (uint32_t *)(void *)(blob + t->at.offset[SLI_GUESS_PART_SELECT]);
    t->neurons = (uint16_t *)(void *)(blob + t->at.offset[SLI_GUESS_PART_NEURONS]);
}

void sli_draft_put(sli_draft *t, sli_weights_part part, uint32_t row, uint32_t block, const uint8_t values[SL_SIGN_COLS])
{
    uint8_t *at = t->blob + t->at.offset[part == SLI_WEIGHTS_GATE ? SLI_GUESS_PART_GATE : SLI_GUESS_PART_UP];
    at += row / SL_SIGN_ROWS * sl_sign_panel_bytes(t->planes, t->words[SLI_GUESS_INPUTS]);
    at += sl_sign_panel_bytes(t->planes, block * SL_SIGN_COLS);
    for (uint32_t p = 0; p < t->planes[block]; p++, at += SL_SIGN_PLANE_BYTES)
        for (uint32_t c = 0; c < SL_SIGN_COLS; c++)
            at[sl_sign_byte(row, c)] |= (uint8_t)((values[c] >> p & 1) << sl_sign_bit(row, c));
}

/* ---- scales and errors ---- */

enum { GATE_EXACT, GATE_BOTH, GATE_GUESS, UP_EXACT, UP_BOTH, UP_GUESS }; /* sums of squares and products, in lesson->neuron */

typedef struct measuring {
    sli_lesson *lesson;
    const sli_guess *guess;
    sl_acts inputs;
    uint32_t row;
} measuring;

static void add_products(sli_lesson *l, int sums, const float *exact, const float *guess, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        double e = (double)exact[i], g = (double)guess[i];
        l->neuron[sums][first + i] += e * e;
        l->neuron[sums + 1][first + i] += e * g;
        l->neuron[sums + 2][first + i] += g * g;
    }
}

static void measure_share(void *arg, unsigned index, unsigned count)
{
    measuring *m = arg;
    sli_lesson *l = m->lesson;
    uint32_t panels = (l->ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS, end = (uint32_t)((uint64_t)panels * (index + 1) / count);
    for (uint32_t p = (uint32_t)((uint64_t)panels * index / count); p < end; p++) {
        float gate[SL_SIGN_ROWS], up[SL_SIGN_ROWS];
        uint32_t first = p * SL_SIGN_ROWS, n = l->ff - first < SL_SIGN_ROWS ? l->ff - first : SL_SIGN_ROWS;
        size_t at = (size_t)m->row * l->ff + first;
        sli_guess_products(m->guess, l->kernels, &m->inputs, first, first + n, gate, up);
        add_products(l, GATE_EXACT, l->gate + at, gate, first, n);
        add_products(l, UP_EXACT, l->up + at, up, first, n);
    }
}

/* Scale and mean squared error of a neuron's product, when the guess is stretched to fit best. */
static void stretch(const sli_lesson *l, int sums, uint32_t i, float scale, float *new_scale, float *error)
{
    double exact = l->neuron[sums][i], both = l->neuron[sums + 1][i], guess = l->neuron[sums + 2][i];
    double by = guess > 0 ? both / guess : 0.0, left = exact - by * both;
    *new_scale = (float)((double)scale * by);
    *error = (float)((left > 0 ? left : 0.0) / l->fit_rows);
}

static void write_neurons(const sli_lesson *l, sli_draft *t)
{
    uint16_t *scale[2] = {t->neurons, t->neurons + 2 * t->rows}, *error[2] = {t->neurons + t->rows, t->neurons + 3 * t->rows};
    for (uint32_t i = 0; i < l->ff; i++) {
        float s, e;
        stretch(l, GATE_EXACT, i, sl_bf16_to_f32(scale[0][i]), &s, &e);
        scale[0][i] = sl_f32_to_bf16(s);
        error[0][i] = sl_f32_to_bf16(sqrtf(e));
        stretch(l, UP_EXACT, i, sl_bf16_to_f32(scale[1][i]), &s, &e);
        scale[1][i] = sl_f32_to_bf16(s * l->norms[i]);
        error[1][i] = sl_f32_to_bf16(e * l->norms[i] * l->norms[i]);
    }
}

sl_status sli_fit(sli_lesson *l, const sli_fit_plan *plan, void *scratch, uint8_t *blob, size_t *bytes, sl_error *err)
{
    sli_draft draft;
    sli_guess guess;
    if (plan->kind == SLI_FIT_COPY)
        SL_TRY(sli_fit_copy(l, plan, &draft, blob, err));
    else
        SL_TRY(sli_fit_low_rank(l, plan, scratch, &draft, blob, err));
    *bytes = draft.at.total_bytes;
    const char *fault = sli_guess_view(blob, *bytes, l->d, l->ff, &guess);
    for (int i = 0; i < 6; i++)
        memset(l->neuron[i], 0, l->ff * sizeof *l->neuron[i]);
    measuring m = {.lesson = l, .guess = &guess};
    for (m.row = 0; m.row < l->fit_rows && fault == NULL; m.row++) {
        sli_guess_begin(&guess, l->kernels, NULL, l->x + (size_t)m.row * l->d, l->row, &m.inputs);
        sl_threads_run(l->threads, measure_share, &m);
    }
    if (fault == NULL) {
        write_neurons(l, &draft);
        fault = sli_guess_view(blob, *bytes, l->d, l->ff, &guess);
    }
    if (fault != NULL)
        return sl_fail(err, SL_FORMAT, "layer %u cannot be fitted: what came out %s; are its weights all finite?", l->layer, fault);
    return SL_OK;
}

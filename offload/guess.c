/* offload/guess.c: see guess.h. */
#include "offload/guess.h"
#include "offload/share.h"

#include <math.h>
#include <string.h>

#define DIMENSION_MAX (1u << 20)
#define RANGE         256 /* neurons whose scores are made at a time, on the stack */

sli_guess_layout sli_guess_layout_of(const uint32_t words[SLI_GUESS_WORDS])
{
    sli_guess_layout l = {0};
    size_t inputs = words[SLI_GUESS_INPUTS], rows = sli_guess_rows(words[SLI_GUESS_FF]);
    bool copy = words[SLI_GUESS_PROJECTION] == SLI_GUESS_COPY;
    size_t signs = rows / SL_SIGN_ROWS * words[SLI_GUESS_PLANES_SUM] * SL_SIGN_PLANE_BYTES;
    l.bytes[SLI_GUESS_PART_PLANES] = inputs / SL_SIGN_COLS;
    l.bytes[SLI_GUESS_PART_FACTORS] = inputs * sizeof(float);
    l.bytes[SLI_GUESS_PART_SELECT] = copy ? inputs * sizeof(uint32_t) : 0;
    l.bytes[SLI_GUESS_PART_PANELS] = copy ? 0 : inputs * sl_row_bytes(words[SLI_GUESS_PROJECTION], words[SLI_GUESS_D]);
    l.bytes[SLI_GUESS_PART_NEURONS] = 4 * rows * sizeof(uint16_t);
    l.bytes[SLI_GUESS_PART_GATE] = l.bytes[SLI_GUESS_PART_UP] = signs;
    size_t at = SLI_GUESS_WORDS * sizeof(uint32_t);
    for (int i = 0; i < SLI_GUESS_PARTS; i++) {
        at = (at + SLI_GUESS_ALIGN - 1) / SLI_GUESS_ALIGN * SLI_GUESS_ALIGN;
        l.offset[i] = at;
        at += l.bytes[i];
    }
    l.total_bytes = at;
    return l;
}

bool sli_guess_plausible(const uint32_t words[SLI_GUESS_WORDS])
{
    uint32_t inputs = words[SLI_GUESS_INPUTS], d = words[SLI_GUESS_D], ff = words[SLI_GUESS_FF], blocks = inputs / SL_SIGN_COLS;
    if (d == 0 || d > DIMENSION_MAX || ff == 0 || ff > DIMENSION_MAX || inputs == 0 || inputs > d || inputs % SL_SIGN_COLS != 0)
        return false;
    if (words[SLI_GUESS_PLANES_SUM] < blocks || words[SLI_GUESS_PLANES_SUM] > blocks * SL_SIGN_PLANES)
        return false;
    const sl_format *format = sl_format_of(words[SLI_GUESS_PROJECTION]);
    return words[SLI_GUESS_PROJECTION] == SLI_GUESS_COPY || (format != NULL && format->supported && d % format->block_elements == 0);
}

/* ---- checking ---- */

static bool numbers_are_good(const sli_guess *l, uint32_t rows)
{
    bool good = true;
    for (uint32_t i = 0; i < l->inputs; i++) {
        good &= isfinite(l->factors[i]) != 0;
        good &= l->select == NULL || l->select[i] < l->d;
    }
    for (uint32_t part = 0; part < 4; part++)
        for (uint32_t i = 0; i < rows; i++) {
            float value = sl_bf16_to_f32(l->neurons[part * rows + i]);
            good &= isfinite(value) && (part % 2 == 0 || value >= 0);
        }
    return good;
}

static bool planes_are_good(const uint8_t *planes, const uint32_t words[SLI_GUESS_WORDS])
{
    uint32_t sum = 0;
    for (uint32_t b = 0; b < words[SLI_GUESS_INPUTS] / SL_SIGN_COLS; b++) {
        if (planes[b] < 1 || planes[b] > SL_SIGN_PLANES)
            return false;
        sum += planes[b];
    }
    return sum == words[SLI_GUESS_PLANES_SUM];
}

const char *sli_guess_view(const uint8_t *blob, size_t bytes, uint32_t d, uint32_t ff, sli_guess *out)
{
    uint32_t words[SLI_GUESS_WORDS];
    if (bytes < sizeof words)
        return "is shorter than its header";
    memcpy(words, blob, sizeof words);
    if (words[SLI_GUESS_VERSION] != SLI_GUESS_VERSION_NUMBER)
        return "has another version; run sluice calibrate again";
    if (words[SLI_GUESS_D] != d || words[SLI_GUESS_FF] != ff)
        return "was made for a model of other sizes; run sluice calibrate again";
    if (!sli_guess_plausible(words) || sli_guess_layout_of(words).total_bytes != bytes)
        return "has sizes that do not fit together";
    sli_guess_layout at = sli_guess_layout_of(words);
    const uint8_t *planes = blob + at.offset[SLI_GUESS_PART_PLANES];
    if (!planes_are_good(planes, words))
        return "has a wrong number of planes";
    bool copy = words[SLI_GUESS_PROJECTION] == SLI_GUESS_COPY;
    *out = (sli_guess){.d = d, .ff = ff, .inputs = words[SLI_GUESS_INPUTS], .projection = words[SLI_GUESS_PROJECTION]};
    out->factors = (const float *)(const void *)(blob + at.offset[SLI_GUESS_PART_FACTORS]);
    out->select = copy ? (const uint32_t *)(const void *)(blob + at.offset[SLI_GUESS_PART_SELECT]) : NULL;
    out->panels = blob + at.offset[SLI_GUESS_PART_PANELS];
    out->neurons = (const uint16_t *)(const void *)(blob + at.offset[SLI_GUESS_PART_NEURONS]);
    out->gate = (sl_signs){ff, out->inputs, planes, blob + at.offset[SLI_GUESS_PART_GATE]};
    out->up = (sl_signs){ff, out->inputs, planes, blob + at.offset[SLI_GUESS_PART_UP]};
    return numbers_are_good(out, sli_guess_rows(ff)) ? NULL : "holds a value that is no number";
}

/* ---- a row ---- */

static size_t align_up(size_t bytes)
{
    return (bytes + SLI_GUESS_ALIGN - 1) / SLI_GUESS_ALIGN * SLI_GUESS_ALIGN;
}

/* Inputs as floats, their quants, scales and sums; and x quantised, for a projection. */
size_t sli_guess_row_bytes(uint32_t d)
{
    return align_up((size_t)d * sizeof(float)) + 2 * align_up(d) + 4 * align_up((size_t)d / SL_ACT_BLOCK * sizeof(float));
}

static uint8_t *place_acts(uint8_t *memory, uint32_t cols, sl_acts *acts)
{
    acts->rows = 1;
    acts->cols = cols;
    acts->q = (int8_t *)memory;
    memory += align_up(cols);
    acts->d = (float *)(void *)memory;
    memory += align_up(cols / SL_ACT_BLOCK * sizeof(float));
    acts->sum = (int32_t *)(void *)memory;
    return memory + align_up(cols / SL_ACT_BLOCK * sizeof(int32_t));
}

typedef struct projection_job {
    const sli_guess *guess;
    const sl_kernels *kernels;
    sl_acts acts;
    float *inputs;
} projection_job;

static void project_share(void *arg, unsigned index, unsigned count)
{
    const projection_job *job = arg;
    const sli_guess *g = job->guess;
    uint32_t first, last;
    sli_share(g->inputs, SL_PANEL_ROWS, index, count, &first, &last);
    if (first < last)
        job->kernels->matmul(g->projection, g->panels + (size_t)first * sl_row_bytes(g->projection, g->d), last - first, &job->acts,
                             job->inputs + first, last - first);
}

static void project(const sli_guess *g, const sl_kernels *kernels, sl_threads *crew, const float *x, uint8_t *memory, float *inputs)
{
    projection_job job = {.guess = g, .kernels = kernels, .acts = {.f32 = x}, .inputs = inputs};
    place_acts(memory, g->d, &job.acts);
    if (sl_format_of(g->projection)->quantized)
        kernels->quantize(&job.acts, 0, 1);
    if (crew != NULL)
        sl_threads_run(crew, project_share, &job);
    else
        project_share(&job, 0, 1);
}

void sli_guess_begin(const sli_guess *g, const sl_kernels *kernels, sl_threads *crew, const float *x, void *memory, sl_acts *inputs)
{
    float *values = memory;
    uint8_t *rest = place_acts((uint8_t *)memory + align_up(g->inputs * sizeof(float)), g->inputs, inputs);
    inputs->f32 = values;
    if (g->select == NULL)
        project(g, kernels, crew, x, rest, values);
    for (uint32_t i = 0; i < g->inputs; i++)
        values[i] = (g->select == NULL ? values[i] : x[g->select[i]]) * g->factors[i];
    kernels->quantize(inputs, 0, 1);
}

static void multiply(const sl_signs *w, const sl_kernels *kernels, const sl_acts *inputs, const uint16_t *scales, uint32_t first,
                     uint32_t last, float *out)
{
    sl_signs part = *w;
    part.rows = last - first;
    part.panels += first / SL_SIGN_ROWS * sl_sign_panel_bytes(w->planes, w->cols);
    kernels->dot_signs(&part, inputs, 0, part.rows, out);
    for (uint32_t i = 0; i < part.rows; i++)
        out[i] *= sl_bf16_to_f32(scales[first + i]);
}

void sli_guess_products(const sli_guess *g, const sl_kernels *kernels, const sl_acts *inputs, uint32_t first, uint32_t last, float *gate,
                        float *up)
{
    multiply(&g->gate, kernels, inputs, g->neurons, first, last, gate);
    multiply(&g->up, kernels, inputs, g->neurons + (size_t)2 * sli_guess_rows(g->ff), first, last, up);
}

/* scores holds the products of gate. */
static void score(const sli_guess *g, const sl_kernels *kernels, sl_glu act, uint32_t first, uint32_t count, const float *up, float *scores)
{
    size_t rows = sli_guess_rows(g->ff);
    const uint16_t *gate_error = g->neurons + rows + first, *up_error = g->neurons + 3 * rows + first;
    float more[RANGE], less[RANGE], ones[RANGE];
    for (uint32_t i = 0; i < count; i++) {
        float error = sl_bf16_to_f32(gate_error[i]);
        more[i] = scores[i] + error;
        less[i] = scores[i] - error;
        ones[i] = 1.0f;
    }
    kernels->glu(act, more, ones, count, more);
    kernels->glu(act, less, ones, count, less);
    for (uint32_t i = 0; i < count; i++)
        scores[i] = sqrtf(0.5f * (more[i] * more[i] + less[i] * less[i]) * (up[i] * up[i] + sl_bf16_to_f32(up_error[i])));
}

void sli_guess_scores(const sli_guess *g, const sl_kernels *kernels, sl_glu act, const sl_acts *inputs, uint32_t first, uint32_t last,
                      float *scores)
{
    float up[RANGE];
    for (uint32_t at = first; at < last; at += RANGE) {
        uint32_t count = last - at < RANGE ? last - at : RANGE;
        sli_guess_products(g, kernels, inputs, at, at + count, scores + (at - first), up);
        score(g, kernels, act, at, count, up, scores + (at - first));
    }
}

/* offload/predictor.c: see predictor.h. */
#include "offload/predictor.h"
#include "core/os.h"
#include "offload/predictor_blob.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGE 256 /* neurons whose scores are made at a time, on the stack; a multiple of SLI_PREDICTOR_ALIGN */

/* One layer's parts, in the arena. */
typedef struct layer {
    uint32_t inputs, projection;
    sl_signs gate, up;
    const float *factors;
    const uint32_t *select;  /* a copy's */
    const uint8_t *panels;   /* a projection's */
    const uint16_t *neurons; /* [4][rows] */
} layer;

struct sli_predictor {
    sli_predictor_shape shape;
    const sl_kernels *kernels;
    uint8_t *arena;
    size_t arena_bytes;
    uint32_t inputs_max;
    layer layers[];
};

static const sl_gguf_tensor *find(const sl_gguf *file, uint32_t layer_index)
{
    char name[64];
    snprintf(name, sizeof name, SLI_PREDICTOR_TENSOR, layer_index);
    return sl_gguf_find_tensor(file, name);
}

static size_t align_up(size_t bytes)
{
    return (bytes + SLI_BLOB_ALIGN - 1) / SLI_BLOB_ALIGN * SLI_BLOB_ALIGN;
}

static uint64_t arena_bytes_of(const sl_gguf *file, uint32_t layers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < layers; i++) {
        const sl_gguf_tensor *t = find(file, i);
        bytes += t == NULL ? 0 : align_up(t->bytes);
    }
    return bytes;
}

uint64_t sli_predictor_price(const sl_gguf *file, uint32_t layers)
{
    uint64_t bytes = arena_bytes_of(file, layers);
    return bytes == 0 ? 0 : sl_pages_round(bytes) + sizeof(sli_predictor) + layers * sizeof(layer);
}

uint64_t sli_predictor_stored_bytes(const sl_gguf *file, uint32_t layers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < layers; i++) {
        const sl_gguf_tensor *t = find(file, i);
        bytes += t == NULL ? 0 : t->bytes;
    }
    return bytes;
}

/* ---- opening ---- */

static bool numbers_are_good(const layer *l, uint32_t d, uint32_t rows)
{
    bool good = true;
    for (uint32_t i = 0; i < l->inputs; i++) {
        good &= isfinite(l->factors[i]) != 0;
        good &= l->select == NULL || l->select[i] < d;
    }
    for (uint32_t part = 0; part < 4; part++)
        for (uint32_t i = 0; i < rows; i++) {
            float value = sl_bf16_to_f32(l->neurons[part * rows + i]);
            good &= isfinite(value) && (part % 2 == 0 || value >= 0);
        }
    return good;
}

static bool planes_are_good(const uint8_t *planes, const uint32_t words[SLI_BLOB_WORDS])
{
    uint32_t sum = 0;
    for (uint32_t b = 0; b < words[SLI_BLOB_INPUTS] / SL_SIGN_COLS; b++) {
        if (planes[b] < 1 || planes[b] > SL_SIGN_PLANES)
            return false;
        sum += planes[b];
    }
    return sum == words[SLI_BLOB_PLANES_SUM];
}

static const char *place_layer(const uint8_t *blob, size_t bytes, const sli_predictor_shape *shape, layer *out)
{
    uint32_t words[SLI_BLOB_WORDS];
    if (bytes < sizeof words)
        return "is shorter than its header";
    memcpy(words, blob, sizeof words);
    if (words[SLI_BLOB_VERSION] != SLI_PREDICTOR_VERSION)
        return "has another version; run sluice calibrate again";
    if (words[SLI_BLOB_D] != shape->d || words[SLI_BLOB_FF] != shape->ff)
        return "was made for a model of other sizes; run sluice calibrate again";
    if (!sli_blob_plausible(words) || sli_blob_layout_of(words).total_bytes != bytes)
        return "has sizes that do not fit together";
    sli_blob_layout at = sli_blob_layout_of(words);
    const uint8_t *planes = blob + at.offset[SLI_BLOB_PART_PLANES];
    if (!planes_are_good(planes, words))
        return "has a wrong number of planes";
    bool copy = words[SLI_BLOB_PROJECTION] == SLI_BLOB_COPY;
    *out = (layer){.inputs = words[SLI_BLOB_INPUTS], .projection = words[SLI_BLOB_PROJECTION]};
    out->factors = (const float *)(const void *)(blob + at.offset[SLI_BLOB_PART_FACTORS]);
    out->select = copy ? (const uint32_t *)(const void *)(blob + at.offset[SLI_BLOB_PART_SELECT]) : NULL;
    out->panels = blob + at.offset[SLI_BLOB_PART_PANELS];
    out->neurons = (const uint16_t *)(const void *)(blob + at.offset[SLI_BLOB_PART_NEURONS]);
    out->gate = (sl_signs){shape->ff, out->inputs, planes, blob + at.offset[SLI_BLOB_PART_GATE]};
    out->up = (sl_signs){shape->ff, out->inputs, planes, blob + at.offset[SLI_BLOB_PART_UP]};
    return numbers_are_good(out, shape->d, sli_blob_rows(shape->ff)) ? NULL : "holds a value that is no number";
}

static sl_status load_layer(sli_predictor *p, const sl_gguf *file, const sli_predictor_reader *reader, uint32_t i, uint8_t *to,
                            sl_error *err)
{
    const sl_gguf_tensor *t = find(file, i);
    if (t == NULL)
        return sl_fail(err, SL_FORMAT, "%s: layer %u has no predictor, others may; run sluice calibrate", sl_gguf_path(file), i);
    SL_TRY(reader->read(reader->ctx, t, to, err));
    const char *fault = place_layer(to, t->bytes, &p->shape, &p->layers[i]);
    if (fault != NULL)
        return sl_fail(err, SL_FORMAT, "%s: the predictor of layer %u %s", sl_gguf_path(file), i, fault);
    if (p->layers[i].inputs > p->inputs_max)
        p->inputs_max = p->layers[i].inputs;
    return SL_OK;
}

sl_status sli_predictor_open(const sl_gguf *file, const sli_predictor_shape *shape, const sli_predictor_reader *reader,
                             const sl_kernels *kernels, sli_predictor **out, sl_error *err)
{
    *out = NULL;
    size_t bytes = arena_bytes_of(file, shape->layers);
    if (bytes == 0)
        return sl_fail(err, SL_FORMAT, "%s: no predictors are in it; run sluice calibrate", sl_gguf_path(file));
    sli_predictor *p = calloc(1, sizeof *p + shape->layers * sizeof(layer));
    uint8_t *arena = sl_pages_alloc(bytes);
    if (p == NULL || arena == NULL) {
        sl_pages_free(arena, bytes);
        free(p);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for predictors");
    }
    *p = (sli_predictor){.shape = *shape, .kernels = kernels, .arena = arena, .arena_bytes = bytes};
    sl_status status = SL_OK;
    size_t at = 0;
    for (uint32_t i = 0; i < shape->layers && status == SL_OK; i++) {
        status = load_layer(p, file, reader, i, arena + at, err);
        at += status == SL_OK ? align_up(find(file, i)->bytes) : 0;
    }
    if (status != SL_OK) {
        sli_predictor_close(p);
        return status;
    }
    *out = p;
    return SL_OK;
}

void sli_predictor_close(sli_predictor *p)
{
    if (p == NULL)
        return;
    sl_pages_free(p->arena, p->arena_bytes);
    free(p);
}

/* ---- a row ---- */

/* inputs as floats, their quants, scales and sums; and x quantised, for a projection. */
size_t sli_predictor_row_bytes_max(uint32_t d)
{
    return 2 * align_up((size_t)d * sizeof(float)) + 2 * align_up(d) + 4 * align_up((size_t)d / SL_ACT_BLOCK * sizeof(float));
}

size_t sli_predictor_row_bytes(const sli_predictor *p)
{
    return sli_predictor_row_bytes_max(p->shape.d);
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

static void project(const sli_predictor *p, const layer *l, const float *x, uint8_t *memory, float *inputs)
{
    sl_acts acts = {.f32 = x};
    place_acts(memory, p->shape.d, &acts);
    if (sl_format_of(l->projection)->quantized)
        p->kernels->quantize(&acts, 0, 1);
    p->kernels->matmul(l->projection, l->panels, l->inputs, &acts, inputs, l->inputs);
}

void sli_predictor_begin(const sli_predictor *p, uint32_t layer_index, const float *x, void *memory, sli_predictor_row *row)
{
    const layer *l = &p->layers[layer_index];
    float *inputs = memory;
    uint8_t *rest = (uint8_t *)memory + align_up(l->inputs * sizeof(float));
    *row = (sli_predictor_row){.predictor = p, .layer = layer_index};
    rest = place_acts(rest, l->inputs, &row->inputs);
    row->inputs.f32 = inputs;
    if (l->select == NULL)
        project(p, l, x, rest, inputs);
    for (uint32_t i = 0; i < l->inputs; i++)
        inputs[i] = (l->select == NULL ? inputs[i] : x[l->select[i]]) * l->factors[i];
    p->kernels->quantize(&row->inputs, 0, 1);
}

/* scores holds gate's products, up its own; both without their scales. */
static void finish_scores(const sli_predictor *p, const layer *l, uint32_t first, uint32_t count, const float *up, float *scores)
{
    size_t rows = sli_blob_rows(p->shape.ff);
    const uint16_t *n = l->neurons + first;
    float more[RANGE], less[RANGE], ones[RANGE];
    for (uint32_t i = 0; i < count; i++) {
        float gate = scores[i] * sl_bf16_to_f32(n[i]), error = sl_bf16_to_f32(n[rows + i]);
        more[i] = gate + error;
        less[i] = gate - error;
        ones[i] = 1.0f;
    }
    p->kernels->glu(p->shape.act, more, ones, count, more);
    p->kernels->glu(p->shape.act, less, ones, count, less);
    for (uint32_t i = 0; i < count; i++) {
        float u = up[i] * sl_bf16_to_f32(n[2 * rows + i]), v = sl_bf16_to_f32(n[3 * rows + i]);
        scores[i] = sqrtf(0.5f * (more[i] * more[i] + less[i] * less[i]) * (u * u + v));
    }
}

void sli_predictor_scores(const sli_predictor_row *row, uint32_t first, uint32_t last, float *scores)
{
    const sli_predictor *p = row->predictor;
    const layer *l = &p->layers[row->layer];
    float up[RANGE];
    size_t panel_bytes = sl_sign_panel_bytes(l->gate.planes, l->inputs);
    p->kernels->dot_signs(&l->gate, &row->inputs, first, last, scores);
    for (uint32_t at = first; at < last; at += RANGE) {
        uint32_t count = last - at < RANGE ? last - at : RANGE;
        sl_signs part = l->up;
        part.panels += at / SL_SIGN_ROWS * panel_bytes;
        part.rows = count;
        p->kernels->dot_signs(&part, &row->inputs, 0, count, up);
        finish_scores(p, l, at, count, up, scores + at);
    }
}

/* offload/predictor.c: see predictor.h. */
#include "offload/predictor.h"
#include "core/layout.h"
#include "core/os.h"
#include "offload/guess.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sli_predictor {
    sli_predictor_shape shape;
    const sl_kernels *kernels;
    uint8_t *arena;
    size_t arena_bytes;
    sli_guess layers[];
};

static const sl_gguf_tensor *find(const sl_gguf *file, uint32_t layer_index)
{
    char name[64];
    snprintf(name, sizeof name, SLI_PREDICTOR_TENSOR, layer_index);
    return sl_gguf_find_tensor(file, name);
}

static uint64_t arena_bytes_of(const sl_gguf *file, uint32_t layers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < layers; i++) {
        const sl_gguf_tensor *t = find(file, i);
        bytes += t == NULL ? 0 : sl_layout_round(t->bytes);
    }
    return bytes;
}

uint64_t sli_predictor_price(const sl_gguf *file, uint32_t layers)
{
    uint64_t bytes = arena_bytes_of(file, layers);
    return bytes == 0 ? 0 : sl_pages_round(bytes) + sizeof(sli_predictor) + layers * sizeof(sli_guess);
}

/* ---- opening ---- */

static sl_status load_layer(sli_predictor *p, const sl_gguf *file, const sli_predictor_reader *reader, uint32_t i, uint8_t *to,
                            sl_error *err)
{
    const sl_gguf_tensor *t = find(file, i);
    if (t == NULL)
        return sl_fail(err, SL_FORMAT, "%s: layer %u has no predictor, others may; run sluice calibrate", sl_gguf_path(file), i);
    SL_TRY(reader->read(reader->ctx, t, to, err));
    const char *fault = sli_guess_view(to, t->bytes, p->shape.d, p->shape.ff, &p->layers[i]);
    if (fault != NULL)
        return sl_fail(err, SL_FORMAT, "%s: the predictor of layer %u %s", sl_gguf_path(file), i, fault);
    return SL_OK;
}

sl_status sli_predictor_open(const sl_gguf *file, const sli_predictor_shape *shape, const sli_predictor_reader *reader,
                             const sl_kernels *kernels, sli_predictor **out, sl_error *err)
{
    *out = NULL;
    size_t bytes = arena_bytes_of(file, shape->layers);
    if (bytes == 0)
        return sl_fail(err, SL_FORMAT, "%s: no predictors are in it; run sluice calibrate", sl_gguf_path(file));
    sli_predictor *p = calloc(1, sizeof *p + shape->layers * sizeof(sli_guess));
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
        at += status == SL_OK ? sl_layout_round(find(file, i)->bytes) : 0;
    }
    if (status != SL_OK) {
        sli_predictor_close(p);
        return status;
    }
    *out = p;
    return SL_OK;
}

const void *sli_predictor_memory(const sli_predictor *predictor, size_t *bytes)
{
    *bytes = predictor->arena_bytes;
    return predictor->arena;
}

const sli_guess *sli_predictor_layer(const sli_predictor *predictor, uint32_t layer)
{
    return &predictor->layers[layer];
}

void sli_predictor_close(sli_predictor *p)
{
    if (p == NULL)
        return;
    sl_pages_free(p->arena, p->arena_bytes);
    free(p);
}

/* ---- a row ---- */

size_t sli_predictor_row_bytes(uint32_t d)
{
    return sli_guess_row_bytes(d);
}

void sli_predictor_begin(const sli_predictor *p, uint32_t layer, sl_threads *crew, const float *x, void *memory, sli_predictor_row *row)
{
    *row = (sli_predictor_row){.predictor = p, .layer = layer};
    sli_guess_begin(&p->layers[layer], p->kernels, crew, x, memory, &row->inputs);
}

void sli_predictor_scores(const sli_predictor_row *row, uint32_t first, uint32_t last, float *scores)
{
    const sli_predictor *p = row->predictor;
    sli_guess_scores(&p->layers[row->layer], p->kernels, p->shape.act, &row->inputs, first, last, scores + first);
}

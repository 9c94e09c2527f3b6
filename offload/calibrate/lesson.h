/* offload/calibrate/lesson.h: all that is known of one layer's feed-forward while its predictor is fitted.
 *
 * Of all observed rows the Gram matrix is taken. Of a sample of them there are the exact products of gate and up and the scores that a predictor
 * should guess: fit_rows for fitting, and after them held_rows, consecutive ones of the text's end that no fit sees, for measuring.
 *
 * Threads: one owner; it works with the crew's and the library's threads. */
#ifndef SL_OFFLOAD_CALIBRATE_LESSON_H
#define SL_OFFLOAD_CALIBRATE_LESSON_H

#include "core/threads.h"
#include "offload/calibrate/linear.h"
#include "offload/calibrate/observe.h"
#include "offload/calibrate/weights.h"

#define SLI_LESSON_SLAB 512 /* rows of matrices, or of inputs, that are worked on at a time */

typedef struct sli_lesson {
    uint8_t *arena;
    size_t arena_bytes;
    const sl_kernels *kernels;
    sl_threads *threads;
    const sli_linear *linear;
    sli_weights *weights;
    sl_glu act;
    uint32_t layer, d, ff;
    uint32_t seen_rows; /* of the observation, that fits may use */
    uint32_t fit_rows, held_rows;
    float *x;           /* [fit + held][d] */
    float *gate, *up;   /* [fit + held][ff] */
    float *scores;      /* [fit + held][ff]: |act(gate) * up| * norm */
    const float *norms; /* [ff] of the down columns */
    float *gram;        /* [d][d] mean of x x' over seen_rows */
    float *factor;      /* [d][d], for fits */
    float *slab;        /* [SLAB][d] */
    float *error;       /* [SLAB][d], for fits */
    double *column;     /* [d], for fits */
    double *neuron[6];  /* [ff] each, for fits */
    uint8_t *row;       /* inputs of a guess */
} sli_lesson;

typedef struct sli_lesson_shape {
    uint32_t d, ff, seen_rows, fit_rows, held_rows;
} sli_lesson_shape;

/* How many of the observed rows go where: a tenth of them, at most 512, is held out; at most 1024 are sampled. */
sli_lesson_shape sli_lesson_shape_of(const sl_model *model, uint32_t observed_rows);
uint64_t sli_lesson_price(const sli_lesson_shape *shape);
/* Allocates; kernels, crew, library and weights are the caller's and filled in by it. */
SL_MUST_USE sl_status sli_lesson_create(const sli_lesson_shape *shape, sli_lesson *out, sl_error *err);
void sli_lesson_free(sli_lesson *lesson);

/* Takes a layer up: reads its rows, computes everything above but what is for fits. */
SL_MUST_USE sl_status sli_lesson_begin(sli_lesson *lesson, const sli_observation *observation, uint32_t layer, sl_error *err);

#endif

/* offload/calibrate/fit.h: makes the guess of a layer. Closed forms and rounding only; nothing is trained.
 *
 *   copy       gate and up rounded to one to three bits. The error of each rounded column is passed on to the columns that are still to be rounded,
 *              in proportions that the inputs' Gram matrix gives (GPTQ, arXiv 2210.17323), so that the errors of a row's product cancel. At one bit
 *              per weight a third of the energy is lost that rounding to the nearest loses. There is one scale for a row and one for a column:
 *              scales per block would cost as much as a fourth of the signs, and bring less.
 *   low rank   the directions of the inputs that matter most for gate and up, weighted by how much of each neuron shows in its activation;
 *              what gate and up make of them is rounded to one to three bits, the first directions finest. Fits below one bit per weight.
 *
 * Both end with a row scale and an error measured on the sample rows, through the very arithmetic that will run.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_FIT_H
#define SL_OFFLOAD_CALIBRATE_FIT_H

#include "offload/calibrate/lesson.h"
#include "offload/guess.h"

typedef enum sli_fit_kind { SLI_FIT_COPY, SLI_FIT_LOW_RANK } sli_fit_kind;

/* A guess to be made: how many blocks of inputs, and signs in all of them, fit the wanted bytes. */
typedef struct sli_fit_plan {
    sli_fit_kind kind;
    uint32_t blocks, planes; /* a copy: blocks is d / 32; low rank: at most so many of both */
    size_t bytes;            /* of the blob, at most */
} sli_fit_plan;

#define SLI_FIT_PROJECTION SL_TYPE_Q4_0

/* The best use of `bytes` for one layer; false when they are too few for a guess of that kind. Pure. */
bool sli_fit_plan_of(sli_fit_kind kind, uint32_t d, uint32_t ff, size_t bytes, sli_fit_plan *out);
/* Memory that a fit needs besides the lesson's and the blob. */
size_t sli_fit_scratch_bytes(const sli_fit_plan *plan, uint32_t d, uint32_t ff);

/* Fits; blob has plan->bytes, 64-byte aligned; *bytes is what became of it. SL_FORMAT when the model's weights hold no numbers. */
SL_MUST_USE sl_status sli_fit(sli_lesson *lesson, const sli_fit_plan *plan, void *scratch, uint8_t *blob, size_t *bytes, sl_error *err);

/* ---- for fit.c's two halves ---- */

/* A blob being written. */
typedef struct sli_draft {
    uint8_t *blob;
    uint32_t words[SLI_GUESS_WORDS];
    sli_guess_layout at;
    uint8_t *planes;
    float *factors;
    uint32_t *select;
    uint16_t *neurons;
    size_t rows;
} sli_draft;

void sli_draft_begin(sli_draft *draft, uint8_t *blob, uint32_t d, uint32_t ff, uint32_t projection, const uint8_t *planes, uint32_t blocks);
/* The row's weights in a block: odd integers as their sign bits spell them, 0 .. 2^planes - 1. */
void sli_draft_put(sli_draft *draft, sli_weights_part part, uint32_t row, uint32_t block, const uint8_t values[SL_SIGN_COLS]);
/* Distance of the levels that lose least of a normal variable, for a number of planes. */
float sli_fit_step(uint32_t planes);
/* The level nearest to `value` as sign bits. */
static inline uint8_t sli_fit_level(float value, float inverse_step, uint32_t planes)
{
    float half = (float)(1u << (planes - 1)), n = __builtin_floorf(value * inverse_step);
    return (uint8_t)((n < -half ? -half : n > half - 1 ? half - 1 : n) + half);
}
/* What a level is worth, in steps. */
static inline float sli_fit_worth(uint8_t level, uint32_t planes)
{
    return (float)level - (float)(1u << (planes - 1)) + 0.5f;
}

SL_MUST_USE sl_status sli_fit_copy(sli_lesson *lesson, const sli_fit_plan *plan, sli_draft *draft, uint8_t *blob, sl_error *err);
SL_MUST_USE sl_status sli_fit_low_rank(sli_lesson *lesson, const sli_fit_plan *plan, void *scratch, sli_draft *draft, uint8_t *blob,
                                       sl_error *err);

#endif

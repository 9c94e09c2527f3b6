/* offload/calibrate/quality.h: how good a way of choosing neurons is, on rows that no fit has seen.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_QUALITY_H
#define SL_OFFLOAD_CALIBRATE_QUALITY_H

#include "offload/calibrate/lesson.h"
#include "offload/guess.h"

#define SLI_QUALITY_DENSITIES 2
static const double sli_quality_density[SLI_QUALITY_DENSITIES] = {0.5, 0.3};

/* Means over rows. As sets have equal sizes, recall and precision are the same number. */
typedef struct sli_quality {
    double lost[SLI_QUALITY_DENSITIES];   /* part of the energy |h|^2 |column|^2 of the neurons that were left out */
    double recall[SLI_QUALITY_DENSITIES]; /* part of the exact set that was chosen */
} sli_quality;

typedef enum sli_chooser {
    SLI_CHOOSE_EXACT,  /* the oracle */
    SLI_CHOOSE_GUESS,  /* a fitted guess */
    SLI_CHOOSE_STATIC, /* the neurons that were largest in the sample rows */
    SLI_CHOOSE_RECENT, /* those that were largest in the rows just before, decaying by 0.9 */
    SLI_CHOOSE_BOTH,   /* a guess to the power 0.9 times the recent mean to the power 0.1 */
    SLI_CHOOSE_COUNT
} sli_chooser;

/* scratch: [3][ff] floats and [2][ff] uint32_t. guess: NULL where the chooser needs none. */
void sli_quality_of(sli_lesson *lesson, sli_chooser chooser, const sli_guess *guess, float *scratch, uint32_t *members, sli_quality *out);
/* Scores of a guess for row `row` of the lesson. */
void sli_quality_scores(sli_lesson *lesson, const sli_guess *guess, uint32_t row, float *scores);
/* Adds to curve[SLI_DENSITY_POINTS + 1] what the rows for fitting lose on average, in the model's own unit, when the guess chooses. */
void sli_quality_curve(sli_lesson *lesson, const sli_guess *guess, float *scratch, uint32_t *members, float *curve);

#endif

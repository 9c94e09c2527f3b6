/* offload/calibrate/exit_fit.h: fits what decides early exits (offload/exit.h) to the looks of a calibration text.
 *
 *   exit_svm.c    a support vector machine for each probe, by LIBSVM, its decision as a chance
 *   exit_crf.c    the chain of two labels over the probes
 *   exit_fit.c    thresholds by agreement on rows held out; all of it as one blob
 *
 * Rows are in the text's order: the first ones are fitted to, the last ones held out, so that neighbours are on one side. Same data, same blob.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_EXIT_FIT_H
#define SL_OFFLOAD_CALIBRATE_EXIT_FIT_H

#include "offload/exit.h"

#include <stddef.h>

#define SLI_EXIT_ROWS_MIN 256u /* of the text; fewer say nothing of one exit in a hundred */

typedef struct sli_exit_lessons {
    uint32_t rows, probes;
    sli_exit_look *looks; /* [rows][probes] */
    uint8_t *agrees;      /* [rows][probes] the first token of all the vocabulary is the last layer's */
} sli_exit_lessons;

/* Features of rows in hand, [row][probe][SLI_EXIT_FEATURES], and their labels. */
typedef struct sli_exit_class {
    uint32_t rows, probes;
    const float *features;
    const uint8_t *agrees; /* [row][probe] */
} sli_exit_class;

/* What the blob says beside the classifiers. */
typedef struct sli_exit_task {
    sli_exit_shape shape;
    const int32_t *probes;    /* [lessons.probes] */
    const int32_t *shortlist; /* [shortlist_count] */
    uint32_t shortlist_count;
} sli_exit_task;

/* A fitted machine for all probes. */
typedef struct sli_exit_svm {
    bool radial;
    float gamma;
    float *plane, *sigmoid;
    int32_t *vector_ends;
    float *vectors;
    uint32_t vector_count;
} sli_exit_svm;

/* SL_UNSUPPORTED names the package where LIBSVM is not here. */
SL_MUST_USE sl_status sli_exit_fit_svm(const sli_exit_class *class, bool radial, sli_exit_svm *out, sl_error *err);
void sli_exit_svm_free(sli_exit_svm *svm);

/* emission: [probes][SLI_EXIT_WEIGHTS], transition: [4]. */
SL_MUST_USE sl_status sli_exit_fit_crf(const sli_exit_class *class, float *emission, float *transition, sl_error *err);

/* The lowest threshold from which on all higher ones agree at least as often as asked, and two standard errors more often: it is the best of many on these
 * rows, and other texts are other. Each row of the lessons has its scores. The mean of layers counts one that leaves after layer l (from 0) as l + 1. */
sli_exit_point sli_exit_choose(const double *scores, const sli_exit_lessons *lessons, const int32_t *probes, uint32_t layers, double asked);

/* All of it; *blob is malloc'd, the caller frees it. SL_INVALID: too few rows. */
SL_MUST_USE sl_status sli_exit_fit(const sli_exit_lessons *lessons, const sli_exit_task *task, void **blob, size_t *bytes, sl_error *err);

#endif

/* offload/calibrate/exit_fit.c: see exit_fit.h. */
#include "offload/calibrate/exit_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HELD_SHARE 0.4  /* of the rows: a threshold for one error in a hundred wants many of them */
#define CANDIDATES 400u /* thresholds that are tried */
#define SPARE      2.0 /* standard errors above the asked agreement: one text in forty as large as the held rows would fall short by chance */

/* For each, thresholds are stored: the last ones are for the text itself, the first ones for drafts. */
static const float asked_agreements[] = {0.5f, 0.6f, 0.7f, 0.8f, 0.85f, 0.9f, 0.93f, 0.95f, 0.97f, 0.98f, 0.985f, 0.99f, 0.995f, 0.998f};
#define POINTS (sizeof asked_agreements / sizeof *asked_agreements)

/* ---- thresholds ---- */

typedef struct outcome {
    double agreement, layers_mean;
} outcome;

static outcome follow(const double *scores, const sli_exit_lessons *l, const int32_t *probes, uint32_t layers, double threshold)
{
    uint64_t agreed = 0, walked = 0;
    for (uint32_t row = 0; row < l->rows; row++) {
        size_t at = (size_t)row * l->probes;
        uint32_t p = 0;
        while (p < l->probes && !(scores[at + p] >= threshold))
            p++;
        agreed += p == l->probes || l->agrees[at + p] != 0;
        walked += p == l->probes ? layers : (uint32_t)probes[p] + 1;
    }
    return (outcome){(double)agreed / l->rows, (double)walked / l->rows};
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Thresholds to try, ascending: scores that occur, evenly by rank, and denser at the top, where few errors are made. */
static uint32_t list_candidates(const double *scores, const sli_exit_lessons *l, double *out)
{
    size_t count = (size_t)l->rows * l->probes, distinct = 0;
    double *sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL)
        return 0;
    memcpy(sorted, scores, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_size);
    for (size_t i = 0; i < count; i++)
        if (distinct == 0 || sorted[i] > sorted[distinct - 1])
            sorted[distinct++] = sorted[i];
    uint32_t n = 0;
    for (uint32_t i = 0; i < CANDIDATES; i++) {
        double below = 1 - (double)i / (CANDIDATES - 1), rank = 1 - below * below;
        double score = sorted[(size_t)(rank * (double)(distinct - 1))];
        if (n == 0 || score > out[n - 1])
            out[n++] = score;
    }
    free(sorted);
    return n;
}

sli_exit_point sli_exit_choose(const double *scores, const sli_exit_lessons *lessons, const int32_t *probes, uint32_t layers, double asked)
{
    double candidates[CANDIDATES], wanted = asked + SPARE * sqrt(asked * (1 - asked) / lessons->rows);
    sli_exit_point best = {SLI_EXIT_NEVER, 1, (float)layers};
    for (uint32_t i = list_candidates(scores, lessons, candidates); i-- > 0;) {
        outcome o = follow(scores, lessons, probes, layers, candidates[i]);
        float threshold = nextafterf((float)candidates[i], -INFINITY); /* what is stored is rounded: not above the score it is */
        if (o.agreement < wanted)
            break;
        best = (sli_exit_point){threshold, (float)o.agreement, (float)o.layers_mean};
    }
    return best;
}

/* ---- scores of rows that were held out ---- */

static void score_all(const sli_exits *exits, sl_early_exit kind, const sli_exit_lessons *l, double *scores)
{
    for (uint32_t row = 0; row < l->rows; row++) {
        sli_exit_walk walk = {0};
        for (uint32_t p = 0; p < l->probes; p++)
            scores[(size_t)row * l->probes + p] = sli_exit_score(exits, kind, &l->looks[(size_t)row * l->probes + p], &walk);
    }
}

/* ---- the blob ---- */

typedef struct fitting {
    const sli_exit_task *task;
    const sli_exit_lessons *all;
    sli_exit_lessons held;
    sli_exit_class class;
    float *features;
    float *emission, transition[4];
    double *scores;
    sli_exit_point points[SLI_EXIT_KINDS][POINTS];
} fitting;

static void put(uint8_t *blob, const sli_exit_layout *at, sli_exit_part part, const void *from)
{
    if (at->offset[part + 1] > at->offset[part])
        memcpy(blob + at->offset[part], from, at->offset[part + 1] - at->offset[part]);
}

static sl_status write_blob(const fitting *f, const sli_exit_svm *svm, void **out, size_t *bytes, sl_error *err)
{
    const sli_exit_task *t = f->task;
    const uint32_t words[SLI_EXIT_WORDS] = {[SLI_EXIT_VERSION] = SLI_EXIT_VERSION_NUMBER,
                                            [SLI_EXIT_LAYERS] = t->shape.layers,
                                            [SLI_EXIT_D] = t->shape.d,
                                            [SLI_EXIT_VOCAB] = t->shape.vocab,
                                            [SLI_EXIT_PROBES] = f->all->probes,
                                            [SLI_EXIT_SHORTLIST] = t->shortlist_count,
                                            [SLI_EXIT_POINTS] = POINTS,
                                            [SLI_EXIT_VECTORS] = svm->vector_count,
                                            [SLI_EXIT_RADIAL] = svm->radial};
    sli_exit_layout at = sli_exit_layout_of(words);
    uint8_t *blob = malloc(at.offset[SLI_EXIT_PART_COUNT]);
    if (blob == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for exit classifiers");
    put(blob, &at, SLI_EXIT_PART_HEADER, words);
    put(blob, &at, SLI_EXIT_PART_PROBES, t->probes);
    put(blob, &at, SLI_EXIT_PART_SHORTLIST, t->shortlist);
    put(blob, &at, SLI_EXIT_PART_ASKED, asked_agreements);
    put(blob, &at, SLI_EXIT_PART_POINTS, f->points);
    put(blob, &at, SLI_EXIT_PART_GAMMA, &svm->gamma);
    put(blob, &at, SLI_EXIT_PART_PLANE, svm->plane);
    put(blob, &at, SLI_EXIT_PART_SIGMOID, svm->sigmoid);
    put(blob, &at, SLI_EXIT_PART_VECTOR_ENDS, svm->vector_ends);
    put(blob, &at, SLI_EXIT_PART_VECTORS, svm->vectors);
    put(blob, &at, SLI_EXIT_PART_EMISSION, f->emission);
    put(blob, &at, SLI_EXIT_PART_TRANSITION, f->transition);
    *out = blob;
    *bytes = at.offset[SLI_EXIT_PART_COUNT];
    return SL_OK;
}

/* Points of one kind, judged by what a run will read: the blob itself. */
static sl_status judge(fitting *f, const sli_exit_svm *svm, sl_early_exit kind, sli_exit_point *points, sl_error *err)
{
    void *blob;
    size_t bytes;
    sli_exits exits;
    SL_TRY(write_blob(f, svm, &blob, &bytes, err));
    const char *fault = sli_exits_view(blob, bytes, &f->task->shape, &exits);
    if (fault == NULL) {
        score_all(&exits, kind, &f->held, f->scores);
        for (size_t i = 0; i < POINTS; i++)
            points[i] = sli_exit_choose(f->scores, &f->held, f->task->probes, f->task->shape.layers, (double)asked_agreements[i]);
    }
    free(blob);
    return fault == NULL ? SL_OK : sl_fail(err, SL_INTERNAL, "the exit classifiers %s", fault);
}

/* Layers taken, over all points. */
static double layers_of(const sli_exit_point points[POINTS])
{
    double sum = 0;
    for (size_t i = 0; i < POINTS; i++)
        sum += (double)points[i].layers_mean;
    return sum;
}

/* The linear or the radial machine, whichever leaves out more. */
static sl_status fit_machines(fitting *f, sli_exit_svm *svm, sl_error *err)
{
    sli_exit_svm radial;
    sli_exit_point points[POINTS];
    SL_TRY(sli_exit_fit_svm(&f->class, false, svm, err));
    SL_TRY(judge(f, svm, SL_EARLY_EXIT_SVM, f->points[SL_EARLY_EXIT_SVM - 1], err));
    SL_TRY(sli_exit_fit_svm(&f->class, true, &radial, err));
    sl_status status = judge(f, &radial, SL_EARLY_EXIT_SVM, points, err);
    bool better = status == SL_OK && layers_of(points) < layers_of(f->points[SL_EARLY_EXIT_SVM - 1]);
    if (better)
        memcpy(f->points[SL_EARLY_EXIT_SVM - 1], points, sizeof points);
    sli_exit_svm_free(better ? svm : &radial);
    if (better)
        *svm = radial;
    return status;
}

static sl_status prepare(fitting *f, sl_error *err)
{
    const sli_exit_lessons *l = f->all;
    uint32_t held = (uint32_t)(HELD_SHARE * l->rows), fit = l->rows - held;
    f->features = malloc((size_t)fit * l->probes * SLI_EXIT_FEATURES * sizeof *f->features);
    f->emission = calloc((size_t)l->probes * SLI_EXIT_WEIGHTS, sizeof *f->emission);
    f->scores = malloc((size_t)held * l->probes * sizeof *f->scores);
    if (f->features == NULL || f->emission == NULL || f->scores == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for exit classifiers");
    f->held = (sli_exit_lessons){held, l->probes, l->looks + (size_t)fit * l->probes, l->agrees + (size_t)fit * l->probes};
    f->class = (sli_exit_class){fit, l->probes, f->features, l->agrees};
    for (uint32_t row = 0; row < fit; row++) {
        sli_exit_walk walk = {0};
        for (uint32_t p = 0; p < l->probes; p++)
            sli_exit_walk_on(&walk, &l->looks[(size_t)row * l->probes + p],
                             f->features + ((size_t)row * l->probes + p) * SLI_EXIT_FEATURES);
    }
    for (int kind = 0; kind < SLI_EXIT_KINDS; kind++)
        for (size_t i = 0; i < POINTS; i++)
            f->points[kind][i] = (sli_exit_point){SLI_EXIT_NEVER, 1, (float)f->task->shape.layers};
    return SL_OK;
}

static sl_status fit(fitting *f, sli_exit_svm *svm, void **blob, size_t *bytes, sl_error *err)
{
    SL_TRY(prepare(f, err));
    SL_TRY(sli_exit_fit_crf(&f->class, f->emission, f->transition, err));
    SL_TRY(fit_machines(f, svm, err));
    SL_TRY(judge(f, svm, SL_EARLY_EXIT_CRF, f->points[SL_EARLY_EXIT_CRF - 1], err));
    SL_TRY(judge(f, svm, SL_EARLY_EXIT_GAP, f->points[SL_EARLY_EXIT_GAP - 1], err));
    return write_blob(f, svm, blob, bytes, err);
}

sl_status sli_exit_fit(const sli_exit_lessons *lessons, const sli_exit_task *task, void **blob, size_t *bytes, sl_error *err)
{
    fitting f = {.task = task, .all = lessons};
    sli_exit_svm svm = {0};
    *blob = NULL;
    if (lessons->rows < SLI_EXIT_ROWS_MIN)
        return sl_fail(err, SL_INVALID, "%u rows of text; exit classifiers want at least %u", lessons->rows, SLI_EXIT_ROWS_MIN);
    sl_status status = fit(&f, &svm, blob, bytes, err);
    sli_exit_svm_free(&svm);
    free(f.features);
    free(f.emission);
    free(f.scores);
    return status;
}

/* offload/exit.h: when a token's answer is settled before the last layer (AdaInfer, arXiv 2403.02181).
 *
 *     layers ──▶ probe ──▶ layers ──▶ probe ──▶ ...  ──▶ head
 *                  │ logits of the residual as it is now, over the vocabulary or a shortlist of it
 *                  ▼
 *                a look: the first token, its chance, its lead over the second ──▶ features ──▶ a score, by one of
 *                  svm   a support vector machine for each probed layer, linear or radial, its decision as a chance
 *                  crf   a linear chain of two labels over the probed layers, filtered: the chance that this layer is settled
 *                  gap   the lead alone, as the paper's baseline has it
 *                score >= threshold: the token leaves
 *
 * "Settled" means that the first token after this layer is the last layer's. `sluice calibrate` fits all three and stores them in the packed file
 * (sli_exits_view reads that); for each, thresholds by the agreement that they reached on rows held out.
 *
 * Pure: data in, decisions out; the same bits on every machine. */
#ifndef SL_OFFLOAD_EXIT_H
#define SL_OFFLOAD_EXIT_H

#include "offload/sluice.h"

#define SLI_EXIT_TENSOR "sluice.calibration.exits"

/* What a probe shows. */
typedef struct sli_exit_look {
    uint32_t top; /* index of the largest logit, the first of equal ones */
    float chance; /* of it, among those given */
    float gap;    /* by which the second is less likely */
} sli_exit_look;
sli_exit_look sli_exit_look_at(const float *logits, uint32_t count);

/* Chance, gap, log-odds of the chance, and how long the first token has been the same. */
#define SLI_EXIT_FEATURES 4
#define SLI_EXIT_WEIGHTS  (SLI_EXIT_FEATURES + 1) /* and one for a constant */

/* Where a token is on its way through the probes. All zero at the beginning. */
typedef struct sli_exit_walk {
    uint32_t probes;  /* so far */
    uint32_t top;     /* of the last one */
    uint32_t same;    /* probes before the last one that had the same, in a row */
    double unsettled; /* of the chain: the chance that the last one was not settled */
} sli_exit_walk;

/* Takes a look into the walk and gives its features. */
void sli_exit_walk_on(sli_exit_walk *walk, const sli_exit_look *look, float features[SLI_EXIT_FEATURES]);

/* Of an agreement asked for: the threshold, what it reached on held-out rows, and the layers that those rows took. SLI_EXIT_NEVER: no score is enough. */
typedef struct sli_exit_point {
    float threshold, agreement, layers_mean;
} sli_exit_point;
#define SLI_EXIT_NEVER 3.0e38f

#define SLI_EXIT_KINDS      3 /* svm, crf, gap: sl_early_exit less one */
#define SLI_EXIT_PROBES_MAX 64

/* What a file holds; everything points into it. */
typedef struct sli_exits {
    uint32_t layers, probe_count, point_count, shortlist_count;
    const int32_t *probes;                        /* [probe_count] ascending: layers, from 0, after which is looked; never the last one */
    const int32_t *shortlist;                     /* [shortlist_count] ascending: tokens; 0: the whole vocabulary is looked at */
    const float *asked;                           /* [point_count] ascending: agreements */
    const sli_exit_point *points[SLI_EXIT_KINDS]; /* [point_count] */
    bool radial;
    float gamma;
    const float *plane;         /* [probe][weights]; radial: the constant alone */
    const float *sigmoid;       /* [probe][2]: the chance is 1 / (1 + exp(-(first * decision + second))) */
    const int32_t *vector_ends; /* [probe] of a probe's support vectors */
    const float *vectors;       /* [vector][weights]: features, and the coefficient */
    const float *emission;      /* [probe][weights] of the label "settled" */
    const float *transition;    /* [2][2] from label to label */
} sli_exits;

/* What the file is for. */
typedef struct sli_exit_shape {
    uint32_t layers, d, vocab;
} sli_exit_shape;

/* Reads and checks; `blob` is aligned to 4 bytes. NULL when it is good, else what is wrong: "the exit classifiers ... ". */
const char *sli_exits_view(const void *blob, size_t bytes, const sli_exit_shape *shape, sli_exits *out);

/* The score of the walk's next probe, whose look this is. `kind` is not SL_EARLY_EXIT_OFF; walk->probes < probe_count. */
double sli_exit_score(const sli_exits *exits, sl_early_exit kind, const sli_exit_look *look, sli_exit_walk *walk);

/* The first point that reached at least this agreement of those that were asked; NULL where none did. */
const sli_exit_point *sli_exit_point_of(const sli_exits *exits, sl_early_exit kind, double agreement);

/* ---- what reader and writer share ---- */

enum {
    SLI_EXIT_VERSION = 0,
    SLI_EXIT_LAYERS,
    SLI_EXIT_D,
    SLI_EXIT_VOCAB,
    SLI_EXIT_PROBES,
    SLI_EXIT_SHORTLIST,
    SLI_EXIT_POINTS,
    SLI_EXIT_VECTORS,
    SLI_EXIT_RADIAL,
    SLI_EXIT_WORDS = 16
};
#define SLI_EXIT_VERSION_NUMBER 1u

typedef enum sli_exit_part {
    SLI_EXIT_PART_HEADER, /* u32 [SLI_EXIT_WORDS] */
    SLI_EXIT_PART_PROBES,
    SLI_EXIT_PART_SHORTLIST,
    SLI_EXIT_PART_ASKED,
    SLI_EXIT_PART_POINTS, /* [kind][point] */
    SLI_EXIT_PART_GAMMA,
    SLI_EXIT_PART_PLANE,
    SLI_EXIT_PART_SIGMOID,
    SLI_EXIT_PART_VECTOR_ENDS,
    SLI_EXIT_PART_VECTORS,
    SLI_EXIT_PART_EMISSION,
    SLI_EXIT_PART_TRANSITION,
    SLI_EXIT_PART_COUNT
} sli_exit_part;

/* Where the parts lie; offset[SLI_EXIT_PART_COUNT] is the end. The counts are within their bounds. */
typedef struct sli_exit_layout {
    size_t offset[SLI_EXIT_PART_COUNT + 1];
} sli_exit_layout;
sli_exit_layout sli_exit_layout_of(const uint32_t words[SLI_EXIT_WORDS]);

#endif

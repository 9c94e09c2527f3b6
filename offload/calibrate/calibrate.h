/* offload/calibrate/calibrate.h: from a text, all that a packed file can know of a model's feed-forwards beforehand.
 *
 *   observe.c     dense passes over the text; the inputs of all feed-forwards go to a temporary file
 *   lesson.c      one layer in hand: its inputs' Gram matrix, exact products and scores of sample rows
 *   fit*.c        guesses (offload/guess.h): copies at few bits, low ranks            linear.c   OpenBLAS
 *   quality.c     how much they lose, and recall, on rows that no fit has seen        weights.c  matrices as floats
 *   order.c       the order in which neurons are stored
 *   sensitivity.c how much each layer matters      store.c    into the packed file
 *   exit_*.c      when a token's answer is settled before the last layer (offload/exit.h)
 *   choose.c      which kind of guess a model gets, by measurement on some layers     calibrate.c  all of it in turn
 *
 * Predictors are not trained by gradient: their fits are closed forms and rounding. Seeds are fixed, and the same input gives the same output on one machine.
 *
 * Threads: one call, one thread, which has a crew of its own. */
#ifndef SL_OFFLOAD_CALIBRATE_H
#define SL_OFFLOAD_CALIBRATE_H

#include "offload/calibrate/exit_observe.h"
#include "offload/calibrate/quality.h"
#include "offload/density.h"
#include "offload/sluice.h"
#include "offload/tools/tool.h"

#define SLI_CALIBRATE_TOKENS     8192u /* of the text, by default */
#define SLI_CALIBRATE_TOKENS_MIN 256u

typedef enum sli_calibrate_stage {
    SLI_CALIBRATE_READING,
    SLI_CALIBRATE_CHOOSING,
    SLI_CALIBRATE_FITTING,
    SLI_CALIBRATE_MEASURING,
    SLI_CALIBRATE_PROBING
} sli_calibrate_stage;

typedef struct sli_calibrate_options {
    const char *model_path; /* stock or packed */
    const char *text;
    size_t text_bytes;
    const char *out_path;      /* the temporary file lies beside it */
    uint64_t ram_budget_bytes; /* 0: as an engine chooses */
    uint64_t predictor_bytes;  /* of all layers together, at most; 0: 15 % of the feed-forwards' */
    uint32_t tokens;           /* 0: the default; fewer where the text is shorter */
    uint32_t threads;
    sli_exit_wish exits;
    /* False stops with SL_INTERRUPTED. */
    bool (*progress)(void *ctx, sli_calibrate_stage stage, uint64_t done, uint64_t total);
    void (*note)(void *ctx, const char *line);
    void *ctx;
} sli_calibrate_options;

/* A row of the table: a kind of guess, its bytes and what it was measured to lose. */
typedef struct sli_calibrate_row {
    const char *name; /* "copy", "low rank", "exact" ... */
    double bits;      /* signs per weight of gate and up; 0 where there are none */
    uint64_t bytes;   /* of all layers */
    double share;     /* of the feed-forwards' bytes */
    bool fits;        /* the budget */
    sli_quality quality;
} sli_calibrate_row;

#define SLI_CALIBRATE_ROWS 16

/* Orders that are compared, by sets of density 0.3 of rows that were held out: reads per token and layer when runs up to 8 KiB apart are one read,
 * and how much of a set lies in the first fifth of all places. */
typedef enum sli_calibrate_order {
    SLI_ORDER_TIERED, /* what is stored */
    SLI_ORDER_HOT,    /* by heat alone */
    SLI_ORDER_FILE,
    SLI_ORDER_RANDOM,
    SLI_ORDER_COUNT,
} sli_calibrate_order;

typedef struct sli_calibration {
    uint32_t layers, ff, tokens, rows;
    sli_calibrate_row table[SLI_CALIBRATE_ROWS];
    uint32_t table_rows, chosen; /* chosen: of the table */
    sli_quality quality;         /* of what was fitted, over all layers */
    uint32_t wanted;             /* neurons of a set whose reads were counted */
    double runs[SLI_ORDER_COUNT], places[SLI_ORDER_COUNT], first_fifth[SLI_ORDER_COUNT];
    uint64_t ffn_bytes, predictor_bytes;
    double read_s, fit_s;

    uint8_t **blobs; /* [layer], aligned to 64 bytes */
    size_t *blob_bytes;
    uint32_t **orders; /* [layer][ff]; order[place] = neuron */
    float *curves;     /* [layer][SLI_DENSITY_POINTS + 1] */
    sli_exit_found exits;
} sli_calibration;

/* SL_INVALID: an empty or tiny text, a budget for predictors that fits none. SL_UNSUPPORTED: no OpenBLAS, no gates. SL_NO_BUDGET, SL_NO_MEMORY, SL_IO,
 * SL_INTERRUPTED. On failure *out is empty. */
SL_MUST_USE sl_status sli_calibrate(const sli_calibrate_options *options, sli_calibration *out, sl_error *err);
void sli_calibration_free(sli_calibration *calibration);

#endif

/* offload/draft_length.h: how many tokens to draft, and by whom, from what drafts and checks cost and brought so far (--draft auto).
 *
 * A check of n drafted tokens advances by A(n) = 1 + P1 + … + Pn, Pk being the chance that the first k are accepted, and takes n times a
 * draft's time and a pass over n + 1 rows. The n of least time per token is chosen, and 0, plain decoding, when none is faster than that.
 *
 * What is measured: the time of a pass by its rows, apart for passes after a model's draft (their first reads had a start); the time of a
 * drafted token; acceptance by depth, apart for each source. What is not measured yet is assumed, approached in
 * steps, and tried when that can be afforded.
 *
 * Promise: against plain decoding at the measured speed no more is lost than about a fiftieth of the time and two passes.
 *   - a draft is made only while drafting has not lost more than that so far;
 *   - one that looks like a loss is tried only as long as all such trials together have cost less than a hundredth and one pass.
 *
 * Pure: seconds come from the caller. Which drafts are made changes speed only, not text, under --accept exact. */
#ifndef SL_OFFLOAD_DRAFT_LENGTH_H
#define SL_OFFLOAD_DRAFT_LENGTH_H

#include "offload/sluice.h"

/* Where a draft comes from. Lookups are told apart by how much of the text agreed: a long match is right more often. */
typedef enum sli_source {
    SLI_SOURCE_NONE = 0,
    SLI_SOURCE_LOOKUP_1,
    SLI_SOURCE_LOOKUP_2,
    SLI_SOURCE_LOOKUP_3,
    SLI_SOURCE_LOOKUP_4, /* or more */
    SLI_SOURCE_MODEL,    /* the model itself, with fewer neurons */
    SLI_SOURCE_COUNT
} sli_source;

typedef struct sli_draft_length {
    uint32_t max;
    double draft_s;                                           /* of a token by the model; 0: not measured */
    double pass_s[2][SL_DRAFT_AUTO_MAX + 2];                  /* [after a model's draft][rows]; 0: not measured */
    double reached[SLI_SOURCE_COUNT][SL_DRAFT_AUTO_MAX + 1];  /* [source][depth from 1], fading: drafts whose predecessors were accepted */
    double accepted[SLI_SOURCE_COUNT][SL_DRAFT_AUTO_MAX + 1]; /* those that were accepted, too */
    /* In plain passes, as long as they were at the time; the distant past fades. */
    double advanced;     /* that plain decoding would have taken */
    double gained;       /* those, less what was taken; large gains are not kept for bad times */
    double tried;        /* lost in trials */
    uint32_t unmeasured; /* choices since a plain pass was measured */
    bool trying;
} sli_draft_length;

/* `max` drafted tokens at most (and SL_DRAFT_AUTO_MAX). */
void sli_draft_length_begin(sli_draft_length *c, uint32_t max);

typedef struct sli_draft_choice {
    sli_source source;
    uint32_t tokens; /* 0: a plain pass */
} sli_draft_choice;

/* Chooses among the sources that have something to offer; `most` tokens at most. */
sli_draft_choice sli_draft_length_choose(sli_draft_length *c, const sli_source *offered, uint32_t count, uint32_t most);

typedef struct sli_draft_outcome {
    sli_source source;
    uint32_t drafted, accepted;
    double draft_s, pass_s;
} sli_draft_outcome;

/* What came of a choice, plain passes included. */
void sli_draft_length_learn(sli_draft_length *c, const sli_draft_outcome *o);

#endif

/* offload/calibrate/exit_observe.h: what probes of a model see while it reads a text, and whether they are right (offload/exit.h).
 *
 * The text runs through an engine in dense passes, chunk by chunk as in observe.h; behind each probed layer the head is applied to all rows. */
#ifndef SL_OFFLOAD_CALIBRATE_EXIT_OBSERVE_H
#define SL_OFFLOAD_CALIBRATE_EXIT_OBSERVE_H

#include "offload/calibrate/exit_fit.h"
#include "offload/tools/tool.h"

#define SLI_EXIT_SHORTLIST 2048u /* tokens, by default */

/* As the user has it; zero means the default. */
typedef struct sli_exit_wish {
    bool none;
    uint32_t first, every; /* layers, counted from 1: probes stand behind the first, and behind every so many-th from there on */
    bool whole_vocabulary;
    uint32_t shortlist;
} sli_exit_wish;

/* What was found; freed by sli_exit_found_free. */
typedef struct sli_exit_found {
    uint32_t probe_count, shortlist_count;
    int32_t probes[SLI_EXIT_PROBES_MAX];
    int32_t *shortlist;
    sli_exit_lessons lessons;
    uint32_t layers;
    void *blob; /* the classifiers; NULL: there are none */
    size_t blob_bytes;
    double seconds;
} sli_exit_found;

/* Layers that are probed, from 0; how many. 0 where the model has too few, or with *fault where the wish cannot be. Pure. */
uint32_t sli_exit_probe_layers(const sli_exit_wish *wish, uint32_t layers, int32_t probes[SLI_EXIT_PROBES_MAX], const char **fault);
/* The tokens that the text has most of, ascending; returns how many, at most `most`. counts: [vocab], changed. */
uint32_t sli_exit_frequent(uint32_t *counts, uint32_t vocab, uint32_t most, int32_t *out);

/* Observes and fits. `text` gives the shortlist, `tokens` (its beginning) the lessons. SL_INVALID for a wish that cannot be; where there is nothing to
 * be had of this model, text or budget, `note` is told why and out->blob stays NULL. */
SL_MUST_USE sl_status sli_exit_learn(const sl_engine_options *options, const sli_exit_wish *wish, const char *text, size_t text_bytes,
                                     const sl_token_id *tokens, uint32_t count, const sl_tool_watch *watch, sli_exit_found *out,
                                     sl_error *err);
void sli_exit_found_free(sli_exit_found *found);

#endif

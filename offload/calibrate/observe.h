/* offload/calibrate/observe.h: what the feed-forwards of a model see while it reads a text.
 *
 * The text runs through the engine in dense passes, chunk by chunk; the normed inputs of all feed-forwards go to a temporary file that has no
 * name (so that nothing is left whatever happens), layer by layer, as fp16. The first positions of a chunk are left out: they are always part of a
 * dense prompt, and unlike all others.
 *
 * Threads: one owner. */
#ifndef SL_OFFLOAD_CALIBRATE_OBSERVE_H
#define SL_OFFLOAD_CALIBRATE_OBSERVE_H

#include "offload/sluice.h"
#include "offload/tools/tool.h"

#define SLI_OBSERVE_CHUNK 512 /* tokens, or the context where that is smaller */
#define SLI_OBSERVE_SKIP  16  /* positions of a chunk that are left out */

typedef struct sli_observation {
    int file;
    uint32_t layers, d, rows;
} sli_observation;

/* Rows that come from so many tokens in an engine with this context. */
uint32_t sli_observe_rows(uint32_t tokens, uint32_t context);

/* Watch: progress in tokens. `beside`: the temporary file lies in this file's folder. */
SL_MUST_USE sl_status sli_observe(sl_engine *engine, const sl_token_id *tokens, uint32_t count, const char *beside,
                                  const sl_tool_watch *watch, sli_observation *out, sl_error *err);
/* Inputs of a layer, rows [first, first + count), as [count][d]. */
SL_MUST_USE sl_status sli_observation_read(const sli_observation *o, uint32_t layer, uint32_t first, uint32_t count, float *x,
                                           sl_error *err);
void sli_observation_close(sli_observation *o);

#endif

/* offload/tools/synth_row.h: random rows in any supported format. Threads: pure. */
#ifndef SL_OFFLOAD_TOOLS_SYNTH_ROW_H
#define SL_OFFLOAD_TOOLS_SYNTH_ROW_H

#include "offload/tools/tool.h"

/* A row of `elements`, a multiple of the format's block, with mean 0 and a standard deviation of about 1/sqrt(elements), as a trained or freshly
 * initialised model has, so that a product's output is of the order of its input. `scratch` holds a row of floats. Same state, same bytes. */
void sli_synth_row(uint32_t type, uint64_t elements, uint64_t state, float *scratch, uint8_t *out);

/* Uniform in [0, 1) from the top 24 bits, all of which a float holds. */
static inline float sli_unit(uint64_t random)
{
    return (float)(random >> 40) * 0x1p-24f;
}

#endif

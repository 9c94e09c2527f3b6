/* offload/probe.h: what a part of a pass costs, for options.breakdown; one test of a pointer where there is none.
 *
 * A probe stands at a moment; each part that ends is charged with what came since, and the probe moves on. */
#ifndef SL_OFFLOAD_PROBE_H
#define SL_OFFLOAD_PROBE_H

#include "offload/engine.h"

typedef struct sli_probe {
    uint64_t begin_ns, begin_wait_ns; /* of the pass */
    uint64_t ns;
    sl_layer_cost at; /* the engine's counters then; total_ns is not used */
} sli_probe;

void sli_probe_start(const sl_engine *engine, sli_probe *probe);
void sli_probe_charge(const sl_engine *engine, sli_probe *probe, uint32_t layer); /* the number of layers: embedding and head */
void sli_probe_finish(const sl_engine *engine, const sli_probe *probe, uint32_t rows);

static inline void sli_probe_begin(const sl_engine *engine, sli_probe *probe)
{
    if (engine->options.breakdown != NULL)
        sli_probe_start(engine, probe);
}

static inline void sli_probe_part(const sl_engine *engine, sli_probe *probe, uint32_t layer)
{
    if (engine->options.breakdown != NULL)
        sli_probe_charge(engine, probe, layer);
}

static inline void sli_probe_end(const sl_engine *engine, const sli_probe *probe, uint32_t rows)
{
    if (engine->options.breakdown != NULL)
        sli_probe_finish(engine, probe, rows);
}

#endif

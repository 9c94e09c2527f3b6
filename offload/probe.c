/* offload/probe.c: see probe.h. */
#include "offload/probe.h"
#include "core/os.h"

static sl_layer_cost counters(const sl_engine *e)
{
    sli_io io = sli_engine_io(e);
    sl_layer_cost now = {.wait_ns = io.wait_ns, .bytes_read = io.bytes_read, .neurons_needed = atomic_load(&e->sparsity.members)};
    if (e->bundles != NULL) {
        sl_bundles_stats bundles = sl_bundles_statistics(e->bundles);
        now.neurons_resident = bundles.cached;
        now.neurons_read = bundles.read;
    }
    return now;
}

void sli_probe_start(const sl_engine *engine, sli_probe *probe)
{
    probe->begin_ns = probe->ns = sl_now_ns();
    probe->at = counters(engine);
    probe->begin_wait_ns = probe->at.wait_ns;
    engine->options.breakdown->layers = engine->model->layers;
}

void sli_probe_charge(const sl_engine *engine, sli_probe *probe, uint32_t layer)
{
    sl_layer_cost *cost = &engine->options.breakdown->layer[layer], now = counters(engine);
    uint64_t ns = sl_now_ns();
    cost->total_ns += ns - probe->ns;
    cost->wait_ns += now.wait_ns - probe->at.wait_ns;
    cost->bytes_read += now.bytes_read - probe->at.bytes_read;
    cost->neurons_needed += now.neurons_needed - probe->at.neurons_needed;
    cost->neurons_resident += now.neurons_resident - probe->at.neurons_resident;
    cost->neurons_read += now.neurons_read - probe->at.neurons_read;
    probe->ns = ns;
    probe->at = now;
}

void sli_probe_finish(const sl_engine *engine, const sli_probe *probe, uint32_t rows)
{
    sl_breakdown *b = engine->options.breakdown;
    b->passes++;
    b->rows += rows;
    sl_histogram_add(&b->pass_ns, probe->ns - probe->begin_ns);
    sl_histogram_add(&b->pass_wait_ns, probe->at.wait_ns - probe->begin_wait_ns);
}

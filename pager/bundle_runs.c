/* pager/bundle_runs.c: see bundle_runs.h. */
#include "pager/bundle_runs.h"

#include <stddef.h>

static uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value / unit * unit;
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t begin_of(const sl_bundle_layer *layer, uint32_t place)
{
    return layer->offset + (uint64_t)place * layer->stride;
}

sli_run sli_run_next(const sl_bundle_layer *layer, const uint32_t *places, uint32_t count, uint32_t alignment, uint32_t gap_bytes,
                     uint64_t *spare_bytes)
{
    uint64_t from = round_down(begin_of(layer, places[0]), alignment);
    uint64_t end = round_up(begin_of(layer, places[0]) + layer->stride, alignment);
    uint32_t taken = 1;
    for (; taken < count; taken++) {
        uint64_t next = round_down(begin_of(layer, places[taken]), alignment), gap = next > end ? next - end : 0;
        if (gap > gap_bytes || gap > *spare_bytes)
            break;
        *spare_bytes -= gap;
        end = round_up(begin_of(layer, places[taken]) + layer->stride, alignment);
    }
    return (sli_run){.from = from, .bytes = end - from, .places = taken};
}

uint64_t sli_runs_least(const sl_bundle_layer *layer, const uint32_t *places, uint32_t count, uint32_t alignment, uint32_t *runs)
{
    uint64_t bytes = 0, spare = 0;
    uint32_t number = 0;
    for (uint32_t done = 0; done < count; number++) {
        sli_run run = sli_run_next(layer, places + done, count - done, alignment, 0, &spare);
        bytes += run.bytes;
        done += run.places;
    }
    if (runs != NULL)
        *runs = number;
    return bytes;
}

/* How a bundle lies to the blocks repeats after at most `alignment` places. */
uint32_t sli_run_alone_max(const sl_bundle_layer *layer, uint32_t alignment)
{
    uint64_t most = 0;
    for (uint32_t place = 0; place < layer->count && place < alignment; place++) {
        uint64_t begin = begin_of(layer, place);
        uint64_t bytes = round_up(begin + layer->stride, alignment) - round_down(begin, alignment);
        most = bytes > most ? bytes : most;
    }
    return (uint32_t)most;
}

void sli_run_whole(const sl_bundle_layer *layer, const sli_run *run, uint32_t *first, uint32_t *end)
{
    uint64_t begin = run->from > layer->offset ? run->from - layer->offset : 0, stop = run->from + run->bytes;
    uint64_t places = stop > layer->offset ? (stop - layer->offset) / layer->stride : 0;
    *first = (uint32_t)(round_up(begin, layer->stride) / layer->stride);
    *end = places < layer->count ? (uint32_t)places : layer->count;
}

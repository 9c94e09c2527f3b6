/* offload/plan_device.c: see plan_device.h. None of the shares here was measured on a GPU. */
#include "offload/plan_device.h"

#include <stdlib.h>

#define MIB            ((uint64_t)1 << 20)
#define SPARE_SHARE    16 /* of the GPU's memory, one part in so many is left to others */
#define RING_BYTES_MAX (32 * MIB)
#define PIECE_BYTES    MIB /* that has one place */

#define DEVICE_SHARE 0.7   /* of its memory's bandwidth, that products of one row reach */
#define LINK_SHARE   0.95  /* of its link's: copies of some hundred KiB (bench/SPEED.md, "Streaming to a GPU, emulated") */
#define LAYER_S      40e-6 /* some fifteen launches */
#define HOP_S        50e-6 /* of a layer in which the processor has a part: activations over, results back */
#define DISK_DEPTH   32
#define RANGE        0.5

/* Everything but weights: keys and values, what a pass works with, the ring that weights cross by, predictors. */
static uint64_t fixed_bytes(const sli_division *at, uint64_t budget_bytes)
{
    uint64_t ring = budget_bytes / SPARE_SHARE < RING_BYTES_MAX ? budget_bytes / SPARE_SHARE : RING_BYTES_MAX;
    return (uint64_t)at->context * at->kv_position_bytes + at->price.scratch_bytes + at->vector_bytes + at->price.predictor_bytes + ring;
}

static uint32_t pieces_of(uint64_t bytes)
{
    return (uint32_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES);
}

/* A part of the weights that one layer has, in pieces. Returns how many; `units` NULL: they are only counted. */
static uint32_t add_pieces(sl_placement_unit *units, uint32_t layer, uint64_t bytes, double density)
{
    uint32_t count = pieces_of(bytes);
    for (uint32_t i = 0; units != NULL && i < count; i++)
        units[i] = (sl_placement_unit){layer, bytes / count, density < 1 ? sl_placement_reads(density, (i + 0.5) / count) : 1};
    return count;
}

/* Layer by layer, then the head, which is a layer of its own. */
static uint32_t list_units(const sli_division *at, sl_placement_unit *units)
{
    double density = at->bundles.layers > 0 ? at->bundles.kept_share : 1;
    uint32_t count = 0;
    for (uint32_t layer = 0; layer < at->layers; layer++) {
        count += add_pieces(units != NULL ? units + count : NULL, layer, at->part[SLI_PART_ATTENTION].bytes / at->layers, 1);
        count += add_pieces(units != NULL ? units + count : NULL, layer, at->part[SLI_PART_FFN].bytes / at->layers, density);
    }
    return count + add_pieces(units != NULL ? units + count : NULL, at->layers, at->part[SLI_PART_HEAD].bytes, 1);
}

/* What of the memory budget weights may have. Keys and values lie on the GPU. */
static uint64_t host_bytes(const sli_division *at)
{
    uint64_t others = at->price.process_bytes + at->price.staging_bytes + at->price.table_bytes + at->price.scratch_bytes;
    return at->budget_bytes > others ? at->budget_bytes - others : 0;
}

static sl_placement_machine machine_for(const sli_division *at, const sli_machine *m, const sli_plan_work *work, uint64_t vram_bytes)
{
    sl_placement_machine out = {.vram_bytes = vram_bytes,
                                .ram_bytes = host_bytes(at),
                                .device_Bps = DEVICE_SHARE * m->gpu.memory_Bps,
                                .link_Bps = LINK_SHARE * m->gpu.link_Bps,
                                .cpu_Bps = sli_machine_rate_of(m, at->part[SLI_PART_FFN].type, at->threads, UINT64_MAX).weights_Bps,
                                .host_Bps = sli_machine_memory_rate(m, m->cores),
                                .disk_Bps = sli_machine_read_rate(m, work->engine, at->request_bytes, DISK_DEPTH),
                                .hop_s = HOP_S};
    if (work->link_Bps > 0 && (out.disk_Bps <= 0 || work->link_Bps < out.disk_Bps))
        out.disk_Bps = work->link_Bps;
    return out;
}

sl_status sli_plan_on_device(const sli_division *at, const sli_machine *machine, const sli_plan_work *work, uint64_t vram_budget_bytes,
                             sli_device_plan *out, sl_error *err)
{
    uint32_t count = list_units(at, NULL), layers = at->layers + 1;
    *out = (sli_device_plan){.budget_bytes = vram_budget_bytes};
    if (vram_budget_bytes == 0)
        out->budget_bytes = machine->gpu.memory_bytes - machine->gpu.memory_bytes / SPARE_SHARE;
    out->fixed_bytes = fixed_bytes(at, out->budget_bytes);
    out->fits = out->fixed_bytes <= out->budget_bytes;
    if (!out->fits)
        return SL_OK;
    sl_placement_machine m = machine_for(at, machine, work, out->budget_bytes - out->fixed_bytes);
    sl_placement_unit *units = malloc((count + 1) * sizeof *units);
    sl_place *place = malloc((count + 1) * sizeof *place);
    sl_placement_layer *table = malloc(layers * sizeof *table);
    sl_status status = units != NULL && place != NULL && table != NULL ? SL_OK
                                                                       : sl_fail(err, SL_NO_MEMORY, "no memory to place weights on a GPU");
    if (status == SL_OK) {
        list_units(at, units);
        status = sl_placement_plan(&m, units, count, layers, place, table, &out->placed, err);
    }
    free(units);
    free(place);
    free(table);
    SL_TRY(status);
    double seconds = out->placed.seconds + at->layers * LAYER_S + sli_plan_kv_bytes(at) / m.device_Bps;
    out->decode_tokens_per_s = 1 / seconds;
    out->decode_low = (1 - RANGE) * out->decode_tokens_per_s;
    out->decode_high = (1 + RANGE) * out->decode_tokens_per_s;
    return SL_OK;
}

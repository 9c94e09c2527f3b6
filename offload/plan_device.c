/* offload/plan_device.c: see plan_device.h. None of the shares here was measured on a GPU. */
#include "offload/plan_device.h"
#include "offload/kv_place.h"

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

static uint64_t layer_kv_bytes(const sli_division *at)
{
    return (uint64_t)at->context * at->kv_position_bytes / at->layers;
}

/* Everything but weights, keys and values: what a pass works with, the ring that weights cross by, predictors. */
static uint64_t other_bytes(const sli_division *at, uint64_t budget_bytes)
{
    uint64_t ring = budget_bytes / SPARE_SHARE < RING_BYTES_MAX ? budget_bytes / SPARE_SHARE : RING_BYTES_MAX;
    return at->price.scratch_bytes + at->vector_bytes + at->price.predictor_bytes + ring;
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

/* What of the memory budget weights may have, and keys and values. */
static uint64_t host_bytes(const sli_division *at)
{
    uint64_t others = at->price.process_bytes + at->price.staging_bytes + at->price.table_bytes + at->price.scratch_bytes;
    return at->budget_bytes > others ? at->budget_bytes - others : 0;
}

/* How many layers' keys and values lie there, and what is left of either memory for weights. */
static sl_status place_caches(const sli_division *at, const sl_placement_unit *units, uint32_t count, sli_device_plan *out,
                              uint64_t *vram_bytes, uint64_t *ram_bytes, sl_error *err)
{
    uint64_t others = other_bytes(at, out->budget_bytes), layer = layer_kv_bytes(at);
    float *crossing = malloc((count + 1) * sizeof *crossing);
    sli_kv_placing caches = {.layers = at->layers,
                             .windowed = at->windowed_layers,
                             .context = at->context,
                             .window = at->window,
                             .layer_bytes = layer,
                             .room_bytes = out->budget_bytes > others ? out->budget_bytes - others : 0,
                             .host_room_bytes = host_bytes(at),
                             .weights = units,
                             .crossing = crossing,
                             .weight_count = count};
    if (crossing == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory to place keys and values on a GPU");
    for (uint32_t i = 0; i < count; i++)
        crossing[i] = at->bundles.layers > 0 && units[i].reads < 1 ? 1 : (float)(1 - SLI_KV_PLACE_PROCESSORS);
    sl_status status = sli_kv_place_least_crossing(&caches, sli_kv_place_fewest(&caches), &out->kv_host_layers, err);
    free(crossing);
    out->fixed_bytes = others + sli_kv_place_bytes(at->layers, out->kv_host_layers, layer);
    out->fits = out->fixed_bytes <= out->budget_bytes && out->kv_host_layers * layer <= host_bytes(at);
    *vram_bytes = out->fits ? out->budget_bytes - out->fixed_bytes : 0;
    *ram_bytes = out->fits ? host_bytes(at) - out->kv_host_layers * layer : 0;
    return status;
}

/* Of a usual text; layers with a window are taken to see all of it. */
static double attention_s(const sli_division *at, const sli_machine *m, const sli_device_plan *plan)
{
    double in_host = sli_plan_kv_bytes(at) * plan->kv_host_layers / at->layers;
    return (sli_plan_kv_bytes(at) - in_host) / (DEVICE_SHARE * m->gpu.memory_Bps) + in_host / (LINK_SHARE * m->gpu.link_Bps);
}

static sl_placement_machine machine_for(const sli_division *at, const sli_machine *m, const sli_plan_work *work, uint64_t vram_bytes,
                                        uint64_t ram_bytes)
{
    sl_placement_machine out = {.vram_bytes = vram_bytes,
                                .ram_bytes = ram_bytes,
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

typedef struct plan_memory {
    sl_placement_unit *units;
    sl_place *place;
    sl_placement_layer *table;
    uint32_t count, layers;
} plan_memory;

static sl_status predict(const sli_division *at, const sli_machine *machine, const sli_plan_work *work, const plan_memory *p,
                         sli_device_plan *out, sl_error *err)
{
    uint64_t vram_bytes = 0, ram_bytes = 0;
    list_units(at, p->units);
    SL_TRY(place_caches(at, p->units, p->count, out, &vram_bytes, &ram_bytes, err));
    if (!out->fits)
        return SL_OK;
    sl_placement_machine m = machine_for(at, machine, work, vram_bytes, ram_bytes);
    SL_TRY(sl_placement_plan(&m, p->units, p->count, p->layers, p->place, p->table, &out->placed, err));
    double seconds = out->placed.seconds + at->layers * LAYER_S + attention_s(at, machine, out);
    out->decode_tokens_per_s = 1 / seconds;
    out->decode_low = (1 - RANGE) * out->decode_tokens_per_s;
    out->decode_high = (1 + RANGE) * out->decode_tokens_per_s;
    return SL_OK;
}

sl_status sli_plan_on_device(const sli_division *at, const sli_machine *machine, const sli_plan_work *work, uint64_t vram_budget_bytes,
                             sli_device_plan *out, sl_error *err)
{
    plan_memory p = {.count = list_units(at, NULL), .layers = at->layers + 1};
    *out = (sli_device_plan){.budget_bytes = vram_budget_bytes};
    if (vram_budget_bytes == 0)
        out->budget_bytes = machine->gpu.memory_bytes - machine->gpu.memory_bytes / SPARE_SHARE;
    p.units = malloc((p.count + 1) * sizeof *p.units);
    p.place = malloc((p.count + 1) * sizeof *p.place);
    p.table = malloc(p.layers * sizeof *p.table);
    bool there = p.units != NULL && p.place != NULL && p.table != NULL;
    sl_status status = there ? predict(at, machine, work, &p, out, err) : sl_fail(err, SL_NO_MEMORY, "no memory to place weights on a GPU");
    free(p.units);
    free(p.place);
    free(p.table);
    return status;
}

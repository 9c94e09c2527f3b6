/* offload/placement.c: see placement.h.
 *
 * Two decisions, one after the other. What the device holds: what is read most often first, for a byte saved is a byte saved wherever it lies; of equals, either some of
 * every layer (so that the link never waits for a layer that needs nothing) or whole layers (so that fewer have a hop). And which share of the rest is
 * streamed: the link's and the device's time grow with it and the processor's falls, so the best is where they meet, or at an end. Both ways are reckoned through, and the faster one
 * is taken. */
#include "offload/placement.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_STEPS 60 /* each leaves two thirds of [0, 1]: 3e-11 of it in the end */

const char *sl_placement_limit_name(sl_placement_limit limit)
{
    static const char *const names[] = {"compute", "link", "host_memory", "disk"};
    return names[limit];
}

static double time_of(double bytes, double Bps)
{
    return bytes > 0 ? bytes / Bps : 0;
}

double sl_placement_reads(double density, double place)
{
    double reads = 2 * density * (1 - place);
    return reads < 1 ? reads : 1;
}

/* ---- the model of time ---- */

static void add_up(const sl_placement_machine *m, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                   const sl_place *place, double share, sl_placement_layer *layers, sl_placement *out)
{
    memset(layers, 0, layer_count * sizeof *layers);
    out->device_bytes = out->streamed_bytes = out->cpu_bytes = out->disk_bytes = 0;
    out->vram_bytes = out->ram_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        sl_placement_layer *l = &layers[units[i].layer];
        double bytes = (double)units[i].bytes * units[i].reads;
        if (place[i] == SL_PLACE_VRAM) {
            l->device_bytes += bytes;
            out->vram_bytes += units[i].bytes;
        } else {
            double part = place[i] == SL_PLACE_DISK && m->device_Bps > 0 && m->link_Bps > 0 ? 1 : share;
            l->streamed_bytes += bytes * part;
            l->cpu_bytes += bytes * (1 - part);
        }
        out->ram_bytes += place[i] == SL_PLACE_RAM ? units[i].bytes : 0;
        out->disk_bytes += place[i] == SL_PLACE_DISK ? bytes : 0;
    }
    for (uint32_t i = 0; i < layer_count; i++) {
        out->device_bytes += layers[i].device_bytes;
        out->streamed_bytes += layers[i].streamed_bytes;
        out->cpu_bytes += layers[i].cpu_bytes;
    }
}

static double layer_seconds(const sl_placement_machine *m, const sl_placement_layer *l)
{
    double device = time_of(l->device_bytes + l->streamed_bytes, m->device_Bps), cpu = time_of(l->cpu_bytes, m->cpu_Bps);
    if (cpu > 0 && m->device_Bps > 0)
        cpu += m->hop_s;
    return device > cpu ? device : cpu;
}

double sl_placement_seconds(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                            const sl_place *place, double streamed_share, sl_placement_layer *layers, sl_placement *out)
{
    const sl_placement_machine *m = machine;
    add_up(m, units, count, layer_count, place, streamed_share, layers, out);
    double of[] = {[SL_PLACED_COMPUTE] = 0,
                   [SL_PLACED_LINK] = time_of(out->streamed_bytes, m->link_Bps),
                   [SL_PLACED_HOST_MEMORY] = time_of(out->streamed_bytes + out->cpu_bytes, m->host_Bps),
                   [SL_PLACED_DISK] = time_of(out->disk_bytes, m->disk_Bps)};
    for (uint32_t i = 0; i < layer_count; i++)
        of[SL_PLACED_COMPUTE] += layer_seconds(m, &layers[i]);
    out->streamed_share = streamed_share;
    out->limit = SL_PLACED_COMPUTE;
    for (int i = SL_PLACED_LINK; i <= SL_PLACED_DISK; i++)
        if (of[i] > of[out->limit])
            out->limit = (sl_placement_limit)i;
    out->seconds = of[out->limit];
    return out->seconds;
}

/* ---- what lies where ---- */

typedef struct candidate {
    double reads;
    uint32_t unit, rank; /* rank: which of its layer it is */
    uint32_t layer;
} candidate;

static int by_layer(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->reads != y->reads)
        return x->reads < y->reads ? 1 : -1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_rank(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->reads != y->reads || x->rank == y->rank)
        return by_layer(a, b);
    return x->rank < y->rank ? -1 : 1;
}

/* First the device's memory, then the host's; what is smaller and comes later may still fit. */
static void give_places(const sl_placement_machine *m, const sl_placement_unit *units, candidate *order, uint32_t count, bool whole_layers,
                        sl_place *place)
{
    uint64_t vram = m->device_Bps > 0 ? m->vram_bytes : 0, ram = m->ram_bytes;
    qsort(order, count, sizeof *order, whole_layers ? by_layer : by_rank);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = units[order[i].unit].bytes;
        sl_place *p = &place[order[i].unit];
        *p = bytes <= vram ? SL_PLACE_VRAM : bytes <= ram ? SL_PLACE_RAM : SL_PLACE_DISK;
        vram -= *p == SL_PLACE_VRAM ? bytes : 0;
        ram -= *p == SL_PLACE_RAM ? bytes : 0;
    }
}

/* ---- which share is streamed ---- */

typedef struct plan {
    const sl_placement_machine *m;
    const sl_placement_unit *units;
    const sl_place *place;
    sl_placement_layer *layers;
    uint32_t count, layer_count;
} plan;

static double seconds_with(const plan *p, double share, sl_placement *out)
{
    return sl_placement_seconds(p->m, p->units, p->count, p->layer_count, p->place, share, p->layers, out);
}

/* Below 1 (where the last hop goes) the time is convex in the share: the largest of sums of the larger of lines. So of two shares the better one says on
 * which side the best is. */
static double best_between(const plan *p)
{
    double low = 0, high = 1;
    for (int i = 0; i < SEARCH_STEPS; i++) {
        sl_placement at;
        double left = low + (high - low) / 3, right = high - (high - low) / 3;
        if (seconds_with(p, left, &at) <= seconds_with(p, right, &at))
            high = right;
        else
            low = left;
    }
    return low;
}

static double best_share(const plan *p, sl_placement *out)
{
    bool stream = p->m->device_Bps > 0 && p->m->link_Bps > 0, compute = p->m->cpu_Bps > 0;
    if (!stream || !compute) {
        seconds_with(p, stream ? 1 : 0, out);
        return out->streamed_share;
    }
    const double candidates[] = {1, 0, best_between(p)};
    double best = candidates[0], least = seconds_with(p, best, out);
    for (size_t i = 1; i < sizeof candidates / sizeof *candidates; i++) {
        double seconds = seconds_with(p, candidates[i], out);
        if (seconds < least) {
            least = seconds;
            best = candidates[i];
        }
    }
    seconds_with(p, best, out);
    return best;
}

static void rank_in_layers(const sl_placement_unit *units, uint32_t count, uint32_t layer_count, uint32_t *seen, candidate *order)
{
    memset(seen, 0, layer_count * sizeof *seen);
    for (uint32_t i = 0; i < count; i++) {
        assert(units[i].layer < layer_count && units[i].reads >= 0 && units[i].reads <= 1);
        order[i] = (candidate){.reads = units[i].reads, .unit = i, .rank = seen[units[i].layer]++, .layer = units[i].layer};
    }
}

static sl_status check(const sl_placement_machine *m, const sl_placement_unit *units, uint32_t count, const sl_place *place, sl_error *err)
{
    uint64_t outside = 0, disk = 0, held = 0;
    for (uint32_t i = 0; i < count; i++) {
        outside += place[i] != SL_PLACE_VRAM ? units[i].bytes : 0;
        disk += place[i] == SL_PLACE_DISK ? units[i].bytes : 0;
        held += place[i] == SL_PLACE_RAM ? units[i].bytes : 0;
    }
    bool reachable = m->cpu_Bps > 0 || (m->device_Bps > 0 && m->link_Bps > 0);
    if (outside > 0 && !reachable)
        return sl_fail(err, SL_NO_BUDGET,
                       "%llu bytes of weights do not fit the device's memory of %llu, and nothing else may compute on them",
                       (unsigned long long)outside, (unsigned long long)m->vram_bytes);
    if (disk > 0 && m->disk_Bps <= 0) {
        sl_status status = sl_fail(err, SL_NO_BUDGET,
                                   "%llu bytes of weights fit neither the device's memory nor the host's, and none may be read again",
                                   (unsigned long long)disk);
        if (err != NULL)
            err->ram_budget_min_bytes = held + disk;
        return status;
    }
    return SL_OK;
}

void sl_placement_divide(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                         const sl_place *place, sl_placement_layer *layers, sl_placement *out)
{
    plan p = {.m = machine, .units = units, .place = place, .layers = layers, .count = count, .layer_count = layer_count};
    out->whole_layers = false;
    best_share(&p, out);
}

sl_status sl_placement_plan(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                            sl_place *place, sl_placement_layer *layers, sl_placement *out, sl_error *err)
{
    candidate *order = malloc((count + 1) * sizeof *order);
    uint32_t *seen = malloc((layer_count + 1) * sizeof *seen);
    if (order == NULL || seen == NULL) {
        free(order);
        free(seen);
        return sl_fail(err, SL_NO_MEMORY, "no memory to place %u units", count);
    }
    plan p = {.m = machine, .units = units, .place = place, .layers = layers, .count = count, .layer_count = layer_count};
    double seconds[2];
    rank_in_layers(units, count, layer_count, seen, order);
    for (int whole = 0; whole < 2; whole++) {
        give_places(machine, units, order, count, whole == 1, place);
        best_share(&p, out);
        seconds[whole] = out->seconds;
    }
    bool whole_layers = seconds[1] < seconds[0];
    give_places(machine, units, order, count, whole_layers, place);
    best_share(&p, out);
    out->whole_layers = whole_layers;
    free(order);
    free(seen);
    return check(machine, units, count, place, err);
}

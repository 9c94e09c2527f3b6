/* offload/placement.h: what lies in the device's memory, in the host's, on the disk; and of what a device does not hold, how much is streamed to it and how
 * much the processor computes beside it, where it lies. Pure: a function of sizes and rates.
 *
 * The model of time. A pass goes through the layers one after the other. In each the device computes on what it holds and on what has come over the link, and the
 * processor on its share of the rows, at the same time; a layer in which both have a part costs a hop: activations over and results back. Link, disk and host memory
 * work ahead, across layers and passes, so that of them only the sum counts:
 *
 *   seconds = max( sum over layers of max(device, processor + hop),  streamed / link,  from disk / disk,  (streamed + processor's) / host memory )
 *
 * What comes from the disk passes through staging memory and goes on over the link, where there is one: the processor computes on what the host's memory holds.
 *
 * Bytes are those of a token: a unit's size times how often it is read, which is 1 for what every token needs and the firing rate of neurons else. A wrong rate
 * costs speed, and never changes a token: who computes a row does not change its bits.
 *
 * What the device can hold it holds. Leaving some of that to the processor could win cpu_Bps / device_Bps of the time at most, a few percent, and lose it to a hop. */
#ifndef SL_OFFLOAD_PLACEMENT_H
#define SL_OFFLOAD_PLACEMENT_H

#include "core/status.h"

#include <stdbool.h>

typedef struct sl_placement_unit {
    uint32_t layer;
    uint64_t bytes;
    double reads; /* per token, in [0, 1] */
} sl_placement_unit;

typedef struct sl_placement_machine {
    uint64_t vram_bytes, ram_bytes; /* for units: rings, cache and activations are taken off; what is on neither comes from disk */
    double device_Bps;              /* at which the device's kernels go through weights that it holds; 0: no device */
    double link_Bps;                /* page-locked, to the device; 0: nothing is streamed */
    double cpu_Bps;                 /* at which the processor's do; 0: it computes nothing */
    double host_Bps;                /* of the host's memory, for link and processor together */
    double disk_Bps;                /* 0: everything has to fit */
    double hop_s;                   /* of a layer in which the processor has a part */
} sl_placement_machine;

typedef enum sl_place { SL_PLACE_VRAM, SL_PLACE_RAM, SL_PLACE_DISK } sl_place;
typedef enum sl_placement_limit {
    SL_PLACED_COMPUTE, /* the device, the processor, hops */
    SL_PLACED_LINK,
    SL_PLACED_HOST_MEMORY,
    SL_PLACED_DISK
} sl_placement_limit;

typedef struct sl_placement_layer {
    double device_bytes;   /* of a token: held by the device */
    double streamed_bytes; /* to it */
    double cpu_bytes;      /* computed where they lie */
} sl_placement_layer;

typedef struct sl_placement {
    double seconds; /* of a token */
    double device_bytes, streamed_bytes, cpu_bytes, disk_bytes;
    double streamed_share; /* of the rows of what the host's memory holds for the device; the rest is the processor's */
    uint64_t vram_bytes, ram_bytes;
    bool whole_layers; /* the device's memory was given to whole layers, the first ones first; else to a part of each */
    sl_placement_limit limit;
} sl_placement;

/* Fills place[i] of each unit and the table of layers. Units are in any order; of those with equal reads, a layer's first come first. SL_NO_BUDGET where something
 * can neither be held nor computed nor brought; ram_budget_min_bytes says with how much memory it could. */
SL_MUST_USE sl_status sl_placement_plan(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count,
                                        uint32_t layer_count, sl_place *place, sl_placement_layer *layers, sl_placement *out,
                                        sl_error *err);

/* The second decision alone, where places are given: the share that is fastest. */
void sl_placement_divide(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                         const sl_place *place, sl_placement_layer *layers, sl_placement *out);

/* The time of a pass with that much of what is not held streamed; `place` as it was planned. */
double sl_placement_seconds(const sl_placement_machine *machine, const sl_placement_unit *units, uint32_t count, uint32_t layer_count,
                            const sl_place *place, double streamed_share, sl_placement_layer *layers, sl_placement *out);

/* How often a token reads what lies at `place` in [0, 1) of a layer's neurons, when it reads `density` of them. They lie hot first; how much hotter nobody
 * has recorded: their reads are taken to fall evenly, to none. */
double sl_placement_reads(double density, double place);

const char *sl_placement_limit_name(sl_placement_limit limit); /* "compute", "link", "host_memory", "disk" */

#endif

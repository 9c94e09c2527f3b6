/* offload/kv_place.c: see kv_place.h. */
#include "offload/kv_place.h"

#include <stdlib.h>

#define USUAL_SHARE 0.5 /* of its context, that a text has come to, in the mean of its tokens */

uint64_t sli_kv_place_bytes(uint32_t layers, uint32_t in_host, uint64_t layer_bytes)
{
    return (layers - in_host + (in_host > 0)) * layer_bytes;
}

uint32_t sli_kv_place_fewest(const sli_kv_placing *p)
{
    uint32_t fewest = 0;
    while (fewest < p->layers && sli_kv_place_bytes(p->layers, fewest, p->layer_bytes) > p->room_bytes)
        fewest++;
    return fewest;
}

/* ---- what crosses for a token ---- */

typedef struct group { /* of weights that are read equally often */
    double reads, bytes, crossing_bytes;
} group;

static int more_often_first(const void *a, const void *b)
{
    double x = ((const group *)a)->reads, y = ((const group *)b)->reads;
    return x > y ? -1 : x < y;
}

/* Those that are read most often come first, in `out` [weight_count]; returns how many groups there are. */
static uint32_t group_weights(const sli_kv_placing *p, group *out)
{
    uint32_t groups = 0;
    for (uint32_t i = 0; i < p->weight_count; i++) {
        double bytes = (double)p->weights[i].bytes, reads = p->weights[i].reads;
        out[i] = (group){reads, bytes, bytes * reads * (double)p->crossing[i]};
    }
    qsort(out, p->weight_count, sizeof *out, more_often_first);
    for (uint32_t i = 0; i < p->weight_count; i++) {
        if (groups > 0 && out[groups - 1].reads == out[i].reads) {
            out[groups - 1].bytes += out[i].bytes;
            out[groups - 1].crossing_bytes += out[i].crossing_bytes;
        } else
            out[groups++] = out[i];
    }
    return groups;
}

/* Of equals a part of each stays. */
static double weights_crossing(const group *groups, uint32_t count, double room_bytes)
{
    double crossing = 0;
    for (uint32_t i = 0; i < count; i++) {
        double stays = groups[i].bytes < room_bytes ? groups[i].bytes : room_bytes;
        room_bytes -= stays;
        crossing += groups[i].bytes > 0 ? groups[i].crossing_bytes * (1 - stays / groups[i].bytes) : 0;
    }
    return crossing;
}

static double caches_crossing(const sli_kv_placing *p, uint32_t in_host)
{
    uint32_t windowed = in_host < p->windowed ? in_host : p->windowed;
    double usual = USUAL_SHARE * p->context, seen = p->window < usual ? p->window : usual;
    double positions = windowed * seen + (in_host - windowed) * usual + in_host; /* and those that are written */
    return positions / p->context * (double)p->layer_bytes;
}

sl_status sli_kv_place_least_crossing(const sli_kv_placing *p, uint32_t fewest, uint32_t *in_host, sl_error *err)
{
    group *groups = malloc((p->weight_count + 1) * sizeof *groups);
    double least = -1;
    *in_host = fewest;
    if (groups == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory to place the caches of %u layers beside %u units", p->layers, p->weight_count);
    uint32_t count = group_weights(p, groups);
    for (uint32_t n = fewest; n <= p->layers && (n == fewest || n * p->layer_bytes <= p->host_room_bytes); n++) {
        uint64_t taken = sli_kv_place_bytes(p->layers, n, p->layer_bytes), room = taken < p->room_bytes ? p->room_bytes - taken : 0;
        double crossing = weights_crossing(groups, count, (double)room) + caches_crossing(p, n);
        if (least < 0 || crossing < least) {
            least = crossing;
            *in_host = n;
        }
    }
    free(groups);
    return SL_OK;
}

/* ---- which layers ---- */

/* `wanted` of the `count` layers that have a window, or have none. */
static void spread(const sl_model *model, bool windowed, uint32_t count, uint32_t wanted, bool *out)
{
    uint32_t seen = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++)
        if ((sl_model_window(model, layer) > 0) == windowed) {
            out[layer] = (uint64_t)(seen + 1) * wanted / count > (uint64_t)seen * wanted / count;
            seen++;
        }
}

void sli_kv_place_choose(const sl_model *model, uint32_t in_host, bool *out)
{
    uint32_t windowed = 0;
    for (uint32_t layer = 0; layer < model->layers; layer++)
        windowed += sl_model_window(model, layer) > 0;
    uint32_t first = in_host < windowed ? in_host : windowed;
    spread(model, true, windowed, first, out);
    spread(model, false, model->layers - windowed, in_host - first, out);
}

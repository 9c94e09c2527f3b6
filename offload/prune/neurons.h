/* offload/prune/neurons.h: whole neurons out of a feed-forward: rows of gate (where there is one) and up, and columns of down,
 * which makes good what it can.
 *
 * To lose neuron i costs |w_i|^2 / K_ii of the feed-forward's output, squared and summed over the text, when the other columns of down are refitted by least squares, with
 * K the inverse of the Hessian of what down multiplies. The cheapest go first, a few at a time; down and K are brought up to date in between. After the last
 * one down is the least squares solution over what is left (damped as everywhere).
 *
 * Threads: one owner; it works with the library's threads. */
#ifndef SL_OFFLOAD_PRUNE_NEURONS_H
#define SL_OFFLOAD_PRUNE_NEURONS_H

#include "offload/prune/hessian.h"
#include "offload/prune/layer.h"

typedef enum sli_neuron_choice {
    SLI_NEURONS_MAGNITUDE, /* |gate row| |up row| |down column|; without a gate the other two */
    SLI_NEURONS_WANDA,     /* |what down multiplies| |down column| */
    SLI_NEURONS_COST,      /* above */
} sli_neuron_choice;

typedef struct sli_neurons {
    const sli_linear *linear;
    sli_layer *layer;
    sli_hessian *hessian; /* of what down multiplies, factored; with magnitude and no refit NULL */
    sli_neuron_choice choice;
    bool refit;
    bool in_place; /* what goes becomes zeros where it is, and the layer keeps its shape */
    uint32_t keep;
    uint8_t *arena;
    size_t arena_bytes;
    double *inverse;   /* [ff][ff]: -K, upper half; NULL where neither choice nor refit asks for it */
    double *rows;      /* [batch][ff] */
    double *corner;    /* [batch][batch] */
    double *costs;     /* [ff] */
    float *rows_float; /* [batch][ff] */
    float *columns;    /* [d][batch] */
    float *down;       /* [d][ff]: down as it was, where it is not to be refitted */
    uint32_t *batch;   /* [batch] */
    bool *gone;        /* [ff] */
} sli_neurons;

uint64_t sli_neurons_price(uint32_t d, uint32_t ff, bool inverse);
/* Allocates; the caller has filled in all before `arena`. */
SL_MUST_USE sl_status sli_neurons_create(sli_neurons *n, uint32_t d, uint32_t ff, bool inverse, sl_error *err);
void sli_neurons_free(sli_neurons *n);
/* Leaves `keep` neurons of the layer, in their order, or with zeros between them. SL_INTERNAL where what was left cannot be inverted. */
SL_MUST_USE sl_status sli_neurons_remove(sli_neurons *n, const char *what, sl_error *err);

#endif

/* offload/bundled.h: the feed-forwards of a packed file, as an engine holds them.
 *
 * Of a bundled layer this is resident: what the down matrix's blocks share, and which neuron lies at which place. The bundles themselves come in
 * two ways. A dense pass streams all of them as units of the pager (runs of bundles, some with homes). A sparse row fetches those of
 * its set, from a cache of single bundles and the disk (pager/bundles.h). An engine does one or both, as its options say.
 *
 * Threads: the owner's, but for reading addresses. */
#ifndef SL_OFFLOAD_BUNDLED_H
#define SL_OFFLOAD_BUNDLED_H

#include "core/model.h"
#include "offload/bundle_form.h"
#include "pager/bundles.h"
#include "pager/packed.h"

typedef struct sli_bundled_layer {
    const sl_packed_layer *packed; /* NULL: this layer's matrices are plain */
    uint32_t *place_of;            /* [neuron]; packed->order is the reverse */
    sli_bundle_form form;
    uint8_t *meta;
} sli_bundled_layer;

typedef struct sli_bundled {
    uint8_t *arena; /* NULL: nothing is bundled */
    size_t arena_bytes;
    sli_bundled_layer *layers;
    /* of the layer in hand */
    uint8_t *columns;          /* [ff] columns of bundles that streamed by, and of compact ones, plain, by neuron */
    const uint8_t **column_at; /* [ff] where each neuron's column is */
    uint32_t *everyone;        /* [ff] 0, 1, 2, ... */
    /* of the row in hand, by rank among its members */
    bool *wanted;              /* [place] */
    uint32_t *places;          /* [member] ascending */
    const uint8_t **addresses; /* [member] of `places` */
    const uint8_t **bundles;   /* in the order in which they are best read */
    float *gate, *up;
    uint32_t *neurons, *members; /* of a draft's row: as its rows lie, and ascending */
} sli_bundled;

/* A layer that is bundled, or NULL. */
static inline const sl_packed_layer *sli_bundled_layer_at(const sl_packed *packed, uint32_t layer)
{
    const sl_packed_layer *l = packed == NULL ? NULL : sl_packed_layer_at(packed, layer);
    return l != NULL && l->bundled ? l : NULL;
}

/* A compact layer's rows are made plain this many at a time, so that they are multiplied while they are in cache. */
#define SLI_PLAIN_BUNDLES 32
/* Bytes that a thread wants for that; 0 where no layer is compact. Pure. */
size_t sli_bundled_plain_bytes(const sl_model *model, const sl_packed *packed);

/* Where a compact layer's column is kept plain. */
static inline uint8_t *sli_bundled_column(const sli_bundled *b, const sli_bundled_layer *layer, uint32_t neuron)
{
    return b->columns + (size_t)neuron * layer->packed->column_bytes;
}

/* Bytes of all that, as allocated; 0 for a stock file (packed NULL). Pure. */
uint64_t sli_bundled_price(const sl_model *model, const sl_packed *packed);
/* Allocates, and fills all but meta. `packed` outlives it. */
SL_MUST_USE sl_status sli_bundled_create(const sl_model *model, const sl_packed *packed, sli_bundled *out, sl_error *err);
void sli_bundled_free(sli_bundled *b);

/* The cache of single bundles: slots for cache_share / SLI_CACHE_WHOLE of each bundled layer's neurons, stages for sets of keep[layer].
 * Fills `layers` [model->layers]. Pure. */
#define SLI_CACHE_WHOLE 4096u
/* Measured against the others on traces of real text; see bench/SPEED.md. */
#define SLI_CACHE_POLICY SL_BUNDLES_FREQUENT
sl_bundles_config sli_bundled_cache(const sl_model *model, const sl_packed *packed, const uint32_t *keep, uint32_t share,
                                    uint32_t alignment, sl_bundle_policy policy, sl_bundle_layer *layers);

/* A gap up to this size is read rather than left out. */
uint32_t sli_bundles_gap_bytes(uint32_t stride);

static inline const sli_bundled_layer *sli_bundled_of(const sli_bundled *b, uint32_t layer)
{
    return b->arena != NULL && b->layers[layer].packed != NULL ? &b->layers[layer] : NULL;
}

#endif

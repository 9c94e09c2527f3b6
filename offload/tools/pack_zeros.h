/* offload/tools/pack_zeros.h: what may be left out of a layer's bundles because it is zero (version 2 of pager/packed.h).
 *
 * The layer is read once more for it, before the header can be written; so it is done for models that say they were pruned, or when asked for.
 * Parts become compact only as far as that makes the stride smaller; what does not save a byte on disk would only cost the processor. */
#ifndef SL_OFFLOAD_TOOLS_PACK_ZEROS_H
#define SL_OFFLOAD_TOOLS_PACK_ZEROS_H

#include "offload/tools/pack_source.h"

typedef struct sli_pack_zeros {
    bool *silent;    /* [ff]; NULL: no neuron is */
    uint8_t *bundle; /* what all silent ones are, plain */
} sli_pack_zeros;

/* Whether the model says that it was pruned. */
bool sli_pack_says_pruned(const sl_gguf *original);

/* Looks at a layer of a stock file that becomes bundles, and sets stored, stored_bytes and stride of *layer, which come in plain. On failure too, free undoes it. */
SL_MUST_USE sl_status sli_pack_find_zeros(sli_pack_source *source, uint32_t index, sl_packed_layer *layer, sli_pack_zeros *out,
                                          sl_error *err);
/* Of a packed source: what its layer has left out. */
SL_MUST_USE sl_status sli_pack_carry_zeros(sli_pack_source *source, uint32_t index, const sl_packed_layer *layer, sli_pack_zeros *out,
                                           sl_error *err);
void sli_pack_zeros_free(sli_pack_zeros *zeros);

#endif

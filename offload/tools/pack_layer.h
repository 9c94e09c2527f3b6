/* offload/tools/pack_layer.h: one layer's feed-forward, between three matrices and bundles. */
#ifndef SL_OFFLOAD_TOOLS_PACK_LAYER_H
#define SL_OFFLOAD_TOOLS_PACK_LAYER_H

#include "core/file_write.h"
#include "offload/tools/pack_source.h"

/* Bundles, or matrices, that are held in memory at once. */
#define SLI_PACK_WORK_BYTES ((uint64_t)96 << 20)

/* Whether the layer becomes bundles when it is packed; its sizes in *out but for offsets and order. A packed source's layers stay what they are. */
bool sli_pack_can_bundle(const sli_pack_source *source, uint32_t layer, sl_packed_layer *out);

/* Makes the bundles of places [first, first + count) at `bundles`, and the layer's whole meta data at `meta`. place_of[neuron] = place. The
 * matrices are read from end to end, so a layer that is made in several rounds is read as often. count 0: the meta data alone. From a stock source
 * bundles are plain, and so is `shape`; a packed source's are as they are. */
SL_MUST_USE sl_status sli_pack_fill(sli_pack_source *source, uint32_t layer, const sl_packed_layer *shape, const uint32_t *place_of,
                                    uint32_t first, uint32_t count, uint8_t *bundles, uint8_t *meta, sl_error *err);

/* Writes a bundled layer's three matrices where they lay in the original, with as many of them in memory at once as `work_bytes` hold, but at
 * least one. `told` is called with each piece that was written. */
SL_MUST_USE sl_status sli_unpack_layer(sli_pack_source *source, uint32_t layer, uint64_t work_bytes, sl_file_writer *out,
                                       sl_status (*told)(void *ctx, uint64_t bytes, sl_error *err), void *ctx, sl_error *err);

#endif

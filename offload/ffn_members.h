/* offload/ffn_members.h: one row's feed-forward over some of a bundled layer's neurons, whose bundles lie anywhere in memory.
 *
 * Which neurons they are and where their bundles come from is for others to say: ffn_sparse.c fetches those of a set, ffn_resident.c takes those that
 * are there. The result is the dense one with all other activations zero, bit for bit (D8 of kernels.h). */
#ifndef SL_OFFLOAD_FFN_MEMBERS_H
#define SL_OFFLOAD_FFN_MEMBERS_H

#include "offload/ffn.h"

/* Beside it, in the engine's sli_bundled: bundles[i] is that of neurons[i], addresses[i] is the column of members[i]. */
typedef struct sli_member_row {
    const sli_ffn *ffn;
    const sli_bundled_layer *layer;
    uint32_t count;
    const uint32_t *members; /* ascending */
    const uint32_t *neurons; /* the same, in the order in which their rows are best read */
} sli_member_row;

/* Where a member's column is when it is wanted: in its bundle, or where a compact one's is going to be plain. */
static inline const uint8_t *sli_ffn_column(const sli_bundled *b, const sli_bundled_layer *layer, uint32_t neuron, const uint8_t *bundle)
{
    return layer->form.compact ? sli_bundled_column(b, layer, neuron) : bundle + layer->form.part[SLI_PART_COLUMN].at;
}

/* From the layer's input to its output, in the operations' buffers. ffn->rows is 1. */
void sli_ffn_members(const sli_member_row *row);

#endif

/* offload/ffn_resident.h: one row's feed-forward over the neurons that are in memory for good, for drafts: nothing is read, and nothing that the
 * pager plans, reads or holds for others changes. Neurons whose home is not filled yet take no part. */
#ifndef SL_OFFLOAD_FFN_RESIDENT_H
#define SL_OFFLOAD_FFN_RESIDENT_H

#include "offload/ffn.h"

/* ffn->rows is 1, the layer is bundled. */
void sli_ffn_resident(const sli_ffn *ffn);

#endif

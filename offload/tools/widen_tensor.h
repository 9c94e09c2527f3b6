/* offload/tools/widen_tensor.h: what widening does to a tensor of a given name, and to one of its rows. */
#ifndef SL_OFFLOAD_TOOLS_WIDEN_TENSOR_H
#define SL_OFFLOAD_TOOLS_WIDEN_TENSOR_H

#include "core/gguf.h"

/* What happens along a row. */
typedef enum sli_widen_columns {
    SLI_WIDEN_KEEP,  /* it does not belong to the width: per head component, per vocabulary entry */
    SLI_WIDEN_TILE,  /* one value per feature: each copy of the feature has it */
    SLI_WIDEN_SHARE, /* summed over the features: each copy gets a share */
} sli_widen_columns;

typedef struct sli_widen_role {
    const char *name; /* without the "blk.N." of a layer's tensor */
    sli_widen_columns columns;
    bool copy_rows;  /* rows are features, heads or neurons, so each is there `factor` times */
    bool matrix;     /* may be requantised */
    bool vocabulary; /* embedding or head */
} sli_widen_role;

/* The role of a tensor; NULL when its name is not known, and then its model cannot be widened. */
const sli_widen_role *sli_widen_role_of(sl_str name);

/* Whether an architecture's function survives widening: nothing in it may depend on the width itself. */
bool sli_widen_knows_architecture(sl_str architecture);

/* One row of a wide tensor: `factor` times the elements of `row`, copy after copy. `random` is the row's random stream (for shares);
 * `columns` is TILE or SHARE. A row of a block format has whole blocks. */
void sli_widen_row(uint32_t type, sli_widen_columns columns, uint64_t elements, uint32_t factor, const uint8_t *row, uint64_t random,
                   uint8_t *out);

#endif

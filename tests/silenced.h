/* tests/silenced.h: a packed file in which some neurons give nothing, so that a plain pass over it is what a pass that leaves them out must be. */
#ifndef SL_TESTS_SILENCED_H
#define SL_TESTS_SILENCED_H

#include "offload/engine.h"
#include "tests/packed_material.h"
#include "tests/tiny_model.h"

/* The file that the engine has open with zeros for the gate rows of neurons in the units that `is_silent` says: their activations are zero then. The caller unlinks and frees
 * the path. */
static inline char *write_silenced(const sl_engine *engine, bool (*is_silent)(const sl_engine *engine, sl_unit_id unit))
{
    char *path = tiny_path("silenced.gguf");
    blob b = blob_read(engine->path);
    for (uint32_t layer = 0; layer < engine->model->layers; layer++) {
        const sl_packed_layer *l = sl_packed_layer_at(engine->packed, layer);
        const sli_matrix *m = sli_units_bundles(engine->model, engine->packed, &engine->units, layer);
        for (uint32_t place = 0; place < l->ff; place++)
            if (is_silent(engine, m->first_unit + place / m->rows_per_unit))
                memset(b.data + l->bundles_offset + (uint64_t)place * l->stride, 0, l->gate_bytes);
    }
    blob_write(path, &b);
    free(b.data);
    return path;
}

#endif

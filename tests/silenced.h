/* tests/silenced.h: a packed file in which some neurons give nothing, so that a plain pass over it is what a pass that leaves them out must be. */
#ifndef SL_TESTS_SILENCED_H
#define SL_TESTS_SILENCED_H

#include "offload/device_engine.h"
#include "tests/packed_material.h"
#include "tests/sparse_rows.h"
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

/* Rows one after the other from an empty session on, which a prompt has prepared: their logits, [STEPS][vocab], and what each pushed into the ring. */
static inline float *rows_from_nothing(sl_engine *engine, unsigned flags, uint64_t pushed[STEPS])
{
    sl_session *session;
    sl_error err = {0};
    sl_token_id tokens[STEPS];
    size_t vocab = engine->model->vocab;
    float *all = malloc(STEPS * vocab * sizeof *all);
    assert_non_null(all);
    for (uint32_t i = 0; i < STEPS; i++)
        tokens[i] = token_at(i);
    check(sl_session_open(engine, &session, &err), &err);
    check(sl_session_eval(session, tokens, STEPS, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, &err), &err);
    check(sl_session_truncate(session, 0, &err), &err);
    for (uint32_t i = 0; i < STEPS; i++) {
        const float *logits;
        uint64_t before = pushed != NULL ? sl_vram_statistics(engine->device->vram).pushed_bytes : 0;
        check(sl_session_eval(session, tokens + i, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | flags, &logits, &err), &err);
        memcpy(all + i * vocab, logits, vocab * sizeof *all);
        if (pushed != NULL)
            pushed[i] = sl_vram_statistics(engine->device->vram).pushed_bytes - before;
    }
    sl_session_close(session);
    return all;
}

#endif

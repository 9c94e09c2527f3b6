/* offload/matmul.h: products of one source with several matrices, over whatever of their units is in memory.
 *
 * Consecutive products with the same source (query, key, value; gate, up) are one run. Units that are there are gathered until one must be waited
 * for; what was gathered is computed before the wait, so that computing hides reading. Every output is computed by one thread, in
 * the kernels' fixed order: how the work was gathered or divided cannot show in the result. */
#ifndef SL_OFFLOAD_MATMUL_H
#define SL_OFFLOAD_MATMUL_H

#include "offload/engine.h"

typedef struct sli_product {
    const sli_matrix *matrix;
    const float *bias;  /* [matrix->rows] or NULL */
    float *out;         /* [rows][matrix->rows] */
    const bool *wanted; /* [unit] of the engine: only these of its units are multiplied, and their rows written; NULL: all */
} sli_product;

#define SLI_PRODUCTS_MAX 4

/* out = matrix . src (+ bias) for `rows` rows of src; all matrices have the same cols. Quantises src when a matrix asks for it. */
SL_MUST_USE sl_status sli_multiply(sl_engine *engine, const float *src, uint32_t rows, const sli_product *products, uint32_t count,
                                   sl_error *err);

/* Whether what was gathered has to be computed before a unit can join it: the unit is not there yet, and the wait comes after all that can be
 * done without it; or the staged units that are held, `held_bytes` of them, leave the ring too little room to read ahead. */
bool sli_gathered_enough(const sl_engine *engine, sl_unit_id unit, uint64_t held_bytes);

/* Fills a unit's home with what products read there: panels of the staged rows, by the whole crew. The caller settles it. */
void sli_fill_home(sl_engine *engine, const sli_matrix *matrix, uint32_t index, const uint8_t *staged, uint8_t *home);

/* Rows of a unit; all have rows_per_unit but the last. */
static inline uint32_t sli_unit_rows(const sli_matrix *m, uint32_t index)
{
    uint32_t first = index * m->rows_per_unit;
    return m->rows - first < m->rows_per_unit ? m->rows - first : m->rows_per_unit;
}

/* Rows of a product's input as the kernels take them: fp32 where they lie, and quantised into the engine's memory (D1) when asked. */
void sli_prepare_source(sl_engine *engine, const float *src, uint32_t rows, uint32_t cols, bool quantized, sl_acts *out);

#endif

/* offload/predictor.h: guesses which neurons of a feed-forward matter for a row, from a small approximation of its gate and up matrices.
 *
 * `sluice calibrate` fits one for each layer and stores it in the packed file (tensor blk.N.calibration.predictor); here it is opened and evaluated.
 * A neuron's score stands for |act(gate) * up| * |down column|. It is made of approximate products of gate and up with the row, and of how far
 * these were off on the calibration text: the root of the mean of the squared activation, over errors of that size. A neuron whose guess is small
 * but uncertain so ranks above one that is surely small. At few bits per weight that is worth as much as half a bit.
 *
 *     x ──(select and scale columns, or a projection of low rank)──▶ inputs ──D1──▶ signs · inputs ──▶ gate, up ──▶ score
 *
 *  a copy         the inputs are x's own components, permuted; the signs (kernels/signs.h) hold gate and up at 1 to 3 bits per weight
 *  low rank       the inputs are products of a short wide matrix with x; the signs hold what gate and up make of those
 *
 * It has no state: a score is a function of x alone, bit for bit the same on every instruction set, in any division into ranges.
 *
 * Threads: immutable after open; a sli_predictor_row belongs to one row in hand, its scores may be computed by many threads at once. */
#ifndef SL_OFFLOAD_PREDICTOR_H
#define SL_OFFLOAD_PREDICTOR_H

#include "core/gguf.h"
#include "core/threads.h"
#include "kernels/kernels.h"

#define SLI_PREDICTOR_TENSOR "blk.%u.calibration.predictor"
#define SLI_PREDICTOR_ALIGN  32 /* neurons of a range begin at a multiple of this */

typedef struct sli_predictor sli_predictor;

/* What a predictor is asked to fit. */
typedef struct sli_predictor_shape {
    uint32_t layers, d, ff;
    sl_glu act;
} sli_predictor_shape;

/* Whether the file has predictors (of any version), and what they cost: all that open allocates, rounded as it is allocated; 0 without. Pure. */
uint64_t sli_predictor_price(const sl_gguf *file, uint32_t layers);

/* Reads the whole data of a tensor to `to` and checks it, as the caller does for other sections. */
typedef struct sli_predictor_reader {
    sl_status (*read)(void *ctx, const sl_gguf_tensor *tensor, void *to, sl_error *err);
    void *ctx;
} sli_predictor_reader;

/* Loads all layers' predictors and checks them against the shape. SL_FORMAT names file and layer: missing, of another version, of another
 * model, a part that does not fit or is no number. The kernels are kept. */
SL_MUST_USE sl_status sli_predictor_open(const sl_gguf *file, const sli_predictor_shape *shape, const sli_predictor_reader *reader,
                                         const sl_kernels *kernels, sli_predictor **out, sl_error *err);
/* Where all layers' parts lie together, and one layer's, for who copies them. */
const void *sli_predictor_memory(const sli_predictor *predictor, size_t *bytes);
const struct sli_guess *sli_predictor_layer(const sli_predictor *predictor, uint32_t layer);
void sli_predictor_close(sli_predictor *predictor); /* NULL is fine */

/* One row's inputs, ready for scores. The memory is the caller's: sli_predictor_row_bytes, 64-byte aligned. */
typedef struct sli_predictor_row {
    const sli_predictor *predictor;
    uint32_t layer;
    sl_acts inputs;
} sli_predictor_row;
size_t sli_predictor_row_bytes(uint32_t d);

/* x: [d], the feed-forward's normed input, 64-byte aligned. The crew as in guess.h. */
void sli_predictor_begin(const sli_predictor *predictor, uint32_t layer, sl_threads *crew, const float *x, void *memory,
                         sli_predictor_row *row);
/* scores[i] for neurons i in [first, last); first is a multiple of SLI_PREDICTOR_ALIGN, last too unless it is ff. `scores` is indexed by neuron. */
void sli_predictor_scores(const sli_predictor_row *row, uint32_t first, uint32_t last, float *scores);

#endif

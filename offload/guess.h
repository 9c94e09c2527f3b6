/* offload/guess.h: the predictor of one layer: how it lies in its tensor, and what it computes. predictor.h opens those of all layers; calibrate makes
 * them, and asks them how good they are.
 *
 * All numbers are little-endian. A header of 16 words, then these parts, each on a multiple of 64 bytes from the blob's start, none left out:
 *
 *     planes      u8   [inputs / 32]    of the signs, of both matrices
 *     factors     f32  [inputs]         each input is multiplied by its own before it is quantised
 *     select      u32  [inputs]         a copy: input i is x's component select[i]; low rank: empty
 *     projection  panels                low rank: inputs x d in a format of kernels.h, inputs a multiple of 32; a copy: empty
 *     neurons     bf16 [4][rows]        gate's scale, gate's error, up's scale, up's squared error; rows: ff rounded up to 32.
 *                                       up's have the norm of the down column multiplied in
 *     gate, up    signs                 panels of rows x inputs each
 *
 * Threads: pure functions over the caller's memory. */
#ifndef SL_OFFLOAD_GUESS_H
#define SL_OFFLOAD_GUESS_H

#include "core/format.h"
#include "core/threads.h"
#include "kernels/kernels.h"

typedef enum sli_guess_word {
    SLI_GUESS_VERSION = 0,
    SLI_GUESS_D,
    SLI_GUESS_FF,
    SLI_GUESS_INPUTS,
    SLI_GUESS_PROJECTION, /* SLI_GUESS_COPY, or the sl_type of the projection */
    SLI_GUESS_PLANES_SUM, /* of all blocks */
    SLI_GUESS_WORDS = 16,
} sli_guess_word;

#define SLI_GUESS_VERSION_NUMBER 1u
#define SLI_GUESS_COPY           UINT32_MAX
#define SLI_GUESS_ALIGN          64

typedef enum sli_guess_part {
    SLI_GUESS_PART_PLANES,
    SLI_GUESS_PART_FACTORS,
    SLI_GUESS_PART_SELECT,
    SLI_GUESS_PART_PANELS,
    SLI_GUESS_PART_NEURONS,
    SLI_GUESS_PART_GATE,
    SLI_GUESS_PART_UP,
    SLI_GUESS_PARTS,
} sli_guess_part;

typedef struct sli_guess_layout {
    size_t offset[SLI_GUESS_PARTS], bytes[SLI_GUESS_PARTS];
    size_t total_bytes;
} sli_guess_layout;

/* Sizes that a header asks for. Pure; the words are plausible (sli_guess_plausible). */
sli_guess_layout sli_guess_layout_of(const uint32_t words[SLI_GUESS_WORDS]);
/* Whether the words make sense by themselves, so that no size overflows. */
bool sli_guess_plausible(const uint32_t words[SLI_GUESS_WORDS]);

/* A guess in memory, aligned to 64 bytes; its parts point into the blob. */
typedef struct sli_guess {
    uint32_t d, ff, inputs, projection;
    sl_signs gate, up;
    const float *factors;
    const uint32_t *select;  /* a copy's, else NULL */
    const uint8_t *panels;   /* a projection's */
    const uint16_t *neurons; /* [4][rows] */
} sli_guess;

/* Checks a blob for a feed-forward of d and ff. NULL, or what is wrong with it, to follow "the predictor of layer N". */
const char *sli_guess_view(const uint8_t *blob, size_t bytes, uint32_t d, uint32_t ff, sli_guess *out);

/* Memory that a row's inputs need, for any guess over d. */
size_t sli_guess_row_bytes(uint32_t d);
/* Makes a row's inputs in that memory, 64-byte aligned as x is. The crew, called by its owner, shares the projection; NULL: the caller alone. */
void sli_guess_begin(const sli_guess *guess, const sl_kernels *kernels, sl_threads *crew, const float *x, void *memory, sl_acts *inputs);
/* The guessed products of neurons [first, last): gate[i - first], up[i - first] with the down column's norm. first is a multiple of 32, last too
 * unless it is ff. */
void sli_guess_products(const sli_guess *guess, const sl_kernels *kernels, const sl_acts *inputs, uint32_t first, uint32_t last,
                        float *gate, float *up);
/* The scores of the same, scores[i - first]. */
void sli_guess_scores(const sli_guess *guess, const sl_kernels *kernels, sl_glu act, const sl_acts *inputs, uint32_t first, uint32_t last,
                      float *scores);

static inline uint32_t sli_guess_rows(uint32_t ff)
{
    return (ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS * SL_SIGN_ROWS;
}

#endif

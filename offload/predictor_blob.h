/* offload/predictor_blob.h: how one layer's predictor lies in its tensor; shared by what writes it (calibrate) and what reads it.
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
 */
#ifndef SL_OFFLOAD_PREDICTOR_BLOB_H
#define SL_OFFLOAD_PREDICTOR_BLOB_H

#include "core/format.h"
#include "kernels/kernels.h"

typedef enum sli_blob_word {
    SLI_BLOB_VERSION = 0,
    SLI_BLOB_D,
    SLI_BLOB_FF,
    SLI_BLOB_INPUTS,
    SLI_BLOB_PROJECTION, /* SLI_BLOB_COPY, or the sl_type of the projection */
    SLI_BLOB_PLANES_SUM, /* of all blocks */
    SLI_BLOB_WORDS = 16,
} sli_blob_word;

#define SLI_BLOB_COPY  UINT32_MAX
#define SLI_BLOB_ALIGN 64

typedef enum sli_blob_part {
    SLI_BLOB_PART_PLANES,
    SLI_BLOB_PART_FACTORS,
    SLI_BLOB_PART_SELECT,
    SLI_BLOB_PART_PANELS,
    SLI_BLOB_PART_NEURONS,
    SLI_BLOB_PART_GATE,
    SLI_BLOB_PART_UP,
    SLI_BLOB_PARTS,
} sli_blob_part;

typedef struct sli_blob_layout {
    size_t offset[SLI_BLOB_PARTS], bytes[SLI_BLOB_PARTS];
    size_t total_bytes;
} sli_blob_layout;

/* Sizes that a header asks for. Pure; the words are plausible (sli_blob_plausible). */
sli_blob_layout sli_blob_layout_of(const uint32_t words[SLI_BLOB_WORDS]);
/* Whether the words make sense by themselves, so that no size overflows. */
bool sli_blob_plausible(const uint32_t words[SLI_BLOB_WORDS]);

static inline uint32_t sli_blob_rows(uint32_t ff)
{
    return (ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS * SL_SIGN_ROWS;
}

#endif

/* offload/predictor_blob.c: see predictor_blob.h. */
#include "offload/predictor_blob.h"

#define DIMENSION_MAX (1u << 20)

sli_blob_layout sli_blob_layout_of(const uint32_t words[SLI_BLOB_WORDS])
{
    sli_blob_layout l = {0};
    size_t inputs = words[SLI_BLOB_INPUTS], rows = sli_blob_rows(words[SLI_BLOB_FF]);
    bool copy = words[SLI_BLOB_PROJECTION] == SLI_BLOB_COPY;
    size_t signs = rows / SL_SIGN_ROWS * words[SLI_BLOB_PLANES_SUM] * SL_SIGN_PLANE_BYTES;
    l.bytes[SLI_BLOB_PART_PLANES] = inputs / SL_SIGN_COLS;
    l.bytes[SLI_BLOB_PART_FACTORS] = inputs * sizeof(float);
    l.bytes[SLI_BLOB_PART_SELECT] = copy ? inputs * sizeof(uint32_t) : 0;
    l.bytes[SLI_BLOB_PART_PANELS] = copy ? 0 : inputs * sl_row_bytes(words[SLI_BLOB_PROJECTION], words[SLI_BLOB_D]);
    l.bytes[SLI_BLOB_PART_NEURONS] = 4 * rows * sizeof(uint16_t);
    l.bytes[SLI_BLOB_PART_GATE] = l.bytes[SLI_BLOB_PART_UP] = signs;
    size_t at = SLI_BLOB_WORDS * sizeof(uint32_t);
    for (int i = 0; i < SLI_BLOB_PARTS; i++) {
        at = (at + SLI_BLOB_ALIGN - 1) / SLI_BLOB_ALIGN * SLI_BLOB_ALIGN;
        l.offset[i] = at;
        at += l.bytes[i];
    }
    l.total_bytes = at;
    return l;
}

bool sli_blob_plausible(const uint32_t words[SLI_BLOB_WORDS])
{
    uint32_t inputs = words[SLI_BLOB_INPUTS], d = words[SLI_BLOB_D], ff = words[SLI_BLOB_FF], blocks = inputs / SL_SIGN_COLS;
    if (d == 0 || d > DIMENSION_MAX || ff == 0 || ff > DIMENSION_MAX || inputs == 0 || inputs > d || inputs % SL_SIGN_COLS != 0)
        return false;
    if (words[SLI_BLOB_PLANES_SUM] < blocks || words[SLI_BLOB_PLANES_SUM] > blocks * SL_SIGN_PLANES)
        return false;
    const sl_format *format = sl_format_of(words[SLI_BLOB_PROJECTION]);
    return words[SLI_BLOB_PROJECTION] == SLI_BLOB_COPY || (format != NULL && format->supported && d % format->block_elements == 0);
}

/* kernels/cpu/columns_floats.h: products of float formats over the members of a set (D8, D3), from columns; a vector lane is a row.
 *
 * Included by one file per instruction set, which then defines multiply_lanes(). */
#ifndef SL_KERNELS_CPU_COLUMNS_FLOATS_H
#define SL_KERNELS_CPU_COLUMNS_FLOATS_H

#include "kernels/columns.h"
#include "kernels/internal.h"

#include <string.h>

/* The members of one segment by lane: those with k mod 4 = j, in order. */
typedef struct lanes {
    uint32_t count[4];
    const uint8_t *column[4][SLI_SEGMENT_ELEMENTS / 4];
    float x[4][SLI_SEGMENT_ELEMENTS / 4];
} lanes;

static uint32_t lay_out_lanes(const sl_columns *w, const sl_acts *x, uint32_t i, lanes *s)
{
    uint32_t index = w->member[i] / SLI_SEGMENT_ELEMENTS;
    memset(s->count, 0, sizeof s->count);
    for (; i < w->count && w->member[i] / SLI_SEGMENT_ELEMENTS == index; i++) {
        uint32_t j = w->member[i] % 4, at = s->count[j]++;
        s->column[j][at] = w->column[i];
        s->x[j][at] = x->f32[w->member[i]];
    }
    return i;
}

/* A segment times 32 rows from `row` on, added to their totals. */
INLINE void multiply_lanes(uint32_t type, const lanes *s, size_t row, float *total);

INLINE void multiply_floats_of(uint32_t type, const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    lanes s;
    for (uint32_t i = 0; i < w->count;) {
        i = lay_out_lanes(w, x, i, &s);
        for (size_t row = row_begin; row < row_end; row += SL_COLUMN_GROUP)
            multiply_lanes(type, &s, row, out);
    }
}

static void multiply_floats(const sl_columns *w, const sl_acts *x, size_t row_begin, size_t row_end, float *out)
{
    memset(out + row_begin, 0, (row_end - row_begin) * sizeof *out);
    switch (w->type) {
    case SL_TYPE_F32: multiply_floats_of(SL_TYPE_F32, w, x, row_begin, row_end, out); break;
    case SL_TYPE_F16: multiply_floats_of(SL_TYPE_F16, w, x, row_begin, row_end, out); break;
    default: multiply_floats_of(SL_TYPE_BF16, w, x, row_begin, row_end, out); break;
    }
}

#endif

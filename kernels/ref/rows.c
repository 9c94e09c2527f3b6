/* kernels/ref/rows.c: one row of activations times rows that lie apart from each other, as in the file (D2, D3). */
#include "kernels/ref/decode.h"
#include "kernels/segments.h"

#include <math.h>

static const sli_segment_kernels by_segment = {.pack = sli_pack_ref, .matmul = sli_matmul_ref};

static float dot_float(uint32_t type, const uint8_t *row, const sl_acts *x)
{
    size_t element_bytes = sl_row_bytes(type, 1);
    float total = 0.0f, acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t k = 0; k < x->cols; k++) {
        acc[k % 4] = fmaf(sli_load_float(type, row + k * element_bytes), x->f32[k], acc[k % 4]);
        if ((k + 1) % SLI_SEGMENT_ELEMENTS == 0 || k + 1 == x->cols) {
            total += (acc[0] + acc[1]) + (acc[2] + acc[3]);
            memset(acc, 0, sizeof acc);
        }
    }
    return total;
}

void sli_dot_rows_ref(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out)
{
    if (sli_layout_of(type).words != 0) {
        sli_dot_rows_by_segment(&by_segment, type, rows, count, x, out);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = dot_float(type, rows[i], x);
}

/* kernels/ref/signs.c: products with planes of signs (D9); the definition in executable form. */
#include "kernels/internal.h"

#include <math.h>

static int32_t weight_of(const uint8_t *block, uint32_t planes, uint32_t row, uint32_t col)
{
    int32_t weight = 0;
    for (uint32_t p = 0; p < planes; p++) {
        bool set = block[p * SL_SIGN_PLANE_BYTES + sl_sign_byte(row, col)] >> sl_sign_bit(row, col) & 1;
        weight += set ? 1 << p : -(1 << p);
    }
    return weight;
}

static float dot_row(const sl_signs *w, const uint8_t *panel, const sl_acts *x, uint32_t row)
{
    float acc = 0.0f;
    for (uint32_t b = 0; b < w->cols / SL_SIGN_COLS; b++) {
        int32_t isum = 0;
        for (uint32_t c = 0; c < SL_SIGN_COLS; c++)
            isum += weight_of(panel, w->planes[b], row, c) * x->q[b * SL_SIGN_COLS + c];
        acc = fmaf(x->d[b], (float)isum, acc);
        panel += w->planes[b] * SL_SIGN_PLANE_BYTES;
    }
    return acc;
}

void sli_dot_signs_ref(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out)
{
    size_t panel_bytes = sl_sign_panel_bytes(w->planes, w->cols);
    for (uint32_t r = row_begin; r < row_end; r++)
        out[r] = dot_row(w, w->panels + r / SL_SIGN_ROWS * panel_bytes, x, r % SL_SIGN_ROWS);
}

/* kernels/cpu/matmul_super_avx512.c: products with super-blocks (the K-quants and IQ4_XS) with VNNI; see super_lanes_avx512.h. */
#if defined(__x86_64__)
#include "kernels/cpu/super_lanes_avx512.h"

static void lay_out_half_sums(uint32_t type, const int8_t *q, const float *d, size_t r, size_t blocks, sli_act_tile *tile)
{
    lay_out_halves(type, q, d, r, blocks, tile);
}

/* Rows [row, row + rows) times super-block `super` of the tile, added to their totals. */
INLINE void multiply_rows(uint32_t type, int panels, int rows, const sli_quant_step *s, const unpacked *u, size_t row, size_t super,
                          prefetch *next)
{
    __m512 acc[MAX_ROWS][MAX_PANELS];
    multiply_segment(type, panels, rows, s, u, row, super, next, acc);
    add_to_totals(panels, rows, s, row, acc);
}

INLINE void multiply_panels(uint32_t type, int panels, const sli_quant_step *s)
{
    prefetch next = begin_prefetch(s);
    unpacked u;
    for (size_t super = 0; super < s->blocks / SLI_SEGMENT_BLOCKS; super++) {
        size_t row = 0;
        unpack_scales(type, panels, s, super, &u);
        for (; row + 4 <= s->rows; row += 4)
            multiply_rows(type, panels, 4, s, &u, row, super, &next);
        if (s->rows & 2) {
            multiply_rows(type, panels, 2, s, &u, row, super, &next);
            row += 2;
        }
        if (s->rows & 1)
            multiply_rows(type, panels, 1, s, &u, row, super, &next);
    }
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    if (s->panels == 2)
        multiply_panels(type, 2, s);
    else
        multiply_panels(type, 1, s);
}

static void step_q2_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q2_K, s);
}
static void step_q3_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q3_K, s);
}
static void step_q4_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_K, s);
}
static void step_q5_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_K, s);
}
static void step_q6_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q6_K, s);
}
static void step_iq4_xs(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_IQ4_XS, s);
}

void sli_matmul_super_avx512(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_Q2_K: sli_walk_halves(type, panels, out_rows, x, out, out_stride, step_q2_k, lay_out_half_sums); break;
    case SL_TYPE_Q3_K: sli_walk_halves(type, panels, out_rows, x, out, out_stride, step_q3_k, lay_out_half_sums); break;
    case SL_TYPE_Q4_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_k); break;
    case SL_TYPE_Q5_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q5_k); break;
    case SL_TYPE_Q6_K: sli_walk_halves(type, panels, out_rows, x, out, out_stride, step_q6_k, lay_out_half_sums); break;
    case SL_TYPE_IQ4_XS: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_iq4_xs); break;
    default: break; /* the engine has refused other types when it opened the file */
    }
}
#endif

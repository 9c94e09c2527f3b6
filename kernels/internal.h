/* kernels/internal.h: names shared between the files of kernels/, and nowhere else.
 *
 * Every instruction set has one function per entry of sl_kernels, named sli_<entry>_<isa>: sli_matmul_ref, sli_matmul_avx2, ... The table in
 * kernels.c picks them; an entry where a set has nothing to win takes a lesser set's function there, and then no file defines the name.
 *
 * The layout of a quantised format is data: where the quant words, the scale and the minimum lie in a block of 32. Packing, dequantising
 * and the tests read it from here.
 *
 * Threads: constant data and pure functions. */
#ifndef SL_KERNELS_INTERNAL_H
#define SL_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

#define SLI_DECLARE_KERNELS(isa_name)                                                                                                      \
    void sli_quantize_##isa_name(sl_acts *x, uint32_t row_begin, uint32_t row_end);                                                        \
    void sli_pack_##isa_name(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel);                      \
    void sli_matmul_##isa_name(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);  \
    void sli_dot_rows_##isa_name(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out);                 \
    void sli_pack_columns_##isa_name(const sl_columns *w, uint32_t first_row, uint8_t *panel);                                             \
    void sli_matmul_columns_##isa_name(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);           \
    void sli_dot_signs_##isa_name(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);                  \
    void sli_dequantize_row_##isa_name(uint32_t type, const uint8_t *row, uint32_t cols, float *out);                                      \
    void sli_dequantize_panel_row_##isa_name(uint32_t type, const uint8_t *panel, uint32_t row, uint32_t cols, float *out);                \
    void sli_rms_norm_##isa_name(const float *x, const float *w, uint32_t n, float eps, float *out);                                       \
    void sli_add_##isa_name(float *acc, const float *x, size_t n);                                                                         \
    void sli_scale_##isa_name(float *x, float factor, size_t n);                                                                           \
    void sli_glu_##isa_name(sl_glu act, const float *gate, const float *up, size_t n, float *out);                                         \
    void sli_rope_##isa_name(sl_rope kind, float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, const float *cos,               \
                             const float *sin);                                                                                            \
    void sli_kv_store_k_##isa_name(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim);                       \
    void sli_kv_store_v_##isa_name(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim);                       \
    void sli_attention_##isa_name(const sl_attention *job)

SLI_DECLARE_KERNELS(ref);
SLI_DECLARE_KERNELS(avx2);
SLI_DECLARE_KERNELS(avx512);

#define SLI_SEGMENT_BLOCKS   8   /* D2: blocks of 32 whose products share one accumulator */
#define SLI_SEGMENT_ELEMENTS 256 /* D3: elements of a segment */

/* One quantised block, byte offsets from its start; a quant word is 4 bytes. words is 0 for the float types. */
typedef struct sli_layout {
    uint8_t block_bytes;
    uint8_t words;        /* quant words: 4 (nibbles) or 8 (bytes) */
    uint8_t quant_offset; /* first quant word */
    uint8_t scale_offset; /* fp16 */
    uint8_t min_offset;   /* fp16; meaningful only with has_min */
    uint8_t has_min;
} sli_layout;

static inline sli_layout sli_layout_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return (sli_layout){.block_bytes = 18, .words = 4, .quant_offset = 2};
    case SL_TYPE_Q4_1: return (sli_layout){.block_bytes = 20, .words = 4, .quant_offset = 4, .min_offset = 2, .has_min = 1};
    case SL_TYPE_Q8_0: return (sli_layout){.block_bytes = 34, .words = 8, .quant_offset = 2};
    default: return (sli_layout){0};
    }
}

/* The metadata word `word` (0 scale, 1 minimum) of block `b` in row `r` of a matrix by columns: fp16. */
static inline const uint8_t *sli_column_meta(const sl_columns *w, size_t b, size_t word, size_t r)
{
    size_t words = w->type == SL_TYPE_Q4_1 ? 2 : 1;
    return w->meta + ((b * words + word) * w->rows + r) * 2;
}

/* The largest |x| of a block of activations that is still quantised; below it the block is all zero (D1). 127 / amax would overflow
 * a little further down, and such values are beyond what a sum could show. */
#define SLI_AMAX_MIN 0x1p-120f

#endif

/* kernels/internal.h: names shared between the files of kernels/, and nowhere else.
 *
 * Every instruction set has one function per entry of sl_kernels, named sli_<entry>_<isa>: sli_matmul_ref, sli_matmul_avx2, ... The table in
 * kernels.c picks them; an entry where a set has nothing to win takes a lesser set's function there, and then no file defines the name.
 *
 * The layout of a quantised format is data: where its words and its 16-bit numbers lie in a block. Packing reads it from here, and the
 * reference to gather a row's block from a panel.
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
    void sli_matmul_columns_##isa_name(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);           \
    void sli_dot_signs_##isa_name(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);                  \
    void sli_expand_##isa_name(uint32_t elements, const uint8_t *compact, uint32_t kept_max, uint8_t *plain);                              \
    void sli_dequantize_row_##isa_name(uint32_t type, const uint8_t *row, uint32_t cols, float *out);                                      \
    void sli_dequantize_panel_row_##isa_name(uint32_t type, const uint8_t *panel, uint32_t row, uint32_t cols, float *out);                \
    void sli_rms_norm_##isa_name(const float *x, const float *w, uint32_t n, float eps, float *out);                                       \
    void sli_layer_norm_##isa_name(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out);                     \
    void sli_add_##isa_name(float *acc, const float *x, size_t n);                                                                         \
    void sli_scale_##isa_name(float *x, float factor, size_t n);                                                                           \
    void sli_glu_##isa_name(sl_glu act, const float *gate, const float *up, size_t n, float *out);                                         \
    void sli_relu_##isa_name(float *x, size_t n);                                                                                          \
    void sli_rope_##isa_name(sl_rope kind, float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, const float *cos,               \
                             const float *sin);                                                                                            \
    void sli_kv_store_k_##isa_name(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim);                       \
    void sli_kv_store_v_##isa_name(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim);                       \
    void sli_kv_copy_k_##isa_name(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index,                 \
                                  uint32_t head_dim);                                                                                      \
    void sli_kv_copy_v_##isa_name(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index,                 \
                                  uint32_t head_dim);                                                                                      \
    void sli_kv_turn_k_##isa_name(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index,                 \
                                  uint32_t head_dim);                                                                                      \
    void sli_kv_sum_v_##isa_name(uint32_t type, const uint8_t *page, uint32_t begin, uint32_t end, uint32_t head_dim, float *sum);         \
    void sli_attention_##isa_name(const sl_attention *job);                                                                                \
    void sli_key_scores_##isa_name(const sl_key_scores *job);                                                                              \
    void sli_softmax_##isa_name(float *x, uint32_t begin, uint32_t end);                                                                   \
    uint32_t sli_pick_##isa_name(const float *x, uint32_t count, float limit, uint32_t *index, float *value)

SLI_DECLARE_KERNELS(ref);
SLI_DECLARE_KERNELS(avx2);
SLI_DECLARE_KERNELS(avx512);
SLI_DECLARE_KERNELS(neon);
SLI_DECLARE_KERNELS(dotprod);

/* The formats that matmul_avx2.c and matmul_avx512.c leave to files of their own. */
void sli_matmul_blocks_avx2(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);
void sli_matmul_super_avx2(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);
void sli_matmul_super_avx512(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);
/* AMX has products of its own; all else it takes from AVX-512. */
void sli_matmul_amx(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);
/* Likewise rows_avx512.c's. */
void sli_dot_rows_super_avx512(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out);

/* Blocks (of float types: elements) [first_block, first_block + blocks) of rows [first_row, first_row + 16) as a panel of their own; columns[0] is
 * the column of the first block's first neuron, first_row a multiple of 16. Rows that the matrix does not have are zero bytes. */
void sli_pack_blocks_ref(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                         uint8_t *panel);
void sli_pack_blocks_avx2(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                          uint8_t *panel);
void sli_pack_blocks_neon(const sl_columns *w, const uint8_t *const *columns, size_t first_block, size_t blocks, uint32_t first_row,
                          uint8_t *panel);

#define SLI_SEGMENT_BLOCKS   8   /* D2: blocks of 32 whose products share one accumulator */
#define SLI_SEGMENT_ELEMENTS 256 /* D3: elements of a segment; also a super-block */

/* One quantised block, byte offsets from its start. In every format the 32-bit words that a panel interleaves lie side by side; what
 * else there is are one or two 16-bit numbers: the scale, then the scale of the minima (of IQ4_XS: upper bits of its scales). words is 0
 * for the float types. */
typedef struct sli_layout {
    uint16_t elements; /* 32, or 256: a super-block */
    uint8_t block_bytes;
    uint8_t words;          /* quants, and where a format has them upper bits and packed scales, in the file's order */
    uint8_t words_offset;   /* first word */
    uint8_t halves;         /* 16-bit numbers, 1 or 2 */
    uint8_t half_offset[2]; /* the scale first */
    uint8_t has_min;        /* the second one is a minimum, or scales minima */
    uint8_t sub;            /* elements that share an integer scale within a super-block; 0 for blocks of 32 */
} sli_layout;

static inline sli_layout sli_layout_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0:
    case SL_TYPE_IQ4_NL: return (sli_layout){32, 18, .words = 4, .words_offset = 2, .halves = 1};
    case SL_TYPE_Q4_1: return (sli_layout){32, 20, .words = 4, .words_offset = 4, .halves = 2, .half_offset = {0, 2}, .has_min = 1};
    case SL_TYPE_Q5_0: return (sli_layout){32, 22, .words = 5, .words_offset = 2, .halves = 1};
    case SL_TYPE_Q5_1: return (sli_layout){32, 24, .words = 5, .words_offset = 4, .halves = 2, .half_offset = {0, 2}, .has_min = 1};
    case SL_TYPE_Q8_0: return (sli_layout){32, 34, .words = 8, .words_offset = 2, .halves = 1};
    case SL_TYPE_Q2_K: return (sli_layout){256, 84, .words = 20, .halves = 2, .half_offset = {80, 82}, .has_min = 1, .sub = 16};
    case SL_TYPE_Q3_K: return (sli_layout){256, 110, .words = 27, .halves = 1, .half_offset = {108}, .sub = 16};
    case SL_TYPE_Q4_K:
        return (sli_layout){256, 144, .words = 35, .words_offset = 4, .halves = 2, .half_offset = {0, 2}, .has_min = 1, .sub = 32};
    case SL_TYPE_Q5_K:
        return (sli_layout){256, 176, .words = 43, .words_offset = 4, .halves = 2, .half_offset = {0, 2}, .has_min = 1, .sub = 32};
    case SL_TYPE_Q6_K: return (sli_layout){256, 210, .words = 52, .halves = 1, .half_offset = {208}, .sub = 16};
    case SL_TYPE_IQ4_XS: return (sli_layout){256, 136, .words = 33, .words_offset = 4, .halves = 2, .half_offset = {0, 2}, .sub = 32};
    default: return (sli_layout){0};
    }
}

/* The metadata word `word` (0 scale, 1 minimum) of block `b` in row `r` of a matrix by columns: fp16. */
static inline const uint8_t *sli_column_meta(const sl_columns *w, size_t b, size_t word, size_t r)
{
    size_t words = w->type == SL_TYPE_Q4_1 ? 2 : 1;
    return w->meta + ((b * words + word) * w->rows + r) * 2;
}

/* What the nibbles of IQ4_NL and IQ4_XS stand for. */
extern const int8_t sli_iq4_values[16];

/* The largest |x| of a block of activations that is still quantised; below it the block is all zero (D1). 127 / amax would overflow
 * a little further down, and such values are beyond what a sum could show. */
#define SLI_AMAX_MIN 0x1p-120f

#endif

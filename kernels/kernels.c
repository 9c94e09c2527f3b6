/* kernels/kernels.c: the tables of kernels, one per instruction set, and the sizes that their callers reserve.
 *
 * All tables give the same bits. A set without a function of its own for an entry borrows the next smaller set's: dequantising a row happens once
 * per token, and packing is as fast as memory with AVX2 already. AVX-512's products have kernels of their own for every format, its scattered rows for all
 * but Q5_0, Q5_1 and the float types, its columns for Q4_0, Q4_1, Q8_0 and IQ4_NL; they hand the other formats on.
 * NEON's two tables differ where bytes are multiplied. */
#include "kernels/internal.h"

static const sl_kernels scalar_kernels = {
    .isa = SL_ISA_SCALAR,
    .quantize = sli_quantize_ref,
    .pack = sli_pack_ref,
    .matmul = sli_matmul_ref,
    .dot_rows = sli_dot_rows_ref,
    .matmul_columns = sli_matmul_columns_ref,
    .dot_signs = sli_dot_signs_ref,
    .expand = sli_expand_ref,
    .dequantize_row = sli_dequantize_row_ref,
    .dequantize_panel_row = sli_dequantize_panel_row_ref,
    .rms_norm = sli_rms_norm_ref,
    .layer_norm = sli_layer_norm_ref,
    .add = sli_add_ref,
    .scale = sli_scale_ref,
    .glu = sli_glu_ref,
    .relu = sli_relu_ref,
    .rope = sli_rope_ref,
    .kv_store_k = sli_kv_store_k_ref,
    .kv_store_v = sli_kv_store_v_ref,
    .kv_copy_k = sli_kv_copy_k_ref,
    .kv_copy_v = sli_kv_copy_v_ref,
    .kv_turn_k = sli_kv_turn_k_ref,
    .kv_sum_v = sli_kv_sum_v_ref,
    .attention = sli_attention_ref,
    .key_scores = sli_key_scores_ref,
    .softmax = sli_softmax_ref,
    .pick = sli_pick_ref,
};

#if defined(__x86_64__)
static const sl_kernels avx2_kernels = {
    .isa = SL_ISA_AVX2,
    .quantize = sli_quantize_avx2,
    .pack = sli_pack_avx2,
    .matmul = sli_matmul_avx2,
    .dot_rows = sli_dot_rows_avx2,
    .matmul_columns = sli_matmul_columns_avx2,
    .dot_signs = sli_dot_signs_avx2,
    .expand = sli_expand_avx2,
    .dequantize_row = sli_dequantize_row_ref,
    .dequantize_panel_row = sli_dequantize_panel_row_ref,
    .rms_norm = sli_rms_norm_avx2,
    .layer_norm = sli_layer_norm_avx2,
    .add = sli_add_avx2,
    .scale = sli_scale_avx2,
    .glu = sli_glu_avx2,
    .relu = sli_relu_avx2,
    .rope = sli_rope_avx2,
    .kv_store_k = sli_kv_store_k_avx2,
    .kv_store_v = sli_kv_store_v_avx2,
    .kv_copy_k = sli_kv_copy_k_ref,
    .kv_copy_v = sli_kv_copy_v_ref,
    .kv_turn_k = sli_kv_turn_k_ref,
    .kv_sum_v = sli_kv_sum_v_avx2,
    .attention = sli_attention_avx2,
    .key_scores = sli_key_scores_avx2,
    .softmax = sli_softmax_avx2,
    .pick = sli_pick_ref,
};

/* What both sets with AVX-512 have alike: all but the products of many rows. */
#define AVX512_ENTRIES                                                                                                                     \
    .quantize = sli_quantize_avx512, .pack = sli_pack_avx2, .dot_rows = sli_dot_rows_avx512, .matmul_columns = sli_matmul_columns_avx512,  \
    .dot_signs = sli_dot_signs_avx512, .expand = sli_expand_avx2, .dequantize_row = sli_dequantize_row_ref,                                \
    .dequantize_panel_row = sli_dequantize_panel_row_ref, .rms_norm = sli_rms_norm_avx512, .layer_norm = sli_layer_norm_avx512,            \
    .relu = sli_relu_avx512, .add = sli_add_avx512, .scale = sli_scale_avx512, .glu = sli_glu_avx512, .rope = sli_rope_avx512,             \
    .kv_store_k = sli_kv_store_k_avx512, .kv_store_v = sli_kv_store_v_avx512, .kv_copy_k = sli_kv_copy_k_ref,                              \
    .kv_copy_v = sli_kv_copy_v_ref, .kv_turn_k = sli_kv_turn_k_ref, .kv_sum_v = sli_kv_sum_v_avx512, .attention = sli_attention_avx512,    \
    .key_scores = sli_key_scores_avx512, .softmax = sli_softmax_avx512, .pick = sli_pick_avx512

static const sl_kernels avx512_kernels = {
    .isa = SL_ISA_AVX512,
    .matmul = sli_matmul_avx512,
    AVX512_ENTRIES,
};

static const sl_kernels amx_kernels = {
    .isa = SL_ISA_AMX,
    .matmul = sli_matmul_amx,
    AVX512_ENTRIES,
};
#elif defined(__aarch64__)
/* What both NEON sets have alike: all but where bytes are multiplied. */
#define NEON_ENTRIES                                                                                                                       \
    .quantize = sli_quantize_neon, .pack = sli_pack_neon, .dot_signs = sli_dot_signs_neon, .expand = sli_expand_ref,                       \
    .dequantize_row = sli_dequantize_row_ref, .dequantize_panel_row = sli_dequantize_panel_row_ref, .rms_norm = sli_rms_norm_neon,         \
    .layer_norm = sli_layer_norm_neon, .add = sli_add_neon, .scale = sli_scale_neon, .glu = sli_glu_neon, .relu = sli_relu_neon,           \
    .rope = sli_rope_neon, .kv_store_k = sli_kv_store_k_neon, .kv_store_v = sli_kv_store_v_neon, .kv_copy_k = sli_kv_copy_k_ref,           \
    .kv_copy_v = sli_kv_copy_v_ref, .kv_turn_k = sli_kv_turn_k_ref, .kv_sum_v = sli_kv_sum_v_neon, .attention = sli_attention_neon,        \
    .key_scores = sli_key_scores_neon, .softmax = sli_softmax_neon, .pick = sli_pick_ref

static const sl_kernels neon_kernels = {
    .isa = SL_ISA_NEON,
    .matmul = sli_matmul_neon,
    .dot_rows = sli_dot_rows_neon,
    .matmul_columns = sli_matmul_columns_neon,
    NEON_ENTRIES,
};

static const sl_kernels neon_dotprod_kernels = {
    .isa = SL_ISA_NEON_DOTPROD,
    .matmul = sli_matmul_dotprod,
    .dot_rows = sli_dot_rows_dotprod,
    .matmul_columns = sli_matmul_columns_dotprod,
    NEON_ENTRIES,
};
#endif

const sl_kernels *sl_kernels_for(sl_isa isa)
{
    switch (isa) {
    case SL_ISA_SCALAR: return &scalar_kernels;
#if defined(__x86_64__)
    case SL_ISA_AVX2: return &avx2_kernels;
    case SL_ISA_AVX512: return &avx512_kernels;
    case SL_ISA_AMX: return &amx_kernels;
#elif defined(__aarch64__)
    case SL_ISA_NEON: return &neon_kernels;
    case SL_ISA_NEON_DOTPROD: return &neon_dotprod_kernels;
#endif
    default: return NULL;
    }
}

/* Sixty-four positions of one head's components; q8_0 keeps its quants and then its scales, as kv_store_k describes. */
size_t sl_kv_page_bytes(uint32_t type, uint32_t head_dim)
{
    return SL_KV_PAGE * sl_row_bytes(type, head_dim);
}

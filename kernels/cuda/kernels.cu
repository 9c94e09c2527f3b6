/* kernels/cuda/kernels.cu: the table of all that a device computes. */
#include "kernels/cuda/internal.h"

const sl_device_kernels sli_device_kernels = {
    sli_device_quantize,      sli_device_rms_norm,      sli_device_glu,          sli_device_add,
    sli_device_place,         sli_device_heads,         sli_device_attention,    sli_device_attention_scratch,
    sli_device_kv_copy,       sli_device_kv_bring,      sli_device_sparq,        sli_device_sparq_scratch,
    sli_device_value_sums,    sli_device_pack,          sli_device_matmul,       sli_device_bundle_table,
    sli_device_bundle_settle, sli_device_bundle_gather, sli_device_bundle_pack,  sli_device_bundle_gate_up,
    sli_device_bundle_down,   sli_device_guess_inputs,  sli_device_guess_scores, sli_device_top,
    sli_device_top_scratch,
};

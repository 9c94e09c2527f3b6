/* kernels/cuda/internal.h: the entries of sl_device_kernels, by the file that has them. kernels.cu assembles the table. */
#ifndef SL_KERNELS_CUDA_INTERNAL_H
#define SL_KERNELS_CUDA_INTERNAL_H

#include "kernels/cuda/contract.h"

/* The table, for both runtimes. */
extern const sl_device_kernels sli_device_kernels;

/* elementwise.cu */
sl_status sli_device_quantize(sl_device *dev, const sl_device_acts *x, sl_error *err);
sl_status sli_device_rms_norm(sl_device *dev, const sl_device_norm *job, sl_error *err);
sl_status sli_device_glu(sl_device *dev, const sl_device_glu *job, sl_error *err);
sl_status sli_device_add(sl_device *dev, sl_device_ptr acc, sl_device_ptr x, uint64_t count, sl_error *err);
sl_status sli_device_place(sl_device *dev, sl_device_ptr to, uint32_t to_stride, sl_device_ptr from, uint32_t from_stride, uint32_t cols,
                           uint32_t rows, sl_error *err);
/* heads.cu */
sl_status sli_device_heads(sl_device *dev, const sl_device_heads *job, sl_error *err);
sl_status sli_device_kv_copy(sl_device *dev, const sl_device_kv *kv, const sl_device_key_rows *rows, uint32_t kv_heads, uint32_t head_dim,
                             uint32_t from, uint32_t to, sl_error *err);
/* kv_bring.cu */
sl_status sli_device_kv_bring(sl_device *dev, const sl_device_kv_bring *job, sl_error *err);
sl_status sli_device_kv_gather(sl_device *dev, const sl_device_kv_pages *job, sl_error *err);
sl_status sli_device_kv_scatter(sl_device *dev, const sl_device_kv_pages *job, sl_error *err);
/* heads.cu */
sl_status sli_device_key_index(sl_device *dev, const sl_device_kv *kv, const sl_device_kv *index, uint32_t kv_heads, uint32_t head_dim,
                               uint32_t from, uint32_t to, sl_error *err);
/* sparq_pages.cu */
sl_status sli_device_sparq_pages_choose(sl_device *dev, const sl_device_sparq_pages *s, sl_error *err);
sl_status sli_device_sparq_pages_attend(sl_device *dev, const sl_device_sparq_pages *s, sl_error *err);
uint32_t sli_device_sparq_pages_rows(const sl_device_sparq_pages *s);
uint64_t sli_device_sparq_pages_scratch(const sl_device_sparq_pages *s);
sl_device_ptr sli_device_sparq_pages_lists(const sl_device_sparq_pages *s);
/* attention.cu */
sl_status sli_device_attention(sl_device *dev, const sl_device_attention *job, sl_error *err);
uint64_t sli_device_attention_scratch(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t positions);
/* sparq.cu, sparq_mean.cu */
sl_status sli_device_sparq(sl_device *dev, const sl_device_sparq *job, sl_error *err);
uint64_t sli_device_sparq_scratch(const sl_device_sparq *job);
sl_status sli_device_value_sums(sl_device *dev, const sl_device_kv *kv, uint32_t kv_heads, uint32_t head_dim, sl_device_ptr sums,
                                uint32_t sums_pages, uint32_t from, uint32_t to, sl_error *err);

/* Products: pack.cu, matmul*.cu, bundles.cu, guess.cu, top.cu */
sl_status sli_device_pack(sl_device *dev, uint32_t type, sl_device_ptr from, uint64_t stride, uint32_t rows, uint32_t cols,
                          sl_device_ptr panels, sl_error *err);
sl_status sli_device_matmul(sl_device *dev, const sl_device_product *products, uint32_t count, const sl_device_acts *x, sl_error *err);
sl_status sli_device_bundle_table(sl_device *dev, const sl_device_ptr *units, uint32_t count, uint32_t per_unit, uint32_t stride,
                                  sl_device_ptr place_of, uint32_t ff, sl_device_ptr nowhere, sl_device_ptr at, sl_error *err);
sl_status sli_device_bundle_count(sl_device *dev, sl_device_ptr at, sl_device_ptr nowhere, sl_device_ptr neurons, uint32_t count,
                                  uint32_t times, sl_device_ptr sum, sl_error *err);
sl_status sli_device_bundle_settle(sl_device *dev, sl_device_ptr holders, uint32_t slots, uint32_t fresh, const sl_device_ptr *units,
                                   uint32_t per_unit, uint32_t stride, sl_device_ptr at, sl_device_ptr also, sl_error *err);
sl_status sli_device_bundle_gather(sl_device *dev, sl_device_ptr neurons, uint32_t count, uint32_t stride, sl_device_ptr from,
                                   sl_device_ptr to, sl_device_ptr at, sl_error *err);
sl_status sli_device_bundle_pack(sl_device *dev, uint32_t type, sl_device_ptr at, uint32_t offset, uint32_t rows, uint32_t cols,
                                 sl_device_ptr panels, sl_error *err);
sl_status sli_device_bundle_gate_up(sl_device *dev, const sl_device_bundles *b, sl_glu act, sl_device_ptr neurons, uint32_t count,
                                    const sl_device_acts *x, sl_device_ptr h, sl_error *err);
sl_status sli_device_bundle_down(sl_device *dev, const sl_device_bundles *b, sl_device_ptr neurons, uint32_t count, const sl_device_acts *h,
                                 sl_device_ptr out, bool add, sl_error *err);
sl_status sli_device_guess_inputs(sl_device *dev, sl_device_ptr x, sl_device_ptr select, sl_device_ptr factors, const sl_device_acts *out,
                                  sl_error *err);
sl_status sli_device_guess_scores(sl_device *dev, const sl_device_guess *g, sl_glu act, const sl_device_acts *x, sl_device_ptr scores,
                                  sl_error *err);
sl_status sli_device_top(sl_device *dev, sl_device_ptr scores, uint32_t count, uint32_t keep, sl_device_ptr members, sl_device_ptr clear,
                         sl_device_ptr scratch, sl_error *err);
uint64_t sli_device_top_scratch(uint32_t count);

#endif

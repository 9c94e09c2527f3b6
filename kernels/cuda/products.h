/* kernels/cuda/products.h: the products of one launch, all of one format: which panels there are, and where a result goes. */
#ifndef SL_KERNELS_CUDA_PRODUCTS_H
#define SL_KERNELS_CUDA_PRODUCTS_H

#include "kernels/cuda/internal.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/segment.h"

struct sli_product {
    const uint8_t *panels;
    float *out;
    const float *bias, *add;
    uint32_t rows, out_stride;
    uint32_t end; /* panels of this product and of those before it */
};

struct sli_products {
    uint32_t count, panels;
    sli_product of[SL_DEVICE_PRODUCTS];
};

/* What a thread block works on: a panel and its place in its product. */
struct sli_panel {
    const sli_product *product;
    const uint8_t *bytes;
    uint32_t first_row; /* of the panel in the matrix */
};

template <uint32_t TYPE> SLI_DEVICE sli_panel sli_find_panel(const sli_products &products, uint32_t cols, uint32_t panel)
{
    constexpr sli_form form = sli_form_of(TYPE);
    uint32_t i = 0;
    while (panel >= products.of[i].end)
        i++;
    uint32_t index = panel - (i > 0 ? products.of[i - 1].end : 0);
    size_t panel_bytes = (size_t)(cols / form.elements) * form.bytes * SL_PANEL_ROWS;
    return {&products.of[i], products.of[i].panels + index * panel_bytes, index * SL_PANEL_ROWS};
}

/* The total of row `row` for row `a` of activations. */
SLI_DEVICE void sli_put_result(const sli_product &product, uint32_t row, uint32_t a, float total)
{
    if (row >= product.rows)
        return;
    size_t at = (size_t)a * product.out_stride + row;
    if (product.bias != NULL)
        total = total + product.bias[row];
    product.out[at] = product.add != NULL ? product.add[at] + total : total;
}

/* matmul_rows.cu: few rows, or floats. matmul_tiles.cu: more rows. matmul_batch.cu: many. `memory_bytes` as in launch.h. */
sl_status sli_matmul_rows(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                          sl_error *err);
sl_status sli_matmul_tiles(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                           sl_error *err);
sl_status sli_matmul_batch(sl_device *dev, uint32_t type, const sli_products *products, const sli_acts_view *x, uint64_t memory_bytes,
                           sl_error *err);

/* Calls `call<TYPE>` with the arguments for a quantised format. */
#define SLI_FOR_QUANTIZED(type, call, ...)                                                                                                 \
    switch (type) {                                                                                                                        \
    case SL_TYPE_Q4_0: return call<SL_TYPE_Q4_0>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q4_1: return call<SL_TYPE_Q4_1>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q5_0: return call<SL_TYPE_Q5_0>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q5_1: return call<SL_TYPE_Q5_1>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q8_0: return call<SL_TYPE_Q8_0>(__VA_ARGS__);                                                                             \
    case SL_TYPE_IQ4_NL: return call<SL_TYPE_IQ4_NL>(__VA_ARGS__);                                                                         \
    case SL_TYPE_Q2_K: return call<SL_TYPE_Q2_K>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q3_K: return call<SL_TYPE_Q3_K>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q4_K: return call<SL_TYPE_Q4_K>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q5_K: return call<SL_TYPE_Q5_K>(__VA_ARGS__);                                                                             \
    case SL_TYPE_Q6_K: return call<SL_TYPE_Q6_K>(__VA_ARGS__);                                                                             \
    case SL_TYPE_IQ4_XS: return call<SL_TYPE_IQ4_XS>(__VA_ARGS__);                                                                         \
    default: break;                                                                                                                        \
    }

#endif

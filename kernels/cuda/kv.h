/* kernels/cuda/kv.h: pages of keys and values, as kernels.h lays them out, on a device. */
#ifndef SL_KERNELS_CUDA_KV_H
#define SL_KERNELS_CUDA_KV_H

#include "kernels/cuda/device_code.h"

/* A layer's cache as a kernel's argument. */
struct sli_kv {
    uint8_t *base;
    uint32_t k_type, v_type;
    uint64_t head_stride, v_offset, k_page_bytes, v_page_bytes;
};
static inline sli_kv sli_kv_of(const sl_device_kv *kv)
{
    return {(uint8_t *)(uintptr_t)kv->base, kv->k_type, kv->v_type, kv->head_stride, kv->v_offset, kv->k_page_bytes, kv->v_page_bytes};
}
SLI_DEVICE uint8_t *sli_k_page(const sli_kv &kv, uint32_t head, uint32_t slot)
{
    return kv.base + head * kv.head_stride + slot / SL_KV_PAGE * kv.k_page_bytes;
}
SLI_DEVICE uint8_t *sli_v_page(const sli_kv &kv, uint32_t head, uint32_t slot)
{
    return kv.base + head * kv.head_stride + kv.v_offset + slot / SL_KV_PAGE * kv.v_page_bytes;
}

SLI_DEVICE bool sli_kv_has_scales(uint32_t type)
{
    return type == SL_TYPE_Q8_0 || type == SL_TYPE_Q4_0;
}
/* A vector's units: floats, halves or bytes; a byte of q4_0 has two components. */
SLI_DEVICE uint32_t sli_kv_units(uint32_t type, uint32_t head_dim)
{
    return type == SL_TYPE_Q4_0 ? head_dim / 2 : head_dim;
}
SLI_DEVICE uint32_t sli_kv_unit_bytes(uint32_t type)
{
    return type == SL_TYPE_F32 ? 4 : type == SL_TYPE_F16 || type == SL_TYPE_BF16 ? 2 : 1;
}

/* A vector's way into a page: unit u lies at unit0 + u * unit_step, the scale of block b, a half, at scale0 + b * scale_step. */
struct sli_kv_place {
    uint8_t *page;
    uint16_t *scales;
    uint32_t unit0, unit_step, scale0, scale_step;
};
SLI_DEVICE sli_kv_place sli_kv_place_of(bool key, uint32_t type, uint8_t *page, uint32_t slot, uint32_t head_dim)
{
    uint32_t index = slot % SL_KV_PAGE, units = sli_kv_units(type, head_dim);
    uint16_t *scales = (uint16_t *)(page + SL_KV_PAGE * units);
    if (key)
        return {page, scales, index, SL_KV_PAGE, index, SL_KV_PAGE};
    return {page, scales, index * units, 1, index * (head_dim / SL_ACT_BLOCK), 1};
}

#endif

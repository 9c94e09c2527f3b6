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

/* Keys once more, each in one piece, as a kernel's argument; base NULL: there are none. */
struct sli_key_rows {
    uint8_t *base;
    uint64_t head_stride, page_bytes;
};
static inline sli_key_rows sli_key_rows_of(const sl_device_key_rows *rows)
{
    return {(uint8_t *)(uintptr_t)rows->base, rows->head_stride, rows->page_bytes};
}
SLI_DEVICE uint8_t *sli_key_row_page(const sli_key_rows &rows, uint32_t head, uint32_t slot)
{
    return rows.base + head * rows.head_stride + slot / SL_KV_PAGE * rows.page_bytes;
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
__host__ __device__ constexpr uint32_t sli_kv_unit_bytes(uint32_t type)
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

/* Component c, widened as D5 has it. */
template <uint32_t TYPE> SLI_DEVICE float sli_kv_float(const sli_kv_place &at, uint32_t c)
{
    uint32_t unit = TYPE == SL_TYPE_Q4_0 ? c / SL_ACT_BLOCK * (SL_ACT_BLOCK / 2) + c % (SL_ACT_BLOCK / 2) : c;
    uint32_t where = at.unit0 + unit * at.unit_step;
    if (TYPE == SL_TYPE_F32)
        return ((const float *)at.page)[where];
    if (TYPE == SL_TYPE_F16)
        return sli_f16_to_f32(((const uint16_t *)at.page)[where]);
    if (TYPE == SL_TYPE_BF16)
        return sli_bf16_to_f32(((const uint16_t *)at.page)[where]);
    float d = sli_f16_to_f32(at.scales[at.scale0 + c / SL_ACT_BLOCK * at.scale_step]);
    uint32_t byte = at.page[where], shift = c % SL_ACT_BLOCK < SL_ACT_BLOCK / 2 ? 0 : 4;
    return d * (TYPE == SL_TYPE_Q4_0 ? (float)((int)(byte >> shift & 15) - 8) : (float)(int8_t)byte);
}

template <typename U>
SLI_DEVICE void sli_kv_copy_units(const sli_kv_place &from, const sli_kv_place &to, uint32_t units, uint32_t first, uint32_t step)
{
    for (uint32_t u = first; u < units; u += step)
        ((U *)to.page)[to.unit0 + u * to.unit_step] = ((const U *)from.page)[from.unit0 + u * from.unit_step];
}
/* A vector as it is stored, by `step` threads, of which this one is number `first`. */
SLI_DEVICE void sli_kv_copy_vector(uint32_t type, const sli_kv_place &from, const sli_kv_place &to, uint32_t head_dim, uint32_t first,
                                   uint32_t step)
{
    uint32_t units = sli_kv_units(type, head_dim), blocks = sli_kv_has_scales(type) ? head_dim / SL_ACT_BLOCK : 0;
    switch (sli_kv_unit_bytes(type)) {
    case 4: sli_kv_copy_units<uint32_t>(from, to, units, first, step); break;
    case 2: sli_kv_copy_units<uint16_t>(from, to, units, first, step); break;
    default: sli_kv_copy_units<uint8_t>(from, to, units, first, step);
    }
    for (uint32_t b = first; b < blocks; b += step)
        to.scales[to.scale0 + b * to.scale_step] = from.scales[from.scale0 + b * from.scale_step];
}

/* fn<TYPE>(...) for a type of the cache. */
#define SLI_FOR_KV_TYPE(type, fn, ...)                                                                                                     \
    ((type) == SL_TYPE_F32    ? fn<SL_TYPE_F32>(__VA_ARGS__)                                                                               \
     : (type) == SL_TYPE_F16  ? fn<SL_TYPE_F16>(__VA_ARGS__)                                                                               \
     : (type) == SL_TYPE_BF16 ? fn<SL_TYPE_BF16>(__VA_ARGS__)                                                                              \
     : (type) == SL_TYPE_Q8_0 ? fn<SL_TYPE_Q8_0>(__VA_ARGS__)                                                                              \
                              : fn<SL_TYPE_Q4_0>(__VA_ARGS__))

#endif

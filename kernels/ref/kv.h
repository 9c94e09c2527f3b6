/* kernels/ref/kv.h: what a page of keys or values holds, element by element; kv.c knows where it lies. */
#ifndef SL_KERNELS_REF_KV_H
#define SL_KERNELS_REF_KV_H

#include <stdint.h>

/* Component c of the key, or the value, in slot `index` of a page, widened to fp32 as D5 says. */
float sli_kv_key_ref(uint32_t type, const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim);
float sli_kv_value_ref(uint32_t type, const uint8_t *page, uint32_t index, uint32_t c, uint32_t head_dim);

#endif

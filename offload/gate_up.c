/* offload/gate_up.c: see gate_up.h. */
#include "offload/gate_up.h"

#define TOGETHER SLI_GATE_UP_BUNDLES

/* Of one type: gate and up rows in turn, as they lie. */
static void multiply_pairs(const sl_kernels *kernels, const sl_packed_layer *l, const sl_acts *x, const uint8_t *const *bundles,
                           uint32_t count, float *gate, float *up)
{
    const uint8_t *rows[2 * TOGETHER] = {NULL}; /* for compilers that do not see that the first of them are set below */
    float products[2 * TOGETHER];
    for (uint32_t i = 0; i < count; i++) {
        rows[2 * i] = bundles[i];
        rows[2 * i + 1] = bundles[i] + l->gate_bytes;
    }
    kernels->dot_rows(l->gate_type, rows, 2 * count, x, products);
    for (uint32_t i = 0; i < count; i++) {
        gate[i] = products[2 * i];
        up[i] = products[2 * i + 1];
    }
}

static void multiply_apart(const sl_kernels *kernels, const sl_packed_layer *l, const sl_acts *x, const uint8_t *const *bundles,
                           uint32_t count, float *gate, float *up)
{
    const uint8_t *up_rows[TOGETHER] = {NULL};
    for (uint32_t i = 0; i < count; i++)
        up_rows[i] = bundles[i] + l->gate_bytes;
    kernels->dot_rows(l->gate_type, bundles, count, x, gate);
    kernels->dot_rows(l->up_type, up_rows, count, x, up);
}

void sli_gate_up(const sl_kernels *kernels, const sl_packed_layer *layer, const sl_acts *x, const uint8_t *const *bundles, uint32_t count,
                 float *gate, float *up)
{
    for (uint32_t first = 0; first < count; first += TOGETHER) {
        uint32_t n = count - first < TOGETHER ? count - first : TOGETHER;
        if (layer->gate_type == layer->up_type)
            multiply_pairs(kernels, layer, x, bundles + first, n, gate + first, up + first);
        else
            multiply_apart(kernels, layer, x, bundles + first, n, gate + first, up + first);
    }
}

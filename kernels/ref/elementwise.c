/* kernels/ref/elementwise.c: what happens to a vector between two products (D4, D6, D7): norms, addition, scaling, gated units and relu,
 * rotary positions. This is the definition in executable form; the vector kernels equal it bit for bit. */
#include "kernels/exp.h"
#include "kernels/internal.h"

#define LANES 16 /* of a sum (D4) */

/* Halves folded onto each other until one lane is left. The order is that of a vector reduction. */
static float fold_lanes(float lanes[LANES])
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0];
}

void sli_rms_norm_ref(const float *x, const float *w, uint32_t n, float eps, float *out)
{
    float lanes[LANES] = {0};
    for (uint32_t i = 0; i < n; i++)
        lanes[i % LANES] = fmaf(x[i], x[i], lanes[i % LANES]);
    float inverse = 1.0f / sqrtf(fold_lanes(lanes) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        out[i] = (x[i] * inverse) * w[i];
}

void sli_layer_norm_ref(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out)
{
    float sums[LANES] = {0}, squares[LANES] = {0};
    for (uint32_t i = 0; i < n; i++)
        sums[i % LANES] += x[i];
    float mean = fold_lanes(sums) / (float)n;
    for (uint32_t i = 0; i < n; i++)
        squares[i % LANES] = fmaf(x[i] - mean, x[i] - mean, squares[i % LANES]);
    float inverse = 1.0f / sqrtf(fold_lanes(squares) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) {
        float scaled = (x[i] - mean) * inverse;
        out[i] = b != NULL ? fmaf(scaled, w[i], b[i]) : scaled * w[i];
    }
}

void sli_add_ref(float *acc, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += x[i];
}

void sli_scale_ref(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static float silu(float x)
{
    return x / (1.0f + sli_exp(-x));
}

static float gelu_tanh(float x)
{
    float twice_u = x * fmaf(x * x, SLI_GELU_CUBIC, SLI_GELU_LINEAR);
    return x / (1.0f + sli_exp(-twice_u));
}

void sli_glu_ref(sl_glu act, const float *gate, const float *up, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (act == SL_GLU_SILU ? silu(gate[i]) : gelu_tanh(gate[i])) * up[i];
}

void sli_relu_ref(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? 0.0f : x[i];
}

void sli_rope_ref(sl_rope kind, float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, const float *cos, const float *sin)
{
    uint32_t pairs = rope_dim / 2;
    uint32_t step = kind == SL_ROPE_PAIRS ? 2 : 1;         /* from a pair to the next */
    uint32_t distance = kind == SL_ROPE_PAIRS ? 1 : pairs; /* inside a pair */
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < pairs; i++) {
            float *first = x + (size_t)h * head_dim + i * step, *second = first + distance;
            float x0 = *first, x1 = *second;
            *first = fmaf(x0, cos[i], -(x1 * sin[i]));
            *second = fmaf(x0, sin[i], x1 * cos[i]);
        }
    }
}

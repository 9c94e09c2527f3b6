/* kernels/cpu/vector_elementwise.h: kernels/ref/elementwise.c on registers (D4, D6, D7).
 *
 * Included by one file per instruction set, after its vector_lanes_*.h. Elements that fill no register are computed one by one with
 * the same operations. */
#ifndef SL_KERNELS_CPU_VECTOR_ELEMENTWISE_H
#define SL_KERNELS_CPU_VECTOR_ELEMENTWISE_H

#include "kernels/cpu/vector_exp.h"
#include "kernels/internal.h"

#define SUM_LANES 16 /* of a sum (D4) */

static float sum_of(const float *x, uint32_t n)
{
    vf acc[SUM_VECS] = {0};
    uint32_t i = 0;
    for (; i + SUM_LANES <= n; i += SUM_LANES) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < SUM_VECS; v++)
            acc[v] += vf_load(x + i + v * LANES);
    }
    /* acc + 0 is acc, which is never -0: the missing elements may be zeros. */
    float tail[SUM_LANES] = {0};
    for (uint32_t j = 0; i + j < n; j++)
        tail[j] = x[i + j];
#pragma GCC unroll 4
    for (uint32_t v = 0; v < SUM_VECS; v++)
        acc[v] += vf_load(tail + v * LANES);
    return fold_sum(acc);
}

/* Of x less the mean; x - 0 is x. */
static inline float sum_of_squares(const float *x, float mean, uint32_t n)
{
    vf acc[SUM_VECS] = {0};
    uint32_t i = 0;
    for (; i + SUM_LANES <= n; i += SUM_LANES) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < SUM_VECS; v++) {
            vf part = vf_load(x + i + v * LANES) - vf_splat(mean);
            acc[v] = vf_fma(part, part, acc[v]);
        }
    }
    /* fma(0, 0, acc) is acc: the missing elements may be zeros. */
    float tail[SUM_LANES] = {0};
    for (uint32_t j = 0; i + j < n; j++)
        tail[j] = x[i + j] - mean;
#pragma GCC unroll 4
    for (uint32_t v = 0; v < SUM_VECS; v++) {
        vf part = vf_load(tail + v * LANES);
        acc[v] = vf_fma(part, part, acc[v]);
    }
    return fold_sum(acc);
}

void SLI_NAME(rms_norm)(const float *x, const float *w, uint32_t n, float eps, float *out)
{
    float inverse = 1.0f / sqrtf(sum_of_squares(x, 0.0f, n) / (float)n + eps);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(out + i, (vf_load(x + i) * vf_splat(inverse)) * vf_load(w + i));
    for (; i < n; i++)
        out[i] = (x[i] * inverse) * w[i];
}

/* With b NULL there are no biases. */
void SLI_NAME(layer_norm)(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out)
{
    float mean = sum_of(x, n) / (float)n, inverse = 1.0f / sqrtf(sum_of_squares(x, mean, n) / (float)n + eps);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf scaled = (vf_load(x + i) - vf_splat(mean)) * vf_splat(inverse);
        vf_store(out + i, b != NULL ? vf_fma(scaled, vf_load(w + i), vf_load(b + i)) : scaled * vf_load(w + i));
    }
    for (; i < n; i++) {
        float scaled = (x[i] - mean) * inverse;
        out[i] = b != NULL ? fmaf(scaled, w[i], b[i]) : scaled * w[i];
    }
}

void SLI_NAME(add)(float *acc, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(acc + i, vf_load(acc + i) + vf_load(x + i));
    for (; i < n; i++)
        acc[i] += x[i];
}

void SLI_NAME(scale)(float *x, float factor, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(x + i, vf_load(x + i) * vf_splat(factor));
    for (; i < n; i++)
        x[i] *= factor;
}

static inline vf silu(vf x)
{
    return x / (vf_splat(1.0f) + vf_exp(-x));
}

static inline vf gelu_tanh(vf x)
{
    vf twice_u = x * vf_fma(x * x, vf_splat(SLI_GELU_CUBIC), vf_splat(SLI_GELU_LINEAR));
    return x / (vf_splat(1.0f) + vf_exp(-twice_u));
}

/* The last elements travel through a register of their own, filled up with zeros. */
#define GLU_LOOP(act)                                                                                                                      \
    do {                                                                                                                                   \
        size_t i = 0;                                                                                                                      \
        for (; i + LANES <= n; i += LANES)                                                                                                 \
            vf_store(out + i, act(vf_load(gate + i)) * vf_load(up + i));                                                                   \
        if (i == n)                                                                                                                        \
            return;                                                                                                                        \
        float rest[LANES] = {0};                                                                                                           \
        memcpy(rest, gate + i, (n - i) * sizeof *rest);                                                                                    \
        vf_store(rest, act(vf_load(rest)));                                                                                                \
        for (size_t j = 0; i + j < n; j++)                                                                                                 \
            out[i + j] = rest[j] * up[i + j];                                                                                              \
    } while (0)

void SLI_NAME(glu)(sl_glu act, const float *gate, const float *up, size_t n, float *out)
{
    if (act == SL_GLU_SILU)
        GLU_LOOP(silu);
    else
        GLU_LOOP(gelu_tanh);
}

void SLI_NAME(relu)(float *x, size_t n)
{
    const vf zero = vf_splat(0.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf part = vf_load(x + i);
        vf_store(x + i, vf_select_less(part, zero, zero, part));
    }
    for (; i < n; i++)
        x[i] = x[i] < 0 ? 0.0f : x[i];
}

/* Neighbours are a pair: a register holds LANES / 2 of them. y = x_even * (c, s, c, s..) -/+ x_odd * (s, c, s, c..). */
static void rope_pairs(float *x, uint32_t pairs, const float *cos, const float *sin)
{
    uint32_t i = 0;
    for (; i + LANES / 2 <= pairs; i += LANES / 2) {
        vf both = vf_load(x + 2 * i);
        vf cs = vf_load_zipped(cos + i, sin + i), sc = vf_load_zipped(sin + i, cos + i);
        vf_store(x + 2 * i, vf_fma_alternate(vf_even_twice(both), cs, vf_odd_twice(both) * sc));
    }
    for (; i < pairs; i++) {
        float x0 = x[2 * i], x1 = x[2 * i + 1];
        x[2 * i] = fmaf(x0, cos[i], -(x1 * sin[i]));
        x[2 * i + 1] = fmaf(x0, sin[i], x1 * cos[i]);
    }
}

static void rope_halves(float *x, uint32_t pairs, const float *cos, const float *sin)
{
    float *second = x + pairs;
    uint32_t i = 0;
    for (; i + LANES <= pairs; i += LANES) {
        vf x0 = vf_load(x + i), x1 = vf_load(second + i), c = vf_load(cos + i), s = vf_load(sin + i);
        vf_store(x + i, vf_fma(x0, c, -(x1 * s)));
        vf_store(second + i, vf_fma(x0, s, x1 * c));
    }
    for (; i < pairs; i++) {
        float x0 = x[i], x1 = second[i];
        x[i] = fmaf(x0, cos[i], -(x1 * sin[i]));
        second[i] = fmaf(x0, sin[i], x1 * cos[i]);
    }
}

void SLI_NAME(rope)(sl_rope kind, float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, const float *cos, const float *sin)
{
    for (uint32_t h = 0; h < heads; h++) {
        if (kind == SL_ROPE_PAIRS)
            rope_pairs(x + (size_t)h * head_dim, rope_dim / 2, cos, sin);
        else
            rope_halves(x + (size_t)h * head_dim, rope_dim / 2, cos, sin);
    }
}

#endif

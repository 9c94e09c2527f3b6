/* kernels/exp.h: the exponential function of every kernel (D6).
 *
 * libm's expf differs between versions and processors. This one is a fixed sequence of IEEE operations, all of them fp32 and rounded
 * to nearest, so that a vector lane on any machine repeats it bit for bit:
 *
 *     n = x * log2(e) rounded to an integer     one fma onto 1.5 * 2^23: the sum's last bit is worth 1, so the rounding is the fma's own
 *     r = x - n * ln 2                          in two fma; the high part of ln 2 has 15 bits, so that the first is exact
 *     p = 1 + r * (1 + r * q(r))                Horner, |r| <= ln 2 / 2; q has degree 4, its coefficients are a minimax fit of the
 *                                               relative error of p (0.05 ulp before rounding)
 *     exp(x) = p * 2^n                          n is added to p's exponent field: exact, because the result is always a normal number
 *
 * Largest error 1 ulp. exp(0) is exactly 1. Below SLI_EXP_MIN, where results would become denormal, the value is exactly 0
 * (so also at -inf); from SLI_EXP_LIMIT on it is +inf; a NaN gives a NaN.
 *
 * kernels/cpu/vector_exp.h repeats sli_exp with vectors; the tests compare them over all exponents. */
#ifndef SL_KERNELS_EXP_H
#define SL_KERNELS_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define SLI_EXP_MIN      (-87.3365f)   /* just above ln(2^-126) = -87.33654.., so that p * 2^n cannot fall below the normal numbers */
#define SLI_EXP_LIMIT    0x1.62e43p+6f /* the smallest float whose exponential is above the largest float */
#define SLI_EXP_LOG2E    0x1.715476p+0f
#define SLI_EXP_ROUND    0x1.8p+23f
#define SLI_EXP_LN2_HIGH 0x1.62e4p-1f
#define SLI_EXP_LN2_LOW  0x1.7f7d1cp-20f
#define SLI_EXP_Q0       0x1.fffffcp-2f
#define SLI_EXP_Q1       0x1.555492p-3f
#define SLI_EXP_Q2       0x1.5558f2p-5f
#define SLI_EXP_Q3       0x1.123a2p-7f
#define SLI_EXP_Q4       0x1.6a23dp-10f

/* gelu_tanh(x) = x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), which is x / (1 + exp(-2u)). With x^2 taken out,
 * 2u = x * fma(x * x, SLI_GELU_CUBIC, SLI_GELU_LINEAR). */
#define SLI_GELU_LINEAR 0x1.988454p+0f /* 2 * sqrt(2 / pi) */
#define SLI_GELU_CUBIC  0x1.2444f2p-4f /* that times 0.044715 */

/* What compiles this for a device says how functions are declared there. */
#ifndef SLI_EXP_FUNCTION
#define SLI_EXP_FUNCTION static inline
#endif

SLI_EXP_FUNCTION float sli_exp(float x)
{
    float shifted = fmaf(x, SLI_EXP_LOG2E, SLI_EXP_ROUND);
    float n = shifted - SLI_EXP_ROUND;
    float r = fmaf(n, -SLI_EXP_LN2_HIGH, x);
    r = fmaf(n, -SLI_EXP_LN2_LOW, r);

    float p = SLI_EXP_Q4;
    p = fmaf(p, r, SLI_EXP_Q3);
    p = fmaf(p, r, SLI_EXP_Q2);
    p = fmaf(p, r, SLI_EXP_Q1);
    p = fmaf(p, r, SLI_EXP_Q0);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);

    /* shifted's low bits hold n in two's complement; everything above them is shifted out. */
    uint32_t p_bits, n_bits;
    memcpy(&p_bits, &p, sizeof p_bits);
    memcpy(&n_bits, &shifted, sizeof n_bits);
    p_bits += n_bits << 23;
    memcpy(&p, &p_bits, sizeof p);

    if (x < SLI_EXP_MIN)
        return 0.0f;
    return x < SLI_EXP_LIMIT ? p : x * INFINITY;
}

#endif

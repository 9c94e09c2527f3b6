/* core/mathx.c: exp, log, pow, tanh, sin and cos as fixed sequences of IEEE operations.
 *
 * Every function has the same three steps: bring the argument into a small interval where a short polynomial is exact enough, evaluate
 * the polynomial (Taylor's: its coefficients need no table to be believed), undo the first step. What costs accuracy is step one, so the
 * reduced argument is carried as an unevaluated sum hi + lo of two doubles wherever one would not do.
 *
 * Only +, -, *, / and explicit fma() are used, each correctly rounded by IEEE 754, and the build forbids contraction; so the bits do not
 * depend on compiler, libm or processor. tests/test_mathx.c pins some of them. */
#include "core/mathx.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LN2_HI      0x1.62e42fefa39efp-1
#define LN2_LO      0x1.abc9e3b39803fp-56
#define LOG2_E      0x1.71547652b82fep+0
#define TWO_OVER_PI 0x1.45f306dc9c883p-1
/* pi/2 = PIO2_1 + PIO2_2 + PIO2_3 to 161 bits; each is the nearest double to what the ones before leave. */
#define PIO2_1 0x1.921fb54442d18p+0
#define PIO2_2 0x1.1a62633145c07p-54
#define PIO2_3 (-0x1.f1976b7ed8fbcp-110)

/* An unevaluated sum; |lo| is at most half an ulp of hi. */
typedef struct pair {
    double hi, lo;
} pair;

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static pair sum(double a, double b) /* exact, whatever the magnitudes */
{
    double hi = a + b;
    double b_part = hi - a;
    return (pair){hi, (a - (hi - b_part)) + (b - b_part)};
}

static pair product(double a, double b) /* exact */
{
    double hi = a * b;
    return (pair){hi, fma(a, b, -hi)};
}

static pair pair_product(pair a, pair b) /* to about 2^-104 */
{
    pair p = product(a.hi, b.hi);
    double lo = p.lo + fma(a.hi, b.lo, a.lo * b.hi);
    double hi = p.hi + lo;
    return (pair){hi, lo - (hi - p.hi)};
}

/* coefficients[0] + x * (coefficients[1] + ...), by Horner with fma. */
static double polynomial(double x, const double *coefficients, int count)
{
    double value = coefficients[count - 1];
    for (int i = count - 2; i >= 0; i--)
        value = fma(value, x, coefficients[i]);
    return value;
}

/* x * 2^k for -1100 < k < 1100: two factors, because 2^k itself may be out of range. */
static double scale(double x, int k)
{
    int half = k / 2;
    return x * double_of((uint64_t)(1023 + half) << 52) * double_of((uint64_t)(1023 + k - half) << 52);
}

/* (exp(r) - 1 - r) / r^2 over |r| <= ln(2)/2: the next term would be 2^-60 of the sum. */
static double exp_tail(double r)
{
    static const double c[] = {
        1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,        1.0 / 720,         1.0 / 5040,
        1.0 / 40320.0, 1.0 / 362880.0, 1.0 / 3628800.0, 1.0 / 39916800.0, 1.0 / 479001600.0, 1.0 / 6227020800.0,
    };
    return polynomial(r, c, (int)(sizeof c / sizeof *c));
}

/* hi + lo = k ln2 + r with |r| <= ln(2)/2 (a little more by rounding); the caller keeps |hi| below 800. */
static pair reduce_by_ln2(double hi, double lo, int *k)
{
    double n = rint(hi * LOG2_E);
    *k = (int)n;
    /* n has 11 bits and hi - n*LN2_HI cancels: the fma's result is exact but for its last bits, which `sum` does not need. */
    pair r = sum(fma(-n, LN2_HI, hi), fma(-n, LN2_LO, lo));
    return r;
}

static double exp_pair(double hi, double lo)
{
    if (hi > 710.0)
        return INFINITY;
    if (hi < -746.0)
        return 0.0;
    int k;
    pair r = reduce_by_ln2(hi, lo, &k);
    /* The large part, 1 + r, is summed exactly; only its small remainder and the tail are rounded into the result. */
    pair head = sum(1.0, r.hi);
    double small = head.lo + fma(r.hi * r.hi, exp_tail(r.hi), fma(r.lo, r.hi, r.lo));
    return scale(head.hi + small, k);
}

double sl_exp(double x)
{
    return x != x ? x : exp_pair(x, 0.0);
}

/* x = 2^e * (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); x is positive and finite. */
static double split(double x, int *e)
{
    int bias = 1023;
    if (x < 0x1p-1022) { /* subnormal: bring it into the normal range first */
        x *= 0x1p54;
        bias += 54;
    }
    uint64_t bits = bits_of(x);
    *e = (int)(bits >> 52) - bias;
    double m = double_of((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        *e += 1;
    }
    return m - 1.0;
}

/* ln(1+f) = 2 atanh(s) with s = f/(2+f), |s| < 0.172: 2s (1 + z/3 + z^2/5 + ...), z = s^2. This is the series after z/3, over z. */
static double atanh_tail(double z)
{
    static const double c[] = {
        1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25,
    };
    return polynomial(z, c, (int)(sizeof c / sizeof *c));
}

static double log_special(double x) /* what sl_log gives for 0, negatives, infinity and NaN */
{
    if (x == 0.0)
        return -INFINITY;
    return x < 0.0 ? NAN : x;
}

double sl_log(double x)
{
    if (!(x > 0.0 && x < INFINITY))
        return log_special(x);
    int e;
    double f = split(x, &e);
    double s = f / (2.0 + f);
    double z = s * s;
    double series = z * fma(z, atanh_tail(z), 1.0 / 3);
    /* 2s = f - s f, so ln(1+f) = f - s (f - 2 series): f is exact, and the rest is small beside it. */
    double rest = s * fma(-2.0, series, f);
    if (e == 0)
        return f - rest;
    pair head = product((double)e, LN2_HI);
    pair total = sum(head.hi, f);
    return total.hi + (total.lo + (head.lo + fma((double)e, LN2_LO, -rest)));
}

/* ln(x) to about 2^-66: what the exponent of pow multiplies must be as good. */
static pair log_pair(double x)
{
    int e;
    double f = split(x, &e);
    pair d = sum(2.0, f);
    pair s = {f / d.hi, 0.0};
    s.lo = (fma(-s.hi, d.hi, f) - s.hi * d.lo) / d.hi;
    pair z = pair_product(s, s);
    pair third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
    pair series = sum(third.hi, z.hi * atanh_tail(z.hi));
    series.lo += third.lo;
    pair factor = pair_product(z, series); /* ln(1+f) = 2s (1 + factor) */
    pair correction = pair_product(s, factor);

    pair head = product((double)e, LN2_HI);
    pair a = sum(head.hi, 2.0 * s.hi);
    pair b = sum(a.hi, 2.0 * correction.hi);
    double lo = b.lo + (a.lo + (head.lo + fma((double)e, LN2_LO, 2.0 * (s.lo + correction.lo))));
    double hi = b.hi + lo;
    return (pair){hi, lo - (hi - b.hi)};
}

static double pow_special(double base, double exponent) /* an argument that is 0, negative, infinite or NaN */
{
    if (base != base || exponent != exponent || base < 0.0)
        return NAN;
    double log_sign = base < 1.0 ? -1.0 : 1.0;
    return log_sign * exponent > 0.0 ? INFINITY : 0.0;
}

double sl_pow(double base, double exponent)
{
    if (exponent == 0.0 || base == 1.0)
        return 1.0;
    if (!(base > 0.0 && base < INFINITY) || !(exponent > -INFINITY && exponent < INFINITY))
        return pow_special(base, exponent);
    pair l = log_pair(base);
    pair p = product(exponent, l.hi);
    if (!(p.hi < 800.0 && p.hi > -800.0)) /* out of range, and the low part may be NaN */
        return p.hi > 0.0 ? INFINITY : 0.0;
    return exp_pair(p.hi, fma(exponent, l.lo, p.lo));
}

/* exp(x) - 1 for 0 <= x < 2, as a pair: the quotient that tanh makes of it rounds again. */
static pair expm1_pair(double x)
{
    int k;
    pair r = reduce_by_ln2(x, 0.0, &k);
    double two_k = scale(1.0, k);
    pair head = sum(two_k - 1.0, two_k * r.hi);
    double small = fma(r.hi * r.hi, exp_tail(r.hi), fma(r.lo, r.hi, r.lo));
    pair all = sum(head.hi, two_k * small);
    return sum(all.hi, all.lo + head.lo);
}

double sl_tanh(double x)
{
    if (x != x)
        return x;
    double a = fabs(x), value;
    if (a < 0x1p-28) { /* x - x^3/3 rounds to x */
        return x;
    } else if (a < 1.0) { /* t / (t + 2), t = exp(2a) - 1: nothing cancels */
        pair t = expm1_pair(2.0 * a);
        pair d = sum(t.hi, 2.0);
        value = t.hi / d.hi;
        value += (fma(-value, d.hi, t.hi) + t.lo - value * (d.lo + t.lo)) / d.hi;
    } else if (a < 20.0) {
        value = 1.0 - 2.0 / (exp_pair(2.0 * a, 0.0) + 1.0);
    } else {
        value = 1.0;
    }
    return x < 0.0 ? -value : value;
}

/* sin(y) and cos(y) for |y| <= pi/4, y = y.hi + y.lo. */
static double sin_kernel(pair y)
{
    static const double c[] = {-1.0 / 6,
                               1.0 / 120,
                               -1.0 / 5040,
                               1.0 / 362880.0,
                               -1.0 / 39916800.0,
                               1.0 / 6227020800.0,
                               -1.0 / 1307674368000.0,
                               1.0 / 355687428096000.0};
    double z = y.hi * y.hi;
    double series = polynomial(z, c, (int)(sizeof c / sizeof *c));
    return y.hi + fma(y.hi * z, series, y.lo * fma(-0.5, z, 1.0));
}

static double cos_kernel(pair y)
{
    static const double c[] = {1.0 / 24,          -1.0 / 720,           1.0 / 40320.0,          -1.0 / 3628800.0,
                               1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0, -1.0 / 6402373705728000.0};
    double z = y.hi * y.hi;
    double half = 0.5 * z;
    double head = 1.0 - half;
    double lost = (1.0 - head) - half; /* what rounding took from head; exact */
    return head + (lost + fma(z * z, polynomial(z, c, (int)(sizeof c / sizeof *c)), -y.hi * y.lo));
}

void sl_sincos(double x, double *sin_out, double *cos_out)
{
    if (!(fabs(x) < 0x1p30)) {
        *sin_out = *cos_out = NAN;
        return;
    }
    double k = rint(x * TWO_OVER_PI);
    /* Exact: x and k*PIO2_1 are multiples of 2^-53 (or k is 0), and their difference is below 1. */
    double first = fma(-k, PIO2_1, x);
    pair second = product(-k, PIO2_2);
    pair y = sum(first, second.hi);
    y = sum(y.hi, y.lo + fma(-k, PIO2_3, second.lo));

    double s = sin_kernel(y), c = cos_kernel(y);
    switch ((int64_t)k & 3) {
    case 0: *sin_out = s, *cos_out = c; break;
    case 1: *sin_out = c, *cos_out = -s; break;
    case 2: *sin_out = -s, *cos_out = -c; break;
    default: *sin_out = -c, *cos_out = s; break;
    }
}

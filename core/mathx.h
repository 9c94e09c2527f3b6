/* core/mathx.h: elementary functions that give the same bits on every machine.
 *
 * libm's differ between versions and processors; these are explicit sequences of IEEE operations and fma, within 2 ulp of the true
 * value, used wherever a result reaches tokens: rotary tables, sampling, log-probabilities.
 *
 * Threads: pure. */
#ifndef SL_CORE_MATHX_H
#define SL_CORE_MATHX_H

double sl_exp(double x);
double sl_log(double x);                     /* x > 0; -inf at 0, NaN below */
double sl_pow(double base, double exponent); /* base > 0 */
double sl_tanh(double x);
void sl_sincos(double x, double *sin_out, double *cos_out); /* |x| < 2^30, by three-part pi/2 reduction with fma */

#endif

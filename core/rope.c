/* core/rope.c: see the header. */
#include "core/rope.h"

#include "core/mathx.h"

#include <math.h>

#define TWO_PI    6.283185307179586
#define ANGLE_MAX 0x1p30

const sl_gguf_tensor *sl_rope_factors(const sl_model *model, uint32_t context)
{
    const sl_gguf_tensor *freqs = sl_model_tensor(model, SL_ROLE_ROPE_FREQS, 0);
    if (freqs != NULL)
        return freqs;
    return sl_model_tensor(model, context > model->rope_original_context ? SL_ROLE_ROPE_LONG : SL_ROLE_ROPE_SHORT, 0);
}

/* The index of the pair, as a real number, that turns fully `turns` times in the original context. */
static double pair_that_turns(const sl_model *m, double turns)
{
    return m->rope_dim * sl_log(m->rope_original_context / (turns * TWO_PI)) / (2 * sl_log(m->rope_base));
}

/* How much of a pair's own frequency stays, 0 to 1. */
static double yarn_share(const sl_model *m, uint32_t pair)
{
    double low = fmax(floor(pair_that_turns(m, m->yarn_beta_fast)), 0);
    double high = fmin(ceil(pair_that_turns(m, m->yarn_beta_slow)), m->rope_dim - 1.0);
    double along = (pair - low) / fmax(high - low, 0.001);
    return 1 - fmin(fmax(along, 0), 1);
}

/* Angles beyond this have no sine here (core/mathx.h); no model comes near, as its first pair turns by one radian. */
static sl_status check_step(const sl_model *m, const char *file, uint32_t pair, double step, sl_error *err)
{
    if (step * m->context < ANGLE_MAX)
        return SL_OK;
    return sl_fail(err, SL_FORMAT, "%s: rotary pair %u turns by %g radians a position; over a context of %u at most %g make sense", file,
                   pair, step, m->context, ANGLE_MAX / m->context);
}

sl_status sl_rope_steps(const sl_model *m, const float *factors, const char *file, double *steps, sl_error *err)
{
    uint32_t half = m->rope_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double factor = factors != NULL ? (double)factors[i] : 1.0;
        if (!(factor > 0))
            return sl_fail(err, SL_FORMAT, "%s: rotary factor %u is %g; it must be positive", file, i, factor);
        double frequency = sl_pow(m->rope_base, -2.0 * i / m->rope_dim);
        steps[i] = frequency / (m->rope_scale * factor);
        if (m->rope_scaling == SL_ROPE_SCALING_YARN) {
            double share = yarn_share(m, i);
            steps[i] = steps[i] * (1 - share) + frequency / factor * share;
        }
        SL_TRY(check_step(m, file, i, steps[i], err));
        if (sl_model_rope_tables(m) == 2) {
            steps[half + i] = sl_pow(m->window_rope_base, -2.0 * i / m->rope_dim);
            SL_TRY(check_step(m, file, i, steps[half + i], err));
        }
    }
    return SL_OK;
}

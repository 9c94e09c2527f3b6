/* offload/prune/auxiliary.c: see auxiliary.h. */
#include "offload/prune/auxiliary.h"

#include <math.h>

#define S_STEPS  3 /* of Gauss and Newton, for each element */
#define S_HALVES 3 /* how often a step that does not help is halved */

/* act(x) and its derivative. */
static float act(sl_glu kind, float x, float *slope)
{
    if (kind == SL_GLU_SILU) {
        float sigmoid = 1.0f / (1.0f + expf(-x));
        *slope = sigmoid * (1.0f + x * (1.0f - sigmoid));
        return x * sigmoid;
    }
    float u = 0.7978845608f * (x + 0.044715f * x * x * x), t = tanhf(u); /* sqrt(2 / pi) */
    *slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3.0f * 0.044715f * x * x);
    return 0.5f * x * (1.0f + t);
}

typedef enum work { GAP, PRODUCT, UPDATE_Z, UPDATE_S } work;

typedef struct job {
    const sli_auxiliary *a;
    work work;
} job;

static float s_gap(const sli_auxiliary *a, size_t i, float s, float value)
{
    float from = s - a->mg[i], to = a->p[i] - value * a->z[i];
    return from * from + to * to;
}

static float step_s(const sli_auxiliary *a, size_t i)
{
    float s = a->s[i], slope, value = act(a->act, s, &slope), gap = s_gap(a, i, s, value);
    for (int n = 0; n < S_STEPS; n++) {
        float pull = slope * a->z[i], step = ((a->mg[i] - s) + pull * (a->p[i] - value * a->z[i])) / (1.0f + pull * pull);
        bool better = false;
        for (int half = 0; half <= S_HALVES && !better; half++) {
            float next_slope, next = act(a->act, s + step, &next_slope), next_gap = s_gap(a, i, s + step, next);
            better = next_gap < gap;
            if (better) {
                s += step;
                value = next;
                slope = next_slope;
                gap = next_gap;
            }
            step *= 0.5f;
        }
        if (!better)
            break;
    }
    return s;
}

/* Of elements [i, end), with a gate; gives their gap, where that is the work. */
static double run_gated(const sli_auxiliary *a, work what, size_t i, size_t end)
{
    double sum = 0;
    for (; i < end; i++) {
        float slope, value;
        if (what == UPDATE_S) {
            a->s[i] = step_s(a, i);
            continue;
        }
        value = act(a->act, a->s[i], &slope);
        if (what == PRODUCT)
            a->q[i] = value * a->z[i];
        else if (what == UPDATE_Z)
            a->z[i] = (a->mu[i] + value * a->p[i]) / (1.0f + value * value);
        else
            sum += (double)s_gap(a, i, a->s[i], value) + ((double)a->z[i] - a->mu[i]) * ((double)a->z[i] - a->mu[i]);
    }
    return sum;
}

static float relu(float x)
{
    return x > 0 ? x : 0;
}

static double relu_gap(const sli_auxiliary *a, size_t i, float z)
{
    double from = (double)z - a->mu[i], to = (double)a->p[i] - relu(z);
    return from * from + to * to;
}

static float best_z(const sli_auxiliary *a, size_t i)
{
    float active = relu((a->p[i] + a->mu[i]) / 2), silent = a->mu[i] < 0 ? a->mu[i] : 0;
    return relu_gap(a, i, active) <= relu_gap(a, i, silent) ? active : silent;
}

/* The same without a gate. */
static double run_relu(const sli_auxiliary *a, work what, size_t i, size_t end)
{
    double sum = 0;
    for (; i < end; i++) {
        if (what == PRODUCT)
            a->q[i] = relu(a->z[i]);
        else if (what == UPDATE_Z)
            a->z[i] = best_z(a, i);
        else if (what == GAP)
            sum += relu_gap(a, i, a->z[i]);
    }
    return sum;
}

static void run_share(void *arg, unsigned index, unsigned count)
{
    const job *j = arg;
    size_t first = j->a->count * index / count, end = j->a->count * (index + 1) / count;
    j->a->partial[index * SLI_AUXILIARY_SUMS] = j->a->s != NULL ? run_gated(j->a, j->work, first, end)
                                                                : run_relu(j->a, j->work, first, end);
}

static void run(const sli_auxiliary *a, work what)
{
    job j = {a, what};
    sl_threads_run(a->threads, run_share, &j);
}

double sli_auxiliary_gap(const sli_auxiliary *a)
{
    double sum = 0;
    run(a, GAP);
    for (unsigned i = 0; i < sl_threads_count(a->threads); i++)
        sum += a->partial[i * SLI_AUXILIARY_SUMS];
    return sum;
}

void sli_auxiliary_product(const sli_auxiliary *a)
{
    run(a, PRODUCT);
}

void sli_auxiliary_update_z(const sli_auxiliary *a)
{
    run(a, UPDATE_Z);
}

void sli_auxiliary_update_s(const sli_auxiliary *a)
{
    run(a, UPDATE_S);
}

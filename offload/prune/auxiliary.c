/* offload/prune/auxiliary.c: see auxiliary.h. */
#include "offload/prune/auxiliary.h"

#include <math.h>

#define S_STEPS  3   /* of Gauss and Newton, for each element */
#define S_HALVES 3   /* how often a step that does not help is halved */
#define BLOCK    256 /* elements in hand: what is kept of them stays in the first cache */
#define LANES    16  /* sums of a block: so that they need not wait for each other */

typedef enum work { GAP, UPDATE_Z, UPDATE_S } work;

typedef struct job {
    const sli_auxiliary *a;
    work work;
} job;

/* g = act(x) / x, by which both act(x) = x g and its slope are known. The kernel multiplies by 1 / x on its way. */
static void take_ratio(const sli_auxiliary *a, const float *x, size_t n, float *g)
{
    float safe[BLOCK], inverse[BLOCK];
    for (size_t i = 0; i < n; i++) {
        safe[i] = fabsf(x[i]) > 1e-20f ? x[i] : 1e-20f;
        inverse[i] = 1.0f / safe[i];
    }
    a->kernels->glu(a->act, safe, inverse, n, g);
}

/* Of silu x / (1 + exp(-x)), of gelu_tanh x / (1 + exp(-2u)) with 2u = 2 sqrt(2 / pi) (x + 0.044715 x^3): with v what is in the exponential,
 * the slope is g + x g (1 - g) v'. */
static float slope_of(sl_glu act, float x, float g)
{
    float inner = act == SL_GLU_SILU ? 1.0f : 1.5957691216f * (1.0f + 3.0f * 0.044715f * x * x);
    return g + x * g * (1.0f - g) * inner;
}

static float s_gap(const sli_auxiliary *a, size_t i, float s, float value)
{
    float from = s - a->mg[i], to = a->p[i] - value * a->z[i];
    return from * from + to * to;
}

/* Elements of a block that still move. */
typedef struct moving {
    size_t count;
    size_t at[BLOCK];
    float s[BLOCK], g[BLOCK], step[BLOCK], gap[BLOCK];
} moving;

static void take_steps(const sli_auxiliary *a, moving *m)
{
    for (size_t i = 0; i < m->count; i++) {
        size_t at = m->at[i];
        float pull = slope_of(a->act, m->s[i], m->g[i]) * a->z[at];
        m->step[i] = ((a->mg[at] - m->s[i]) + pull * (a->p[at] - m->s[i] * m->g[i] * a->z[at])) / (1.0f + pull * pull);
    }
}

/* Takes the steps that help, and puts those elements behind `moved`; the others stay, with half the step. */
static void try_steps(const sli_auxiliary *a, moving *m, moving *moved)
{
    float next[BLOCK], g[BLOCK];
    size_t left = 0;
    for (size_t i = 0; i < m->count; i++)
        next[i] = m->s[i] + m->step[i];
    take_ratio(a, next, m->count, g);
    for (size_t i = 0; i < m->count; i++) {
        float gap = s_gap(a, m->at[i], next[i], next[i] * g[i]);
        bool helps = gap < m->gap[i];
        moving *to = helps ? moved : m;
        size_t slot = helps ? moved->count++ : left++;
        if (helps)
            a->s[m->at[i]] = next[i];
        to->at[slot] = m->at[i];
        to->gap[slot] = helps ? gap : m->gap[i];
        to->g[slot] = helps ? g[i] : m->g[i];
        to->step[slot] = m->step[i] * 0.5f;
        to->s[slot] = helps ? next[i] : m->s[i];
    }
    m->count = left;
}

/* Elements that no step helps any more are done. */
static void step_block(const sli_auxiliary *a, size_t first, size_t n)
{
    moving two[2], *now = &two[0], *next = &two[1];
    now->count = n;
    take_ratio(a, a->s + first, n, now->g);
    for (size_t i = 0; i < n; i++) {
        now->at[i] = first + i;
        now->s[i] = a->s[first + i];
        now->gap[i] = s_gap(a, first + i, now->s[i], now->s[i] * now->g[i]);
    }
    for (int step = 0; step < S_STEPS && now->count > 0; step++) {
        take_steps(a, now);
        next->count = 0;
        for (int half = 0; half <= S_HALVES && now->count > 0; half++)
            try_steps(a, now, next);
        moving *done = now;
        now = next;
        next = done;
    }
}

static double gap_of_block(const sli_auxiliary *a, size_t first, size_t n)
{
    float lanes[LANES] = {0}, product[BLOCK] = {0};
    double sum = 0;
    a->kernels->glu(a->act, a->s + first, a->z + first, n, product);
    for (size_t i = 0; i < n; i++) {
        float s = a->s[first + i] - a->mg[first + i], z = a->z[first + i] - a->mu[first + i], p = a->p[first + i] - product[i];
        lanes[i % LANES] += s * s + z * z + p * p;
    }
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static void update_z_of_block(const sli_auxiliary *a, size_t first, size_t n)
{
    float g[BLOCK];
    take_ratio(a, a->s + first, n, g);
    for (size_t i = 0; i < n; i++) {
        float value = a->s[first + i] * g[i];
        a->z[first + i] = (a->mu[first + i] + value * a->p[first + i]) / (1.0f + value * value);
    }
}

/* Of elements [at, end), with a gate; gives their gap, where that is the work. */
static double run_gated(const sli_auxiliary *a, work what, size_t at, size_t end)
{
    double sum = 0;
    for (; at < end; at += BLOCK) {
        size_t n = end - at < BLOCK ? end - at : BLOCK;
        if (what == UPDATE_S)
            step_block(a, at, n);
        else if (what == UPDATE_Z)
            update_z_of_block(a, at, n);
        else
            sum += gap_of_block(a, at, n);
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
        if (what == UPDATE_Z)
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

void sli_auxiliary_update_z(const sli_auxiliary *a)
{
    run(a, UPDATE_Z);
}

void sli_auxiliary_update_s(const sli_auxiliary *a)
{
    run(a, UPDATE_S);
}

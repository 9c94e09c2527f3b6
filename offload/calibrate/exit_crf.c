/* offload/calibrate/exit_crf.c: a linear chain of two labels (settled or not) over the probes of a token.
 *
 *     log P(labels | looks) = sum over probes of label * (emission . features) + sum over neighbours of transition[label before][label] - log Z
 *
 * Z by the forward algorithm, the gradient by forward and backward. Concave, with a small penalty strictly so; climbed by resilient steps
 * (each weight has a step of its own, which grows while its gradient keeps its sign and shrinks when that turns), which want no line search. */
#include "core/mathx.h"
#include "offload/calibrate/exit_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MOST   2500u /* that are learnt from, evenly from all */
#define STEPS       150
#define STEP_FIRST  0.1
#define STEP_LEAST  1e-6
#define STEP_MOST   2.0
#define GROWS       1.2
#define SHRINKS     0.5
#define PENALTY     1e-3 /* of a row, on the squares of all weights */
#define WEIGHTS_MAX (SLI_EXIT_PROBES_MAX * SLI_EXIT_WEIGHTS + 4)

typedef struct climb {
    const sli_exit_class *class;
    uint32_t count; /* of weights: emissions, then transitions */
    double weight[WEIGHTS_MAX], gradient[WEIGHTS_MAX], before[WEIGHTS_MAX], step[WEIGHTS_MAX];
} climb;

static double emission_of(const climb *c, uint32_t probe, const float *features)
{
    const double *w = c->weight + (size_t)probe * SLI_EXIT_WEIGHTS;
    double sum = w[SLI_EXIT_FEATURES];
    for (int f = 0; f < SLI_EXIT_FEATURES; f++)
        sum += w[f] * (double)features[f];
    return sum;
}

/* Chances of the labels before and after each probe, scaled to sum 1: Z is not needed itself. */
static void pass_messages(const climb *c, const float *features, const double edge[4], double forward[][2], double backward[][2],
                          double potential[])
{
    uint32_t probes = c->class->probes;
    for (uint32_t p = 0; p < probes; p++) {
        double e = emission_of(c, p, features + (size_t)p * SLI_EXIT_FEATURES);
        potential[p] = sl_exp(e < 500 ? e : 500);
        for (int to = 0; to < 2; to++)
            forward[p][to] = (p == 0 ? 1 : forward[p - 1][0] * edge[to] + forward[p - 1][1] * edge[2 + to]) * (to == 1 ? potential[p] : 1);
        double sum = forward[p][0] + forward[p][1];
        forward[p][0] /= sum;
        forward[p][1] /= sum;
    }
    backward[probes - 1][0] = backward[probes - 1][1] = 0.5;
    for (uint32_t p = probes - 1; p-- > 0;) {
        for (int from = 0; from < 2; from++)
            backward[p][from] = edge[from * 2] * backward[p + 1][0] + edge[from * 2 + 1] * potential[p + 1] * backward[p + 1][1];
        double sum = backward[p][0] + backward[p][1];
        backward[p][0] /= sum;
        backward[p][1] /= sum;
    }
}

/* What the labels have, less what the chain expects. */
static void add_row(climb *c, const float *features, const uint8_t *labels, const double edge[4])
{
    double forward[SLI_EXIT_PROBES_MAX][2], backward[SLI_EXIT_PROBES_MAX][2], potential[SLI_EXIT_PROBES_MAX];
    uint32_t probes = c->class->probes;
    double *transition = c->gradient + (size_t)probes * SLI_EXIT_WEIGHTS;
    pass_messages(c, features, edge, forward, backward, potential);
    for (uint32_t p = 0; p < probes; p++) {
        double settled = forward[p][1] * backward[p][1], not = forward[p][0] * backward[p][0];
        double away = (labels[p] != 0) - settled / (settled + not );
        double *g = c->gradient + (size_t)p * SLI_EXIT_WEIGHTS;
        for (int f = 0; f < SLI_EXIT_FEATURES; f++)
            g[f] += away * (double)features[(size_t)p * SLI_EXIT_FEATURES + (size_t)f];
        g[SLI_EXIT_FEATURES] += away;
        if (p == 0)
            continue;
        double pair[4], sum = 0;
        for (int i = 0; i < 4; i++)
            sum += pair[i] = forward[p - 1][i / 2] * edge[i] * (i % 2 == 1 ? potential[p] : 1) * backward[p][i % 2];
        for (int i = 0; i < 4; i++)
            transition[i] += ((labels[p - 1] != 0) * 2 + (labels[p] != 0) == i) - pair[i] / sum;
    }
}

static void find_gradient(climb *c)
{
    const sli_exit_class *k = c->class;
    uint32_t rows = k->rows < ROWS_MOST ? k->rows : ROWS_MOST;
    double edge[4];
    memset(c->gradient, 0, sizeof c->gradient);
    for (int i = 0; i < 4; i++)
        edge[i] = sl_exp(c->weight[k->probes * SLI_EXIT_WEIGHTS + (uint32_t)i]);
    for (uint32_t i = 0; i < rows; i++) {
        size_t row = (uint64_t)i * k->rows / rows * k->probes;
        add_row(c, k->features + row * SLI_EXIT_FEATURES, k->agrees + row, edge);
    }
    for (uint32_t i = 0; i < c->count; i++)
        c->gradient[i] = c->gradient[i] / rows - PENALTY * c->weight[i];
}

static void take_step(climb *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        double turned = c->gradient[i] * c->before[i];
        if (turned > 0)
            c->step[i] = fmin(c->step[i] * GROWS, STEP_MOST);
        else if (turned < 0) {
            c->step[i] = fmax(c->step[i] * SHRINKS, STEP_LEAST);
            c->gradient[i] = 0; /* it stepped over the top: stay for once */
        }
        c->weight[i] += c->gradient[i] > 0 ? c->step[i] : c->gradient[i] < 0 ? -c->step[i] : 0;
        c->before[i] = c->gradient[i];
    }
}

sl_status sli_exit_fit_crf(const sli_exit_class *class, float *emission, float *transition, sl_error *err)
{
    climb *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a chain over %u probes", class->probes);
    c->class = class;
    c->count = class->probes * SLI_EXIT_WEIGHTS + 4;
    for (uint32_t i = 0; i < c->count; i++)
        c->step[i] = STEP_FIRST;
    for (int step = 0; step < STEPS; step++) {
        find_gradient(c);
        take_step(c);
    }
    for (uint32_t i = 0; i < class->probes * SLI_EXIT_WEIGHTS; i++)
        emission[i] = (float)c->weight[i];
    for (uint32_t i = 0; i < 4; i++)
        transition[i] = (float)c->weight[class->probes * SLI_EXIT_WEIGHTS + i];
    free(c);
    return SL_OK;
}

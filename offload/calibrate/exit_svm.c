/* offload/calibrate/exit_svm.c: support vector machines for early exits, by LIBSVM.
 *
 * The library is loaded when a calibration wants it, and not with the program (as OpenBLAS is, linear.h): `run` evaluates what was stored. Machines of
 * neighbouring probes see labels of very different frequency, so that their decisions cannot share a threshold; a sigmoid fitted to each (Platt) makes
 * them chances, which can. */
#include "core/mathx.h"
#include "offload/calibrate/exit_fit.h"

#include <dlfcn.h>
#include <libsvm/svm.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MOST      1200u /* that a machine sees, evenly from all: its time grows with their square */
#define EACH_LEAST     8u    /* rows of either label; fewer give no machine */
#define SURE           30.0f /* of one label alone: a chance that rounds to 0 or 1 */
#define GAMMA          2.0f
#define COST           1.0
#define NEWTON_STEPS   50
#define NEWTON_HALVES  30
#define NEWTON_ENOUGH  1e-9
#define RIDGE          1e-6 /* keeps the Hessian from being singular */
#define CACHE_MEGABYTE 16.0

typedef struct library {
    void *handle;
    struct svm_model *(*train)(const struct svm_problem *, const struct svm_parameter *);
    void (*release)(struct svm_model **);
    const char *(*check)(const struct svm_problem *, const struct svm_parameter *);
    void (*set_print)(void (*)(const char *));
} library;

/* One probe's rows as LIBSVM wants them. */
typedef struct room {
    struct svm_node *nodes; /* [row][SLI_EXIT_FEATURES + 1] */
    struct svm_node **rows;
    double *labels, *decisions;
} room;

static void keep_silent(const char *text)
{
    (void)text;
}

static bool find(void *handle, const char *name, void *function)
{
    void *address = dlsym(handle, name);
    memcpy(function, &address, sizeof address); /* ISO C knows no cast from an object to a function */
    return address != NULL;
}

static sl_status open_library(library *l, sl_error *err)
{
    *l = (library){.handle = dlopen("libsvm.so.3", RTLD_NOW | RTLD_LOCAL)};
    if (l->handle == NULL)
        return sl_fail(err, SL_UNSUPPORTED, "exit classifiers need LIBSVM (libsvm.so.3), which is not here; install the package libsvm3");
    if (!find(l->handle, "svm_train", &l->train) || !find(l->handle, "svm_free_and_destroy_model", &l->release) ||
        !find(l->handle, "svm_check_parameter", &l->check) || !find(l->handle, "svm_set_print_string_function", &l->set_print)) {
        dlclose(l->handle);
        return sl_fail(err, SL_UNSUPPORTED, "libsvm.so.3 is no complete LIBSVM; install the package libsvm3");
    }
    l->set_print(keep_silent);
    return SL_OK;
}

/* ---- decisions as chances ---- */

/* Newton's method on the two numbers of a logistic regression, halving a step that does not help. Targets are drawn in a little, as Platt has it. */
static double loss_of(const room *r, uint32_t count, const double target[2], double a, double b)
{
    double loss = 0;
    for (uint32_t i = 0; i < count; i++) {
        double z = a * r->decisions[i] + b, t = target[r->labels[i] > 0];
        loss += (z > 0 ? z : 0) - t * z + sl_log(1 + sl_exp(z > 0 ? -z : z));
    }
    return loss;
}

static void fit_sigmoid(const room *r, uint32_t count, uint32_t positive, float sigmoid[2])
{
    double target[2] = {1.0 / (count - positive + 2.0), (positive + 1.0) / (positive + 2.0)};
    double a = 1, b = 0, loss = loss_of(r, count, target, a, b);
    for (int step = 0; step < NEWTON_STEPS; step++) {
        double ga = 0, gb = 0, haa = RIDGE, hab = 0, hbb = RIDGE;
        for (uint32_t i = 0; i < count; i++) {
            double s = r->decisions[i], p = 1 / (1 + sl_exp(-(a * s + b))), away = p - target[r->labels[i] > 0], w = p * (1 - p);
            ga += away * s;
            gb += away;
            haa += w * s * s;
            hab += w * s;
            hbb += w;
        }
        double det = haa * hbb - hab * hab, da = -(hbb * ga - hab * gb) / det, db = -(haa * gb - hab * ga) / det, share = 1;
        double next = loss_of(r, count, target, a + da, b + db);
        for (int halved = 0; next > loss && halved < NEWTON_HALVES; halved++) {
            share /= 2;
            next = loss_of(r, count, target, a + share * da, b + share * db);
        }
        if (!(next < loss - NEWTON_ENOUGH))
            break;
        a += share * da;
        b += share * db;
        loss = next;
    }
    sigmoid[0] = (float)a;
    sigmoid[1] = (float)b;
}

/* ---- one probe ---- */

static uint32_t fill_room(const sli_exit_class *c, uint32_t probe, room *r, uint32_t *positive)
{
    uint32_t count = c->rows < ROWS_MOST ? c->rows : ROWS_MOST;
    *positive = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = ((uint64_t)i * c->rows / count) * c->probes + probe;
        r->rows[i] = r->nodes + (size_t)i * (SLI_EXIT_FEATURES + 1);
        for (int f = 0; f < SLI_EXIT_FEATURES; f++)
            r->rows[i][f] = (struct svm_node){f + 1, (double)c->features[at * SLI_EXIT_FEATURES + f]};
        r->rows[i][SLI_EXIT_FEATURES] = (struct svm_node){-1, 0};
        r->labels[i] = c->agrees[at] != 0 ? 1 : -1;
        *positive += c->agrees[at] != 0;
    }
    return count;
}

static double kernel_of(const sli_exit_svm *s, const float *vector, const struct svm_node *row)
{
    double sum = 0;
    for (int f = 0; f < SLI_EXIT_FEATURES; f++) {
        double v = (double)vector[f], away = v - row[f].value;
        sum += s->radial ? away * away : v * row[f].value;
    }
    return s->radial ? sl_exp(-(double)s->gamma * sum) : sum;
}

/* Support vectors and constant, with signs so that positive means settled; LIBSVM's first label is that of its first row. */
static sl_status take_model(sli_exit_svm *s, const struct svm_model *m, uint32_t probe, sl_error *err)
{
    float sign = m->label[0] > 0 ? 1.0f : -1.0f;
    float *grown = realloc(s->vectors, ((size_t)s->vector_count + (size_t)m->l) * SLI_EXIT_WEIGHTS * sizeof *grown);
    if (grown == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %d support vectors", m->l);
    s->vectors = grown;
    for (int v = 0; v < m->l; v++) {
        float *to = s->vectors + ((size_t)s->vector_count + (size_t)v) * SLI_EXIT_WEIGHTS;
        for (int f = 0; f < SLI_EXIT_FEATURES; f++)
            to[f] = (float)m->SV[v][f].value;
        to[SLI_EXIT_FEATURES] = sign * (float)m->sv_coef[0][v];
    }
    s->vector_count += (uint32_t)m->l;
    s->plane[probe * SLI_EXIT_WEIGHTS + SLI_EXIT_FEATURES] = -sign * (float)m->rho[0];
    return SL_OK;
}

static void decide(const sli_exit_svm *s, uint32_t probe, uint32_t first, uint32_t count, room *r)
{
    for (uint32_t i = 0; i < count; i++) {
        r->decisions[i] = (double)s->plane[probe * SLI_EXIT_WEIGHTS + SLI_EXIT_FEATURES];
        for (uint32_t v = first; v < s->vector_count; v++) {
            const float *vector = s->vectors + (size_t)v * SLI_EXIT_WEIGHTS;
            r->decisions[i] += (double)vector[SLI_EXIT_FEATURES] * kernel_of(s, vector, r->rows[i]);
        }
    }
}

/* A linear machine's vectors are one plane. */
static void flatten(sli_exit_svm *s, uint32_t probe, uint32_t first)
{
    for (uint32_t v = first; v < s->vector_count; v++)
        for (int f = 0; f < SLI_EXIT_FEATURES; f++)
            s->plane[probe * SLI_EXIT_WEIGHTS + (uint32_t)f] += s->vectors[(size_t)v * SLI_EXIT_WEIGHTS + (size_t)f] *
                                                                s->vectors[(size_t)v * SLI_EXIT_WEIGHTS + SLI_EXIT_FEATURES];
    s->vector_count = first;
}

static sl_status fit_probe(const library *l, const sli_exit_class *c, uint32_t probe, room *r, sli_exit_svm *s, sl_error *err)
{
    uint32_t positive, count = fill_room(c, probe, r, &positive), first = s->vector_count;
    s->vector_ends[probe] = (int32_t)first;
    s->sigmoid[probe * 2 + 1] = positive * 2 > count ? SURE : -SURE;
    if (positive < EACH_LEAST || count - positive < EACH_LEAST)
        return SL_OK;
    struct svm_problem problem = {(int)count, r->labels, r->rows};
    struct svm_parameter wanted = {.svm_type = C_SVC,
                                   .kernel_type = s->radial ? RBF : LINEAR,
                                   .gamma = (double)s->gamma,
                                   .cache_size = CACHE_MEGABYTE,
                                   .eps = 1e-3,
                                   .C = COST,
                                   .shrinking = 1};
    const char *fault = l->check(&problem, &wanted);
    if (fault != NULL)
        return sl_fail(err, SL_INTERNAL, "LIBSVM refuses an exit classifier: %s", fault);
    struct svm_model *model = l->train(&problem, &wanted);
    sl_status status = model == NULL ? sl_fail(err, SL_NO_MEMORY, "out of memory for an exit classifier")
                                     : take_model(s, model, probe, err);
    if (model != NULL)
        l->release(&model);
    SL_TRY(status);
    decide(s, probe, first, count, r);
    fit_sigmoid(r, count, positive, s->sigmoid + (size_t)probe * 2);
    if (!s->radial)
        flatten(s, probe, first);
    s->vector_ends[probe] = (int32_t)s->vector_count;
    return SL_OK;
}

static void free_room(room *r)
{
    free(r->nodes);
    free(r->rows);
    free(r->labels);
    free(r->decisions);
}

sl_status sli_exit_fit_svm(const sli_exit_class *c, bool radial, sli_exit_svm *out, sl_error *err)
{
    library l;
    size_t rows = ROWS_MOST;
    *out = (sli_exit_svm){.radial = radial, .gamma = GAMMA};
    SL_TRY(open_library(&l, err));
    room r = {.nodes = malloc(rows * (SLI_EXIT_FEATURES + 1) * sizeof *r.nodes),
              .rows = malloc(rows * sizeof *r.rows),
              .labels = malloc(rows * sizeof *r.labels),
              .decisions = malloc(rows * sizeof *r.decisions)};
    out->plane = calloc((size_t)c->probes * SLI_EXIT_WEIGHTS, sizeof *out->plane);
    out->sigmoid = calloc((size_t)c->probes * 2, sizeof *out->sigmoid);
    out->vector_ends = calloc(c->probes, sizeof *out->vector_ends);
    sl_status status = SL_OK;
    if (r.nodes == NULL || r.rows == NULL || r.labels == NULL || r.decisions == NULL || out->plane == NULL || out->sigmoid == NULL ||
        out->vector_ends == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for exit classifiers");
    for (uint32_t probe = 0; probe < c->probes && status == SL_OK; probe++)
        status = fit_probe(&l, c, probe, &r, out, err);
    free_room(&r);
    dlclose(l.handle);
    if (status != SL_OK)
        sli_exit_svm_free(out);
    return status;
}

void sli_exit_svm_free(sli_exit_svm *s)
{
    free(s->plane);
    free(s->sigmoid);
    free(s->vector_ends);
    free(s->vectors);
    *s = (sli_exit_svm){0};
}

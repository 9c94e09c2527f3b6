/* offload/exit.c: see exit.h. */
#include "offload/exit.h"
#include "core/mathx.h"

#include <math.h>
#include <string.h>

/* ---- looks and features ---- */

#define NEGLIGIBLE   (-30.0) /* exp of less changes no sum that a float holds */
#define ODDS_FLOOR   1e-4    /* chances nearer to 0 or 1 are not told apart */
#define ODDS_SCALE   9.3     /* so that log-odds lie within -1 and 1, like the rest */
#define SAME_ENOUGH  4       /* probes; who was first for longer is no surer */
#define VECTORS_MAX  (1u << 20)
#define POINTS_MAX   64u
#define NUMBERS_MOST 1e30f /* beyond it products overflow */

sli_exit_look sli_exit_look_at(const float *logits, uint32_t count)
{
    sli_exit_look look = {0};
    double second = -INFINITY, sum = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[look.top])
            look.top = i;
    double top = (double)logits[look.top];
    for (uint32_t i = 0; i < count; i++) {
        double below = (double)logits[i] - top;
        if (i != look.top && below > second)
            second = below;
        if (below > NEGLIGIBLE)
            sum += sl_exp(below);
    }
    look.chance = (float)(1 / sum);
    look.gap = (float)((1 - (second > NEGLIGIBLE ? sl_exp(second) : 0)) / sum);
    return look;
}

void sli_exit_walk_on(sli_exit_walk *walk, const sli_exit_look *look, float features[SLI_EXIT_FEATURES])
{
    walk->same = walk->probes > 0 && walk->top == look->top ? walk->same + 1 : 0;
    walk->top = look->top;
    walk->probes++;
    double p = (double)look->chance;
    features[0] = look->chance;
    features[1] = look->gap;
    features[2] = (float)(sl_log((p + ODDS_FLOOR) / (1 - p + ODDS_FLOOR)) / ODDS_SCALE);
    features[3] = (float)(walk->same < SAME_ENOUGH ? walk->same : SAME_ENOUGH) / SAME_ENOUGH;
}

/* ---- classifiers ---- */

static double logistic(double x)
{
    return x >= 0 ? 1 / (1 + sl_exp(-x)) : 1 - 1 / (1 + sl_exp(x));
}

static double weigh(const float *weights, const float *features)
{
    double sum = (double)weights[SLI_EXIT_FEATURES];
    for (int i = 0; i < SLI_EXIT_FEATURES; i++)
        sum += (double)weights[i] * (double)features[i];
    return sum;
}

static double radial(const sli_exits *x, uint32_t probe, const float *features)
{
    uint32_t first = probe > 0 ? (uint32_t)x->vector_ends[probe - 1] : 0;
    double sum = (double)x->plane[probe * SLI_EXIT_WEIGHTS + SLI_EXIT_FEATURES];
    for (uint32_t v = first; v < (uint32_t)x->vector_ends[probe]; v++) {
        const float *vector = x->vectors + (size_t)v * SLI_EXIT_WEIGHTS;
        double distance = 0;
        for (int i = 0; i < SLI_EXIT_FEATURES; i++) {
            double away = (double)vector[i] - (double)features[i];
            distance += away * away;
        }
        sum += (double)vector[SLI_EXIT_FEATURES] * sl_exp(-(double)x->gamma * distance);
    }
    return sum;
}

static double svm(const sli_exits *x, uint32_t probe, const float *features)
{
    double decision = x->radial ? radial(x, probe, features) : weigh(x->plane + probe * SLI_EXIT_WEIGHTS, features);
    return logistic((double)x->sigmoid[probe * 2] * decision + (double)x->sigmoid[probe * 2 + 1]);
}

/* One step of the chain's forward algorithm: what the probes so far say of the label here. */
static double crf(const sli_exits *x, uint32_t probe, const float *features, sli_exit_walk *walk)
{
    double emission = weigh(x->emission + probe * SLI_EXIT_WEIGHTS, features);
    if (probe > 0) {
        double from[2] = {walk->unsettled, 1 - walk->unsettled}, to[2];
        for (int label = 0; label < 2; label++)
            to[label] = from[0] * sl_exp((double)x->transition[label]) + from[1] * sl_exp((double)x->transition[2 + label]);
        emission += sl_log(to[1]) - sl_log(to[0]);
    }
    walk->unsettled = logistic(-emission);
    return logistic(emission);
}

double sli_exit_score(const sli_exits *exits, sl_early_exit kind, const sli_exit_look *look, sli_exit_walk *walk)
{
    float features[SLI_EXIT_FEATURES];
    uint32_t probe = walk->probes;
    sli_exit_walk_on(walk, look, features);
    if (kind == SL_EARLY_EXIT_GAP)
        return (double)look->gap;
    return kind == SL_EARLY_EXIT_CRF ? crf(exits, probe, features, walk) : svm(exits, probe, features);
}

const sli_exit_point *sli_exit_point_of(const sli_exits *exits, sl_early_exit kind, double agreement)
{
    for (uint32_t i = 0; i < exits->point_count; i++)
        if ((double)exits->asked[i] >= agreement - 1e-6) /* asked is rounded to a float */
            return &exits->points[kind - 1][i];
    return NULL;
}

/* ---- the file ---- */

sli_exit_layout sli_exit_layout_of(const uint32_t words[SLI_EXIT_WORDS])
{
    size_t probes = words[SLI_EXIT_PROBES], points = words[SLI_EXIT_POINTS];
    const size_t numbers[SLI_EXIT_PART_COUNT] = {
        [SLI_EXIT_PART_HEADER] = SLI_EXIT_WORDS,
        [SLI_EXIT_PART_PROBES] = probes,
        [SLI_EXIT_PART_SHORTLIST] = words[SLI_EXIT_SHORTLIST],
        [SLI_EXIT_PART_ASKED] = points,
        [SLI_EXIT_PART_POINTS] = SLI_EXIT_KINDS * points * (sizeof(sli_exit_point) / sizeof(float)),
        [SLI_EXIT_PART_GAMMA] = 1,
        [SLI_EXIT_PART_PLANE] = probes * SLI_EXIT_WEIGHTS,
        [SLI_EXIT_PART_SIGMOID] = probes * 2,
        [SLI_EXIT_PART_VECTOR_ENDS] = probes,
        [SLI_EXIT_PART_VECTORS] = (size_t)words[SLI_EXIT_VECTORS] * SLI_EXIT_WEIGHTS,
        [SLI_EXIT_PART_EMISSION] = probes * SLI_EXIT_WEIGHTS,
        [SLI_EXIT_PART_TRANSITION] = 4,
    };
    sli_exit_layout l = {{0}};
    for (int part = 0; part < SLI_EXIT_PART_COUNT; part++)
        l.offset[part + 1] = l.offset[part] + numbers[part] * sizeof(float);
    return l;
}

/* From `least` on, below `end`, each above the one before, or with `equal` at least as large. */
static bool ascend(const int32_t *numbers, uint32_t count, int64_t least, int64_t end, bool equal)
{
    for (uint32_t i = 0; i < count; i++) {
        if (numbers[i] < least || numbers[i] >= end)
            return false;
        least = (int64_t)numbers[i] + (equal ? 0 : 1);
    }
    return true;
}

static bool are_numbers(const void *from, const void *end)
{
    for (const float *f = from; (const void *)f < end; f++)
        if (!(fabsf(*f) <= NUMBERS_MOST) && !(*f == SLI_EXIT_NEVER))
            return false;
    return true;
}

static bool plausible(const uint32_t words[SLI_EXIT_WORDS])
{
    return words[SLI_EXIT_PROBES] >= 1 && words[SLI_EXIT_PROBES] <= SLI_EXIT_PROBES_MAX && words[SLI_EXIT_POINTS] >= 1 &&
           words[SLI_EXIT_POINTS] <= POINTS_MAX && words[SLI_EXIT_SHORTLIST] <= words[SLI_EXIT_VOCAB] && words[SLI_EXIT_SHORTLIST] != 1 &&
           words[SLI_EXIT_VECTORS] <= VECTORS_MAX && words[SLI_EXIT_RADIAL] <= 1;
}

static bool points_are_good(const sli_exits *x)
{
    float before = 0;
    for (uint32_t i = 0; i < x->point_count; i++) {
        if (!(x->asked[i] > before && x->asked[i] <= 1))
            return false;
        before = x->asked[i];
        for (int kind = 0; kind < SLI_EXIT_KINDS; kind++) {
            const sli_exit_point *p = &x->points[kind][i];
            if (!(p->agreement >= 0 && p->agreement <= 1 && p->layers_mean >= 1 && p->layers_mean <= (float)x->layers))
                return false;
        }
    }
    return true;
}

static const void *part(const uint8_t *blob, const sli_exit_layout *at, sli_exit_part which)
{
    return blob + at->offset[which];
}

const char *sli_exits_view(const void *blob, size_t bytes, const sli_exit_shape *shape, sli_exits *out)
{
    uint32_t words[SLI_EXIT_WORDS];
    if (bytes < sizeof words)
        return "are shorter than their header";
    memcpy(words, blob, sizeof words);
    if (words[SLI_EXIT_VERSION] != SLI_EXIT_VERSION_NUMBER)
        return "have another version; run sluice calibrate again";
    if (words[SLI_EXIT_LAYERS] != shape->layers || words[SLI_EXIT_D] != shape->d || words[SLI_EXIT_VOCAB] != shape->vocab)
        return "were made for a model of other sizes; run sluice calibrate again";
    if (!plausible(words))
        return "have sizes that cannot be";
    sli_exit_layout at = sli_exit_layout_of(words);
    if (at.offset[SLI_EXIT_PART_COUNT] != bytes)
        return "have sizes that do not fit together";
    *out = (sli_exits){.layers = shape->layers,
                       .probe_count = words[SLI_EXIT_PROBES],
                       .point_count = words[SLI_EXIT_POINTS],
                       .shortlist_count = words[SLI_EXIT_SHORTLIST],
                       .radial = words[SLI_EXIT_RADIAL] == 1,
                       .probes = part(blob, &at, SLI_EXIT_PART_PROBES),
                       .shortlist = part(blob, &at, SLI_EXIT_PART_SHORTLIST),
                       .asked = part(blob, &at, SLI_EXIT_PART_ASKED),
                       .gamma = *(const float *)part(blob, &at, SLI_EXIT_PART_GAMMA),
                       .plane = part(blob, &at, SLI_EXIT_PART_PLANE),
                       .sigmoid = part(blob, &at, SLI_EXIT_PART_SIGMOID),
                       .vector_ends = part(blob, &at, SLI_EXIT_PART_VECTOR_ENDS),
                       .vectors = part(blob, &at, SLI_EXIT_PART_VECTORS),
                       .emission = part(blob, &at, SLI_EXIT_PART_EMISSION),
                       .transition = part(blob, &at, SLI_EXIT_PART_TRANSITION)};
    for (uint32_t kind = 0; kind < SLI_EXIT_KINDS; kind++)
        out->points[kind] = (const sli_exit_point *)part(blob, &at, SLI_EXIT_PART_POINTS) + (size_t)kind * out->point_count;
    if (!ascend(out->probes, out->probe_count, 0, (int64_t)shape->layers - 1, false))
        return "probe layers that the model does not have";
    if (!ascend(out->shortlist, out->shortlist_count, 0, shape->vocab, false))
        return "list tokens that the vocabulary does not have";
    if (!ascend(out->vector_ends, out->probe_count, 0, (int64_t)words[SLI_EXIT_VECTORS] + 1, true))
        return "have support vectors that are not there";
    if (!are_numbers(out->asked, out->vector_ends) || !are_numbers(out->vectors, (const uint8_t *)blob + bytes))
        return "hold a value that is no number";
    if (!points_are_good(out) || out->gamma < 0)
        return "have thresholds that cannot be";
    return NULL;
}

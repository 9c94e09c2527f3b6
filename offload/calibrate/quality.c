/* offload/calibrate/quality.c: see quality.h. */
#include "offload/calibrate/quality.h"
#include "offload/density.h"
#include "offload/select.h"

#include <math.h>
#include <string.h>

#define DECAY        0.9f
#define RECENT_POWER 0.1f

typedef struct scoring {
    sli_lesson *lesson;
    const sli_guess *guess;
    sl_acts inputs;
    float *scores;
} scoring;

static void score_share(void *arg, unsigned index, unsigned count)
{
    const scoring *s = arg;
    uint32_t ff = s->lesson->ff, panels = (ff + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS;
    uint32_t first = (uint32_t)((uint64_t)panels * index / count) * SL_SIGN_ROWS;
    uint32_t last = (uint32_t)((uint64_t)panels * (index + 1) / count) * SL_SIGN_ROWS;
    last = last < ff ? last : ff;
    if (first < last)
        sli_guess_scores(s->guess, s->lesson->kernels, s->lesson->act, &s->inputs, first, last, s->scores + first);
}

void sli_quality_scores(sli_lesson *l, const sli_guess *guess, uint32_t row, float *scores)
{
    scoring s = {.lesson = l, .guess = guess, .scores = scores};
    sli_guess_begin(guess, l->kernels, NULL, l->x + (size_t)row * l->d, l->row, &s.inputs);
    sl_threads_run(l->threads, score_share, &s);
}

/* Mean of squared scores over the rows for fitting. */
static void static_scores(const sli_lesson *l, float *scores)
{
    memset(scores, 0, l->ff * sizeof *scores);
    for (size_t i = 0; i < (size_t)l->fit_rows * l->ff; i++)
        scores[i % l->ff] += l->scores[i] * l->scores[i];
}

static void make_scores(sli_lesson *l, sli_chooser chooser, const sli_guess *guess, uint32_t row, const float *fixed, const float *recent,
                        float *scores)
{
    const float *exact = l->scores + (size_t)row * l->ff;
    switch (chooser) {
    case SLI_CHOOSE_GUESS:
    case SLI_CHOOSE_BOTH: sli_quality_scores(l, guess, row, scores); break;
    case SLI_CHOOSE_STATIC: memcpy(scores, fixed, l->ff * sizeof *scores); break;
    case SLI_CHOOSE_RECENT: memcpy(scores, recent, l->ff * sizeof *scores); break;
    case SLI_CHOOSE_EXACT:
    case SLI_CHOOSE_COUNT: memcpy(scores, exact, l->ff * sizeof *scores); break;
    }
    for (uint32_t i = 0; i < l->ff && chooser == SLI_CHOOSE_BOTH; i++)
        scores[i] = powf(scores[i], 1 - RECENT_POWER) * powf(recent[i], RECENT_POWER / 2);
}

static void compare(const sli_lesson *l, const float *exact, const float *scores, uint32_t *members, sli_quality *out)
{
    double all = 0;
    for (uint32_t i = 0; i < l->ff; i++)
        all += (double)exact[i] * (double)exact[i];
    for (int d = 0; d < SLI_QUALITY_DENSITIES; d++) {
        uint32_t keep = (uint32_t)(sli_quality_density[d] * l->ff);
        keep = keep > 0 ? keep : 1;
        sli_select_top(scores, l->ff, keep, members);
        sli_select_top(exact, l->ff, keep, members + l->ff);
        double kept = 0;
        for (uint32_t i = 0; i < keep; i++)
            kept += (double)exact[members[i]] * (double)exact[members[i]];
        out->lost[d] += all > 0 ? 1 - kept / all : 0;
        out->recall[d] += (double)sli_select_common(members, keep, members + l->ff, keep) / keep;
    }
}

void sli_quality_of(sli_lesson *l, sli_chooser chooser, const sli_guess *guess, float *scratch, uint32_t *members, sli_quality *out)
{
    float *scores = scratch, *fixed = scratch + l->ff, *recent = scratch + 2 * (size_t)l->ff;
    uint32_t end = l->fit_rows + l->held_rows;
    *out = (sli_quality){0};
    static_scores(l, fixed);
    memcpy(recent, fixed, l->ff * sizeof *recent);
    l->kernels->scale(recent, 1.0f / (float)l->fit_rows, l->ff);
    for (uint32_t row = l->fit_rows; row < end; row++) {
        const float *exact = l->scores + (size_t)row * l->ff;
        make_scores(l, chooser, guess, row, fixed, recent, scores);
        compare(l, exact, scores, members, out);
        for (uint32_t i = 0; i < l->ff; i++)
            recent[i] = DECAY * recent[i] + (1 - DECAY) * exact[i] * exact[i];
    }
    for (int d = 0; d < SLI_QUALITY_DENSITIES; d++) {
        out->lost[d] /= l->held_rows;
        out->recall[d] /= l->held_rows;
    }
}

static double energy_outside(const float *exact, uint32_t ff, const uint32_t *members, uint32_t keep)
{
    double all = 0, kept = 0;
    for (uint32_t i = 0; i < ff; i++)
        all += (double)exact[i] * (double)exact[i];
    for (uint32_t i = 0; i < keep; i++)
        kept += (double)exact[members[i]] * (double)exact[members[i]];
    return all > 0 ? (all > kept ? 1 - kept / all : 0) : 0;
}

void sli_quality_curve(sli_lesson *l, const sli_guess *guess, float divergence, double density, float *scratch, uint32_t *members,
                       float *curve)
{
    double lost[SLI_DENSITY_POINTS + 1] = {0}, exact_lost = 0;
    uint32_t at_density = (uint32_t)(density * l->ff);
    for (uint32_t row = 0; row < l->fit_rows; row += 4) {
        const float *exact = l->scores + (size_t)row * l->ff;
        sli_quality_scores(l, guess, row, scratch);
        for (uint32_t p = 0; p <= SLI_DENSITY_POINTS; p++) {
            uint32_t keep = (uint32_t)((uint64_t)l->ff * p / SLI_DENSITY_POINTS);
            sli_select_top(scratch, l->ff, keep, members);
            lost[p] += energy_outside(exact, l->ff, members, keep);
        }
        sli_select_top(exact, l->ff, at_density, members);
        exact_lost += energy_outside(exact, l->ff, members, at_density);
    }
    for (uint32_t p = 0; p <= SLI_DENSITY_POINTS; p++)
        curve[p] = exact_lost > 0 ? (float)((double)divergence * lost[p] / exact_lost) : 0.0f;
}
